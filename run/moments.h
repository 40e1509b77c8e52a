/* SPDX-License-Identifier: MIT */
/* run/moments.h - second moments of every distinct input of a block's linear layers, gathered while
 * calibration windows run through it. */
#ifndef NIB_RUN_MOMENTS_H
#define NIB_RUN_MOMENTS_H

#include "infer/graph.h"

/* One input and the roles that read it. */
typedef struct {
    nib_role role[NIB_ROLE_COUNT];
    size_t n_roles, cols;
    nib_buf h;        /* float [cols][cols], upper triangle: X'X                */
    nib_buf d;        /* float [cols][cols], with `drift`: see calib/observe.h  */
    nib_buf original; /* float [rows][cols] of a batch, with `drift`: the original model's */
    nib_buf sum;      /* double [cols]: sum of |x|, with `sizes`                */
    nib_buf most;     /* float [cols]: largest |x|, with `sizes`                */
    nib_buf scale;    /* float [cols]: what the channels have been divided by   */
    size_t rows;      /* that were summed up                                    */
} nib_moments_input;

/* Start with {.ctx = ...}. */
typedef struct {
    const nib_ctx *ctx;
    bool sizes; /* also the sizes of the channels, for rescaling */
    bool drift; /* also how far the inputs have drifted from the original model's */
    nib_moments_input input[NIB_INPUTS_MAX];
    size_t n;                      /* inputs met since the start, in their order */
    const nib_moments_input *only; /* see nib_moments_renew; NULL: all inputs */
} nib_moments;

/* A block from its beginning: inputs are found, and zeroed, as they are met. */
void nib_moments_start(nib_moments *m);
/* After a pass over the same block: sum up input i alone, anew. */
void nib_moments_renew(nib_moments *m, size_t i);
/* An input more, its moments zero; roles are copied. Valid until the next start. */
NIB_MUST_USE nib_code nib_moments_add(nib_moments *m, const nib_role *roles, size_t n_roles,
                                      size_t cols, nib_moments_input **out, nib_err *err);
/* For the pass through the block. Keeps a pointer to m. With `drift` every batch passes through the
 * original block first, whose channels are not divided, under the other observer. */
nib_observer nib_moments_observer(nib_moments *m);
nib_observer nib_moments_original_observer(nib_moments *m);
void nib_moments_free(nib_moments *m);

/* The input that `role` reads; NULL: not met. */
nib_moments_input *nib_moments_find(nib_moments *m, nib_role role);
/* As if the input's channels, the original model's too, had been divided by s[cols]; what the
 * original model shows later will be. Sizes stay those that s was chosen by. */
void nib_moments_divide(nib_moments_input *in, const float *s);

#endif
