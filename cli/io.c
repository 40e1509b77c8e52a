/* SPDX-License-Identifier: MIT */
/* cli/io.c - see io.h. */
#include "cli/io.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A text is held whole, and its tokens take four times as much: more than this is a mistake. */
static const size_t max_text_bytes = (size_t)1 << 32;

static nib_code read_stdin(char **text, size_t *n, nib_err *err)
{
    size_t cap = 1 << 16, used = 0, got;
    char *buf = nib_alloc(cap, 1);
    if (!buf) return nib_fail_nomem(err, "standard input");
    while ((got = fread(buf + used, 1, cap - 1 - used, stdin)) > 0) {
        used += got;
        if (used + 1 < cap) continue;
        char *bigger = cap < max_text_bytes ? nib_grow(buf, cap, cap * 2, 1) : NULL;
        if (!bigger) {
            nib_free(buf);
            return nib_fail_nomem(err, "standard input");
        }
        buf = bigger;
        cap *= 2;
    }
    if (ferror(stdin)) {
        nib_free(buf);
        return nib_fail_sys(err, errno, "standard input");
    }
    buf[used] = 0;
    *text = buf;
    *n = used;
    return NIB_OK;
}

nib_code nib_read_text(char **text, size_t *n, const char *path, nib_err *err)
{
    if (!path || !strcmp(path, "-")) return read_stdin(text, n, err);
    return nib_file_slurp(text, n, path, max_text_bytes, err);
}

void nib_print_text(const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        k = nib_control(s + i, n - i);
        putchar(k ? ' ' : s[i]);
    }
}

nib_code nib_print_json(nib_json *root, bool built, nib_err *err)
{
    char *text = root && built ? nib_json_print(root, true) : NULL;
    if (text) puts(text);
    bool printed = text;
    nib_free(text);
    nib_json_free(root);
    return printed ? NIB_OK : nib_fail_nomem(err, "JSON output");
}
