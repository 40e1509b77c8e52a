/* SPDX-License-Identifier: MIT */
/* infer/kv_cache.c - see kv_cache.h. Tests: tests/infer/test_graph.c, tests/infer/test_beam.c. */
#include "infer/kv_cache.h"

#include <string.h>

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
                        f->name, nib_codec_get(f->type)->block, head_dim);
    if (f && width_k != width_v)
        return nib_fail(err, NIB_EINVAL,
                        "a key/value cache of %s wants keys and values of one size, not %zu and "
                        "%zu",
                        f->name, width_k, width_v);
    for (int of = 0; of < 2; of++) {
        size_t n;
        c->bytes[of] = f ? c->width[of] / head_dim * head : c->width[of] * sizeof(float);
        if (!nib_mul(n_layer, n_seq, &n) || !nib_mul(n, n_ctx, &n) ||
            !(c->row[of] = nib_alloc(n, c->bytes[of]))) {
            nib_kv_cache_free(c);
            return nib_fail_nomem(err, "key/value cache");
        }
    }
    return NIB_OK;
}

void nib_kv_cache_free(nib_kv_cache *c)
{
    for (int of = 0; of < 2; of++) nib_free(c->row[of]);
    *c = (nib_kv_cache){0};
}

uint64_t nib_kv_cache_bytes(const nib_kv_cache *c)
{
    return (uint64_t)c->n_layer * c->n_seq * c->n_ctx * (c->bytes[0] + c->bytes[1]);
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

static void put(nib_kv_cache *c, int of, size_t layer, size_t seq, size_t pos, size_t n,
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

void nib_kv_put(nib_kv_cache *c, size_t layer, size_t seq, size_t pos, size_t n, const float *k,
                const float *v)
{
    put(c, 0, layer, seq, pos, n, k);
    put(c, 1, layer, seq, pos, n, v);
}

void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n)
{
    for (size_t l = 0; l < c->n_layer && from != to; l++)
        for (int of = 0; of < 2; of++)
            memcpy(nib_kv_row(c, of, l, to, 0), nib_kv_row(c, of, l, from, 0), n * c->bytes[of]);
}
