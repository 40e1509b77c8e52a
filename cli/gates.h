/* SPDX-License-Identifier: MIT */
/* cli/gates.h - limits for what 'compare' measures, and reports of them for pipelines.
 *
 * Every statistic can have a limit. All are judged after everything was measured and printed, so
 * that a pipeline that stops has the whole report. */
#ifndef NIB_CLI_GATES_H
#define NIB_CLI_GATES_H

#include "base/log.h"
#include "cli/opts.h"
#include "infer/compare.h"

enum {
    NIB_GATE_KL,
    NIB_GATE_KL_MEDIAN,
    NIB_GATE_KL_90,
    NIB_GATE_KL_99,
    NIB_GATE_KL_999,
    NIB_GATE_KL_MAX,
    NIB_GATE_PPL,
    NIB_GATE_RMS_DP,
    NIB_GATE_TOP1,
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
        NIB_GATE_ROW(g, NIB_GATE_PPL, "max-ppl-increase", "P",                                     \
                     "increase of perplexity, 2% or 0.02"),                                        \
        NIB_GATE_ROW(g, NIB_GATE_RMS_DP, "max-rms-dp", "P",                                        \
                     "root mean square change of the next token's probability"),                   \
        NIB_GATE_ROW(g, NIB_GATE_TOP1, "min-top1", "P", "share of tokens with the same likeliest")

/* Read the limits. NIB_EINVAL names the option whose value is no number. */
NIB_MUST_USE nib_code nib_gates_read(nib_gates *g, nib_err *err);

/* A comparison as reports have it: line[n] of models named name[n], the base first. */
typedef struct {
    const nib_compare_result *r;
    const nib_compare_line *line;
    const char *const *name;
    const double *bits;    /* [n] bits per weight                                               */
    const uint64_t *bytes; /* [n] of the files                                                  */
    size_t n;
} nib_comparison;

/* One line on the log for each limit that a model is beyond; how many there are. */
size_t nib_gates_judge(const nib_gates *g, const nib_comparison *c, nib_log *log);

/* JUnit's XML: a test case for each model and limit, or one for each model that was measured where
 * there are no limits. NIB_EIO when the file exists and !force. */
NIB_MUST_USE nib_code nib_gates_junit(const nib_gates *g, const nib_comparison *c, const char *path,
                                      bool force, nib_err *err);
/* A table in GitHub's Markdown, with a verdict for each model where there are limits. */
NIB_MUST_USE nib_code nib_gates_markdown(const nib_gates *g, const nib_comparison *c,
                                         const char *path, bool force, nib_err *err);

#endif
