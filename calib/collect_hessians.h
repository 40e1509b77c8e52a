/* SPDX-License-Identifier: MIT */
/* calib/collect_hessians.h - collect the second moments that solving needs, for many runs of it.
 *
 * Windows of sample text go through the original model, one block after the other. In memory at a
 * time: one block's moments, and the activations (in a temporary file when they are large). */
#ifndef NIB_CALIB_COLLECT_HESSIANS_H
#define NIB_CALIB_COLLECT_HESSIANS_H

#include "calib/hessian_store.h"

typedef struct {
    uint64_t memory; /* bytes of activations to keep in memory          */
    bool force;      /* an existing folder of statistics is replaced    */
} nib_collect_opts;

/* What was collected. */
typedef struct {
    size_t inputs;
    uint64_t bytes;
} nib_collect_report;

/* Can the folder be made? Asked before the model is opened. */
NIB_MUST_USE nib_code nib_collect_check(const char *dir, bool force, nib_err *err);
/* Make it (calib/hessian_store.h). It appears under its name when it is whole. */
NIB_MUST_USE nib_code nib_collect_hessians(nib_collect_report *r, const char *dir,
                                           const nib_model *m, const nib_windows *w,
                                           const nib_collect_opts *opts, const nib_ctx *ctx,
                                           nib_err *err);

#endif
