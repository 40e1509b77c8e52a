/* SPDX-License-Identifier: MIT */
/* infer/finite.h - which weight makes a model compute what is not finite. */
#ifndef NIB_INFER_FINITE_H
#define NIB_INFER_FINITE_H

#include "base/ctx.h"
#include "infer/model.h"

/* For after a result that is NaN or infinite: read the model's weights until one is that too. True:
 * one is, and *err names it in place of what it said. False: all are finite (or cannot be read),
 * *err is as it was. As long as reading the whole file takes. */
bool nib_blame_weights(const nib_model *m, const nib_ctx *ctx, nib_err *err);

#endif
