/* SPDX-License-Identifier: MIT */
/* report/front.c - quality against size; see sections.h. Tests: tests/cli/report.sh. */
#include "report/sections.h"

#include "report/chart.h"
#include "report/html.h"

#include <math.h>

/* Is there no model that is as small and as near to the base, and better in one of both? */
static bool on_front(const nib_comparison *c, const nib_report_text *t, size_t m)
{
    if (!c->model[m].bytes) return false; /* a file of what a model predicts */
    for (size_t k = 1; k < c->n_models; k++) {
        if (!c->model[k].bytes) continue;
        const double smaller = (double)c->model[m].bytes - (double)c->model[k].bytes;
        const double nearer = t->line[m].kl - t->line[k].kl;
        if (smaller >= 0 && nearer >= 0 && (smaller > 0 || nearer > 0)) return false;
    }
    return true;
}

/* The models on the front from the smallest on: the next one larger than `bytes`; 0: none. */
static size_t next_on_front(const nib_comparison *c, const nib_report_text *t, uint64_t bytes)
{
    size_t next = 0;
    for (size_t m = 1; m < c->n_models; m++)
        if (c->model[m].bytes > bytes && on_front(c, t, m) &&
            (!next || c->model[m].bytes < c->model[next].bytes))
            next = m;
    return next;
}

static void put_steps(const nib_chart *ch, const nib_comparison *c, const nib_report_text *t)
{
    fputs("<path class=\"front\" d=\"", ch->f);
    double y = 0;
    uint64_t bytes = 0;
    for (size_t m; (m = next_on_front(c, t, bytes)); bytes = c->model[m].bytes) {
        const double x = nib_chart_x(ch, (double)c->model[m].bytes / 1e6);
        const double kl = t->line[m].kl;
        if (bytes)
            fprintf(ch->f, "L%.1f %.1fL%.1f %.1f", x, y, x, nib_chart_y(ch, kl));
        else
            fprintf(ch->f, "M%.1f %.1f", x, nib_chart_y(ch, kl));
        y = nib_chart_y(ch, kl);
    }
    fputs("\"/>\n", ch->f);
}

/* Marks with the error of the mean, and letters beside them. */
static void put_marks(const nib_chart *ch, const nib_comparison *c, const nib_report_text *t)
{
    char letter[16];
    for (size_t m = 1; m < c->n_models; m++) {
        const nib_compare_line *l = &t->line[m];
        if (!c->model[m].bytes) continue;
        const double x = nib_chart_x(ch, (double)c->model[m].bytes / 1e6);
        const double y = nib_chart_y(ch, l->kl);
        const double up = nib_chart_y(ch, l->kl + l->kl_error);
        const double down = nib_chart_y(ch, l->kl - l->kl_error);
        fprintf(ch->f, "<g><title>");
        nib_html_text(ch->f, c->model[m].name);
        fprintf(ch->f, ": %.1f MB, %.6f ± %.6f</title>\n", (double)c->model[m].bytes / 1e6, l->kl,
                l->kl_error);
        fprintf(ch->f, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                x, up, x, down);
        nib_chart_mark(ch, m - 1, x, y);
        const bool left = x > ch->right - 24;
        fprintf(
            ch->f, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text></g>\n",
            x + (left ? -9 : 9), y - 6, left ? "end" : "start", nib_series_letter(m - 1, letter));
    }
}

static void put_text_chart(FILE *f, const nib_comparison *c, const nib_report_text *t)
{
    double least = INFINITY, most = 0, small = INFINITY, large = 0;
    for (size_t m = 1; m < c->n_models; m++) {
        const double kl = t->line[m].kl, mb = (double)c->model[m].bytes / 1e6;
        if (!c->model[m].bytes) continue;
        if (kl > 0) least = fmin(least, kl);
        most = fmax(most, kl);
        small = fmin(small, mb);
        large = fmax(large, mb);
    }
    const double floor = c->floor ? t->line[c->n_models].kl : 0;
    if (floor > 0) least = fmin(least, floor);
    const nib_chart ch = nib_chart_begin(f, nib_scale_around(small, large, large > 30 * small),
                                         nib_scale_around(least, most, true), "size, MB",
                                         "KL divergence, nats", "divergence against size");
    if (floor > 0) {
        const double y = nib_chart_y(&ch, floor);
        fprintf(f,
                "<line class=\"floor\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n"
                "<text x=\"%.1f\" y=\"%.1f\">noise floor</text>\n",
                ch.left, y, ch.right, y, ch.left + 6, y - 5);
    }
    put_steps(&ch, c, t);
    put_marks(&ch, c, t);
    nib_chart_end(&ch);
}

static void put_list(FILE *f, const nib_comparison *c, const nib_report_text *t)
{
    char letter[16];
    bool first = true;
    fputs("<figcaption><b>", f);
    nib_html_text(f, t->name);
    fputs("</b>. On the front: ", f);
    for (size_t m = 1; m < c->n_models; m++) {
        if (!on_front(c, t, m)) continue;
        fprintf(f, "%s%s", first ? "" : ", ", nib_series_letter(m - 1, letter));
        first = false;
    }
    fputs(".</figcaption>\n", f);
}

static void put_legend(FILE *f, const nib_comparison *c)
{
    fputs("<p>", f);
    for (size_t m = 1; m < c->n_models; m++) {
        fputs("<span style=\"white-space:nowrap;margin-right:1em\"><svg style=\"display:inline;"
              "width:1.1em;height:1.1em;vertical-align:-.2em\" viewBox=\"-8 -8 16 16\" "
              "xmlns=\"http://www.w3.org/2000/svg\">",
              f);
        const nib_chart mark = {.f = f};
        nib_chart_mark(&mark, m - 1, 0, 0);
        fputs("</svg> ", f);
        nib_report_name(f, c, m);
        fputs("</span> ", f);
    }
    fputs("</p>\n", f);
}

void nib_report_front(FILE *f, const nib_comparison *c)
{
    bool sizes = false;
    for (size_t m = 1; m < c->n_models; m++) sizes |= c->model[m].bytes > 0;
    if (!sizes) return;
    fputs("<h2>Quality against size</h2>\n<p>Lower is nearer to the base, further left is smaller. "
          "The broken line joins the models that no other one beats in both.</p>\n",
          f);
    put_legend(f, c);
    fputs("<div class=\"charts\">\n", f);
    for (size_t i = 0; i < c->n_texts; i++) {
        fputs("<figure>\n", f);
        put_list(f, c, &c->text[i]);
        put_text_chart(f, c, &c->text[i]);
        fputs("</figure>\n", f);
    }
    fputs("</div>\n", f);
}
