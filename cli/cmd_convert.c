/* SPDX-License-Identifier: MIT */
/* cli/cmd_convert.c - a model in another container, every value as it was: a job (run/job.h) whose
 * recipe says so. Tests: tests/cases/commands. */
#include "cli/dir_opts.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/quantize_print.h"
#include "cli/windows.h"
#include "run/job.h"
#include "run/model_card.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *out, *type, *pre, *imatrix, *stats, *base_model, *model_card;
    nib_window_opts windows;
    nib_dir_opts dir;
    uint64_t split_max;
    bool sym, in_order, requantize, dry_run, force, json;
} opt = {.dir = NIB_DIR_OPTS_DEFAULT};

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
     .help = "gguf; folders: gptq, awq, compressed-tensors, hqq ... (gguf)"},
    {.name = "requantize",
     .kind = NIB_OPT_FLAG,
     .target = &opt.requantize,
     .help = "round what the output cannot hold exactly"},
    {.name = "imatrix",
     .kind = NIB_OPT_STR,
     .target = &opt.imatrix,
     .metavar = "FILE",
     .help = "importances for what is rounded"},
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
    {.name = "base-model",
     .kind = NIB_OPT_STR,
     .target = &opt.base_model,
     .metavar = "NAME",
     .help = "the original's ORG/NAME on the Hub, for metadata"},
    {.name = "model-card",
     .kind = NIB_OPT_STR,
     .target = &opt.model_card,
     .metavar = "FILE",
     .help = "make a model card, or add to its table"},
    {.name = "type",
     .letter = 't',
     .kind = NIB_OPT_STR,
     .target = &opt.type,
     .metavar = "TYPE",
     .help = "f32, bf16, q8_0, q5_0, q4_0 ... (what holds the values)",
     .heading = "GGUF files and plain folders"},
    {.name = "pre",
     .kind = NIB_OPT_STR,
     .target = &opt.pre,
     .metavar = "NAME",
     .help = "name of the pre-tokenizer (found from the tokenizer)"},
    {.name = "split-max-size",
     .kind = NIB_OPT_SIZE,
     .target = &opt.split_max,
     .metavar = "SIZE",
     .help = "most tensor data in one GGUF file (one file)"},
    {.name = "max-shard-size",
     .kind = NIB_OPT_SIZE,
     .target = &opt.dir.shard_max,
     .metavar = "SIZE",
     .help = "most data in one file of a folder (5G)"},
    {.name = "bits",
     .kind = NIB_OPT_UINT,
     .target = &opt.dir.bits,
     .min = 2,
     .max = 8,
     .metavar = "N",
     .help = "bits of a weight (the source's)",
     .heading = "Folders of packed integers"},
    {.name = "group-size",
     .kind = NIB_OPT_UINT,
     .target = &opt.dir.group_size,
     .max = NIB_WIDTH_MAX,
     .minus_one = true,
     .metavar = "N",
     .help = "a group's columns, 0: rows (the source's)"},
    {.name = "asym",
     .kind = NIB_OPT_FLAG,
     .target = &opt.dir.asym,
     .help = "groups have zero points (as in the source)"},
    {.name = "sym",
     .kind = NIB_OPT_FLAG,
     .target = &opt.sym,
     .help = "groups have none (as in the source)"},
    {.name = "in-order",
     .kind = NIB_OPT_FLAG,
     .target = &opt.in_order,
     .help = "gptq: no index of columns in order of activation"},
    {.name = "checkpoint-format",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.dir.checkpoint_format,
     .choices = nib_folder_checkpoint_formats,
     .metavar = "F",
     .help = "gptq: gptq or gptq_v2 (gptq)"},
    NIB_WINDOW_OPTS(opt.windows, "tokens in a window (2048, or the model's context)", 0,
                    "windows, chosen at random (128)"),
    {.name = "stats",
     .kind = NIB_OPT_STR,
     .target = &opt.stats,
     .metavar = "DIR",
     .help = "in place of --text: 'nibble calibrate --hessians'"},
    {0}};

/* ---- the work ---- */

static nib_packing_kind kind(void)
{
    if (!strcmp(opt.dir.format, "gptq")) return NIB_PACKING_GPTQ;
    if (!strcmp(opt.dir.format, "fp8")) return NIB_PACKING_FP8;
    if (!strcmp(opt.dir.format, "hqq")) return NIB_PACKING_HQQ;
    return !strcmp(opt.dir.format, "awq") ? NIB_PACKING_AWQ : NIB_PACKING_CT_PACKED;
}

static nib_recipe make_recipe(void)
{
    const bool folder = nib_dir_opts_folder(&opt.dir);
    const bool groups = opt.dir.group_size != UINT64_MAX;
    return (nib_recipe){.format = nib_dir_opts_kind(&opt.dir),
                        .layout = {.kind = kind(),
                                   .bits = (unsigned)opt.dir.bits,
                                   .group = groups ? opt.dir.group_size : 0,
                                   .sym = opt.sym,
                                   .v2 = opt.dir.checkpoint_format &&
                                         !strcmp(opt.dir.checkpoint_format, "gptq_v2")},
                        .out = opt.out,
                        .type = opt.type,
                        .pre = opt.pre,
                        .scales = NIB_SCALES_SQUARE,
                        .method =
                            opt.windows.texts.n || opt.stats ? NIB_METHOD_GPTQ : NIB_METHOD_RTN,
                        .force = opt.force,
                        .split_max = folder ? opt.dir.shard_max : opt.split_max,
                        .convert = true,
                        .requantize = opt.requantize,
                        .in_order = opt.in_order,
                        .bits_given = opt.dir.bits,
                        .group_given = groups,
                        .sym_given = opt.sym || opt.dir.asym};
}

/* How much is as it was, and what is not. */
static void print_exactness(const nib_plan *p)
{
    size_t exact = 0;
    for (size_t i = 0; i < p->n; i++) exact += p->tensor[i].exact;
    if (exact == p->n) {
        printf("lossless: all values are those of %s\n", nib_source_path(p->model->src));
        return;
    }
    printf("%zu tensors lossless, %zu rounded:\n", exact, p->n - exact);
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->exact) continue;
        fputs("  ", stdout);
        nib_print_text(t->name, strlen(t->name));
        printf(": %s to %s", t->src->codec->name, t->codec->name);
        if (p->error[i] >= 0) printf(", error %.4f", (double)p->error[i]);
        putchar('\n');
    }
}

static nib_code show(const nib_job *j, nib_err *err)
{
    const bool solved = j->plan.n_solved && !opt.dry_run;
    if (opt.json)
        return nib_print_result(&j->plan, opt.dry_run ? NULL : &j->result,
                                solved ? &j->solved : NULL, err);
    if (opt.dry_run)
        nib_print_plan(&j->plan);
    else
        nib_print_totals(&j->plan);
    print_exactness(&j->plan);
    if (solved) nib_print_solved(&j->solved, NULL);
    return NIB_OK;
}

/* A plan of a plain folder says this itself. */
static void warn_activations(const nib_model *m, const nib_plan *p, nib_log *log)
{
    const char *rounded = nib_model_activations(m);
    const nib_packing *f = &p->recipe.layout;
    const bool left_to_engines = f->kind == NIB_PACKING_FP8 || f->kind == NIB_PACKING_FP8_TENSOR;
    const bool kept = p->recipe.format == NIB_FORMAT_DIR && (f->act || left_to_engines);
    if (strcmp(rounded, "f32") != 0 && p->recipe.format != NIB_FORMAT_PLAIN && !kept)
        nib_warn(log,
                 "%s: inputs of linear layers are rounded (%s), which what is "
                 "written does not do",
                 nib_source_path(m->src), rounded);
}

static nib_code convert(const char *path, const nib_ctx *ctx, nib_err *err)
{
    nib_job job = {0};
    nib_arena kept = {0};
    nib_job_opts how = {.model = path,
                        .recipe = make_recipe(),
                        .imatrix = opt.imatrix,
                        .stats = opt.stats,
                        .solve = nib_solve_defaults(),
                        .dry_run = opt.dry_run,
                        .base_model = opt.base_model};
    nib_code rc = nib_window_sample(&how.text, &kept, &opt.windows, err);
    if (!rc) rc = nib_job_open(&job, &how, ctx, err);
    if (!rc) nib_warn_odd_model(&job.model, ctx->log);
    if (!rc) rc = nib_job_plan(&job, ctx, err);
    if (!rc) warn_activations(&job.model, &job.plan, ctx->log);
    if (!rc && !opt.dry_run) rc = nib_job_run(&job, ctx, err);
    if (!rc && !opt.dry_run && opt.model_card)
        rc = nib_model_card_write(opt.model_card, &(nib_model_card){opt.base_model, &job.plan, -1},
                                  err);
    if (!rc) rc = show(&job, err);
    nib_job_close(&job);
    nib_arena_free(&kept);
    return rc;
}

/* Do the options go together? */
static const char *wrong(void)
{
    const nib_format f = nib_dir_opts_kind(&opt.dir);
    const bool groups = opt.dir.group_size != UINT64_MAX;
    if (!opt.out && !opt.dry_run) return "-o FILE is missing";
    if (!strcmp(opt.dir.format, "fp8") && (opt.dir.bits || groups || opt.sym || opt.dir.asym))
        return "--bits, --group-size, --sym and --asym are for integers: --format fp8 takes 8-bit "
               "floats over as they are";
    if (!strcmp(opt.dir.format, "bitsandbytes"))
        return "--format bitsandbytes: nf4 and fp4 are no integers that could be carried over, and "
               "int8 has scales times 127, which rounds; 'nibble quantize' writes it";
    if (!strcmp(opt.dir.format, "hqq") && opt.sym)
        return "--sym: HQQ folders always have zero points";
    if (opt.model_card && !opt.base_model) return "--model-card needs --base-model ORG/NAME";
    if (opt.sym && opt.dir.asym) return "--sym and --asym are opposites";
    if (f != NIB_FORMAT_DIR &&
        (opt.dir.bits || groups || opt.sym || opt.dir.asym || opt.dir.checkpoint_format))
        return "--bits, --group-size, --sym, --asym and --checkpoint-format need --format gptq, "
               "awq, hqq or compressed-tensors";
    if (f == NIB_FORMAT_DIR && opt.type) return "--type is for GGUF files and plain folders";
    if (opt.dir.checkpoint_format && kind() != NIB_PACKING_GPTQ)
        return "--checkpoint-format needs --format gptq";
    if (f != NIB_FORMAT_GGUF && opt.split_max)
        return "--split-max-size is for GGUF files; use --max-shard-size";
    if (f == NIB_FORMAT_GGUF && opt.dir.shard_max)
        return "--max-shard-size is for folders; use --split-max-size";
    if (opt.imatrix && !opt.requantize) return "--imatrix is for what --requantize rounds";
    if ((opt.windows.texts.n || opt.stats) && !opt.requantize)
        return "--text and --stats are for what --requantize makes anew";
    if (opt.windows.texts.n && opt.stats) return "--stats takes the place of --text";
    if (opt.in_order && kind() != NIB_PACKING_GPTQ) return "--in-order is for --format gptq";
    return NULL;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    if (wrong()) return nib_usage(&nib_cmd_convert, "convert: %s", wrong());
    return convert(operands->v[0], ctx, &err) ? nib_report(&err) : NIB_EXIT_OK;
}

const nib_cmd nib_cmd_convert = {
    .name = "convert",
    .run = run,
    .summary = "write a model in another container, without rounding",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL -o FILE [--format FORMAT]",
    .about = "Read a model, quantized or not, and write it in another container with the same "
             "values: integers and their scales are carried over, never rounded again. What the "
             "container cannot hold exactly is refused, unless --requantize takes the loss. Also "
             "splits and joins files.",
    .example = "nibble convert data/tiny-llama -o tiny-bf16.gguf",
    .options = rows,
};
