/* SPDX-License-Identifier: MIT */
/* f16 and bf16 against the definition: exact one way, nearest-even the other. */
#include "base/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static double f16_by_definition(uint16_t h)
{
    int exp = h >> 10 & 31, man = h & 1023;
    double mag = exp ? ldexp(1024 + man, exp - 25) : ldexp(man, -24);
    return h & 0x8000 ? -mag : mag;
}

static void f16_decodes_every_pattern(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = nib_f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) == 0x7C00) {
            if (h & 1023)
                assert_true(isnan(x));
            else
                assert_true(isinf(x));
            continue;
        }
        assert_true((double)x == f16_by_definition((uint16_t)h));
        assert_int_equal(nib_f32_to_f16(x), h);
    }
}

/* Between two neighbours: below the middle rounds down, above rounds up, the middle to even. */
static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7BFF; h++) {
        double a = f16_by_definition((uint16_t)h), b = f16_by_definition((uint16_t)(h + 1));
        float mid = (float)((a + b) / 2);
        assert_int_equal(nib_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(nib_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(nib_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(nib_f32_to_f16(-mid), (h & 1 ? h + 1 : h) | 0x8000);
    }
    assert_int_equal(nib_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(nib_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(nib_f32_to_f16(NAN) & 0x7FFF, 0x7E00);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7F80; h++) {
        float a = nib_bf16_to_f32((uint16_t)h);
        assert_int_equal(nib_f32_to_bf16(a), h);
        float mid = nib_f32_from_bits(h << 16 | 0x8000);
        assert_int_equal(nib_f32_to_bf16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(nib_f32_to_bf16(nib_f32_from_bits(h << 16 | 0x7FFF)), h);
        assert_int_equal(nib_f32_to_bf16(nib_f32_from_bits(h << 16 | 0x8001)), h + 1);
    }
    assert_true(isnan(nib_bf16_to_f32(nib_f32_to_bf16(nib_f32_from_bits(0x7F800001)))));
}

static void f8_decodes(void **state)
{
    (void)state;
    assert_true(nib_f8_e4m3_to_f32(0x7E) == 448.0f);
    assert_true(nib_f8_e4m3_to_f32(0x01) == ldexpf(1, -9));
    assert_true(nib_f8_e4m3_to_f32(0x88) == -ldexpf(1, -6));
    assert_true(isnan(nib_f8_e4m3_to_f32(0xFF)));
    assert_true(nib_f8_e5m2_to_f32(0x7B) == 57344.0f);
    assert_true(isinf(nib_f8_e5m2_to_f32(0xFC)));
}

static void round_even_breaks_ties_to_even(void **state)
{
    (void)state;
    assert_int_equal(nib_round_even(0.5f), 0);
    assert_int_equal(nib_round_even(1.5f), 2);
    assert_int_equal(nib_round_even(-2.5f), -2);
    assert_int_equal(nib_round_even(-2.6f), -3);
    assert_int_equal(nib_round_even(4194303.0f), 4194303);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_decodes_every_pattern),
        cmocka_unit_test(f16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f8_decodes),
        cmocka_unit_test(round_even_breaks_ties_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
