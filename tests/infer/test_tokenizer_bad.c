/* SPDX-License-Identifier: MIT */
/* Tokenizers that are refused, each with the message that says why. */
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void check_refused(const char *tokenizer, const char *config, const char *part)
{
    nib_err err = {0};
    nib_tokenizer *t = NULL;
    nib_source *s = open_folder(tokenizer, config, NULL);
    assert_int_equal(nib_tokenizer_open(&t, s, &err), NIB_EFORMAT);
    assert_null(t);
    tmp_expect(err.msg, part);
    nib_source_close(s);
}

#define BPE(VOCAB_, MERGES_, MORE)                                                                 \
    "{'pre_tokenizer':" BYTE_LEVEL ",'model':{'type':'BPE'" MORE ",'vocab':" VOCAB_                \
    ",'merges':" MERGES_ "}}"

static void other_kinds_are_refused(void **unused)
{
    (void)unused;
    check_refused(NULL, NULL, "there is no tokenizer.json");
    check_refused("{'model':{'type':'WordLevel'}}", NULL,
                  "model of type 'WordLevel'; supported are BPE, Unigram and WordPiece");
    check_refused("{'model':{'type':'WordPiece','vocab':{'a':0}}}", NULL, "without an unknown");
    check_refused("{'model':{'type':'Unigram','vocab':[['a']]}}", NULL, "piece 0 is no pair");
    check_refused("{'model':{'type':'Unigram','vocab':[['a',-1.5]],'unk_id':1}}", NULL,
                  "unk_id 1 in a vocabulary of 1");
    check_refused("{'pre_tokenizer':" BYTE_LEVEL ",'model':{'type':'Unigram','vocab':[['a',0]]}}",
                  NULL, "ByteLevel with a model of type 'Unigram'");
    check_refused("{'model':{'type':'BPE','vocab':{'a':0},'merges':[],'unk_token':'b'}}", NULL,
                  "unknown token 'b' is not in the vocabulary");
    check_refused("{}", NULL, "no model");
    check_refused(BPE("{'a':0}", "[]", ",'end_of_word_suffix':'</w>'"), NULL, "suffix");
    check_refused(BPE("{'a':0}", "[]", ",'dropout':0.1"), NULL, "dropout 0.1");
    check_refused(BPE("{'a':0}", "[]", ",'unk_token':'a'"), NULL, "no token for byte 0x00");
    check_refused("{'normalizer':{'type':'ByteLevel'}," MODEL "}", NULL,
                  "normalizer of type 'ByteLevel'");
    check_refused("{'normalizer':{'type':'Precompiled'}," MODEL "}", NULL, "has no table");
    check_refused("{'normalizer':{'type':'Precompiled','precompiled_charsmap':'AAAA'}," MODEL "}",
                  NULL, "table of characters of 3 bytes");
    check_refused("{'decoder':{'type':'CTC'}," MODEL "}", NULL, "decoder of type 'CTC'");
    check_refused(TOKENIZER(SPECIALS, "'post_processor':{'type':'BertProcessing'},"), NULL,
                  "not known");
    check_refused(TOKENIZER(SPECIALS, "'post_processor':{'type':'Other'},"), NULL, "'Other'");
    check_refused(TOKENIZER(SPECIALS, TEMPLATE(SPECIAL("?") "," TEXT)), NULL, "not known");
}

static void broken_vocabularies_are_refused(void **unused)
{
    (void)unused;
    check_refused(BPE("1", "[]", ""), NULL, "no vocab object");
    check_refused(BPE("{}", "[]", ""), NULL, "vocabulary of 0 tokens");
    check_refused(BPE("{'a':0}", "{}", ""), NULL, "no merges");
    check_refused(BPE("{'a':-1}", "[]", ""), NULL, "'a' has no id");
    check_refused(BPE("{'a':1.5}", "[]", ""), NULL, "'a' has no id");
    check_refused(BPE("{'a':16777216}", "[]", ""), NULL, "'a' has no id between 0 and 16777215");
    check_refused(BPE("{'a':0,'b':0}", "[]", ""), NULL, "'a' and 'b' both have id 0");
    check_refused(BPE("{'[PAD0]':1}", "[]", ""), NULL, "'[PAD0]' is there twice, as 0 and as 1");
    check_refused(BPE("{'a':0}", "['a']", ""), NULL, "merge 0 is neither");
    check_refused(BPE("{'a':0}", "[['a','a','a']]", ""), NULL, "merge 0 is neither");
    check_refused(BPE("{'a':0}", "['a b']", ""), NULL, "right part is not in the vocabulary");
    check_refused(BPE("{'a':0,'b':1}", "['a b']", ""), NULL, "result is not in the vocabulary");
    check_refused(BPE("{'a':0,'aa':1}", "['a a','a a']", ""), NULL, "is there twice");
    /* a cycle would need a token that is a part of itself */
    check_refused(BPE("{'a':0}", "['a ']", ""), NULL, "right part");
    check_refused(TOKENIZER(ADDED("8", "", ""), ""), NULL, "no content");
    check_refused(TOKENIZER(ADDED("8", "other", ""), ""), NULL, "'<s>' and 'other' both have id 8");
    check_refused(TOKENIZER(ADDED("20", "ab", ""), ""), NULL,
                  "'ab' is there twice, as 4 and as 20");
}

/* Open a GGUF file of these records. */
static nib_code open_gguf(const nib_gguf_kvs *kvs, nib_tokenizer **t, nib_err *err)
{
    nib_gguf_writer *w = NULL;
    char path[256];
    snprintf(path, sizeof path, "%s", tmp_path("bad.gguf"));
    assert_int_equal(nib_gguf_begin(&w, path, kvs, NULL, 0, 0, true, err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, err), NIB_OK);
    nib_source *s = must_open(path);
    nib_code rc = nib_tokenizer_open(t, s, err);
    nib_source_close(s);
    return rc;
}

static void check_gguf(const nib_gguf_kvs *kvs, const char *part)
{
    nib_err err = {0};
    nib_tokenizer *t = NULL;
    nib_code rc = open_gguf(kvs, &t, &err);
    if (!part) {
        if (rc) fail_msg("%s", err.msg);
    } else {
        assert_int_equal(rc, NIB_EFORMAT);
        tmp_expect(err.msg, part);
    }
    nib_tokenizer_close(t);
}

static void broken_gguf_metadata_is_refused(void **unused)
{
    (void)unused;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    nib_str tokens[] = {{"a", 1}, {"b", 1}, {"ab", 2}, {"a", 1}},
            merges[] = {{"a b", 3}, {"ab", 2}};
    int32_t types[] = {1, 1, 7};
    assert_true(nib_gguf_set_str(k, "general.architecture", "llama", 5));
    check_gguf(k, "no tokenizer");
    assert_true(nib_gguf_set_str(k, "tokenizer.ggml.model", "llama", 5));
    assert_true(nib_gguf_set_str(k, "tokenizer.ggml.model", "rwkv", 4));
    check_gguf(k, "tokenizer.ggml.model is 'rwkv'; supported are 'gpt2', 'llama' and 't5'");
    assert_true(nib_gguf_set_str(k, "tokenizer.ggml.model", "gpt2", 4));
    assert_true(nib_gguf_set_str(k, "tokenizer.ggml.pre", "who", 3));
    check_gguf(k, "pre-tokenizer 'who' is not known");
    nib_gguf_del(k, "tokenizer.ggml.pre");
    check_gguf(k, "tokenizer.ggml.tokens");
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.tokens", NIB_GGUF_STR, tokens, 3));
    check_gguf(k, "tokenizer.ggml.merges");
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.merges", NIB_GGUF_STR, merges, 1));
    check_gguf(k, NULL);
    assert_true(nib_gguf_set_u32(k, "tokenizer.ggml.bos_token_id", 3)); /* out of range: ignored */
    assert_true(nib_gguf_set_bool(k, "tokenizer.ggml.add_bos_token", true));
    check_gguf(k, NULL);
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.token_type", NIB_GGUF_I32, types, 2));
    check_gguf(k, "as long as");
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.token_type", NIB_GGUF_I32, types, 3));
    check_gguf(k, "token 2 has type 7");
    nib_gguf_del(k, "tokenizer.ggml.token_type");
    assert_true(nib_gguf_set_str(k, "nibble.tokenizer.normalizer", "nfkc", 4));
    check_gguf(k, "'nfkc'");
    nib_gguf_del(k, "nibble.tokenizer.normalizer");
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.merges", NIB_GGUF_STR, merges, 2));
    check_gguf(k, "merge 1, 'ab'");
    assert_true(nib_gguf_set_arr(k, "tokenizer.ggml.tokens", NIB_GGUF_STR, tokens, 4));
    check_gguf(k, "'a' is there twice");
    nib_gguf_kvs_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_kinds_are_refused),
        cmocka_unit_test(broken_vocabularies_are_refused),
        cmocka_unit_test(broken_gguf_metadata_is_refused),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
