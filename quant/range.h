/* SPDX-License-Identifier: MIT */
/* quant/range.h - calibrators: the range that 8-bit integers should cover, from what was observed.
 *
 * Every method gives a threshold `amax` on |x| and a signed range; values outside are clipped. The
 * methods that go by the histogram of |x| (percentile, MSE, KL) clip the observed extremes to
 * -amax .. amax for the signed range. */
#ifndef NIB_QUANT_RANGE_H
#define NIB_QUANT_RANGE_H

#include "quant/hist.h"

typedef enum {
    NIB_RANGE_MINMAX,     /* the extremes; nothing is clipped                                   */
    NIB_RANGE_AVERAGE,    /* the moving average of the batches' extremes                        */
    NIB_RANGE_PERCENTILE, /* lower edge of the bin that brings the share of values to `percentile`,
                             but at least one bin's width                                       */
    NIB_RANGE_MSE,        /* the bin's middle, bin 128 or later, with the least sum of count *
                             (q(c) - c)^2 over the bins' middles c, q rounding to +/-127 steps  */
    NIB_RANGE_KL,         /* the width of k >= 128 bins with the least divergence, see below    */
    NIB_RANGE_METHODS
} nib_range_method;

/* The `percentile` that is usual. */
#define NIB_RANGE_PERCENT 99.99

/* "minmax", "average", "percentile", "mse", "kl"; NIB_RANGE_METHODS when there is none. */
const char *nib_range_method_name(nib_range_method m);
nib_range_method nib_range_method_find(const char *name);

/* A range, and the two 8-bit grids on it. */
typedef struct {
    float lo, hi;     /* signed, lo <= 0 <= hi, not both 0                             */
    float amax;       /* threshold on |x|, above 0                                     */
    float scale;      /* symmetric: x = scale * q, q = -127 .. 127, scale = amax / 127 */
    float asym_scale; /* asymmetric: x = asym_scale * (q - zero), q = -128 .. 127,     */
    int zero;         /* asym_scale = (hi - lo) / 255, zero = round(-128 - lo / asym_scale)    */
} nib_range;

/* The grids on -amax .. amax and lo .. hi, which is widened to hold 0. amax > 0, and lo or hi is
 * not 0. */
nib_range nib_range_make(float lo, float hi, float amax);

/* The range of what h has seen. `percentile`, between 0 and 100, serves the method of that name
 * alone. NIB_ENUMERIC when h has seen nothing, or only zeros. */
NIB_MUST_USE nib_code nib_range_find(nib_range *out, const nib_hist *h, nib_range_method method,
                                     double percentile, nib_err *err);

enum { NIB_RANGE_FIRST = 128 }; /* narrowest threshold that MSE and KL try, in bins */

/* The entropy calibrator's curve, as TensorRT defines it: divergence[k - 128] is that of clipping
 * at k bins, k = 128 .. n, from a histogram cut there to the same in 128 levels.
 * h is count[n] with h[0] = h[1] (zeros are exact anyhow). P is h's first k bins, all later counts
 * added to the last of them. Q spreads the counts of each of 128 equal stretches of these k bins
 * evenly over the stretch's bins that are not empty, without the later counts. The divergence is
 * sum p ln(p / q) of both normed to 1; infinite where Q is 0 and P is not. */
NIB_MUST_USE nib_code nib_range_kl_curve(double *divergence, const uint64_t *count, size_t n,
                                         nib_err *err);

#endif
