/* SPDX-License-Identifier: MIT */
/* infer/delta.h - inside infer/: what layers of linear attention do besides matrix products, the
 * gated delta rule (Yang, Kautz and Hatamizadeh 2024), as Qwen3-Next has it. */
#ifndef NIB_INFER_DELTA_H
#define NIB_INFER_DELTA_H

#include "infer/graph_state.h"

/* A batch of such a layer, of whole sequences. */
typedef struct {
    nib_graph *g;
    size_t n_seq, n_tok;
    const float *kernel; /* [channels][taps]                                             */
    float *x;            /* [n_seq][n_tok][channels]: queries, keys and values           */
    const float *beta;   /* [n_seq][n_tok][value heads], before the sigmoid              */
    const float *decay;  /* [n_seq][n_tok][value heads], factors of the state            */
    float *out;          /* [n_seq][n_tok][value heads][value size]                      */
} nib_delta;

/* Values of a row of x. */
size_t nib_delta_channels(const nib_hparams *hp);

/* x = silu of the causal convolution of each channel with its kernel, in place. */
NIB_MUST_USE nib_code nib_delta_convolve(const nib_delta *d, nib_err *err);
/* Of each value head with its key head, queries and keys of length 1, a state S from 0 on:
 * S = decay S; S += k (sigmoid(beta) (v - S'k)); out = S'q / sqrt(key size). */
NIB_MUST_USE nib_code nib_delta_attend(const nib_delta *d, nib_err *err);

#endif
