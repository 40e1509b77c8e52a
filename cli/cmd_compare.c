/* SPDX-License-Identifier: MIT */
/* cli/cmd_compare.c - how far models' predictions are from those of the model they come from.
 * Tests: tests/cases/commands. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/gates.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/scoring.h"
#include "infer/compare.h"
#include "infer/finite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct {
    nib_scoring scoring;
    nib_gates gates;
    const char *junit, *markdown;
    bool json, force;
} opt = {.scoring = NIB_SCORING_DEFAULT};

static const nib_opt rows[] = {
    NIB_SCORING_OPTS(opt.scoring),
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {.name = "junit",
     .kind = NIB_OPT_STR,
     .target = &opt.junit,
     .metavar = "FILE",
     .help = "also write the verdicts as JUnit's XML"},
    {.name = "markdown",
     .kind = NIB_OPT_STR,
     .target = &opt.markdown,
     .metavar = "FILE",
     .help = "also write a table in Markdown"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace these files if they exist"},
    NIB_GATE_OPTS(opt.gates),
    {0}};

typedef struct {
    size_t n; /* the base and what is compared with it */
    const char *const *path;
    nib_opened *o;       /* [n] */
    nib_compared *m;     /* [n] */
    nib_compare_line *l; /* [n] */
    nib_compare_result r;
} job;

static nib_code open_models(job *j, nib_log *log, nib_err *err)
{
    nib_code rc = NIB_OK;
    j->o = nib_calloc(j->n, sizeof *j->o);
    j->m = nib_calloc(j->n, sizeof *j->m);
    j->l = nib_calloc(j->n, sizeof *j->l);
    if (!j->o || !j->m || !j->l) return nib_fail_nomem(err, "the models' list");
    for (size_t i = 0; i < j->n && !rc; i++) {
        nib_opened *o = &j->o[i];
        rc = nib_opened_open(o, j->path[i], log, err);
        j->m[i] = (nib_compared){j->path[i], &o->model, o->tok};
    }
    return rc;
}

static void close_models(job *j)
{
    for (size_t i = 0; i < j->n && j->o; i++) nib_opened_close(&j->o[i]);
    nib_free(j->o);
    nib_free(j->m);
    nib_free(j->l);
}

/* Is it a weight of one of the models that made the result NaN or infinite? */
static bool blame_weights(const job *j, const nib_ctx *ctx, nib_err *err)
{
    for (size_t i = 0; i < j->n; i++)
        if (nib_blame_weights(&j->o[i].model, ctx, err)) return true;
    return false;
}

static nib_code compare(job *j, const nib_ctx *ctx, nib_err *err)
{
    char *text = NULL;
    size_t n_text;
    const nib_ppl_opts how = nib_scoring_how(&opt.scoring);
    nib_code rc = open_models(j, ctx->log, err);
    if (!rc) rc = nib_scoring_read(&text, &n_text, &opt.scoring, j->o[0].tok, err);
    if (!rc && (rc = nib_compare_run(&j->r, j->l, j->m, j->n, text, n_text, &how, ctx, err)) &&
        !(rc == NIB_ENUMERIC && blame_weights(j, ctx, err)))
        nib_wrap(err, "%s", opt.scoring.text);
    nib_free(text);
    return rc;
}

/* ---- what is printed ---- */

static bool add_model(nib_json *models, const job *k, size_t i)
{
    const nib_compare_line *l = &k->l[i];
    nib_json *j = nib_json_add_object(models, NULL);
    if (!j || !nib_json_add_str(j, "model", k->path[i]) ||
        !nib_json_add_str(j, "activations", nib_model_activations(&k->o[i].model)) ||
        !nib_json_add_num(j, "nll", l->nll) || !nib_json_add_num(j, "perplexity", l->ppl) ||
        !nib_json_add_num(j, "perplexity_error", l->ppl_error))
        return false;
    return i == 0 ||
           (nib_json_add_num(j, "nll_change", l->change) &&
            nib_json_add_num(j, "nll_change_error", l->change_error) &&
            nib_json_add_num(j, "kl", l->kl) && nib_json_add_num(j, "kl_error", l->kl_error) &&
            nib_json_add_num(j, "kl_max", l->kl_max) &&
            nib_json_add_num(j, "kl_p99.9", l->kl_999) && nib_json_add_num(j, "kl_p99", l->kl_99) &&
            nib_json_add_num(j, "kl_p90", l->kl_90) && nib_json_add_num(j, "rms_dp", l->rms_dp) &&
            nib_json_add_num(j, "kl_median", l->kl_median) &&
            nib_json_add_num(j, "same_top", l->same_top) &&
            nib_json_add_num(j, "same_top_error", l->same_top_error));
}

static nib_code print_json(const job *k, nib_err *err)
{
    const nib_compare_result *r = &k->r;
    nib_json *j = nib_json_new_object(), *models = NULL;
    bool ok = j && nib_json_add_str(j, "text", opt.scoring.text) &&
              nib_json_add_str(j, "protocol", nib_ppl_protocol_name(r->protocol)) &&
              nib_json_add_num(j, "context", (double)r->n_ctx) &&
              nib_json_add_num(j, "tokens", (double)r->n_tokens) &&
              nib_json_add_num(j, "chunks", (double)r->n_chunks) &&
              nib_json_add_num(j, "scored", (double)r->n_scored) &&
              nib_json_add_num(j, "seconds", r->seconds) &&
              (models = nib_json_add_array(j, "models"));
    for (size_t i = 0; i < k->n && ok; i++) ok = add_model(models, k, i);
    return nib_print_json(j, ok, err);
}

static void print_table(const job *k)
{
    const nib_compare_result *r = &k->r;
    int width = 5;
    for (size_t i = 0; i < k->n; i++) {
        int n = (int)strlen(k->path[i]);
        if (n > width) width = n;
    }
    printf("protocol %s, context %zu, %zu chunks, %zu of %zu tokens scored\n"
           "%-*s  %-20s  %-18s %-21s %8s %8s %8s  %s\n",
           nib_ppl_protocol_name(r->protocol), r->n_ctx, r->n_chunks, r->n_scored, r->n_tokens,
           width, "model", "perplexity", "change", "KL divergence", "99 %", "99.9 %", "maximum",
           "same top token");
    for (size_t i = 0; i < k->n; i++) {
        const nib_compare_line *l = &k->l[i];
        printf("%-*s  %9.4f +/- %-6.4f", width, k->path[i], l->ppl, l->ppl_error);
        if (i)
            printf(" %+7.3f +/- %5.3f %%  %8.6f +/- %8.6f %8.5f %8.5f %8.5f  %6.2f %%",
                   100 * expm1(l->change), 100 * exp(l->change) * l->change_error, l->kl,
                   l->kl_error, l->kl_99, l->kl_999, l->kl_max, 100 * l->same_top);
        else
            printf(" (the base)");
        const char *activations = nib_model_activations(&k->o[i].model);
        if (strcmp(activations, "f32")) printf("  activations %s", activations);
        putchar('\n');
    }
}

/* ---- limits ---- */

/* What all tensors of a model take, and how many weights they are. */
static void measure_size(const nib_source *s, uint64_t *bytes, double *bits)
{
    uint64_t weights = 0;
    *bytes = 0;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        *bytes += t->bytes;
        weights += nib_tensor_elems(t);
    }
    *bits = weights ? 8.0 * (double)*bytes / (double)weights : 0;
}

/* The files that were asked for, then the verdict. */
static nib_code conclude(const job *k, int *status, nib_log *log, nib_err *err)
{
    double *bits = nib_calloc(k->n, sizeof *bits);
    uint64_t *bytes = nib_calloc(k->n, sizeof *bytes);
    nib_code rc = bits && bytes ? NIB_OK : nib_fail_nomem(err, "a report");
    for (size_t i = 0; i < k->n && !rc; i++) measure_size(k->o[i].src, &bytes[i], &bits[i]);
    const nib_comparison c = {&k->r, k->l, k->path, bits, bytes, k->n};
    if (!rc && opt.junit) rc = nib_gates_junit(&opt.gates, &c, opt.junit, opt.force, err);
    if (!rc && opt.markdown) rc = nib_gates_markdown(&opt.gates, &c, opt.markdown, opt.force, err);
    if (!rc) *status = nib_gates_judge(&opt.gates, &c, log) ? NIB_EXIT_THRESHOLD : NIB_EXIT_OK;
    nib_free(bits);
    nib_free(bytes);
    return rc;
}

/* Reports that cannot be written are told of before the work. */
static nib_code check_files(nib_err *err)
{
    const char *const path[] = {opt.junit, opt.markdown};
    for (size_t i = 0; i < 2; i++)
        if (path[i] && !opt.force && nib_file_exists(path[i]))
            return nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", path[i]);
    return NIB_OK;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    job k = {.n = operands->n, .path = operands->v};
    int status = NIB_EXIT_OK;
    if (!opt.scoring.text) return nib_usage(&nib_cmd_compare, "compare: --text FILE is missing");
    if (nib_gates_read(&opt.gates, &err)) return nib_usage(&nib_cmd_compare, "compare: %s", err.msg);
    nib_code rc = check_files(&err);
    if (!rc) rc = compare(&k, ctx, &err);
    if (!rc && opt.json) rc = print_json(&k, &err);
    if (!rc && !opt.json) print_table(&k);
    if (!rc) rc = conclude(&k, &status, ctx->log, &err);
    if (rc) status = nib_report(&err);
    close_models(&k);
    return status;
}

const nib_cmd nib_cmd_compare = {
    .name = "compare",
    .run = run,
    .summary = "measure how far models are from the one they come from",
    .operands = "BASE OTHER",
    .min_operands = 2,
    .max_operands = -1,
    .usage = "BASE OTHER... --text FILE",
    .about = "Run models over the same text and print each one's perplexity and the "
             "Kullback-Leibler divergence of its predictions from BASE's: mean with standard "
             "error, percentiles, and the share of positions where both find the same token most "
             "likely. Far steadier than a difference of perplexities.",
    .example = "nibble compare data/tiny-llama data/tiny-llama --text data/eval.txt --chunks 2",
    .options = rows,
};
