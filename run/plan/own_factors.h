/* SPDX-License-Identifier: MIT */
/* run/plan/own_factors.h - factors that a GGUF file gets beside NVFP4 weights (quant/scaled.h).
 *
 * Plain rounding writes the reference's bytes, which has none. What any other method makes has
 * them, for weights where llama.cpp multiplies by them (nib_gguf_has_factor()). */
#ifndef NIB_RUN_PLAN_OWN_FACTORS_H
#define NIB_RUN_PLAN_OWN_FACTORS_H

#include "run/plan/plan.h"

/* Give the staged tensors of a planned file their factors, which are 1 so far. */
NIB_MUST_USE nib_code nib_plan_own_factors(nib_plan *p, nib_err *err);

/* Find what they are from the weights, which takes reading these once; done before, nothing. Before
 * anything is solved or rounded. */
NIB_MUST_USE nib_code nib_find_own_factors(nib_plan *p, const nib_ctx *ctx, nib_err *err);

#endif
