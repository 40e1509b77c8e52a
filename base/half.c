/* SPDX-License-Identifier: MIT */
/* base/half.c - 8-bit floats. */
#include "base/half.h"

#include <math.h>

float nib_f8_e4m3_to_f32(uint8_t b)
{
    int exp = b >> 3 & 15, man = b & 7;
    float mag = exp ? ldexpf((float)(8 + man), exp - 10) : ldexpf((float)man, -9);
    if (exp == 15 && man == 7) mag = NAN;
    return b & 0x80 ? -mag : mag;
}

float nib_f8_e5m2_to_f32(uint8_t b)
{
    return nib_f16_to_f32((uint16_t)(b << 8));
}
