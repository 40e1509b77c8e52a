/* SPDX-License-Identifier: MIT */
/* Kernels for 8-bit integers against plain arithmetic, in every instruction set. All comparisons
 * are for equality: integers are exact, and the roundings are single IEEE operations. */
#include "base/cpu.h"
#include "base/mem.h"
#include "infer/int8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { OUTS = NIB_INT8_OUTS };
static const size_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 63, 64, 65, 127, 130, 299};
enum { N_SIZES = sizeof sizes / sizeof *sizes, MAX = 300 };

/* The sets this processor has, plain C first. */
static size_t sets(const nib_int8 *out[4])
{
    static const unsigned cpu[] = {0, NIB_CPU_AVX2, NIB_CPU_AVX2 | NIB_CPU_AVX512,
                                   NIB_CPU_AVX2 | NIB_CPU_AVX512 | NIB_CPU_VNNI};
    size_t n = 0;
    for (size_t i = 0; i < sizeof cpu / sizeof *cpu; i++)
        if (!(cpu[i] & ~nib_cpu_detect())) out[n++] = nib_int8_get(cpu[i]);
    return n;
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void range_holds_zero_and_the_extremes(void **state)
{
    const nib_int8 *set[4];
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++)
        for (size_t k = 0; k < N_SIZES; k++)
            for (size_t at = 0; at < sizes[k]; at++) {
                float x[MAX] = {0}, lo, hi;
                x[at] = 3;
                assert_true(set[s]->range(&lo, &hi, x, sizes[k]) && lo == 0 && hi == 3);
                x[at] = -2;
                assert_true(set[s]->range(&lo, &hi, x, sizes[k]) && lo == -2 && hi == 0);
                x[(at + 1) % sizes[k]] = sizes[k] > 1 ? 5 : -2;
                assert_true(set[s]->range(&lo, &hi, x, sizes[k]));
                assert_true(lo == -2 && hi == (sizes[k] > 1 ? 5 : 0));
                x[at] = at % 2 ? NAN : -INFINITY;
                assert_false(set[s]->range(&lo, &hi, x, sizes[k]));
            }
}

/* As int8.h says it, in the order that it says it. */
static int expected_code(float x, float scale, int zero)
{
    float q = nearbyintf(x / scale) + (float)zero;
    return (int)(q > -128 ? q < 127 ? q : 127 : -128) - zero;
}

static void values_are_rounded_to_nearest_even_and_clamped(void **state)
{
    static const int zeros[] = {0, -128, 127, 5};
    const nib_int8 *set[4];
    uint32_t seed = 1;
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++)
        for (size_t k = 0; k < N_SIZES; k++) {
            const size_t n = sizes[k];
            float x[MAX], scale = 0.37f;
            int16_t code[MAX + 2];
            for (size_t i = 0; i < n; i++) x[i] = ((float)(next(&seed) % 200000) - 1e5f) * 1e-3f;
            x[n / 2] = 1e38f, x[n / 3] = -1e38f;
            for (size_t z = 0; z < 4; z++) {
                memset(code, 77, sizeof code);
                set[s]->round(code, x, n, scale, zeros[z]);
                for (size_t i = 0; i < n; i++)
                    assert_int_equal(code[i], expected_code(x[i], scale, zeros[z]));
                if (n % 2) assert_int_equal(code[n], 0);
                assert_int_equal(code[nib_int8_stride(n)], 77 * 256 + 77);
            }
        }
}

static void nan_and_infinity_stay_in_range(void **state)
{
    static const float x[] = {NAN, INFINITY, -INFINITY};
    const nib_int8 *set[4];
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++) {
        int16_t code[4];
        set[s]->round(code, x, 3, 1, 10);
        assert_true(code[0] == -138 && code[1] == 117 && code[2] == -138 && code[3] == 0);
    }
}

static void halves_go_to_even(void **state)
{
    static const float x[] = {0.5f,    1.5f,   2.5f,   -0.5f,   -1.5f,
                              -126.5f, 126.5f, 127.5f, -127.5f, -128.5f};
    static const int want[] = {0, 2, 2, 0, -2, -126, 126, 127, -128, -128};
    const nib_int8 *set[4];
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++) {
        int16_t code[10];
        set[s]->round(code, x, 10, 1, 0);
        for (int i = 0; i < 10; i++) assert_int_equal(code[i], want[i]);
    }
}

/* ---- products ---- */

typedef struct {
    int16_t *x;
    int8_t *w;
    int16_t *panel;
    int32_t *sum;
} matrices;

static matrices make(size_t rows, size_t n)
{
    const size_t stride = nib_int8_stride(n);
    matrices m = {nib_calloc(rows * stride, 2), nib_alloc(OUTS * n, 1), nib_alloc(stride * OUTS, 2),
                  nib_alloc(rows * OUTS, 4)};
    assert_true(m.x && m.w && m.panel && m.sum);
    return m;
}

static void drop(matrices *m)
{
    nib_free(m->x), nib_free(m->w), nib_free(m->panel), nib_free(m->sum);
}

static void check_product(const nib_int8 *k, matrices *m, size_t rows, size_t n_out, size_t n)
{
    const size_t stride = nib_int8_stride(n);
    k->pack(m->panel, m->w, n_out, n);
    k->product(m->sum, m->x, rows, m->panel, stride);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < OUTS; o++) {
            int64_t want = 0;
            for (size_t i = 0; i < n && o < n_out; i++)
                want += (int64_t)m->x[r * stride + i] * m->w[o * n + i];
            if (m->sum[r * OUTS + o] != want)
                fail_msg("%zu columns, row %zu, output %zu of %zu: %ld, not %ld", n, r, o, n_out,
                         (long)m->sum[r * OUTS + o], (long)want);
        }
}

static void products_are_exact(void **state)
{
    const nib_int8 *set[4];
    uint32_t seed = 7;
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++)
        for (size_t k = 0; k < N_SIZES; k++)
            for (size_t rows = 1; rows <= 13; rows++) {
                const size_t n = sizes[k];
                matrices m = make(rows, n);
                for (size_t r = 0; r < rows; r++)
                    for (size_t i = 0; i < n; i++)
                        m.x[r * nib_int8_stride(n) + i] = (int16_t)(next(&seed) % 511 - 255);
                for (size_t i = 0; i < OUTS * n; i++) m.w[i] = (int8_t)(next(&seed) % 256 - 128);
                check_product(set[s], &m, rows, 1 + (rows * 5 + k) % OUTS, n);
                drop(&m);
            }
}

/* Extremes of every sign at lengths where a sum or a pair of products might overflow. */
static void products_do_not_overflow(void **state)
{
    static const size_t lengths[] = {2, 16384, NIB_INT8_MAX_COLS};
    static const int extreme[][2] = {
        {-128, -128}, {127, -128}, {-255, -128}, {255, -128}, {255, 127}};
    const nib_int8 *set[4];
    (void)state;
    for (size_t s = 0, n_sets = sets(set); s < n_sets; s++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
            for (size_t e = 0; e < sizeof extreme / sizeof *extreme; e++) {
                matrices m = make(1, lengths[k]);
                for (size_t i = 0; i < lengths[k]; i++) m.x[i] = (int16_t)extreme[e][0];
                memset(m.w, extreme[e][1], OUTS * lengths[k]);
                check_product(set[s], &m, 1, 2, lengths[k]);
                drop(&m);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_holds_zero_and_the_extremes),
        cmocka_unit_test(values_are_rounded_to_nearest_even_and_clamped),
        cmocka_unit_test(halves_go_to_even),
        cmocka_unit_test(nan_and_infinity_stay_in_range),
        cmocka_unit_test(products_are_exact),
        cmocka_unit_test(products_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
