/* SPDX-License-Identifier: MIT */
/* infer/loss.h - what one row of logits says: of the token that came, and beside another row. */
#ifndef NIB_INFER_LOSS_H
#define NIB_INFER_LOSS_H

#include "infer/ops.h"

#include <stdbool.h>
#include <stdint.h>

/* -log softmax(logits)[target], in nats. */
double nib_loss_token(const nib_ops *ops, const float *logits, size_t n_vocab, int32_t target);

/* Kullback-Leibler divergence of softmax(b) from softmax(a): sum of p_a (log p_a - log p_b) over
 * the whole vocabulary in f64, nats. *same_top: both hold the same token most likely, the lowest
 * index on ties. */
double nib_loss_kl(const nib_ops *ops, const float *a, const float *b, size_t n_vocab,
                   bool *same_top);

#endif
