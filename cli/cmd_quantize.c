/* SPDX-License-Identifier: MIT */
/* cli/cmd_quantize.c - write a smaller model: open, plan, run, say what was done. */
#include "base/mem.h"
#include "cli/io.h"
#include "cli/method_opts.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/quantize_print.h"
#include "infer/finite.h"
#include "run/dir.h"
#include "run/quantize.h"
#include "run/solve.h"
#include "run/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct {
    const char *out, *type, *imatrix, *output_type, *embedding_type;
    nib_opt_list overrides, tensor_types;
    const char *protect_blocks;
    uint64_t split_max;
    nib_dir_opts dir;
    nib_method_opts how;
    bool pure, leave_output, dry_run, force, json;
} opt = {.dir = NIB_DIR_OPTS_DEFAULT, .how = NIB_METHOD_OPTS_DEFAULT};

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
     .help = "the file or folder to write",
     .heading = "Output"},
    {.name = "format",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.dir.format,
     .choices = nib_dir_formats,
     .metavar = "FORMAT",
     .help = "gguf; folders: gptq, awq, compressed-tensors (gguf)"},
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
    {.name = "type",
     .letter = 't',
     .kind = NIB_OPT_STR,
     .target = &opt.type,
     .offer = file_type_name,
     .metavar = "TYPE",
     .help = "q8_0, q4_k_m, iq4_xs, q3_k_m ... (q4_k_m)",
     .heading = "GGUF files"},
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
    NIB_DIR_OPTS(opt.dir),
    {.name = "override",
     .kind = NIB_OPT_LIST,
     .target = &opt.overrides,
     .metavar = "RE:K=V",
     .help = "tensors named like RE: method, skip, type, bits",
     .heading = "Single tensors"},
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
    NIB_METHOD_OPTS(opt.how),
    {.name = "imatrix",
     .kind = NIB_OPT_STR,
     .target = &opt.imatrix,
     .metavar = "FILE",
     .help = "importance matrix, from 'nibble calibrate'"},
    {0}};

/* ---- the work ---- */

/* What solving keeps in memory depends on the options of the windows too. */
static void count_solving(nib_plan *p, const nib_stats *stats, const nib_ctx *ctx)
{
    const nib_solve_opts o = nib_method_opts_solve(&opt.how, &opt.dir, stats);
    const size_t samples = opt.how.windows.samples ? opt.how.windows.samples : NIB_SOLVE_WINDOWS,
                 n_ctx = nib_window_ctx(&opt.how.windows, p->model, NIB_SOLVE_CTX);
    uint64_t peak = nib_mem_peak() + nib_solve_memory(p, samples, n_ctx, &o, ctx->threads);
    if (p->n_solved && peak > p->peak_memory) p->peak_memory = peak;
}

/* w: NULL with statistics. */
static nib_code solve_with(nib_solve_report *report, nib_side *side, const nib_plan *p,
                           const nib_windows *w, const nib_stats *stats, const nib_ctx *ctx,
                           nib_err *err)
{
    uint64_t fingerprint;
    const nib_solve_opts o = nib_method_opts_solve(&opt.how, &opt.dir, stats);
    nib_code rc = nib_plan_room(p, w ? nib_solve_spilled(p, w->n, w->n_ctx, &o) : 0, err);
    if (!rc) rc = nib_solve_fingerprint(&fingerprint, p, w, &o, err);
    if (!rc) rc = nib_side_open(side, p->recipe.out, fingerprint, opt.how.resume, err);
    return rc ? rc : nib_solve_run(report, side, p, w, &o, ctx, err);
}

static nib_code solve(nib_solve_report *report, nib_side *side, const nib_plan *p,
                      const nib_stats *stats, const nib_ctx *ctx, nib_err *err)
{
    nib_tokenizer *tok = NULL;
    nib_windows w = {0};
    if (stats) return solve_with(report, side, p, NULL, stats, ctx, err);
    if (!opt.how.windows.texts.n)
        return nib_fail(err, NIB_EINVAL, "%s needs --text FILE",
                        nib_dir_opts_measured(&opt.dir) ? "--activations" : "method gptq");
    nib_code rc = nib_tokenizer_open(&tok, p->model->src, err);
    if (!rc)
        rc = nib_windows_from_opts(&w, &opt.how.windows, p->model, tok, NIB_SOLVE_CTX,
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
    const nib_layout_note note = {.damp = opt.how.damp, .true_sequential = opt.how.true_sequential};
    if (!p->n_solved) {
        rc = nib_side_open(side, p->recipe.out, 0, false, err);
        if (!rc) rc = nib_dir_round(side, p, ctx, err);
    }
    return rc ? rc : nib_dir_write(r, p, side, &note, ctx, err);
}

static bool is_full(int sys_errno)
{
    return sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG;
}

/* A full disk costs no solving again. */
static void say_resume(const nib_side *side, const nib_plan *p, nib_err *err)
{
    char why[sizeof err->msg];
    memcpy(why, err->msg, sizeof why);
    nib_fail(err, NIB_EIO,
             "%s; %u of %u blocks are solved and kept: make room, and give the same command again "
             "with --resume",
             why, side->done, p->model->hp.n_layer);
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
    if (rc && solves && side.done && is_full(err->sys_errno)) say_resume(&side, p, err);
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

/* out and ranges are borrowed. */
static nib_recipe make_recipe(const char *out, const nib_ranges *ranges)
{
    const bool folder = nib_dir_opts_folder(&opt.dir);
    return (nib_recipe){.format = folder ? NIB_FORMAT_DIR : NIB_FORMAT_GGUF,
                        .layout = nib_dir_opts_layout(&opt.dir),
                        .out = out,
                        .type = opt.type,
                        .overrides = opt.overrides.v,
                        .n_overrides = opt.overrides.n,
                        .tensor_types = opt.tensor_types.v,
                        .n_tensor_types = opt.tensor_types.n,
                        .protect_blocks = opt.protect_blocks,
                        .output_type = opt.output_type,
                        .embedding_type = opt.embedding_type,
                        .method = nib_method_opts_method(&opt.how),
                        .transform = nib_method_opts_transform(&opt.how),
                        .ranges = opt.dir.ranges ? ranges : NULL,
                        .scales = nib_dir_opts_scales(&opt.dir),
                        .pure = opt.pure,
                        .leave_output = opt.leave_output,
                        .force = opt.force,
                        .split_max = folder ? opt.dir.shard_max : opt.split_max};
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
    nib_target target = {0};
    const bool folder = nib_dir_opts_folder(&opt.dir);
    if (opt.out && (rc = opt.dry_run ? nib_target_find(&target, opt.out, folder, err)
                                     : nib_target_claim(&target, opt.out, folder, err)))
        goto done;
    const nib_recipe recipe = make_recipe(target.path, &ranges);
    if ((rc = nib_source_open(&src, path, err))) goto done;
    if ((rc = nib_model_open(&model, src, err))) goto done;
    nib_warn_odd_model(&model, ctx->log);
    if (opt.imatrix && (rc = nib_imatrix_load(&imatrix, opt.imatrix, err))) goto done;
    if (opt.how.stats && (rc = nib_stats_open(&stats, opt.how.stats, &model, err))) goto done;
    if ((rc = load_ranges(&ranges, &model, ctx, err))) goto done;
    rc = nib_plan_make(&plan, &recipe, &model, opt.imatrix ? &imatrix : NULL, ctx, err);
    if (rc) goto done;
    const nib_stats *given = opt.how.stats ? &stats : NULL;
    count_solving(&plan, given, ctx);
    if (!opt.dry_run)
        rc = carry_out(&plan, given, ctx, err);
    else if (opt.json)
        rc = nib_print_result(&plan, NULL, NULL, err);
    else
        nib_print_plan(&plan);
    if (rc == NIB_ENUMERIC) nib_blame_weights(&model, ctx, err);
done:
    nib_plan_free(&plan);
    nib_target_release(&target);
    nib_ranges_free(&ranges);
    nib_stats_close(&stats);
    nib_imatrix_free(&imatrix);
    nib_model_close(&model);
    nib_source_close(src);
    return rc;
}

/* Do the options go together? */
static nib_code check_options(nib_err *err)
{
    const char *wrong = nib_dir_opts_wrong(&opt.dir);
    if (!opt.out && !opt.dry_run) return nib_fail(err, NIB_EINVAL, "-o FILE is missing");
    nib_code rc = nib_method_opts_check(&opt.how, &opt.dir, opt.dry_run, err);
    if (rc) return rc;
    if (nib_dir_opts_folder(&opt.dir) && opt.split_max)
        return nib_fail(err, NIB_EINVAL,
                        "--split-max-size is for GGUF files; use --max-shard-size");
    return wrong ? nib_fail(err, NIB_EINVAL, "%s", wrong) : NIB_OK;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    if (check_options(&err)) return nib_usage(&nib_cmd_quantize, "quantize: %s", err.msg);
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
