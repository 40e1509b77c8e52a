/* SPDX-License-Identifier: MIT */
/* infer/loss.h - what one row of logits says: of the token that came, and beside what another model
 * predicts there. */
#ifndef NIB_INFER_LOSS_H
#define NIB_INFER_LOSS_H

#include "infer/ops.h"

#include <math.h>
#include <stdint.h>

enum { NIB_TOPS = 5 }; /* likeliest tokens that are looked at */

/* -log softmax(logits)[target], in nats. */
double nib_loss_token(const nib_ops *ops, const float *logits, size_t n_vocab, int32_t target);

/* What a reference predicts at one position: log-probabilities, logit[i] - log_sum. Borrowed. */
typedef struct {
    const float *logit; /* [n] */
    const int32_t
        *id; /* [n] whose they are, from the likeliest on, n >= NIB_TOPS; NULL: token i's */
    size_t n;
    double log_sum;
    double rest; /* with id: the probability of all other tokens together                        */
    double
        least;  /* a log-probability up to this one stands for anything below: it does not count */
                /* in the divergence from the reference; -INFINITY: there is no such            */
    double nll; /* of the token that came */
} nib_prediction;

/* A model's logits as such a prediction, without the loss. */
nib_prediction nib_prediction_of(const nib_ops *ops, const float *logits, size_t n_vocab);

typedef struct {
    double kl;            /* sum of p (log p - log q): of q, the other, from p, the reference     */
    double kl_back;       /* sum of q (log q - log p)                                             */
    int32_t top, ref_top; /* likeliest token of the other and of the reference, lowest on ties */
    float p_top, p_ref_top; /* their probabilities, each by its own model                         */
    int same; /* so many of the likeliest tokens, up to NIB_TOPS, are the same and in that order */
} nib_loss_pair;

/* One prediction beside the reference's, in nats over the whole vocabulary, summed in f64; the
 * other has all tokens. Where the reference has some tokens and the rest as one number, the rest
 * counts as one token, which makes both divergences smaller, never larger. */
nib_loss_pair nib_loss_compare(const nib_ops *ops, const nib_prediction *ref,
                               const nib_prediction *other);

#endif
