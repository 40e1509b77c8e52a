/* SPDX-License-Identifier: MIT */
/* infer/jinja_filter.c - filters; see jinja_impl.h. Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef nib_jv filter_fn(nib_jrun *r, nib_jv v, const nib_jparams *p);

/* ---- strings ---- */

/* The same marked as the string it comes from. */
static nib_jv as_safe(nib_jv v, nib_jv like)
{
    v.safe = v.kind == NIB_JV_STR && like.safe;
    return v;
}

static nib_jv string(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return nib_jv_to_str(r, v);
}
static nib_jv safe(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    v = nib_jv_to_str(r, v);
    v.safe = v.kind == NIB_JV_STR;
    return v;
}
static nib_jv escape(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_escape(r, nib_jv_to_str(r, v));
}
static nib_jv trim(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    return nib_jstr_strip(r, nib_jv_to_str(r, v), p->v[0], 0);
}
static nib_jv upper(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, nib_jv_to_str(r, v), NIB_JCASE_UPPER);
}
static nib_jv lower(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, nib_jv_to_str(r, v), NIB_JCASE_LOWER);
}
static nib_jv title(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    v = nib_jstr_case(r, nib_jv_to_str(r, v), NIB_JCASE_WORDS);
    v.safe = false;
    return v;
}
static nib_jv capitalize(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return nib_jstr_case(r, nib_jv_to_str(r, v), NIB_JCASE_CAPITAL);
}

static nib_jv replace(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    if (!p->given[0] || !p->given[1]) return nib_jfail(r, "'replace' wants two strings");
    const int64_t most = p->v[2].kind == NIB_JV_NONE ? -1 : nib_jint(r, p, 2, -1);
    return nib_jstr_replace(r, nib_jv_to_str(r, v), nib_jv_to_str(r, p->v[0]),
                            nib_jv_to_str(r, p->v[1]), most);
}

static nib_jv indent(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    enum { INDENT_MAX = 1 << 16 };
    const bool blank = nib_jflag(p, 2, false), first = nib_jflag(p, 1, false);
    nib_text t = {0}, by = {0};
    if (v.kind != NIB_JV_STR) return nib_jfail(r, "'indent' of a '%s'", nib_jv_type(v));
    if (p->v[0].kind == NIB_JV_STR)
        nib_jadd(r, &by, p->v[0].u.s, p->v[0].n);
    else
        for (int64_t i = nib_jint(r, p, 0, 4); i > 0 && i <= INDENT_MAX && !r->rc; i--)
            nib_jadds(r, &by, " ");
    nib_text whole = {0}; /* with a line break behind, as Jinja cuts it */
    nib_jadd(r, &whole, v.u.s, v.n);
    nib_jadds(r, &whole, "\n");
    const nib_jlist lines = *nib_jstr_lines(r, nib_jv_take(r, &whole)).u.list;
    for (size_t i = 0; i < lines.n && !r->rc; i++) {
        if (i) nib_jadds(r, &t, "\n");
        if (i ? blank || lines.v[i].n : first) nib_jadd(r, &t, by.p, by.n);
        nib_jadd(r, &t, lines.v[i].u.s, lines.v[i].n);
    }
    nib_free(by.p);
    return as_safe(nib_jv_take(r, &t), v);
}

static nib_jv wordcount(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jv s = nib_jv_to_str(r, v);
    int64_t n = 0;
    bool within = false;
    uint32_t cp;
    (void)p;
    nib_jcharge(r, s.n);
    for (size_t i = 0, k; i < s.n && (k = nib_utf8_get(s.u.s + i, s.n - i, &cp)); i += k) {
        n += nib_is_word(cp) && !within;
        within = nib_is_word(cp);
    }
    return nib_jv_int(n);
}

/* ---- numbers ---- */

/* The whole string s[n], but for white space around it, as a number; false: it is none. */
static bool read_number(nib_jv s, bool whole, double *f, int64_t *i)
{
    char text[64], *end;
    const size_t front = nib_jspace_front(s.u.s, s.n), back = nib_jspace_back(s.u.s, s.n);
    if (front == s.n || s.n - front - back >= sizeof text) return false;
    const size_t n = s.n - front - back;
    memcpy(text, s.u.s + front, n);
    text[n] = 0;
    if (strspn(text, whole ? "+-0123456789" : "+-0123456789.eE") != n) return false;
    if (whole) {
        if (n > 19) return false;
        *i = strtoll(text, &end, 10);
    } else {
        *f = strtod(text, &end);
    }
    return !*end && end > text;
}

static nib_jv to_int(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jv otherwise = p->given[0] ? p->v[0] : nib_jv_int(0);
    double f = 0;
    int64_t i;
    if (nib_jint(r, p, 1, 10) != 10)
        return nib_jfail(r, "'int' with another base than 10 is not supported");
    if (v.kind == NIB_JV_INT) return v;
    if (v.kind == NIB_JV_BOOL) return nib_jv_int(v.u.b);
    if (v.kind == NIB_JV_STR) {
        if (read_number(v, true, &f, &i)) return nib_jv_int(i);
        if (!read_number(v, false, &f, &i)) return otherwise;
    } else if (v.kind == NIB_JV_FLOAT) {
        f = v.u.f;
    } else if (v.kind == NIB_JV_UNDEFINED) {
        return nib_jfail(r, "%.*s", (int)v.n, v.u.s);
    } else {
        return otherwise;
    }
    if (!isfinite(f)) return otherwise;
    if (fabs(f) >= 0x1p62) return nib_jfail(r, "a whole number beyond 2^62");
    return nib_jv_int((int64_t)f);
}

static nib_jv to_float(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jv otherwise = p->given[0] ? p->v[0] : nib_jv_float(0);
    double f;
    int64_t i;
    if (v.kind == NIB_JV_UNDEFINED) return nib_jfail(r, "%.*s", (int)v.n, v.u.s);
    if (nib_jv_is_number(v)) return nib_jv_float(nib_jv_number(v));
    return v.kind == NIB_JV_STR && read_number(v, false, &f, &i) ? nib_jv_float(f) : otherwise;
}

static nib_jv absolute(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    if (v.kind == NIB_JV_FLOAT) return nib_jv_float(fabs(v.u.f));
    if (v.kind == NIB_JV_BOOL) return nib_jv_int(v.u.b);
    if (v.kind != NIB_JV_INT || v.u.i == INT64_MIN)
        return nib_jfail(r, "'abs' of a '%s'", nib_jv_type(v));
    return nib_jv_int(v.u.i < 0 ? -v.u.i : v.u.i);
}

static nib_jv round_to(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const int64_t digits = nib_jint(r, p, 0, 0);
    const nib_jv method = p->given[1] ? p->v[1] : nib_jv_word("common");
    const bool common = nib_jv_is(method, "common");
    if (!nib_jv_is_number(v) || digits < 0 || digits > 15)
        return nib_jfail(r, "'round' wants a number, and 0 to 15 digits");
    if (common && v.kind != NIB_JV_FLOAT) return nib_jv_int(v.kind == NIB_JV_INT ? v.u.i : v.u.b);
    const double x = nib_jv_number(v), unit = pow(10, (double)digits);
    if (nib_jv_is(method, "ceil")) return nib_jv_float(ceil(x * unit) / unit);
    if (nib_jv_is(method, "floor")) return nib_jv_float(floor(x * unit) / unit);
    if (!common) return nib_jfail(r, "'round' knows common, ceil and floor");
    /* As Python: the decimal nearest to the exact value. */
    char text[400];
    snprintf(text, sizeof text, "%.*f", (int)digits, x);
    return nib_jv_float(strtod(text, NULL));
}

/* ---- collections ---- */

static nib_jv length(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    size_t n;
    (void)p;
    if (!nib_jv_length(r, v, &n)) return nib_jfail(r, "a '%s' has no length", nib_jv_type(v));
    return nib_jv_int((int64_t)n);
}

static nib_jv default_to(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)r;
    if (v.kind != NIB_JV_UNDEFINED && (!nib_jflag(p, 1, false) || nib_jv_true(v))) return v;
    return p->given[0] ? p->v[0] : nib_jv_word("");
}

static nib_jv copy(nib_jrun *r, nib_jkind kind, nib_jlist items, bool reverse)
{
    nib_jv all = nib_jv_list(r, kind, items.n);
    nib_jcharge(r, 16 * items.n);
    for (size_t i = 0; i < all.u.list->n; i++)
        all.u.list->v[i] = items.v[reverse ? items.n - 1 - i : i];
    return all;
}

static nib_jv list(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    return copy(r, NIB_JV_LIST, nib_jv_items(r, v), false);
}

static nib_jv items(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    if (v.kind == NIB_JV_UNDEFINED) return nib_jv_list(r, NIB_JV_ITER, 0);
    if (v.kind != NIB_JV_DICT) return nib_jfail(r, "'items' of a '%s'", nib_jv_type(v));
    nib_jv all = nib_jv_list(r, NIB_JV_ITER, v.u.dict->n);
    nib_jcharge(r, 16 * v.u.dict->n);
    for (size_t i = 0; i < all.u.list->n; i++)
        all.u.list->v[i] = nib_jv_pair(r, v.u.dict->key[i], v.u.dict->value[i]);
    return all;
}

static nib_jv reverse(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    nib_jv all = copy(r, NIB_JV_ITER, nib_jv_items(r, v), true);
    (void)p;
    if (v.kind != NIB_JV_STR) return all;
    return nib_jstr_join(r, nib_jv_word(""), *all.u.list, false);
}

static nib_jv first(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    if (v.kind == NIB_JV_STR && v.n) return nib_jv_item(r, v, nib_jv_int(0));
    nib_jlist *left = v.kind == NIB_JV_ITER ? v.u.list : NULL;
    if (left && left->n) { /* the others are still to come */
        left->n--;
        return *left->v++;
    }
    const nib_jlist all = nib_jv_items(r, v);
    return all.n ? all.v[0] : nib_jv_undefined(r, "No first item, sequence was empty.");
}
static nib_jv last(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    (void)p;
    if (v.kind == NIB_JV_ITER) return nib_jfail(r, "'last' of a generator: make it a 'list' first");
    if (v.kind == NIB_JV_STR && v.n) return nib_jv_item(r, v, nib_jv_int(-1));
    const nib_jlist all = nib_jv_items(r, v);
    return all.n ? all.v[all.n - 1] : nib_jv_undefined(r, "No last item, sequence was empty.");
}

/* v.a.b.c for an attribute "a.b.c" or a number; with `otherwise`, in place of what is undefined. */
static nib_jv attribute_of(nib_jrun *r, nib_jv v, nib_jv attribute, const nib_jv *otherwise)
{
    size_t from = 0;
    if (attribute.kind == NIB_JV_INT) return nib_jv_item(r, v, attribute);
    if (attribute.kind != NIB_JV_STR)
        return nib_jfail(r, "an attribute is a string, found '%s'", nib_jv_type(attribute));
    while (from <= attribute.n && !r->rc) {
        const char *dot = memchr(attribute.u.s + from, '.', attribute.n - from);
        const size_t end = dot ? (size_t)(dot - attribute.u.s) : attribute.n;
        nib_jv part = nib_jstr_part(attribute, from, end);
        int64_t i;
        double f;
        if (part.n && isdigit((unsigned char)part.u.s[0]) && read_number(part, true, &f, &i))
            part = nib_jv_int(i);
        v = nib_jv_item(r, v, part);
        if (v.kind == NIB_JV_UNDEFINED && otherwise) v = *otherwise;
        from = end + 1;
    }
    return v;
}

static bool wanted(const nib_jparams *p, size_t i)
{
    return p->given[i] && p->v[i].kind != NIB_JV_NONE;
}

/* What items are compared by: themselves or an attribute, strings in lower case unless told. */
static nib_jv *keys_of(nib_jrun *r, nib_jlist all, const nib_jv *attribute, bool case_sensitive)
{
    nib_jv *key = nib_jalloc(r, all.n, sizeof *key);
    for (size_t i = 0; key && i < all.n && !r->rc; i++) {
        key[i] = attribute ? attribute_of(r, all.v[i], *attribute, NULL) : all.v[i];
        if (!case_sensitive && key[i].kind == NIB_JV_STR)
            key[i] = nib_jstr_case(r, key[i], NIB_JCASE_LOWER);
    }
    return r->rc ? NULL : key;
}

static nib_jv in_order(nib_jrun *r, nib_jlist all, const nib_jv *key, bool reverse_order)
{
    const size_t *at = key ? nib_jv_sorted(r, key, all.n, reverse_order) : NULL;
    nib_jv sorted = nib_jv_list(r, NIB_JV_LIST, all.n);
    for (size_t i = 0; at && i < sorted.u.list->n; i++) sorted.u.list->v[i] = all.v[at[i]];
    return r->rc ? nib_jv_of(NIB_JV_UNDEFINED) : sorted;
}

static nib_jv sort(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jlist all = nib_jv_items(r, v);
    if (p->v[2].kind == NIB_JV_STR && memchr(p->v[2].u.s, ',', p->v[2].n))
        return nib_jfail(r, "'sort' by several attributes is not supported");
    const nib_jv *key = keys_of(r, all, wanted(p, 2) ? &p->v[2] : NULL, nib_jflag(p, 1, false));
    return in_order(r, all, key, nib_jflag(p, 0, false));
}

static nib_jv dictsort(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const bool by_value = nib_jv_is(p->v[1], "value");
    if (v.kind != NIB_JV_DICT) return nib_jfail(r, "'dictsort' of a '%s'", nib_jv_type(v));
    if (p->given[1] && !by_value && !nib_jv_is(p->v[1], "key"))
        return nib_jfail(r, "'dictsort' sorts by 'key' or 'value'");
    const nib_jlist all = nib_jv_items(r, items(r, v, p));
    const nib_jv at = nib_jv_int(by_value);
    return in_order(r, all, keys_of(r, all, &at, nib_jflag(p, 0, false)), nib_jflag(p, 2, false));
}

static nib_jv unique(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jlist all = nib_jv_items(r, v);
    const nib_jv *key = keys_of(r, all, wanted(p, 1) ? &p->v[1] : NULL, nib_jflag(p, 0, false));
    nib_jv found = nib_jv_dict(r, 0);
    for (size_t i = 0; key && i < all.n && !r->rc; i++)
        if (nib_jdict_find(r, found.u.dict, key[i]) < 0)
            nib_jdict_put(r, found.u.dict, key[i], all.v[i]);
    if (r->rc) return nib_jv_of(NIB_JV_UNDEFINED);
    return copy(r, NIB_JV_ITER, (nib_jlist){.v = found.u.dict->value, .n = found.u.dict->n}, false);
}

static nib_jv extreme(nib_jrun *r, nib_jv v, const nib_jparams *p, int sign)
{
    const nib_jlist all = nib_jv_items(r, v);
    const nib_jv *key = keys_of(r, all, wanted(p, 1) ? &p->v[1] : NULL, nib_jflag(p, 0, false));
    size_t best = 0;
    if (!key) return nib_jv_of(NIB_JV_UNDEFINED);
    if (!all.n) return nib_jv_undefined(r, "No aggregated item, sequence was empty.");
    for (size_t i = 1; i < all.n && nib_jcharge(r, 16); i++)
        if (sign * nib_jv_order(r, key[i], key[best]) < 0) best = i;
    return all.v[best];
}
static nib_jv min(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    return extreme(r, v, p, 1);
}
static nib_jv max(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    return extreme(r, v, p, -1);
}

static nib_jv sum(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    const nib_jlist all = nib_jv_items(r, v);
    nib_jv total = p->given[1] ? p->v[1] : nib_jv_int(0);
    for (size_t i = 0; i < all.n && nib_jcharge(r, 16); i++) {
        const nib_jv x = wanted(p, 0) ? attribute_of(r, all.v[i], p->v[0], NULL) : all.v[i];
        if (!nib_jv_is_number(x) || !nib_jv_is_number(total))
            return nib_jfail(r, "'sum' wants numbers, found '%s'", nib_jv_type(x));
        if (x.kind == NIB_JV_FLOAT || total.kind == NIB_JV_FLOAT) {
            total = nib_jv_float(nib_jv_number(total) + nib_jv_number(x));
        } else {
            int64_t s, a = total.kind == NIB_JV_INT ? total.u.i : total.u.b,
                       b = x.kind == NIB_JV_INT ? x.u.i : x.u.b;
            if (__builtin_add_overflow(a, b, &s)) return nib_jfail(r, "a number beyond 2^63");
            total = nib_jv_int(s);
        }
    }
    return total;
}

static nib_jv join(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    nib_jlist all = nib_jv_items(r, v);
    if (wanted(p, 1)) {
        nib_jv *part = keys_of(r, all, &p->v[1], true);
        all.v = part;
        all.n = part ? all.n : 0;
    }
    const nib_jv between = p->given[0] ? nib_jv_to_str(r, p->v[0]) : nib_jv_word("");
    return nib_jstr_join(r, between, all, true);
}

static nib_jv tojson(nib_jrun *r, nib_jv v, const nib_jparams *p)
{
    enum { INDENT_MAX = 64 };
    static const char spaces[INDENT_MAX + 1] =
        "                                                                ";
    nib_text t = {0};
    nib_jdump how = {.ascii = nib_jflag(p, 0, false), .sort = nib_jflag(p, 3, false)};
    if (p->v[1].kind == NIB_JV_STR) {
        how.indent = p->v[1].u.s;
        how.n_indent = p->v[1].n;
    } else if (wanted(p, 1)) {
        const int64_t n = nib_jint(r, p, 1, 0);
        if (n > INDENT_MAX) return nib_jfail(r, "'tojson' with an indent above %d", INDENT_MAX);
        how.indent = spaces;
        how.n_indent = n > 0 ? (size_t)n : 0;
    }
    how.item = nib_jv_word(how.indent ? "," : ", ");
    how.colon = nib_jv_word(": ");
    if (wanted(p, 2)) {
        const nib_jlist two = nib_jv_items(r, p->v[2]);
        if (two.n != 2 || two.v[0].kind != NIB_JV_STR || two.v[1].kind != NIB_JV_STR)
            return nib_jfail(r, "'tojson' wants two strings as separators");
        how.item = two.v[0];
        how.colon = two.v[1];
    }
    nib_jv_dump(r, &t, v, &how);
    return nib_jv_take(r, &t);
}

/* ---- filters of all items ---- */

/* Arguments but for the first `n` by position. */
static void rest_of(nib_jargs *rest, const nib_jargs *args, size_t n)
{
    *rest = *args;
    rest->n -= n;
    memmove(rest->v, args->v + n, (rest->n + rest->n_named) * sizeof *rest->v);
    memmove(rest->name, args->name + n, (rest->n + rest->n_named) * sizeof *rest->name);
}

/* What is not true, None for one, has no items here. */
static nib_jlist items_if_any(nib_jrun *r, nib_jv v)
{
    return nib_jv_true(v) ? nib_jv_items(r, v) : (nib_jlist){0};
}

static nib_jv map(nib_jrun *r, nib_jv v, const nib_jargs *args)
{
    const nib_jlist all = items_if_any(r, v);
    nib_jv out = nib_jv_list(r, NIB_JV_ITER, all.n);
    nib_jargs rest;
    nib_jparams p;
    if (args->n) {
        rest_of(&rest, args, 1);
        for (size_t i = 0; i < out.u.list->n && !r->rc; i++)
            out.u.list->v[i] = nib_jfilter(r, args->v[0], all.v[i], &rest);
        return out;
    }
    if (!nib_jbind(r, &p, args, "map", "attribute default")) return p.v[0];
    if (!p.given[0]) return nib_jfail(r, "'map' wants a filter or an attribute");
    for (size_t i = 0; i < out.u.list->n && !r->rc; i++)
        out.u.list->v[i] = attribute_of(r, all.v[i], p.v[0], wanted(&p, 1) ? &p.v[1] : NULL);
    return out;
}

/* Items, or those with an attribute, that pass a test, or are true; or that do not. */
static nib_jv choose(nib_jrun *r, nib_jv v, const nib_jargs *args, bool by_attribute, bool keep)
{
    const nib_jlist all = items_if_any(r, v);
    const size_t off = by_attribute;
    nib_jv out = nib_jv_list(r, NIB_JV_ITER, all.n);
    nib_jargs rest;
    size_t n = 0;
    if (args->n < off) return nib_jfail(r, "the attribute's name is missing");
    const bool tested = args->n > off;
    if (tested) rest_of(&rest, args, off + 1);
    for (size_t i = 0; i < out.u.list->n && nib_jcharge(r, 16); i++) {
        const nib_jv x = by_attribute ? attribute_of(r, all.v[i], args->v[0], NULL) : all.v[i];
        if (r->rc) break;
        const bool yes = tested ? nib_jtest(r, args->v[off], x, &rest) : nib_jv_true(x);
        if (yes == keep) out.u.list->v[n++] = all.v[i];
    }
    out.u.list->n = n;
    return out;
}

/* ---- the table ---- */

static const struct {
    const char *name, *params;
    filter_fn *filter;
} filters[] = {
    {"abs", "", absolute},
    {"capitalize", "", capitalize},
    {"count", "", length},
    {"d", "default_value boolean", default_to},
    {"default", "default_value boolean", default_to},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"e", "", escape},
    {"escape", "", escape},
    {"first", "", first},
    {"float", "default", to_float},
    {"indent", "width first blank", indent},
    {"int", "default base", to_int},
    {"items", "", items},
    {"join", "d attribute", join},
    {"last", "", last},
    {"length", "", length},
    {"list", "", list},
    {"lower", "", lower},
    {"max", "case_sensitive attribute", max},
    {"min", "case_sensitive attribute", min},
    {"replace", "old new count", replace},
    {"reverse", "", reverse},
    {"round", "precision method", round_to},
    {"safe", "", safe},
    {"sort", "reverse case_sensitive attribute", sort},
    {"string", "", string},
    {"sum", "attribute start", sum},
    {"title", "", title},
    {"tojson", "ensure_ascii indent separators sort_keys", tojson},
    {"trim", "chars", trim},
    {"unique", "case_sensitive attribute", unique},
    {"upper", "", upper},
    {"wordcount", "", wordcount},
};

static const struct {
    const char *name;
    bool by_attribute, keep;
} choosing[] = {{"select", false, true},
                {"reject", false, false},
                {"selectattr", true, true},
                {"rejectattr", true, false}};

static nib_jv apply(nib_jrun *r, nib_jv name, nib_jv v, const nib_jargs *args)
{
    nib_jparams p;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (!nib_jv_is(name, filters[i].name)) continue;
        if (!nib_jbind(r, &p, args, filters[i].name, filters[i].params)) return p.v[0];
        return filters[i].filter(r, v, &p);
    }
    for (size_t i = 0; i < sizeof choosing / sizeof *choosing; i++)
        if (nib_jv_is(name, choosing[i].name))
            return choose(r, v, args, choosing[i].by_attribute, choosing[i].keep);
    if (nib_jv_is(name, "map")) return map(r, v, args);
    return nib_jfail(r, "the filter '%.*s' is not supported", (int)(name.n < 60 ? name.n : 60),
                     name.kind == NIB_JV_STR ? name.u.s : "");
}

bool nib_jfilter_known(nib_jv name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (nib_jv_is(name, filters[i].name)) return true;
    for (size_t i = 0; i < sizeof choosing / sizeof *choosing; i++)
        if (nib_jv_is(name, choosing[i].name)) return true;
    return nib_jv_is(name, "map");
}

nib_jv nib_jfilter(nib_jrun *r, nib_jv name, nib_jv v, const nib_jargs *args)
{
    if (r->rc || !nib_jenter(r)) return nib_jv_of(NIB_JV_UNDEFINED);
    nib_jv out = apply(r, name, v, args);
    nib_jleave(r);
    return out;
}
