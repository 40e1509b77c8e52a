/* SPDX-License-Identifier: MIT */
/* formats/packed_config.c - see packed_config.h: the rules, and what the formats' own readers and
 * writers of configurations share. */
#include "base/mem.h"
#include "formats/packed_format_impl.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *nib_packing_method(nib_packing_kind kind)
{
    return nib_packing_ops_of(kind)->method;
}

const char *nib_packed_config_file(nib_packing_kind kind)
{
    return nib_packing_ops_of(kind)->config_file;
}

bool nib_packed_config_twice(nib_packing_kind kind)
{
    return nib_packing_ops_of(kind)->config_twice;
}

/* The first kind of that method; NULL: none. */
static const nib_packing_ops *find_method(const char *method)
{
    for (int k = 0; k < NIB_PACKING_KINDS; k++)
        if (!strcmp(nib_packing_method((nib_packing_kind)k), method))
            return nib_packing_ops_of((nib_packing_kind)k);
    return NULL;
}

bool nib_packing_knows(const char *method)
{
    return find_method(method) != NULL;
}

unsigned nib_packing_next_bits(nib_packing_kind kind, unsigned bits)
{
    const unsigned char *b = nib_packing_ops_of(kind)->bits;
    while (*b && *b <= bits) b++;
    return *b;
}

const char *nib_packing_uniform(nib_packing_kind kind)
{
    return nib_packing_ops_of(kind)->uniform;
}

/* ---- rules ---- */

void nib_packing_rules_free(nib_packing_rules *r)
{
    for (size_t i = 0; i < r->n; i++) nib_regex_free(r->v[i].regex);
    nib_free(r->v);
    *r = (nib_packing_rules){0};
}

static bool make_room(nib_packing_rules *r)
{
    if (r->n < r->cap) return true;
    const size_t cap = r->cap ? 2 * r->cap : 16;
    nib_packing_rule *grown = nib_grow(r->v, r->cap, cap, sizeof *grown);
    if (!grown) return false;
    r->v = grown;
    r->cap = cap;
    return true;
}

nib_code nib_packing_rules_add(nib_packing_rules *r, nib_rule_kind kind, const char *text,
                               const nib_packing *f, nib_err *err)
{
    nib_regex *regex = NULL;
    if (r->n == NIB_PACKING_RULES_MAX)
        return nib_fail(err, NIB_EFORMAT, "more than %d rules for layers", NIB_PACKING_RULES_MAX);
    if (!make_room(r)) return nib_fail_nomem(err, "rules for layers");
    nib_code rc = kind == NIB_RULE_REGEX ? nib_regex_new(&regex, text, strlen(text), err) : NIB_OK;
    if (rc == NIB_EINVAL) rc = err->code = NIB_EFORMAT;
    if (rc) return nib_wrap(err, "'%.200s'", text);
    r->v[r->n++] = (nib_packing_rule){kind, text, regex, f != NULL, f ? *f : (nib_packing){0}};
    return NIB_OK;
}

/* Nothing in the files says of which class a layer is, but embeddings have few names. */
static bool is_embedding(const char *layer)
{
    static const char *const names[] = {"embed_tokens",
                                        "embed_tokens_per_layer",
                                        "embed_positions",
                                        "embed_in",
                                        "word_embeddings",
                                        "position_embeddings",
                                        "tok_embeddings",
                                        "wte",
                                        "wpe"};
    const char *dot = strrchr(layer, '.'), *last = dot ? dot + 1 : layer;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(last, names[i])) return true;
    return false;
}

static nib_code applies(const nib_packing_rule *r, const char *layer, bool *yes, nib_err *err)
{
    *yes = r->kind == NIB_RULE_ALL || (r->kind == NIB_RULE_NAME && !strcmp(r->text, layer)) ||
           (r->kind == NIB_RULE_EMBEDDINGS && is_embedding(layer)) ||
           (r->kind == NIB_RULE_LINEAR && !is_embedding(layer));
    if (r->kind != NIB_RULE_REGEX) return NIB_OK;
    nib_code rc = nib_regex_find(r->regex, layer, true, yes, err);
    if (!rc) return NIB_OK;
    err->code = NIB_EFORMAT;
    return nib_wrap(err, "'%.200s'", r->text);
}

nib_code nib_packing_rules_find(const nib_packing **out, const nib_packing_rules *r,
                                const char *layer, nib_err *err)
{
    *out = NULL;
    for (size_t i = 0; i < r->n; i++) {
        bool yes;
        nib_code rc = applies(&r->v[i], layer, &yes, err);
        if (rc) return rc;
        if (!yes) continue;
        if (r->v[i].packed) *out = &r->v[i].format;
        break;
    }
    return NIB_OK;
}

/* ---- reading and writing ---- */

nib_code nib_packed_config_read(nib_packing_rules *rules, const char *method,
                                const nib_json *config, nib_err *err)
{
    return find_method(method)->config_read(rules, config, err);
}

bool nib_packed_config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    const nib_packing_ops *ops = nib_packing_ops_of(f->kind);
    return nib_json_add_str(config, "quant_method", ops->method) &&
           ops->config_write(config, f, note);
}

const nib_json *nib_json_either(const nib_json *j, const char *key, const char *other)
{
    const nib_json *v = nib_json_get(j, key);
    return v ? v : nib_json_get(j, other);
}

nib_code nib_config_flag(bool *out, const nib_json *config, const char *key, nib_err *err)
{
    const nib_json *v = nib_json_get(config, key);
    if (!v || nib_json_is_null(v) || nib_json_bool(v, out)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is neither true nor false", key);
}

static bool add_name(nib_json *list, const char *parent, const char *layer)
{
    char name[NIB_LAYER_NAME_MAX];
    snprintf(name, sizeof name, "%s%s", parent, layer);
    return nib_json_add_str(list, NULL, name);
}

bool nib_config_unpacked(nib_json *to, const char *key, const nib_packing_note *note, bool fused)
{
    nib_json *list = nib_json_add_array(to, key);
    bool ok = list && (note->head || nib_json_add_str(list, NULL, note->output));
    for (size_t i = 0; i < note->n_exceptions && ok; i++) {
        const nib_packing_exception *e = &note->exception[i];
        if (e->format) continue;
        for (size_t k = 0; k < e->n && ok; k++) ok = add_name(list, e->parent, e->layer[k]);
        if (fused && e->fused) ok = ok && add_name(list, e->parent, e->fused);
    }
    return ok;
}

static void append(char *buf, size_t n, const char *text)
{
    const size_t at = strlen(buf);
    snprintf(buf + at, n - at, "%s", text);
}

/* What matches the text and nothing else. */
static void append_literal(char *buf, size_t n, const char *text)
{
    for (; *text; text++) {
        const bool plain = *text == '_' || isalnum((unsigned char)*text);
        const size_t at = strlen(buf);
        snprintf(buf + at, n - at, plain ? "%c" : "\\%c", *text);
    }
}

void nib_config_regex(char *buf, size_t n, const char *before, const nib_packing_exception *e)
{
    *buf = 0;
    append(buf, n, before);
    append(buf, n, "^");
    append_literal(buf, n, e->parent);
    if (e->fused) append(buf, n, "(?:");
    for (size_t i = 0; i < e->n; i++) {
        if (i) append(buf, n, "|");
        append_literal(buf, n, e->layer[i]);
    }
    if (e->fused) append(buf, n, "|");
    if (e->fused) append_literal(buf, n, e->fused);
    append(buf, n, e->fused ? ")$" : "$");
}

nib_code nib_config_group(uint64_t *out, const nib_json *v, nib_err *err)
{
    double group;
    if (!nib_json_num(v, &group) ||
        (group != -1 && !(group >= 1 && group <= NIB_PACKING_COLS_MAX && group == floor(group))))
        return nib_fail(err, NIB_EFORMAT,
                        "'group_size' is missing or neither -1 nor an integer from 1 to %d",
                        NIB_PACKING_COLS_MAX);
    *out = group < 0 ? 0 : (uint64_t)group;
    return NIB_OK;
}
