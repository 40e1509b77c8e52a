/* SPDX-License-Identifier: MIT */
/* infer/compare.h - what models predict beside what a base model predicts, on the same text.
 *
 * All models read the same chunks (infer/chunks.h) batch by batch; logits are compared a few rows
 * at a time, so memory is the models' activations of one batch and O(vocabulary), and 4 bytes per
 * model and scored position for the percentiles. */
#ifndef NIB_INFER_COMPARE_H
#define NIB_INFER_COMPARE_H

#include "infer/chunks.h"

typedef struct {
    const char *name; /* in messages, borrowed */
    const nib_model *model;
    const nib_tokenizer *tok;
} nib_compared;

typedef struct {
    double nll, ppl, ppl_error; /* as nib_ppl_result */
    /* Of the base these are 0 and 1. Divergence in nats; percentile f by linear interpolation at
     * f (n - 1) of the sorted values. */
    double change, change_error; /* of nll against the base's, over the same tokens          */
    double kl, kl_error; /* mean divergence from the base's predictions, its standard error */
    double kl_max, kl_999, kl_99, kl_90, kl_median;
    double rms_dp; /* root mean square of what the next token's probability changed by       */
    double same_top, same_top_error; /* share of positions with the same most likely token */
} nib_compare_line;

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx, n_tokens, n_chunks, n_scored;
    double seconds;
} nib_compare_result;

/* line[n] for m[n], the first of which is the base, whose tokenizer cuts the text. A model whose
 * vocabulary or tokens differ from the base's is an error. */
NIB_MUST_USE nib_code nib_compare_run(nib_compare_result *r, nib_compare_line *line,
                                      const nib_compared *m, size_t n, const char *text,
                                      size_t n_text, const nib_ppl_opts *opts, const nib_ctx *ctx,
                                      nib_err *err);

#endif
