/* SPDX-License-Identifier: MIT */
/* quant/round.c - see round.h. Tests: tests/quant/test_awq.c. */
#include "quant/round.h"

#include "base/mem.h"
#include "base/par.h"

enum { ROWS = 64 }; /* rows of a task: their blocks are fitted side by side */

typedef struct {
    const nib_codec *c;
    const float *w, *imp;
    size_t cols;
    float *value; /* NULL: only fit */
    uint8_t *code;
    nib_block_param *param;
    unsigned cpu;
    bool fitted; /* param is known */
} job;

static void fit_blocks(const job *j, nib_block_param *p, size_t row, size_t n, size_t at,
                       const float *mean_square)
{
    const size_t blocks = j->cols / j->c->block, first = row * blocks + at / j->c->block;
    nib_fit_in in[ROWS] = {0};
    for (size_t r = 0; r < n && j->fitted; r++) p[r] = j->param[first + r * blocks];
    if (j->fitted) return;
    for (size_t r = 0; r < n; r++)
        in[r] = (nib_fit_in){j->w + (row + r) * j->cols + at, j->imp ? j->imp + at : NULL,
                             mean_square[r]};
    j->c->fit(j->c, p, in, n, j->cpu);
    for (size_t r = 0; r < n && j->param; r++) j->param[first + r * blocks] = p[r];
}

/* The blocks at column `at` of n rows that begin with `row`. */
static void round_blocks(const job *j, size_t row, size_t n, size_t at, const float *mean_square)
{
    const nib_codec *c = j->c;
    nib_block_param p[ROWS];
    uint8_t unwanted[NIB_BLOCK_MAX] = {0};
    fit_blocks(j, p, row, n, at, mean_square);
    for (size_t r = 0; r < n && j->value; r++) {
        const size_t first = (row + r) * j->cols + at;
        /* Groups may be longer than blocks. */
        for (size_t i = 0; i < c->block; i += NIB_BLOCK_MAX) {
            const size_t k = c->block - i < NIB_BLOCK_MAX ? c->block - i : NIB_BLOCK_MAX;
            uint8_t *code = j->code ? j->code + first + i : unwanted;
            nib_codec_round(c, &p[r], i, k, j->w + first + i, code, j->value + first + i);
        }
    }
}

static nib_code round_task(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    float mean_square[ROWS];
    (void)thread;
    nib_code rc = nib_codec_check(j->c, j->w + begin * j->cols, (end - begin) * j->cols, err);
    if (rc) return rc;
    for (size_t r = begin; r < end; r++) {
        double sum = 0;
        const float *w = j->w + r * j->cols;
        for (size_t i = 0; i < j->cols; i++) sum += (double)w[i] * w[i];
        mean_square[r - begin] = (float)(sum / (double)j->cols);
    }
    for (size_t at = 0; at < j->cols; at += j->c->block)
        round_blocks(j, begin, end - begin, at, mean_square);
    return NIB_OK;
}

nib_code nib_fit_rows(const nib_codec *c, const float *w, const float *imp, size_t rows,
                      size_t cols, nib_block_param *param, const nib_ctx *ctx, nib_err *err)
{
    job j = {.c = c, .w = w, .imp = imp, .cols = cols, .param = param, .cpu = ctx->cpu};
    const nib_fit_matrix m = {w, imp, rows, cols};
    nib_code rc = nib_par_for(ctx->threads, rows, ROWS, round_task, &j, err);
    return rc || !c->finish ? rc : c->finish(c, param, &m, ctx, err);
}

nib_code nib_round_rows(const nib_codec *c, const float *w, const float *imp, size_t rows,
                        size_t cols, float *value, uint8_t *code, nib_block_param *param,
                        const nib_ctx *ctx, nib_err *err)
{
    nib_block_param *own = NULL;
    nib_code rc = NIB_OK;
    if (cols % c->block)
        return nib_fail(err, NIB_EINVAL,
                        "%s: rows of %zu weights are no multiple of its block of %u", c->name, cols,
                        c->block);
    if (c->finish && !param && !(param = own = nib_alloc(rows * (cols / c->block), sizeof *own)))
        return nib_fail_nomem(err, "parameters of blocks");
    if (c->finish) rc = nib_fit_rows(c, w, imp, rows, cols, param, ctx, err);
    job j = {c, w, imp, cols, value, code, param, ctx->cpu, c->finish != NULL};
    if (!rc) rc = nib_par_for(ctx->threads, rows, ROWS, round_task, &j, err);
    nib_free(own);
    return rc;
}
