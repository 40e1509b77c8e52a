/* SPDX-License-Identifier: MIT */
/* cli/windows.c - see windows.h. */
#include "cli/windows.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static nib_code pick(nib_windows *w, const nib_window_opts *o, const nib_tokenizer *tok,
                     size_t n_ctx, size_t samples, nib_err *err)
{
    size_t n = o->texts.n;
    nib_text_spec *texts = nib_calloc(n, sizeof *texts);
    char **copies = nib_calloc(n, sizeof *copies);
    nib_code rc = texts && copies ? NIB_OK : nib_fail_nomem(err, "a list of texts");
    for (size_t i = 0; i < n && !rc; i++)
        rc = parse_text(&texts[i], &copies[i], o->texts.v[i], err);
    if (!rc) rc = nib_windows_pick(w, texts, n, tok, n_ctx, samples, o->seed, err);
    for (size_t i = 0; copies && i < n; i++) nib_free(copies[i]);
    nib_free(copies);
    nib_free(texts);
    return rc;
}

size_t nib_window_ctx(const nib_window_opts *o, const nib_model *m, size_t usual_ctx)
{
    if (o->ctx) return o->ctx;
    return usual_ctx < m->hp.n_ctx_train ? usual_ctx : m->hp.n_ctx_train;
}

nib_code nib_windows_from_opts(nib_windows *w, const nib_window_opts *o, const nib_model *m,
                               const nib_tokenizer *tok, size_t usual_ctx, size_t usual_samples,
                               const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = pick(w, o, tok, nib_window_ctx(o, m, usual_ctx),
                       o->samples ? o->samples : usual_samples, err);
    if (rc) return rc;
    if (w->n < o->samples)
        nib_warn(ctx->log, "the texts give %zu windows of %zu tokens in their proportions, not %zu",
                 w->n, w->n_ctx, (size_t)o->samples);
    nib_info(ctx->log, "%zu of %zu windows of %zu tokens", w->n, w->n_available, w->n_ctx);
    return NIB_OK;
}

nib_code nib_window_text_name(char **name, const nib_window_opts *o, size_t i, nib_err *err)
{
    nib_text_spec spec = {0};
    char *copy = NULL;
    nib_code rc = parse_text(&spec, &copy, o->texts.v[i], err);
    *name = rc ? NULL : nib_utf8_replace(nib_path_base(spec.path));
    nib_free(copy);
    return rc ? rc : *name ? NIB_OK : nib_fail_nomem(err, "a file name");
}
