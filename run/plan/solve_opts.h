/* SPDX-License-Identifier: MIT */
/* run/plan/solve_opts.h - how weights are to be solved and blocks rescaled: plain data. */
#ifndef NIB_RUN_PLAN_SOLVE_OPTS_H
#define NIB_RUN_PLAN_SOLVE_OPTS_H

#include "calib/hessian_store.h"
#include "quant/gptq.h"
#include "quant/range.h"
#include "run/plan/plan.h"

typedef struct {
    double alpha; /* SmoothQuant: in [0, 1], default 0.5; below 0: the best for each input, by
                     the error of the output, of none and 0, 0.05 ... 1 */
} nib_rescale_opts;

enum { NIB_SOLVE_CTX = 2048, NIB_SOLVE_WINDOWS = 128 }; /* when the user does not say */

typedef struct {
    nib_gptq_opts gptq;
    bool propagate; /* default on; off: every block sees the original model's activations      */
    bool true_sequential; /* also inside a block: moments again after each group of weights, default
                             off; needs propagate */
    bool
        all_experts; /* every expert is shown every token while the model is watched, default off */
    double drift; /* share of the activations' drift to make up for (quant/retarget.h), in [0, 1],
                     default 0.5; see nib_solve_drift()                                         */
    size_t held_out; /* windows not calibrated on, default 8, at most an eighth of all           */
    nib_rescale_opts rescale;
    nib_range_method range; /* for ranges measured in the run; default minmax, and ...            */
    double percentile;      /* ... NIB_RANGE_PERCENT, for the method of that name                 */
    uint64_t memory; /* bytes of activations to keep in memory, default NIB_ROWS_MEMORY          */
    const nib_hessian_store
        *stats; /* moments that were collected earlier; default NULL: from windows.   */
                /* The model does not run then: of the rest only gptq has a use.      */
} nib_solve_opts;

nib_solve_opts nib_solve_defaults(void);
/* What is used of opts->drift: 0 where the drift is not known (without propagation, with
 * statistics) or no weight is solved by GPTQ. */
double nib_solve_drift(const nib_plan *p, const nib_solve_opts *opts);

#endif
