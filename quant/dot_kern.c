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
#define KERNEL(name)                                                                               \
    static void dot_##name(float *y, const uint8_t *w, const nib_dot_in *in)                       \
    {                                                                                              \
        switch (in->n) {                                                                           \
        case 1: rows_##name(y, w, in, 1); break;                                                   \
        case 2: rows_##name(y, w, in, 2); break;                                                   \
        case 3: rows_##name(y, w, in, 3); break;                                                   \
        default: rows_##name(y, w, in, 4); break;                                                  \
        }                                                                                          \
    }

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
        for (int j = 0; j < 16; j++) level[j] = (int8_t)((b->qs[j] & 15) - 8);
        for (int j = 0; j < 16; j++) level[j + 16] = (int8_t)((b->qs[j] >> 4) - 8);
        add_levels(total, half_at(b->d), level, 32, in->x + at, in->step, vectors);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q4_0)

/* The 32 levels of a q5_0 block, -16 .. 15. */
INLINE void levels_q5_0(int8_t *level, const nib_q5_0 *b)
{
#if defined(__AVX2__)
    /* A byte for each of the 32 high bits: 0xFF where it is set; then 0xF0 where it is not, which
     * is 16 less. */
    uint32_t high;
    memcpy(&high, b->qh, sizeof high);
    const __m256i spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202,
                                             0x0101010101010101, 0x0000000000000000);
    const __m256i others = _mm256_set1_epi64x(0x7FBFDFEFF7FBFDFE);
    __m256i bit = _mm256_shuffle_epi8(_mm256_set1_epi32((int)high), spread);
    bit = _mm256_cmpeq_epi8(_mm256_or_si256(bit, others), _mm256_set1_epi64x(-1));
    const __m128i q = _mm_loadu_si128((const __m128i *)b->qs);
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(q, 4), q);
    const __m256i low = _mm256_and_si256(both, _mm256_set1_epi8(15));
    const __m256i less = _mm256_andnot_si256(bit, _mm256_set1_epi8((char)0xF0));
    _mm256_storeu_si256((__m256i *)level, _mm256_or_si256(low, less));
#else
    const uint32_t high = (uint32_t)nib_get16(b->qh) | (uint32_t)nib_get16(b->qh + 2) << 16;
    for (int j = 0; j < 32; j++) {
        const int low = j < 16 ? b->qs[j] & 15 : b->qs[j - 16] >> 4;
        level[j] = (int8_t)((low | (int)(high >> j & 1) << 4) - 16);
    }
#endif
}

INLINE void rows_q5_0(float *y, const uint8_t *w, const nib_dot_in *in, size_t vectors)
{
    const nib_q5_0 *b = (const nib_q5_0 *)w;
    v8 total[NIB_DOT_VECTORS];
    int8_t level[32];
    for (size_t r = 0; r < vectors; r++) total[r] = v_zero();
    for (size_t at = 0; at < in->cols; at += 32, b++) {
        levels_q5_0(level, b);
        add_levels(total, half_at(b->d), level, 32, in->x + at, in->step, vectors);
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q5_0)

/* ---- blocks of 256 ---- */

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
            for (int l = 0; l < 32; l++) level[l] = (int8_t)(q[l] & 15);
            for (int l = 0; l < 32; l++) level[l + 32] = (int8_t)(q[l] >> 4);
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
            const uint8_t *q = b->qs + 32 * (s >> 1);
            const int shift = 4 * (s & 1);
            for (int l = 0; l < 32; l++)
                level[l] = (int8_t)((q[l] >> shift & 15) | (b->qh[l] >> s & 1) << 4);
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
            const uint8_t *low = b->ql + 64 * h + 32 * (k & 1), *high = b->qh + 32 * h;
            const int shift = 4 * (int)(k >> 1), up = 2 * (int)k;
            const float *x = in->x + at + 32 * s;
            for (int l = 0; l < 32; l++)
                level[l] = (int8_t)(((low[l] >> shift & 15) | (high[l] >> up & 3) << 4) - 32);
            add_levels(total, D[2 * s], level, 16, x, in->step, vectors);
            add_levels(total, D[2 * s + 1], level + 16, 16, x + 16, in->step, vectors);
        }
    }
    for (size_t r = 0; r < vectors; r++) y[r] = v_total(total[r]);
}
KERNEL(q6_k)

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

static void dot_decoded(float *y, const float *w, const nib_dot_in *in)
{
    switch (in->n) {
    case 1: rows_decoded(y, w, in, 1); break;
    case 2: rows_decoded(y, w, in, 2); break;
    case 3: rows_decoded(y, w, in, 3); break;
    default: rows_decoded(y, w, in, 4); break;
    }
}

extern const nib_dot_kern NAME(nib_dot_, NIB_ISA);
const nib_dot_kern NAME(nib_dot_, NIB_ISA) = {
    .of =
        {
            [NIB_Q8_0] = dot_q8_0,
            [NIB_Q4_0] = dot_q4_0,
            [NIB_Q5_0] = dot_q5_0,
            [NIB_Q4_K] = dot_q4_k,
            [NIB_Q5_K] = dot_q5_k,
            [NIB_Q6_K] = dot_q6_k,
        },
    .decoded = dot_decoded,
};
