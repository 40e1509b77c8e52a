/* SPDX-License-Identifier: MIT */
/* HQQ's fit against the original implementation (tests/golden/hqq), and laws of it for every
 * format. */
#include "base/cpu.h"
#include "base/mem.h"
#include "formats/source.h"
#include "quant/codec_int.h"
#include "quant/hqq.h"
#include "quant/round.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *golden_dir;
static const nib_ctx two = {.threads = 2};

static nib_int_codec hqq_codec(unsigned bits, size_t group)
{
    nib_int_codec c = nib_int_codec_make(bits, group, false);
    c.grid = NIB_GRID_HQQ;
    c.codec.zero = NIB_ZERO_REAL;
    return c;
}

static void *values(const nib_source *s, const char *name)
{
    nib_err err = {0};
    const nib_tensor *t = nib_source_find(s, name);
    assert_non_null(t);
    void *v = nib_alloc((size_t)t->bytes, 1);
    if (nib_source_read(s, t, 0, v, (size_t)t->bytes, &err)) fail_msg("%s", err.msg);
    return v;
}

static bool near(double a, double b, double share)
{
    return fabs(a - b) <= share * fmax(fabs(b), 1e-3);
}

/* Tolerances: see tests/golden/hqq/README.md. */
static void as_the_original(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned bits;
        size_t group, rows, cols;
        bool fitted;
    } vectors[] = {{"b2_g16_axis1_32x128", 2, 16, 32, 128, true},
                   {"b3_g64_axis1_40x128", 3, 64, 40, 128, true},
                   {"b4_g64_axis1_32x128_noopt", 4, 64, 32, 128, false},
                   {"b4_g64_axis1_64x256", 4, 64, 64, 256, true},
                   {"b8_g64_axis1_32x128", 8, 64, 32, 128, true}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const size_t n = vectors[i].rows * vectors[i].cols, groups = n / vectors[i].group;
        const nib_int_codec c = hqq_codec(vectors[i].bits, vectors[i].group);
        char path[512];
        nib_err err = {0};
        nib_source *s;
        snprintf(path, sizeof path, "%s/hqq/%s.safetensors", golden_dir, vectors[i].name);
        if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
        float *w = values(s, "weight"), *scale = values(s, "scale"), *zero = values(s, "zero"),
              *dequant = values(s, "dequant"), *q = nib_alloc(n, sizeof *q);
        uint8_t *want = values(s, "W_q_unpacked"), *code = nib_alloc(n, 1);
        nib_block_param *p = nib_alloc(groups, sizeof *p);
        const nib_code rc = vectors[i].fitted
                                ? nib_hqq_rows(&c.codec, w, vectors[i].rows, vectors[i].cols, q,
                                               code, p, &two, &err)
                                : nib_round_rows(&c.codec, w, NULL, vectors[i].rows,
                                                 vectors[i].cols, q, code, p, &two, &err);
        if (rc) fail_msg("%s", err.msg);
        for (size_t g = 0; g < groups; g++) {
            if (!near(p[g].d, scale[g], 1e-6) || !near(p[g].zero, zero[g], 1e-4))
                fail_msg("%s: group %zu has scale %g and zero %g, not %g and %g", vectors[i].name,
                         g, (double)p[g].d, (double)p[g].zero, (double)scale[g], (double)zero[g]);
        }
        size_t same = 0;
        double ours = 0, theirs = 0;
        for (size_t k = 0; k < n; k++) {
            same += code[k] == want[k];
            ours += fabs((double)w[k] - q[k]);
            theirs += fabs((double)w[k] - dequant[k]);
        }
        assert_true(same * 100 >= n * 99);
        assert_true(near(ours / theirs, 1, 0.005));
        void *all[] = {w, scale, zero, dequant, q, want, code, p};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) nib_free(all[k]);
        nib_source_close(s);
    }
}

enum { ROWS = 200, COLS = 512, N = ROWS * COLS };

static float w[N], q[N], again[N];
static uint8_t code[N], code_again[N];
static nib_block_param param[N / 16], param_again[N / 16];

/* Bell-shaped, a tenth of the columns larger, and none of a group of zeros. */
static void fill(void)
{
    uint64_t x = 7;
    for (size_t i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 6; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(x >> 40) * 0x1p-24f - 0.5f;
        }
        w[i] = sum * (i % COLS % 10 == 3 ? 0.4f : 0.1f);
    }
    memset(w + 3 * COLS, 0, COLS * sizeof *w);
}

static void fit_all(const nib_codec *c, const nib_ctx *ctx, float *value, uint8_t *codes,
                    nib_block_param *p)
{
    nib_err err = {0};
    if (nib_hqq_rows(c, w, ROWS, COLS, value, codes, p, ctx, &err)) fail_msg("%s", err.msg);
}

static double error_of(const float *value)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++) sum += pow(fabs((double)w[i] - value[i]), 0.7);
    return sum;
}

/* What was reported is what the bytes say, and no format comes out worse than it was. */
static void every_block_format(void **state)
{
    (void)state;
    static uint8_t packed[N * 2];
    nib_err err = {0};
    fill();
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->quantized) continue;
        assert_true(nib_hqq_fits(c));
        fit_all(c, &two, q, code, param);
        for (size_t b = 0; b < N / c->block; b++)
            c->pack(packed + b * c->bytes, &param[b], code + b * c->block);
        c->decode(again, packed, N / c->block, 0);
        for (size_t i = 0; i < N; i++)
            if (q[i] != again[i])
                fail_msg("%s: weight %zu is %.9g, its bytes say %.9g", c->name, i, (double)q[i],
                         (double)again[i]);
        const double fitted = error_of(q);
        if (nib_round_rows(c, w, NULL, ROWS, COLS, again, NULL, NULL, &two, &err))
            fail_msg("%s", err.msg);
        if (!(fitted < 1.02 * error_of(again)))
            fail_msg("%s: error %g, rounded alone %g", c->name, fitted, error_of(again));
    }
}

/* With whole zero points, with none, and with any, under scales of the range. */
static void integer_groups(void **state)
{
    (void)state;
    nib_err err = {0};
    fill();
    for (unsigned bits = 1; bits <= 8; bits++)
        for (int kind = 0; kind < 3; kind++) {
            nib_int_codec c = kind == 2 ? hqq_codec(bits, 64) : nib_int_codec_make(bits, 64, kind);
            c.codec.scale_type = NIB_F16;
            fit_all(&c.codec, &two, q, code, param);
            for (size_t b = 0; b < N / 64; b++) {
                const float z = param[b].zero;
                assert_true(nib_scale_stored(NIB_F16, param[b].d) == param[b].d);
                if (kind == 0) assert_true(z == rintf(z) && z >= 0 && z < (float)c.codec.n_codes);
                if (kind == 1) assert_true(z == (float)(c.codec.n_codes / 2));
                if (kind == 2) assert_true(nib_scale_stored(NIB_F16, z) == z);
                for (size_t i = b * 64; i < b * 64 + 64; i++)
                    assert_true(q[i] == param[b].d * ((float)code[i] - z));
            }
            const double fitted = error_of(q);
            if (nib_round_rows(&c.codec, w, NULL, ROWS, COLS, again, NULL, NULL, &two, &err))
                fail_msg("%s", err.msg);
            if (!(fitted < 1.001 * error_of(again)))
                fail_msg("%u bits, kind %d: error %g, rounded alone %g", bits, kind, fitted,
                         error_of(again));
        }
}

static void one_result(void **state)
{
    (void)state;
    const nib_int_codec c = hqq_codec(3, 64);
    const nib_codec *all[] = {&c.codec, nib_codec_get(NIB_Q4_K), nib_codec_get(NIB_IQ3_S)};
    const nib_ctx fast = {.threads = 2, .cpu = nib_cpu_detect()}, plain = {.threads = 1};
    fill();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        fit_all(all[i], &plain, q, code, param);
        fit_all(all[i], &fast, again, code_again, param_again);
        assert_memory_equal(q, again, sizeof q);
        assert_memory_equal(code, code_again, sizeof code);
        for (size_t b = 0; b < N / all[i]->block; b++) {
            assert_true(param[b].d == param_again[b].d && param[b].zero == param_again[b].zero);
            assert_true(param[b].dmin == param_again[b].dmin);
        }
    }
}

static void whole_tensors_have_nothing_to_fit(void **state)
{
    (void)state;
    nib_int_codec c = nib_int_codec_make(8, 64, true);
    nib_err err = {0};
    assert_true(nib_hqq_fits(&c.codec));
    nib_int_codec_per_tensor(&c);
    assert_false(nib_hqq_fits(&c.codec));
    assert_false(nib_hqq_fits(nib_codec_get(NIB_F16)));
    assert_int_equal(nib_hqq_rows(nib_codec_get(NIB_Q4_K), w, 1, 64, q, code, param, &two, &err),
                     NIB_EINVAL);
    const nib_codec *small = nib_codec_get(NIB_Q4_0);
    const float weight = w[COLS + 3];
    w[COLS + 3] = 1e20f;
    assert_int_equal(nib_hqq_rows(small, w, ROWS, COLS, q, code, param, &two, &err), NIB_ENUMERIC);
    assert_non_null(strstr(err.msg, "values too large for q4_0, up to 1e+20"));
    assert_int_equal(nib_round_rows(small, w, NULL, ROWS, COLS, q, code, param, &two, &err),
                     NIB_ENUMERIC);
    w[COLS + 3] = weight;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    golden_dir = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_original),
        cmocka_unit_test(every_block_format),
        cmocka_unit_test(integer_groups),
        cmocka_unit_test(one_result),
        cmocka_unit_test(whole_tensors_have_nothing_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
