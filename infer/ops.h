/* SPDX-License-Identifier: MIT */
/* infer/ops.h - the forward pass's loops over vectors: norm, rotation, gate, softmax.
 *
 * One source (ops_kern.c), compiled for each instruction set; sums run over 16 lanes that are
 * combined in a fixed order, so every set gives the same bits. Matrix products are not here: they
 * are BLAS's. Kernels neither allocate nor fail. */
#ifndef NIB_INFER_OPS_H
#define NIB_INFER_OPS_H

#include <stddef.h>

typedef struct {
    /* y[n] = x[n] / sqrt(mean(x^2) + eps) * w[n]; the mean is taken in f64. y may be x. */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* y[n] = (x[n] - mean(x)) / sqrt(variance(x) + eps) * w[n] + b[n], b may be NULL; mean and
     * variance are taken in f64. y may be x. */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps);
    /* Turn pairs (x[j], x[j + half]) by the angles whose cosine and sine are given, j < half. */
    void (*rope_halves)(float *x, const float *cosine, const float *sine, size_t half);
    /* The same for pairs (x[2j], x[2j + 1]). */
    void (*rope_pairs)(float *x, const float *cosine, const float *sine, size_t half);
    /* gate[n] = gate / (1 + exp(-gate)) * up */
    void (*swiglu)(float *gate, const float *up, size_t n);
    /* gate[n] = gelu(gate) * up, gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
    void (*geglu)(float *gate, const float *up, size_t n);
    /* x[n] = cap * tanh(scale * x / cap), within 3e-7 * cap. */
    void (*softcap)(float *x, size_t n, float scale, float cap);
    /* Largest of x[n], n >= 1. NaN is passed over. */
    float (*max)(const float *x, size_t n);
    /* x[n] = exp(scale * (x - max)); returns the sum. */
    double (*exp_shift)(float *x, size_t n, float scale, float max);
    /* Sum of exp(x - max) over x[n]. */
    double (*sum_exp)(const float *x, size_t n, float max);
    /* y[i] = q[dim] . k[i * step ..], i < n; in f32, over 16 lanes. */
    void (*dots)(float *y, const float *q, const float *k, size_t n, size_t step, size_t dim);
    /* y[dim] += sum of p[i] v[i * step ..], i < n, in order. */
    void (*mix)(float *y, const float *p, const float *v, size_t n, size_t step, size_t dim);
    /* y[n] = exp(x), within 2 units in the last place, subnormals, 0 and infinity included. */
    void (*exp)(float *y, const float *x, size_t n);
} nib_ops;

/* The fastest set that `cpu` (NIB_CPU_*) allows. */
const nib_ops *nib_ops_get(unsigned cpu);

#endif
