/* SPDX-License-Identifier: MIT */
/* Inputs rounded to small floats, as compressed-tensors' formulas have them
 * (tests/golden/fp8_block, mxfp8); ranges; inputs that are not finite. */
#include "base/half.h"
#include "base/mem.h"
#include "formats/source.h"
#include "quant/act.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

enum { TOKENS = 6, COLS = 256, GROUP = 128 };

static const char *golden;

static void read_into(const nib_source *s, const char *name, void *to, size_t n)
{
    nib_err err;
    const nib_tensor *t = nib_source_find(s, name);
    assert_non_null(t);
    assert_int_equal(t->bytes, n);
    assert_int_equal(nib_source_read(s, t, 0, to, n, &err), NIB_OK);
}

static void groups_of_a_token(void **state)
{
    (void)state;
    static float x[TOKENS * COLS], y[TOKENS * COLS], scale[TOKENS * COLS / GROUP];
    static uint8_t q[TOKENS * COLS];
    char path[512];
    nib_source *s;
    nib_err err = {0};
    const nib_act_quant a = {
        .scheme = NIB_ACT_TOKEN, .number = NIB_ACT_FP8, .sym = true, .group = GROUP};
    snprintf(path, sizeof path, "%s/fp8_block/b128.safetensors", golden);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    read_into(s, "X", x, sizeof x), read_into(s, "act.scale", scale, sizeof scale);
    read_into(s, "act.q", q, sizeof q);
    for (size_t t = 0; t < TOKENS; t++) nib_act_round(&a, x + t * COLS, y + t * COLS, COLS);
    for (size_t i = 0; i < TOKENS * COLS; i++)
        if (y[i] != scale[i / GROUP] * nib_f8_e4m3_to_f32(q[i]))
            fail_msg("input %zu: %g becomes %g", i, (double)x[i], (double)y[i]);
    nib_source_close(s);
}

/* By the library itself: zeros, magnitudes over many decades, an exponent that goes up. */
static void groups_in_powers_of_two(void **state)
{
    (void)state;
    enum { ROWS = 4, WIDE = 96 };
    static float x[ROWS * WIDE], y[ROWS * WIDE], want[ROWS * WIDE];
    char path[512];
    nib_source *s;
    nib_err err = {0};
    const nib_act_quant a = {.scheme = NIB_ACT_TOKEN, .number = NIB_ACT_MXFP8, .sym = true};
    snprintf(path, sizeof path, "%s/mxfp8/f32.safetensors", golden);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    read_into(s, "input", x, sizeof x), read_into(s, "input.rounded", want, sizeof want);
    for (size_t t = 0; t < ROWS; t++) nib_act_round(&a, x + t * WIDE, y + t * WIDE, WIDE);
    for (size_t i = 0; i < ROWS * WIDE; i++)
        if (y[i] != want[i])
            fail_msg("input %zu: %g becomes %g, should be %g", i, (double)x[i], (double)y[i],
                     (double)want[i]);
    nib_source_close(s);
}

/* By hand: of the largest magnitude 12, scales are 12 / 448, and 2 for E2M1. */
static void other_grids(void **state)
{
    (void)state;
    const nib_range r = nib_range_make(-12, 3, 12);
    float x[32] = {12, -1.3f, 0.4f, 6.9f}, y[32];
    nib_act_quant a = {.scheme = NIB_ACT_TOKEN, .number = NIB_ACT_FP8, .sym = true};
    nib_act_round(&a, x, y, 32);
    assert_true(y[0] == 12 && y[31] == 0);
    assert_true(fabsf(y[1] + 1.3f) <= 1.3f / 16 && fabsf(y[3] - 6.9f) <= 6.9f / 16);
    a.most = 6; /* larger ones saturate */
    nib_act_round(&a, x, y, 32);
    assert_true(y[0] == 6 && y[3] == 6);
    a = (nib_act_quant){.scheme = NIB_ACT_TENSOR, .number = NIB_ACT_FP8, .sym = true};
    a.range = nib_act_range_on(&r, &a);
    assert_true(a.range.scale == 12.0f / 448);
    x[0] = 100;
    nib_act_round(&a, x, y, 32);
    assert_true(y[0] == 12);
    x[0] = 12;
    a.number = NIB_ACT_MXFP4; /* 12 = 1.5 * 2^3: steps of 2 */
    nib_act_round(&a, x, y, 32);
    assert_true(y[0] == 12 && y[1] == -1 && y[2] == 0 && y[3] == 6);
    a.number = NIB_ACT_NVFP4;
    a.range = nib_act_range_on(&r, &a); /* 448 * 6 / 12 = 224, and 16 inputs' scale is 448 */
    assert_true(a.range.scale == 224);
    nib_act_round(&a, x, y, 32);
    assert_true(y[0] == 12 && y[1] == -1 && y[2] == 0 && y[3] == 6 && y[16] == 0);
}

static void not_finite(void **state)
{
    (void)state;
    for (int n = NIB_ACT_FP8; n < NIB_ACT_NUMBERS; n++) {
        float x[64] = {1, INFINITY}, y[64];
        nib_act_quant a = {
            .scheme = NIB_ACT_TOKEN, .number = (nib_act_number)n, .group = 32, .range = {1, 0}};
        nib_act_round(&a, x, y, 64);
        assert_true(isnan(y[0]) && isnan(y[1]) && y[32] == 0);
    }
}

int main(int argc, char **argv)
{
    golden = argc > 1 ? argv[1] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_of_a_token),
        cmocka_unit_test(groups_in_powers_of_two),
        cmocka_unit_test(other_grids),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
