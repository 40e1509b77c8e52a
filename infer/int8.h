/* SPDX-License-Identifier: MIT */
/* infer/int8.h - products of 8-bit integers, as engines for INT8 models compute them.
 *
 * A row of activations is rounded to codes under a scale and a zero point, x = (code - zero) *
 * scale; a weight is there as codes. Products of codes are summed exactly in 32 bits, so the result
 * does not depend on order, instruction set or threads. Both sides are stored as 16-bit integers
 * with the zero point already taken off, which is exact too: |code - zero| <= 255.
 *
 * One source (int8_kern.c), compiled for each instruction set. Kernels neither allocate nor
 * fail. */
#ifndef NIB_INFER_INT8_H
#define NIB_INFER_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NIB_INT8_OUTS = 32, /* outputs of a packed panel */
    /* Longest row: 255 * 128 * 65536 < 2^31, so no sum can overflow. */
    NIB_INT8_MAX_COLS = 1 << 16,
};

/* Columns are processed in pairs; rows of codes are this long, the last code 0 where n is odd. */
static inline size_t nib_int8_stride(size_t n)
{
    return (n + 1) & ~(size_t)1;
}

typedef struct {
    /* Smallest and largest of x[n] and 0. False when a value is NaN or infinite. */
    bool (*range)(float *lo, float *hi, const float *x, size_t n);

    /* code[stride(n)] = clamp(rint(x / scale) + zero, -128, 127) - zero, halves to even; scale > 0
     * or NaN, zero in -128 .. 127. What is NaN counts as very small. */
    void (*round)(int16_t *code, const float *x, size_t n, float scale, int zero);

    /* panel[stride(n) / 2][NIB_INT8_OUTS][2] from n_out <= NIB_INT8_OUTS rows w[n_out][n]; outputs
     * that are not there are 0. */
    void (*pack)(int16_t *panel, const int8_t *w, size_t n_out, size_t n);

    /* sum[rows][NIB_INT8_OUTS] = x[rows][stride] * panel, exactly. |x| <= 255, stride even and at
     * most NIB_INT8_MAX_COLS. */
    void (*product)(int32_t *sum, const int16_t *x, size_t rows, const int16_t *panel,
                    size_t stride);
} nib_int8;

/* The fastest set that `cpu` (NIB_CPU_*) allows. */
const nib_int8 *nib_int8_get(unsigned cpu);

#endif
