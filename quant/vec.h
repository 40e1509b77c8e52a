/* SPDX-License-Identifier: MIT */
/* quant/vec.h - a register of floats, one block of weights per lane.
 *
 * Private to the kernel files of quant/, which are compiled once per instruction set. Every
 * operation acts on each lane as the scalar operation would (IEEE, no contraction), so a lane's
 * results do not depend on the width. + - * / are the compilers' own on vector types; what they
 * lack is here. Masks are of type vm; comparisons with NaN are false. */
#ifndef NIB_QUANT_VEC_H
#define NIB_QUANT_VEC_H

#include "base/half.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NIB_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)

enum { LANES = 16 };
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));
typedef __mmask16 vm;

NIB_INLINE vf v_set(float x)
{
    return _mm512_set1_ps(x);
}
NIB_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
NIB_INLINE void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
/* a < b ? a : b, and a > b ? a : b. */
NIB_INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
NIB_INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
NIB_INLINE vf v_abs(vf x)
{
    return _mm512_abs_ps(x);
}
NIB_INLINE vf v_sqrt(vf x)
{
    return _mm512_sqrt_ps(x);
}
NIB_INLINE vm v_gt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
NIB_INLINE vm v_ge(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
NIB_INLINE vm v_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
NIB_INLINE vm m_and(vm a, vm b)
{
    return a & b;
}
NIB_INLINE vm m_not(vm a)
{
    return (vm)~a;
}
/* A bit for each lane, lane 0's the lowest. */
NIB_INLINE unsigned m_bits(vm m)
{
    return m;
}
/* m ? a : b */
NIB_INLINE vf v_sel(vm m, vf a, vf b)
{
    return _mm512_mask_blend_ps(m, b, a);
}
/* Toward zero; what no int holds becomes INT32_MIN, whose low byte is 0. */
NIB_INLINE vi v_int(vf x)
{
    return (vi)_mm512_cvttps_epi32(x);
}
NIB_INLINE vf v_float(vi x)
{
    return _mm512_cvtepi32_ps((__m512i)x);
}
NIB_INLINE vi v_bits(vf x)
{
    return (vi)_mm512_castps_si512(x);
}
NIB_INLINE vf v_from_bits(vi x)
{
    return _mm512_castsi512_ps((__m512i)x);
}
/* Rounded to binary16 and back. */
NIB_INLINE vf v_half(vf x)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* 16 x 16 transpose: out[i] holds element at + i of every lane's array. */
NIB_INLINE void v_gather_tile(vf *out, const float *const *src, size_t at)
{
    vf r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = v_load(src[i] + at);
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#define PD(op, a, b) _mm512_castpd_ps(_mm512_##op##_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
    for (int i = 0; i < 16; i += 4) {
        r[i] = PD(unpacklo, t[i], t[i + 2]);
        r[i + 1] = PD(unpackhi, t[i], t[i + 2]);
        r[i + 2] = PD(unpacklo, t[i + 1], t[i + 3]);
        r[i + 3] = PD(unpackhi, t[i + 1], t[i + 3]);
    }
#undef PD
    for (int c = 0; c < 4; c++) { /* r[4i + c]: rows 4i.., columns c, c + 4, c + 8, c + 12 */
        vf a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        vf b = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        vf e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        vf f = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        out[c] = _mm512_shuffle_f32x4(a, e, 0x88);
        out[4 + c] = _mm512_shuffle_f32x4(b, f, 0x88);
        out[8 + c] = _mm512_shuffle_f32x4(a, e, 0xdd);
        out[12 + c] = _mm512_shuffle_f32x4(b, f, 0xdd);
    }
}

#elif defined(__AVX2__)

enum { LANES = 8 };
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));
typedef __m256 vm;

NIB_INLINE vf v_set(float x)
{
    return _mm256_set1_ps(x);
}
NIB_INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
NIB_INLINE void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
NIB_INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
NIB_INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
NIB_INLINE vf v_abs(vf x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
NIB_INLINE vf v_sqrt(vf x)
{
    return _mm256_sqrt_ps(x);
}
NIB_INLINE vm v_gt(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
NIB_INLINE vm v_ge(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_GE_OQ);
}
NIB_INLINE vm v_eq(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
NIB_INLINE vm m_and(vm a, vm b)
{
    return _mm256_and_ps(a, b);
}
NIB_INLINE vm m_not(vm a)
{
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}
NIB_INLINE unsigned m_bits(vm m)
{
    return (unsigned)_mm256_movemask_ps(m);
}
NIB_INLINE vf v_sel(vm m, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, m);
}
NIB_INLINE vi v_int(vf x)
{
    return (vi)_mm256_cvttps_epi32(x);
}
NIB_INLINE vf v_float(vi x)
{
    return _mm256_cvtepi32_ps((__m256i)x);
}
NIB_INLINE vi v_bits(vf x)
{
    return (vi)_mm256_castps_si256(x);
}
NIB_INLINE vf v_from_bits(vi x)
{
    return _mm256_castsi256_ps((__m256i)x);
}
NIB_INLINE vf v_half(vf x)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* 8 x 8 transpose. */
NIB_INLINE void v_gather_tile(vf *out, const float *const *src, size_t at)
{
    vf r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = v_load(src[i] + at);
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) {
        out[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        out[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    }
}

#else

enum { LANES = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef vi vm;

NIB_INLINE vf v_set(float x)
{
    return (vf){x, x, x, x};
}
NIB_INLINE vf v_load(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
NIB_INLINE void v_store(float *p, vf x)
{
    memcpy(p, &x, sizeof x);
}
NIB_INLINE vi v_bits(vf x)
{
    return (vi)x;
}
NIB_INLINE vf v_from_bits(vi x)
{
    return (vf)x;
}
NIB_INLINE vf v_sel(vm m, vf a, vf b)
{
    return (vf)((m & (vi)a) | (~m & (vi)b));
}
NIB_INLINE vf v_min(vf a, vf b)
{
    return v_sel(a < b, a, b);
}
NIB_INLINE vf v_max(vf a, vf b)
{
    return v_sel(a > b, a, b);
}
NIB_INLINE vf v_abs(vf x)
{
    return (vf)((vi)x & 0x7FFFFFFF);
}
NIB_INLINE vf v_sqrt(vf x)
{
    return (vf){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
}
NIB_INLINE vm v_gt(vf a, vf b)
{
    return a > b;
}
NIB_INLINE vm v_ge(vf a, vf b)
{
    return a >= b;
}
NIB_INLINE vm v_eq(vf a, vf b)
{
    return a == b;
}
NIB_INLINE vm m_and(vm a, vm b)
{
    return a & b;
}
NIB_INLINE vm m_not(vm a)
{
    return ~a;
}
NIB_INLINE unsigned m_bits(vm m)
{
    return (m[0] & 1u) | (m[1] & 2u) | (m[2] & 4u) | (m[3] & 8u);
}
/* Toward zero; what no int holds becomes INT32_MIN, as the processor's own conversion does. */
NIB_INLINE vi v_int(vf x)
{
    vm fits = v_abs(x) < 0x1p31f;
    vf y = v_sel(fits, x, v_set(0));
    vi i = {(int32_t)y[0], (int32_t)y[1], (int32_t)y[2], (int32_t)y[3]};
    return i | (~fits & INT32_MIN);
}
NIB_INLINE vf v_float(vi x)
{
    return (vf){(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
}
NIB_INLINE vf v_half(vf x)
{
    vf y = x;
    for (int i = 0; i < LANES; i++) y[i] = nib_f16_to_f32(nib_f32_to_f16(x[i]));
    return y;
}
NIB_INLINE void v_gather_tile(vf *out, const float *const *src, size_t at)
{
    for (int i = 0; i < LANES; i++)
        out[i] = (vf){src[0][at + i], src[1][at + i], src[2][at + i], src[3][at + i]};
}

#endif

NIB_INLINE bool m_any(vm m)
{
    return m_bits(m) != 0;
}

/* Elements 0 .. n-1 of every lane's array; n is a multiple of LANES. */
NIB_INLINE void v_gather(vf *out, const float *const *src, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) v_gather_tile(out + i, src, i);
}

/* Nearest integer, ties to even, for |x| <= 4194303; beyond, the low bits that the reference's
 * conversion keeps. */
NIB_INLINE vf v_round(vf x)
{
    vi u = (v_bits(x + 12582912.0f) & 0x007FFFFF) | 0x4B000000;
    return v_from_bits(u) - 12582912.0f;
}

/* v_round(x) held within lo .. hi. */
NIB_INLINE vf v_code(vf x, float lo, float hi)
{
    return v_min(v_max(v_round(x), v_set(lo)), v_set(hi));
}

/* a / b where b is not 0, else 0. */
NIB_INLINE vf v_div0(vf a, vf b)
{
    vm zero = v_eq(b, v_set(0));
    return v_sel(zero, v_set(0), a / v_sel(zero, v_set(1), b));
}

#endif
