/* SPDX-License-Identifier: MIT */
/* quant/hist.c - see hist.h. Tests: tests/quant/test_range.c. */
#include "quant/hist.h"
#include "base/cpu.h"
#include "base/par.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 1 << 16,  /* values of a task                                              */
    PIECE = 1 << 30,  /* values between two emptyings of the counters, which are 32-bit */
    MOST_THREADS = 8, /* that count; more would cost more to add up than they save      */
};

/* Weight of a batch in the moving average. */
static const double MEAN_STEP = 0.01;

extern const nib_hist_kern nib_hist_kern_c, nib_hist_kern_avx2, nib_hist_kern_avx512;

const nib_hist_kern *nib_hist_kern_get(unsigned cpu)
{
    return NIB_KERNELS(nib_hist_kern, cpu);
}

void nib_hist_free(nib_hist *h)
{
    nib_free(h->count);
    *h = (nib_hist){0};
}

/* ---- extremes ---- */

typedef struct {
    const nib_hist_kern *kern;
    const float *x;
    size_t cols;
    float (*reach)[2]; /* [chunks] smallest, largest */
} extremes_job;

static nib_code fail_at(const float *x, size_t i, size_t cols, nib_err *err)
{
    while (isfinite(x[i])) i++;
    return nib_fail(err, NIB_ENUMERIC, "%s in row %zu, channel %zu of a batch",
                    isnan(x[i]) ? "NaN" : "an infinite value", i / cols, i % cols);
}

static nib_code chunk_extremes(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const extremes_job *job = arg;
    float *reach = job->reach[begin / CHUNK];
    (void)thread;
    if (job->kern->extremes(job->x + begin, end - begin, &reach[0], &reach[1])) return NIB_OK;
    return fail_at(job->x, begin, job->cols, err);
}

/* Smallest and largest of x[n], n >= 1. */
static nib_code find_extremes(float *lo, float *hi, const float *x, size_t n, size_t cols,
                              nib_buf *work, const nib_ctx *ctx, nib_err *err)
{
    const size_t chunks = (n - 1) / CHUNK + 1;
    extremes_job job = {nib_hist_kern_get(ctx->cpu), x, cols,
                        nib_buf_reserve(work, chunks, sizeof *job.reach)};
    if (!job.reach) return nib_fail_nomem(err, "extremes of activations");
    nib_code rc = nib_par_for(ctx->threads, n, CHUNK, chunk_extremes, &job, err);
    if (rc) return rc;
    *lo = job.reach[0][0], *hi = job.reach[0][1];
    for (size_t i = 1; i < chunks; i++) {
        if (job.reach[i][0] < *lo) *lo = job.reach[i][0];
        if (job.reach[i][1] > *hi) *hi = job.reach[i][1];
    }
    return NIB_OK;
}

static void add_extremes(nib_hist *h, float lo, float hi)
{
    const bool first = !h->batches++;
    if (first || lo < h->lo) h->lo = lo;
    if (first || hi > h->hi) h->hi = hi;
    h->mean_lo = first ? (double)lo : h->mean_lo + MEAN_STEP * ((double)lo - h->mean_lo);
    h->mean_hi = first ? (double)hi : h->mean_hi + MEAN_STEP * ((double)hi - h->mean_hi);
}

/* ---- counts ---- */

static void merge_pairs(nib_hist *h)
{
    const size_t half = (h->n + 1) / 2;
    for (size_t k = 0; k < half; k++) h->count[k] = h->count[2 * k] + h->count[2 * k + 1];
    memset(h->count + half, 0, (h->n - half) * sizeof *h->count);
    h->n = half;
    h->width *= 2;
}

/* Bins up to max |x|. */
static void make_room(nib_hist *h, double max)
{
    if (max < (double)NIB_HIST_LEAST) return;
    if (h->width == 0) h->width = max / NIB_HIST_START;
    while (max / h->width > NIB_HIST_MAX) merge_pairs(h);
    const size_t need = (size_t)ceil(max / h->width);
    if (need > h->n) h->n = need;
}

typedef struct {
    const nib_hist *h;
    const nib_hist_kern *kern;
    const float *x;
    uint32_t *count; /* [threads][n][4] */
} count_job;

static nib_code chunk_count(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const count_job *job = arg;
    const size_t n = job->h->n;
    (void)err;
    job->kern->count(job->count + (size_t)thread * n * 4, n, job->x + begin, end - begin,
                     job->h->width > 0 ? (float)(1 / job->h->width) : 0);
    return NIB_OK;
}

static nib_code add_counts(nib_hist *h, const float *x, size_t n, nib_buf *work, const nib_ctx *ctx,
                           nib_err *err)
{
    const int threads = ctx->threads < MOST_THREADS ? ctx->threads : MOST_THREADS;
    const size_t counters = (size_t)threads * h->n * 4;
    count_job job = {h, nib_hist_kern_get(ctx->cpu), x,
                     nib_buf_reserve(work, counters, sizeof *job.count)};
    if (!job.count) return nib_fail_nomem(err, "a histogram of activations");
    memset(job.count, 0, counters * sizeof *job.count);
    nib_code rc = nib_par_for(threads, n, CHUNK, chunk_count, &job, err);
    if (rc) return rc;
    for (int t = 0; t < threads; t++) {
        const uint32_t *c = job.count + (size_t)t * h->n * 4;
        for (size_t k = 0; k < h->n; k++, c += 4)
            h->count[k] += (uint64_t)c[0] + c[1] + c[2] + c[3];
    }
    h->values += n;
    return NIB_OK;
}

nib_code nib_hist_add(nib_hist *h, const float *x, size_t rows, size_t cols, nib_buf *work,
                      const nib_ctx *ctx, nib_err *err)
{
    const size_t n = rows * cols;
    float lo = 0, hi = 0;
    if (!n) return NIB_OK;
    if (!h->count) h->count = nib_calloc(NIB_HIST_MAX, sizeof *h->count);
    if (!h->count) return nib_fail_nomem(err, "a histogram of activations");
    nib_code rc = find_extremes(&lo, &hi, x, n, cols, work, ctx, err);
    if (rc) return rc;
    add_extremes(h, lo, hi);
    if (!h->n) h->n = NIB_HIST_START;
    make_room(h, fmax(fabs((double)lo), fabs((double)hi)));
    for (size_t i = 0; i < n && !rc; i += PIECE)
        rc = add_counts(h, x + i, n - i < PIECE ? n - i : PIECE, work, ctx, err);
    return rc;
}
