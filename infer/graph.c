/* SPDX-License-Identifier: MIT */
/* infer/graph.c - the forward pass in steps; see graph.h.
 *
 * What a block computes is a list of steps (step.h), done one after the other: a matrix product
 * (linear.c), attention (attn.c), or a run of steps that go row by row. Vectors are decoded once
 * (graph_state.c), matrices each time. */
#include "infer/graph_state.h"

#include "base/par.h"
#include "infer/attn.h"
#include "infer/delta.h"
#include "infer/route.h"

#include <assert.h>
#include <math.h>
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
    size_t width;
} embedding;

static void norm_with(const nib_graph *g, float eps, float *y, const float *x, nib_graph_vectors v,
                      size_t n)
{
    if (g->m->hp.layer_norm)
        g->ops->layernorm(y, x, v.weight, v.bias, n, eps);
    else
        g->ops->rmsnorm(y, x, v.weight, n, eps);
}

static void apply_norm(const nib_graph *g, float *y, const float *x, nib_graph_vectors v, size_t n)
{
    norm_with(g, g->m->hp.norm_eps, y, x, v, n);
}

static nib_graph_vectors plain_norm(const nib_graph *g)
{
    return (nib_graph_vectors){g->ones, NULL};
}

/* Those of latent vectors have one of their own. */
static float eps_of(const nib_graph *g, nib_role norm)
{
    const bool latent = norm == NIB_ROLE_ATTN_Q_A_NORM || norm == NIB_ROLE_ATTN_KV_A_NORM;
    return latent ? NIB_LATENT_EPS : g->m->hp.norm_eps;
}

static nib_code embed_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const embedding *e = arg;
    const nib_tensor *t = e->g->m->global[NIB_ROLE_TOKEN_EMBD].weight;
    const size_t width = e->width;
    for (size_t i = begin; i < end; i++) {
        if (e->ids[i] < 0 || (uint32_t)e->ids[i] >= e->g->m->hp.n_vocab)
            return nib_fail(err, NIB_EINVAL, "token %ld is outside the model's vocabulary of %u",
                            (long)e->ids[i], e->g->m->hp.n_vocab);
        nib_code rc =
            nib_source_read_rows(e->g->m->src, t, (uint64_t)e->ids[i], 1, e->x + i * width,
                                 &e->g->linear.thread[thread].raw, e->g->ctx.cpu, err);
        if (rc) return nib_wrap(err, "tensor '%s'", t->name);
        const float scale = e->g->m->hp.embd_scale;
        for (size_t j = 0; scale != 1 && j < width; j++) e->x[i * width + j] *= scale;
        const nib_graph_vectors norm = nib_graph_vectors_of(e->g, 0, NIB_ROLE_EMBD_NORM);
        if (norm.weight) apply_norm(e->g, e->x + i * width, e->x + i * width, norm, width);
    }
    return NIB_OK;
}

nib_code nib_graph_embed(nib_graph *g, const int32_t *ids, size_t rows, float *x, nib_err *err)
{
    const nib_tensor *in = g->m->global[NIB_ROLE_EMBD_IN].weight;
    embedding e = {g, ids, x, g->m->hp.n_embd_in};
    if (in && !(e.x = nib_buf_reserve(&g->narrow, rows, e.width * sizeof *x)))
        return nib_fail_nomem(err, "embeddings");
    nib_code rc = nib_par_for(g->ctx.threads, rows, ROW_CHUNK, embed_rows, &e, err);
    return rc || !in ? rc : nib_linear_apply(&g->linear, in, NULL, NULL, e.x, rows, x, 0, err);
}

/* ---- a block ---- */

/* Where a step's operands lie, each [rows][width of the register]. */
typedef struct {
    float *to, *a, *b;
    float *k, *v; /* of ATTEND */
    float *decay; /* of DELTA  */
} operands;

/* A list of steps at work on a batch. */
typedef struct {
    nib_graph *g;
    const nib_steps *steps;
    uint32_t layer;
    size_t n_seq, n_tok, pos, rows;
    size_t width[NIB_REG_COUNT];
    operands at[NIB_STEPS_MAX];
    size_t first, end; /* steps that are being done row by row */
    const nib_observer *obs;
    /* Of one expert at its tokens: */
    uint32_t expert;
    const uint32_t *token; /* [rows] of the batch */
    const float *share;    /* [rows]              */
} block;

/* Room for what a batch becomes inside a block, and where in it each step works from `first` on.
 * `in`: what the first one reads, when it is not the residual stream. */
static nib_code bind(block *s, size_t first, float *x, float *in, nib_err *err)
{
    size_t at[NIB_STEPS_MAX];
    float *reg[NIB_REG_COUNT] = {NULL};
    nib_model_widths(s->width, &s->g->m->hp);
    const size_t row = nib_steps_layout(at, s->steps, s->width);
    if (!nib_mul(s->n_seq, s->n_tok, &s->rows)) return nib_fail_nomem(err, "activations");
    float *work = nib_buf_reserve(&s->g->work, s->rows, row * sizeof(float));
    if (!work) return nib_fail_nomem(err, "activations");
    if (s->g->m->hp.n_expert && !nib_route_reserve(s->g, s->rows))
        return nib_fail_nomem(err, "routes of tokens");
    reg[NIB_REG_X] = x;
    if (in) reg[s->steps->step[first].a] = in;
    for (size_t i = first; i < s->steps->n; i++) {
        const nib_step *t = &s->steps->step[i];
        operands *o = &s->at[i];
        *o = (operands){.a = reg[t->a],
                        .b = reg[t->b],
                        .k = reg[NIB_REG_K],
                        .v = reg[NIB_REG_V],
                        .decay = reg[NIB_REG_LA]};
        if (t->to != NIB_REG_X) reg[t->to] = work + at[i] * s->rows;
        o->to = t->to == NIB_REG_X ? x : reg[t->to];
    }
    return NIB_OK;
}

/* Does each row of the result depend on its own row alone, and cost little? */
static bool is_by_rows(const nib_step *t)
{
    return !(t->flags & NIB_STEP_EXPERT) && t->op != NIB_OP_LINEAR && t->op != NIB_OP_ATTEND &&
           t->op != NIB_OP_CONVOLVE && t->op != NIB_OP_DELTA;
}

/* Where a register's columns begin among those of the joint one, for a head; heads lie one after
 * the other there, or by groups of a key and value head with its queries. */
static size_t part_at(const block *s, nib_reg r, size_t head)
{
    const nib_hparams *hp = &s->g->m->hp;
    const size_t q_per_kv = hp->n_head / hp->n_head_kv;
    const size_t nth = r == NIB_REG_Q ? head % q_per_kv : q_per_kv + (r == NIB_REG_V);
    const size_t group = r == NIB_REG_Q ? head / q_per_kv : head;
    if (s->g->m->qkv_by_head) return (group * (q_per_kv + 2) + nth) * hp->head_dim;
    const size_t before = r == NIB_REG_Q ? 0 : hp->n_head + (r == NIB_REG_V ? hp->n_head_kv : 0);
    return (before + head) * hp->head_dim;
}

/* Parts of what is joint by key heads: each head's query, key, values and gates, or its betas and
 * alphas. */
static void take_linear(const nib_hparams *hp, const nib_step *t, float *to, const float *from)
{
    const size_t heads = hp->n_lin_k, per = hp->n_lin_v / heads, key = hp->lin_k_dim,
                 value = per * hp->lin_v_dim;
    for (size_t h = 0; h < heads; h++) {
        const float *in = from + h * (2 * key + 2 * value), *ba = from + h * 2 * per;
        if (t->to == NIB_REG_L) {
            memcpy(to + h * key, in, key * sizeof *to);
            memcpy(to + (heads + h) * key, in + key, key * sizeof *to);
            memcpy(to + 2 * heads * key + h * value, in + 2 * key, value * sizeof *to);
        } else if (t->to == NIB_REG_LZ) {
            memcpy(to + h * value, in + 2 * key + value, value * sizeof *to);
        } else {
            memcpy(to + h * per, ba + (t->to == NIB_REG_LA ? per : 0), per * sizeof *to);
        }
    }
}

static void take_part(const block *s, const nib_step *t, float *to, const float *from)
{
    const nib_hparams *hp = &s->g->m->hp;
    const size_t width = s->width[t->to], dim = hp->head_dim, v_dim = hp->value_dim;
    const size_t key = dim - hp->rope_dim, each = key + v_dim; /* of a head in KV */
    if (t->a == NIB_REG_QKV)
        for (size_t h = 0; h < width / dim; h++)
            memcpy(to + h * dim, from + part_at(s, t->to, h), dim * sizeof *to);
    else if (t->a == NIB_REG_KV)
        for (size_t h = 0; h < width / v_dim; h++)
            memcpy(to + h * v_dim, from + h * each + key, v_dim * sizeof *to);
    else if (t->a == NIB_REG_QG)
        for (size_t h = 0; h < width / dim; h++)
            memcpy(to + h * dim, from + (2 * h + (t->to == NIB_REG_AG)) * dim, dim * sizeof *to);
    else if (t->a == NIB_REG_LI || t->a == NIB_REG_LBA)
        take_linear(hp, t, to, from);
    else if (t->to == NIB_REG_P)
        memcpy(to, from + s->width[t->a] - width, width * sizeof *to);
    else
        memcpy(to, from + (t->to == NIB_REG_U ? width : 0), width * sizeof *to);
}

/* Keys of heads: their own part of `kv`, then `turned`, which all have. */
static void make_keys(const block *s, float *to, const float *kv, const float *turned)
{
    const nib_hparams *hp = &s->g->m->hp;
    const size_t dim = hp->head_dim, key = dim - hp->rope_dim, each = key + hp->value_dim;
    for (size_t h = 0; h < hp->n_head; h++) {
        memcpy(to + h * dim, kv + h * each, key * sizeof *to);
        memcpy(to + h * dim + key, turned, hp->rope_dim * sizeof *to);
    }
}

/* A norm of each head, with the same weight, one of each, or none. */
static void norm_heads(const block *s, const nib_step *t, float *to, nib_graph_vectors v)
{
    const nib_graph *g = s->g;
    const size_t width = s->width[t->to],
                 dim = t->to == NIB_REG_LO ? g->m->hp.lin_v_dim : g->m->hp.head_dim;
    const nib_tensor *w = t->weight ? nib_model_param(g->m, s->layer, t->weight)->weight : NULL;
    const size_t own = w && nib_tensor_elems(w) > dim ? dim : 0;
    if (!t->weight && !(g->m->hp.unit_heads && nib_layer_turns(&g->m->hp, s->layer))) return;
    if (!t->weight) v.weight = g->ones;
    for (size_t at = 0, h = 0; at < width; at += dim, h++)
        apply_norm(g, to + at, to + at,
                   (nib_graph_vectors){v.weight + h * own, v.bias ? v.bias + h * own : NULL}, dim);
}

/* `to`: heads, or what is turned of keys alone. */
static void turn(const block *s, const nib_step *t, float *to, size_t row)
{
    const size_t width = s->width[t->to];
    const nib_graph *g = s->g;
    const nib_hparams *hp = &g->m->hp;
    const size_t half = hp->rope_dim / 2, pos = (s->pos + row % s->n_tok) * half;
    const bool own = hp->rope_base_sliding > 0 && nib_layer_window(hp, s->layer);
    const size_t each = t->to == NIB_REG_P ? hp->rope_dim : hp->head_dim;
    const size_t skip = hp->kv_rank ? each - hp->rope_dim : 0;
    for (float *end = to + width; to < end; to += each)
        (g->m->rope_interleaved ? g->ops->rope_pairs : g->ops->rope_halves)(
            to + skip, g->turn[own].cosine + pos, g->turn[own].sine + pos, half);
}

static void temper(const block *s, float *to, size_t width, size_t row)
{
    const nib_hparams *hp = &s->g->m->hp;
    const bool chunks = hp->temper_length != 0; /* and the layers that see all are tempered */
    const double pos = (double)(s->pos + row % s->n_tok + chunks);
    if (!(hp->temper > 0) || (chunks && nib_layer_turns(hp, s->layer))) return;
    const float by = (float)(1 + (double)hp->temper * log1p(floor(pos / (double)hp->temper_floor)));
    for (size_t j = 0; j < width; j++) to[j] *= by;
}

/* gate sigmoid(1.702 gate) (up + 1), the gate at most 7 and up from -7 to 7: gpt-oss. */
static void clamped_glu(float *gate, const float *up, size_t n)
{
    const float limit = 7, alpha = 1.702f;
    for (size_t j = 0; j < n; j++) {
        const float g = gate[j] < limit ? gate[j] : limit;
        const float u = up[j] < -limit ? -limit : up[j] < limit ? up[j] : limit;
        gate[j] = (u + 1) * g / (1 + expf(-alpha * g));
    }
}

static void gelu(float *x, size_t n)
{
    for (size_t j = 0; j < n; j++) x[j] = x[j] / 2 * (1 + erff(x[j] * 0.70710678f));
}

/* x = act(x) up */
static void gate(const nib_graph *g, float *x, const float *up, size_t n)
{
    switch (g->m->hp.act) {
    case NIB_ACT_SILU: g->ops->swiglu(x, up, n); return;
    case NIB_ACT_GELU_TANH: g->ops->geglu(x, up, n); return;
    case NIB_ACT_GELU: gelu(x, n); break;
    case NIB_ACT_GELU_QUICK:
        for (size_t j = 0; j < n; j++) x[j] /= 1 + expf(-1.702f * x[j]);
        break;
    case NIB_ACT_RELU:
        for (size_t j = 0; j < n; j++) x[j] = x[j] > 0 ? x[j] : 0;
        break;
    case NIB_ACT_RELU_SQUARED:
        for (size_t j = 0; j < n; j++) x[j] = x[j] > 0 ? x[j] * x[j] : 0;
        break;
    }
    for (size_t j = 0; j < n; j++) x[j] *= up[j];
}

static void step_row(const block *s, size_t step, size_t row)
{
    nib_graph *g = s->g;
    const nib_step *t = &s->steps->step[step];
    const nib_hparams *hp = &g->m->hp;
    const size_t width = s->width[t->to];
    const nib_graph_vectors v =
        t->weight ? nib_graph_vectors_of(g, s->layer, t->weight) : (nib_graph_vectors){NULL, NULL};
    float *to = s->at[step].to + row * width, *end = to + width;
    const float *a = s->at[step].a + row * s->width[t->a];
    const float *b = s->at[step].b + row * s->width[t->b];
    if (t->flags & NIB_STEP_OPTIONAL && !v.weight && t->op != NIB_OP_ROUTE) return;
    switch (t->op) {
    case NIB_OP_NORM:
        norm_with(g, eps_of(g, t->weight), to, a, t->weight ? v : plain_norm(g), width);
        break;
    case NIB_OP_HEAD_NORM: norm_heads(s, t, to, v); break;
    case NIB_OP_PART: take_part(s, t, to, a); break;
    case NIB_OP_KEYS: make_keys(s, to, a, b); break;
    case NIB_OP_ROPE:
        if (nib_layer_turns(hp, s->layer)) turn(s, t, to, row);
        break;
    case NIB_OP_STEP_SIZE:
        for (size_t j = 0; j < width; j++) {
            const double x = (double)to[j] + (double)v.weight[j];
            to[j] = (float)(x > 40 ? x : log1p(exp(x)));
        }
        break;
    case NIB_OP_DECAY:
        for (size_t j = 0; j < width; j++) to[j] = (float)exp((double)v.weight[j] * (double)to[j]);
        break;
    case NIB_OP_TEMPER: temper(s, to, width, row); break;
    case NIB_OP_GLU: gate(g, to, b, width); break;
    case NIB_OP_GLU_CLAMP: clamped_glu(to, b, width); break;
    case NIB_OP_ACT: gate(g, to, g->ones, width); break;
    case NIB_OP_CLIP:
        for (const float c = hp->clip_qkv; to < end; to++) *to = fmaxf(-c, fminf(*to, c));
        break;
    case NIB_OP_RELU:
        for (; to < end; to++) *to = *to > 0 ? *to : 0;
        break;
    case NIB_OP_SIGMOID:
        for (size_t j = 0; j < width; j++) {
            const float x = b[s->width[t->b] == 1 ? 0 : j];
            to[j] = a[j] / (1 + expf(-x));
        }
        break;
    case NIB_OP_ROUTE: nib_route(g, to, v.weight, row); break;
    case NIB_OP_MIX:
        to = s->at[step].to + s->token[row] * width;
        for (end = to + width; to < end; a++)
            *to++ += *a * (hp->routing == NIB_ROUTE_INPUT ? 1 : s->share[row] * hp->residual_scale);
        break;
    case NIB_OP_ADD:
        for (; to < end; a++, b++) *to++ = *a + *b * hp->residual_scale;
        break;
    default: assert(false);
    }
}

static nib_code step_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const block *s = arg;
    (void)thread, (void)err;
    for (size_t row = begin; row < end; row++)
        for (size_t i = s->first; i < s->end; i++) step_row(s, i, row);
    return NIB_OK;
}

static nib_code linear(const block *s, size_t step, nib_err *err)
{
    nib_graph *g = s->g;
    const nib_step *t = &s->steps->step[step];
    const nib_place p = {.layer = s->layer, .role = t->weight, .expert = s->expert};
    const nib_tensor *w = nib_model_tensor(g->m, p);
    const float *own = g->replaced[t->weight].weight, *x = s->at[step].a;
    const nib_act_quant *act = g->act[t->weight];
    nib_code rc = NIB_OK;
    if (t->flags & NIB_STEP_EXPERT && g->experts)
        rc = g->experts->get(g->experts->arg, p, &own, &act, err);
    if (!rc && own && act)
        rc = nib_linear_round(&g->linear, act, x, s->rows, s->width[t->a], &x, err);
    const float *bias = nib_graph_vectors_of(g, s->layer, t->weight).bias;
    if (bias) bias += s->expert * s->width[t->to]; /* 0 of what is no expert */
    const unsigned how = (t->flags & NIB_STEP_ADD ? NIB_LINEAR_ADD : 0) |
                         (t->flags & NIB_STEP_F64 ? NIB_LINEAR_F64 : 0);
    return rc ? rc
              : nib_linear_apply(&g->linear, w, own, bias, x, s->rows, s->at[step].to, how, err);
}

/* Heads x[rows][heads][dim], so many of them after each other with one of the scales, times it or
 * by it. */
static void scale_heads(float *x, size_t rows, size_t heads, size_t dim, const float *scale,
                        size_t each, bool by)
{
    for (size_t i = 0; i < rows * heads; i++) {
        const float f = scale[i % heads / each];
        for (size_t c = 0; c < dim; c++)
            x[i * dim + c] = by ? x[i * dim + c] / f : x[i * dim + c] * f;
    }
}

/* Scales of the layer's keys (0) or values (1), one for each head; NULL: there are none. */
static const float *kv_scales(const block *s, int of)
{
    const nib_kv_scales *k = &s->g->kv_scales;
    return k->of[of] ? k->of[of] + s->layer * k->n_head : NULL;
}

/* Where the cache has scales; queries are multiplied by that of the keys which they meet. */
static void scale_all(const block *s, const operands *o)
{
    const nib_hparams *hp = &s->g->m->hp;
    const size_t n_kv = hp->n_head_kv, n = hp->n_head;
    const float *k = kv_scales(s, 0), *v = kv_scales(s, 1);
    if (k) scale_heads(o->a, s->rows, n, hp->head_dim, k, n / n_kv, false);
    if (k) scale_heads(o->k, s->rows, n_kv, hp->head_dim, k, 1, true);
    if (v) scale_heads(o->v, s->rows, n_kv, hp->value_dim, v, 1, true);
}

/* Keys and values go into the cache; where it rotates, queries too. */
static void keep(const block *s, const operands *o)
{
    nib_kv_cache *c = &s->g->cache;
    const size_t n_kv = s->g->m->hp.n_head_kv;
    scale_all(s, o);
    nib_kv_rotate(c, 0, o->a, s->rows * s->g->m->hp.n_head);
    nib_kv_rotate(c, 0, o->k, s->rows * n_kv);
    nib_kv_rotate(c, 1, o->v, s->rows * n_kv);
    nib_kv_put(c, s->layer, s->n_seq, s->pos, s->n_tok, o->k, o->v);
}

static nib_code attend(const block *s, size_t step, nib_err *err)
{
    nib_graph *g = s->g;
    const nib_role sinks = s->steps->step[step].weight;
    const operands *o = &s->at[step];
    nib_kv_cache *c = &g->cache;
    if (g->watch.seen) g->watch.seen(g->watch.arg, s->layer, o->k, o->v, s->rows);
    if (g->has_cache) keep(s, o);
    nib_attn a = {
        .n_seq = s->n_seq,
        .n_tok = s->n_tok,
        .pos = s->pos,
        .window = nib_layer_window(&g->m->hp, s->layer),
        .by_token = g->linear.few && s->rows <= NIB_FEW_ROWS,
        .n_head = g->m->hp.n_head,
        .n_head_kv = g->m->hp.n_head_kv,
        .head_dim = g->m->hp.head_dim,
        .value_dim = g->m->hp.value_dim,
        .scale = g->m->hp.attn_scale / (float)(g->m->hp.scale_by_layer ? s->layer + 1 : 1),
        .softcap = g->m->hp.attn_softcap,
        .chunked = g->m->hp.chunked,
        .sink = sinks ? nib_graph_vectors_of(g, s->layer, sinks).weight : NULL,
        .slope = g->slope,
        .slope_rounded = g->m->hp.alibi_rounded,
        .q = o->a,
        .out = o->to,
        .k = o->k,
        .v = o->v,
        .kv_tokens = s->n_tok,
        .cache = g->has_cache ? c : NULL,
        .layer = s->layer,
        .cpu = g->ctx.cpu,
        .ops = g->ops,
        .threads = g->ctx.threads,
        .scratch = g->scratch,
    };
    nib_code rc = nib_attention(&a, err);
    if (rc) return rc;
    nib_kv_settle(c, s->layer, s->n_seq);
    nib_kv_rotate(c, 1, o->to, s->rows * g->m->hp.n_head);
    if (kv_scales(s, 1))
        scale_heads(o->to, s->rows, g->m->hp.n_head, g->m->hp.value_dim, kv_scales(s, 1),
                    g->m->hp.n_head / g->m->hp.n_head_kv, false);
    return NIB_OK;
}

/* The two steps of linear attention that look at other tokens. */
static nib_code linear_attention(const block *s, size_t step, nib_err *err)
{
    const nib_step *t = &s->steps->step[step];
    const operands *o = &s->at[step];
    const bool convolves = t->op == NIB_OP_CONVOLVE;
    nib_delta d = {.g = s->g,
                   .n_seq = s->n_seq,
                   .n_tok = s->n_tok,
                   .x = convolves ? o->to : o->a,
                   .beta = o->b,
                   .decay = o->decay,
                   .out = o->to};
    if (!convolves) return nib_delta_attend(&d, err);
    d.kernel = nib_graph_vectors_of(s->g, s->layer, t->weight).weight;
    return nib_delta_convolve(&d, err);
}

/* Is an expert's share taken of what it reads, not of what it makes? */
static bool scales_input(const block *s)
{
    return s->g->m->hp.routing == NIB_ROUTE_INPUT;
}

/* Show an input to the observer, before the first linear that reads it: experts' apart. */
static nib_code watch(const block *s, const nib_inputs *inputs, size_t step, nib_err *err)
{
    const nib_step *t = &s->steps->step[step];
    const bool expert = t->flags & NIB_STEP_EXPERT;
    for (size_t i = 0; i < inputs->n; i++) {
        const nib_input *in = &inputs->input[i];
        const size_t n_dense = in->n_readers - in->n_experts;
        const nib_role *role = in->reader + (expert ? n_dense : 0);
        const size_t n = expert ? in->n_experts : n_dense;
        if (!n || *role != t->weight) continue;
        const nib_linear_input seen = {.layer = s->layer,
                                       .role = role,
                                       .n_roles = n,
                                       .expert = s->expert,
                                       .token = s->token,
                                       .scale = expert && scales_input(s) ? s->share : NULL,
                                       .x = s->at[step].a,
                                       .rows = s->rows,
                                       .cols = s->width[t->a]};
        return s->obs->linear_input(s->obs->arg, &seen, err);
    }
    return NIB_OK;
}

/* Steps [first, end) of one expert, for s->rows tokens of its own. */
static nib_code run_expert(block *s, const nib_inputs *inputs, size_t first, size_t end,
                           nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = first; i < end && !rc; i++) {
        s->first = i;
        s->end = i + 1;
        if (s->steps->step[i].op != NIB_OP_LINEAR) {
            rc = nib_par_for(s->g->ctx.threads, s->rows, ROW_CHUNK, step_rows, s, err);
            continue;
        }
        if (inputs) rc = watch(s, inputs, i, err);
        if (!rc) rc = linear(s, i, err);
    }
    return rc;
}

/* Let the steps [first, end) read `x` where the experts read what was there before them. */
static void bind_outside(block *s, size_t first, size_t end, nib_reg r, const float *x)
{
    for (size_t i = first; i < end; i++)
        if (s->steps->step[i].a == r) s->at[i].a = (float *)x;
}

/* The rows of x at an expert's tokens. */
static const float *gather(block *s, const float *x, size_t width)
{
    float *to = nib_buf_reserve(&s->g->routed, s->rows, width * sizeof *to);
    for (size_t i = 0; to && i < s->rows; i++) {
        float *row = to + i * width;
        memcpy(row, x + s->token[i] * width, width * sizeof *to);
        for (size_t j = 0; scales_input(s) && j < width; j++) row[j] *= s->share[i];
    }
    return to;
}

/* Steps [first, end) of one expert for its tokens, which read x. */
static nib_code run_for_tokens(block *s, const nib_inputs *inputs, size_t first, size_t end,
                               const float *x, nib_err *err)
{
    const nib_reg in = s->steps->step[first].a;
    if (!s->rows) return NIB_OK;
    const float *own = gather(s, x, s->width[in]);
    if (!own) return nib_fail_nomem(err, "activations of an expert");
    bind_outside(s, first, end, in, own);
    nib_code rc = run_expert(s, inputs, first, end, err);
    return rc ? nib_wrap(err, "expert %u", s->expert) : NIB_OK;
}

/* The same for the tokens that did not choose it, for who watches: nothing is made of what comes
 * out. */
static nib_code show_others(const block *all, const nib_inputs *inputs, const nib_routed *routed,
                            uint32_t e, size_t first, size_t end, const float *x, nib_err *err)
{
    nib_graph *g = all->g;
    const uint32_t *own = routed->token + routed->first[e],
                   *own_end = routed->token + routed->first[e + 1];
    const float *scores = g->route_all.p;
    uint32_t *token = nib_buf_reserve(&g->other, all->rows, sizeof *token);
    float *share = nib_buf_reserve(&g->other_share, all->rows, sizeof *share);
    block s = *all;
    if (!token || !share) return nib_fail_nomem(err, "routes of tokens");
    s.expert = e;
    s.rows = 0;
    for (uint32_t t = 0; t < all->rows; t++) {
        if (own < own_end && *own == t) {
            own++;
            continue;
        }
        token[s.rows] = t;
        share[s.rows++] = scores ? scores[t * g->m->hp.n_expert + e] : 0;
    }
    s.token = token;
    s.share = share;
    return run_for_tokens(&s, inputs, first, end - 1, x, err);
}

/* All experts one after the other, each for the tokens that are routed to it. */
static nib_code run_experts(const block *all, const nib_inputs *inputs, size_t first, size_t end,
                            nib_err *err)
{
    nib_graph *g = all->g;
    const float *x = all->at[first].a;
    nib_routed routed;
    nib_code rc = nib_route_sort(&routed, g, all->rows, err);
    for (uint32_t e = 0; e < g->m->hp.n_expert && !rc; e++) {
        block s = *all;
        s.expert = e;
        s.rows = routed.first[e + 1] - routed.first[e];
        s.token = routed.token + routed.first[e];
        s.share = routed.share + routed.first[e];
        rc = run_for_tokens(&s, inputs, first, end, x, err);
        if (!rc && g->all_experts) rc = show_others(all, inputs, &routed, e, first, end, x, err);
    }
    return rc;
}

static size_t end_of_experts(const nib_steps *s, size_t i)
{
    while (i < s->n && s->step[i].flags & NIB_STEP_EXPERT) i++;
    return i;
}

/* Do steps [first, end). */
static nib_code run(block *s, size_t first, size_t end, nib_err *err)
{
    const bool watched = s->obs && s->obs->linear_input;
    nib_inputs inputs = {.n = 0};
    nib_code rc = NIB_OK;
    if (watched) nib_steps_inputs(&inputs, s->steps);
    for (size_t i = first; i < end && !rc; i = s->end) {
        s->first = i;
        s->end = i + 1;
        if (s->steps->step[i].flags & NIB_STEP_EXPERT) {
            s->end = end_of_experts(s->steps, i);
            rc = run_experts(s, watched ? &inputs : NULL, i, s->end, err);
        } else if (is_by_rows(&s->steps->step[i])) {
            while (s->end < end && is_by_rows(&s->steps->step[s->end])) s->end++;
            rc = nib_par_for(s->g->ctx.threads, s->rows, ROW_CHUNK, step_rows, s, err);
        } else if (s->steps->step[i].op == NIB_OP_LINEAR) {
            if (watched) rc = watch(s, &inputs, i, err);
            if (!rc) rc = linear(s, i, err);
        } else if (s->steps->step[i].op == NIB_OP_ATTEND) {
            rc = attend(s, i, err);
        } else {
            rc = linear_attention(s, i, err);
        }
    }
    return rc;
}

nib_code nib_graph_expert(nib_graph *g, uint32_t layer, uint32_t expert, const float *x,
                          size_t rows, const nib_observer *obs, nib_err *err)
{
    block s = {.g = g,
               .steps = nib_model_steps(g->m, layer),
               .layer = layer,
               .n_seq = 1,
               .n_tok = rows,
               .obs = obs,
               .expert = expert};
    size_t first = 0;
    while (!(s.steps->step[first].flags & NIB_STEP_EXPERT)) first++;
    nib_inputs inputs;
    nib_steps_inputs(&inputs, s.steps);
    const nib_reg in = s.steps->step[first].a;
    const size_t end = end_of_experts(s.steps, first) - 1; /* without MIX */
    nib_code rc = bind(&s, first, NULL, (float *)x, err);
    bind_outside(&s, first, end, in, x);
    if (!rc) rc = run_expert(&s, &inputs, first, end, err);
    return rc ? nib_wrap(err, "block %u, expert %u", layer, expert) : NIB_OK;
}

/* Where a branch from step `first` ends: behind the step that adds it to the residual stream, or
 * before one that reads what came about before it. */
static size_t end_of_branch(const nib_steps *s, size_t first, size_t last)
{
    bool there[NIB_REG_COUNT] = {[NIB_REG_X] = true};
    there[s->step[first].a] = true;
    for (size_t i = first; i < s->n; i++) {
        const nib_step *t = &s->step[i];
        if (nib_step_reads_other(t, there)) return i;
        there[t->to] = true;
        if (i >= last && t->to == NIB_REG_X) return i + 1;
    }
    return s->n;
}

nib_code nib_graph_branch(nib_graph *g, uint32_t layer, nib_role role, const float *x, size_t n_seq,
                          size_t n_tok, float *y, nib_err *err)
{
    assert(!g->has_cache && layer < g->m->hp.n_layer && n_seq <= g->max_seq && n_tok <= g->max_ctx);
    const nib_steps *steps = nib_model_steps(g->m, layer);
    block s = {.g = g, .steps = steps, .layer = layer, .n_seq = n_seq, .n_tok = n_tok};
    g->all_experts = false;
    const size_t first = nib_steps_first_reader(steps, role);
    const size_t end = end_of_branch(steps, first, nib_steps_last_reader(steps, role));
    nib_code rc = bind(&s, first, y, (float *)x, err);
    const size_t n = s.rows * s.width[NIB_REG_X];
    if (!rc) memset(y, 0, n * sizeof *y);
    if (!rc) rc = run(&s, first, end, err);
    if (!rc && steps->step[end - 1].to != NIB_REG_X) memcpy(y, s.at[end - 1].to, n * sizeof *y);
    return rc ? nib_wrap(err, "block %u", layer) : NIB_OK;
}

/* Each row of x += the embedding of its position. */
static nib_code add_positions(const block *s, float *x, nib_err *err)
{
    nib_graph *g = s->g;
    const nib_tensor *t = g->m->global[NIB_ROLE_POS_EMBD].weight;
    const size_t width = g->m->hp.n_embd;
    const uint64_t first = s->pos + g->m->arch->first_position, rows = nib_tensor_rows(t);
    if (first > rows || s->n_tok > rows - first)
        return nib_fail(err, NIB_EINVAL, "position %zu: the model has embeddings for %llu",
                        s->pos + s->n_tok - 1,
                        (unsigned long long)(rows - g->m->arch->first_position));
    float *e = nib_buf_reserve(&g->linear.slab, s->n_tok, width * sizeof *e);
    if (!e) return nib_fail_nomem(err, "positions");
    nib_code rc = nib_source_read_rows(g->m->src, t, first, s->n_tok, e, &g->linear.thread[0].raw,
                                       g->ctx.cpu, err);
    for (size_t i = 0; i < s->rows * width && !rc; i++) x[i] += e[i % (s->n_tok * width)];
    return rc;
}

nib_code nib_graph_block(nib_graph *g, uint32_t layer, float *x, size_t n_seq, size_t n_tok,
                         size_t pos, const nib_observer *obs, nib_err *err)
{
    assert(layer < g->m->hp.n_layer && n_seq <= g->max_seq && n_tok <= g->max_ctx);
    assert(pos <= g->max_ctx - n_tok && (pos == 0 || g->has_cache));
    block s = {.g = g,
               .steps = nib_model_steps(g->m, layer),
               .layer = layer,
               .n_seq = n_seq,
               .n_tok = n_tok,
               .pos = pos,
               .obs = obs};
    g->all_experts = obs && obs->all_experts;
    nib_code rc = bind(&s, 0, x, NULL, err);
    if (!rc && s.rows && !layer && g->m->global[NIB_ROLE_POS_EMBD].weight)
        rc = add_positions(&s, x, err);
    if (!rc && s.rows) rc = run(&s, 0, s.steps->n, err);
    return rc ? nib_wrap(err, "block %u", layer) : NIB_OK;
}

/* ---- logits ---- */

typedef struct {
    nib_graph *g;
    const float *x;
    float *logits, *h;
    const size_t *rows;
    size_t first; /* index of the group's first row in the caller's list */
    nib_logits_fn *fn;
    void *arg;
} head;

static nib_code head_norm(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const head *s = arg;
    const size_t width = s->g->m->hp.n_embd;
    const nib_graph_vectors norm = s->g->m->arch->plain_norms && !s->g->m->hp.no_output_norm
                                       ? plain_norm(s->g)
                                       : s->g->global[NIB_ROLE_OUTPUT_NORM];
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++) {
        const float *x = s->x + s->rows[s->first + i] * width;
        if (norm.weight)
            apply_norm(s->g, s->h + i * width, x, norm, width);
        else
            memcpy(s->h + i * width, x, width * sizeof *x);
    }
    return NIB_OK;
}

static nib_code head_deliver(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const head *s = arg;
    const size_t n_vocab = s->g->m->hp.n_vocab;
    const float cap = s->g->m->hp.logit_softcap, divisor = s->g->m->hp.logit_divisor;
    const float scale = s->g->m->hp.logit_scale;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++) {
        float *logits = s->logits + i * n_vocab;
        for (size_t j = 0; divisor != 1 && j < n_vocab; j++) logits[j] /= divisor;
        for (size_t j = 0; scale != 1 && j < n_vocab; j++) logits[j] *= scale;
        if (cap > 0) s->g->ops->softcap(logits, n_vocab, 1, cap);
        s->fn(s->arg, s->first + i, logits, n_vocab);
    }
    return NIB_OK;
}

/* One group of n rows: norm, product, delivery. */
static nib_code head_group(head *s, const nib_tensor *w, float *logits, size_t n,
                           const nib_observer *obs, nib_err *err)
{
    static const nib_role role = NIB_ROLE_OUTPUT;
    nib_graph *g = s->g;
    const nib_tensor *out = g->m->global[NIB_ROLE_EMBD_OUT].weight;
    const size_t width = g->m->hp.n_embd_in;
    float *x = s->h;
    if (out && !(x = nib_buf_reserve(&g->narrow, n, width * sizeof *x)))
        return nib_fail_nomem(err, "logits");
    nib_code rc = nib_par_for(g->ctx.threads, n, ROW_CHUNK, head_norm, s, err);
    if (!rc && out) rc = nib_linear_apply(&g->linear, out, NULL, NULL, s->h, n, x, 0, err);
    if (rc) return rc;
    const nib_linear_input seen = {.role = &role, .n_roles = 1, .x = x, .rows = n, .cols = width};
    if (obs && obs->linear_input && (rc = obs->linear_input(obs->arg, &seen, err))) return rc;
    if (!s->fn) return NIB_OK;
    if ((rc = nib_linear_apply(&g->linear, w, NULL, g->global[NIB_ROLE_OUTPUT].bias, x, n, logits,
                               0, err)))
        return rc;
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
    s.h = nib_buf_reserve(&g->work, each, g->m->hp.n_embd * sizeof *s.h);
    if ((fn && !logits) || !s.h) return nib_fail_nomem(err, "logits");
    s.logits = logits;
    for (s.first = 0; s.first < n; s.first += each) {
        size_t now = n - s.first < each ? n - s.first : each;
        nib_code rc = head_group(&s, w, logits, now, obs, err);
        if (rc) return rc;
    }
    return NIB_OK;
}
