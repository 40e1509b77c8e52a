/* SPDX-License-Identifier: MIT */
/* infer/loss.c - see loss.h. Tests: tests/infer/test_compare.c, tests/infer/test_ppl.c. */
#include "infer/loss.h"

#include <math.h>

double nib_loss_token(const nib_ops *ops, const float *logits, size_t n_vocab, int32_t target)
{
    const float max = ops->max(logits, n_vocab);
    return log(ops->sum_exp(logits, n_vocab, max)) - ((double)logits[target] - (double)max);
}

/* The first index of the largest logit. */
static size_t top(const float *x, size_t n, float max)
{
    size_t i = 0;
    while (i + 1 < n && x[i] != max) i++;
    return i;
}

double nib_loss_kl(const nib_ops *ops, const float *a, const float *b, size_t n_vocab,
                   bool *same_top)
{
    const float max_a = ops->max(a, n_vocab), max_b = ops->max(b, n_vocab);
    const double log_a = (double)max_a + log(ops->sum_exp(a, n_vocab, max_a));
    const double log_b = (double)max_b + log(ops->sum_exp(b, n_vocab, max_b));
    double kl = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        const double log_p = (double)a[i] - log_a;
        kl += exp(log_p) * (log_p - ((double)b[i] - log_b));
    }
    *same_top = top(a, n_vocab, max_a) == top(b, n_vocab, max_b);
    return kl;
}
