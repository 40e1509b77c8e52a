/* SPDX-License-Identifier: MIT */
/* report/chart.c - see chart.h. Tests: tests/report/test_chart.c, tests/cli/report.sh. */
#include "report/chart.h"

#include "report/html.h"

#include <math.h>
#include <stdint.h>

static const double LEFT = 70, RIGHT = 12, TOP = 12, BOTTOM = 44;

/* ---- scales ---- */

nib_scale nib_scale_around(double lo, double hi, bool log)
{
    nib_scale s = {.log = log};
    if (log) {
        if (!(hi > 0)) hi = 1;
        if (!(lo > 0) || lo > hi) lo = hi / 10;
        s.lo = pow(10, floor(log10(lo) + 1e-9));
        s.hi = pow(10, ceil(log10(hi) - 1e-9));
        /* half a decade less where that is enough */
        if (s.lo * 3 < lo) s.lo *= 3;
        if (s.hi / 3 > hi) s.hi /= 3;
        if (!(s.lo < s.hi)) s.lo /= 3, s.hi *= 3;
        return s;
    }
    const double room = hi > lo ? (hi - lo) * 0.06 : fabs(hi) * 0.1 + 0.1;
    s.lo = lo >= 0 && lo - room < 0 ? 0 : lo - room;
    s.hi = hi + room;
    return s;
}

double nib_scale_at(const nib_scale *s, double value)
{
    double at = s->log ? (log(value > 0 ? value : s->lo) - log(s->lo)) / (log(s->hi) - log(s->lo))
                       : (value - s->lo) / (s->hi - s->lo);
    return at < 0 ? 0 : at > 1 ? 1 : at;
}

double nib_chart_x(const nib_chart *c, double value)
{
    return c->left + nib_scale_at(&c->x, value) * (c->right - c->left);
}

double nib_chart_y(const nib_chart *c, double value)
{
    return c->bottom - nib_scale_at(&c->y, value) * (c->bottom - c->top);
}

/* 1, 2 or 5 times a power of ten, so that there are about five steps. */
static double step_of(const nib_scale *s)
{
    const double rough = (s->hi - s->lo) / 5, power = pow(10, floor(log10(rough)));
    const double lead = rough / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

/* The numbers along a scale; how many, at most `room`. */
static size_t ticks(double *at, size_t room, const nib_scale *s)
{
    size_t n = 0;
    if (!s->log) {
        const double step = step_of(s);
        for (double k = ceil(s->lo / step - 1e-9); k * step <= s->hi * (1 + 1e-9) && n < room; k++)
            at[n++] = fabs(k) < 0.5 ? 0 : k * step;
        return n;
    }
    const int from = (int)floor(log10(s->lo)), to = (int)ceil(log10(s->hi));
    const int every = (to - from + 6) / 7;   /* decades between numbers */
    const int leads = to - from < 3 ? 3 : 1; /* 1, or 1 2 5, of each    */
    static const double lead[] = {1, 2, 5};
    for (int d = from; d <= to; d += every)
        for (int k = 0; k < leads && n < room; k++) {
            const double v = lead[k] * pow(10, d);
            if (v >= s->lo * (1 - 1e-9) && v <= s->hi * (1 + 1e-9)) at[n++] = v;
        }
    return n;
}

/* ---- the frame ---- */

static void put_line(FILE *f, const char *class, double x1, double y1, double x2, double y2)
{
    fprintf(f, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1,
            y1, x2, y2);
}

static void put_axes(const nib_chart *c, const char *x_name, const char *y_name)
{
    double at[24];
    FILE *f = c->f;
    size_t n = ticks(at, 24, &c->y);
    for (size_t i = 0; i < n; i++) {
        const double y = nib_chart_y(c, at[i]);
        put_line(f, "grid", c->left, y, c->right, y);
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", c->left - 6,
                y + 4, at[i]);
    }
    n = ticks(at, 24, &c->x);
    for (size_t i = 0; i < n; i++) {
        const double x = nib_chart_x(c, at[i]);
        put_line(f, "grid", x, c->top, x, c->bottom);
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n", x,
                c->bottom + 16, at[i]);
    }
    put_line(f, "axis", c->left, c->bottom, c->right, c->bottom);
    put_line(f, "axis", c->left, c->top, c->left, c->bottom);
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (c->left + c->right) / 2,
            c->bottom + 36);
    nib_html_text(f, x_name);
    fprintf(f,
            "</text>\n<text transform=\"translate(13 %.1f) rotate(-90)\" "
            "text-anchor=\"middle\">",
            (c->top + c->bottom) / 2);
    nib_html_text(f, y_name);
    fputs("</text>\n", f);
}

nib_chart nib_chart_begin(FILE *f, nib_scale x, nib_scale y, const char *x_name, const char *y_name,
                          const char *title)
{
    const nib_chart c = {.f = f,
                         .x = x,
                         .y = y,
                         .left = LEFT,
                         .right = NIB_CHART_WIDTH - RIGHT,
                         .top = TOP,
                         .bottom = NIB_CHART_HEIGHT - BOTTOM};
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", NIB_CHART_WIDTH,
            NIB_CHART_HEIGHT);
    nib_html_text(f, title);
    fputs("\" xmlns=\"http://www.w3.org/2000/svg\">\n", f);
    put_axes(&c, x_name, y_name);
    return c;
}

void nib_chart_end(const nib_chart *c)
{
    fputs("</svg>\n", c->f);
}

/* ---- marks ---- */

void nib_chart_mark(const nib_chart *c, size_t series, double x, double y)
{
    /* circle, square, triangle, diamond, cross, triangle on its head, hourglass: each around 0,
     * about as large as the others */
    static const char *const shape[] = {"M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
                                        "M-5 -5h10v10h-10z",
                                        "M0 -7L6.5 5h-13z",
                                        "M0 -7.5L6 0L0 7.5L-6 0z",
                                        "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
                                        "M0 7L6.5 -5h-13z",
                                        "M-6 -6h12L-6 6h12z"};
    fprintf(c->f, "<path class=\"mark c%zu\" transform=\"translate(%.1f %.1f)\" d=\"%s\"/>\n",
            series % NIB_HTML_COLOURS, x, y, shape[series % (sizeof shape / sizeof shape[0])]);
}

const char *nib_series_letter(size_t i, char buf[16])
{
    const char letter = (char)('A' + i % 26);
    if (i < 26)
        snprintf(buf, 16, "%c", letter);
    else
        snprintf(buf, 16, "%c%u", letter, (unsigned)(i / 26 % 10000));
    return buf;
}

const char *nib_map_colour(double value, char buf[8])
{
    /* cividis at 0, 1/8 .. 1 */
    static const uint8_t at[9][3] = {{0, 34, 78},     {18, 53, 112},   {59, 73, 108},
                                     {87, 93, 109},   {112, 113, 115}, {138, 134, 120},
                                     {165, 156, 116}, {195, 179, 105}, {254, 232, 56}};
    const double v = value >= 1 ? 1 : value > 0 ? value : 0;
    const int i = v >= 1 ? 7 : (int)(v * 8);
    uint8_t rgb[3];
    for (int k = 0; k < 3; k++)
        rgb[k] = (uint8_t)lrint(at[i][k] + (v * 8 - i) * (at[i + 1][k] - at[i][k]));
    snprintf(buf, 8, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    return buf;
}
