/* SPDX-License-Identifier: MIT */
/* run/batch.h - many outputs of one model: what they need is computed once, and shared.
 *
 * Each output is a job (run/job.h), and its bytes are those of the job alone. Shared are the model,
 * the importance matrix, and, of outputs that are solved on the same windows, passes over the
 * original model (run/solve/solve.h). nib_batch_open() and nib_batch_plan() find all mistakes of
 * the recipe; nib_batch_run() carries it out: an output that fails does not stop the others. */
#ifndef NIB_RUN_BATCH_H
#define NIB_RUN_BATCH_H

#include "base/arena.h"
#include "run/batch_record.h"
#include "run/job.h"

typedef enum {
    NIB_BATCH_WAITS,
    NIB_BATCH_MADE,   /* in this run */
    NIB_BATCH_KEPT,   /* an earlier run made it, and it is as it was left */
    NIB_BATCH_FAILED, /* err says why */
} nib_batch_state;

typedef struct {
    const char *where; /* in the recipe, for messages: "jobs.json: line 7: outputs[2]" */
    nib_job_opts opts; /* recipe.out NULL: named by the batch. `model` is the batch's  */
    bool importances;  /* rounded with the batch's own importance matrix               */
    nib_job job;
    bool open;    /* the job is                                                   */
    bool as_left; /* it is there, as the record of an earlier run has it          */
    size_t group; /* outputs of one number are solved side by side                */
    uint64_t fingerprint;
    nib_batch_state state;
    nib_err err;
    double seconds; /* of its own; of what is shared, its part */
} nib_batch_output;

/* Start with the first part set, the rest {0}; strings and outputs are the caller's. */
typedef struct {
    const char *model;
    const char *name; /* of the model, in names of files; NULL: its folder's or file's           */
    const char *folder;  /* of outputs that the batch names, made if it is missing; NULL: here  */
    const char *imatrix; /* importance matrix to make; NULL: NAME-imatrix.gguf in the folder */
    const char *records; /* file of nib_batch_records */
    nib_sample text; /* calibration; of importances with `calibrate`'s usual numbers           */
    nib_batch_output *output; /* [n] */
    size_t n;
    bool resume, dry_run, force;

    nib_source *src;
    nib_model m;
    nib_batch_records done;
    nib_imatrix importances;
    nib_target imatrix_target;
    nib_provenance seen; /* files that outputs have in common are read once for their checksums */
    nib_arena keep;
    size_t n_groups;
    uint64_t peak_memory;
} nib_batch;

/* Opens the model and every job. NIB_EINVAL, here and below: the recipe is wrong; else an output
 * that cannot be made is marked so. */
NIB_MUST_USE nib_code nib_batch_open(nib_batch *b, const nib_ctx *ctx, nib_err *err);
/* Plans every output, and who shares what. */
NIB_MUST_USE nib_code nib_batch_plan(nib_batch *b, const nib_ctx *ctx, nib_err *err);
/* NIB_OK although outputs may have failed: each says what became of it. */
NIB_MUST_USE nib_code nib_batch_run(nib_batch *b, const nib_ctx *ctx, nib_err *err);
void nib_batch_close(nib_batch *b);

/* What a run takes, in passes of the model over the windows, by who asks for them. */
typedef struct {
    size_t outputs;  /* of the group                                                 */
    size_t original; /* run over the original model's activations: one pass for all  */
    size_t drift;    /* measure the drift from them: in the same pass                */
    size_t own;      /* propagate activations of their own                           */
    size_t passes;   /* together                                                     */
    size_t alone;    /* each alone                                                   */
} nib_batch_cost;

nib_batch_cost nib_batch_group_cost(const nib_batch *b, size_t group);
/* Passes that an output makes alone; 0: its weights are not solved, or from statistics. */
size_t nib_batch_passes(const nib_batch_output *o);

#endif
