/* SPDX-License-Identifier: MIT */
/* cli/cmd_batch.c - many outputs of one model by a recipe, then their evaluation.
 * Tests: tests/cases/commands, tests/cli/batch_schema.sh, tests/e2e/batch.sh. */
#include "base/mem.h"
#include "cli/compare.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/recipe.h"

#include <stdio.h>
#include <string.h>

static nib_recipe_run opt;

static const nib_opt rows[] = {
    {.name = "resume",
     .kind = NIB_OPT_FLAG,
     .target = &opt.resume,
     .help = "go on where an earlier run of the recipe was: what it finished is checked and kept"},
    {.name = "dry-run",
     .letter = 'n',
     .kind = NIB_OPT_FLAG,
     .target = &opt.dry_run,
     .help = "print what would be made, who shares what, and what it takes"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace existing files"},
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {0}};

/* ---- what is printed ---- */

static const char *method_name(const nib_batch_output *o)
{
    static const char *const name[2][3] = {{"rtn", "awq", "smoothquant"},
                                           {"gptq", "awq+gptq", "smoothquant+gptq"}};
    if (o->opts.recipe.method == NIB_METHOD_HQQ) return "hqq";
    return name[o->opts.recipe.method == NIB_METHOD_GPTQ][o->opts.recipe.transform];
}

static int name_width(const nib_batch *b)
{
    int width = 6;
    for (size_t i = 0; i < b->n; i++) {
        const int n = (int)strlen(b->output[i].opts.recipe.out);
        if (n > width) width = n;
    }
    return width;
}

/* What of a group is computed once. */
static void print_group(const nib_batch *b, size_t group)
{
    const nib_batch_cost c = nib_batch_group_cost(b, group);
    if (c.outputs < 2) return;
    printf("%zu outputs in %zu passes in place of %zu:", c.outputs, c.passes, c.alone);
    if (c.original || c.drift) printf(" one over the original model's activations, for");
    if (c.original) printf(" %zu calibrated on them", c.original);
    if (c.drift) printf("%s %zu in drift from them", c.original ? " and" : "", c.drift);
    if (c.own)
        printf("%s 2 for each of %zu with activations of %s own", c.original || c.drift ? ";" : "",
               c.own, c.own == 1 ? "its" : "their");
    putchar('\n');
}

static void print_plan(const nib_batch *b)
{
    const int width = name_width(b);
    size_t wants = 0;
    uint64_t bytes = 0;
    printf("%-*s %-10s %-17s %9s %6s %7s  %s\n", width, "output", "type", "method", "MB", "bits",
           "passes", "calibrated");
    for (size_t i = 0; i < b->n; i++) {
        const nib_batch_output *o = &b->output[i];
        const nib_plan *p = &o->job.plan;
        const size_t passes = nib_batch_passes(o);
        if (o->state == NIB_BATCH_FAILED) {
            printf("%-*s cannot be made: %s\n", width, o->opts.recipe.out, o->err.msg);
            continue;
        }
        wants += o->importances;
        bytes += p->layout.total_bytes;
        printf("%-*s %-10s %-17s %9.1f %6.3f %7zu  %s%s\n", width, o->opts.recipe.out, p->label,
               method_name(o), (double)p->layout.total_bytes / 1e6, p->bits_per_weight, passes,
               passes ? o->opts.solve.propagate ? "its own activations" : "original activations"
               : o->opts.stats && p->n_solved ? "statistics"
                                              : "",
               o->importances ? passes ? ", importances" : "importances" : "");
    }
    if (wants) printf("one pass for the importances of %zu outputs: %s\n", wants, b->imatrix);
    for (size_t g = 0; g < b->n_groups; g++) print_group(b, g);
    printf("%.1f MB, about %.0f MB of memory\n", (double)bytes / 1e6, (double)b->peak_memory / 1e6);
}

static const char *state_name(nib_batch_state s)
{
    return s == NIB_BATCH_MADE     ? "made"
           : s == NIB_BATCH_KEPT   ? "kept"
           : s == NIB_BATCH_FAILED ? "failed"
                                   : "not made";
}

static void print_summary(const nib_batch *b)
{
    const int width = name_width(b);
    printf("%-*s %-10s %-17s %9s %6s %8s  %-17s %s\n", width, "output", "type", "method", "MB",
           "bits", "seconds", "KL, held out", "");
    for (size_t i = 0; i < b->n; i++) {
        const nib_batch_output *o = &b->output[i];
        const nib_plan *p = &o->job.plan;
        char kl[40] = "";
        if (o->state == NIB_BATCH_FAILED) {
            printf("%-*s failed: %s\n", width, o->opts.recipe.out, o->err.msg);
            continue;
        }
        if (o->job.solved.kl.n)
            snprintf(kl, sizeof kl, "%.5f +/- %.5f", o->job.solved.kl.kl, o->job.solved.kl.error);
        printf("%-*s %-10s %-17s %9.1f %6.3f %8.1f  %-19s %s\n", width, o->opts.recipe.out,
               p->label, method_name(o), (double)p->layout.total_bytes / 1e6, p->bits_per_weight,
               o->seconds, kl, state_name(o->state));
    }
}

static bool add_output(nib_json *list, const nib_batch_output *o)
{
    nib_json *j = nib_json_add_object(list, NULL);
    const nib_plan *p = &o->job.plan;
    bool ok = j && nib_json_add_str(j, "output", o->opts.recipe.out) &&
              nib_json_add_str(j, "state", state_name(o->state)) &&
              nib_json_add_str(j, "method", method_name(o));
    if (ok && o->state == NIB_BATCH_FAILED) return nib_json_add_str(j, "error", o->err.msg);
    ok = ok && nib_json_add_str(j, "type", p->label) &&
         nib_json_add_num(j, "bytes", (double)p->layout.total_bytes) &&
         nib_json_add_num(j, "bits_per_weight", p->bits_per_weight) &&
         nib_json_add_num(j, "passes", (double)nib_batch_passes(o)) &&
         nib_json_add_num(j, "group", (double)o->group) &&
         nib_json_add_num(j, "seconds", o->seconds);
    if (o->job.solved.kl.n)
        ok = ok && nib_json_add_num(j, "kl_held_out", o->job.solved.kl.kl) &&
             nib_json_add_num(j, "kl_held_out_error", o->job.solved.kl.error);
    return ok;
}

/* NULL: no memory. */
static nib_json *document(const nib_batch *b)
{
    nib_json *root = nib_json_new_object();
    bool ok = root && nib_json_add_str(root, "nibble", NIB_VERSION) &&
              nib_json_add_str(root, "model", b->model) &&
              nib_json_add_num(root, "peak_memory_bytes", (double)b->peak_memory);
    nib_json *list = ok ? nib_json_add_array(root, "outputs") : NULL;
    ok = list;
    for (size_t i = 0; i < b->n && ok; i++) ok = add_output(list, &b->output[i]);
    if (ok) return root;
    nib_json_free(root);
    return NULL;
}

/* ---- the work ---- */

static bool is_made(const nib_batch_output *o)
{
    return o->state == NIB_BATCH_MADE || o->state == NIB_BATCH_KEPT;
}

/* 'compare' of all outputs that there are with the reference; its exit status. What it finds goes
 * into the document, if there is one. */
static int evaluate(const nib_batch_recipe *r, nib_json *root, const nib_ctx *ctx)
{
    nib_err err;
    const nib_batch *b = &r->batch;
    nib_json *into = NULL;
    const char **path = nib_calloc(b->n + 1, sizeof *path);
    nib_opt_list models = {.v = path};
    int status = NIB_EXIT_OK;
    if (!path) {
        nib_fail_nomem(&err, "the models' list");
        return nib_report(&err);
    }
    path[models.n++] = r->reference;
    for (size_t i = 0; i < b->n; i++) {
        const nib_job *j = &b->output[i].job;
        if (is_made(&b->output[i]))
            path[models.n++] = j->opts.recipe.format == NIB_FORMAT_GGUF
                                   ? j->plan.layout.file_path[0]
                                   : b->output[i].opts.recipe.out;
    }
    if (models.n > 1 && !root) putchar('\n');
    if (models.n > 1 && root && !(into = nib_json_add_object(root, "evaluation"))) {
        nib_fail_nomem(&err, "JSON output");
        status = nib_report(&err);
    } else if (models.n > 1) {
        status = nib_compare_models(&models, into, ctx);
    }
    nib_free(path);
    return status;
}

/* What became of the outputs, and the evaluation; the exit status. */
static int conclude(const nib_batch_recipe *r, const nib_ctx *ctx)
{
    nib_err err;
    const nib_batch *b = &r->batch;
    nib_json *root = opt.json ? document(b) : NULL;
    int status = NIB_EXIT_OK;
    size_t failed = 0;
    if (!opt.json && opt.dry_run)
        print_plan(b);
    else if (!opt.json)
        print_summary(b);
    if (r->evaluates && !opt.dry_run && (root || !opt.json)) status = evaluate(r, root, ctx);
    if (opt.json && nib_print_json(root, root, &err)) status = nib_report(&err);
    for (size_t i = 0; i < b->n; i++) failed += b->output[i].state == NIB_BATCH_FAILED;
    if (!failed) return status;
    nib_warn(ctx->log, "%zu of %zu outputs failed", failed, b->n);
    return NIB_EXIT_FAILED;
}

static int work(nib_batch_recipe *r, const char *path, const nib_ctx *ctx)
{
    nib_err err;
    nib_batch *b = &r->batch;
    nib_code rc = nib_recipe_load(r, path, &opt, &err);
    if (!rc) rc = nib_batch_open(b, ctx, &err);
    if (!rc) nib_warn_odd_model(&b->m, ctx->log);
    if (!rc) rc = nib_batch_plan(b, ctx, &err);
    if (!rc && !opt.dry_run) rc = nib_batch_run(b, ctx, &err);
    return rc ? nib_report(&err) : conclude(r, ctx);
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_batch_recipe r;
    const int status = work(&r, operands->v[0], ctx);
    nib_batch_close(&r.batch);
    nib_recipe_free(&r);
    return status;
}

const nib_cmd nib_cmd_batch = {
    .name = "batch",
    .run = run,
    .summary = "write many smaller models by a recipe",
    .operands = "RECIPE",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "RECIPE [--resume]",
    .about =
        "Make all outputs that a recipe lists, a JSON file, from one model: GGUF files and "
        "folders, by any method. What several need is computed once: importances, and passes over "
        "the model's activations. Then compare all with the model on the recipe's text, and hold "
        "them to its limits. An output's keys are the options of 'nibble quantize'.",
    .example = "nibble batch data/batch.json --dry-run",
    .options = rows,
};
