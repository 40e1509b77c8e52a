/* SPDX-License-Identifier: MIT */
/* quant/round.h - whole rows rounded to nearest under fitted parameters: the plainest method, for
 * every format, and what methods that try many rescalings of a weight call. */
#ifndef NIB_QUANT_ROUND_H
#define NIB_QUANT_ROUND_H

#include "base/ctx.h"
#include "quant/codec.h"

/* param[rows][cols / block] of all blocks of w[rows][cols] under the importances imp[cols] (NULL:
 * without), and what they have in common. cols is a multiple of the block. Parallel over rows. */
NIB_MUST_USE nib_code nib_fit_rows(const nib_codec *c, const float *w, const float *imp,
                                   size_t rows, size_t cols, nib_block_param *param,
                                   const nib_ctx *ctx, nib_err *err);

/* value[rows][cols]: what w[rows][cols] becomes in format c, its blocks fitted with the importances
 * imp[cols] (NULL: without). cols is a multiple of the block. code[rows][cols] and
 * param[rows][cols / block] may be NULL. value may be w. Parallel over rows. */
NIB_MUST_USE nib_code nib_round_rows(const nib_codec *c, const float *w, const float *imp,
                                     size_t rows, size_t cols, float *value, uint8_t *code,
                                     nib_block_param *param, const nib_ctx *ctx, nib_err *err);

#endif
