/* SPDX-License-Identifier: MIT */
/* infer/attn.h - causal attention, tiled: memory grows with the tile, not with the context. */
#ifndef NIB_INFER_ATTN_H
#define NIB_INFER_ATTN_H

#include "base/err.h"
#include "base/mem.h"
#include "infer/kv_cache.h"
#include "infer/ops.h"

#include <stdbool.h>

typedef struct {
    size_t n_seq, n_tok; /* rows of q: n_seq * n_tok                            */
    size_t pos;          /* of each sequence's first token; it sees keys 0..pos */
    size_t window;       /* keys that a token sees at most, its own included; 0: all */
    bool by_token;       /* each query for itself, in an order that no other query changes: a  */
                         /* token has the same bits alone and among others                     */
    bool chunked;        /* a token sees its own of the chunks of `window` tokens instead */
    size_t n_head, n_head_kv, head_dim, value_dim; /* of queries and keys, and of values */
    const float *sink; /* [n_head] a score that counts beside the keys' and has no value; or NULL */
    const float *slope; /* [n_head] taken off the score for each token of distance; or NULL       */
    bool slope_rounded; /* position, slope and product in bf16, and added before the scale        */
    float scale;        /* of the scores                                        */
    float softcap;      /* c: scaled scores s become c tanh(s / c); 0: they don't */
    const float *q;     /* [n_seq][n_tok][n_head][head_dim]                         */
    float *out;         /* [n_seq][n_tok][n_head][value_dim]; of one size it may be q */
    const float *k, *v; /* [n_seq][pos + n_tok][n_head_kv][head_dim], [value_dim]   */
    size_t kv_tokens;   /* from one sequence's keys and values to the next one's    */
    const nib_kv_cache *cache; /* NULL, or what has keys and values in their place, ... */
    size_t layer;              /* ... in this layer, whose batch was put              */
    unsigned cpu;
    const nib_ops *ops;
    int threads;
    nib_buf *scratch; /* [threads] */
} nib_attn;

/* out = softmax(scale q k^T) v, the scores capped before that, head h with key/value head h /
 * (n_head / n_head_kv), each token seeing keys up to its own position, the last `window` of them.
 */
NIB_MUST_USE nib_code nib_attention(const nib_attn *a, nib_err *err);

#endif
