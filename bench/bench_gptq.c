/* SPDX-License-Identifier: MIT */
/* bench/bench_gptq.c - the solver alone, on random layers of four shapes.
 *
 *   bench_gptq [TYPE [OUTxIN...]]      TYPE: a format's name, or int4 for groups of 128 (int4,
 * q4_k)
 *
 * Seconds of the wall, the best of some runs over reused memory: preparing a Hessian (factor),
 * fitting the blocks' parameters alone, plain GPTQ, which does that and updates, and GPTQ with
 * descent sweeps. The share is of the sgemm peak measured just before, for factor and updates,
 * which are what plain GPTQ takes beyond fitting; operations are counted as n^3 / 3 for the factor,
 * though in f64, and rows n^2 for updates. Rounding is in the time but not in the count. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/start.h"
#include "quant/codec_int.h"
#include "quant/gptq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 3, PEAK = 1024, PEAK_RUNS = 5, FIT_ROWS = 64 };

static const size_t shapes[][2] = {{1024, 3072}, {3072, 1024}, {4096, 4096}, {4096, 14336}};

static float noise(uint32_t *s)
{
    *s = 1664525u * *s + 1013904223u;
    return (float)(*s >> 8) / 8388608.0f - 1;
}

/* ---- the machine ---- */

typedef struct {
    float *a, *b, *c; /* [thread][PEAK][PEAK] */
} factors;

static nib_code multiply(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factors *f = arg;
    for (size_t i = begin; i < end; i++) {
        const size_t at = i * PEAK * PEAK;
        nib_gemm_nt(PEAK, PEAK, PEAK, f->a + at, PEAK, f->b + at, PEAK, f->c + at, PEAK, 0);
    }
    return NIB_OK;
}

/* Operations a second. */
static double sgemm_peak(int threads)
{
    const size_t n = (size_t)threads * PEAK * PEAK;
    factors f = {nib_calloc(n, 4), nib_calloc(n, 4), nib_calloc(n, 4)};
    double best = 0;
    nib_err err;
    for (int i = 0; i < PEAK_RUNS && f.a && f.b && f.c; i++) {
        const double from = nib_now();
        if (nib_par_for(threads, (size_t)threads, 1, multiply, &f, &err)) break;
        const double rate = 2.0 * PEAK * PEAK * PEAK * threads / (nib_now() - from);
        best = rate > best ? rate : best;
    }
    nib_free(f.a), nib_free(f.b), nib_free(f.c);
    return best;
}

/* ---- one layer ---- */

typedef struct {
    size_t rows, cols;
    float *w, *h;
    uint8_t *code;
    nib_block_param *param;
} layer;

/* Inputs that have a common part and lean on their neighbours; H by its formula, since X'X takes
 * longer than solving. */
static bool make_layer(layer *y, size_t rows, size_t cols)
{
    uint32_t seed = 1;
    *y = (layer){rows,
                 cols,
                 nib_alloc(rows * cols, sizeof(float)),
                 nib_alloc(cols * cols, sizeof(float)),
                 nib_alloc(rows, cols),
                 nib_alloc(rows * cols / 32, sizeof(nib_block_param))};
    if (!y->w || !y->h || !y->code || !y->param) return false;
    for (size_t i = 0; i < rows * cols; i++) y->w[i] = 0.02f * noise(&seed);
    for (size_t i = 0; i < cols; i++) {
        float decay = 1 + 0.2f * noise(&seed);
        for (size_t j = i; j < cols; j++, decay *= 0.95f) y->h[i * cols + j] = 0.1f + decay;
        y->h[i * cols + i] = 1.6f + noise(&seed) * 0.2f;
    }
    return true;
}

static void free_layer(layer *y)
{
    nib_free(y->w), nib_free(y->h), nib_free(y->code), nib_free(y->param);
}

typedef struct {
    const layer *y;
    const nib_codec *c;
    float *imp; /* [cols] */
    unsigned cpu;
} fitting;

static nib_code fit_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const fitting *f = arg;
    const size_t cols = f->y->cols;
    for (size_t at = 0; at < cols; at += f->c->block) {
        nib_block_param p[FIT_ROWS];
        nib_fit_in in[FIT_ROWS];
        for (size_t r = begin; r < end; r++)
            in[r - begin] = (nib_fit_in){
                .w = f->y->w + r * cols + at, .imp = f->imp + at, .row_mean_square = 1e-4f};
        f->c->fit(f->c, p, in, end - begin, f->cpu);
    }
    return NIB_OK;
}

/* Best seconds of fitting every block once. */
static nib_code measure_fit(const layer *y, const nib_codec *c, double *best, nib_err *err)
{
    fitting f = {y, c, nib_alloc(y->cols, sizeof(float)), nib_cpu_detect()};
    if (!f.imp) return nib_fail_nomem(err, "importances");
    for (size_t i = 0; i < y->cols; i++) f.imp[i] = y->h[i * y->cols + i];
    nib_code rc = NIB_OK;
    for (int i = 0; i < RUNS && !rc; i++) {
        const double from = nib_now();
        rc = nib_par_for(nib_par_cores(), y->rows, FIT_ROWS, fit_rows, &f, err);
        const double took = nib_now() - from;
        if (!i || took < *best) *best = took;
    }
    nib_free(f.imp);
    return rc;
}

/* Best seconds of preparing and of solving. */
static nib_code measure(const layer *y, const nib_codec *c, unsigned sweeps, double *prepare,
                        double *solve, nib_err *err)
{
    nib_gptq *g;
    nib_gptq_opts o = nib_gptq_defaults();
    const nib_ctx ctx = {.threads = nib_par_cores(), .cpu = nib_cpu_detect()};
    o.sweeps = sweeps;
    nib_code rc = nib_gptq_new(&g, &o, &ctx, err);
    for (int i = 0; i < RUNS && !rc; i++) {
        const double from = nib_now();
        if ((rc = nib_gptq_prepare(g, y->h, y->cols, 0, NIB_VEC_MAX, err))) break;
        const double middle = nib_now();
        rc = nib_gptq_solve(g, c, y->w, y->rows, y->code, y->param, NULL, err);
        const double end = nib_now();
        if (!i || middle - from < *prepare) *prepare = middle - from;
        if (!i || end - middle < *solve) *solve = end - middle;
    }
    nib_gptq_free(g);
    return rc;
}

static nib_code bench(const nib_codec *c, size_t rows, size_t cols, double peak, nib_err *err)
{
    layer y;
    double fit = 0, prepare = 0, plain = 0, again, swept = 0;
    if (!make_layer(&y, rows, cols)) {
        free_layer(&y);
        return nib_fail_nomem(err, "a layer");
    }
    nib_code rc = measure_fit(&y, c, &fit, err);
    if (!rc) rc = measure(&y, c, 0, &prepare, &plain, err);
    if (!rc) rc = measure(&y, c, nib_gptq_defaults().sweeps, &again, &swept, err);
    free_layer(&y);
    if (rc) return rc;
    const double n = (double)cols, operations = n * n * n / 3 + (double)rows * n * n;
    printf("%-8s %5zu x %-5zu  %8.3f  %8.3f  %8.3f  %8.3f  %12.0f %%  %8.3f  %6.0f\n", c->name,
           rows, cols, prepare, fit, plain, prepare + plain,
           100 * operations / (prepare + plain - fit) / peak, swept, (double)nib_mem_peak() / 1e6);
    fflush(stdout);
    return NIB_OK;
}

int main(int argc, char **argv)
{
    nib_start(argv, false);
    nib_int_codec int4 = nib_int_codec_make(4, 128, false);
    const char *names[] = {"int4", "q4_k"};
    int4.scales = NIB_SCALES_SQUARE; /* as folders have it */
    nib_err err = {0};
    nib_linalg_init();
    const double peak = sgemm_peak(nib_par_cores());
    printf("%d threads, BLAS kernel %s, sgemm peak %.0f GFLOP/s\n", nib_par_cores(),
           nib_linalg_kernel(), peak / 1e9);
    printf("%-8s %13s  %8s  %8s  %8s  %8s  %14s  %8s  %6s\n", "format", "out x in", "factor s",
           "fit s", "plain s", "both s", "share of peak", "sweeps s", "MB");
    for (int i = 0; i < (argc > 1 ? 1 : 2); i++) {
        const char *name = argc > 1 ? argv[1] : names[i];
        const nib_codec *c = strcmp(name, "int4") ? nib_codec_find(name) : &int4.codec;
        if (!c || !c->quantized || !c->fit) {
            fprintf(stderr, "bench_gptq: no format '%s'\n", name);
            return 2;
        }
        for (size_t k = 0; k < (argc > 2 ? (size_t)argc - 2 : 4); k++) {
            size_t rows = shapes[k % 4][0], cols = shapes[k % 4][1];
            if (argc > 2 && (sscanf(argv[k + 2], "%zux%zu", &rows, &cols) != 2)) return 2;
            if (bench(c, rows, cols, peak, &err)) {
                fprintf(stderr, "bench_gptq: %s\n", err.msg);
                return 1;
            }
        }
    }
    return 0;
}
