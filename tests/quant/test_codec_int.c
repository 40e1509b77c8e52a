/* SPDX-License-Identifier: MIT */
/* The search for scales of integer groups, by laws: never worse than the range, close to what
 * trying everything finds, of the dtype that is stored, and the same bits on every kernel path. */
#include "blocks.h"
#include "cpus.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "quant/codec_int.h"
#include "quant/gptq.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N_MAX = 128 };

/* One group: a few weights far out, a few importances far above the others. */
static void make_group(float *w, float *imp, size_t n, uint32_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        w[i] = 0.02f * (noise(seed) + noise(seed) + noise(seed));
        if (noise(seed) > 0.96f) w[i] *= 3;
        imp[i] = expf(2 * noise(seed));
        if (noise(seed) > 0.96f) imp[i] *= 100;
    }
}

/* Sum of imp (q - w)^2, each q the nearest of scale (0 .. top - zero). */
static double error_of(const float *w, const float *imp, size_t n, double scale, double zero,
                       double top)
{
    double error = 0;
    for (size_t i = 0; i < n; i++) {
        double l = rint(w[i] / scale);
        l = l < -zero ? -zero : l > top - zero ? top - zero : l;
        const double e = scale * l - w[i];
        error += (imp ? imp[i] : 1) * e * e;
    }
    return error;
}

/* The least error of all zero points and 2000 scales of either sign up to 1.25 of the range. */
static double least_error(const float *w, const float *imp, size_t n, const nib_int_codec *c)
{
    const int top = c->codec.n_codes - 1, middle = (top + 1) / 2;
    float a = 0;
    double least = INFINITY;
    for (size_t i = 0; i < n; i++) a = fabsf(w[i]) > a ? fabsf(w[i]) : a;
    for (int z = c->sym ? middle : (int)c->zero_min; z <= (c->sym ? middle : top); z++)
        for (int k = 1; k <= 2000; k++)
            for (int sign = c->sym ? -1 : 1; sign <= 1; sign += 2) {
                const double most = c->sym ? 1.25 * a / (middle - 1) : 2.5 * a / top;
                const double e = error_of(w, imp, n, sign * most * k / 2000, z, top);
                least = e < least ? e : least;
            }
    return least;
}

static double fitted_error(const nib_int_codec *c, const float *w, const float *imp)
{
    nib_block_param p;
    c->codec.fit(&c->codec, &p, &(nib_fit_in){.w = w, .imp = imp}, 1, nib_cpu_detect());
    assert_true(p.d == nib_scale_stored(c->codec.scale_type, p.d));
    assert_in_range(p.zero, c->sym ? c->codec.n_codes / 2 : (int)c->zero_min, c->codec.n_codes - 1);
    return error_of(w, imp, c->codec.block, p.d, p.zero, c->codec.n_codes - 1);
}

static nib_int_codec searched(unsigned bits, size_t n, bool sym, nib_type scale_type)
{
    nib_int_codec c = nib_int_codec_make(bits, n, sym);
    c.codec.scale_type = scale_type;
    c.scales = NIB_SCALES_SQUARE;
    c.zero_min = !sym;
    return c;
}

/* What the search misses of the least error, on average: with 4 bits the error has many shallow
 * minima over the scale, and a finer search would gain half a percent; with fewer it finds the
 * least.
 */
static void close_to_trying_everything(void **state)
{
    (void)state;
    enum { GROUPS = 40 };
    static const struct {
        unsigned bits;
        size_t n;
        bool sym;
        double within;
    } row[] = {{4, 128, true, 0.01},  {3, 128, true, 0.001},  {2, 64, true, 0.001},
               {4, 128, false, 0.01}, {3, 128, false, 0.001}, {2, 64, false, 0.001}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++)
        for (int weighted = 0; weighted < 2; weighted++) {
            const nib_int_codec c = searched(row[r].bits, row[r].n, row[r].sym, NIB_F16);
            nib_int_codec range = c;
            double excess = 0, gained = 0;
            uint32_t seed = 1;
            range.scales = NIB_SCALES_RANGE;
            for (int g = 0; g < GROUPS; g++) {
                float w[N_MAX], imp[N_MAX];
                make_group(w, imp, row[r].n, &seed);
                const float *i = weighted ? imp : NULL;
                const double e = fitted_error(&c, w, i), plain = fitted_error(&range, w, i);
                if (e > plain * (1 + 1e-5)) fail_msg("%g, the range %g", e, plain);
                excess += e / least_error(w, i, row[r].n, &c) - 1;
                gained += e < 0.9 * plain;
            }
            if (excess / GROUPS > row[r].within || gained < GROUPS / 2)
                fail_msg("%u bits, symmetric %d, weighted %d: %.4f above the least, %.0f gained",
                         row[r].bits, row[r].sym, weighted, excess / GROUPS, gained);
        }
}

/* Rows of 8-bit codes: the error is 1e-5 of the energy, which sums in f32 must not drown. */
static void long_rows_of_fine_codes(void **state)
{
    (void)state;
    enum { N = 4096 };
    float *w = nib_alloc(N, sizeof *w), *imp = nib_alloc(N, sizeof *imp);
    nib_int_codec c = searched(8, N, true, NIB_F32);
    uint32_t seed = 2;
    for (int g = 0; g < 5; g++) {
        make_group(w, imp, N, &seed);
        c.scales = NIB_SCALES_RANGE;
        const double plain = fitted_error(&c, w, imp);
        c.scales = NIB_SCALES_SQUARE;
        assert_true(fitted_error(&c, w, imp) <= plain * (1 + 1e-4));
    }
    nib_free(w);
    nib_free(imp);
}

/* Nothing to choose by: the range. */
static void nothing_to_search_for(void **state)
{
    (void)state;
    float w[64] = {0}, imp[64] = {0};
    uint32_t seed = 3;
    for (int sym = 0; sym < 2; sym++) {
        nib_int_codec c = searched(4, 64, sym, NIB_F16), range = c;
        nib_block_param a, b;
        range.scales = NIB_SCALES_RANGE;
        for (int i = 0; i < 64; i++) w[i] = 0;
        c.codec.fit(&c.codec, &a, &(nib_fit_in){.w = w}, 1, 0);
        range.codec.fit(&range.codec, &b, &(nib_fit_in){.w = w}, 1, 0);
        assert_true(a.d == b.d && a.zero == b.zero);
        for (int i = 0; i < 64; i++) w[i] = noise(&seed) * 1e30f; /* no f16 holds the scale */
        c.codec.fit(&c.codec, &a, &(nib_fit_in){.w = w}, 1, 0);
        range.codec.fit(&range.codec, &b, &(nib_fit_in){.w = w}, 1, 0);
        assert_true(a.d == b.d && a.zero == b.zero);
        for (int i = 0; i < 64; i++) w[i] = noise(&seed); /* importances of 0 are none */
        c.codec.fit(&c.codec, &a, &(nib_fit_in){.w = w, .imp = imp}, 1, 0);
        c.codec.fit(&c.codec, &b, &(nib_fit_in){.w = w}, 1, 0);
        assert_true(a.d == b.d && a.zero == b.zero);
    }
}

static void same_bits(void **state)
{
    (void)state;
    enum { GROUPS = 37 };
    static float w[GROUPS * N_MAX], imp[N_MAX];
    static nib_block_param alone[GROUPS], many[GROUPS];
    nib_fit_in in[GROUPS];
    uint32_t seed = 4;
    for (unsigned bits = 2; bits <= 8; bits++)
        for (size_t k = 0; k < 4 * TEST_CPUS; k++) {
            const unsigned cpu = test_cpus[k / 4];
            if (test_cpu_missing(cpu)) continue;
            const nib_int_codec c = searched(bits, N_MAX - bits, k & 1, NIB_BF16);
            for (size_t i = 0; i < GROUPS; i++) {
                make_group(w + i * N_MAX, imp, N_MAX, &seed);
                in[i] = (nib_fit_in){.w = w + i * N_MAX, .imp = k & 2 ? imp : NULL};
            }
            for (size_t i = 0; i < GROUPS; i++) c.codec.fit(&c.codec, &alone[i], &in[i], 1, 0);
            memset(many, 255, sizeof many);
            c.codec.fit(&c.codec, many, in, GROUPS, cpu);
            if (memcmp(alone, many, sizeof many))
                fail_msg("%u bits, %s: other parameters", bits, nib_cpu_name(cpu));
        }
}

/* By hand: 3 to 30 would have zero point 0, which GPTQ's first checkpoint format cannot store. With
 * 1 there are 14 steps above it, of 30 / 14. */
static void a_zero_point_that_cannot_be_stored_costs_a_step(void **state)
{
    (void)state;
    float w[10];
    nib_block_param p;
    nib_int_codec c = nib_int_codec_make(4, 10, false);
    for (int i = 0; i < 10; i++) w[i] = 3 * (float)(i + 1);
    c.codec.fit(&c.codec, &p, &(nib_fit_in){.w = w}, 1, 0);
    assert_true(p.zero == 0 && p.d == 2);
    c.zero_min = 1;
    c.codec.fit(&c.codec, &p, &(nib_fit_in){.w = w}, 1, 0);
    assert_true(p.zero == 1 && p.d == 30.0f / 14);
}

/* Descent refits scales: they must still be such as the file holds. */
static void solved_scales_can_be_stored(void **state)
{
    (void)state;
    enum { COLS = 128, ROWS = 8, GROUP = 64 };
    static float w[ROWS * COLS], h[COLS * COLS];
    static uint8_t code[ROWS * COLS];
    nib_block_param param[ROWS * COLS / GROUP];
    const nib_ctx ctx = {.threads = 1, .cpu = nib_cpu_detect()};
    const nib_gptq_opts o = nib_gptq_defaults();
    nib_err err = {0};
    nib_gptq *g;
    uint32_t seed = 5;
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] = noise(&seed);
    for (size_t i = 0; i < COLS; i++)
        for (size_t k = 0; k < COLS; k++) h[i * COLS + k] = powf(0.9f, fabsf((float)i - (float)k));
    const nib_type types[] = {NIB_F16, NIB_BF16, NIB_F32};
    for (size_t t = 0; t < 3; t++) {
        const nib_int_codec c = searched(3, GROUP, true, types[t]);
        bool finer = false; /* than f16 */
        assert_int_equal(nib_gptq_new(&g, &o, &ctx, &err), NIB_OK);
        assert_int_equal(nib_gptq_prepare(g, h, COLS, 0, 1, &err), NIB_OK);
        assert_int_equal(nib_gptq_solve(g, &c.codec, w, ROWS, code, param, NULL, &err), NIB_OK);
        nib_gptq_free(g);
        for (size_t i = 0; i < ROWS * COLS / GROUP; i++) {
            assert_true(param[i].d == nib_scale_stored(types[t], param[i].d));
            finer |= param[i].d != nib_scale_stored(NIB_F16, param[i].d);
        }
        assert_true(finer == (types[t] == NIB_F32));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_to_trying_everything),
        cmocka_unit_test(long_rows_of_fine_codes),
        cmocka_unit_test(nothing_to_search_for),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(a_zero_point_that_cannot_be_stored_costs_a_step),
        cmocka_unit_test(solved_scales_can_be_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
