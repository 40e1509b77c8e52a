/* SPDX-License-Identifier: MIT */
/* quant/codec.c - the table of number formats, and what serves them all. */
#include "quant/codec.h"

#include "base/cpu.h"
#include "base/half.h"
#include "base/mem.h"
#include "base/name.h"
#include "quant/ggml_block.h"
#include "quant/lanes.h"

#include <math.h>

/* ---- plain floats ---- */

static size_t encode_f32(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                         unsigned cpu, void *scratch)
{
    (void)imp, (void)cpu, (void)scratch;
    memcpy(dst, w, rows * cols * 4);
    return 0;
}

static size_t encode_f16(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                         unsigned cpu, void *scratch)
{
    (void)imp, (void)scratch;
    nib_encode_for(cpu)->to_f16(dst, w, rows * cols);
    return 0;
}

static size_t encode_bf16(uint8_t *dst, const float *w, const float *imp, size_t rows, size_t cols,
                          unsigned cpu, void *scratch)
{
    (void)imp, (void)scratch;
    nib_encode_for(cpu)->to_bf16(dst, w, rows * cols);
    return 0;
}

static bool valid_f32(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((src[4 * i + 3] & 0x7F) == 0x7F && src[4 * i + 2] & 0x80) return false;
    return true;
}

static bool valid_f64(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((nib_get16(src + 8 * i + 6) & 0x7FF0) == 0x7FF0) return false;
    return true;
}

static bool finite_f16(const uint8_t *p)
{
    return (p[1] & 0x7C) != 0x7C;
}

static bool valid_f16(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!finite_f16(src + 2 * i)) return false;
    return true;
}

static bool valid_bf16(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((nib_get16(src + 2 * i) & 0x7F80) == 0x7F80) return false;
    return true;
}

static bool valid_e4m3(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((src[i] & 0x7F) == 0x7F) return false;
    return true;
}

static bool valid_e5m2(const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((src[i] & 0x7C) == 0x7C) return false;
    return true;
}

/* ---- functions of one type, which is all that the table's pointers are told ---- */

#define DECODE(name, t)                                                                            \
    static void decode_##name(float *dst, const uint8_t *src, size_t n, unsigned cpu)              \
    {                                                                                              \
        nib_decode_for(cpu)->decode[t](dst, src, n);                                               \
    }

DECODE(f32, NIB_F32)
DECODE(f16, NIB_F16)
DECODE(bf16, NIB_BF16)
DECODE(f64, NIB_F64)
DECODE(e4m3, NIB_F8_E4M3)
DECODE(e5m2, NIB_F8_E5M2)

#define CODED(name, t)                                                                             \
    DECODE(name, t)                                                                                \
    static size_t encode_##name(uint8_t *dst, const float *w, const float *imp, size_t rows,       \
                                size_t cols, unsigned cpu, void *scratch)                          \
    {                                                                                              \
        return nib_block_encode(nib_codec_get(t), dst, w, imp, rows, cols, cpu, scratch);          \
    }

/* Scales to check: the first and the last of these fields, which may be the same. */
#define BLOCK(name, t, layout, first, last)                                                        \
    CODED(name, t)                                                                                 \
    static bool valid_##name(const uint8_t *src, size_t n)                                         \
    {                                                                                              \
        const layout *b = (const layout *)src;                                                     \
        for (; n; n--, b++)                                                                        \
            if (!finite_f16(b->first) || !finite_f16(b->last)) return false;                       \
        return true;                                                                               \
    }

BLOCK(q8_0, NIB_Q8_0, nib_q8_0, d, d)
BLOCK(q4_0, NIB_Q4_0, nib_q4_0, d, d)
BLOCK(q4_1, NIB_Q4_1, nib_q4_1, d, m)
BLOCK(q5_0, NIB_Q5_0, nib_q5_0, d, d)
BLOCK(q5_1, NIB_Q5_1, nib_q5_1, d, m)
BLOCK(q2_k, NIB_Q2_K, nib_q2_k, d, dmin)
BLOCK(q3_k, NIB_Q3_K, nib_q3_k, d, d)
BLOCK(q4_k, NIB_Q4_K, nib_q4_k, d, dmin)
BLOCK(q5_k, NIB_Q5_K, nib_q5_k, d, dmin)
BLOCK(q6_k, NIB_Q6_K, nib_q6_k, d, d)
BLOCK(iq4_nl, NIB_IQ4_NL, nib_q4_0, d, d)
BLOCK(iq4_xs, NIB_IQ4_XS, nib_iq4_xs, d, d)
BLOCK(iq3_s, NIB_IQ3_S, nib_iq3_s, d, d)
BLOCK(iq3_xxs, NIB_IQ3_XXS, nib_iq3_xxs, d, d)
BLOCK(iq2_s, NIB_IQ2_S, nib_iq2_s, d, d)
BLOCK(iq2_xs, NIB_IQ2_XS, nib_iq2_xs, d, d)
BLOCK(iq2_xxs, NIB_IQ2_XXS, nib_iq2_xxs, d, d)
BLOCK(iq1_s, NIB_IQ1_S, nib_iq1_s, d, d)
BLOCK(tq2_0, NIB_TQ2_0, nib_tq2_0, d, d)
BLOCK(tq1_0, NIB_TQ1_0, nib_tq1_0, d, d)
BLOCK(q2_0, NIB_Q2_0, nib_q2_0, d, d)
BLOCK(q1_0, NIB_Q1_0, nib_q1_0, d, d)
CODED(iq1_m, NIB_IQ1_M)
CODED(mxfp4, NIB_MXFP4)
CODED(nvfp4, NIB_NVFP4)

static bool valid_iq1_m(const uint8_t *src, size_t n)
{
    const nib_iq1_m *b = (const nib_iq1_m *)src;
    for (; n; n--, b++)
        if ((nib_get_iq1_m(b) & 0x7C00) == 0x7C00) return false;
    return true;
}

static bool valid_mxfp4(const uint8_t *src, size_t n)
{
    const nib_mxfp4 *b = (const nib_mxfp4 *)src;
    for (; n; n--, b++)
        if (b->e == 255) return false;
    return true;
}

/* Every byte is a scale: the format has no sign, and reads 127 as 0. */
static bool valid_nvfp4(const uint8_t *src, size_t n)
{
    (void)src, (void)n;
    return true;
}

/* ---- the table ---- */

#define PLAIN(t, label, n, size) [t] = {.type = t, .name = label, .block = n, .bytes = size}
#define FLOAT(t, label, size, enc, fn)                                                             \
    [t] = {.type = t,                                                                              \
           .name = label,                                                                          \
           .block = 1,                                                                             \
           .bytes = size,                                                                          \
           .encode = enc,                                                                          \
           .decode = decode_##fn,                                                                  \
           .valid = valid_##fn}
#define QUANT(t, fn, n, layout, ...)                                                               \
    [t] = {.type = t,                                                                              \
           .name = #fn,                                                                            \
           .block = n,                                                                             \
           .bytes = sizeof(layout),                                                                \
           .quantized = true,                                                                      \
           .pack = nib_pack_##fn,                                                                  \
           .encode = encode_##fn,                                                                  \
           .decode = decode_##fn,                                                                  \
           .valid = valid_##fn,                                                                    \
           __VA_ARGS__}
#define GRID(s, codes, low) .sub = s, .n_codes = codes, .level0 = low
#define SCALES(low, high) .sc_min = low, .sc_max = high, .scale_type = NIB_F16
#define POWER_SCALE .sc_min = 1, .sc_max = 1, .scale_type = NIB_F8_E8M0
#define UNPACK(fn) .unpack = nib_unpack_##fn
#define REFERENCE .fit = nib_block_fit
#define WEIGHTED REFERENCE, .uses_importance = true
#define SEARCHED .fit = nib_scale_fit
#define POINTS(n, name, sign, s, top, scales, levels)                                              \
    .sub = s, .n_codes = sizeof levels / sizeof *levels, .codebook = levels, .sc_max = top,        \
    .sc_level = scales, .scale_type = NIB_F16, .vec = n, .points = &nib_points_##name,             \
    .points_sign = sign, WEIGHTED

static const nib_codec codecs[NIB_TYPE_COUNT] = {
    FLOAT(NIB_F32, "f32", 4, encode_f32, f32),
    FLOAT(NIB_F16, "f16", 2, encode_f16, f16),
    FLOAT(NIB_BF16, "bf16", 2, encode_bf16, bf16),
    FLOAT(NIB_F64, "f64", 8, NULL, f64),
    FLOAT(NIB_F8_E4M3, "f8_e4m3", 1, NULL, e4m3),
    FLOAT(NIB_F8_E5M2, "f8_e5m2", 1, NULL, e5m2),
    PLAIN(NIB_BOOL, "bool", 1, 1),
    PLAIN(NIB_U8, "u8", 1, 1),
    PLAIN(NIB_I8, "i8", 1, 1),
    PLAIN(NIB_U16, "u16", 1, 2),
    PLAIN(NIB_I16, "i16", 1, 2),
    PLAIN(NIB_U32, "u32", 1, 4),
    PLAIN(NIB_I32, "i32", 1, 4),
    PLAIN(NIB_U64, "u64", 1, 8),
    PLAIN(NIB_I64, "i64", 1, 8),
    PLAIN(NIB_C64, "c64", 1, 8),
    PLAIN(NIB_F4, "f4", 2, 1),
    PLAIN(NIB_F6_E2M3, "f6_e2m3", 4, 3),
    PLAIN(NIB_F6_E3M2, "f6_e3m2", 4, 3),
    PLAIN(NIB_F8_E8M0, "f8_e8m0", 1, 1),
    PLAIN(NIB_F8_E4M3FNUZ, "f8_e4m3fnuz", 1, 1),
    PLAIN(NIB_F8_E5M2FNUZ, "f8_e5m2fnuz", 1, 1),
    QUANT(NIB_Q8_0, q8_0, 32, nib_q8_0, UNPACK(q8_0), GRID(32, 256, -128), SCALES(1, 1), REFERENCE),
    QUANT(NIB_Q4_0, q4_0, 32, nib_q4_0, UNPACK(q4_0), GRID(32, 16, -8), SCALES(1, 1), WEIGHTED),
    QUANT(NIB_Q4_1, q4_1, 32, nib_q4_1, UNPACK(q4_1), GRID(32, 16, 0), SCALES(1, 1), .mn_max = 1,
          WEIGHTED),
    QUANT(NIB_Q5_0, q5_0, 32, nib_q5_0, UNPACK(q5_0), GRID(32, 32, -16), SCALES(1, 1), WEIGHTED),
    QUANT(NIB_Q5_1, q5_1, 32, nib_q5_1, UNPACK(q5_1), GRID(32, 32, 0), SCALES(1, 1), .mn_max = 1,
          WEIGHTED),
    QUANT(NIB_Q2_K, q2_k, 256, nib_q2_k, UNPACK(q2_k), GRID(16, 4, 0), SCALES(0, 15), .mn_max = 15,
          WEIGHTED),
    QUANT(NIB_Q3_K, q3_k, 256, nib_q3_k, UNPACK(q3_k), GRID(16, 8, -4), SCALES(-32, 31), WEIGHTED),
    QUANT(NIB_Q4_K, q4_k, 256, nib_q4_k, UNPACK(q4_k), GRID(32, 16, 0), SCALES(0, 63), .mn_max = 63,
          WEIGHTED),
    QUANT(NIB_Q5_K, q5_k, 256, nib_q5_k, UNPACK(q5_k), GRID(32, 32, 0), SCALES(0, 63), .mn_max = 63,
          WEIGHTED),
    QUANT(NIB_Q6_K, q6_k, 256, nib_q6_k, UNPACK(q6_k), GRID(16, 64, -32), SCALES(-128, 127),
          WEIGHTED),
    QUANT(NIB_IQ4_NL, iq4_nl, 32, nib_q4_0, UNPACK(iq4_nl), GRID(32, 16, 0), SCALES(1, 1),
          .codebook = nib_iq4_values, WEIGHTED),
    QUANT(NIB_IQ4_XS, iq4_xs, 256, nib_iq4_xs, UNPACK(iq4_xs), GRID(32, 16, 0), SCALES(-32, 31),
          .codebook = nib_iq4_values, WEIGHTED),
    QUANT(NIB_IQ3_S, iq3_s, 256, nib_iq3_s,
          POINTS(4, iq3_s, NIB_SIGNS_FREE, 32, 15, nib_iq3_s_scales, nib_iq3_s_levels)),
    QUANT(NIB_IQ3_XXS, iq3_xxs, 256, nib_iq3_xxs,
          POINTS(8, iq3_xxs, NIB_SIGNS_EVEN, 32, 15, nib_iq3_xxs_scales, nib_iq3_xxs_levels)),
    QUANT(NIB_IQ2_S, iq2_s, 256, nib_iq2_s,
          POINTS(8, iq2_s, NIB_SIGNS_FREE, 16, 15, nib_iq2_scales, nib_iq2_levels)),
    QUANT(NIB_IQ2_XS, iq2_xs, 256, nib_iq2_xs,
          POINTS(8, iq2_xs, NIB_SIGNS_EVEN, 16, 15, nib_iq2_scales, nib_iq2_levels)),
    QUANT(NIB_IQ2_XXS, iq2_xxs, 256, nib_iq2_xxs,
          POINTS(8, iq2_xxs, NIB_SIGNS_EVEN, 32, 15, nib_iq2_scales, nib_iq2_levels)),
    QUANT(NIB_IQ1_M, iq1_m, 256, nib_iq1_m,
          POINTS(8, iq1, NIB_SHIFT_OWN, 16, 7, nib_iq1_scales, nib_iq1_levels)),
    QUANT(NIB_IQ1_S, iq1_s, 256, nib_iq1_s,
          POINTS(8, iq1, NIB_SHIFT_SUB, 32, 15, nib_iq1_scales, nib_iq1_levels)),
    QUANT(NIB_TQ2_0, tq2_0, 256, nib_tq2_0, GRID(256, 3, -1), SCALES(1, 1), SEARCHED),
    QUANT(NIB_TQ1_0, tq1_0, 256, nib_tq1_0, GRID(256, 3, -1), SCALES(1, 1), SEARCHED),
    QUANT(NIB_MXFP4, mxfp4, 32, nib_mxfp4, GRID(32, 15, 0), POWER_SCALE,
          .codebook = nib_e2m1_levels, SEARCHED),
    QUANT(NIB_NVFP4, nvfp4, 64, nib_nvfp4, GRID(16, 15, 0), SCALES(0, 126),
          .codebook = nib_e2m1_levels, .sc_level = nib_ue4m3_half, .fixed_d = true, SEARCHED),
    QUANT(NIB_Q2_0, q2_0, 64, nib_q2_0, GRID(64, 4, -1), SCALES(1, 1), SEARCHED),
    QUANT(NIB_Q1_0, q1_0, 128, nib_q1_0, GRID(128, 2, 0), SCALES(1, 1), .codebook = nib_sign_levels,
          SEARCHED),
    PLAIN(NIB_INT2, "int2", 4, 1),
    PLAIN(NIB_INT3, "int3", 8, 3),
    PLAIN(NIB_INT4, "int4", 2, 1),
    PLAIN(NIB_INT8, "int8", 1, 1),
    PLAIN(NIB_NF4, "nf4", 2, 1),
    PLAIN(NIB_FP4, "fp4", 2, 1),
};

const float nib_e2m1_values[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                   -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

const nib_codec *nib_codec_get(nib_type type)
{
    return &codecs[type];
}

const nib_codec *nib_codec_find(const char *name)
{
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (nib_name_same(name, codecs[t].name)) return &codecs[t];
    return NULL;
}

/* The nearest by ratio of those that MXFP4 has. */
static float power_of_two(float x)
{
    int e;
    if (!(x > 0)) return 0x1p-128f;
    const float part = frexpf(x, &e);
    if (!isfinite(part)) return x;
    e -= part < 0.70710678f;
    return ldexpf(1, e < -128 ? -128 : e > 126 ? 126 : e);
}

float nib_scale_stored(nib_type type, float scale)
{
    switch (type) {
    case NIB_F16: return nib_f16_to_f32(nib_f32_to_f16(scale));
    case NIB_BF16: return nib_bf16_to_f32(nib_f32_to_bf16(scale));
    case NIB_F8_E8M0: return power_of_two(scale);
    default: return scale;
    }
}

static float largest_of(const float *x, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

float nib_codec_most(const nib_codec *c)
{
    enum { HALF_MOST = 65504 };
    const int last = c->level0 + c->n_codes - 1, low = -c->level0;
    if (!c->pack || c->scale_type == NIB_F8_E8M0) return INFINITY;
    const float level =
        c->codebook ? largest_of(c->codebook, c->n_codes) : (float)(last > low ? last : low);
    const float sub = c->sc_level              ? largest_of(c->sc_level, c->sc_max + 1)
                      : c->sc_max > -c->sc_min ? (float)c->sc_max
                                               : (float)-c->sc_min;
    return (c->fixed_d ? 1 : HALF_MOST) * (sub * level + (float)c->mn_max);
}

nib_code nib_codec_check(const nib_codec *c, const float *w, size_t n, nib_err *err)
{
    const float most = nib_codec_most(c);
    float top = 0;
    if (most == INFINITY) return NIB_OK;
    for (size_t i = 0; i < n; i++) top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
    if (top <= most) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "values too large for %s, up to %g", c->name, (double)top);
}

float nib_scale_epsilon(nib_type type)
{
    return type == NIB_F16 ? 0x1p-10f : type == NIB_BF16 ? 0x1p-7f : 0x1p-23f;
}

bool nib_codec_row_bytes(const nib_codec *c, size_t cols, size_t *bytes)
{
    return cols % c->block == 0 && nib_mul(cols / c->block, c->bytes, bytes);
}

bool nib_codec_has_zero(const nib_codec *c)
{
    for (int k = 0; c->codebook && k < c->n_codes; k++)
        if (c->codebook[k] == 0) return true;
    return !c->codebook;
}

size_t nib_find_nonfinite(const float *x, size_t n, unsigned cpu)
{
    return nib_encode_for(cpu)->find_nonfinite(x, n);
}

/* ---- rounding under fitted parameters ---- */

typedef struct {
    const nib_codec *c;
    float D, B, zero;
} grid;

static grid grid_of(const nib_codec *c, const nib_block_param *p, size_t sub)
{
    return (grid){c, nib_codec_step(c, p->d, p->sc[sub]), p->dmin * (float)p->mn[sub], p->zero};
}

static float grid_value(const grid *g, int code)
{
    if (g->c->codebook) return g->D * g->c->codebook[code] - g->B;
    return g->D * ((float)(g->c->level0 + code) - g->zero) - g->B;
}

/* The code near w by division; off by one at most where that rounds badly. */
static int guess_code(const grid *g, float w)
{
    int last = g->c->n_codes - 1, code = 0;
    float v = g->D != 0 ? (w + g->B) / g->D + g->zero : g->zero;
    if (g->c->codebook) {
        while (code < last && v > g->c->codebook[code]) code++;
        return code;
    }
    v -= (float)g->c->level0;
    if (!(v > 0)) return 0;
    return v < (float)last ? nib_round_even(v) : last;
}

static void round_small(const nib_codec *c, const nib_block_param *p, size_t i, size_t n,
                        const float *w, uint8_t *code, float *value)
{
    for (size_t k = 0; k < n; k++) {
        const grid g = grid_of(c, p, (i + k) / c->sub);
        const float x = nib_small_round(c->small, (w[k] + g.B) / (g.D == 0 ? 1 : g.D));
        code[k] = (uint8_t)nib_small_place(c->small, x);
        value[k] = g.D * x - g.B;
    }
}

/* Vectors of a block side by side, every column as important. */
static void round_points(const nib_codec *c, const nib_block_param *p, size_t i, size_t n,
                         const float *w, uint8_t *code, float *value)
{
    enum { V = NIB_VEC_MAX, L = NIB_BLOCK_MAX / 4 }; /* vectors are of 4 at least */
    static const float even[V] = {1, 1, 1, 1, 1, 1, 1, 1};
    const nib_lanes *k = nib_lanes_get(nib_cpu_detect());
    const size_t vec = c->vec, here = n / vec, lanes = (here + 15) / 16 * 16;
    float x[V * L], y[V * L], scale[L];
    uint8_t out[V * L], minus[L];
    for (size_t l = 0; l < lanes; l++) {
        const size_t at = l < here ? l * vec : 0;
        const int16_t sc = p->sc[(i + at) / c->sub];
        scale[l] = nib_codec_step(c, p->d, sc);
        minus[l] = c->points_sign == NIB_SHIFT_SUB && sc >= NIB_SHIFT_BIT;
        for (size_t j = 0; j < vec; j++) x[j * lanes + l] = w[at + j];
    }
    k->round_points(c, lanes, even, scale, minus, x, y, out);
    for (size_t l = 0; l < here; l++)
        for (size_t j = 0; j < vec; j++) {
            value[l * vec + j] = y[j * lanes + l];
            code[l * vec + j] = out[j * lanes + l];
        }
}

void nib_codec_round(const nib_codec *c, const nib_block_param *p, size_t i, size_t n,
                     const float *w, uint8_t *code, float *value)
{
    if (c->vec) {
        round_points(c, p, i, n, w, code, value);
        return;
    }
    if (c->small) {
        round_small(c, p, i, n, w, code, value);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        grid g = grid_of(c, p, (i + k) / c->sub);
        int best = guess_code(&g, w[k]);
        float v = grid_value(&g, best);
        for (int step = -1; step <= 1; step += 2)
            for (int next = best + step; next >= 0 && next < c->n_codes; next += step) {
                float u = grid_value(&g, next);
                if (!(fabs((double)u - w[k]) < fabs((double)v - w[k]))) break;
                best = next;
                v = u;
            }
        code[k] = (uint8_t)best;
        value[k] = v;
    }
}
