/* SPDX-License-Identifier: MIT */
/* infer/graph.c - the forward pass in steps; see graph.h.
 *
 * One block, for every architecture so far:
 *
 *     h = rmsnorm(x);  q, k, v = W h (+ b);  q, k = [rmsnorm per head,] rotate
 *     x += Wo attention(q, k, v)
 *     h = rmsnorm(x);  x += Wdown (silu(Wgate h) * Wup h)
 *
 * What differs (biases, head norms, layout of the rotation) is known from the tensors that are
 * there. Vectors are decoded once (graph_state.c), matrices each time (linear.c). */
#include "infer/graph_state.h"

#include "base/par.h"
#include "infer/attn.h"

#include <assert.h>
#include <string.h>

enum {
    LOGITS_MAX = 32 << 20, /* floats of logits held at once, 128 MiB          */
    LOGITS_ROWS = 512,     /* and rows: more would not make the product faster */
    ROW_CHUNK = 16,        /* rows of a task in loops over rows                */
};

/* ---- embedding ---- */

typedef struct {
    nib_graph *g;
    const int32_t *ids;
    float *x;
} embedding;

static nib_code embed_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const embedding *e = arg;
    const nib_tensor *t = e->g->m->global[NIB_ROLE_TOKEN_EMBD].weight;
    const size_t width = e->g->m->hp.n_embd;
    for (size_t i = begin; i < end; i++) {
        if (e->ids[i] < 0 || (uint32_t)e->ids[i] >= e->g->m->hp.n_vocab)
            return nib_fail(err, NIB_EINVAL, "token %ld is outside the model's vocabulary of %u",
                            (long)e->ids[i], e->g->m->hp.n_vocab);
        nib_code rc =
            nib_source_read_rows(e->g->m->src, t, (uint64_t)e->ids[i], 1, e->x + i * width,
                                 &e->g->linear.thread[thread].raw, e->g->ctx.cpu, err);
        if (rc) return nib_wrap(err, "tensor '%s'", t->name);
    }
    return NIB_OK;
}

nib_code nib_graph_embed(nib_graph *g, const int32_t *ids, size_t rows, float *x, nib_err *err)
{
    embedding e = {g, ids, x};
    return nib_par_for(g->ctx.threads, rows, ROW_CHUNK, embed_rows, &e, err);
}

/* ---- a block ---- */

typedef struct {
    nib_graph *g;
    uint32_t layer;
    size_t n_seq, n_tok, pos, rows;
    float *x, *h;        /* [rows][n_embd] */
    float *q, *k, *v;    /* [rows][...]    */
    float *gate, *up;    /* [rows][n_ff]   */
    const float *weight; /* of the norm    */
    const nib_observer *obs;
} step;

static nib_code norm_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const step *s = arg;
    const size_t width = s->g->m->hp.n_embd;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++)
        s->g->ops->rmsnorm(s->h + i * width, s->x + i * width, s->weight, width,
                           s->g->m->hp.norm_eps);
    return NIB_OK;
}

static nib_code norm(step *s, nib_role r, nib_err *err)
{
    s->weight = nib_graph_vectors_of(s->g, s->layer, r).weight;
    return nib_par_for(s->g->ctx.threads, s->rows, ROW_CHUNK, norm_rows, s, err);
}

static nib_code watch(const step *s, const nib_role *roles, size_t n, const float *x, size_t cols,
                      nib_err *err)
{
    if (!s->obs || !s->obs->linear_input) return NIB_OK;
    return s->obs->linear_input(s->obs->arg, s->layer, roles, n, x, s->rows, cols, err);
}

static nib_code linear(const step *s, nib_role r, const float *x, float *y, bool add, nib_err *err)
{
    nib_graph *g = s->g;
    const nib_tensor *w = nib_model_param(g->m, s->layer, r)->weight;
    const float *own = g->replaced[r].weight;
    nib_code rc = NIB_OK;
    if (own && g->act[r])
        rc = nib_linear_round(&g->linear, g->act[r], x, s->rows, (size_t)nib_tensor_cols(w), &x,
                              err);
    return rc ? rc
              : nib_linear_apply(&g->linear, w, own, nib_graph_vectors_of(g, s->layer, r).bias, x,
                                 s->rows, y, add, err);
}

/* Norm per head, where the model has one, and rotation to position `pos`. */
static void place_heads(const nib_graph *g, float *x, size_t n_head, const float *weight,
                        size_t pos)
{
    const size_t dim = g->m->hp.head_dim, half = dim / 2;
    for (float *end = x + n_head * dim; x < end; x += dim) {
        if (weight) g->ops->rmsnorm(x, x, weight, dim, g->m->hp.norm_eps);
        if (g->m->rope_interleaved)
            g->ops->rope_pairs(x, g->cosine + pos * half, g->sine + pos * half, half);
        else
            g->ops->rope_halves(x, g->cosine + pos * half, g->sine + pos * half, half);
    }
}

static size_t cache_offset(const step *s, size_t seq, size_t pos)
{
    return (((size_t)s->layer * s->g->max_seq + seq) * s->g->max_ctx + pos) *
           nib_graph_kv_width(s->g);
}

static nib_code place_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const step *s = arg;
    const nib_hparams *hp = &s->g->m->hp;
    const size_t kv = nib_graph_kv_width(s->g);
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++) {
        size_t pos = s->pos + i % s->n_tok;
        place_heads(s->g, s->q + i * nib_graph_q_width(s->g), hp->n_head,
                    nib_graph_vectors_of(s->g, s->layer, NIB_ROLE_ATTN_Q_NORM).weight, pos);
        place_heads(s->g, s->k + i * kv, hp->n_head_kv,
                    nib_graph_vectors_of(s->g, s->layer, NIB_ROLE_ATTN_K_NORM).weight, pos);
        if (!s->g->k_cache) continue;
        size_t off = cache_offset(s, i / s->n_tok, pos);
        memcpy(s->g->k_cache + off, s->k + i * kv, kv * sizeof(float));
        memcpy(s->g->v_cache + off, s->v + i * kv, kv * sizeof(float));
    }
    return NIB_OK;
}

/* From the normed input in h to the heads' outputs in q. */
static nib_code attend(step *s, nib_err *err)
{
    nib_graph *g = s->g;
    const nib_hparams *hp = &g->m->hp;
    const size_t kv = nib_graph_kv_width(g);
    nib_code rc;
    if ((rc = linear(s, NIB_ROLE_ATTN_Q, s->h, s->q, false, err))) return rc;
    if ((rc = linear(s, NIB_ROLE_ATTN_K, s->h, s->k, false, err))) return rc;
    if ((rc = linear(s, NIB_ROLE_ATTN_V, s->h, s->v, false, err))) return rc;
    if ((rc = nib_par_for(g->ctx.threads, s->rows, ROW_CHUNK, place_rows, s, err))) return rc;
    nib_attn a = {
        .n_seq = s->n_seq,
        .n_tok = s->n_tok,
        .pos = s->pos,
        .window = nib_layer_window(hp, s->layer),
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .q = s->q,
        .k = g->k_cache ? g->k_cache + cache_offset(s, 0, 0) : s->k,
        .v = g->v_cache ? g->v_cache + cache_offset(s, 0, 0) : s->v,
        .kv_stride = (g->k_cache ? g->max_ctx : s->n_tok) * kv,
        .ops = g->ops,
        .threads = g->ctx.threads,
        .scratch = g->scratch,
    };
    return nib_attention(&a, err);
}

static nib_code attention(step *s, nib_err *err)
{
    static const nib_role inputs[] = {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V};
    static const nib_role output = NIB_ROLE_ATTN_OUTPUT;
    nib_code rc;
    if ((rc = norm(s, NIB_ROLE_ATTN_NORM, err))) return rc;
    if ((rc = watch(s, inputs, 3, s->h, s->g->m->hp.n_embd, err))) return rc;
    if ((rc = attend(s, err))) return rc;
    if ((rc = watch(s, &output, 1, s->q, nib_graph_q_width(s->g), err))) return rc;
    return linear(s, output, s->q, s->x, true, err);
}

static nib_code swiglu_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const step *s = arg;
    const size_t n_ff = s->g->m->hp.n_ff;
    (void)thread, (void)err;
    s->g->ops->swiglu(s->gate + begin * n_ff, s->up + begin * n_ff, (end - begin) * n_ff);
    return NIB_OK;
}

/* From the normed input in h to the gated products in gate. */
static nib_code gated(step *s, nib_err *err)
{
    nib_code rc;
    if ((rc = linear(s, NIB_ROLE_FFN_GATE, s->h, s->gate, false, err))) return rc;
    if ((rc = linear(s, NIB_ROLE_FFN_UP, s->h, s->up, false, err))) return rc;
    return nib_par_for(s->g->ctx.threads, s->rows, ROW_CHUNK, swiglu_rows, s, err);
}

static nib_code feed_forward(step *s, nib_err *err)
{
    static const nib_role inputs[] = {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP};
    static const nib_role down = NIB_ROLE_FFN_DOWN;
    nib_code rc;
    if ((rc = norm(s, NIB_ROLE_FFN_NORM, err))) return rc;
    if ((rc = watch(s, inputs, 2, s->h, s->g->m->hp.n_embd, err))) return rc;
    if ((rc = gated(s, err))) return rc;
    if ((rc = watch(s, &down, 1, s->gate, s->g->m->hp.n_ff, err))) return rc;
    return linear(s, down, s->gate, s->x, true, err);
}

/* Room for what a batch becomes inside a block. */
static nib_code reserve(step *s, nib_err *err)
{
    nib_graph *g = s->g;
    const size_t q = nib_graph_q_width(g), kv = nib_graph_kv_width(g), n_ff = g->m->hp.n_ff;
    const size_t wide = q + 2 * kv > 2 * n_ff ? q + 2 * kv : 2 * n_ff;
    if (!nib_mul(s->n_seq, s->n_tok, &s->rows)) return nib_fail_nomem(err, "activations");
    float *work = nib_buf_reserve(&g->work, s->rows, wide * sizeof(float));
    if (!work) return nib_fail_nomem(err, "activations");
    s->q = work;
    s->k = s->q + s->rows * q;
    s->v = s->k + s->rows * kv;
    s->gate = work;
    s->up = s->gate + s->rows * n_ff;
    return NIB_OK;
}

nib_code nib_graph_branch(nib_graph *g, uint32_t layer, nib_role role, const float *x, size_t n_seq,
                          size_t n_tok, float *y, nib_err *err)
{
    step s = {.g = g, .layer = layer, .n_seq = n_seq, .n_tok = n_tok, .h = (float *)x};
    nib_role last = role;
    assert(!g->k_cache && layer < g->m->hp.n_layer && n_seq <= g->max_seq && n_tok <= g->max_ctx);
    nib_code rc = reserve(&s, err);
    if (!rc && (role == NIB_ROLE_FFN_GATE || role == NIB_ROLE_FFN_UP)) {
        last = NIB_ROLE_FFN_DOWN;
        rc = gated(&s, err);
        x = s.gate;
    } else if (!rc && role != NIB_ROLE_FFN_DOWN && role != NIB_ROLE_ATTN_OUTPUT) {
        last = NIB_ROLE_ATTN_OUTPUT;
        rc = attend(&s, err);
        x = s.q;
    }
    if (!rc) rc = linear(&s, last, x, y, false, err);
    return rc ? nib_wrap(err, "block %u", layer) : NIB_OK;
}

nib_code nib_graph_block(nib_graph *g, uint32_t layer, float *x, size_t n_seq, size_t n_tok,
                         size_t pos, const nib_observer *obs, nib_err *err)
{
    assert(layer < g->m->hp.n_layer && n_seq <= g->max_seq && n_tok <= g->max_ctx);
    assert(pos <= g->max_ctx - n_tok && (pos == 0 || g->k_cache));
    step s = {
        .g = g, .layer = layer, .n_seq = n_seq, .n_tok = n_tok, .pos = pos, .x = x, .obs = obs};
    nib_code rc = reserve(&s, err);
    if (rc || !s.rows) return rc;
    s.h = nib_buf_reserve(&g->hidden, s.rows, g->m->hp.n_embd * sizeof(float));
    if (!s.h) return nib_fail_nomem(err, "activations");
    rc = attention(&s, err);
    if (!rc) rc = feed_forward(&s, err);
    return rc ? nib_wrap(err, "block %u", layer) : NIB_OK;
}

/* ---- logits ---- */

typedef struct {
    nib_graph *g;
    const float *x, *logits;
    float *h;
    const size_t *rows;
    size_t first; /* index of the group's first row in the caller's list */
    nib_logits_fn *fn;
    void *arg;
} head;

static nib_code head_norm(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const head *s = arg;
    const size_t width = s->g->m->hp.n_embd;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++)
        s->g->ops->rmsnorm(s->h + i * width, s->x + s->rows[s->first + i] * width,
                           s->g->global[NIB_ROLE_OUTPUT_NORM].weight, width, s->g->m->hp.norm_eps);
    return NIB_OK;
}

static nib_code head_deliver(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const head *s = arg;
    const size_t n_vocab = s->g->m->hp.n_vocab;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++)
        s->fn(s->arg, s->first + i, s->logits + i * n_vocab, n_vocab);
    return NIB_OK;
}

/* One group of n rows: norm, product, delivery. */
static nib_code head_group(head *s, const nib_tensor *w, float *logits, size_t n,
                           const nib_observer *obs, nib_err *err)
{
    static const nib_role role = NIB_ROLE_OUTPUT;
    nib_graph *g = s->g;
    nib_code rc = nib_par_for(g->ctx.threads, n, ROW_CHUNK, head_norm, s, err);
    if (rc) return rc;
    if (obs && obs->linear_input &&
        (rc = obs->linear_input(obs->arg, 0, &role, 1, s->h, n, g->m->hp.n_embd, err)))
        return rc;
    if (!s->fn) return NIB_OK;
    if ((rc = nib_linear_apply(&g->linear, w, NULL, NULL, s->h, n, logits, false, err))) return rc;
    return nib_par_for(g->ctx.threads, n, 1, head_deliver, s, err);
}

nib_code nib_graph_logits(nib_graph *g, const float *x, const size_t *rows, size_t n,
                          nib_logits_fn *fn, void *arg, const nib_observer *obs, nib_err *err)
{
    const nib_tensor *w =
        g->m->global[g->m->hp.tied ? NIB_ROLE_TOKEN_EMBD : NIB_ROLE_OUTPUT].weight;
    size_t most = LOGITS_MAX / g->m->hp.n_vocab;
    if (!n) return NIB_OK;
    if (most < ROW_CHUNK) most = ROW_CHUNK;
    if (most > LOGITS_ROWS) most = LOGITS_ROWS;
    /* Groups of equal size, the last a little smaller. */
    size_t groups = (n + most - 1) / most, each = (n + groups - 1) / groups;
    head s = {.g = g, .x = x, .rows = rows, .fn = fn, .arg = arg};
    float *logits = NULL;
    if (fn) logits = nib_buf_reserve(&g->logits, each, g->m->hp.n_vocab * sizeof *logits);
    s.h = nib_buf_reserve(&g->hidden, each, g->m->hp.n_embd * sizeof *s.h);
    if ((fn && !logits) || !s.h) return nib_fail_nomem(err, "logits");
    s.logits = logits;
    for (s.first = 0; s.first < n; s.first += each) {
        size_t now = n - s.first < each ? n - s.first : each;
        nib_code rc = head_group(&s, w, logits, now, obs, err);
        if (rc) return rc;
    }
    return NIB_OK;
}
