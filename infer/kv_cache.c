/* SPDX-License-Identifier: MIT */
/* infer/kv_cache.c - see kv_cache.h. Tests: tests/infer/test_graph.c, tests/infer/test_beam.c. */
#include "infer/kv_cache.h"

#include <string.h>

nib_code nib_kv_cache_new(nib_kv_cache *c, size_t n_layer, size_t n_seq, size_t n_ctx,
                          size_t width_k, size_t width_v, nib_err *err)
{
    *c = (nib_kv_cache){
        .n_layer = n_layer, .n_seq = n_seq, .n_ctx = n_ctx, .width = {width_k, width_v}};
    for (int of = 0; of < 2; of++) {
        size_t n;
        c->bytes[of] = c->width[of] * sizeof(float);
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

void nib_kv_put(nib_kv_cache *c, size_t layer, size_t seq, size_t pos, size_t n, const float *k,
                const float *v)
{
    memcpy(nib_kv_row(c, 0, layer, seq, pos), k, n * c->bytes[0]);
    memcpy(nib_kv_row(c, 1, layer, seq, pos), v, n * c->bytes[1]);
}

void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n)
{
    for (size_t l = 0; l < c->n_layer && from != to; l++)
        for (int of = 0; of < 2; of++)
            memcpy(nib_kv_row(c, of, l, to, 0), nib_kv_row(c, of, l, from, 0), n * c->bytes[of]);
}
