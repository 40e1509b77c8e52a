/* SPDX-License-Identifier: MIT */
/* The inverse's factor is what it says, has the same bits for any number of threads, and refuses
 * what has none. */
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

/* U of h, upper triangle, zero below. The half that is not to be read holds NaN. */
static double *factor(const double *h, size_t n, int threads)
{
    double *a = nib_alloc(n * n, sizeof *a), *u = nib_calloc(n * n, sizeof *u);
    nib_err err = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            a[i * n + j] = j <= i ? h[n * n - 1 - (i * n + j)] : (double)NAN;
    if (nib_inverse_factor(a, n, threads, &err)) fail_msg("%zu: %s", n, err.msg);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) u[i * n + j] = a[n * n - 1 - (i * n + j)];
    nib_free(a);
    return u;
}

/* Largest entry of |U h U' - I|. */
static double residual(const double *u, const double *h, size_t n)
{
    double worst = 0, *uh = nib_calloc(n * n, sizeof *uh);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i; k < n; k++)
            for (size_t j = 0; j < n; j++) uh[i * n + j] += u[i * n + k] * h[k * n + j];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? -1 : 0;
            for (size_t k = j; k < n; k++) sum += uh[i * n + k] * u[j * n + k];
            worst = fabs(sum) > worst ? fabs(sum) : worst;
        }
    nib_free(uh);
    return worst;
}

static void factor_of_the_inverse(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 47, 191, 192, 193, 400, 450};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        double *h = make_matrix(n, (uint32_t)n), *u = factor(h, n, 1);
        double r = residual(u, h, n);
        if (!(r < 1e-11)) fail_msg("order %zu: U h U' is off by %g", n, r);
        for (int threads = 2; threads <= 7; threads += 5) {
            double *v = factor(h, n, threads);
            assert_memory_equal(u, v, n * n * sizeof *u);
            nib_free(v);
        }
        nib_free(h), nib_free(u);
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
        assert_int_equal(nib_inverse_factor(h, N, 2, &err), NIB_ENUMERIC);
        assert_non_null(strstr(err.msg, "order 300"));
        nib_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor_of_the_inverse),
        cmocka_unit_test(not_positive_definite),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("linalg", tests, NULL, NULL);
}
