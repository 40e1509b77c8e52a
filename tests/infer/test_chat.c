/* SPDX-License-Identifier: MIT */
/* Conversations through a model's templates: which one serves, from where, what it sees, and the
 * tokens of what it gives. */
#include "infer/chat.h"
#include "base/mem.h"
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static nib_json *json(const char *text)
{
    nib_json *j;
    nib_err err;
    if (nib_json_parse(&j, text, strlen(text), &err)) fail_msg("%s", err.msg);
    return j;
}

static void renders_with(const nib_tokenizer *t, const char *messages, const char *tools,
                         const char *more, bool prompt, const char *want)
{
    nib_chat *c;
    nib_err err = {0};
    nib_text text = {0};
    nib_json *m = json(messages), *o = tools ? json(tools) : NULL, *v = more ? json(more) : NULL;
    if (nib_chat_open(&c, t, &err)) fail_msg("%s", err.msg);
    const nib_chat_input in = {
        .messages = m, .tools = o, .more = v, .add_generation_prompt = prompt};
    if (nib_chat_render(c, &in, &text, &err)) fail_msg("%s", err.msg);
    if (text.n != strlen(want) || memcmp(text.p, want, text.n))
        fail_msg("got '%.*s', not '%s'", (int)text.n, text.p, want);
    nib_free(text.p);
    nib_json_free(m);
    nib_json_free(o);
    nib_json_free(v);
    nib_chat_close(c);
}

static void renders(const nib_tokenizer *t, const char *want)
{
    renders_with(t, "[{\"role\":\"user\",\"content\":\"ab\"}]", NULL, NULL, false, want);
}

static void refuses(const nib_tokenizer *t, const char *part)
{
    nib_chat *c;
    nib_err err = {0};
    assert_int_equal(nib_chat_open(&c, t, &err), NIB_EFORMAT);
    assert_null(c);
    tmp_expect(err.msg, part);
}

#define CONFIG(T) "{'bos_token':'<s>','eos_token':'</s>','chat_template':" T "}"

static void the_template_sees_the_models_tokens(void **state)
{
    (void)state;
    nib_tokenizer *t = by_hand(
        TOKENIZER(SPECIALS, ""),
        CONFIG("'{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}"
               "{{ tools }}{{ add_generation_prompt }}{{ x }}'"));
    renders(t, "<s>ab</s>FalseNoneFalse");
    renders_with(t, "[{\"content\":\"b\"}]", "[1]", "{\"x\": 7, \"eos_token\": \"!\"}", true,
                 "<s>b!False[1]True7");
    nib_tokenizer *back = through_gguf(t, 12);
    renders(back, "<s>ab</s>FalseNoneFalse");
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
}

static void tools_have_a_template_of_their_own(void **state)
{
    (void)state;
    nib_tokenizer *t =
        by_hand(TOKENIZER(SPECIALS, ""), CONFIG("[{'name':'rag','template':'{% broken'},"
                                                "{'name':'default','template':'D{{ tools }}'},"
                                                "{'name':'tool_use','template':'T{{ tools }}'}]"));
    renders(t, "DNone");
    renders_with(t, "[]", "[]", NULL, false, "T[]");
    nib_tokenizer *back = through_gguf(t, 12);
    renders_with(back, "[]", "[]", NULL, false, "T[]");
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
}

static void the_file_goes_before_the_configuration(void **state)
{
    (void)state;
    tmp_text("chat_template.jinja", "file\n");
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""), CONFIG("'configuration'"));
    unlink(tmp_path("chat_template.jinja"));
    renders(t, "file");
    nib_tokenizer_close(t);
    /* and so do those beside it */
    tmp_text("chat_template.jinja", "file");
    assert_int_equal(mkdir(tmp_path("additional_chat_templates"), 0700), 0);
    tmp_text("additional_chat_templates/tool_use.jinja", "tools");
    t = by_hand(TOKENIZER(SPECIALS, ""), CONFIG("[{'name':'tool_use','template':'x'}]"));
    unlink(tmp_path("chat_template.jinja"));
    unlink(tmp_path("additional_chat_templates/tool_use.jinja"));
    rmdir(tmp_path("additional_chat_templates"));
    renders(t, "file");
    renders_with(t, "[]", "[]", NULL, false, "tools");
    nib_tokenizer_close(t);
}

static void what_is_missing_or_wrong_is_said(void **state)
{
    (void)state;
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""), NULL);
    refuses(t, "the model has no chat template");
    nib_tokenizer_close(t);
    t = by_hand(TOKENIZER(SPECIALS, ""), CONFIG("[{'name':'rag','template':'x'}]"));
    refuses(t, "the model has no chat template");
    nib_tokenizer_close(t);
    t = by_hand(TOKENIZER(SPECIALS, ""), CONFIG("'{% if x %}\\n{% fancy %}'"));
    refuses(t, "chat template 'default': line 2: the tag 'fancy' is not supported");
    nib_tokenizer_close(t);
}

static void ids_are(const nib_tokenizer *t, const int32_t *before, size_t n_before,
                    const char *text, const char *want)
{
    nib_ids ids = {0};
    nib_err err = {0};
    char got[200] = "";
    if (n_before) {
        ids.id = nib_alloc(n_before, sizeof *ids.id);
        assert_non_null(ids.id);
        memcpy(ids.id, before, n_before * sizeof *ids.id);
        ids.n = ids.cap = n_before;
    }
    if (nib_chat_encode(t, text, strlen(text), &ids, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < ids.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), i ? " %d" : "%d", (int)ids.id[i]);
    assert_string_equal(got, want);
    nib_ids_free(&ids);
}

/* Special tokens that the text spells are tokens; BOS is there once. */
static void a_bos_that_is_there_is_not_doubled(void **state)
{
    (void)state;
    const int32_t bos[] = {8}, other[] = {8, 0};
    nib_tokenizer *t =
        by_hand(TOKENIZER(SPECIALS, TEMPLATE(SPECIAL("<s>") "," TEXT)), CONFIG("'x'"));
    assert_true(nib_tokenizer_adds_bos(t));
    ids_are(t, NULL, 0, "<s>ab</s>", "8 4 9");
    ids_are(t, bos, 1, "<s>ab</s>", "8 4 9");
    ids_are(t, bos, 1, "ab</s><s>", "8 4 9 8");
    ids_are(t, other, 2, "<s>ab", "8 0 8 4");
    ids_are(t, bos, 1, "", "8");
    nib_tokenizer_close(t);
}

static void memory_that_runs_short_is_an_error(void **state)
{
    (void)state;
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""), CONFIG("'{{ bos_token ~ messages }}'"));
    nib_json *m = json("[{\"role\":\"user\"}]");
    nib_code rc = NIB_ENOMEM;
    for (long n = 1; rc; n++) {
        nib_chat *c;
        nib_err err = {0};
        nib_text text = {0};
        nib_mem_fail_at(n);
        rc = nib_chat_open(&c, t, &err);
        if (!rc) rc = nib_chat_render(c, &(nib_chat_input){.messages = m}, &text, &err);
        nib_mem_fail_at(0);
        if (rc) assert_int_equal(rc, NIB_ENOMEM);
        nib_chat_close(c);
        nib_free(text.p);
    }
    nib_json_free(m);
    nib_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_template_sees_the_models_tokens),
        cmocka_unit_test(tools_have_a_template_of_their_own),
        cmocka_unit_test(the_file_goes_before_the_configuration),
        cmocka_unit_test(what_is_missing_or_wrong_is_said),
        cmocka_unit_test(a_bos_that_is_there_is_not_doubled),
        cmocka_unit_test(memory_that_runs_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
