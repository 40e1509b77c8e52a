/* SPDX-License-Identifier: MIT */
/* quant/dot_impl.h - the kernels behind dot.h. Private to quant/. */
#ifndef NIB_QUANT_DOT_IMPL_H
#define NIB_QUANT_DOT_IMPL_H

#include "quant/dot.h"

enum { NIB_DOT_VECTORS = 4 }; /* that one call takes */

/* y[in->n] of one row, in->n <= NIB_DOT_VECTORS. */
typedef void nib_dot_fn(float *y, const uint8_t *w, const nib_dot_in *in);

/* A row of codes in groups (grouped.h). */
typedef struct {
    size_t n;            /* groups                                                        */
    const uint32_t *end; /* [n] runs of 32 codes up to the end of each                    */
    const uint8_t *code; /* 16 or 32 bytes for a run                                      */
    const float *scale;  /* [n]                                                           */
    const float *least;  /* [n] what each group's sum of x is multiplied with; NULL: none */
    const float *level;  /* what codes stand for                                          */
    int8_t middle;       /* that is taken off integers of 4 bits                          */
} nib_dot_groups;

/* y[in->n] of one row, in->n <= NIB_DOT_VECTORS. */
typedef void nib_dot_groups_fn(float *y, const nib_dot_groups *w, const nib_dot_in *in);

typedef struct {
    nib_dot_fn *of[NIB_TYPE_COUNT]; /* NULL: `decoded` serves */
    /* The same of f32 weights w[in->cols], added to y. */
    void (*decoded)(float *y, const float *w, const nib_dot_in *in);
    nib_dot_groups_fn *int4, *int8, *level4, *level8;
} nib_dot_kern;

#endif
