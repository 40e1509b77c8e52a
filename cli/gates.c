/* SPDX-License-Identifier: MIT */
/* cli/gates.c - see gates.h.
 * Tests: tests/cases/commands. */
#include "cli/gates.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OF(f) offsetof(nib_compare_line, f)

/* A limit's option, what it limits, where that is, and from which side. */
static const struct {
    const char *option, *what;
    size_t field; /* a double; but see get() */
    bool share, least;
} gates[NIB_GATES] = {
    [NIB_GATE_KL] = {"max-kl", "divergence", OF(kl), false, false},
    [NIB_GATE_KL_MEDIAN] = {"max-kl-median", "median divergence", OF(kl_median), false, false},
    [NIB_GATE_KL_90] = {"max-kl-90", "divergence at 90 %", OF(kl_90), false, false},
    [NIB_GATE_KL_99] = {"max-kl-99", "divergence at 99 %", OF(kl_99), false, false},
    [NIB_GATE_KL_999] = {"max-kl-999", "divergence at 99.9 %", OF(kl_999), false, false},
    [NIB_GATE_KL_MAX] = {"max-kl-max", "largest divergence", OF(kl_max), false, false},
    [NIB_GATE_KL_BACK] = {"max-kl-reverse", "reverse divergence", OF(kl_back), false, false},
    [NIB_GATE_PPL] = {"max-ppl-increase", "increase of perplexity", OF(change), true, false},
    [NIB_GATE_RMS_DP] = {"max-rms-dp", "change of probability", OF(rms_dp), true, false},
    [NIB_GATE_TOP1] = {"min-top1", "share of same top tokens", OF(same_first[0]), true, true},
    [NIB_GATE_TOP2] = {"min-top2", "share of same top 2 tokens", OF(same_first[1]), true, true},
    [NIB_GATE_TOP3] = {"min-top3", "share of same top 3 tokens", OF(same_first[2]), true, true},
    [NIB_GATE_TOP4] = {"min-top4", "share of same top 4 tokens", OF(same_first[3]), true, true},
    [NIB_GATE_TOP5] = {"min-top5", "share of same top 5 tokens", OF(same_first[4]), true, true},
    [NIB_GATE_TOP1_SURE] = {"min-top1-sure", "share of same top tokens where the base is sure",
                            OF(sure[NIB_SURE_BINS - 1].same_top), true, true},
};

static double get(int i, const nib_compare_line *l)
{
    double v;
    memcpy(&v, (const char *)l + gates[i].field, sizeof v);
    if (i == NIB_GATE_PPL) return expm1(v);
    if (i == NIB_GATE_TOP1_SURE && !l->sure[NIB_SURE_BINS - 1].n) return 1;
    return v;
}

nib_code nib_gates_read(nib_gates *g, nib_err *err)
{
    for (int i = 0; i < NIB_GATES; i++) {
        char *end;
        if (!g->text[i]) continue;
        g->limit[i] = strtod(g->text[i], &end);
        const bool percent = gates[i].share && end > g->text[i] && !strcmp(end, "%");
        if (percent) g->limit[i] /= 100, end++;
        if (end == g->text[i] || *end || !isfinite(g->limit[i]))
            return nib_fail(err, NIB_EINVAL, "--%s: '%s' should be a number%s", gates[i].option,
                            g->text[i], gates[i].share ? ", as 0.02 or 2%" : "");
    }
    return NIB_OK;
}

/* Is the i-th statistic of a model within its limit? Without one, it is. */
static bool holds(const nib_gates *g, int i, const nib_compare_line *l)
{
    if (!g->text[i]) return true;
    const double v = get(i, l);
    return gates[i].least ? v >= g->limit[i] : v <= g->limit[i];
}

bool nib_gates_any(const nib_gates *g)
{
    for (int i = 0; i < NIB_GATES; i++)
        if (g->text[i]) return true;
    return false;
}

/* "divergence 0.012300 is above --max-kl 0.01" */
static void say(char *text, size_t n, const nib_gates *g, int i, const nib_compare_line *l)
{
    const double v = get(i, l);
    const char *side = holds(g, i, l) ? "within" : gates[i].least ? "below" : "above";
    if (gates[i].share)
        snprintf(text, n, "%s %.3f %% is %s --%s %s", gates[i].what, 100 * v, side, gates[i].option,
                 g->text[i]);
    else
        snprintf(text, n, "%s %.6f is %s --%s %s", gates[i].what, v, side, gates[i].option,
                 g->text[i]);
}

size_t nib_gates_beyond(const nib_gates *g, const nib_compare_line *l, char *buf, size_t n)
{
    size_t beyond = 0, at = 0;
    if (n) *buf = 0;
    for (int i = 0; i < NIB_GATES; i++) {
        char text[200];
        if (holds(g, i, l)) continue;
        say(text, sizeof text, g, i, l);
        const int k = snprintf(buf + at, n - at, "%s%s", beyond++ ? "; " : "", text);
        at = (size_t)k < n - at ? at + (size_t)k : n - 1;
    }
    return beyond;
}

size_t nib_gates_judge(const nib_gates *g, const nib_comparison *c, nib_log *log)
{
    size_t beyond = 0;
    for (size_t t = 0; t < c->n_texts; t++)
        for (size_t m = 1; m < c->n_models; m++)
            for (int i = 0; i < NIB_GATES; i++) {
                char text[200];
                const nib_compare_line *l = &c->text[t].line[m];
                if (holds(g, i, l)) continue;
                say(text, sizeof text, g, i, l);
                if (c->n_texts > 1)
                    nib_warn(log, "%s: %s: %s", c->model[m].name, c->text[t].name, text);
                else
                    nib_warn(log, "%s: %s", c->model[m].name, text);
                beyond++;
            }
    return beyond;
}

/* ---- files ---- */

/* A text in XML: its marks escaped, what XML has no way to hold as '?'. */
static void put_xml(FILE *f, const char *s)
{
    char *valid = nib_utf8_replace(s);
    for (const char *p = valid ? valid : ""; *p; p++) switch (*p) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc((unsigned char)*p < 32 ? '?' : *p, f);
        }
    nib_free(valid);
}

/* The time is that of the model's run, of which every case of the model comes. */
static void put_case(FILE *f, const char *model, const char *name, double seconds,
                     const char *failure)
{
    fprintf(f, "    <testcase time=\"%.3f\" classname=\"", seconds);
    put_xml(f, model);
    fputs("\" name=\"", f);
    put_xml(f, name);
    if (!failure) {
        fputs("\"/>\n", f);
        return;
    }
    fputs("\">\n      <failure type=\"limit\" message=\"", f);
    put_xml(f, failure);
    fputs("\"/>\n    </testcase>\n", f);
}

/* The suite of one text. */
static void put_suite(FILE *f, const nib_gates *g, const nib_comparison *c,
                      const nib_report_text *t)
{
    size_t tests = 0, failures = 0;
    for (size_t m = 1; m < c->n_models; m++) {
        if (!nib_gates_any(g)) tests++;
        for (int i = 0; i < NIB_GATES; i++) {
            tests += g->text[i] != NULL;
            failures += !holds(g, i, &t->line[m]);
        }
    }
    fputs("  <testsuite name=\"nibble compare", f);
    if (c->n_texts > 1) fputc(' ', f), put_xml(f, t->name);
    fprintf(f, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\" time=\"%.3f\">\n",
            tests, failures, t->r.seconds);
    for (size_t m = 1; m < c->n_models; m++) {
        if (!nib_gates_any(g)) put_case(f, c->model[m].name, "measured", t->line[m].seconds, NULL);
        for (int i = 0; i < NIB_GATES; i++) {
            char name[100], text[200];
            const nib_compare_line *l = &t->line[m];
            if (!g->text[i]) continue;
            snprintf(name, sizeof name, "--%s %.60s", gates[i].option, g->text[i]);
            say(text, sizeof text, g, i, l);
            put_case(f, c->model[m].name, name, l->seconds, holds(g, i, l) ? NULL : text);
        }
    }
    fputs("  </testsuite>\n", f);
}

static void put_junit(FILE *f, const nib_gates *g, const nib_comparison *c)
{
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n", f);
    for (size_t t = 0; t < c->n_texts; t++) put_suite(f, g, c, &c->text[t]);
    fputs("</testsuites>\n", f);
}

/* A text in a cell of a table. */
static void put_cell(FILE *f, const char *s)
{
    char *valid = nib_utf8_replace(s);
    for (const char *p = valid ? valid : ""; *p; p++) {
        if (strchr("|\\`*_<[", *p)) fputc('\\', f);
        fputc((unsigned char)*p < 32 ? ' ' : *p, f);
    }
    nib_free(valid);
}

static void put_row(FILE *f, const nib_gates *g, const nib_report_model *m,
                    const nib_compare_line *l, bool base)
{
    char beyond[1000];
    fputs("| ", f);
    put_cell(f, m->name);
    if (m->bytes)
        fprintf(f, " | %.1f | %.2f |", (double)m->bytes / 1e6, m->bits);
    else
        fputs(" | | |", f);
    fprintf(f, " %.4f ± %.4f |", l->ppl, l->ppl_error);
    if (base) {
        fprintf(f, " the base | | | | | | |%s\n", nib_gates_any(g) ? " |" : "");
        return;
    }
    fprintf(f, " %+.3f ± %.3f %% | %.6f ± %.6f | %.5f | %.5f | %.5f | %.2f %% | %.2f %% |",
            nib_report_increase(l), 100 * exp(l->change) * l->change_error, l->kl, l->kl_error,
            l->kl_99, l->kl_999, l->kl_max, 100 * l->same_top, 100 * l->same_first[NIB_TOPS - 1]);
    if (nib_gates_any(g))
        fprintf(f, nib_gates_beyond(g, l, beyond, sizeof beyond) ? " ❌ %s |" : " ✅%s |", beyond);
    fputc('\n', f);
}

static void put_markdown(FILE *f, const nib_gates *g, const nib_comparison *c)
{
    const bool limits = nib_gates_any(g);
    for (size_t i = 0; i < c->n_texts; i++) {
        const nib_report_text *t = &c->text[i];
        if (i) fputc('\n', f);
        if (c->n_texts > 1) {
            fputs("### ", f);
            put_cell(f, t->name);
            fputs("\n\n", f);
        }
        fprintf(f,
                "| model | MB | bits per weight | perplexity | change | KL divergence | 99 %% | "
                "99.9 %% | largest | same top token | same top 5 |%s\n"
                "|---|---|---|---|---|---|---|---|---|---|---|%s\n",
                limits ? " limits |" : "", limits ? "---|" : "");
        for (size_t m = 0; m < c->n_models; m++) put_row(f, g, &c->model[m], &t->line[m], m == 0);
        if (c->floor) {
            const nib_report_model floor = {.name = "the base, rounded to BF16"};
            const nib_gates none = {0};
            put_row(f, &none, &floor, &t->line[c->n_models], false);
        }
        fprintf(f, "\nProtocol %s, context %zu, %zu chunks, %zu of %zu tokens scored.\n",
                nib_ppl_protocol_name(t->r.protocol), t->r.n_ctx, t->r.n_chunks, t->r.n_scored,
                t->r.n_tokens);
    }
}

static nib_code save(void (*put)(FILE *, const nib_gates *, const nib_comparison *),
                     const nib_gates *g, const nib_comparison *c, const char *path, bool force,
                     nib_err *err)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return nib_fail_nomem(err, "a report");
    put(f, g, c);
    const bool ok = !ferror(f);
    nib_code rc = fclose(f) || !ok ? nib_fail_nomem(err, "a report")
                                   : nib_file_save(path, text, n, force, err);
    free(text);
    return rc;
}

nib_code nib_gates_junit(const nib_gates *g, const nib_comparison *c, const char *path, bool force,
                         nib_err *err)
{
    return save(put_junit, g, c, path, force, err);
}

nib_code nib_gates_markdown(const nib_gates *g, const nib_comparison *c, const char *path,
                            bool force, nib_err *err)
{
    return save(put_markdown, g, c, path, force, err);
}
