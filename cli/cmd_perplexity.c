/* SPDX-License-Identifier: MIT */
/* cli/cmd_perplexity.c - measure a model on a text, by a named protocol.
 * Tests: tests/cases/commands. */
#include "base/mem.h"
#include "cli/io.h"
#include "cli/opened.h"
#include "cli/opts.h"
#include "cli/scoring.h"
#include "infer/finite.h"
#include "infer/ppl.h"

#include <stdio.h>
#include <string.h>

static struct {
    nib_scoring scoring;
    double max_ppl;
    bool json;
} opt = {.scoring = NIB_SCORING_DEFAULT};

static const nib_opt rows[] = {
    NIB_SCORING_TEXT_OPT(opt.scoring),
    NIB_SCORING_OPTS(opt.scoring),
    {.name = "max-ppl",
     .kind = NIB_OPT_NUM,
     .target = &opt.max_ppl,
     .min = 1,
     .max = 1e9,
     .metavar = "X",
     .help = "exit with status 3 when the perplexity is above X"},
    {.name = "json", .kind = NIB_OPT_FLAG, .target = &opt.json, .help = "print the result as JSON"},
    {0}};

static nib_code measure(nib_ppl_result *r, const char *path, const nib_ctx *ctx, nib_err *err)
{
    nib_opened o;
    char *text = NULL;
    size_t n;
    const nib_ppl_opts how = nib_scoring_how(&opt.scoring);
    nib_code rc = nib_opened_open(&o, path, ctx->log, err);
    if (!rc) rc = nib_scoring_read(&text, &n, &opt.scoring, o.tok, err);
    if (!rc && (rc = nib_ppl_run(r, &o.model, o.tok, text, n, &how, NULL, ctx, err)) &&
        !(rc == NIB_ENUMERIC && nib_blame_weights(&o.model, ctx, err)))
        nib_wrap(err, "%s", opt.scoring.text);
    nib_free(text);
    nib_opened_close(&o);
    return rc;
}

static nib_code print_json(const nib_ppl_result *r, const char *model, nib_err *err)
{
    nib_json *j = nib_json_new_object();
    bool ok =
        j && nib_json_add_str(j, "model", model) && nib_json_add_str(j, "text", opt.scoring.text) &&
        nib_json_add_str(j, "protocol", nib_ppl_protocol_name(r->protocol)) &&
        nib_json_add_num(j, "context", (double)r->n_ctx) &&
        nib_json_add_num(j, "tokens", (double)r->n_tokens) &&
        nib_json_add_num(j, "chunks", (double)r->n_chunks) &&
        nib_json_add_num(j, "scored", (double)r->n_scored) &&
        nib_json_add_str(j, "activations", r->activations) && nib_kv_add_json(j, &opt.scoring.kv) &&
        nib_json_add_num(j, "nll", r->nll) && nib_json_add_num(j, "perplexity", r->ppl) &&
        nib_json_add_num(j, "error", r->error) && nib_json_add_num(j, "seconds", r->seconds);
    return nib_print_json(j, ok, err);
}

static void print_line(const nib_ppl_result *r, const char *model)
{
    printf("%s: perplexity %.4f +/- %.4f (protocol %s, context %zu, %zu chunks, "
           "%zu of %zu tokens scored",
           model, r->ppl, r->error, nib_ppl_protocol_name(r->protocol), r->n_ctx, r->n_chunks,
           r->n_scored, r->n_tokens);
    if (strcmp(r->activations, "f32")) printf(", activations %s", r->activations);
    nib_kv_print(&opt.scoring.kv);
    puts(")");
}

static int run(const nib_opt_list *operands, const nib_ctx *ctx)
{
    nib_err err;
    nib_ppl_result r;
    const char *model = operands->v[0];
    if (!opt.scoring.text)
        return nib_usage(&nib_cmd_perplexity, "perplexity: --text FILE is missing");
    if (measure(&r, model, ctx, &err) || (opt.json && print_json(&r, model, &err)))
        return nib_report(&err);
    if (!opt.json) print_line(&r, model);
    nib_debug(ctx->log, "%.1f s, %.0f tokens/s", r.seconds,
              (double)(r.n_chunks * r.n_ctx) / r.seconds);
    if (opt.max_ppl <= 0 || r.ppl <= opt.max_ppl) return NIB_EXIT_OK;
    nib_warn(ctx->log, "perplexity %.4f is above --max-ppl %g", r.ppl, opt.max_ppl);
    return NIB_EXIT_THRESHOLD;
}

const nib_cmd nib_cmd_perplexity = {
    .name = "perplexity",
    .run = run,
    .summary = "measure a model on a text",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .usage = "MODEL --text FILE",
    .about = "Measure how well a model (folder, .safetensors or .gguf) predicts a text. The number "
             "means something only together with its protocol and text, so both are printed.",
    .example = "nibble perplexity data/tiny-llama --text data/eval.txt",
    .options = rows,
};
