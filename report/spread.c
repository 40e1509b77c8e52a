/* SPDX-License-Identifier: MIT */
/* report/spread.c - the divergence over tokens: histograms, and by how sure the base is; see
 * sections.h. Tests: tests/cli/report.sh. */
#include "report/sections.h"

#include "report/chart.h"
#include "report/html.h"

#include <math.h>

enum { BINS = 48 };

/* From a fiftieth of the smallest median to the largest divergence of a text. */
static nib_scale scale_of(const nib_comparison *c, const nib_report_text *t)
{
    double lo = INFINITY, hi = 0;
    for (size_t m = 1; m < c->n_models; m++) {
        if (t->line[m].kl_median > 0) lo = fmin(lo, t->line[m].kl_median);
        hi = fmax(hi, t->line[m].kl_max);
    }
    return nib_scale_around(lo / 50, hi, true);
}

/* Shares of positions in equal parts of the scale; what is below it counts in the first. */
static void count(double share[BINS], const nib_report_text *t, size_t m, const nib_scale *s)
{
    for (size_t b = 0; b < BINS; b++) share[b] = 0;
    for (size_t i = 0; i < t->r.n_scored; i++) {
        const size_t b = (size_t)(nib_scale_at(s, t->r.token[m][i].kl) * BINS);
        share[b < BINS ? b : BINS - 1] += 100 / (double)t->r.n_scored;
    }
}

/* A line over the whole height with a word at its top. */
static void put_point(const nib_chart *c, double value, const char *name, double y)
{
    const double x = nib_chart_x(c, value);
    const bool left = x > c->right - 70;
    fprintf(c->f,
            "<line class=\"axis\" stroke-dasharray=\"3 3\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
            "y2=\"%.1f\"/>\n<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
            x, c->top, x, c->bottom, x + (left ? -4 : 4), c->top + y, left ? "end" : "start", name);
}

static void put_histogram(FILE *f, const nib_comparison *c, const nib_report_text *t, size_t m,
                          const nib_scale *x)
{
    double share[BINS], most = 0;
    count(share, t, m, x);
    for (size_t b = 0; b < BINS; b++) most = fmax(most, share[b]);
    fputs("<figure>\n<figcaption>", f);
    nib_report_name(f, c, m);
    fputs("</figcaption>\n", f);
    const nib_chart ch =
        nib_chart_begin(f, *x, (nib_scale){0, most * 1.15, false}, "KL divergence, nats",
                        "tokens, %", "divergence over tokens");
    const double width = (ch.right - ch.left) / BINS;
    for (size_t b = 0; b < BINS; b++) {
        const double y = nib_chart_y(&ch, share[b]);
        if (share[b] > 0)
            fprintf(f,
                    "<rect class=\"mark bar c%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"><title>%.3g %%</title></rect>\n",
                    (m - 1) % NIB_HTML_COLOURS, ch.left + (double)b * width + 0.5, y, width - 1,
                    ch.bottom - y, share[b]);
    }
    put_point(&ch, t->line[m].kl_median, "median", 12);
    put_point(&ch, t->line[m].kl, "mean", 27);
    put_point(&ch, t->line[m].kl_99, "99 %", 42);
    nib_chart_end(&ch);
    fputs("</figure>\n", f);
}

static void put_sureness(FILE *f, const nib_comparison *c, const nib_report_text *t)
{
    fputs("<div class=\"scroll\"><table>\n<thead><tr><th>the base's likeliest token has</th>", f);
    for (size_t b = 0; b < NIB_SURE_BINS; b++)
        if (b + 1 < NIB_SURE_BINS)
            fprintf(f, "<th>%.0f to %.0f %%</th>", 100 * nib_sure_from[b],
                    100 * nib_sure_from[b + 1]);
        else
            fprintf(f, "<th>%.0f %% or more</th>", 100 * nib_sure_from[b]);
    fputs("</tr></thead>\n<tbody>\n<tr class=\"base\"><td>tokens</td>", f);
    for (size_t b = 0; b < NIB_SURE_BINS; b++) fprintf(f, "<td>%zu</td>", t->line[1].sure[b].n);
    fputs("</tr>\n", f);
    for (size_t m = 1; m < c->n_models; m++) {
        fputs("<tr><td>", f);
        nib_report_name(f, c, m);
        fputs("</td>", f);
        for (size_t b = 0; b < NIB_SURE_BINS; b++) {
            const nib_compare_sure *s = &t->line[m].sure[b];
            if (s->n)
                fprintf(f, "<td>%.1f %%, %.5f</td>", 100 * s->same_top, s->kl);
            else
                fputs("<td>–</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody>\n</table></div>\n", f);
}

void nib_report_spread(FILE *f, const nib_comparison *c)
{
    if (c->n_models < 2) return;
    fputs("<h2>Divergence over tokens</h2>\n", f);
    for (size_t i = 0; i < c->n_texts; i++) {
        const nib_scale x = scale_of(c, &c->text[i]);
        fputs("<h3>", f);
        nib_html_text(f, c->text[i].name);
        fputs("</h3>\n<div class=\"charts\">\n", f);
        for (size_t m = 1; m < c->n_models; m++) put_histogram(f, c, &c->text[i], m, &x);
        fputs("</div>\n<p>Same top token, and mean divergence, by how sure the base is:</p>\n", f);
        put_sureness(f, c, &c->text[i]);
    }
}
