/* SPDX-License-Identifier: MIT */
/* calib/accumulate.c - see accumulate.h. Tests: tests/calib/test_hessian.c. */
#include "calib/accumulate.h"
#include "base/linalg.h"
#include "base/par.h"

#include <math.h>

/* Columns of a task: their sums stay in the first-level cache while all rows go by. */
enum { STRIP = 128 };

/* Rows of a task's tile of the second moments: the part of the product right of the diagonal. */
enum { TILE = 192 };

typedef struct {
    double *sum;
    const float *x;
    size_t rows, cols;
} squares_job;

static nib_code add_strip(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const squares_job *job = arg;
    (void)thread;
    (void)err;
    double *restrict sum = job->sum + begin;
    for (size_t i = 0; i < job->rows; i++) {
        const float *restrict x = job->x + i * job->cols + begin;
        for (size_t j = 0; j < end - begin; j++) sum[j] += (double)x[j] * (double)x[j];
    }
    return NIB_OK;
}

nib_code nib_accumulate_squares(double *sum, const float *x, size_t rows, size_t cols,
                                const nib_ctx *ctx, nib_err *err)
{
    squares_job job = {sum, x, rows, cols};
    return nib_par_for(ctx->threads, cols, STRIP, add_strip, &job, err);
}

typedef struct {
    double *sum;
    float *most;
    const float *x;
    size_t rows, cols;
} sizes_job;

static nib_code add_sizes(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const sizes_job *job = arg;
    (void)thread;
    (void)err;
    double *restrict sum = job->sum + begin;
    float *restrict most = job->most + begin;
    for (size_t i = 0; i < job->rows; i++) {
        const float *restrict x = job->x + i * job->cols + begin;
        for (size_t j = 0; j < end - begin; j++) {
            const float a = fabsf(x[j]);
            sum[j] += (double)a;
            most[j] = a > most[j] ? a : most[j];
        }
    }
    return NIB_OK;
}

nib_code nib_accumulate_sizes(double *sum, float *most, const float *x, size_t rows, size_t cols,
                              const nib_ctx *ctx, nib_err *err)
{
    sizes_job job = {sum, most, x, rows, cols};
    return nib_par_for(ctx->threads, cols, STRIP, add_sizes, &job, err);
}

typedef struct {
    float *h;
    const float *x;
    size_t rows, cols;
} moments_job;

static nib_code add_tile(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const moments_job *job = arg;
    (void)thread;
    (void)err;
    nib_gemm_tn(end - begin, job->cols - begin, job->rows, job->x + begin, job->cols,
                job->x + begin, job->cols, job->h + begin * job->cols + begin, job->cols, 1);
    return NIB_OK;
}

nib_code nib_accumulate_hessian(float *h, const float *x, size_t rows, size_t cols,
                                const nib_ctx *ctx, nib_err *err)
{
    moments_job job = {h, x, rows, cols};
    return nib_par_for(ctx->threads, cols, TILE, add_tile, &job, err);
}

typedef struct {
    float *d, *y;
    const float *x;
    size_t rows, cols;
} drift_job;

/* The task's columns of y, and its rows of the product. */
static nib_code add_drift(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const drift_job *job = arg;
    const size_t cols = job->cols;
    (void)thread;
    (void)err;
    for (size_t at = 0; at < job->rows * cols; at += cols)
        for (size_t j = begin; j < end; j++) job->y[at + j] -= job->x[at + j];
    nib_gemm_tn(end - begin, cols, job->rows, job->y + begin, cols, job->x, cols,
                job->d + begin * cols, cols, 1);
    return NIB_OK;
}

nib_code nib_accumulate_drift(float *d, float *y, const float *x, size_t rows, size_t cols,
                              const nib_ctx *ctx, nib_err *err)
{
    drift_job job = {d, y, x, rows, cols};
    return nib_par_for(ctx->threads, cols, TILE, add_drift, &job, err);
}
