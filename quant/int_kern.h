/* SPDX-License-Identifier: MIT */
/* quant/int_kern.h - the inner loops of the searches for scales. Private to quant/.
 *
 * One source, int_kern.c, is compiled once per instruction set. A lane holds a trial, not a weight,
 * so every sum runs in the order of the weights and does not depend on the instruction set. */
#ifndef NIB_QUANT_INT_KERN_H
#define NIB_QUANT_INT_KERN_H

#include <stddef.h>

enum { NIB_INT_TRIALS = 16 }; /* scales tried at once */

/* With the levels l = round(x / step), held within low .. high, and e = x - step l: sums over the
 * weights, for each trial. The scale step + el / ll is then the best for these levels, with the
 * error ee - el^2 / ll, which is small and a difference of small numbers. */
typedef struct {
    float ee[NIB_INT_TRIALS]; /* of w e e */
    float el[NIB_INT_TRIALS]; /* of w e l */
    float ll[NIB_INT_TRIALS]; /* of w l l */
} nib_int_sums;

enum { NIB_LADDER_MOST = 16 };

/* Ascending levels; from `middle` on a number is nearer to a level than to the one before it. */
typedef struct {
    float level[NIB_LADDER_MOST], middle[NIB_LADDER_MOST], top; /* top: the largest magnitude */
    int n;
} nib_ladder;

/* With the nearest level l of each weight to x / D: sums for each trial. */
typedef struct {
    float xl[NIB_INT_TRIALS]; /* of w x l          */
    float ll[NIB_INT_TRIALS]; /* of w l l          */
    float ee[NIB_INT_TRIALS]; /* of w (x - D l)^2  */
} nib_ladder_sums;

typedef struct {
    /* x[n]; w[n] >= 0, NULL: all 1; step[NIB_INT_TRIALS] of either sign. */
    void (*try_steps)(nib_int_sums *s, const float *x, const float *w, size_t n, const float *step,
                      float low, float high);
    /* x[n], w[n] >= 0; D[NIB_INT_TRIALS], where it is not above 0 every x / D is 0. */
    void (*try_ladder)(nib_ladder_sums *s, const nib_ladder *v, const float *x, const float *w,
                       size_t n, const float *D);
} nib_int_kern;

/* The table for a NIB_CPU_* mask. */
const nib_int_kern *nib_int_kern_get(unsigned cpu);

#endif
