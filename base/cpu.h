/* SPDX-License-Identifier: MIT */
/* base/cpu.h - what the processor can do.
 *
 * A mask of these flags selects kernels; 0 means plain C. Each level includes the ones before it:
 * a kernel file compiled for AVX-512 may assume AVX2. */
#ifndef NIB_BASE_CPU_H
#define NIB_BASE_CPU_H

#include "base/err.h"

enum {
    NIB_CPU_AVX2 = 1u << 0,   /* AVX2, FMA, F16C                   */
    NIB_CPU_AVX512 = 1u << 1, /* AVX-512 F, BW, DQ, VL             */
    NIB_CPU_VNNI = 1u << 2,   /* AVX-512 VNNI                      */
    NIB_CPU_BF16 = 1u << 3,   /* AVX-512 BF16                      */
};

/* The build of a kernel table that suits `cpu`: &name_avx512, &name_avx2 or &name_c. Kernels are
 * one source compiled for each instruction set (meson.build); without -Dsimd only plain C is there.
 */
#if NIB_HAVE_AVX512 && NIB_HAVE_AVX2
#define NIB_KERNELS(name, cpu)                                                                     \
    ((cpu)&NIB_CPU_AVX512 ? &name##_avx512 : (cpu)&NIB_CPU_AVX2 ? &name##_avx2 : &name##_c)
#else
#define NIB_KERNELS(name, cpu) ((void)(cpu), &name##_c)
#endif

/* Everything this processor (and its operating system) supports. */
unsigned nib_cpu_detect(void);

/* A mask from a name the user types: "c", "avx2", "avx512", "vnni", "native". NIB_EINVAL when the
 * name is unknown or the processor lacks it. */
NIB_MUST_USE nib_code nib_cpu_parse(unsigned *mask, const char *name, nib_err *err);

/* "avx512+vnni+bf16", "avx2" or "c"; a constant string. */
const char *nib_cpu_name(unsigned mask);

#endif
