/* SPDX-License-Identifier: MIT */
/* report/summary.c - the head of the page: verdicts and figures; and its end, how it was made. See
 * sections.h. Tests: tests/cli/report.sh. */
#include "report/sections.h"

#include "report/chart.h"
#include "report/html.h"

#include <math.h>
#include <string.h>

void nib_report_name(FILE *f, const nib_comparison *c, size_t model)
{
    char letter[16];
    if (model) fprintf(f, "<span class=\"letter\">%s</span>", nib_series_letter(model - 1, letter));
    nib_html_text(f, c->model[model].name);
}

/* How many of the models keep every limit in every text. */
static size_t count_kept(const nib_comparison *c)
{
    size_t kept = 0;
    for (size_t m = 1; m < c->n_models; m++) {
        bool all = true;
        for (size_t t = 0; t < c->n_texts; t++) all &= !*c->text[t].beyond[m];
        kept += all;
    }
    return kept;
}

static void put_verdict(FILE *f, const nib_comparison *c)
{
    const size_t n = c->n_models - 1;
    if (!n) return;
    if (!c->text[0].beyond) {
        fputs("<p class=\"soft\">No limits were asked for.</p>\n", f);
        return;
    }
    const size_t kept = count_kept(c);
    fprintf(f, "<p class=\"%s\">%s %zu of %zu model%s within all limits.</p>\n",
            kept == n ? "good" : "bad", kept == n ? "✔" : "✘", kept, n, n == 1 ? " is" : "s are");
}

/* Size, speed, perplexity, and what counts most of the divergence. */
static void put_row(FILE *f, const nib_comparison *c, const nib_report_text *t, size_t m)
{
    const nib_report_model *model = &c->model[m];
    const nib_compare_line *l = &t->line[m];
    fputs(m ? "<tr><td>" : "<tr class=\"base\"><td>", f);
    nib_report_name(f, c, m);
    if (strcmp(model->activations, "f32")) fprintf(f, "<br/>activations %s", model->activations);
    if (t->beyond && m) {
        fputs(*t->beyond[m] ? "</td><td class=\"words bad\">✘ "
                            : "</td><td class=\"words good\">✔ kept",
              f);
        nib_html_text(f, t->beyond[m]);
    } else if (t->beyond) {
        fputs("</td><td>", f);
    }
    if (model->bytes)
        fprintf(f, "</td><td>%.1f</td><td>%.3f</td><td>%.1f</td>", (double)model->bytes / 1e6,
                model->bits, nib_report_speed(t, m));
    else
        fputs("</td><td>–</td><td>–</td><td>–</td>", f);
    fprintf(f, "<td>%.4f ± %.4f</td>", l->ppl, l->ppl_error);
    if (m)
        fprintf(f, "<td>%+.3f ± %.3f %%</td><td>%.6f ± %.6f</td><td>%.2f %%</td>",
                nib_report_increase(l), 100 * exp(l->change) * l->change_error, l->kl, l->kl_error,
                100 * l->same_top);
    else
        fputs("<td>the base</td><td/><td/>", f);
    fputs("</tr>\n", f);
}

static void put_table(FILE *f, const nib_comparison *c, const nib_report_text *t)
{
    fprintf(f,
            "<div class=\"scroll\"><table>\n<thead><tr><th>model</th>%s<th>MB</th><th>bits per "
            "weight</th><th>tokens/s</th><th>perplexity</th><th>change</th><th>KL divergence</th>"
            "<th>same top token</th></tr></thead>\n<tbody>\n",
            t->beyond ? "<th class=\"words\">limits</th>" : "");
    for (size_t m = 0; m < c->n_models; m++) put_row(f, c, t, m);
    fputs("</tbody>\n</table></div>\n", f);
}

/* The points of the divergence, and the tokens that agree. */
static void put_points(FILE *f, const nib_compare_line *l)
{
    fprintf(f,
            "<td>%.6f</td><td>%.6f</td><td>%.6f</td><td>%.5f</td><td>%.5f</td><td>%.5f</td>"
            "<td>%.5f</td>",
            l->kl, l->kl_back, l->kl_median, l->kl_90, l->kl_99, l->kl_999, l->kl_max);
    for (int k = 0; k < NIB_TOPS; k++) fprintf(f, "<td>%.1f %%</td>", 100 * l->same_first[k]);
    fputs("</tr>\n", f);
}

static void put_divergences(FILE *f, const nib_comparison *c, const nib_report_text *t)
{
    if (c->n_models < 2 && !c->floor) return;
    fputs("<div class=\"scroll\"><table>\n<thead><tr><th>KL divergence, and the likeliest 1 to 5 "
          "tokens "
          "the same in order</th><th>mean</th><th>reverse</th><th>median</th><th>90 %</th><th>99 %"
          "</th><th>99.9 %</th><th>largest</th><th>1</th><th>2</th><th>3</th><th>4</th><th>5</th>"
          "</tr></thead>\n<tbody>\n",
          f);
    for (size_t m = 1; m < c->n_models; m++) {
        fputs("<tr><td>", f);
        nib_report_name(f, c, m);
        fputs("</td>", f);
        put_points(f, &t->line[m]);
    }
    if (c->floor) {
        fputs("<tr class=\"base\"><td>noise floor: the base, rounded to BF16</td>", f);
        put_points(f, &t->line[c->n_models]);
    }
    fputs("</tbody>\n</table></div>\n", f);
}

void nib_report_summary(FILE *f, const nib_comparison *c)
{
    fputs("<h1>Compared with ", f);
    nib_html_text(f, c->model[0].name);
    fputs("</h1>\n", f);
    put_verdict(f, c);
    for (size_t i = 0; i < c->n_texts; i++) {
        const nib_report_text *t = &c->text[i];
        fputs(i ? "<h3>" : "<h2>Figures</h2>\n<h3>", f);
        nib_html_text(f, t->name);
        fprintf(f,
                "</h3>\n<p class=\"soft\">Protocol %s, context %zu, %zu chunks, %zu of %zu tokens "
                "scored. Divergences in nats; ± is the standard error.</p>\n",
                nib_ppl_protocol_name(t->r.protocol), t->r.n_ctx, t->r.n_chunks, t->r.n_scored,
                t->r.n_tokens);
        put_table(f, c, t);
        put_divergences(f, c, t);
    }
}

/* ---- the end ---- */

static void put_command(FILE *f, const nib_comparison *c, const char *options, size_t m)
{
    fputs("<h3>", f);
    nib_report_name(f, c, m);
    fputs("</h3>\n", f);
    if (c->model[m].made) {
        fputs("<p>Made by ", f);
        nib_html_text(f, c->model[m].made);
        fputs("</p>\n", f);
    }
    fputs("<pre>nibble compare ", f);
    nib_html_text(f, c->model[0].quoted);
    fputc(' ', f);
    nib_html_text(f, c->model[m].quoted);
    nib_html_text(f, options);
    fputs("</pre>\n", f);
}

void nib_report_made(FILE *f, const nib_comparison *c, const char *options)
{
    fprintf(f, "<h2>How this was measured</h2>\n<p>nibble %s; the row of each model again:</p>\n",
            NIB_VERSION);
    for (size_t m = 1; m < c->n_models; m++) put_command(f, c, options, m);
}
