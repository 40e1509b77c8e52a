/* SPDX-License-Identifier: MIT */
/* calib/input_ranges.h - what the linear weights of a model's blocks read: a histogram
 * (quant/hist.h) of every input, and the ranges that are found from it.
 *
 * A window of sample text is a batch of the moving average. Nothing here depends on the number of
 * threads or on how many windows run at a time. */
#ifndef NIB_CALIB_INPUT_RANGES_H
#define NIB_CALIB_INPUT_RANGES_H

#include "calib/ranges.h"
#include "calib/text.h"
#include "infer/graph.h"

/* One input: the weights that read it, and what was seen. */
typedef struct {
    uint32_t layer;
    nib_role role[NIB_READERS_MAX];
    size_t n_roles;
    nib_hist hist;
} nib_input_histogram;

/* Start with the first two set, the rest {0}. */
typedef struct {
    const nib_ctx *ctx;
    size_t n_ctx;               /* rows of a window                                      */
    nib_input_histogram *input; /* [n] owned, in the order in which they were seen first */
    size_t n, room;
    nib_buf work; /* of all histograms */
} nib_input_ranges;

/* For a pass of whole windows through any number of blocks. Keeps a pointer to a. NIB_ENUMERIC
 * names the weight whose input is not finite. */
nib_observer nib_input_ranges_observer(nib_input_ranges *a);
/* The range of what the weight of that role reads, which was observed, by a method of
 * quant/range.h. NIB_ENUMERIC names the weight whose input was always 0. */
NIB_MUST_USE nib_code nib_input_ranges_find(nib_range *out, const nib_input_ranges *a,
                                            uint32_t layer, nib_role role, nib_range_method method,
                                            double percentile, nib_err *err);
/* Forget what was seen: before other blocks, and at the end. */
void nib_input_ranges_free(nib_input_ranges *a);

/* All ranges of a model, in one run of it. `percentile`, between 0 and 100, serves that method
 * alone. Errors as above; *out is then empty. */
NIB_MUST_USE nib_code nib_measure_ranges(nib_ranges *out, const nib_model *m, const nib_windows *w,
                                         nib_range_method method, double percentile,
                                         const nib_ctx *ctx, nib_err *err);

#endif
