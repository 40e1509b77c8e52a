/* SPDX-License-Identifier: MIT */
/* The observer's histogram and the calibrators on it: laws, growth, threads, kernels, refusals. */
#include "base/cpu.h"
#include "blocks.h"
#include "cpus.h"
#include "quant/range.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MANY = 3 * 65536 + 77 }; /* values: chunks of 65,536 and a rest */

static nib_err err;
static float x[MANY];
static nib_buf work;
static uint64_t want[NIB_HIST_MAX];

static void add_with(nib_hist *h, const float *v, size_t n, int threads, unsigned cpu)
{
    const nib_ctx ctx = {.threads = threads, .cpu = cpu};
    if (nib_hist_add(h, v, 1, n, &work, &ctx, &err)) fail_msg("%s", err.msg);
}

static void add(nib_hist *h, const float *v, size_t n)
{
    add_with(h, v, n, 2, nib_cpu_detect());
}

static nib_range find(const nib_hist *h, nib_range_method m, double percentile)
{
    nib_range r;
    if (nib_range_find(&r, h, m, percentile, &err)) fail_msg("%s", err.msg);
    return r;
}

static void fill(float *v, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) v[i] = noise(&seed);
}

static void expect_same(const nib_hist *a, const nib_hist *b)
{
    assert_int_equal(a->values, b->values);
    assert_int_equal(a->n, b->n);
    assert_true(a->width == b->width);
    assert_true(a->lo == b->lo && a->hi == b->hi);
    assert_memory_equal(a->count, b->count, NIB_HIST_MAX * sizeof *a->count);
}

/* Counts as the header defines them, one value after the other, into `want`. */
static void count_plainly(const float *v, size_t n, double width, size_t n_bins)
{
    const float per_bin = (float)(1 / width);
    for (size_t i = 0; i < n; i++) {
        size_t k = (size_t)(fabsf(v[i]) * per_bin);
        want[k < n_bins ? k : n_bins - 1]++;
    }
}

static void expect_counts(const nib_hist *h)
{
    for (size_t k = 0; k < NIB_HIST_MAX; k++)
        if (h->count[k] != want[k])
            fail_msg("bin %zu of %zu has %llu, should have %llu", k, h->n,
                     (unsigned long long)h->count[k], (unsigned long long)want[k]);
}

/* ---- observing ---- */

static void kernels_and_threads_do_not_matter(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 63, 64, 65, 127, 65535, 65536, 65537, MANY - 1};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        nib_hist plain = {0};
        fill(x, MANY, (uint32_t)s);
        const float *v = x + s % 2; /* odd addresses too */
        add_with(&plain, v, sizes[s], 1, 0);
        assert_int_equal(plain.values, sizes[s]);
        assert_int_equal(plain.n, NIB_HIST_START);
        memset(want, 0, sizeof want);
        count_plainly(v, sizes[s], plain.width, NIB_HIST_START);
        expect_counts(&plain);
        for (int i = 0; i < TEST_CPUS; i++) {
            if (test_cpu_missing(test_cpus[i])) continue;
            for (int threads = 1; threads <= 10; threads += 3) {
                nib_hist h = {0};
                add_with(&h, v, sizes[s], threads, test_cpus[i]);
                expect_same(&h, &plain);
                nib_hist_free(&h);
            }
        }
        nib_hist_free(&plain);
    }
}

static void extremes_are_found_anywhere(void **state)
{
    (void)state;
    enum { N = 97 };
    for (size_t at = 0; at < N; at++)
        for (int i = 0; i < TEST_CPUS; i++) {
            float lo, hi;
            if (test_cpu_missing(test_cpus[i])) continue;
            const nib_hist_kern *k = nib_hist_kern_get(test_cpus[i]);
            memset(x, 0, N * sizeof *x);
            x[at] = -3, x[(at + 1) % N] = 5;
            assert_true(k->extremes(x, N, &lo, &hi));
            assert_true(lo == -3 && hi == 5);
            x[at] = NAN;
            assert_false(k->extremes(x, N, &lo, &hi));
            x[at] = -INFINITY;
            assert_false(k->extremes(x, N, &lo, &hi));
        }
}

static void the_order_of_batches_of_one_range_does_not_matter(void **state)
{
    (void)state;
    enum { PART = MANY / 4 };
    nib_hist a = {0}, b = {0};
    fill(x, MANY, 5);
    for (size_t i = 0; i < 4; i++) x[i * PART] = 1.5f; /* the same range */
    for (size_t i = 0; i < 4; i++) add(&a, x + i * PART, PART);
    for (size_t i = 4; i-- > 0;) add(&b, x + i * PART, PART);
    expect_same(&a, &b);
    nib_hist_free(&a);
    nib_hist_free(&b);
}

/* Bins of 1/1024; the second batch ends at 3.0001, a little beyond 3072 of them. The end of the
 * first batch's range belongs to the last bin there was. */
static void bins_are_appended(void **state)
{
    (void)state;
    enum { HALF = MANY / 2 };
    nib_hist h = {0};
    fill(x, MANY, 6);
    x[7] = -2;
    x[HALF + 3] = 3.0001f;
    add(&h, x, HALF);
    assert_true(h.width == 1.0 / 1024);
    add(&h, x + HALF, HALF);
    assert_true(h.width == 1.0 / 1024);
    assert_int_equal(h.n, 3073);
    assert_int_equal(h.values, 2 * HALF);
    assert_int_equal(h.count[3072], 1);
    assert_true(h.lo == -2 && h.hi == 3.0001f);
    memset(want, 0, sizeof want);
    count_plainly(x, HALF, h.width, NIB_HIST_START);
    count_plainly(x + HALF, HALF, h.width, h.n);
    expect_counts(&h);
    nib_hist_free(&h);
}

/* 100 times the range: 204,800 bins would be needed, 12,800 of 16 times the width are kept.
 * Doubling the width halves |x| / w exactly, so the counts are those of the wide bins from the
 * start. */
static void pairs_of_bins_are_merged(void **state)
{
    (void)state;
    nib_hist h = {0};
    fill(x, MANY, 7);
    x[0] = 1;
    x[MANY - 1] = -100;
    add(&h, x, MANY - 1);
    add(&h, x + MANY - 1, 1);
    assert_true(h.width == 16.0 / NIB_HIST_START);
    assert_int_equal(h.n, 12800);
    memset(want, 0, sizeof want);
    count_plainly(x, MANY - 1, h.width, NIB_HIST_START / 16);
    count_plainly(x + MANY - 1, 1, h.width, h.n);
    expect_counts(&h);
    nib_hist_free(&h);
}

static void any_range_is_held(void **state)
{
    (void)state;
    static const float wild[] = {NIB_HIST_LEAST, 1e-20f, 3.0f, 2e9f, 0x1.fffffep127f, -1e-3f};
    nib_hist h = {0};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        uint64_t sum = 0;
        add(&h, wild + i, 1);
        assert_true(h.n <= NIB_HIST_MAX);
        for (size_t k = 0; k < NIB_HIST_MAX; k++) sum += h.count[k];
        assert_int_equal(sum, i + 1);
    }
    for (int m = 0; m < NIB_RANGE_METHODS; m++) {
        nib_range r = find(&h, (nib_range_method)m, 99.9);
        assert_true(r.amax > 0 && r.scale > 0 && r.asym_scale > 0 && isfinite(r.asym_scale));
    }
    nib_hist_free(&h);
}

static void zeros_count_and_set_no_width(void **state)
{
    (void)state;
    static const float zeros[5] = {0, -0.0f, 1e-35f}, ones[] = {1, -1};
    nib_hist h = {0};
    add(&h, zeros, 5);
    assert_true(h.width == 0);
    assert_int_equal(h.count[0], 5);
    add(&h, ones, 2);
    assert_int_equal(h.count[0], 5);
    assert_int_equal(h.count[NIB_HIST_START - 1], 2);
    assert_int_equal(h.batches, 2);
    nib_hist_free(&h);
}

/* ---- choosing ---- */

/* The same count in every bin: whatever is cut off was as likely as what is kept. */
static void kl_keeps_a_uniform_range(void **state)
{
    (void)state;
    nib_hist h = {0};
    for (size_t i = 0; i < MANY; i++) x[i] = (float)(i % 4096 + 1) / 4096 * (i % 3 ? 1 : -1);
    add(&h, x, MANY);
    assert_true(find(&h, NIB_RANGE_KL, 0).amax == 1);
    nib_hist_free(&h);
}

/* All counts in bin 500: 501 bins and more lose nothing, and the widest of them is taken. */
static void kl_takes_the_last_of_equals(void **state)
{
    (void)state;
    memset(want, 0, sizeof want);
    want[500] = 10;
    const nib_hist h = {
        .values = 10, .batches = 1, .hi = 2048, .n = 2048, .width = 1, .count = want};
    assert_true(find(&h, NIB_RANGE_KL, 0).amax == 2048);
}

/* The narrowest threshold that is tried keeps 128 bins, a level for each: nothing is lost of counts
 * that go up and down from bin to bin, but the place of one value far out. */
static void kl_tries_the_narrowest(void **state)
{
    (void)state;
    memset(want, 0, sizeof want);
    for (int k = 0; k < 128; k++) want[k] = k % 2 ? 10 : 1000;
    want[2047] = 1;
    const nib_hist h = {
        .values = 64 * 1010 + 1, .batches = 1, .hi = 2048, .n = 2048, .width = 1, .count = want};
    assert_true(find(&h, NIB_RANGE_KL, 0).amax == 128);
}

/* One value of 196,685 at eight times the reach of all others. */
static void one_outlier_is_clipped(void **state)
{
    (void)state;
    nib_hist h = {0};
    fill(x, MANY, 8);
    x[1234] = -8;
    add(&h, x, MANY);
    assert_true(find(&h, NIB_RANGE_KL, 0).amax < 2);
    assert_true(find(&h, NIB_RANGE_PERCENTILE, 99.999).amax < 2);
    nib_range r = find(&h, NIB_RANGE_MINMAX, 0);
    assert_true(r.amax == 8 && r.lo == -8 && r.hi < 2);
    r = find(&h, NIB_RANGE_PERCENTILE, 99.999);
    assert_true(r.lo == -r.amax && r.hi <= r.amax);
    nib_hist_free(&h);
}

/* The left edge of the first bin up to whose end there is such a share: a half, up to the end of
 * the second of four; a little more, only with the third. */
static void a_percentile_is_the_left_edge(void **state)
{
    (void)state;
    memset(want, 0, sizeof want);
    for (int k = 0; k < 4; k++) want[k] = 1;
    const nib_hist h = {.values = 4, .batches = 1, .hi = 4, .n = 4, .width = 1, .count = want};
    assert_true(find(&h, NIB_RANGE_PERCENTILE, 50).amax == 1);
    assert_true(find(&h, NIB_RANGE_PERCENTILE, 50.1).amax == 2);
}

/* More values in the first bin than the percentile asks for: the reference's threshold would be 0.
 */
static void a_percentile_in_the_first_bin_leaves_a_scale(void **state)
{
    (void)state;
    nib_hist h = {0};
    memset(x, 0, sizeof x);
    x[3] = 4;
    add(&h, x, MANY);
    nib_range r = find(&h, NIB_RANGE_PERCENTILE, 99.9);
    assert_true(r.amax == 4.0f / NIB_HIST_START && r.scale > 0);
    nib_hist_free(&h);
}

/* By hand: -1 .. 3 in 255 steps of 4/255; -1 is code -128, so 0 is round(-128 + 63.75) = -64. */
static void grids(void **state)
{
    (void)state;
    nib_range r = nib_range_make(-1, 3, 2.54f);
    assert_true(r.lo == -1 && r.hi == 3 && r.amax == 2.54f);
    assert_true(fabsf(r.scale - 0.02f) < 1e-8f);
    assert_true(fabs((double)r.asym_scale - 4.0 / 255) < 1e-9);
    assert_int_equal(r.zero, -64);
    r = nib_range_make(0.5f, 2, 2); /* widened to hold 0 */
    assert_true(r.lo == 0 && r.hi == 2);
    assert_int_equal(r.zero, -128);
    r = nib_range_make(-2, -0.5f, 2);
    assert_true(r.lo == -2 && r.hi == 0);
    assert_int_equal(r.zero, 127);
}

static void methods_have_names(void **state)
{
    (void)state;
    for (int m = 0; m < NIB_RANGE_METHODS; m++)
        assert_int_equal(nib_range_method_find(nib_range_method_name((nib_range_method)m)), m);
    assert_int_equal(nib_range_method_find("median"), NIB_RANGE_METHODS);
}

/* ---- refusals ---- */

static void refuses_range(const nib_hist *h, const char *part)
{
    for (int m = 0; m < NIB_RANGE_METHODS; m++) {
        nib_range r;
        assert_int_equal(nib_range_find(&r, h, (nib_range_method)m, 99.9, &err), NIB_ENUMERIC);
        assert_non_null(strstr(err.msg, part));
    }
}

static void no_data_and_only_zeros_are_refused(void **state)
{
    (void)state;
    static const float zeros[9] = {0, -0.0f, 1e-38f};
    nib_hist h = {0};
    refuses_range(&h, "no data");
    add(&h, zeros, 0);
    refuses_range(&h, "no data");
    add(&h, zeros, 9);
    refuses_range(&h, "only zeros");
    nib_hist_free(&h);
}

static void values_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    const nib_ctx ctx = {.threads = 3, .cpu = nib_cpu_detect()};
    enum { COLS = 77, ROWS = MANY / COLS };
    nib_hist h = {0}, before = {0};
    fill(x, MANY, 9);
    add(&h, x, 100);
    add(&before, x, 100);
    x[1800 * COLS + 5] = NAN;
    x[1900 * COLS + 6] = INFINITY;
    assert_int_equal(nib_hist_add(&h, x, ROWS, COLS, &work, &ctx, &err), NIB_ENUMERIC);
    assert_non_null(strstr(err.msg, "NaN in row 1800, channel 5"));
    x[1800 * COLS + 5] = 0;
    assert_int_equal(nib_hist_add(&h, x, ROWS, COLS, &work, &ctx, &err), NIB_ENUMERIC);
    assert_non_null(strstr(err.msg, "an infinite value in row 1900, channel 6"));
    expect_same(&h, &before);
    assert_int_equal(h.batches, 1);
    nib_hist_free(&h);
    nib_hist_free(&before);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    const nib_ctx ctx = {.threads = 2};
    nib_hist h = {0};
    nib_buf fresh = {0};
    nib_range r;
    fill(x, 1000, 10);
    for (long n = 1; n <= 3; n++) {
        nib_mem_fail_at(n);
        assert_int_equal(nib_hist_add(&h, x, 10, 100, &fresh, &ctx, &err), NIB_ENOMEM);
        nib_hist_free(&h);
        nib_buf_free(&fresh);
    }
    nib_mem_fail_at(0);
    add(&h, x, 1000);
    for (long n = 1; n <= 2; n++) {
        nib_mem_fail_at(n);
        assert_int_equal(nib_range_find(&r, &h, NIB_RANGE_KL, 0, &err), NIB_ENOMEM);
    }
    nib_mem_fail_at(1);
    assert_int_equal(nib_range_find(&r, &h, NIB_RANGE_MSE, 0, &err), NIB_ENOMEM);
    nib_mem_fail_at(0);
    nib_hist_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_and_threads_do_not_matter),
        cmocka_unit_test(extremes_are_found_anywhere),
        cmocka_unit_test(the_order_of_batches_of_one_range_does_not_matter),
        cmocka_unit_test(bins_are_appended),
        cmocka_unit_test(pairs_of_bins_are_merged),
        cmocka_unit_test(any_range_is_held),
        cmocka_unit_test(zeros_count_and_set_no_width),
        cmocka_unit_test(kl_keeps_a_uniform_range),
        cmocka_unit_test(kl_takes_the_last_of_equals),
        cmocka_unit_test(kl_tries_the_narrowest),
        cmocka_unit_test(one_outlier_is_clipped),
        cmocka_unit_test(a_percentile_is_the_left_edge),
        cmocka_unit_test(a_percentile_in_the_first_bin_leaves_a_scale),
        cmocka_unit_test(grids),
        cmocka_unit_test(methods_have_names),
        cmocka_unit_test(no_data_and_only_zeros_are_refused),
        cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(memory_may_run_out),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nib_buf_free(&work);
    return failed;
}
