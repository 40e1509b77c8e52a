/* SPDX-License-Identifier: MIT */
/* run/kl.c - see kl.h. KL(a || b) = sum_i p_i (log p_i - log q_i), in f64. */
#include "run/kl.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { GROUP = 32 }; /* rows whose logits are held at once */

typedef struct {
    float *logits; /* [GROUP][n_vocab] of stream a */
    double kl[GROUP];
    bool same[GROUP];
} pair;

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    pair *p = arg;
    memcpy(p->logits + row * n_vocab, logits, n_vocab * sizeof *logits);
}

/* Largest logit's index; *log_z so that log softmax = logit - *log_z. */
static size_t log_norm(const float *x, size_t n, double *log_z)
{
    size_t top = 0;
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[top]) top = i;
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - x[top]);
    *log_z = x[top] + log(sum);
    return top;
}

static void compare(void *arg, size_t row, const float *b, size_t n_vocab)
{
    pair *p = arg;
    const float *a = p->logits + row * n_vocab;
    double za, zb, kl = 0;
    p->same[row] = log_norm(a, n_vocab, &za) == log_norm(b, n_vocab, &zb);
    for (size_t i = 0; i < n_vocab; i++) {
        double la = a[i] - za;
        kl += exp(la) * (la - (b[i] - zb));
    }
    p->kl[row] = kl;
}

nib_code nib_kl_rows(nib_kl *out, nib_graph *g, const nib_rows *a, const nib_rows *b, size_t b0,
                     size_t n, nib_err *err)
{
    size_t all[GROUP], same = 0;
    double sum = 0, sum2 = 0;
    size_t n_vocab = nib_graph_model(g)->hp.n_vocab, n_embd = a->cols;
    nib_code rc = NIB_OK;
    pair p = {.logits = nib_alloc(n_vocab, GROUP * sizeof(float))};
    float *x = nib_alloc(n_embd, GROUP * sizeof *x);
    *out = (nib_kl){0};
    if (!p.logits || !x) rc = nib_fail_nomem(err, "logits");
    for (size_t i = 0; i < GROUP; i++) all[i] = i;
    for (size_t i = 0; i < n && !rc; i += GROUP) {
        size_t k = n - i < GROUP ? n - i : GROUP;
        if ((rc = nib_rows_get(a, i, k, x, err))) break;
        if ((rc = nib_graph_logits(g, x, all, k, keep, &p, NULL, err))) break;
        if ((rc = nib_rows_get(b, b0 + i, k, x, err))) break;
        if ((rc = nib_graph_logits(g, x, all, k, compare, &p, NULL, err))) break;
        for (size_t j = 0; j < k; j++) {
            sum += p.kl[j];
            sum2 += p.kl[j] * p.kl[j];
            same += p.same[j];
        }
    }
    nib_free(p.logits);
    nib_free(x);
    if (rc || !n) return rc;
    double mean = sum / (double)n, var = sum2 / (double)n - mean * mean;
    *out = (nib_kl){n, mean, n > 1 && var > 0 ? sqrt(var / (double)(n - 1)) : 0,
                    (double)same / (double)n};
    return NIB_OK;
}
