/* SPDX-License-Identifier: MIT */
/* quant/iq_pack.c - block formats with codebooks of vectors: parameters and codes of one block into
 * bytes.
 *
 * Codes are of single weights (quant/points.h); those of 8 or 4 neighbours are a point, whose
 * number is stored. Tests: tests/quant/test_codec.c, tests/quant/test_golden.c. */
#include "quant/ggml_block.h"

#include <assert.h>
#include <string.h>

const float nib_iq1_levels[6] = {-9, -7, -1, 1, 7, 9};
const float nib_iq2_levels[6] = {-43, -25, -8, 8, 25, 43};
const float nib_iq3_xxs_levels[16] = {-62, -52, -44, -36, -28, -20, -12, -4,
                                      4,   12,  20,  28,  36,  44,  52,  62};
const float nib_iq3_s_levels[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};

#define EIGHT(f, s) f(s), f(s + 1), f(s + 2), f(s + 3), f(s + 4), f(s + 5), f(s + 6), f(s + 7)
#define QUARTER(s) ((s) + 0.5f) / 4
#define HALF(s) ((s) + 0.5f) / 2
#define ODD(s) 2.0f * (s) + 1
#define EIGHTH(s) (2.0f * (s) + 1) / 8

const float nib_iq2_scales[16] = {EIGHT(QUARTER, 0), EIGHT(QUARTER, 8)};
const float nib_iq3_xxs_scales[16] = {EIGHT(HALF, 0), EIGHT(HALF, 8)};
const float nib_iq3_s_scales[16] = {EIGHT(ODD, 0), EIGHT(ODD, 8)};
const float nib_iq1_scales[16] = {EIGHT(EIGHTH, 0), EIGHT(EIGHTH, 0)};

/* ---- pieces ---- */

/* The number of the point that codes with signs are. */
static unsigned point_of(const nib_points *p, const uint8_t *code)
{
    unsigned packed = 0;
    for (int i = 0; i < p->dim; i++) {
        const int l = code[i] >= p->levels ? code[i] - p->levels : p->levels - 1 - code[i];
        packed |= (unsigned)l << p->bits * i;
    }
    assert(p->find[packed] >= 0);
    return (unsigned)p->find[packed];
}

/* The same of codes with shifts. */
static unsigned ternary_of(const uint8_t *code)
{
    unsigned packed = 0;
    for (int i = 0; i < 8; i++) packed |= (unsigned)(code[i] >> 1) << 2 * i;
    assert(nib_points_iq1.find[packed] >= 0);
    return (unsigned)nib_points_iq1.find[packed];
}

/* Which of 8 codes are negative. */
static unsigned signs_of(const nib_points *p, const uint8_t *code)
{
    unsigned s = 0;
    for (int i = 0; i < 8; i++) s |= (unsigned)(code[i] < p->levels) << i;
    return s;
}

static void put_d(uint8_t *dst, const nib_block_param *p)
{
    nib_put16(dst, nib_f32_to_f16(p->d));
}

/* Nibbles of neighbouring scales. */
static void put_scales(uint8_t *dst, const nib_block_param *p, int subs)
{
    for (int c = 0; c < subs / 2; c++) dst[c] = (uint8_t)(p->sc[2 * c] | p->sc[2 * c + 1] << 4);
}

/* The signs of 32 weights, in 7 bits for 8, and their scale. */
static void put_even_signs(uint8_t *dst, const nib_points *p, const uint8_t *code, int scale)
{
    uint32_t v = (uint32_t)scale << 28;
    for (int k = 0; k < 4; k++) v |= (uint32_t)(signs_of(p, code + 8 * k) & 127) << 7 * k;
    nib_put16(dst, (uint16_t)v);
    nib_put16(dst + 2, (uint16_t)(v >> 16));
}

/* ---- formats ---- */

void nib_pack_iq3_s(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq3_s *b = (nib_iq3_s *)dst;
    nib_points_ready();
    memset(b, 0, sizeof *b);
    put_d(b->d, p);
    put_scales(b->scales, p, 8);
    for (int k = 0; k < 64; k++) {
        const unsigned n = point_of(&nib_points_iq3_s, code + 4 * k);
        b->qs[k] = (uint8_t)n;
        b->qh[k / 8] |= (uint8_t)(n >> 8 << k % 8);
    }
    for (int m = 0; m < 32; m++) b->signs[m] = (uint8_t)signs_of(&nib_points_iq3_s, code + 8 * m);
}

void nib_pack_iq3_xxs(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq3_xxs *b = (nib_iq3_xxs *)dst;
    nib_points_ready();
    put_d(b->d, p);
    for (int k = 0; k < 64; k++) b->qs[k] = (uint8_t)point_of(&nib_points_iq3_xxs, code + 4 * k);
    for (int s = 0; s < 8; s++)
        put_even_signs(b->signs + 4 * s, &nib_points_iq3_xxs, code + 32 * s, p->sc[s]);
}

void nib_pack_iq2_s(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq2_s *b = (nib_iq2_s *)dst;
    nib_points_ready();
    memset(b, 0, sizeof *b);
    put_d(b->d, p);
    put_scales(b->scales, p, 16);
    for (int k = 0; k < 32; k++) {
        const unsigned n = point_of(&nib_points_iq2_s, code + 8 * k);
        b->qs[k] = (uint8_t)n;
        b->qh[k / 4] |= (uint8_t)(n >> 8 << k % 4 * 2);
        b->signs[k] = (uint8_t)signs_of(&nib_points_iq2_s, code + 8 * k);
    }
}

void nib_pack_iq2_xs(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq2_xs *b = (nib_iq2_xs *)dst;
    nib_points_ready();
    put_d(b->d, p);
    put_scales(b->scales, p, 16);
    for (int k = 0; k < 32; k++) {
        const unsigned n = point_of(&nib_points_iq2_xs, code + 8 * k);
        const unsigned signs = signs_of(&nib_points_iq2_xs, code + 8 * k) & 127;
        nib_put16(b->qs + 2 * k, (uint16_t)(n | signs << 9));
    }
}

void nib_pack_iq2_xxs(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq2_xxs *b = (nib_iq2_xxs *)dst;
    nib_points_ready();
    put_d(b->d, p);
    for (int s = 0; s < 8; s++, code += 32) {
        uint8_t *q = b->qs + 8 * s;
        for (int v = 0; v < 4; v++) q[v] = (uint8_t)point_of(&nib_points_iq2_xxs, code + 8 * v);
        put_even_signs(q + 4, &nib_points_iq2_xxs, code, p->sc[s]);
    }
}

void nib_pack_iq1_s(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq1_s *b = (nib_iq1_s *)dst;
    nib_points_ready();
    put_d(b->d, p);
    for (int s = 0; s < 8; s++) {
        unsigned h = (unsigned)p->sc[s] << 12; /* bit 3 of the code: the shift */
        for (int v = 0; v < 4; v++) {
            const unsigned n = ternary_of(code + 32 * s + 8 * v);
            b->qs[4 * s + v] = (uint8_t)n;
            h |= n >> 8 << 3 * v;
        }
        nib_put16(b->qh + 2 * s, (uint16_t)h);
    }
}

void nib_pack_iq1_m(uint8_t *dst, const nib_block_param *p, const uint8_t *code)
{
    nib_iq1_m *b = (nib_iq1_m *)dst;
    const unsigned d = nib_f32_to_f16(p->d);
    nib_points_ready();
    memset(b, 0, sizeof *b);
    for (int k = 0; k < 32; k++) {
        const unsigned n = ternary_of(code + 8 * k), minus = !(code[8 * k] & 1);
        b->qs[k] = (uint8_t)n;
        b->qh[k / 2] |= (uint8_t)((n >> 8 | minus << 3) << k % 2 * 4);
    }
    for (int t = 0; t < 4; t++) {
        unsigned v = (d >> 4 * t & 15) << 12;
        for (int c = 0; c < 4; c++) v |= (unsigned)p->sc[4 * t + c] << 3 * c;
        nib_put16(b->scales + 2 * t, (uint16_t)v);
    }
}
