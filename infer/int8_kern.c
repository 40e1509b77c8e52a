/* SPDX-License-Identifier: MIT */
/* infer/int8_kern.c - the kernels of int8.h, compiled once per instruction set (NIB_ISA).
 *
 * Processors multiply 16-bit integers in pairs: each 32-bit lane holds two neighbouring columns,
 * and one instruction adds both products. Unlike the instructions for unsigned by signed bytes
 * before VNNI these do not saturate. A product keeps ROWS x 2 registers of sums and goes through
 * the columns once; a broadcast pair meets 2 of outputs. Tests: tests/infer/test_int8.c. */
#include "infer/int8.h"
#include "infer/vec.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum {
    ROWS = 6,       /* 12 registers of sums: as many as fit where there are 16          */
    SPAN = 2 * W,   /* outputs of a pass                                                */
    PACK_PAIRS = 32 /* 64 bytes of each row of a weight, a cache line, are packed at once */
};

static bool range(float *lo, float *hi, const float *x, size_t n)
{
    vf least = {0}, most = {0}, odd = {0};
    float t[BLOCK], l[W], m[W], o[W];
    bool finite = true;
    for (size_t i = 0; i < n; i += BLOCK) {
        const float *p = x + i;
        if (n - i < BLOCK) pad(t, p, n - i, 0), p = t;
        for (size_t g = 0; g < BLOCK; g += W) {
            vf v = load(p + g);
            least = pick(v < least, v, least);
            most = pick(v > most, v, most);
            odd += v - v; /* stays 0 unless v is NaN or infinite */
        }
    }
    store(l, least), store(m, most), store(o, odd);
    *lo = *hi = 0;
    for (size_t i = 0; i < W; i++) {
        *lo = l[i] < *lo ? l[i] : *lo;
        *hi = m[i] > *hi ? m[i] : *hi;
        finite = finite && o[i] == 0;
    }
    return finite;
}

/* The bounds are integers, so to clamp before rounding is the same. */
static inline void round_block(int16_t *code, const float *x, float scale, float lo, float hi)
{
    const float magic = 0x1.8p+23f; /* adding it rounds to an integer in the low bits */
    const vf zero = {0};
    for (size_t g = 0; g < BLOCK; g += W) {
        vf v = load(x + g) / scale;
        v = pick(v > lo, v, zero + lo);
        v = pick(v < hi, v, zero + hi);
        vi k = (vi)(v + magic) - 0x4B400000;
        int32_t t[W];
        memcpy(t, &k, sizeof t);
        for (size_t i = 0; i < W; i++) code[g + i] = (int16_t)t[i];
    }
}

static void round_row(int16_t *code, const float *x, size_t n, float scale, int zero)
{
    const float lo = (float)(-128 - zero), hi = (float)(127 - zero);
    float t[BLOCK];
    int16_t c[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) round_block(code + i, x + i, scale, lo, hi);
    pad(t, x + i, n - i, 0);
    round_block(c, t, scale, lo, hi);
    memcpy(code + i, c, (n - i) * sizeof *c);
    if (n % 2) code[n] = 0;
}

/* Pairs [k, end) of output o; the row at w has n columns, or is NULL for zeros. */
static void pack_pairs(int16_t *panel, const int8_t *w, size_t n, size_t o, size_t k, size_t end)
{
    for (; k < end; k++) {
        int16_t *to = panel + (k * NIB_INT8_OUTS + o) * 2;
        to[0] = w ? w[2 * k] : 0;
        to[1] = w && 2 * k + 1 < n ? w[2 * k + 1] : 0;
    }
}

static void pack(int16_t *panel, const int8_t *w, size_t n_out, size_t n)
{
    const size_t pairs = nib_int8_stride(n) / 2;
    for (size_t k = 0; k < pairs; k += PACK_PAIRS)
        for (size_t o = 0; o < NIB_INT8_OUTS; o++)
            pack_pairs(panel, o < n_out ? w + o * n : NULL, n, o, k,
                       k + PACK_PAIRS < pairs ? k + PACK_PAIRS : pairs);
}

static inline vi load_pairs(const int16_t *p)
{
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* sum + the products of both 16-bit halves of each lane. */
static inline vi add_products(vi sum, vi a, vi b)
{
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return sum + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

/* ROWS rows times SPAN outputs. */
static inline void multiply(int32_t *sum, const int16_t *const *x, const int16_t *panel,
                            size_t stride)
{
    vi s[ROWS][2] = {0};
    for (size_t k = 0; k < stride; k += 2, panel += 2 * NIB_INT8_OUTS) {
        const vi b0 = load_pairs(panel), b1 = load_pairs(panel + 2 * W);
        for (size_t r = 0; r < ROWS; r++) {
            int32_t pair;
            memcpy(&pair, x[r] + k, sizeof pair);
            vi a = pair - (vi){0};
            s[r][0] = add_products(s[r][0], a, b0);
            s[r][1] = add_products(s[r][1], a, b1);
        }
    }
    for (size_t r = 0; r < ROWS; r++)
        for (size_t h = 0; h < 2; h++)
            memcpy(sum + r * NIB_INT8_OUTS + h * W, &s[r][h], sizeof s[r][h]);
}

static void product(int32_t *sum, const int16_t *x, size_t rows, const int16_t *panel,
                    size_t stride)
{
    for (size_t r = 0; r < rows; r += ROWS) {
        const size_t n = rows - r < ROWS ? rows - r : ROWS;
        const int16_t *row[ROWS];
        int32_t t[ROWS * NIB_INT8_OUTS];
        /* Of a short last group the last row fills up. */
        for (size_t i = 0; i < ROWS; i++) row[i] = x + (r + (i < n ? i : n - 1)) * stride;
        for (size_t o = 0; o < NIB_INT8_OUTS; o += SPAN)
            multiply(t + o, row, panel + 2 * o, stride);
        memcpy(sum + r * NIB_INT8_OUTS, t, n * NIB_INT8_OUTS * sizeof *t);
    }
}

extern const nib_int8 JOIN(nib_int8, NIB_ISA);
const nib_int8 JOIN(nib_int8, NIB_ISA) = {range, round_row, pack, product};
