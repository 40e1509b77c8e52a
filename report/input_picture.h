/* SPDX-License-Identifier: MIT */
/* report/input_picture.h - what a linear layer of a model reads, over a few tokens. */
#ifndef NIB_REPORT_INPUT_PICTURE_H
#define NIB_REPORT_INPUT_PICTURE_H

#include "infer/graph.h"

enum { NIB_INPUT_BINS = 64 };

typedef struct {
    size_t rows, cols;            /* tokens seen, channels; 0 rows: no token came by   */
    double span;                  /* largest |x|: bins are equal parts of -span .. span */
    double share[NIB_INPUT_BINS]; /* of all values                                     */
    size_t widest;                /* the channel that has it                            */
    double median;                /* of the channels' largest |x|                      */
} nib_input_picture;

/* The input of the linear at `place` of the tokens id[n] from position 0 on; of experts that of the
 * first one that a token goes to. */
NIB_MUST_USE nib_code nib_input_picture_take(nib_input_picture *p, const nib_model *m,
                                             nib_place place, const int32_t *id, size_t n,
                                             const nib_ctx *ctx, nib_err *err);

#endif
