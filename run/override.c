/* SPDX-License-Identifier: MIT */
/* run/override.c - see override.h. */
#include "run/override.h"
#include "base/mem.h"
#include "base/regex.h"
#include "formats/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { OVERRIDE, TENSOR_TYPE, PROTECT } kind;

static const char *const OPTION[] = {"--override", "--tensor-type", "--protect-blocks"};

typedef struct {
    kind kind;
    const char *text; /* as the user wrote it */
    nib_override wish;
    char *why;        /* owned; wish.why points here */
    nib_regex *regex; /* NULL: of PROTECT            */
    uint32_t blocks;  /* of PROTECT                  */
    bool used, passed_over;
} rule;

struct nib_overrides {
    const nib_model *m;
    rule *rule;
    size_t n;
};

static bool writable(nib_type t)
{
    return nib_codec_get(t)->encode && nib_gguf_type_id(t) >= 0;
}

nib_code nib_writable_type_find(nib_type *out, const char *name, nib_err *err)
{
    const nib_codec *c = nib_codec_find(name);
    if (c && writable(c->type)) {
        *out = c->type;
        return NIB_OK;
    }
    char known[256] = "";
    size_t at = 0;
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (writable((nib_type)t) && at < sizeof known)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   nib_codec_get((nib_type)t)->name);
    return nib_fail(err, NIB_EINVAL, "tensor type '%s' cannot be written; these can: %s", name,
                    known);
}

/* ---- the keys of --override ---- */

static nib_code set_method(nib_override *w, const char *value, nib_err *err)
{
    w->method = !strcmp(value, "rtn")    ? NIB_METHOD_RTN
                : !strcmp(value, "gptq") ? NIB_METHOD_GPTQ
                                         : NIB_METHOD_COUNT;
    if (w->method != NIB_METHOD_COUNT) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "method '%s' is neither rtn nor gptq", value);
}

static nib_code set_type(nib_override *w, const char *value, nib_err *err)
{
    return nib_writable_type_find(&w->type, value, err);
}

static nib_code set_skip(nib_override *w, const char *value, nib_err *err)
{
    w->skip = !strcmp(value, "true");
    return w->skip ? NIB_OK : nib_fail(err, NIB_EINVAL, "skip can only be true, not '%s'", value);
}

static const struct {
    const char *name;
    nib_code (*set)(nib_override *w, const char *value, nib_err *err);
} KEYS[] = {{"method", set_method}, {"type", set_type}, {"skip", set_skip}};

enum { N_KEYS = sizeof KEYS / sizeof *KEYS };

/* One "KEY=VALUE" of n bytes. */
static nib_code set_one(nib_override *w, const char *text, size_t n, unsigned *seen, nib_err *err)
{
    char item[64], *value;
    snprintf(item, sizeof item, "%.*s", (int)(n < sizeof item ? n : sizeof item), text);
    if (n >= sizeof item || !(value = strchr(item, '=')))
        return nib_fail(err, NIB_EINVAL, "'%.*s' is not of the form KEY=VALUE", (int)n, text);
    *value++ = 0;
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (strcmp(item, KEYS[k].name)) continue;
        if (*seen & 1u << k) return nib_fail(err, NIB_EINVAL, "'%s' is given twice", item);
        *seen |= 1u << k;
        return KEYS[k].set(w, value, err);
    }
    return nib_fail(err, NIB_EINVAL, "'%s' is no key; these are: method, type, skip", item);
}

static nib_code set_all(nib_override *w, const char *text, nib_err *err)
{
    nib_code rc;
    unsigned seen = 0;
    for (size_t n;; text += n + 1) {
        n = strcspn(text, ",");
        if ((rc = set_one(w, text, n, &seen, err))) return rc;
        if (!text[n]) break;
    }
    if (w->skip && (w->type != NIB_TYPE_COUNT || w->method != NIB_METHOD_COUNT))
        return nib_fail(err, NIB_EINVAL, "skip leaves nothing for the other keys to say");
    return NIB_OK;
}

/* ---- the three options ---- */

static nib_code parse_override(rule *r, nib_err *err)
{
    const char *colon = strrchr(r->text, ':');
    if (!colon || colon == r->text)
        return nib_fail(err, NIB_EINVAL, "not of the form REGEX:KEY=VALUE,...");
    nib_code rc = set_all(&r->wish, colon + 1, err);
    return rc ? rc : nib_regex_new(&r->regex, r->text, (size_t)(colon - r->text), err);
}

static nib_code parse_tensor_type(rule *r, nib_err *err)
{
    const char *eq = strrchr(r->text, '=');
    if (!eq || eq == r->text) return nib_fail(err, NIB_EINVAL, "not of the form REGEX=TYPE");
    nib_code rc = set_type(&r->wish, eq + 1, err);
    return rc ? rc : nib_regex_new(&r->regex, r->text, (size_t)(eq - r->text), err);
}

static nib_code parse_protect(rule *r, nib_err *err)
{
    char *end;
    unsigned long k = strtoul(r->text, &end, 10);
    if (*r->text < '1' || *r->text > '9' || k > NIB_LAYERS_MAX || (*end && *end != ':'))
        return nib_fail(err, NIB_EINVAL, "not of the form K or K:TYPE, K from 1 to %d",
                        NIB_LAYERS_MAX);
    r->blocks = (uint32_t)k;
    r->wish.raise = !*end;
    r->wish.skip = !strcmp(end, ":skip");
    return *end && !r->wish.skip ? set_type(&r->wish, end + 1, err) : NIB_OK;
}

static nib_code add_rule(nib_overrides *o, kind k, const char *text, nib_err *err)
{
    static nib_code (*const parse[])(rule *, nib_err *) = {parse_override, parse_tensor_type,
                                                           parse_protect};
    rule *r = &o->rule[o->n++];
    const bool named = k != PROTECT;
    const size_t room = strlen(text) + sizeof "--protect-blocks ''";
    *r = (rule){.kind = k, .text = text, .why = nib_alloc(room, 1)};
    if (!r->why) return nib_fail_nomem(err, "overrides");
    snprintf(r->why, room, named ? "override '%s'" : "--protect-blocks %s", text);
    r->wish = (nib_override){.why = r->why, .type = NIB_TYPE_COUNT, .method = NIB_METHOD_COUNT};
    nib_code rc = parse[k](r, err);
    return rc ? nib_wrap(err, "%s '%s'", OPTION[k], text) : NIB_OK;
}

static nib_code add_rules(nib_overrides *o, const nib_recipe *r, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < r->n_overrides && !rc; i++)
        rc = add_rule(o, OVERRIDE, r->overrides[i], err);
    for (size_t i = 0; i < r->n_tensor_types && !rc; i++)
        rc = add_rule(o, TENSOR_TYPE, r->tensor_types[i], err);
    if (r->protect_blocks && !rc) rc = add_rule(o, PROTECT, r->protect_blocks, err);
    return rc;
}

nib_code nib_overrides_new(nib_overrides **out, const nib_recipe *r, const nib_model *m,
                           nib_err *err)
{
    *out = NULL;
    nib_overrides *o = nib_calloc(1, sizeof *o);
    if (!o) return nib_fail_nomem(err, "overrides");
    o->m = m;
    o->rule = nib_calloc(r->n_overrides + r->n_tensor_types + 1, sizeof *o->rule);
    nib_code rc = o->rule ? add_rules(o, r, err) : nib_fail_nomem(err, "overrides");
    if (rc) {
        nib_overrides_free(o);
        return rc;
    }
    *out = o;
    return NIB_OK;
}

void nib_overrides_free(nib_overrides *o)
{
    if (!o) return;
    for (size_t i = 0; i < o->n; i++) {
        nib_regex_free(o->rule[i].regex);
        nib_free(o->rule[i].why);
    }
    nib_free(o->rule);
    nib_free(o);
}

/* ---- finding ---- */

/* A tensor as the rules see it. */
typedef struct {
    char gguf[NIB_GGUF_NAME_MAX + 1], hf[NIB_GGUF_NAME_MAX + 1];
    bool in_block;
    uint32_t layer;
} subject;

static subject describe(const nib_model *m, const nib_tensor *t)
{
    subject s = {0};
    nib_place p;
    if (nib_model_place(m, t, &p)) {
        nib_place_gguf_name(p, s.gguf, sizeof s.gguf);
        nib_place_hf_name(p, s.hf, sizeof s.hf);
        s.in_block = p.role >= NIB_ROLE_FIRST_BLOCK;
        s.layer = p.layer;
    } else {
        snprintf(s.gguf, sizeof s.gguf, "%s", t->name);
    }
    return s;
}

static nib_code applies(const nib_overrides *o, const rule *r, const subject *s, bool *yes,
                        nib_err *err)
{
    const uint32_t n = o->m->hp.n_layer;
    if (r->kind == PROTECT) {
        *yes = s->in_block && (s->layer < r->blocks || s->layer + r->blocks >= n);
        return NIB_OK;
    }
    nib_code rc = nib_regex_find(r->regex, s->gguf, false, yes, err);
    if (!rc && !*yes && r->kind == OVERRIDE) rc = nib_regex_find(r->regex, s->hf, false, yes, err);
    return rc ? nib_wrap(err, "%s '%s'", OPTION[r->kind], r->text) : NIB_OK;
}

nib_code nib_overrides_find(const nib_override **out, nib_overrides *o, const nib_tensor *t,
                            nib_type base, nib_err *err)
{
    const subject s = describe(o->m, t);
    *out = NULL;
    for (size_t i = 0; i < o->n; i++) {
        rule *r = &o->rule[i];
        bool yes;
        nib_code rc = applies(o, r, &s, &yes, err);
        if (rc) return rc;
        if (!yes) continue;
        if (r->kind == TENSOR_TYPE && r->wish.type == base) {
            r->passed_over = true;
            continue;
        }
        r->used = true;
        *out = &r->wish;
        return NIB_OK;
    }
    return NIB_OK;
}

void nib_overrides_warn_unused(const nib_overrides *o, nib_log *log)
{
    for (size_t i = 0; i < o->n; i++) {
        const rule *r = &o->rule[i];
        if (r->passed_over)
            nib_warn(log,
                     "'%s': %s is the file type's base format, so the mix decides for these "
                     "tensors; --pure gives it to all",
                     r->text, nib_codec_get(r->wish.type)->name);
        else if (!r->used)
            nib_warn(log, "%s '%s' decided for no tensor", OPTION[r->kind], r->text);
        else if (r->kind == PROTECT && 2 * r->blocks >= o->m->hp.n_layer)
            nib_warn(log, "--protect-blocks %s protects all %u blocks", r->text,
                     (unsigned)o->m->hp.n_layer);
    }
}
