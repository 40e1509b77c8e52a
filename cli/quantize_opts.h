/* SPDX-License-Identifier: MIT */
/* cli/quantize_opts.h - the options of 'nibble quantize': on its command line, and as the keys of
 * an output of 'nibble batch'. */
#ifndef NIB_CLI_QUANTIZE_OPTS_H
#define NIB_CLI_QUANTIZE_OPTS_H

#include "cli/method_opts.h"
#include "run/job.h"

typedef struct {
    const char *out, *type, *imatrix, *output_type, *embedding_type, *pre, *base_model, *model_card;
    nib_opt_list overrides, tensor_types;
    const char *protect_blocks;
    uint64_t split_max;
    nib_dir_opts dir;
    nib_method_opts how;
    bool pure, leave_output, dry_run, force, json;
} nib_quantize_opts;

#define NIB_QUANTIZE_OPTS_DEFAULT                                                                  \
    {                                                                                              \
        .dir = NIB_DIR_OPTS_DEFAULT, .how = NIB_METHOD_OPTS_DEFAULT                                \
    }

/* The rows, and their targets. */
extern const nib_opt nib_quantize_rows[];
extern nib_quantize_opts nib_quantize_given;

/* Do the options that were given go together? NIB_EINVAL says what does not. */
NIB_MUST_USE nib_code nib_quantize_opts_check(nib_err *err);
/* The job that they ask for. Strings are borrowed from where the options were given; the rest is in
 * `keep`, so that the rows may be used again. */
NIB_MUST_USE nib_code nib_quantize_opts_job(nib_job_opts *out, const char *model, nib_arena *keep,
                                            nib_err *err);

#endif
