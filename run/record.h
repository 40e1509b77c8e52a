/* SPDX-License-Identifier: MIT */
/* run/record.h - what a job is and what it reads, for the record that its output carries. */
#ifndef NIB_RUN_RECORD_H
#define NIB_RUN_RECORD_H

#include "run/job.h"
#include "run/plan/provenance.h"

/* The recipe in words: every option that decides over the output's tensors, under the names that
 * the command line has; and the files that are read, importances `im` (NULL: none) from where they
 * are. Checksums come later (nib_provenance_read()). *p is freed first. */
NIB_MUST_USE nib_code nib_record_job(nib_provenance *p, const nib_job_opts *o, const nib_source *s,
                                     const nib_imatrix *im, nib_err *err);

#endif
