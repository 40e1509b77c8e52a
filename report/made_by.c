/* SPDX-License-Identifier: MIT */
/* report/made_by.c - see made_by.h. Tests: tests/cli/report.sh. */
#include "report/made_by.h"

#include "base/file.h"
#include "formats/gguf.h"

#include <stdio.h>
#include <string.h>

enum { LINE_MAX = 600, MANIFEST_MAX = 64 << 20 };

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

static char *of_gguf(const nib_gguf_kvs *k)
{
    nib_str s;
    char line[LINE_MAX];
    if (nib_gguf_get_str(k, "nibble.recipe", &s)) return cut(s.p, s.n);
    if (!nib_gguf_get_str(k, "quantize.imatrix.file", &s)) return NULL;
    const int n =
        snprintf(line, sizeof line, "importance matrix %.*s", s.n < 400 ? (int)s.n : 400, s.p);
    return cut(line, (size_t)n);
}

static char *of_folder(const nib_source *s)
{
    nib_err err;
    nib_json *manifest = NULL;
    char *line = NULL, *dir = nib_source_folder(s);
    char *path = dir ? nib_path_join(dir, "nibble.json") : NULL;
    if (path && nib_file_exists(path) && !nib_json_load(&manifest, path, MANIFEST_MAX, &err))
        line = cut_json(nib_json_get(manifest, "recipe"));
    nib_json_free(manifest);
    nib_free(path);
    nib_free(dir);
    if (line) return line;
    return cut_json(nib_json_get(nib_source_json(s, "config.json"), "quantization_config"));
}

char *nib_made_by(const nib_source *s)
{
    return nib_source_kvs(s) ? of_gguf(nib_source_kvs(s)) : of_folder(s);
}
