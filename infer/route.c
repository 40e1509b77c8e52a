/* SPDX-License-Identifier: MIT */
/* infer/route.c - see route.h. */
#include "infer/route.h"

#include <math.h>
#include <string.h>

/* llama.cpp's, so that a token of which no expert thinks much is not blown up. */
static const float LEAST_SUM = 6.103515625e-5f;

/* Do tokens that did not choose an expert need to know by what it would read them multiplied? */
static bool shows_scaled(const nib_graph *g)
{
    return g->all_experts && g->m->hp.routing == NIB_ROUTE_INPUT;
}

bool nib_route_reserve(nib_graph *g, size_t rows)
{
    size_t n;
    return nib_mul(rows, g->m->hp.n_expert_used, &n) &&
           nib_buf_reserve(&g->route_expert, n, sizeof(uint32_t)) &&
           nib_buf_reserve(&g->route_share, n, sizeof(float)) &&
           (!shows_scaled(g) || (nib_mul(rows, g->m->hp.n_expert, &n) &&
                                 nib_buf_reserve(&g->route_all, n, sizeof(float))));
}

static void softmax(float *x, size_t n)
{
    float most = x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

static void sigmoids(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 1 / (1 + expf(-x[i]));
}

/* What a group is worth: its best expert, or with biases the sum of its two best. */
static float group_score(const float *choice, size_t n, bool two)
{
    float best = -INFINITY, second = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (choice[i] > best)
            second = best, best = choice[i];
        else if (choice[i] > second)
            second = choice[i];
    return two && n > 1 ? best + second : best;
}

/* Experts outside of the best groups are out of the question. */
static void limit_groups(float *choice, const nib_hparams *hp)
{
    const size_t groups = hp->n_group, each = hp->n_expert / groups;
    float score[NIB_EXPERTS_MAX];
    for (size_t g = 0; g < groups; g++)
        score[g] = group_score(choice + g * each, each, hp->routing == NIB_ROUTE_SIGMOID);
    for (size_t g = 0; g < groups; g++) {
        size_t better = 0;
        for (size_t k = 0; k < groups; k++)
            better += score[k] > score[g] || (k < g && score[k] == score[g]);
        for (size_t i = 0; i < each && better >= hp->n_group_used; i++)
            choice[g * each + i] = -INFINITY;
    }
}

void nib_route(nib_graph *g, float *scores, const float *bias, size_t row)
{
    const nib_hparams *hp = &g->m->hp;
    const size_t n = hp->n_expert, used = hp->n_expert_used;
    uint32_t *expert = (uint32_t *)g->route_expert.p + row * used;
    float *share = (float *)g->route_share.p + row * used, sum = 0, choice[NIB_EXPERTS_MAX];
    bool taken[NIB_EXPERTS_MAX] = {false};
    if (hp->routing == NIB_ROUTE_SOFTMAX) softmax(scores, n);
    if (hp->routing == NIB_ROUTE_SIGMOID) sigmoids(scores, n);
    for (size_t e = 0; e < n; e++) choice[e] = bias ? scores[e] + bias[e] : scores[e];
    if (hp->n_group > 1) limit_groups(choice, hp);
    for (size_t k = 0; k < used; k++) {
        uint32_t best = (uint32_t)n;
        for (uint32_t e = 0; e < n; e++)
            if (!taken[e] && (best == n || choice[e] > choice[best])) best = e;
        taken[best] = true;
        expert[k] = best;
        share[k] = scores[best];
    }
    if (shows_scaled(g)) {
        float *all = (float *)g->route_all.p + row * n;
        memcpy(all, scores, n * sizeof *all);
        sigmoids(all, n);
    }
    if (hp->routing == NIB_ROUTE_SELECTED) softmax(share, used);
    if (hp->routing == NIB_ROUTE_INPUT) sigmoids(share, used);
    for (size_t k = 0; k < used; k++) sum += share[k];
    for (size_t k = 0; k < used && hp->share_norm; k++)
        share[k] /= sum > LEAST_SUM ? sum : LEAST_SUM;
    for (size_t k = 0; k < used; k++) share[k] *= hp->share_scale;
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
