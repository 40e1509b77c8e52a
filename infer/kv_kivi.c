/* SPDX-License-Identifier: MIT */
/* infer/kv_kivi.c - see kv_kivi.h.
 *
 * Values: for each 32 channels scale, minimum, codes. Keys: for each 32 channels their scales,
 * their minimums, and codes token by token. 32 codes of b bits lie in 4 b bytes: byte i has codes
 * i, i + 4 b, i + 8 b ..., the first in its lowest bits. */
#include "infer/kv_kivi.h"

#include "base/half.h"

#include <math.h>

enum { GROUP = NIB_KIVI_GROUP };

static void put_half(uint8_t *to, float x)
{
    const uint16_t h = nib_f32_to_f16(x);
    to[0] = (uint8_t)h, to[1] = (uint8_t)(h >> 8);
}

static float get_half(const uint8_t *from)
{
    return nib_f16_to_f32((uint16_t)(from[0] | from[1] << 8));
}

size_t nib_kivi_head_bytes(unsigned bits, size_t dim)
{
    return dim / GROUP * (4 + 4 * bits);
}

/* Codes, by the scale before it is rounded to F16. */
static void round_group(unsigned bits, uint8_t code[GROUP], uint8_t *scale, uint8_t *min,
                        const float x[GROUP])
{
    const float top = (float)((1u << bits) - 1);
    float lo = x[0], hi = x[0];
    int finite = 1;
    for (size_t i = 0; i < GROUP; i++) {
        finite &= isfinite(x[i]) != 0;
        lo = x[i] < lo ? x[i] : lo, hi = x[i] > hi ? x[i] : hi;
    }
    const float s = finite ? (hi - lo) / top : NAN;
    put_half(scale, s);
    put_half(min, lo);
    for (size_t i = 0; i < GROUP; i++)
        code[i] = s > 0 ? (uint8_t)rintf(fminf(fmaxf((x[i] - lo) / s, 0), top)) : 0;
}

static void pack(unsigned bits, uint8_t *to, const uint8_t code[GROUP])
{
    const size_t n = 4 * bits;
    for (size_t i = 0; i < n; i++) to[i] = 0;
    for (size_t i = 0; i < GROUP; i++) to[i % n] |= (uint8_t)(code[i] << bits * (i / n));
}

static void unpack(unsigned bits, float code[GROUP], const uint8_t *from)
{
    const size_t n = 4 * bits;
    const unsigned mask = (1u << bits) - 1;
    for (unsigned k = 0; k < 8; k += bits, code += n)
        for (size_t i = 0; i < n; i++) code[i] = (float)(from[i] >> k & mask);
}

void nib_kivi_encode(unsigned bits, uint8_t *to, const float *x, size_t dim)
{
    for (size_t c = 0; c < dim; c += GROUP, to += 4 + 4 * bits) {
        uint8_t code[GROUP];
        round_group(bits, code, to, to + 2, x + c);
        pack(bits, to + 4, code);
    }
}

void nib_kivi_decode(unsigned bits, float *to, const uint8_t *from, size_t dim)
{
    for (size_t c = 0; c < dim; c += GROUP, from += 4 + 4 * bits) {
        const float scale = get_half(from), min = get_half(from + 2);
        float code[GROUP];
        unpack(bits, code, from + 4);
        for (size_t i = 0; i < GROUP; i++) to[c + i] = code[i] * scale + min;
    }
}

void nib_kivi_encode_keys(unsigned bits, uint8_t *to, const float *const *token, size_t dim)
{
    for (size_t c = 0; c < dim; c += GROUP) {
        uint8_t code[GROUP][GROUP]; /* [token][channel] */
        for (size_t k = 0; k < GROUP; k++) {
            float x[GROUP];
            uint8_t of[GROUP];
            for (size_t i = 0; i < GROUP; i++) x[i] = token[i][c + k];
            round_group(bits, of, to + 2 * k, to + 2 * (GROUP + k), x);
            for (size_t i = 0; i < GROUP; i++) code[i][k] = of[i];
        }
        to += 4 * GROUP;
        for (size_t i = 0; i < GROUP; i++, to += 4 * bits) pack(bits, to, code[i]);
    }
}

void nib_kivi_decode_keys(unsigned bits, float *to, const uint8_t *from, size_t first, size_t n,
                          size_t dim)
{
    for (size_t c = 0; c < dim; c += GROUP, from += (4 + 4 * bits) * GROUP) {
        float scale[GROUP], min[GROUP], code[GROUP];
        for (size_t k = 0; k < GROUP; k++)
            scale[k] = get_half(from + 2 * k), min[k] = get_half(from + 2 * (GROUP + k));
        for (size_t i = 0; i < n; i++) {
            unpack(bits, code, from + 4 * GROUP + (first + i) * 4 * bits);
            for (size_t k = 0; k < GROUP; k++) to[i * dim + c + k] = code[k] * scale[k] + min[k];
        }
    }
}
