/* SPDX-License-Identifier: MIT */
/* quant/ggml_pack.c - block formats: parameters and codes of one block <-> bytes.
 *
 * Codes count from 0 in the order of the format's levels (see nib_codec); only q8_0 stores them
 * otherwise, as signed bytes. Tests: tests/quant/test_codec.c, tests/quant/test_golden.c. */
#include "quant/ggml_block.h"

#include "base/half.h"

#include <string.h>

const int8_t nib_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
const float nib_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

const float nib_e2m1_levels[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};
const uint8_t nib_e2m1_codes[15] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7};
const float nib_sign_levels[2] = {-1, 1};

const float nib_ue4m3_half[128] = {
    0,       0x1p-10f, 0x1p-9f, 0x3p-10f, 0x1p-8f, 0x5p-10f, 0x3p-9f, 0x7p-10f, 0x1p-7f, 0x9p-10f,
    0x5p-9f, 0xbp-10f, 0x3p-8f, 0xdp-10f, 0x7p-9f, 0xfp-10f, 0x1p-6f, 0x9p-9f,  0x5p-8f, 0xbp-9f,
    0x3p-7f, 0xdp-9f,  0x7p-8f, 0xfp-9f,  0x1p-5f, 0x9p-8f,  0x5p-7f, 0xbp-8f,  0x3p-6f, 0xdp-8f,
    0x7p-7f, 0xfp-8f,  0x1p-4f, 0x9p-7f,  0x5p-6f, 0xbp-7f,  0x3p-5f, 0xdp-7f,  0x7p-6f, 0xfp-7f,
    0x1p-3f, 0x9p-6f,  0x5p-5f, 0xbp-6f,  0x3p-4f, 0xdp-6f,  0x7p-5f, 0xfp-6f,  0x1p-2f, 0x9p-5f,
    0x5p-4f, 0xbp-5f,  0x3p-3f, 0xdp-5f,  0x7p-4f, 0xfp-5f,  0x1p-1f, 0x9p-4f,  0x5p-3f, 0xbp-4f,
    0x3p-2f, 0xdp-4f,  0x7p-3f, 0xfp-4f,  0x1p0f,  0x9p-3f,  0x5p-2f, 0xbp-3f,  0x3p-1f, 0xdp-3f,
    0x7p-2f, 0xfp-3f,  0x1p1f,  0x9p-2f,  0x5p-1f, 0xbp-2f,  0x3p0f,  0xdp-2f,  0x7p-1f, 0xfp-2f,
    0x1p2f,  0x9p-1f,  0x5p0f,  0xbp-1f,  0x3p1f,  0xdp-1f,  0x7p0f,  0xfp-1f,  0x1p3f,  0x9p0f,
    0x5p1f,  0xbp0f,   0x3p2f,  0xdp0f,   0x7p1f,  0xfp0f,   0x1p4f,  0x9p1f,   0x5p2f,  0xbp1f,
    0x3p3f,  0xdp1f,   0x7p2f,  0xfp1f,   0x1p5f,  0x9p2f,   0x5p3f,  0xbp2f,   0x3p4f,  0xdp2f,
    0x7p3f,  0xfp2f,   0x1p6f,  0x9p3f,   0x5p4f,  0xbp3f,   0x3p5f,  0xdp3f,   0x7p4f,  0xfp3f,
    0x1p7f,  0x9p4f,   0x5p5f,  0xbp4f,   0x3p6f,  0xdp4f,   0x7p5f,  0,
};

/* ---- pieces ---- */

static void put_scale(uint8_t *dst, float d)
{
    nib_put16(dst, nib_f32_to_f16(d));
}

static float get_scale(const uint8_t *src)
{
    return nib_f16_to_f32(nib_get16(src));
}

static nib_block_param no_min(float d)
{
    return (nib_block_param){.d = d, .sc = {1}};
}

/* Formats with a minimum of their own, stored with the other sign. */
static nib_block_param own_min(float d, float m)
{
    return (nib_block_param){.d = d, .dmin = -m, .sc = {1}, .mn = {1}};
}

/* Nibbles of 32 codes: code j with code j + 16. */
static void put_nibbles(uint8_t *qs, const uint8_t *code)
{
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((code[j] & 15) | code[j + 16] << 4);
}

static void get_nibbles(uint8_t *code, const uint8_t *qs)
{
    for (int j = 0; j < 16; j++) {
        code[j] = qs[j] & 15;
        code[j + 16] = qs[j] >> 4;
    }
}

/* Fifth bits of 32 codes. */
static void put_fifth(uint8_t *qh, const uint8_t *code)
{
    uint32_t h = 0;
    for (int j = 0; j < 32; j++) h |= (uint32_t)(code[j] >> 4) << j;
    for (int j = 0; j < 4; j++) qh[j] = (uint8_t)(h >> 8 * j);
}

static void get_fifth(uint8_t *code, const uint8_t *qh)
{
    for (int j = 0; j < 32; j++) code[j] |= (uint8_t)((qh[j >> 3] >> (j & 7) & 1) << 4);
}

/* Nibbles of 256 codes in q4_k and q5_k: code j with code j + 32, in runs of 64. */
static void put_k4_nibbles(uint8_t *qs, const uint8_t *code)
{
    for (int g = 0; g < 4; g++, qs += 32, code += 64)
        for (int j = 0; j < 32; j++) qs[j] = (uint8_t)((code[j] & 15) | code[j + 32] << 4);
}

static void get_k4_nibbles(uint8_t *code, const uint8_t *qs)
{
    for (int g = 0; g < 4; g++, qs += 32, code += 64)
        for (int j = 0; j < 32; j++) {
            code[j] = qs[j] & 15;
            code[j + 32] = qs[j] >> 4;
        }
}

/* Bits `shift` and up of 256 codes, two bits each: of code l with l + 32, 64 and 96, per 128. */
static void put_pairs(uint8_t *qs, const uint8_t *code, int shift)
{
    for (int n = 0; n < 2; n++, qs += 32, code += 128)
        for (int l = 0; l < 32; l++)
            qs[l] = (uint8_t)((code[l] >> shift & 3) | (code[l + 32] >> shift & 3) << 2 |
                              (code[l + 64] >> shift & 3) << 4 | (code[l + 96] >> shift & 3) << 6);
}

static void get_pairs(uint8_t *code, const uint8_t *qs, int shift)
{
    for (int n = 0; n < 2; n++, qs += 32, code += 128)
        for (int k = 0; k < 4; k++)
            for (int l = 0; l < 32; l++)
                code[32 * k + l] |= (uint8_t)((qs[l] >> 2 * k & 3) << shift);
}

static void put_k4_scales(uint8_t *b, const nib_block_param *p)
{
    for (int j = 0; j < 4; j++) {
        b[j] = (uint8_t)((p->sc[j] & 63) | p->sc[j + 4] >> 4 << 6);
        b[j + 4] = (uint8_t)((p->mn[j] & 63) | p->mn[j + 4] >> 4 << 6);
        b[j + 8] = (uint8_t)((p->sc[j + 4] & 15) | (p->mn[j + 4] & 15) << 4);
    }
}

static void get_k4_scales(nib_block_param *p, const uint8_t *b)
{
    for (int j = 0; j < 8; j++) {
        uint8_t sc, mn;
        nib_get_k4(b, j, &sc, &mn);
        p->sc[j] = sc;
        p->mn[j] = mn;
    }
}

/* ---- 32 weights ---- */

void nib_pack_q8_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q8_0 *b = (nib_q8_0 *)dst;
    put_scale(b->d, p->d);
    for (int j = 0; j < 32; j++) b->qs[j] = code[j] ^ 128;
}

void nib_unpack_q8_0(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q8_0 *b = (const nib_q8_0 *)src;
    *p = no_min(get_scale(b->d));
    for (int j = 0; j < 32; j++) code[j] = b->qs[j] ^ 128;
}

void nib_pack_q4_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q4_0 *b = (nib_q4_0 *)dst;
    put_scale(b->d, p->d);
    put_nibbles(b->qs, code);
}

void nib_unpack_q4_0(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q4_0 *b = (const nib_q4_0 *)src;
    *p = no_min(get_scale(b->d));
    get_nibbles(code, b->qs);
}

void nib_pack_iq4_nl(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_pack_q4_0(dst, p, code);
}

void nib_unpack_iq4_nl(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    nib_unpack_q4_0(p, code, src);
}

void nib_pack_q4_1(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q4_1 *b = (nib_q4_1 *)dst;
    put_scale(b->d, p->d);
    put_scale(b->m, -p->dmin);
    put_nibbles(b->qs, code);
}

void nib_unpack_q4_1(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q4_1 *b = (const nib_q4_1 *)src;
    *p = own_min(get_scale(b->d), get_scale(b->m));
    get_nibbles(code, b->qs);
}

void nib_pack_q5_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q5_0 *b = (nib_q5_0 *)dst;
    put_scale(b->d, p->d);
    put_fifth(b->qh, code);
    put_nibbles(b->qs, code);
}

void nib_unpack_q5_0(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q5_0 *b = (const nib_q5_0 *)src;
    *p = no_min(get_scale(b->d));
    get_nibbles(code, b->qs);
    get_fifth(code, b->qh);
}

void nib_pack_q5_1(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q5_1 *b = (nib_q5_1 *)dst;
    put_scale(b->d, p->d);
    put_scale(b->m, -p->dmin);
    put_fifth(b->qh, code);
    put_nibbles(b->qs, code);
}

void nib_unpack_q5_1(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q5_1 *b = (const nib_q5_1 *)src;
    *p = own_min(get_scale(b->d), get_scale(b->m));
    get_nibbles(code, b->qs);
    get_fifth(code, b->qh);
}

/* ---- 256 weights ---- */

void nib_pack_q2_k(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q2_k *b = (nib_q2_k *)dst;
    for (int j = 0; j < 16; j++) b->scales[j] = (uint8_t)(p->sc[j] | p->mn[j] << 4);
    put_pairs(b->qs, code, 0);
    put_scale(b->d, p->d);
    put_scale(b->dmin, p->dmin);
}

void nib_unpack_q2_k(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q2_k *b = (const nib_q2_k *)src;
    *p = (nib_block_param){.d = get_scale(b->d), .dmin = get_scale(b->dmin)};
    for (int j = 0; j < 16; j++) {
        p->sc[j] = b->scales[j] & 15;
        p->mn[j] = b->scales[j] >> 4;
    }
    memset(code, 0, 256);
    get_pairs(code, b->qs, 0);
}

void nib_pack_q3_k(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q3_k *b = (nib_q3_k *)dst;
    memset(b->hmask, 0, sizeof b->hmask);
    memset(b->scales, 0, sizeof b->scales);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) b->hmask[l] |= (uint8_t)(code[32 * k + l] >> 2 << k);
    put_pairs(b->qs, code, 0);
    for (int j = 0; j < 16; j++) {
        int c = p->sc[j] + 32;
        b->scales[j & 7] |= (uint8_t)((c & 15) << (j & 8 ? 4 : 0));
        b->scales[8 + (j & 3)] |= (uint8_t)(c >> 4 << (j >> 2) * 2);
    }
    put_scale(b->d, p->d);
}

void nib_unpack_q3_k(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q3_k *b = (const nib_q3_k *)src;
    *p = (nib_block_param){.d = get_scale(b->d)};
    for (int j = 0; j < 16; j++) p->sc[j] = (int16_t)(nib_get_k3(b->scales, j) - 32);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) code[32 * k + l] = (uint8_t)((b->hmask[l] >> k & 1) << 2);
    get_pairs(code, b->qs, 0);
}

void nib_pack_q4_k(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q4_k *b = (nib_q4_k *)dst;
    put_scale(b->d, p->d);
    put_scale(b->dmin, p->dmin);
    put_k4_scales(b->scales, p);
    put_k4_nibbles(b->qs, code);
}

void nib_unpack_q4_k(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q4_k *b = (const nib_q4_k *)src;
    *p = (nib_block_param){.d = get_scale(b->d), .dmin = get_scale(b->dmin)};
    get_k4_scales(p, b->scales);
    get_k4_nibbles(code, b->qs);
}

void nib_pack_q5_k(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q5_k *b = (nib_q5_k *)dst;
    put_scale(b->d, p->d);
    put_scale(b->dmin, p->dmin);
    put_k4_scales(b->scales, p);
    memset(b->qh, 0, sizeof b->qh);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) b->qh[l] |= (uint8_t)(code[32 * k + l] >> 4 << k);
    put_k4_nibbles(b->qs, code);
}

void nib_unpack_q5_k(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q5_k *b = (const nib_q5_k *)src;
    *p = (nib_block_param){.d = get_scale(b->d), .dmin = get_scale(b->dmin)};
    get_k4_scales(p, b->scales);
    get_k4_nibbles(code, b->qs);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) code[32 * k + l] |= (uint8_t)((b->qh[l] >> k & 1) << 4);
}

void nib_pack_q6_k(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q6_k *b = (nib_q6_k *)dst;
    for (int n = 0; n < 2; n++)
        for (int l = 0; l < 64; l++)
            b->ql[64 * n + l] =
                (uint8_t)((code[128 * n + l] & 15) | (code[128 * n + 64 + l] & 15) << 4);
    put_pairs(b->qh, code, 4);
    for (int j = 0; j < 16; j++) b->scales[j] = (uint8_t)p->sc[j];
    put_scale(b->d, p->d);
}

void nib_unpack_q6_k(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_q6_k *b = (const nib_q6_k *)src;
    *p = (nib_block_param){.d = get_scale(b->d)};
    for (int j = 0; j < 16; j++) p->sc[j] = (int8_t)b->scales[j];
    for (int n = 0; n < 2; n++)
        for (int l = 0; l < 64; l++) {
            code[128 * n + l] = b->ql[64 * n + l] & 15;
            code[128 * n + 64 + l] = b->ql[64 * n + l] >> 4;
        }
    get_pairs(code, b->qh, 4);
}

void nib_pack_iq4_xs(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq4_xs *b = (nib_iq4_xs *)dst;
    uint16_t high = 0;
    memset(b->scales_l, 0, sizeof b->scales_l);
    for (int j = 0; j < 8; j++) {
        int c = p->sc[j] + 32;
        b->scales_l[j / 2] |= (uint8_t)((c & 15) << (j & 1) * 4);
        high |= (uint16_t)(c >> 4 << 2 * j);
        put_nibbles(b->qs + 16 * j, code + 32 * j);
    }
    put_scale(b->d, p->d);
    nib_put16(b->scales_h, high);
}

void nib_unpack_iq4_xs(nib_block_param *p, uint8_t *code, const uint8_t *src)
{
    const nib_iq4_xs *b = (const nib_iq4_xs *)src;
    *p = (nib_block_param){.d = get_scale(b->d)};
    for (int j = 0; j < 8; j++) {
        p->sc[j] = (int16_t)(nib_get_iq4(b, j) - 32);
        get_nibbles(code + 32 * j, b->qs + 16 * j);
    }
}

/* ---- one bit, two bits, three levels ---- */

void nib_pack_q1_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q1_0 *b = (nib_q1_0 *)dst;
    put_scale(b->d, p->d);
    memset(b->qs, 0, sizeof b->qs);
    for (int j = 0; j < 128; j++) b->qs[j / 8] |= (uint8_t)(code[j] << j % 8);
}

void nib_pack_q2_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_q2_0 *b = (nib_q2_0 *)dst;
    put_scale(b->d, p->d);
    memset(b->qs, 0, sizeof b->qs);
    for (int j = 0; j < 64; j++) b->qs[j / 4] |= (uint8_t)(code[j] << j % 4 * 2);
}

void nib_pack_tq2_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_tq2_0 *b = (nib_tq2_0 *)dst;
    put_pairs(b->qs, code, 0);
    put_scale(b->d, p->d);
}

/* Trits, the first the highest, as a fraction of 256 rounded up; code[] at distances of `stride`.
 */
static uint8_t put_trits(const uint8_t *code, int n, int stride)
{
    unsigned v = 0;
    for (int i = 0; i < 5; i++) v = 3 * v + (i < n ? code[i * stride] : 0);
    return (uint8_t)((v * 256 + 242) / 243);
}

void nib_pack_tq1_0(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_tq1_0 *b = (nib_tq1_0 *)dst;
    for (int m = 0; m < 32; m++) b->qs[m] = put_trits(code + m, 5, 32);
    for (int m = 0; m < 16; m++) b->qs[32 + m] = put_trits(code + 160 + m, 5, 16);
    for (int j = 0; j < 4; j++) b->qh[j] = put_trits(code + 240 + j, 4, 4);
    put_scale(b->d, p->d);
}

/* ---- 4-bit floats ---- */

void nib_pack_mxfp4(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_mxfp4 *b = (nib_mxfp4 *)dst;
    const uint32_t u = nib_f32_bits(p->d);
    b->e = (uint8_t)(u >= 0x00800000u ? (u >> 23) + 1 : u >= 0x00400000u);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(nib_e2m1_codes[code[j]] | nib_e2m1_codes[code[j + 16]] << 4);
}

void nib_pack_nvfp4(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_nvfp4 *b = (nib_nvfp4 *)dst;
    for (int s = 0; s < 4; s++, code += 16) {
        b->d[s] = (uint8_t)p->sc[s];
        for (int j = 0; j < 8; j++)
            b->qs[8 * s + j] =
                (uint8_t)(nib_e2m1_codes[code[j]] | nib_e2m1_codes[code[j + 8]] << 4);
    }
}
