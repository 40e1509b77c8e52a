/* SPDX-License-Identifier: MIT */
/* quant/dot_impl.h - the kernels behind dot.h. Private to quant/. */
#ifndef NIB_QUANT_DOT_IMPL_H
#define NIB_QUANT_DOT_IMPL_H

#include "quant/dot.h"

enum { NIB_DOT_VECTORS = 4 }; /* that one call takes */

/* y[in->n] of one row, in->n <= NIB_DOT_VECTORS. */
typedef void nib_dot_fn(float *y, const uint8_t *w, const nib_dot_in *in);

typedef struct {
    nib_dot_fn *of[NIB_TYPE_COUNT]; /* NULL: `decoded` serves */
    /* The same of f32 weights w[in->cols], added to y. */
    void (*decoded)(float *y, const float *w, const nib_dot_in *in);
} nib_dot_kern;

#endif
