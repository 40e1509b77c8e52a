/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_decode.c - see tokenizer_decode.h: reading, writing and running the steps.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_decode.h"
#include "base/mem.h"

#include <string.h>

/* ---- reading ---- */

nib_code nib_decoder_add(nib_decoder *d, nib_decode_kind kind, nib_err *err)
{
    nib_decode_step *grown = nib_grow(d->step, d->n, d->n + 1, sizeof *grown);
    if (!grown) return nib_fail_nomem(err, "decoder");
    d->step = grown;
    d->step[d->n++] = (nib_decode_step){.kind = kind};
    return NIB_OK;
}

static nib_code copy_str(char **out, const nib_json *j, const char *what, nib_err *err)
{
    const char *s;
    if (!nib_json_str(j, &s)) return nib_fail(err, NIB_EFORMAT, "decoder has no %s", what);
    *out = nib_strdup(s);
    return *out ? NIB_OK : nib_fail_nomem(err, "decoder");
}

static nib_code read_replace(nib_decode_step *s, const nib_json *j, nib_err *err)
{
    const nib_json *pattern = nib_json_get(j, "pattern");
    const nib_json *regex = nib_json_get(pattern, "Regex");
    s->literal = !regex;
    nib_code rc = copy_str(&s->pattern, regex ? regex : nib_json_get(pattern, "String"),
                           "pattern of a Replace", err);
    if (!rc) rc = copy_str(&s->content, nib_json_get(j, "content"), "content of a Replace", err);
    if (!rc && !*s->pattern) rc = nib_fail(err, NIB_EFORMAT, "decoder Replace looks for nothing");
    if (!rc)
        rc = nib_splitter_regex_new(&s->find,
                                    s->literal ? NIB_DIALECT_LITERAL : NIB_DIALECT_ONIGURUMA,
                                    s->pattern, strlen(s->pattern), err);
    return rc;
}

static nib_code read_strip(nib_decode_step *s, const nib_json *j, nib_err *err)
{
    uint64_t start = 0, stop = 0;
    nib_json_u64(nib_json_get(j, "start"), &start);
    nib_json_u64(nib_json_get(j, "stop"), &stop);
    s->start = (size_t)start;
    s->stop = (size_t)stop;
    nib_code rc = copy_str(&s->content, nib_json_get(j, "content"), "content of a Strip", err);
    if (!rc && !*s->content) rc = nib_fail(err, NIB_EFORMAT, "decoder Strip takes nothing away");
    return rc;
}

static nib_code read_metaspace(nib_decode_step *s, const nib_json *j, nib_err *err)
{
    const char *scheme;
    s->prefixed = true;
    if (nib_json_str(nib_json_get(j, "prepend_scheme"), &scheme))
        s->prefixed = strcmp(scheme, "never") != 0;
    else
        nib_json_bool(nib_json_get(j, "add_prefix_space"), &s->prefixed);
    if (nib_json_get(j, "replacement"))
        return copy_str(&s->content, nib_json_get(j, "replacement"), "replacement", err);
    s->content = nib_strdup("\u2581");
    return s->content ? NIB_OK : nib_fail_nomem(err, "decoder");
}

static nib_code read_wordpiece(nib_decode_step *s, const nib_json *j, nib_err *err)
{
    s->clean_up = true;
    nib_json_bool(nib_json_get(j, "cleanup"), &s->clean_up);
    return copy_str(&s->content, nib_json_get(j, "prefix"), "prefix of a WordPiece", err);
}

static nib_code read_one(nib_decoder *d, const char *type, const nib_json *j, nib_err *err)
{
    static const struct {
        const char *type;
        nib_decode_kind kind;
        nib_code (*read)(nib_decode_step *s, const nib_json *j, nib_err *err);
    } kinds[] = {{"ByteLevel", NIB_DECODE_BYTE_LEVEL, NULL},
                 {"Replace", NIB_DECODE_REPLACE, read_replace},
                 {"ByteFallback", NIB_DECODE_BYTE_FALLBACK, NULL},
                 {"Fuse", NIB_DECODE_FUSE, NULL},
                 {"Strip", NIB_DECODE_STRIP, read_strip},
                 {"Metaspace", NIB_DECODE_METASPACE, read_metaspace},
                 {"WordPiece", NIB_DECODE_WORDPIECE, read_wordpiece}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].type, type)) continue;
        if (kinds[i].kind == NIB_DECODE_BYTE_LEVEL && d->n)
            return nib_fail(err, NIB_EFORMAT, "decoder ByteLevel comes after another");
        nib_code rc = nib_decoder_add(d, kinds[i].kind, err);
        return rc || !kinds[i].read ? rc : kinds[i].read(&d->step[d->n - 1], j, err);
    }
    return nib_fail(
        err, NIB_EFORMAT,
        "decoder of type '%.60s'; supported are ByteLevel, Replace, ByteFallback, Fuse, "
        "Strip, Metaspace, WordPiece and Sequence",
        type);
}

nib_code nib_decoder_read(nib_decoder *d, const nib_json *j, nib_err *err)
{
    const char *type = "none";
    if (!j || nib_json_is_null(j)) return NIB_OK;
    nib_json_str(nib_json_get(j, "type"), &type);
    if (strcmp(type, "Sequence")) return read_one(d, type, j, err);
    nib_code rc = NIB_OK;
    const nib_json *c = nib_json_first(nib_json_get(j, "decoders"));
    for (; c && !rc; c = nib_json_next(c)) rc = nib_decoder_read(d, c, err);
    return rc;
}

void nib_decoder_fini(nib_decoder *d)
{
    for (size_t i = 0; i < d->n; i++) {
        nib_free(d->step[i].pattern);
        nib_free(d->step[i].content);
        nib_splitter_regex_free(d->step[i].find);
    }
    nib_free(d->step);
    *d = (nib_decoder){0};
}

bool nib_decoder_wants_bytes(const nib_decoder *d)
{
    return d->n && d->step[0].kind == NIB_DECODE_BYTE_LEVEL;
}

/* ---- writing ---- */

static bool write_step(nib_json *j, const nib_decode_step *s)
{
    nib_json *pattern;
    switch (s->kind) {
    case NIB_DECODE_BYTE_LEVEL:
        return nib_json_add_str(j, "type", "ByteLevel") &&
               nib_json_add_bool(j, "add_prefix_space", false) &&
               nib_json_add_bool(j, "trim_offsets", false) &&
               nib_json_add_bool(j, "use_regex", false);
    case NIB_DECODE_REPLACE:
        return nib_json_add_str(j, "type", "Replace") &&
               (pattern = nib_json_add_object(j, "pattern")) &&
               nib_json_add_str(pattern, s->literal ? "String" : "Regex", s->pattern) &&
               nib_json_add_str(j, "content", s->content);
    case NIB_DECODE_BYTE_FALLBACK: return nib_json_add_str(j, "type", "ByteFallback");
    case NIB_DECODE_FUSE: return nib_json_add_str(j, "type", "Fuse");
    case NIB_DECODE_STRIP:
        return nib_json_add_str(j, "type", "Strip") && nib_json_add_str(j, "content", s->content) &&
               nib_json_add_num(j, "start", (double)s->start) &&
               nib_json_add_num(j, "stop", (double)s->stop);
    case NIB_DECODE_METASPACE:
        return nib_json_add_str(j, "type", "Metaspace") &&
               nib_json_add_str(j, "replacement", s->content) &&
               nib_json_add_str(j, "prepend_scheme", s->prefixed ? "always" : "never") &&
               nib_json_add_bool(j, "split", true);
    case NIB_DECODE_WORDPIECE:
        return nib_json_add_str(j, "type", "WordPiece") &&
               nib_json_add_str(j, "prefix", s->content) &&
               nib_json_add_bool(j, "cleanup", s->clean_up);
    case NIB_DECODE_SPACES: break; /* goes without saying */
    }
    return true;
}

bool nib_decoder_write(nib_json *parent, const nib_decoder *d)
{
    if (!d->n || d->step[0].kind == NIB_DECODE_SPACES) return nib_json_add_null(parent, "decoder");
    nib_json *j = nib_json_add_object(parent, "decoder");
    if (d->n == 1) return j && write_step(j, &d->step[0]);
    nib_json *list =
        j && nib_json_add_str(j, "type", "Sequence") ? nib_json_add_array(j, "decoders") : NULL;
    bool ok = list;
    for (size_t i = 0; i < d->n && ok; i++) {
        nib_json *one = nib_json_add_object(list, NULL);
        ok = one && write_step(one, &d->step[i]);
    }
    return ok;
}

/* ---- running ---- */

/* Tokens one after the other in one text. */
typedef struct {
    nib_text text;
    size_t *end; /* [n] of each token */
    size_t n;
} token_list;

/* Token i of `in` as it becomes, appended to *out. */
typedef nib_code token_fn(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                          nib_regex_run *run, nib_text *out, nib_err *err);

static nib_code replace(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                        nib_regex_run *run, nib_text *out, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t done = 0, begin, end;
    (void)i, (void)whole;
    nib_matches m = {.r = s->find, .run = run, .text = token.p, .n = token.n, .last = SIZE_MAX};
    while (!(rc = nib_matches_next(&m, &begin, &end, err)) && begin <= token.n) {
        rc = nib_text_add(out, token.p + done, begin - done, err);
        if (!rc) rc = nib_text_add(out, s->content, strlen(s->content), err);
        if (rc) break;
        done = end;
    }
    return rc ? rc : nib_text_add(out, token.p + done, token.n - done, err);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static nib_code byte_fallback(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                              nib_regex_run *run, nib_text *out, nib_err *err)
{
    (void)s, (void)i, (void)whole, (void)run;
    if (token.n == 6 && !memcmp(token.p, "<0x", 3) && token.p[5] == '>' && hex(token.p[3]) >= 0 &&
        hex(token.p[4]) >= 0) {
        const char b = (char)(hex(token.p[3]) << 4 | hex(token.p[4]));
        return nib_text_add(out, &b, 1, err);
    }
    return nib_text_add(out, token.p, token.n, err);
}

static nib_code strip(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                      nib_regex_run *run, nib_text *out, nib_err *err)
{
    const size_t k = strlen(s->content);
    const char *p = token.p;
    size_t n = token.n;
    (void)i, (void)run;
    for (size_t c = 0; whole && c < s->start && n >= k && !memcmp(p, s->content, k); c++) {
        p += k;
        n -= k;
    }
    for (size_t c = 0; whole && c < s->stop && n >= k && !memcmp(p + n - k, s->content, k); c++)
        n -= k;
    return nib_text_add(out, p, n, err);
}

static nib_code metaspace(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                          nib_regex_run *run, nib_text *out, nib_err *err)
{
    const size_t k = strlen(s->content);
    const bool away = !i && whole && s->prefixed; /* of the first token all of them go */
    nib_code rc = NIB_OK;
    (void)run;
    for (size_t at = 0; at < token.n && !rc;) {
        const bool bar = token.n - at >= k && !memcmp(token.p + at, s->content, k);
        if (!bar)
            rc = nib_text_add(out, token.p + at, 1, err);
        else if (!away)
            rc = nib_text_add(out, " ", 1, err);
        at += bar ? k : 1;
    }
    return rc;
}

/* Spaces that WordPiece's clean-up takes away, one kind after the other. */
static nib_code clean_up(nib_text *t, nib_err *err)
{
    static const char *const from[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                          {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                          {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                          {" 've", "'ve"}, {" 're", "'re"}};
    nib_code rc = NIB_OK;
    for (size_t f = 0; f < sizeof from / sizeof *from && !rc; f++) {
        nib_text out = {0};
        const size_t k = strlen(from[f][0]);
        for (size_t i = 0; i < t->n && !rc;) {
            const bool hit = t->n - i >= k && !memcmp(t->p + i, from[f][0], k);
            rc = hit ? nib_text_add(&out, from[f][1], strlen(from[f][1]), err)
                     : nib_text_add(&out, t->p + i, 1, err);
            i += hit ? k : 1;
        }
        nib_free(t->p);
        *t = out;
    }
    return rc;
}

static nib_code wordpiece(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                          nib_regex_run *run, nib_text *out, nib_err *err)
{
    const size_t k = strlen(s->content);
    const bool goes_on = token.n >= k && !memcmp(token.p, s->content, k);
    nib_text t = {0};
    nib_code rc = NIB_OK;
    (void)run;
    if (i && whole && goes_on) {
        rc = nib_text_add(&t, token.p + k, token.n - k, err);
    } else {
        if (i && whole) rc = nib_text_add(&t, " ", 1, err);
        if (!rc) rc = nib_text_add(&t, token.p, token.n, err);
    }
    if (!rc && s->clean_up) rc = clean_up(&t, err);
    if (!rc) rc = nib_text_add(out, t.p, t.n, err);
    nib_free(t.p);
    return rc;
}

static nib_code spaces(const nib_decode_step *s, size_t i, nib_str token, bool whole,
                       nib_regex_run *run, nib_text *out, nib_err *err)
{
    (void)s, (void)run;
    nib_code rc = nib_text_add(out, " ", i && whole, err);
    return rc ? rc : nib_text_add(out, token.p, token.n, err);
}

/* Each token of *l as the step leaves it; `out` is work memory, which changes place with it. */
static nib_code run_step(const nib_decode_step *s, token_list *l, bool whole, nib_regex_run *run,
                         nib_text *out, nib_err *err)
{
    static token_fn *const each[] = {
        [NIB_DECODE_REPLACE] = replace,     [NIB_DECODE_BYTE_FALLBACK] = byte_fallback,
        [NIB_DECODE_STRIP] = strip,         [NIB_DECODE_METASPACE] = metaspace,
        [NIB_DECODE_WORDPIECE] = wordpiece, [NIB_DECODE_SPACES] = spaces};
    nib_code rc = NIB_OK;
    if (s->kind == NIB_DECODE_BYTE_LEVEL || s->kind == NIB_DECODE_FUSE) {
        if (l->n) l->end[0] = l->text.n;
        l->n = l->n ? 1 : 0;
        return NIB_OK;
    }
    out->n = 0;
    size_t from = 0;
    for (size_t i = 0; i < l->n && !rc; i++) {
        const nib_str token = {l->text.p + from, l->end[i] - from};
        from = l->end[i];
        rc = each[s->kind](s, i, token, whole, run, out, err);
        l->end[i] = out->n;
    }
    const nib_text old = l->text;
    l->text = *out;
    *out = old;
    return rc;
}

nib_code nib_decode(const nib_decoder *d, const nib_str *token, size_t n, bool whole, nib_text *to,
                    nib_err *err)
{
    token_list l = {.end = nib_alloc(n, sizeof *l.end), .n = n};
    nib_text work = {0};
    nib_regex_run *run = NULL;
    nib_code rc = l.end ? nib_regex_run_new(&run, err) : nib_fail_nomem(err, "decoded text");
    for (size_t i = 0; i < n && !rc; i++) {
        rc = nib_text_add(&l.text, token[i].p, token[i].n, err);
        l.end[i] = l.text.n;
    }
    for (size_t i = 0; i < d->n && !rc; i++) rc = run_step(&d->step[i], &l, whole, run, &work, err);
    if (!rc) rc = nib_text_add(to, l.text.p, l.text.n, err);
    nib_free(l.end);
    nib_free(l.text.p);
    nib_free(work.p);
    nib_regex_run_free(run);
    return rc;
}
