/* SPDX-License-Identifier: MIT */
/* Which tokens end a text: of folders with one id or a list, in either file; of GGUF files. */
#include "infer/stop_ids.h"
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define CONFIG "{'eos_token':'</s>'}"

static void expect(nib_source *s, nib_tokenizer *t, const char *want)
{
    nib_err err;
    nib_ids ids = {0};
    char got[256] = "";
    if (nib_stop_ids(&ids, s, t, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < ids.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d", i ? " " : "", ids.id[i]);
    assert_string_equal(got, want);
    nib_ids_free(&ids);
}

static void folder(const char *generation, const char *want)
{
    nib_source *s = open_folder(TOKENIZER(SPECIALS, ""), CONFIG, generation);
    nib_tokenizer *t = must_load(s);
    expect(s, t, want);
    nib_tokenizer_close(t);
    nib_source_close(s);
}

/* The tokenizer's EOS is 9, config.json says 8. */
static void of_folders(void **state)
{
    (void)state;
    folder(NULL, "9 8");
    folder("{'eos_token_id':3}", "9 3");
    folder("{'eos_token_id':[3,9,4,3]}", "9 3 4");
    folder("{'eos_token_id':[]}", "9");
    folder("{'eos_token_id':null}", "9 8");
    folder("{'pad_token_id':1}", "9 8");
}

static void bad_ids(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{'eos_token_id':10}",
         "generation_config.json: 'eos_token_id' is 10; the vocabulary has 0 to 9"},
        {"{'eos_token_id':[1,-1]}", "should be a token's id or a list of them"},
        {"{'eos_token_id':'</s>'}", "should be a token's id or a list of them"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nib_err err;
        nib_ids ids = {0};
        nib_source *s = open_folder(TOKENIZER(SPECIALS, ""), CONFIG, cases[i].json);
        nib_tokenizer *t = must_load(s);
        assert_int_equal(nib_stop_ids(&ids, s, t, &err), NIB_EFORMAT);
        tmp_expect(err.msg, cases[i].says);
        nib_ids_free(&ids);
        nib_tokenizer_close(t);
        nib_source_close(s);
    }
}

/* A GGUF file with these tokens, the last two of which are control tokens; `key` has `id`. */
static nib_source *gguf(const char *key, uint32_t id, const char *third)
{
    nib_err err;
    nib_gguf_writer *w = NULL;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    const char *text[] = {"a", "b", third, "<|im_end|>"};
    nib_str tokens[4];
    const int32_t type[] = {1, 1, 3, 3};
    for (int i = 0; i < 4; i++) tokens[i] = (nib_str){text[i], strlen(text[i])};
    assert_true(nib_gguf_set_str(kvs, "general.architecture", "llama", 5) &&
                nib_gguf_set_str(kvs, "tokenizer.ggml.model", "gpt2", 4) &&
                nib_gguf_set_str(kvs, "tokenizer.ggml.pre", "gpt-2", 5) &&
                nib_gguf_set_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, tokens, 4) &&
                nib_gguf_set_arr(kvs, "tokenizer.ggml.token_type", NIB_GGUF_I32, type, 4) &&
                nib_gguf_set_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, tokens, 0) &&
                nib_gguf_set_u32(kvs, key, id));
    assert_int_equal(nib_gguf_begin(&w, tmp_path("stop.gguf"), kvs, NULL, 0, 0, true, &err),
                     NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    nib_gguf_kvs_free(kvs);
    return must_open(tmp_path("stop.gguf"));
}

static void one_gguf(const char *key, uint32_t id, const char *third, const char *want)
{
    nib_source *s = gguf(key, id, third);
    nib_tokenizer *t = must_load(s);
    expect(s, t, want);
    nib_tokenizer_close(t);
    nib_source_close(s);
}

static void of_gguf_files(void **state)
{
    (void)state;
    one_gguf("tokenizer.ggml.eos_token_id", 2, "<end>", "2 3"); /* 3 by its text */
    one_gguf("tokenizer.ggml.eot_token_id", 2, "<end>", "2 3");
    one_gguf("tokenizer.ggml.eom_token_id", 3, "<|eot_id|>", "3 2");
    one_gguf("tokenizer.ggml.bos_token_id", 2, "<end>", "3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_folders),
        cmocka_unit_test(bad_ids),
        cmocka_unit_test(of_gguf_files),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
