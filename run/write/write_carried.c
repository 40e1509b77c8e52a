/* SPDX-License-Identifier: MIT */
/* run/write/write_carried.c - see write_carried.h. Tests: tests/run/test_convert.c. */
#include "run/write/write_carried.h"

#include "run/plan/carry.h"
#include "run/plan/carry_floats.h"
#include "run/plan/weights.h"
#include "run/solve/commit.h"

#include <string.h>

enum { PIECE_WEIGHTS = 1 << 20 };

/* Work memory that goes from tensor to tensor. */
typedef struct {
    nib_buf code, param, row, w, raw, packed, scratch;
} work;

/* ---- integers ---- */

/* Where rows go that come from row_from[]. */
static nib_code invert(const uint32_t **row_to, const nib_plan_tensor *t, nib_buf *memory,
                       nib_err *err)
{
    uint32_t *to;
    *row_to = NULL;
    if (!t->row_from) return NIB_OK;
    if (!(to = nib_buf_reserve(memory, (size_t)t->rows, sizeof *to)))
        return nib_fail_nomem(err, "an order of rows");
    for (size_t r = 0; r < t->rows; r++) to[t->row_from[r]] = (uint32_t)r;
    *row_to = to;
    return NIB_OK;
}

/* Codes that were put in the order of their groups go back to their columns. */
static nib_code restore_columns(uint8_t *code, const nib_plan_tensor *t, nib_buf *memory,
                                nib_err *err)
{
    const size_t cols = (size_t)t->cols;
    uint8_t *row = nib_buf_reserve(memory, cols, 1);
    if (!row) return nib_fail_nomem(err, "a row");
    for (size_t r = 0; r < t->rows; r++, code += cols) {
        for (size_t c = 0; c < cols; c++) row[t->outer[c]] = code[c];
        memcpy(code, row, cols);
    }
    return NIB_OK;
}

/* A matrix; `keep` writes it where t->solved_at says. */
static nib_code carry_ints(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    nib_carry k = {
        .src = keep->p->model->src, .t = t->src, .col_from = t->outer ? t->outer : t->col_from};
    nib_carry_fault fault;
    if (!nib_carry_grid(&k.to, t))
        return nib_fail(err, NIB_EINVAL, "tensor '%s': %s holds no integers in groups", t->name,
                        t->codec->name);
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    const size_t groups = (cols + k.to.group - 1) / k.to.group;
    uint8_t *code = nib_buf_reserve(&m->code, rows, cols);
    nib_block_param *param = nib_buf_reserve(&m->param, rows, groups * sizeof *param);
    if (!code || !param) return nib_fail_nomem(err, "codes");
    nib_code rc = invert(&k.row_to, t, &m->row, err);
    if (!rc) rc = nib_carry_matrix(code, param, &fault, &k, keep->ctx, err);
    if (rc) return rc;
    if (fault.why)
        return nib_fail(err, NIB_EFORMAT, "tensor '%s' has changed since the plan was made",
                        t->src->name);
    if (t->outer) rc = restore_columns(code, t, &m->row, err);
    const nib_packing_values v = {.code = code, .param = param, .outer = t->outer, .act = t->range};
    return rc ? rc : nib_commit_write(keep, t, &v, NULL, err);
}

/* ---- plain numbers ---- */

/* The source's row that row r of the output is. */
static uint64_t source_row(const nib_plan_tensor *t, uint64_t r)
{
    const uint64_t at = nib_row_order_source(&t->order, r);
    return t->row_from ? t->row_from[at] : at;
}

/* Rows [row, row + n) of the output, a vector's elements in its one row. */
static nib_code read_rows(const nib_plan *p, const nib_plan_tensor *t, uint64_t row, uint64_t n,
                          float *w, work *m, unsigned cpu, nib_err *err)
{
    const size_t cols = (size_t)t->cols;
    nib_code rc = NIB_OK;
    if (!t->order.head && !t->row_from) return nib_weights_read(p, t, row, n, w, &m->raw, cpu, err);
    if (t->rows > 1) {
        for (uint64_t r = 0; r < n && !rc; r++)
            rc = nib_weights_read(p, t, source_row(t, row + r), 1, w + r * cols, &m->raw, cpu, err);
        return rc;
    }
    float *x = nib_buf_reserve(&m->row, cols, sizeof *x);
    if (!x) return nib_fail_nomem(err, "a vector");
    rc = nib_weights_read(p, t, 0, 1, x, &m->raw, cpu, err);
    for (size_t c = 0; c < cols && !rc; c++) w[c] = x[source_row(t, c)];
    return rc;
}

static nib_code carry_plain(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    const size_t cols = (size_t)t->cols, at_once = PIECE_WEIGHTS / cols ? PIECE_WEIGHTS / cols : 1;
    const size_t scratch = nib_encode_scratch(cols), bytes = t->codec->bytes;
    const unsigned cpu = keep->ctx->cpu;
    float *w = nib_buf_reserve(&m->w, at_once * cols, sizeof *w);
    uint8_t *packed = nib_buf_reserve(&m->packed, at_once * cols, bytes);
    void *memory = scratch ? nib_buf_reserve(&m->scratch, scratch, 1) : NULL;
    if (!w || !packed || !memory) return nib_fail_nomem(err, "weights");
    nib_code rc = NIB_OK;
    for (uint64_t row = 0; row < t->rows && !rc; row += at_once) {
        const size_t n = t->rows - row < at_once ? (size_t)(t->rows - row) : at_once;
        rc = read_rows(keep->p, t, row, n, w, m, cpu, err);
        if (rc) break;
        t->codec->encode(packed, w, NULL, n, cols, cpu, memory);
        rc = nib_solved_file_write(keep->side, t->solved_at + row * cols * bytes, packed,
                                   n * cols * bytes, err);
    }
    return rc;
}

/* ---- small floats ---- */

static nib_code carry_floats(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    const char *why;
    uint8_t *packed = nib_buf_reserve(&m->packed, (size_t)t->bytes, 1);
    if (!packed) return nib_fail_nomem(err, "packed weights");
    nib_code rc = nib_floats_pack(packed, &why, keep->p, t, err);
    if (!rc && why)
        return nib_fail(err, NIB_EFORMAT, "tensor '%s' has changed since the plan was made",
                        t->src->name);
    return rc ? rc : nib_solved_file_write(keep->side, t->solved_at, packed, (size_t)t->bytes, err);
}

/* ---- the whole ---- */

static nib_code carry(const nib_plan_tensor *t, nib_commit *keep, work *m, nib_err *err)
{
    nib_plan_tensor one;
    nib_code rc = NIB_OK;
    if (!t->codec->quantized) return carry_plain(t, keep, m, err);
    for (size_t i = 0; i < nib_plan_matrices(t) && !rc; i++) {
        nib_plan_matrix(&one, keep->p, t, i);
        rc = nib_floats_of(one.src) ? carry_floats(&one, keep, m, err)
                                    : carry_ints(&one, keep, m, err);
    }
    return rc;
}

nib_code nib_write_carried(nib_solved_file *side, const nib_plan *p, const nib_ctx *ctx,
                           nib_err *err)
{
    work m = {0};
    nib_commit keep = {.p = p, .side = side, .ctx = ctx};
    nib_progress progress;
    nib_code rc = NIB_OK;
    nib_progress_begin(&progress, ctx->log, "carrying over", "tensors", (double)p->n);
    for (size_t i = 0; i < p->n && !rc; i++) {
        if (p->tensor[i].carried) rc = carry(&p->tensor[i], &keep, &m, err);
        nib_progress_at(&progress, (double)i + 1);
    }
    nib_progress_end(&progress);
    nib_commit_free(&keep);
    nib_buf *all[] = {&m.code, &m.param, &m.row, &m.w, &m.raw, &m.packed, &m.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_buf_free(all[i]);
    return rc;
}
