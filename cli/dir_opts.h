/* SPDX-License-Identifier: MIT */
/* cli/dir_opts.h - packed folders on the command line: which checkpoint format, and its settings.
 */
#ifndef NIB_CLI_DIR_OPTS_H
#define NIB_CLI_DIR_OPTS_H

#include "cli/opts.h"
#include "formats/packed_format.h"
#include "infer/model.h"
#include "run/plan/recipe.h"

/* Targets of the options; start with NIB_DIR_OPTS_DEFAULT. */
typedef struct {
    const char *format, *scheme, *activations, *ranges, *kv_scales, *scales, *checkpoint_format;
    uint64_t bits, group_size, shard_max;
    bool asym, desc_act, double_quant;
} nib_dir_opts;

#define NIB_DIR_OPTS_DEFAULT                                                                       \
    {                                                                                              \
        .format = "gguf", .group_size = UINT64_MAX                                                 \
    }

/* NULL-terminated. */
extern const char *const nib_folder_formats[];
extern const char *const nib_folder_schemes[];
extern const char *const nib_folder_activations[];
extern const char *const nib_folder_scales[];
extern const char *const nib_folder_checkpoint_formats[];

/* The rows, for a command's table; `o` is a static nib_dir_opts. */
#define NIB_DIR_OPTS(o)                                                                            \
    {.name = "scheme",                                                                             \
     .kind = NIB_OPT_CHOICE,                                                                       \
     .target = &(o).scheme,                                                                        \
     .choices = nib_folder_schemes,                                                                \
     .metavar = "S",                                                                               \
     .help = "w4a16, w8a8, fp8, nvfp4 ...; nf4 ...; block ...",                                    \
     .heading = "Packed folders"},                                                                 \
        {.name = "activations",                                                                    \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).activations,                                                               \
         .choices = nib_folder_activations,                                                        \
         .metavar = "M",                                                                           \
         .help = "range of rounded inputs: dynamic, minmax, kl ..."},                              \
        {.name = "ranges",                                                                         \
         .kind = NIB_OPT_STR,                                                                      \
         .target = &(o).ranges,                                                                    \
         .metavar = "FILE",                                                                        \
         .help = "of inputs: 'nibble calibrate --activations'"},                                   \
        {.name = "kv-scales",                                                                      \
         .kind = NIB_OPT_STR,                                                                      \
         .target = &(o).kv_scales,                                                                 \
         .metavar = "FILE",                                                                        \
         .help = "'nibble calibrate --kv-cache' found their ranges"},                              \
        {.name = "bits",                                                                           \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).bits,                                                                      \
         .min = 1,                                                                                 \
         .max = 8,                                                                                 \
         .metavar = "N",                                                                           \
         .help = "gptq: 2, 3, 4, 8; hqq: 1 to 6, 8 (4)"},                                          \
        {.name = "group-size",                                                                     \
         .kind = NIB_OPT_UINT,                                                                     \
         .target = &(o).group_size,                                                                \
         .max = NIB_WIDTH_MAX,                                                                     \
         .word = "tensor",                                                                         \
         .minus_one = true,                                                                        \
         .metavar = "N",                                                                           \
         .help = "a group's columns (128), 0: rows, or tensor"},                                   \
        {.name = "asym",                                                                           \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).asym,                                                                      \
         .help = "groups, or inputs of w8a8, have a zero point"},                                  \
        {.name = "desc-act",                                                                       \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).desc_act,                                                                  \
         .help = "groups in order of activation"},                                                 \
        {.name = "scales",                                                                         \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).scales,                                                                    \
         .choices = nib_folder_scales,                                                             \
         .metavar = "HOW",                                                                         \
         .help = "of weights: search or range (search)"},                                          \
        {.name = "checkpoint-format",                                                              \
         .kind = NIB_OPT_CHOICE,                                                                   \
         .target = &(o).checkpoint_format,                                                         \
         .choices = nib_folder_checkpoint_formats,                                                 \
         .metavar = "F",                                                                           \
         .help = "gptq: gptq or gptq_v2 (gptq)"},                                                  \
        {.name = "double-quant",                                                                   \
         .kind = NIB_OPT_FLAG,                                                                     \
         .target = &(o).double_quant,                                                              \
         .help = "nf4, fp4: scales in 8 bits"},                                                    \
    {                                                                                              \
        .name = "max-shard-size", .kind = NIB_OPT_SIZE, .target = &(o).shard_max,                  \
        .metavar = "SIZE", .help = "most data in one file (5G)"                                    \
    }

nib_format nib_dir_opts_kind(const nib_dir_opts *o);
/* Is a folder asked for, and not a GGUF file? */
bool nib_dir_opts_folder(const nib_dir_opts *o);
/* What is wrong with the options together, for a usage message; NULL: nothing. */
const char *nib_dir_opts_wrong(const nib_dir_opts *o);
/* The method by which ranges of activations are to be measured; NULL: none are. */
const char *nib_dir_opts_measured(const nib_dir_opts *o);
/* What they ask for, where nothing is wrong. */
nib_int_scales nib_dir_opts_scales(const nib_dir_opts *o);
nib_packing nib_dir_opts_layout(const nib_dir_opts *o);

#endif
