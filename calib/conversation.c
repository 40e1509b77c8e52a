/* SPDX-License-Identifier: MIT */
/* calib/conversation.c - see conversation.h. Tests: tests/calib/test_text.c. */
#include "calib/conversation.h"

#include <string.h>

/* ---- ShareGPT's form ---- */

static const struct {
    const char *from, *role;
} roles[] = {
    {"human", "user"},        {"user", "user"},           {"gpt", "assistant"},
    {"chatgpt", "assistant"}, {"bing", "assistant"},      {"bard", "assistant"},
    {"model", "assistant"},   {"assistant", "assistant"}, {"system", "system"},
    {"tool", "tool"},         {"observation", "tool"},
};

static bool add_message(nib_json *list, const char *role, const char *content)
{
    nib_json *m = nib_json_add_object(list, NULL);
    return m && nib_json_add_str(m, "role", role) && nib_json_add_str(m, "content", content);
}

static nib_code convert(nib_json *list, const nib_json *m, size_t number, nib_err *err)
{
    const char *from, *value;
    if (!nib_json_str(nib_json_get(m, "from"), &from) ||
        !nib_json_str(nib_json_get(m, "value"), &value))
        return nib_fail(err, NIB_EFORMAT,
                        "message %zu has no 'from' and 'value' that are strings, as others have",
                        number);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(from, roles[i].from))
            return add_message(list, roles[i].role, value) ? NIB_OK
                                                           : nib_fail_nomem(err, "a conversation");
    return nib_fail(err, NIB_EFORMAT,
                    "message %zu is from '%.60s'; known are human, gpt, system, tool, observation",
                    number, from);
}

static bool is_system(const nib_json *m)
{
    const char *from;
    return nib_json_str(nib_json_get(m, "from"), &from) && !strcmp(from, "system");
}

static nib_code convert_all(nib_conversation *c, const nib_json *doc, const nib_json *list,
                            nib_err *err)
{
    const char *system;
    size_t number = 1;
    nib_code rc = NIB_OK;
    if (!(c->messages = nib_json_new_array())) return nib_fail_nomem(err, "a conversation");
    if (nib_json_str(nib_json_get(doc, "system"), &system) && *system &&
        !is_system(nib_json_first(list)) && !add_message(c->messages, "system", system))
        return nib_fail_nomem(err, "a conversation");
    for (const nib_json *m = nib_json_first(list); m && !rc; m = nib_json_next(m), number++)
        rc = convert(c->messages, m, number, err);
    c->input.messages = c->messages;
    return rc;
}

/* ---- the whole ---- */

static nib_code read_messages(nib_conversation *c, const nib_json *doc, nib_err *err)
{
    const char *key = "messages";
    const nib_json *list = nib_json_get(doc, key);
    if (!list) list = nib_json_get(doc, key = "conversations");
    if (!list)
        return nib_fail(err, NIB_EFORMAT,
                        "has neither 'messages' nor 'conversations' for a chat template");
    if (!nib_json_is_array(list)) return nib_fail(err, NIB_EFORMAT, "'%s' is not a list", key);
    size_t number = 1;
    for (const nib_json *m = nib_json_first(list); m; m = nib_json_next(m), number++) {
        if (nib_json_get(m, "role")) continue;
        if (nib_json_get(m, "from")) return convert_all(c, doc, list, err);
        return nib_fail(err, NIB_EFORMAT, "message %zu has neither 'role' nor 'from'", number);
    }
    c->input.messages = list;
    return NIB_OK;
}

static nib_code read_tools(nib_conversation *c, const nib_json *doc, nib_err *err)
{
    const char *text;
    const nib_json *tools = nib_json_get(doc, "tools");
    if (nib_json_str(tools, &text)) {
        if (!*text) return NIB_OK;
        nib_code rc = nib_json_parse(&c->tools, text, strlen(text), err);
        if (rc) return nib_wrap(err, "'tools'");
        tools = c->tools;
    }
    if (!tools || nib_json_is_null(tools)) return NIB_OK;
    if (!nib_json_is_array(tools)) return nib_fail(err, NIB_EFORMAT, "'tools' is not a list");
    c->input.tools = tools;
    return NIB_OK;
}

nib_code nib_conversation_read(nib_conversation *c, const nib_json *doc, nib_err *err)
{
    *c = (nib_conversation){0};
    const nib_json *documents = nib_json_get(doc, "documents"),
                   *more = nib_json_get(doc, "chat_template_kwargs");
    if (nib_json_is_array(documents)) c->input.documents = documents;
    if (nib_json_is_object(more)) c->input.more = more;
    nib_code rc = read_messages(c, doc, err);
    return rc ? rc : read_tools(c, doc, err);
}

void nib_conversation_free(nib_conversation *c)
{
    nib_json_free(c->messages);
    nib_json_free(c->tools);
    *c = (nib_conversation){0};
}
