/* SPDX-License-Identifier: MIT */
/* infer/linear.h - a matrix product with a weight that stays packed in its source.
 *
 * Weights are read and decoded as they are used, some rows at a time, so memory does not grow with
 * the model; the system's page cache is what keeps the file near. */
#ifndef NIB_INFER_LINEAR_H
#define NIB_INFER_LINEAR_H

#include "base/ctx.h"
#include "formats/source.h"
#include "infer/resident.h"

enum { NIB_FEW_ROWS = 16 }; /* that go without BLAS, where `few` says so */

/* Work memory, reused from product to product. One user at a time. */
typedef struct {
    const nib_source *src; /* borrowed */
    nib_ctx ctx;
    nib_buf slab;        /* decoded weights shared by the threads      */
    nib_buf code, scale; /* rounded inputs, shared by the threads      */
    nib_buf rounded;     /* the same as values                         */
    nib_buf ordered;     /* inputs in the order of a weight's columns  */
    bool few;            /* up to NIB_FEW_ROWS rows: see linear_few.h  */
    bool keeps;          /* inputs are not rounded to small floats     */
    nib_resident resident;
    struct {
        nib_buf raw, panel; /* packed bytes, decoded weights              */
        nib_buf code;       /* of weights, where inputs are rounded       */
        nib_buf wide;       /* parts of both sides and their product, f64 */
    } * thread;             /* [ctx.threads]                              */
} nib_linear;

/* `src` is borrowed, `ctx` copied. Memory is taken as layers need it. */
NIB_MUST_USE nib_code nib_linear_init(nib_linear *l, const nib_source *src, const nib_ctx *ctx,
                                      nib_err *err);
void nib_linear_fini(nib_linear *l); /* accepts a zeroed one */

/* How a product is made. */
enum {
    NIB_LINEAR_ADD = 1, /* what is in y is added                                                  */
    NIB_LINEAR_F64 = 2, /* sums are in f64 and rounded once; not where weights or inputs stay in  */
                        /* their codes (`few`, linear_int8.h)                                     */
};

/* y[rows][out] = x[rows][in] * w[out][in]^T + bias[out], `how`: of NIB_LINEAR_*. bias may be NULL.
 * Where the source says that engines round x (nib_tensor_act), so does this: see linear_int8.h.
 * `decoded`, when not NULL, holds [out][in] weights to use in place of the source's, with x as it
 * is. */
NIB_MUST_USE nib_code nib_linear_apply(nib_linear *l, const nib_tensor *w, const float *decoded,
                                       const float *bias, const float *x, size_t rows, float *y,
                                       unsigned how, nib_err *err);

/* What engines make of x[rows][in] when they round it as `act` says: integers, scale * (code -
 * zero), or small floats (quant/act.h), whose products engines sum in f32. The result stays in l
 * until the next call. */
NIB_MUST_USE nib_code nib_linear_round(nib_linear *l, const nib_act_quant *act, const float *x,
                                       size_t rows, size_t in, const float **rounded, nib_err *err);

#endif
