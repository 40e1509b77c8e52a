/* SPDX-License-Identifier: MIT */
/* infer/ppl.h - perplexity by named protocols.
 *
 * llama.cpp: the whole text is tokenized (BOS in front if the model adds one); chunks of n_ctx
 * (512); each chunk's first token is replaced by BOS if the model adds one; positions n_ctx/2 ..
 * n_ctx-2 predict their next token; the rest of the text is dropped. Error: PPL * sqrt(var / (count
 * - 1)). window: non-overlapping windows of n_ctx (2048) of the text's tokens, no BOS put in, every
 * position but the last scored. What papers report. Losses are summed in f64. */
#ifndef NIB_INFER_PPL_H
#define NIB_INFER_PPL_H

#include "infer/graph.h"
#include "infer/tokenizer.h"

typedef enum { NIB_PPL_LLAMACPP, NIB_PPL_WINDOW } nib_ppl_protocol;

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx; /* 0 = the protocol's default: 512 or 2048 (or the model's context if shorter) */
    size_t max_chunks; /* 0 = all */
} nib_ppl_opts;

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx, n_tokens, n_chunks, n_scored;
    double nll;        /* mean negative log-likelihood, nats per token */
    double ppl, error; /* exp(nll) and its standard error               */
    double seconds;
} nib_ppl_result;

/* Sees every scored token; `index` counts them in order of the text. May be called by several
 * threads at once. */
typedef struct {
    void (*token)(void *arg, size_t index, int32_t target, const float *logits, size_t n_vocab,
                  double nll);
    void *arg;
} nib_token_consumer;

const char *nib_ppl_protocol_name(nib_ppl_protocol p); /* "llama.cpp", "window" */

/* consumer may be NULL. Text shorter than one window (llama.cpp: two chunks) is an error that says
 * how long it is and should be. */
NIB_MUST_USE nib_code nib_ppl_run(nib_ppl_result *r, const nib_model *m, const nib_tokenizer *tok,
                                  const char *text, size_t n_text, const nib_ppl_opts *opts,
                                  const nib_token_consumer *consumer, const nib_ctx *ctx,
                                  nib_err *err);

#endif
