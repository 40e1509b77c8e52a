/* SPDX-License-Identifier: MIT */
/* Tokenizers from GGUF written as the files of a folder: the same ids, and what cannot be said is
 * refused. Another implementation reads such files in tests/interop/tokenizer.js. */
#include "infer/tokenizer_pre.h"
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { WITH = NIB_TOK_ADD_SPECIAL, PARSE = NIB_TOK_PARSE_SPECIAL };

static const char *const texts[] = {
    "Hello, world! It's 12345 o'clock, 3.14 or 1,000,000.",
    "  two spaces\n\n\nthree lines\r\n\ttab  ",
    "camelCase snake_case ALLCAPS don't DON'T 'tis",
    "caf\u00E9 e\u0301 \u4E16\u754C\u3053\u3093 \u0416\u0443\u043A \U0001F600\u200D\U0001F525",
    "<|begin_of_text|>a <|end_of_text|> b<|end_of_text",
    "for (int i = 0; i < n; i++) {\n    x[i] += 2;\n}\n",
    "!!!??? --- ... ``` \u2026\u2014\u00BF",
    "",
};

static void same_ids(const nib_tokenizer *a, const nib_tokenizer *b)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (unsigned flags = 0; flags < 4; flags++)
            assert_string_equal(ids_of(a, texts[i], flags), ids_of(b, texts[i], flags));
}

/* The demonstration model's tokenizer as a GGUF file has it, under another splitter's name. */
static nib_tokenizer *under_name(const char *pre, size_t n)
{
    nib_err err = {0};
    nib_gguf_writer *w = NULL;
    nib_tokenizer *t = tiny_tokenizer();
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    char path[256];
    snprintf(path, sizeof path, "%s", tmp_path("pre.gguf"));
    assert_true(nib_gguf_set_str(kvs, "general.architecture", "llama", 5));
    assert_int_equal(nib_tokenizer_to_gguf(t, 2050, NULL, kvs, &err), NIB_OK);
    assert_true(nib_gguf_set_str(kvs, "tokenizer.ggml.pre", pre, n));
    assert_int_equal(nib_gguf_begin(&w, path, kvs, NULL, 0, 0, true, &err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    nib_gguf_kvs_free(kvs);
    nib_tokenizer_close(t);
    nib_source *s = must_open(path);
    t = must_load(s);
    nib_source_close(s);
    return t;
}

/* Splitter, normalization and whether merges are ignored come along. */
static void every_splitter_comes_back(void **unused)
{
    (void)unused;
    for (const nib_pre_rule *r = nib_pre_rules; r->names; r++) {
        nib_tokenizer *t = under_name(r->names, strcspn(r->names, " "));
        nib_tokenizer *back = through_folder(t);
        same_ids(t, back);
        assert_int_equal(nib_tokenizer_adds_bos(back), nib_tokenizer_adds_bos(t));
        nib_tokenizer_close(back);
        nib_tokenizer_close(t);
    }
}

static void check(const char *tokenizer, const char *config, const char *text, const char *want)
{
    nib_tokenizer *t = by_hand(tokenizer, config), *g = through_gguf(t, 14);
    nib_tokenizer *back = through_folder(g);
    assert_string_equal(ids_of(t, text, WITH | PARSE), want);
    assert_string_equal(ids_of(back, text, WITH | PARSE), want);
    assert_int_equal(nib_tokenizer_bos(back), nib_tokenizer_bos(t));
    assert_int_equal(nib_tokenizer_eos(back), nib_tokenizer_eos(t));
    nib_tokenizer_close(back);
    nib_tokenizer_close(g);
    nib_tokenizer_close(t);
}

static void what_goes_around_a_text_comes_back(void **unused)
{
    (void)unused;
    static const char names[] = "{'bos_token':'<s>','eos_token':'</s>'}";
    check(TOKENIZER(SPECIALS, ""), names, "ab c", "4 3 2");
    check(TOKENIZER(SPECIALS, TEMPLATE(SPECIAL("<s>") "," TEXT)), names, "ab", "8 4");
    check(TOKENIZER(SPECIALS, TEMPLATE(TEXT "," SPECIAL("</s>"))), names, "ab", "4 9");
    check(TOKENIZER(SPECIALS, TEMPLATE(SPECIAL("<s>") "," TEXT "," SPECIAL("</s>"))), names,
          "a</s>b", "8 0 9 1 9");
    check("{'added_tokens':[" SPECIALS "],'pre_tokenizer':{'type':'ByteLevel'}," MODEL "}", names,
          "ab", "7"); /* a space in front */
}

/* Id 10 has no token, 11 and 13 are added ones of either kind, 12 is missing too: readers number
 * added tokens from the end of the vocabulary, which therefore reaches up to the gaps. */
static void gaps_keep_their_ids(void **unused)
{
    (void)unused;
    check(TOKENIZER(SPECIALS "," ADDED("11", "<x>", "") "," ADDED("13", "<|odd|>", ""), ""),
          "{'bos_token':'<s>'}", "a<x>b<|odd|>", "0 11 1 13");
    nib_err err = {0};
    uint64_t id;
    nib_json *tokenizer = nib_json_new_object(), *config = nib_json_new_object();
    nib_tokenizer *t = by_hand(
        TOKENIZER(SPECIALS "," ADDED("11", "<x>", "") "," ADDED("13", "<|odd|>", ""), ""), NULL);
    assert_int_equal(nib_tokenizer_to_hf(t, 9, tokenizer, config, &err), NIB_OK);
    const nib_json *vocab = nib_json_get(nib_json_get(tokenizer, "model"), "vocab");
    assert_int_equal(nib_json_count(vocab), 13);
    assert_true(nib_json_u64(nib_json_get(vocab, "[PAD12]"), &id) && id == 12);
    assert_null(nib_json_get(vocab, "<|odd|>"));
    assert_int_equal(nib_json_count(nib_json_get(tokenizer, "added_tokens")), 4);
    nib_json_free(tokenizer);
    nib_json_free(config);
    nib_tokenizer_close(t);
}

static void configuration_has_tokens_and_templates(void **unused)
{
    (void)unused;
    nib_err err = {0};
    const char *text;
    uint64_t n;
    nib_json *tokenizer = nib_json_new_object(), *config = nib_json_new_object();
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""),
                               "{'bos_token':'<s>','pad_token':'</s>','chat_template':["
                               "{'name':'default','template':'D'},{'name':'rag','template':'R'}]}");
    assert_int_equal(nib_tokenizer_to_hf(t, 77, tokenizer, config, &err), NIB_OK);
    assert_true(nib_json_str(nib_json_get(config, "bos_token"), &text));
    assert_string_equal(text, "<s>");
    assert_true(nib_json_str(nib_json_get(config, "pad_token"), &text));
    assert_string_equal(text, "</s>");
    assert_null(nib_json_get(config, "unk_token"));
    assert_true(nib_json_u64(nib_json_get(config, "model_max_length"), &n) && n == 77);
    const nib_json *one = nib_json_first(nib_json_get(config, "chat_template"));
    assert_true(nib_json_str(nib_json_get(nib_json_next(one), "template"), &text));
    assert_string_equal(text, "R");
    nib_json_free(tokenizer);
    nib_json_free(config);
    nib_tokenizer_close(t);
}

/* What tokenizer.json cannot hold, each an error that names it. */
static void the_rest_is_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *pre;
        int prefix_space;
        nib_str token;
        const char *merge, *says;
    } odd[] = {
        {"gpt-2", 0, {"\xFF", 1}, "a b", "token 3 "},
        {"qwen2", 1, {"x", 1}, "a b", "'qwen2'"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        nib_err err = {0};
        nib_gguf_writer *w = NULL;
        nib_tokenizer *t = NULL;
        nib_gguf_kvs *kvs = nib_gguf_kvs_new();
        nib_str token[] = {{"a", 1}, {"b", 1}, {"ab", 2}, odd[i].token, {"ab c", 4}};
        nib_str merge[] = {{odd[i].merge, strlen(odd[i].merge)}};
        char path[256];
        snprintf(path, sizeof path, "%s", tmp_path("odd.gguf"));
        assert_true(
            nib_gguf_set_str(kvs, "general.architecture", "llama", 5) &&
            nib_gguf_set_str(kvs, "tokenizer.ggml.model", "gpt2", 4) &&
            nib_gguf_set_str(kvs, "tokenizer.ggml.pre", odd[i].pre, 5) &&
            nib_gguf_set_bool(kvs, "tokenizer.ggml.add_space_prefix", odd[i].prefix_space) &&
            nib_gguf_set_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, token, 5) &&
            nib_gguf_set_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, merge, 1));
        assert_int_equal(nib_gguf_begin(&w, path, kvs, NULL, 0, 0, true, &err), NIB_OK);
        assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
        nib_gguf_kvs_free(kvs);
        nib_source *s = must_open(path);
        assert_int_equal(nib_tokenizer_open(&t, s, &err), NIB_OK);
        nib_json *tokenizer = nib_json_new_object(), *config = nib_json_new_object();
        assert_int_equal(nib_tokenizer_to_hf(t, 9, tokenizer, config, &err), NIB_EFORMAT);
        tmp_expect(err.msg, odd[i].says);
        nib_json_free(tokenizer);
        nib_json_free(config);
        nib_tokenizer_close(t);
        nib_source_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_splitter_comes_back),
        cmocka_unit_test(what_goes_around_a_text_comes_back),
        cmocka_unit_test(gaps_keep_their_ids),
        cmocka_unit_test(configuration_has_tokens_and_templates),
        cmocka_unit_test(the_rest_is_refused),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
