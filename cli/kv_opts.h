/* SPDX-License-Identifier: MIT */
/* cli/kv_opts.h - how keys and values are kept, on the command line: what the commands that run
 * models share. */
#ifndef NIB_CLI_KV_OPTS_H
#define NIB_CLI_KV_OPTS_H

#include "base/json.h"
#include "cli/opts.h"
#include "infer/kv_format.h"

#include <stdio.h>

/* Targets of --kv-cache, --cache-type-k, --cache-type-v and --kv-rotation; NIB_KV_DEFAULT at first.
 */
typedef struct {
    const char *format, *of[2], *rotation; /* of keys and of values: NULL as all */
} nib_kv_opts;

#define NIB_KV_DEFAULT                                                                             \
    {                                                                                              \
        .format = "f32", .rotation = "auto"                                                        \
    }

/* "auto", "on", "off", NULL. */
extern const char *const nib_kv_rotations[];

/* The rows, for a command's table; `o` is a static nib_kv_opts. */
#define NIB_KV_OPTS(o)                                                                             \
    {.name = "kv-cache",                                                                           \
     .kind = NIB_OPT_CHOICE,                                                                       \
     .target = &(o).format,                                                                        \
     .choices = nib_kv_names,                                                                      \
     .metavar = "FORMAT",                                                                          \
     .help = "keep keys and values in q8_0, q4_0 ..., int8, fp8, int4, kivi4 ... (f32)"},          \
        {.name = "cache-type-k",                                                                   \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).of[0],                                                                     \
         .choices = nib_kv_names,                                                                  \
         .metavar = "FORMAT",                                                                      \
         .help = "keep keys in another format than --kv-cache says"},                              \
        {.name = "cache-type-v",                                                                   \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).of[1],                                                                     \
         .choices = nib_kv_names,                                                                  \
         .metavar = "FORMAT",                                                                      \
         .help = "the same of values"},                                                            \
    {                                                                                              \
        .name = "kv-rotation", .kind = NIB_OPT_CHOICE, .target = &(o).rotation,                    \
        .choices = nib_kv_rotations, .metavar = "WHEN",                                            \
        .help = "rotate heads before they are rounded: on, off, or where llama.cpp does (auto)"    \
    }

/* What they ask for; the format is NULL where it is f32. */
nib_kv_choice nib_kv_how(const nib_kv_opts *o);

/* Add their formats to JSON: "kv_cache", as --kv-cache has it; apart "cache_type_k" and
 * "cache_type_v". */
NIB_MUST_USE bool nib_kv_add_json(nib_json *j, const nib_kv_opts *o);
/* ", keys and values q4_0, rotated"; apart ", keys q8_0, rotated, values f16"; of f32 nothing. */
void nib_kv_print(const nib_kv_opts *o);
/* The options that are not at their defaults, each with a space before it. */
void nib_kv_print_options(FILE *f, const nib_kv_opts *o);

#endif
