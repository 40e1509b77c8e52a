/* SPDX-License-Identifier: MIT */
/* run/plan/override.c - see override.h. */
#include "run/plan/override.h"
#include "base/mem.h"
#include "base/name.h"
#include "base/regex.h"
#include "formats/gguf.h"

#include <errno.h>
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
    bool folder;      /* is to be written, no GGUF file */
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

/* The i-th that is, NULL after the last. */
static const char *writable_name(const void *arg, size_t i)
{
    (void)arg;
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (writable((nib_type)t) && !i--) return nib_codec_get((nib_type)t)->name;
    return NULL;
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
    const char *near = nib_name_nearest(name, writable_name, NULL);
    for (int t = 0; t < NIB_TYPE_COUNT; t++)
        if (writable((nib_type)t) && at < sizeof known)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   nib_codec_get((nib_type)t)->name);
    return nib_fail(err, NIB_EINVAL, "tensor type '%s' cannot be written; %s%s%sthese can: %s",
                    name, near ? "did you mean '" : "", near ? near : "", near ? "'? " : "", known);
}

/* ---- the keys of --override ---- */

static nib_code set_method(nib_override *w, const char *value, nib_err *err)
{
    w->method = nib_name_same(value, "rtn")    ? NIB_METHOD_RTN
                : nib_name_same(value, "hqq")  ? NIB_METHOD_HQQ
                : nib_name_same(value, "gptq") ? NIB_METHOD_GPTQ
                                               : NIB_METHOD_COUNT;
    if (w->method != NIB_METHOD_COUNT) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "method '%s' is none of rtn, hqq and gptq", value);
}

static nib_code set_type(nib_override *w, const char *value, nib_err *err)
{
    return nib_writable_type_find(&w->type, value, err);
}

static nib_code set_skip(nib_override *w, const char *value, nib_err *err)
{
    w->skip = nib_name_same(value, "true");
    return w->skip ? NIB_OK : nib_fail(err, NIB_EINVAL, "skip can only be true, not '%s'", value);
}

/* A plain number from 0 to `most`; else false. */
static bool read_number(uint64_t *out, const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *out <= most;
}

static nib_code set_bits(nib_override *w, const char *value, nib_err *err)
{
    uint64_t bits;
    if (!read_number(&bits, value, 8) || bits < 1)
        return nib_fail(err, NIB_EINVAL, "bits '%s': should be a number from 1 to 8", value);
    w->bits = (unsigned)bits;
    return NIB_OK;
}

static nib_code set_group(nib_override *w, const char *value, nib_err *err)
{
    if (!strcmp(value, "-1")) value = "0"; /* as other tools have it */
    w->regroup = read_number(&w->group, value, NIB_WIDTH_MAX);
    if (w->regroup) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "group-size '%s': should be a number from 0, whole rows, to %d", value,
                    NIB_WIDTH_MAX);
}

static const struct {
    const char *name;
    nib_code (*set)(nib_override *w, const char *value, nib_err *err);
    bool gguf, folder; /* what it is for */
} KEYS[] = {{"method", set_method, true, true},
            {"skip", set_skip, true, true},
            {"type", set_type, true, false},
            {"bits", set_bits, false, true},
            {"group-size", set_group, false, true}};

enum { N_KEYS = sizeof KEYS / sizeof *KEYS };

static nib_code no_key(const char *name, bool folder, nib_err *err)
{
    char known[64] = "";
    size_t at = 0;
    for (int k = 0; k < N_KEYS; k++)
        if (folder ? KEYS[k].folder : KEYS[k].gguf)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   KEYS[k].name);
    return nib_fail(err, NIB_EINVAL, "'%s' is no key for %s; these are: %s", name,
                    folder ? "folders" : "GGUF files", known);
}

/* One "KEY=VALUE" of n bytes. */
static nib_code set_one(rule *r, const char *text, size_t n, unsigned *seen, nib_err *err)
{
    char item[64], *value;
    snprintf(item, sizeof item, "%.*s", (int)(n < sizeof item ? n : sizeof item), text);
    if (n >= sizeof item || !(value = strchr(item, '=')))
        return nib_fail(err, NIB_EINVAL, "'%.*s' is not of the form KEY=VALUE", (int)n, text);
    *value++ = 0;
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (!nib_name_same(item, KEYS[k].name) || (r->folder ? !KEYS[k].folder : !KEYS[k].gguf))
            continue;
        if (*seen & 1u << k) return nib_fail(err, NIB_EINVAL, "'%s' is given twice", item);
        *seen |= 1u << k;
        return KEYS[k].set(&r->wish, value, err);
    }
    return no_key(item, r->folder, err);
}

static nib_code set_all(rule *r, const char *text, nib_err *err)
{
    nib_code rc;
    unsigned seen = 0;
    for (size_t n;; text += n + 1) {
        n = strcspn(text, ",");
        if ((rc = set_one(r, text, n, &seen, err))) return rc;
        if (!text[n]) break;
    }
    if (r->wish.skip && (seen & (seen - 1)))
        return nib_fail(err, NIB_EINVAL, "skip leaves nothing for the other keys to say");
    return NIB_OK;
}

/* ---- the three options ---- */

static nib_code parse_override(rule *r, nib_err *err)
{
    const char *colon = strrchr(r->text, ':');
    if (!colon || colon == r->text)
        return nib_fail(err, NIB_EINVAL, "not of the form REGEX:KEY=VALUE,...");
    nib_code rc = set_all(r, colon + 1, err);
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
        return nib_fail(err, NIB_EINVAL, "not of the form K or K:%s, K from 1 to %d",
                        r->folder ? "BITS" : "TYPE", NIB_LAYERS_MAX);
    r->blocks = (uint32_t)k;
    r->wish.raise = !*end;
    r->wish.skip = *end && nib_name_same(end + 1, "skip");
    if (r->wish.raise || r->wish.skip) return NIB_OK;
    return r->folder ? set_bits(&r->wish, end + 1, err) : set_type(&r->wish, end + 1, err);
}

static nib_code add_rule(nib_overrides *o, kind k, const char *text, bool folder, nib_err *err)
{
    static nib_code (*const parse[])(rule *, nib_err *) = {parse_override, parse_tensor_type,
                                                           parse_protect};
    rule *r = &o->rule[o->n++];
    const bool named = k != PROTECT;
    const size_t room = strlen(text) + sizeof "--protect-blocks ''";
    *r = (rule){.kind = k, .text = text, .why = nib_alloc(room, 1), .folder = folder};
    if (!r->why) return nib_fail_nomem(err, "overrides");
    snprintf(r->why, room, named ? "override '%s'" : "--protect-blocks %s", text);
    r->wish = (nib_override){.why = r->why, .type = NIB_TYPE_COUNT, .method = NIB_METHOD_COUNT};
    nib_code rc = parse[k](r, err);
    return rc ? nib_wrap(err, "%s '%s'", OPTION[k], text) : NIB_OK;
}

static nib_code add_rules(nib_overrides *o, const nib_recipe *r, nib_err *err)
{
    const bool folder = r->format == NIB_FORMAT_DIR;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < r->n_overrides && !rc; i++)
        rc = add_rule(o, OVERRIDE, r->overrides[i], folder, err);
    for (size_t i = 0; i < r->n_tensor_types && !rc; i++)
        rc = add_rule(o, TENSOR_TYPE, r->tensor_types[i], folder, err);
    if (r->protect_blocks && !rc) rc = add_rule(o, PROTECT, r->protect_blocks, folder, err);
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
    char gguf[NIB_PLAN_NAME_MAX + 1], hf[NIB_PLAN_NAME_MAX + 1];
    bool in_block;
    uint32_t layer;
} subject;

static subject describe(const nib_model *m, const nib_tensor *t)
{
    subject s = {0};
    nib_place p;
    if (nib_model_place(m, t, &p)) {
        nib_place_gguf_name(p, s.gguf, sizeof s.gguf);
        nib_place_hf_name(m->arch, p, s.hf, sizeof s.hf);
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
