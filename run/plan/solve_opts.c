/* SPDX-License-Identifier: MIT */
/* run/plan/solve_opts.c - see solve_opts.h. */
#include "run/plan/solve_opts.h"

#include "calib/activation_store.h"

nib_solve_opts nib_solve_defaults(void)
{
    return (nib_solve_opts){.gptq = nib_gptq_defaults(),
                            .propagate = true,
                            .drift = 0.5,
                            .held_out = 8,
                            .memory = NIB_ACTIVATIONS_MEMORY,
                            .rescale = {.alpha = 0.5},
                            .percentile = NIB_RANGE_PERCENT};
}

double nib_solve_drift(const nib_plan *p, const nib_solve_opts *opts)
{
    if (!opts->propagate || opts->stats) return 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->tensor[i].action == NIB_ACTION_STAGE && p->tensor[i].method == NIB_METHOD_GPTQ)
            return opts->drift;
    return 0;
}
