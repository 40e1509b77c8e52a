/* SPDX-License-Identifier: MIT */
/* bench/bench_range.c - what calibrating activations costs: observing, per value, and choosing a
 * range, per histogram.
 *
 *   bench_range [c|avx2|avx512|native]
 *
 * Processor time on one core, the best of some runs. */
#include "base/cpu.h"
#include "quant/range.h"

#include <stdio.h>
#include <time.h>

enum { ROWS = 512, COLS = 2048, RUNS = 20 };

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Sums of uniform numbers, near enough to normal; `zeros` of each 16 are 0. */
static void fill(float *x, size_t n, unsigned zeros)
{
    uint32_t s = 1;
    for (size_t i = 0; i < n; i++) {
        float v = 0;
        for (int k = 0; k < 4; k++) {
            s = 1664525u * s + 1013904223u;
            v += (float)(s >> 8) / 8388608.0f - 1;
        }
        x[i] = (s >> 10) % 16 < zeros ? 0 : v;
    }
}

/* Nanoseconds per value. */
static double observe(nib_hist *h, const float *x, nib_buf *work, const nib_ctx *ctx)
{
    double least = 0;
    nib_err err;
    for (int i = 0; i < RUNS; i++) {
        double from = cpu_seconds();
        if (nib_hist_add(h, x, ROWS, COLS, work, ctx, &err)) return 0;
        double took = cpu_seconds() - from;
        if (i == 0 || took < least) least = took;
    }
    return least * 1e9 / ((double)ROWS * COLS);
}

/* Milliseconds. */
static double choose(const nib_hist *h, nib_range_method m)
{
    double least = 0;
    nib_range r;
    nib_err err;
    for (int i = 0; i < RUNS; i++) {
        double from = cpu_seconds();
        if (nib_range_find(&r, h, m, 99.99, &err)) return 0;
        double took = cpu_seconds() - from;
        if (i == 0 || took < least) least = took;
    }
    return least * 1e3;
}

static void print_choices(const nib_hist *h)
{
    printf("%5zu bins:", h->n);
    for (int m = 0; m < NIB_RANGE_METHODS; m++)
        printf("  %s %.3f ms", nib_range_method_name((nib_range_method)m),
               choose(h, (nib_range_method)m));
    printf("\n");
}

int main(int argc, char **argv)
{
    float *x = nib_alloc((size_t)ROWS * COLS, sizeof *x);
    nib_hist dense = {0}, sparse = {0};
    nib_buf work = {0};
    nib_ctx ctx = {.threads = 1};
    nib_err err;
    if (nib_cpu_parse(&ctx.cpu, argc > 1 ? argv[1] : "native", &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    if (!x) return 1;
    printf("kernels %s, one core, batches of %d x %d\n", nib_cpu_name(ctx.cpu), ROWS, COLS);
    fill(x, (size_t)ROWS * COLS, 0);
    printf("normal values:   %.3f ns each\n", observe(&dense, x, &work, &ctx));
    print_choices(&dense);
    fill(x, (size_t)ROWS * COLS, 12);
    printf("mostly zeros:    %.3f ns each\n", observe(&sparse, x, &work, &ctx));
    fill(x, (size_t)ROWS * COLS, 0);
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) x[i] *= 7.9f;
    printf("8 times farther: %.3f ns each\n", observe(&dense, x, &work, &ctx));
    print_choices(&dense);
    nib_hist_free(&dense);
    nib_hist_free(&sparse);
    nib_buf_free(&work);
    nib_free(x);
    return 0;
}
