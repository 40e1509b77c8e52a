/* SPDX-License-Identifier: MIT */
/* run/job.h - one quantization, from the recipe to what is written and what became of it.
 *
 * Three steps: nib_job_open() reads the model and the statistics that go with the recipe,
 * nib_job_plan() decides, nib_job_run() solves and writes. After the second a dry run ends; the
 * plan has all that there is to show. nib_job_close() ends each job, at whatever step it failed.
 *
 * Of many jobs on one model (run/batch.h) the third is taken apart: nib_job_windows() once,
 * nib_jobs_solve() for all that share passes, nib_job_write() and nib_job_finish() for each. */
#ifndef NIB_RUN_JOB_H
#define NIB_RUN_JOB_H

#include "calib/sample.h"
#include "run/plan/provenance.h"
#include "run/write/write_gguf.h"
#include "run/solve/solve.h"
#include "formats/target.h"

typedef struct {
    const char *model; /* folder or file; strings are borrowed                               */
    const nib_model *opened; /* the same, where it is open already: borrowed; NULL: the job's    */
    nib_recipe recipe;   /* `out` as the user has it; `ranges`, `kv_ranges` are the job's        */
    const char *imatrix; /* importance matrix; NULL: none                                      */
    const char *ranges;  /* file of ranges of activations; NULL: none                          */
    const char *kv_ranges;  /* file of ranges of keys and values; NULL: none                     */
    const char *stats;      /* folder of Hessians, in place of text; NULL: none                   */
    nib_sample text;        /* what the model runs over, where weights are solved                 */
    nib_solve_opts solve;   /* `stats` is the job's                                               */
    bool resume;            /* take up what a killed run of the same job has solved               */
    bool dry_run;           /* nothing will be written: the target is not held for this job       */
    const char *base_model; /* "ORG/NAME" of the model that this one comes from; NULL: not said  */
    nib_provenance *seen; /* files whose checksums are known, of jobs that share some; or NULL   */
} nib_job_opts;

/* Parts point to each other: it must stay where it is. */
typedef struct {
    nib_job_opts opts;
    nib_target target;
    nib_source *src;
    nib_model model;    /* empty where opts.opened is given */
    const nib_model *m; /* that, or &model                  */
    nib_imatrix imatrix;
    nib_hessian_store stats;
    nib_ranges ranges;
    nib_kv_ranges kv_ranges;
    nib_provenance provenance;      /* for the output */
    const nib_imatrix *importances; /* of the plan to be made: &imatrix, or another's, or NULL */
    nib_plan plan;
    nib_solved_file solved_file; /* what waits to be written */
    nib_quantize_result result;
    nib_solve_report solved; /* n_solved of the plan: what it gained */
} nib_job;

NIB_MUST_USE nib_code nib_job_open(nib_job *j, const nib_job_opts *opts, const nib_ctx *ctx,
                                   nib_err *err);
/* The plan, with the memory that solving takes; in place of an earlier one, when importances have
 * changed. */
NIB_MUST_USE nib_code nib_job_plan(nib_job *j, const nib_ctx *ctx, nib_err *err);
/* Carry it out. NIB_EINVAL: text is needed and there is none, or statistics have no use. */
NIB_MUST_USE nib_code nib_job_run(nib_job *j, const nib_ctx *ctx, nib_err *err);
void nib_job_close(nib_job *j);

/* The windows that solving runs over; none where nothing is solved, or from statistics.
 * NIB_EINVAL: as above. */
NIB_MUST_USE nib_code nib_job_windows(nib_windows *w, const nib_job *j, const nib_ctx *ctx,
                                      nib_err *err);
/* Of all that decides the bytes of the output. */
NIB_MUST_USE nib_code nib_job_fingerprint(uint64_t *out, const nib_job *j, const nib_windows *w,
                                          nib_err *err);
/* May they be solved side by side? Not where one runs over other windows, or changes on its way
 * what the others need. */
bool nib_jobs_share(const nib_job *a, const nib_job *b);
/* Bytes that one of them adds to the memory of another. */
uint64_t nib_job_beside(const nib_job *j);
/* Solve what there is to solve in jobs[n], NIB_SOLVE_OUTPUTS at most, each pair of which
 * nib_jobs_share(). err[i].code of each
 * says what became of it: one that fails does not stop the others. */
void nib_jobs_solve(nib_job *const *jobs, size_t n, const nib_windows *w, const nib_ctx *ctx,
                    nib_err *err);
/* Write the output; nib_job_finish() then. */
NIB_MUST_USE nib_code nib_job_write(nib_job *j, const nib_ctx *ctx, nib_err *err);
/* After the last step that was done, with how it ended: solved tensors are kept where they are
 * still wanted, and err says so. Returns rc. */
nib_code nib_job_finish(nib_job *j, nib_code rc, const nib_ctx *ctx, nib_err *err);

#endif
