/* SPDX-License-Identifier: MIT */
/* Which experts a token goes to. Scores are logarithms of weights, so that the softmax is known:
 * each weight over their sum. */
#include "infer/route.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const float TOL = 2e-6f; /* of a share: a few roundings of f32 */

/* Two of four experts. */
static nib_hparams two(nib_routing routing, bool share_norm)
{
    return (nib_hparams){.n_expert = 4,
                         .n_expert_used = 2,
                         .routing = routing,
                         .share_norm = share_norm,
                         .share_scale = 1};
}

static void score(nib_graph *g, size_t row, const float *weight, const float *bias)
{
    float s[4];
    for (int e = 0; e < 4; e++) s[e] = logf(weight[e]);
    nib_route(g, s, bias, row);
}

/* token[n][4] */
static nib_routed routed(nib_graph *g, nib_hparams hp, const float *token, const float *bias,
                         size_t n)
{
    static nib_model m;
    nib_routed r;
    nib_err err = {0};
    m.hp = hp;
    *g = (nib_graph){.m = &m};
    assert_true(nib_route_reserve(g, n));
    for (size_t i = 0; i < n; i++) score(g, i, token + 4 * i, bias);
    assert_int_equal(nib_route_sort(&r, g, n, &err), NIB_OK);
    return r;
}

static void forget(nib_graph *g)
{
    nib_buf_free(&g->route_expert);
    nib_buf_free(&g->route_share);
    nib_buf_free(&g->token);
    nib_buf_free(&g->share);
}

static void the_best_two_by_expert(void **state)
{
    (void)state;
    static const float token[] = {1, 2, 3, 4, 4, 1, 1, 4, 2, 6, 1, 1};
    static const uint32_t first[5] = {0, 2, 3, 4, 6}, of[6] = {1, 2, 2, 0, 0, 1};
    static const float share[2][6] = {{.4f, .2f, .6f, .3f, .4f, .4f},
                                      {.5f, .25f, .75f, 3 / 7.f, 4 / 7.f, .5f}};
    for (int norm = 0; norm < 2; norm++) {
        nib_graph g;
        nib_routed r = routed(&g, two(NIB_ROUTE_SOFTMAX, norm), token, NULL, 3);
        assert_memory_equal(r.first, first, sizeof first);
        assert_memory_equal(r.token, of, sizeof of);
        for (int i = 0; i < 6; i++) assert_float_equal(r.share[i], share[norm][i], TOL);
        forget(&g);
    }
}

/* One token: experts a and b, of which a < b, and their shares. */
static void expect(nib_hparams hp, const float *weight, const float *bias, uint32_t a,
                   float share_a, uint32_t b, float share_b)
{
    nib_graph g;
    nib_routed r = routed(&g, hp, weight, bias, 1);
    for (uint32_t e = 0; e <= 4; e++) assert_int_equal(r.first[e], (e > a) + (e > b));
    assert_float_equal(r.share[0], share_a, TOL);
    assert_float_equal(r.share[1], share_b, TOL);
    forget(&g);
}

static void of_equals_the_first(void **state)
{
    (void)state;
    expect(two(NIB_ROUTE_SOFTMAX, true), (float[]){1, 1, 1, 1}, NULL, 0, .5f, 1, .5f);
}

/* The sigmoid of log w is w / (1 + w). */
static void other_ways(void **state)
{
    (void)state;
    const float w[4] = {1, 3, 4, 1}, bias[4] = {.3f, 0, 0, 0};
    nib_hparams hp = two(NIB_ROUTE_SIGMOID, false);
    expect(two(NIB_ROUTE_SELECTED, false), w, NULL, 1, 3 / 7.f, 2, 4 / 7.f);
    expect(two(NIB_ROUTE_INPUT, false), w, NULL, 1, .75f, 2, .8f);
    expect(hp, w, NULL, 1, .75f, 2, .8f);
    expect(hp, w, bias, 0, .5f, 2, .8f); /* .5 + .3 is more than .75, and the share without it */
    hp.share_norm = true, hp.share_scale = 2.5f;
    expect(hp, w, bias, 0, 2.5f * 5 / 13, 2, 2.5f * 8 / 13);
    /* Pairs: .5 + .75 is less than .8 + .5, so neither of the first comes in. */
    hp = two(NIB_ROUTE_SIGMOID, false), hp.n_group = 2, hp.n_group_used = 1;
    expect(hp, w, NULL, 2, .8f, 3, .5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_two_by_expert),
        cmocka_unit_test(of_equals_the_first),
        cmocka_unit_test(other_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
