/* SPDX-License-Identifier: MIT */
/* tests/run/solving.h - models solved as the command does it, in variations; runs that are killed.
 */
#ifndef NIB_TESTS_RUN_SOLVING_H
#define NIB_TESTS_RUN_SOLVING_H

#include "run/solve/solve.h"
#include "tests/run/fixture.h"

enum { N_CTX = 64, WINDOWS = 40 };

/* How a run differs from the usual one. */
typedef struct {
    const char *model; /* NULL: the demonstration model */
    const char *type;  /* NULL: q3_k_m                  */
    int threads;       /* 0: 2                          */
    uint64_t memory;   /* 0: all in memory              */
    size_t windows;    /* 0: WINDOWS                    */
    unsigned sweeps;   /* 0: 1                          */
    bool resume, no_propagate, true_sequential, all_experts, no_drift;
    const char *override;      /* NULL: none */
    bool rtn;                  /* for weights that no override speaks of */
    const nib_packing *folder; /* NULL: a GGUF file */
    const char *stats;         /* NULL: from windows             */
    const nib_ranges *ranges;  /* NULL: measured, where needed   */
    nib_range_method range;    /* by this                        */
    bool hold_out_none;
    nib_transform transform;
    double alpha;         /* of SmoothQuant       */
    const nib_arch *arch; /* NULL: the model's own */
    bool pure;
} variation;

/* n windows of data/NAME. */
void pick_windows(nib_windows *w, const opened *o, const char *name, size_t n);

/* As the command does it: plan, solve, write; the side file stays where it fails. */
nib_code solve(const char *out, const variation *v, nib_solve_report *report, nib_err *err);
/* Must succeed, and report errors below those of rounding. Returns how many weights were solved in
 * this run. */
size_t solve_ok(const char *out, const variation *v);
/* Must fail with this code, and say `part`. */
void solve_fails(const char *out, const variation *v, nib_code code, const char *part);

/* Blocks that the side file of scratch file NAME has; 0 when there is none. */
unsigned blocks_done(const char *name);
/* Start a run and kill it as soon as it has done so many blocks; its target is not there. One
 * thread: the parent has used OpenMP, whose threads a fork does not take along. */
void kill_after(const char *name, unsigned blocks, variation v);

/* A copy of the demonstration model in which every value of one tensor is `value`; its path. */
const char *spoiled_model(const char *name, const char *tensor, float value);

#endif
