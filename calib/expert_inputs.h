/* SPDX-License-Identifier: MIT */
/* calib/expert_inputs.h - what the experts of a block read: every token's activations, kept once,
 * and which of them each expert was given.
 *
 * Second moments of all experts of a block together would be many times the size of the block (128
 * experts of 2048 channels: 2 GB). So their inputs are kept instead, in memory or in a file, and
 * the moments of one expert are summed up when its turn comes. */
#ifndef NIB_CALIB_EXPERT_INPUTS_H
#define NIB_CALIB_EXPERT_INPUTS_H

#include "base/ctx.h"
#include "calib/activation_store.h"
#include "infer/graph.h"

/* Start with {0}. */
typedef struct {
    nib_activation_store x; /* [rows][n_embd] */
    struct {
        nib_buf row;   /* uint32_t [n] rows of x, ascending               */
        nib_buf scale; /* float [n] by which it read them multiplied, or nothing */
        size_t n;
    } * of; /* [n_expert] */
    size_t n_expert;
    bool all_experts;    /* each is to be shown every token; set by the caller */
    size_t before, rows; /* rows that came before this batch, and with it */
} nib_expert_inputs;

/* Room for the inputs of `rows` tokens of one block after the other. `limit` and `beside` as in
 * nib_activation_store_new(). */
NIB_MUST_USE nib_code nib_expert_inputs_new(nib_expert_inputs *e, const nib_hparams *hp,
                                            size_t rows, uint64_t limit, const char *beside,
                                            nib_err *err);
void nib_expert_inputs_free(nib_expert_inputs *e); /* accepts {0} */

/* Before a pass through a block. */
void nib_expert_inputs_start(nib_expert_inputs *e);
/* What routers and experts read, in a pass over whole windows; other inputs are passed over. Keeps
 * a pointer to e. */
nib_observer nib_expert_inputs_observer(nib_expert_inputs *e);
/* Rows [first, first + n) of what the expert read into x[n][n_embd]. */
NIB_MUST_USE nib_code nib_expert_inputs_get(const nib_expert_inputs *e, uint32_t expert,
                                            size_t first, size_t n, float *x, nib_err *err);

#endif
