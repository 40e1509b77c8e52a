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

static nib_code new_side(nib_kv_cache *c, int of, nib_kv_side how, size_t n_head, nib_err *err)
{
    const nib_kv_format *f = how.format && how.format->type != NIB_F32 ? how.format : NULL;
    const size_t dim = c->dim[of], head = f ? nib_kv_head_bytes(f, dim) : dim * sizeof(float);
    if (!head)
        return nib_fail(err, NIB_EINVAL,
                        "a key/value cache of %s has blocks of %u values, which heads of %zu are "
                        "not made of",
                        f->name, f->kivi ? (unsigned)NIB_KIVI_GROUP : nib_codec_get(f->type)->block,
                        dim);
    c->how[of] = (nib_kv_side){f, f && how.rotate && nib_kv_rotation(of, dim)};
    c->width[of] = n_head * dim;
    c->bytes[of] = n_head * head;
    c->row[of] = room(c, c->n_ctx, c->bytes[of]);
    if (f && f->kivi) c->recent[of] = room(c, NIB_KV_RECENT, c->width[of] * sizeof(float));
    if (!c->row[of] || (f && f->kivi && !c->recent[of]))
        return nib_fail_nomem(err, "key/value cache");
    return NIB_OK;
}

nib_code nib_kv_cache_new(nib_kv_cache *c, const nib_kv_choice *how, size_t n_layer, size_t n_seq,
                          size_t n_ctx, size_t n_head, size_t key_dim, size_t value_dim,
                          nib_err *err)
{
    nib_code rc = NIB_OK;
    *c = (nib_kv_cache){
        .n_layer = n_layer, .n_seq = n_seq, .n_ctx = n_ctx, .dim = {key_dim, value_dim}};
    for (int of = 0; of < 2 && !rc; of++) rc = new_side(c, of, how->of[of], n_head, err);
    if (rc) nib_kv_cache_free(c);
    return rc;
}

void nib_kv_cache_free(nib_kv_cache *c)
{
    for (int of = 0; of < 2; of++) nib_free(c->row[of]), nib_free(c->recent[of]);
    *c = (nib_kv_cache){0};
}

uint64_t nib_kv_cache_bytes(const nib_kv_cache *c)
{
    uint64_t each = 0; /* of a sequence in a layer */
    for (int of = 0; of < 2; of++)
        each += (uint64_t)c->n_ctx * c->bytes[of] +
                (c->recent[of] ? NIB_KV_RECENT * sizeof(float) * c->width[of] : 0);
    return each * c->n_layer * c->n_seq;
}

void nib_kv_rotate(const nib_kv_cache *c, int of, float *x, size_t n_heads)
{
    const size_t n = nib_kv_rotation(of, c->dim[of]);
    for (size_t i = 0; c->how[of].rotate && i < n_heads * c->dim[of]; i += n)
        nib_hadamard(x + i, n);
}

/* ---- rows as they were ---- */

static const float *exact_row(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos)
{
    if (pos < c->fresh_pos) return nib_kv_recent_row(c, of, layer, seq, pos);
    return c->fresh[of] + (seq * c->n_fresh + pos - c->fresh_pos) * c->width[of];
}

void nib_kv_exact_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                       size_t pos, size_t n, float *to)
{
    const size_t dim = c->dim[of];
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * dim, exact_row(c, of, layer, seq, pos + i) + head * dim, dim * sizeof *to);
}

void nib_kv_settle(nib_kv_cache *c, size_t layer, size_t n_seq)
{
    const size_t end = c->fresh_pos + c->n_fresh;
    const size_t begin = c->n_fresh > NIB_KV_RECENT ? end - NIB_KV_RECENT : c->fresh_pos;
    for (int of = 0; of < 2; of++)
        for (size_t seq = 0; seq < n_seq && c->recent[of]; seq++)
            for (size_t p = begin; p < end; p++)
                memcpy(nib_kv_recent_row(c, of, layer, seq, p), exact_row(c, of, layer, seq, p),
                       c->width[of] * sizeof(float));
    if (layer + 1 == c->n_layer && end > c->most) c->most = end;
}

/* ---- rows as they are kept ---- */

/* The groups of keys that the batch makes full. */
static void put_groups(nib_kv_cache *c, size_t layer, size_t seq)
{
    const size_t dim = c->dim[0], end = c->fresh_pos + c->n_fresh;
    const size_t head_bytes = NIB_KIVI_GROUP * nib_kv_head_bytes(c->how[0].format, dim);
    for (size_t p = c->fresh_pos - c->fresh_pos % NIB_KIVI_GROUP; p + NIB_KIVI_GROUP <= end;
         p += NIB_KIVI_GROUP) {
        uint8_t *to = nib_kv_row(c, 0, layer, seq, p);
        for (size_t at = 0; at < c->width[0]; at += dim, to += head_bytes) {
            const float *token[NIB_KIVI_GROUP];
            for (size_t i = 0; i < NIB_KIVI_GROUP; i++)
                token[i] = exact_row(c, 0, layer, seq, p + i) + at;
            nib_kivi_encode_keys(c->how[0].format->kivi, to, token, dim);
        }
    }
}

static void put_rows(nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos, size_t n,
                     const float *x)
{
    uint8_t *to = nib_kv_row(c, of, layer, seq, pos);
    const nib_kv_format *f = c->how[of].format;
    if (!f) {
        memcpy(to, x, n * c->bytes[of]);
        return;
    }
    const size_t dim = c->dim[of], head = nib_kv_head_bytes(f, dim);
    for (size_t i = 0; i < n * c->width[of]; i += dim, to += head) nib_kv_encode(f, to, x + i, dim);
}

void nib_kv_put(nib_kv_cache *c, size_t layer, size_t n_seq, size_t pos, size_t n, const float *k,
                const float *v)
{
    if (!pos) c->most = 0;
    assert(!(c->recent[0] || c->recent[1]) || pos + NIB_KV_BACK >= c->most);
    c->fresh[0] = k, c->fresh[1] = v, c->fresh_pos = pos, c->n_fresh = n;
    for (size_t seq = 0; seq < n_seq; seq++) {
        if (c->recent[0])
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
    const size_t dim = c->dim[0];
    const size_t head_bytes = NIB_KIVI_GROUP * nib_kv_head_bytes(c->how[0].format, dim);
    for (size_t i = 0, now; i < n; i += now) {
        const size_t first = (pos + i) % NIB_KIVI_GROUP;
        now = NIB_KIVI_GROUP - first < n - i ? NIB_KIVI_GROUP - first : n - i;
        nib_kivi_decode_keys(c->how[0].format->kivi, to + i * dim,
                             nib_kv_row(c, 0, layer, seq, pos + i - first) + head * head_bytes,
                             first, now, dim);
    }
}

void nib_kv_kept_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                      size_t pos, size_t n, float *to, unsigned cpu)
{
    const nib_kv_format *f = c->how[of].format;
    const size_t dim = c->dim[of];
    if (f->kivi && of == 0) {
        kept_keys(c, layer, seq, head, pos, n, to);
        return;
    }
    const uint8_t *from = nib_kv_row(c, of, layer, seq, pos) + head * nib_kv_head_bytes(f, dim);
    for (size_t i = 0; i < n; i++)
        nib_kv_decode(f, to + i * dim, from + i * c->bytes[of], dim, cpu);
}

void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n)
{
    for (size_t l = 0; l < c->n_layer && from != to; l++)
        for (int of = 0; of < 2; of++) {
            memcpy(nib_kv_row(c, of, l, to, 0), nib_kv_row(c, of, l, from, 0), n * c->bytes[of]);
            if (c->recent[of])
                memcpy(nib_kv_recent_row(c, of, l, to, 0), nib_kv_recent_row(c, of, l, from, 0),
                       NIB_KV_RECENT * c->width[of] * sizeof(float));
        }
}
