/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_normalize.c - see tokenizer_normalize.h: reading, writing and running the steps.
 *
 * Tests: tests/infer/test_tokenizer_golden.c. */
#include "infer/tokenizer_normalize.h"
#include "base/mem.h"

#include <string.h>

/* ---- reading ---- */

static bool flag(const nib_json *j, const char *key, bool otherwise)
{
    nib_json_bool(nib_json_get(j, key), &otherwise);
    return otherwise;
}

/* A string of the description; NIB_EFORMAT: there is none. */
static nib_code copy_str(char **out, const nib_json *j, const char *what, nib_err *err)
{
    const char *s;
    if (!nib_json_str(j, &s)) return nib_fail(err, NIB_EFORMAT, "normalizer has no %s", what);
    *out = nib_strdup(s);
    return *out ? NIB_OK : nib_fail_nomem(err, "normalizer");
}

static nib_code read_replace(nib_norm_step *s, const nib_json *j, nib_err *err)
{
    const nib_json *pattern = nib_json_get(j, "pattern");
    const nib_json *regex = nib_json_get(pattern, "Regex");
    s->kind = NIB_NORM_REPLACE;
    s->literal = !regex;
    nib_code rc = copy_str(&s->pattern, regex ? regex : nib_json_get(pattern, "String"),
                           "pattern of a Replace", err);
    if (!rc) rc = copy_str(&s->content, nib_json_get(j, "content"), "content of a Replace", err);
    if (!rc && !*s->pattern)
        rc = nib_fail(err, NIB_EFORMAT, "normalizer Replace looks for nothing");
    if (!rc)
        rc = nib_splitter_regex_new(&s->find,
                                    s->literal ? NIB_DIALECT_LITERAL : NIB_DIALECT_ONIGURUMA,
                                    s->pattern, strlen(s->pattern), err);
    return rc;
}

static nib_code read_charsmap(nib_norm_step *s, const nib_json *j, const void *map, size_t n,
                              nib_err *err)
{
    const char *text;
    nib_text bytes = {0};
    nib_code rc = NIB_OK;
    s->kind = NIB_NORM_CHARSMAP;
    s->by_grapheme = !flag(j, "longest", false);
    if (nib_json_str(nib_json_get(j, "precompiled_charsmap"), &text)) {
        rc = nib_text_add_base64(&bytes, text, strlen(text), err);
        map = bytes.p;
        n = bytes.n;
    } else if (!map) {
        rc = nib_fail(err, NIB_EFORMAT, "normalizer Precompiled has no table");
    }
    if (!rc) rc = nib_charsmap_init(&s->map, map, n, err);
    nib_free(bytes.p);
    return rc;
}

/* One that is no Sequence. */
static nib_code read_step(nib_norm_step *s, const char *type, const nib_json *j, const void *map,
                          size_t n, nib_err *err)
{
    static const struct {
        const char *type;
        nib_norm_kind kind;
        nib_normal_form form;
    } simple[] = {{"NFC", NIB_NORM_FORM, NIB_NFC},
                  {"NFD", NIB_NORM_FORM, NIB_NFD},
                  {"NFKC", NIB_NORM_FORM, NIB_NFKC},
                  {"NFKD", NIB_NORM_FORM, NIB_NFKD},
                  {"Lowercase", NIB_NORM_LOWERCASE, NIB_NFC},
                  {"StripAccents", NIB_NORM_STRIP_ACCENTS, NIB_NFC},
                  {"Nmt", NIB_NORM_NMT, NIB_NFC}};
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (!strcmp(simple[i].type, type)) {
            s->kind = simple[i].kind;
            s->form = simple[i].form;
            return NIB_OK;
        }
    if (!strcmp(type, "Prepend")) {
        s->kind = NIB_NORM_PREPEND;
        return copy_str(&s->content, nib_json_get(j, "prepend"), "text of a Prepend", err);
    }
    if (!strcmp(type, "Replace")) return read_replace(s, j, err);
    if (!strcmp(type, "Strip")) {
        s->kind = NIB_NORM_STRIP;
        s->left = flag(j, "strip_left", true);
        s->right = flag(j, "strip_right", true);
        return NIB_OK;
    }
    if (!strcmp(type, "Precompiled")) return read_charsmap(s, j, map, n, err);
    if (!strcmp(type, "BertNormalizer")) {
        s->kind = NIB_NORM_BERT;
        s->clean = flag(j, "clean_text", true);
        s->chinese = flag(j, "handle_chinese_chars", true);
        s->lower = flag(j, "lowercase", true);
        s->accents = flag(j, "strip_accents", s->lower);
        return NIB_OK;
    }
    return nib_fail(err, NIB_EFORMAT,
                    "normalizer of type '%.60s'; supported are Prepend, Replace, NFC, NFD, NFKC, "
                    "NFKD, Lowercase, Strip, StripAccents, Nmt, Precompiled, BertNormalizer and "
                    "Sequence",
                    type);
}

/* Sequences may hold sequences; the JSON reader bounds their depth. */
nib_code nib_normalizer_read(nib_normalizer *z, const nib_json *j, const void *map, size_t n,
                             nib_err *err)
{
    const char *type = "none";
    if (!j || nib_json_is_null(j)) return NIB_OK;
    nib_json_str(nib_json_get(j, "type"), &type);
    if (!strcmp(type, "Sequence")) {
        nib_code rc = NIB_OK;
        const nib_json *c = nib_json_first(nib_json_get(j, "normalizers"));
        for (; c && !rc; c = nib_json_next(c)) rc = nib_normalizer_read(z, c, map, n, err);
        return rc;
    }
    if (z->n == z->cap) {
        const size_t cap = z->cap ? 2 * z->cap : 4;
        nib_norm_step *grown = nib_grow(z->step, z->n, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "normalizer");
        z->step = grown;
        z->cap = cap;
    }
    z->step[z->n] = (nib_norm_step){0};
    return read_step(&z->step[z->n++], type, j, map, n, err);
}

nib_code nib_normalizer_parse(nib_normalizer *z, const char *text, size_t n_text, const void *map,
                              size_t n, nib_err *err)
{
    nib_json *j;
    nib_code rc = nib_json_parse(&j, text, n_text, err);
    if (!rc) rc = nib_normalizer_read(z, j, map, n, err);
    nib_json_free(j);
    return rc;
}

void nib_normalizer_fini(nib_normalizer *z)
{
    for (size_t i = 0; i < z->n; i++) {
        nib_norm_step *s = &z->step[i];
        nib_free(s->content);
        nib_free(s->pattern);
        nib_splitter_regex_free(s->find);
        nib_charsmap_fini(&s->map);
    }
    nib_free(z->step);
    *z = (nib_normalizer){0};
}

bool nib_normalizer_is_form(const nib_normalizer *z, nib_normal_form form)
{
    return z->n == 1 && z->step[0].kind == NIB_NORM_FORM && z->step[0].form == form;
}

/* ---- writing ---- */

static bool write_charsmap(nib_json *j, const nib_norm_step *s, bool foreign)
{
    nib_err err;
    nib_text text = {0};
    if (!nib_json_add_str(j, "type", "Precompiled")) return false;
    if (!foreign) return s->by_grapheme || nib_json_add_bool(j, "longest", true);
    const bool ok = !nib_text_add_as_base64(&text, s->map.data, s->map.n, &err) &&
                    !nib_text_add(&text, "", 1, &err) &&
                    nib_json_add_str(j, "precompiled_charsmap", text.p);
    nib_free(text.p);
    return ok;
}

static bool write_step(nib_json *j, const nib_norm_step *s, bool foreign)
{
    static const char *const form[] = {
        [NIB_NFC] = "NFC", [NIB_NFD] = "NFD", [NIB_NFKC] = "NFKC", [NIB_NFKD] = "NFKD"};
    nib_json *pattern;
    switch (s->kind) {
    case NIB_NORM_FORM: return nib_json_add_str(j, "type", form[s->form]);
    case NIB_NORM_LOWERCASE: return nib_json_add_str(j, "type", "Lowercase");
    case NIB_NORM_STRIP_ACCENTS: return nib_json_add_str(j, "type", "StripAccents");
    case NIB_NORM_NMT: return nib_json_add_str(j, "type", "Nmt");
    case NIB_NORM_PREPEND:
        return nib_json_add_str(j, "type", "Prepend") && nib_json_add_str(j, "prepend", s->content);
    case NIB_NORM_REPLACE:
        return nib_json_add_str(j, "type", "Replace") &&
               (pattern = nib_json_add_object(j, "pattern")) &&
               nib_json_add_str(pattern, s->literal ? "String" : "Regex", s->pattern) &&
               nib_json_add_str(j, "content", s->content);
    case NIB_NORM_STRIP:
        return nib_json_add_str(j, "type", "Strip") &&
               nib_json_add_bool(j, "strip_left", s->left) &&
               nib_json_add_bool(j, "strip_right", s->right);
    case NIB_NORM_BERT:
        return nib_json_add_str(j, "type", "BertNormalizer") &&
               nib_json_add_bool(j, "clean_text", s->clean) &&
               nib_json_add_bool(j, "handle_chinese_chars", s->chinese) &&
               nib_json_add_bool(j, "strip_accents", s->accents) &&
               nib_json_add_bool(j, "lowercase", s->lower);
    case NIB_NORM_CHARSMAP: return write_charsmap(j, s, foreign);
    }
    return false;
}

bool nib_normalizer_write(nib_json *parent, const nib_normalizer *z, bool foreign)
{
    if (!z->n) return nib_json_add_null(parent, "normalizer");
    nib_json *j = nib_json_add_object(parent, "normalizer");
    if (z->n == 1) return j && write_step(j, &z->step[0], foreign);
    nib_json *list =
        j && nib_json_add_str(j, "type", "Sequence") ? nib_json_add_array(j, "normalizers") : NULL;
    bool ok = list;
    for (size_t i = 0; i < z->n && ok; i++) {
        nib_json *one = nib_json_add_object(list, NULL);
        ok = one && write_step(one, &z->step[i], foreign);
    }
    return ok;
}

/* ---- running ---- */

static nib_code replace(const nib_norm_step *s, nib_regex_run *run, const char *text, size_t n,
                        nib_text *to, nib_err *err)
{
    nib_code rc = NIB_OK;
    const size_t k = strlen(s->content);
    size_t done = 0, begin, end;
    nib_matches m = {.r = s->find, .run = run, .text = text, .n = n, .last = SIZE_MAX};
    while (!(rc = nib_matches_next(&m, &begin, &end, err)) && begin <= n) {
        rc = nib_text_add(to, text + done, begin - done, err);
        if (!rc) rc = nib_text_add(to, s->content, k, err);
        if (rc) break;
        done = end;
    }
    return rc ? rc : nib_text_add(to, text + done, n - done, err);
}

/* Characters of a text one by one; `map` appends what one becomes. */
typedef nib_code char_fn(const nib_norm_step *s, uint32_t cp, const char *p, size_t n, nib_text *to,
                         nib_err *err);

static nib_code each_char(char_fn *map, const nib_norm_step *s, const char *text, size_t n,
                          nib_text *to, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint32_t cp;
    for (size_t i = 0, k; i < n && !rc; i += k) {
        k = nib_utf8_get(text + i, n - i, &cp);
        rc = map(s, cp, text + i, k, to, err);
    }
    return rc;
}

static nib_code lower(const nib_norm_step *s, uint32_t cp, const char *p, size_t n, nib_text *to,
                      nib_err *err)
{
    char c[4];
    (void)s;
    if (cp == 0x130) return nib_text_add(to, "i\u0307", 3, err); /* the one that becomes two */
    const uint32_t low = nib_to_lower(cp);
    return low == cp ? nib_text_add(to, p, n, err) : nib_text_add(to, c, nib_utf8_put(c, low), err);
}

static nib_code without_marks(const nib_norm_step *s, uint32_t cp, const char *p, size_t n,
                              nib_text *to, nib_err *err)
{
    (void)s;
    return nib_is_mark(cp) ? NIB_OK : nib_text_add(to, p, n, err);
}

static nib_code without_accents(const nib_norm_step *s, uint32_t cp, const char *p, size_t n,
                                nib_text *to, nib_err *err)
{
    (void)s;
    return nib_is_nonspacing(cp) ? NIB_OK : nib_text_add(to, p, n, err);
}

static nib_code nmt(const nib_norm_step *s, uint32_t cp, const char *p, size_t n, nib_text *to,
                    nib_err *err)
{
    (void)s;
    const bool away = (cp >= 1 && cp <= 8) || cp == 0xB || (cp >= 0xE && cp <= 0x1F) ||
                      cp == 0x7F || cp == 0x8F || cp == 0x9F;
    const bool space = cp == 9 || cp == 0xA || cp == 0xC || cp == 0xD || cp == 0x1680 ||
                       (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
                       cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
    return away ? NIB_OK : space ? nib_text_add(to, " ", 1, err) : nib_text_add(to, p, n, err);
}

/* BERT's own list. */
static bool is_chinese(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* The part of BERT's cleaning that goes by characters. */
static nib_code clean(const nib_norm_step *s, uint32_t cp, const char *p, size_t n, nib_text *to,
                      nib_err *err)
{
    if (s->clean && (!cp || cp == 0xFFFD || nib_is_control(cp))) return NIB_OK;
    if (s->clean && nib_is_space(cp)) return nib_text_add(to, " ", 1, err);
    const bool apart = s->chinese && is_chinese(cp);
    nib_code rc = nib_text_add(to, " ", apart, err);
    if (!rc) rc = nib_text_add(to, p, n, err);
    return rc ? rc : nib_text_add(to, " ", apart, err);
}

static nib_code bert(const nib_norm_step *s, const char *text, size_t n, nib_text *to, nib_err *err)
{
    nib_text a = {0}, b = {0};
    nib_code rc = each_char(clean, s, text, n, &a, err);
    if (!rc && s->accents) {
        rc = nib_text_add_normal(&b, NIB_NFD, a.p, a.n, err);
        a.n = 0;
        if (!rc) rc = each_char(without_accents, s, b.p, b.n, &a, err);
    }
    if (!rc)
        rc = s->lower ? each_char(lower, s, a.p, a.n, to, err) : nib_text_add(to, a.p, a.n, err);
    nib_free(a.p);
    nib_free(b.p);
    return rc;
}

static nib_code strip(const nib_norm_step *s, const char *text, size_t n, nib_text *to,
                      nib_err *err)
{
    size_t from = 0, k;
    uint32_t cp;
    while (s->left && from < n && (k = nib_utf8_get(text + from, n - from, &cp)) &&
           nib_is_space(cp))
        from += k;
    while (s->right && n > from) {
        k = nib_utf8_last(text, n);
        nib_utf8_get(text + n - k, k, &cp);
        if (!nib_is_space(cp)) break;
        n -= k;
    }
    return nib_text_add(to, text + from, n - from, err);
}

static nib_code run_step(const nib_norm_step *s, nib_regex_run *run, bool begins, const char *text,
                         size_t n, nib_text *to, nib_err *err)
{
    nib_code rc = NIB_OK;
    switch (s->kind) {
    case NIB_NORM_FORM: return nib_text_add_normal(to, s->form, text, n, err);
    case NIB_NORM_PREPEND:
        if (n && begins) rc = nib_text_add(to, s->content, strlen(s->content), err);
        return rc ? rc : nib_text_add(to, text, n, err);
    case NIB_NORM_REPLACE: return replace(s, run, text, n, to, err);
    case NIB_NORM_STRIP: return strip(s, text, n, to, err);
    case NIB_NORM_STRIP_ACCENTS: return each_char(without_marks, s, text, n, to, err);
    case NIB_NORM_LOWERCASE: return each_char(lower, s, text, n, to, err);
    case NIB_NORM_NMT: return each_char(nmt, s, text, n, to, err);
    case NIB_NORM_BERT: return bert(s, text, n, to, err);
    case NIB_NORM_CHARSMAP: return nib_charsmap_add(&s->map, to, s->by_grapheme, text, n, err);
    }
    return rc;
}

nib_code nib_normalize(const nib_normalizer *z, nib_regex_run *run, bool begins, const char *text,
                       size_t n, nib_text *to, nib_text *other, nib_err *err)
{
    nib_code rc = NIB_OK;
    to->n = other->n = 0;
    if (!z->n) return nib_text_add(to, text, n, err);
    for (size_t i = 0; i < z->n && !rc; i++) {
        /* The last step writes into *to, the ones before it in turn. */
        nib_text *out = (z->n - 1 - i) % 2 ? other : to;
        out->n = 0;
        rc = run_step(&z->step[i], run, begins, text, n, out, err);
        text = out->p ? out->p : "";
        n = out->n;
    }
    return rc;
}
