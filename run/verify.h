/* SPDX-License-Identifier: MIT */
/* run/verify.h - is a model on the disk whole, and what it was when it was written?
 *
 * All of it is read again: the container's rules, padding included; every block decodes to finite
 * numbers; it opens as a model with a tokenizer; and where there is a manifest
 * (run/write/manifest.h), every byte is covered by a checksum. */
#ifndef NIB_RUN_VERIFY_H
#define NIB_RUN_VERIFY_H

#include "base/ctx.h"
#include "infer/model.h"
#include "run/write/measure.h"

typedef struct {
    char name[160];
    char format[24]; /* of the candidate */
    nib_difference d;
} nib_verify_line;

/* Start with {0}. */
typedef struct {
    char **fault; /* [n_faults] what is wrong, a line each */
    size_t n_faults, cap;
    size_t n_tensors, n_files;
    char version[32];      /* of nibble, where there is a manifest; else empty */
    nib_verify_line *line; /* [n_lines] differences from the other model */
    size_t n_lines;
} nib_verify_report;

/* What is wrong with `path` goes into *r; an error is what kept it from being looked at. `against`:
 * a model whose weights are compared with it, place by place; NULL: none. */
NIB_MUST_USE nib_code nib_verify(nib_verify_report *r, const char *path, const char *against,
                                 const nib_ctx *ctx, nib_err *err);
void nib_verify_report_free(nib_verify_report *r);

#endif
