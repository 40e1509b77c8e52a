/* SPDX-License-Identifier: MIT */
/* calib/collect_importance.h - the calibration run: a model over windows of sample text, to an
 * importance matrix.
 *
 * Every linear weight of the blocks gets an entry under its GGUF name, with the sums of squares of
 * its inputs over all tokens of all windows. Weights that read the same input (q, k, v; gate, up)
 * have equal entries. The rotary layout of q and k permutes rows only, so the sums do not depend on
 * the kind of source. The same windows give the same bits, whatever the number of threads, and
 * whether or not the run was interrupted. */
#ifndef NIB_CALIB_COLLECT_IMPORTANCE_H
#define NIB_CALIB_COLLECT_IMPORTANCE_H

#include "base/ctx.h"
#include "calib/imatrix.h"
#include "calib/sample.h"
#include "infer/model.h"

enum {
    NIB_CALIB_CTX = 512,         /* usual tokens of a window               */
    NIB_CALIB_MAX_WINDOWS = 1024 /* windows when the user does not say     */
};

typedef struct {
    bool process_output;    /* also the output matrix, where the model has one of its own; default
                               off, as in llama.cpp */
    bool all_experts;       /* every expert is shown every token, default off */
    const char *checkpoint; /* file to keep an unfinished run in; NULL = none, the default. A run
                               that finds one of the same model, windows and options goes on from
                               it; one of another run is replaced, with a warning; any other file
                               there is an error. It stays: the caller removes it when the result
                               is safe                                                          */
    double save_every;      /* seconds between checkpoints, default 180; 0 = after each batch   */
} nib_calib_opts;

nib_calib_opts nib_calib_defaults(void);

/* Run m over the windows. *out has no data set names: the caller adds them. On failure it is empty.
 */
NIB_MUST_USE nib_code nib_collect_importance(nib_imatrix *out, const nib_model *m,
                                             const nib_windows *w, const nib_calib_opts *opts,
                                             const nib_ctx *ctx, nib_err *err);

/* Add the names of the texts, without their folders and weights, as data sets: what a quantized
 * model will mention. */
NIB_MUST_USE nib_code nib_importance_texts(nib_imatrix *m, const nib_sample *s, nib_err *err);

#endif
