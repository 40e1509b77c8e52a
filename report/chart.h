/* SPDX-License-Identifier: MIT */
/* report/chart.h - the frame of a chart as inline SVG: scales, axes, marks. */
#ifndef NIB_REPORT_CHART_H
#define NIB_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    double lo, hi; /* lo < hi; of a logarithmic scale above 0 */
    bool log;
} nib_scale;

typedef struct {
    FILE *f;
    nib_scale x, y;
    double left, right, top, bottom; /* of the plot, in pixels of the drawing */
} nib_chart;

enum { NIB_CHART_WIDTH = 440, NIB_CHART_HEIGHT = 300 };

/* A scale that holds lo to hi with some room at its ends; a logarithmic one begins and ends with a
 * round number. Where lo is not below hi, or not above 0 for a logarithmic one, it is moved. */
nib_scale nib_scale_around(double lo, double hi, bool log);
/* 0 at lo, 1 at hi; beyond them cut off. */
double nib_scale_at(const nib_scale *s, double value);

/* <svg> with grid, axes, numbers, and the names of both axes. `title` is what screen readers say.
 */
nib_chart nib_chart_begin(FILE *f, nib_scale x, nib_scale y, const char *x_name, const char *y_name,
                          const char *title);
void nib_chart_end(const nib_chart *c);
double nib_chart_x(const nib_chart *c, double value);
double nib_chart_y(const nib_chart *c, double value);
/* Mark of series i at a point of the drawing: a shape and colour of its own. */
void nib_chart_mark(const nib_chart *c, size_t series, double x, double y);

/* "A" .. "Z", then "A1" ..: the name of series i into buf. */
const char *nib_series_letter(size_t i, char buf[16]);

/* Colour of a value from 0 to 1 in a map, "#rrggbb" into buf: cividis, dark blue to yellow, of even
 * lightness for everybody. */
const char *nib_map_colour(double value, char buf[8]);

#endif
