/* SPDX-License-Identifier: MIT */
/* cli/cmd_compare.c - how far models' predictions are from those of the model they come from.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "cli/compare.h"
#include "cli/compare_print.h"
#include "cli/gates.h"
#include "cli/io.h"
#include "cli/kept_base.h"
#include "cli/opened.h"
#include "cli/scoring.h"
#include "infer/finite.h"
#include "report/made_by.h"
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    nib_opt_list texts;
    nib_scoring scoring;
    nib_gates gates;
    const char *junit, *markdown, *report, *base_file;
    uint64_t base_top; /* 0: all, as llama.cpp has it */
    bool floor, json, force;
} opt = {.scoring = NIB_SCORING_DEFAULT};

static const nib_opt rows[] = {
    {.name = "text",
     .kind = NIB_OPT_LIST,
     .target = &opt.texts,
     .metavar = "FILE",
     .help = "a text to measure on, FILE or NAME=FILE; may be repeated; - is standard input",
     .heading = "Measurement"},
    NIB_SCORING_OPTS(opt.scoring),
    {.name = "noise-floor",
     .kind = NIB_OPT_FLAG,
     .target = &opt.floor,
     .help = "also compare BASE with itself, rounded to BF16 between its blocks"},
    {.name = "kl-divergence-base",
     .kind = NIB_OPT_STR,
     .target = &opt.base_file,
     .metavar = "FILE",
     .help = "keep what BASE predicts; FILE then serves as BASE, here and in llama.cpp"},
    {.name = "base-top",
     .kind = NIB_OPT_UINT,
     .target = &opt.base_top,
     .min = NIB_TOPS,
     .max = NIB_BASE_TOP_MAX,
     .metavar = "K",
     .help = "keep of each position only the K likeliest tokens and the sum of the rest"},
    {.name = "json",
     .kind = NIB_OPT_FLAG,
     .target = &opt.json,
     .help = "print the result as JSON",
     .heading = "Output"},
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
    {.name = "report",
     .kind = NIB_OPT_STR,
     .target = &opt.report,
     .metavar = "FILE",
     .help = "also write a page with charts, one HTML file that needs nothing else"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace these files if they exist"},
    NIB_GATE_OPTS(opt.gates),
    {0}};

typedef struct {
    const char *const *path;
    size_t n;             /* the base and what is compared with it              */
    nib_arena memory;     /* of names and paths                                 */
    nib_named_text *text; /* [n_texts]                                          */
    size_t n_texts;
    bool *kept;               /* [n] it is files of what a model predicts           */
    nib_opened *o;            /* [n] empty where kept                               */
    nib_base_file *file;      /* [n] where kept: of the text at work                */
    const nib_tokenizer *tok; /* the first model's; NULL: there are files alone     */
    nib_compared *m;          /* [n], then the base for the noise floor             */
    nib_report_model *model;  /* [n]                                                */
    nib_report_text *result;  /* [n_texts]                                          */
} job;

static nib_code allocate(job *j, nib_err *err)
{
    const size_t n = j->n + 1, texts = opt.texts.n ? opt.texts.n : 1;
    j->text = nib_calloc(texts, sizeof *j->text);
    j->result = nib_calloc(texts, sizeof *j->result);
    j->o = nib_calloc(n, sizeof *j->o);
    j->m = nib_calloc(n, sizeof *j->m);
    j->kept = nib_calloc(n, sizeof *j->kept);
    j->file = nib_calloc(n, sizeof *j->file);
    j->model = nib_calloc(n, sizeof *j->model);
    if (!j->text || !j->result || !j->o || !j->m || !j->model || !j->kept || !j->file)
        return nib_fail_nomem(err, "the models' list");
    for (size_t i = 0; i < texts; i++) {
        j->result[i].line = nib_calloc(n, sizeof *j->result[i].line);
        if (!j->result[i].line) return nib_fail_nomem(err, "the models' list");
    }
    j->n_texts = texts;
    return NIB_OK;
}

static void free_all(job *j)
{
    for (size_t i = 0; i < j->n && j->o; i++) nib_opened_close(&j->o[i]);
    for (size_t i = 0; i < j->n && j->model; i++) nib_free(j->model[i].made);
    for (size_t i = 0; i < j->n_texts; i++) {
        nib_report_text *t = &j->result[i];
        nib_compare_free(&t->r);
        nib_free(t->line);
        for (size_t m = 0; m < j->n && t->beyond; m++) nib_free(t->beyond[m]);
        nib_free(t->beyond);
    }
    nib_free(j->text);
    nib_free(j->result);
    nib_free(j->o);
    nib_free(j->m);
    nib_free(j->kept);
    nib_free(j->file);
    nib_free(j->model);
    nib_arena_free(&j->memory);
}

/* What all tensors of a model take, and how many weights they are. */
static void measure_size(nib_report_model *m)
{
    const nib_source *s = m->model->src;
    uint64_t weights = 0;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        m->bytes += t->bytes;
        weights += nib_tensor_elems(t);
    }
    m->bits = weights ? 8.0 * (double)m->bytes / (double)weights : 0;
}

static nib_code open_models(job *j, nib_log *log, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < j->n && !rc; i++) {
        nib_opened *o = &j->o[i];
        j->model[i] = (nib_report_model){.name = j->path[i], .activations = "f32"};
        j->m[i] = (nib_compared){.name = j->path[i]};
        if (j->kept[i]) continue;
        if ((rc = nib_opened_open(o, j->path[i], log, err))) break;
        j->m[i].model = j->model[i].model = &o->model;
        j->m[i].tok = j->model[i].tok = o->tok;
        if (!j->tok) j->tok = o->tok;
        j->model[i].activations = nib_model_activations(&o->model);
        measure_size(&j->model[i]);
        if (opt.report) j->model[i].made = nib_made_by(o->src);
    }
    j->m[j->n] = j->m[0];
    j->m[j->n].bf16 = true;
    return rc;
}

/* Is it a weight of one of the models that made the result NaN or infinite? */
static bool blame_weights(const job *j, const nib_ctx *ctx, nib_err *err)
{
    for (size_t i = 0; i < j->n; i++)
        if (!j->kept[i] && nib_blame_weights(&j->o[i].model, ctx, err)) return true;
    return false;
}

/* The files that stand for models in text i. */
static nib_code open_kept(job *j, size_t i, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t m = 0; m < j->n && !rc; m++) {
        const char *path;
        if (!j->kept[m]) continue;
        rc = nib_kept_path(&path, &j->memory, j->path[m], j->text, i, j->n_texts, err);
        if (!rc) rc = nib_base_file_open(&j->file[m], path, err);
        j->m[m].file = &j->file[m];
    }
    return rc;
}

/* All models over text i. */
static nib_code compare_text(job *j, size_t i, const nib_ctx *ctx, nib_err *err)
{
    const nib_named_text *t = &j->text[i];
    nib_report_text *to = &j->result[i];
    nib_scoring scoring = opt.scoring;
    nib_base_writer save = {0};
    char *text = NULL;
    size_t n_text = 0;
    const char *path;
    const nib_ppl_opts how = nib_scoring_how(&opt.scoring);
    scoring.text = t->path;
    *to = (nib_report_text){
        .name = t->name ? t->name : j->path[0], .path = t->path, .line = to->line};
    nib_code rc = open_kept(j, i, err);
    if (!rc && t->path && j->tok) rc = nib_scoring_read(&text, &n_text, &scoring, j->tok, err);
    if (!rc && opt.base_file) {
        rc = nib_kept_path(&path, &j->memory, opt.base_file, j->text, i, j->n_texts, err);
        if (!rc) rc = nib_base_writer_open(&save, path, opt.force, (size_t)opt.base_top, err);
        j->m[0].save = &save;
    }
    if (!rc &&
        (rc = nib_compare_run(&to->r, to->line, j->m, j->n + opt.floor, text, n_text, &how, ctx,
                              err)) &&
        !(rc == NIB_ENUMERIC && blame_weights(j, ctx, err)))
        nib_wrap(err, "%s", to->name);
    if (!rc && save.out) rc = nib_base_writer_commit(&save, err);
    nib_base_writer_abort(&save);
    for (size_t m = 0; m < j->n; m++) nib_base_file_close(&j->file[m]);
    nib_free(text);
    return rc;
}

static nib_code check_base(job *j, nib_err *err)
{
    for (size_t i = 0; i < j->n; i++) j->kept[i] = nib_kept_is(j->path[i], j->text, opt.texts.n);
    if (j->kept[0] && (opt.base_file || opt.floor))
        return nib_fail(err, NIB_EINVAL, "%s: %s needs the model itself", j->path[0],
                        opt.floor ? "--noise-floor" : "--kl-divergence-base");
    if (opt.base_top && !opt.base_file)
        return nib_fail(err, NIB_EINVAL, "--base-top is for what --kl-divergence-base keeps");
    if (!opt.base_file) return NIB_OK;
    return nib_kept_prepare(opt.base_file, &j->memory, j->text, j->n_texts, opt.force, err);
}

/* Limits that are none, and reports that are there already, are told of before the work. */
static nib_code check(nib_err *err)
{
    const char *const path[] = {opt.junit, opt.markdown, opt.report};
    nib_code rc = nib_gates_read(&opt.gates, err);
    for (size_t i = 0; i < sizeof path / sizeof path[0] && !rc; i++)
        if (path[i] && !opt.force && nib_file_exists(path[i]))
            rc = nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it", path[i]);
    return rc;
}

/* So are files to write that are one and the same, or are what is read. */
static nib_code check_files(const job *j, nib_err *err)
{
    const char *const path[] = {opt.base_file, opt.junit, opt.markdown, opt.report};
    for (size_t i = 0; i < sizeof path / sizeof path[0]; i++) {
        if (!path[i]) continue;
        for (size_t k = 0; k < i; k++)
            if (path[k] && (!strcmp(path[i], path[k]) || nib_file_same(path[i], path[k])))
                return nib_fail(err, NIB_EINVAL, "%s: two files of that name are asked for",
                                path[i]);
        for (size_t m = 0; m < j->n; m++)
            if (nib_file_same(path[i], j->path[m]))
                return nib_fail(err, NIB_EINVAL, "%s: one of the models", path[i]);
        for (size_t t = 0; t < opt.texts.n; t++)
            if (nib_file_same(path[i], j->text[t].path))
                return nib_fail(err, NIB_EINVAL, "%s: one of the texts", path[i]);
    }
    return NIB_OK;
}

static nib_code compare(job *j, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = allocate(j, err);
    if (!rc) rc = nib_named_texts(j->text, &j->memory, &opt.texts, err);
    if (!rc) rc = check_files(j, err);
    if (!rc) rc = check_base(j, err);
    if (!rc && !opt.texts.n && (!j->kept[0] || nib_file_is_dir(j->path[0])))
        return nib_fail(err, NIB_EINVAL, "compare: --text FILE is missing");
    if (!rc) rc = open_models(j, ctx->log, err);
    for (size_t i = 0; i < j->n_texts && !rc; i++) rc = compare_text(j, i, ctx, err);
    return rc;
}

/* ---- the report ---- */

/* In quotes where a shell would see more than a word. */
static void quote(FILE *f, const char *s)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./_-=:,+@%";
    const bool bare = *s && strspn(s, plain) == strlen(s);
    if (!bare) fputc('\'', f);
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", f);
        else
            fputc(*s, f);
    if (!bare) fputc('\'', f);
}

/* What stands behind the models in the command. */
static void put_options(FILE *f, const job *j)
{
    const nib_compare_result *r = &j->result[0].r;
    for (size_t i = 0; i < opt.texts.n; i++) {
        fputs(" --text ", f);
        quote(f, opt.texts.v[i]);
    }
    if (opt.scoring.chat) fputs(" --chat", f);
    fprintf(f, " --protocol %s --ctx %zu", nib_ppl_protocol_name(r->protocol), r->n_ctx);
    if (opt.scoring.chunks) fprintf(f, " --chunks %llu", (unsigned long long)opt.scoring.chunks);
    nib_kv_print_options(f, &opt.scoring.kv);
    if (opt.floor) fputs(" --noise-floor", f);
}

/* Which limits each model is beyond in each text. */
static nib_code judge_texts(job *j, nib_err *err)
{
    for (size_t i = 0; i < j->n_texts; i++) {
        nib_report_text *t = &j->result[i];
        t->beyond = nib_calloc(j->n, sizeof *t->beyond);
        if (!t->beyond) return nib_fail_nomem(err, "the verdicts");
        for (size_t m = 0; m < j->n; m++) {
            char beyond[2000] = "";
            if (m) nib_gates_beyond(&opt.gates, &t->line[m], beyond, sizeof beyond);
            t->beyond[m] = nib_strdup(beyond);
            if (!t->beyond[m]) return nib_fail_nomem(err, "the verdicts");
        }
    }
    return NIB_OK;
}

static nib_code write_report(job *j, const nib_comparison *c, const nib_ctx *ctx, nib_err *err)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return nib_fail_nomem(err, "a report");
    put_options(f, j);
    for (size_t m = 0; m < j->n; m++) {
        fputc(0, f);
        quote(f, j->path[m]);
    }
    if (fclose(f)) return free(text), nib_fail_nomem(err, "a report");
    const char *quoted = text;
    for (size_t m = 0; m < j->n; m++) j->model[m].quoted = quoted += strlen(quoted) + 1;
    nib_code rc = nib_gates_any(&opt.gates) ? judge_texts(j, err) : NIB_OK;
    if (!rc) rc = nib_report_write(c, text, opt.report, opt.force, ctx, err);
    free(text);
    return rc;
}

static nib_code print_json(const nib_comparison *c, nib_err *err)
{
    nib_json *root = nib_json_new_object();
    return nib_print_json(root,
                          root && nib_json_add_str(root, "nibble", NIB_VERSION) &&
                              nib_comparison_to_json(root, c, &opt.scoring.kv),
                          err);
}

/* What is printed, the files that were asked for, then the verdict. */
static nib_code conclude(job *j, nib_json *into, int *status, const nib_ctx *ctx, nib_err *err)
{
    const nib_comparison c = {.model = j->model,
                              .n_models = j->n,
                              .text = j->result,
                              .n_texts = j->n_texts,
                              .floor = opt.floor};
    nib_code rc = NIB_OK;
    if (into)
        rc = nib_comparison_to_json(into, &c, &opt.scoring.kv) ? NIB_OK
                                                               : nib_fail_nomem(err, "JSON output");
    else if (opt.json)
        rc = print_json(&c, err);
    else
        nib_print_comparison(&c, &opt.scoring.kv);
    if (!rc && opt.junit) rc = nib_gates_junit(&opt.gates, &c, opt.junit, opt.force, err);
    if (!rc && opt.markdown) rc = nib_gates_markdown(&opt.gates, &c, opt.markdown, opt.force, err);
    if (!rc && opt.report) rc = write_report(j, &c, ctx, err);
    if (!rc) *status = nib_gates_judge(&opt.gates, &c, ctx->log) ? NIB_EXIT_THRESHOLD : NIB_EXIT_OK;
    return rc;
}

int nib_compare_models(const nib_opt_list *models, nib_json *into, const nib_ctx *ctx)
{
    nib_err err;
    job j = {.n = models->n, .path = models->v};
    int status = NIB_EXIT_OK;
    if (j.n < 2 && !opt.base_file && !opt.floor)
        return nib_usage(&nib_cmd_compare, "compare: BASE OTHER is missing");
    nib_code rc = check(&err);
    if (rc == NIB_EINVAL) return nib_usage(&nib_cmd_compare, "compare: %s", err.msg);
    if (!rc) rc = compare(&j, ctx, &err);
    if (!rc) rc = conclude(&j, into, &status, ctx, &err);
    if (rc) status = nib_report(&err);
    free_all(&j);
    return status;
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    return nib_compare_models(operands, NULL, ctx);
}

const nib_cmd nib_cmd_compare = {
    .name = "compare",
    .run = run,
    .check = check,
    .summary = "measure how far models are from the one they come from",
    .operands = "BASE OTHER",
    .min_operands = 1,
    .max_operands = -1,
    .usage = "BASE OTHER... --text FILE",
    .about = "Run models over the same text and print each one's perplexity and the "
             "Kullback-Leibler divergence of its predictions from BASE's: mean with standard "
             "error, percentiles, and the share of positions where both find the same token most "
             "likely. Far steadier than a difference of perplexities.",
    .example = "nibble compare data/tiny-llama data/tiny-llama --text data/eval.txt --chunks 2",
    .options = rows,
};
