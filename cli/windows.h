/* SPDX-License-Identifier: MIT */
/* cli/windows.h - sample text on the command line: what commands that calibrate share. */
#ifndef NIB_CLI_WINDOWS_H
#define NIB_CLI_WINDOWS_H

#include "base/arena.h"
#include "calib/sample.h"
#include "cli/opts.h"

/* Targets of the options --text, --chat, --ctx, --samples and --seed. */
typedef struct {
    nib_opt_list texts;
    bool chat;
    uint64_t ctx, samples, seed; /* 0: the command's usual number */
} nib_window_opts;

enum { NIB_CTX_MIN = 16, NIB_CTX_MAX = 1 << 20, NIB_SAMPLES_MAX = 1 << 24 };

/* The rows, for a command's table; `o` is a static nib_window_opts. */
#define NIB_WINDOW_OPTS(o, ctx_help, samples_letter, samples_help)                                 \
    {.name = "text",                                                                               \
     .kind = NIB_OPT_LIST,                                                                         \
     .target = &(o).texts,                                                                         \
     .metavar = "FILE",                                                                            \
     .help = "sample text, or FILE:WEIGHT; repeatable",                                            \
     .heading = "Sample text"},                                                                    \
        NIB_CHAT_OPT((o).chat),                                                                    \
        {.name = "ctx",                                                                            \
         .letter = 'c',                                                                            \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).ctx,                                                                       \
         .min = NIB_CTX_MIN,                                                                       \
         .max = NIB_CTX_MAX,                                                                       \
         .metavar = "N",                                                                           \
         .help = ctx_help},                                                                        \
        {.name = "samples",                                                                        \
         .letter = samples_letter,                                                                 \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).samples,                                                                   \
         .min = 1,                                                                                 \
         .max = NIB_SAMPLES_MAX,                                                                   \
         .metavar = "N",                                                                           \
         .help = samples_help},                                                                    \
    {                                                                                              \
        .name = "seed", .kind = NIB_OPT_UINT, .target = &(o).seed, .metavar = "N",                 \
        .help = "of the random choice of windows (0)"                                              \
    }

/* The sample that is asked for; what it points to comes from `keep`, also on failure. */
NIB_MUST_USE nib_code nib_window_sample(nib_sample *s, nib_arena *keep, const nib_window_opts *o,
                                        nib_err *err);

#endif
