/* SPDX-License-Identifier: MIT */
/* calib/text.c - see text.h: files to text. The only file that sees zlib. */
#include "calib/text.h"
#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { FIRST_ROOM = 1 << 20, GZ_BUFFER = 1 << 17 };

/* ---- bytes ---- */

static nib_code fail_gz(gzFile f, nib_err *err)
{
    int e = errno, code;
    const char *what = gzerror(f, &code);
    if (code == Z_ERRNO) return nib_fail_sys(err, e, "reading");
    if (code == Z_BUF_ERROR) what = "the file is cut short";
    return nib_fail(err, NIB_EFORMAT, "damaged gzip file: %s", what);
}

/* At most NIB_TEXT_MAX_BYTES from f, with a NUL behind. zlib passes through what is not gzip. */
static nib_code read_bytes(gzFile f, char **out, size_t *n_out, nib_err *err)
{
    size_t room = 0, n = 0;
    char *p = NULL;
    for (;;) {
        if (n + 1 >= room) {
            size_t more = room ? 2 * room : FIRST_ROOM;
            char *grown = nib_grow(p, n, more, 1);
            if (!grown) {
                nib_free(p);
                return nib_fail_nomem(err, "a text");
            }
            p = grown;
            room = more;
        }
        size_t want = room - n - 1;
        int got = gzread(f, p + n, want < INT_MAX ? (unsigned)want : INT_MAX);
        if (got < 0) {
            nib_free(p);
            return fail_gz(f, err);
        }
        n += (size_t)got;
        if (n > NIB_TEXT_MAX_BYTES) {
            nib_free(p);
            return nib_fail(err, NIB_EFORMAT, "more than %zu MiB of text; give a part of it",
                            NIB_TEXT_MAX_BYTES >> 20);
        }
        if (got == 0) break;
    }
    p[n] = 0;
    *out = p;
    *n_out = n;
    return NIB_OK;
}

static nib_code read_file(char **text, size_t *n, const char *path, nib_err *err)
{
    errno = 0;
    gzFile f = gzopen(path, "rb");
    if (!f) return errno ? nib_fail_sys(err, errno, "opening") : nib_fail_nomem(err, "a text");
    gzbuffer(f, GZ_BUFFER);
    nib_code rc = read_bytes(f, text, n, err);
    int code = gzclose_r(f);
    if (rc || code == Z_OK) return rc;
    nib_free(*text);
    *text = NULL;
    return nib_fail(err, NIB_EFORMAT, "damaged gzip file: it is cut short");
}

/* ---- JSON lines ----
 *
 * Text replaces the lines in their own buffer: what a line yields, with its joint, is shorter than
 * the line with its JSON around. */

typedef struct {
    char *p;
    size_t n, limit; /* limit: nothing at or after it may be touched yet */
} sink;

static void put(sink *s, const char *text, size_t n)
{
    assert(n <= s->limit - s->n);
    memcpy(s->p + s->n, text, n);
    s->n += n;
}

static nib_code put_messages(sink *s, const nib_json *list, nib_err *err)
{
    size_t i = 0;
    for (const nib_json *m = nib_json_first(list); m; m = nib_json_next(m), i++) {
        const char *role, *content;
        const nib_json *c = nib_json_get(m, "content");
        if (!nib_json_str(nib_json_get(m, "role"), &role))
            return nib_fail(err, NIB_EFORMAT, "message %zu has no 'role' that is a string", i + 1);
        if (nib_json_is_null(c)) continue;
        if (!nib_json_str(c, &content))
            return nib_fail(err, NIB_EFORMAT, "message %zu has no 'content' that is a string",
                            i + 1);
        if (i) put(s, "\n", 1);
        put(s, role, strlen(role));
        put(s, ": ", 2);
        put(s, content, strlen(content));
    }
    return NIB_OK;
}

static nib_code put_document(sink *s, const nib_json *doc, nib_err *err)
{
    const char *text;
    const nib_json *t = nib_json_get(doc, "text"), *m = nib_json_get(doc, "messages");
    if (!nib_json_is_object(doc)) return nib_fail(err, NIB_EFORMAT, "not a JSON object");
    if (t && !nib_json_str(t, &text)) return nib_fail(err, NIB_EFORMAT, "'text' is not a string");
    if (!t && !m) return nib_fail(err, NIB_EFORMAT, "has neither 'text' nor 'messages'");
    if (!t && !nib_json_is_array(m)) return nib_fail(err, NIB_EFORMAT, "'messages' is not a list");
    if (s->n) put(s, "\n\n", 2);
    if (!t) return put_messages(s, m, err);
    put(s, text, strlen(text));
    return NIB_OK;
}

static nib_code put_line(sink *s, const char *line, size_t n, nib_err *err)
{
    nib_json *doc;
    nib_code rc = nib_json_parse(&doc, line, n, err);
    if (rc) return rc;
    rc = put_document(s, doc, err);
    nib_json_free(doc);
    return rc;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", line[i])) return false;
    return true;
}

static nib_code join_lines(char *text, size_t *n_text, nib_err *err)
{
    sink s = {text, 0, 0};
    size_t number = 1;
    for (char *line = text, *end = text + *n_text; line < end; number++) {
        char *eol = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((eol ? eol : end) - line);
        s.limit = (size_t)(line - text) + n;
        if (!is_blank(line, n) && put_line(&s, line, n, err))
            return nib_wrap(err, "line %zu", number);
        line += n + 1;
    }
    *n_text = s.n;
    text[s.n] = 0;
    return NIB_OK;
}

static bool has_suffix(const char *s, size_t n, const char *suffix)
{
    size_t k = strlen(suffix);
    return n > k && !strncasecmp(s + n - k, suffix, k);
}

static bool is_json_lines(const char *path)
{
    size_t n = strlen(path);
    if (has_suffix(path, n, ".gz")) n -= strlen(".gz");
    return has_suffix(path, n, ".jsonl") || has_suffix(path, n, ".json");
}

/* ---- together ---- */

static nib_code to_text(char *text, size_t *n, const char *path, nib_err *err)
{
    const char *nul = memchr(text, 0, *n);
    if (nul)
        return nib_fail(err, NIB_EFORMAT,
                        "not a text: byte %zu is NUL (is it UTF-16, or compressed by something "
                        "other than gzip?)",
                        (size_t)(nul - text));
    if (is_json_lines(path)) {
        nib_code rc = join_lines(text, n, err);
        if (rc) return rc;
    }
    while (*n && (text[*n - 1] == '\n' || text[*n - 1] == '\r')) text[--*n] = 0;
    return *n ? NIB_OK : nib_fail(err, NIB_EFORMAT, "holds no text");
}

nib_code nib_text_read(char **text, size_t *n, const char *path, nib_err *err)
{
    *text = NULL;
    nib_code rc = read_file(text, n, path, err);
    if (!rc) rc = to_text(*text, n, path, err);
    if (rc) {
        nib_free(*text);
        *text = NULL;
        return nib_wrap(err, "%s", path);
    }
    return NIB_OK;
}
