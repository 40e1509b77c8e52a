/* SPDX-License-Identifier: MIT */
/* cli/cmd_perplexity.c - measure a model on a text, by a named protocol. */
#include "base/mem.h"
#include "cli/io.h"
#include "cli/opts.h"
#include "infer/ppl.h"

#include <stdio.h>
#include <string.h>

enum { CTX_MIN = 16, CTX_MAX = 1 << 20 };

/* The names that nib_ppl_protocol_name() gives, in its order. */
static const char *const protocols[] = {"llama.cpp", "window", NULL};

static struct {
    const char *text, *protocol;
    uint64_t ctx, chunks;
    double max_ppl;
    bool json;
} opt = {.protocol = "llama.cpp"};

static const nib_opt rows[] = {
    {.name = "text",
     .kind = NIB_OPT_STR,
     .target = &opt.text,
     .metavar = "FILE",
     .help = "the text to measure on; - is standard input"},
    {.name = "protocol",
     .kind = NIB_OPT_CHOICE,
     .target = &opt.protocol,
     .choices = protocols,
     .metavar = "NAME",
     .help = "llama.cpp: second half of each chunk is scored; window: all of it, as in papers "
             "(llama.cpp)"},
    {.name = "ctx",
     .letter = 'c',
     .kind = NIB_OPT_UINT,
     .target = &opt.ctx,
     .min = CTX_MIN,
     .max = CTX_MAX,
     .metavar = "N",
     .help = "tokens in a chunk (512; window: 2048, or the model's context if shorter)"},
    {.name = "chunks",
     .kind = NIB_OPT_UINT,
     .target = &opt.chunks,
     .metavar = "N",
     .help = "stop after N chunks (all)"},
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
    nib_code rc;
    nib_source *src = NULL;
    nib_model model = {0};
    nib_tokenizer *tok = NULL;
    char *text = NULL;
    size_t n;
    nib_ppl_opts how = {.n_ctx = opt.ctx, .max_chunks = opt.chunks};
    while (strcmp(nib_ppl_protocol_name(how.protocol), opt.protocol)) how.protocol++;

    if ((rc = nib_source_open(&src, path, err))) goto done;
    if ((rc = nib_model_open(&model, src, err))) goto done;
    if ((rc = nib_tokenizer_open(&tok, src, err))) goto done;
    if ((rc = nib_read_text(&text, &n, opt.text, err))) goto done;
    if ((rc = nib_ppl_run(r, &model, tok, text, n, &how, NULL, ctx, err)))
        nib_wrap(err, "%s", opt.text);
done:
    nib_free(text);
    nib_tokenizer_close(tok);
    nib_model_close(&model);
    nib_source_close(src);
    return rc;
}

static nib_code print_json(const nib_ppl_result *r, const char *model, nib_err *err)
{
    nib_json *j = nib_json_new_object();
    bool ok = j && nib_json_add_str(j, "model", model) && nib_json_add_str(j, "text", opt.text) &&
              nib_json_add_str(j, "protocol", nib_ppl_protocol_name(r->protocol)) &&
              nib_json_add_num(j, "context", (double)r->n_ctx) &&
              nib_json_add_num(j, "tokens", (double)r->n_tokens) &&
              nib_json_add_num(j, "chunks", (double)r->n_chunks) &&
              nib_json_add_num(j, "scored", (double)r->n_scored) &&
              nib_json_add_str(j, "activations", r->activations) &&
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
    puts(")");
}

static int run(int argc, char **argv)
{
    nib_opt_list operands = {0};
    nib_ctx ctx;
    nib_log log;
    nib_err err;
    nib_ppl_result r;
    int status = nib_opts_parse(&nib_cmd_perplexity, argc, argv, &operands, &ctx, &log);
    if (status >= 0) goto done;
    status = NIB_EXIT_OK;
    if (!opt.text) {
        status = nib_usage(&nib_cmd_perplexity, "perplexity: --text FILE is missing");
        goto done;
    }
    const char *model = operands.v[0];
    if (measure(&r, model, &ctx, &err) || (opt.json && print_json(&r, model, &err))) {
        status = nib_report(&err);
        goto done;
    }
    if (!opt.json) print_line(&r, model);
    nib_debug(&log, "%.1f s, %.0f tokens/s", r.seconds, (double)(r.n_chunks * r.n_ctx) / r.seconds);
    if (opt.max_ppl > 0 && !(r.ppl <= opt.max_ppl)) {
        nib_warn(&log, "perplexity %.4f is above --max-ppl %g", r.ppl, opt.max_ppl);
        status = NIB_EXIT_THRESHOLD;
    }
done:
    nib_free((void *)operands.v);
    return status;
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
