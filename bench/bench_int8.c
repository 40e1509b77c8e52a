/* SPDX-License-Identifier: MIT */
/* bench/bench_int8.c - products of 8-bit integers beside BLAS's of floats, one thread.
 *
 * Shapes of a linear layer: a batch of rows, times a weight that is packed anew each time as it is
 * in the forward pass; floats are there decoded. Best of several runs, in turns. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/start.h"
#include "base/log.h"
#include "base/mem.h"
#include "infer/int8.h"

#include <stdio.h>
#include <string.h>

enum { REPEAT = 5, ROWS_MAX = 2048, COLS_MAX = 8192, OUTS = 512 };

typedef struct {
    float *x, *w, *y;
    int8_t *wq;
    int16_t *xq, *panel;
    int32_t *sum;
} matrices;

static double floats(const matrices *m, size_t rows, size_t in)
{
    double t = nib_now();
    nib_gemm_nt(rows, OUTS, in, m->x, in, m->w, in, m->y, OUTS, 0);
    return nib_now() - t;
}

static double rounding(const matrices *m, const nib_int8 *k, size_t rows, size_t in)
{
    double t = nib_now();
    for (size_t r = 0; r < rows; r++) {
        float lo, hi;
        k->range(&lo, &hi, m->x + r * in, in);
        k->round(m->xq + r * in, m->x + r * in, in, (hi > -lo ? hi : -lo) / 127, 0);
    }
    return nib_now() - t;
}

static double integers(const matrices *m, const nib_int8 *k, size_t rows, size_t in)
{
    double t = nib_now();
    for (size_t o = 0; o < OUTS; o += NIB_INT8_OUTS) {
        k->pack(m->panel, m->wq + o * in, NIB_INT8_OUTS, in);
        k->product(m->sum, m->xq, rows, m->panel, in);
    }
    return nib_now() - t;
}

static void measure(const matrices *m, const nib_int8 *k, size_t rows, size_t in)
{
    double best[3] = {1e9, 1e9, 1e9};
    for (int i = 0; i < REPEAT; i++) {
        double t[3] = {floats(m, rows, in), rounding(m, k, rows, in), integers(m, k, rows, in)};
        for (int j = 0; j < 3; j++) best[j] = t[j] < best[j] ? t[j] : best[j];
    }
    const double ops = 2e-9 * (double)rows * (double)in * OUTS;
    printf("%5zu rows, %5zu in: sgemm %6.1f GFLOP/s, int8 %6.1f GOP/s, %.2f of the time; rounding "
           "%.2f Gvalue/s\n",
           rows, in, ops / best[0], ops / best[2], best[2] / best[0],
           1e-9 * (double)rows * (double)in / best[1]);
}

int main(int argc, char **argv)
{
    nib_start(argv, false);
    (void)argc;
    static const size_t rows[] = {64, 512, ROWS_MAX}, in[] = {256, 1024, 4096, COLS_MAX};
    const size_t n_x = (size_t)ROWS_MAX * COLS_MAX, n_w = (size_t)OUTS * COLS_MAX;
    const unsigned cpu = nib_cpu_detect();
    matrices m = {nib_alloc(n_x, 4),
                  nib_alloc(n_w, 4),
                  nib_alloc(ROWS_MAX, OUTS * 4),
                  nib_alloc(n_w, 1),
                  nib_alloc(n_x, 2),
                  nib_alloc(COLS_MAX, NIB_INT8_OUTS * 2),
                  nib_alloc(ROWS_MAX, NIB_INT8_OUTS * 4)};
    nib_linalg_init();
    if (!m.x || !m.w || !m.y || !m.wq || !m.xq || !m.panel || !m.sum) return 1;
    for (size_t i = 0; i < n_x; i++) m.x[i] = (float)(i * 2654435761u % 255) - 127;
    for (size_t i = 0; i < n_w; i++) m.w[i] = m.wq[i] = (int8_t)(i * 40503u % 255 - 127);
    printf("%s, BLAS kernel %s\n", nib_cpu_name(cpu), nib_linalg_kernel());
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            measure(&m, nib_int8_get(cpu), rows[r], in[i]);
    return 0;
}
