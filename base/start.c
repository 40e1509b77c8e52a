/* SPDX-License-Identifier: MIT */
/* base/start.c - see start.h. Tests: tests/cli/waiting.sh, tests/cli/kernels.sh. */
#define _XOPEN_SOURCE 700 /* setenv, readlink */
#include "base/start.h"

#include "base/cpu.h"
#include "base/linalg.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

void nib_start(char **argv, bool short_waits)
{
    char self[PATH_MAX];
    const char *wait = getenv("OMP_WAIT_POLICY") ? NULL : "passive";
    const char *core = getenv("OPENBLAS_CORETYPE") ? NULL : nib_linalg_wanted(nib_cpu_detect());
    const char *spin = wait && short_waits && !getenv("GOMP_SPINCOUNT") ? "1000" : NULL;
    if (!wait && !core) return;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || (wait && setenv("OMP_WAIT_POLICY", wait, 1)) ||
        (spin && setenv("GOMP_SPINCOUNT", spin, 1)) ||
        (core && setenv("OPENBLAS_CORETYPE", core, 1)))
        return;
    self[n] = 0;
    execv(self, argv);
}
