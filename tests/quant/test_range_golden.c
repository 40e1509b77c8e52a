/* SPDX-License-Identifier: MIT */
/* Calibrators against other implementations: thresholds, the whole divergence curve, running
 * extremes.
 *
 * Files: tests/golden/calib_hist (see its README). */
#include "base/cpu.h"
#include "base/json.h"
#include "formats/source.h"
#include "quant/range.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BINS = NIB_HIST_START, CURVE = BINS - NIB_RANGE_FIRST + 1 };

static const char *golden_dir;
static nib_err err;

/* ---- files ---- */

static nib_source *open_vector(const char *name)
{
    char path[512];
    nib_source *s;
    snprintf(path, sizeof path, "%s/%s.safetensors", golden_dir, name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

static void read_tensor(const nib_source *s, const char *name, void *to, size_t bytes)
{
    const nib_tensor *t = nib_source_find(s, name);
    assert_non_null(t);
    assert_int_equal(t->bytes, bytes);
    if (nib_source_read(s, t, 0, to, bytes, &err)) fail_msg("%s", err.msg);
}

static nib_json *read_notes(const char *name)
{
    char path[512];
    nib_json *j;
    snprintf(path, sizeof path, "%s/%s.json", golden_dir, name);
    if (nib_json_load(&j, path, 1 << 20, &err)) fail_msg("%s", err.msg);
    return j;
}

static double number(const nib_json *j, const char *key)
{
    double x = 0;
    if (!nib_json_num(nib_json_get(j, key), &x)) fail_msg("no number '%s' in the notes", key);
    return x;
}

static nib_hist read_hist(const nib_source *s)
{
    static int32_t count[BINS];
    static float edge[BINS + 1];
    read_tensor(s, "counts", count, sizeof count);
    read_tensor(s, "edges", edge, sizeof edge);
    nib_hist h = {.batches = 1,
                  .n = BINS,
                  .hi = edge[BINS],
                  .width = (double)edge[BINS] / BINS,
                  .count = nib_calloc(NIB_HIST_MAX, sizeof *h.count)};
    assert_non_null(h.count);
    for (size_t k = 0; k < BINS; k++) {
        h.count[k] = (uint64_t)count[k];
        h.values += h.count[k];
    }
    return h;
}

/* ---- histograms ---- */

/* The reference's edges are f32, ours k * width in f64: a millionth of the range apart at most,
 * where a bin is five ten-thousandths. */
static void expect_threshold(const nib_hist *h, nib_range_method m, double percentile, double want)
{
    nib_range r;
    if (nib_range_find(&r, h, m, percentile, &err)) fail_msg("%s", err.msg);
    if (fabs((double)r.amax - want) > 1e-6 * (double)h->hi)
        fail_msg("%s %g: %.9g, bin %.2f, should be %.9g, bin %.2f", nib_range_method_name(m),
                 percentile, (double)r.amax, (double)r.amax / h->width, want, want / h->width);
}

/* Relative to 1e-9, as the notes say. */
static void expect_curve(const nib_hist *h, const nib_source *s)
{
    static double want[CURVE], got[CURVE];
    read_tensor(s, "kl_divergence", want, sizeof want);
    if (nib_range_kl_curve(got, h->count, h->n, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < CURVE; i++) {
        if (isinf(want[i]) && isinf(got[i])) continue;
        if (!(fabs(got[i] - want[i]) <= 1e-9 * want[i]))
            fail_msg("divergence at %zu bins is %.17g, should be %.17g", i + NIB_RANGE_FIRST,
                     got[i], want[i]);
    }
}

static void thresholds(void **state)
{
    static const char *const percentile[] = {"99.0", "99.9", "99.99", "99.999", "100.0"};
    const char *name = *state;
    nib_source *s = open_vector(name);
    nib_json *notes = read_notes(name);
    const nib_json *want = nib_json_get(notes, "expected");
    nib_hist h = read_hist(s);
    expect_curve(&h, s);
    expect_threshold(&h, NIB_RANGE_KL, 0, number(want, "kl_amax"));
    expect_threshold(&h, NIB_RANGE_MSE, 0, number(want, "mse_amax_8bit"));
    for (size_t i = 0; i < sizeof percentile / sizeof *percentile; i++)
        expect_threshold(&h, NIB_RANGE_PERCENTILE, atof(percentile[i]),
                         number(nib_json_get(want, "percentile_amax"), percentile[i]));
    nib_hist_free(&h);
    nib_json_free(notes);
    nib_source_close(s);
}

/* ---- running extremes ---- */

static void expect_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-5 * fabs(want))) fail_msg("%.9g should be %.9g", got, want);
}

static void running_extremes(void **state)
{
    enum { BATCHES = 5, ROWS = 4 * 16, COLS = 32 };
    static float x[ROWS * COLS];
    double extremes[BATCHES][2], mean[BATCHES][2];
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    nib_source *s = open_vector(*state);
    nib_hist h = {0};
    nib_buf work = {0};
    read_tensor(s, "static_minmax", extremes, sizeof extremes);
    read_tensor(s, "moving_average_minmax", mean, sizeof mean);
    for (int i = 0; i < BATCHES; i++) {
        char name[3] = {'x', (char)('0' + i), 0};
        nib_range r;
        read_tensor(s, name, x, sizeof x);
        if (nib_hist_add(&h, x, ROWS, COLS, &work, &ctx, &err)) fail_msg("%s", err.msg);
        assert_int_equal(nib_range_find(&r, &h, NIB_RANGE_MINMAX, 0, &err), NIB_OK);
        expect_near((double)r.lo, extremes[i][0]);
        expect_near((double)r.hi, extremes[i][1]);
        assert_int_equal(nib_range_find(&r, &h, NIB_RANGE_AVERAGE, 0, &err), NIB_OK);
        expect_near((double)r.lo, mean[i][0]);
        expect_near((double)r.hi, mean[i][1]);
    }
    nib_hist_free(&h);
    nib_buf_free(&work);
    nib_source_close(s);
}

int main(int argc, char **argv)
{
    static char *names[] = {"gauss",  "laplace", "outlier", "relu",
                            "sparse", "student", "uniform", "observers"};
    enum { N = sizeof names / sizeof *names };
    struct CMUnitTest t[N];
    if (argc < 2) return 1;
    golden_dir = argv[1];
    for (size_t i = 0; i < N; i++)
        t[i] = (struct CMUnitTest){names[i], i + 1 < N ? thresholds : running_extremes, NULL, NULL,
                                   names[i]};
    return _cmocka_run_group_tests("calibrators", t, N, NULL, NULL);
}
