/* SPDX-License-Identifier: MIT */
/* infer/pretok.c - see pretok.h. Recognising a splitter, and running it. The only file that sees
 * PCRE2.
 *
 * The expressions were written for another engine. Where PCRE2 means something else they are
 * translated: \s is Unicode's White_Space (PCRE2 counts U+180E in), and an expression that would
 * take quadratic time on long runs of spaces is replaced by an equal one. Letters and digits are
 * those of the Unicode version that PCRE2 was built with. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "infer/pretok.h"
#include "base/mem.h"
#include "base/str.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

struct nib_pretok {
    const nib_pretok_rule *rule;
    char *name;
    bool prefix_space;
    size_t n_steps;
    pcre2_code *code[NIB_PRETOK_STEPS_MAX];
};

/* ---- compiling ---- */

#define WHITE_SPACE                                                                                \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* `regex` with \s and \S spelled out, into out[size]; false when it does not fit. */
static bool translate(const char *regex, char *out, size_t size)
{
    if (!strcmp(regex, "\\s+$")) regex = "(?<!\\s)\\s+\\z";
    size_t n = 0;
    bool in_class = false;
    for (const char *p = regex; *p; p++) {
        char one[3] = {*p, 0, 0};
        const char *add = one;
        if (*p == '\\') {
            one[1] = *++p;
            if (*p == 's') add = in_class ? WHITE_SPACE : "[" WHITE_SPACE "]";
            if (*p == 'S' && !in_class) add = "[^" WHITE_SPACE "]";
        } else if (*p == '[') {
            in_class = true;
        } else if (*p == ']') {
            in_class = false;
        }
        size_t k = strlen(add);
        if (k >= size - n) return false;
        memcpy(out + n, add, k);
        n += k;
    }
    out[n] = 0;
    return true;
}

static nib_code compile(pcre2_code **out, const char *regex, nib_err *err)
{
    char text[4096];
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[120];
    if (!translate(regex, text, sizeof text))
        return nib_fail(err, NIB_EINVAL, "splitter '%s' is too long", regex);
    *out = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at,
                         NULL);
    if (!*out) {
        pcre2_get_error_message(code, why, sizeof why);
        return nib_fail(err, NIB_EINVAL, "splitter '%s': %s", regex, (const char *)why);
    }
    (void)pcre2_jit_compile(*out,
                            PCRE2_JIT_COMPLETE); /* without it matching is slower, not wrong */
    return NIB_OK;
}

static nib_code make(nib_pretok **out, const nib_pretok_rule *rule, const char *name, size_t n_name,
                     bool prefix_space, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_pretok *p = nib_calloc(1, sizeof *p);
    if (!p) return nib_fail_nomem(err, "pre-tokenizer");
    p->rule = rule;
    p->prefix_space = prefix_space;
    p->name = nib_strndup(name, n_name);
    if (!p->name) rc = nib_fail_nomem(err, "pre-tokenizer");
    for (; !rc && p->n_steps < NIB_PRETOK_STEPS_MAX && rule->step[p->n_steps]; p->n_steps++)
        if ((rc = compile(&p->code[p->n_steps], rule->step[p->n_steps], err))) break;
    if (rc) {
        nib_pretok_free(p);
        p = NULL;
    }
    *out = p;
    return rc;
}

void nib_pretok_free(nib_pretok *p)
{
    if (!p) return;
    for (size_t i = 0; i < NIB_PRETOK_STEPS_MAX; i++) pcre2_code_free(p->code[i]);
    nib_free(p->name);
    nib_free(p);
}

const nib_pretok_rule *nib_pretok_rule_of(const nib_pretok *p)
{
    return p->rule;
}

const char *nib_pretok_name(const nib_pretok *p)
{
    return p->name;
}

bool nib_pretok_prefix_space(const nib_pretok *p)
{
    return p->prefix_space;
}

/* ---- by name ---- */

static bool has_name(const char *names, const char *name, size_t n)
{
    while (*names) {
        size_t k = strcspn(names, " ");
        if (k == n && !memcmp(names, name, n)) return true;
        names += k + (names[k] == ' ');
    }
    return false;
}

nib_code nib_pretok_from_name(nib_pretok **out, const char *name, size_t n, nib_err *err)
{
    *out = NULL;
    for (const nib_pretok_rule *r = nib_pretok_rules; r->names; r++)
        if (n && has_name(r->names, name, n)) return make(out, r, name, n, false, err);
    char known[256];
    size_t at = 0;
    for (const nib_pretok_rule *r = nib_pretok_rules; r->names && at < sizeof known; r++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%.*s", at ? ", " : "",
                               (int)strcspn(r->names, " "), r->names);
    return nib_fail(err, NIB_EFORMAT, "pre-tokenizer '%.*s' is not known; known are %s",
                    (int)(n < 60 ? n : 60), name, known);
}

/* ---- by description ---- */

/* What a pre_tokenizer comes to: its expressions in order, in canonical spelling. */
typedef struct {
    char *step[NIB_PRETOK_STEPS_MAX + 1];
    size_t n;
    bool matches_only; /* some step keeps its matches and drops the gaps */
    bool prefix_space;
    bool byte_level;
} desc;

/* Spellings that mean the same in every splitter of the table. */
static const char *const SAME[][2] = {
    {"\r", "\\r"},
    {"\n", "\\n"},
    {"]?+", "]?"},
    {"]++", "]+"},
    {"}++", "}+"},
    {"{1,3}+", "{1,3}"},
    {"[\\r\\n]*+", "[\\r\\n]*"},
    {"\\s*[\\r\\n]|", "\\s*[\\r\\n]+|"},
    {"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"},
    {"'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d"},
};

/* `s` with every `from` replaced; the caller frees. */
static char *replace(const char *s, const char *from, const char *to)
{
    size_t n_from = strlen(from), n_to = strlen(to), n = strlen(s), hits = 0;
    for (const char *p = s; (p = strstr(p, from)); p += n_from) hits++;
    char *out = nib_alloc(n + hits * n_to + 1, 1), *q = out;
    if (!out) return NULL;
    for (const char *p; (p = strstr(s, from)); s = p + n_from) {
        memcpy(q, s, (size_t)(p - s));
        q += p - s;
        memcpy(q, to, n_to);
        q += n_to;
    }
    memcpy(q, s, strlen(s) + 1);
    return out;
}

/* Canonical spelling; the caller frees. A single white space that \s+(?!\S) leaves is a piece of
 * its own, whether the expression goes on with \s+, with \s, or leaves it as a gap. */
static char *canonical(const char *regex)
{
    char *s = nib_strdup(regex);
    for (size_t i = 0; s && i < sizeof SAME / sizeof *SAME; i++) {
        char *t = replace(s, SAME[i][0], SAME[i][1]);
        nib_free(s);
        s = t;
    }
    if (!s) return NULL;
    const char *more = nib_ends_with(s, "|\\s+(?!\\S)") ? "|\\s+"
                       : nib_ends_with(s, "|\\s")       ? "+"
                                                        : "";
    size_t n = strlen(s);
    char *t = nib_grow(s, n + 1, n + strlen(more) + 1, 1);
    if (!t) {
        nib_free(s);
        return NULL;
    }
    memcpy(t + n, more, strlen(more) + 1);
    return t;
}

static nib_code add_step(desc *d, const char *regex, nib_err *err)
{
    if (d->n > NIB_PRETOK_STEPS_MAX)
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer has more than %d steps",
                        NIB_PRETOK_STEPS_MAX);
    d->step[d->n] = canonical(regex);
    if (!d->step[d->n]) return nib_fail_nomem(err, "pre-tokenizer");
    d->n++;
    return NIB_OK;
}

static bool flag(const nib_json *j, const char *key, bool otherwise)
{
    nib_json_bool(nib_json_get(j, key), &otherwise);
    return otherwise;
}

static nib_code read_split(desc *d, const nib_json *j, nib_err *err)
{
    const char *regex, *behavior = "";
    bool invert = flag(j, "invert", false);
    nib_json_str(nib_json_get(j, "behavior"), &behavior);
    if (!nib_json_str(nib_json_get(nib_json_get(j, "pattern"), "Regex"), &regex))
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer Split has no Regex pattern");
    if (!strcmp(behavior, "Removed") && invert)
        d->matches_only = true;
    else if (strcmp(behavior, "Isolated") || invert)
        return nib_fail(err, NIB_EFORMAT,
                        "pre_tokenizer Split '%.100s' has behavior '%s', invert %s; supported is "
                        "'Isolated', false",
                        regex, behavior, invert ? "true" : "false");
    return add_step(d, regex, err);
}

static nib_code read_byte_level(desc *d, const nib_json *j, nib_err *err)
{
    d->byte_level = true;
    if (flag(j, "add_prefix_space", true)) {
        if (d->n)
            return nib_fail(err, NIB_EFORMAT,
                            "pre_tokenizer ByteLevel adds a space to every piece; supported is "
                            "that only where it comes first");
        d->prefix_space = true;
    }
    if (!flag(j, "use_regex", true)) return NIB_OK;
    return add_step(
        d, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)", err);
}

static nib_code read_one(desc *d, const nib_json *j, nib_err *err)
{
    const char *type = "";
    nib_json_str(nib_json_get(j, "type"), &type);
    if (d->byte_level)
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer '%s' comes after ByteLevel", type);
    if (!strcmp(type, "Split")) return read_split(d, j, err);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(d, j, err);
    if (!strcmp(type, "Digits"))
        return add_step(d, flag(j, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", err);
    return nib_fail(err, NIB_EFORMAT,
                    "pre_tokenizer of type '%s'; supported are Split, ByteLevel, Digits and "
                    "Sequence",
                    type);
}

/* Sequences may hold sequences; the JSON reader bounds their depth. */
static nib_code read_desc(desc *d, const nib_json *j, nib_err *err)
{
    const char *type = "";
    nib_json_str(nib_json_get(j, "type"), &type);
    if (strcmp(type, "Sequence")) return read_one(d, j, err);
    const nib_json *list = nib_json_get(j, "pretokenizers");
    nib_code rc = NIB_OK;
    for (const nib_json *c = nib_json_first(list); c && !rc; c = nib_json_next(c))
        rc = read_desc(d, c, err);
    return rc;
}

static bool is_rule(const desc *d, const nib_pretok_rule *r)
{
    if (d->matches_only && !r->covers) return false;
    for (size_t i = 0; i < d->n; i++)
        if (i == NIB_PRETOK_STEPS_MAX || !r->step[i] || strcmp(d->step[i], r->step[i]))
            return false;
    return d->n == NIB_PRETOK_STEPS_MAX || !r->step[d->n];
}

static const nib_pretok_rule *find_rule(const desc *d, bool ignore_merges)
{
    const nib_pretok_rule *other = NULL;
    for (const nib_pretok_rule *r = nib_pretok_rules; r->names; r++) {
        if (!is_rule(d, r)) continue;
        if (r->ignore_merges == ignore_merges) return r;
        if (!other) other = r;
    }
    return other;
}

static nib_code fail_unknown(const desc *d, nib_err *err)
{
    char text[400];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < d->n && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s'%s'", i ? ", " : "", d->step[i]);
    return nib_fail(err, NIB_EFORMAT, "pre_tokenizer splits in a way that is not known: %s%s", text,
                    d->n ? "" : "not at all");
}

nib_code nib_pretok_from_json(nib_pretok **out, const nib_json *pre, bool ignore_merges,
                              nib_err *err)
{
    desc d = {0};
    *out = NULL;
    if (!pre || nib_json_is_null(pre))
        return nib_fail(err, NIB_EFORMAT, "no pre_tokenizer; a byte-level one is needed");
    nib_code rc = read_desc(&d, pre, err);
    if (!rc && !d.byte_level)
        rc = nib_fail(err, NIB_EFORMAT,
                      "pre_tokenizer has no ByteLevel part; only byte-level "
                      "tokenizers are supported");
    const nib_pretok_rule *r = rc ? NULL : find_rule(&d, ignore_merges);
    if (!rc && !r) rc = fail_unknown(&d, err);
    if (!rc) rc = make(out, r, r->names, strcspn(r->names, " "), d.prefix_space, err);
    for (size_t i = 0; i < d.n; i++) nib_free(d.step[i]);
    return rc;
}

/* ---- to a description ---- */

static bool add_byte_level(nib_json *j, bool prefix_space, bool use_regex)
{
    return j && nib_json_add_str(j, "type", "ByteLevel") &&
           nib_json_add_bool(j, "add_prefix_space", prefix_space) &&
           nib_json_add_bool(j, "trim_offsets", true) &&
           nib_json_add_bool(j, "use_regex", use_regex);
}

static bool add_splits(nib_json *j, const nib_pretok *p)
{
    nib_json *list =
        nib_json_add_str(j, "type", "Sequence") ? nib_json_add_array(j, "pretokenizers") : NULL;
    bool ok = list;
    for (size_t i = 0; i < p->n_steps && ok; i++) {
        nib_json *split = nib_json_add_object(list, NULL);
        ok = split && nib_json_add_str(split, "type", "Split");
        nib_json *pattern = ok ? nib_json_add_object(split, "pattern") : NULL;
        ok = pattern && nib_json_add_str(pattern, "Regex", p->rule->step[i]) &&
             nib_json_add_str(split, "behavior", "Isolated") &&
             nib_json_add_bool(split, "invert", false);
    }
    return ok && add_byte_level(nib_json_add_object(list, NULL), false, false);
}

nib_code nib_pretok_to_json(nib_json *parent, const nib_pretok *p, bool prefix_space, nib_err *err)
{
    desc d = {0};
    nib_json *j = nib_json_add_object(parent, "pre_tokenizer");
    bool ok = j && (prefix_space ? add_byte_level(j, true, true) : add_splits(j, p));
    nib_code rc = ok ? read_desc(&d, j, err) : nib_fail_nomem(err, "pre-tokenizer");
    if (!rc && !is_rule(&d, p->rule))
        rc = nib_fail(err, NIB_EFORMAT,
                      "a space in front of a text that is split as '%s' does, which tokenizer.json "
                      "cannot say",
                      p->name);
    for (size_t i = 0; i < d.n; i++) nib_free(d.step[i]);
    return rc;
}

/* ---- splitting ---- */

struct nib_pretok_run {
    pcre2_match_data *found;
    pcre2_match_context *context;
};

nib_code nib_pretok_run_new(nib_pretok_run **out, nib_err *err)
{
    *out = NULL;
    nib_pretok_run *r = nib_calloc(1, sizeof *r);
    if (!r) return nib_fail_nomem(err, "pre-tokenizer");
    r->found = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->found || !r->context) {
        nib_pretok_run_free(r);
        return nib_fail_nomem(err, "pre-tokenizer");
    }
    /* Long runs of one kind of character are legitimate; nothing here takes exponential time. */
    pcre2_set_match_limit(r->context, UINT32_MAX);
    pcre2_set_depth_limit(r->context, UINT32_MAX);
    pcre2_set_heap_limit(r->context, UINT32_MAX);
    *out = r;
    return NIB_OK;
}

void nib_pretok_run_free(nib_pretok_run *r)
{
    if (!r) return;
    pcre2_match_data_free(r->found);
    pcre2_match_context_free(r->context);
    nib_free(r);
}

typedef struct {
    const nib_pretok *p;
    nib_pretok_run *run;
    nib_piece_fn *fn;
    void *arg;
} splitting;

/* The next match at or after `at`; *begin = *end = n when there is none. */
static nib_code next_match(const splitting *s, size_t step, const char *text, size_t n, size_t at,
                           size_t *begin, size_t *end, nib_err *err)
{
    const pcre2_code *code = s->p->code[step];
    pcre2_match_data *found = s->run->found;
    uint32_t how = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code, (PCRE2_SPTR)text, n, at, how, found, s->run->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(code, (PCRE2_SPTR)text, n, at, how | PCRE2_NO_JIT, found, s->run->context);
    *begin = *end = n;
    if (rc == PCRE2_ERROR_NOMATCH) return NIB_OK;
    if (rc < 0) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(rc, why, sizeof why);
        return nib_fail(err, rc == PCRE2_ERROR_NOMEMORY ? NIB_ENOMEM : NIB_EINVAL,
                        "splitting text of %zu bytes: %s", n, (const char *)why);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(found);
    *begin = span[0];
    *end = span[1];
    return NIB_OK;
}

static nib_code split_from(const splitting *s, size_t step, const char *text, size_t n,
                           nib_err *err)
{
    if (step == s->p->n_steps) return s->fn(s->arg, text, n, err);
    nib_code rc = NIB_OK;
    for (size_t at = 0, begin, end; !rc && at < n; at = end) {
        if ((rc = next_match(s, step, text, n, at, &begin, &end, err))) break;
        if (begin > at) rc = split_from(s, step + 1, text + at, begin - at, err);
        if (!rc && end > begin) rc = split_from(s, step + 1, text + begin, end - begin, err);
    }
    return rc;
}

nib_code nib_pretok_split(const nib_pretok *p, nib_pretok_run *r, const char *text, size_t n,
                          nib_piece_fn *fn, void *arg, nib_err *err)
{
    splitting s = {p, r, fn, arg};
    return n ? split_from(&s, 0, text, n, err) : NIB_OK;
}
