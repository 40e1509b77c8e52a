/* SPDX-License-Identifier: MIT */
/* infer/route.c - see route.h. */
#include "infer/route.h"

#include <math.h>
#include <string.h>

/* llama.cpp's, so that a token of which no expert thinks much is not blown up. */
static const float LEAST_SUM = 6.103515625e-5f;

bool nib_route_reserve(nib_graph *g, size_t rows)
{
    size_t n;
    return nib_mul(rows, g->m->hp.n_expert_used, &n) &&
           nib_buf_reserve(&g->route_expert, n, sizeof(uint32_t)) &&
           nib_buf_reserve(&g->route_share, n, sizeof(float));
}

static void softmax(float *x, size_t n)
{
    float most = x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

void nib_route(nib_graph *g, float *scores, size_t row)
{
    const nib_hparams *hp = &g->m->hp;
    const size_t n = hp->n_expert, used = hp->n_expert_used;
    uint32_t *expert = (uint32_t *)g->route_expert.p + row * used;
    float *share = (float *)g->route_share.p + row * used, sum = 0;
    softmax(scores, n);
    for (size_t k = 0; k < used; k++) {
        uint32_t best = (uint32_t)n; /* what was taken is below 0; NaN is neither */
        for (uint32_t e = 0; e < n; e++)
            if (!(scores[e] < 0) && (best == n || scores[e] > scores[best])) best = e;
        expert[k] = best;
        sum += share[k] = scores[best];
        scores[best] = -1;
    }
    for (size_t k = 0; k < used && hp->share_norm; k++)
        share[k] /= sum > LEAST_SUM ? sum : LEAST_SUM;
}

nib_code nib_route_sort(nib_routed *out, nib_graph *g, size_t rows, nib_err *err)
{
    const size_t n = g->m->hp.n_expert, used = g->m->hp.n_expert_used, all = rows * used;
    const uint32_t *expert = g->route_expert.p;
    const float *route_share = g->route_share.p;
    uint32_t *token = nib_buf_reserve(&g->token, all + n + 1, sizeof *token), *first = token + all;
    float *share = nib_buf_reserve(&g->share, all, sizeof *share);
    if (!token || !share) return nib_fail_nomem(err, "routes of tokens");
    memset(first, 0, (n + 1) * sizeof *first);
    for (size_t i = 0; i < all; i++) first[expert[i] + 1]++;
    for (size_t e = 0; e < n; e++) first[e + 1] += first[e];
    for (size_t i = 0; i < all; i++) {
        const uint32_t at = first[expert[i]]++;
        token[at] = (uint32_t)(i / used);
        share[at] = route_share[i];
    }
    memmove(first + 1, first, n * sizeof *first); /* each had moved to where the next one began */
    first[0] = 0;
    *out = (nib_routed){first, token, share};
    return NIB_OK;
}
