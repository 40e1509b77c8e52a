/* SPDX-License-Identifier: MIT */
/* infer/kv_cache.c - see kv_cache.h.
 * Tests: tests/infer/test_kv_kivi.c, tests/infer/test_kv_format.c, tests/infer/test_beam.c. */
#include "infer/kv_cache.h"

#include <assert.h>
#include <string.h>

/* [n_layer][n_seq][n_pos][bytes]; NULL: no memory. */
static void *room(const nib_kv_cache *c, size_t n_pos, size_t bytes)
{
    size_t n;
    return nib_mul(c->n_layer, c->n_seq, &n) && nib_mul(n, n_pos, &n) ? nib_alloc(n, bytes) : NULL;
}

nib_code nib_kv_cache_new(nib_kv_cache *c, const nib_kv_choice *how, size_t n_layer, size_t n_seq,
                          size_t n_ctx, size_t head_dim, size_t width_k, size_t width_v,
                          nib_err *err)
{
    const nib_kv_format *f = how->format && how->format->type != NIB_F32 ? how->format : NULL;
    *c = (nib_kv_cache){.format = f,
                        .rotate = f && how->rotate && nib_kv_rotation(head_dim),
                        .n_layer = n_layer,
                        .n_seq = n_seq,
                        .n_ctx = n_ctx,
                        .head_dim = head_dim,
                        .width = {width_k, width_v}};
    const size_t head = f ? nib_kv_head_bytes(f, head_dim) : head_dim * sizeof(float);
    if (!head)
        return nib_fail(err, NIB_EINVAL,
                        "a key/value cache of %s has blocks of %u values, which heads of %zu are "
                        "not made of",
                        f->name, f->kivi ? (unsigned)NIB_KIVI_GROUP : nib_codec_get(f->type)->block,
                        head_dim);
    if (f && width_k != width_v)
        return nib_fail(err, NIB_EINVAL,
                        "a key/value cache of %s wants keys and values of one size, not %zu and "
                        "%zu",
                        f->name, width_k, width_v);
    for (int of = 0; of < 2; of++) {
        c->bytes[of] = f ? c->width[of] / head_dim * head : c->width[of] * sizeof(float);
        c->row[of] = room(c, n_ctx, c->bytes[of]);
        if (f && f->kivi) c->recent[of] = room(c, NIB_KV_RECENT, c->width[of] * sizeof(float));
        if (!c->row[of] || (f && f->kivi && !c->recent[of])) {
            nib_kv_cache_free(c);
            return nib_fail_nomem(err, "key/value cache");
        }
    }
    return NIB_OK;
}

void nib_kv_cache_free(nib_kv_cache *c)
{
    for (int of = 0; of < 2; of++) nib_free(c->row[of]), nib_free(c->recent[of]);
    *c = (nib_kv_cache){0};
}

uint64_t nib_kv_cache_bytes(const nib_kv_cache *c)
{
    const uint64_t n = (uint64_t)c->n_layer * c->n_seq;
    const size_t recent = c->recent[0] ? NIB_KV_RECENT * sizeof(float) : 0;
    return n * (c->n_ctx * (c->bytes[0] + c->bytes[1]) + recent * (c->width[0] + c->width[1]));
}

void nib_kv_rotate_keys(const nib_kv_cache *c, float *x, size_t n_heads)
{
    const size_t n = nib_kv_rotation(c->head_dim);
    for (size_t i = 0; c->rotate && i < n_heads * c->head_dim; i += n) nib_hadamard(x + i, n);
}

void nib_kv_rotate_values(const nib_kv_cache *c, float *x, size_t n_heads)
{
    const size_t n = NIB_KV_ROTATION_V;
    for (size_t i = 0; c->rotate && i < n_heads * c->head_dim; i += n) nib_hadamard(x + i, n);
}

/* ---- rows as they were ---- */

static float *recent_row(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos)
{
    return c->recent[of] +
           ((layer * c->n_seq + seq) * NIB_KV_RECENT + pos % NIB_KV_RECENT) * c->width[of];
}

static const float *exact_row(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos)
{
    if (pos < c->fresh_pos) return recent_row(c, of, layer, seq, pos);
    return c->fresh[of] + (seq * c->n_fresh + pos - c->fresh_pos) * c->width[of];
}

void nib_kv_exact_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                       size_t pos, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * c->head_dim, exact_row(c, of, layer, seq, pos + i) + head * c->head_dim,
               c->head_dim * sizeof *to);
}

void nib_kv_settle(nib_kv_cache *c, size_t layer, size_t n_seq)
{
    if (!c->recent[0]) return;
    const size_t end = c->fresh_pos + c->n_fresh;
    const size_t begin = c->n_fresh > NIB_KV_RECENT ? end - NIB_KV_RECENT : c->fresh_pos;
    for (int of = 0; of < 2; of++)
        for (size_t seq = 0; seq < n_seq; seq++)
            for (size_t p = begin; p < end; p++)
                memcpy(recent_row(c, of, layer, seq, p), exact_row(c, of, layer, seq, p),
                       c->width[of] * sizeof(float));
    if (layer + 1 == c->n_layer && end > c->most) c->most = end;
}

/* ---- rows as they are kept ---- */

/* The groups of keys that the batch makes full. */
static void put_groups(nib_kv_cache *c, size_t layer, size_t seq)
{
    const size_t dim = c->head_dim, end = c->fresh_pos + c->n_fresh;
    const size_t head_bytes = NIB_KIVI_GROUP * nib_kv_head_bytes(c->format, dim);
    for (size_t p = c->fresh_pos - c->fresh_pos % NIB_KIVI_GROUP; p + NIB_KIVI_GROUP <= end;
         p += NIB_KIVI_GROUP) {
        uint8_t *to = nib_kv_row(c, 0, layer, seq, p);
        for (size_t at = 0; at < c->width[0]; at += dim, to += head_bytes) {
            const float *token[NIB_KIVI_GROUP];
            for (size_t i = 0; i < NIB_KIVI_GROUP; i++)
                token[i] = exact_row(c, 0, layer, seq, p + i) + at;
            nib_kivi_encode_keys(c->format->kivi, to, token, dim);
        }
    }
}

static void put_rows(nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos, size_t n,
                     const float *x)
{
    uint8_t *to = nib_kv_row(c, of, layer, seq, pos);
    if (!c->format) {
        memcpy(to, x, n * c->bytes[of]);
        return;
    }
    const size_t head = nib_kv_head_bytes(c->format, c->head_dim);
    for (size_t i = 0; i < n * c->width[of]; i += c->head_dim, to += head)
        nib_kv_encode(c->format, to, x + i, c->head_dim);
}

void nib_kv_put(nib_kv_cache *c, size_t layer, size_t n_seq, size_t pos, size_t n, const float *k,
                const float *v)
{
    const bool kivi = c->recent[0] != NULL;
    if (!pos) c->most = 0;
    assert(!kivi || pos + NIB_KV_BACK >= c->most);
    c->fresh[0] = k, c->fresh[1] = v, c->fresh_pos = pos, c->n_fresh = n;
    for (size_t seq = 0; seq < n_seq; seq++) {
        if (kivi)
            put_groups(c, layer, seq);
        else
            put_rows(c, 0, layer, seq, pos, n, k + seq * n * c->width[0]);
        put_rows(c, 1, layer, seq, pos, n, v + seq * n * c->width[1]);
    }
}

/* Of keys in groups. */
static void kept_keys(const nib_kv_cache *c, size_t layer, size_t seq, size_t head, size_t pos,
                      size_t n, float *to)
{
    const size_t dim = c->head_dim;
    const size_t head_bytes = NIB_KIVI_GROUP * nib_kv_head_bytes(c->format, dim);
    for (size_t i = 0, now; i < n; i += now) {
        const size_t first = (pos + i) % NIB_KIVI_GROUP;
        now = NIB_KIVI_GROUP - first < n - i ? NIB_KIVI_GROUP - first : n - i;
        nib_kivi_decode_keys(c->format->kivi, to + i * dim,
                             nib_kv_row(c, 0, layer, seq, pos + i - first) + head * head_bytes,
                             first, now, dim);
    }
}

void nib_kv_kept_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                      size_t pos, size_t n, float *to, unsigned cpu)
{
    if (c->format->kivi && of == 0) {
        kept_keys(c, layer, seq, head, pos, n, to);
        return;
    }
    const uint8_t *from =
        nib_kv_row(c, of, layer, seq, pos) + head * nib_kv_head_bytes(c->format, c->head_dim);
    for (size_t i = 0; i < n; i++)
        nib_kv_decode(c->format, to + i * c->head_dim, from + i * c->bytes[of], c->head_dim, cpu);
}

void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n)
{
    for (size_t l = 0; l < c->n_layer && from != to; l++)
        for (int of = 0; of < 2; of++) {
            memcpy(nib_kv_row(c, of, l, to, 0), nib_kv_row(c, of, l, from, 0), n * c->bytes[of]);
            if (c->recent[of])
                memcpy(recent_row(c, of, l, to, 0), recent_row(c, of, l, from, 0),
                       NIB_KV_RECENT * c->width[of] * sizeof(float));
        }
}
