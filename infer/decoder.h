/* SPDX-License-Identifier: MIT */
/* infer/decoder.h - a model that is given a text piece by piece: the forward pass of graph.h with a
 * cache, and how much of the text is in it.
 *
 * Several sequences of the same length go side by side. Up to NIB_FEW_ROWS tokens at a time are
 * computed one by one, so that a token's logits do not depend on what was given with it; more are
 * faster each, and round differently. */
#ifndef NIB_INFER_DECODER_H
#define NIB_INFER_DECODER_H

#include "infer/graph.h"
#include "infer/linear.h"
#include "infer/ops.h"

typedef struct nib_decoder nib_decoder;

/* n_ctx: the most tokens of a sequence. kv: how the cache is kept. memory: bytes that the cache and
 * the weights that stay in memory may take, which become less by that, now and while it runs;
 * borrowed, so that several decoders can share it; NULL: any. NIB_EINVAL: the cache alone takes
 * more. The model is borrowed, ctx copied. */
NIB_MUST_USE nib_code nib_decoder_new(nib_decoder **out, const nib_model *m, const nib_ctx *ctx,
                                      size_t n_seq, size_t n_ctx, const nib_kv_choice *kv,
                                      uint64_t *memory, nib_err *err);
void nib_decoder_free(nib_decoder *d); /* accepts NULL */

const nib_model *nib_decoder_model(const nib_decoder *d);
nib_graph *nib_decoder_graph(nib_decoder *d);
/* For loops over its logits. */
const nib_ops *nib_decoder_ops(const nib_decoder *d);
/* Tokens of each sequence so far. */
size_t nib_decoder_length(const nib_decoder *d);
/* Forget all tokens from the n-th on, all of them or NIB_FEW_ROWS at most; or take it that the
 * cache holds n. */
void nib_decoder_set_length(nib_decoder *d, size_t n);

/* Go on with id[n_seq][n_tok], all within n_ctx; n_seq * n_tok is anything for one sequence, at
 * most NIB_FEW_ROWS for several. logits: of the last `wanted` tokens of each sequence,
 * [n_seq][wanted][n_vocab], valid until the next call; n_seq * wanted is at most NIB_FEW_ROWS; NULL
 * where wanted is 0. */
NIB_MUST_USE nib_code nib_decoder_feed(nib_decoder *d, const int32_t *id, size_t n_seq,
                                       size_t n_tok, size_t wanted, const float **logits,
                                       nib_err *err);

/* A prompt for sequence 0: all but its last token in large batches, then that one alone, so that
 * its logits are the same whether or not the rest was in the cache already. Tokens before the
 * decoder's length are skipped; n is more than that. */
NIB_MUST_USE nib_code nib_decoder_prompt(nib_decoder *d, const int32_t *id, size_t n,
                                         const float **logits, nib_err *err);

#endif
