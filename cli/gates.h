/* SPDX-License-Identifier: MIT */
/* cli/gates.h - limits for what 'compare' measures, and reports of them for pipelines.
 *
 * Every statistic can have a limit. All are judged after everything was measured and printed, so
 * that a pipeline that stops has the whole report. */
#ifndef NIB_CLI_GATES_H
#define NIB_CLI_GATES_H

#include "base/log.h"
#include "cli/opts.h"
#include "report/comparison.h"

enum {
    NIB_GATE_KL,
    NIB_GATE_KL_MEDIAN,
    NIB_GATE_KL_90,
    NIB_GATE_KL_99,
    NIB_GATE_KL_999,
    NIB_GATE_KL_MAX,
    NIB_GATE_KL_BACK,
    NIB_GATE_PPL,
    NIB_GATE_RMS_DP,
    NIB_GATE_TOP1,
    NIB_GATE_TOP2,
    NIB_GATE_TOP3,
    NIB_GATE_TOP4,
    NIB_GATE_TOP5,
    NIB_GATE_TOP1_SURE,
    NIB_GATES
};

/* Limits as the user writes them, "0.01" or "2%"; NULL: none. */
typedef struct {
    const char *text[NIB_GATES];
    double limit[NIB_GATES];
} nib_gates;

/* The rows, for a command's table; `g` is a static nib_gates. */
#define NIB_GATE_ROW(g, id, opt, var, what)                                                        \
    {                                                                                              \
        .name = opt, .kind = NIB_OPT_STR, .target = &(g).text[id], .metavar = var, .help = what    \
    }
#define NIB_GATE_OPTS(g)                                                                           \
    {.name = "max-kl",                                                                             \
     .kind = NIB_OPT_STR,                                                                          \
     .target = &(g).text[NIB_GATE_KL],                                                             \
     .metavar = "X",                                                                               \
     .help = "mean divergence, nats",                                                              \
     .heading = "Limits"},                                                                         \
        NIB_GATE_ROW(g, NIB_GATE_KL_MEDIAN, "max-kl-median", "X", "median divergence"),            \
        NIB_GATE_ROW(g, NIB_GATE_KL_90, "max-kl-90", "X", "divergence at 90 % of the tokens"),     \
        NIB_GATE_ROW(g, NIB_GATE_KL_99, "max-kl-99", "X", "divergence at 99 %"),                   \
        NIB_GATE_ROW(g, NIB_GATE_KL_999, "max-kl-999", "X", "divergence at 99.9 %"),               \
        NIB_GATE_ROW(g, NIB_GATE_KL_MAX, "max-kl-max", "X", "largest divergence"),                 \
        NIB_GATE_ROW(g, NIB_GATE_KL_BACK, "max-kl-reverse", "X",                                   \
                     "mean divergence of BASE from it"),                                           \
        NIB_GATE_ROW(g, NIB_GATE_PPL, "max-ppl-increase", "P",                                     \
                     "increase of perplexity, 2% or 0.02"),                                        \
        NIB_GATE_ROW(g, NIB_GATE_RMS_DP, "max-rms-dp", "P",                                        \
                     "root mean square change of the next token's probability"),                   \
        {.name = "min-top1",                                                                       \
         .kind = NIB_OPT_STR,                                                                      \
         .target = &(g).text[NIB_GATE_TOP1],                                                       \
         .metavar = "P",                                                                           \
         .help = "share of tokens with the same likeliest",                                        \
         .heading = "Limits of agreement"},                                                        \
        NIB_GATE_ROW(g, NIB_GATE_TOP2, "min-top2", "P",                                            \
                     "the same of the two likeliest, in order"),                                   \
        NIB_GATE_ROW(g, NIB_GATE_TOP3, "min-top3", "P", "of three"),                               \
        NIB_GATE_ROW(g, NIB_GATE_TOP4, "min-top4", "P", "of four"),                                \
        NIB_GATE_ROW(g, NIB_GATE_TOP5, "min-top5", "P", "of five"),                                \
        NIB_GATE_ROW(g, NIB_GATE_TOP1_SURE, "min-top1-sure", "P",                                  \
                     "--min-top1 where BASE gives its likeliest 90 % or more")

/* Read the limits. NIB_EINVAL names the option whose value is no number. */
NIB_MUST_USE nib_code nib_gates_read(nib_gates *g, nib_err *err);

/* Is there any limit? */
bool nib_gates_any(const nib_gates *g);
/* What a model is beyond, as "divergence 0.0123 is above --max-kl 0.01; ..." into buf; how many. */
size_t nib_gates_beyond(const nib_gates *g, const nib_compare_line *l, char *buf, size_t n);

/* One line on the log for each limit that a model is beyond in a text; how many there are. */
size_t nib_gates_judge(const nib_gates *g, const nib_comparison *c, nib_log *log);

/* JUnit's XML: a suite for each text, a test case for each model and limit, or one for each model
 * that was measured where there are no limits. NIB_EIO when the file exists and !force. */
NIB_MUST_USE nib_code nib_gates_junit(const nib_gates *g, const nib_comparison *c, const char *path,
                                      bool force, nib_err *err);
/* For each text a table in GitHub's Markdown, with a verdict for each model where there are limits.
 */
NIB_MUST_USE nib_code nib_gates_markdown(const nib_gates *g, const nib_comparison *c,
                                         const char *path, bool force, nib_err *err);

#endif
