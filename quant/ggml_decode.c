/* SPDX-License-Identifier: MIT */
/* quant/ggml_decode.c - packed blocks to f32.
 *
 * Compiled once per instruction set (NIB_ISA); compilers turn loops into vector code. Values are
 * bit for bit those of ggml's decoder: D = d*sc, B = dmin*mn, y = D*q - B in this order, each
 * rounded. Tests: tests/quant/test_golden.c, tests/quant/test_kernels.c. */
#include "quant/ggml_block.h"

#include "base/half.h"

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define PASTE(a, b) a##b
#define NAME(prefix, isa) PASTE(prefix, isa)

static float half_at(const uint8_t *p)
{
    return nib_f16_to_f32(nib_get16(p));
}

/* ---- plain floats ---- */

static void decode_f32(float *dst, const uint8_t *src, size_t n)
{
    memcpy(dst, src, n * 4);
}

static void decode_f64(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, src + i * 8, 8);
        dst[i] = (float)x;
    }
}

/* A signalling NaN comes out quiet, as the processor's own conversion has it. */
static float quiet_half(const uint8_t *p)
{
    uint32_t u = nib_f32_bits(half_at(p));
    return nib_f32_from_bits((u & 0x7FFFFFFFu) > 0x7F800000u ? u | 0x00400000u : u);
}

static void decode_f16(float *dst, const uint8_t *src, size_t n)
{
    size_t i = 0;
#if defined(__AVX2__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + 2 * i))));
#endif
    for (; i < n; i++) dst[i] = quiet_half(src + 2 * i);
}

static void decode_bf16(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        dst[i] = nib_bf16_to_f32(h);
    }
}

static void decode_e4m3(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = nib_f8_e4m3_to_f32(src[i]);
}

static void decode_e5m2(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = nib_f8_e5m2_to_f32(src[i]);
}

/* ---- blocks of 32 ---- */

static void decode_q8_0(float *y, const uint8_t *src, size_t n)
{
    const nib_q8_0 *b = (const nib_q8_0 *)src;
    for (; n--; b++, y += 32) {
        float d = half_at(b->d);
        for (int j = 0; j < 32; j++) y[j] = (float)(int8_t)b->qs[j] * d;
    }
}

static void decode_q4_0(float *y, const uint8_t *src, size_t n)
{
    const nib_q4_0 *b = (const nib_q4_0 *)src;
    for (; n--; b++, y += 32) {
        float d = half_at(b->d);
        for (int j = 0; j < 16; j++) y[j] = (float)((b->qs[j] & 15) - 8) * d;
        for (int j = 0; j < 16; j++) y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
    }
}

static void decode_q4_1(float *y, const uint8_t *src, size_t n)
{
    const nib_q4_1 *b = (const nib_q4_1 *)src;
    for (; n--; b++, y += 32) {
        float d = half_at(b->d), m = half_at(b->m);
        for (int j = 0; j < 16; j++) y[j] = (float)(b->qs[j] & 15) * d + m;
        for (int j = 0; j < 16; j++) y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
    }
}

/* Codes of q5_0 and q5_1. */
static inline void codes_5(int32_t *q, const uint8_t *qs, const uint8_t *qh)
{
    uint32_t h = (uint32_t)nib_get16(qh) | (uint32_t)nib_get16(qh + 2) << 16;
    for (int j = 0; j < 16; j++) q[j] = (qs[j] & 15) | (int32_t)(h >> j & 1) << 4;
    for (int j = 0; j < 16; j++) q[j + 16] = qs[j] >> 4 | (int32_t)(h >> (j + 16) & 1) << 4;
}

static void decode_q5_0(float *y, const uint8_t *src, size_t n)
{
    const nib_q5_0 *b = (const nib_q5_0 *)src;
    for (; n--; b++, y += 32) {
        int32_t q[32];
        float d = half_at(b->d);
        codes_5(q, b->qs, b->qh);
        for (int j = 0; j < 32; j++) y[j] = (float)(q[j] - 16) * d;
    }
}

static void decode_q5_1(float *y, const uint8_t *src, size_t n)
{
    const nib_q5_1 *b = (const nib_q5_1 *)src;
    for (; n--; b++, y += 32) {
        int32_t q[32];
        float d = half_at(b->d), m = half_at(b->m);
        codes_5(q, b->qs, b->qh);
        for (int j = 0; j < 32; j++) y[j] = (float)q[j] * d + m;
    }
}

/* ---- the levels of iq4: 16 codes' bytes to 16 levels ---- */

static inline void iq4_levels(int8_t *out, const uint8_t *code)
{
#if defined(__AVX2__)
    __m128i table = _mm_loadu_si128((const __m128i *)nib_iq4_levels);
    __m128i c = _mm_loadu_si128((const __m128i *)code);
    _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(table, c));
#else
    for (int j = 0; j < 16; j++) out[j] = nib_iq4_levels[code[j]];
#endif
}

static inline void iq4_sub(float *y, const uint8_t *qs, float D)
{
    uint8_t code[32];
    int8_t level[32];
    for (int j = 0; j < 16; j++) code[j] = qs[j] & 15;
    for (int j = 0; j < 16; j++) code[j + 16] = qs[j] >> 4;
    iq4_levels(level, code);
    iq4_levels(level + 16, code + 16);
    for (int j = 0; j < 32; j++) y[j] = D * (float)level[j];
}

static void decode_iq4_nl(float *y, const uint8_t *src, size_t n)
{
    const nib_q4_0 *b = (const nib_q4_0 *)src;
    for (; n--; b++, y += 32) iq4_sub(y, b->qs, half_at(b->d));
}

static void decode_iq4_xs(float *y, const uint8_t *src, size_t n)
{
    const nib_iq4_xs *b = (const nib_iq4_xs *)src;
    for (; n--; b++, y += 256) {
        float d = half_at(b->d);
        for (int j = 0; j < 8; j++)
            iq4_sub(y + 32 * j, b->qs + 16 * j, d * (float)(nib_get_iq4(b, j) - 32));
    }
}

/* ---- blocks of 256 ---- */

static void decode_q2_k(float *y, const uint8_t *src, size_t n)
{
    const nib_q2_k *b = (const nib_q2_k *)src;
    for (; n--; b++)
        for (int h = 0; h < 2; h++)
            for (int k = 0; k < 4; k++)
                for (int s = 0; s < 2; s++, y += 16) {
                    uint8_t scale = b->scales[8 * h + 2 * k + s];
                    float D = half_at(b->d) * (float)(scale & 15);
                    float B = half_at(b->dmin) * (float)(scale >> 4);
                    const uint8_t *q = b->qs + 32 * h + 16 * s;
                    for (int l = 0; l < 16; l++) y[l] = D * (float)(q[l] >> 2 * k & 3) - B;
                }
}

static void decode_q3_k(float *y, const uint8_t *src, size_t n)
{
    const nib_q3_k *b = (const nib_q3_k *)src;
    for (; n--; b++) {
        float d = half_at(b->d);
        for (int j = 0; j < 16; j++, y += 16) { /* sub-block */
            int h = j >> 3, k = j >> 1 & 3, at = 16 * (j & 1);
            float D = d * (float)(nib_get_k3(b->scales, j) - 32);
            const uint8_t *q = b->qs + 32 * h + at, *mask = b->hmask + at;
            for (int l = 0; l < 16; l++)
                y[l] = D * (float)((q[l] >> 2 * k & 3) - 4 + ((mask[l] >> (4 * h + k) & 1) << 2));
        }
    }
}

static void decode_q4_k(float *y, const uint8_t *src, size_t n)
{
    const nib_q4_k *b = (const nib_q4_k *)src;
    for (; n--; b++) {
        float d = half_at(b->d), dmin = half_at(b->dmin);
        for (int g = 0; g < 4; g++, y += 64) {
            uint8_t sc[2], mn[2];
            nib_get_k4(b->scales, 2 * g, &sc[0], &mn[0]);
            nib_get_k4(b->scales, 2 * g + 1, &sc[1], &mn[1]);
            const uint8_t *q = b->qs + 32 * g;
            float D = d * (float)sc[0], B = dmin * (float)mn[0];
            for (int l = 0; l < 32; l++) y[l] = D * (float)(q[l] & 15) - B;
            D = d * (float)sc[1], B = dmin * (float)mn[1];
            for (int l = 0; l < 32; l++) y[l + 32] = D * (float)(q[l] >> 4) - B;
        }
    }
}

static void decode_q5_k(float *y, const uint8_t *src, size_t n)
{
    const nib_q5_k *b = (const nib_q5_k *)src;
    for (; n--; b++) {
        float d = half_at(b->d), dmin = half_at(b->dmin);
        for (int j = 0; j < 8; j++, y += 32) {
            uint8_t sc, mn;
            nib_get_k4(b->scales, j, &sc, &mn);
            const uint8_t *q = b->qs + 32 * (j >> 1);
            float D = d * (float)sc, B = dmin * (float)mn;
            int shift = 4 * (j & 1);
            for (int l = 0; l < 32; l++)
                y[l] = D * (float)((q[l] >> shift & 15) | (b->qh[l] >> j & 1) << 4) - B;
        }
    }
}

static void decode_q6_k(float *y, const uint8_t *src, size_t n)
{
    const nib_q6_k *b = (const nib_q6_k *)src;
    for (; n--; b++) {
        float d = half_at(b->d);
        for (int j = 0; j < 16; j++, y += 16) { /* sub-block */
            int h = j >> 3, k = j >> 1 & 3, at = 16 * (j & 1), shift = 4 * (k >> 1);
            float D = d * (float)(int8_t)b->scales[j];
            const uint8_t *low = b->ql + 64 * h + 32 * (k & 1) + at, *high = b->qh + 32 * h + at;
            for (int l = 0; l < 16; l++)
                y[l] = D * (float)(((low[l] >> shift & 15) | (high[l] >> 2 * k & 3) << 4) - 32);
        }
    }
}

/* ---- one bit, two bits, three levels ---- */

static void decode_q1_0(float *y, const uint8_t *src, size_t n)
{
    const nib_q1_0 *b = (const nib_q1_0 *)src;
    for (; n--; b++, y += 128) {
        const float d = half_at(b->d);
        for (int j = 0; j < 128; j++) y[j] = b->qs[j / 8] >> j % 8 & 1 ? d : -d;
    }
}

static void decode_q2_0(float *y, const uint8_t *src, size_t n)
{
    const nib_q2_0 *b = (const nib_q2_0 *)src;
    for (; n--; b++, y += 64) {
        const float d = half_at(b->d);
        for (int j = 0; j < 64; j++) y[j] = (float)((b->qs[j / 4] >> j % 4 * 2 & 3) - 1) * d;
    }
}

static void decode_tq2_0(float *y, const uint8_t *src, size_t n)
{
    const nib_tq2_0 *b = (const nib_tq2_0 *)src;
    for (; n--; b++) {
        const float d = half_at(b->d);
        for (int h = 0; h < 2; h++)
            for (int k = 0; k < 4; k++, y += 32)
                for (int l = 0; l < 32; l++)
                    y[l] = (float)((b->qs[32 * h + l] >> 2 * k & 3) - 1) * d;
    }
}

/* Trit k of n bytes. */
static void trits(float *y, const uint8_t *q, int n, int k, float d)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int m = 0; m < n; m++) {
        const uint8_t u = (uint8_t)(q[m] * power[k]);
        y[m] = (float)((u * 3 >> 8) - 1) * d;
    }
}

static void decode_tq1_0(float *y, const uint8_t *src, size_t n)
{
    const nib_tq1_0 *b = (const nib_tq1_0 *)src;
    for (; n--; b++) {
        const float d = half_at(b->d);
        for (int k = 0; k < 5; k++, y += 32) trits(y, b->qs, 32, k, d);
        for (int k = 0; k < 5; k++, y += 16) trits(y, b->qs + 32, 16, k, d);
        for (int k = 0; k < 4; k++, y += 4) trits(y, b->qh, 4, k, d);
    }
}

/* ---- 4-bit floats ---- */

static const float e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void decode_mxfp4(float *y, const uint8_t *src, size_t n)
{
    const nib_mxfp4 *b = (const nib_mxfp4 *)src;
    for (; n--; b++, y += 32) {
        const float d = nib_e8m0_half(b->e);
        for (int j = 0; j < 16; j++) y[j] = e2m1[b->qs[j] & 15] * d;
        for (int j = 0; j < 16; j++) y[j + 16] = e2m1[b->qs[j] >> 4] * d;
    }
}

static void decode_nvfp4(float *y, const uint8_t *src, size_t n)
{
    const nib_nvfp4 *b = (const nib_nvfp4 *)src;
    for (; n--; b++)
        for (int s = 0; s < 4; s++, y += 16) {
            const float d = nib_ue4m3_half[b->d[s] & 127];
            const uint8_t *q = b->qs + 8 * s;
            for (int j = 0; j < 8; j++) y[j] = e2m1[q[j] & 15] * d;
            for (int j = 0; j < 8; j++) y[j + 8] = e2m1[q[j] >> 4] * d;
        }
}

/* ---- codebooks of vectors ---- */

/* Levels of a codebook as a formula, which compilers make vectors of: first + step * l, and `more`
 * at the highest. */
typedef struct {
    int dim, bits, first, step, top, more;
} point_levels;

static const point_levels iq2_points = {8, 2, 8, 17, 2, 1}, iq3_s_points = {4, 3, 1, 2, 7, 0},
                          iq3_xxs_points = {4, 3, 4, 8, 7, 2};

/* The values of a point, of which bit i of `negative` says that value i is. */
static inline void point_values(float *y, const point_levels v, unsigned packed, float D,
                                unsigned negative)
{
    const uint32_t mask = (1u << v.bits) - 1;
    for (uint32_t i = 0; i < (uint32_t)v.dim; i++) {
        const int l = (int)(packed >> (uint32_t)v.bits * i & mask);
        const float x = D * (float)(v.first + v.step * l + (l == v.top ? v.more : 0));
        y[i] = nib_f32_from_bits(nib_f32_bits(x) ^ (negative >> i & 1) << 31);
    }
}

static void decode_iq3_s(float *y, const uint8_t *src, size_t n)
{
    const nib_iq3_s *b = (const nib_iq3_s *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 64; k++, y += 4) {
            const float D =
                half_at(b->d) * nib_iq3_s_scales[b->scales[k / 16] >> k / 8 % 2 * 4 & 15];
            const unsigned number = b->qs[k] | (b->qh[k / 8] >> k % 8 & 1u) << 8;
            point_values(y, iq3_s_points, nib_points_iq3_s.point[number], D,
                         b->signs[k / 2] >> k % 2 * 4);
        }
}

/* 28 bits of signs and the scale above them. */
static uint32_t signs_at(const uint8_t *p)
{
    return (uint32_t)nib_get16(p) | (uint32_t)nib_get16(p + 2) << 16;
}

static void decode_iq3_xxs(float *y, const uint8_t *src, size_t n)
{
    const nib_iq3_xxs *b = (const nib_iq3_xxs *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 64; k++, y += 4) {
            const uint32_t s = signs_at(b->signs + k / 8 * 4);
            const uint8_t signs = nib_even_signs(s >> k / 2 % 4 * 7);
            point_values(y, iq3_xxs_points, nib_points_iq3_xxs.point[b->qs[k]],
                         half_at(b->d) * nib_iq3_xxs_scales[s >> 28], signs >> k % 2 * 4);
        }
}

static void decode_iq2_s(float *y, const uint8_t *src, size_t n)
{
    const nib_iq2_s *b = (const nib_iq2_s *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 32; k++, y += 8) {
            const float D = half_at(b->d) * nib_iq2_scales[b->scales[k / 4] >> k / 2 % 2 * 4 & 15];
            const unsigned number = b->qs[k] | (b->qh[k / 4] >> k % 4 * 2 & 3u) << 8;
            point_values(y, iq2_points, nib_points_iq2_s.point[number], D, b->signs[k]);
        }
}

static void decode_iq2_xs(float *y, const uint8_t *src, size_t n)
{
    const nib_iq2_xs *b = (const nib_iq2_xs *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 32; k++, y += 8) {
            const float D = half_at(b->d) * nib_iq2_scales[b->scales[k / 4] >> k / 2 % 2 * 4 & 15];
            const unsigned v = nib_get16(b->qs + 2 * k);
            point_values(y, iq2_points, nib_points_iq2_xs.point[v & 511], D,
                         nib_even_signs(v >> 9));
        }
}

static void decode_iq2_xxs(float *y, const uint8_t *src, size_t n)
{
    const nib_iq2_xxs *b = (const nib_iq2_xxs *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 32; k++, y += 8) {
            const uint8_t *q = b->qs + k / 4 * 8;
            const uint32_t s = signs_at(q + 4);
            point_values(y, iq2_points, nib_points_iq2_xxs.point[q[k % 4]],
                         half_at(b->d) * nib_iq2_scales[s >> 28], nib_even_signs(s >> k % 4 * 7));
        }
}

/* 8 values of a ternary point, shifted by an eighth. */
static inline void shifted_values(float *y, unsigned number, float D, bool minus)
{
    const unsigned packed = nib_points_iq1.point[number];
    const float shift = minus ? -1.0f : 1.0f;
    for (unsigned i = 0; i < 8; i++)
        y[i] = D * (8.0f * ((float)(packed >> 2 * i & 3) - 1.0f) + shift);
}

static void decode_iq1_s(float *y, const uint8_t *src, size_t n)
{
    const nib_iq1_s *b = (const nib_iq1_s *)src;
    for (; n--; b++)
        for (unsigned k = 0; k < 32; k++, y += 8) {
            const unsigned h = nib_get16(b->qh + k / 4 * 2);
            shifted_values(y, b->qs[k] | (h >> k % 4 * 3 & 7) << 8,
                           half_at(b->d) * nib_iq1_scales[h >> 12 & 7], h >> 15);
        }
}

static void decode_iq1_m(float *y, const uint8_t *src, size_t n)
{
    const nib_iq1_m *b = (const nib_iq1_m *)src;
    for (; n--; b++) {
        const float d = nib_f16_to_f32(nib_get_iq1_m(b));
        for (unsigned k = 0; k < 32; k++, y += 8) {
            const unsigned c = k / 2, h = b->qh[c] >> k % 2 * 4;
            const unsigned s = nib_get16(b->scales + c / 4 * 2) >> c % 4 * 3 & 7;
            shifted_values(y, b->qs[k] | (h & 7) << 8, d * nib_iq1_scales[s], h >> 3 & 1);
        }
    }
}

const nib_decode_kern NAME(nib_decode_, NIB_ISA) = {
    .decode =
        {
            [NIB_F32] = decode_f32,         [NIB_F16] = decode_f16,
            [NIB_BF16] = decode_bf16,       [NIB_F64] = decode_f64,
            [NIB_F8_E4M3] = decode_e4m3,    [NIB_F8_E5M2] = decode_e5m2,
            [NIB_Q8_0] = decode_q8_0,       [NIB_Q4_0] = decode_q4_0,
            [NIB_Q4_1] = decode_q4_1,       [NIB_Q5_0] = decode_q5_0,
            [NIB_Q5_1] = decode_q5_1,       [NIB_Q2_K] = decode_q2_k,
            [NIB_Q3_K] = decode_q3_k,       [NIB_Q4_K] = decode_q4_k,
            [NIB_Q5_K] = decode_q5_k,       [NIB_Q6_K] = decode_q6_k,
            [NIB_IQ4_NL] = decode_iq4_nl,   [NIB_IQ4_XS] = decode_iq4_xs,
            [NIB_IQ3_S] = decode_iq3_s,     [NIB_IQ3_XXS] = decode_iq3_xxs,
            [NIB_IQ2_S] = decode_iq2_s,     [NIB_IQ2_XS] = decode_iq2_xs,
            [NIB_IQ2_XXS] = decode_iq2_xxs, [NIB_IQ1_M] = decode_iq1_m,
            [NIB_IQ1_S] = decode_iq1_s,     [NIB_TQ2_0] = decode_tq2_0,
            [NIB_TQ1_0] = decode_tq1_0,     [NIB_MXFP4] = decode_mxfp4,
            [NIB_NVFP4] = decode_nvfp4,     [NIB_Q2_0] = decode_q2_0,
            [NIB_Q1_0] = decode_q1_0,
        },
};
