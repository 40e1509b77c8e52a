/* SPDX-License-Identifier: MIT */
/* cli/windows.h - sample text on the command line: what commands that calibrate share. */
#ifndef NIB_CLI_WINDOWS_H
#define NIB_CLI_WINDOWS_H

#include "calib/text.h"
#include "cli/opts.h"
#include "infer/model.h"

/* Targets of the options --text, --ctx, --samples and --seed. */
typedef struct {
    nib_opt_list texts;
    uint64_t ctx, samples, seed; /* 0: the command's usual number */
} nib_window_opts;

enum { NIB_CTX_MIN = 16, NIB_CTX_MAX = 1 << 20, NIB_SAMPLES_MAX = 1 << 24 };

/* The four rows, for a command's table; `o` is a static nib_window_opts. */
#define NIB_WINDOW_OPTS(o, ctx_help, samples_letter, samples_help)                                 \
    {.name = "text",                                                                               \
     .kind = NIB_OPT_LIST,                                                                         \
     .target = &(o).texts,                                                                         \
     .metavar = "FILE",                                                                            \
     .help = "sample text, or FILE:WEIGHT; repeatable",                                            \
     .heading = "Sample text"},                                                                    \
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

/* Tokens of a window: o->ctx, or when 0 usual_ctx, or the model's context if shorter. */
size_t nib_window_ctx(const nib_window_opts *o, const nib_model *m, size_t usual_ctx);
/* o->samples of such windows (usual_samples when 0). Says on ctx->log what it took. */
NIB_MUST_USE nib_code nib_windows_from_opts(nib_windows *w, const nib_window_opts *o,
                                            const nib_model *m, const nib_tokenizer *tok,
                                            size_t usual_ctx, size_t usual_samples,
                                            const nib_ctx *ctx, nib_err *err);

/* Name of the i-th text without its folder and weight, as text (nib_utf8_replace); the caller frees
 * it. */
NIB_MUST_USE nib_code nib_window_text_name(char **name, const nib_window_opts *o, size_t i,
                                           nib_err *err);

#endif
