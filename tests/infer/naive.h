/* SPDX-License-Identifier: MIT */
/* tests/infer/naive.h - a forward pass in f64 of one sequence, written naively from the published
 * formulas, with the names of the Hugging Face layout. What is returned is freed with free(). */
#ifndef NIB_TESTS_INFER_NAIVE_H
#define NIB_TESTS_INFER_NAIVE_H

#include "tests/infer/tiny.h"

/* A whole tensor of an opened model, by the format of its name and a layer; NULL when the model has
 * none of that name. */
double *naive_tensor(const tiny *t, const char *fmt, uint32_t layer);
/* y[n] = x[n] over its root mean square, times w[n]; y may be x. */
void naive_norm(double *y, const double *x, const double *w, size_t n, double eps);
/* Logits [n][n_vocab]. */
double *naive_forward(const tiny *t, const int32_t *ids, size_t n);

#endif
