/* SPDX-License-Identifier: MIT */
/* infer/vec.h - a register of floats or of integers.
 *
 * Private to the kernel files of infer/, which are compiled once per instruction set; NIB_ISA is
 * its name, c for plain C. Vectors of the compiler's own kind, as wide as the registers: every
 * operation acts on each lane as the scalar operation would. Work goes in blocks of 16 floats
 * whatever the width, and a tail is computed on a padded copy, so all builds agree bit for bit. */
#ifndef NIB_INFER_VEC_H
#define NIB_INFER_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef NIB_ISA
#define NIB_ISA c
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX2__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
enum { W = WIDTH, BLOCK = 16 }; /* floats of a register, of a block */
typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));

static inline vf load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

static inline vf pick(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* The n < BLOCK values at p, and `fill` after them. */
static inline void pad(float t[BLOCK], const float *p, size_t n, float fill)
{
    for (size_t i = 0; i < BLOCK; i++) t[i] = i < n ? p[i] : fill;
}

#endif
