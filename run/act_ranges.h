/* SPDX-License-Identifier: MIT */
/* run/act_ranges.h - ranges of what the linear layers of one block read, for folders whose engines
 * round activations by ranges that are found beforehand. */
#ifndef NIB_RUN_ACT_RANGES_H
#define NIB_RUN_ACT_RANGES_H

#include "formats/layout.h"
#include "infer/graph.h"
#include "quant/range.h"

/* One input of the block: every role that reads it, and what was seen. */
typedef struct {
    nib_role role[NIB_ROLE_COUNT];
    size_t n_roles;
    nib_hist hist;
} nib_act_input;

/* Start with the first two set, the rest {0}. */
typedef struct {
    const nib_ctx *ctx;
    size_t n_ctx; /* rows of a window: a batch of the moving average */
    nib_act_input *input;
    size_t n;
    nib_buf work; /* of all histograms */
} nib_act_ranges;

/* For the pass of the windows through the block. Keeps a pointer to a. */
nib_observer nib_act_ranges_observer(nib_act_ranges *a);
/* Scale and zero point for the input of `role`, by a method of quant/range.h. NIB_ENUMERIC when it
 * was always 0. */
NIB_MUST_USE nib_code nib_act_ranges_find(nib_act_range *out, const nib_act_ranges *a,
                                          nib_role role, nib_range_method method, double percentile,
                                          bool sym, nib_err *err);
/* Forget what was seen: before the next block, and at the end. */
void nib_act_ranges_free(nib_act_ranges *a);

#endif
