/* SPDX-License-Identifier: MIT */
/* Laws of the re-targeted weights, for each order that the solver's factor may be in. */
#include "blocks.h"

#include "base/linalg.h"
#include "base/mem.h"
#include "quant/retarget.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { N = 96, TOKENS = 4 * N, ROWS = 130 };

static const nib_gptq_opts ORDERS[] = {
    {.order = NIB_ORDER_NATURAL, .lazy = 128},
    {.order = NIB_ORDER_DIAGONAL, .lazy = 128},
    {.order = NIB_ORDER_DIAGONAL, .when = NIB_PARAMS_REACHED, .lazy = 128},
};

/* Inputs x of which the original model's are y = M x, so that W M is what makes up for it. */
static float w[ROWS * N], m[N * N], x[TOKENS * N], y[TOKENS * N], h[N * N], d[N * N];

static int make(void **state)
{
    uint32_t seed = 7;
    (void)state;
    for (size_t i = 0; i < ROWS * N; i++) w[i] = noise(&seed);
    for (size_t i = 0; i < N * N; i++) m[i] = (i % (N + 1) ? 0 : 1) + 0.02f * noise(&seed);
    for (size_t i = 0; i < TOKENS * N; i++) x[i] = noise(&seed) * (i % N % 7 == 3 ? 5 : 1);
    nib_gemm_nt(TOKENS, N, N, x, N, m, N, y, N, 0);
    for (size_t i = 0; i < TOKENS * N; i++) y[i] -= x[i];
    nib_gemm_tn(N, N, TOKENS, x, N, x, N, h, N, 0);
    nib_gemm_tn(N, N, TOKENS, y, N, x, N, d, N, 0);
    return 0;
}

static void retarget(float *out, const float *drift, double alpha, const nib_gptq_opts *o,
                     size_t tokens, int threads)
{
    nib_gptq *g;
    nib_err err = {0};
    const nib_ctx ctx = {.threads = threads};
    memcpy(out, w, sizeof w);
    nib_code rc = nib_gptq_new(&g, o, &ctx, &err);
    if (!rc) rc = nib_gptq_prepare(g, h, N, tokens, 1, &err);
    if (!rc) rc = nib_retarget(out, ROWS, drift, alpha, g, &ctx, &err);
    if (rc) fail_msg("%s", err.msg);
    nib_gptq_free(g);
}

static void nothing_to_make_up_for(void **state)
{
    (void)state;
    static const float none[N * N];
    static float out[ROWS * N];
    retarget(out, none, 1, &ORDERS[1], 0, 2);
    assert_memory_equal(out, w, sizeof w);
    retarget(out, d, 0, &ORDERS[1], 0, 2);
    assert_memory_equal(out, w, sizeof w);
}

/* Undamped, the whole step leads to W M, half of it to the middle. Sums of N products of about 1,
 * and a factor of condition 5 * 3 or less, squared: 1e-3 is over N * 225 roundings of 2^-24. */
static void linear_drift_is_undone(void **state)
{
    (void)state;
    static float wm[ROWS * N], out[ROWS * N];
    nib_gemm_nn(ROWS, N, N, w, N, m, N, wm, N, 0);
    for (size_t o = 0; o < sizeof ORDERS / sizeof *ORDERS; o++)
        for (int half = 1; half <= 2; half++) {
            retarget(out, d, half / 2.0, &ORDERS[o], 0, 2);
            for (size_t i = 0; i < ROWS * N; i++) {
                const float expected = w[i] + (float)half / 2 * (wm[i] - w[i]);
                if (!(fabsf(out[i] - expected) < 1e-3f))
                    fail_msg("order %zu, weight %zu: %g, not %g", o, i, (double)out[i],
                             (double)expected);
            }
        }
}

/* What is off a diagonal and known from few tokens counts as little in the drift as in H: step H =
 * w D with both shrunk by t^2 / (t^2 + 64), t = 4 tokens a column, so 1/5. Sums of N products; the
 * right side is up to 5^2 * TOKENS, the bound is 64 N roundings of it. */
static void few_tokens_count_less_in_both(void **state)
{
    (void)state;
    static float out[ROWS * N], hs[N * N], ds[N * N], left[ROWS * N], right[ROWS * N];
    const float keep = 1 / 5.0f;
    for (size_t i = 0; i < N * N; i++) {
        const size_t upper = i / N < i % N ? i : i % N * N + i / N;
        hs[i] = h[upper] * (i % (N + 1) ? keep : 1);
        ds[i] = d[i] * (i % (N + 1) ? keep : 1);
    }
    for (size_t o = 0; o < sizeof ORDERS / sizeof *ORDERS; o++) {
        retarget(out, d, 1, &ORDERS[o], TOKENS, 2);
        for (size_t i = 0; i < ROWS * N; i++) out[i] -= w[i];
        nib_gemm_nn(ROWS, N, N, out, N, hs, N, left, N, 0);
        nib_gemm_nn(ROWS, N, N, w, N, ds, N, right, N, 0);
        for (size_t i = 0; i < ROWS * N; i++)
            if (!(fabsf(left[i] - right[i]) < 64 * N * 0x1p-24f * 25 * TOKENS))
                fail_msg("order %zu, weight %zu: %g, not %g", o, i, (double)left[i],
                         (double)right[i]);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    static float one[ROWS * N], more[ROWS * N];
    retarget(one, d, 0.5, &ORDERS[1], TOKENS, 1);
    for (int threads = 2; threads <= 7; threads += 5) {
        retarget(more, d, 0.5, &ORDERS[1], TOKENS, threads);
        assert_memory_equal(one, more, sizeof one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_make_up_for),
        cmocka_unit_test(linear_drift_is_undone),
        cmocka_unit_test(few_tokens_count_less_in_both),
        cmocka_unit_test(threads_do_not_matter),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("retarget", tests, make, NULL);
}
