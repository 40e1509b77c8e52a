/* SPDX-License-Identifier: MIT */
/* infer/ppl.h - perplexity by the protocols of infer/chunks.h.
 *
 * Losses are summed in f64. Error, as llama.cpp has it: PPL * sqrt(var / (count - 1)). */
#ifndef NIB_INFER_PPL_H
#define NIB_INFER_PPL_H

#include "infer/chunks.h"

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx, n_tokens, n_chunks, n_scored;
    double nll;              /* mean negative log-likelihood, nats per token */
    double ppl, error;       /* exp(nll) and its standard error               */
    const char *activations; /* how they were rounded: nib_model_activations() */
    double seconds;
} nib_ppl_result;

/* Sees every scored token; `index` counts them in order of the text. May be called by several
 * threads at once. */
typedef struct {
    void (*token)(void *arg, size_t index, int32_t target, const float *logits, size_t n_vocab,
                  double nll);
    void *arg;
} nib_token_consumer;

/* consumer may be NULL. Text shorter than one window (llama.cpp: two chunks) is an error that says
 * how long it is and should be. */
NIB_MUST_USE nib_code nib_ppl_run(nib_ppl_result *r, const nib_model *m, const nib_tokenizer *tok,
                                  const char *text, size_t n_text, const nib_ppl_opts *opts,
                                  const nib_token_consumer *consumer, const nib_ctx *ctx,
                                  nib_err *err);

#endif
