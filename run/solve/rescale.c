/* SPDX-License-Identifier: MIT */
/* run/solve/rescale.c - see rescale.h. The scales are chosen in rescale_choose.c. */
#include "run/solve/rescale_int.h"

#include "base/par.h"
#include "calib/fingerprint.h"

#include <math.h>
#include <string.h>

enum { ROW_CHUNK = 32, VECTORS = 5 };

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
    for (int i = 0; i < NIB_READERS_MAX; i++) nib_buf_free(&r->trial[i]);
    nib_free(r);
}

void nib_rescaler_use(nib_rescaler *r, const nib_plan *p, const nib_rescale_opts *opts,
                      nib_rescale_memo *memo)
{
    r->p = p;
    r->opts = *opts;
    r->memo = memo;
}

void nib_rescale_memo_free(nib_rescale_memo *m)
{
    for (size_t i = 0; i < sizeof m->found / sizeof *m->found; i++)
        nib_buf_free(&m->found[i].scales);
}

/* ---- channels ---- */

size_t nib_rescale_producer_channel(const nib_rescale_job *k, size_t j)
{
    const nib_hparams *hp = &k->b->p->model->hp;
    if (!k->sc->by_heads) return j;
    const size_t head = j / hp->head_dim / (hp->n_head / hp->n_head_kv);
    return head * hp->head_dim + j % hp->head_dim;
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

nib_code nib_rescale_columns(const nib_rescale_job *k, float *to, const float *from, const float *s,
                             size_t rows, bool divide, nib_err *err)
{
    by_column job = {from, s, to, k->cols, divide};
    return nib_par_for(k->r->ctx->threads, rows, ROW_CHUNK, scale_rows, &job, err);
}

/* ---- windows ---- */

double nib_rescale_difference(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - b[i];
        sum += d * d;
    }
    return sum;
}

nib_code nib_rescale_run(nib_rescaler *r, const nib_layer_weights *b, size_t n,
                         const nib_observer *obs, nib_err *err)
{
    const size_t n_ctx = r->runner->w->n_ctx, n_embd = r->p->model->hp.n_embd;
    memcpy(r->runner->now, r->block_in.p, n * n_ctx * n_embd * sizeof(float));
    return nib_graph_block(b->graph, b->layer, r->runner->now, n, n_ctx, 0, obs, err);
}

/* Windows are taken evenly; of the first of them also what the block makes of it. */
nib_code nib_rescale_begin(nib_rescaler *r, nib_layer_weights *b, const nib_block_pass *x, size_t n,
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
        rc = nib_activation_store_get(&x->rows, i * n / r->n_seq * n_ctx, n_ctx, in + i * row, err);
    if (!rc) rc = nib_rescale_run(r, b, 1, NULL, err);
    if (!rc) memcpy(out, r->runner->now, row * sizeof *out);
    return rc;
}

/* ---- applying scales ---- */

/* Norm and bias of the producer, divided, as the output will hold them; sp becomes what that is. */
static nib_code divide_vector(nib_rescale_job *k, nib_layer_weight *t, bool exact, nib_commit *keep,
                              nib_err *err)
{
    float *before = k->w_size; /* no longer needed */
    memcpy(before, t->v, k->width * sizeof *before);
    for (size_t i = 0; i < k->width; i++) t->v[i] /= k->sp[i];
    nib_code rc = nib_commit_plain(keep, t->tensor, t->v, err);
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
    return again ? nib_commit_plain(keep, t->tensor, t->v, err) : NIB_OK;
}

static nib_code divide_producer(nib_rescale_job *k, nib_commit *keep, nib_err *err)
{
    nib_layer_weight *w = &k->b->weight[k->sc->producer], *bias = &k->b->bias[k->sc->producer];
    if (w->tensor->rows == 1) {
        nib_code rc = divide_vector(k, w, true, keep, err);
        return !rc && bias->tensor ? divide_vector(k, bias, false, keep, err) : rc;
    }
    const size_t cols = (size_t)w->tensor->cols;
    for (size_t i = 0; i < k->width; i++)
        for (size_t j = 0; j < cols; j++) w->v[i * cols + j] /= k->sp[i];
    return bias->tensor ? divide_vector(k, bias, false, keep, err) : NIB_OK;
}

static nib_code apply(nib_rescale_job *k, nib_commit *keep, nib_err *err)
{
    for (size_t j = 0; j < k->cols; j++) k->sp[nib_rescale_producer_channel(k, j)] = k->s[j];
    nib_code rc = divide_producer(k, keep, err);
    for (size_t j = 0; j < k->cols; j++) k->s[j] = k->sp[nib_rescale_producer_channel(k, j)];
    for (size_t i = 0; i < k->sc->n_readers && !rc; i++) {
        nib_layer_weight *w = &k->b->weight[k->sc->reader[i]];
        rc = nib_rescale_columns(k, w->v, w->v, k->s, (size_t)w->tensor->rows, false, err);
    }
    if (!rc) nib_hessian_divide(k->in, k->s);
    return rc;
}

/* The block still computes the same. */
static nib_code check(nib_rescale_job *k, nib_err *err)
{
    const size_t n = k->r->runner->w->n_ctx * k->r->p->model->hp.n_embd;
    const float *in = k->r->block_in.p, *out = k->r->block_out.p, *now = k->r->runner->now;
    nib_code rc = nib_rescale_run(k->r, k->b, 1, NULL, err);
    if (rc) return rc;
    const double change = nib_rescale_difference(out, in, n);
    const double off = sqrt(nib_rescale_difference(now, out, n) / change);
    if (off <= NIB_RESCALE_TOLERANCE || change == 0) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC,
                    "rescaling the input of '%s' changes the block's output by %.2g of it, at most "
                    "%g is allowed",
                    k->b->weight[k->sc->reader[0]].tensor->name, off, NIB_RESCALE_TOLERANCE);
}

/* ---- a block ---- */

/* A bias that is stored with fewer bits than f32 would be rounded once more. */
static bool exact_bias(const nib_layer_weight *bias)
{
    return bias->tensor && bias->tensor->codec->type == NIB_F32;
}

/* Is all of it ours to write? */
static bool may_rescale(const nib_rescaler *r, const nib_layer_weights *b, const nib_input *sc)
{
    const nib_param *producer = nib_model_param(r->p->model, b->layer, sc->producer);
    if (!b->weight[sc->producer].tensor) return false;
    if (producer->bias && !exact_bias(&b->bias[sc->producer])) return false;
    for (size_t i = 0; i < sc->n_readers; i++)
        if (!b->weight[sc->reader[i]].tensor) return false;
    return true;
}

/* ---- the same search once ---- */

static uint64_t hash_weight(uint64_t h, const nib_layer_weight *w)
{
    const nib_plan_tensor *t = w->tensor;
    if (!t) return nib_hash(h, "", 1);
    const nib_packing *f = &t->layout.format;
    const double how[] = {f->kind,     f->bits,   (double)f->group, f->per_tensor, f->sym,
                          f->desc_act, f->v2,     f->scale_type,    f->act,        f->act_sym,
                          f->fp4,      f->nested, (double)f->rows,  f->act_float};
    h = nib_hash(h, how, sizeof how);
    h = nib_hash(h, t->codec->name, strlen(t->codec->name) + 1);
    return nib_hash(h, w->v, (size_t)(t->rows * t->cols) * sizeof *w->v);
}

/* Of all that nib_rescale_choose() looks at: the block with its formats, the windows, and what was
 * seen of the input. */
static uint64_t search_key(const nib_rescale_job *k)
{
    const nib_rescaler *r = k->r;
    const nib_layer_weights *b = k->b;
    const size_t rows = r->n_seq * r->runner->w->n_ctx, cols = k->cols;
    const double how[] = {r->p->recipe.transform,     r->opts.alpha,       b->layer,
                          (double)k->sc->reader[0],   (double)k->in->rows, (double)rows,
                          (double)r->p->recipe.scales};
    const float *diagonal = k->in->h.p;
    uint64_t h = nib_hash(NIB_HASH_START, how, sizeof how);
    for (int i = 0; i < NIB_ROLE_COUNT; i++) {
        h = hash_weight(h, &b->weight[i]);
        h = hash_weight(h, &b->bias[i]);
    }
    for (size_t i = 0; i < cols; i++) h = nib_hash(h, &diagonal[i * cols + i], sizeof *diagonal);
    h = nib_hash(h, k->in->sum.p, cols * sizeof(double));
    h = nib_hash(h, k->in->most.p, cols * sizeof(float));
    return nib_hash(h, r->block_in.p, rows * r->p->model->hp.n_embd * sizeof(float));
}

/* By the search, or from what another output's found. */
static nib_code choose(nib_rescale_job *k, nib_rescale_line *line, nib_err *err)
{
    nib_rescale_memo *m = k->r->memo;
    const size_t bytes = k->cols * sizeof *k->s;
    if (!m) return nib_rescale_choose(k, line, err);
    const uint64_t key = search_key(k);
    for (size_t i = 0; i < m->n; i++) {
        if (m->found[i].key != key) continue;
        memcpy(k->s, m->found[i].scales.p, bytes);
        *line = (nib_rescale_line){line->name, m->found[i].chosen, m->found[i].unscaled,
                                   m->found[i].scaled};
        return NIB_OK;
    }
    nib_code rc = nib_rescale_choose(k, line, err);
    if (rc || m->n == sizeof m->found / sizeof *m->found) return rc;
    float *s = nib_buf_reserve(&m->found[m->n].scales, k->cols, sizeof *s);
    if (!s) return nib_fail_nomem(err, "scales");
    memcpy(s, k->s, bytes);
    m->found[m->n].key = key;
    m->found[m->n].chosen = line->chosen;
    m->found[m->n].unscaled = line->unscaled;
    m->found[m->n++].scaled = line->scaled;
    return NIB_OK;
}

static nib_code rescale(nib_rescaler *r, nib_layer_weights *b, const nib_input *sc, nib_hessians *m,
                        nib_commit *keep, nib_rescale_line *line, nib_err *err)
{
    const nib_plan_tensor *first = b->weight[sc->reader[0]].tensor;
    const nib_plan_tensor *producer = b->weight[sc->producer].tensor;
    const size_t cols = (size_t)first->cols;
    nib_rescale_job k = {.r = r,
                         .b = b,
                         .sc = sc,
                         .in = nib_hessians_find(m, sc->reader[0]),
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
    nib_code rc = choose(&k, line, err);
    if (!rc) rc = apply(&k, keep, err);
    if (!rc) rc = check(&k, err);
    return rc ? nib_wrap(err, "rescaling the input of '%s'", first->name) : NIB_OK;
}

/* Vectors that no scaling changed are written as they are. */
static nib_code keep_untouched(nib_layer_weights *b, const bool *touched, nib_commit *keep,
                               nib_err *err)
{
    nib_code rc = NIB_OK;
    for (int r = 0; r < NIB_ROLE_COUNT && !rc; r++) {
        nib_layer_weight *both[] = {&b->weight[r], &b->bias[r]};
        for (int i = 0; i < 2 && !rc; i++)
            if (both[i]->tensor && !both[i]->tensor->codec->quantized && !touched[r])
                rc = nib_commit_plain(keep, both[i]->tensor, both[i]->v, err);
    }
    return rc;
}

nib_code nib_rescale_block(nib_rescaler *r, nib_layer_weights *b, nib_hessians *m, nib_commit *keep,
                           nib_rescale_line *lines, size_t *n_lines, nib_err *err)
{
    nib_inputs inputs;
    bool touched[NIB_ROLE_COUNT] = {false};
    nib_code rc = NIB_OK;
    *n_lines = 0;
    nib_steps_inputs(&inputs, nib_model_steps(r->p->model, b->layer));
    for (size_t i = 0; i < inputs.n && !rc; i++) {
        const nib_input *sc = &inputs.input[i];
        if (!sc->producer || !may_rescale(r, b, sc)) continue;
        rc = rescale(r, b, sc, m, keep, &lines[*n_lines], err);
        touched[sc->producer] = true;
        ++*n_lines;
    }
    return rc ? rc : keep_untouched(b, touched, keep, err);
}
