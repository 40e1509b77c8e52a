/* SPDX-License-Identifier: MIT */
/* cli/cmd_calibrate.c - collect statistics of a model on sample text: the importance matrix, or
 * ranges of activations, or second moments. Tests: tests/cases/commands. */
#include "base/file.h"
#include "base/mem.h"
#include "calib/input_ranges.h"
#include "calib/kv_ranges.h"
#include "calib/collect_importance.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/windows.h"
#include "infer/finite.h"
#include "calib/collect_hessians.h"
#include "calib/activation_store.h"
#include "run/solve/solve.h"
#include "formats/target.h"

#include <stdio.h>
#include <string.h>

static struct {
    nib_window_opts windows;
    const char *out, *activations, *kv_cache;
    double percentile; /* 0: not given */
    uint64_t memory;
    bool hessians, output, all_experts, force;
} opt = {.memory = NIB_ACTIVATIONS_MEMORY};

static const char *const methods[] = {"minmax", "average", "percentile", "mse", "kl", NULL};

static const char *const strategies[] = {"tensor", "head", NULL};

static const nib_opt rows[] = {
    NIB_WINDOW_OPTS(opt.windows, "tokens in a window (512, or the model's context if shorter)", 'n',
                    "windows, chosen at random from the texts (all of them, at most 1024)"),
    {.name = "output",
     .letter = 'o',
     .kind = NIB_OPT_STR,
     .target = &opt.out,
     .metavar = "FILE",
     .help = "the statistics file to write; an unfinished run is kept in FILE.partial",
     .heading = "Statistics to write"},
    {.name = "activations",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.activations,
     .choices = methods,
     .help = "write ranges of activations instead, by minmax, average, percentile, mse or kl"},
    {.name = "percentile",
     .kind = NIB_OPT_NUM,
     .target = &opt.percentile,
     .min = 50,
     .max = 99.9999,
     .metavar = "P",
     .help = "for percentile: share of values within the range (99.99)"},
    {.name = "kv-cache",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.kv_cache,
     .choices = strategies,
     .metavar = "OF",
     .help = "write ranges of keys and values instead, of a whole layer (tensor) or each head, for "
             "'nibble quantize --kv-scales'"},
    {.name = "hessians",
     .kind = NIB_OPT_FLAG,
     .target = &opt.hessians,
     .help = "a folder of second moments instead, for 'nibble quantize --stats'; windows are then "
             "128 of 2048 tokens unless said otherwise"},
    {.name = "memory",
     .kind = NIB_OPT_SIZE,
     .target = &opt.memory,
     .metavar = "SIZE",
     .help = "with --hessians: activations to keep in memory (1Gi)"},
    {.name = "process-output",
     .kind = NIB_OPT_FLAG,
     .target = &opt.output,
     .help = "also the output matrix, where the model has one of its own"},
    {.name = "all-experts",
     .kind = NIB_OPT_FLAG,
     .target = &opt.all_experts,
     .help = "show every expert every token, also those that it is not chosen for"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace the file if it exists"},
    {0}};

/* How many tokens the experts saw, block by block where some saw few. */
static void say_experts(const nib_imatrix *m, nib_log *log)
{
    for (size_t i = 0; i < m->n; i++) {
        const nib_imatrix_entry *e = &m->entry[i];
        size_t none = 0;
        double least = e->counts[0], sum = 0;
        if (!nib_imatrix_few(e)) continue;
        for (size_t k = 0; k < e->n_mat; k++) {
            none += !(e->counts[k] > 0);
            least = e->counts[k] < least ? e->counts[k] : least;
            sum += e->counts[k];
        }
        nib_info(
            log,
            "%s: %zu of %zu experts saw no token and %zu fewer than %d (least %.0f, mean %.0f); "
            "more text, or more kinds of it, reaches more of them",
            e->name, none, e->n_mat, nib_imatrix_few(e), NIB_IMATRIX_FEW, least,
            sum / (double)e->n_mat);
    }
}

static nib_code write_importances(const nib_model *m, const nib_sample *s, const nib_windows *w,
                                  const char *partial, const nib_ctx *ctx, nib_err *err)
{
    nib_imatrix stats = {0};
    nib_calib_opts how = nib_calib_defaults();
    how.process_output = opt.output;
    how.all_experts = opt.all_experts;
    how.checkpoint = partial;
    if (opt.output && m->hp.tied)
        nib_warn(ctx->log,
                 "--process-output: the model has no output matrix of its own, the embedding "
                 "serves; nothing is collected for it");
    if (opt.all_experts && !m->hp.n_expert)
        nib_warn(ctx->log, "--all-experts has no effect: the model has no experts");
    nib_code rc = nib_collect_importance(&stats, m, w, &how, ctx, err);
    if (!rc) rc = nib_importance_texts(&stats, s, err);
    if (!rc) rc = nib_imatrix_save(&stats, opt.out, opt.force, err);
    if (!rc) {
        say_experts(&stats, ctx->log);
        remove(partial); /* mostly there is none */
        printf("%s: %zu weights, from %zu windows of %zu tokens\n", opt.out, stats.n, w->n,
               w->n_ctx);
    }
    nib_imatrix_free(&stats);
    return rc;
}

static nib_code write_ranges(const nib_model *m, const nib_windows *w, const nib_ctx *ctx,
                             nib_err *err)
{
    nib_ranges r;
    nib_code rc =
        nib_measure_ranges(&r, m, w, nib_range_method_find(opt.activations),
                           opt.percentile > 0 ? opt.percentile : NIB_RANGE_PERCENT, ctx, err);
    if (!rc) rc = nib_ranges_save(&r, opt.out, opt.force, err);
    if (!rc)
        printf("%s: ranges of %zu inputs by %s, from %zu windows of %zu tokens\n", opt.out, r.n,
               opt.activations, w->n, w->n_ctx);
    nib_ranges_free(&r);
    return rc;
}

static nib_code write_kv_ranges(const nib_model *m, const nib_windows *w, const nib_ctx *ctx,
                                nib_err *err)
{
    nib_kv_ranges r;
    nib_code rc = nib_kv_ranges_measure(&r, m, w, !strcmp(opt.kv_cache, "head"), ctx, err);
    if (!rc) rc = nib_kv_ranges_save(&r, opt.out, opt.force, err);
    if (!rc)
        printf("%s: ranges of keys and values of %zu layers, from %zu windows of %zu tokens\n",
               opt.out, r.n_layer, w->n, w->n_ctx);
    nib_kv_ranges_free(&r);
    return rc;
}

static nib_code write_hessians(const nib_model *m, const nib_windows *w, const char *dir,
                               const nib_ctx *ctx, nib_err *err)
{
    nib_collect_report r;
    const nib_collect_opts how = {.memory = opt.memory, .force = opt.force};
    nib_code rc = nib_collect_hessians(&r, dir, m, w, &how, ctx, err);
    if (!rc)
        printf("%s: second moments of %zu inputs, from %zu windows of %zu tokens; %.1f MB\n", dir,
               r.inputs, w->n, w->n_ctx, (double)r.bytes / 1e6);
    return rc;
}

/* beside: the folder of second moments, or the unfinished run of an importance matrix. */
static nib_code calibrate(const char *path, const char *beside, const nib_ctx *ctx, nib_err *err)
{
    nib_opened o = {0};
    nib_sample s;
    nib_arena keep = {0};
    nib_windows windows = {0};
    nib_code rc = nib_window_sample(&s, &keep, &opt.windows, err);
    if (!rc) rc = nib_opened_open(&o, path, ctx->log, err);
    if (!rc)
        rc = nib_sample_pick(
            &windows, &s, &o.model, o.tok, opt.hessians ? NIB_SOLVE_CTX : NIB_CALIB_CTX,
            opt.hessians ? NIB_SOLVE_WINDOWS : NIB_CALIB_MAX_WINDOWS, ctx->log, err);
    if (!rc)
        rc = opt.hessians      ? write_hessians(&o.model, &windows, beside, ctx, err)
             : opt.kv_cache    ? write_kv_ranges(&o.model, &windows, ctx, err)
             : opt.activations ? write_ranges(&o.model, &windows, ctx, err)
                               : write_importances(&o.model, &s, &windows, beside, ctx, err);
    if (rc == NIB_ENUMERIC) nib_blame_weights(&o.model, ctx, err);
    nib_windows_free(&windows);
    nib_opened_close(&o);
    nib_arena_free(&keep);
    return rc;
}

/* An output that cannot be written is found before the work, not after. */
static nib_code check_target(nib_err *err)
{
    nib_out *o;
    nib_code rc = nib_out_open(&o, opt.out, opt.force, err);
    if (!rc) nib_out_abort(o);
    return rc;
}

static nib_code work_on_file(const char *model, const nib_ctx *ctx, nib_err *err)
{
    static const char SUFFIX[] = ".partial";
    size_t n = strlen(opt.out);
    nib_code rc = check_target(err);
    if (rc) return rc;
    char *partial = nib_alloc(n + sizeof SUFFIX, 1);
    if (!partial) return nib_fail_nomem(err, "a file name");
    memcpy(partial, opt.out, n);
    memcpy(partial + n, SUFFIX, sizeof SUFFIX);
    rc = calibrate(model, partial, ctx, err);
    nib_free(partial);
    return rc;
}

static nib_code work(const char *model, const nib_ctx *ctx, nib_err *err)
{
    nib_target target;
    nib_code rc = nib_target_claim(&target, opt.out, opt.hessians, err);
    if (rc) return rc;
    opt.out = target.path;
    if (!opt.hessians)
        rc = work_on_file(model, ctx, err);
    else if (!(rc = nib_collect_check(opt.out, opt.force, err)))
        rc = calibrate(model, opt.out, ctx, err);
    nib_target_release(&target);
    return rc;
}

/* What is wrong with the options together; NULL: nothing. */
static const char *wrong(void)
{
    if (!opt.windows.texts.n) return "--text FILE is missing";
    if (!opt.out) return "-o FILE is missing";
    if (opt.percentile > 0 && (!opt.activations || strcmp(opt.activations, "percentile") != 0))
        return "--percentile needs --activations percentile";
    if (opt.output && opt.activations)
        return "--process-output is for importances, not for --activations";
    if (opt.kv_cache && (opt.activations || opt.hessians || opt.output))
        return "--kv-cache goes with none of --activations, --hessians and --process-output";
    if (opt.hessians && opt.activations) return "--hessians or --activations, not both";
    if (opt.all_experts && (opt.activations || opt.hessians))
        return "--all-experts is for importances, not for --activations or --hessians";
    if (opt.output && opt.hessians)
        return "--process-output is for importances, not for --hessians";
    return NULL;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    if (wrong()) return nib_usage(&nib_cmd_calibrate, "calibrate: %s", wrong());
    return work(operands->v[0], ctx, &err) ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_calibrate = {
    .name = "calibrate",
    .run = run,
    .summary = "collect statistics of a model on sample text",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL --text FILE -o FILE",
    .about = "Run a model over sample text and write its importance matrix: how much each input "
             "channel of each linear weight carries. 'nibble quantize --imatrix' rounds by it, and "
             "so does llama.cpp. A run that was interrupted goes on where it was when the same "
             "command is given again. With --activations write instead, as JSON, the range that "
             "8-bit integers should cover in the input of each linear weight; with --kv-cache the "
             "ranges "
             "of keys and values; with --hessians, as a "
             "folder, what 'quantize --method gptq' needs, once for many runs of it.",
    .example = "nibble calibrate data/tiny-llama --text data/calibration.txt -o stats.gguf",
    .options = rows,
};
