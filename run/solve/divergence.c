/* SPDX-License-Identifier: MIT */
/* run/solve/divergence.c - see divergence.h. Tests: tests/run/test_solve_dir.c. */
#include "run/solve/divergence.h"

#include "base/mem.h"
#include "infer/loss.h"

#include <math.h>
#include <string.h>

enum { GROUP = 32 }; /* rows whose logits are held at once */

typedef struct {
    const nib_ops *ops;
    float *logits;                                      /* [GROUP][n_vocab] of stream a */
    double kl[GROUP], square[GROUP], difference[GROUP]; /* the last two: sums over the logits */
    bool same[GROUP];
} pair;

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    pair *p = arg;
    memcpy(p->logits + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static void compare(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    pair *p = arg;
    const float *first = p->logits + row * n_vocab;
    const nib_prediction a = nib_prediction_of(p->ops, first, n_vocab);
    const nib_prediction b = nib_prediction_of(p->ops, logits, n_vocab);
    const nib_loss_pair both = nib_loss_compare(p->ops, &a, &b);
    p->kl[row] = both.kl;
    p->same[row] = both.same > 0;
    p->square[row] = p->difference[row] = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        const double d = (double)logits[i] - first[i];
        p->square[row] += (double)first[i] * first[i];
        p->difference[row] += d * d;
    }
}

nib_code nib_divergence_rows(nib_divergence *out, nib_graph *g, const nib_activation_store *a,
                             const nib_activation_store *b, size_t b0, size_t n, const nib_ctx *ctx,
                             nib_err *err)
{
    size_t all[GROUP], same = 0;
    double sum = 0, sum2 = 0, square = 0, difference = 0;
    size_t n_vocab = nib_graph_model(g)->hp.n_vocab, n_embd = a->cols;
    nib_code rc = NIB_OK;
    pair p = {.ops = nib_ops_get(ctx->cpu), .logits = nib_alloc(n_vocab, GROUP * sizeof(float))};
    float *x = nib_alloc(n_embd, GROUP * sizeof *x);
    *out = (nib_divergence){0};
    if (!p.logits || !x) rc = nib_fail_nomem(err, "logits");
    for (size_t i = 0; i < GROUP; i++) all[i] = i;
    for (size_t i = 0; i < n && !rc; i += GROUP) {
        size_t k = n - i < GROUP ? n - i : GROUP;
        if ((rc = nib_activation_store_get(a, i, k, x, err))) break;
        if ((rc = nib_graph_logits(g, x, all, k, keep, &p, NULL, err))) break;
        if ((rc = nib_activation_store_get(b, b0 + i, k, x, err))) break;
        if ((rc = nib_graph_logits(g, x, all, k, compare, &p, NULL, err))) break;
        for (size_t j = 0; j < k; j++) {
            sum += p.kl[j];
            sum2 += p.kl[j] * p.kl[j];
            square += p.square[j];
            difference += p.difference[j];
            same += p.same[j];
        }
    }
    nib_free(p.logits);
    nib_free(x);
    if (rc || !n) return rc;
    if (!isfinite(sum) || !isfinite(difference))
        return nib_fail(err, NIB_ENUMERIC,
                        "the logits of held-out text are not finite, before or after quantizing");
    double mean = sum / (double)n, var = sum2 / (double)n - mean * mean;
    *out = (nib_divergence){.n = n,
                            .kl = mean,
                            .error = n > 1 && var > 0 ? sqrt(var / (double)(n - 1)) : 0,
                            .logits = square > 0 ? sqrt(difference / square) : 0,
                            .same_top = (double)same / (double)n};
    return NIB_OK;
}
