/* SPDX-License-Identifier: MIT */
/* cli/scoring.h - a text that is scored, on the command line: what perplexity and compare share. */
#ifndef NIB_CLI_SCORING_H
#define NIB_CLI_SCORING_H

#include "cli/kv_opts.h"
#include "infer/ppl.h"

/* Targets of the options --text, --chat, --protocol, --ctx, --chunks, and of kv_opts.h;
 * NIB_SCORING_DEFAULT at first. */
typedef struct {
    const char *text, *protocol;
    bool chat;
    uint64_t ctx, chunks; /* 0: the protocol's, all */
    nib_kv_opts kv;
} nib_scoring;

#define NIB_SCORING_DEFAULT                                                                        \
    {                                                                                              \
        .protocol = "llama.cpp", .kv = NIB_KV_DEFAULT                                              \
    }

/* The names that nib_ppl_protocol_name() gives, in its order, then NULL. */
extern const char *const nib_scoring_protocols[];

enum { NIB_SCORING_CTX_MIN = 16, NIB_SCORING_CTX_MAX = 1 << 20 };

/* The row of --text, where there is one text; `o` is a static nib_scoring. */
#define NIB_SCORING_TEXT_OPT(o)                                                                    \
    {                                                                                              \
        .name = "text", .kind = NIB_OPT_STR, .target = &(o).text, .metavar = "FILE",               \
        .help = "the text to measure on; - is standard input"                                      \
    }

/* The rows of the others, for a command's table. */
#define NIB_SCORING_OPTS(o)                                                                        \
    NIB_CHAT_OPT((o).chat),                                                                        \
        {.name = "protocol",                                                                       \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).protocol,                                                                  \
         .choices = nib_scoring_protocols,                                                         \
         .metavar = "NAME",                                                                        \
         .help = "llama.cpp: second half of each chunk is scored; window: all of it, as in "       \
                 "papers (llama.cpp)"},                                                            \
        {.name = "ctx",                                                                            \
         .letter = 'c',                                                                            \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).ctx,                                                                       \
         .min = NIB_SCORING_CTX_MIN,                                                               \
         .max = NIB_SCORING_CTX_MAX,                                                               \
         .metavar = "N",                                                                           \
         .help = "tokens in a chunk (512; window: 2048, or the model's context if shorter)"},      \
        {.name = "chunks",                                                                         \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).chunks,                                                                    \
         .minus_one = true,                                                                        \
         .metavar = "N",                                                                           \
         .help = "stop after N chunks (all)"},                                                     \
        NIB_KV_OPTS((o).kv)

/* The text, as nib_text_read() has it; with --chat by the template of tok's model. */
NIB_MUST_USE nib_code nib_scoring_read(char **text, size_t *n, const nib_scoring *o,
                                       const nib_tokenizer *tok, nib_err *err);
/* What the options ask for, as nib_ppl_run() and nib_compare_run() take it. */
nib_ppl_opts nib_scoring_how(const nib_scoring *o);

#endif
