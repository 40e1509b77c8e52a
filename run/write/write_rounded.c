/* SPDX-License-Identifier: MIT */
/* run/write/write_rounded.c - see write_rounded.h. Tests: tests/run/test_write_folder.c,
 * tests/run/test_hqq.c. */
#include "run/write/write_rounded.h"

#include "base/par.h"
#include "quant/hqq.h"
#include "quant/round.h"
#include "run/plan/folder_layers.h"
#include "run/plan/weights.h"
#include "run/solve/commit.h"

#include <math.h>

/* Work memory that goes from tensor to tensor. */
typedef struct {
    nib_buf w, code, param, raw;
    float *most; /* [p->n] largest magnitudes of tensors that share a scale; below 0: not known */
} work;

static nib_code find_most(float *most, const nib_plan_tensor *t, const nib_commit *keep, work *m,
                          nib_err *err)
{
    const size_t n = (size_t)(t->rows * t->cols);
    float *w = nib_buf_reserve(&m->w, n, sizeof *w);
    if (!w) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_weights_read(keep->p, t, 0, t->rows, w, &m->raw, keep->ctx->cpu, err);
    *most = 0;
    for (size_t i = 0; i < n && !rc; i++) *most = fmaxf(*most, fabsf(w[i]));
    return rc;
}

/* The largest magnitude of all tensors of a folder that share a scale with t; 0: none does. */
static nib_code find_common(float *largest, const nib_plan_tensor *t, const nib_commit *keep,
                            work *m, nib_err *err)
{
    const nib_plan_tensor *all[NIB_FUSED_MAX];
    nib_code rc = NIB_OK;
    *largest = 0;
    if (!t->layout.n_parts || !nib_packing_common(&t->layout.format)) return NIB_OK;
    const size_t n = nib_folder_together(all, keep->p, t);
    for (size_t i = 0; i < n && !rc; i++) {
        float *most = &m->most[all[i] - keep->p->tensor];
        if (*most < 0) rc = find_most(most, all[i], keep, m, err);
        *largest = fmaxf(*largest, *most);
    }
    return rc;
}

static nib_code round_matrix(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    float largest;
    nib_int_codec own;
    nib_code rc = find_common(&largest, t, keep, m, err);
    if (rc) return rc;
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols, n = rows * cols;
    const nib_ctx *ctx = keep->ctx;
    float *w = nib_buf_reserve(&m->w, n, sizeof *w);
    uint8_t *code = nib_buf_reserve(&m->code, n, 1);
    nib_block_param *param = nib_buf_reserve(&m->param, n / t->codec->block, sizeof *param);
    if (!w || !code || !param) return nib_fail_nomem(err, "weights");
    rc = nib_weights_read(keep->p, t, 0, t->rows, w, &m->raw, ctx->cpu, err);
    if (!rc)
        rc = t->method == NIB_METHOD_HQQ
                 ? nib_hqq_rows(t->codec, w, rows, cols, w, code, param, ctx, err)
                 : nib_round_rows(nib_folder_codec(&own, t, largest), w, t->importance, rows, cols,
                                  w, code, param, ctx, err);
    const nib_packing_values v = {.code = code, .param = param, .act = t->range};
    return rc ? nib_wrap(err, "tensor '%s'", t->src->name)
              : nib_commit_write(keep, t, &v, NULL, err);
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
    if (!(m.most = nib_alloc(p->n, sizeof *m.most))) return nib_fail_nomem(err, "weights");
    for (size_t i = 0; i < p->n; i++) m.most[i] = -1;
    nib_progress_begin(&progress, ctx->log, "rounding", "tensors", (double)p->n);
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->action == NIB_ACTION_STAGE && !t->carried && !nib_plan_solves(p, t))
            rc = round_tensor(t, &keep, &m, err);
        nib_progress_at(&progress, (double)i + 1);
    }
    nib_progress_end(&progress);
    nib_commit_free(&keep);
    nib_buf *all[] = {&m.w, &m.code, &m.param, &m.raw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_buf_free(all[i]);
    nib_free(m.most);
    return rc;
}
