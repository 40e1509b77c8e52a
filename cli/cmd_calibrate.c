/* SPDX-License-Identifier: MIT */
/* cli/cmd_calibrate.c - collect statistics of a model on sample text: the importance matrix. */
#include "base/file.h"
#include "base/mem.h"
#include "calib/calibrate.h"
#include "cli/opts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CTX_MIN = 16, CTX_MAX = 1 << 20, SAMPLES_MAX = 1 << 24 };

static struct {
    nib_opt_list texts;
    const char *out;
    uint64_t ctx, samples, seed;
    bool output, force;
} opt;

static const nib_opt rows[] = {
    {.name = "text",
     .kind = NIB_OPT_LIST,
     .target = &opt.texts,
     .metavar = "FILE",
     .help = "sample text: .txt or .jsonl, also gzip-compressed; FILE:WEIGHT gives its share of "
             "the windows; may be repeated"},
    {.name = "output",
     .letter = 'o',
     .kind = NIB_OPT_STR,
     .target = &opt.out,
     .metavar = "FILE",
     .help = "the statistics file to write; an unfinished run is kept in FILE.partial"},
    {.name = "ctx",
     .letter = 'c',
     .kind = NIB_OPT_UINT,
     .target = &opt.ctx,
     .min = CTX_MIN,
     .max = CTX_MAX,
     .metavar = "N",
     .help = "tokens in a window (512, or the model's context if shorter)"},
    {.name = "samples",
     .letter = 'n',
     .kind = NIB_OPT_UINT,
     .target = &opt.samples,
     .min = 1,
     .max = SAMPLES_MAX,
     .metavar = "N",
     .help = "windows, chosen at random from the texts (all of them, at most 1024)"},
    {.name = "seed",
     .kind = NIB_OPT_UINT,
     .target = &opt.seed,
     .metavar = "N",
     .help = "of the random choice (0)"},
    {.name = "process-output",
     .kind = NIB_OPT_FLAG,
     .target = &opt.output,
     .help = "also the output matrix, where the model has one of its own"},
    {.name = "force",
     .letter = 'f',
     .kind = NIB_OPT_FLAG,
     .target = &opt.force,
     .help = "replace the file if it exists"},
    {0}};

/* "FILE:0.5" is the file FILE with a weight, unless there is a file of that whole name. *copy is
 * the caller's and holds the path. */
static nib_code parse_text(nib_text_spec *spec, char **copy, const char *arg, nib_err *err)
{
    char *colon, *end;
    if (!(*copy = nib_strdup(arg))) return nib_fail_nomem(err, "a file name");
    *spec = (nib_text_spec){.path = *copy};
    colon = strrchr(*copy, ':');
    if (!colon || !colon[1] || nib_file_exists(arg)) return NIB_OK;
    double weight = strtod(colon + 1, &end);
    if (*end) return NIB_OK;
    if (!isfinite(weight) || weight <= 0)
        return nib_fail(err, NIB_EINVAL, "--text: weight '%s' of '%.*s' should be above 0",
                        colon + 1, (int)(colon - *copy), *copy);
    *colon = 0;
    spec->weight = weight;
    return NIB_OK;
}

static nib_code pick_windows(nib_windows *w, const nib_model *m, const nib_tokenizer *tok,
                             nib_err *err)
{
    size_t n = opt.texts.n, n_ctx = opt.ctx;
    nib_text_spec *texts = nib_calloc(n, sizeof *texts);
    char **copies = nib_calloc(n, sizeof *copies);
    nib_code rc = texts && copies ? NIB_OK : nib_fail_nomem(err, "a list of texts");
    for (size_t i = 0; i < n && !rc; i++)
        rc = parse_text(&texts[i], &copies[i], opt.texts.v[i], err);
    if (!n_ctx) n_ctx = NIB_CALIB_CTX < m->hp.n_ctx_train ? NIB_CALIB_CTX : m->hp.n_ctx_train;
    if (!rc)
        rc = nib_windows_pick(w, texts, n, tok, n_ctx,
                              opt.samples ? opt.samples : NIB_CALIB_MAX_WINDOWS, opt.seed, err);
    for (size_t i = 0; copies && i < n; i++) nib_free(copies[i]);
    nib_free(copies);
    nib_free(texts);
    return rc;
}

static void tell(nib_log *log, const nib_model *m, const nib_windows *w)
{
    if (w->n < opt.samples)
        nib_warn(log, "the texts give %zu windows of %zu tokens in their proportions, not %zu",
                 w->n, w->n_ctx, (size_t)opt.samples);
    nib_info(log, "%zu of %zu windows of %zu tokens", w->n, w->n_available, w->n_ctx);
    if (opt.output && m->hp.tied)
        nib_warn(log, "--process-output: the model has no output matrix of its own, the embedding "
                      "serves; nothing is collected for it");
}

/* Names of the texts, without their folders and weights: what a quantized model will mention. */
static nib_code add_names(nib_imatrix *m, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < opt.texts.n && !rc; i++) {
        nib_text_spec spec;
        char *copy = NULL;
        rc = parse_text(&spec, &copy, opt.texts.v[i], err);
        const char *name = rc ? "" : nib_path_base(spec.path);
        if (!rc) rc = nib_imatrix_add_dataset(m, name, strlen(name), err);
        nib_free(copy);
    }
    return rc;
}

static nib_code calibrate(const char *path, const char *partial, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc;
    nib_source *src = NULL;
    nib_model model = {0};
    nib_tokenizer *tok = NULL;
    nib_windows windows = {0};
    nib_imatrix stats = {0};
    nib_calib_opts how = nib_calib_defaults();
    how.process_output = opt.output;
    how.checkpoint = partial;

    if ((rc = nib_source_open(&src, path, err))) goto done;
    if ((rc = nib_model_open(&model, src, err))) goto done;
    if ((rc = nib_tokenizer_open(&tok, src, err))) goto done;
    if ((rc = pick_windows(&windows, &model, tok, err))) goto done;
    tell(ctx->log, &model, &windows);
    if ((rc = nib_calibrate(&stats, &model, &windows, &how, ctx, err))) goto done;
    if ((rc = add_names(&stats, err))) goto done;
    if ((rc = nib_imatrix_save(&stats, opt.out, opt.force, err))) goto done;
    remove(partial); /* mostly there is none */
    printf("%s: %zu weights, from %zu windows of %zu tokens\n", opt.out, stats.n, windows.n,
           windows.n_ctx);
done:
    nib_imatrix_free(&stats);
    nib_windows_free(&windows);
    nib_tokenizer_close(tok);
    nib_model_close(&model);
    nib_source_close(src);
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

static nib_code work(const char *model, const nib_ctx *ctx, nib_err *err)
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

static int run(int argc, char **argv)
{
    nib_opt_list operands = {0};
    nib_ctx ctx;
    nib_log log;
    nib_err err;
    int status = nib_opts_parse(&nib_cmd_calibrate, argc, argv, &operands, &ctx, &log);
    if (status >= 0) goto done;
    if (!opt.texts.n)
        status = nib_usage(&nib_cmd_calibrate, "calibrate: --text FILE is missing");
    else if (!opt.out)
        status = nib_usage(&nib_cmd_calibrate, "calibrate: -o FILE is missing");
    else
        status = work(operands.v[0], &ctx, &err) ? nib_report(&err) : NIB_EXIT_OK;
done:
    nib_free((void *)opt.texts.v);
    nib_free((void *)operands.v);
    return status;
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
             "command is given again.",
    .example = "nibble calibrate data/tiny-llama --text data/calibration.txt -o stats.gguf",
    .options = rows,
};
