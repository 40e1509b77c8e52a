/* SPDX-License-Identifier: MIT */
/* The Cholesky factor is what it says, has the same bits for any number of threads, and matrices
 * that have none are refused. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static double noise(uint32_t *state)
{
    *state = 1664525u * *state + 1013904223u;
    return (double)(*state >> 8) / 8388608.0 - 1;
}

/* B B' / n + I / 2: positive definite and far from diagonal. */
static double *make_matrix(size_t n, uint32_t seed)
{
    double *b = nib_alloc(n * n, sizeof *b), *h = nib_alloc(n * n, sizeof *h);
    for (size_t i = 0; i < n * n; i++) b[i] = noise(&seed);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? 0.5 : 0;
            for (size_t k = 0; k < n; k++) sum += b[i * n + k] * b[j * n + k] / (double)n;
            h[i * n + j] = sum;
        }
    nib_free(b);
    return h;
}

/* R of h, upper triangle, zero below. The half that is not to be read holds NaN. */
static double *factor(const double *h, size_t n, int threads)
{
    double *r = nib_alloc(n * n, sizeof *r);
    nib_err err = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) r[i * n + j] = j >= i ? h[i * n + j] : (double)NAN;
    if (nib_cholesky(r, n, threads, &err)) fail_msg("%zu: %s", n, err.msg);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) r[i * n + j] = 0;
    return r;
}

/* Largest entry of |R'R - h|. */
static double residual(const double *r, const double *h, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            double sum = -h[i * n + j];
            for (size_t k = 0; k <= i; k++) sum += r[k * n + i] * r[k * n + j];
            worst = fabs(sum) > worst ? fabs(sum) : worst;
        }
    return worst;
}

/* Entries of h are below 1, so rounding leaves at most about n epsilon, 1e-13, in each. */
static void factor_times_itself(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 47, 191, 192, 193, 400, 450};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        double *h = make_matrix(n, (uint32_t)n), *r = factor(h, n, 1);
        double off = residual(r, h, n);
        if (!(off < 1e-12)) fail_msg("order %zu: R'R is off by %g", n, off);
        for (size_t i = 0; i < n; i++) assert_true(r[i * n + i] > 0);
        for (int threads = 2; threads <= 7; threads += 5) {
            double *v = factor(h, n, threads);
            assert_memory_equal(r, v, n * n * sizeof *r);
            nib_free(v);
        }
        nib_free(h), nib_free(r);
    }
}

static void not_positive_definite(void **state)
{
    (void)state;
    enum { N = 300 };
    for (size_t bad = 0; bad < N; bad += 299) {
        nib_err err = {0};
        double *h = make_matrix(N, 5);
        h[bad * N + bad] = -1;
        assert_int_equal(nib_cholesky(h, N, 2, &err), NIB_ENUMERIC);
        assert_non_null(strstr(err.msg, "order 300"));
        nib_free(h);
    }
}

/* What OpenBLAS releases were seen to choose, and for which processors that will not do. */
static void kernels_suit_the_processor(void **state)
{
    (void)state;
    const unsigned avx2 = NIB_CPU_AVX2, avx512 = NIB_CPU_AVX2 | NIB_CPU_AVX512;
    static const struct {
        const char *chosen, *with_avx2, *with_avx512;
    } cases[] = {
        {"Prescott", "Haswell", "SkylakeX"}, {"Sandybridge", "Haswell", "SkylakeX"},
        {"Nehalem", "Haswell", "SkylakeX"},  {"Haswell", NULL, "SkylakeX"},
        {"Zen", NULL, "SkylakeX"},           {"SkylakeX", NULL, NULL},
        {"Cooperlake", NULL, "SkylakeX"},    {"SapphireRapids", NULL, "SkylakeX"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *a = nib_linalg_better(cases[i].chosen, avx2),
                   *b = nib_linalg_better(cases[i].chosen, avx512);
        assert_string_equal(a ? a : "-", cases[i].with_avx2 ? cases[i].with_avx2 : "-");
        assert_string_equal(b ? b : "-", cases[i].with_avx512 ? cases[i].with_avx512 : "-");
        assert_null(nib_linalg_better(cases[i].chosen, 0));
    }
    /* what is in use is better than nothing, and better stays */
    const char *wanted = nib_linalg_wanted(avx512);
    assert_true(!wanted || !nib_linalg_better(wanted, avx512));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_suit_the_processor),
        cmocka_unit_test(factor_times_itself),
        cmocka_unit_test(not_positive_definite),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("linalg", tests, NULL, NULL);
}
