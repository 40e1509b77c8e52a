/* SPDX-License-Identifier: MIT */
/* run/rescale.c - see rescale.h. */
#include "run/rescale.h"

#include "base/par.h"
#include "infer/int8.h"
#include "quant/awq.h"
#include "quant/range.h"
#include "quant/round.h"
#include "quant/smooth.h"

#include <math.h>
#include <string.h>

enum {
    READERS_MAX = 3,
    ALPHA_STEPS = 20, /* of the search for the best alpha */
    ROW_CHUNK = 32,
};

struct nib_rescaler {
    const nib_plan *p;
    nib_rescale_opts opts;
    nib_runner *runner;
    const nib_ctx *ctx;
    size_t n_seq;               /* windows that errors are measured on: a batch at most        */
    nib_buf block_in;           /* [n_seq * n_ctx][n_embd] what goes into the block            */
    nib_buf block_out;          /* [n_ctx][n_embd] what the first of them becomes              */
    nib_buf x, scaled_x;        /* [n_seq * n_ctx][cols] input of the linears, and divided     */
    nib_buf y;                  /* [n_seq * n_ctx][n_embd] output that is aimed at             */
    nib_buf trial[READERS_MAX]; /* weights on trial                                            */
    nib_buf vectors;            /* [VECTORS][cols]                                             */
};

/* One scaling of the block at work. */
typedef struct {
    nib_rescaler *r;
    nib_block *b;
    const nib_scaling *sc;
    nib_moments_input *in;
    size_t cols, rows; /* channels of the input; rows of x     */
    size_t width;      /* channels of the producer: cols, but for attn_v with shared heads */
    float *s;          /* [cols] scales, as the readers see them */
    float *sp;         /* [width] the same as the producer sees them */
    float *x_size, *w_size, *imp; /* [cols] */
    nib_act_quant act;            /* how the readers' input is rounded on trial */
} scaling;

enum { VECTORS = 5 };

nib_code nib_rescaler_new(nib_rescaler **out, const nib_plan *p, const nib_rescale_opts *opts,
                          nib_runner *runner, const nib_ctx *ctx, nib_err *err)
{
    nib_rescaler *r = *out = nib_calloc(1, sizeof *r);
    if (!r) return nib_fail_nomem(err, "rescaling");
    *r = (nib_rescaler){.p = p, .opts = *opts, .runner = runner, .ctx = ctx};
    return NIB_OK;
}

void nib_rescaler_free(nib_rescaler *r)
{
    if (!r) return;
    nib_buf *all[] = {&r->block_in, &r->block_out, &r->x, &r->scaled_x, &r->y, &r->vectors};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_buf_free(all[i]);
    for (int i = 0; i < READERS_MAX; i++) nib_buf_free(&r->trial[i]);
    nib_free(r);
}

/* ---- channels ---- */

/* The producer's channel that is channel j of the input. */
static size_t producer_channel(const scaling *k, size_t j)
{
    const nib_hparams *hp = &k->b->p->model->hp;
    if (k->sc->producer != NIB_ROLE_ATTN_V) return j;
    const size_t head = j / hp->head_dim / (hp->n_head / hp->n_head_kv);
    return head * hp->head_dim + j % hp->head_dim;
}

/* Channels of x[cols] that are one channel of the producer all get their mean, or their largest. */
static void join_channels(const scaling *k, float *x, bool largest)
{
    const float share = (float)k->width / (float)k->cols;
    if (k->width == k->cols) return;
    memset(k->sp, 0, k->width * sizeof *k->sp);
    for (size_t j = 0; j < k->cols; j++) {
        float *to = &k->sp[producer_channel(k, j)];
        *to = largest ? (x[j] > *to ? x[j] : *to) : *to + x[j] * share;
    }
    for (size_t j = 0; j < k->cols; j++) x[j] = k->sp[producer_channel(k, j)];
}

typedef struct {
    const float *from, *s;
    float *to;
    size_t cols;
    bool divide;
} by_column;

static nib_code scale_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const by_column *k = arg;
    (void)thread, (void)err;
    for (size_t at = begin * k->cols; at < end * k->cols; at += k->cols)
        for (size_t j = 0; j < k->cols; j++)
            k->to[at + j] = k->divide ? k->from[at + j] / k->s[j] : k->from[at + j] * k->s[j];
    return NIB_OK;
}

/* to[rows][cols] = from times, or divided by, s[cols]. */
static nib_code scale_columns(const scaling *k, float *to, const float *from, const float *s,
                              size_t rows, bool divide, nib_err *err)
{
    by_column job = {from, s, to, k->cols, divide};
    return nib_par_for(k->r->ctx->threads, rows, ROW_CHUNK, scale_rows, &job, err);
}

/* ---- the error of the output under scales ---- */

static double mean_square_difference(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - b[i];
        sum += d * d;
    }
    return sum / (double)n;
}

/* Let the readers round the divided inputs as the engine of the output will, if it does. */
static void round_inputs(scaling *k)
{
    const nib_rescaler *r = k->r;
    const nib_layout_format *f = &k->b->weight[k->sc->reader[0]].tensor->layout.format;
    float lo, hi;
    if (f->act == NIB_ACT_NONE) return;
    k->act = (nib_act_quant){.scheme = f->act, .sym = f->act_sym, .bits = 8, .range = {1, 0}};
    if (f->act == NIB_ACT_TENSOR &&
        nib_int8_get(r->ctx->cpu)->range(&lo, &hi, r->scaled_x.p, k->rows * k->cols) && hi > lo) {
        const nib_range all = nib_range_make(lo, hi, fmaxf(-lo, hi));
        k->act.range = nib_act_range_on(&all, f->act_sym);
    }
    for (size_t i = 0; i < k->sc->n_readers; i++)
        nib_graph_round_input(k->b->graph, k->sc->reader[i], &k->act);
}

/* The readers' weights times s, rounded, into the graph. */
static nib_code round_readers(scaling *k, const float *s, nib_err *err)
{
    const float *h = k->in->h.p;
    nib_code rc = NIB_OK;
    for (size_t j = 0; j < k->cols; j++) k->imp[j] = h[j * k->cols + j] / (s[j] * s[j]);
    for (size_t i = 0; i < k->sc->n_readers && !rc; i++) {
        const nib_block_tensor *w = &k->b->weight[k->sc->reader[i]];
        const size_t rows = (size_t)w->tensor->rows;
        float *t = nib_buf_reserve(&k->r->trial[i], rows, k->cols * sizeof *t);
        if (!t) return nib_fail_nomem(err, "weights on trial");
        rc = scale_columns(k, t, w->v, s, rows, false, err);
        if (!rc)
            rc = nib_round_rows(w->tensor->codec, t, k->imp, rows, k->cols, t, NULL, NULL,
                                k->r->ctx, err);
        nib_graph_replace(k->b->graph, k->sc->reader[i], t);
    }
    return rc;
}

static void restore_readers(scaling *k)
{
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        nib_graph_replace(k->b->graph, k->sc->reader[i], k->b->weight[k->sc->reader[i]].v);
        nib_graph_round_input(k->b->graph, k->sc->reader[i], NULL);
    }
}

static nib_code branch(const scaling *k, const float *x, float *y, nib_err *err)
{
    return nib_graph_branch(k->b->graph, k->b->layer, k->sc->reader[0], x, k->r->n_seq,
                            k->r->runner->w->n_ctx, y, err);
}

/* A nib_awq_loss. */
static nib_code loss_under(void *arg, const float *s, double *loss, nib_err *err)
{
    scaling *k = arg;
    float *y = k->r->runner->now;
    nib_code rc = round_readers(k, s, err);
    if (!rc) rc = scale_columns(k, k->r->scaled_x.p, k->r->x.p, s, k->rows, true, err);
    if (!rc) round_inputs(k);
    if (!rc) rc = branch(k, k->r->scaled_x.p, y, err);
    restore_readers(k);
    if (!rc) *loss = mean_square_difference(y, k->r->y.p, k->rows * k->b->p->model->hp.n_embd);
    return rc;
}

/* ---- inputs ---- */

/* Takes one input on its way through the block. */
typedef struct {
    nib_role role;
    float *to;
} catcher;

static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    const catcher *c = arg;
    (void)layer, (void)n_roles, (void)err;
    if (roles[0] == c->role) memcpy(c->to, x, rows * cols * sizeof *x);
    return NIB_OK;
}

/* Run n of the chosen windows through the block as it now is; the result is in runner->now. */
static nib_code run_chosen(nib_rescaler *r, const nib_block *b, size_t n, const nib_observer *obs,
                           nib_err *err)
{
    const size_t n_ctx = r->runner->w->n_ctx, n_embd = r->p->model->hp.n_embd;
    memcpy(r->runner->now, r->block_in.p, n * n_ctx * n_embd * sizeof(float));
    return nib_graph_block(b->graph, b->layer, r->runner->now, n, n_ctx, 0, obs, err);
}

/* Input of the readers and the output to aim at. */
static nib_code catch_input(scaling *k, nib_err *err)
{
    nib_rescaler *r = k->r;
    const size_t n_embd = r->p->model->hp.n_embd;
    catcher c = {k->sc->reader[0], nib_buf_reserve(&r->x, k->rows, k->cols * sizeof(float))};
    if (!c.to || !nib_buf_reserve(&r->scaled_x, k->rows, k->cols * sizeof(float)) ||
        !nib_buf_reserve(&r->y, k->rows, n_embd * sizeof(float)))
        return nib_fail_nomem(err, "activations");
    nib_code rc = run_chosen(r, k->b, r->n_seq, &(nib_observer){on_input, &c}, err);
    return rc ? rc : branch(k, r->x.p, r->y.p, err);
}

/* Windows are taken evenly; of the first of them also what the block makes of it. */
nib_code nib_rescale_begin(nib_rescaler *r, nib_block *b, const nib_stream *x, size_t n,
                           nib_err *err)
{
    const size_t n_ctx = r->runner->w->n_ctx, n_embd = r->p->model->hp.n_embd;
    const size_t row = n_ctx * n_embd;
    r->n_seq = n < r->runner->batch ? n : r->runner->batch;
    float *in = nib_buf_reserve(&r->block_in, r->n_seq, row * sizeof *in);
    float *out = nib_buf_reserve(&r->block_out, row, sizeof *out);
    if (!in || !out) return nib_fail_nomem(err, "activations");
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < r->n_seq && !rc; i++)
        rc = nib_rows_get(&x->rows, i * n / r->n_seq * n_ctx, n_ctx, in + i * row, err);
    if (!rc) rc = run_chosen(r, b, 1, NULL, err);
    if (!rc) memcpy(out, r->runner->now, row * sizeof *out);
    return rc;
}

/* ---- applying scales ---- */

/* Norm and bias of the producer, divided, as the output will hold them; sp becomes what that is. */
static nib_code divide_vector(scaling *k, nib_block_tensor *t, bool exact, nib_keep *keep,
                              nib_err *err)
{
    float *before = k->w_size; /* no longer needed */
    memcpy(before, t->v, k->width * sizeof *before);
    for (size_t i = 0; i < k->width; i++) t->v[i] /= k->sp[i];
    nib_code rc = nib_keep_plain(keep, t->tensor, t->v, err);
    if (rc || !exact) return rc;
    bool again = false;
    for (size_t i = 0; i < k->width; i++) {
        const float s = before[i] / t->v[i];
        k->sp[i] = s;
        if (isfinite(s) && s > 0) continue;
        k->sp[i] = 1; /* a channel that is off, or that the format cannot hold divided */
        t->v[i] = before[i];
        again = true;
    }
    return again ? nib_keep_plain(keep, t->tensor, t->v, err) : NIB_OK;
}

static nib_code divide_producer(scaling *k, nib_keep *keep, nib_err *err)
{
    nib_block_tensor *w = &k->b->weight[k->sc->producer], *bias = &k->b->bias[k->sc->producer];
    if (w->tensor->rows == 1) return divide_vector(k, w, true, keep, err);
    const size_t cols = (size_t)w->tensor->cols;
    for (size_t i = 0; i < k->width; i++)
        for (size_t j = 0; j < cols; j++) w->v[i * cols + j] /= k->sp[i];
    return bias->tensor ? divide_vector(k, bias, false, keep, err) : NIB_OK;
}

static nib_code apply(scaling *k, nib_keep *keep, nib_err *err)
{
    for (size_t j = 0; j < k->cols; j++) k->sp[producer_channel(k, j)] = k->s[j];
    nib_code rc = divide_producer(k, keep, err);
    for (size_t j = 0; j < k->cols; j++) k->s[j] = k->sp[producer_channel(k, j)];
    for (size_t i = 0; i < k->sc->n_readers && !rc; i++) {
        nib_block_tensor *w = &k->b->weight[k->sc->reader[i]];
        rc = scale_columns(k, w->v, w->v, k->s, (size_t)w->tensor->rows, false, err);
    }
    if (!rc) nib_moments_divide(k->in, k->s);
    return rc;
}

/* The block still computes the same. */
static nib_code check(scaling *k, nib_err *err)
{
    const size_t n = k->r->runner->w->n_ctx * k->r->p->model->hp.n_embd;
    const float *in = k->r->block_in.p, *out = k->r->block_out.p, *now = k->r->runner->now;
    nib_code rc = run_chosen(k->r, k->b, 1, NULL, err);
    if (rc) return rc;
    const double change = mean_square_difference(out, in, n);
    const double off = sqrt(mean_square_difference(now, out, n) / change);
    if (off <= NIB_RESCALE_TOLERANCE || change == 0) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC,
                    "rescaling the input of '%s' changes the block's output by %.2g of it, at most "
                    "%g is allowed",
                    k->b->weight[k->sc->reader[0]].tensor->name, off, NIB_RESCALE_TOLERANCE);
}

/* ---- choosing scales ---- */

static nib_code choose_awq(scaling *k, nib_rescale_line *line, nib_err *err)
{
    nib_awq_linear l[READERS_MAX];
    nib_awq_choice best;
    const double *sum = k->in->sum.p;
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        const nib_block_tensor *w = &k->b->weight[k->sc->reader[i]];
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
static void smooth_scales(scaling *k, double alpha)
{
    if (alpha >= 0) nib_smooth_scales(k->s, k->x_size, k->w_size, k->cols, alpha);
    for (size_t j = 0; j < k->cols; j++)
        if (alpha < 0 || !(k->x_size[j] > 0)) k->s[j] = 1;
}

/* The best of no scales and all alphas, by the error of the output. */
static nib_code choose_alpha(scaling *k, nib_rescale_line *line, nib_err *err)
{
    nib_code rc = catch_input(k, err);
    line->scaled = INFINITY;
    line->chosen = -1;
    for (int i = -1; i <= ALPHA_STEPS && !rc; i++) {
        const double alpha = i < 0 ? -1 : i / (double)ALPHA_STEPS;
        double loss = 0;
        smooth_scales(k, alpha);
        rc = loss_under(k, k->s, &loss, err);
        if (i < 0) line->unscaled = loss;
        if (!(loss < line->scaled)) continue;
        line->scaled = loss;
        line->chosen = alpha;
    }
    return rc;
}

static nib_code choose_smooth(scaling *k, nib_rescale_line *line, nib_err *err)
{
    memcpy(k->x_size, k->in->most.p, k->cols * sizeof *k->x_size);
    join_channels(k, k->x_size, true);
    memset(k->w_size, 0, k->cols * sizeof *k->w_size);
    for (size_t i = 0; i < k->sc->n_readers; i++) {
        const nib_block_tensor *w = &k->b->weight[k->sc->reader[i]];
        nib_smooth_weight_max(k->w_size, w->v, (size_t)w->tensor->rows, k->cols);
    }
    join_channels(k, k->w_size, true);
    line->chosen = k->r->opts.alpha;
    nib_code rc = line->chosen < 0 ? choose_alpha(k, line, err) : NIB_OK;
    smooth_scales(k, line->chosen);
    return rc;
}

/* ---- a block ---- */

/* A bias that is stored with fewer bits than f32 would be rounded once more. */
static bool exact_bias(const nib_block_tensor *bias)
{
    return bias->tensor && bias->tensor->codec->type == NIB_F32;
}

/* Is all of it ours to write? */
static bool may_rescale(const nib_rescaler *r, const nib_block *b, const nib_scaling *sc)
{
    const nib_param *producer = nib_model_param(r->p->model, b->layer, sc->producer);
    if (!b->weight[sc->producer].tensor) return false;
    if (producer->bias && !exact_bias(&b->bias[sc->producer])) return false;
    for (size_t i = 0; i < sc->n_readers; i++)
        if (!b->weight[sc->reader[i]].tensor) return false;
    return true;
}

static nib_code rescale(nib_rescaler *r, nib_block *b, const nib_scaling *sc, nib_moments *m,
                        nib_keep *keep, nib_rescale_line *line, nib_err *err)
{
    const nib_plan_tensor *first = b->weight[sc->reader[0]].tensor;
    const nib_plan_tensor *producer = b->weight[sc->producer].tensor;
    const size_t cols = (size_t)first->cols;
    scaling k = {.r = r,
                 .b = b,
                 .sc = sc,
                 .in = nib_moments_find(m, sc->reader[0]),
                 .cols = cols,
                 .rows = r->n_seq * r->runner->w->n_ctx,
                 .width = (size_t)(producer->rows == 1 ? producer->cols : producer->rows),
                 .s = nib_buf_reserve(&r->vectors, VECTORS * cols, sizeof *k.s)};
    if (!k.s) return nib_fail_nomem(err, "scales");
    k.sp = k.s + cols;
    k.x_size = k.sp + cols;
    k.w_size = k.x_size + cols;
    k.imp = k.w_size + cols;
    *line = (nib_rescale_line){.name = first->name};
    nib_code rc = r->p->recipe.transform == NIB_TRANSFORM_AWQ ? choose_awq(&k, line, err)
                                                              : choose_smooth(&k, line, err);
    if (!rc) rc = apply(&k, keep, err);
    if (!rc) rc = check(&k, err);
    return rc ? nib_wrap(err, "rescaling the input of '%s'", first->name) : NIB_OK;
}

/* Vectors that no scaling changed are written as they are. */
static nib_code keep_untouched(nib_block *b, const bool *touched, nib_keep *keep, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (int r = 0; r < NIB_ROLE_COUNT && !rc; r++) {
        nib_block_tensor *both[] = {&b->weight[r], &b->bias[r]};
        for (int i = 0; i < 2 && !rc; i++)
            if (both[i]->tensor && !both[i]->tensor->codec->quantized && !touched[r])
                rc = nib_keep_plain(keep, both[i]->tensor, both[i]->v, err);
    }
    return rc;
}

nib_code nib_rescale_block(nib_rescaler *r, nib_block *b, nib_moments *m, nib_keep *keep,
                           nib_rescale_line *lines, size_t *n_lines, nib_err *err)
{
    const nib_arch *arch = r->p->model->arch;
    bool touched[NIB_ROLE_COUNT] = {false};
    nib_code rc = NIB_OK;
    *n_lines = 0;
    for (size_t i = 0; i < arch->n_scalings && !rc; i++) {
        const nib_scaling *sc = &arch->scaling[i];
        if (!may_rescale(r, b, sc)) continue;
        rc = rescale(r, b, sc, m, keep, &lines[*n_lines], err);
        touched[sc->producer] = true;
        ++*n_lines;
    }
    return rc ? rc : keep_untouched(b, touched, keep, err);
}
