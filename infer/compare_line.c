/* SPDX-License-Identifier: MIT */
/* infer/compare_line.c - statistics of what was noted of single tokens; see compare.h. Sums are
 * taken in f64 in order of the text. */
#include "infer/compare.h"

#include <math.h>
#include <stdlib.h>

const double nib_sure_from[NIB_SURE_BINS] = {0, 0.25, 0.5, 0.75, 0.9};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, size_t n, double f)
{
    const double at = f * (double)(n - 1);
    const size_t i = (size_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

/* Standard error of the mean of n values whose squares have the mean `square`. */
static double mean_error(double mean, double square, double n)
{
    const double variance = square - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
}

static size_t sure_bin(double p)
{
    size_t bin = NIB_SURE_BINS - 1;
    while (bin && !(p >= nib_sure_from[bin])) bin--;
    return bin;
}

static void split_by_sureness(nib_compare_line *l, const nib_compare_token *token,
                              const nib_compare_token *base, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        nib_compare_sure *s = &l->sure[sure_bin((double)base[i].p_top)];
        s->n++;
        s->kl += token[i].kl;
        s->same_top += token[i].same > 0;
    }
    for (size_t b = 0; b < NIB_SURE_BINS; b++) {
        nib_compare_sure *s = &l->sure[b];
        if (!s->n) continue;
        s->kl /= (double)s->n;
        s->same_top /= (double)s->n;
    }
}

nib_code nib_compare_summarize(nib_compare_line *l, const nib_compare_token *token,
                               const nib_compare_token *base, size_t n_tokens, nib_err *err)
{
    double nll2 = 0, change2 = 0, kl2 = 0, back2 = 0, dp2 = 0;
    const double n = (double)n_tokens;
    double *kl = nib_alloc(n_tokens, sizeof *kl);
    *l = (nib_compare_line){0};
    if (!kl) return nib_fail_nomem(err, "the divergence of each token");
    for (size_t i = 0; i < n_tokens; i++) {
        const nib_compare_token *t = &token[i];
        const double change = t->nll - base[i].nll, dp = exp(-t->nll) - exp(-base[i].nll);
        l->nll += t->nll / n;
        l->change += change / n;
        l->kl += t->kl / n;
        l->kl_back += t->kl_back / n;
        nll2 += t->nll * t->nll / n;
        change2 += change * change / n;
        kl2 += t->kl * t->kl / n;
        back2 += t->kl_back * t->kl_back / n;
        dp2 += dp * dp / n;
        for (int k = 0; k < t->same; k++) l->same_first[k] += 1 / n;
        kl[i] = t->kl;
    }
    for (int k = 0; k < NIB_TOPS; k++)
        l->same_first[k] = round(l->same_first[k] * n) / n; /* whole numbers of tokens */
    qsort(kl, n_tokens, sizeof *kl, by_value);
    l->ppl = exp(l->nll);
    l->ppl_error = l->ppl * mean_error(l->nll, nll2, n);
    l->change_error = mean_error(l->change, change2, n);
    l->kl_error = mean_error(l->kl, kl2, n);
    l->kl_max = kl[n_tokens - 1];
    l->kl_999 = percentile(kl, n_tokens, 0.999);
    l->kl_99 = percentile(kl, n_tokens, 0.99);
    l->kl_90 = percentile(kl, n_tokens, 0.9);
    l->kl_median = percentile(kl, n_tokens, 0.5);
    l->kl_back_error = mean_error(l->kl_back, back2, n);
    l->rms_dp = sqrt(dp2);
    l->same_top = l->same_first[0];
    l->same_top_error = mean_error(l->same_top, l->same_top, n);
    split_by_sureness(l, token, base, n_tokens);
    nib_free(kl);
    return NIB_OK;
}
