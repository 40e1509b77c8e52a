/* SPDX-License-Identifier: MIT */
/* report/layer_map.c - errors of weights as a map of block and role, and the weights of the worst
 * one; see sections.h. Tests: tests/cli/report.sh. */
#include "report/sections.h"

#include "report/chart.h"
#include "report/html.h"

#include <math.h>
#include <string.h>

enum { LEFT = 40, HEAD = 72, RIGHT = 10, FOOT = 56 };

/* ---- the map ---- */

static void put_cell(FILE *f, const nib_layer_errors *e, uint32_t layer, size_t role,
                     const nib_scale *s, double width, double height)
{
    char colour[8];
    const double error = e->error[layer * e->n_roles + role];
    if (isnan(error)) return;
    fprintf(f,
            "<rect class=\"mark\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
            "fill=\"%s\"><title>block %u, %s: %.4g</title></rect>\n",
            LEFT + (double)role * width + 0.5, HEAD + layer * height + 0.5, width - 1,
            height > 4 ? height - 1 : height, nib_map_colour(nib_scale_at(s, error), colour), layer,
            nib_role_name(e->role[role]), error);
}

/* What colours mean, below the map. */
static void put_key(FILE *f, const nib_scale *s, double y)
{
    enum { STEPS = 40 };
    char colour[8];
    const double width = (NIB_CHART_WIDTH - LEFT - RIGHT) / (double)STEPS;
    for (int i = 0; i < STEPS; i++)
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>\n",
                LEFT + i * width, y, width + 0.3, nib_map_colour((i + 0.5) / STEPS, colour));
    const double at[3] = {s->lo, sqrt(s->lo * s->hi), s->hi};
    static const char *const anchor[3] = {"start", "middle", "end"};
    for (int i = 0; i < 3; i++)
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%.3g</text>\n",
                LEFT + i * (NIB_CHART_WIDTH - LEFT - RIGHT) / 2.0, y + 26, anchor[i], at[i]);
}

static void put_map(FILE *f, const nib_layer_errors *e, const nib_scale *s)
{
    const double width = (NIB_CHART_WIDTH - LEFT - RIGHT) / (double)e->n_roles;
    const double height = e->n_layer <= 12 ? 18 : e->n_layer <= 40 ? 12 : 7;
    const double bottom = HEAD + e->n_layer * height;
    const uint32_t every = e->n_layer <= 12 ? 1 : e->n_layer <= 40 ? 4 : 10;
    fprintf(f,
            "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"errors of weights by block and "
            "role\" xmlns=\"http://www.w3.org/2000/svg\">\n",
            NIB_CHART_WIDTH, bottom + FOOT);
    for (size_t r = 0; r < e->n_roles; r++)
        fprintf(
            f,
            "<text transform=\"translate(%.1f %d) rotate(-48)\" text-anchor=\"start\">%s</text>\n",
            LEFT + ((double)r + 0.5) * width, HEAD - 6, nib_role_name(e->role[r]));
    for (uint32_t l = 0; l < e->n_layer; l++) {
        if (l % every == 0)
            fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%u</text>\n", LEFT - 6,
                    HEAD + (l + 0.5) * height + 4, l);
        for (size_t r = 0; r < e->n_roles; r++) put_cell(f, e, l, r, s, width, height);
    }
    put_key(f, s, bottom + 14);
    fputs("</svg>\n", f);
}

/* ---- the weights of one matrix ---- */

static void put_bins(const nib_chart *c, const double share[NIB_WEIGHT_BINS], const char *class,
                     bool outline)
{
    const double width = (c->right - c->left) / NIB_WEIGHT_BINS;
    if (outline)
        fprintf(c->f, "<path class=\"mark outline %s\" d=\"M%.1f %.1f", class, c->left, c->bottom);
    for (size_t b = 0; b < NIB_WEIGHT_BINS; b++) {
        const double x = c->left + (double)b * width, y = nib_chart_y(c, 100 * share[b]);
        if (outline)
            fprintf(c->f, "L%.1f %.1fL%.1f %.1f", x, y, x + width, y);
        else if (share[b] > 0)
            fprintf(c->f,
                    "<rect class=\"mark bar %s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"/>\n",
                    class, x, y, width, c->bottom - y);
    }
    if (outline) fprintf(c->f, "L%.1f %.1f\"/>\n", c->right, c->bottom);
}

/* Shares are on a logarithmic scale: a few weights far out make the grid of all the others wide. */
static void put_histogram(FILE *f, const nib_weight_picture *w, const char *class)
{
    double least = 1;
    for (size_t b = 0; b < NIB_WEIGHT_BINS; b++) {
        if (w->before[b] > 0) least = fmin(least, w->before[b]);
        if (w->after[b] > 0) least = fmin(least, w->after[b]);
    }
    const nib_chart c = nib_chart_begin(
        f, (nib_scale){-w->span, w->span, false}, (nib_scale){50 * least, 100, true}, "weight",
        "weights, % (logarithmic)", "values of all weights before and after");
    put_bins(&c, w->before, "c6", false);
    put_bins(&c, w->after, class, true);
    nib_chart_end(&c);
}

/* Each weight of the block, where it was (above) and where it came to (below), and the grid of
 * values that the block has. */
static void put_block(FILE *f, const nib_weight_picture *w, const char *class)
{
    enum { ABOVE = 26, BELOW = 104, GRID = 128, HEIGHT = 150 };
    double most = 0;
    for (size_t i = 0; i < w->n; i++)
        most = fmax(most, fmax(fabs((double)w->block_before[i]), fabs((double)w->block_after[i])));
    const nib_chart c = {.f = f,
                         .x = {-most * 1.05, most * 1.05, false},
                         .left = LEFT + 12,
                         .right = NIB_CHART_WIDTH - RIGHT};
    if (!(most > 0)) return;
    fprintf(f,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"weights of one block before and "
            "after\" xmlns=\"http://www.w3.org/2000/svg\">\n"
            "<text x=\"4\" y=\"%d\">before</text><text x=\"4\" y=\"%d\">after</text>\n"
            "<text x=\"4\" y=\"%d\">grid</text>\n",
            NIB_CHART_WIDTH, HEIGHT, ABOVE + 4, BELOW + 4, GRID + 9);
    for (size_t i = 0; i < w->n; i++) {
        const double a = nib_chart_x(&c, (double)w->block_before[i]);
        const double b = nib_chart_x(&c, (double)w->block_after[i]);
        fprintf(f,
                "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                "<circle class=\"mark bar c6\" cx=\"%.1f\" cy=\"%d\" r=\"3.5\"/>"
                "<circle class=\"mark bar %s\" cx=\"%.1f\" cy=\"%d\" r=\"3.5\"/>"
                "<line class=\"%s\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n",
                a, ABOVE, b, BELOW, a, ABOVE, class, b, BELOW, class, b, GRID, b, GRID + 12);
    }
    fprintf(f,
            "<text x=\"%.1f\" y=\"12\">%.3g</text><text x=\"%.1f\" y=\"12\" "
            "text-anchor=\"end\">%.3g</text>\n</svg>\n",
            c.left, c.x.lo, c.right, c.x.hi);
}

static void put_worst(FILE *f, const nib_weight_picture *w, size_t m)
{
    char class[8];
    snprintf(class, sizeof class, "c%zu", (m - 1) % NIB_HTML_COLOURS);
    fprintf(f,
            "<figure>\n<figcaption>Worst: %s of block %u, error %.4g. Grey: before; line: after."
            "</figcaption>\n",
            nib_role_name(w->place.role), w->place.layer, w->error);
    put_histogram(f, w, class);
    fprintf(f,
            "<figcaption>The %zu weights that moved most: row %llu, from column %llu."
            "</figcaption>\n",
            w->n, (unsigned long long)w->row, (unsigned long long)w->col);
    put_block(f, w, class);
    fputs("</figure>\n", f);
}

/* ---- what the matrix reads ---- */

static void put_inputs(FILE *f, const nib_input_picture *p)
{
    if (!p->rows || !(p->span > 0)) return;
    const double least = 100 / (double)(p->rows * p->cols); /* one value, in percent */
    fprintf(
        f,
        "<figure>\n<figcaption>What it reads in the base: %zu tokens of %zu channels. The largest "
        "value, %.4g, is in channel %zu; the median channel's is %.4g.</figcaption>\n",
        p->rows, p->cols, p->span, p->widest, p->median);
    const nib_chart c =
        nib_chart_begin(f, (nib_scale){-p->span, p->span, false}, (nib_scale){least / 2, 100, true},
                        "input", "values, % (logarithmic)", "inputs of the worst matrix");
    const double width = (c.right - c.left) / NIB_INPUT_BINS;
    for (size_t b = 0; b < NIB_INPUT_BINS; b++) {
        const double y = nib_chart_y(&c, 100 * p->share[b]);
        if (p->share[b] > 0)
            fprintf(f,
                    "<rect class=\"mark bar c6\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"/>\n",
                    c.left + (double)b * width, y, width, c.bottom - y);
    }
    nib_chart_end(&c);
    fputs("</figure>\n", f);
}

/* ---- the section ---- */

/* One scale for all models, so that their maps can be set side by side; lo 0: nothing differs. */
static nib_scale scale_of(const nib_layer_errors *e, size_t n)
{
    double lo = INFINITY, hi = 0;
    for (size_t m = 0; m < n; m++) {
        if (e[m].least > 0) lo = fmin(lo, e[m].least);
        if (isfinite(e[m].most)) hi = fmax(hi, e[m].most);
    }
    if (!(hi > 0)) return (nib_scale){1e-9, 1, true};
    return lo < hi ? (nib_scale){lo, hi, true} : (nib_scale){hi / 2, hi * 2, true};
}

static void put_ends(FILE *f, const nib_layer_errors *e)
{
    if (!isnan(e->embd)) fprintf(f, " Embedding: %.4g.", e->embd);
    if (!isnan(e->output)) fprintf(f, " Output matrix: %.4g.", e->output);
}

void nib_report_layers(FILE *f, const nib_comparison *c, const nib_layer_errors *e,
                       const nib_input_picture *in, const char *const *why)
{
    if (c->n_models < 2) return;
    const nib_scale s = scale_of(e, c->n_models);
    fputs("<h2>Errors of weights</h2>\n<p>|w' − w| / |w| of each matrix of each block. Channels "
          "that a "
          "method has rescaled count as errors, though the model computes the same.</p>\n",
          f);
    for (size_t m = 1; m < c->n_models; m++) {
        fputs("<h3>", f);
        nib_report_name(f, c, m);
        fputs("</h3>\n", f);
        if (!e[m].n_roles || !(e[m].most > 0)) {
            fprintf(f, "<p>%s%s.</p>\n",
                    why[m] ? "Not compared: " : "All weights of the blocks are the base's",
                    why[m] ? why[m] : "");
            continue;
        }
        fputs("<div class=\"charts\">\n<figure>\n<figcaption>By block and role.", f);
        put_ends(f, &e[m]);
        fputs("</figcaption>\n", f);
        put_map(f, &e[m], &s);
        fputs("</figure>\n", f);
        put_worst(f, &e[m].worst, m);
        put_inputs(f, &in[m]);
        fputs("</div>\n", f);
    }
}
