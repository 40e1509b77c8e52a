/* SPDX-License-Identifier: MIT */
/* infer/sampler.h - the next token from bare logits.
 *
 * In the order of Transformers' generate(), each step on what the one before it left:
 *
 * repetition penalty r: of tokens that the prompt or the output holds, l / r where l > 0, else l r
 *     (Keskar et al. 2019)
 * presence penalty p: of tokens that the output holds, l - p
 * temperature T: l / T; at 0 the most likely token is taken, whatever follows
 * top-k: the k most likely
 * top-p: the fewest most likely whose probabilities add up to p or more (Holtzman et al. 2019)
 * min-p: those with at least m times the probability of the most likely one (Nguyen et al. 2024)
 *
 * Of equally likely tokens the one with the lower id comes first, so top-k keeps k and no more.
 * Probabilities and sums are f64. Random numbers are xoshiro256** (Blackman and Vigna 2018), its
 * state from the seed by splitmix64: the same seed gives the same draws. */
#ifndef NIB_INFER_SAMPLER_H
#define NIB_INFER_SAMPLER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double temperature;        /* 0: the most likely token */
    uint64_t top_k;            /* 0: all                   */
    double top_p;              /* 1: all                   */
    double min_p;              /* 0: all                   */
    double repetition_penalty; /* 1: none                  */
    double presence_penalty;   /* 0: none                  */
    uint64_t seed;
} nib_sampling;

/* Greedy, nothing filtered. */
#define NIB_SAMPLING_DEFAULT                                                                       \
    {                                                                                              \
        .top_p = 1, .repetition_penalty = 1                                                        \
    }

/* A token and its probability. */
typedef struct {
    int32_t id;
    float logit; /* after penalties, before the temperature */
    double p;
} nib_candidate;

/* What a step may end in: the tokens that the filters left, with probabilities that add up to 1;
 * the most likely first where top-k or top-p sorted them, else in order of their ids. */
typedef struct {
    const nib_candidate *of; /* [n] */
    size_t n;
} nib_distribution;

typedef struct nib_sampler nib_sampler;

/* NIB_EINVAL: an option outside of what it may be. */
NIB_MUST_USE nib_code nib_sampler_new(nib_sampler **out, const nib_sampling *how, size_t n_vocab,
                                      nib_err *err);
void nib_sampler_free(nib_sampler *s); /* accepts NULL */

/* Tokens of the prompt, and of the output; a token of the output may be taken back. Those outside
 * of the vocabulary count for nothing. */
void nib_sampler_saw_prompt(nib_sampler *s, const int32_t *id, size_t n);
void nib_sampler_saw(nib_sampler *s, int32_t id);
void nib_sampler_forget(nib_sampler *s, int32_t id);

/* Of logits[n_vocab]. Valid until the next call; at temperature 0 it is one token. NIB_ENUMERIC:
 * the logits are not finite; -infinity is allowed. */
NIB_MUST_USE nib_code nib_sampler_distribution(nib_sampler *s, const float *logits,
                                               nib_distribution *out, nib_err *err);
/* A token of it, by the next random number; none is used up where there is but one. */
int32_t nib_sampler_draw(nib_sampler *s, const nib_distribution *d);

/* The next random number, from [0, 1). */
double nib_sampler_uniform(nib_sampler *s);

#endif
