/* SPDX-License-Identifier: MIT */
/* run/plan/carry_floats.h - a source's small floats in another container, as they are stored: E4M3
 * codes and their scales between folders of 8-bit floats, NVFP4's codes, scales and the factor of
 * the matrix between compressed-tensors and GGUF. Nothing is computed but that factor, which the
 * one stores as a divisor: 1 / x is rounded to f32. */
#ifndef NIB_RUN_PLAN_CARRY_FLOATS_H
#define NIB_RUN_PLAN_CARRY_FLOATS_H

#include "run/plan/plan.h"

typedef enum { NIB_FLOATS_NONE, NIB_FLOATS_FP8, NIB_FLOATS_NVFP4 } nib_floats;

/* What a tensor holds as it is stored: E4M3 with scales of tiles, groups, rows or the matrix, or
 * NVFP4. */
nib_floats nib_floats_of(const nib_tensor *t);
/* The same of all matrices of a planned tensor. */
nib_floats nib_floats_in(const nib_plan *p, const nib_plan_tensor *t);

/* How a folder of this kind, of compressed-tensors or "fp8", any of its kinds, has such a tensor;
 * false: it has none such. */
bool nib_floats_layout(nib_packing *f, const nib_tensor *t, nib_packing_kind kind);

/* What the values of a matrix of NVFP4 are multiplied by beside their scales; 1 of FP8. */
NIB_MUST_USE nib_code nib_floats_factor(float *factor, const nib_source *src, const nib_tensor *t,
                                        nib_err *err);

/* A matrix in the layout that is planned for it, or in GGUF's blocks: t->bytes of it into dst, or,
 * where that is NULL, only a look. *why: NULL, or what its layout does not hold. */
NIB_MUST_USE nib_code nib_floats_pack(uint8_t *dst, const char **why, const nib_plan *p,
                                      const nib_plan_tensor *t, nib_err *err);

#endif
