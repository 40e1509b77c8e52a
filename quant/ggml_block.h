/* SPDX-License-Identifier: MIT */
/* quant/ggml_block.h - GGUF's quantized blocks: their bytes, and the kernels that make and read
 * them.
 *
 * Private to quant/. All fields are bytes, so that a block may stand at any address; 16-bit fields
 * are little-endian. What the bytes mean: ggml_pack.c. */
#ifndef NIB_QUANT_GGML_BLOCK_H
#define NIB_QUANT_GGML_BLOCK_H

#include "base/half.h"
#include "quant/codec.h"

typedef struct {
    uint8_t d[2], qs[32];
} nib_q8_0;
typedef struct {
    uint8_t d[2], qs[16];
} nib_q4_0; /* and iq4_nl */
typedef struct {
    uint8_t d[2], m[2], qs[16];
} nib_q4_1;
typedef struct {
    uint8_t d[2], qh[4], qs[16];
} nib_q5_0;
typedef struct {
    uint8_t d[2], m[2], qh[4], qs[16];
} nib_q5_1;
typedef struct {
    uint8_t scales[16], qs[64], d[2], dmin[2];
} nib_q2_k;
typedef struct {
    uint8_t hmask[32], qs[64], scales[12], d[2];
} nib_q3_k;
typedef struct {
    uint8_t d[2], dmin[2], scales[12], qs[128];
} nib_q4_k;
typedef struct {
    uint8_t d[2], dmin[2], scales[12], qh[32], qs[128];
} nib_q5_k;
typedef struct {
    uint8_t ql[128], qh[64], scales[16], d[2];
} nib_q6_k;
typedef struct {
    uint8_t d[2], scales_h[2], scales_l[4], qs[128];
} nib_iq4_xs;

/* Codebooks of vectors (quant/iq_pack.c), ternary and 4-bit floats. */
typedef struct {
    uint8_t d[2], qs[64], qh[8], signs[32], scales[4];
} nib_iq3_s;
typedef struct {
    uint8_t d[2], qs[64], signs[32]; /* 4 x 7 bits and the scale, per 32 weights */
} nib_iq3_xxs;
typedef struct {
    uint8_t d[2], qs[32], signs[32], qh[8], scales[8];
} nib_iq2_s;
typedef struct {
    uint8_t d[2], qs[64], scales[8];
} nib_iq2_xs;
typedef struct {
    uint8_t d[2], qs[64]; /* 4 numbers of points, 4 x 7 bits and the scale, per 32 weights */
} nib_iq2_xxs;
typedef struct {
    uint8_t qs[32], qh[16], scales[8];
} nib_iq1_m;
typedef struct {
    uint8_t d[2], qs[32], qh[16];
} nib_iq1_s;
typedef struct {
    uint8_t qs[64], d[2];
} nib_tq2_0;
typedef struct {
    uint8_t qs[48], qh[4], d[2];
} nib_tq1_0;
typedef struct {
    uint8_t e, qs[16];
} nib_mxfp4;
typedef struct {
    uint8_t d[4], qs[32];
} nib_nvfp4; /* 64 weights */
typedef struct {
    uint8_t d[2], qs[16];
} nib_q1_0; /* 128 weights */
typedef struct {
    uint8_t d[2], qs[16];
} nib_q2_0; /* 64 weights */

_Static_assert(sizeof(nib_iq3_s) == 110 && sizeof(nib_iq3_xxs) == 98 && sizeof(nib_iq2_s) == 82 &&
                   sizeof(nib_iq2_xs) == 74 && sizeof(nib_iq2_xxs) == 66 &&
                   sizeof(nib_iq1_m) == 56 && sizeof(nib_iq1_s) == 50 && sizeof(nib_tq2_0) == 66 &&
                   sizeof(nib_tq1_0) == 54,
               "bytes per 256 weights");
_Static_assert(sizeof(nib_q8_0) == 34 && sizeof(nib_q4_0) == 18 && sizeof(nib_q4_1) == 20 &&
                   sizeof(nib_q5_0) == 22 && sizeof(nib_q5_1) == 24,
               "bytes per 32 weights");
_Static_assert(sizeof(nib_q2_k) == 84 && sizeof(nib_q3_k) == 110 && sizeof(nib_q4_k) == 144 &&
                   sizeof(nib_q5_k) == 176 && sizeof(nib_q6_k) == 210 && sizeof(nib_iq4_xs) == 136,
               "bytes per 256 weights");

extern const int8_t nib_iq4_levels[16];
extern const float nib_iq4_values[16];
/* Twice the values of E2M1 without the second zero, ascending; the code of the format for each. */
extern const float nib_e2m1_levels[15];
extern const uint8_t nib_e2m1_codes[15];
/* What the byte of an nvfp4 scale stands for, halved, as codes are doubled; 127 is read as 0. */
extern const float nib_ue4m3_half[128];

/* The 64 codes of a block in the order of its weights, as E2M1 has them, and back. */
static inline void nib_nvfp4_bits(uint8_t *code, const nib_nvfp4 *b)
{
    for (int i = 0; i < 32; i++) {
        uint8_t *at = code + i / 8 * 16 + i % 8;
        at[0] = b->qs[i] & 15;
        at[8] = b->qs[i] >> 4;
    }
}
static inline void nib_nvfp4_set_bits(nib_nvfp4 *b, const uint8_t *code)
{
    for (int i = 0; i < 32; i++) {
        const uint8_t *at = code + i / 8 * 16 + i % 8;
        b->qs[i] = (uint8_t)(at[0] | at[8] << 4);
    }
}
extern const float nib_sign_levels[2];
/* Codes of the vector formats, see quant/points.h; iq1: times 8. */
extern const float nib_iq1_levels[6], nib_iq2_levels[6], nib_iq3_xxs_levels[16],
    nib_iq3_s_levels[16];
/* Scale codes: (s + 1/2) / 4, (s + 1/2) / 2, 2 s + 1; and (2 s + 1) / 8, for both shifts. */
extern const float nib_iq2_scales[16], nib_iq3_xxs_scales[16], nib_iq3_s_scales[16],
    nib_iq1_scales[16];

static inline uint16_t nib_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline void nib_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8);
}

/* The 6-bit scale and minimum of sub-block j < 8 in the 12 bytes of q4_k and q5_k. */
static inline void nib_get_k4(const uint8_t *b, int j, uint8_t *sc, uint8_t *mn)
{
    if (j < 4) {
        *sc = b[j] & 63;
        *mn = b[j + 4] & 63;
    } else {
        *sc = (uint8_t)((b[j + 4] & 15) | b[j - 4] >> 6 << 4);
        *mn = (uint8_t)(b[j + 4] >> 4 | b[j] >> 6 << 4);
    }
}
/* The 6-bit scale, plus 32, of sub-block j < 16 in the 12 bytes of q3_k. */
static inline uint8_t nib_get_k3(const uint8_t *b, int j)
{
    int low = b[j & 7] >> (j & 8 ? 4 : 0) & 15;
    return (uint8_t)(low | (b[8 + (j & 3)] >> (j >> 2) * 2 & 3) << 4);
}
/* The 6-bit scale, plus 32, of sub-block j < 8 of iq4_xs. */
static inline uint8_t nib_get_iq4(const nib_iq4_xs *b, int j)
{
    int low = b->scales_l[j / 2] >> (j & 1) * 4 & 15;
    return (uint8_t)(low | (nib_get16(b->scales_h) >> 2 * j & 3) << 4);
}

/* MXFP4's scale, half of what E8M0 says, as codes are doubled. */
static inline float nib_e8m0_half(uint8_t e)
{
    return nib_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}
/* The d of an iq1_m block: four bits in each of the four scale words, lowest first. */
static inline uint16_t nib_get_iq1_m(const nib_iq1_m *b)
{
    unsigned d = 0;
    for (int t = 0; t < 4; t++) d |= (unsigned)(b->scales[2 * t + 1] >> 4) << 4 * t;
    return (uint16_t)d;
}

/* ggml_pack.c, iq_pack.c: one block, see nib_codec. */
#define NIB_PACK(name)                                                                             \
    void nib_pack_##name(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
#define NIB_UNPACK(name)                                                                           \
    void nib_unpack_##name(nib_block_param *p, uint8_t *code, const uint8_t *src)
NIB_PACK(q8_0);
NIB_PACK(q4_0);
NIB_PACK(q4_1);
NIB_PACK(q5_0);
NIB_PACK(q5_1);
NIB_PACK(q2_k);
NIB_PACK(q3_k);
NIB_PACK(q4_k);
NIB_PACK(q5_k);
NIB_PACK(q6_k);
NIB_PACK(iq4_nl);
NIB_PACK(iq4_xs);
NIB_PACK(iq3_s);
NIB_PACK(iq3_xxs);
NIB_PACK(iq2_s);
NIB_PACK(iq2_xs);
NIB_PACK(iq2_xxs);
NIB_PACK(iq1_m);
NIB_PACK(iq1_s);
NIB_PACK(tq2_0);
NIB_PACK(tq1_0);
NIB_PACK(mxfp4);
NIB_PACK(nvfp4);
NIB_PACK(q2_0);
NIB_PACK(q1_0);
NIB_UNPACK(q8_0);
NIB_UNPACK(q4_0);
NIB_UNPACK(q4_1);
NIB_UNPACK(q5_0);
NIB_UNPACK(q5_1);
NIB_UNPACK(q2_k);
NIB_UNPACK(q3_k);
NIB_UNPACK(q4_k);
NIB_UNPACK(q5_k);
NIB_UNPACK(q6_k);
NIB_UNPACK(iq4_nl);
NIB_UNPACK(iq4_xs);
#undef NIB_PACK
#undef NIB_UNPACK

enum { NIB_LANES_MAX = 16 };

/* What a search is given: a block of weights per lane. */
typedef struct {
    const float *w[NIB_LANES_MAX];    /* [lane] -> [block]                              */
    const float *imp[NIB_LANES_MAX];  /* [lane] -> [block]; lane 0 NULL: no importances */
    float mean_square[NIB_LANES_MAX]; /* of the row; see nib_fit_in                    */
} nib_lane_in;

/* Parameters p[lane] as they are stored, and codes code[lane][block], as the reference has them. */
typedef void nib_lane_search(nib_block_param *p, uint8_t *code, const nib_lane_in *in);

/* ggml_encode.c, once per instruction set. */
typedef struct {
    size_t lanes;
    nib_lane_search *search[NIB_TYPE_COUNT];
    /* sum[lane] of w^2 over [cols], in order; cols is a multiple of 32. */
    void (*sum_squares)(float *sum, const float *const *w, size_t cols);
    void (*to_f16)(uint8_t *dst, const float *src, size_t n);
    void (*to_bf16)(uint8_t *dst, const float *src, size_t n);
    size_t (*find_nonfinite)(const float *x, size_t n);
} nib_encode_kern;

/* ggml_decode.c, once per instruction set. */
typedef struct {
    void (*decode[NIB_TYPE_COUNT])(float *dst, const uint8_t *src, size_t n_blocks);
} nib_decode_kern;

extern const nib_encode_kern nib_encode_c, nib_encode_avx2, nib_encode_avx512;
extern const nib_decode_kern nib_decode_c, nib_decode_avx2, nib_decode_avx512;

/* The tables for a NIB_CPU_* mask. */
const nib_encode_kern *nib_encode_for(unsigned cpu);
const nib_decode_kern *nib_decode_for(unsigned cpu);

/* One block's importances where they are not NULL: groups that are all zero are filled (see
 * ggml_block.c). */
void nib_block_importances(float *dst, const float *imp, const nib_codec *c);

/* fit() of a block format, and encode() for its type. */
void nib_block_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu);
size_t nib_block_encode(const nib_codec *c, uint8_t *dst, const float *w, const float *imp,
                        size_t rows, size_t cols, unsigned cpu, void *scratch);

/* scale_fit.c: fit() of formats whose reference knows no importances. */
void nib_scale_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu);

#endif
