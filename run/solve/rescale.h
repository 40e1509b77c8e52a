/* SPDX-License-Identifier: MIT */
/* run/solve/rescale.h - rescale the channels of a block before its weights are rounded: AWQ,
 * SmoothQuant.
 *
 * For each input of a block that something can absorb a scale of (nib_input) the weights that read
 * it are multiplied by a scale per channel and what produces the input is divided by it, so the
 * block computes the same; that is checked after every one. A norm is stored in the output's
 * format, and the scales are taken from what is stored, so that its rounding costs nothing. A
 * scaling is left out where one of its tensors is not the solver's to write. */
#ifndef NIB_RUN_SOLVE_RESCALE_H
#define NIB_RUN_SOLVE_RESCALE_H

#include "run/plan/solve_opts.h"
#include "run/solve/layer_weights.h"
#include "calib/hessian.h"
#include "calib/block_pass.h"

/* Of one scaling: the first weight that reads the input, the AWQ ratio or alpha (-1: left alone)
 * and mean squared errors of the output with rounded weights (0: not measured). */
typedef struct {
    const char *name;
    double chosen, unscaled, scaled;
} nib_rescale_line;

/* Largest relative difference that a rescaling may make to the output of a block, or, at the end,
 * to the model's logits. */
#define NIB_RESCALE_TOLERANCE 1e-4

typedef struct nib_rescaler nib_rescaler;

/* By the method that the plan's recipe has as its transform. All but the options is borrowed. */
NIB_MUST_USE nib_code nib_rescaler_new(nib_rescaler **out, const nib_plan *p,
                                       const nib_rescale_opts *opts, nib_runner *runner,
                                       const nib_ctx *ctx, nib_err *err);
void nib_rescaler_free(nib_rescaler *r); /* accepts NULL */
/* What searches found in a block, for outputs that would search for the same again. Start with {0}.
 */
typedef struct {
    struct {
        uint64_t key; /* of all that the search looked at */
        nib_buf scales;
        double chosen, unscaled, scaled;
    } found[64];
    size_t n;
} nib_rescale_memo;

void nib_rescale_memo_free(nib_rescale_memo *m);
/* From now on for another output of the same model. memo: NULL, or where searches are looked up and
 * kept; the caller empties it (n = 0) before the next block. */
void nib_rescaler_use(nib_rescaler *r, const nib_plan *p, const nib_rescale_opts *opts,
                      nib_rescale_memo *memo);

/* For a loaded block: take windows that errors are measured on out of [0, n) of its inputs x, which
 * may move on afterwards. */
NIB_MUST_USE nib_code nib_rescale_begin(nib_rescaler *r, nib_layer_weights *b,
                                        const nib_block_pass *x, size_t n, nib_err *err);
/* Rescale it. m: moments of its linears' inputs with sizes, which become those of the rescaled
 * block. Norms and biases that changed go to `keep`. lines[NIB_INPUTS_MAX] gets *n_lines.
 * NIB_ENUMERIC names the scaling whose result does not compute the same. */
NIB_MUST_USE nib_code nib_rescale_block(nib_rescaler *r, nib_layer_weights *b, nib_hessians *m,
                                        nib_commit *keep, nib_rescale_line *lines, size_t *n_lines,
                                        nib_err *err);

#endif
