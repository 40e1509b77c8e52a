/* SPDX-License-Identifier: MIT */
/* infer/chat.c - see chat.h. */
#include "infer/chat.h"

#include "base/mem.h"

#include <string.h>

struct nib_chat {
    nib_jinja *plain, *tool_use; /* the latter NULL: plain serves */
    nib_json *shared;            /* special tokens, true and false */
};

static nib_code parse(nib_jinja **out, const nib_tokenizer *tok, const char *name, nib_err *err)
{
    const char *text = nib_tokenizer_template(tok, name);
    *out = NULL;
    if (!text) return NIB_OK;
    nib_code rc = nib_jinja_parse(out, text, strlen(text), err);
    return rc ? nib_wrap(err, "chat template '%s'", name) : NIB_OK;
}

static nib_code share(nib_chat *c, const nib_tokenizer *tok, nib_err *err)
{
    c->shared = nib_json_new_object();
    if (c->shared && nib_tokenizer_add_specials(c->shared, tok) &&
        nib_json_add_bool(c->shared, "true", true) && nib_json_add_bool(c->shared, "false", false))
        return NIB_OK;
    return nib_fail_nomem(err, "special tokens");
}

nib_code nib_chat_open(nib_chat **out, const nib_tokenizer *tok, nib_err *err)
{
    *out = NULL;
    if (!nib_tokenizer_template(tok, "default"))
        return nib_fail(err, NIB_EFORMAT,
                        "the model has no chat template: no chat_template.jinja, and none in its "
                        "tokenizer's configuration");
    nib_chat *c = nib_calloc(1, sizeof *c);
    if (!c) return nib_fail_nomem(err, "chat template");
    nib_code rc = parse(&c->plain, tok, "default", err);
    if (!rc) rc = parse(&c->tool_use, tok, "tool_use", err);
    if (!rc) rc = share(c, tok, err);
    if (rc) {
        nib_chat_close(c);
        return rc;
    }
    *out = c;
    return NIB_OK;
}

void nib_chat_close(nib_chat *c)
{
    if (!c) return;
    nib_jinja_free(c->plain);
    nib_jinja_free(c->tool_use);
    nib_json_free(c->shared);
    nib_free(c);
}

enum { VARS_MAX = 16 + NIB_CHAT_MORE_MAX };

static nib_code add_members(nib_jinja_var *vars, size_t *n, const nib_json *from, nib_err *err)
{
    for (const nib_json *v = nib_json_first(from); v; v = nib_json_next(v)) {
        if (*n == VARS_MAX)
            return nib_fail(err, NIB_EFORMAT, "more than %d further variables", NIB_CHAT_MORE_MAX);
        vars[(*n)++] = (nib_jinja_var){nib_json_key(v), v};
    }
    return NIB_OK;
}

nib_code nib_chat_render(const nib_chat *c, const nib_chat_input *in, nib_text *out, nib_err *err)
{
    const bool tool_use = in->tools && c->tool_use;
    nib_jinja_var vars[VARS_MAX] = {
        {"messages", in->messages},
        {"tools", in->tools},
        {"documents", in->documents},
        {"add_generation_prompt",
         nib_json_get(c->shared, in->add_generation_prompt ? "true" : "false")},
    };
    size_t n = 4;
    nib_code rc = add_members(vars, &n, c->shared, err);
    if (!rc) rc = add_members(vars, &n, in->more, err);
    if (rc) return rc;
    rc = nib_jinja_render(tool_use ? c->tool_use : c->plain, vars, n, out, err);
    return rc ? nib_wrap(err, "chat template '%s'", tool_use ? "tool_use" : "default") : NIB_OK;
}

nib_code nib_chat_encode(const nib_tokenizer *tok, const char *text, size_t n, nib_ids *ids,
                         nib_err *err)
{
    const size_t at = ids->n;
    const int32_t bos = nib_tokenizer_bos(tok);
    nib_code rc = nib_tokenizer_encode(tok, text, n, NIB_TOK_PARSE_SPECIAL, ids, err);
    if (rc || bos < 0 || !at || ids->n == at || ids->id[at - 1] != bos || ids->id[at] != bos)
        return rc;
    memmove(ids->id + at, ids->id + at + 1, (--ids->n - at) * sizeof *ids->id);
    return NIB_OK;
}
