/* SPDX-License-Identifier: MIT */
/* cli/method_opts.h - how values are chosen, on the command line: --method and what goes with it.
 */
#ifndef NIB_CLI_METHOD_OPTS_H
#define NIB_CLI_METHOD_OPTS_H

#include "cli/dir_opts.h"
#include "cli/windows.h"
#include "run/solve/solve.h"

/* Targets of the options; start with NIB_METHOD_OPTS_DEFAULT. */
typedef struct {
    const char *method, *alpha, *stats;
    nib_window_opts windows;
    double percentile;  /* 0: not given */
    double damp, drift; /* drift below 0: not given */
    uint64_t sweeps, memory;
    bool no_propagate, true_sequential, all_experts, resume;
} nib_method_opts;

#define NIB_METHOD_OPTS_DEFAULT                                                                    \
    {                                                                                              \
        .method = "rtn", .damp = NIB_GPTQ_DAMP, .drift = -1, .sweeps = NIB_GPTQ_SWEEPS,            \
        .memory = NIB_ACTIVATIONS_MEMORY                                                           \
    }

extern const char *const nib_method_names[]; /* NULL-terminated */

/* The rows, for a command's table; `o` is a static nib_method_opts. */
#define NIB_METHOD_OPTS(o)                                                                         \
    {.name = "method",                                                                             \
     .letter = 'm',                                                                                \
     .kind = NIB_OPT_CHOICE,                                                                       \
     .target = &(o).method,                                                                        \
     .choices = nib_method_names,                                                                  \
     .metavar = "METHOD",                                                                          \
     .help = "rtn, hqq, gptq, awq, awq+gptq ... (rtn)",                                            \
     .heading = "Method"},                                                                         \
        {.name = "alpha",                                                                          \
         .kind = NIB_OPT_STR,                                                                      \
         .target = &(o).alpha,                                                                     \
         .metavar = "A",                                                                           \
         .help = "smoothquant: from 0 to 1, or auto (0.5)"},                                       \
        {.name = "damp",                                                                           \
         .kind = NIB_OPT_NUM,                                                                      \
         .target = &(o).damp,                                                                      \
         .min = 0,                                                                                 \
         .max = 1,                                                                                 \
         .metavar = "SHARE",                                                                       \
         .help = "gptq: share added to the Hessian's diagonal (0.01)"},                            \
        {.name = "sweeps",                                                                         \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).sweeps,                                                                    \
         .max = 1000,                                                                              \
         .metavar = "N",                                                                           \
         .help = "gptq: descent sweeps; 0 for plain GPTQ (8)"},                                    \
        {.name = "drift",                                                                          \
         .kind = NIB_OPT_NUM,                                                                      \
         .target = &(o).drift,                                                                     \
         .min = 0,                                                                                 \
         .max = 1,                                                                                 \
         .metavar = "SHARE",                                                                       \
         .help = "gptq: share of drift to make up for (0.5)"},                                     \
        {.name = "percentile",                                                                     \
         .kind = NIB_OPT_NUM,                                                                      \
         .target = &(o).percentile,                                                                \
         .min = 50,                                                                                \
         .max = 99.9999,                                                                           \
         .metavar = "P",                                                                           \
         .help = "w8a8: share of values within the range (99.99)"},                                \
        {.name = "no-propagate",                                                                   \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).no_propagate,                                                              \
         .help = "gptq: blocks see the original activations"},                                     \
        {.name = "true-sequential",                                                                \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).true_sequential,                                                           \
         .help = "gptq: activations are renewed inside a block too"},                              \
        {.name = "all-experts",                                                                    \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).all_experts,                                                               \
         .help = "gptq: show every expert every token"},                                           \
        {.name = "memory",                                                                         \
         .kind = NIB_OPT_SIZE,                                                                     \
         .target = &(o).memory,                                                                    \
         .metavar = "SIZE",                                                                        \
         .help = "gptq: activations to keep in memory (1Gi)"},                                     \
        {.name = "resume",                                                                         \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).resume,                                                                    \
         .help = "gptq: go on where a killed run was"},                                            \
        NIB_WINDOW_OPTS((o).windows, "tokens in a window (2048, or the model's context)", 0,       \
                        "windows, chosen at random (128)"),                                        \
    {                                                                                              \
        .name = "stats", .kind = NIB_OPT_STR, .target = &(o).stats, .metavar = "DIR",              \
        .help = "in place of --text: 'nibble calibrate --hessians'",                               \
        .heading = "Collected statistics"                                                          \
    }

nib_method nib_method_opts_method(const nib_method_opts *o);
nib_transform nib_method_opts_transform(const nib_method_opts *o);

/* Does the method look at activations? */
bool nib_method_opts_looks(const nib_method_opts *o);

/* NIB_EINVAL: what is wrong with the options together. A dry run does without text. */
NIB_MUST_USE nib_code nib_method_opts_check(const nib_method_opts *o, const nib_dir_opts *dir,
                                            bool dry_run, nib_err *err);

/* What they ask for, where nothing is wrong, but the statistics. */
nib_solve_opts nib_method_opts_solve(const nib_method_opts *o, const nib_dir_opts *dir);

#endif
