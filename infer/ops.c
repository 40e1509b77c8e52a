/* SPDX-License-Identifier: MIT */
/* infer/ops.c - which build of ops_kern.c to use. */
#include "infer/ops.h"

#include "base/cpu.h"

extern const nib_ops nib_ops_c, nib_ops_avx2, nib_ops_avx512;

const nib_ops *nib_ops_get(unsigned cpu)
{
#ifdef NIB_HAVE_AVX512
    if (cpu & NIB_CPU_AVX512) return &nib_ops_avx512;
#endif
#ifdef NIB_HAVE_AVX2
    if (cpu & NIB_CPU_AVX2) return &nib_ops_avx2;
#endif
    (void)cpu;
    return &nib_ops_c;
}
