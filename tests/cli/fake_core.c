/* SPDX-License-Identifier: MIT */
/* tests/cli/fake_core.c - preloaded: OpenBLAS took the oldest kernels, unless the environment names
 * others. */
#include <stdlib.h>

char *openblas_get_corename(void);

char *openblas_get_corename(void)
{
    static char oldest[] = "Prescott";
    char *named = getenv("OPENBLAS_CORETYPE");
    return named ? named : oldest;
}
