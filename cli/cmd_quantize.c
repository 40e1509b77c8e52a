/* SPDX-License-Identifier: MIT */
/* cli/cmd_quantize.c - write a smaller model: open, plan, run, say what was done. */
#include "base/mem.h"
#include "cli/dir_opts.h"
#include "cli/io.h"
#include "cli/opts.h"
#include "cli/quantize_print.h"
#include "cli/windows.h"
#include "run/dir.h"
#include "run/quantize.h"
#include "run/solve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *out, *type, *imatrix, *output_type, *embedding_type;
    nib_opt_list overrides, tensor_types;
    const char *protect_blocks;
    uint64_t split_max;
    const char *method;
    nib_dir_opts dir;
    nib_window_opts windows;
    const char *alpha, *stats;
    double percentile;
    double damp, drift; /* drift below 0: not given */
    uint64_t sweeps, memory;
    bool no_propagate, true_sequential, resume;
    bool pure, leave_output, dry_run, force, json;
} opt = {.method = "rtn",
         .dir = NIB_DIR_OPTS_DEFAULT,
         .damp = 0.01,
         .drift = -1,
         .sweeps = 8,
         .memory = (uint64_t)1 << 30};

static const char *const METHODS[] = {
    "rtn", "gptq", "awq", "awq+gptq", "smoothquant", "smoothquant+gptq", NULL};

static const char *file_type_name(size_t i)
{
    return i < nib_file_type_count() ? nib_file_type_at(i)->name : NULL;
}

static const nib_opt rows[] = {
    {.name = "output",
     .letter = 'o',
     .kind = NIB_OPT_STR,
     .target = &opt.out,
     .metavar = "FILE",
     .help = "the file or folder to write"},
    {.name = "format",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.dir.format,
     .choices = nib_dir_formats,
     .metavar = "FORMAT",
     .help = "gguf; folders: gptq, awq, compressed-tensors (gguf)"},
    {.name = "type",
     .letter = 't',
     .kind = NIB_OPT_STR,
     .target = &opt.type,
     .offer = file_type_name,
     .metavar = "TYPE",
     .help = "gguf: q8_0, q4_k_m, iq4_xs, q3_k_m ... (q4_k_m)"},
    NIB_DIR_OPTS(opt.dir),
    {.name = "method",
     .letter = 'm',
     .kind = NIB_OPT_CHOICE,
     .target = &opt.method,
     .choices = METHODS,
     .metavar = "METHOD",
     .help = "rtn, gptq, awq, awq+gptq, smoothquant ... (rtn)"},
    {.name = "alpha",
     .kind = NIB_OPT_STR,
     .target = &opt.alpha,
     .metavar = "A",
     .help = "smoothquant: from 0 to 1, or auto (0.5)"},
    NIB_WINDOW_OPTS(opt.windows, "tokens in a window (2048, or the model's context)", 0,
                    "windows, chosen at random (128)"),
    {.name = "stats",
     .kind = NIB_OPT_STR,
     .target = &opt.stats,
     .metavar = "DIR",
     .help = "in place of --text: 'nibble calibrate --hessians'"},
    {.name = "damp",
     .kind = NIB_OPT_NUM,
     .target = &opt.damp,
     .min = 0,
     .max = 1,
     .metavar = "SHARE",
     .help = "gptq: share added to the Hessian's diagonal (0.01)"},
    {.name = "sweeps",
     .kind = NIB_OPT_UINT,
     .target = &opt.sweeps,
     .max = 1000,
     .metavar = "N",
     .help = "gptq: descent sweeps; 0 for plain GPTQ (8)"},
    {.name = "drift",
     .kind = NIB_OPT_NUM,
     .target = &opt.drift,
     .min = 0,
     .max = 1,
     .metavar = "SHARE",
     .help = "gptq: share of the inputs' drift to make up for (0.5)"},
    {.name = "percentile",
     .kind = NIB_OPT_NUM,
     .target = &opt.percentile,
     .min = 50,
     .max = 99.9999,
     .metavar = "P",
     .help = "w8a8: share of values within a percentile range (99.99)"},
    {.name = "no-propagate",
     .kind = NIB_OPT_FLAG,
     .target = &opt.no_propagate,
     .help = "gptq: blocks see the original activations"},
    {.name = "true-sequential",
     .kind = NIB_OPT_FLAG,
     .target = &opt.true_sequential,
     .help = "gptq: activations are renewed inside a block too"},
    {.name = "memory",
     .kind = NIB_OPT_SIZE,
     .target = &opt.memory,
     .metavar = "SIZE",
     .help = "gptq: activations to keep in memory (1Gi)"},
    {.name = "resume",
     .kind = NIB_OPT_FLAG,
     .target = &opt.resume,
     .help = "gptq: go on where a killed run was"},
    {.name = "imatrix",
     .kind = NIB_OPT_STR,
     .target = &opt.imatrix,
     .metavar = "FILE",
     .help = "importance matrix, from 'nibble calibrate'"},
    {.name = "override",
     .kind = NIB_OPT_LIST,
     .target = &opt.overrides,
     .metavar = "RE:K=V",
     .help = "tensors named like RE: method, skip, type, bits"},
    {.name = "protect-blocks",
     .kind = NIB_OPT_STR,
     .target = &opt.protect_blocks,
     .metavar = "K",
     .help = "more bits for the first and last K blocks"},
    {.name = "tensor-type",
     .kind = NIB_OPT_LIST,
     .target = &opt.tensor_types,
     .metavar = "RE=TYPE",
     .help = "tensors with RE in their GGUF name; first wins"},
    {.name = "output-type",
     .kind = NIB_OPT_STR,
     .target = &opt.output_type,
     .metavar = "TYPE",
     .help = "format of the output matrix"},
    {.name = "embedding-type",
     .kind = NIB_OPT_STR,
     .target = &opt.embedding_type,
     .metavar = "TYPE",
     .help = "format of the token embedding"},
    {.name = "leave-output",
     .kind = NIB_OPT_FLAG,
     .target = &opt.leave_output,
     .help = "do not quantize the output matrix"},
    {.name = "pure",
     .kind = NIB_OPT_FLAG,
     .target = &opt.pure,
     .help = "every matrix in the base format, without the mix"},
    {.name = "split-max-size",
     .kind = NIB_OPT_SIZE,
     .target = &opt.split_max,
     .metavar = "SIZE",
     .help = "most tensor data in one file (one file)"},
    {.name = "dry-run",
     .letter = 'n',
     .kind = NIB_OPT_FLAG,
     .target = &opt.dry_run,
     .help = "print each tensor's format and why, sizes, memory"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace an existing file"},
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {0}};

/* ---- the work ---- */

static bool gives_feedback(void)
{
    const char *plus = strchr(opt.method, '+');
    return !strcmp(plus ? plus + 1 : opt.method, "gptq");
}

static nib_transform transform(void)
{
    if (!strncmp(opt.method, "awq", 3)) return NIB_TRANSFORM_AWQ;
    if (!strncmp(opt.method, "smooth", 6)) return NIB_TRANSFORM_SMOOTHQUANT;
    return NIB_TRANSFORM_NONE;
}

/* In [0, 1], -1 for auto; NAN when it is neither. */
static double alpha(void)
{
    char *end;
    if (!opt.alpha) return 0.5;
    if (!strcmp(opt.alpha, "auto")) return -1;
    const double a = strtod(opt.alpha, &end);
    return end != opt.alpha && !*end && a >= 0 && a <= 1 ? a : NAN;
}

static nib_solve_opts solve_opts(const nib_stats *stats)
{
    nib_solve_opts o = nib_solve_defaults();
    if (opt.dir.desc_act) o.gptq.when = NIB_PARAMS_REACHED;
    o.rescale.alpha = alpha();
    const char *measured = nib_dir_opts_measured(&opt.dir);
    if (measured) o.range = nib_range_method_find(measured);
    if (opt.percentile > 0) o.percentile = opt.percentile;
    if (opt.drift >= 0) o.drift = opt.drift;
    o.gptq.damp = opt.damp;
    o.gptq.sweeps = (unsigned)opt.sweeps;
    o.propagate = !opt.no_propagate;
    o.true_sequential = opt.true_sequential;
    o.memory = opt.memory;
    o.stats = stats;
    return o;
}

/* What solving keeps in memory depends on the options of the windows too. */
static void count_solving(nib_plan *p, const nib_stats *stats, const nib_ctx *ctx)
{
    const nib_solve_opts o = solve_opts(stats);
    const size_t samples = opt.windows.samples ? opt.windows.samples : NIB_SOLVE_WINDOWS,
                 n_ctx = nib_window_ctx(&opt.windows, p->model, NIB_SOLVE_CTX);
    uint64_t peak = nib_mem_peak() + nib_solve_memory(p, samples, n_ctx, &o, ctx->threads);
    if (p->n_solved && peak > p->peak_memory) p->peak_memory = peak;
}

/* w: NULL with statistics. */
static nib_code solve_with(nib_solve_report *report, nib_side *side, const nib_plan *p,
                           const nib_windows *w, const nib_stats *stats, const nib_ctx *ctx,
                           nib_err *err)
{
    uint64_t fingerprint;
    const nib_solve_opts o = solve_opts(stats);
    nib_code rc = nib_solve_fingerprint(&fingerprint, p, w, &o, err);
    if (!rc) rc = nib_side_open(side, p->recipe.out, fingerprint, opt.resume, err);
    return rc ? rc : nib_solve_run(report, side, p, w, &o, ctx, err);
}

static nib_code solve(nib_solve_report *report, nib_side *side, const nib_plan *p,
                      const nib_stats *stats, const nib_ctx *ctx, nib_err *err)
{
    nib_tokenizer *tok = NULL;
    nib_windows w = {0};
    if (stats) return solve_with(report, side, p, NULL, stats, ctx, err);
    if (!opt.windows.texts.n)
        return nib_fail(err, NIB_EINVAL, "%s needs --text FILE",
                        nib_dir_opts_measured(&opt.dir) ? "--activations" : "method gptq");
    nib_code rc = nib_tokenizer_open(&tok, p->model->src, err);
    if (!rc)
        rc = nib_windows_from_opts(&w, &opt.windows, p->model, tok, NIB_SOLVE_CTX,
                                   NIB_SOLVE_WINDOWS, ctx, err);
    if (!rc) rc = solve_with(report, side, p, &w, NULL, ctx, err);
    nib_windows_free(&w);
    nib_tokenizer_close(tok);
    return rc;
}

/* The packed weights of a folder, and the folder. */
static nib_code write_folder(nib_quantize_result *r, nib_side *side, const nib_plan *p,
                             const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_layout_note note = {.damp = opt.damp, .true_sequential = opt.true_sequential};
    if (!p->n_solved) {
        rc = nib_side_open(side, p->recipe.out, 0, false, err);
        if (!rc) rc = nib_dir_round(side, p, ctx, err);
    }
    return rc ? rc : nib_dir_write(r, p, side, &note, ctx, err);
}

static nib_code carry_out(const nib_plan *p, const nib_stats *stats, const nib_ctx *ctx,
                          nib_err *err)
{
    nib_quantize_result r;
    nib_solve_report report = {0};
    nib_side side = {.fd = -1};
    const bool folder = p->recipe.format != NIB_FORMAT_GGUF;
    const bool solves = p->n_solved;
    if (stats && !solves)
        return nib_fail(err, NIB_EINVAL,
                        "--stats is of no use where no weight is solved: add --method gptq");
    nib_code rc = solves ? solve(&report, &side, p, stats, ctx, err) : NIB_OK;
    if (!rc)
        rc = folder ? write_folder(&r, &side, p, ctx, err)
                    : nib_quantize_run(&r, p, &side, ctx, err);
    nib_side_close(&side, !rc || !side.done); /* a run that did not get far leaves nothing */
    if (rc) goto done;
    if (r.zero_importance_blocks)
        nib_info(ctx->log, "%zu blocks whose importances are all zero were treated as even",
                 r.zero_importance_blocks);
    nib_debug(ctx->log, "%.2f s, %.0f MB of memory at most", r.seconds + report.seconds,
              (double)nib_mem_peak() / 1e6);
    if (opt.json) {
        rc = nib_print_result(p, &r, solves ? &report : NULL, err);
    } else {
        nib_print_totals(p);
        if (solves) nib_print_solved(&report, nib_dir_opts_measured(&opt.dir));
    }
done:
    nib_solve_report_free(&report);
    return rc;
}

static nib_code load_ranges(nib_ranges *r, const nib_model *m, const nib_ctx *ctx, nib_err *err)
{
    const char *path = opt.dir.ranges;
    nib_code rc = path ? nib_ranges_load(r, path, m, err) : NIB_OK;
    if (path && !rc)
        nib_info(ctx->log, "%s: ranges by %s, from %zu windows of %zu tokens", path,
                 nib_range_method_name(r->method), r->n_windows, r->n_ctx);
    return rc;
}

static nib_code quantize(const char *path, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc;
    nib_source *src = NULL;
    nib_model model = {0};
    nib_imatrix imatrix = {0};
    nib_stats stats = {0};
    nib_ranges ranges = {0};
    nib_plan plan = {0};
    const bool folder = nib_dir_opts_folder(&opt.dir);
    nib_recipe recipe = {.format = folder ? NIB_FORMAT_DIR : NIB_FORMAT_GGUF,
                         .layout = nib_dir_opts_layout(&opt.dir),
                         .out = opt.out,
                         .type = opt.type,
                         .overrides = opt.overrides.v,
                         .n_overrides = opt.overrides.n,
                         .tensor_types = opt.tensor_types.v,
                         .n_tensor_types = opt.tensor_types.n,
                         .protect_blocks = opt.protect_blocks,
                         .output_type = opt.output_type,
                         .embedding_type = opt.embedding_type,
                         .method = gives_feedback() ? NIB_METHOD_GPTQ : NIB_METHOD_RTN,
                         .transform = transform(),
                         .ranges = opt.dir.ranges ? &ranges : NULL,
                         .scales = nib_dir_opts_scales(&opt.dir),
                         .pure = opt.pure,
                         .leave_output = opt.leave_output,
                         .force = opt.force,
                         .split_max = folder ? opt.dir.shard_max : opt.split_max};
    char *out = NULL;

    if (folder && opt.out && (rc = nib_folder_name(&out, opt.out, err))) goto done;
    if (out) recipe.out = out;
    if ((rc = nib_source_open(&src, path, err))) goto done;
    if ((rc = nib_model_open(&model, src, err))) goto done;
    if (opt.imatrix && (rc = nib_imatrix_load(&imatrix, opt.imatrix, err))) goto done;
    if (opt.stats && (rc = nib_stats_open(&stats, opt.stats, &model, err))) goto done;
    if ((rc = load_ranges(&ranges, &model, ctx, err))) goto done;
    rc = nib_plan_make(&plan, &recipe, &model, opt.imatrix ? &imatrix : NULL, ctx, err);
    if (rc) goto done;
    const nib_stats *given = opt.stats ? &stats : NULL;
    count_solving(&plan, given, ctx);
    if (!opt.dry_run)
        rc = carry_out(&plan, given, ctx, err);
    else if (opt.json)
        rc = nib_print_result(&plan, NULL, NULL, err);
    else
        nib_print_plan(&plan);
done:
    nib_plan_free(&plan);
    nib_free(out);
    nib_ranges_free(&ranges);
    nib_stats_close(&stats);
    nib_imatrix_free(&imatrix);
    nib_model_close(&model);
    nib_source_close(src);
    return rc;
}

static const char *misplaced_stats(void)
{
    if (!opt.stats) return NULL;
    if (opt.windows.texts.n) return "--stats takes the place of --text";
    if (opt.true_sequential)
        return "--true-sequential runs the model, so it needs --text, not --stats";
    if (transform() != NIB_TRANSFORM_NONE)
        return "rescaling runs the model, so it needs --text, not --stats";
    if (nib_dir_opts_measured(&opt.dir)) return "--activations needs --text, not --stats";
    return NULL;
}

/* Is something wrong with the options together? Then what, into text. */
static bool wrong(char *text, size_t n)
{
    const char *folder = nib_dir_opts_wrong(&opt.dir);
    *text = 0;
    if (!opt.out && !opt.dry_run)
        snprintf(text, n, "-o FILE is missing");
    else if (opt.dir.ranges && transform() != NIB_TRANSFORM_NONE)
        snprintf(text, n,
                 "--ranges are of the model as it is, and %s changes its inputs: use "
                 "--activations",
                 opt.method);
    else if (strcmp(opt.method, "rtn") && !opt.windows.texts.n && !opt.stats && !opt.dry_run)
        snprintf(text, n, "--method %s needs --text FILE%s", opt.method,
                 strcmp(opt.method, "gptq") ? "" : " or --stats DIR");
    else if (misplaced_stats())
        snprintf(text, n, "%s", misplaced_stats());
    else if (opt.alpha && transform() != NIB_TRANSFORM_SMOOTHQUANT)
        snprintf(text, n, "--alpha needs --method smoothquant");
    else if (opt.percentile > 0 &&
             (!opt.dir.activations || strcmp(opt.dir.activations, "percentile") != 0))
        snprintf(text, n, "--percentile needs --activations percentile");
    else if (opt.drift > 0 && (opt.stats || opt.no_propagate))
        snprintf(text, n, "--drift goes with neither --stats nor --no-propagate");
    else if (opt.true_sequential && opt.no_propagate)
        snprintf(text, n, "--true-sequential renews activations, --no-propagate does not");
    else if (isnan(alpha()))
        snprintf(text, n, "--alpha '%s': should be from 0 to 1, or auto", opt.alpha);
    else if (nib_dir_opts_folder(&opt.dir) && opt.split_max)
        snprintf(text, n, "--split-max-size is for GGUF files; use --max-shard-size");
    else if (folder)
        snprintf(text, n, "%s", folder);
    return *text;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    char text[256];
    if (wrong(text, sizeof text)) return nib_usage(&nib_cmd_quantize, "quantize: %s", text);
    return quantize(operands->v[0], ctx, &err) ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_quantize = {
    .name = "quantize",
    .run = run,
    .summary = "write a smaller model",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL -o FILE [--type TYPE]",
    .about = "Read a model (Hugging Face folder or .gguf) and write it as a GGUF file for "
             "llama.cpp, or as a folder of packed integers for Transformers and vLLM.",
    .example = "nibble quantize data/tiny-llama -o tiny-q4_k_m.gguf --type q4_k_m",
    .options = rows,
};
