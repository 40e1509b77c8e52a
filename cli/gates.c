/* SPDX-License-Identifier: MIT */
/* cli/gates.c - see gates.h.
 * Tests: tests/cases/commands. */
#include "cli/gates.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double get_kl(const nib_compare_line *l)
{
    return l->kl;
}

static double get_kl_median(const nib_compare_line *l)
{
    return l->kl_median;
}

static double get_kl_90(const nib_compare_line *l)
{
    return l->kl_90;
}

static double get_kl_99(const nib_compare_line *l)
{
    return l->kl_99;
}

static double get_kl_999(const nib_compare_line *l)
{
    return l->kl_999;
}

static double get_kl_max(const nib_compare_line *l)
{
    return l->kl_max;
}

static double get_ppl(const nib_compare_line *l)
{
    return expm1(l->change);
}

static double get_rms_dp(const nib_compare_line *l)
{
    return l->rms_dp;
}

static double get_top1(const nib_compare_line *l)
{
    return l->same_top;
}

/* A limit's option, what it limits, and from which side. */
static const struct {
    const char *option, *what;
    double (*get)(const nib_compare_line *l);
    bool share, least;
} gates[NIB_GATES] = {
    [NIB_GATE_KL] = {"max-kl", "divergence", get_kl, false, false},
    [NIB_GATE_KL_MEDIAN] = {"max-kl-median", "median divergence", get_kl_median, false, false},
    [NIB_GATE_KL_90] = {"max-kl-90", "divergence at 90 %", get_kl_90, false, false},
    [NIB_GATE_KL_99] = {"max-kl-99", "divergence at 99 %", get_kl_99, false, false},
    [NIB_GATE_KL_999] = {"max-kl-999", "divergence at 99.9 %", get_kl_999, false, false},
    [NIB_GATE_KL_MAX] = {"max-kl-max", "largest divergence", get_kl_max, false, false},
    [NIB_GATE_PPL] = {"max-ppl-increase", "increase of perplexity", get_ppl, true, false},
    [NIB_GATE_RMS_DP] = {"max-rms-dp", "change of probability", get_rms_dp, true, false},
    [NIB_GATE_TOP1] = {"min-top1", "share of same top tokens", get_top1, true, true},
};

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
    const double v = gates[i].get(l);
    return gates[i].least ? v >= g->limit[i] : v <= g->limit[i];
}

static bool any(const nib_gates *g)
{
    for (int i = 0; i < NIB_GATES; i++)
        if (g->text[i]) return true;
    return false;
}

/* "divergence 0.012300 is above --max-kl 0.01" */
static void say(char *text, size_t n, const nib_gates *g, int i, const nib_compare_line *l)
{
    const double v = gates[i].get(l);
    const char *side = holds(g, i, l) ? "within" : gates[i].least ? "below" : "above";
    if (gates[i].share)
        snprintf(text, n, "%s %.3f %% is %s --%s %s", gates[i].what, 100 * v, side, gates[i].option,
                 g->text[i]);
    else
        snprintf(text, n, "%s %.6f is %s --%s %s", gates[i].what, v, side, gates[i].option,
                 g->text[i]);
}

size_t nib_gates_judge(const nib_gates *g, const nib_comparison *c, nib_log *log)
{
    size_t beyond = 0;
    char text[200];
    for (size_t m = 1; m < c->n; m++)
        for (int i = 0; i < NIB_GATES; i++) {
            if (holds(g, i, &c->line[m])) continue;
            say(text, sizeof text, g, i, &c->line[m]);
            nib_warn(log, "%s: %s", c->name[m], text);
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

static void put_case(FILE *f, const char *model, const char *name, const char *failure)
{
    fputs("    <testcase classname=\"", f);
    put_xml(f, model);
    fputs("\" name=\"", f);
    put_xml(f, name);
    if (!failure) {
        fputs("\"/>\n", f);
        return;
    }
    fputs("\">\n      <failure message=\"", f);
    put_xml(f, failure);
    fputs("\"/>\n    </testcase>\n", f);
}

static void put_junit(FILE *f, const nib_gates *g, const nib_comparison *c)
{
    size_t tests = 0, failures = 0;
    for (size_t m = 1; m < c->n; m++) {
        if (!any(g)) tests++;
        for (int i = 0; i < NIB_GATES; i++) {
            tests += g->text[i] != NULL;
            failures += !holds(g, i, &c->line[m]);
        }
    }
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
            "  <testsuite name=\"nibble compare\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" "
            "skipped=\"0\" time=\"%.3f\">\n",
            tests, failures, c->r->seconds);
    for (size_t m = 1; m < c->n; m++) {
        if (!any(g)) put_case(f, c->name[m], "measured", NULL);
        for (int i = 0; i < NIB_GATES; i++) {
            char name[100], text[200];
            if (!g->text[i]) continue;
            snprintf(name, sizeof name, "--%s %.60s", gates[i].option, g->text[i]);
            say(text, sizeof text, g, i, &c->line[m]);
            put_case(f, c->name[m], name, holds(g, i, &c->line[m]) ? NULL : text);
        }
    }
    fputs("  </testsuite>\n</testsuites>\n", f);
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

static void put_markdown(FILE *f, const nib_gates *g, const nib_comparison *c)
{
    const bool limits = any(g);
    fprintf(
        f,
        "| model | MB | bits per weight | perplexity | change | KL divergence | 99 %% | 99.9 %% | "
        "largest | same top token |%s\n|---|---|---|---|---|---|---|---|---|---|%s\n",
        limits ? " limits |" : "", limits ? "---|" : "");
    for (size_t m = 0; m < c->n; m++) {
        const nib_compare_line *l = &c->line[m];
        size_t beyond = 0;
        fputs("| ", f);
        put_cell(f, c->name[m]);
        fprintf(f, " | %.1f | %.2f | %.4f ± %.4f |", (double)c->bytes[m] / 1e6, c->bits[m], l->ppl,
                l->ppl_error);
        if (!m) {
            fprintf(f, " the base | | | | | |%s\n", limits ? " |" : "");
            continue;
        }
        fprintf(f, " %+.3f ± %.3f %% | %.6f ± %.6f | %.5f | %.5f | %.5f | %.2f %% |",
                100 * expm1(l->change), 100 * exp(l->change) * l->change_error, l->kl, l->kl_error,
                l->kl_99, l->kl_999, l->kl_max, 100 * l->same_top);
        for (int i = 0; i < NIB_GATES; i++) {
            char text[200];
            if (holds(g, i, l)) continue;
            say(text, sizeof text, g, i, l);
            fprintf(f, "%s%s", beyond++ ? "; " : " ❌ ", text);
        }
        if (limits) fputs(beyond ? " |" : " ✅ |", f);
        fputc('\n', f);
    }
    fprintf(f, "\nProtocol %s, context %zu, %zu chunks, %zu of %zu tokens scored.\n",
            nib_ppl_protocol_name(c->r->protocol), c->r->n_ctx, c->r->n_chunks, c->r->n_scored,
            c->r->n_tokens);
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
