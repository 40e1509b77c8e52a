/* SPDX-License-Identifier: MIT */
/* run/solve/commit.h - codes and parameters of a planned tensor to its bytes in the side file, and
 * back to the values that they stand for. The one place that knows how either container packs. */
#ifndef NIB_RUN_SOLVE_COMMIT_H
#define NIB_RUN_SOLVE_COMMIT_H

#include "base/ctx.h"
#include "run/plan/plan.h"
#include "formats/solved_file.h"

/* Start with the first three set, the rest {0}. */
typedef struct {
    const nib_plan *p;
    nib_solved_file *side;
    const nib_ctx *ctx;
    nib_buf packed, raw, ordered;
} nib_commit;

void nib_commit_free(nib_commit *k);

/* v->code[rows][cols] and v->param[rows][cols / block] of tensor t, rows in the source's order;
 * v->outer is nib_gptq_outer() of the solver, v->act for layouts that round inputs by a range.
 * w[rows][cols], if not NULL, becomes the values that a reader of the output will see. NIB_ENUMERIC
 * names the tensor when its values are too large for the format. */
NIB_MUST_USE nib_code nib_commit_write(nib_commit *k, const nib_plan_tensor *t,
                                       const nib_packing_values *v, float *w, nib_err *err);
/* The same for a weight of a GGUF file that the solver has no part in: w becomes what encoding it
 * will make of it. Nothing is written. */
NIB_MUST_USE nib_code nib_commit_round(nib_commit *k, const nib_plan_tensor *t, float *w,
                                       nib_err *err);
/* The same for a tensor in a plain number format: w[rows][cols], which becomes what the format
 * holds of it. */
NIB_MUST_USE nib_code nib_commit_plain(nib_commit *k, const nib_plan_tensor *t, float *w,
                                       nib_err *err);
/* The values of what an earlier call, or an earlier run, wrote. */
NIB_MUST_USE nib_code nib_commit_read(nib_commit *k, const nib_plan_tensor *t, float *w,
                                      nib_err *err);
/* How engines round the input of t, which the last call wrote or read. */
nib_act_quant nib_commit_act(const nib_commit *k, const nib_plan_tensor *t);

#endif
