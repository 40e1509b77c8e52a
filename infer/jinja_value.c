/* SPDX-License-Identifier: MIT */
/* infer/jinja_value.c - values of templates: truth, equality, order, and how they are written, as
 * Python's of the same kinds; see jinja_impl.h. Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

nib_jv nib_jv_word(const char *s)
{
    return nib_jv_str(s, strlen(s));
}

nib_jv nib_jv_take(nib_jrun *r, nib_text *t)
{
    char *p = nib_jalloc(r, t->n + 1, 1);
    if (p && t->n) memcpy(p, t->p, t->n);
    nib_jv v = p ? nib_jv_str(p, t->n) : nib_jv_of(NIB_JV_UNDEFINED);
    nib_free(t->p);
    *t = (nib_text){0};
    return v;
}

nib_jv nib_jv_undefined(nib_jrun *r, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    const size_t n = strlen(what);
    char *p = nib_jalloc(r, n + 1, 1);
    if (!p) return nib_jv_of(NIB_JV_UNDEFINED);
    memcpy(p, what, n + 1);
    nib_jv v = nib_jv_str(p, n);
    v.kind = NIB_JV_UNDEFINED;
    return v;
}

nib_jv nib_jv_list(nib_jrun *r, nib_jkind kind, size_t n)
{
    nib_jv v = nib_jv_of(kind);
    nib_jlist *l = nib_jalloc(r, 1, sizeof *l);
    if (l) *l = (nib_jlist){.v = nib_jalloc(r, n, sizeof *l->v), .n = n};
    if (l && !l->v) l->n = 0;
    v.u.list = l ? l : &r->none;
    return v;
}

nib_jv nib_jv_pair(nib_jrun *r, nib_jv a, nib_jv b)
{
    nib_jv v = nib_jv_list(r, NIB_JV_TUPLE, 2);
    if (!v.u.list->v) return v;
    v.u.list->v[0] = a;
    v.u.list->v[1] = b;
    return v;
}

nib_jv nib_jv_dict(nib_jrun *r, size_t n)
{
    nib_jv v = nib_jv_of(NIB_JV_DICT);
    nib_jdict *d = nib_jalloc(r, 1, sizeof *d);
    if (!d) return nib_jv_of(NIB_JV_UNDEFINED);
    *d = (nib_jdict){.key = nib_jalloc(r, n, sizeof *d->key),
                     .value = nib_jalloc(r, n, sizeof *d->value),
                     .cap = n};
    if (!d->key || !d->value) return nib_jv_of(NIB_JV_UNDEFINED);
    v.u.dict = d;
    return v;
}

/* ---- asking ---- */

bool nib_jv_is(nib_jv v, const char *word)
{
    return v.kind == NIB_JV_STR && v.n == strlen(word) && !memcmp(v.u.s, word, v.n);
}

bool nib_jv_is_list(nib_jv v)
{
    return v.kind >= NIB_JV_LIST && v.kind <= NIB_JV_ITER;
}

bool nib_jv_is_number(nib_jv v)
{
    return v.kind >= NIB_JV_BOOL && v.kind <= NIB_JV_FLOAT;
}

double nib_jv_number(nib_jv v)
{
    return v.kind == NIB_JV_FLOAT ? v.u.f : v.kind == NIB_JV_INT ? (double)v.u.i : v.u.b;
}

const char *nib_jv_type(nib_jv v)
{
    static const char *const names[] = {
        [NIB_JV_UNDEFINED] = "Undefined", [NIB_JV_NONE] = "NoneType",
        [NIB_JV_BOOL] = "bool",           [NIB_JV_INT] = "int",
        [NIB_JV_FLOAT] = "float",         [NIB_JV_STR] = "str",
        [NIB_JV_LIST] = "list",           [NIB_JV_TUPLE] = "tuple",
        [NIB_JV_RANGE] = "range",         [NIB_JV_VIEW] = "view of a dict",
        [NIB_JV_ITER] = "generator",      [NIB_JV_DICT] = "dict",
        [NIB_JV_NAMESPACE] = "Namespace", [NIB_JV_LOOP] = "LoopContext",
        [NIB_JV_MACRO] = "Macro",         [NIB_JV_FUNCTION] = "function",
        [NIB_JV_METHOD] = "method",
    };
    return names[v.kind];
}

bool nib_jv_true(nib_jv v)
{
    switch (v.kind) {
    case NIB_JV_UNDEFINED:
    case NIB_JV_NONE: return false;
    case NIB_JV_BOOL: return v.u.b;
    case NIB_JV_INT: return v.u.i;
    case NIB_JV_FLOAT: return v.u.f < 0 || v.u.f > 0 || isnan(v.u.f);
    case NIB_JV_STR: return v.n;
    case NIB_JV_LIST:
    case NIB_JV_TUPLE:
    case NIB_JV_RANGE:
    case NIB_JV_VIEW: return v.u.list->n;
    case NIB_JV_DICT: return v.u.dict->n;
    default: return true;
    }
}

bool nib_jv_length(nib_jrun *r, nib_jv v, size_t *n)
{
    *n = 0;
    switch (v.kind) {
    case NIB_JV_UNDEFINED: return true;
    case NIB_JV_STR: *n = nib_jstr_length(r, v); return true;
    case NIB_JV_LIST:
    case NIB_JV_TUPLE:
    case NIB_JV_RANGE:
    case NIB_JV_VIEW: *n = v.u.list->n; return true;
    case NIB_JV_DICT: *n = v.u.dict->n; return true;
    case NIB_JV_LOOP: *n = v.u.loop->n; return true;
    default: return false;
    }
}

/* ---- equality and order ---- */

static bool equal_numbers(nib_jv a, nib_jv b)
{
    if (a.kind != NIB_JV_FLOAT && b.kind != NIB_JV_FLOAT)
        return (a.kind == NIB_JV_INT ? a.u.i : a.u.b) == (b.kind == NIB_JV_INT ? b.u.i : b.u.b);
    const double x = nib_jv_number(a), y = nib_jv_number(b);
    return !(x < y) && !(x > y) && !isnan(x) && !isnan(y);
}

static bool equal_dicts(nib_jrun *r, const nib_jdict *a, const nib_jdict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n && !r->rc; i++) {
        const ptrdiff_t at = nib_jdict_find(r, b, a->key[i]);
        if (at < 0 || !nib_jv_equal(r, a->value[i], b->value[at])) return false;
    }
    return true;
}

static bool equal_lists(nib_jrun *r, const nib_jlist *a, const nib_jlist *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n && !r->rc; i++)
        if (!nib_jv_equal(r, a->v[i], b->v[i])) return false;
    return true;
}

bool nib_jv_equal(nib_jrun *r, nib_jv a, nib_jv b)
{
    if (nib_jv_is_number(a) && nib_jv_is_number(b)) return equal_numbers(a, b);
    if (a.kind != b.kind) return false;
    if (a.kind == NIB_JV_UNDEFINED || a.kind == NIB_JV_NONE) return true;
    if (a.kind == NIB_JV_STR) {
        if (a.n != b.n || !nib_jcharge(r, a.n)) return false;
        return !memcmp(a.u.s, b.u.s, a.n);
    }
    if (!nib_jenter(r)) return false;
    bool same = a.kind == NIB_JV_DICT ? equal_dicts(r, a.u.dict, b.u.dict)
                : a.kind == NIB_JV_LIST || a.kind == NIB_JV_TUPLE || a.kind == NIB_JV_RANGE
                    ? equal_lists(r, a.u.list, b.u.list)
                : a.kind == NIB_JV_NAMESPACE ? a.u.space == b.u.space
                                             : a.u.list == b.u.list;
    nib_jleave(r);
    return same;
}

static int order_lists(nib_jrun *r, const nib_jlist *a, const nib_jlist *b)
{
    size_t i = 0;
    while (i < a->n && i < b->n && !r->rc && nib_jv_equal(r, a->v[i], b->v[i])) i++;
    if (i < a->n && i < b->n && !r->rc) return nib_jv_order(r, a->v[i], b->v[i]);
    return (a->n > b->n) - (a->n < b->n);
}

int nib_jv_order(nib_jrun *r, nib_jv a, nib_jv b)
{
    if (nib_jv_is_number(a) && nib_jv_is_number(b)) {
        if (a.kind == NIB_JV_INT && b.kind == NIB_JV_INT) return (a.u.i > b.u.i) - (a.u.i < b.u.i);
        const double x = nib_jv_number(a), y = nib_jv_number(b);
        return (x > y) - (x < y);
    }
    if (a.kind == NIB_JV_STR && b.kind == NIB_JV_STR) {
        const size_t n = a.n < b.n ? a.n : b.n;
        nib_jcharge(r, n);
        const int c = memcmp(a.u.s, b.u.s, n);
        return c ? c : (a.n > b.n) - (a.n < b.n);
    }
    if (a.kind == b.kind && (a.kind == NIB_JV_LIST || a.kind == NIB_JV_TUPLE)) {
        if (!nib_jenter(r)) return 0;
        const int c = order_lists(r, a.u.list, b.u.list);
        nib_jleave(r);
        return c;
    }
    if (a.kind == NIB_JV_UNDEFINED || b.kind == NIB_JV_UNDEFINED)
        nib_jfail(r, "%.*s", (int)(a.kind ? b.n : a.n), a.kind ? b.u.s : a.u.s);
    else
        nib_jfail(r, "'%s' and '%s' have no order", nib_jv_type(a), nib_jv_type(b));
    return 0;
}

/* Merge at[0..half) and at[half..n) by way of room[n]. */
static void merge(nib_jrun *r, const nib_jv *v, size_t *at, size_t *room, size_t half, size_t n,
                  int sign)
{
    size_t a = 0, b = half, to = 0;
    while (a < half && b < n && nib_jcharge(r, 16))
        room[to++] = sign * nib_jv_order(r, v[at[b]], v[at[a]]) < 0 ? at[b++] : at[a++];
    while (a < half) room[to++] = at[a++];
    while (b < n) room[to++] = at[b++];
    memcpy(at, room, n * sizeof *at);
}

size_t *nib_jv_sorted(nib_jrun *r, const nib_jv *v, size_t n, bool reverse)
{
    size_t *at = nib_jalloc(r, n, sizeof *at), *room = nib_jalloc(r, n, sizeof *room);
    if (!at || !room) return NULL;
    for (size_t i = 0; i < n; i++) at[i] = i;
    for (size_t half = 1; half < n && !r->rc; half *= 2)
        for (size_t i = 0; i + half < n; i += 2 * half)
            merge(r, v, at + i, room, half, n - i < 2 * half ? n - i : 2 * half, reverse ? -1 : 1);
    return r->rc ? NULL : at;
}

bool nib_jv_in(nib_jrun *r, nib_jv a, nib_jv all)
{
    if (all.kind == NIB_JV_STR) {
        if (a.kind == NIB_JV_STR) return nib_jstr_find(r, all, 0, a) != SIZE_MAX;
        nib_jfail(r, "'in' a string wants a string, found '%s'", nib_jv_type(a));
        return false;
    }
    if (all.kind == NIB_JV_DICT) return nib_jdict_find(r, all.u.dict, a) >= 0;
    const nib_jlist items = nib_jv_items(r, all);
    for (size_t i = 0; i < items.n && nib_jcharge(r, 16); i++)
        if (nib_jv_equal(r, a, items.v[i])) return true;
    return false;
}

/* ---- items ---- */

bool nib_jv_iterable(nib_jv v)
{
    return nib_jv_is_list(v) || v.kind == NIB_JV_STR || v.kind == NIB_JV_DICT ||
           v.kind == NIB_JV_UNDEFINED || v.kind == NIB_JV_LOOP;
}

static nib_jlist characters(nib_jrun *r, nib_jv s)
{
    nib_jv all = nib_jv_list(r, NIB_JV_LIST, nib_jstr_length(r, s));
    uint32_t cp;
    for (size_t at = 0, i = 0, k; i < all.u.list->n; at += k, i++) {
        k = nib_utf8_get(s.u.s + at, s.n - at, &cp);
        all.u.list->v[i] = nib_jv_str(s.u.s + at, k);
    }
    return *all.u.list;
}

nib_jlist nib_jv_items(nib_jrun *r, nib_jv v)
{
    nib_jlist none = {0};
    if (v.kind == NIB_JV_UNDEFINED) return none;
    if (v.kind == NIB_JV_STR) return characters(r, v);
    if (v.kind == NIB_JV_DICT) return (nib_jlist){.v = v.u.dict->key, .n = v.u.dict->n};
    if (v.kind == NIB_JV_ITER) {
        nib_jlist left = *v.u.list;
        v.u.list->n = 0;
        return left;
    }
    if (nib_jv_is_list(v)) return *v.u.list;
    nib_jfail(r, "'%s' is not iterable", nib_jv_type(v));
    return none;
}

/* ---- dicts ---- */

static bool can_be_key(nib_jrun *r, nib_jv key)
{
    if (key.kind == NIB_JV_TUPLE) {
        bool ok = nib_jenter(r);
        for (size_t i = 0; ok && i < key.u.list->n; i++) ok = can_be_key(r, key.u.list->v[i]);
        nib_jleave(r);
        return ok;
    }
    if (key.kind <= NIB_JV_STR && key.kind != NIB_JV_UNDEFINED) return true;
    nib_jfail(r, "a '%s' cannot be the key of a dict", nib_jv_type(key));
    return false;
}

ptrdiff_t nib_jdict_find(nib_jrun *r, const nib_jdict *d, nib_jv key)
{
    if (key.kind == NIB_JV_UNDEFINED) return -1;
    if (!can_be_key(r, key)) return -1;
    for (size_t i = 0; i < d->n && nib_jcharge(r, 4); i++) {
        if (key.kind == NIB_JV_STR && (d->key[i].kind != NIB_JV_STR || d->key[i].n != key.n ||
                                       memcmp(d->key[i].u.s, key.u.s, key.n)))
            continue;
        if (key.kind == NIB_JV_STR || nib_jv_equal(r, d->key[i], key)) return (ptrdiff_t)i;
    }
    return -1;
}

static bool grow(nib_jrun *r, nib_jdict *d)
{
    const size_t cap = d->cap ? 2 * d->cap : 8;
    nib_jv *key = nib_jalloc(r, cap, sizeof *key), *value = nib_jalloc(r, cap, sizeof *value);
    if (!key || !value) return false;
    if (d->n) {
        memcpy(key, d->key, d->n * sizeof *key);
        memcpy(value, d->value, d->n * sizeof *value);
    }
    d->key = key;
    d->value = value;
    d->cap = cap;
    return true;
}

void nib_jdict_put(nib_jrun *r, nib_jdict *d, nib_jv key, nib_jv value)
{
    if (!can_be_key(r, key)) return;
    const ptrdiff_t at = nib_jdict_find(r, d, key);
    if (r->rc) return;
    if (at >= 0) {
        d->value[at] = value;
        return;
    }
    if (d->n == d->cap && !grow(r, d)) return;
    d->key[d->n] = key;
    d->value[d->n++] = value;
}

/* ---- attributes and items ---- */

static nib_jv no_attribute(nib_jrun *r, nib_jv v, nib_jv name)
{
    if (v.kind == NIB_JV_NONE)
        return nib_jv_undefined(r, "None has no attribute '%.*s'", (int)name.n, name.u.s);
    return nib_jv_undefined(r, "'%s object' has no attribute '%.*s'", nib_jv_type(v), (int)name.n,
                            name.u.s);
}

static bool loop_attribute(nib_jrun *r, const nib_jloop *l, nib_jv name, nib_jv *out)
{
    const int64_t at = (int64_t)l->at, n = (int64_t)l->n;
    const struct {
        const char *name;
        nib_jv value;
    } all[] = {
        {"index", nib_jv_int(at + 1)},
        {"index0", nib_jv_int(at)},
        {"revindex", nib_jv_int(n - at)},
        {"revindex0", nib_jv_int(n - at - 1)},
        {"first", nib_jv_bool(at == 0)},
        {"last", nib_jv_bool(at + 1 == n)},
        {"length", nib_jv_int(n)},
        {"depth", nib_jv_int(l->depth)},
        {"depth0", nib_jv_int(l->depth - 1)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (nib_jv_is(name, all[i].name)) return *out = all[i].value, true;
    if (nib_jv_is(name, "previtem"))
        *out = at ? l->item[at - 1] : nib_jv_undefined(r, "there is no previous item");
    else if (nib_jv_is(name, "nextitem"))
        *out = at + 1 < n ? l->item[at + 1] : nib_jv_undefined(r, "there is no next item");
    else
        return false;
    return true;
}

/* What Python's getattr() would find; false: nothing. */
static bool own_attribute(nib_jrun *r, nib_jv v, nib_jv name, nib_jv *out)
{
    if (v.kind == NIB_JV_NAMESPACE) {
        const ptrdiff_t at = nib_jdict_find(r, &v.u.space->names, name);
        if (at >= 0) *out = v.u.space->names.value[at];
        return at >= 0;
    }
    if (v.kind == NIB_JV_LOOP && loop_attribute(r, v.u.loop, name, out)) return true;
    if (v.kind == NIB_JV_MACRO && nib_jv_is(name, "name")) {
        *out = v.u.macro->node->value;
        return true;
    }
    return nib_jmethod_find(r, v, name, out);
}

static nib_jv undefined_used(nib_jrun *r, nib_jv v)
{
    return nib_jfail(r, "%.*s", (int)v.n, v.u.s);
}

nib_jv nib_jv_attr(nib_jrun *r, nib_jv v, nib_jv name)
{
    nib_jv out;
    if (v.kind == NIB_JV_UNDEFINED) return undefined_used(r, v);
    if (own_attribute(r, v, name, &out)) return out;
    const ptrdiff_t at = v.kind == NIB_JV_DICT ? nib_jdict_find(r, v.u.dict, name) : -1;
    return at < 0 ? no_attribute(r, v, name) : v.u.dict->value[at];
}

static nib_jv character(nib_jrun *r, nib_jv s, int64_t i)
{
    uint32_t cp;
    const int64_t n = (int64_t)nib_jstr_length(r, s);
    if (i < 0) i += n;
    if (i < 0 || i >= n)
        return nib_jv_undefined(r, "the string has no character %lld", (long long)i);
    const size_t at = nib_jstr_at(r, s, (size_t)i);
    return nib_jstr_part(s, at, at + nib_utf8_get(s.u.s + at, s.n - at, &cp));
}

nib_jv nib_jv_item(nib_jrun *r, nib_jv v, nib_jv key)
{
    nib_jv out;
    if (v.kind == NIB_JV_UNDEFINED) return undefined_used(r, v);
    if (v.kind == NIB_JV_DICT && key.kind <= NIB_JV_TUPLE && key.kind != NIB_JV_LIST) {
        const ptrdiff_t at = nib_jdict_find(r, v.u.dict, key);
        if (at >= 0) return v.u.dict->value[at];
    } else if (key.kind == NIB_JV_INT || key.kind == NIB_JV_BOOL) {
        int64_t i = key.kind == NIB_JV_INT ? key.u.i : key.u.b;
        if (v.kind == NIB_JV_STR) return character(r, v, i);
        if (v.kind == NIB_JV_LIST || v.kind == NIB_JV_TUPLE || v.kind == NIB_JV_RANGE) {
            if (i < 0) i += (int64_t)v.u.list->n;
            if (i >= 0 && i < (int64_t)v.u.list->n) return v.u.list->v[i];
        }
    }
    if (key.kind == NIB_JV_STR) {
        if (own_attribute(r, v, key, &out)) return out;
        return no_attribute(r, v, key);
    }
    return nib_jv_undefined(r, "'%s object' has no such element", nib_jv_type(v));
}

/* ---- writing ---- */

/* Python's repr(): the fewest digits that read as the same number. */
void nib_jwrite_float(char text[NIB_JNUMBER_MAX], double f)
{
    char e[NIB_JNUMBER_MAX];
    int digits = 1;
    if (!isfinite(f)) {
        snprintf(text, NIB_JNUMBER_MAX, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (;; digits++) {
        snprintf(e, sizeof e, "%.*e", digits - 1, f);
        if (digits == 17 || !(strtod(e, NULL) < f || strtod(e, NULL) > f)) break;
    }
    const int exponent = atoi(strchr(e, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = digits - 1 - exponent;
        snprintf(text, NIB_JNUMBER_MAX, "%.*f", decimals > 1 ? decimals : 1, f);
    } else {
        snprintf(text, NIB_JNUMBER_MAX, "%.*s%s%02d", (int)(strchr(e, 'e') - e), e,
                 exponent < 0 ? "e-" : "e+", abs(exponent));
    }
}

static void write_quoted(nib_jrun *r, nib_text *t, nib_jv s)
{
    static const char escapes[] = "\n\\n\t\\t\r\\r\\\\\\";
    const bool single = memchr(s.u.s, '\'', s.n), both = single && memchr(s.u.s, '"', s.n);
    const char quote = single && !both ? '"' : '\'';
    char text[16];
    uint32_t cp;
    nib_jadd(r, t, &quote, 1);
    for (size_t i = 0, k; i < s.n && !r->rc; i += k) {
        k = nib_utf8_get(s.u.s + i, s.n - i, &cp);
        const char *e = NULL;
        for (const char *p = escapes; *p && !e; p += 3)
            if (cp == (unsigned char)*p) e = p + 1;
        if (e) {
            nib_jadd(r, t, e, 2);
        } else if (cp == (unsigned char)quote) {
            nib_jadds(r, t, quote == '"' ? "\\\"" : "\\'");
        } else if (nib_is_printable(cp)) {
            nib_jadd(r, t, s.u.s + i, k);
        } else {
            snprintf(text, sizeof text,
                     cp < 0x100     ? "\\x%02" PRIx32
                     : cp < 0x10000 ? "\\u%04" PRIx32
                                    : "\\U%08" PRIx32,
                     cp);
            nib_jadds(r, t, text);
        }
    }
    nib_jadd(r, t, &quote, 1);
}

static void write_items(nib_jrun *r, nib_text *t, const nib_jlist *l, const char *open,
                        const char *close)
{
    nib_jadds(r, t, open);
    for (size_t i = 0; i < l->n && !r->rc; i++) {
        if (i) nib_jadds(r, t, ", ");
        nib_jv_write(r, t, l->v[i], true);
    }
    nib_jadds(r, t, close);
}

static void write_dict(nib_jrun *r, nib_text *t, const nib_jdict *d)
{
    nib_jadds(r, t, "{");
    for (size_t i = 0; i < d->n && !r->rc; i++) {
        if (i) nib_jadds(r, t, ", ");
        nib_jv_write(r, t, d->key[i], true);
        nib_jadds(r, t, ": ");
        nib_jv_write(r, t, d->value[i], true);
    }
    nib_jadds(r, t, "}");
}

static void write_collection(nib_jrun *r, nib_text *t, nib_jv v)
{
    if (!nib_jenter(r)) return;
    switch (v.kind) {
    case NIB_JV_LIST: write_items(r, t, v.u.list, "[", "]"); break;
    case NIB_JV_TUPLE: write_items(r, t, v.u.list, "(", v.u.list->n == 1 ? ",)" : ")"); break;
    case NIB_JV_VIEW:
        nib_jadds(r, t, v.u.list->view);
        write_items(r, t, v.u.list, "([", "])");
        break;
    case NIB_JV_DICT: write_dict(r, t, v.u.dict); break;
    case NIB_JV_NAMESPACE:
        nib_jadds(r, t, "<Namespace ");
        write_dict(r, t, &v.u.space->names);
        nib_jadds(r, t, ">");
        break;
    default: nib_jfail(r, "a '%s' cannot be written as text", nib_jv_type(v));
    }
    nib_jleave(r);
}

void nib_jv_write(nib_jrun *r, nib_text *t, nib_jv v, bool repr)
{
    char text[NIB_JNUMBER_MAX];
    switch (v.kind) {
    case NIB_JV_UNDEFINED:
        if (repr) nib_jadds(r, t, "Undefined");
        break;
    case NIB_JV_NONE: nib_jadds(r, t, "None"); break;
    case NIB_JV_BOOL: nib_jadds(r, t, v.u.b ? "True" : "False"); break;
    case NIB_JV_INT:
        snprintf(text, sizeof text, "%" PRId64, v.u.i);
        nib_jadds(r, t, text);
        break;
    case NIB_JV_FLOAT:
        nib_jwrite_float(text, v.u.f);
        nib_jadds(r, t, text);
        break;
    case NIB_JV_STR:
        if (repr && v.safe) nib_jadds(r, t, "Markup(");
        if (repr)
            write_quoted(r, t, v);
        else
            nib_jadd(r, t, v.u.s, v.n);
        if (repr && v.safe) nib_jadds(r, t, ")");
        break;
    default: write_collection(r, t, v);
    }
}

nib_jv nib_jv_to_str(nib_jrun *r, nib_jv v)
{
    nib_text t = {0};
    if (v.kind == NIB_JV_STR) return v;
    nib_jv_write(r, &t, v, false);
    return nib_jv_take(r, &t);
}
