/* SPDX-License-Identifier: MIT */
/* tests/quant/cpus.h - the kernel masks that a test goes through.
 *
 * A mask that this processor lacks is skipped by name, never passed. */
#ifndef NIB_TESTS_QUANT_CPUS_H
#define NIB_TESTS_QUANT_CPUS_H

#include "base/cpu.h"

#include <stddef.h>

static const unsigned test_cpus[] = {0, NIB_CPU_AVX2, NIB_CPU_AVX2 | NIB_CPU_AVX512};
enum { TEST_CPUS = sizeof test_cpus / sizeof *test_cpus };

static inline int test_cpu_missing(unsigned mask)
{
    return (mask & ~nib_cpu_detect()) != 0;
}

#endif
