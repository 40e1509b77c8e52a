/* SPDX-License-Identifier: MIT */
/* infer/generate.h - what a model says after a prompt.
 *
 * Token by token, by the sampler. With a draft, a smaller model of the same vocabulary, that one
 * proposes some tokens and the model looks at all of them at once; each is kept with probability
 * min(1, p / q), p and q what the two models' samplers gave it, and the first that is not is
 * replaced by a draw from max(p - q, 0), scaled (Leviathan, Kalman and Matias 2023; Chen et al.
 * 2023). So the text is distributed as without the draft, whatever that proposes; and greedily it
 * is the same, token for token, because a token's logits are the same bits however many are looked
 * at (decoder.h). */
#ifndef NIB_INFER_GENERATE_H
#define NIB_INFER_GENERATE_H

#include "infer/decoder.h"
#include "infer/sampler.h"
#include "infer/tokenizer.h"

enum { NIB_DRAFT_MAX = NIB_FEW_ROWS - 1 };

typedef struct {
    nib_sampling sampling;
    size_t most;         /* tokens at most                                        */
    const nib_ids *stop; /* tokens that end it                                    */
    nib_decoder *draft;  /* of one sequence, as long as the model's; NULL: none   */
    size_t n_draft;      /* tokens that it proposes at a time, 1 to NIB_DRAFT_MAX */
    size_t beams;        /* of nib_beam_search(), 2 to NIB_FEW_ROWS               */
} nib_generation;

/* Told of each token as it is chosen, but not of the one that ends the text. */
typedef struct {
    nib_code (*token)(void *arg, int32_t id, nib_err *err);
    void *arg;
} nib_token_sink;

typedef struct {
    int32_t *id;     /* [n] without the token that ended it                          */
    double *logprob; /* [n] natural, of the model itself: before penalties and filters */
    size_t n;
    int32_t ended_by;               /* -1: the most tokens were reached  */
    double logprob_end;             /* of that token                     */
    double prompt_seconds, seconds; /* until the first token; of the others */
    size_t n_proposed, n_accepted;  /* by the draft; of these, kept      */
} nib_generated;

/* `d` has one sequence and room for n_prompt + most tokens; what it holds already is the beginning
 * of the prompt. sink may be NULL. *out is the caller's to free, on failure too. */
NIB_MUST_USE nib_code nib_generate(nib_generated *out, nib_decoder *d, const int32_t *prompt,
                                   size_t n_prompt, const nib_generation *how,
                                   const nib_token_sink *sink, nib_err *err);
void nib_generated_free(nib_generated *g);

/* Room for `most` tokens; part of the above. */
NIB_MUST_USE nib_code nib_generated_new(nib_generated *g, size_t most, nib_err *err);

#endif
