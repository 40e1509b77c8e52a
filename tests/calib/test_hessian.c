/* SPDX-License-Identifier: MIT */
/* Second moments and drift of a block's inputs against sums written out. */
#include "base/linalg.h"
#include "base/mem.h"
#include "calib/hessian.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { COLS = 210, ROWS = 9, BATCHES = 3 }; /* more columns than a task takes */

static float x[BATCHES * ROWS * COLS], y[BATCHES * ROWS * COLS];
static const nib_role ROLES[] = {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP};

static void make_inputs(void)
{
    uint32_t seed = 3;
    for (size_t i = 0; i < BATCHES * ROWS * COLS; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 16777216.0f - 0.5f;
        seed = seed * 1664525u + 1013904223u;
        y[i] = x[i] + 0.1f * ((float)(seed >> 8) / 16777216.0f - 0.5f);
    }
}

static void see(const nib_observer *obs, const nib_role *roles, size_t n_roles, const float *rows)
{
    nib_err err = {0};
    const nib_linear_input in = {
        .role = roles, .n_roles = n_roles, .x = rows, .rows = ROWS, .cols = COLS};
    assert_int_equal(obs->linear_input(obs->arg, &in, &err), 0);
}

/* The passes of each batch, the original model's first; two inputs, which see the same. */
static void gather(nib_hessians *m, const float *now_sees)
{
    static const nib_role down = NIB_ROLE_FFN_DOWN;
    const nib_observer original = nib_hessians_original_observer(m), now = nib_hessians_observer(m);
    for (size_t at = 0; at < BATCHES * ROWS * COLS; at += ROWS * COLS) {
        see(&original, ROLES, 2, y + at), see(&original, &down, 1, y + at);
        see(&now, ROLES, 2, now_sees + at), see(&now, &down, 1, now_sees + at);
    }
    assert_int_equal(m->n, 2);
    assert_int_equal(m->input[0].rows, BATCHES * ROWS);
}

/* Sums of 27 products below 1/4 in f32: 27 * 27 / 4 roundings of 2^-24 at most, divided by scales
 * of 1/2 each. */
static void expect_sums(const nib_hessian *in, const float *s)
{
    const float *h = in->h.p, *d = in->d.p;
    for (size_t i = 0; i < COLS; i++)
        for (size_t j = 0; j < COLS; j++) {
            double moment = 0, drift = 0;
            for (size_t at = 0; at < BATCHES * ROWS * COLS; at += COLS) {
                moment += (double)x[at + i] * x[at + j];
                drift += ((double)y[at + i] - x[at + i]) * x[at + j];
            }
            const double by = (double)s[i] * s[j];
            if (i <= j && !(fabs(h[i * COLS + j] - moment / by) < 4.4e-5))
                fail_msg("moment %zu, %zu: %g", i, j, (double)h[i * COLS + j]);
            if (!(fabs(d[i * COLS + j] - drift / by) < 4.4e-5))
                fail_msg("drift %zu, %zu: %g, not %g", i, j, (double)d[i * COLS + j], drift / by);
        }
}

static void sums_of_products(void **state)
{
    (void)state;
    float s[COLS];
    nib_ctx ctx = {.threads = 2};
    nib_hessians m = {.ctx = &ctx, .drift = true}, one = {.ctx = &ctx, .drift = true};
    make_inputs();
    for (size_t i = 0; i < COLS; i++) s[i] = 1;
    for (int pass = 0; pass < 2; pass++) { /* the second begins at zero again */
        nib_hessians_start(&m);
        gather(&m, x);
        expect_sums(&m.input[0], s);
    }
    ctx.threads = 1;
    nib_hessians_start(&one);
    gather(&one, x);
    assert_memory_equal(m.input[0].d.p, one.input[0].d.p, COLS * COLS * sizeof(float));
    for (size_t i = 0; i < COLS; i++) s[i] = i % 3 ? 2 : 0.5f;
    nib_hessian_divide(&m.input[0], s);
    expect_sums(&m.input[0], s);
    nib_hessians_free(&m), nib_hessians_free(&one);
}

/* One input alone, and anew: had it or the other been added to, the sums were doubled. Its channels
 * have been divided, those that the original model shows have not. */
static void one_renewed(void **state)
{
    (void)state;
    static float divided[BATCHES * ROWS * COLS];
    float ones[COLS], s[COLS];
    nib_ctx ctx = {.threads = 2};
    nib_hessians m = {.ctx = &ctx, .drift = true};
    make_inputs();
    for (size_t i = 0; i < COLS; i++) ones[i] = 1, s[i] = i % 3 ? 2 : 0.5f;
    for (size_t i = 0; i < BATCHES * ROWS * COLS; i++) divided[i] = x[i] / s[i % COLS];
    nib_hessians_start(&m);
    gather(&m, x);
    nib_hessian_divide(&m.input[1], s);
    nib_hessians_renew(&m, 1);
    gather(&m, divided);
    expect_sums(&m.input[0], ones);
    expect_sums(&m.input[1], s);
    nib_hessians_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_products),
        cmocka_unit_test(one_renewed),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_moments", tests, NULL, NULL);
}
