/* SPDX-License-Identifier: MIT */
/* A factor beside a whole weight: exact, and worth it. */
#include "base/half.h"
#include "quant/round.h"
#include "quant/scaled.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 8, COLS = 1024, N = ROWS * COLS };

/* Bell-shaped, about as large as weights of models are. */
static void fill(float *w, float spread)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 6; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            sum += (float)(x >> 40) / (1 << 24) - 0.5f;
        }
        w[i] = sum * spread;
    }
}

static double error_of(const float *w, const float *v)
{
    double error = 0, all = 0;
    for (size_t i = 0; i < N; i++) {
        error += pow((double)w[i] - (double)v[i], 2);
        all += pow((double)w[i], 2);
    }
    return sqrt(error / all);
}

static void round_all(const nib_codec *c, const float *w, float *v, uint8_t *code,
                      nib_block_param *p)
{
    const nib_ctx ctx = {.threads = 2};
    nib_err err;
    assert_int_equal(nib_round_rows(c, w, NULL, ROWS, COLS, v, code, p, &ctx, &err), NIB_OK);
}

/* A power of two; NVFP4 holds 448 * 6, and a sixteenth of that is above the weights, twice it not.
 */
static void factors(void **state)
{
    (void)state;
    const nib_codec *c = nib_codec_get(NIB_NVFP4);
    const float most[] = {0.02f, 0.0834f, 1, 168, 168.1f, 3000, 1e-20f, 1e20f};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        int e;
        const float f = nib_scaled_factor(c, most[i]);
        assert_true(frexpf(f, &e) == 0.5f);
        assert_true(most[i] / f <= 448 * 6 / 16 && most[i] / f * 2 > 448 * 6 / 16);
    }
    assert_true(nib_scaled_factor(c, 0) == 1);
    assert_true(isfinite(1 / nib_scaled_factor(c, 1e-38f)));
    assert_true(isfinite(nib_scaled_factor(c, 3e38f)));
}

/* What a reader makes of the bytes, times the factor, is what rounding said, bit for bit. */
static void values_are_the_bytes_times_the_factor(void **state)
{
    (void)state;
    static float w[N], v[N], decoded[N];
    static uint8_t code[N];
    const nib_codec *base = nib_codec_get(NIB_NVFP4);
    static nib_block_param p[N / 64];
    nib_scaled_codec c;
    const float f = 0x1p-11f;
    nib_scaled_codec_make(&c, base, &f);
    fill(w, 0.03f);
    round_all(&c.codec, w, v, code, p);
    for (size_t b = 0; b < N / 64; b++) {
        uint8_t bytes[36];
        c.codec.pack(bytes, &p[b], code + 64 * b);
        c.codec.decode(decoded + 64 * b, bytes, 1, 0);
        for (size_t i = 0; i < 64; i++) decoded[64 * b + i] *= f;
    }
    assert_memory_equal(v, decoded, sizeof v);
}

/* As the format alone does to weights that are as much larger. */
static void same_codes_as_of_divided_weights(void **state)
{
    (void)state;
    static float w[N], v[N], u[N];
    static uint8_t code[N], other[N];
    static nib_block_param p[N / 64], q[N / 64];
    const nib_codec *base = nib_codec_get(NIB_NVFP4);
    nib_scaled_codec c;
    const float f = 0x1p-9f;
    nib_scaled_codec_make(&c, base, &f);
    fill(w, 0.03f);
    round_all(&c.codec, w, v, code, p);
    for (size_t i = 0; i < N; i++) w[i] /= f;
    round_all(base, w, u, other, q);
    assert_memory_equal(code, other, sizeof code);
    for (size_t i = 0; i < N; i++) assert_true(v[i] == u[i] * f);
    for (size_t b = 0; b < N / 64; b++) assert_memory_equal(p[b].sc, q[b].sc, sizeof p[b].sc);
}

/* Scales below 2^-6 have less than E4M3's bits: with the factor the error is the same for weights
 * of any size, and without it grows where they are small. */
static void small_weights_gain(void **state)
{
    (void)state;
    static float w[N], v[N];
    static uint8_t code[N];
    static nib_block_param p[N / 64];
    const nib_codec *base = nib_codec_get(NIB_NVFP4);
    const float spread[] = {0.2f, 0.025f, 0.006f}, at_least[] = {0.99f, 1.05f, 1.8f};
    double usual = 0;
    for (size_t i = 0; i < 3; i++) {
        nib_scaled_codec c;
        fill(w, spread[i]);
        const float f = nib_scaled_factor(base, 3 * spread[i]);
        nib_scaled_codec_make(&c, base, &f);
        round_all(base, w, v, code, p);
        const double without = error_of(w, v);
        round_all(&c.codec, w, v, code, p);
        const double with = error_of(w, v);
        if (!i) usual = with;
        if (!(without > at_least[i] * with) || fabs(with / usual - 1) > 0.02)
            fail_msg("spread %g: %g with the factor, %g without", (double)spread[i], with, without);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors),
        cmocka_unit_test(values_are_the_bytes_times_the_factor),
        cmocka_unit_test(same_codes_as_of_divided_weights),
        cmocka_unit_test(small_weights_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
