/* SPDX-License-Identifier: MIT */
/* quant/scaled.h - a number format whose values engines multiply by one factor for a whole weight,
 * which lies beside it: NVFP4 in GGUF, with llama.cpp's "X.scale".
 *
 * Without, NVFP4's scales of 16 weights, E4M3, are among its least numbers, 2^-9 apart, where
 * weights are around 0.02. The factor puts them where E4M3 has all of its bits: the squared error
 * of bell-shaped weights with a spread of 0.017, under searched scales, falls by 29 %, of 0.0085 by
 * 39 %, of 0.07 not at all. It is a power of two, so every product is exact, and lies a factor of
 * 16 below the most that the format holds: what methods make of the weights may be larger than they
 * were. */
#ifndef NIB_QUANT_SCALED_H
#define NIB_QUANT_SCALED_H

#include "quant/codec.h"

typedef struct {
    nib_codec codec; /* values and parameters are with the factor, packed bytes without */
    const nib_codec *base;
    const float *factor;
} nib_scaled_codec;

/* Of a format with fixed_d, of which `factor`, borrowed, may change before weights are fitted;
 * decode() gives values without it. */
void nib_scaled_codec_make(nib_scaled_codec *c, const nib_codec *base, const float *factor);

/* The factor for weights up to this magnitude; 1 where all are 0. */
float nib_scaled_factor(const nib_codec *base, float most);

#endif
