/* SPDX-License-Identifier: MIT */
/* infer/kv_cache.h - inside infer/: the keys and values of what a model has read.
 *
 * A row is what one token left in one layer: the keys (or values) of all heads, one after the
 * other. `of` is 0 for keys, 1 for values; each has a format of its own.
 *
 * In most formats a token is seen as it is kept by all, itself included. In those of KIVI
 * (kv_kivi.h) who looks sees the youngest as they were, in f32, and others as they are kept; which
 * is which depends on who looks (nib_kv_exact_from()). So the cache has each token as it is kept,
 * but for keys of a group that is not full yet, and the youngest NIB_KV_RECENT as they were; those
 * of a batch stay with the caller until all have looked. NIB_KV_RECENT is more than a token sees of
 * them, so that some can be taken back. */
#ifndef NIB_INFER_KV_CACHE_H
#define NIB_INFER_KV_CACHE_H

#include "base/err.h"
#include "base/mem.h"
#include "infer/kv_format.h"
#include "infer/kv_kivi.h"

enum {
    NIB_KV_BACK = 16, /* positions that can be taken back; or all */
    NIB_KV_RECENT = NIB_KIVI_RECENT + NIB_KV_BACK
};

typedef struct {
    nib_kv_side how[2]; /* NULL: f32 */
    size_t n_layer, n_seq, n_ctx;
    size_t dim[2];         /* of a head of keys, of values       */
    size_t width[2];       /* values of a row of keys, of values */
    size_t bytes[2];       /* of such a row                      */
    uint8_t *row[2];       /* [n_layer][n_seq][n_ctx][bytes]; keys of KIVI: group by group */
    float *recent[2];      /* of KIVI: [n_layer][n_seq][NIB_KV_RECENT][width], at position % that */
    const float *fresh[2]; /* with them, from nib_kv_put() to nib_kv_settle(): its k and v, ...  */
    size_t fresh_pos, n_fresh; /* ... [n_seq][n_fresh][width], from a position on              */
    size_t most;               /* of KIVI: positions that there were since the first, at most   */
} nib_kv_cache;

/* Rows of n_head heads, of keys and of values. NIB_EINVAL: blocks of a format do not fit into
 * them. */
NIB_MUST_USE nib_code nib_kv_cache_new(nib_kv_cache *c, const nib_kv_choice *how, size_t n_layer,
                                       size_t n_seq, size_t n_ctx, size_t n_head, size_t key_dim,
                                       size_t value_dim, nib_err *err);
void nib_kv_cache_free(nib_kv_cache *c); /* accepts {0} */
uint64_t nib_kv_cache_bytes(const nib_kv_cache *c);

/* Where the row of a position begins. Those of the positions after it follow; of KIVI's keys at the
 * first of a group all of them, head by head. */
static inline uint8_t *nib_kv_row(const nib_kv_cache *c, int of, size_t layer, size_t seq,
                                  size_t pos)
{
    return c->row[of] + ((layer * c->n_seq + seq) * c->n_ctx + pos) * c->bytes[of];
}

/* Where the cache rotates: heads x[n_heads][dim] of keys or queries (0); of values, or of what
 * attention made of them (1). */
void nib_kv_rotate(const nib_kv_cache *c, int of, float *x, size_t n_heads);

/* Keep k[n_seq][n][width of keys] and v[n_seq][n][width of values] of positions pos, pos + 1 ...,
 * as they are, or rounded as the format has it; then, when all have looked, settle. k and v are
 * borrowed until then. */
void nib_kv_put(nib_kv_cache *c, size_t layer, size_t n_seq, size_t pos, size_t n, const float *k,
                const float *v);
void nib_kv_settle(nib_kv_cache *c, size_t layer, size_t n_seq);

/* Of the first n positions, how many have rows as they are kept: of KIVI's keys whole groups. */
static inline size_t nib_kv_n_kept(const nib_kv_cache *c, int of, size_t n)
{
    return of == 0 && c->recent[0] ? n / NIB_KIVI_GROUP * NIB_KIVI_GROUP : n;
}

/* And how many have rows as they were, the last of them, when the cache has no more than n. */
static inline size_t nib_kv_n_recent(const nib_kv_cache *c, int of, size_t n)
{
    return !c->recent[of] ? 0 : n < NIB_KV_RECENT ? n : NIB_KV_RECENT;
}

/* Where such a row lies. */
static inline float *nib_kv_recent_row(const nib_kv_cache *c, int of, size_t layer, size_t seq,
                                       size_t pos)
{
    return c->recent[of] +
           ((layer * c->n_seq + seq) * NIB_KV_RECENT + pos % NIB_KV_RECENT) * c->width[of];
}

/* The first position whose row who looks from position `pos` sees as it was; those before it as
 * they are kept. SIZE_MAX: all are seen as they are kept. */
static inline size_t nib_kv_exact_from(const nib_kv_cache *c, int of, size_t pos)
{
    const size_t r = NIB_KIVI_RECENT;
    if (!c->recent[of]) return SIZE_MAX;
    return of == 0 ? pos / r * r : pos > r ? pos - r : 0;
}

/* Rows of positions pos .. pos + n - 1 of one head, as they are kept or as they were, to
 * to[n][dim]. For what has a format. */
void nib_kv_kept_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                      size_t pos, size_t n, float *to, unsigned cpu);
void nib_kv_exact_rows(const nib_kv_cache *c, int of, size_t layer, size_t seq, size_t head,
                       size_t pos, size_t n, float *to);

/* What sequence `to` holds before position n becomes what `from`, which has no more than that but
 * for what is taken back, holds there. */
void nib_kv_copy(nib_kv_cache *c, size_t from, size_t to, size_t n);

#endif
