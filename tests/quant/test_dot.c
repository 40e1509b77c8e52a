/* SPDX-License-Identifier: MIT */
/* Packed rows times vectors, against sums in f64 of what the codec decodes. */
#include "base/mem.h"
#include "quant/dot.h"
#include "tests/quant/blocks.h"
#include "tests/quant/cpus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { COLS = 1536, ROWS = 5, VECTORS = 7 };

static struct {
    float w[ROWS * COLS], decoded[ROWS * COLS], x[VECTORS * COLS], sum[VECTORS * COLS / 32];
    uint8_t packed[ROWS * COLS * 8];
    float y[VECTORS * ROWS], alone[ROWS];
} m;

static void multiply(const nib_codec *c, float *y, size_t first, size_t n, unsigned cpu)
{
    const nib_dot_in in = {.x = m.x + first * COLS,
                           .sum = m.sum + first * (COLS / 32),
                           .n = n,
                           .cols = COLS,
                           .step = COLS,
                           .sum_step = COLS / 32};
    memset(y, 0xFF, n * ROWS * sizeof *y);
    nib_dot(c, y, ROWS, m.packed, ROWS, &in, cpu);
}

/* f32 sums of COLS terms in 8 lanes and a handful of scales: each term of a lane's sum is rounded
 * COLS / 8 times at most, by 2^-24 of what the terms add up to. */
static void check_values(const nib_codec *c, unsigned cpu)
{
    for (size_t i = 0; i < VECTORS; i++)
        for (size_t r = 0; r < ROWS; r++) {
            double want = 0, size = 0;
            for (size_t k = 0; k < COLS; k++) {
                const double t = (double)m.decoded[r * COLS + k] * (double)m.x[i * COLS + k];
                want += t;
                size += fabs(t);
            }
            /* The sums of levels and of minimums are each larger than what they differ by. */
            const double bound = (c->mn_max ? 32 : 4) * COLS / 8 * 0x1p-24 * size + 1e-30;
            const double got = (double)m.y[i * ROWS + r];
            if (!(fabs(got - want) <= bound))
                fail_msg("%s, mask %u: %.9g, expected %.9g within %.2g", c->name, cpu, got, want,
                         bound);
        }
}

static void check_codec(const nib_codec *c, block_kind kind)
{
    uint32_t state = 7;
    for (size_t r = 0; r < ROWS; r++) fill_block(m.w + r * COLS, COLS, kind, &state);
    fill_block(m.x, VECTORS * COLS, BLOCK_HEAVY, &state);
    for (size_t i = 0; i < VECTORS; i++)
        nib_dot_sums(m.sum + i * (COLS / 32), m.x + i * COLS, COLS);
    void *scratch = nib_alloc(nib_encode_scratch(COLS), 1);
    assert_non_null(scratch);
    c->encode(m.packed, m.w, NULL, ROWS, COLS, 0, scratch);
    nib_free(scratch);
    c->decode(m.decoded, m.packed, ROWS * COLS / c->block, 0);
    for (size_t k = 0; k < TEST_CPUS; k++) {
        if (test_cpu_missing(test_cpus[k])) continue;
        multiply(c, m.y, 0, VECTORS, test_cpus[k]);
        check_values(c, test_cpus[k]);
        for (size_t n = 1; n < 4; n++) /* the same bits in whatever company */
            for (size_t i = 0; i + n <= VECTORS; i++) {
                float y[3 * ROWS];
                multiply(c, y, i, n, test_cpus[k]);
                assert_memory_equal(y, m.y + i * ROWS, n * ROWS * sizeof *y);
            }
    }
}

static void equal_the_decoded_rows(void **state)
{
    (void)state;
    size_t n = 0;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->decode || !c->encode || COLS % c->block) continue;
        check_codec(c, BLOCK_NORMAL);
        check_codec(c, BLOCK_HEAVY);
        check_codec(c, BLOCK_OUTLIER);
        n++;
    }
    assert_true(n >= 15);
}

/* Every level of a format meets a vector that is 1 in one column: that column's weight. */
static void one_column_is_the_weight(void **state)
{
    (void)state;
    static const nib_type types[] = {NIB_F16,  NIB_BF16, NIB_Q8_0, NIB_Q4_0,   NIB_Q5_0,
                                     NIB_Q4_K, NIB_Q5_K, NIB_Q6_K, NIB_IQ4_NL, NIB_IQ4_XS};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const nib_codec *c = nib_codec_get(types[t]);
        check_codec(c, BLOCK_NORMAL);
        for (size_t k = 0; k < TEST_CPUS; k++) {
            if (test_cpu_missing(test_cpus[k])) continue;
            for (size_t col = 0; col < 256; col++) {
                memset(m.x, 0, COLS * sizeof *m.x);
                m.x[col] = 1;
                nib_dot_sums(m.sum, m.x, COLS);
                multiply(c, m.alone, 0, 1, test_cpus[k]);
                for (size_t r = 0; r < ROWS; r++)
                    if (fabs((double)m.alone[r] - (double)m.decoded[r * COLS + col]) > 1e-6)
                        fail_msg("%s, mask %u, column %zu: %.9g, not %.9g", c->name, test_cpus[k],
                                 col, (double)m.alone[r], (double)m.decoded[r * COLS + col]);
            }
        }
    }
}

static void sums_of_runs(void **state)
{
    (void)state;
    for (size_t i = 0; i < 96; i++) m.x[i] = (float)(i * i % 31);
    nib_dot_sums(m.sum, m.x, 70);
    for (size_t s = 0; s < 2; s++) {
        double want = 0;
        for (size_t i = 0; i < 32; i++) want += (double)m.x[32 * s + i];
        assert_true((double)m.sum[s] == want);
    }
    assert_int_equal(nib_dot_n_sums(70), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_the_decoded_rows),
        cmocka_unit_test(one_column_is_the_weight),
        cmocka_unit_test(sums_of_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
