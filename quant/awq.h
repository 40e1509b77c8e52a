/* SPDX-License-Identifier: MIT */
/* quant/awq.h - activation-aware rescaling (AWQ, arXiv:2306.00978; the public implementation's
 * formulas) on bare arrays.
 *
 * Linears that read one input have a scale per input channel: weights are multiplied by it before
 * they are rounded, and what makes the input is divided by it, so that the weights that meet large
 * activations are rounded more finely. The scales come from a one-parameter family; the parameter
 * is searched by the error of the real output, which the caller computes. */
#ifndef NIB_QUANT_AWQ_H
#define NIB_QUANT_AWQ_H

#include "base/ctx.h"
#include "quant/codec.h"

/* A linear that reads the input: w[rows][cols], in groups of `group` columns. */
typedef struct {
    const float *w;
    size_t rows, group;
} nib_awq_linear;

/* mean[cols]: over all rows of all linears, |w| relative to the largest of its group. */
void nib_awq_weight_mean(float *mean, const nib_awq_linear *l, size_t n, size_t cols);

/* s[cols] = x_mean^ratio / w_mean^(1-ratio), scaled so that largest and smallest are inverse to
 * each other; w_mean NULL: x_mean^ratio. x_mean[cols] is the mean of |x|. Always finite and above
 * 0. */
void nib_awq_scales(float *s, const float *x_mean, const float *w_mean, size_t cols, double ratio);

/* The error of the output when weights are rounded under the scales s[cols]; what is above `least`
 * need not be known any closer. */
typedef nib_code nib_awq_loss(void *arg, const float *s, double least, double *loss, nib_err *err);

typedef struct {
    double ratio;    /* -1: no scales are best */
    double loss;     /* under the scales found */
    double unscaled; /* with all scales 1      */
} nib_awq_choice;

/* Try no scales and the ratios 0, 1/20 ... 19/20; the first least loss wins. s[cols] gets the
 * scales. NIB_ENUMERIC: no loss was a number. */
NIB_MUST_USE nib_code nib_awq_search(nib_awq_choice *best, float *s, const float *x_mean,
                                     const float *w_mean, size_t cols, nib_awq_loss *loss,
                                     void *arg, nib_err *err);

/* limit[rows][cols / block]: where clamping a group's weights to +-limit before they are rounded
 * lowers the error of its output most; 10 steps down to 0.55 of the largest. h[cols][cols]: X'X,
 * upper triangle; its diagonal are the importances of the fit. For formats whose blocks have one
 * scale. Parallel over rows. */
NIB_MUST_USE nib_code nib_awq_clip(float *limit, const float *w, size_t rows, size_t cols,
                                   const nib_codec *c, const float *h, const nib_ctx *ctx,
                                   nib_err *err);
/* Clamp w[rows][cols] to the limits of its groups. */
void nib_awq_clamp(float *w, const float *limit, size_t rows, size_t cols, size_t group);

#endif
