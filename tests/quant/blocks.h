/* SPDX-License-Identifier: MIT */
/* tests/quant/blocks.h - weights to try codecs with: ordinary and awkward. */
#ifndef NIB_TESTS_QUANT_BLOCKS_H
#define NIB_TESTS_QUANT_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    BLOCK_NORMAL,
    BLOCK_HEAVY,    /* cubes: a few large, many small      */
    BLOCK_POSITIVE, /* no sign                             */
    BLOCK_CONSTANT,
    BLOCK_CONSTANT_NEGATIVE,
    BLOCK_ZERO,
    BLOCK_HUGE,     /* scales beyond f16                   */
    BLOCK_TINY,     /* scales that f16 rounds to 0         */
    BLOCK_DENORMAL, /* f32 denormals                       */
    BLOCK_OUTLIER,  /* one value a thousand times the rest */
    BLOCK_NARROW,   /* far from 0, close together          */
    BLOCK_SIGNS,    /* +-0.5, and zeros of both signs      */
    BLOCK_KINDS
} block_kind;

/* In -1 .. 1, about normal. */
static inline float noise(uint32_t *state)
{
    float x = 0;
    for (int k = 0; k < 4; k++) {
        *state = 1664525u * *state + 1013904223u;
        x += (float)(*state >> 8) / 8388608.0f - 1;
    }
    return x / 4;
}

static inline void fill_block(float *w, size_t n, block_kind kind, uint32_t *state)
{
    for (size_t i = 0; i < n; i++) {
        float x = noise(state);
        switch (kind) {
        case BLOCK_NORMAL: w[i] = x; break;
        case BLOCK_HEAVY: w[i] = x * x * x; break;
        case BLOCK_POSITIVE: w[i] = x < 0 ? -x : x; break;
        case BLOCK_CONSTANT: w[i] = 0.7f; break;
        case BLOCK_CONSTANT_NEGATIVE: w[i] = -0.7f; break;
        case BLOCK_HUGE: w[i] = x * 1e9f; break;
        case BLOCK_TINY: w[i] = x * 1e-9f; break;
        case BLOCK_DENORMAL: w[i] = x * 1e-41f; break;
        case BLOCK_OUTLIER: w[i] = i == n / 3 ? 10 : x * 0.01f; break;
        case BLOCK_NARROW: w[i] = 100 + x * 1e-3f; break;
        case BLOCK_SIGNS: w[i] = x < -0.2f ? -0.5f : x < 0 ? -0.0f : x < 0.2f ? 0 : 0.5f; break;
        default: w[i] = 0; break;
        }
    }
}

/* Importances between 0.01 and about 20. */
static inline void fill_importance(float *imp, size_t n, uint32_t *state)
{
    for (size_t i = 0; i < n; i++) {
        float x = 1 + noise(state);
        imp[i] = 0.01f + x * x * x * x;
    }
}

#endif
