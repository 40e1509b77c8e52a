/* SPDX-License-Identifier: MIT */
/* run/solve/solve_int.h - what the files solve*.c share: solve.c takes windows through the blocks,
 * solve_weights.c solves the weights that read them. */
#ifndef NIB_RUN_SOLVE_SOLVE_INT_H
#define NIB_RUN_SOLVE_SOLVE_INT_H

#include "calib/block_pass.h"
#include "calib/expert_inputs.h"
#include "calib/hessian.h"
#include "calib/input_ranges.h"
#include "run/solve/layer_weights.h"
#include "run/solve/solve.h"

typedef struct nib_solver nib_solver;

/* What all outputs of a run have in common. */
typedef struct {
    const nib_model *m;
    const nib_windows *w; /* NULL with statistics */
    const nib_ctx *ctx;
    nib_solver *of; /* [n] outputs */
    size_t n;
    size_t n_calib; /* windows to calibrate on: the first ones */
    nib_runner runner;
    nib_block_pass original;   /* these in the original model, where an output asks for them   */
    nib_block_pass held;       /* the held-out ones in the original model                      */
    nib_block_pass plain;      /* the first one in it, where blocks are rescaled               */
    nib_hessians moments;      /* of the original inputs, for outputs that do not propagate:   */
    nib_expert_inputs experts; /* one pass for all of them                                   */
    nib_input_ranges ranges;
    nib_rescaler *rescaler; /* of blocks with these inputs; NULL: none                      */
    nib_rescale_memo memo;  /* of the searches in this block                                */
    nib_hessians on_loan;   /* these moments for an output whose rescaling changes them     */
    /* Work memory of the output whose turn it is. */
    nib_layer_weights block;
    const nib_solver *loaded; /* whose block lies there, as its source has it; NULL: nobody's */
    nib_commit keep;
    nib_hessian expert_in[2]; /* of one expert: what gate and up read, what down reads */
    nib_buf expert_x, code, param, importance;
} nib_solve_common;

/* One output. */
struct nib_solver {
    nib_solve_common *all;
    const nib_plan *p;
    const nib_solve_opts *opts;
    nib_solved_file *side;
    nib_solve_report *report;
    nib_err *err; /* its code: NIB_OK as long as nothing failed */
    bool drift;   /* of its inputs from the original ones: measured */
    nib_gptq *gptq;
    bool own_gptq;    /* and not an earlier output's, with the same options */
    nib_block_pass x; /* inputs of the block: all windows; the held-out ones without propagation */
    nib_hessians own;
    nib_expert_inputs own_experts;
    nib_input_ranges own_ranges;
    nib_hessians *moments; /* its own, or the common ones; the same below */
    nib_expert_inputs *experts;
    nib_input_ranges *ranges;
    nib_observers watch;     /* of its own inputs */
    nib_rescaler *rescaler;  /* NULL: blocks are not rescaled                              */
    nib_block_pass rescaled; /* with it: the first window in the rescaled model before rounding */
};

/* Every weight of the loaded block that reads this input. */
NIB_MUST_USE nib_code nib_solve_input(nib_solver *s, const nib_hessian *in, nib_err *err);
/* Those of the block's experts, one after the other. */
NIB_MUST_USE nib_code nib_solve_experts(nib_solver *s, uint32_t layer, nib_err *err);

#endif
