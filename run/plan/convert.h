/* SPDX-License-Identifier: MIT */
/* run/plan/convert.h - the formats of a conversion: for each tensor one that holds its values.
 *
 * Integers in groups go into the format with the fewest bits whose codes, scales and groups hold
 * them (quant/regrid.h), which all rows are looked at for; floating-point numbers stay in their
 * dtype. Where the user names a format it must hold them. What no format holds is an error that
 * names the tensor, or with recipe.requantize rounded. */
#ifndef NIB_RUN_PLAN_CONVERT_H
#define NIB_RUN_PLAN_CONVERT_H

#include "run/plan/plan.h"

/* ---- GGUF files: in this order ---- */

/* Is what the recipe asks for one format? */
NIB_MUST_USE nib_code nib_convert_begin(nib_plan *p, nib_err *err);
/* Format and reason of a tensor, and whether it is carried over. */
NIB_MUST_USE nib_code nib_convert_choose(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx,
                                         nib_err *err);
/* The file type: the source's where nothing has changed, else that of most weights. */
void nib_convert_label(nib_plan *p);

/* ---- folders ---- */

/* GPTQ's groups of columns in order of activation are put in the order of the columns where that
 * costs nothing: where the channels are the rows of other weights that are carried over too, these
 * take up the order. Sets col_from, row_from and carried of the tensors concerned. Of GGUF files
 * too, before any format is chosen. */
NIB_MUST_USE nib_code nib_convert_reorder(nib_plan *p, nib_err *err);
/* recipe.layout, from the source's layers and what the recipe says of it. */
NIB_MUST_USE nib_code nib_convert_layout(nib_plan *p, nib_err *err);
/* The format of a linear weight of a block; *packed false: it stays as it was. */
NIB_MUST_USE nib_code nib_convert_packing(nib_packing *f, bool *packed, const nib_plan *p,
                                          nib_plan_tensor *t, nib_err *err);
/* t->layout is made: is the weight carried over, or rounded? */
NIB_MUST_USE nib_code nib_convert_packed(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx,
                                         nib_err *err);
/* The dtype of a tensor that is not packed, or of a plain folder. */
NIB_MUST_USE nib_code nib_convert_plain(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx,
                                        nib_err *err);

#endif
