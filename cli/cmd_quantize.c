/* SPDX-License-Identifier: MIT */
/* cli/cmd_quantize.c - write a smaller model: options in, a job (run/job.h), and what became of it.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "cli/io.h"
#include "cli/method_opts.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/quantize_print.h"
#include "run/job.h"

#include <stdio.h>

static struct {
    const char *out, *type, *imatrix, *output_type, *embedding_type, *pre;
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
     .choices = nib_folder_formats,
     .metavar = "FORMAT",
     .help = "gguf; folders: gptq, awq, compressed-tensors ... (gguf)"},
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
     .help = "q8_0, q4_k_m, iq4_xs, iq3_s, iq2_m ... (q4_k_m)",
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
    {.name = "pre",
     .kind = NIB_OPT_STR,
     .target = &opt.pre,
     .metavar = "NAME",
     .help = "name of the pre-tokenizer (found from the tokenizer)"},
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

static nib_recipe make_recipe(void)
{
    const bool folder = nib_dir_opts_folder(&opt.dir);
    return (nib_recipe){.format = nib_dir_opts_kind(&opt.dir),
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
                        .pre = opt.pre,
                        .method = nib_method_opts_method(&opt.how),
                        .transform = nib_method_opts_transform(&opt.how),
                        .scales = nib_dir_opts_scales(&opt.dir),
                        .pure = opt.pure,
                        .leave_output = opt.leave_output,
                        .force = opt.force,
                        .split_max = folder ? opt.dir.shard_max : opt.split_max};
}

static nib_code show_result(const nib_job *j, nib_log *log, nib_err *err)
{
    const bool solved = j->plan.n_solved;
    if (j->result.zero_importance_blocks)
        nib_info(log, "%zu blocks whose importances are all zero were treated as even",
                 j->result.zero_importance_blocks);
    if (j->result.rows_without_zero)
        nib_info(log, "%zu rows hold weights of exactly 0, which their format has no value for",
                 j->result.rows_without_zero);
    nib_debug(log, "%.2f s, %.0f MB of memory at most", j->result.seconds + j->solved.seconds,
              (double)nib_mem_peak() / 1e6);
    if (opt.json) return nib_print_result(&j->plan, &j->result, solved ? &j->solved : NULL, err);
    nib_print_totals(&j->plan);
    if (solved) nib_print_solved(&j->solved, nib_dir_opts_measured(&opt.dir));
    return NIB_OK;
}

static nib_code show_plan(const nib_plan *p, nib_err *err)
{
    if (opt.json) return nib_print_result(p, NULL, NULL, err);
    nib_print_plan(p);
    return NIB_OK;
}

static nib_code quantize(const char *path, const nib_ctx *ctx, nib_err *err)
{
    nib_job job = {0};
    nib_arena keep = {0};
    nib_job_opts how = {.model = path,
                        .recipe = make_recipe(),
                        .imatrix = opt.imatrix,
                        .ranges = opt.dir.ranges,
                        .stats = opt.how.stats,
                        .solve = nib_method_opts_solve(&opt.how, &opt.dir),
                        .resume = opt.how.resume,
                        .dry_run = opt.dry_run};
    nib_code rc = nib_window_sample(&how.text, &keep, &opt.how.windows, err);
    if (!rc) rc = nib_job_open(&job, &how, ctx, err);
    if (!rc) nib_warn_odd_model(&job.model, ctx->log);
    if (!rc) rc = nib_job_plan(&job, ctx, err);
    if (!rc && !opt.dry_run) rc = nib_job_run(&job, ctx, err);
    if (!rc) rc = opt.dry_run ? show_plan(&job.plan, err) : show_result(&job, ctx->log, err);
    nib_job_close(&job);
    nib_arena_free(&keep);
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
             "llama.cpp, or as a folder: of packed integers for Transformers and vLLM, or of plain "
             "safetensors.",
    .example = "nibble quantize data/tiny-llama -o tiny-q4_k_m.gguf --type q4_k_m",
    .options = rows,
};
