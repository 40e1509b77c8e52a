/* SPDX-License-Identifier: MIT */
/* tests/infer/naive.c - see naive.h. */
#include "tests/infer/naive.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

double *naive_tensor(const tiny *t, const char *fmt, uint32_t layer)
{
    char name[96];
    nib_err err;
    nib_buf raw = {0};
    snprintf(name, sizeof name, fmt, layer);
    const nib_tensor *found = nib_source_find(t->src, name);
    if (!found) return NULL;
    const size_t n = (size_t)nib_tensor_elems(found);
    float *x = malloc(n * sizeof *x);
    double *out = malloc(n * sizeof *out);
    assert_true(x && out);
    if (nib_source_read_rows(t->src, found, 0, nib_tensor_rows(found), x, &raw, 0, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++) out[i] = (double)x[i];
    free(x);
    nib_buf_free(&raw);
    return out;
}

void naive_norm(double *y, const double *x, const double *w, size_t n, double eps)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += x[i] * x[i];
    for (size_t i = 0; i < n; i++) y[i] = x[i] / sqrt(s / (double)n + eps) * w[i];
}

/* y[rows][out] += x[rows][in] W^T + b of the named layer. */
static void naive_linear(const tiny *t, const char *stem, uint32_t layer, const double *x,
                         size_t rows, size_t in, size_t out, double *y)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%%u.%s.weight", stem);
    double *w = naive_tensor(t, name, layer);
    snprintf(name, sizeof name, "model.layers.%%u.%s.bias", stem);
    double *b = naive_tensor(t, name, layer);
    assert_non_null(w);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double s = b ? b[o] : 0;
            for (size_t i = 0; i < in; i++) s += x[r * in + i] * w[o * in + i];
            y[r * out + o] += s;
        }
    free(w);
    free(b);
}

/* Llama 3's stretching of long wavelengths, as its reference code has it: of frequencies. */
static double naive_frequency(const nib_hparams *hp, size_t i)
{
    const double f = pow(hp->rope_base, -2.0 * (double)i / hp->head_dim);
    if (hp->rope_scaling == NIB_ROPE_LINEAR) return f / hp->rope_factor;
    if (hp->rope_scaling != NIB_ROPE_LLAMA3) return f;
    const double orig = hp->llama3.n_ctx_orig, low = hp->llama3.low_freq;
    const double high = hp->llama3.high_freq, length = 2 * acos(-1) / f;
    if (length < orig / high) return f;
    if (length > orig / low) return f / hp->llama3.factor;
    double smooth = (orig / length - low) / (high - low);
    return (1 - smooth) * f / hp->llama3.factor + smooth * f;
}

static void naive_heads(const tiny *t, const char *norm, uint32_t layer, double *x, size_t n_tok,
                        size_t n_head)
{
    const nib_hparams *hp = &t->model.hp;
    const size_t dim = hp->head_dim, half = dim / 2;
    double *w = naive_tensor(t, norm, layer);
    for (size_t p = 0; p < n_tok; p++)
        for (size_t h = 0; h < n_head; h++) {
            double *v = x + (p * n_head + h) * dim;
            if (w) naive_norm(v, v, w, dim, hp->norm_eps);
            for (size_t i = 0; i < half; i++) {
                double a = (double)p * naive_frequency(hp, i), re = v[i], im = v[i + half];
                v[i] = re * cos(a) - im * sin(a);
                v[i + half] = im * cos(a) + re * sin(a);
            }
        }
    free(w);
}

/* Transformers' mask of a sliding layer: token t sees those s with t - s < window. */
static bool naive_sees(const nib_hparams *hp, uint32_t layer, size_t t, size_t s)
{
    const size_t window = nib_layer_window(hp, layer);
    return s <= t && (!window || t - s < window);
}

static void naive_attention(const nib_hparams *hp, uint32_t layer, const double *q, const double *k,
                            const double *v, size_t n_tok, double *out)
{
    const size_t dim = hp->head_dim, nq = hp->n_head, nk = hp->n_head_kv;
    double *p = malloc(n_tok * sizeof *p);
    for (size_t t = 0; t < n_tok; t++)
        for (size_t h = 0; h < nq; h++) {
            const size_t g = h / (nq / nk);
            double total = 0;
            for (size_t s = 0; s <= t; s++) {
                p[s] = 0;
                for (size_t i = 0; i < dim; i++)
                    p[s] += q[(t * nq + h) * dim + i] * k[(s * nk + g) * dim + i];
                p[s] = naive_sees(hp, layer, t, s) ? exp(p[s] / sqrt((double)dim)) : 0;
                total += p[s];
            }
            for (size_t i = 0; i < dim; i++) {
                double o = 0;
                for (size_t s = 0; s <= t; s++) o += p[s] * v[(s * nk + g) * dim + i];
                out[(t * nq + h) * dim + i] = o / total;
            }
        }
    free(p);
}

static double *zeros(size_t n)
{
    double *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void naive_norm_rows(const tiny *t, const char *name, uint32_t layer, const double *x,
                            size_t rows, double *h)
{
    const size_t n = t->model.hp.n_embd;
    double *w = naive_tensor(t, name, layer);
    assert_non_null(w);
    for (size_t r = 0; r < rows; r++) naive_norm(h + r * n, x + r * n, w, n, t->model.hp.norm_eps);
    free(w);
}

static void naive_block(const tiny *t, uint32_t l, double *x, size_t n)
{
    const nib_hparams *hp = &t->model.hp;
    const size_t e = hp->n_embd, qw = (size_t)hp->n_head * hp->head_dim, ff = hp->n_ff;
    const size_t kw = (size_t)hp->n_head_kv * hp->head_dim;
    double *h = zeros(n * e), *q = zeros(n * qw), *k = zeros(n * kw), *v = zeros(n * kw);
    double *o = zeros(n * qw), *gate = zeros(n * ff), *up = zeros(n * ff);
    naive_norm_rows(t, "model.layers.%u.input_layernorm.weight", l, x, n, h);
    naive_linear(t, "self_attn.q_proj", l, h, n, e, qw, q);
    naive_linear(t, "self_attn.k_proj", l, h, n, e, kw, k);
    naive_linear(t, "self_attn.v_proj", l, h, n, e, kw, v);
    naive_heads(t, "model.layers.%u.self_attn.q_norm.weight", l, q, n, hp->n_head);
    naive_heads(t, "model.layers.%u.self_attn.k_norm.weight", l, k, n, hp->n_head_kv);
    naive_attention(hp, l, q, k, v, n, o);
    naive_linear(t, "self_attn.o_proj", l, o, n, qw, e, x);
    naive_norm_rows(t, "model.layers.%u.post_attention_layernorm.weight", l, x, n, h);
    naive_linear(t, "mlp.gate_proj", l, h, n, e, ff, gate);
    naive_linear(t, "mlp.up_proj", l, h, n, e, ff, up);
    for (size_t i = 0; i < n * ff; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    naive_linear(t, "mlp.down_proj", l, gate, n, ff, e, x);
    free(h);
    free(q);
    free(k);
    free(v);
    free(o);
    free(gate);
    free(up);
}

double *naive_forward(const tiny *t, const int32_t *ids, size_t n)
{
    const size_t e = t->model.hp.n_embd, vocab = t->model.hp.n_vocab;
    double *x = zeros(n * e), *h = zeros(n * e), *logits = zeros(n * vocab);
    double *embd = naive_tensor(t, "model.embed_tokens.weight", 0);
    double *out = naive_tensor(t, "lm_head.weight", 0);
    assert_non_null(embd);
    for (size_t r = 0; r < n; r++) memcpy(x + r * e, embd + (size_t)ids[r] * e, e * sizeof *x);
    for (uint32_t l = 0; l < t->model.hp.n_layer; l++) naive_block(t, l, x, n);
    naive_norm_rows(t, "model.norm.weight", 0, x, n, h);
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < vocab; o++)
            for (size_t i = 0; i < e; i++)
                logits[r * vocab + o] += h[r * e + i] * (out ? out : embd)[o * e + i];
    free(x);
    free(h);
    free(embd);
    free(out);
    return logits;
}
