/* SPDX-License-Identifier: MIT */
/* calib/pass.h - run a model over windows of sample text, with an observer of its linear inputs.
 *
 * Windows go through the whole model a batch at a time, so memory does not grow with the text. */
#ifndef NIB_CALIB_PASS_H
#define NIB_CALIB_PASS_H

#include "calib/text.h"
#include "infer/graph.h"

typedef struct {
    nib_observer observer;
    nib_kv_watch keys; /* is shown keys and values; {0}: nobody is */
    bool with_output;  /* the output matrix's input is observed too */
    /* Called after each batch, all but the last, with the windows done so far; NULL: not. */
    nib_code (*after_batch)(void *arg, size_t done, nib_err *err);
    void *arg;
} nib_pass;

/* NIB_EINVAL when there are no windows, or when they are longer than the model's context. */
NIB_MUST_USE nib_code nib_pass_check(const nib_model *m, const nib_windows *w, nib_err *err);
/* Check, and run m over windows [from, w->n), in order. */
NIB_MUST_USE nib_code nib_pass_run(const nib_pass *p, const nib_model *m, const nib_windows *w,
                                   size_t from, const nib_ctx *ctx, nib_err *err);

#endif
