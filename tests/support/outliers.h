/* SPDX-License-Identifier: MIT */
/* tests/support/outliers.h - the same function with a few activation channels far larger.
 *
 * Large models have input channels tens of times larger than the rest, which is what makes them
 * hard to quantize; small ones have not. This rewrites a model so that it has: in every block a few
 * channels of both norms are multiplied by s, 20 to 60, and the columns of the weights that read
 * them divided by it (q, k, v; gate, up); some rows of up are multiplied and the columns of down
 * divided. Up to rounding the outputs are the same. */
#ifndef NIB_TESTS_OUTLIERS_H
#define NIB_TESTS_OUTLIERS_H

#include "quant/codec.h"

#include "base/ctx.h"

typedef struct {
    nib_type dtype;    /* NIB_F32 or NIB_BF16                       */
    uint32_t channels; /* of 256 that are made larger; at least one */
    uint64_t seed;
} gen_outlier_spec;

/* Write the twin of the Hugging Face folder `from` into `to`, which is created when missing; files
 * there are overwritten. Configuration and tokenizer are carried along as they are. */
NIB_MUST_USE nib_code gen_outliers(const gen_outlier_spec *spec, const char *from, const char *to,
                                   const nib_ctx *ctx, nib_err *err);

#endif
