/* SPDX-License-Identifier: MIT */
/* infer/jinja_str.c - strings of templates: they are UTF-8 here and characters to the template; see
 * jinja_impl.h. Methods are those of Python's str. Letters change their case by Unicode's simple
 * mappings (and the sharp s, to two). Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include <string.h>

/* ---- white space ---- */

static bool is_space(uint32_t cp)
{
    return nib_is_space(cp) || (cp >= 0x1C && cp <= 0x1F);
}

size_t nib_jspace_front(const char *p, size_t n)
{
    uint32_t cp;
    size_t i = 0, k;
    while (i < n && (k = nib_utf8_get(p + i, n - i, &cp)) && is_space(cp)) i += k;
    return i;
}

size_t nib_jspace_back(const char *p, size_t n)
{
    uint32_t cp;
    size_t left = n, k;
    while (left && (k = nib_utf8_last(p, left)) && nib_utf8_get(p + left - k, k, &cp) &&
           is_space(cp))
        left -= k;
    return n - left;
}

/* ---- characters and bytes ---- */

static bool starts_character(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80;
}

size_t nib_jstr_length(nib_jrun *r, nib_jv s)
{
    size_t n = 0;
    nib_jcharge(r, s.n);
    for (size_t i = 0; i < s.n; i++) n += starts_character(s.u.s[i]);
    return n;
}

size_t nib_jstr_at(nib_jrun *r, nib_jv s, size_t i)
{
    size_t at = 0;
    for (; at < s.n; at++)
        if (starts_character(s.u.s[at]) && !i--) break;
    nib_jcharge(r, at);
    return at;
}

size_t nib_jstr_find(nib_jrun *r, nib_jv s, size_t from, nib_jv what)
{
    if (!what.n) return from;
    while (from < s.n && s.n - from >= what.n) {
        const char *p = memchr(s.u.s + from, what.u.s[0], s.n - from - what.n + 1);
        size_t k = 1;
        if (!p) break;
        while (k < what.n && p[k] == what.u.s[k]) k++;
        if (!nib_jcharge(r, (size_t)(p - s.u.s) - from + k)) break;
        from = (size_t)(p - s.u.s);
        if (k == what.n) return from;
        from++;
    }
    nib_jcharge(r, s.n - (from < s.n ? from : s.n));
    return SIZE_MAX;
}

static size_t find_last(nib_jrun *r, nib_jv s, nib_jv what)
{
    size_t at = s.n < what.n ? 0 : s.n - what.n + 1;
    while (at--) {
        size_t k = 0;
        while (k < what.n && s.u.s[at + k] == what.u.s[k]) k++;
        if (k == what.n) return at;
        if (!nib_jcharge(r, k)) break;
    }
    return SIZE_MAX;
}

nib_jv nib_jstr_part(nib_jv s, size_t from, size_t end)
{
    nib_jv part = s;
    part.u.s += from;
    part.n = (uint32_t)(end - from);
    return part;
}

/* ---- stripping ---- */

static bool holds(nib_jv chars, const char *p, size_t k)
{
    for (size_t i = 0; i + k <= chars.n; i++)
        if (!memcmp(chars.u.s + i, p, k)) return true;
    return false;
}

nib_jv nib_jstr_strip(nib_jrun *r, nib_jv s, nib_jv chars, int side)
{
    size_t from = 0, end = s.n, k;
    uint32_t cp;
    if (chars.kind == NIB_JV_UNDEFINED || chars.kind == NIB_JV_NONE) {
        if (side <= 0) from = nib_jspace_front(s.u.s, s.n);
        if (side >= 0) end -= nib_jspace_back(s.u.s + from, s.n - from);
    } else if (chars.kind != NIB_JV_STR) {
        return nib_jfail(r, "characters to strip should be a string, found '%s'",
                         nib_jv_type(chars));
    } else {
        for (; side <= 0 && from < end && nib_jcharge(r, chars.n); from += k)
            if (!(k = nib_utf8_get(s.u.s + from, end - from, &cp)) ||
                !holds(chars, s.u.s + from, k))
                break;
        for (; side >= 0 && end > from && nib_jcharge(r, chars.n); end -= k) {
            k = nib_utf8_last(s.u.s, end);
            if (!holds(chars, s.u.s + end - k, k)) break;
        }
    }
    nib_jcharge(r, s.n - (end - from));
    return nib_jstr_part(s, from, end);
}

/* ---- case ---- */

static void add_character(nib_jrun *r, nib_text *t, uint32_t cp)
{
    char p[4];
    const size_t k = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = k; i-- > 1; cp >>= 6) p[i] = (char)(0x80 | (cp & 0x3F));
    p[0] = (char)(k == 1 ? cp : 0xF00u >> k | cp);
    nib_jadd(r, t, p, k);
}

static bool has_case(uint32_t cp)
{
    return nib_to_upper(cp) != cp || nib_to_lower(cp) != cp;
}

nib_jv nib_jstr_case(nib_jrun *r, nib_jv s, nib_jcase how)
{
    enum { SHARP_S = 0xDF };
    nib_text t = {0};
    bool first = true; /* of a word, or of all */
    uint32_t cp;
    nib_jcharge(r, s.n);
    for (size_t i = 0, k; i < s.n && !r->rc; i += k) {
        if (!(k = nib_utf8_get(s.u.s + i, s.n - i, &cp))) break;
        const bool upper = how == NIB_JCASE_UPPER ||
                           (how == NIB_JCASE_SWAP && nib_to_lower(cp) == cp) ||
                           (how >= NIB_JCASE_CAPITAL && how <= NIB_JCASE_WORDS && first);
        if (upper && cp == SHARP_S)
            nib_jadds(r, &t, how == NIB_JCASE_UPPER || how == NIB_JCASE_SWAP ? "SS" : "Ss");
        else
            add_character(r, &t, upper ? nib_to_upper(cp) : nib_to_lower(cp));
        first = how == NIB_JCASE_TITLE
                    ? !has_case(cp)
                    : how == NIB_JCASE_WORDS &&
                          (is_space(cp) || (cp < 0x80 && strchr("-({[<", (int)cp)));
    }
    nib_jv v = nib_jv_take(r, &t);
    v.safe = s.safe;
    return v;
}

bool nib_jstr_is_case(nib_jv s, bool upper)
{
    bool any = false;
    uint32_t cp;
    for (size_t i = 0, k; i < s.n && (k = nib_utf8_get(s.u.s + i, s.n - i, &cp)); i += k) {
        if (!has_case(cp)) continue;
        if ((upper ? nib_to_upper(cp) : nib_to_lower(cp)) != cp) return false;
        any = true;
    }
    return any;
}

/* ---- cutting and joining ---- */

nib_jv nib_jstr_replace(nib_jrun *r, nib_jv s, nib_jv old, nib_jv by, int64_t most)
{
    nib_text t = {0};
    size_t from = 0, at;
    uint32_t cp;
    while (most-- && !r->rc && (at = nib_jstr_find(r, s, from, old)) != SIZE_MAX) {
        nib_jadd(r, &t, s.u.s + from, at - from);
        nib_jadd(r, &t, by.u.s, by.n);
        from = at + old.n;
        if (old.n) continue;
        if (from == s.n) break; /* between all characters */
        const size_t k = nib_utf8_get(s.u.s + from, s.n - from, &cp);
        nib_jadd(r, &t, s.u.s + from, k);
        from += k;
    }
    nib_jadd(r, &t, s.u.s + from, s.n - from);
    return nib_jv_take(r, &t);
}

static nib_jv from_dict(nib_jrun *r, const nib_jdict *d)
{
    nib_jv all = nib_jv_list(r, NIB_JV_LIST, d->n);
    for (size_t i = 0; i < all.u.list->n; i++) all.u.list->v[i] = d->value[i];
    return all;
}

/* A growing list: the values of a dict whose keys are nobody's. */
static void push(nib_jrun *r, nib_jdict *d, nib_jv v)
{
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 8;
        nib_jv *grown = nib_jalloc(r, cap, sizeof *grown);
        if (!grown) return;
        if (d->n) memcpy(grown, d->value, d->n * sizeof *grown);
        d->value = grown;
        d->cap = cap;
    }
    d->value[d->n++] = v;
}

static nib_jv split_words(nib_jrun *r, nib_jv s, int64_t most)
{
    nib_jdict all = {0};
    size_t at = nib_jspace_front(s.u.s, s.n), end;
    uint32_t cp;
    nib_jcharge(r, s.n);
    for (; at < s.n && !r->rc; at += nib_jspace_front(s.u.s + at, s.n - at)) {
        end = at;
        if (!most--) {
            push(r, &all, nib_jstr_part(s, at, s.n));
            break;
        }
        for (size_t k;
             end < s.n && (k = nib_utf8_get(s.u.s + end, s.n - end, &cp)) && !is_space(cp);)
            end += k;
        push(r, &all, nib_jstr_part(s, at, end));
        at = end;
    }
    return from_dict(r, &all);
}

static nib_jv split_at(nib_jrun *r, nib_jv s, nib_jv by, int64_t most)
{
    nib_jdict all = {0};
    size_t from = 0, at;
    while (most-- && !r->rc && (at = nib_jstr_find(r, s, from, by)) != SIZE_MAX) {
        push(r, &all, nib_jstr_part(s, from, at));
        from = at + by.n;
    }
    push(r, &all, nib_jstr_part(s, from, s.n));
    return from_dict(r, &all);
}

static nib_jv split_back(nib_jrun *r, nib_jv s, nib_jv by, int64_t most)
{
    nib_jdict all = {0};
    size_t at;
    while (most-- && !r->rc && (at = find_last(r, s, by)) != SIZE_MAX) {
        push(r, &all, nib_jstr_part(s, at + by.n, s.n));
        s = nib_jstr_part(s, 0, at);
    }
    push(r, &all, s);
    for (size_t i = 0; i < all.n / 2; i++) {
        const nib_jv v = all.value[i];
        all.value[i] = all.value[all.n - 1 - i];
        all.value[all.n - 1 - i] = v;
    }
    return from_dict(r, &all);
}

/* Bytes of the line break at p, 0: none. */
static size_t line_break(const char *p, size_t n)
{
    uint32_t cp;
    const size_t k = nib_utf8_get(p, n, &cp);
    if (cp == '\r') return n > 1 && p[1] == '\n' ? 2 : 1;
    return (cp >= '\n' && cp <= '\f') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
                   cp == 0x2029
               ? k
               : 0;
}

static nib_jv split_lines(nib_jrun *r, nib_jv s, bool keep)
{
    nib_jdict all = {0};
    size_t from = 0, k;
    nib_jcharge(r, s.n);
    for (size_t i = 0; i < s.n && !r->rc;) {
        if (!(k = line_break(s.u.s + i, s.n - i))) {
            i++;
            while (i < s.n && !starts_character(s.u.s[i])) i++;
            continue;
        }
        push(r, &all, nib_jstr_part(s, from, keep ? i + k : i));
        from = i += k;
    }
    if (from < s.n) push(r, &all, nib_jstr_part(s, from, s.n));
    return from_dict(r, &all);
}

nib_jv nib_jstr_lines(nib_jrun *r, nib_jv s)
{
    return split_lines(r, s, false);
}

nib_jv nib_jstr_join(nib_jrun *r, nib_jv between, nib_jlist items, bool any)
{
    nib_text t = {0};
    for (size_t i = 0; i < items.n && !r->rc; i++) {
        if (!any && items.v[i].kind != NIB_JV_STR)
            nib_jfail(r, "'join' wants strings, found '%s'", nib_jv_type(items.v[i]));
        if (i) nib_jadd(r, &t, between.u.s, between.n);
        nib_jv_write(r, &t, items.v[i], false);
    }
    return nib_jv_take(r, &t);
}

nib_jv nib_jstr_escape(nib_jrun *r, nib_jv s)
{
    static const char *const by[][2] = {
        {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
    for (size_t i = 0; i < sizeof by / sizeof *by && !s.safe; i++)
        s = nib_jstr_replace(r, s, nib_jv_word(by[i][0]), nib_jv_word(by[i][1]), -1);
    s.safe = s.kind == NIB_JV_STR;
    return s;
}

/* ---- format ---- */

/* The value of a field "{...}", its name in f. */
static nib_jv field(nib_jrun *r, nib_jv f, const nib_jargs *args, size_t *next)
{
    size_t i = 0;
    if (!f.n) i = (*next)++;
    for (size_t k = 0; k < f.n; k++) {
        const char c = f.u.s[k];
        if (strchr(".[!:", c))
            return nib_jfail(r, "'format' with the field '%.*s' is not supported",
                             (int)(f.n < 40 ? f.n : 40), f.u.s);
        i = c >= '0' && c <= '9' && i < NIB_JARGS_MAX ? 10 * i + (size_t)(c - '0') : SIZE_MAX;
    }
    if (i < args->n) return args->v[i];
    for (size_t k = args->n; k < args->n + args->n_named; k++)
        if (f.n == args->name[k].n && !memcmp(f.u.s, args->name[k].u.s, f.n)) return args->v[k];
    return nib_jfail(r, "'format': no argument for the field '{%.*s}'", (int)(f.n < 40 ? f.n : 40),
                     f.u.s);
}

nib_jv nib_jstr_format(nib_jrun *r, nib_jv s, const nib_jargs *args)
{
    nib_text t = {0};
    size_t next = 0, plain = 0;
    for (size_t i = 0; i < s.n && !r->rc; i++) {
        const char c = s.u.s[i];
        if (c != '{' && c != '}') continue;
        const bool twice = i + 1 < s.n && s.u.s[i + 1] == c;
        nib_jadd(r, &t, s.u.s + plain, i - plain + twice);
        if (twice) {
            plain = ++i + 1;
            continue;
        }
        const char *end = c == '{' ? memchr(s.u.s + i, '}', s.n - i) : NULL;
        if (!end) {
            nib_jfail(r, "'format': a single '%c'", c);
            break;
        }
        const size_t at = (size_t)(end - s.u.s);
        const nib_jv v = field(r, nib_jstr_part(s, i + 1, at), args, &next);
        nib_jv_write(r, &t, v, false);
        i = at;
        plain = at + 1;
    }
    nib_jadd(r, &t, s.u.s + plain, s.n - plain);
    return nib_jv_take(r, &t);
}

/* ---- methods ---- */

/* Is argument i a string? Else an error. */
static bool string(nib_jrun *r, const nib_jparams *p, size_t i)
{
    if (p->v[i].kind == NIB_JV_STR) return true;
    nib_jfail(r, "a string expected, found '%s'", nib_jv_type(p->v[i]));
    return false;
}

static nib_jv strip(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return nib_jstr_strip(r, s, p->v[0], 0);
}
static nib_jv lstrip(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return nib_jstr_strip(r, s, p->v[0], -1);
}
static nib_jv rstrip(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return nib_jstr_strip(r, s, p->v[0], 1);
}

static nib_jv upper(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, s, NIB_JCASE_UPPER);
}
static nib_jv lower(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, s, NIB_JCASE_LOWER);
}
static nib_jv title(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, s, NIB_JCASE_TITLE);
}
static nib_jv capitalize(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, s, NIB_JCASE_CAPITAL);
}
static nib_jv swapcase(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, s, NIB_JCASE_SWAP);
}
static nib_jv is_upper(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    nib_jcharge(r, s.n);
    return nib_jv_bool(nib_jstr_is_case(s, true));
}
static nib_jv is_lower(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    nib_jcharge(r, s.n);
    return nib_jv_bool(nib_jstr_is_case(s, false));
}
static nib_jv is_white(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    (void)p;
    nib_jcharge(r, s.n);
    return nib_jv_bool(s.n && nib_jspace_front(s.u.s, s.n) == s.n);
}

static nib_jv split(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    const int64_t most = nib_jint(r, p, 1, -1);
    if (!p->given[0] || p->v[0].kind == NIB_JV_NONE) return split_words(r, s, most);
    if (!string(r, p, 0)) return p->v[0];
    if (!p->v[0].n) return nib_jfail(r, "'split' by an empty string");
    return split_at(r, s, p->v[0], most);
}
static nib_jv rsplit(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    const int64_t most = nib_jint(r, p, 1, -1);
    if (!p->given[0] || p->v[0].kind == NIB_JV_NONE) {
        if (most < 0) return split_words(r, s, most);
        return nib_jfail(r, "'rsplit' at white space with a maximum is not supported");
    }
    if (!string(r, p, 0)) return p->v[0];
    if (!p->v[0].n) return nib_jfail(r, "'rsplit' by an empty string");
    return split_back(r, s, p->v[0], most);
}
static nib_jv splitlines(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return split_lines(r, s, nib_jflag(p, 0, false));
}

static nib_jv parts(nib_jrun *r, nib_jv a, nib_jv b, nib_jv c)
{
    nib_jv v = nib_jv_list(r, NIB_JV_TUPLE, 3);
    if (!v.u.list->n) return v;
    v.u.list->v[0] = a;
    v.u.list->v[1] = b;
    v.u.list->v[2] = c;
    return v;
}
static nib_jv partition(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    const nib_jv none = nib_jv_word("");
    if (!string(r, p, 0)) return p->v[0];
    if (!p->v[0].n) return nib_jfail(r, "'partition' by an empty string");
    const size_t at = nib_jstr_find(r, s, 0, p->v[0]);
    if (at == SIZE_MAX) return parts(r, s, none, none);
    return parts(r, nib_jstr_part(s, 0, at), p->v[0], nib_jstr_part(s, at + p->v[0].n, s.n));
}
static nib_jv rpartition(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    const nib_jv none = nib_jv_word("");
    if (!string(r, p, 0)) return p->v[0];
    if (!p->v[0].n) return nib_jfail(r, "'rpartition' by an empty string");
    const size_t at = find_last(r, s, p->v[0]);
    if (at == SIZE_MAX) return parts(r, none, none, s);
    return parts(r, nib_jstr_part(s, 0, at), p->v[0], nib_jstr_part(s, at + p->v[0].n, s.n));
}

static nib_jv replace(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    if (!string(r, p, 0) || !string(r, p, 1)) return p->v[0];
    return nib_jstr_replace(r, s, p->v[0], p->v[1], nib_jint(r, p, 2, -1));
}
static nib_jv join(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return nib_jstr_join(r, s, nib_jv_items(r, p->v[0]), false);
}

static bool has_at(nib_jv s, nib_jv what, bool front)
{
    return what.n <= s.n && !memcmp(s.u.s + (front ? 0 : s.n - what.n), what.u.s, what.n);
}
/* By one string or any of a tuple. */
static nib_jv ends(nib_jrun *r, nib_jv s, const nib_jparams *p, bool front)
{
    bool any = false;
    const nib_jlist one = {.v = (nib_jv *)&p->v[0], .n = 1},
                    all = p->v[0].kind == NIB_JV_TUPLE ? *p->v[0].u.list : one;
    for (size_t i = 0; i < all.n && nib_jcharge(r, all.v[i].n); i++) {
        if (all.v[i].kind != NIB_JV_STR)
            return nib_jfail(r, "a string or a tuple of them expected, found '%s'",
                             nib_jv_type(all.v[i]));
        any |= has_at(s, all.v[i], front);
    }
    return nib_jv_bool(any);
}
static nib_jv startswith(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return ends(r, s, p, true);
}
static nib_jv endswith(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return ends(r, s, p, false);
}
static nib_jv removeprefix(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    if (!string(r, p, 0)) return p->v[0];
    return has_at(s, p->v[0], true) ? nib_jstr_part(s, p->v[0].n, s.n) : s;
}
static nib_jv removesuffix(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    if (!string(r, p, 0)) return p->v[0];
    return has_at(s, p->v[0], false) ? nib_jstr_part(s, 0, s.n - p->v[0].n) : s;
}

static nib_jv index_of(nib_jrun *r, nib_jv s, size_t at)
{
    return nib_jv_int(at == SIZE_MAX ? -1 : (int64_t)nib_jstr_length(r, nib_jstr_part(s, 0, at)));
}
static nib_jv find(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return string(r, p, 0) ? index_of(r, s, nib_jstr_find(r, s, 0, p->v[0])) : p->v[0];
}
static nib_jv rfind(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    return string(r, p, 0) ? index_of(r, s, find_last(r, s, p->v[0])) : p->v[0];
}
static nib_jv index_in(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    const nib_jv at = find(r, s, p);
    return r->rc || at.u.i >= 0 ? at : nib_jfail(r, "'index': the substring is not found");
}
static nib_jv count(nib_jrun *r, nib_jv s, const nib_jparams *p)
{
    int64_t n = 0;
    if (!string(r, p, 0)) return p->v[0];
    if (!p->v[0].n) return nib_jv_int((int64_t)nib_jstr_length(r, s) + 1);
    for (size_t at = 0; (at = nib_jstr_find(r, s, at, p->v[0])) != SIZE_MAX && !r->rc; n++)
        at += p->v[0].n;
    return nib_jv_int(n);
}

const nib_jmethod_row nib_jstr_methods[] = {
    {"strip", "chars", strip},
    {"lstrip", "chars", lstrip},
    {"rstrip", "chars", rstrip},
    {"upper", "", upper},
    {"lower", "", lower},
    {"title", "", title},
    {"capitalize", "", capitalize},
    {"swapcase", "", swapcase},
    {"isupper", "", is_upper},
    {"islower", "", is_lower},
    {"isspace", "", is_white},
    {"split", "sep maxsplit", split},
    {"rsplit", "sep maxsplit", rsplit},
    {"splitlines", "keepends", splitlines},
    {"partition", "sep", partition},
    {"rpartition", "sep", rpartition},
    {"replace", "old new count", replace},
    {"join", "iterable", join},
    {"startswith", "prefix", startswith},
    {"endswith", "suffix", endswith},
    {"removeprefix", "prefix", removeprefix},
    {"removesuffix", "suffix", removesuffix},
    {"find", "sub", find},
    {"rfind", "sub", rfind},
    {"index", "sub", index_in},
    {"count", "sub", count},
    {"format", NULL, NULL},
    /* Python's others */
    {"casefold", "", NULL},
    {"center", "", NULL},
    {"encode", "", NULL},
    {"expandtabs", "", NULL},
    {"format_map", "", NULL},
    {"isalnum", "", NULL},
    {"isalpha", "", NULL},
    {"isascii", "", NULL},
    {"isdecimal", "", NULL},
    {"isdigit", "", NULL},
    {"isidentifier", "", NULL},
    {"isnumeric", "", NULL},
    {"isprintable", "", NULL},
    {"istitle", "", NULL},
    {"ljust", "", NULL},
    {"maketrans", "", NULL},
    {"rindex", "", NULL},
    {"rjust", "", NULL},
    {"translate", "", NULL},
    {"zfill", "", NULL},
    {0},
};
