/* SPDX-License-Identifier: MIT */
/* infer/jinja_json.c - values of templates from JSON and back; see jinja_impl.h.
 * Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- from JSON ---- */

static nib_jv number(nib_jrun *r, const nib_json *j)
{
    int64_t i;
    double f;
    if (nib_json_i64(j, &i)) return nib_jv_int(i);
    if (nib_json_is_real(j) && nib_json_num(j, &f)) return nib_jv_float(f);
    return nib_jfail(r, "a number in the data that is not finite, or a whole one beyond 2^53");
}

static nib_jv collection(nib_jrun *r, const nib_json *j)
{
    const bool object = nib_json_is_object(j);
    const size_t n = nib_json_count(j);
    nib_jv v = object ? nib_jv_dict(r, n) : nib_jv_list(r, NIB_JV_LIST, n);
    size_t i = 0;
    for (const nib_json *c = nib_json_first(j); c && !r->rc; c = nib_json_next(c), i++) {
        const nib_jv item = nib_jv_from_json(r, c);
        if (r->rc) break;
        if (!object) {
            v.u.list->v[i] = item;
            continue;
        }
        v.u.dict->key[i] = nib_jv_word(nib_json_key(c)); /* each is there once */
        v.u.dict->value[i] = item;
        v.u.dict->n = i + 1;
    }
    return r->rc ? nib_jv_of(NIB_JV_UNDEFINED) : v;
}

nib_jv nib_jv_from_json(nib_jrun *r, const nib_json *j)
{
    const char *s;
    bool b;
    if (!j || nib_json_is_null(j)) return nib_jv_of(NIB_JV_NONE);
    if (nib_json_str(j, &s)) {
        const size_t n = strlen(s);
        return n < NIB_JINJA_MEMORY_MAX ? nib_jv_str(s, n)
                                        : nib_jfail(r, "a string that is too long");
    }
    if (nib_json_bool(j, &b)) return nib_jv_bool(b);
    if (!nib_json_is_object(j) && !nib_json_is_array(j)) return number(r, j);
    nib_jv v = nib_jenter(r) ? collection(r, j) : nib_jv_of(NIB_JV_UNDEFINED);
    nib_jleave(r);
    return v;
}

/* ---- to JSON ---- */

static void dump_string(nib_jrun *r, nib_text *t, nib_jv s, bool ascii)
{
    static const char escapes[] = "\"\\\"\\\\\\\n\\n\r\\r\t\\t\b\\b\f\\f";
    char text[16];
    uint32_t cp;
    size_t plain = 0; /* from here to i nothing is to be escaped */
    nib_jadds(r, t, "\"");
    for (size_t i = 0, k; i < s.n && !r->rc; i += k) {
        if (!(k = nib_utf8_get(s.u.s + i, s.n - i, &cp))) break;
        if (cp >= 0x20 && cp != '"' && cp != '\\' && !(ascii && cp > 0x7E)) continue;
        nib_jadd(r, t, s.u.s + plain, i - plain);
        plain = i + k;
        const char *e = escapes;
        while (*e && cp != (unsigned char)*e) e += 3;
        if (*e)
            snprintf(text, sizeof text, "%.2s", e + 1);
        else if (cp < 0x10000)
            snprintf(text, sizeof text, "\\u%04" PRIx32, cp);
        else
            snprintf(text, sizeof text, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xD7C0 + (cp >> 10),
                     0xDC00 + (cp & 0x3FF));
        nib_jadds(r, t, text);
    }
    nib_jadd(r, t, s.u.s + plain, s.n - plain);
    nib_jadds(r, t, "\"");
}

static void new_line(nib_jrun *r, nib_text *t, const nib_jdump *how, unsigned level)
{
    if (!how->indent) return;
    nib_jadds(r, t, "\n");
    while (level-- && !r->rc) nib_jadd(r, t, how->indent, how->n_indent);
}

/* A key, which JSON wants to be a string. */
static void dump_key(nib_jrun *r, nib_text *t, nib_jv key, const nib_jdump *how)
{
    static const char *const words[] = {"false", "true"};
    if (key.kind == NIB_JV_NONE) key = nib_jv_word("null");
    if (key.kind == NIB_JV_BOOL) key = nib_jv_word(words[key.u.b]);
    if (key.kind == NIB_JV_TUPLE)
        nib_jfail(r, "a tuple cannot be a key in JSON");
    else
        dump_string(r, t, nib_jv_to_str(r, key), how->ascii);
}

static void dump(nib_jrun *r, nib_text *t, nib_jv v, const nib_jdump *how, unsigned level);

static void dump_dict(nib_jrun *r, nib_text *t, const nib_jdict *d, const nib_jdump *how,
                      unsigned level)
{
    const size_t *order = how->sort ? nib_jv_sorted(r, d->key, d->n, false) : NULL;
    nib_jadds(r, t, "{");
    for (size_t i = 0; i < d->n && !r->rc; i++) {
        const size_t k = order ? order[i] : i;
        if (i) nib_jadd(r, t, how->item.u.s, how->item.n);
        new_line(r, t, how, level + 1);
        dump_key(r, t, d->key[k], how);
        nib_jadd(r, t, how->colon.u.s, how->colon.n);
        dump(r, t, d->value[k], how, level + 1);
    }
    if (d->n) new_line(r, t, how, level);
    nib_jadds(r, t, "}");
}

static void dump_list(nib_jrun *r, nib_text *t, const nib_jlist *l, const nib_jdump *how,
                      unsigned level)
{
    nib_jadds(r, t, "[");
    for (size_t i = 0; i < l->n && !r->rc; i++) {
        if (i) nib_jadd(r, t, how->item.u.s, how->item.n);
        new_line(r, t, how, level + 1);
        dump(r, t, l->v[i], how, level + 1);
    }
    if (l->n) new_line(r, t, how, level);
    nib_jadds(r, t, "]");
}

static void dump(nib_jrun *r, nib_text *t, nib_jv v, const nib_jdump *how, unsigned level)
{
    char text[NIB_JNUMBER_MAX];
    switch (v.kind) {
    case NIB_JV_NONE: nib_jadds(r, t, "null"); return;
    case NIB_JV_BOOL: nib_jadds(r, t, v.u.b ? "true" : "false"); return;
    case NIB_JV_INT: nib_jv_write(r, t, v, false); return;
    case NIB_JV_FLOAT:
        nib_jwrite_float(text, v.u.f);
        nib_jadds(r, t,
                  !strcmp(text, "nan")    ? "NaN"
                  : !strcmp(text, "inf")  ? "Infinity"
                  : !strcmp(text, "-inf") ? "-Infinity"
                                          : text);
        return;
    case NIB_JV_STR: dump_string(r, t, v, how->ascii); return;
    default: break;
    }
    if (!nib_jenter(r)) return;
    if (v.kind == NIB_JV_DICT)
        dump_dict(r, t, v.u.dict, how, level);
    else if (v.kind == NIB_JV_LIST || v.kind == NIB_JV_TUPLE)
        dump_list(r, t, v.u.list, how, level);
    else
        nib_jfail(r, "a value of type '%s' cannot be written as JSON", nib_jv_type(v));
    nib_jleave(r);
}

void nib_jv_dump(nib_jrun *r, nib_text *t, nib_jv v, const nib_jdump *how)
{
    dump(r, t, v, how, 0);
}
