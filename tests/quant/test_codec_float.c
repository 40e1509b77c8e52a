/* SPDX-License-Identifier: MIT */
/* Small floats: rounding (tests/golden/fp8, ct_pack), the same in the solver's loops, on every
 * kernel path; what blocks have in common, under the solver too; and weights at the edges. */
#include "cpus.h"

#include "base/linalg.h"
#include "base/mem.h"
#include "formats/source.h"
#include "quant/codec_float.h"
#include "quant/gptq.h"
#include "quant/lanes.h"
#include "quant/round.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char *golden;

static nib_source *open_vectors(const char *name)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/%s.safetensors", golden, name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

static void *bytes_of(const nib_source *s, const char *name, size_t *n)
{
    nib_err err;
    const nib_tensor *t = nib_source_find(s, name);
    assert_non_null(t);
    void *p = nib_alloc((size_t)t->bytes, 1);
    assert_int_equal(nib_source_read(s, t, 0, p, (size_t)t->bytes, &err), NIB_OK);
    *n = (size_t)nib_tensor_elems(t);
    return p;
}

/* ---- rounding ---- */

/* Ties, saturation, subnormals, zeros of both signs: every midpoint of E4M3 and its neighbours. */
static void e4m3_rounds_as_torch(void **state)
{
    (void)state;
    size_t n, same;
    nib_source *s = open_vectors("fp8/f32_inputs");
    float *x = bytes_of(s, "x", &n);
    uint8_t *want = bytes_of(s, "e4m3fn_saturating", &same);
    assert_int_equal(n, same);
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) continue;
        const float y = nib_small_round(&nib_e4m3, x[i]);
        const uint8_t code = nib_small_code(&nib_e4m3, nib_small_place(&nib_e4m3, y), 7);
        if (code != want[i]) fail_msg("%g: 0x%02x, should be 0x%02x", (double)x[i], code, want[i]);
        assert_true(y == nib_f8_e4m3_to_f32(code));
    }
    nib_free(x), nib_free(want);
    nib_source_close(s);
}

static void e2m1_rounds_as_compressed_tensors(void **state)
{
    (void)state;
    size_t n, same;
    nib_source *s = open_vectors("ct_pack/fp4");
    float *x = bytes_of(s, "x", &n), *want = bytes_of(s, "rounded", &same);
    for (size_t i = 0; i < n; i++) {
        const float y = nib_small_round(&nib_e2m1, x[i]);
        const uint8_t code = nib_small_code(&nib_e2m1, nib_small_place(&nib_e2m1, y), 3);
        if (y != want[i])
            fail_msg("%g: %g, should be %g", (double)x[i], (double)y, (double)want[i]);
        assert_true(nib_e2m1_values[code] == want[i]);
    }
    nib_free(x), nib_free(want);
    size_t n_scales;
    float *scale = bytes_of(s, "mx_scale", &n_scales);
    uint8_t *exponent = bytes_of(s, "mx_scale_e8m0", &same);
    nib_int_codec c = nib_int_codec_make(4, 32, true);
    nib_mxfp4_codec(&c);
    for (size_t i = 0; i < n_scales; i++) /* of powers of two */
        if (frexpf(scale[i], &(int){0}) == 0.5f)
            assert_true(nib_codec_step(&c.codec, 1, exponent[i]) == scale[i]);
    nib_free(scale), nib_free(exponent);
    nib_source_close(s);
}

static nib_int_codec fp8_tiles(size_t cols, size_t rows, size_t columns)
{
    nib_int_codec c = nib_int_codec_make(8, cols, true);
    nib_fp8_codec(&c, cols, rows, columns);
    return c;
}

static nib_int_codec make(int which, size_t cols)
{
    nib_int_codec c = fp8_tiles(cols, 128, 128);
    if (which == 1) c = fp8_tiles(cols, 0, cols);
    if (which > 1) c = nib_int_codec_make(which == 4 ? 8 : 4, 16, true);
    if (which == 2) nib_nvfp4_codec(&c);
    if (which == 3) nib_mxfp4_codec(&c);
    if (which == 4) nib_mxfp8_codec(&c);
    return c;
}
enum { FORMATS = 5 };

/* Codebooks are in order, and what rounding says they are. */
static void codebooks_are_the_floats(void **state)
{
    (void)state;
    for (int f = 0; f < FORMATS; f++) {
        const nib_int_codec c = make(f, 256);
        assert_int_equal(c.codec.n_codes, 2 * c.codec.small->half);
        for (int k = 0; k < c.codec.n_codes; k++) {
            const float v = c.codec.codebook[k];
            assert_true(nib_small_round(c.codec.small, v) == v);
            assert_int_equal(nib_small_place(c.codec.small, v), k);
            if (k) assert_true(v > c.codec.codebook[k - 1] || (v == 0 && k == c.codec.small->half));
        }
        for (int k = c.codec.sc_min + 1; k <= c.codec.sc_max && c.codec.sc_level; k++)
            assert_true(c.codec.sc_level[k] > c.codec.sc_level[k - 1]);
    }
}

/* Lanes round as nib_codec_round(). */
static void lanes_round_alike(void **state)
{
    (void)state;
    float w[NIB_LANES], value[NIB_LANES], one[NIB_LANES];
    uint8_t code[NIB_LANES], other[NIB_LANES];
    nib_levels lv;
    nib_lane_grid grid = {0};
    for (int f = 0; f < FORMATS; f++) {
        const nib_int_codec c = make(f, 256);
        const nib_block_param p = {.d = 0.375f, .sc = {9}};
        const nib_block_param own = {.d = 0.375f, .sc = {1}};
        const nib_block_param *param = c.codec.sc_level ? &p : &own;
        const float step = nib_codec_step(&c.codec, 0.375f, param->sc[0]);
        for (int l = 0; l < NIB_LANES; l++) grid.scale[l] = step;
        nib_levels_init(&lv, &c.codec);
        for (int round = 0; round < 40; round++)
            for (size_t cpu = 0; cpu < TEST_CPUS; cpu++) {
                if (test_cpu_missing(test_cpus[cpu])) continue;
                for (int l = 0; l < NIB_LANES; l++)
                    w[l] =
                        step * ldexpf((float)(l - 64) + 0.5f * (float)(round % 2), round / 2 - 12);
                nib_lanes_get(test_cpus[cpu])->round(&lv, &grid, w, value, code);
                for (size_t l = 0; l < NIB_LANES; l++)
                    nib_codec_round(&c.codec, param, 0, 1, &w[l], &other[l], &one[l]);
                assert_memory_equal(code, other, sizeof code);
                for (int l = 0; l < NIB_LANES; l++) assert_true(value[l] == one[l]);
            }
    }
}

/* ---- what blocks have in common ---- */

enum { ROWS = 200, COLS = 320 };

static float noise(uint32_t *seed)
{
    float x = 0;
    for (int i = 0; i < 4; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        x += (float)(*seed >> 8) / 8388608.0f - 1;
    }
    return x;
}

typedef struct {
    float w[ROWS * COLS], h[COLS * COLS], value[ROWS * COLS];
    uint8_t code[ROWS * COLS], again[ROWS * COLS];
    nib_block_param param[ROWS * COLS / 16];
} matrix;

static matrix m;

static void fill(void)
{
    enum { TOKENS = 2 * COLS };
    uint32_t seed = 7;
    float *x = nib_alloc(TOKENS * COLS, sizeof *x);
    for (size_t i = 0; i < ROWS * COLS; i++) m.w[i] = 0.05f * noise(&seed);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t j = 0; j < COLS; j++)
            x[t * COLS + j] =
                (j ? 0.9f * x[t * COLS + j - 1] : 0) + noise(&seed) * (j % 37 ? 1 : 6);
    nib_gemm_tn(COLS, COLS, TOKENS, x, COLS, x, COLS, m.h, COLS, 0);
    nib_free(x);
}

/* Rows and columns of a tile have one scale, its neighbours another. */
static void check_shared(int f, const nib_codec *c)
{
    const size_t blocks = COLS / c->block;
    for (size_t i = 0; i < ROWS * blocks; i++) {
        const size_t row = i / blocks, at = i % blocks * c->block;
        const size_t top = f ? 0 : row / 128 * 128, left = f ? 0 : at / 128 * 128;
        assert_true(m.param[i].d == m.param[top * blocks + left / c->block].d);
    }
    if (!f) assert_true(m.param[0].d != m.param[128 / c->block].d);
}

/* GPTQ leaves scales as they were found, gains as with others, and is the same for any threads. */
static void solver_keeps_what_is_shared(void **state)
{
    (void)state;
    fill();
    for (int f = 0; f < FORMATS; f++) {
        nib_int_codec c = make(f, COLS);
        c.scales = NIB_SCALES_SQUARE;
        nib_gptq_report report[2];
        for (int t = 0; t < 2; t++) {
            nib_err err = {0};
            nib_gptq *g;
            const nib_ctx ctx = {.threads = t ? 3 : 1, .cpu = t ? nib_cpu_detect() : 0};
            nib_gptq_opts o = nib_gptq_defaults();
            nib_code rc = nib_gptq_new(&g, &o, &ctx, &err);
            if (!rc) rc = nib_gptq_prepare(g, m.h, COLS, 0, 1, &err);
            if (!rc)
                rc = nib_gptq_solve(g, &c.codec, m.w, ROWS, t ? m.again : m.code, m.param,
                                    &report[t], &err);
            if (rc) fail_msg("%s", err.msg);
            if (f < 3) check_shared(f, &c.codec);
            nib_gptq_free(g);
        }
        assert_memory_equal(m.code, m.again, sizeof m.code);
        print_message("# format %d: %g, rounded %g\n", f, report[0].solved, report[0].rtn);
        assert_true(report[0].solved < 0.9 * report[0].rtn);
    }
}

/* ---- edges ---- */

/* Zeros, one huge weight, weights near the least of f32: finite parameters, and values that are. */
static void edges_are_finite(void **state)
{
    (void)state;
    static const float extremes[] = {0, 1e-45f, 1e-38f, 1e-20f, 1e20f, 3e38f};
    const nib_ctx ctx = {.threads = 1};
    for (int f = 0; f < FORMATS; f++)
        for (size_t e = 0; e < sizeof extremes / sizeof *extremes; e++)
            for (int scales = 0; scales < 2; scales++) {
                nib_err err = {0};
                nib_int_codec c = make(f, COLS);
                c.scales = scales ? NIB_SCALES_SQUARE : NIB_SCALES_RANGE;
                memset(m.w, 0, sizeof m.w);
                m.w[0] = extremes[e], m.w[COLS + 3] = -extremes[e];
                assert_int_equal(nib_round_rows(&c.codec, m.w, NULL, ROWS, COLS, m.value, m.code,
                                                m.param, &ctx, &err),
                                 NIB_OK);
                for (size_t i = 0; i < ROWS * COLS; i++) {
                    if (!isfinite(m.value[i])) fail_msg("format %d, %g", f, (double)extremes[e]);
                    if (i > COLS + 3) assert_true(m.value[i] == 0);
                }
                if (extremes[e] > 1e-30f)
                    if (!(fabsf(m.value[0] / extremes[e] - 1) < 0.2f))
                        fail_msg("format %d, %d: %g becomes %g", f, scales, (double)extremes[e],
                                 (double)m.value[0]);
            }
}

int main(int argc, char **argv)
{
    golden = argc > 1 ? argv[1] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e4m3_rounds_as_torch),
        cmocka_unit_test(e2m1_rounds_as_compressed_tensors),
        cmocka_unit_test(codebooks_are_the_floats),
        cmocka_unit_test(lanes_round_alike),
        cmocka_unit_test(solver_keeps_what_is_shared),
        cmocka_unit_test(edges_are_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
