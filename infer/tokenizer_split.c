/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_split.c - see tokenizer_split.h: reading, writing and running the steps. */
#include "infer/tokenizer_split.h"
#include "base/mem.h"
#include "infer/tokenizer_alphabet.h"

#include <string.h>

/* \w of Rust's own expressions, which is not Oniguruma's. */
#define RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"
/* ByteLevel's expression, with what its last alternative leaves. */
static const char GPT2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char NIB_SPLIT_PUNCTUATION[] = "[\\p{P}$+<=>^`|~]";

/* ---- reading ---- */

static bool flag(const nib_json *j, const char *key, bool otherwise)
{
    nib_json_bool(nib_json_get(j, key), &otherwise);
    return otherwise;
}

static nib_code add_step(nib_splitter *s, nib_split_step step, nib_err *err)
{
    if (s->n == NIB_SPLIT_STEPS_MAX)
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer has more than %d steps",
                        NIB_SPLIT_STEPS_MAX);
    nib_split_step *grown = nib_grow(s->step, s->n, s->n + 1, sizeof *grown);
    if (!grown) return nib_fail_nomem(err, "pre-tokenizer");
    s->step = grown;
    s->step[s->n++] = step;
    return NIB_OK;
}

static nib_code add_split(nib_splitter *s, nib_dialect dialect, const char *pattern,
                          nib_behavior behavior, bool invert, nib_err *err)
{
    nib_code rc = add_step(
        s,
        (nib_split_step){
            .kind = NIB_SPLIT_AT, .dialect = dialect, .behavior = behavior, .invert = invert},
        err);
    if (rc) return rc;
    nib_split_step *step = &s->step[s->n - 1];
    /* The two agree on all but one thing. */
    if (dialect == NIB_DIALECT_TIKTOKEN && !strstr(pattern, "}+"))
        step->dialect = NIB_DIALECT_ONIGURUMA;
    step->pattern = nib_strdup(pattern);
    if (!step->pattern) return nib_fail_nomem(err, "pre-tokenizer");
    return nib_splitter_regex_new(&step->at, dialect, pattern, strlen(pattern), err);
}

nib_code nib_splitter_add_regex(nib_splitter *s, nib_dialect dialect, const char *pattern,
                                nib_err *err)
{
    return add_split(s, dialect, pattern, NIB_BEHAVIOR_ISOLATED, false, err);
}

nib_code nib_splitter_add_space(nib_splitter *s, nib_err *err)
{
    return add_step(s, (nib_split_step){.kind = NIB_SPLIT_SPACE}, err);
}

nib_code nib_splitter_add_bytes(nib_splitter *s, nib_err *err)
{
    return add_step(s, (nib_split_step){.kind = NIB_SPLIT_BYTES}, err);
}

static const char *const behaviors[] = {[NIB_BEHAVIOR_ISOLATED] = "Isolated",
                                        [NIB_BEHAVIOR_REMOVED] = "Removed",
                                        [NIB_BEHAVIOR_CONTIGUOUS] = "Contiguous",
                                        [NIB_BEHAVIOR_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [NIB_BEHAVIOR_WITH_NEXT] = "MergedWithNext"};

static nib_code read_behavior(nib_behavior *to, const nib_json *j, nib_err *err)
{
    const char *name = "Isolated";
    nib_json_str(nib_json_get(j, "behavior"), &name);
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++)
        if (!strcmp(behaviors[i], name)) {
            *to = (nib_behavior)i;
            return NIB_OK;
        }
    return nib_fail(err, NIB_EFORMAT, "pre_tokenizer with the behavior '%.60s'", name);
}

static nib_code read_split(nib_splitter *s, const nib_json *j, nib_err *err)
{
    const char *pattern;
    nib_behavior behavior = NIB_BEHAVIOR_ISOLATED;
    nib_dialect dialect = NIB_DIALECT_ONIGURUMA;
    const nib_json *p = nib_json_get(j, "pattern");
    nib_code rc = read_behavior(&behavior, j, err);
    if (rc) return rc;
    if (!nib_json_str(nib_json_get(p, "Regex"), &pattern)) {
        dialect = nib_json_get(p, "Tiktoken") ? NIB_DIALECT_TIKTOKEN : NIB_DIALECT_LITERAL;
        if (!nib_json_str(nib_json_get(p, "String"), &pattern) &&
            !nib_json_str(nib_json_get(p, "Tiktoken"), &pattern))
            return nib_fail(err, NIB_EFORMAT, "pre_tokenizer Split has no pattern");
    }
    return add_split(s, dialect, pattern, behavior, flag(j, "invert", false), err);
}

static nib_code read_byte_level(nib_splitter *s, const nib_json *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (nib_splitter_has(s, NIB_SPLIT_BYTES))
        return nib_fail(err, NIB_EFORMAT, "pre_tokenizer has ByteLevel twice");
    if (flag(j, "add_prefix_space", true)) rc = nib_splitter_add_space(s, err);
    if (!rc && flag(j, "use_regex", true))
        rc = nib_splitter_add_regex(s, NIB_DIALECT_ONIGURUMA, GPT2, err);
    return rc ? rc : nib_splitter_add_bytes(s, err);
}

static const char *const schemes[] = {
    [NIB_PREPEND_ALWAYS] = "always", [NIB_PREPEND_FIRST] = "first", [NIB_PREPEND_NEVER] = "never"};

static nib_code read_metaspace(nib_splitter *s, const nib_json *j, nib_err *err)
{
    const char *scheme = NULL, *content = "\u2581";
    nib_json_str(nib_json_get(j, "prepend_scheme"), &scheme);
    nib_json_str(nib_json_get(j, "replacement"), &content);
    nib_split_step step = {.kind = NIB_SPLIT_METASPACE, .split = flag(j, "split", true)};
    if (!scheme) { /* older files */
        step.prepend = flag(j, "add_prefix_space", true) ? NIB_PREPEND_ALWAYS : NIB_PREPEND_NEVER;
    } else {
        size_t i = 0;
        while (i < 3 && strcmp(schemes[i], scheme)) i++;
        if (i == 3)
            return nib_fail(err, NIB_EFORMAT, "pre_tokenizer Metaspace with the scheme '%.60s'",
                            scheme);
        step.prepend = (nib_prepend)i;
    }
    if (!*content) return nib_fail(err, NIB_EFORMAT, "pre_tokenizer Metaspace has no replacement");
    nib_code rc = add_step(s, step, err);
    if (rc) return rc;
    nib_split_step *now = &s->step[s->n - 1];
    now->content = nib_strdup(content);
    if (!now->content) return nib_fail_nomem(err, "pre-tokenizer");
    if (!step.split) return NIB_OK;
    now->behavior = NIB_BEHAVIOR_WITH_NEXT;
    return nib_splitter_regex_new(&now->at, NIB_DIALECT_LITERAL, content, strlen(content), err);
}

static nib_code read_one(nib_splitter *s, const char *type, const nib_json *j, nib_err *err)
{
    static const nib_dialect regex = NIB_DIALECT_ONIGURUMA;
    nib_behavior behavior = NIB_BEHAVIOR_ISOLATED;
    nib_code rc;
    if (!strcmp(type, "Split")) return read_split(s, j, err);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(s, j, err);
    if (!strcmp(type, "Metaspace")) return read_metaspace(s, j, err);
    if (!strcmp(type, "Digits")) /* of a run of them one piece, or one each */
        return nib_splitter_add_regex(
            s, regex, flag(j, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", err);
    if (!strcmp(type, "Punctuation"))
        return (rc = read_behavior(&behavior, j, err))
                   ? rc
                   : add_split(s, regex, NIB_SPLIT_PUNCTUATION, behavior, false, err);
    if (!strcmp(type, "Whitespace"))
        return add_split(s, regex, "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", NIB_BEHAVIOR_REMOVED,
                         true, err);
    if (!strcmp(type, "WhitespaceSplit"))
        return add_split(s, regex, "\\s", NIB_BEHAVIOR_REMOVED, false, err);
    if (!strcmp(type, "BertPreTokenizer"))
        return (rc = add_split(s, regex, "\\s", NIB_BEHAVIOR_REMOVED, false, err))
                   ? rc
                   : nib_splitter_add_regex(s, regex, NIB_SPLIT_PUNCTUATION, err);
    return nib_fail(err, NIB_EFORMAT,
                    "pre_tokenizer of type '%.60s'; supported are Split, ByteLevel, Metaspace, "
                    "Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer and "
                    "Sequence",
                    type);
}

/* Sequences may hold sequences; the JSON reader bounds their depth. */
nib_code nib_splitter_read(nib_splitter *s, const nib_json *j, nib_err *err)
{
    const char *type = "none";
    if (!j || nib_json_is_null(j)) return NIB_OK;
    nib_json_str(nib_json_get(j, "type"), &type);
    if (strcmp(type, "Sequence")) return read_one(s, type, j, err);
    nib_code rc = NIB_OK;
    const nib_json *c = nib_json_first(nib_json_get(j, "pretokenizers"));
    for (; c && !rc; c = nib_json_next(c)) rc = nib_splitter_read(s, c, err);
    return rc;
}

void nib_splitter_fini(nib_splitter *s)
{
    for (size_t i = 0; i < s->n; i++) {
        nib_free(s->step[i].pattern);
        nib_free(s->step[i].content);
        nib_splitter_regex_free(s->step[i].at);
    }
    nib_free(s->step);
    *s = (nib_splitter){0};
}

bool nib_splitter_has(const nib_splitter *s, nib_split_kind kind)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->step[i].kind == kind) return true;
    return false;
}

/* ---- writing ---- */

static bool write_byte_level(nib_json *j, bool prefix_space, bool use_regex)
{
    return nib_json_add_str(j, "type", "ByteLevel") &&
           nib_json_add_bool(j, "add_prefix_space", prefix_space) &&
           nib_json_add_bool(j, "trim_offsets", true) &&
           nib_json_add_bool(j, "use_regex", use_regex);
}

static bool write_split(nib_json *j, const nib_split_step *s)
{
    static const char *const key[] = {[NIB_DIALECT_ONIGURUMA] = "Regex",
                                      [NIB_DIALECT_TIKTOKEN] = "Tiktoken",
                                      [NIB_DIALECT_LITERAL] = "String"};
    nib_json *pattern =
        nib_json_add_str(j, "type", "Split") ? nib_json_add_object(j, "pattern") : NULL;
    return pattern && nib_json_add_str(pattern, key[s->dialect], s->pattern) &&
           nib_json_add_str(j, "behavior", behaviors[s->behavior]) &&
           nib_json_add_bool(j, "invert", s->invert);
}

static bool write_metaspace(nib_json *j, const nib_split_step *s)
{
    return nib_json_add_str(j, "type", "Metaspace") &&
           nib_json_add_str(j, "replacement", s->content) &&
           nib_json_add_str(j, "prepend_scheme", schemes[s->prepend]) &&
           nib_json_add_bool(j, "split", s->split);
}

/* ByteLevel from step i on, in one component: how many steps; 0: none. */
static size_t byte_level_at(const nib_splitter *s, size_t i, bool *space, bool *regex)
{
    const size_t from = i;
    *space = s->step[i].kind == NIB_SPLIT_SPACE;
    i += *space;
    *regex =
        *space && i < s->n && s->step[i].kind == NIB_SPLIT_AT && !strcmp(s->step[i].pattern, GPT2);
    i += *regex;
    return i < s->n && s->step[i].kind == NIB_SPLIT_BYTES ? i + 1 - from : 0;
}

/* Appends components to a list. A space in front that other splits follow is a component that no
 * file of others has. */
static bool write_steps(nib_json *list, const nib_splitter *s)
{
    bool ok = list, space, regex;
    for (size_t i = 0, k = 1; i < s->n && ok; i += k) {
        nib_json *j = nib_json_add_object(list, NULL);
        k = byte_level_at(s, i, &space, &regex);
        if (k)
            ok = j && write_byte_level(j, space, regex);
        else if (s->step[i].kind == NIB_SPLIT_METASPACE)
            ok = j && write_metaspace(j, &s->step[i]);
        else if (s->step[i].kind == NIB_SPLIT_SPACE)
            ok = j && nib_json_add_str(j, "type", "SpacePrefix");
        else
            ok = j && write_split(j, &s->step[i]);
        if (!k) k = 1;
    }
    return ok;
}

const char *nib_splitter_own(const nib_splitter *s)
{
    bool space, regex;
    for (size_t i = 0; i < s->n; i++) {
        if (s->step[i].kind == NIB_SPLIT_SPACE && !byte_level_at(s, i, &space, &regex))
            return "a space in front of a text that is split";
        if (s->step[i].kind == NIB_SPLIT_AT && s->step[i].dialect == NIB_DIALECT_TIKTOKEN)
            return "a regular expression of tiktoken's";
    }
    return NULL;
}

bool nib_splitter_write(nib_json *parent, const nib_splitter *s)
{
    bool space, regex;
    if (!s->n) return nib_json_add_null(parent, "pre_tokenizer");
    nib_json *j = nib_json_add_object(parent, "pre_tokenizer");
    if (!j) return false;
    if (byte_level_at(s, 0, &space, &regex) == s->n && space)
        return write_byte_level(j, space, regex);
    return nib_json_add_str(j, "type", "Sequence") &&
           write_steps(nib_json_add_array(j, "pretokenizers"), s);
}

/* ---- running ---- */

nib_code nib_split_run_init(nib_split_run *r, nib_err *err)
{
    *r = (nib_split_run){0};
    return nib_regex_run_new(&r->regex, err);
}

void nib_split_run_fini(nib_split_run *r)
{
    nib_regex_run_free(r->regex);
    for (size_t i = 0; i <= NIB_SPLIT_STEPS_MAX; i++) nib_free(r->text[i].p);
    *r = (nib_split_run){0};
}

typedef struct {
    const nib_splitter *s;
    nib_split_run *run;
    nib_piece_fn *fn;
    void *arg;
    size_t mapped; /* the step that turns bytes into characters because others follow; else n */
} splitting;

/* A piece; whether it stands first in the input, or goes on where bytes that are no text stood, so
 * that nothing may be put in front. */
typedef struct {
    const char *p;
    size_t n;
    bool first, goes_on;
} piece;

static nib_code split_from(const splitting *s, size_t step, piece p, nib_err *err);

/* Pieces join before they go on to the next step. */
typedef struct {
    size_t begin, end;
    bool any, match;
} pending;

static nib_code emit(const splitting *s, size_t step, piece all, const pending *x, nib_err *err)
{
    if (!x->any || x->end == x->begin) return NIB_OK;
    const bool at_start = x->begin == 0;
    return split_from(s, step + 1,
                      (piece){all.p + x->begin, x->end - x->begin, all.first && at_start,
                              all.goes_on && at_start},
                      err);
}

/* A match or a gap comes behind what is pending. */
static nib_code take(const splitting *s, size_t step, piece all, pending *x, size_t begin,
                     size_t end, bool match, nib_err *err)
{
    const nib_split_step *now = &s->s->step[step];
    const nib_behavior how = now->behavior;
    if (now->invert) match = !match;
    if (how == NIB_BEHAVIOR_REMOVED && match) return NIB_OK;
    const bool joins = x->any && ((how == NIB_BEHAVIOR_CONTIGUOUS && match == x->match) ||
                                  (how == NIB_BEHAVIOR_WITH_PREVIOUS && match && !x->match) ||
                                  (how == NIB_BEHAVIOR_WITH_NEXT && !match && x->match));
    nib_code rc = NIB_OK;
    if (joins) {
        x->end = end;
    } else {
        rc = emit(s, step, all, x, err);
        *x = (pending){begin, end, true, match};
    }
    x->match = match;
    return rc;
}

static nib_code cut(const splitting *s, size_t step, piece p, nib_err *err)
{
    pending x = {0};
    nib_code rc = NIB_OK;
    size_t done = 0, begin, end;
    nib_matches m = {
        .r = s->s->step[step].at, .run = s->run->regex, .text = p.p, .n = p.n, .last = SIZE_MAX};
    while (!rc && !(rc = nib_matches_next(&m, &begin, &end, err)) && begin <= p.n) {
        if (begin > done) rc = take(s, step, p, &x, done, begin, false, err);
        if (!rc) rc = take(s, step, p, &x, begin, end, true, err);
        done = end;
    }
    if (!rc && done < p.n) rc = take(s, step, p, &x, done, p.n, false, err);
    return rc ? rc : emit(s, step, p, &x, err);
}

/* Spaces become `content`, and one more stands in front where the scheme says so. */
static nib_code metaspace(const splitting *s, size_t step, piece *p, nib_err *err)
{
    const nib_split_step *now = &s->s->step[step];
    const size_t k = strlen(now->content);
    nib_text *t = &s->run->text[step];
    nib_code rc = NIB_OK;
    t->n = 0;
    const bool has_one = p->n && (p->p[0] == ' ' || (p->n >= k && !memcmp(p->p, now->content, k)));
    const bool wanted = !p->goes_on && (now->prepend == NIB_PREPEND_ALWAYS ||
                                        (now->prepend == NIB_PREPEND_FIRST && p->first));
    if (wanted && !has_one) rc = nib_text_add(t, now->content, k, err);
    for (const char *q = p->p, *end = q + p->n; q < end && !rc;) {
        const char *space = memchr(q, ' ', (size_t)(end - q));
        rc = nib_text_add(t, q, (size_t)((space ? space : end) - q), err);
        if (!rc && space) rc = nib_text_add(t, now->content, k, err);
        q = space ? space + 1 : end;
    }
    p->p = t->p;
    p->n = t->n;
    return rc;
}

static nib_code prefix_space(const splitting *s, size_t step, piece *p, nib_err *err)
{
    nib_text *t = &s->run->text[step];
    if (p->p[0] == ' ' || p->goes_on) return NIB_OK;
    t->n = 0;
    nib_code rc = nib_text_add(t, " ", 1, err);
    if (!rc) rc = nib_text_add(t, p->p, p->n, err);
    p->p = t->p;
    p->n = t->n;
    return rc;
}

static nib_code to_alphabet(const splitting *s, size_t step, piece *p, nib_err *err)
{
    nib_text *t = &s->run->text[step];
    nib_code rc = NIB_OK;
    char c[4];
    t->n = 0;
    for (size_t i = 0; i < p->n && !rc; i++)
        rc = nib_text_add(t, c, nib_alphabet_put(c, (unsigned char)p->p[i]), err);
    p->p = t->p;
    p->n = t->n;
    return rc;
}

/* The bytes of a piece that was cut as characters of the alphabet. */
static nib_code emit_bytes(const splitting *s, piece p, nib_err *err)
{
    nib_text *t = &s->run->text[NIB_SPLIT_STEPS_MAX];
    t->n = 0;
    nib_code rc = nib_text_add(t, p.p, p.n, err);
    return rc ? rc : s->fn(s->arg, t->p, nib_alphabet_get(p.p, p.n, t->p), err);
}

static nib_code split_from(const splitting *s, size_t step, piece p, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (step == s->s->n)
        return s->mapped < s->s->n ? emit_bytes(s, p, err) : s->fn(s->arg, p.p, p.n, err);
    switch (s->s->step[step].kind) {
    case NIB_SPLIT_AT: return cut(s, step, p, err);
    case NIB_SPLIT_METASPACE:
        if (!(rc = metaspace(s, step, &p, err)) && s->s->step[step].at) return cut(s, step, p, err);
        break;
    case NIB_SPLIT_SPACE: rc = prefix_space(s, step, &p, err); break;
    case NIB_SPLIT_BYTES:
        if (step == s->mapped) rc = to_alphabet(s, step, &p, err);
        break;
    }
    return rc ? rc : split_from(s, step + 1, p, err);
}

nib_code nib_split(const nib_splitter *s, nib_split_run *r, bool first, bool begins,
                   const char *text, size_t n, nib_piece_fn *fn, void *arg, nib_err *err)
{
    splitting x = {s, r, fn, arg, s->n};
    for (size_t i = 0; i + 1 < s->n; i++)
        if (s->step[i].kind == NIB_SPLIT_BYTES) x.mapped = i;
    return n ? split_from(&x, 0, (piece){text, n, first, !begins}, err) : NIB_OK;
}
