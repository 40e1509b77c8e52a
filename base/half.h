/* SPDX-License-Identifier: MIT */
/* base/half.h - 16-bit and 8-bit floats, bit exact, and rounding rules by name.
 *
 * f32 -> f16 and f32 -> bf16 round to nearest, ties to even, keep subnormals and overflow to
 * infinity. A NaN becomes sign | 0x7E00 (f16) or keeps its top bits with the quiet bit set (bf16).
 * The other direction is exact. */
#ifndef NIB_BASE_HALF_H
#define NIB_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t nib_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float nib_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float nib_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 1023u;
    if (exp == 31) return nib_f32_from_bits(sign | 0x7F800000u | man << 13);
    if (exp) return nib_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float sub = (float)man * 0x1p-24f;
    return nib_f32_from_bits(sign | nib_f32_bits(sub));
}

static inline uint16_t nib_f32_to_f16(float x)
{
    uint32_t u = nib_f32_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);
    if (a >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* rounds to 65536 or is infinite */
    if (a >= 0x38800000u) {                                  /* normal in f16 */
        uint32_t r = a + 0xFFFu + (a >> 13 & 1u) - (112u << 23);
        return (uint16_t)(sign | r >> 13);
    }
    /* Adding 0.5 aligns the value so that f32 addition itself rounds at the f16 subnormal step. */
    float v = nib_f32_from_bits(a) + 0.5f;
    return (uint16_t)(sign | (nib_f32_bits(v) - 0x3F000000u));
}

static inline float nib_bf16_to_f32(uint16_t h)
{
    return nib_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t nib_f32_to_bf16(float x)
{
    uint32_t u = nib_f32_bits(x);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

/* OCP 8-bit floats. E4M3 is the "fn" variant: no infinities, 0x7F and 0xFF are NaN. */
float nib_f8_e4m3_to_f32(uint8_t b);
float nib_f8_e5m2_to_f32(uint8_t b);

/* Nearest integer, ties to even; valid for |x| <= 4194303. */
static inline int32_t nib_round_even(float x)
{
    float v = x + 12582912.0f;
    return (int32_t)(nib_f32_bits(v) & 0x007FFFFFu) - 0x00400000;
}

#endif
