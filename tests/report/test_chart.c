/* SPDX-License-Identifier: MIT */
/* Scales of charts: where values come to lie, and which ranges hold them. */
#include "report/chart.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void near(double a, double b)
{
    if (!(fabs(a - b) < 1e-9)) fail_msg("%g is not %g", a, b);
}

static void places(void **state)
{
    (void)state;
    const nib_scale linear = {10, 20, false}, log = {0.01, 100, true};
    near(nib_scale_at(&linear, 10), 0);
    near(nib_scale_at(&linear, 12.5), 0.25);
    near(nib_scale_at(&linear, 99), 1); /* cut off */
    near(nib_scale_at(&log, 0.01), 0);
    near(nib_scale_at(&log, 1), 0.5);
    near(nib_scale_at(&log, 10), 0.75);
    near(nib_scale_at(&log, 0), 0); /* below all */
    near(nib_scale_at(&log, -3), 0);
}

/* What a scale is asked to hold it holds, and it is one, whatever it is asked. */
static void holds(void **state)
{
    (void)state;
    static const double of[][2] = {{1, 2},   {5, 5},        {0, 0},  {-3, 4},       {1e-9, 1e-9},
                                   {0, 1e9}, {1e-12, 1e12}, {7, -7}, {INFINITY, 0}, {2e-5, 3e-5}};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++)
        for (int log = 0; log < 2; log++) {
            const double lo = of[i][0], hi = of[i][1];
            const nib_scale s = nib_scale_around(lo, hi, log);
            if (!log && !isfinite(lo)) continue;
            if (lo > hi && !log) continue;
            if (!(s.lo < s.hi) || (log && !(s.lo > 0)) || !isfinite(s.hi))
                fail_msg("%g to %g, log %d: %g to %g", lo, hi, log, s.lo, s.hi);
            if (isfinite(lo) && lo <= hi && (!log || lo > 0)) {
                assert_true(s.lo <= lo * (1 + 1e-9) || s.lo <= lo);
                assert_true(s.hi >= hi * (1 - 1e-9));
            }
        }
}

/* The chart is drawn on a stream; how often is this in it? */
static int drawn(nib_scale x, nib_scale y, const char *what)
{
    char *text = NULL;
    size_t n = 0;
    int found = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    const nib_chart c = nib_chart_begin(f, x, y, "a < b", "y", "a & b");
    nib_chart_mark(&c, 3, nib_chart_x(&c, x.lo), nib_chart_y(&c, y.hi));
    nib_chart_end(&c);
    assert_int_equal(fclose(f), 0);
    for (const char *p = text; (p = strstr(p, what)); p++) found++;
    free(text);
    return found;
}

static void frames(void **state)
{
    (void)state;
    const nib_scale ten = {0, 10, false}, decades = {1e-6, 1, true}, few = {0.01, 0.1, true};
    assert_int_equal(drawn(ten, ten, ">2</text>"), 2);
    assert_int_equal(drawn(ten, ten, ">10</text>"), 2);
    assert_int_equal(drawn(decades, ten, ">0.001</text>"), 1);
    assert_int_equal(drawn(decades, ten, ">1e-06</text>"), 1);
    assert_int_equal(drawn(few, ten, ">0.05</text>"), 1); /* 1 2 5 where there are few decades */
    assert_int_equal(drawn(ten, ten, "class=\"mark c3\" transform=\"translate(70.0 12.0)\""), 1);
    assert_int_equal(drawn(ten, ten, "a &lt; b"), 1);
    assert_int_equal(drawn(ten, ten, "aria-label=\"a &amp; b\""), 1);
    assert_int_equal(
        drawn(nib_scale_around(INFINITY, 0, true), nib_scale_around(0, 0, true), "nan"), 0);
}

static void names_and_colours(void **state)
{
    (void)state;
    char name[16], colour[8];
    assert_string_equal(nib_series_letter(0, name), "A");
    assert_string_equal(nib_series_letter(25, name), "Z");
    assert_string_equal(nib_series_letter(26, name), "A1");
    assert_string_equal(nib_series_letter(SIZE_MAX, name), name);
    assert_string_equal(nib_map_colour(0, colour), "#00224e"); /* cividis' ends */
    assert_string_equal(nib_map_colour(1, colour), "#fee838");
    assert_string_equal(nib_map_colour(7, colour), "#fee838");
    assert_string_equal(nib_map_colour(NAN, colour), "#00224e");
    /* from dark to light, so that a grey print of it can be read */
    double before = -1;
    for (int i = 0; i <= 32; i++) {
        unsigned r, g, b;
        assert_int_equal(sscanf(nib_map_colour(i / 32.0, colour), "#%2x%2x%2x", &r, &g, &b), 3);
        const double light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        assert_true(light > before);
        before = light;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(places), cmocka_unit_test(holds),
                                       cmocka_unit_test(frames),
                                       cmocka_unit_test(names_and_colours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
