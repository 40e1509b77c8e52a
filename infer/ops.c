/* SPDX-License-Identifier: MIT */
/* infer/ops.c - which build of ops_kern.c to use. */
#include "infer/ops.h"

#include "base/cpu.h"

extern const nib_ops nib_ops_c, nib_ops_avx2, nib_ops_avx512;

const nib_ops *nib_ops_get(unsigned cpu)
{
    return NIB_KERNELS(nib_ops, cpu);
}
