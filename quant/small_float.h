/* SPDX-License-Identifier: MIT */
/* quant/small_float.h - floats of 4 and 8 bits without infinities: E2M1 (OCP Microscaling Formats,
 * 2023) and E4M3 (OCP 8-bit Floating Point, 2023).
 *
 * Their values are counted in ascending order, a place for each: magnitude number m, which is the
 * code's bits below the sign, is at half - 1 - m below zero and half + m above it. Both zeros have
 * one. The functions are for loops that compilers vectorize. */
#ifndef NIB_QUANT_SMALL_FLOAT_H
#define NIB_QUANT_SMALL_FLOAT_H

#include "base/half.h"

typedef struct {
    uint32_t mantissa; /* bits of it                                     */
    int32_t least;     /* exponent of the smallest normal value          */
    float top;         /* the largest value                              */
    int32_t half;      /* magnitudes, zero too: half of all places       */
} nib_small_float;

extern const nib_small_float nib_e4m3, nib_e2m1;

/* The nearest value, of two the one whose last bit is 0; magnitudes above the largest become that
 * one. The sign stays, of zeros too. Adding a power of two whose unit in the last place is the
 * step of the small float lets f32 addition round. NaN becomes the largest. */
static inline float nib_small_round(const nib_small_float *f, float x)
{
    const uint32_t u = nib_f32_bits(x), sign = u & 0x80000000u;
    const uint32_t least = (uint32_t)(f->least + 127) << 23;
    float a = nib_f32_from_bits(u ^ sign);
    a = a < f->top ? a : f->top;
    const uint32_t e = nib_f32_bits(a) & 0x7F800000u;
    const float step = nib_f32_from_bits((e > least ? e : least) + ((23 - f->mantissa) << 23));
    return nib_f32_from_bits(nib_f32_bits((a + step) - step) | sign);
}

/* Where a value of the float is among all of them. */
static inline int nib_small_place(const nib_small_float *f, float x)
{
    const uint32_t u = nib_f32_bits(x), a = u & 0x7FFFFFFFu;
    const uint32_t least = (uint32_t)(f->least + 127) << 23;
    const int32_t below =
        (int32_t)(nib_f32_from_bits(a) *
                  nib_f32_from_bits((uint32_t)(127 + (int32_t)f->mantissa - f->least) << 23));
    const int32_t normal =
        (int32_t)(a >> (23 - f->mantissa)) - (int32_t)((uint32_t)(f->least + 126) << f->mantissa);
    const int32_t m = a < least ? below : normal;
    return u >> 31 ? f->half - 1 - m : f->half + m;
}

/* The code at a place, its sign above the magnitude's bits, of which there are `bits`. */
static inline uint8_t nib_small_code(const nib_small_float *f, int place, int bits)
{
    return (uint8_t)(place >= f->half ? place - f->half : (f->half - 1 - place) | 1 << bits);
}

#endif
