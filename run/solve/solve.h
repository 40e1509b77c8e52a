/* SPDX-License-Identifier: MIT */
/* run/solve/solve.h - solve the weights of a plan, one transformer block after the other.
 *
 * For each block: run the calibration windows through it and gather the second moments of every
 * distinct input; rescale its channels, where the recipe says so (run/solve/rescale.h); solve each
 * linear weight onto the format that the plan gives it (quant/gptq.h); run the windows through the
 * solved block: what comes out is the next block's input, so that later blocks make up for what
 * earlier ones lost. In memory at a time: one block's weights in f32, its moments, and the
 * activations (in a temporary file when they are large).
 *
 * A few windows are held out: they run through the original and the solved blocks side by side,
 * which at the end gives the Kullback-Leibler divergence that the blocks' quantization costs. */
#ifndef NIB_RUN_SOLVE_SOLVE_H
#define NIB_RUN_SOLVE_SOLVE_H

#include "calib/hessian_store.h"
#include "quant/gptq.h"
#include "quant/range.h"
#include "run/solve/divergence.h"
#include "run/plan/solve_opts.h"
#include "run/solve/rescale.h"
#include "formats/solved_file.h"

typedef struct {
    const char *name; /* in the output, borrowed from the plan */
    bool of_expert;
    uint32_t expert; /* whose, in a stack of all */
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
    bool from_stats;   /* of nib_solve_opts */
    nib_divergence kl; /* n = 0: no windows were held out */
    double seconds;    /* of its own; of what was shared, its part */
} nib_solve_report;

/* Of what decides the result: model, windows, formats, options. No windows with opts->stats, here
 * and in the run: w is NULL. */
NIB_MUST_USE nib_code nib_solve_fingerprint(uint64_t *out, const nib_plan *p, const nib_windows *w,
                                            const nib_solve_opts *opts, nib_err *err);

/* One output of a run. */
typedef struct {
    const nib_plan *plan;
    const nib_solve_opts *opts;
    nib_solved_file *file;    /* packed tensors go there; the caller closes it       */
    nib_solve_report *report; /* empty where it fails                                */
    nib_err err;              /* its code says what became of the output             */
} nib_solve_output;

enum { NIB_SOLVE_OUTPUTS = 32 }; /* most of one run */

/* Solve every tensor that the plans of out[n] mark so. Several outputs, which must be of one model,
 * windows and number of held-out ones, with neither statistics nor opts->true_sequential nor ranges
 * of rescaled blocks without propagation, take turns block by block: those that do not propagate
 * share one pass over the original model and its moments, and those that measure drift share its
 * activations. Each gets what it would alone. One that fails leaves the others alone, and what is
 * in its file may be taken up by a later run. */
void nib_solve_run(nib_solve_output *out, size_t n, const nib_windows *w, const nib_ctx *ctx);
void nib_solve_report_free(nib_solve_report *r);
/* Add the report as "solved"; false when memory is short. run/report.c. */
NIB_MUST_USE bool nib_solve_report_json(nib_json *parent, const nib_solve_report *r);

#endif
