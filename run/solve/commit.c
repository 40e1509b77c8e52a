/* SPDX-License-Identifier: MIT */
/* run/solve/commit.c - see commit.h. Tests: tests/run/test_folder_kinds.c. */
#include "run/solve/commit.h"

#include "base/par.h"

#include <string.h>

enum { PACK_ROWS = 32 };

void nib_commit_free(nib_commit *k)
{
    nib_buf_free(&k->packed);
    nib_buf_free(&k->raw);
    nib_buf_free(&k->ordered);
}

/* ---- GGUF ---- */

typedef struct {
    const nib_plan_tensor *t;
    const uint8_t *code;
    const nib_block_param *param;
    uint8_t *packed;
    float *w; /* may be NULL where rows are packed */
    unsigned cpu;
} rows_job;

/* Row of the weight that row r of the file is. */
static size_t source_row(const nib_plan_tensor *t, size_t r)
{
    return (size_t)nib_row_order_source(&t->order, r);
}

static nib_code unpack_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const rows_job *j = arg;
    const nib_codec *c = j->t->codec;
    const size_t cols = (size_t)j->t->cols, blocks = cols / c->block;
    for (size_t r = begin; r < end; r++) {
        float *w = j->w + source_row(j->t, r) * cols;
        c->decode(w, j->packed + r * blocks * c->bytes, blocks, j->cpu);
        for (size_t i = 0; j->t->factor && i < cols; i++) w[i] *= *j->t->factor;
    }
    return NIB_OK;
}

static nib_code pack_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const rows_job *j = arg;
    const nib_codec *c = j->t->codec;
    const size_t cols = (size_t)j->t->cols, blocks = cols / c->block;
    for (size_t r = begin; r < end; r++) {
        const size_t from = source_row(j->t, r);
        for (size_t b = 0; b < blocks; b++)
            c->pack(j->packed + (r * blocks + b) * c->bytes, &j->param[from * blocks + b],
                    j->code + from * cols + b * c->block);
    }
    return j->w ? unpack_rows(arg, begin, end, thread, err) : NIB_OK;
}

static nib_code write_gguf(nib_commit *k, const nib_plan_tensor *t, const uint8_t *code,
                           const nib_block_param *param, float *w, nib_err *err)
{
    rows_job j = {t, code, param, k->packed.p, w, k->ctx->cpu};
    nib_code rc = nib_par_for(k->ctx->threads, (size_t)t->rows, PACK_ROWS, pack_rows, &j, err);
    if (!rc && !t->codec->valid(j.packed, (size_t)(t->rows * t->cols / t->codec->block)))
        rc = nib_fail(err, NIB_ENUMERIC, "tensor '%s': values too large for %s", t->src->name,
                      t->codec->name);
    return rc;
}

typedef struct {
    const nib_plan_tensor *t;
    float *w;
    uint8_t *memory; /* [threads][each]: a packed row behind the encoder's scratch */
    size_t scratch, each;
    unsigned cpu;
} round_job;

static nib_code round_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)err;
    const round_job *j = arg;
    const nib_codec *c = j->t->codec;
    const size_t cols = (size_t)j->t->cols;
    uint8_t *scratch = j->memory + (size_t)thread * j->each, *row = scratch + j->scratch;
    for (size_t r = begin; r < end; r++) {
        c->encode(row, j->w + r * cols, j->t->importance, 1, cols, j->cpu, scratch);
        c->decode(j->w + r * cols, row, cols / c->block, j->cpu);
    }
    return NIB_OK;
}

nib_code nib_commit_round(nib_commit *k, const nib_plan_tensor *t, float *w, nib_err *err)
{
    const size_t line = 64, scratch = nib_encode_scratch((size_t)t->cols),
                 row = (size_t)(t->bytes / t->rows);
    round_job j = {
        .t = t, .w = w, .scratch = (scratch + line - 1) / line * line, .cpu = k->ctx->cpu};
    j.each = j.scratch + (row + line - 1) / line * line;
    j.memory = scratch ? nib_buf_reserve(&k->raw, (size_t)k->ctx->threads, j.each) : NULL;
    if (!j.memory) return nib_fail_nomem(err, "encoding");
    return nib_par_for(k->ctx->threads, (size_t)t->rows, PACK_ROWS, round_rows, &j, err);
}

/* ---- folders ---- */

/* Codes and parameters with rows in the output's order, which point into k->ordered. */
static nib_code order_values(nib_commit *k, const nib_plan_tensor *t, nib_packing_values *v,
                             nib_err *err)
{
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    const size_t groups = cols / t->codec->block;
    nib_block_param *param = nib_buf_reserve(&k->ordered, rows, groups * sizeof *param + cols);
    if (!param) return nib_fail_nomem(err, "packed weights");
    uint8_t *code = (uint8_t *)(param + rows * groups);
    for (size_t r = 0; r < rows; r++) {
        const size_t from = source_row(t, r);
        memcpy(param + r * groups, v->param + from * groups, groups * sizeof *param);
        memcpy(code + r * cols, v->code + from * cols, cols);
    }
    v->param = param;
    v->code = code;
    return NIB_OK;
}

/* The values of what was packed, rows in the source's order. */
static nib_code unpack_folder(nib_commit *k, const nib_plan_tensor *t, float *w, nib_err *err)
{
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    float *x = w;
    if (t->order.head && !(x = nib_buf_reserve(&k->ordered, rows * cols, sizeof *x)))
        return nib_fail_nomem(err, "weights");
    nib_code rc = nib_packing_unpack(x, &t->layout, k->packed.p, &k->raw, err);
    for (size_t r = 0; r < rows && !rc && x != w; r++)
        memcpy(w + source_row(t, r) * cols, x + r * cols, cols * sizeof *w);
    return rc;
}

static nib_code write_folder(nib_commit *k, const nib_plan_tensor *t, const nib_packing_values *v,
                             float *w, nib_err *err)
{
    nib_packing_values ordered = *v;
    nib_code rc = t->order.head ? order_values(k, t, &ordered, err) : NIB_OK;
    if (!rc) rc = nib_packing_pack(k->packed.p, &t->layout, &ordered, err);
    if (!rc && w) rc = unpack_folder(k, t, w, err);
    return rc ? nib_wrap(err, "tensor '%s'", t->src->name) : NIB_OK;
}

/* ---- either ---- */

static bool is_folder(const nib_commit *k)
{
    return k->p->recipe.format != NIB_FORMAT_GGUF;
}

nib_code nib_commit_write(nib_commit *k, const nib_plan_tensor *t, const nib_packing_values *v,
                          float *w, nib_err *err)
{
    if (!nib_buf_reserve(&k->packed, (size_t)t->bytes, 1))
        return nib_fail_nomem(err, "packed weights");
    nib_code rc =
        is_folder(k) ? write_folder(k, t, v, w, err) : write_gguf(k, t, v->code, v->param, w, err);
    return rc ? rc
              : nib_solved_file_write(k->side, t->solved_at, k->packed.p, (size_t)t->bytes, err);
}

/* What a reader of the output adds to each stored value: of a folder, what one of the source does.
 */
static float stored_plus(const nib_commit *k, const nib_plan_tensor *t)
{
    return is_folder(k) && t->src ? t->src->plus : 0;
}

static void decode_plain(float *w, const nib_plan_tensor *t, const void *packed, float plus,
                         unsigned cpu)
{
    const size_t n = (size_t)(t->rows * t->cols);
    t->codec->decode(w, packed, n, cpu);
    for (size_t i = 0; plus != 0 && i < n; i++) w[i] += plus;
}

nib_code nib_commit_plain(nib_commit *k, const nib_plan_tensor *t, float *w, nib_err *err)
{
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    uint8_t *packed = nib_buf_reserve(&k->packed, (size_t)t->bytes, 1);
    if (!packed) return nib_fail_nomem(err, "a vector");
    const float plus = stored_plus(k, t);
    for (size_t i = 0; plus != 0 && i < rows * cols; i++) w[i] -= plus;
    t->codec->encode(packed, w, NULL, rows, cols, k->ctx->cpu, NULL);
    decode_plain(w, t, packed, plus, k->ctx->cpu);
    return nib_solved_file_write(k->side, t->solved_at, packed, (size_t)t->bytes, err);
}

nib_code nib_commit_read(nib_commit *k, const nib_plan_tensor *t, float *w, nib_err *err)
{
    if (!nib_buf_reserve(&k->packed, (size_t)t->bytes, 1))
        return nib_fail_nomem(err, "packed weights");
    nib_code rc = nib_solved_file_read(k->side, t->solved_at, k->packed.p, (size_t)t->bytes, err);
    if (rc) return rc;
    if (!t->codec->quantized) {
        decode_plain(w, t, k->packed.p, stored_plus(k, t), k->ctx->cpu);
        return NIB_OK;
    }
    if (is_folder(k)) return unpack_folder(k, t, w, err);
    rows_job j = {.t = t, .packed = k->packed.p, .w = w, .cpu = k->ctx->cpu};
    return nib_par_for(k->ctx->threads, (size_t)t->rows, PACK_ROWS, unpack_rows, &j, err);
}

nib_act_quant nib_commit_act(const nib_commit *k, const nib_plan_tensor *t)
{
    return nib_packing_act(&t->layout, k->packed.p);
}
