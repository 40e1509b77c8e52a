/* SPDX-License-Identifier: MIT */
/* infer/int8.c - which build of int8_kern.c to use. */
#include "infer/int8.h"

#include "base/cpu.h"

extern const nib_int8 nib_int8_c, nib_int8_avx2, nib_int8_avx512, nib_int8_vnni;

const nib_int8 *nib_int8_get(unsigned cpu)
{
#if NIB_HAVE_AVX512
    if (cpu & NIB_CPU_VNNI) return &nib_int8_vnni;
#endif
    return NIB_KERNELS(nib_int8, cpu);
}
