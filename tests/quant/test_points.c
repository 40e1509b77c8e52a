/* SPDX-License-Identifier: MIT */
/* The codebooks of vectors and who is near whom, against published CRC-32 values of ggml's. */
#include "quant/points.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <zlib.h>

static const struct {
    const nib_points *p;
    uint32_t points, near; /* of points as 16-bit words; of each list's length and contents */
    unsigned off, listed, least, most;
} want[] = {
    {&nib_points_iq2_xxs, 0xd01c53f2, 0xab1beba1, 6305, 113157, 2, 150},
    {&nib_points_iq2_xs, 0x622e679a, 0xee4e63ea, 6049, 181721, 2, 292},
    {&nib_points_iq2_s, 0xf8ad4e5e, 0x9f608cd2, 5537, 44716, 1, 70},
    {&nib_points_iq1, 0xa0911588, 0xaf9a5737, 4513, 327721, 12, 205},
    {&nib_points_iq3_xxs, 0xf68a6a07, 0x8a60387c, 3840, 18985, 2, 36},
    {&nib_points_iq3_s, 0xa43c1089, 0xef5bf632, 3584, 24733, 3, 38},
};

static uint32_t add(uint32_t crc, const void *p, size_t n)
{
    return (uint32_t)crc32(crc, p, (uInt)n);
}

static void points_are_those_of_the_formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const nib_points *p = want[i].p;
        assert_int_equal(add(0, p->point, p->n * sizeof *p->point), want[i].points);
    }
}

static bool legal(const nib_points *p, unsigned packed)
{
    for (unsigned i = 0; i < p->dim; i++)
        if ((packed >> p->bits * i & ((1u << p->bits) - 1)) >= p->levels) return false;
    return true;
}

static void neighbours_are_those_of_the_reference(void **state)
{
    (void)state;
    nib_points_ready();
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const nib_points *p = want[i].p;
        unsigned off = 0, listed = 0, least = UINT32_MAX, most = 0;
        uint32_t crc = 0;
        for (unsigned u = 0; u < 1u << p->dim * p->bits; u++) {
            if (!legal(p, u)) continue;
            if (p->find[u] >= 0) {
                assert_int_equal(p->point[p->find[u]], u);
                continue;
            }
            const uint16_t *near = p->near + (-1 - p->find[u]), n = near[0];
            assert_true((size_t)(near - p->near) + 1 + (n + 7u) / 8 * 8 <= p->near_size);
            crc = add(crc, &n, sizeof n);
            for (unsigned k = 0; k < n; k++) {
                assert_true(p->find[near[1 + k]] >= 0);
                const uint16_t number = (uint16_t)p->find[near[1 + k]];
                crc = add(crc, &number, sizeof number);
            }
            for (unsigned k = n; k % 8; k++) assert_int_equal(near[1 + k], near[n]);
            off++, listed += n;
            least = n < least ? n : least, most = n > most ? n : most;
        }
        assert_int_equal(crc, want[i].near);
        assert_int_equal(off, want[i].off);
        assert_int_equal(listed, want[i].listed);
        assert_int_equal(least, want[i].least);
        assert_int_equal(most, want[i].most);
    }
}

static void eight_signs_from_seven(void **state)
{
    (void)state;
    uint8_t signs[128];
    for (unsigned c = 0; c < 128; c++) {
        signs[c] = nib_even_signs(c);
        assert_int_equal(signs[c] & 127, c);
        assert_int_equal(__builtin_popcount(signs[c]) % 2, 0);
    }
    assert_int_equal(add(0, signs, sizeof signs), 0xffab7940);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_are_those_of_the_formats),
        cmocka_unit_test(neighbours_are_those_of_the_reference),
        cmocka_unit_test(eight_signs_from_seven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
