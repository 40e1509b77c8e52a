/* SPDX-License-Identifier: MIT */
/* run/solve.h - solve the weights of a plan, one transformer block after the other.
 *
 * For each block: run the calibration windows through it and gather the second moments of every
 * distinct input; rescale its channels, where the recipe says so (run/rescale.h); solve each linear
 * weight onto the format that the plan gives it (quant/gptq.h); run the windows through the solved
 * block: what comes out is the next block's input, so that later blocks make up for what earlier
 * ones lost. In memory at a time: one block's weights in f32, its moments, and the activations (in
 * a temporary file when they are large).
 *
 * A few windows are held out: they run through the original and the solved blocks side by side,
 * which at the end gives the Kullback-Leibler divergence that the blocks' quantization costs. */
#ifndef NIB_RUN_SOLVE_H
#define NIB_RUN_SOLVE_H

#include "calib/stats.h"
#include "quant/gptq.h"
#include "quant/range.h"
#include "run/kl.h"
#include "run/plan.h"
#include "run/rescale.h"
#include "run/side.h"

enum { NIB_SOLVE_CTX = 2048, NIB_SOLVE_WINDOWS = 128 }; /* when the user does not say */

typedef struct {
    nib_gptq_opts gptq;
    bool propagate; /* default on; off: every block sees the original model's activations      */
    bool true_sequential; /* also inside a block: moments again after each group of weights, default
                             off; needs propagate */
    double drift; /* share of the activations' drift to make up for (quant/retarget.h), in [0, 1],
                     default 0.5; see nib_solve_drift()                                         */
    size_t held_out; /* windows not calibrated on, default 8, at most an eighth of all           */
    nib_rescale_opts rescale;
    nib_range_method range; /* for ranges measured in the run; default minmax, and ...            */
    double percentile;      /* ... NIB_RANGE_PERCENT, for the method of that name                 */
    uint64_t memory; /* bytes of activations to keep in memory, default NIB_ROWS_MEMORY          */
    const nib_stats *stats; /* moments that were collected earlier; default NULL: from windows.   */
                            /* The model does not run then: of the rest only gptq has a use.      */
} nib_solve_opts;

/* These and the fingerprint below: run/solve_opts.c. */
nib_solve_opts nib_solve_defaults(void);
/* What is used of opts->drift: 0 where the drift is not known (without propagation, with
 * statistics) or no weight is solved by GPTQ. */
double nib_solve_drift(const nib_plan *p, const nib_solve_opts *opts);

typedef struct {
    const char *name; /* GGUF name, borrowed from the plan */
    const nib_codec *codec;
    double rtn, solved; /* output error as shares of the output's energy */
    double damp, seconds;
} nib_solve_line;

typedef struct {
    nib_solve_line *line;
    size_t n;
    nib_rescale_line *rescaled;
    size_t n_rescaled;
    size_t windows, held_out, n_ctx;
    bool from_stats; /* of nib_solve_opts */
    nib_kl kl;       /* n = 0: no windows were held out */
    double seconds;
} nib_solve_report;

/* Of what decides the result: model, windows, formats, options. No windows with opts->stats, here
 * and in the run: w is NULL. */
NIB_MUST_USE nib_code nib_solve_fingerprint(uint64_t *out, const nib_plan *p, const nib_windows *w,
                                            const nib_solve_opts *opts, nib_err *err);

/* Solve every tensor of the plan that is marked so; packed tensors go to `side`, which the caller
 * closes. On failure the report is empty, but the side file may be taken up by a later run. */
NIB_MUST_USE nib_code nib_solve_run(nib_solve_report *r, nib_side *side, const nib_plan *p,
                                    const nib_windows *w, const nib_solve_opts *opts,
                                    const nib_ctx *ctx, nib_err *err);
void nib_solve_report_free(nib_solve_report *r);
/* Estimate of the memory that a run over so many windows takes beside the opened model, in bytes.
 * run/solve_memory.c. */
uint64_t nib_solve_memory(const nib_plan *p, size_t windows, size_t n_ctx,
                          const nib_solve_opts *opts, int threads);
/* Bytes of activations that it writes to a file because they are more than opts->memory.
 * run/solve_memory.c. */
uint64_t nib_solve_spilled(const nib_plan *p, size_t windows, size_t n_ctx,
                           const nib_solve_opts *opts);
/* Add the report as "solved"; false when memory is short. run/report.c. */
NIB_MUST_USE bool nib_solve_report_json(nib_json *parent, const nib_solve_report *r);

#endif
