/* SPDX-License-Identifier: MIT */
/* quant/act.h - how the inputs of a linear layer are rounded: to 8-bit integers or small floats. */
#ifndef NIB_QUANT_ACT_H
#define NIB_QUANT_ACT_H

#include "quant/range.h"

#include <stdbool.h>
#include <stdint.h>

/* Are a linear layer's inputs rounded too, and by which range? */
typedef enum {
    NIB_ACT_NONE,
    NIB_ACT_TOKEN,  /* each token, or group of it, by its own range, found as it comes */
    NIB_ACT_TENSOR, /* all by one range, found beforehand             */
} nib_act_scheme;

/* To what:
 *   INT8   x = scale * (q - zero)
 *   FP8    E4M3: x = scale * q, the scale being largest magnitude / 448
 *   NVFP4  E2M1: x = s / scale * q; s of each 16 channels is in E4M3, their largest magnitude / 6
 *          times the scale, which is 448 * 6 / the largest magnitude of all inputs
 *   MXFP4  E2M1: x = 2^n * q of each 32 channels, as MXFP4 weights have it
 *   MXFP8  E4M3: the same, as MXFP8 weights have it */
typedef enum {
    NIB_ACT_INT8,
    NIB_ACT_FP8,
    NIB_ACT_NVFP4,
    NIB_ACT_MXFP4,
    NIB_ACT_MXFP8,
    NIB_ACT_NUMBERS,
} nib_act_number;

typedef struct {
    float scale;
    int32_t zero; /* from -128 to 127; 0 where symmetric */
} nib_act_range;

typedef struct {
    nib_act_scheme scheme;
    nib_act_number number;
    bool sym;            /* of integers: zero is 0; else a range's ends are -128 and 127 */
    uint64_t group;      /* of TOKEN, FP8: channels with a scale; 0: all                 */
    float most;          /* of the same: a larger magnitude counts as this; 0: none does */
    nib_act_range range; /* of NIB_ACT_TENSOR */
} nib_act_quant;

/* The grid of a.number on a range. */
nib_act_range nib_act_range_on(const nib_range *r, const nib_act_quant *a);

/* What becomes of one token's inputs x[n] where they are rounded to floats; y may be x. A scale
 * that is not finite gives NaN in its channels. After compressed-tensors' formulas. */
void nib_act_round(const nib_act_quant *a, const float *x, float *y, size_t n);

#endif
