/* SPDX-License-Identifier: MIT */
/* quant/dot_kern.c - the kernels of dot.h, compiled once per instruction set (NIB_ISA).
 *
 * A format's kernel turns a block into 8-bit levels; the rest is one loop for all: 32 levels become
 * floats once and meet each of the vectors. The number of vectors is a constant in each copy of a
 * kernel, the order of the sums the same in all of them. Tests: tests/quant/test_dot.c. */
#include "quant/dot_impl.h"
#include "quant/ggml_block.h"

#include "base/half.h"

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define PASTE(a, b) a##b
#define NAME(prefix, isa) PASTE(prefix, isa)
#define INLINE static inline __attribute__((always_inline))

/* ---- 8 lanes ---- */

#if defined(__AVX2__)
typedef __m256 v8;

INLINE v8 v_zero(void)
{
    return _mm256_setzero_ps();
}
INLINE v8 v_all(float x)
{
    return _mm256_set1_ps(x);
}
INLINE v8 v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void v_store(float *p, v8 x)
{
    _mm256_storeu_ps(p, x);
}
/* a b + c */
INLINE v8 v_fma(v8 a, v8 b, v8 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE v8 v_mul(v8 a, v8 b)
{
    return _mm256_mul_ps(a, b);
}
INLINE v8 v_add(v8 a, v8 b)
{
    return _mm256_add_ps(a, b);
}
INLINE v8 v_from_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE v8 v_from_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE v8 v_from_bf16(const uint8_t *p)
{
    const __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}
/* level[code] of 8 codes below 16, ... */
INLINE v8 v_level4(const float *level, const uint8_t *code)
{
    const __m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)code));
    const v8 low = _mm256_permutevar8x32_ps(v_load(level), at),
             high = _mm256_permutevar8x32_ps(v_load(level + 8), at);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
/* ... or of any. */
INLINE v8 v_level8(const float *level, const uint8_t *code)
{
    const __m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)code));
    return _mm256_i32gather_ps(level, at, 4);
}
INLINE float half_at(const uint8_t *p)
{
    return _cvtsh_ss(nib_get16(p));
}
#else
typedef struct {
    float v[8];
} v8;

INLINE v8 v_all(float x)
{
    v8 r;
    for (int i = 0; i < 8; i++) r.v[i] = x;
    return r;
}
INLINE v8 v_zero(void)
{
    return v_all(0);
}
INLINE v8 v_load(const float *p)
{
    v8 r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE void v_store(float *p, v8 x)
{
    memcpy(p, &x, sizeof x);
}
INLINE v8 v_mul(v8 a, v8 b)
{
    for (int i = 0; i < 8; i++) a.v[i] *= b.v[i];
    return a;
}
INLINE v8 v_add(v8 a, v8 b)
{
    for (int i = 0; i < 8; i++) a.v[i] += b.v[i];
    return a;
}
INLINE v8 v_fma(v8 a, v8 b, v8 c)
{
    return v_add(v_mul(a, b), c);
}
INLINE v8 v_from_i8(const int8_t *p)
{
    v8 r;
    for (int i = 0; i < 8; i++) r.v[i] = (float)p[i];
    return r;
}
INLINE v8 v_from_f16(const uint8_t *p)
{
    v8 r;
    for (int i = 0; i < 8; i++) r.v[i] = nib_f16_to_f32(nib_get16(p + 2 * i));
    return r;
}
INLINE v8 v_from_bf16(const uint8_t *p)
{
    v8 r;
    for (int i = 0; i < 8; i++) r.v[i] = nib_bf16_to_f32(nib_get16(p + 2 * i));
    return r;
}
INLINE v8 v_level8(const float *level, const uint8_t *code)
{
    v8 r;
    for (int i = 0; i < 8; i++) r.v[i] = level[code[i]];
    return r;
}
INLINE v8 v_level4(const float *level, const uint8_t *code)
{
    return v_level8(level, code);
}
INLINE float half_at(const uint8_t *p)
{
    return nib_f16_to_f32(nib_get16(p));
}
#endif

INLINE float v_total(v8 x)
{
    float t[8];
    v_store(t, x);
    for (int n = 4; n; n /= 2)
        for (int i = 0; i < n; i++) t[i] += t[i + n];
    return t[0];
}

/* ---- 32 codes or levels ---- */

#if defined(__AVX2__)
typedef __m256i b32;

INLINE void b_store(int8_t *p, b32 x)
{
    _mm256_storeu_si256((__m256i *)p, x);
}
INLINE b32 b_sub(b32 x, int8_t by)
{
    return _mm256_sub_epi8(x, _mm256_set1_epi8(by));
}
/* Nibbles of 16 bytes: the low ones, then the high ones. */
INLINE b32 b_nibbles(const uint8_t *q)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)q);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
}
/* The low nibbles of 32 bytes, or the high ones. */
INLINE b32 b_half(const uint8_t *q, bool high)
{
    const b32 v = _mm256_loadu_si256((const __m256i *)q);
    return _mm256_and_si256(high ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
}
/* x + 16 where the bit of that number is set in 32 bits ... */
INLINE b32 b_bits(b32 x, const uint8_t *bits)
{
    uint32_t all;
    memcpy(&all, bits, sizeof all);
    const b32 spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101,
                                         0x0000000000000000);
    const b32 one = _mm256_set1_epi64x((long long)0x8040201008040201);
    const b32 on = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)all), spread), one);
    const b32 add = _mm256_and_si256(_mm256_cmpeq_epi8(on, one), _mm256_set1_epi8(16));
    return _mm256_or_si256(x, add);
}
/* ... or where bit s of the byte of that number is. */
INLINE b32 b_bit(b32 x, const uint8_t *high, int s)
{
    const b32 mask = _mm256_set1_epi8((char)(1 << s));
    const b32 on = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)high), mask);
    const b32 add = _mm256_and_si256(_mm256_cmpeq_epi8(on, mask), _mm256_set1_epi8(16));
    return _mm256_or_si256(x, add);
}
/* x + 16 times bits 2 k and 2 k + 1 of the byte of that number. */
INLINE b32 b_two_bits(b32 x, const uint8_t *high, int k)
{
    const b32 h = _mm256_loadu_si256((const __m256i *)high);
    const b32 at = k == 0   ? _mm256_slli_epi16(h, 4)
                   : k == 1 ? _mm256_slli_epi16(h, 2)
                   : k == 2 ? h
                            : _mm256_srli_epi16(h, 2);
    return _mm256_or_si256(x, _mm256_and_si256(at, _mm256_set1_epi8(0x30)));
}
INLINE b32 b_iq4(b32 code)
{
    const __m128i table = _mm_loadu_si128((const __m128i *)nib_iq4_levels);
    return _mm256_shuffle_epi8(_mm256_set_m128i(table, table), code);
}
#else
typedef struct {
    int8_t v[32];
} b32;

INLINE void b_store(int8_t *p, b32 x)
{
    memcpy(p, &x, sizeof x);
}
INLINE b32 b_sub(b32 x, int8_t by)
{
    for (int j = 0; j < 32; j++) x.v[j] = (int8_t)(x.v[j] - by);
    return x;
}
INLINE b32 b_nibbles(const uint8_t *q)
{
    b32 x;
    for (int j = 0; j < 16; j++) x.v[j] = (int8_t)(q[j] & 15), x.v[j + 16] = (int8_t)(q[j] >> 4);
    return x;
}
INLINE b32 b_half(const uint8_t *q, bool high)
{
    b32 x;
    for (int j = 0; j < 32; j++) x.v[j] = (int8_t)(high ? q[j] >> 4 : q[j] & 15);
    return x;
}
INLINE b32 b_bits(b32 x, const uint8_t *bits)
{
    for (int j = 0; j < 32; j++) x.v[j] = (int8_t)(x.v[j] | (bits[j / 8] >> j % 8 & 1) << 4);
    return x;
}
INLINE b32 b_bit(b32 x, const uint8_t *high, int s)
{
    for (int j = 0; j < 32; j++) x.v[j] = (int8_t)(x.v[j] | (high[j] >> s & 1) << 4);
    return x;
}
INLINE b32 b_two_bits(b32 x, const uint8_t *high, int k)
{
    for (int j = 0; j < 32; j++) x.v[j] = (int8_t)(x.v[j] | (high[j] >> 2 * k & 3) << 4);
    return x;
}
INLINE b32 b_iq4(b32 code)
{
    for (int j = 0; j < 32; j++) code.v[j] = nib_iq4_levels[code.v[j]];
    return code;
}
#endif

/* ---- sums ---- */

/* total[r] += D * (sum of n levels times x[r]), n a multiple of 8. */
INLINE void add_levels(v8 *total, float D, const int8_t *level, int n, const float *x, size_t step,
                       size_t vectors)
{
    v8 sum[NIB_DOT_VECTORS];
    for (size_t r = 0; r < vectors; r++) sum[r] = v_mul(v_from_i8(level), v_load(x + r * step));
    for (int j = 8; j < n; j += 8) {
        const v8 l = v_from_i8(level + j);
        for (size_t r = 0; r < vectors; r++)
            sum[r] = v_fma(l, v_load(x + r * step + (size_t)j), sum[r]);
    }
    for (size_t r = 0; r < vectors; r++) total[r] = v_fma(v_all(D), sum[r], total[r]);
}

/* A kernel is a function of the number of vectors; this makes one that takes any number. */
#define KERNEL_OF(name, row)                                                                       \
    static void dot_##name(float *y, const row *w, const nib_dot_in *in)                           \
    {                                                                                              \
        switch (in->n) {                                                                           \
        case 1: rows_##name(y, w, in, 1); break;                                                   \
        case 2: rows_##name(y, w, in, 2); break;                                                   \
        case 3: rows_##name(y, w, in, 3); break;                                                   \
        default: rows_##name(y, w, in, 4); break;                                                  \
        }                                                                                          \
    }
#define KERNEL(name) KERNEL_OF(name, uint8_t)

/* ---- blocks of 32 ---- */

INLINE void rows_q8_0(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q8_0 *b = (const nib_q8_0 *)w;
    v8 total[NIB_DOT_VECTORS];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 32, b++)
        add_levels(total, half_at(b->d), (const int8_t *)b->qs, 32, in->x + at, in->step, vectors);
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q8_0)

INLINE void rows_q4_0(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q4_0 *b = (const nib_q4_0 *)w;
    v8 total[NIB_DOT_VECTORS];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 32, b++) {
        b_store(level, b_sub(b_nibbles(b->qs), 8));
        add_levels(total, half_at(b->d), level, 32, in->x + at, in->step, vectors);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q4_0)

INLINE void rows_q5_0(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q5_0 *b = (const nib_q5_0 *)w;
    v8 total[NIB_DOT_VECTORS];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 32, b++) {
        b_store(level, b_sub(b_bits(b_nibbles(b->qs), b->qh), 16));
        add_levels(total, half_at(b->d), level, 32, in->x + at, in->step, vectors);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q5_0)

INLINE void rows_iq4_nl(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q4_0 *b = (const nib_q4_0 *)w;
    v8 total[NIB_DOT_VECTORS];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 32, b++) {
        b_store(level, b_iq4(b_nibbles(b->qs)));
        add_levels(total, half_at(b->d), level, 32, in->x + at, in->step, vectors);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(iq4_nl)

/* ---- blocks of 256 ---- */

INLINE void rows_iq4_xs(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_iq4_xs *b = (const nib_iq4_xs *)w;
    v8 total[NIB_DOT_VECTORS];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 256, b++) {
        const float d = half_at(b->d);
        for (int s = 0; s < 8; s++) {
            b_store(level, b_iq4(b_nibbles(b->qs + 16 * s)));
            add_levels(total, d * (float)(nib_get_iq4(b, s) - 32), level, 32,
                       in->x + at + 32 * (size_t)s, in->step, vectors);
        }
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(iq4_xs)

/* D = d sc and B = dmin mn of the 8 sub-blocks of q4_k and q5_k. */
INLINE void scales_k4(float D[8], v8 *B, const uint8_t *d, const uint8_t *dmin,
                      const uint8_t *scales)
{
    int8_t sc[8], mn[8];
    uint32_t a, b, c, t;
    memcpy(&a, scales, 4), memcpy(&b, scales + 4, 4), memcpy(&c, scales + 8, 4);
    t = a & 0x3F3F3F3F, memcpy(sc, &t, 4);
    t = b & 0x3F3F3F3F, memcpy(mn, &t, 4);
    t = (c & 0x0F0F0F0F) | (a >> 6 & 0x03030303) << 4, memcpy(sc + 4, &t, 4);
    t = (c >> 4 & 0x0F0F0F0F) | (b >> 6 & 0x03030303) << 4, memcpy(mn + 4, &t, 4);
    v_store(D, v_mul(v_all(half_at(d)), v_from_i8(sc)));
    *B = v_mul(v_all(half_at(dmin)), v_from_i8(mn));
}

INLINE void rows_q4_k(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q4_k *b = (const nib_q4_k *)w;
    v8 total[NIB_DOT_VECTORS], least[NIB_DOT_VECTORS], B;
    float D[8];
    int8_t level[64];
    for (size_t r = 0; r < vectors; r++) total[r] = least[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 256, b++) {
        scales_k4(D, &B, b->d, b->dmin, b->scales);
        for (size_t g = 0; g < 4; g++) {
            const uint8_t *q = b->qs + 32 * g;
            const float *x = in->x + at + 64 * g;
            b_store(level, b_half(q, false));
            b_store(level + 32, b_half(q, true));
            add_levels(total, D[2 * g], level, 32, x, in->step, vectors);
            add_levels(total, D[2 * g + 1], level + 32, 32, x + 32, in->step, vectors);
        }
        for (size_t r = 0; r < vectors; r++)
            least[r] = v_fma(B, v_load(in->sum + r * in->sum_step + at / 32), least[r]);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]) - v_total(least[r]);
}
KERNEL(q4_k)

INLINE void rows_q5_k(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q5_k *b = (const nib_q5_k *)w;
    v8 total[NIB_DOT_VECTORS], least[NIB_DOT_VECTORS], B;
    float D[8];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = least[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 256, b++) {
        scales_k4(D, &B, b->d, b->dmin, b->scales);
        for (size_t s = 0; s < 8; s++) {
            b_store(level, b_bit(b_half(b->qs + 32 * (s >> 1), s & 1), b->qh, (int)s));
            add_levels(total, D[s], level, 32, in->x + at + 32 * s, in->step, vectors);
        }
        for (size_t r = 0; r < vectors; r++)
            least[r] = v_fma(B, v_load(in->sum + r * in->sum_step + at / 32), least[r]);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]) - v_total(least[r]);
}
KERNEL(q5_k)

INLINE void rows_q6_k(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q6_k *b = (const nib_q6_k *)w;
    v8 total[NIB_DOT_VECTORS];
    float D[16];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 256, b++) {
        const v8 d = v_all(half_at(b->d));
        v_store(D, v_mul(d, v_from_i8((const int8_t *)b->scales)));
        v_store(D + 8, v_mul(d, v_from_i8((const int8_t *)b->scales + 8)));
        for (size_t s = 0; s < 8; s++) { /* 32 columns, two sub-blocks */
            const size_t h = s >> 2, k = s & 3;
            const float *x = in->x + at + 32 * s;
            const b32 low = b_half(b->ql + 64 * h + 32 * (k & 1), k >> 1);
            b_store(level, b_sub(b_two_bits(low, b->qh + 32 * h, (int)k), 32));
            add_levels(total, D[2 * s], level, 16, x, in->step, vectors);
            add_levels(total, D[2 * s + 1], level + 16, 16, x + 16, in->step, vectors);
        }
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q6_k)

/* ---- floats of 16 bits ---- */

INLINE float float16_at(const uint8_t *p, bool bf16)
{
    return bf16 ? nib_bf16_to_f32(nib_get16(p)) : nib_f16_to_f32(nib_get16(p));
}

INLINE void rows_float16(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors,
                         bool bf16)
{
    v8 total[2][NIB_DOT_VECTORS];
    size_t at = 0;
    for (size_t r = 0; r < vectors; r++) total[0][r] = total[1][r] = v_zero();
    for (; at + 16 <= in->cols; at += 16)
        for (size_t k = 0; k < 2; k++) {
            const uint8_t *p = w + 2 * (at + 8 * k);
            const v8 l = bf16 ? v_from_bf16(p) : v_from_f16(p);
            for (size_t r = 0; r < vectors; r++)
                total[k][r] = v_fma(l, v_load(in->x + r * in->step + at + 8 * k), total[k][r]);
        }
    for (size_t r = 0; r < vectors; r++) {
        y[r] = v_total(v_add(total[0][r], total[1][r]));
        for (size_t i = at; i < in->cols; i++)
            y[r] += float16_at(w + 2 * i, bf16) * in->x[r * in->step + i];
    }
}

INLINE void rows_f16(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    rows_float16(y, w, in, vectors, false);
}
INLINE void rows_bf16(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    rows_float16(y, w, in, vectors, true);
}
KERNEL(f16)
KERNEL(bf16)

/* ---- codes in groups ---- */

typedef enum { INT4, INT8, LEVEL4, LEVEL8 } code_kind;

/* sum[r] += (32 levels) . x[r] */
INLINE void add_run(v8 *sum, const nib_dot_groups *w, size_t run, code_kind kind, const float *x,
                    size_t step, size_t vectors)
{
    const uint8_t *code = w->code + run * (kind == INT4 || kind == LEVEL4 ? 16 : 32);
    int8_t level[32];
    if (kind == INT4) b_store(level, b_sub(b_nibbles(code), w->middle));
    if (kind == LEVEL4) b_store(level, b_nibbles(code));
    for (size_t j = 0; j < 32; j += 8) {
        const v8 l = kind == INT4     ? v_from_i8(level + j)
                     : kind == INT8   ? v_from_i8((const int8_t *)code + j)
                     : kind == LEVEL4 ? v_level4(w->level, (const uint8_t *)level + j)
                                      : v_level8(w->level, code + j);
        for (size_t r = 0; r < vectors; r++) sum[r] = v_fma(l, v_load(x + r * step + j), sum[r]);
    }
}

INLINE void rows_groups(float *y, const nib_dot_groups *w, const nib_dot_in *in, size_t vectors,
                        code_kind kind)
{
    v8 total[NIB_DOT_VECTORS], sum[NIB_DOT_VECTORS];
    float least[NIB_DOT_VECTORS] = {0};
    size_t run = 0;
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t g = 0; g < w->n; g++) {
        for (size_t r = 0; r < vectors; r++) sum[r] = v_zero();
        for (; run < w->end[g]; run++)
            add_run(sum, w, run, kind, in->x + 32 * run, in->step, vectors);
        for (size_t r = 0; r < vectors; r++) {
            total[r] = v_fma(v_all(w->scale[g]), sum[r], total[r]);
            if (w->least) least[r] += w->least[g] * in->sum[r * in->sum_step + g];
        }
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]) - least[r];
}

INLINE void rows_int4(float *y, const nib_dot_groups *w, const nib_dot_in *in, size_t vectors)
{
    rows_groups(y, w, in, vectors, INT4);
}
INLINE void rows_int8(float *y, const nib_dot_groups *w, const nib_dot_in *in, size_t vectors)
{
    rows_groups(y, w, in, vectors, INT8);
}
INLINE void rows_level4(float *y, const nib_dot_groups *w, const nib_dot_in *in, size_t vectors)
{
    rows_groups(y, w, in, vectors, LEVEL4);
}
INLINE void rows_level8(float *y, const nib_dot_groups *w, const nib_dot_in *in, size_t vectors)
{
    rows_groups(y, w, in, vectors, LEVEL8);
}
KERNEL_OF(int4, nib_dot_groups)
KERNEL_OF(int8, nib_dot_groups)
KERNEL_OF(level4, nib_dot_groups)
KERNEL_OF(level8, nib_dot_groups)

/* ---- decoded weights ---- */

INLINE void rows_decoded(float *y, const float *w, const nib_dot_in *in, size_t vectors)
{
    v8 a[NIB_DOT_VECTORS], b[NIB_DOT_VECTORS];
    size_t at = 0;
    for (size_t r = 0; r < vectors; r++) a[r] = b[r] = v_zero();
    for (; at + 16 <= in->cols; at += 16)
        for (size_t r = 0; r < vectors; r++) {
            const float *x = in->x + r * in->step + at;
            a[r] = v_fma(v_load(w + at), v_load(x), a[r]);
            b[r] = v_fma(v_load(w + at + 8), v_load(x + 8), b[r]);
        }
    for (size_t r = 0; r < vectors; r++) {
        float sum = v_total(v_add(a[r], b[r]));
        for (size_t i = at; i < in->cols; i++) sum += w[i] * in->x[r * in->step + i];
        y[r] += sum;
    }
}

KERNEL_OF(decoded, float)

extern const nib_dot_kern NAME(nib_dot_, NIB_ISA);
const nib_dot_kern NAME(nib_dot_, NIB_ISA) = {
    .of =
        {
            [NIB_F16] = dot_f16,
            [NIB_BF16] = dot_bf16,
            [NIB_Q8_0] = dot_q8_0,
            [NIB_Q4_0] = dot_q4_0,
            [NIB_Q5_0] = dot_q5_0,
            [NIB_Q4_K] = dot_q4_k,
            [NIB_Q5_K] = dot_q5_k,
            [NIB_Q6_K] = dot_q6_k,
            [NIB_IQ4_NL] = dot_iq4_nl,
            [NIB_IQ4_XS] = dot_iq4_xs,
        },
    .decoded = dot_decoded,
    .int4 = dot_int4,
    .int8 = dot_int8,
    .level4 = dot_level4,
    .level8 = dot_level8,
};
