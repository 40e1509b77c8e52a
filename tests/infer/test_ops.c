/* SPDX-License-Identifier: MIT */
/* Kernels against plain f64 arithmetic, and every instruction set against plain C, bit by bit. */
#include "base/cpu.h"
#include "base/half.h"
#include "infer/model.h"
#include "infer/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { MAX = 300 };
static const size_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 48, 128, 299};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

/* The sets this processor has, plain C first. */
static size_t sets(const nib_ops *out[3])
{
    const unsigned have = nib_cpu_detect();
    size_t n = 0;
    out[n++] = nib_ops_get(0);
    if (have & NIB_CPU_AVX2) out[n++] = nib_ops_get(NIB_CPU_AVX2);
    if (have & NIB_CPU_AVX512) out[n++] = nib_ops_get(NIB_CPU_AVX2 | NIB_CPU_AVX512);
    return n;
}

static void fill(float *x, size_t n, uint32_t seed, float spread)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) / 8388608.0f - 1) * spread;
    }
}

/* |a - b| in units of b's last place (subnormals: of the smallest). */
static double ulps(float a, double b)
{
    int e;
    frexp(b, &e);
    return fabs((double)a - b) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

static void exp_is_within_two_ulps(void **state)
{
    (void)state;
    const nib_ops *set[3];
    const size_t n = sets(set);
    double worst = 0;
    float at = 0;
    for (size_t s = 0; s < n; s++) {
        /* Every 2503rd float of both signs whose exponential is finite. */
        for (uint32_t u = 0; u < 0x42B17218u; u += 16 * 2503) {
            float x[32], y[32];
            for (uint32_t i = 0; i < 16; i++) x[i] = nib_f32_from_bits(u + i * 2503);
            for (int i = 0; i < 16; i++) x[16 + i] = -x[i] * 1.17f;
            set[s]->exp(y, x, 32);
            for (int i = 0; i < 32; i++) {
                double d = exp(x[i]) > 3.4e38 ? 0 : ulps(y[i], exp(x[i]));
                if (d > worst) worst = d, at = x[i];
            }
        }
    }
    if (worst > 2) fail_msg("exp(%.9g) is %.2f ulp off", (double)at, worst);
}

static void exp_at_the_edges(void **state)
{
    (void)state;
    const nib_ops *set[3];
    const size_t n = sets(set);
    const float x[] = {0, -0.0f, INFINITY, -INFINITY, 88.8f, 1e30f, -104, -1e30f, NAN};
    for (size_t s = 0; s < n; s++) {
        float y[9];
        set[s]->exp(y, x, 9);
        assert_true(y[0] == 1 && y[1] == 1);
        assert_true(y[2] == INFINITY && y[4] == INFINITY && y[5] == INFINITY);
        assert_true(y[3] == 0 && y[6] == 0 && y[7] == 0);
        assert_true(isnan(y[8]));
    }
}

static void norm_gate_and_sums_equal_f64(void **state)
{
    (void)state;
    const nib_ops *op = nib_ops_get(nib_cpu_detect());
    float x[MAX], w[MAX], y[MAX];
    for (size_t s = 0; s < N_SIZES; s++) {
        const size_t n = sizes[s];
        double squares = 0, total = 0;
        fill(x, n, 1, 8);
        fill(w, n, 2, 2);
        for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
        op->rmsnorm(y, x, w, n, 1e-5f);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(y[i] - x[i] / sqrt(squares / (double)n + 1e-5) * w[i]) < 1e-6);
        double sum = 0, spread = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i];
        const double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++) spread += ((double)x[i] - mean) * ((double)x[i] - mean);
        for (int bias = 0; bias < 2; bias++) {
            op->layernorm(y, x, w, bias ? x : NULL, n, 1e-5f);
            for (size_t i = 0; i < n; i++) {
                const double v = (x[i] - mean) / sqrt(spread / (double)n + 1e-5) * w[i];
                assert_true(fabs(y[i] - v - (bias ? (double)x[i] : 0)) < 4e-6);
            }
        }
        memcpy(y, x, n * sizeof *y);
        op->swiglu(y, w, n);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(y[i] - x[i] / (1 + exp(-(double)x[i])) * w[i]) < 2e-6);
        memcpy(y, x, n * sizeof *y);
        op->geglu(y, w, n);
        for (size_t i = 0; i < n; i++) {
            const double v = x[i], u = sqrt(2 / acos(-1)) * (v + 0.044715 * v * v * v);
            assert_true(fabs(y[i] - v / 2 * (1 + tanh(u)) * w[i]) < 2e-6);
        }
        memcpy(y, x, n * sizeof *y);
        op->softcap(y, n, 3, 5);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(y[i] - 5 * tanh(3 * (double)x[i] / 5)) < 5 * 3e-7);
        float max = x[0];
        for (size_t i = 0; i < n; i++) max = fmaxf(max, x[i]);
        assert_true(op->max(x, n) == max);
        for (size_t i = 0; i < n; i++) total += exp((double)x[i] - max);
        assert_true(fabs(op->sum_exp(x, n, max) / total - 1) < 1e-6);
        for (size_t i = 0; i < n; i++) y[i] = x[i] * 4;
        assert_true(fabs(op->exp_shift(y, n, 0.25f, max * 4) / total - 1) < 1e-6);
        for (size_t i = 0; i < n; i++) assert_true(fabs(y[i] - exp((double)x[i] - max)) < 1e-6);
    }
}

static void rotation_turns_pairs(void **state)
{
    (void)state;
    enum { HALF = 20, DIM = 2 * HALF };
    const nib_ops *op = nib_ops_get(nib_cpu_detect());
    float x[DIM], y[DIM], adjacent[DIM], c[HALF], s[HALF];
    fill(x, DIM, 3, 1);
    for (int j = 0; j < HALF; j++) c[j] = cosf((float)j), s[j] = sinf((float)j);
    memcpy(y, x, sizeof y);
    op->rope_halves(y, c, s, HALF);
    for (int j = 0; j < HALF; j++) {
        double re = x[j] * cos(j) - x[j + HALF] * sin(j), im = x[j] * sin(j) + x[j + HALF] * cos(j);
        assert_true(fabs(y[j] - re) < 1e-6 && fabs(y[j + HALF] - im) < 1e-6);
    }
    /* The other layout is the same rotation of the reordered head. */
    for (uint32_t r = 0; r < DIM; r++) adjacent[r] = x[nib_rope_source_row(r, DIM)];
    op->rope_pairs(adjacent, c, s, HALF);
    for (uint32_t r = 0; r < DIM; r++) assert_true(adjacent[r] == y[nib_rope_source_row(r, DIM)]);
}

static void same(const float *a, const float *b, size_t n, const char *what)
{
    if (memcmp(a, b, n * sizeof *a))
        fail_msg("%s of %zu differs between instruction sets", what, n);
}

static void every_set_gives_the_same_bits(void **state)
{
    (void)state;
    const nib_ops *set[3];
    const size_t n_sets = sets(set);
    float x[MAX], w[MAX], a[MAX], b[MAX];
    if (n_sets == 1) skip();
    for (size_t k = 0; k < N_SIZES; k++) {
        const size_t n = sizes[k];
        fill(x, n, 5, 20);
        fill(w, n, 6, 1);
        for (size_t s = 1; s < n_sets; s++) {
            set[0]->rmsnorm(a, x, w, n, 1e-6f);
            set[s]->rmsnorm(b, x, w, n, 1e-6f);
            same(a, b, n, "rmsnorm");
            memcpy(a, x, n * sizeof *a);
            memcpy(b, x, n * sizeof *b);
            set[0]->swiglu(a, w, n);
            set[s]->swiglu(b, w, n);
            same(a, b, n, "swiglu");
            set[0]->geglu(a, w, n);
            set[s]->geglu(b, w, n);
            same(a, b, n, "geglu");
            set[0]->softcap(a, n, 3, 5);
            set[s]->softcap(b, n, 3, 5);
            same(a, b, n, "softcap");
            set[0]->rope_halves(a, w, x, n / 2);
            set[s]->rope_halves(b, w, x, n / 2);
            same(a, b, n, "rope_halves");
            set[0]->rope_pairs(a, w, x, n / 2);
            set[s]->rope_pairs(b, w, x, n / 2);
            same(a, b, n, "rope_pairs");
            float m = set[0]->max(x, n);
            assert_true(set[s]->max(x, n) == m);
            assert_true(set[0]->sum_exp(x, n, m) == set[s]->sum_exp(x, n, m));
            memcpy(a, x, n * sizeof *a);
            memcpy(b, x, n * sizeof *b);
            assert_true(set[0]->exp_shift(a, n, 0.3f, m) == set[s]->exp_shift(b, n, 0.3f, m));
            same(a, b, n, "exp_shift");
        }
    }
}

/* Products with rows of keys and sums of rows of values, in every build, with the same bits. */
static void rows_of_keys_and_values(void **state)
{
    (void)state;
    enum { N = 11, DIM = 83, STEP = 100 };
    const nib_ops *set[3];
    const size_t n = sets(set);
    float q[DIM], rows[N * STEP], y[3][N], mixed[3][DIM];
    for (size_t dim = 1; dim <= DIM; dim++) {
        fill(q, dim, 1, 2);
        fill(rows, N * STEP, 2, 2);
        for (size_t s = 0; s < n; s++) {
            set[s]->dots(y[s], q, rows, N, STEP, dim);
            for (size_t d = 0; d < dim; d++) mixed[s][d] = (float)d;
            set[s]->mix(mixed[s], y[0], rows, N, STEP, dim);
            assert_memory_equal(y[s], y[0], sizeof y[s]);
            assert_memory_equal(mixed[s], mixed[0], dim * sizeof(float));
        }
        for (size_t i = 0; i < N; i++) {
            double want = 0;
            for (size_t d = 0; d < dim; d++) want += (double)q[d] * (double)rows[i * STEP + d];
            assert_true(fabs((double)y[0][i] - want) < 1e-4);
        }
        for (size_t d = 0; d < dim; d++) {
            double want = (double)d;
            for (size_t i = 0; i < N; i++) want += (double)y[0][i] * (double)rows[i * STEP + d];
            assert_true(fabs((double)mixed[0][d] - want) < 1e-3 * (1 + fabs(want)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_keys_and_values), cmocka_unit_test(exp_is_within_two_ulps),
        cmocka_unit_test(exp_at_the_edges),        cmocka_unit_test(norm_gate_and_sums_equal_f64),
        cmocka_unit_test(rotation_turns_pairs),    cmocka_unit_test(every_set_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
