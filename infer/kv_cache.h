/* SPDX-License-Identifier: MIT */
/* infer/kv_cache.h - inside infer/: the keys and values of what a model has read.
 *
 * A row is what one token left in one layer: the keys (or values) of all heads, one after the
 * other. */
#ifndef NIB_INFER_KV_CACHE_H
#define NIB_INFER_KV_CACHE_H

#include "base/err.h"
#include "base/mem.h"
#include "infer/kv_format.h"

typedef struct {
    const nib_kv_format *format; /* NULL: f32                          */
    bool rotate;
    size_t n_layer, n_seq, n_ctx;
    size_t head_dim;
    size_t width[2]; /* values of a row of keys, of values */
    size_t bytes[2]; /* of such a row                      */
    uint8_t *row[2]; /* [n_layer][n_seq][n_ctx][bytes]     */
} nib_kv_cache;

/* Rows of whole heads of head_dim. NIB_EINVAL: blocks of the format do not fit into them. */
NIB_MUST_USE nib_code nib_kv_cache_new(nib_kv_cache *c, const nib_kv_choice *how, size_t n_layer,
                                       size_t n_seq, size_t n_ctx, size_t head_dim, size_t width_k,
                                       size_t width_v, nib_err *err);
void nib_kv_cache_free(nib_kv_cache *c); /* accepts {0} */
uint64_t nib_kv_cache_bytes(const nib_kv_cache *c);

/* Where the row of a position begins; `of` is 0 for keys, 1 for values. Those of the positions
 * after it follow. */
static inline uint8_t *nib_kv_row(const nib_kv_cache *c, int of, size_t layer, size_t seq,
                                  size_t pos)
{
    return c->row[of] + ((layer * c->n_seq + seq) * c->n_ctx + pos) * c->bytes[of];
}

/* Where the cache rotates: heads of keys or queries x[n_heads][head_dim]; heads of values, or of
 * what attention made of them. */
void nib_kv_rotate_keys(const nib_kv_cache *c, float *x, size_t n_heads);
void nib_kv_rotate_values(const nib_kv_cache *c, float *x, size_t n_heads);
/* Keep k[n][width of keys] and v[n][width of values] of positions pos, pos + 1 ..., as they are,
 * or rounded as the format has it. */
void nib_kv_put(nib_kv_cache *c, size_t layer, size_t seq, size_t pos, size_t n, const float *k,
                const float *v);
/* What sequence `to` holds before position n becomes what `from` holds there. */
void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n);

#endif
