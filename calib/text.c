/* SPDX-License-Identifier: MIT */
/* calib/text.c - see text.h: files to text. The only file that sees zlib. */
#include "calib/text.h"
#include "base/json.h"
#include "base/mem.h"
#include "calib/conversation.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
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

/* A file, pipe or device of that name, or standard input. */
static gzFile open_gz(const char *path)
{
    errno = 0;
    if (strcmp(path, NIB_TEXT_STDIN)) return gzopen(path, "rb");
    int fd = dup(STDIN_FILENO);
    gzFile f = fd < 0 ? NULL : gzdopen(fd, "rb");
    if (!f && fd >= 0) close(fd);
    return f;
}

static nib_code read_file(char **text, size_t *n, const char *path, nib_err *err)
{
    gzFile f = open_gz(path);
    if (!f) return errno ? nib_fail_sys(err, errno, "opening") : nib_fail_nomem(err, "a text");
    gzbuffer(f, GZ_BUFFER);
    nib_code rc = read_bytes(f, text, n, err);
    int code = gzclose_r(f);
    if (rc || code == Z_OK) return rc;
    nib_free(*text);
    *text = NULL;
    return nib_fail(err, NIB_EFORMAT, "damaged gzip file: it is cut short");
}

/* ---- what is no text ---- */

/* Kinds of files by their first bytes. */
static nib_code check_kind(const char *p, size_t n, nib_err *err)
{
    static const struct {
        const char *magic;
        unsigned char bytes;
        const char *what;
    } kinds[] = {
        {"\xFF\xFE", 2, "UTF-16 or UTF-32: make it UTF-8, as by 'iconv -f UTF-16 -t UTF-8'"},
        {"\xFE\xFF", 2, "UTF-16: make it UTF-8, as by 'iconv -f UTF-16 -t UTF-8'"},
        {"\x28\xB5\x2F\xFD", 4, "compressed by zstd: unpack it first, or pipe it in"},
        {"\xFD"
         "7zXZ",
         5, "compressed by xz: unpack it first, or pipe it in"},
        {"BZh", 3, "compressed by bzip2: unpack it first, or pipe it in"},
        {"PK\3\4", 4, "a zip file or a PyTorch model"},
        {"PAR1", 4, "a Parquet table: write its texts as JSON lines first"},
        {"GGUF", 4, "a GGUF file"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= kinds[i].bytes && !memcmp(p, kinds[i].magic, kinds[i].bytes))
            return nib_fail(err, NIB_EFORMAT, "not a text: %s", kinds[i].what);
    const char *nul = memchr(p, 0, n);
    if (!nul) return NIB_OK;
    return nib_fail(
        err, NIB_EFORMAT,
        "not a text: byte %zu is NUL (is it UTF-16, a model, or compressed by something "
        "other than gzip?)",
        (size_t)(nul - p));
}

/* ---- JSON ----
 *
 * Text replaces the JSON in its own buffer: what a document yields, with its joint, is shorter than
 * the document with the JSON around it. */

typedef struct {
    char *p;
    size_t n, limit; /* limit: nothing at or after it may be touched yet */
    const nib_chat *chat;
    nib_text rendered; /* with chat: the text, which may be longer than the JSON */
} sink;

static void put(sink *s, const char *text)
{
    const size_t n = strlen(text);
    assert(n <= s->limit - s->n);
    memcpy(s->p + s->n, text, n);
    s->n += n;
}

/* Of OpenAI's form, 'role' and 'content', or ShareGPT's, 'from' and 'value'. */
static nib_code put_messages(sink *s, const nib_json *list, nib_err *err)
{
    size_t i = 0;
    for (const nib_json *m = nib_json_first(list); m; m = nib_json_next(m), i++) {
        const char *role, *content;
        const nib_json *r = nib_json_get(m, "role"), *c = nib_json_get(m, "content");
        if (!r) r = nib_json_get(m, "from");
        if (!c) c = nib_json_get(m, "value");
        if (!nib_json_str(r, &role))
            return nib_fail(err, NIB_EFORMAT,
                            "message %zu has no 'role' or 'from' that is a string", i + 1);
        if (nib_json_is_null(c)) continue;
        if (!nib_json_str(c, &content))
            return nib_fail(err, NIB_EFORMAT,
                            "message %zu has no 'content' or 'value' that is a string", i + 1);
        if (i) put(s, "\n");
        put(s, role);
        put(s, ": ");
        put(s, content);
    }
    return NIB_OK;
}

/* The members that may hold a document, in the order in which they are looked for: the more a
 * member holds of the whole, the earlier. */
static const struct {
    const char *key;
    bool messages;
    const char *then; /* a member whose text follows directly */
} members[] = {{"text", false, NULL},
               {"messages", true, NULL},
               {"conversations", true, NULL},
               {"content", false, NULL},
               {"prompt", false, "completion"}};

static nib_code put_member(sink *s, const nib_json *v, const char *key, bool messages, nib_err *err)
{
    const char *text;
    if (messages && nib_json_is_array(v)) return put_messages(s, v, err);
    if (messages || !nib_json_str(v, &text))
        return nib_fail(err, NIB_EFORMAT, "'%s' is not a %s", key,
                        messages                ? "list"
                        : nib_json_is_string(v) ? "string without a NUL"
                                                : "string");
    put(s, text);
    return NIB_OK;
}

static nib_code put_conversation(sink *s, const nib_json *doc, nib_err *err)
{
    nib_conversation c;
    nib_code rc = nib_conversation_read(&c, doc, err);
    if (!rc) rc = nib_chat_render(s->chat, &c.input, &s->rendered, err);
    nib_conversation_free(&c);
    if (!rc && s->rendered.n > NIB_TEXT_MAX_BYTES)
        rc = nib_fail(err, NIB_EFORMAT, "more than %zu MiB of rendered text; give a part of it",
                      NIB_TEXT_MAX_BYTES >> 20);
    return rc;
}

static nib_code put_document(sink *s, const nib_json *doc, nib_err *err)
{
    if (!nib_json_is_object(doc)) return nib_fail(err, NIB_EFORMAT, "not a JSON object");
    if (s->chat) return put_conversation(s, doc, err);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const nib_json *v = nib_json_get(doc, members[i].key),
                       *then = members[i].then ? nib_json_get(doc, members[i].then) : NULL;
        if (!v) continue;
        if (s->n) put(s, "\n\n");
        nib_code rc = put_member(s, v, members[i].key, members[i].messages, err);
        return rc || !then ? rc : put_member(s, then, members[i].then, false, err);
    }
    return nib_fail(err, NIB_EFORMAT,
                    "has none of 'text', 'messages', 'conversations', 'content', 'prompt'");
}

static bool is_escape(const char *p, const char *end, unsigned *code)
{
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return false;
    *code = 0;
    for (int i = 2; i < 6; i++) {
        if (!isxdigit((unsigned char)p[i])) return false;
        *code = *code << 4 |
                (unsigned)(isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    }
    return true;
}

/* Half a surrogate pair, as Python writes it where a text was cut inside a character, becomes the
 * replacement character. */
static void mend_surrogates(char *p, size_t n)
{
    unsigned code, next;
    for (char *end = p + n; p < end; p++) {
        if (*p != '\\') continue;
        const bool escape = is_escape(p, end, &code);
        if (escape && code >= 0xD800 && code < 0xDC00 && is_escape(p + 6, end, &next) &&
            next >= 0xDC00 && next < 0xE000)
            p += 11;
        else if (escape && code >= 0xD800 && code < 0xE000)
            memcpy(p + 2, "fffd", 4);
        else
            p++;
    }
}

static nib_code put_line(sink *s, char *line, size_t n, nib_err *err)
{
    nib_json *doc;
    mend_surrogates(line, n);
    nib_code rc = nib_json_parse(&doc, line, n, err);
    if (rc) return rc;
    rc = put_document(s, doc, err);
    nib_json_free(doc);
    return rc;
}

/* The whole text is one array of documents. */
static nib_code join_array(sink *s, size_t n_text, nib_err *err)
{
    nib_json *list;
    size_t number = 1;
    s->limit = n_text;
    mend_surrogates(s->p, n_text);
    nib_code rc = nib_json_parse(&list, s->p, n_text, err);
    if (rc) return rc;
    for (const nib_json *d = nib_json_first(list); d && !rc; d = nib_json_next(d), number++)
        if ((rc = put_document(s, d, err))) nib_wrap(err, "document %zu", number);
    nib_json_free(list);
    return rc;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", line[i])) return false;
    return true;
}

static nib_code join_lines(sink *s, size_t n_text, nib_err *err)
{
    size_t number = 1;
    for (char *line = s->p, *end = s->p + n_text; line < end; number++) {
        char *eol = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((eol ? eol : end) - line);
        s->limit = (size_t)(line - s->p) + n;
        if (!is_blank(line, n) && put_line(s, line, n, err))
            return nib_wrap(err, "line %zu", number);
        line += n + 1;
    }
    return NIB_OK;
}

static bool has_suffix(const char *s, size_t n, const char *suffix)
{
    size_t k = strlen(suffix);
    return n > k && !strncasecmp(s + n - k, suffix, k);
}

static bool is_json(const char *path)
{
    size_t n = strlen(path);
    if (has_suffix(path, n, ".gz")) n -= strlen(".gz");
    return has_suffix(path, n, ".jsonl") || has_suffix(path, n, ".json");
}

/* ---- together ---- */

nib_code nib_text_bytes(char **text, size_t *n, const char *path, nib_err *err)
{
    *text = NULL;
    nib_code rc = read_file(text, n, path, err);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

/* JSON in *text gives way to the text that it holds. */
static nib_code from_json(char **text, size_t *n, const nib_chat *chat, nib_err *err)
{
    const size_t blank = strspn(*text, " \t\r\n");
    sink s = {.p = *text, .chat = chat};
    nib_code rc = (*text)[blank] == '[' ? join_array(&s, *n, err) : join_lines(&s, *n, err);
    if (!rc && chat) rc = nib_text_add(&s.rendered, "", 1, err);
    if (rc || !chat) {
        nib_free(s.rendered.p);
        s.p[ *n = s.n] = 0;
        return rc;
    }
    nib_free(*text);
    *text = s.rendered.p;
    *n = s.rendered.n - 1;
    return NIB_OK;
}

nib_code nib_text_read(char **text, size_t *n, const char *path, const nib_tokenizer *chat,
                       nib_err *err)
{
    nib_chat *template = NULL;
    nib_code rc = nib_text_bytes(text, n, path, err);
    if (rc) return rc;
    rc = check_kind(*text, *n, err);
    if (!rc && chat) rc = nib_chat_open(&template, chat, err);
    if (!rc && (chat || is_json(path))) rc = from_json(text, n, template, err);
    nib_chat_close(template);
    if (!rc) return NIB_OK;
    nib_free(*text);
    *text = NULL;
    return nib_wrap(err, "%s", path);
}
