/* SPDX-License-Identifier: MIT */
/* run/job.h - one quantization, from the recipe to what is written and what became of it.
 *
 * Three steps: nib_job_open() reads the model and the statistics that go with the recipe,
 * nib_job_plan() decides, nib_job_run() solves and writes. After the second a dry run ends; the
 * plan has all that there is to show. nib_job_close() ends each job, at whatever step it failed. */
#ifndef NIB_RUN_JOB_H
#define NIB_RUN_JOB_H

#include "calib/sample.h"
#include "run/write/write_gguf.h"
#include "run/solve/solve.h"
#include "formats/target.h"

typedef struct {
    const char *model;    /* folder or file; strings are borrowed                               */
    nib_recipe recipe;    /* `out` as the user has it; `ranges` is the job's                     */
    const char *imatrix;  /* importance matrix; NULL: none                                      */
    const char *ranges;   /* file of ranges of activations; NULL: none                          */
    const char *stats;    /* folder of Hessians, in place of text; NULL: none                   */
    nib_sample text;      /* what the model runs over, where weights are solved                 */
    nib_solve_opts solve; /* `stats` is the job's                                               */
    bool resume;          /* take up what a killed run of the same job has solved               */
    bool dry_run;         /* nothing will be written: the target is not held for this job       */
} nib_job_opts;

/* Parts point to each other: it must stay where it is. */
typedef struct {
    nib_job_opts opts;
    nib_target target;
    nib_source *src;
    nib_model model;
    nib_imatrix imatrix;
    nib_hessian_store stats;
    nib_ranges ranges;
    const nib_imatrix *importances; /* of the plan to be made: &imatrix, or NULL */
    nib_plan plan;
    nib_quantize_result result;
    nib_solve_report solved; /* n_solved of the plan: what it gained */
} nib_job;

NIB_MUST_USE nib_code nib_job_open(nib_job *j, const nib_job_opts *opts, const nib_ctx *ctx,
                                   nib_err *err);
/* The plan, with the memory that solving takes. */
NIB_MUST_USE nib_code nib_job_plan(nib_job *j, const nib_ctx *ctx, nib_err *err);
/* Carry it out. NIB_EINVAL: text is needed and there is none, or statistics have no use. */
NIB_MUST_USE nib_code nib_job_run(nib_job *j, const nib_ctx *ctx, nib_err *err);
void nib_job_close(nib_job *j);

#endif
