/* SPDX-License-Identifier: MIT */
/* infer/graph_state.c - see graph_state.h: made, changed by the caller, released.
 * Tests: tests/infer/test_graph.c, tests/infer/test_branch.c. */
#include "infer/graph_state.h"

#include <assert.h>
#include <math.h>

/* ---- setting up ---- */

/* Norms of heads may have a row for each; kernels of a convolution have one. */
static bool is_vector(const nib_tensor *t, nib_role r)
{
    return t && (nib_tensor_rows(t) == 1 || r == NIB_ROLE_ATTN_Q_NORM ||
                 r == NIB_ROLE_ATTN_K_NORM || r == NIB_ROLE_SSM_CONV);
}

static size_t vector_size(const nib_param *p, nib_role r)
{
    return (is_vector(p->weight, r) ? (size_t)nib_tensor_elems(p->weight) : 0) +
           (p->bias ? (size_t)nib_tensor_elems(p->bias) : 0);
}

/* Of biases of experts, all of them. */
static nib_code load_vector(nib_graph *g, const nib_tensor *t, const float **out, float **pool,
                            nib_err *err)
{
    nib_code rc = nib_source_read_rows(g->m->src, t, 0, nib_tensor_rows(t), *pool,
                                       &g->linear.thread[0].raw, g->ctx.cpu, err);
    if (rc) return nib_wrap(err, "tensor '%s'", t->name);
    *out = *pool;
    *pool += nib_tensor_elems(t);
    return NIB_OK;
}

static nib_code load_vectors(nib_graph *g, nib_err *err)
{
    const size_t n_block = (size_t)g->m->hp.n_layer * NIB_ROLE_COUNT, n = n_block + NIB_ROLE_COUNT;
    size_t total = 0;
    g->global = nib_calloc(n, sizeof *g->global);
    if (!g->global) return nib_fail_nomem(err, "vectors of the model");
    g->block = g->global + NIB_ROLE_COUNT;
    for (size_t i = 0; i < n; i++)
        total +=
            vector_size(i < NIB_ROLE_COUNT ? &g->m->global[i] : &g->m->block[i - NIB_ROLE_COUNT],
                        (nib_role)(i % NIB_ROLE_COUNT));
    float *pool = g->vector_pool = nib_alloc(total, sizeof *pool);
    if (!pool) return nib_fail_nomem(err, "vectors of the model");
    for (size_t i = 0; i < n; i++) {
        const nib_param *p =
            i < NIB_ROLE_COUNT ? &g->m->global[i] : &g->m->block[i - NIB_ROLE_COUNT];
        nib_code rc = NIB_OK;
        if (is_vector(p->weight, (nib_role)(i % NIB_ROLE_COUNT)))
            rc = load_vector(g, p->weight, &g->global[i].weight, &pool, err);
        if (!rc && p->bias) rc = load_vector(g, p->bias, &g->global[i].bias, &pool, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static nib_code fill_rope(nib_graph *g, bool sliding, nib_err *err)
{
    const nib_hparams *hp = &g->m->hp;
    const size_t half = hp->rope_dim / 2;
    float *cosine = g->turn[sliding].cosine = nib_alloc(g->max_ctx, half * sizeof *cosine);
    float *sine = g->turn[sliding].sine = nib_alloc(g->max_ctx, half * sizeof *sine);
    if (!cosine || !sine) return nib_fail_nomem(err, "rotation table");
    for (size_t i = 0; i < half; i++) {
        double by = 1, step = nib_rope_step(hp, g->m->rope_factors, (uint32_t)i, g->max_ctx, &by);
        if (sliding) step = pow(hp->rope_base_sliding, -2.0 * (double)i / hp->rope_dim), by = 1;
        if (sliding && hp->rope_factor_sliding > 0) step /= (double)hp->rope_factor_sliding;
        for (size_t p = 0; p < g->max_ctx; p++) {
            cosine[p * half + i] = (float)(by * cos((double)p * step));
            sine[p * half + i] = (float)(by * sin((double)p * step));
        }
    }
    return NIB_OK;
}

/* Slopes of ALiBi (Press, Smith and Lewis 2022): 2^(-8 k / n) for n heads, a power of two; of other
 * numbers those of the power below, and of the next power every other one. */
static nib_code fill_slopes(nib_graph *g, nib_err *err)
{
    const uint32_t n = g->m->hp.n_head;
    uint32_t power = 1;
    if (!g->m->hp.alibi) return NIB_OK;
    if (!(g->slope = nib_alloc(n, sizeof *g->slope))) return nib_fail_nomem(err, "slopes");
    while (2 * power <= n) power *= 2;
    for (uint32_t h = 0; h < n; h++)
        g->slope[h] = (float)(h < power ? pow(2, -8.0 * (h + 1) / power)
                                        : pow(2, -4.0 * (2 * (h - power) + 1) / power));
    return NIB_OK;
}

static nib_code fill_ones(nib_graph *g, nib_err *err)
{
    size_t most = g->m->hp.head_dim, width[NIB_REG_COUNT];
    nib_model_widths(width, &g->m->hp);
    for (int r = 0; r < NIB_REG_COUNT; r++) most = width[r] > most ? width[r] : most;
    if (!(g->ones = nib_alloc(most, sizeof *g->ones))) return nib_fail_nomem(err, "a row");
    for (size_t i = 0; i < most; i++) g->ones[i] = 1;
    return NIB_OK;
}

static nib_code set_up(nib_graph *g, bool cache, nib_err *err)
{
    nib_code rc = nib_linear_init(&g->linear, g->m->src, &g->ctx, err);
    if (rc || (rc = load_vectors(g, err))) return rc;
    g->scratch = nib_calloc((size_t)g->ctx.threads, sizeof *g->scratch);
    if (!g->scratch) return nib_fail_nomem(err, "attention");
    if (!(rc = fill_ones(g, err))) rc = fill_slopes(g, err);
    if (!rc && !g->m->arch->no_rope) rc = fill_rope(g, false, err);
    if (!rc && g->m->hp.rope_base_sliding > 0) rc = fill_rope(g, true, err);
    if (rc) return rc;
    return cache ? nib_graph_keep(g, &(nib_kv_choice){0}, err) : NIB_OK;
}

nib_code nib_graph_new(nib_graph **out, const nib_model *m, const nib_ctx *ctx, size_t max_seq,
                       size_t max_ctx, bool cache, nib_err *err)
{
    *out = NULL;
    assert(max_seq && max_ctx && ctx->threads >= 1);
    nib_graph *g = nib_calloc(1, sizeof *g);
    if (!g) return nib_fail_nomem(err, "graph");
    g->m = m;
    g->ctx = *ctx;
    g->ops = nib_ops_get(ctx->cpu);
    g->max_seq = max_seq;
    g->max_ctx = max_ctx;
    nib_code rc = set_up(g, cache, err);
    if (rc) {
        nib_graph_free(g);
        return rc;
    }
    *out = g;
    return NIB_OK;
}

void nib_graph_free(nib_graph *g)
{
    if (!g) return;
    for (int i = 0; g->scratch && i < g->ctx.threads; i++) nib_buf_free(&g->scratch[i]);
    nib_linear_fini(&g->linear);
    nib_buf_free(&g->work);
    nib_buf_free(&g->logits);
    nib_buf_free(&g->narrow);
    nib_buf_free(&g->route_expert);
    nib_buf_free(&g->route_share);
    nib_buf_free(&g->route_all);
    nib_buf_free(&g->token);
    nib_buf_free(&g->share);
    nib_buf_free(&g->other);
    nib_buf_free(&g->other_share);
    nib_buf_free(&g->routed);
    nib_free(g->scratch);
    nib_free(g->vector_pool);
    nib_free(g->ones);
    nib_free(g->slope);
    nib_free(g->global);
    for (int i = 0; i < 2; i++) nib_free(g->turn[i].cosine), nib_free(g->turn[i].sine);
    nib_kv_scales_free(&g->kv_scales);
    nib_kv_cache_free(&g->cache);
    nib_free(g);
}

void nib_graph_watch_keys(nib_graph *g, nib_kv_watch watch)
{
    g->watch = watch;
}

/* Of what is kept by them. */
static nib_code read_scales(nib_graph *g, const nib_kv_choice *how, nib_err *err)
{
    bool scaled[2];
    for (int of = 0; of < 2; of++) {
        const nib_kv_side *side = &how->of[of];
        scaled[of] = side->format && side->format->scaled;
        if (scaled[of] && side->rotate)
            return nib_fail(err, NIB_EINVAL, "scales of a cache are of keys that are not rotated");
    }
    if (!scaled[0] && !scaled[1]) return NIB_OK;
    nib_code rc = nib_kv_scales_read(&g->kv_scales, g->m, err);
    for (int of = 0; of < 2 && !rc; of++)
        if (!scaled[of]) nib_free(g->kv_scales.of[of]), g->kv_scales.of[of] = NULL;
    return rc;
}

nib_code nib_graph_keep(nib_graph *g, const nib_kv_choice *how, nib_err *err)
{
    if (g->m->arch->linear_block.n)
        return nib_fail(err, NIB_EINVAL,
                        "'%s' has layers of linear attention, whose states are not kept yet: it "
                        "runs over whole texts alone",
                        g->m->arch->name);
    nib_kv_cache_free(&g->cache);
    nib_kv_scales_free(&g->kv_scales);
    g->has_cache = true;
    nib_code rc = read_scales(g, how, err);
    return rc ? rc
              : nib_kv_cache_new(&g->cache, how, g->m->hp.n_layer, g->max_seq, g->max_ctx,
                                 g->m->hp.n_head_kv, g->m->hp.head_dim, g->m->hp.value_dim, err);
}

uint64_t nib_graph_cache_bytes(const nib_graph *g)
{
    return nib_kv_cache_bytes(&g->cache);
}

void nib_graph_few(nib_graph *g, uint64_t *memory)
{
    g->linear.few = true;
    g->linear.resident.left = memory;
}

void nib_graph_copy_sequence(nib_graph *g, size_t from, size_t to, size_t n)
{
    assert(g->has_cache && from < g->max_seq && to < g->max_seq && n <= g->max_ctx);
    nib_kv_copy(&g->cache, from, to, n);
}

/* ---- observers ---- */

static nib_code watch_all(void *arg, const nib_linear_input *in, nib_err *err)
{
    const nib_observers *all = arg;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < all->n && !rc; i++)
        rc = all->of[i].linear_input(all->of[i].arg, in, err);
    return rc;
}

void nib_observers_add(nib_observers *all, nib_observer one)
{
    assert(all->n < sizeof all->of / sizeof *all->of);
    all->of[all->n++] = one;
    all->all_experts |= one.all_experts;
}

nib_observer nib_observers_watch(nib_observers *all)
{
    return (nib_observer){watch_all, all, all->all_experts};
}

const nib_model *nib_graph_model(const nib_graph *g)
{
    return g->m;
}

/* ---- what the caller puts in place ---- */

void nib_graph_replace(nib_graph *g, nib_role role, const float *w)
{
    if (g) g->replaced[role].weight = w;
}

void nib_graph_replace_bias(nib_graph *g, nib_role role, const float *bias)
{
    if (g) g->replaced[role].bias = bias;
}

void nib_graph_replace_experts(nib_graph *g, const nib_expert_weights *from)
{
    if (g) g->experts = from;
}

void nib_graph_round_input(nib_graph *g, nib_role role, const nib_act_quant *act)
{
    if (g) g->act[role] = act;
}

void nib_graph_keep_inputs(nib_graph *g)
{
    g->linear.keeps = true;
}

nib_graph_vectors nib_graph_vectors_of(const nib_graph *g, uint32_t layer, nib_role r)
{
    nib_graph_vectors v =
        r < NIB_ROLE_FIRST_BLOCK ? g->global[r] : g->block[(size_t)layer * NIB_ROLE_COUNT + r];
    if (v.weight && g->replaced[r].weight) v.weight = g->replaced[r].weight;
    if (g->replaced[r].bias) v.bias = g->replaced[r].bias;
    return v;
}
