/* SPDX-License-Identifier: MIT */
/* quant/retarget.c - see retarget.h. */
#include "quant/retarget.h"

#include "base/linalg.h"
#include "base/mem.h"
#include "base/par.h"

enum { ROWS = 64 }; /* of a task */

typedef struct {
    float *w;
    const float *d;
    float alpha;
    nib_gptq_factor f;
    float *work; /* [threads][2][ROWS][cols] */
} job;

/* In the order of the factor: step[i] belongs to the stored column of i. */
static size_t stored(const nib_gptq_factor *f, size_t i)
{
    return f->outer[f->perm[i]];
}

static void take_step(const job *j, float *w, const float *wd, float *step, size_t rows)
{
    const size_t n = j->f.cols;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) step[r * n + i] = wd[r * n + stored(&j->f, i)];
    nib_solve_factored(rows, n, j->f.r, step);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) w[r * n + stored(&j->f, i)] += j->alpha * step[r * n + i];
}

static nib_code retarget_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    const size_t n = j->f.cols, rows = end - begin;
    float *w = j->w + begin * n, *wd = j->work + (size_t)thread * 2 * ROWS * n;
    (void)err;
    nib_gemm_nn(rows, n, n, w, n, j->d, n, wd, n, 0);
    for (size_t i = 0; i < rows * n && j->f.keep < 1; i++)
        wd[i] = j->f.keep * wd[i] + (1 - j->f.keep) * w[i] * j->d[i % n * (n + 1)];
    take_step(j, w, wd, wd + rows * n, rows);
    return NIB_OK;
}

nib_code nib_retarget(float *w, size_t rows, const float *d, double alpha, const nib_gptq *g,
                      const nib_ctx *ctx, nib_err *err)
{
    job j = {.w = w, .d = d, .alpha = (float)alpha, .f = nib_gptq_factored(g)};
    j.work = nib_alloc((size_t)ctx->threads * 2 * ROWS, j.f.cols * sizeof *j.work);
    if (!j.work) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_par_for(ctx->threads, rows, ROWS, retarget_rows, &j, err);
    nib_free(j.work);
    return rc;
}
