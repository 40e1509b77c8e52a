/* SPDX-License-Identifier: MIT */
/* calib/hessian.h - second moments of every distinct input of a block's linear layers, gathered
 * while calibration windows run through it. */
#ifndef NIB_CALIB_HESSIAN_H
#define NIB_CALIB_HESSIAN_H

#include "infer/graph.h"

/* One input and the roles that read it. */
typedef struct {
    nib_role role[NIB_ROLE_COUNT];
    size_t n_roles, cols;
    nib_buf h;        /* float [cols][cols], upper triangle: X'X                */
    nib_buf d;        /* float [cols][cols], with `drift`: see calib/accumulate.h  */
    nib_buf original; /* float [rows][cols] of a batch, with `drift`: the original model's */
    nib_buf sum;      /* double [cols]: sum of |x|, with `sizes`                */
    nib_buf most;     /* float [cols]: largest |x|, with `sizes`                */
    nib_buf scale;    /* float [cols]: what the channels have been divided by   */
    size_t rows;      /* that were summed up                                    */
} nib_hessian;

/* Start with {.ctx = ...}. */
typedef struct {
    const nib_ctx *ctx;
    bool sizes; /* also the sizes of the channels, for rescaling */
    bool drift; /* also how far the inputs have drifted from the original model's */
    nib_hessian input[NIB_INPUTS_MAX];
    size_t n;                /* inputs met since the start, in their order */
    const nib_hessian *only; /* see nib_hessians_renew; NULL: all inputs */
} nib_hessians;

/* A block from its beginning: inputs are found, and zeroed, as they are met. */
void nib_hessians_start(nib_hessians *m);
/* After a pass over the same block: sum up input i alone, anew. */
void nib_hessians_renew(nib_hessians *m, size_t i);
/* An input more, its moments zero; roles are copied. Valid until the next start. */
NIB_MUST_USE nib_code nib_hessians_add(nib_hessians *m, const nib_role *roles, size_t n_roles,
                                       size_t cols, nib_hessian **out, nib_err *err);
/* The same inputs and moments, without drift, to change them. */
NIB_MUST_USE nib_code nib_hessians_copy(nib_hessians *to, const nib_hessians *from, nib_err *err);
/* For the pass through the block; inputs of routers, which are never rounded, and of experts
 * (calib/expert_inputs.h) are passed over. Keeps a pointer to m. With `drift` every batch passes
 * through the original block first, whose channels are not divided, under the other observer. */
nib_observer nib_hessians_observer(nib_hessians *m);
nib_observer nib_hessians_original_observer(nib_hessians *m);
void nib_hessians_free(nib_hessians *m);

/* The input that `role` reads; NULL: not met. */
nib_hessian *nib_hessians_find(nib_hessians *m, nib_role role);
/* As if the input's channels, the original model's too, had been divided by s[cols]; what the
 * original model shows later will be. Sizes stay those that s was chosen by. */
void nib_hessian_divide(nib_hessian *in, const float *s);

#endif
