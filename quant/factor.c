/* SPDX-License-Identifier: MIT */
/* quant/factor.c - the half of gptq.h that takes a Hessian: columns put in order, damped, factored.
 * Tests: tests/quant/test_solver.c, tests/quant/test_gptq.c. */
#include "base/linalg.h"
#include "base/par.h"
#include "quant/solver.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64 };
static const double DAMP_STEP = 0.01, DAMP_MAX = 1.0; /* raised by the step until it factors */

double nib_gptq_damp(const nib_gptq *g)
{
    return g->damp;
}

nib_gptq_factor nib_gptq_factored(const nib_gptq *g)
{
    return (nib_gptq_factor){g->r, g->perm, g->outer, g->cols, g->keep};
}

const uint32_t *nib_gptq_outer(const nib_gptq *g)
{
    bool reordered = g->opts.order == NIB_ORDER_DIAGONAL && g->opts.when == NIB_PARAMS_REACHED;
    return reordered ? g->outer : NULL;
}

static bool reserve(nib_gptq *g, size_t n)
{
    size_t n2;
    if (!nib_mul(n, n, &n2)) return false;
    g->cols = n;
    return (g->h = nib_buf_reserve(&g->memory[0], n2, sizeof *g->h)) &&
           (g->work = nib_buf_reserve(&g->memory[1], n2, sizeof *g->work)) &&
           (g->imp = nib_buf_reserve(&g->memory[2], n, sizeof *g->imp)) &&
           (g->perm = nib_buf_reserve(&g->memory[3], n, sizeof *g->perm)) &&
           (g->outer = nib_buf_reserve(&g->memory[4], n, sizeof *g->outer)) &&
           (g->dead = nib_buf_reserve(&g->memory[5], n, sizeof *g->dead));
}

typedef struct {
    float key; /* the column's diagonal, or the largest of its group */
    float diagonal;
    uint32_t group, column;
} ranked;

static int by_rank(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    if (x->diagonal != y->diagonal) return x->diagonal > y->diagonal ? -1 : 1;
    return x->column < y->column ? -1 : x->column > y->column;
}

/* Columns by decreasing diagonal, `group` by group: groups by their largest, then inside each;
 * where vectors of columns stay together they are as stored inside. A last group that is not whole
 * stays last. */
static void rank_columns(const nib_gptq *g, const float *h, size_t group, ranked *r,
                         uint32_t *order)
{
    const size_t n = g->cols;
    const size_t whole = n / group * group;
    for (size_t i = 0; i < n; i++) {
        float diagonal = h[i * n + i] > 0 ? h[i * n + i] : 1; /* dead inputs get 1 */
        const float inside = g->together > 1 ? 0 : diagonal;
        r[i] = (ranked){diagonal, inside, (uint32_t)(i / group), (uint32_t)i};
    }
    for (size_t b = 0; b < whole; b += group) {
        float top = 0;
        for (size_t i = b; i < b + group; i++) top = r[i].key > top ? r[i].key : top;
        for (size_t i = b; i < b + group; i++) r[i].key = top;
    }
    qsort(r, whole, sizeof *r, by_rank);
    for (size_t i = 0; i < n; i++) order[i] = r[i].column;
}

static void choose_order(nib_gptq *g, const float *h)
{
    const size_t n = g->cols;
    for (size_t i = 0; i < n; i++) g->outer[i] = g->perm[i] = (uint32_t)i;
    const size_t group = g->opts.order == NIB_ORDER_GROUPS ? g->opts.group : g->together;
    if (g->opts.order != NIB_ORDER_NATURAL)
        rank_columns(g, h, group, (ranked *)g->work, nib_gptq_outer(g) ? g->outer : g->perm);
    for (size_t i = 0; i < n / 2; i++) {
        const uint32_t first = g->perm[i];
        g->perm[i] = g->perm[n - 1 - i];
        g->perm[n - 1 - i] = first;
    }
}

typedef struct {
    nib_gptq *g;
    const float *h; /* as given */
    double lambda;
} preparing;

/* Element (i, j) of the full matrix, columns in outer order. */
static nib_code fill_one(const preparing *p, size_t i, size_t j, nib_err *err)
{
    const nib_gptq *g = p->g;
    const size_t n = g->cols, a = g->outer[i], b = g->outer[j];
    const float x = a <= b ? p->h[a * n + b] : p->h[b * n + a];
    g->h[i * n + j] = i == j ? x : g->keep * x;
    if (isfinite(x)) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC,
                    "the activations' second moments are not finite (channels %zu and %zu)", a, b);
}

/* Rows of the full matrix from the upper triangle, in tiles since half of them are read across. */
static nib_code fill_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread;
    const preparing *p = arg;
    const size_t n = p->g->cols;
    nib_code rc = NIB_OK;
    for (size_t j0 = 0; j0 < n; j0 += ROWS) {
        const size_t j1 = n - j0 < ROWS ? n : j0 + ROWS;
        for (size_t i = begin; i < end; i++)
            for (size_t j = j0; j < j1 && !rc; j++) rc = fill_one(p, i, j, err);
    }
    return rc;
}

static void find_dead(nib_gptq *g)
{
    const size_t n = g->cols;
    for (size_t i = 0; i < n; i++) {
        g->imp[i] = g->h[i * n + i];
        g->dead[i] = !(g->imp[i] > 0);
        if (g->dead[i]) g->h[i * n + i] = 1;
    }
}

/* Upper triangle of the damped H in order of rounding. */
static nib_code order_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const preparing *p = arg;
    const nib_gptq *g = p->g;
    const size_t n = g->cols;
    for (size_t i = begin; i < end; i++) {
        const float *row = g->h + (size_t)g->perm[i] * n;
        double *to = g->work + i * n;
        for (size_t j = i; j < n; j++) to[j] = row[g->perm[j]];
        to[i] += p->lambda;
    }
    return NIB_OK;
}

/* The factor as floats, in the same memory: no row begins behind where it was. */
static void narrow(nib_gptq *g)
{
    enum { PIECE = 256 };
    const size_t n = g->cols;
    float *r = (void *)g->work, to[PIECE];
    double from[PIECE];
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j += PIECE) {
            const size_t k = n - j < PIECE ? n - j : PIECE;
            memcpy(from, g->work + i * n + j, k * sizeof *from);
            for (size_t m = 0; m < k; m++) to[m] = (float)from[m];
            memcpy(r + i * n + j, to, k * sizeof *to);
        }
    g->r = r;
}

static double mean_diagonal(const nib_gptq *g)
{
    double sum = 0;
    for (size_t i = 0; i < g->cols; i++) sum += g->h[i * g->cols + i];
    return sum / (double)g->cols;
}

static nib_code factor(nib_gptq *g, preparing *p, nib_err *err)
{
    const size_t n = g->cols;
    const double mean = mean_diagonal(g);
    nib_code rc;
    for (g->damp = g->opts.damp;; g->damp += DAMP_STEP) {
        p->lambda = g->damp * mean;
        if ((rc = nib_par_for(g->ctx.threads, n, ROWS, order_rows, p, err))) return rc;
        rc = nib_cholesky(g->work, n, g->ctx.threads, err);
        if (rc != NIB_ENUMERIC || g->damp + DAMP_STEP > DAMP_MAX) break;
        nib_warn(g->ctx.log,
                 "second moments of %zu channels do not factor with damping %.3g; trying %.3g", n,
                 g->damp, g->damp + DAMP_STEP);
    }
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) g->h[i * n + i] += (float)p->lambda;
    narrow(g);
    return NIB_OK;
}

nib_code nib_gptq_prepare(nib_gptq *g, const float *h, size_t cols, size_t tokens, size_t together,
                          nib_err *err)
{
    assert(together > 0 && cols % together == 0);
    g->together = together;
    preparing p = {g, h, 0};
    const double seen = (double)tokens, few = (double)NIB_GPTQ_FEW * (double)cols;
    g->keep = tokens ? (float)(seen * seen / (seen * seen + few * few)) : 1;
    if (!reserve(g, cols)) return nib_fail_nomem(err, "a Hessian");
    choose_order(g, h);
    nib_code rc = nib_par_for(g->ctx.threads, cols, ROWS, fill_rows, &p, err);
    if (rc) return rc;
    find_dead(g);
    return factor(g, &p, err);
}
