/* SPDX-License-Identifier: MIT */
/* infer/jinja_lex.c - text to tokens; see jinja_impl.h.
 *
 * White space around tags, as Jinja has it with trim_blocks and lstrip_blocks: '-' takes all of it
 * on its side; without a sign a block or comment takes the blanks between it and the start of its
 * line, unless there is '+', and one line break behind it; outputs take none. Line breaks of all
 * kinds count as '\n', and one at the end of the template goes away.
 * Tests: tests/infer/test_jinja_golden.c. */
#include "base/mem.h"
#include "base/utf8.h"
#include "infer/jinja_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    nib_jtokens *out;
    nib_arena *arena;
    const char *p;
    size_t n, i;
    unsigned line;
    bool at_line; /* what comes begins a line */
    nib_err *err;
} lexer;

static nib_code fail(lexer *l, const char *what)
{
    return nib_fail(l->err, NIB_EFORMAT, "line %u: %s", l->line, what);
}

static nib_code push(lexer *l, nib_jtoken_type type, unsigned op, nib_jv value)
{
    nib_jtokens *t = l->out;
    if (t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 256;
        nib_jtoken *grown = nib_grow(t->t, t->n, cap, sizeof *grown);
        if (!grown) return nib_fail_nomem(l->err, "a template");
        t->t = grown;
        t->cap = cap;
    }
    t->t[t->n++] = (nib_jtoken){.type = type, .line = l->line, .op = op, .value = value};
    return NIB_OK;
}

static bool looking_at(const lexer *l, size_t i, const char *what)
{
    const size_t k = strlen(what);
    return i <= l->n && l->n - i >= k && !memcmp(l->p + i, what, k);
}

/* Step over p[i..end), counting lines. */
static void step_to(lexer *l, size_t end)
{
    for (; l->i < end; l->i++) l->line += l->p[l->i] == '\n';
}

static size_t blanks(const lexer *l, size_t i)
{
    return nib_jspace_front(l->p + i, l->n - i);
}

/* ---- text between tags ---- */

/* How much of the text before a tag stays. */
static size_t kept(const lexer *l, const char *text, size_t n, char sign, bool output)
{
    if (sign == '-') return n - nib_jspace_back(text, n);
    if (sign == '+' || output) return n;
    size_t line = n;
    while (line && text[line - 1] != '\n') line--;
    const bool own_line = line > 0 || l->at_line;
    return own_line && nib_jspace_front(text + line, n - line) == n - line ? line : n;
}

static nib_code put_text(lexer *l, size_t end, char sign, bool output)
{
    const size_t n = kept(l, l->p + l->i, end - l->i, sign, output);
    nib_code rc = n ? push(l, NIB_JT_TEXT, 0, nib_jv_str(l->p + l->i, n)) : NIB_OK;
    step_to(l, end);
    return rc;
}

/* What goes with the end of a tag, which stands at l->i and is `k` bytes long. */
static void end_tag(lexer *l, size_t k, char sign, bool output)
{
    size_t end = l->i + k;
    if (sign == '-')
        end += blanks(l, end);
    else if (!output && sign != '+' && looking_at(l, end, "\n"))
        end++;
    step_to(l, end);
    l->at_line = l->p[end - 1] == '\n';
}

static char sign_at(const lexer *l, size_t i)
{
    return i < l->n && (l->p[i] == '-' || l->p[i] == '+') ? l->p[i] : 0;
}

static nib_code skip_comment(lexer *l)
{
    for (size_t e = l->i; e < l->n; e++) {
        if (!looking_at(l, e, "#}")) continue;
        const char sign = e > l->i ? sign_at(l, e - 1) : 0;
        step_to(l, e);
        end_tag(l, 2, sign, false);
        return NIB_OK;
    }
    return fail(l, "a comment without '#}'");
}

/* Length of "{%- word" at i up to the end of the word; 0 when there is none. */
static size_t begins_block(const lexer *l, size_t i, const char *word, char *sign)
{
    if (!looking_at(l, i, "{%")) return 0;
    size_t at = i + 2;
    if ((*sign = sign_at(l, at))) at++;
    at += blanks(l, at);
    return looking_at(l, at, word) ? at + strlen(word) - i : 0;
}

/* Length of the end of a block at i after white space; 0 when there is none. */
static size_t ends_block(const lexer *l, size_t i, char *sign)
{
    const size_t space = blanks(l, i);
    i += space;
    if ((*sign = sign_at(l, i))) i++;
    return looking_at(l, i, "%}") ? space + (*sign != 0) + 2 : 0;
}

/* {% raw %}: up to the end of its tag is known to be there. */
static nib_code put_raw(lexer *l, size_t head)
{
    char sign, end_sign;
    size_t k, end;
    step_to(l, l->i + head);
    if (!(k = ends_block(l, l->i, &sign)) || sign == '+') return fail(l, "'raw' takes nothing");
    size_t body = l->i + k;
    if (sign == '-') body += blanks(l, body);
    step_to(l, body);
    l->at_line = l->p[body - 1] == '\n';
    for (size_t i = l->i; i < l->n; i++) {
        if (l->p[i] != '{' || !(k = begins_block(l, i, "endraw", &sign))) continue;
        if (!(end = ends_block(l, i + k, &end_sign))) continue;
        nib_code rc = put_text(l, i, sign, false);
        if (rc) return rc;
        step_to(l, i + k);
        end_tag(l, end, end_sign, false);
        return NIB_OK;
    }
    return fail(l, "'raw' without 'endraw'");
}

/* ---- tokens within tags ---- */

static size_t put_utf8(char *p, uint32_t cp)
{
    if (cp < 0x80) return p[0] = (char)cp, 1;
    const size_t k = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = k; --i; cp >>= 6) p[i] = (char)(0x80 | (cp & 0x3F));
    p[0] = (char)(0xF00 >> k | cp);
    return k;
}

/* Digits of an escape in a string, at most `most` (exactly, for hexadecimal ones). */
static size_t escape_digits(const char *p, size_t n, size_t most, uint32_t base, uint32_t *cp)
{
    size_t k = 0;
    *cp = 0;
    for (; k < most && k < n; k++) {
        const unsigned char c = (unsigned char)p[k];
        const uint32_t d = isdigit(c) ? c - 48u : isxdigit(c) ? (c | 32u) - 'a' + 10u : 99u;
        if (d >= base) break;
        *cp = *cp * base + d;
    }
    return k;
}

/* One escape of Python's at p, behind the backslash; its bytes, 0 when it is wrong. A letter that
 * means nothing stays, and its backslash. */
static size_t unescape(const char *p, size_t n, char *to, size_t *n_to)
{
    static const char letters[] = "n\nt\tr\rb\bf\fv\va\a\\\\''\"\"";
    uint32_t cp;
    size_t k = 1, digits = p[0] == 'x' ? 2 : p[0] == 'u' ? 4 : p[0] == 'U' ? 8 : 0;
    *n_to = 0;
    if (p[0] == '\n') return 1;
    if (p[0] == 'N') return 0;
    for (size_t i = 0; letters[i]; i += 2)
        if (letters[i] == p[0]) return to[(*n_to)++] = letters[i + 1], 1;
    if (digits) {
        if (escape_digits(p + 1, n - 1, digits, 16, &cp) != digits) return 0;
        k = 1 + digits;
    } else if (!(k = escape_digits(p, n, 3, 8, &cp))) {
        k = nib_utf8_get(p, n, &cp);
        to[0] = '\\';
        *n_to = 1 + put_utf8(to + 1, cp);
        return k;
    }
    if (!cp || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) return 0;
    *n_to = put_utf8(to, cp);
    return k;
}

static nib_code put_string(lexer *l)
{
    const char quote = l->p[l->i];
    size_t end = l->i + 1, k, n = 0, n_to;
    while (end < l->n && l->p[end] != quote) end += l->p[end] == '\\' ? 2 : 1;
    if (end >= l->n) return fail(l, "a string without its end");
    char *text = nib_arena_alloc(l->arena, end - l->i + 1, 2, 1);
    if (!text) return nib_fail_nomem(l->err, "a template");
    for (size_t i = l->i + 1; i < end; i += k) {
        if (l->p[i] != '\\') {
            text[n++] = l->p[i];
            k = 1;
            continue;
        }
        if (!(k = unescape(l->p + i + 1, end - i - 1, text + n, &n_to)))
            return fail(l, "an escape in a string that is not known, or makes no character");
        n += n_to;
        k++;
    }
    nib_code rc = push(l, NIB_JT_STR, 0, nib_jv_str(text, n));
    step_to(l, end + 1);
    return rc;
}

/* Digits and '_' between them. */
static size_t digits_at(const lexer *l, size_t i, char *to, size_t *n)
{
    const size_t start = i;
    for (; i < l->n; i++) {
        const bool joint = l->p[i] == '_' && i > start && i + 1 < l->n &&
                           isdigit((unsigned char)l->p[i - 1]) &&
                           isdigit((unsigned char)l->p[i + 1]);
        if (!joint && !isdigit((unsigned char)l->p[i])) break;
        if (joint) continue;
        if (*n >= 60) return 0;
        to[(*n)++] = l->p[i];
    }
    return i - start;
}

static nib_code put_number(lexer *l)
{
    char text[64];
    size_t n = 0, k = digits_at(l, l->i, text, &n), end = l->i + k;
    bool real = false;
    if (!k) return fail(l, "a number of too many digits");
    const bool behind_dot = l->i && l->p[l->i - 1] == '.';
    if (!behind_dot && looking_at(l, end, ".") && end + 1 < l->n &&
        isdigit((unsigned char)l->p[end + 1])) {
        text[n++] = '.';
        if (!(k = digits_at(l, end + 1, text, &n))) return fail(l, "a number of too many digits");
        end += 1 + k;
        real = true;
    }
    if (!behind_dot && end + 1 < l->n && (l->p[end] | 32) == 'e') {
        const size_t sign = sign_at(l, end + 1) != 0;
        const size_t before = n;
        text[n++] = 'e';
        if (sign) text[n++] = l->p[end + 1];
        if ((k = digits_at(l, end + 1 + sign, text, &n))) {
            end += 1 + sign + k;
            real = true;
        } else {
            n = before;
        }
    }
    text[n] = 0;
    if (end < l->n && !real && text[0] == '0' && (n > 1 || isalpha((unsigned char)l->p[end])))
        return fail(l, "only decimal numbers are known");
    nib_jv v = real ? nib_jv_float(strtod(text, NULL)) : nib_jv_int(0);
    if (!real && (n > 18 || !(v = nib_jv_int(strtoll(text, NULL, 10)), true)))
        return fail(l, "a number above 10^18");
    nib_code rc = push(l, NIB_JT_NUMBER, 0, v);
    step_to(l, end);
    return rc;
}

/* Bytes of the name at i. */
static size_t name_at(const lexer *l, size_t i)
{
    uint32_t cp;
    size_t k, end = i;
    while (end < l->n && (k = nib_utf8_get(l->p + end, l->n - end, &cp)) &&
           (cp < 0x80 ? isalnum((int)cp) || cp == '_' : nib_is_word(cp)))
        end += k;
    return end - i;
}

/* The operator at i, 0 when there is none. */
static unsigned operator_at(const lexer *l, size_t i, size_t *k)
{
    static const char two[] = "//**==!=>=<=";
    for (const char *t = two; *t; t += 2)
        if (l->n - i >= 2 && !memcmp(l->p + i, t, 2)) return *k = 2, NIB_JOP(t[0], t[1]);
    *k = 1;
    return strchr("+-/*%~[](){}><=.:|,;", l->p[i]) ? (unsigned char)l->p[i] : 0;
}

/* The rest of a tag that ends with `close`. */
static nib_code put_inside(lexer *l, char close, nib_jtoken_type end_type)
{
    const char ends[3] = {close, '}', 0};
    size_t open = 0, k;
    nib_code rc = NIB_OK;
    while (!rc) {
        step_to(l, l->i + blanks(l, l->i));
        if (l->i == l->n) return fail(l, "a tag without its end");
        const char c = l->p[l->i], sign = close == '%' || c == '-' ? sign_at(l, l->i) : 0;
        if (!open && looking_at(l, l->i + (sign != 0), ends)) {
            rc = push(l, end_type, 0, nib_jv_int(0));
            end_tag(l, 2 + (sign != 0), sign, close == '}');
            return rc;
        }
        unsigned op;
        if (isdigit((unsigned char)c)) {
            rc = put_number(l);
        } else if ((k = name_at(l, l->i))) {
            rc = push(l, NIB_JT_NAME, 0, nib_jv_str(l->p + l->i, k));
            l->i += k;
        } else if (c == '"' || c == '\'') {
            rc = put_string(l);
        } else if (c && (op = operator_at(l, l->i, &k))) {
            if (k == 1 && strchr("([{", c)) open++;
            if (k == 1 && open && strchr(")]}", c)) open--;
            rc = push(l, NIB_JT_OP, op, nib_jv_int(0));
            l->i += k;
        } else {
            rc = nib_fail(l->err, NIB_EFORMAT, "line %u: unexpected '%.4s'", l->line, l->p + l->i);
        }
    }
    return rc;
}

static nib_code put_tag(lexer *l)
{
    char sign;
    const char kind = l->p[l->i + 1];
    const size_t raw = begins_block(l, l->i, "raw", &sign);
    char end_sign;
    if (raw && ends_block(l, l->i + raw, &end_sign)) return put_raw(l, raw);
    sign = sign_at(l, l->i + 2);
    l->i += 2 + (sign != 0);
    l->at_line = false;
    if (kind == '#') return skip_comment(l);
    const bool output = kind == '{';
    nib_code rc = push(l, output ? NIB_JT_OUTPUT_BEGIN : NIB_JT_BLOCK_BEGIN, 0, nib_jv_int(0));
    return rc ? rc
              : put_inside(l, output ? '}' : '%', output ? NIB_JT_OUTPUT_END : NIB_JT_BLOCK_END);
}

static nib_code put_all(lexer *l)
{
    nib_code rc = NIB_OK;
    while (l->i < l->n && !rc) {
        size_t j = l->i;
        while (j < l->n && !(l->p[j] == '{' && j + 1 < l->n && strchr("{%#", l->p[j + 1]))) j++;
        if (j == l->n) {
            rc = push(l, NIB_JT_TEXT, 0, nib_jv_str(l->p + l->i, l->n - l->i));
            break;
        }
        rc = put_text(l, j, sign_at(l, j + 2), l->p[j + 1] == '{');
        if (!rc) rc = put_tag(l);
    }
    return rc ? rc : push(l, NIB_JT_EOF, 0, nib_jv_int(0));
}

/* A copy with '\n' alone for a line break, and none at the end. */
static char *normalize(nib_arena *arena, const char *text, size_t *n)
{
    char *p = nib_arena_alloc(arena, *n + 1, 1, 1);
    size_t to = 0;
    for (size_t i = 0; p && i < *n; i++) {
        if (text[i] == '\r' && i + 1 < *n && text[i + 1] == '\n') continue;
        p[to++] = text[i];
        if (text[i] == '\r') p[to - 1] = '\n';
    }
    if (!p) return NULL;
    if (to && p[to - 1] == '\n') to--;
    p[to] = 0;
    *n = to;
    return p;
}

nib_code nib_jlex(nib_jtokens *tokens, nib_arena *arena, const char *text, size_t n, nib_err *err)
{
    *tokens = (nib_jtokens){0};
    if (n > NIB_JINJA_SOURCE_MAX)
        return nib_fail(err, NIB_EFORMAT, "%zu bytes; at most %d are read", n,
                        NIB_JINJA_SOURCE_MAX);
    if (memchr(text, 0, n) || nib_utf8_bad(text, n) < n)
        return nib_fail(err, NIB_EFORMAT, "it is not UTF-8, or holds a NUL character");
    lexer l = {.out = tokens, .arena = arena, .n = n, .line = 1, .at_line = true, .err = err};
    l.p = normalize(arena, text, &l.n);
    return l.p ? put_all(&l) : nib_fail_nomem(err, "a template");
}
