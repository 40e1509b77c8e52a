/* SPDX-License-Identifier: MIT */
/* run/keep.h - codes and parameters of a planned tensor to its bytes in the side file, and back to
 * the values that they stand for. The one place that knows how either container packs. */
#ifndef NIB_RUN_KEEP_H
#define NIB_RUN_KEEP_H

#include "base/ctx.h"
#include "run/plan.h"
#include "run/side.h"

/* Start with the first three set, the rest {0}. */
typedef struct {
    const nib_plan *p;
    nib_side *side;
    const nib_ctx *ctx;
    nib_buf packed, raw;
} nib_keep;

void nib_keep_free(nib_keep *k);

/* v->code[rows][cols] and v->param[rows][cols / block] of tensor t, rows in the source's order;
 * v->outer is nib_gptq_outer() of the solver, v->act for layouts that round inputs by a range.
 * w[rows][cols], if not NULL, becomes the values that a reader of the output will see. NIB_ENUMERIC
 * names the tensor when its values are too large for the format. */
NIB_MUST_USE nib_code nib_keep_write(nib_keep *k, const nib_plan_tensor *t,
                                     const nib_layout_values *v, float *w, nib_err *err);
/* The same for a weight of a GGUF file that the solver has no part in: w becomes what encoding it
 * will make of it. Nothing is written. */
NIB_MUST_USE nib_code nib_keep_round(nib_keep *k, const nib_plan_tensor *t, float *w, nib_err *err);
/* The same for a tensor in a plain number format: w[rows][cols], which becomes what the format
 * holds of it. */
NIB_MUST_USE nib_code nib_keep_plain(nib_keep *k, const nib_plan_tensor *t, float *w, nib_err *err);
/* The values of what an earlier call, or an earlier run, wrote. */
NIB_MUST_USE nib_code nib_keep_read(nib_keep *k, const nib_plan_tensor *t, float *w, nib_err *err);
/* How engines round the input of t, which the last call wrote or read. */
nib_act_quant nib_keep_act(const nib_keep *k, const nib_plan_tensor *t);

#endif
