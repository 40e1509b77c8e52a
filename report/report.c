/* SPDX-License-Identifier: MIT */
/* report/report.c - see report.h. Tests: tests/cli/report.sh. */
#include "report/report.h"

#include "report/html.h"
#include "report/sections.h"

#include <stdlib.h>

/* The errors of every model that can be set beside the base weight by weight. */
static nib_code measure_weights(nib_layer_errors *e, const char **why, const nib_comparison *c,
                                const nib_ctx *ctx, nib_err *err)
{
    const nib_model *base = c->model[0].model;
    nib_progress bar;
    nib_code rc = NIB_OK;
    nib_progress_begin(&bar, ctx->log, "comparing weights", "models", (double)c->n_models);
    for (size_t m = 1; m < c->n_models && !rc; m++) {
        const nib_model *other = c->model[m].model;
        why[m] = "a file of what a model predicts is without weights";
        if (base && other && nib_layer_errors_possible(base, other, &why[m]))
            rc = nib_layer_errors_measure(&e[m], base, other, ctx, err);
        if (rc) nib_wrap(err, "%s", c->model[m].name);
        nib_progress_at(&bar, (double)m);
    }
    nib_progress_end(&bar);
    return rc;
}

/* What the base reads where another's weights differ most, over the beginning of the first text. */
static nib_code measure_inputs(nib_input_picture *in, const nib_layer_errors *e,
                               const nib_comparison *c, const nib_ctx *ctx, nib_err *err)
{
    enum { TOKENS = 512 };
    const nib_compare_result *r = &c->text[0].r;
    const size_t n = r->n_ctx < TOKENS ? r->n_ctx : TOKENS;
    const nib_tokenizer *tok = c->model[0].tok;
    int32_t id[TOKENS];
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < n; i++) id[i] = r->id[i];
    if (tok && nib_tokenizer_adds_bos(tok)) id[0] = nib_tokenizer_bos(tok);
    for (size_t m = 1; m < c->n_models && !rc; m++)
        if (e[m].most > 0)
            rc = nib_input_picture_take(&in[m], c->model[0].model, e[m].worst.place, id, n, ctx,
                                        err);
    return rc;
}

static nib_code put_page(FILE *f, const nib_comparison *c, const char *options,
                         const nib_layer_errors *e, const nib_input_picture *in,
                         const char *const *why, nib_err *err)
{
    nib_html_begin(f, c->model[0].name);
    nib_report_summary(f, c);
    nib_report_front(f, c);
    nib_report_spread(f, c);
    nib_code rc = nib_report_tokens(f, c, err);
    nib_report_layers(f, c, e, in, why);
    nib_report_made(f, c, options);
    nib_html_end(f);
    return rc;
}

nib_code nib_report_write(const nib_comparison *c, const char *options, const char *path,
                          bool force, const nib_ctx *ctx, nib_err *err)
{
    char *text = NULL;
    size_t n = 0;
    nib_layer_errors *e = nib_calloc(c->n_models, sizeof *e);
    nib_input_picture *in = nib_calloc(c->n_models, sizeof *in);
    const char **why = nib_calloc(c->n_models, sizeof *why);
    FILE *f = open_memstream(&text, &n);
    nib_code rc = e && in && why && f ? NIB_OK : nib_fail_nomem(err, "a report");
    if (!rc) rc = measure_weights(e, why, c, ctx, err);
    if (!rc) rc = measure_inputs(in, e, c, ctx, err);
    if (!rc) rc = put_page(f, c, options, e, in, why, err);
    const bool bad = f && ferror(f);
    if (f && (fclose(f) || bad) && !rc) rc = nib_fail_nomem(err, "a report");
    if (!rc) rc = nib_file_save(path, text, n, force, err);
    for (size_t m = 0; m < c->n_models && e; m++) nib_layer_errors_free(&e[m]);
    nib_free(e);
    nib_free(in);
    nib_free(why);
    free(text);
    return rc;
}
