/* SPDX-License-Identifier: MIT */
/* run/write/write_rounded.c - see write_rounded.h. Tests: tests/run/test_write_folder.c,
 * tests/run/test_hqq.c. */
#include "run/write/write_rounded.h"

#include "base/par.h"
#include "quant/hqq.h"
#include "quant/round.h"
#include "run/plan/weights.h"
#include "run/solve/commit.h"

/* Work memory that goes from tensor to tensor. */
typedef struct {
    nib_buf w, code, param, raw;
} work;

static nib_code round_matrix(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols, n = rows * cols;
    const nib_ctx *ctx = keep->ctx;
    float *w = nib_buf_reserve(&m->w, n, sizeof *w);
    uint8_t *code = nib_buf_reserve(&m->code, n, 1);
    nib_block_param *param = nib_buf_reserve(&m->param, n / t->codec->block, sizeof *param);
    if (!w || !code || !param) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_weights_read(keep->p, t, 0, t->rows, w, &m->raw, ctx->cpu, err);
    if (!rc)
        rc = t->method == NIB_METHOD_HQQ
                 ? nib_hqq_rows(t->codec, w, rows, cols, w, code, param, ctx, err)
                 : nib_round_rows(t->codec, w, t->importance, rows, cols, w, code, param, ctx, err);
    const nib_packing_values v = {.code = code, .param = param, .act = t->range};
    return rc ? rc : nib_commit_write(keep, t, &v, NULL, err);
}

/* A stack of experts one by one. */
static nib_code round_tensor(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    nib_plan_tensor part;
    nib_code rc = NIB_OK;
    if (!nib_role_is_expert(t->place.role)) return round_matrix(t, keep, m, err);
    for (size_t i = 0; i < nib_plan_matrices(t) && !rc; i++) {
        nib_plan_matrix(&part, keep->p, t, i);
        rc = round_matrix(&part, keep, m, err);
    }
    return rc;
}

nib_code nib_write_rounded(nib_solved_file *side, const nib_plan *p, const nib_ctx *ctx,
                           nib_err *err)
{
    work m = {0};
    nib_commit keep = {.p = p, .side = side, .ctx = ctx};
    nib_progress progress;
    nib_code rc = NIB_OK;
    nib_progress_begin(&progress, ctx->log, "rounding", "tensors", (double)p->n);
    for (size_t i = 0; i < p->n && !rc; i++) {
        if (p->tensor[i].action == NIB_ACTION_STAGE && !p->tensor[i].carried)
            rc = round_tensor(&p->tensor[i], &keep, &m, err);
        nib_progress_at(&progress, (double)i + 1);
    }
    nib_progress_end(&progress);
    nib_commit_free(&keep);
    nib_buf *all[] = {&m.w, &m.code, &m.param, &m.raw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_buf_free(all[i]);
    return rc;
}
