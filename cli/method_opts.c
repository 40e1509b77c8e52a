/* SPDX-License-Identifier: MIT */
/* cli/method_opts.c - see method_opts.h. Tests: tests/cases/commands. */
#include "cli/method_opts.h"

#include "base/name.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const nib_method_names[] = {
    "rtn", "hqq", "gptq", "awq", "awq+gptq", "smoothquant", "smoothquant+gptq", NULL};

nib_method nib_method_opts_method(const nib_method_opts *o)
{
    const char *plus = strchr(o->method, '+');
    if (!strcmp(o->method, "hqq")) return NIB_METHOD_HQQ;
    return strcmp(plus ? plus + 1 : o->method, "gptq") ? NIB_METHOD_RTN : NIB_METHOD_GPTQ;
}

nib_transform nib_method_opts_transform(const nib_method_opts *o)
{
    if (!strncmp(o->method, "awq", 3)) return NIB_TRANSFORM_AWQ;
    if (!strncmp(o->method, "smooth", 6)) return NIB_TRANSFORM_SMOOTHQUANT;
    return NIB_TRANSFORM_NONE;
}

bool nib_method_opts_looks(const nib_method_opts *o)
{
    return nib_method_opts_method(o) == NIB_METHOD_GPTQ ||
           nib_method_opts_transform(o) != NIB_TRANSFORM_NONE;
}

/* In [0, 1], -1 for auto; NAN when it is neither. */
static double alpha(const nib_method_opts *o)
{
    char *end;
    if (!o->alpha) return 0.5;
    if (nib_name_same(o->alpha, "auto")) return -1;
    const double a = strtod(o->alpha, &end);
    return end != o->alpha && !*end && a >= 0 && a <= 1 ? a : NAN;
}

/* What does not go with --stats; NULL: nothing. */
static const char *misplaced_stats(const nib_method_opts *o, const nib_dir_opts *dir)
{
    if (o->windows.texts.n) return "--stats takes the place of --text";
    if (o->true_sequential)
        return "--true-sequential runs the model, so it needs --text, not --stats";
    if (o->all_experts) return "--all-experts runs the model, so it needs --text, not --stats";
    if (nib_method_opts_transform(o) != NIB_TRANSFORM_NONE)
        return "rescaling runs the model, so it needs --text, not --stats";
    if (nib_dir_opts_measured(dir)) return "--activations needs --text, not --stats";
    return NULL;
}

nib_code nib_method_opts_check(const nib_method_opts *o, const nib_dir_opts *dir, bool dry_run,
                               nib_err *err)
{
    const nib_transform transform = nib_method_opts_transform(o);
    const char *misplaced = o->stats ? misplaced_stats(o, dir) : NULL;
    if (dir->ranges && transform != NIB_TRANSFORM_NONE)
        return nib_fail(err, NIB_EINVAL,
                        "--ranges are of the model as it is, and %s changes its inputs: use "
                        "--activations",
                        o->method);
    if (nib_method_opts_looks(o) && !o->windows.texts.n && !o->stats && !dry_run)
        return nib_fail(err, NIB_EINVAL, "--method %s needs --text FILE%s", o->method,
                        strcmp(o->method, "gptq") ? "" : " or --stats DIR");
    if (o->windows.chat && !o->windows.texts.n && !dry_run)
        return nib_fail(err, NIB_EINVAL, "--chat needs --text FILE");
    if (misplaced) return nib_fail(err, NIB_EINVAL, "%s", misplaced);
    if (o->alpha && transform != NIB_TRANSFORM_SMOOTHQUANT)
        return nib_fail(err, NIB_EINVAL, "--alpha needs --method smoothquant");
    if (o->percentile > 0 && (!dir->activations || strcmp(dir->activations, "percentile") != 0))
        return nib_fail(err, NIB_EINVAL, "--percentile needs --activations percentile");
    if (o->drift > 0 && (o->stats || o->no_propagate))
        return nib_fail(err, NIB_EINVAL, "--drift goes with neither --stats nor --no-propagate");
    if (o->true_sequential && o->no_propagate)
        return nib_fail(err, NIB_EINVAL,
                        "--true-sequential renews activations, --no-propagate does not");
    if (isnan(alpha(o)))
        return nib_fail(err, NIB_EINVAL, "--alpha '%s': should be from 0 to 1, or auto", o->alpha);
    return NIB_OK;
}

nib_solve_opts nib_method_opts_solve(const nib_method_opts *o, const nib_dir_opts *dir)
{
    nib_solve_opts how = nib_solve_defaults();
    const char *measured = nib_dir_opts_measured(dir);
    if (dir->desc_act) how.gptq.when = NIB_PARAMS_REACHED;
    how.gptq.damp = o->damp;
    how.gptq.sweeps = (unsigned)o->sweeps;
    how.rescale.alpha = alpha(o);
    if (measured) how.range = nib_range_method_find(measured);
    if (o->percentile > 0) how.percentile = o->percentile;
    if (o->drift >= 0) how.drift = o->drift;
    how.propagate = !o->no_propagate;
    how.true_sequential = o->true_sequential;
    how.all_experts = o->all_experts;
    how.memory = o->memory;
    return how;
}
