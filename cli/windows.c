/* SPDX-License-Identifier: MIT */
/* cli/windows.c - see windows.h. Tests: tests/cases/commands. */
#include "cli/windows.h"

#include "base/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "FILE:0.5" is the file FILE with a weight, unless there is a file of that whole name. */
static nib_code parse_text(nib_text_spec *spec, nib_arena *keep, const char *arg, nib_err *err)
{
    char *end, *path = nib_arena_str(keep, arg, strlen(arg));
    if (!path) return nib_fail_nomem(err, "a file name");
    *spec = (nib_text_spec){.path = path};
    char *colon = strrchr(path, ':');
    if (!colon || !colon[1] || nib_file_exists(arg)) return NIB_OK;
    double weight = strtod(colon + 1, &end);
    if (*end) return NIB_OK;
    if (!isfinite(weight) || weight <= 0)
        return nib_fail(err, NIB_EINVAL, "--text: weight '%s' of '%.*s' should be above 0",
                        colon + 1, (int)(colon - path), path);
    *colon = 0;
    spec->weight = weight;
    return NIB_OK;
}

nib_code nib_window_sample(nib_sample *s, nib_arena *keep, const nib_window_opts *o, nib_err *err)
{
    const size_t n = o->texts.n;
    nib_text_spec *text = nib_arena_alloc(keep, n ? n : 1, sizeof *text, _Alignof(nib_text_spec));
    nib_code rc = text ? NIB_OK : nib_fail_nomem(err, "a list of texts");
    for (size_t i = 0; i < n && !rc; i++) rc = parse_text(&text[i], keep, o->texts.v[i], err);
    *s = (nib_sample){.text = text,
                      .n_texts = n,
                      .chat = o->chat,
                      .n_ctx = o->ctx,
                      .samples = o->samples,
                      .seed = o->seed};
    return rc;
}
