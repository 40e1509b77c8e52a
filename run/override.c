/* SPDX-License-Identifier: MIT */
/* run/override.c - see override.h. */
#include "run/override.h"
#include "base/mem.h"
#include "formats/gguf.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *text;
    pcre2_code *regex;
    nib_type type;
    bool used, passed_over;
} override;

struct nib_overrides {
    override *o;
    size_t n;
    pcre2_match_data *match;
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

static nib_code compile(override *o, const char *text, nib_err *err)
{
    const char *eq = strrchr(text, '=');
    if (!eq || eq == text)
        return nib_fail(err, NIB_EINVAL, "'%s' is not of the form REGEX=TYPE", text);
    o->text = text;
    nib_code rc = nib_writable_type_find(&o->type, eq + 1, err);
    if (rc) return nib_wrap(err, "'%s'", text);
    int code;
    PCRE2_SIZE at;
    o->regex = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)(eq - text), 0, &code, &at, NULL);
    if (o->regex) return NIB_OK;
    char why[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return nib_fail(err, NIB_EINVAL, "'%s': %s, at character %zu of the pattern", text, why,
                    (size_t)at + 1);
}

nib_code nib_overrides_new(nib_overrides **out, const char *const *text, size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    *out = NULL;
    nib_overrides *o = nib_calloc(1, sizeof *o);
    if (!o) return nib_fail_nomem(err, "overrides");
    o->o = nib_calloc(n, sizeof *o->o);
    o->match = pcre2_match_data_create(1, NULL);
    if (!o->o || !o->match) rc = nib_fail_nomem(err, "overrides");
    for (; !rc && o->n < n; o->n++) rc = compile(&o->o[o->n], text[o->n], err);
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
    for (size_t i = 0; i < o->n; i++) pcre2_code_free(o->o[i].regex);
    pcre2_match_data_free(o->match);
    nib_free(o->o);
    nib_free(o);
}

bool nib_overrides_find(nib_overrides *o, const char *name, nib_type base, nib_type *type,
                        const char **text)
{
    for (size_t i = 0; i < o->n; i++) {
        override *r = &o->o[i];
        if (pcre2_match(r->regex, (PCRE2_SPTR)name, strlen(name), 0, 0, o->match, NULL) < 0)
            continue;
        r->passed_over |= r->type == base;
        if (r->type == base) continue;
        r->used = true;
        *type = r->type;
        *text = r->text;
        return true;
    }
    return false;
}

void nib_overrides_warn_unused(const nib_overrides *o, nib_log *log)
{
    for (size_t i = 0; i < o->n; i++) {
        const override *r = &o->o[i];
        if (r->passed_over)
            nib_warn(log,
                     "'%s': %s is the file type's base format, so the mix decides for these "
                     "tensors; --pure gives it to all",
                     r->text, nib_codec_get(r->type)->name);
        else if (!r->used)
            nib_warn(log, "'%s' decided for no tensor", r->text);
    }
}
