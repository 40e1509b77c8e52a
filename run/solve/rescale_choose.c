/* SPDX-License-Identifier: MIT */
/* run/solve/rescale_choose.c - scales by AWQ's search or SmoothQuant's formula; see rescale.h.
 * Tests: tests/run/test_rescale_choice.c. */
#include "run/solve/rescale_int.h"

#include "infer/int8.h"
#include "quant/awq.h"
#include "quant/range.h"
#include "quant/round.h"
#include "quant/smooth.h"

#include <math.h>
#include <string.h>

enum { ALPHA_STEPS = 20 }; /* of the search for the best alpha */

/* Channels of x[cols] that are one channel of the producer all get their mean, or their largest. */
static void join_channels(const nib_rescale_job *k, float *x, bool largest)
{
    const float share = (float)k->width / (float)k->cols;
    if (k->width == k->cols) return;
    memset(k->sp, 0, k->width * sizeof *k->sp);
    for (size_t j = 0; j < k->cols; j++) {
        float *to = &k->sp[nib_rescale_producer_channel(k, j)];
        *to = largest ? (x[j] > *to ? x[j] : *to) : *to + x[j] * share;
    }
    for (size_t j = 0; j < k->cols; j++) x[j] = k->sp[nib_rescale_producer_channel(k, j)];
}

/* ---- the error of the output under scales ---- */

/* Let the readers round the divided inputs as the engine of the output will, if it does. */
static void round_inputs(nib_rescale_job *k)
{
    const nib_rescaler *r = k->r;
    const nib_packing *f = &k->b->weight[k->sc->reader[0]].tensor->layout.format;
    float lo, hi;
    if (f->act == NIB_ACT_NONE) return;
    k->act = nib_packing_act_quant(f);
    k->act.range = (nib_act_range){1, 0};
    if (f->act == NIB_ACT_TENSOR &&
        nib_int8_get(r->ctx->cpu)->range(&lo, &hi, r->scaled_x.p, k->rows * k->cols) && hi > lo) {
        const nib_range all = nib_range_make(lo, hi, fmaxf(-lo, hi));
        k->act.range = nib_act_range_on(&all, &k->act);
    }
    for (size_t i = 0; i < k->sc->n_readers; i++)
        nib_graph_round_input(k->b->graph, k->sc->reader[i], &k->act);
}

/* The readers' weights times s, rounded, into the graph. */
static nib_code round_readers(nib_rescale_job *k, const float *s, nib_err *err)
{
    const float *h = k->in->h.p;
    nib_code rc = NIB_OK;
    for (size_t j = 0; j < k->cols; j++) k->imp[j] = h[j * k->cols + j] / (s[j] * s[j]);
    for (size_t i = 0; i < k->sc->n_readers && !rc; i++) {
        const nib_layer_weight *w = &k->b->weight[k->sc->reader[i]];
        const size_t rows = (size_t)w->tensor->rows;
        float *t = nib_buf_reserve(&k->r->trial[i], rows, k->cols * sizeof *t);
        if (!t) return nib_fail_nomem(err, "weights on trial");
        rc = nib_rescale_columns(k, t, w->v, s, rows, false, err);
        if (!rc)
            rc = nib_round_rows(w->tensor->codec, t, k->imp, rows, k->cols, t, NULL, NULL,
                                k->r->ctx, err);
        nib_graph_replace(k->b->graph, k->sc->reader[i], t);
    }
    return rc;
}

static void restore_readers(nib_rescale_job *k)
{
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        nib_graph_replace(k->b->graph, k->sc->reader[i], k->b->weight[k->sc->reader[i]].v);
        nib_graph_round_input(k->b->graph, k->sc->reader[i], NULL);
    }
}

/* Of n windows. */
static nib_code branch(const nib_rescale_job *k, const float *x, size_t n, float *y, nib_err *err)
{
    return nib_graph_branch(k->b->graph, k->b->layer, k->sc->reader[0], x, n,
                            k->r->runner->w->n_ctx, y, err);
}

/* A nib_awq_loss. Window by window, until it is above the least. */
static nib_code loss_under(void *arg, const float *s, double least, double *loss, nib_err *err)
{
    nib_rescale_job *k = arg;
    const size_t n_ctx = k->r->runner->w->n_ctx, out = n_ctx * k->b->p->model->hp.n_embd;
    const float *x = k->r->scaled_x.p, *aim = k->r->y.p;
    float *y = k->r->runner->now;
    nib_code rc = round_readers(k, s, err);
    if (!rc) rc = nib_rescale_columns(k, k->r->scaled_x.p, k->r->x.p, s, k->rows, true, err);
    if (!rc) round_inputs(k);
    *loss = 0;
    for (size_t i = 0; i < k->r->n_seq && !rc && !(*loss > least); i++) {
        rc = branch(k, x + i * n_ctx * k->cols, 1, y, err);
        if (!rc)
            *loss += nib_rescale_difference(y, aim + i * out, out) / (double)(k->r->n_seq * out);
    }
    restore_readers(k);
    return rc;
}

/* ---- input and output without them ---- */

/* Takes one input on its way through the block. */
typedef struct {
    nib_role role;
    float *to;
} catcher;

static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    const catcher *c = arg;
    (void)err;
    if (in->role[0] == c->role) memcpy(c->to, in->x, in->rows * in->cols * sizeof *in->x);
    return NIB_OK;
}

/* Input of the readers and the output to aim at. */
static nib_code catch_input(nib_rescale_job *k, nib_err *err)
{
    nib_rescaler *r = k->r;
    const size_t n_embd = r->p->model->hp.n_embd;
    catcher c = {k->sc->reader[0], nib_buf_reserve(&r->x, k->rows, k->cols * sizeof(float))};
    if (!c.to || !nib_buf_reserve(&r->scaled_x, k->rows, k->cols * sizeof(float)) ||
        !nib_buf_reserve(&r->y, k->rows, n_embd * sizeof(float)))
        return nib_fail_nomem(err, "activations");
    nib_code rc = nib_rescale_run(r, k->b, r->n_seq,
                                  &(nib_observer){.linear_input = on_input, .arg = &c}, err);
    return rc ? rc : branch(k, r->x.p, r->n_seq, r->y.p, err);
}

/* ---- choosing ---- */

static nib_code choose_awq(nib_rescale_job *k, nib_rescale_line *line, nib_err *err)
{
    nib_awq_linear l[NIB_READERS_MAX];
    nib_awq_choice best;
    const double *sum = k->in->sum.p;
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        const nib_layer_weight *w = &k->b->weight[k->sc->reader[i]];
        l[i] = (nib_awq_linear){w->v, (size_t)w->tensor->rows, w->tensor->codec->sub};
    }
    for (size_t j = 0; j < k->cols; j++) k->x_size[j] = (float)(sum[j] / (double)k->in->rows);
    nib_awq_weight_mean(k->w_size, l, k->sc->n_readers, k->cols);
    join_channels(k, k->x_size, false);
    join_channels(k, k->w_size, false);
    nib_code rc = catch_input(k, err);
    if (!rc) rc = nib_awq_search(&best, k->s, k->x_size, k->w_size, k->cols, loss_under, k, err);
    if (rc) return rc;
    *line = (nib_rescale_line){line->name, best.ratio, best.unscaled, best.loss};
    return NIB_OK;
}

/* alpha below 0: no scales. A channel that never fired keeps its size: nothing is to be gained, and
 * the producer's rows would be multiplied by 1e5. */
static void smooth_scales(nib_rescale_job *k, double alpha)
{
    if (alpha >= 0) nib_smooth_scales(k->s, k->x_size, k->w_size, k->cols, alpha);
    for (size_t j = 0; j < k->cols; j++)
        if (alpha < 0 || !(k->x_size[j] > 0)) k->s[j] = 1;
}

/* The best of no scales and all alphas, by the error of the output. */
static nib_code choose_alpha(nib_rescale_job *k, nib_rescale_line *line, nib_err *err)
{
    nib_code rc = catch_input(k, err);
    line->scaled = INFINITY;
    line->chosen = -1;
    for (int i = -1; i <= ALPHA_STEPS && !rc; i++) {
        const double alpha = i < 0 ? -1 : i / (double)ALPHA_STEPS;
        double loss = 0;
        smooth_scales(k, alpha);
        rc = loss_under(k, k->s, line->scaled, &loss, err);
        if (i < 0) line->unscaled = loss;
        if (!(loss < line->scaled)) continue;
        line->scaled = loss;
        line->chosen = alpha;
    }
    return rc;
}

static nib_code choose_smooth(nib_rescale_job *k, nib_rescale_line *line, nib_err *err)
{
    memcpy(k->x_size, k->in->most.p, k->cols * sizeof *k->x_size);
    join_channels(k, k->x_size, true);
    memset(k->w_size, 0, k->cols * sizeof *k->w_size);
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        const nib_layer_weight *w = &k->b->weight[k->sc->reader[i]];
        nib_smooth_weight_max(k->w_size, w->v, (size_t)w->tensor->rows, k->cols);
    }
    join_channels(k, k->w_size, true);
    line->chosen = k->r->opts.alpha;
    nib_code rc = line->chosen < 0 ? choose_alpha(k, line, err) : NIB_OK;
    smooth_scales(k, line->chosen);
    return rc;
}

nib_code nib_rescale_choose(nib_rescale_job *k, nib_rescale_line *line, nib_err *err)
{
    return k->r->p->recipe.transform == NIB_TRANSFORM_AWQ ? choose_awq(k, line, err)
                                                          : choose_smooth(k, line, err);
}
