/* SPDX-License-Identifier: MIT */
/* infer/attn.c - see attn.h.
 *
 * A task is one tile of queries of one head. It walks the keys in tiles, holding for each query the
 * largest score m so far, the sum l of exp(score - m), and the output o = sum exp(score - m) v; a
 * new largest score rescales l and o (online softmax, Milakov and Gimelshein 2018; FlashAttention,
 * Dao et al. 2022). Both products of a tile are BLAS's, but by_token: BLAS may sum in another order
 * where there are more rows. */
#include "infer/attn.h"

#include "base/half.h"
#include "base/linalg.h"
#include "base/par.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 64, KEYS = 512 };

typedef struct {
    float *score;   /* [QUERIES][KEYS]      */
    float *out;     /* [QUERIES][value_dim] */
    float *decoded; /* [KEYS][head_dim], where keys and values have a format */
    float m[QUERIES];
    double l[QUERIES];
    size_t head;
} state;

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static float rounded(float x)
{
    return nib_bf16_to_f32(nib_f32_to_bf16(x));
}

/* What a score has more than one of the first key, by the position of its own. */
static float nearness(const nib_attn *a, float slope, size_t pos)
{
    if (!a->slope_rounded) return slope * (float)pos;
    return rounded(rounded(slope) * rounded((float)pos)) * a->scale;
}

/* Scores of query r against n keys become exp(score - m), those outside of begin..end-1 are 0. */
static void softmax_row(const nib_attn *a, state *s, size_t r, size_t k0, size_t begin, size_t end,
                        size_t n)
{
    float *score = s->score + r * KEYS, *out = s->out + r * a->value_dim, scale = a->scale;
    if (begin < end && a->softcap > 0) {
        a->ops->softcap(score + begin, end - begin, scale, a->softcap);
        scale = 1;
    }
    if (a->slope) { /* the last key is at distance 0 in the row's own tile: constants are free */
        for (size_t i = begin; i < end; i++)
            score[i] = score[i] * scale + nearness(a, a->slope[s->head], k0 + i);
        scale = 1;
    }
    if (begin < end) {
        float m = a->ops->max(score + begin, end - begin);
        if (m > s->m[r]) {
            float shrink = (float)exp((double)scale * ((double)s->m[r] - (double)m));
            for (size_t i = 0; i < a->value_dim; i++) out[i] *= shrink;
            s->l[r] *= (double)shrink;
            s->m[r] = m;
        }
        s->l[r] += a->ops->exp_shift(score + begin, end - begin, scale, s->m[r]);
    }
    memset(score, 0, begin * sizeof *score);
    memset(score + end, 0, (n - end) * sizeof *score);
}

/* The first key that the query at position `pos` sees. */
static size_t first_seen(const nib_attn *a, size_t pos)
{
    if (a->chunked && a->window) return pos / a->window * a->window;
    return a->window && pos >= a->window ? pos + 1 - a->window : 0;
}

/* Where key `i` lies in a tile of n keys from k0 on: 0 before it, n behind it. */
static size_t in_tile(size_t i, size_t k0, size_t n)
{
    return i > k0 ? min_size(i - k0, n) : 0;
}

/* Rows k0 .. k0 + nk - 1 of this head's keys or values, of `dim` each, *step floats apart. */
static const float *rows_of(const nib_attn *a, const state *s, const void *kv, size_t dim,
                            size_t k0, size_t nk, size_t *step)
{
    if (!a->format) {
        *step = a->n_head_kv * dim;
        return (const float *)kv + k0 * *step;
    }
    const size_t row = a->n_head_kv * a->head_bytes;
    *step = a->head_dim;
    for (size_t i = 0; i < nk; i++)
        nib_kv_decode(a->format, s->decoded + i * a->head_dim, (const uint8_t *)kv + (k0 + i) * row,
                      a->head_dim, a->cpu);
    return s->decoded;
}

/* Scores of n queries against the nk keys from k0 on, and what they make of the values. */
static void score_tile(const nib_attn *a, state *s, const float *q, const void *keys, size_t n,
                       size_t k0, size_t nk)
{
    size_t step;
    const size_t dim = a->head_dim;
    const float *k = rows_of(a, s, keys, dim, k0, nk, &step);
    if (a->by_token)
        a->ops->dots(s->score, q, k, nk, step, dim);
    else
        nib_gemm_nt(n, nk, dim, q, a->n_head * dim, k, step, s->score, KEYS, 0);
}

static void mix_tile(const nib_attn *a, state *s, const void *values, size_t n, size_t k0,
                     size_t nk)
{
    size_t step;
    const size_t dim = a->value_dim;
    const float *v = rows_of(a, s, values, dim, k0, nk, &step);
    if (a->by_token)
        a->ops->mix(s->out, s->score, v, nk, step, dim);
    else
        nib_gemm_nn(n, dim, nk, s->score, KEYS, v, step, s->out, dim, 1);
}

static size_t tile_queries(const nib_attn *a)
{
    return a->by_token ? 1 : QUERIES;
}

/* n queries from token `first` on, at q, results to `out`; k, v: this head's. */
static void query_tile(const nib_attn *a, state *s, const float *q, float *out, const void *k,
                       const void *v, size_t first, size_t n)
{
    const size_t v_dim = a->value_dim, out_row = a->n_head * v_dim;
    const size_t n_keys = a->pos + first + n;
    memset(s->out, 0, n * v_dim * sizeof *s->out);
    for (size_t r = 0; r < n; r++) s->m[r] = -INFINITY, s->l[r] = 0;
    for (size_t k0 = first_seen(a, a->pos + first); k0 < n_keys; k0 += KEYS) {
        size_t nk = min_size(KEYS, n_keys - k0);
        score_tile(a, s, q, k, n, k0, nk);
        for (size_t r = 0; r < n; r++) {
            size_t pos = a->pos + first + r;
            softmax_row(a, s, r, k0, in_tile(first_seen(a, pos), k0, nk), in_tile(pos + 1, k0, nk),
                        nk);
        }
        mix_tile(a, s, v, n, k0, nk);
    }
    for (size_t r = 0; r < n; r++) {
        if (a->sink) /* m is unscaled */
            s->l[r] += exp((double)a->sink[s->head] - (double)a->scale * (double)s->m[r]);
        float inv = (float)(1 / s->l[r]);
        for (size_t i = 0; i < v_dim; i++) out[r * out_row + i] = s->out[r * v_dim + i] * inv;
    }
}

/* Tasks are numbered sequence by sequence, head by head, tile by tile. */
static nib_code task(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const nib_attn *a = arg;
    (void)end;
    const size_t each = tile_queries(a), tiles = (a->n_tok + each - 1) / each, dim = a->head_dim;
    const size_t v_dim = a->value_dim;
    const size_t first = begin % tiles * each, head = begin / tiles % a->n_head;
    const size_t seq = begin / tiles / a->n_head, n = min_size(each, a->n_tok - first);
    const size_t kv_head = seq * a->kv_tokens * a->n_head_kv + head / (a->n_head / a->n_head_kv);
    const size_t q_head = (seq * a->n_tok + first) * a->n_head + head;
    const size_t k_bytes = a->format ? a->head_bytes : dim * sizeof(float),
                 v_bytes = a->format ? a->head_bytes : v_dim * sizeof(float);
    state s;
    s.score =
        nib_buf_reserve(&a->scratch[thread],
                        QUERIES * (KEYS + v_dim) + (a->format ? KEYS * dim : 0), sizeof *s.score);
    if (!s.score) return nib_fail_nomem(err, "attention scores");
    s.out = s.score + QUERIES * KEYS;
    s.decoded = s.out + QUERIES * v_dim;
    s.head = head;
    query_tile(a, &s, a->q + q_head * dim, a->out + q_head * v_dim,
               (const uint8_t *)a->k + kv_head * k_bytes, (const uint8_t *)a->v + kv_head * v_bytes,
               first, n);
    return NIB_OK;
}

nib_code nib_attention(const nib_attn *a, nib_err *err)
{
    nib_attn mine = *a;
    const size_t each = tile_queries(a), tiles = (a->n_tok + each - 1) / each;
    return nib_par_for(a->threads, a->n_seq * a->n_head * tiles, 1, task, &mine, err);
}
