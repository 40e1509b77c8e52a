/* SPDX-License-Identifier: MIT */
/* The laws of codecs, for every row of the table, on ordinary and awkward blocks. */
#include "blocks.h"
#include "cpus.h"

#include "base/half.h"
#include "quant/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* ---- the table ---- */

static void sizes_are_those_of_the_formats(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t block, bytes;
    } want[] = {
        {"f32", 1, 4},        {"f16", 1, 2},        {"bf16", 1, 2},     {"f64", 1, 8},
        {"f8_e4m3", 1, 1},    {"f4", 2, 1},         {"f6_e2m3", 4, 3},  {"i64", 1, 8},
        {"Q8_0", 32, 34},     {"q4_0", 32, 18},     {"q4_1", 32, 20},   {"q5_0", 32, 22},
        {"q5_1", 32, 24},     {"q2_k", 256, 84},    {"q3_K", 256, 110}, {"q4_k", 256, 144},
        {"q5_k", 256, 176},   {"Q6_K", 256, 210},   {"iq4_nl", 32, 18}, {"IQ4_XS", 256, 136},
        {"iq3_s", 256, 110},  {"iq3_xxs", 256, 98}, {"iq2_s", 256, 82}, {"iq2_xs", 256, 74},
        {"iq2_xxs", 256, 66}, {"iq1_m", 256, 56},   {"iq1_s", 256, 50}, {"tq2_0", 256, 66},
        {"tq1_0", 256, 54},   {"mxfp4", 32, 17},    {"nvfp4", 64, 36},  {"q2_0", 64, 18},
        {"q1_0", 128, 18},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const nib_codec *c = nib_codec_find(want[i].name);
        assert_non_null(c);
        assert_int_equal(c->block, want[i].block);
        assert_int_equal(c->bytes, want[i].bytes);
        assert_ptr_equal(c, nib_codec_get(c->type));
    }
    assert_null(nib_codec_find("q4"));
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        assert_int_equal(c->type, t);
        assert_non_null(c->name);
        if (c->quantized) assert_true(c->fit && c->pack && c->encode && c->decode);
        if (c->quantized) assert_true(c->block / c->sub <= NIB_SUB_MAX && c->n_codes <= 256);
        assert_int_equal(!c->decode, !c->valid);
    }
}

static void row_bytes_refuse_what_does_not_divide(void **state)
{
    (void)state;
    size_t n;
    const nib_codec *c = nib_codec_get(NIB_Q4_K);
    assert_true(nib_codec_row_bytes(c, 512, &n));
    assert_int_equal(n, 288);
    assert_false(nib_codec_row_bytes(c, 384, &n));
    assert_false(nib_codec_row_bytes(nib_codec_get(NIB_F64), SIZE_MAX / 4, &n));
    assert_int_equal(nib_encode_scratch(SIZE_MAX / 2), 0);
    assert_true(nib_encode_scratch(256) > 0);
}

static void vectors_and_signs_have_no_zero(void **state)
{
    (void)state;
    static const char *const none[] = {"iq1_s",   "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s",
                                       "iq3_xxs", "iq3_s", "iq4_nl",  "iq4_xs", "q1_0"};
    size_t n = 0;
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (nib_codec_get((nib_type)t)->quantized)
            n += !nib_codec_has_zero(nib_codec_get((nib_type)t));
    assert_int_equal(n, sizeof none / sizeof *none);
    for (size_t i = 0; i < n; i++) assert_false(nib_codec_has_zero(nib_codec_find(none[i])));
}

/* What the reference does not search for: the largest magnitude is one stray weight, of an input
 * that hardly counts. */
static void importances_move_the_scale(void **state)
{
    (void)state;
    static const nib_type types[] = {NIB_MXFP4, NIB_NVFP4, NIB_TQ2_0, NIB_Q2_0, NIB_Q1_0};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const nib_codec *c = nib_codec_get(types[t]);
        float w[NIB_BLOCK_MAX], imp[NIB_BLOCK_MAX], value[NIB_BLOCK_MAX];
        uint8_t code[NIB_BLOCK_MAX];
        nib_block_param p;
        uint32_t seed = 12;
        double error[2] = {0, 0};
        fill_block(w, c->block, BLOCK_NORMAL, &seed);
        for (size_t i = 0; i < c->block; i++) imp[i] = i % 16 == 3 ? 1e-6f : 1;
        for (size_t i = 3; i < c->block; i += 16) w[i] = 8;
        for (int weighted = 0; weighted < 2; weighted++) {
            c->fit(c, &p, &(nib_fit_in){w, weighted ? imp : NULL, 0}, 1, 0);
            nib_codec_round(c, &p, 0, c->block, w, code, value);
            for (size_t i = 0; i < c->block; i++)
                error[weighted] += (double)imp[i] * pow((double)value[i] - w[i], 2);
        }
        if (!(error[1] < 0.7 * error[0]))
            fail_msg("%s: %g, from the largest %g", c->name, error[1], error[0]);
    }
}

/* ---- fit, round, pack ---- */

static float value_of(const nib_codec *c, const nib_block_param *p, size_t s, int code)
{
    float D = p->d * nib_codec_sub_scale(c, p->sc[s]), B = p->dmin * (float)p->mn[s];
    float level = c->codebook ? c->codebook[code] : (float)(c->level0 + code);
    return D * (level - (float)p->zero) - B;
}

static void check_param(const nib_codec *c, const nib_block_param *p)
{
    assert_true(isfinite(p->d) && isfinite(p->dmin));
    assert_true(c->fixed_d ? p->d == 1 : p->d == nib_scale_stored(c->scale_type, p->d));
    if (c->mn_max) assert_true(p->dmin == nib_scale_stored(c->scale_type, p->dmin));
    assert_int_equal(p->zero, 0);
    if (!c->mn_max) assert_true(p->dmin == 0);
    for (size_t s = 0; s < c->block / c->sub; s++) {
        assert_true(p->sc[s] >= c->sc_min && p->sc[s] <= c->sc_max);
        assert_true(p->mn[s] >= (c->mn_max == 1) && p->mn[s] <= c->mn_max);
    }
}

static double distance(const float *a, const float *b, size_t n)
{
    double d = 0;
    for (size_t i = 0; i < n; i++) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return d;
}

/* Every vector is a point, and no other with these signs, or shifts, is nearer. */
static void check_points(const nib_codec *c, const nib_block_param *p, const float *w,
                         const uint8_t *code, const float *value)
{
    const nib_points *pt = c->points;
    const bool shifts = c->points_sign >= NIB_SHIFT_OWN;
    nib_points_ready();
    for (size_t at = 0; at < c->block; at += pt->dim) {
        unsigned packed = 0, negative = 0;
        const double is = distance(w + at, value + at, pt->dim);
        for (size_t i = 0; i < pt->dim; i++) {
            const int k = code[at + i], up = k >= pt->levels;
            const int l = shifts ? k / 2 : up ? k - pt->levels : pt->levels - 1 - k;
            packed |= (unsigned)l << pt->bits * i;
            const float v = value_of(c, p, (at + i) / c->sub, k);
            assert_memory_equal(&v, &value[at + i], 4);
            if (shifts) assert_int_equal(k % 2, code[at] % 2);
        }
        assert_true(pt->find[packed] >= 0);
        for (size_t i = at / 8 * 8; i < at / 8 * 8 + 8; i++) negative += code[i] < pt->levels;
        if (c->points_sign == NIB_SIGNS_EVEN) assert_int_equal(negative % 2, 0);
        for (size_t j = 0; j < pt->n; j++) {
            float other[8];
            for (size_t i = 0; i < pt->dim; i++) {
                const int l = (int)(pt->point[j] >> pt->bits * i) & ((1 << pt->bits) - 1);
                const int k = shifts                      ? 2 * l + code[at] % 2
                              : code[at + i] < pt->levels ? pt->levels - 1 - l
                                                          : pt->levels + l;
                other[i] = value_of(c, p, (at + i) / c->sub, k);
            }
            const double is_other = distance(w + at, other, pt->dim);
            if (is_other * (1 + 1e-4) < is) /* scores are sums in binary32 */
                fail_msg("%s: a vector at %g, a point at %g", c->name, is, is_other);
        }
    }
}

static void check_nearest(const nib_codec *c, const nib_block_param *p, const float *w,
                          const uint8_t *code, const float *value)
{
    if (c->vec) {
        check_points(c, p, w, code, value);
        return;
    }
    for (size_t i = 0; i < c->block; i++) {
        float v = value_of(c, p, i / c->sub, code[i]);
        assert_memory_equal(&v, &value[i], 4);
        for (int k = 0; k < c->n_codes; k++) {
            double other = fabs((double)value_of(c, p, i / c->sub, k) - w[i]);
            if (other < fabs((double)v - w[i]))
                fail_msg("%s: %g became %g, code %d is nearer", c->name, w[i], v, k);
        }
    }
}

/* What comes out of the bytes is what round reported, on every path and by unpack. */
static void check_bytes(const nib_codec *c, const nib_block_param *p, const uint8_t *code,
                        const float *value)
{
    uint8_t bytes[NIB_BLOCK_MAX * 2], again[NIB_BLOCK_MAX * 2], codes[NIB_BLOCK_MAX];
    float out[NIB_BLOCK_MAX];
    nib_block_param q;
    c->pack(bytes, p, code);
    assert_true(c->valid(bytes, 1));
    for (size_t i = 0; i < TEST_CPUS; i++) {
        if (test_cpu_missing(test_cpus[i])) continue;
        c->decode(out, bytes, 1, test_cpus[i]);
        assert_memory_equal(out, value, c->block * sizeof *out);
    }
    if (!c->unpack) return;
    c->unpack(&q, codes, bytes);
    assert_memory_equal(codes, code, c->block);
    for (size_t i = 0; i < c->block; i++) {
        float v = value_of(c, &q, i / c->sub, codes[i]);
        assert_memory_equal(&v, &value[i], 4);
    }
    c->pack(again, &q, codes);
    assert_memory_equal(again, bytes, c->bytes);
}

static void check_block(const nib_codec *c, const float *w, const float *imp, uint32_t *state)
{
    float value[NIB_BLOCK_MAX], one[NIB_BLOCK_MAX], moved[NIB_BLOCK_MAX], ms = 0;
    uint8_t code[NIB_BLOCK_MAX], code_one[NIB_BLOCK_MAX];
    nib_block_param p;
    for (size_t i = 0; i < c->block; i++) ms += w[i] * w[i];
    c->fit(c, &p, &(nib_fit_in){w, imp, ms / (float)c->block}, 1, 0);
    if (!isfinite(p.d) || !isfinite(p.dmin)) { /* beyond f16: see what_is_too_large_is_not_valid */
        assert_true(ms > 65504.0f * 65504.0f);
        return;
    }
    check_param(c, &p);
    nib_codec_round(c, &p, 0, c->block, w, code, value);
    check_nearest(c, &p, w, code, value);
    check_bytes(c, &p, code, value);
    for (size_t i = 0; i < c->block; i += c->vec ? c->vec : 1)
        nib_codec_round(c, &p, i, c->vec ? c->vec : 1, w + i, code_one + i, one + i);
    assert_memory_equal(code_one, code, c->block);
    assert_memory_equal(one, value, c->block * sizeof *value);
    nib_codec_round(c, &p, 0, c->block, value, code, one); /* what is on the grid stays */
    for (size_t i = 0; i < c->block; i++) assert_true(one[i] == value[i]);
    /* Methods that feed errors round weights that have left the fitted range. */
    for (size_t i = 0; i < c->block; i++) moved[i] = w[i] * 4 + noise(state);
    nib_codec_round(c, &p, 0, c->block, moved, code, value);
    check_nearest(c, &p, moved, code, value);
    check_bytes(c, &p, code, value);
}

/* Many blocks at once, on every kernel path, get the parameters that each gets alone. */
static void fit_of_many_agrees(void **state)
{
    (void)state;
    enum { N = 37 };
    static float w[N * NIB_BLOCK_MAX];
    static nib_block_param alone[N], many[N];
    nib_fit_in in[N];
    float imp[NIB_BLOCK_MAX];
    uint32_t seed = 9;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->fit) continue;
        for (int weighted = 0; weighted < 2; weighted++)
            for (size_t k = 0; k < TEST_CPUS; k++) {
                if (test_cpu_missing(test_cpus[k])) continue;
                fill_importance(imp, c->block, &seed);
                memset(imp, 0, c->block / 2 * sizeof *imp);
                for (size_t i = 0; i < N; i++) {
                    float *block = w + i * c->block;
                    fill_block(block, c->block, (block_kind)(i % BLOCK_KINDS), &seed);
                    in[i] = (nib_fit_in){block, weighted ? imp : NULL, 0.1f + 0.01f * (float)i};
                    c->fit(c, &alone[i], &in[i], 1, 0);
                }
                memset(many, 255, sizeof many);
                c->fit(c, many, in, N, test_cpus[k]);
                if (memcmp(alone, many, sizeof many))
                    fail_msg("%s, %s: other parameters", c->name, nib_cpu_name(test_cpus[k]));
            }
    }
}

static void fit_round_pack_agree(void **state)
{
    (void)state;
    float w[NIB_BLOCK_MAX], imp[NIB_BLOCK_MAX], zero[NIB_BLOCK_MAX] = {0};
    uint32_t seed = 7;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->quantized) continue;
        for (int kind = 0; kind < BLOCK_KINDS; kind++)
            for (int repeat = 0; repeat < 4; repeat++) {
                fill_block(w, c->block, (block_kind)kind, &seed);
                fill_importance(imp, c->block, &seed);
                check_block(c, w, NULL, &seed);
                check_block(c, w, imp, &seed);
                check_block(c, w, zero, &seed);
                memset(imp, 0, c->block / 2 * sizeof *imp);
                check_block(c, w, imp, &seed);
            }
    }
}

/* A scale of 0, and codes that no fit would choose. */
static void any_parameters_and_codes_survive_packing(void **state)
{
    (void)state;
    uint32_t s = 99;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->quantized) continue;
        for (int repeat = 0; repeat < 50; repeat++) {
            nib_block_param p = {0};
            uint8_t code[NIB_BLOCK_MAX];
            float value[NIB_BLOCK_MAX], w[NIB_BLOCK_MAX];
            p.d = c->fixed_d ? 1 : nib_scale_stored(c->scale_type, repeat ? noise(&s) : 0);
            if (c->mn_max) p.dmin = nib_f16_to_f32(nib_f32_to_f16(noise(&s)));
            for (size_t j = 0; j < c->block / c->sub; j++) {
                noise(&s);
                p.sc[j] = (int16_t)(c->sc_min + (int)(s >> 9) % (c->sc_max - c->sc_min + 1));
                p.mn[j] = c->mn_max == 1 ? 1 : (int16_t)((int)(s >> 20) % (c->mn_max + 1));
            }
            for (size_t i = 0; i < c->block; i++) {
                noise(&s);
                code[i] = (uint8_t)((s >> 12) % c->n_codes);
                value[i] = value_of(c, &p, i / c->sub, code[i]);
            }
            if (c->vec)
                nib_codec_round(c, &p, 0, c->block, memcpy(w, value, sizeof w), code, value);
            check_bytes(c, &p, code, value);
        }
    }
}

/* ---- quality ---- */

/* Root of the mean squared error over root mean square, on normal weights. Looser than what the
 * formats reach by about a third. */
static void errors_stay_within_bounds(void **state)
{
    (void)state;
    static const struct {
        nib_type type;
        double bound;
    } want[] = {
        {NIB_Q8_0, 0.008},  {NIB_Q6_K, 0.025},   {NIB_Q5_K, 0.05},   {NIB_Q5_0, 0.06},
        {NIB_Q5_1, 0.06},   {NIB_Q4_K, 0.1},     {NIB_Q4_0, 0.12},   {NIB_Q4_1, 0.11},
        {NIB_Q3_K, 0.22},   {NIB_Q2_K, 0.42},    {NIB_IQ4_NL, 0.11}, {NIB_IQ4_XS, 0.11},
        {NIB_IQ3_S, 0.22},  {NIB_IQ3_XXS, 0.28}, {NIB_IQ2_S, 0.42},  {NIB_IQ2_XS, 0.46},
        {NIB_IQ2_XXS, 0.5}, {NIB_IQ1_M, 0.7},    {NIB_IQ1_S, 0.75},  {NIB_MXFP4, 0.17},
        {NIB_NVFP4, 0.14},
    };
    enum { COLS = 4096 };
    static float w[COLS], back[COLS], imp[COLS];
    static uint8_t packed[COLS * 2], scratch[COLS * 4];
    uint32_t seed = 3;
    fill_block(w, COLS, BLOCK_NORMAL, &seed);
    for (size_t i = 0; i < COLS; i++) imp[i] = 1;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int weighted = 0; weighted < 2; weighted++) {
            const nib_codec *c = nib_codec_get(want[i].type);
            double err = 0, all = 0;
            c->encode(packed, w, weighted ? imp : NULL, 1, COLS, 0, scratch);
            c->decode(back, packed, COLS / c->block, 0);
            for (size_t j = 0; j < COLS; j++) {
                err += pow((double)back[j] - w[j], 2);
                all += pow(w[j], 2);
            }
            if (!(sqrt(err / all) < want[i].bound))
                fail_msg("%s: error %.4f, bound %.4f", c->name, sqrt(err / all), want[i].bound);
        }
}

/* ---- importances that are all zero ---- */

enum { ZC = 1024, ZR = 3 };

static size_t encode_with(const nib_codec *c, uint8_t *out, const float *w, const float *imp)
{
    static uint8_t scratch[ZC * 4];
    return c->encode(out, w, imp, ZR, ZC, 0, scratch);
}

static void zero_importance_counts_as_equal(void **state)
{
    (void)state;
    static float w[ZR * ZC], imp[ZC], ones[ZC];
    static uint8_t got[ZR * ZC * 2], want[ZR * ZC * 2];
    uint32_t seed = 5;
    fill_block(w, ZR * ZC, BLOCK_NORMAL, &seed);
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->uses_importance) continue;
        fill_importance(imp, ZC, &seed);
        memcpy(ones, imp, sizeof imp);
        for (size_t i = c->block; i < 2 * c->block; i++) imp[i] = 0, ones[i] = 1;
        assert_int_equal(encode_with(c, got, w, imp), ZR);
        assert_int_equal(encode_with(c, want, w, ones), 0);
        assert_memory_equal(got, want, ZR * ZC / c->block * c->bytes);
        memset(imp, 0, sizeof imp);
        assert_int_equal(encode_with(c, got, w, imp), ZR * ZC / c->block);
    }
}

/* One sub-block without importance: formats with a minimum do as the reference, the others would
 * have lost the sub-block. */
static void zero_sub_blocks_are_kept(void **state)
{
    (void)state;
    static const nib_type types[] = {NIB_Q3_K, NIB_Q6_K, NIB_IQ4_XS, NIB_Q4_K, NIB_Q2_K};
    static float w[ZR * ZC], imp[ZC], back[ZR * ZC];
    static uint8_t packed[ZR * ZC * 2];
    uint32_t seed = 6;
    fill_block(w, ZR * ZC, BLOCK_NORMAL, &seed);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const nib_codec *c = nib_codec_get(types[t]);
        fill_importance(imp, ZC, &seed);
        memset(imp + 32, 0, 32 * sizeof *imp);
        assert_int_equal(encode_with(c, packed, w, imp), c->mn_max ? 0 : ZR);
        c->decode(back, packed, ZR * ZC / c->block, 0);
        double err = 0, all = 0;
        for (size_t i = 32; i < 64; i++) {
            err += pow((double)back[i] - w[i], 2);
            all += pow(w[i], 2);
        }
        assert_true(err < all * 0.25);
    }
}

/* ---- validity ---- */

static void scales_that_are_no_numbers_are_invalid(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0x7C00, 0xFC00, 0x7E01};
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->quantized || c->scale_type != NIB_F16 || c->fixed_d) continue;
        for (size_t i = 0; i < 3; i++)
            for (int field = 0; field < (c->mn_max ? 2 : 1); field++) {
                uint8_t bytes[2 * NIB_BLOCK_MAX * 2], code[NIB_BLOCK_MAX];
                float w[NIB_BLOCK_MAX] = {0}, value[NIB_BLOCK_MAX];
                nib_block_param p = {.d = 1, .dmin = c->mn_max ? 1 : 0};
                nib_codec_round(c, &p, 0, c->block, w, code, value);
                c->pack(bytes, &p, code);
                assert_true(c->valid(bytes, 1));
                if (field)
                    p.dmin = nib_f16_to_f32(bad[i]);
                else
                    p.d = nib_f16_to_f32(bad[i]);
                c->pack(bytes + c->bytes, &p, code);
                assert_false(c->valid(bytes, 2));
            }
    }
}

/* Largest magnitude of a block of bytes. */
static float largest_in(const nib_codec *c, const uint8_t *bytes)
{
    float value[NIB_BLOCK_MAX], most = 0;
    c->decode(value, bytes, 1, 0);
    for (size_t i = 0; i < c->block; i++) most = fmaxf(most, fabsf(value[i]));
    return most;
}

/* Weights beyond what scales can hold are told by the bytes, whoever chose the parameters, or were
 * refused before: none of them become other values, or zeros, that look fine. */
static void what_is_too_large_is_not_valid(void **state)
{
    (void)state;
    static const float sizes[] = {100, 1e5f, 1e8f, 1e20f, 3e38f};
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        for (size_t e = 0; e < 5 * 4; e++) {
            const nib_codec *c = nib_codec_get((nib_type)t);
            const float size = sizes[e / 4];
            const bool weighted = e % 2, signs = e % 4 > 1;
            float w[NIB_BLOCK_MAX], imp[NIB_BLOCK_MAX], value[NIB_BLOCK_MAX];
            uint8_t code[NIB_BLOCK_MAX], bytes[512], work[1 << 16];
            nib_block_param p;
            nib_err err;
            if (!c->quantized) continue;
            assert_true(nib_encode_scratch(c->block) <= sizeof work && c->bytes <= sizeof bytes);
            for (size_t i = 0; i < c->block; i++) imp[i] = 1, w[i] = signs && i % 3 ? -size : size;
            const bool fine = !nib_codec_check(c, w, c->block, &err);
            assert_int_equal(fine, size <= nib_codec_most(c));
            if (!fine) assert_non_null(strstr(err.msg, c->name));
            if (!fine) continue;
            c->encode(bytes, w, weighted ? imp : NULL, 1, c->block, 0, work);
            if (c->valid(bytes, 1) && !(largest_in(c, bytes) > size / 4))
                fail_msg("%s: %g encoded as %g", c->name, (double)size,
                         (double)largest_in(c, bytes));
            c->fit(c, &p, &(nib_fit_in){w, weighted ? imp : NULL, size * size}, 1, 0);
            nib_codec_round(c, &p, 0, c->block, w, code, value);
            c->pack(bytes, &p, code);
            if (c->valid(bytes, 1) && !(largest_in(c, bytes) > size / 4))
                fail_msg("%s: %g becomes %g", c->name, (double)size, (double)largest_in(c, bytes));
        }
}

/* By hand: the largest scale, sub-scale and level of each. */
static void largest_magnitudes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double most;
    } want[] = {{"q4_0", 65504 * 8.0},
                {"q8_0", 65504 * 128.0},
                {"q4_1", 65504 * 16.0},
                {"q4_k", 65504 * 63 * 16.0},
                {"q3_k", 65504 * 32 * 4.0},
                {"q6_k", 65504 * 128 * 32.0},
                {"iq4_nl", 65504 * 127.0},
                {"nvfp4", 448 * 6},
                {"tq2_0", 65504},
                {"q1_0", 65504},
                {"iq1_s", 65504 * 15 * 1.125},
                {"mxfp4", (double)INFINITY},
                {"f16", (double)INFINITY}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const float most = nib_codec_most(nib_codec_find(want[i].name));
        if (most != (float)want[i].most) fail_msg("%s: %g", want[i].name, (double)most);
    }
}

static void plain_values_that_are_no_numbers_are_invalid(void **state)
{
    (void)state;
    float f[3] = {1, -3e38f, 0};
    double d[2] = {1, -1e300};
    uint16_t h[2] = {0x3C00, 0x7BFF}, b[2] = {0x3F80, 0x7F7F};
    uint8_t e4[2] = {0x7E, 0xFE}, e5[2] = {0x7B, 0xFB};
#define CHECK(type, array, bad)                                                                    \
    do {                                                                                           \
        const nib_codec *c = nib_codec_get(type);                                                  \
        assert_true(c->valid((uint8_t *)array, sizeof array / sizeof *array));                     \
        array[1] = bad;                                                                            \
        assert_false(c->valid((uint8_t *)array, sizeof array / sizeof *array));                    \
    } while (0)
    CHECK(NIB_F32, f, -INFINITY);
    f[1] = 0;
    CHECK(NIB_F32, f, NAN);
    CHECK(NIB_F64, d, (double)INFINITY);
    CHECK(NIB_F16, h, 0xFC00);
    CHECK(NIB_BF16, b, 0x7F80);
    CHECK(NIB_F8_E4M3, e4, 0xFF);
    CHECK(NIB_F8_E5M2, e5, 0x7C);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_those_of_the_formats),
        cmocka_unit_test(row_bytes_refuse_what_does_not_divide),
        cmocka_unit_test(vectors_and_signs_have_no_zero),
        cmocka_unit_test(importances_move_the_scale),
        cmocka_unit_test(fit_round_pack_agree),
        cmocka_unit_test(fit_of_many_agrees),
        cmocka_unit_test(any_parameters_and_codes_survive_packing),
        cmocka_unit_test(errors_stay_within_bounds),
        cmocka_unit_test(zero_importance_counts_as_equal),
        cmocka_unit_test(zero_sub_blocks_are_kept),
        cmocka_unit_test(scales_that_are_no_numbers_are_invalid),
        cmocka_unit_test(largest_magnitudes),
        cmocka_unit_test(what_is_too_large_is_not_valid),
        cmocka_unit_test(plain_values_that_are_no_numbers_are_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
