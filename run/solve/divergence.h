/* SPDX-License-Identifier: MIT */
/* run/solve/divergence.h - how far two streams of final activations are apart in what they predict.
 */
#ifndef NIB_RUN_SOLVE_DIVERGENCE_H
#define NIB_RUN_SOLVE_DIVERGENCE_H

#include "infer/graph.h"
#include "calib/activation_store.h"

typedef struct {
    size_t n;        /* positions compared */
    double kl;       /* mean divergence of `b`'s predictions from `a`'s, nats */
    double error;    /* its standard error */
    double logits;   /* ||b - a|| / ||a|| over all logits */
    double same_top; /* share of positions where both hold the same token most likely */
} nib_divergence;

/* Rows [0, n) of a against rows [b0, b0 + n) of b; both through the graph's final norm and output
 * matrix. */
NIB_MUST_USE nib_code nib_divergence_rows(nib_divergence *out, nib_graph *g,
                                          const nib_activation_store *a,
                                          const nib_activation_store *b, size_t b0, size_t n,
                                          const nib_ctx *ctx, nib_err *err);

#endif
