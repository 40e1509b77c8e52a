/* SPDX-License-Identifier: MIT */
/* infer/loss.c - see loss.h. Tests: tests/infer/test_compare.c, tests/infer/test_ppl.c. */
#include "infer/loss.h"

enum { PIECE = 256 }; /* probabilities that are made at a time */

/* Probabilities below this are what rounding makes of 0 in 1 - sum. */
static const double REST_LEAST = 1e-9;

double nib_loss_token(const nib_ops *ops, const float *logits, size_t n_vocab, int32_t target)
{
    const float max = ops->max(logits, n_vocab);
    return log(ops->sum_exp(logits, n_vocab, max)) - ((double)logits[target] - (double)max);
}

nib_prediction nib_prediction_of(const nib_ops *ops, const float *logits, size_t n_vocab)
{
    const float max = ops->max(logits, n_vocab);
    return (nib_prediction){.logit = logits,
                            .n = n_vocab,
                            .log_sum = (double)max + log(ops->sum_exp(logits, n_vocab, max)),
                            .least = -INFINITY};
}

/* The likeliest tokens, from the first on; -1 where the vocabulary has no more. */
static void find_tops(int32_t top[NIB_TOPS], const float *logit, size_t n)
{
    float least = -INFINITY; /* what a token must be above to be among them */
    int found = 0;
    for (int k = 0; k < NIB_TOPS; k++) top[k] = -1;
    for (size_t i = 0; i < n; i++) {
        if (found == NIB_TOPS && !(logit[i] > least)) continue;
        int at = found < NIB_TOPS ? found++ : NIB_TOPS - 1;
        for (; at > 0 && logit[i] > logit[top[at - 1]]; at--) top[at] = top[at - 1];
        top[at] = (int32_t)i;
        least = logit[top[found - 1]];
    }
}

/* The reference has every token. */
static void sum_all(nib_loss_pair *out, const nib_ops *ops, const nib_prediction *a,
                    const nib_prediction *b)
{
    float p[PIECE], q[PIECE];
    for (size_t at = 0; at < a->n; at += PIECE) {
        const size_t n = a->n - at < PIECE ? a->n - at : PIECE;
        for (size_t i = 0; i < n; i++) {
            p[i] = (float)((double)a->logit[at + i] - a->log_sum);
            q[i] = (float)((double)b->logit[at + i] - b->log_sum);
        }
        ops->exp(p, p, n);
        ops->exp(q, q, n);
        for (size_t i = 0; i < n; i++) {
            const double log_p = (double)a->logit[at + i] - a->log_sum;
            const double d = log_p - ((double)b->logit[at + i] - b->log_sum);
            if (log_p > a->least) out->kl += (double)p[i] * d;
            out->kl_back -= (double)q[i] * d;
        }
    }
}

/* The reference has some, and the rest. */
static void sum_some(nib_loss_pair *out, const nib_prediction *a, const nib_prediction *b)
{
    double q_rest = 1;
    for (size_t i = 0; i < a->n; i++) {
        const double log_p = (double)a->logit[i] - a->log_sum;
        const double log_q = (double)b->logit[a->id[i]] - b->log_sum, q = exp(log_q);
        out->kl += exp(log_p) * (log_p - log_q);
        out->kl_back += q * (log_q - log_p);
        q_rest -= q;
    }
    if (a->n == b->n) return; /* there is no rest */
    const double p_rest = fmax(a->rest, REST_LEAST);
    q_rest = fmax(q_rest, REST_LEAST);
    out->kl += p_rest * log(p_rest / q_rest);
    out->kl_back += q_rest * log(q_rest / p_rest);
}

nib_loss_pair nib_loss_compare(const nib_ops *ops, const nib_prediction *ref,
                               const nib_prediction *other)
{
    nib_loss_pair out = {0};
    int32_t theirs[NIB_TOPS], ours[NIB_TOPS];
    find_tops(ours, other->logit, other->n);
    if (ref->id)
        for (int k = 0; k < NIB_TOPS; k++) theirs[k] = ref->id[k];
    else
        find_tops(theirs, ref->logit, ref->n);
    while (out.same < NIB_TOPS && ours[out.same] == theirs[out.same]) out.same++;
    out.top = ours[0];
    out.ref_top = theirs[0];
    out.p_top = (float)exp((double)other->logit[ours[0]] - other->log_sum);
    out.p_ref_top = (float)exp((double)ref->logit[ref->id ? 0 : theirs[0]] - ref->log_sum);
    if (ref->id)
        sum_some(&out, ref, other);
    else
        sum_all(&out, ops, ref, other);
    return out;
}
