/* SPDX-License-Identifier: MIT */
/* quant/codec_float.h - small floats with scales, as packed folders have them. Like integer groups
 * (codec_int.h) they are made on demand, and how they are packed is the container's business; what
 * nib_int_codec has for integers alone is not looked at.
 *
 *   FP8    E4M3 and a scale for a tile of rows and columns: 128 x 128, a row, all of a matrix
 *   NVFP4  E2M1, a scale in E4M3 for each 16 weights, one in f32 for the matrix, which divides
 *   MXFP4  E2M1, a power of two for each 32 weights
 *   MXFP8  E4M3, the same
 *
 * Scales are those of compressed-tensors: from the largest magnitude a, a / 448 (FP8); for the
 * matrix 448 * 6 / a, and for 16 weights that times a / 6 (NVFP4); of MX the power of two by which
 * a is from 0.875 to 1.75 times that of the largest float, 4 or 256. With NIB_SCALES_SQUARE others
 * near these are tried for the least sum of importance times squared error. The scale of a matrix
 * stays: engines run several matrices as one and want it to be the same (`common`). */
#ifndef NIB_QUANT_CODEC_FLOAT_H
#define NIB_QUANT_CODEC_FLOAT_H

#include "quant/codec_int.h"

enum { NIB_NVFP4_GROUP = 16, NIB_MX_GROUP = 32 };

/* Set the number format; scale_type, scales and common are the caller's. A tile has rows x columns
 * of matrices with so many columns, at the right and lower edges what is left; rows 0: all. */
void nib_fp8_codec(nib_int_codec *c, size_t cols, size_t tile_rows, size_t tile_cols);
void nib_nvfp4_codec(nib_int_codec *c);
void nib_mxfp4_codec(nib_int_codec *c);
void nib_mxfp8_codec(nib_int_codec *c);

/* The power of two of weights or inputs of this largest magnitude, in MX with such floats. */
float nib_mx_scale(const nib_small_float *f, float most);

#endif
