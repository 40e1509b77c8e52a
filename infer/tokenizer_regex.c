/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_regex.c - see tokenizer_regex.h. The only file of the tokenizer that sees PCRE2.
 *
 * The translation reads the expression once. Outside of classes it goes atom by atom and remembers
 * where the last one begins, because a repeated repeat ({1,3}+) needs brackets around it. A class
 * becomes a class of PCRE2 where it can; one with an intersection, or with a class in it that is no
 * plain list, becomes lookaheads and alternatives that match one character:
 *
 *   [A&&B]     (?:(?=[A])[B])
 *   [A[^B]]    (?:[A]|[^B])
 *   [^A&&B]    (?:(?!(?:(?=[A])[B]))(?s:.))
 *
 * Tests: tests/infer/test_tokenizer_split.c. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "infer/tokenizer_regex.h"
#include "base/mem.h"
#include "infer/tokenizer_text.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

enum {
    PATTERN_MAX = 1 << 16, /* bytes of an expression; the longest in use have 2000 */
    DEPTH_MAX = 32,        /* classes in classes                                   */
    GROUPS_MAX = 256,      /* brackets in brackets                                 */
    OPERANDS_MAX = 16,     /* of one intersection                                  */
    NAME_MAX_LEN = 40,     /* of a property                                        */
    SHOWN = 300,           /* how much of an expression a message shows            */
};

/* Contents of classes. \w as Oniguruma has it, with six of Latin-1's numbers. */
#define WHITE_SPACE                                                                                \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

typedef struct {
    const char *p, *end;
    nib_dialect dialect;
    nib_text out;
    nib_err *err;
} translation;

static nib_code fail(translation *t, const char *what)
{
    return nib_fail(t->err, NIB_EFORMAT, "regular expression: %s", what);
}

static nib_code add(translation *t, const char *p, size_t n)
{
    return nib_text_add(&t->out, p, n, t->err);
}

static nib_code add_str(translation *t, const char *s)
{
    return add(t, s, strlen(s));
}

/* ---- escapes ---- */

/* An escape that stands for a set of characters: what a class holds for it. */
typedef struct {
    char items[160];
    bool negated;
} char_set;

/* Lower case letters and digits of a property's name: spelling varies. */
static void loose_name(char *to, const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < NAME_MAX_LEN; i++) {
        char c = p[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '&') to[k++] = c;
    }
    to[k] = 0;
}

/* \p{name}: categories by either name, binary properties, POSIX names, else a script. */
static void property(char_set *s, const char *p, size_t n)
{
    static const char *const named[][2] = {
        {"letter", "\\p{L}"},
        {"uppercaseletter", "\\p{Lu}"},
        {"lowercaseletter", "\\p{Ll}"},
        {"titlecaseletter", "\\p{Lt}"},
        {"modifierletter", "\\p{Lm}"},
        {"otherletter", "\\p{Lo}"},
        {"mark", "\\p{M}"},
        {"nonspacingmark", "\\p{Mn}"},
        {"spacingmark", "\\p{Mc}"},
        {"enclosingmark", "\\p{Me}"},
        {"number", "\\p{N}"},
        {"decimalnumber", "\\p{Nd}"},
        {"digit", "\\p{Nd}"},
        {"letternumber", "\\p{Nl}"},
        {"othernumber", "\\p{No}"},
        {"punctuation", "\\p{P}"},
        {"punct", "\\p{P}"},
        {"connectorpunctuation", "\\p{Pc}"},
        {"dashpunctuation", "\\p{Pd}"},
        {"openpunctuation", "\\p{Ps}"},
        {"closepunctuation", "\\p{Pe}"},
        {"initialpunctuation", "\\p{Pi}"},
        {"finalpunctuation", "\\p{Pf}"},
        {"otherpunctuation", "\\p{Po}"},
        {"symbol", "\\p{S}"},
        {"mathsymbol", "\\p{Sm}"},
        {"currencysymbol", "\\p{Sc}"},
        {"modifiersymbol", "\\p{Sk}"},
        {"othersymbol", "\\p{So}"},
        {"separator", "\\p{Z}"},
        {"spaceseparator", "\\p{Zs}"},
        {"lineseparator", "\\p{Zl}"},
        {"paragraphseparator", "\\p{Zp}"},
        {"other", "\\p{C}"},
        {"control", "\\p{Cc}"},
        {"cntrl", "\\p{Cc}"},
        {"format", "\\p{Cf}"},
        {"space", WHITE_SPACE},
        {"whitespace", WHITE_SPACE},
        {"word", WORD},
        {"alnum", "\\p{Alphabetic}\\p{Nd}"},
        {"alpha", "\\p{Alphabetic}"},
        {"alphabetic", "\\p{Alphabetic}"},
        {"lower", "\\p{Lowercase}"},
        {"lowercase", "\\p{Lowercase}"},
        {"upper", "\\p{Uppercase}"},
        {"uppercase", "\\p{Uppercase}"},
        {"ideographic", "\\p{Ideographic}"},
        {"emoji", "\\p{Emoji}"},
        {"extendedpictographic", "\\p{Extended_Pictographic}"},
        {"any", "\\x{0}-\\x{10FFFF}"},
        {"ascii", "\\x{0}-\\x{7F}"},
        {"xdigit", "0-9A-Fa-f"},
    };
    char name[NAME_MAX_LEN];
    loose_name(name, p, n);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (!strcmp(named[i][0], name)) {
            snprintf(s->items, sizeof s->items, "%s", named[i][1]);
            return;
        }
    const size_t len = strlen(name);
    if (len && name[0] >= 'a') name[0] = (char)(name[0] - 'a' + 'A');
    snprintf(s->items, sizeof s->items, len <= 2 ? "\\p{%s}" : "\\p{sc:%s}", name);
}

/* \p{..}, \p{^..}, \pL; t->p stands behind the p. */
static nib_code read_property(translation *t, char_set *s)
{
    if (t->p == t->end) return fail(t, "ends in \\p");
    if (*t->p != '{') {
        property(s, t->p++, 1);
        return NIB_OK;
    }
    const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
    if (!close) return fail(t, "\\p{ without }");
    const char *name = t->p + 1;
    if (name < close && *name == '^') {
        s->negated = !s->negated;
        name++;
    }
    t->p = close + 1;
    if (close - name >= NAME_MAX_LEN) return fail(t, "a property with too long a name");
    property(s, name, (size_t)(close - name));
    return NIB_OK;
}

/* Is the escape at t->p (behind the backslash) a set? It is read then. */
static nib_code read_set(translation *t, char_set *s, bool *is_set)
{
    const char c = *t->p;
    static const char sets[] = "sSwWdDhHpP";
    *is_set = c && strchr(sets, c);
    if (!*is_set) return NIB_OK;
    s->negated = c >= 'A' && c <= 'Z';
    t->p++;
    const char *items = c == 's' || c == 'S'   ? WHITE_SPACE
                        : c == 'w' || c == 'W' ? WORD
                        : c == 'd' || c == 'D' ? "\\p{Nd}"
                        : c == 'h' || c == 'H' ? "0-9A-Fa-f"
                                               : NULL;
    if (!items) return read_property(t, s);
    snprintf(s->items, sizeof s->items, "%s", items);
    return NIB_OK;
}

/* A character by its number, \uHHHH, or another that PCRE2 would read otherwise; t->p stands behind
 * the backslash. */
static nib_code add_escaped(translation *t)
{
    const char c = *t->p;
    char text[24];
    if (c == 'u') {
        static const char hex[] = "0123456789abcdefABCDEF";
        for (int i = 1; i <= 4; i++)
            if (t->end - t->p <= i || !strchr(hex, t->p[i]) || !t->p[i])
                return fail(t, "\\u without four hexadecimal digits");
        snprintf(text, sizeof text, "\\x{%.4s}", t->p + 1);
        t->p += 5;
        return add_str(t, text);
    }
    if (c == 'Q' || c == 'E' || c == 'L' || c == 'U' || c == 'l') { /* letters, no commands */
        t->p++;
        return add(t, &c, 1);
    }
    if (c == 'v') {
        t->p++;
        return add_str(t, "\\x0B");
    }
    uint32_t cp;
    const size_t n = nib_utf8_get(t->p, (size_t)(t->end - t->p), &cp);
    nib_code rc = add(t, "\\", n == 1);
    if (!rc) rc = add(t, t->p, n);
    t->p += n;
    return rc;
}

/* ---- classes ---- */

/* One side of an intersection. */
typedef struct {
    nib_text items; /* what stands between [ and ]             */
    nib_text other; /* alternatives that are no items: "|X|Y"  */
} operand;

static nib_code read_class(translation *t, int depth, operand *into);

static nib_code add_alternative(operand *o, const char *p, size_t n, nib_err *err)
{
    nib_code rc = nib_text_add(&o->other, "|", 1, err);
    return rc ? rc : nib_text_add(&o->other, p, n, err);
}

/* The sides as one expression for a character, appended to *to. */
static nib_code join_operands(nib_text *to, const operand *o, size_t n, nib_err *err)
{
    nib_code rc = n > 1 ? nib_text_add(to, "(?:", 3, err) : NIB_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const bool ahead = i + 1 < n;
        rc = nib_text_add(to, ahead ? "(?=" : "(?:", 3, err);
        if (!rc && o[i].items.n) {
            rc = nib_text_add(to, "[", 1, err);
            if (!rc) rc = nib_text_add(to, o[i].items.p, o[i].items.n, err);
            if (!rc) rc = nib_text_add(to, "]", 1, err);
        } else if (!rc) {
            rc = nib_text_add(to, "(?!)", 4, err); /* nothing: matches nowhere */
        }
        if (!rc) rc = nib_text_add(to, o[i].other.p, o[i].other.n, err);
        if (!rc) rc = nib_text_add(to, ")", 1, err);
    }
    return rc || n == 1 ? rc : nib_text_add(to, ")", 1, err);
}

/* The class read into the one around it, or, where that is NULL, into the output. */
static nib_code put_class(translation *t, const operand *o, size_t n, bool negated, operand *into)
{
    nib_text text = {0};
    nib_code rc = NIB_OK;
    const bool plain = n == 1 && !o->other.n;
    if (plain && !negated && into) {
        rc = nib_text_add(&into->items, o->items.p, o->items.n, t->err);
    } else {
        if (plain && o->items.n) {
            rc = nib_text_add(&text, "[^", negated ? 2 : 1, t->err);
            if (!rc) rc = nib_text_add(&text, o->items.p, o->items.n, t->err);
            if (!rc) rc = nib_text_add(&text, "]", 1, t->err);
        } else {
            if (negated) rc = nib_text_add(&text, "(?:(?!", 6, t->err);
            if (!rc) rc = join_operands(&text, o, n, t->err);
            if (!rc && negated) rc = nib_text_add(&text, ")(?s:.))", 8, t->err);
        }
        if (!rc) rc = into ? add_alternative(into, text.p, text.n, t->err) : add(t, text.p, text.n);
    }
    nib_free(text.p);
    return rc;
}

/* An escape in a class. */
static nib_code class_escape(translation *t, operand *o)
{
    char_set s;
    bool is_set;
    if (t->p == t->end) return fail(t, "ends in a backslash");
    nib_code rc = read_set(t, &s, &is_set);
    if (rc) return rc;
    if (is_set) {
        char text[200];
        if (!s.negated) return nib_text_add(&o->items, s.items, strlen(s.items), t->err);
        if (!strncmp(s.items, "\\p{", 3) && !strchr(s.items + 3, '\\')) { /* \P says the same */
            s.items[1] = 'P';
            return nib_text_add(&o->items, s.items, strlen(s.items), t->err);
        }
        snprintf(text, sizeof text, "[^%s]", s.items);
        return add_alternative(o, text, strlen(text), t->err);
    }
    const size_t from = t->out.n; /* what is added to the output belongs to the class */
    rc = add_escaped(t);
    if (!rc) rc = nib_text_add(&o->items, t->out.p + from, t->out.n - from, t->err);
    t->out.n = from;
    return rc;
}

/* [:alpha:], which is an item of its own; 0: none. */
static size_t posix_item(const translation *t)
{
    if (t->end - t->p < 4 || t->p[1] != ':') return 0;
    for (const char *q = t->p + 2; q + 1 < t->end && q - t->p < 20; q++) {
        if (q[0] == ':' && q[1] == ']') return (size_t)(q + 2 - t->p);
        if (*q == ']' || *q == '[') return 0;
    }
    return 0;
}

/* Items up to the ] that ends the class; `n` sides so far. */
static nib_code read_items(translation *t, int depth, operand *o, size_t *n)
{
    nib_code rc = NIB_OK;
    uint32_t cp;
    for (bool first = true; !rc; first = false) {
        const size_t left = (size_t)(t->end - t->p);
        if (!left) return fail(t, "[ without ]");
        operand *now = &o[*n - 1];
        if (*t->p == ']' && !first) {
            t->p++;
            return NIB_OK;
        }
        if (left > 1 && !memcmp(t->p, "&&", 2)) {
            if (*n == OPERANDS_MAX) return fail(t, "too many && in one class");
            t->p += 2;
            o[(*n)++] = (operand){0};
        } else if (*t->p == '\\') {
            t->p++;
            rc = class_escape(t, now);
        } else if (*t->p == '[') {
            const size_t posix = posix_item(t);
            rc = posix ? nib_text_add(&now->items, t->p, posix, t->err)
                       : read_class(t, depth + 1, now);
            t->p += posix;
        } else {
            const size_t k = nib_utf8_get(t->p, left, &cp);
            if (*t->p == ']' || *t->p == '^') rc = nib_text_add(&now->items, "\\", 1, t->err);
            if (!rc) rc = nib_text_add(&now->items, t->p, k, t->err);
            t->p += k;
        }
    }
    return rc;
}

/* t->p stands at the [. */
static nib_code read_class(translation *t, int depth, operand *into)
{
    operand o[OPERANDS_MAX] = {0};
    size_t n = 1;
    if (depth > DEPTH_MAX) return fail(t, "too many classes in classes");
    const bool negated = ++t->p < t->end && *t->p == '^';
    t->p += negated;
    nib_code rc = read_items(t, depth, o, &n);
    if (!rc) rc = put_class(t, o, n, negated, into);
    for (size_t i = 0; i < n; i++) {
        nib_free(o[i].items.p);
        nib_free(o[i].other.p);
    }
    return rc;
}

/* ---- outside of classes ---- */

/* Wrap the output from `from` on: (?:...). */
static nib_code wrap(translation *t, size_t from)
{
    nib_code rc = add_str(t, "(?:)");
    if (rc) return rc;
    memmove(t->out.p + from + 3, t->out.p + from, t->out.n - 4 - from);
    memcpy(t->out.p + from, "(?:", 3);
    t->out.p[t->out.n - 1] = ')';
    return NIB_OK;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* {n}, {n,}, {n,m}, {,m} behind the atom that begins at `atom`; no interval: a brace. */
static nib_code interval(translation *t, size_t atom)
{
    const char *q = t->p + 1, *from = q;
    while (q < t->end && is_digit(*q)) q++;
    const bool no_least = q == from;
    const bool comma = q < t->end && *q == ',';
    if (comma) q++;
    const char *more = q;
    while (q < t->end && is_digit(*q)) q++;
    const bool is_one = q < t->end && *q == '}' && !(no_least && (!comma || q == more));
    if (!is_one) {
        t->p++;
        return add_str(t, "\\{");
    }
    nib_code rc = add_str(t, no_least ? "{0" : "{");
    if (!rc) rc = add(t, t->p + 1, (size_t)(q + 1 - (t->p + 1)));
    t->p = q + 1;
    /* {n,m}+ repeats; so does {n}?, which is not lazy when there is but one number. */
    const bool twice = t->dialect == NIB_DIALECT_ONIGURUMA && t->p < t->end &&
                       (*t->p == '+' || (*t->p == '?' && !comma));
    return rc || !twice ? rc : wrap(t, atom);
}

/* What stands behind an opening bracket and a question mark. */
static nib_code group_options(translation *t)
{
    nib_code rc = add_str(t, "?");
    t->p++;
    /* Ruby's m is everybody else's s. */
    while (!rc && t->p < t->end && strchr("imsx-", *t->p) && *t->p) {
        const bool dot_all = *t->p == 'm' && t->dialect == NIB_DIALECT_ONIGURUMA;
        rc = add(t, dot_all ? "s" : t->p, 1);
        t->p++;
    }
    return rc;
}

static nib_code outside_escape(translation *t)
{
    char_set s;
    bool is_set;
    char text[600];
    if (++t->p == t->end) return fail(t, "ends in a backslash");
    nib_code rc = read_set(t, &s, &is_set);
    if (rc) return rc;
    if (is_set) {
        snprintf(text, sizeof text, s.negated ? "[^%s]" : "[%s]", s.items);
        return add_str(t, text);
    }
    if (*t->p == 'b' || *t->p == 'B') {
        const bool edge = *t->p++ == 'b';
        return add_str(t, edge ? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
                               : "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    }
    return add_escaped(t);
}

static nib_code translate(translation *t)
{
    size_t group[GROUPS_MAX], depth = 0, atom = 0;
    nib_code rc = NIB_OK;
    uint32_t cp;
    while (t->p < t->end && !rc) {
        const size_t here = t->out.n;
        const char c = *t->p;
        if (c == '\\') {
            rc = outside_escape(t);
        } else if (c == '[') {
            rc = read_class(t, 0, NULL);
        } else if (c == '(') {
            if (depth == GROUPS_MAX) return fail(t, "too many brackets in brackets");
            group[depth++] = here;
            rc = add_str(t, "(");
            if (++t->p < t->end && *t->p == '*') return fail(t, "nothing to repeat before *");
            if (!rc && t->p < t->end && *t->p == '?') rc = group_options(t);
            continue;
        } else if (c == ')') {
            atom = depth ? group[--depth] : 0;
            rc = add_str(t, ")");
            t->p++;
            continue;
        } else if (c == '{') {
            rc = interval(t, atom);
            continue;
        } else {
            const size_t n = nib_utf8_get(t->p, (size_t)(t->end - t->p), &cp);
            rc = add(t, t->p, n);
            t->p += n;
            if (c == '+' || c == '*' || c == '?' || c == '|') continue;
        }
        atom = here;
    }
    return rc ? rc : add(t, "", 1);
}

/* ---- compiling ---- */

/* Groups of three digits, counted from the right, are a lookahead to the end of the number at each
 * of them: quadratic in long numbers. These expressions find the number, and we count. */
typedef enum {
    GROUPS_NONE,
    GROUPS_MATCHED, /* each group is a match, if a word ends behind the number */
    GROUPS_CUT,     /* an empty match before each                              */
} groups;

struct nib_splitter_regex {
    pcre2_code *code;
    char *literal; /* [n_literal > 0], in place of code */
    size_t n_literal;
    groups groups;
};

/* Expressions that take quadratic time, and such as do not in their place. At each place of a long
 * run of spaces that does not end the line, \s+$ would look through all of it; what matches begins
 * where the run does. */
static const struct {
    const char *slow, *quick;
    groups groups;
} QUICK[] = {{"\\s+$", "(?<!\\s)\\s+$", GROUPS_NONE},
             {"\\d{1,3}(?=(?:\\d{3})*\\b)", "(?<!\\d)\\d++\\b", GROUPS_MATCHED},
             {"(?=(\\d{3})+(?!\\d))", "(?<!\\d)\\d++", GROUPS_CUT}};

static nib_code compile(nib_splitter_regex *r, const char *text, size_t n, nib_err *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (!c) return nib_fail_nomem(err, "regular expression");
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)text, n,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, c);
    pcre2_compile_context_free(c);
    if (!r->code) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        return nib_fail(err, NIB_EFORMAT, "regular expression: %s", (const char *)why);
    }
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* else it is slower, not wrong */
    return NIB_OK;
}

nib_code nib_splitter_regex_new(nib_splitter_regex **out, nib_dialect dialect, const char *pattern,
                                size_t n, nib_err *err)
{
    translation t = {pattern, pattern + n, dialect, {0}, err};
    nib_code rc;
    *out = NULL;
    nib_splitter_regex *r = nib_calloc(1, sizeof *r);
    if (!r) return nib_fail_nomem(err, "regular expression");
    if (n > PATTERN_MAX) {
        rc = nib_fail(err, NIB_EFORMAT, "regular expression of %zu bytes; at most %d are possible",
                      n, PATTERN_MAX);
    } else if (dialect == NIB_DIALECT_LITERAL) {
        r->n_literal = n;
        r->literal = nib_strndup(pattern, n);
        rc = !n           ? nib_fail(err, NIB_EFORMAT, "nothing to look for")
             : r->literal ? NIB_OK
                          : nib_fail_nomem(err, "regular expression");
    } else {
        for (size_t i = 0; i < sizeof QUICK / sizeof *QUICK; i++) {
            if (n != strlen(QUICK[i].slow) || memcmp(pattern, QUICK[i].slow, n)) continue;
            t.p = QUICK[i].quick;
            t.end = t.p + strlen(t.p);
            r->groups = QUICK[i].groups;
        }
        rc = translate(&t);
        if (!rc) rc = compile(r, t.out.p, t.out.n - 1, err);
    }
    nib_free(t.out.p);
    if (rc) {
        nib_splitter_regex_free(r);
        return nib_wrap(err, "'%.*s'", (int)(n < SHOWN ? n : SHOWN), pattern);
    }
    *out = r;
    return NIB_OK;
}

void nib_splitter_regex_free(nib_splitter_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    nib_free(r->literal);
    nib_free(r);
}

/* ---- searching ---- */

/* Steps that a search may take: some for each byte of the text, and enough for short ones. */
enum { STEPS_PER_BYTE = 100, STEPS_MIN = 10000000, HEAP_KIB_MAX = 4 << 20 };

struct nib_regex_run {
    pcre2_match_data *found;
    pcre2_match_context *context;
};

nib_code nib_regex_run_new(nib_regex_run **out, nib_err *err)
{
    *out = NULL;
    nib_regex_run *r = nib_calloc(1, sizeof *r);
    if (!r) return nib_fail_nomem(err, "regular expression");
    r->found = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->found || !r->context) {
        nib_regex_run_free(r);
        return nib_fail_nomem(err, "regular expression");
    }
    pcre2_set_depth_limit(r->context, UINT32_MAX);
    pcre2_set_heap_limit(r->context, HEAP_KIB_MAX);
    *out = r;
    return NIB_OK;
}

void nib_regex_run_free(nib_regex_run *r)
{
    if (!r) return;
    pcre2_match_data_free(r->found);
    pcre2_match_context_free(r->context);
    nib_free(r);
}

static nib_code search(const nib_matches *m, size_t *begin, size_t *end, nib_err *err)
{
    const uint32_t how = PCRE2_NO_UTF_CHECK;
    const size_t most = (UINT32_MAX - STEPS_MIN) / STEPS_PER_BYTE;
    nib_regex_run *run = m->run;
    pcre2_set_match_limit(run->context,
                          (uint32_t)(STEPS_MIN + STEPS_PER_BYTE * (m->n < most ? m->n : most)));
    int rc =
        pcre2_match(m->r->code, (PCRE2_SPTR)m->text, m->n, m->at, how, run->found, run->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(m->r->code, (PCRE2_SPTR)m->text, m->n, m->at, how | PCRE2_NO_JIT,
                         run->found, run->context);
    if (rc == PCRE2_ERROR_NOMATCH) return NIB_OK;
    if (rc < 0) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(rc, why, sizeof why);
        return nib_fail(err, rc == PCRE2_ERROR_NOMEMORY ? NIB_ENOMEM : NIB_EINVAL,
                        "splitting text of %zu bytes: %s", m->n, (const char *)why);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(run->found);
    *begin = span[0] < m->at ? m->at : span[0]; /* \K in a lookaround can point anywhere */
    *end = span[1] < *begin ? *begin : span[1];
    return NIB_OK;
}

/* The byte `count` digits behind m->digits_at, which moves there. */
static size_t pass_digits(nib_matches *m, size_t count)
{
    uint32_t cp;
    for (; count && m->digits; count--, m->digits--)
        m->digits_at += nib_utf8_get(m->text + m->digits_at, m->n - m->digits_at, &cp);
    return m->digits_at;
}

static nib_code search_groups(nib_matches *m, size_t *begin, size_t *end, nib_err *err)
{
    const bool matched = m->r->groups == GROUPS_MATCHED;
    while (m->digits && m->digits_at < m->at) pass_digits(m, 1);
    while (!m->digits ||
           (!matched && m->digits < 3)) { /* no group begins any more: the next number */
        if (m->at < m->digits_end) m->at = m->digits_end;
        *begin = *end = m->n + 1;
        nib_code rc = search(m, begin, end, err);
        if (rc || *begin > m->n) return rc;
        uint32_t cp;
        m->digits_at = *begin;
        m->digits_end = *end;
        m->digits = 0;
        for (size_t i = *begin; i < *end; m->digits++)
            i += nib_utf8_get(m->text + i, m->n - i, &cp);
    }
    const size_t odd = m->digits % 3;
    *begin = matched ? m->digits_at : pass_digits(m, odd);
    *end = matched ? pass_digits(m, odd ? odd : 3) : *begin;
    return NIB_OK;
}

static void search_literal(const nib_matches *m, size_t *begin, size_t *end)
{
    const char *p = m->text + m->at, *last = m->text + m->n, *what = m->r->literal;
    for (; (p = memchr(p, what[0], (size_t)(last - p))); p++) {
        if ((size_t)(last - p) < m->r->n_literal) return;
        if (!memcmp(p, what, m->r->n_literal)) {
            *begin = (size_t)(p - m->text);
            *end = *begin + m->r->n_literal;
            return;
        }
    }
}

nib_code nib_matches_next(nib_matches *m, size_t *begin, size_t *end, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (;;) {
        *begin = *end = m->n + 1;
        if (m->at > m->n) return NIB_OK;
        if (m->r->literal)
            search_literal(m, begin, end);
        else
            rc = m->r->groups ? search_groups(m, begin, end, err) : search(m, begin, end, err);
        m->at = *end;
        if (rc || *end > *begin || *begin != m->last) break;
        uint32_t cp;
        m->at += *end < m->n ? nib_utf8_get(m->text + *end, m->n - *end, &cp) : 1;
    }
    m->last = *end;
    return rc;
}
