/* SPDX-License-Identifier: MIT */
/* base/start.h - what libraries must be told before they are loaded. */
#ifndef NIB_BASE_START_H
#define NIB_BASE_START_H

#include <stdbool.h>

/* The first thing a program does. OpenMP and OpenBLAS read the environment when they are loaded, so
 * where something must be said there the program starts anew with that said, once. What the user
 * has said stays. Where it cannot start anew, it goes on as it is.
 *
 * OMP_WAIT_POLICY: OpenMP's threads keep their processors busy while they wait, which takes them
 * from other work: two runs at a time, with as many threads each as there are processors, took
 * twice as long and more. Alone a run is no slower when they sleep, unless its loops are many and
 * short: a token is some hundreds of a few microseconds. With short_waits threads stay awake for
 * some ten microseconds before they sleep (GOMP_SPINCOUNT).
 *
 * OPENBLAS_CORETYPE: where OpenBLAS chose kernels that are not the processor's best
 * (base/linalg.h). */
void nib_start(char **argv, bool short_waits);

#endif
