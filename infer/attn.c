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
    float *decoded; /* [KEYS][head_dim or value_dim], where the cache has a format */
    float m[QUERIES];
    double l[QUERIES];
    size_t seq, head, kv_head;
} state;

/* Keys or values of a tile of keys, rows `step` floats apart. Those that some queries of the tile
 * see as they are kept and others as they were, `twice` of them, are there as both. */
typedef struct {
    const float *row;
    size_t step, twice;
} tile_rows;

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

/* Where in a tile the rows begin that the query of token t sees as they were. */
static size_t exact_from(const nib_attn *a, int of, size_t t, size_t k0, size_t n)
{
    return in_tile(nib_kv_exact_from(a->cache, of, a->pos + t), k0, n);
}

/* This head's keys (0) or values (1) k0 .. k0 + nk - 1 for n queries from token `first` on. */
static tile_rows rows_of(const nib_attn *a, const state *s, int of, size_t first, size_t n,
                         size_t k0, size_t nk)
{
    const nib_kv_cache *c = a->cache;
    const size_t dim = of ? a->value_dim : a->head_dim, row = a->n_head_kv * dim;
    if (!c || !c->how[of].format) {
        const float *all = c ? (const float *)(const void *)nib_kv_row(c, of, a->layer, s->seq, 0)
                             : (of ? a->v : a->k) + s->seq * a->kv_tokens * row;
        return (tile_rows){all + k0 * row + s->kv_head * dim, row, 0};
    }
    const size_t begin = exact_from(a, of, first, k0, nk),
                 end = exact_from(a, of, first + n - 1, k0, nk);
    nib_kv_kept_rows(c, of, a->layer, s->seq, s->kv_head, k0, end, s->decoded, a->cpu);
    nib_kv_exact_rows(c, of, a->layer, s->seq, s->kv_head, k0 + begin, nk - begin,
                      s->decoded + end * dim);
    return (tile_rows){s->decoded, dim, end - begin};
}

/* Scores of n queries against the nk keys from k0 on, and what they make of the values. */
static void score_tile(const nib_attn *a, state *s, const float *q, size_t first, size_t n,
                       size_t k0, size_t nk)
{
    const size_t dim = a->head_dim;
    const tile_rows k = rows_of(a, s, 0, first, n, k0, nk);
    if (a->by_token)
        a->ops->dots(s->score, q, k.row, nk, k.step, dim);
    else
        nib_gemm_nt(n, nk + k.twice, dim, q, a->n_head * dim, k.row, k.step, s->score, KEYS, 0);
    for (size_t r = 0; r < n && k.twice; r++) {
        const size_t at = exact_from(a, 0, first + r, k0, nk);
        float *score = s->score + r * KEYS + at;
        memmove(score, score + k.twice, (nk - at) * sizeof *score);
    }
}

static void mix_tile(const nib_attn *a, state *s, size_t first, size_t n, size_t k0, size_t nk)
{
    const size_t dim = a->value_dim;
    const tile_rows v = rows_of(a, s, 1, first, n, k0, nk);
    for (size_t r = 0; r < n && v.twice; r++) {
        const size_t at = exact_from(a, 1, first + r, k0, nk);
        float *score = s->score + r * KEYS + at;
        memmove(score + v.twice, score, (nk - at) * sizeof *score);
        memset(score, 0, v.twice * sizeof *score);
    }
    if (a->by_token)
        a->ops->mix(s->out, s->score, v.row, nk, v.step, dim);
    else
        nib_gemm_nn(n, dim, nk + v.twice, s->score, KEYS, v.row, v.step, s->out, dim, 1);
}

static size_t tile_queries(const nib_attn *a)
{
    return a->by_token ? 1 : QUERIES;
}

/* Rows that are there twice have room: KIVI's keys change by NIB_KIVI_RECENT at once, and at most
 * once in QUERIES, its values one by one. */
static size_t tile_keys(const nib_attn *a)
{
    _Static_assert((int)QUERIES <= (int)NIB_KIVI_RECENT, "a tile has one change of keys");
    const nib_kv_cache *c = a->cache;
    return c && (c->recent[0] || c->recent[1]) ? KEYS - NIB_KIVI_RECENT : KEYS;
}

/* n queries from token `first` on, at q, results to `out`. */
static void query_tile(const nib_attn *a, state *s, const float *q, float *out, size_t first,
                       size_t n)
{
    const size_t v_dim = a->value_dim, out_row = a->n_head * v_dim;
    const size_t n_keys = a->pos + first + n, each = tile_keys(a);
    memset(s->out, 0, n * v_dim * sizeof *s->out);
    for (size_t r = 0; r < n; r++) s->m[r] = -INFINITY, s->l[r] = 0;
    for (size_t k0 = first_seen(a, a->pos + first); k0 < n_keys; k0 += each) {
        size_t nk = min_size(each, n_keys - k0);
        score_tile(a, s, q, first, n, k0, nk);
        for (size_t r = 0; r < n; r++) {
            size_t pos = a->pos + first + r;
            softmax_row(a, s, r, k0, in_tile(first_seen(a, pos), k0, nk), in_tile(pos + 1, k0, nk),
                        nk);
        }
        mix_tile(a, s, first, n, k0, nk);
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
    const size_t q_head = (seq * a->n_tok + first) * a->n_head + head;
    const bool decodes = a->cache && (a->cache->how[0].format || a->cache->how[1].format);
    const size_t decoded = decodes ? KEYS * (dim > v_dim ? dim : v_dim) : 0;
    state s;
    s.score =
        nib_buf_reserve(&a->scratch[thread], QUERIES * (KEYS + v_dim) + decoded, sizeof *s.score);
    if (!s.score) return nib_fail_nomem(err, "attention scores");
    s.out = s.score + QUERIES * KEYS;
    s.decoded = s.out + QUERIES * v_dim;
    s.seq = seq;
    s.head = head;
    s.kv_head = head / (a->n_head / a->n_head_kv);
    query_tile(a, &s, a->q + q_head * dim, a->out + q_head * v_dim, first, n);
    return NIB_OK;
}

nib_code nib_attention(const nib_attn *a, nib_err *err)
{
    nib_attn mine = *a;
    const size_t each = tile_queries(a), tiles = (a->n_tok + each - 1) / each;
    return nib_par_for(a->threads, a->n_seq * a->n_head * tiles, 1, task, &mine, err);
}
