/* SPDX-License-Identifier: MIT */
/* infer/compare.h - what models predict beside what a base model predicts, on the same text.
 *
 * All models read the same chunks (infer/chunks.h) batch by batch; logits are compared a few rows
 * at a time, so memory is the models' activations of one batch and O(vocabulary), and 40 bytes per
 * model and scored position for what is said of single tokens. The base may be a file of what it
 * predicts (infer/base_file.h) in place of a model, and so may the others: what another engine made
 * of the same text. */
#ifndef NIB_INFER_COMPARE_H
#define NIB_INFER_COMPARE_H

#include "infer/base_file.h"

/* Given as a model with its tokenizer, or as a file of what one predicts. */
typedef struct {
    const char *name; /* in messages, borrowed */
    const nib_model *model;
    const nib_tokenizer *tok;
    const nib_base_file *file; /* beside the base with all tokens, llama.cpp's form */
    bool bf16; /* the residual stream is rounded to BF16 after each block: a base beside itself so
                  shows what rounding in engines does alone, the noise floor of all figures */
    nib_base_writer *save; /* of the base: opened; it is written, but not committed; or NULL */
} nib_compared;

/* Of one model at one scored position; of the base kl and kl_back are 0 and same is NIB_TOPS. */
typedef struct {
    double nll;         /* of the token that came                                        */
    double kl, kl_back; /* as nib_loss_pair                                              */
    float p_top;        /* of its likeliest token                                        */
    int32_t top;
    int32_t same; /* so many likeliest tokens are the base's, in order                   */
} nib_compare_token;

/* Positions by how likely the base's likeliest token is: below 25, 50, 75, 90 %, and above. */
enum { NIB_SURE_BINS = 5 };
extern const double nib_sure_from[NIB_SURE_BINS]; /* lowest probability of each, 0 first */

typedef struct {
    size_t n;            /* positions; with none the others are 0 */
    double kl, same_top; /* mean, share                            */
} nib_compare_sure;

typedef struct {
    double nll, ppl, ppl_error; /* as nib_ppl_result */
    /* Of the base these are 0 and 1. Divergence in nats; percentile f by linear interpolation at
     * f (n - 1) of the sorted values. */
    double change, change_error; /* of nll against the base's, over the same tokens          */
    double kl, kl_error; /* mean divergence from the base's predictions, its standard error */
    double kl_max, kl_999, kl_99, kl_90, kl_median;
    double kl_back, kl_back_error; /* mean divergence of the base's predictions from its own */
    double rms_dp; /* root mean square of what the next token's probability changed by       */
    double same_top, same_top_error; /* share of positions with the same most likely token */
    double same_first[NIB_TOPS];     /* [k]: share where the k + 1 likeliest tokens are the same  */
                                     /* in the same order; [0] is same_top                       */
    nib_compare_sure sure[NIB_SURE_BINS];
    double seconds; /* that its forward passes took; 0 of a base file */
} nib_compare_line;

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx, n_tokens, n_chunks, n_scored;
    double seconds;
    size_t n;                  /* models                                                        */
    nib_compare_token **token; /* [n][n_scored], owned                                          */
    int32_t *id;               /* [n_chunks * n_ctx] the text's tokens, owned                   */
    size_t first, per_chunk; /* scored position s is first + s % per_chunk of chunk s / per_chunk */
} nib_compare_result;

/* line[n] for m[n], the first of which is the base. The tokenizer of the first that has one cuts
 * the text, which may be NULL where the base is a file, for the tokens of that. A model whose
 * vocabulary or tokens differ from the base's is an error. Of opts what a base file says already
 * may be 0. *r is freed with nib_compare_free(); it is empty on failure. */
NIB_MUST_USE nib_code nib_compare_run(nib_compare_result *r, nib_compare_line *line,
                                      const nib_compared *m, size_t n, const char *text,
                                      size_t n_text, const nib_ppl_opts *opts, const nib_ctx *ctx,
                                      nib_err *err);
void nib_compare_free(nib_compare_result *r); /* accepts {0} */

/* All of a line but `seconds`, from what was noted of single tokens: of a model beside the base;
 * token == base: of the base. infer/compare_line.c. */
NIB_MUST_USE nib_code nib_compare_summarize(nib_compare_line *l, const nib_compare_token *token,
                                            const nib_compare_token *base, size_t n, nib_err *err);

#endif
