/* SPDX-License-Identifier: MIT */
/* quant/range.c - see range.h. */
#include "quant/range.h"

#include <math.h>
#include <string.h>

enum {
    LEVELS = 127, /* of the symmetric grid on each side */
    KL_LEVELS = 128
};

static const char *const names[NIB_RANGE_METHODS] = {"minmax", "average", "percentile", "mse",
                                                     "kl"};

const char *nib_range_method_name(nib_range_method m)
{
    return names[m];
}

nib_range_method nib_range_method_find(const char *name)
{
    int m = 0;
    while (m < NIB_RANGE_METHODS && strcmp(names[m], name) != 0) m++;
    return (nib_range_method)m;
}

nib_range nib_range_make(float lo, float hi, float amax)
{
    nib_range r = {.lo = fminf(lo, 0), .hi = fmaxf(hi, 0), .amax = amax, .scale = amax / LEVELS};
    const double step = ((double)r.hi - (double)r.lo) / 255;
    r.asym_scale = (float)step;
    r.zero = (int)nearbyint(-128 - (double)r.lo / step);
    return r;
}

/* ---- thresholds from the histogram ---- */

/* Shares are added up as the reference adds them: where a share is the percentile exactly, rounding
 * decides, and decides the same. */
static double percentile_threshold(const nib_hist *h, double percentile)
{
    double share = 0;
    size_t k = 0;
    while (k < h->n && (share += (double)h->count[k] / (double)h->values) < percentile / 100) k++;
    return (double)(k ? k : 1) * h->width;
}

/* Nearest whole number, ties to even, for |x| < 2^51. */
static double whole(double x)
{
    return (x + 0x1.8p52) - 0x1.8p52;
}

/* Middle of bin k, in units of half bins: whole numbers, so all sums of this file are free of the
 * bins' width. */
static double middle(size_t k)
{
    return (double)(2 * k + 1);
}

/* Sum of count * (q(c) - c)^2 over the n bins that are not empty, for the threshold amax. */
static double square_error(const double *c, const double *count, size_t n, double amax)
{
    const double step = amax / LEVELS, per_step = LEVELS / amax;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double q = whole(c[i] * per_step);
        double e = (q < LEVELS ? q : LEVELS) * step - c[i];
        sum += count[i] * e * e;
    }
    return sum;
}

static nib_code mse_threshold(double *amax, const nib_hist *h, nib_err *err)
{
    double *c = nib_alloc(h->n, 2 * sizeof *c), least = INFINITY;
    size_t n = 0, best = h->n - 1;
    if (!c) return nib_fail_nomem(err, "the calibrator");
    double *count = c + h->n;
    for (size_t k = 0; k < h->n; k++) {
        if (!h->count[k]) continue;
        c[n] = middle(k);
        count[n++] = (double)h->count[k];
    }
    for (size_t k = NIB_RANGE_FIRST; k < h->n; k++) {
        double error = square_error(c, count, n, middle(k));
        if (error < least) least = error, best = k;
    }
    nib_free(c);
    *amax = middle(best) / 2 * h->width;
    return NIB_OK;
}

/* ---- KL ---- */

/* Sums over the bins before k, so that those of a stretch are a difference. */
typedef struct {
    double count, not_empty, c_ln_c;
} before;

static double x_ln_x(double x)
{
    return x > 0 ? x * log(x) : 0;
}

static void add_up(before *sum, const uint64_t *count, size_t n)
{
    sum[0] = (before){0};
    for (size_t k = 0; k < n; k++) {
        double c = (double)count[k ? k : 1];
        sum[k + 1] =
            (before){sum[k].count + c, sum[k].not_empty + (c > 0), sum[k].c_ln_c + x_ln_x(c)};
    }
}

/* With T and S the sums of P and Q: sum p ln(p / q) = (sum P ln P - sum P ln Q) / T - ln(T / S). In
 * a stretch Q is one number where P is not 0, so its part of sum P ln Q takes one logarithm. */
static double divergence_of(const before *sum, size_t k, double total)
{
    const double kept = sum[k].count, clipped = total - kept, last = kept - sum[k - 1].count;
    double cross = 0;
    if (last == 0 && clipped > 0) return INFINITY;
    for (size_t level = 0, begin = 0, end; level < KL_LEVELS; level++, begin = end) {
        end = ((level + 1) * k + KL_LEVELS - 1) / KL_LEVELS;
        double c = sum[end].count - sum[begin].count;
        double bins = sum[end].not_empty - sum[begin].not_empty;
        if (c > 0) cross += (level + 1 < KL_LEVELS ? c : c + clipped) * log(c / bins);
    }
    return (sum[k - 1].c_ln_c + x_ln_x(last + clipped) - cross) / total - log(total / kept);
}

nib_code nib_range_kl_curve(double *divergence, const uint64_t *count, size_t n, nib_err *err)
{
    before *sum = nib_alloc(n + 1, sizeof *sum);
    if (!sum) return nib_fail_nomem(err, "the calibrator");
    add_up(sum, count, n);
    for (size_t k = NIB_RANGE_FIRST; k <= n; k++)
        divergence[k - NIB_RANGE_FIRST] = divergence_of(sum, k, sum[n].count);
    nib_free(sum);
    return NIB_OK;
}

static nib_code kl_threshold(double *amax, const nib_hist *h, nib_err *err)
{
    double *d = nib_alloc(h->n, sizeof *d);
    size_t best = h->n;
    if (!d) return nib_fail_nomem(err, "the calibrator");
    nib_code rc = nib_range_kl_curve(d, h->count, h->n, err);
    for (size_t k = h->n - 1; k >= NIB_RANGE_FIRST && !rc; k--)
        if (d[k - NIB_RANGE_FIRST] < d[best - NIB_RANGE_FIRST]) best = k;
    nib_free(d);
    *amax = (double)best * h->width;
    return rc;
}

/* ---- all of them ---- */

static nib_range clip(const nib_hist *h, double amax)
{
    const float a = (float)amax;
    return nib_range_make(fmaxf(h->lo, -a), fminf(h->hi, a), a);
}

static nib_range averaged(const nib_hist *h)
{
    const float lo = (float)h->mean_lo, hi = (float)h->mean_hi;
    return nib_range_make(lo, hi, fmaxf(fabsf(lo), fabsf(hi)));
}

nib_code nib_range_find(nib_range *out, const nib_hist *h, nib_range_method method,
                        double percentile, nib_err *err)
{
    nib_code rc = NIB_OK;
    double amax = fmax(fabs((double)h->lo), fabs((double)h->hi));
    *out = (nib_range){0};
    if (!h->values)
        return nib_fail(err, NIB_ENUMERIC, "no data were observed, so there is no range");
    if (h->width == 0)
        return nib_fail(err, NIB_ENUMERIC, "only zeros were observed, so there is no scale");
    if (method == NIB_RANGE_PERCENTILE) amax = percentile_threshold(h, percentile);
    if (method == NIB_RANGE_MSE) rc = mse_threshold(&amax, h, err);
    if (method == NIB_RANGE_KL) rc = kl_threshold(&amax, h, err);
    if (rc) return rc;
    *out = method == NIB_RANGE_AVERAGE ? averaged(h) : clip(h, amax);
    return NIB_OK;
}
