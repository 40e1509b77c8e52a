/* SPDX-License-Identifier: MIT */
/* report/input_picture.c - see input_picture.h. */
#include "report/input_picture.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    nib_input_picture *p;
    nib_role role;
} watch;

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void count(nib_input_picture *p, const float *x)
{
    const size_t n = p->rows * p->cols;
    for (size_t i = 0; i < n; i++) {
        const double at = p->span > 0 ? ((double)x[i] / p->span + 1) / 2 * NIB_INPUT_BINS : 0;
        p->share[at < NIB_INPUT_BINS ? (size_t)at : NIB_INPUT_BINS - 1] += 1 / (double)n;
    }
}

static nib_code take(void *arg, const nib_linear_input *in, nib_err *err)
{
    watch *w = arg;
    nib_input_picture *p = w->p;
    bool read = false;
    for (size_t i = 0; i < in->n_roles; i++) read |= in->role[i] == w->role;
    if (!read || p->rows || !in->rows || !in->cols) return NIB_OK;
    float *largest = nib_calloc(in->cols, sizeof *largest); /* of each channel */
    if (!largest) return nib_fail_nomem(err, "the inputs of a layer");
    p->rows = in->rows;
    p->cols = in->cols;
    for (size_t r = 0; r < in->rows; r++)
        for (size_t c = 0; c < in->cols; c++)
            largest[c] = fmaxf(largest[c], fabsf(in->x[r * in->cols + c]));
    for (size_t c = 0; c < in->cols; c++)
        if ((double)largest[c] > p->span) p->span = (double)largest[c], p->widest = c;
    qsort(largest, in->cols, sizeof *largest, by_value);
    p->median = (double)largest[in->cols / 2];
    count(p, in->x);
    nib_free(largest);
    return NIB_OK;
}

nib_code nib_input_picture_take(nib_input_picture *p, const nib_model *m, nib_place place,
                                const int32_t *id, size_t n, const nib_ctx *ctx, nib_err *err)
{
    nib_graph *g;
    watch w = {p, place.role};
    const nib_observer obs = {.linear_input = take, .arg = &w};
    *p = (nib_input_picture){0};
    float *x = nib_alloc(n, m->hp.n_embd * sizeof *x);
    if (!x) return nib_fail_nomem(err, "activations");
    nib_code rc = nib_graph_new(&g, m, ctx, 1, n, false, err);
    if (!rc) {
        rc = nib_graph_embed(g, id, n, x, err);
        for (uint32_t l = 0; l <= place.layer && !rc; l++)
            rc = nib_graph_block(g, l, x, 1, n, 0, l == place.layer ? &obs : NULL, err);
        nib_graph_free(g);
    }
    nib_free(x);
    return rc;
}
