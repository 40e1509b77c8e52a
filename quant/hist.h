/* SPDX-License-Identifier: MIT */
/* quant/hist.h - what a stream of values looks like, in one pass: extremes, their moving average,
 * and a histogram of the magnitudes whose range grows. Ranges are chosen from it (range.h).
 *
 * The first batch that is not zero fixes the width w of a bin, its max |x| / NIB_HIST_START. A
 * batch that goes further has bins of the same width appended; where that would make more than
 * NIB_HIST_MAX of them, pairs are merged until the range fits, so memory is bounded whatever comes.
 * Bin k counts k w <= |x| < (k + 1) w, to a rounding of |x| / w in f32; the last one its end too.
 * Counts are whole numbers: they do not depend on threads, nor on the order of batches that stay
 * within the first one's range. */
#ifndef NIB_QUANT_HIST_H
#define NIB_QUANT_HIST_H

#include "base/ctx.h"
#include "base/mem.h"

enum { NIB_HIST_START = 2048, NIB_HIST_MAX = 8 * NIB_HIST_START };

/* Smaller magnitudes count as zeros: nothing computes with them, and 1 / w must be finite. */
#define NIB_HIST_LEAST 0x1p-100f

/* Start with {0}. */
typedef struct {
    uint64_t values, batches;
    float lo, hi;            /* extremes, signed                                          */
    double mean_lo, mean_hi; /* their moving average: the first batch's, and from then on
                                mean += 0.01 (batch's - mean)                             */
    uint64_t *count;         /* [NIB_HIST_MAX] owned; zeros from n on                     */
    size_t n;                /* bins in use                                               */
    double width;            /* of a bin; 0 while there are only zeros, all of them bin 0's */
} nib_hist;

/* Add a batch x[rows][cols]; `work` is scratch that any number of histograms may share. Only the
 * moving average depends on how values are cut into batches. NIB_ENUMERIC, and nothing added, when
 * a value is NaN or infinite: says where. */
NIB_MUST_USE nib_code nib_hist_add(nib_hist *h, const float *x, size_t rows, size_t cols,
                                   nib_buf *work, const nib_ctx *ctx, nib_err *err);
void nib_hist_free(nib_hist *h); /* accepts {0} */

/* The inner loops, for a NIB_CPU_* mask: one source (hist_kern.c), compiled for each instruction
 * set, with the same results. */
typedef struct {
    /* Smallest and largest of x[n], n >= 1; false when one is NaN or infinite. */
    bool (*extremes)(const float *x, size_t n, float *lo, float *hi);
    /* For i < n: count[4 k + i % 4] += 1, k = |x[i]| * per_bin as a whole number, but at most
     * n_bins - 1. Four counters of a bin, because an increment of the one that was written just
     * before has to wait for it. */
    void (*count)(uint32_t *count, size_t n_bins, const float *x, size_t n, float per_bin);
} nib_hist_kern;

const nib_hist_kern *nib_hist_kern_get(unsigned cpu);

#endif
