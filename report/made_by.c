/* SPDX-License-Identifier: MIT */
/* report/made_by.c - see made_by.h. */
#include "report/made_by.h"

#include "formats/gguf.h"
#include "run/write/manifest.h"

#include <stdio.h>
#include <string.h>

enum { LINE_MAX = 600 };

/* The first LINE_MAX bytes of s, and a sign that there was more. */
static char *cut(const char *s, size_t n)
{
    const size_t room = LINE_MAX + sizeof " ...";
    char *line = n ? nib_alloc(room, 1) : NULL;
    if (line)
        snprintf(line, room, "%.*s%s", n < LINE_MAX ? (int)n : LINE_MAX, s,
                 n > LINE_MAX ? " ..." : "");
    return line;
}

static char *cut_json(const nib_json *j)
{
    char *text = j ? nib_json_print(j, false) : NULL;
    char *line = text ? cut(text, strlen(text)) : NULL;
    nib_free(text);
    return line;
}

/* The importance matrix that llama-quantize names. */
static char *of_imatrix(const nib_gguf_kvs *k)
{
    nib_str s;
    char line[LINE_MAX];
    if (!nib_gguf_get_str(k, "quantize.imatrix.file", &s)) return NULL;
    const int n =
        snprintf(line, sizeof line, "importance matrix %.*s", s.n < 400 ? (int)s.n : 400, s.p);
    return cut(line, (size_t)n);
}

char *nib_made_by(const nib_source *s)
{
    nib_err err;
    nib_json *recipe = NULL;
    char *line = nib_manifest_recipe(&recipe, s, &err) ? NULL : cut_json(recipe);
    nib_json_free(recipe);
    if (line) return line;
    if (nib_source_kvs(s)) return of_imatrix(nib_source_kvs(s));
    return cut_json(nib_json_get(nib_source_json(s, "config.json"), "quantization_config"));
}
