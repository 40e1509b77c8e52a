/* SPDX-License-Identifier: MIT */
/* Tokenizers: the demonstration model's and small ones made by hand; encoding, decoding, from a
 * folder and from GGUF. What is refused: test_tokenizer_bad.c. */
#include "base/mem.h"
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { WITH = NIB_TOK_ADD_SPECIAL, PARSE = NIB_TOK_PARSE_SPECIAL };

/* ---- ids ---- */

/* Ranks: "a b" first, then "Ġ a", "ab c", "Ġ ab". In " ab" the first merge leaves "Ġ ab", which the
 * fourth joins; the second never gets its turn. In " abc" the third comes before the fourth. */
static void merges_follow_their_ranks(void **unused)
{
    (void)unused;
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""), NULL);
    assert_string_equal(ids_of(t, "abc", 0), "6");
    assert_string_equal(ids_of(t, " ab", 0), "7");
    assert_string_equal(ids_of(t, " a", 0), "5");
    assert_string_equal(ids_of(t, "cab abc", 0), "2 4 3 6");
    assert_string_equal(ids_of(t, "a-b", 0), "0 1"); /* '-' is no token: dropped */
    assert_string_equal(ids_of(t, "", 0), "");
    assert_int_equal(nib_tokenizer_n_vocab(t), 10);
    assert_string_equal(nib_tokenizer_token(t, 7).p, "\u0120ab");
    assert_int_equal(nib_tokenizer_token(t, 10).n, 0);
    nib_tokenizer_close(t);
}

static void whole_words_may_go_before_merges(void **unused)
{
    (void)unused;
    /* "bc" is a token that no merge makes. */
    static const char text[] =
        "{'pre_tokenizer':" BYTE_LEVEL ",'model':{'type':'BPE','ignore_merges':%s,"
        "'vocab':{'a':0,'b':1,'c':2,'bc':3},'merges':[]}}";
    char json[512];
    snprintf(json, sizeof json, text, "true");
    nib_tokenizer *t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "bc", 0), "3");
    assert_string_equal(ids_of(t, "abc", 0), "0 1 2");
    /* "gpt-2" in a GGUF file means that merges count, which would give other ids. */
    nib_err err = {0};
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    assert_int_equal(nib_tokenizer_to_gguf(t, 4, NULL, kvs, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "token 3 'bc' depends on it");
    nib_gguf_kvs_free(kvs);
    nib_tokenizer_close(t);
    snprintf(json, sizeof json, text, "false");
    t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "bc", 0), "1 2");
    nib_tokenizer_close(t);
}

static void special_tokens_are_parsed_only_when_asked(void **unused)
{
    (void)unused;
    nib_tokenizer *t = by_hand(
        TOKENIZER(SPECIALS "," ADDED("10", "<x>", "") "," ADDED("11", "<x>b", ""), ""), NULL);
    assert_string_equal(ids_of(t, "a<s>b", 0), "0 1"); /* its characters are no tokens here */
    assert_string_equal(ids_of(t, "a<s>b", PARSE), "0 8 1");
    assert_string_equal(ids_of(t, "<s></s><s", PARSE), "8 9");
    assert_string_equal(ids_of(t, "a<x>b", 0), "0 11"); /* not special; the longest wins */
    assert_string_equal(ids_of(t, "<x>a", 0), "10 0");
    /* what stands on either side is split by itself */
    assert_string_equal(ids_of(t, "a<x> ab", 0), "0 10 7");
    nib_tokenizer_close(t);
}

static void added_tokens_take_space_and_stand_alone(void **unused)
{
    (void)unused;
    nib_tokenizer *t = by_hand(
        TOKENIZER(ADDED("10", "<l>", ",'lstrip':true") "," ADDED(
                      "11", "<r>", ",'rstrip':true") "," ADDED("12", "cc", ",'single_word':true"),
                  ""),
        NULL);
    assert_string_equal(ids_of(t, "a  <l> a", 0), "0 10 5");
    assert_string_equal(ids_of(t, "a <r> \u3000 a", 0), "0 3 11 0");
    assert_string_equal(ids_of(t, "a cc b", 0), "0 3 12 3 1");
    assert_string_equal(ids_of(t, "acc cca", 0), "0 2 2 3 2 2 0");
    nib_tokenizer_close(t);
    /* the space that one takes may be the first of the next */
    t = by_hand(TOKENIZER(ADDED("10", "<r>", ",'rstrip':true") "," ADDED("11", " a", ""), ""),
                NULL);
    assert_string_equal(ids_of(t, "b<r> ab", 0), "1 10 11 1");
    assert_string_equal(ids_of(t, "b<r>  b", 0), "1 10 1");
    nib_tokenizer_close(t);
}

/* One that is found in normalized text is decoded as it stands there; one that the model does not
 * have comes out of no word. */
static void added_tokens_are_normalized_and_no_pieces(void **unused)
{
    (void)unused;
    char *text;
    size_t n;
    nib_err err = {0};
    nib_tokenizer *t = by_hand(
        "{'added_tokens':[" ADDED("4", "AB", ",'normalized':true,'single_word':true") "," ADDED(
            "5", "ba",
            ",'normalized':false") "," ADDED("6", "Cc",
                                             ",'normalized':true,'special':true") "],'normalizer':{"
                                                                                  "'type':'"
                                                                                  "Lowercase'},'"
                                                                                  "model':{'type':"
                                                                                  "'Unigram','unk_"
                                                                                  "id':0,'vocab':[["
                                                                                  "'<unk>',0],['a',"
                                                                                  "-1],"
                                                                                  "['b',-1],['c',-"
                                                                                  "1]]}}",
        NULL);
    assert_string_equal(ids_of(t, "c Ab", 0), "3 0 4");
    assert_string_equal(ids_of(t, "cab", 0), "3 1 2"); /* stands not alone */
    assert_string_equal(ids_of(t, "ba", 0), "5");
    assert_string_equal(ids_of(t, "bA", 0), "2 1"); /* not in the text as it is */
    assert_int_equal(nib_tokenizer_decode(t, (int32_t[]){4, 5}, 2, false, &text, &n, &err), NIB_OK);
    assert_non_null(strstr(text, "ab"));
    assert_null(strstr(text, "AB"));
    nib_free(text);
    assert_int_equal(nib_tokenizer_decode(t, (int32_t[]){6, 4}, 2, true, &text, &n, &err), NIB_OK);
    assert_string_equal(text, "cc ab"); /* special ones too, as the library has it */
    nib_free(text);
    nib_tokenizer_close(t);
}

static void text_is_normalized_where_the_model_does(void **unused)
{
    (void)unused;
    static const char plain[] = "{'added_tokens':[" ADDED(
        "3", "\u00E9!", ",'normalized':true") "],"
                                              "'normalizer':%s,'pre_tokenizer':" BYTE_LEVEL
                                              ",'model':{'type':'BPE',"
                                              "'vocab':{'e':0,'\u00C3':1,'\u00A9':2},'merges':[]}}";
    char json[1024];
    snprintf(json, sizeof json, plain, "{'type':'Sequence','normalizers':[{'type':'NFC'}]}");
    nib_tokenizer *t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "e\u0301", 0), "1 2"); /* U+00E9 is C3 A9 */
    assert_string_equal(ids_of(t, "e\u0301!", 0), "3");  /* found after normalizing */
    nib_tokenizer *back = through_gguf(t, 4);
    assert_string_equal(ids_of(back, "e\u0301", 0), "1 2"); /* "gpt-2" alone would not say so */
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
    snprintf(json, sizeof json, plain, "null");
    t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "e\u0301", 0), "0");
    nib_tokenizer_close(t);
}

/* A token that does not say so is found after normalizing unless it is special. */
static void normalized_unless_special(void **unused)
{
    (void)unused;
    static const char form[] =
        "{'added_tokens':[" ADDED("3", "\u00E9!", "%s") "],'normalizer':{'type':'NFC'},"
                                                        "'pre_tokenizer':" BYTE_LEVEL
                                                        ",'model':{'type':'BPE','vocab':{'e':0,"
                                                        "'\u00C3':1,'\u00A9':2},'merges':[]}}";
    char json[1024];
    snprintf(json, sizeof json, form, "");
    nib_tokenizer *t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "e\u0301!", PARSE), "3");
    nib_tokenizer_close(t);
    snprintf(json, sizeof json, form, ",'special':true");
    t = by_hand(json, NULL);
    assert_string_equal(ids_of(t, "e\u0301!", PARSE), "1 2");
    assert_string_equal(ids_of(t, "\u00E9!", PARSE), "3");
    nib_tokenizer_close(t);
}

static void a_space_may_go_in_front(void **unused)
{
    (void)unused;
    nib_tokenizer *t = by_hand(
        "{'added_tokens':[" SPECIALS "],'pre_tokenizer':{'type':'ByteLevel'}," MODEL "}", NULL);
    assert_string_equal(ids_of(t, "ab", 0), "7");
    assert_string_equal(ids_of(t, " ab", 0), "7");
    assert_string_equal(ids_of(t, "a<s>a", PARSE), "5 8 5");
    nib_tokenizer *back = through_gguf(t, 10);
    assert_string_equal(ids_of(back, "ab", 0), "7");
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
}

/* ---- added tokens that tokenizer.json does not have ---- */

/* The folder again, with the files that were put beside it. */
static nib_tokenizer *reopened(void)
{
    nib_source *s = must_open(tmp_path(""));
    nib_tokenizer *t = must_load(s);
    nib_source_close(s);
    return t;
}

/* Ids of Transformers 5.17 for such folders: tokens of the list have the ids it states, and their
 * white space; what tokenizer.json has otherwise stays as it is; a token of the vocabulary that is
 * called special becomes so. */
static void tokenizer_config_adds_tokens(void **unused)
{
    (void)unused;
    nib_tokenizer *t =
        by_hand(TOKENIZER(SPECIALS, ""),
                "{'eos_token':'<e>','unk_token':'abc','added_tokens_decoder':{"
                "'8':{'content':'<s>','special':true},'10':{'content':'<e>','special':true},"
                "'11':{'content':'<t>','special':false,'rstrip':true},'9':{'content':'<x>'}}}");
    assert_int_equal(nib_tokenizer_n_vocab(t), 12);
    assert_int_equal(nib_tokenizer_eos(t), 10);
    assert_string_equal(ids_of(t, "a<e>b<t>  a<s>", PARSE), "0 10 1 11 0 8");
    assert_string_equal(ids_of(t, "<x></s>", PARSE), "9"); /* '<x>' has no id of its own */
    assert_string_equal(ids_of(t, "a<e><t>", 0), "0 11");
    assert_string_equal(ids_of(t, "aabc", PARSE), "0 6");
    assert_string_equal(ids_of(t, "aabc", 0), "0 6");
    nib_tokenizer *back = through_gguf(t, 12);
    assert_int_equal(nib_tokenizer_eos(back), 10);
    assert_string_equal(ids_of(back, "a<e>b", PARSE), "0 10 1");
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
}

static void older_files_add_tokens(void **unused)
{
    (void)unused;
    nib_source_close(open_folder(TOKENIZER(SPECIALS, ""), "{'eos_token':'</s>'}", NULL));
    side_file("added_tokens.json", "{'<e>':10,'<t>':11}");
    side_file("special_tokens_map.json",
              "{'eos_token':{'content':'<e>'},'additional_special_tokens':['<s>']}");
    nib_tokenizer *t = reopened();
    assert_int_equal(nib_tokenizer_eos(t), 10);
    assert_string_equal(ids_of(t, "a<e>b<t>", PARSE), "0 10 1 11");
    assert_string_equal(ids_of(t, "a<e>b<t>", 0), "0 1 11"); /* '<e>' is special, '<t>' is not */
    nib_tokenizer_close(t);
    /* With a list in tokenizer_config.json they are of no account. */
    side_file("tokenizer_config.json", "{'eos_token':'</s>','added_tokens_decoder':{}}");
    t = reopened();
    assert_int_equal(nib_tokenizer_n_vocab(t), 10);
    assert_int_equal(nib_tokenizer_eos(t), 9);
    nib_tokenizer_close(t);
}

static void tokens_beyond_the_embedding_are_left_out(void **unused)
{
    (void)unused;
    nib_source_close(open_folder(TOKENIZER(SPECIALS, ""),
                                 "{'added_tokens_decoder':{'10':{'content':'<e>'},'11':{'content':"
                                 "'[PAD]'}}}",
                                 NULL));
    side_file("config.json", "{'vocab_size':11}");
    nib_tokenizer *t = reopened();
    assert_int_equal(nib_tokenizer_n_vocab(t), 11);
    nib_tokenizer_close(t);
}

static void added_tokens_need_sense(void **unused)
{
    (void)unused;
    static const char *const configs[][2] = {
        {"{'added_tokens_decoder':{'10':{'special':true}}}", "an added token has no content"},
        {"{'added_tokens_decoder':{'99999999':{'content':'<e>'}}}", "'<e>' has no id between"},
    };
    for (size_t i = 0; i < 2; i++) {
        nib_err err = {0};
        nib_tokenizer *t;
        nib_source *s = open_folder(TOKENIZER(SPECIALS, ""), configs[i][0], NULL);
        assert_int_equal(nib_tokenizer_open(&t, s, &err), NIB_EFORMAT);
        tmp_expect(err.msg, configs[i][1]);
        nib_source_close(s);
    }
}

/* ---- BOS, EOS ---- */

static void check_around(const char *post, const char *config, const char *want)
{
    char json[2048];
    snprintf(json, sizeof json, TOKENIZER(SPECIALS, "%s"), post);
    nib_tokenizer *t = by_hand(json, config);
    assert_string_equal(ids_of(t, "c", WITH), want);
    assert_string_equal(ids_of(t, "c", 0), "2");
    nib_tokenizer *back = through_gguf(t, 10);
    assert_string_equal(ids_of(back, "c", WITH), want);
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
}

static void bos_and_eos_are_added_as_the_model_says(void **unused)
{
    (void)unused;
    static const char names[] = "{'bos_token':'<s>','eos_token':{'content':'</s>'}}";
    check_around("", names, "2");
    check_around(TEMPLATE(SPECIAL("<s>") "," TEXT), names, "8 2");
    check_around(TEMPLATE(TEXT "," SPECIAL("</s>")), names, "2 9");
    check_around(TEMPLATE(TEXT), "{'bos_token':'<s>','add_bos_token':true}", "8 2");
    check_around("'post_processor':{'type':'Sequence','processors':[" BYTE_LEVEL
                 ",{'type':'TemplateProcessing','single':[" SPECIAL("<s>") "," TEXT "]}]},",
                 "{'bos_token':'<s>','add_bos_token':false}", "2");
    check_around("",
                 "{'bos_token':'<s>','eos_token':'</s>','add_bos_token':true,'add_eos_token':true}",
                 "8 2 9");
}

static void special_ids_come_from_the_first_that_has_them(void **unused)
{
    (void)unused;
    nib_tokenizer *t = by_hand(TOKENIZER(SPECIALS, ""), "{'bos_token':'<s>','eos_token':null}");
    assert_int_equal(nib_tokenizer_bos(t), 8); /* by name, though config.json says 9 */
    assert_int_equal(nib_tokenizer_eos(t), 8); /* config.json */
    nib_tokenizer_close(t);
    t = by_hand(TOKENIZER(SPECIALS, ""), NULL);
    assert_int_equal(nib_tokenizer_bos(t), 9); /* the first of config.json's list */
    nib_tokenizer_close(t);
    nib_err err = {0};
    uint64_t pad = 0;
    nib_source *s =
        open_folder(TOKENIZER(SPECIALS, ""), NULL, "{'bos_token_id':1,'pad_token_id':7}");
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    t = must_load(s);
    assert_int_equal(nib_tokenizer_bos(t), 9);
    assert_int_equal(nib_tokenizer_to_gguf(t, 10, NULL, kvs, &err), NIB_OK);
    assert_true(nib_gguf_get_u64(kvs, "tokenizer.ggml.padding_token_id", &pad));
    assert_int_equal(pad, 7); /* only generation_config.json has it */
    nib_gguf_kvs_free(kvs);
    nib_tokenizer_close(t);
    nib_source_close(s);
}

/* ---- the demonstration model ---- */

static uint32_t state = 7;
static uint32_t rnd(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* Letters, spaces, any byte at all, characters of two to four bytes. */
static size_t random_text(char *p, size_t max)
{
    static const char *const pieces[] = {"the ",    "\n\n",   "   ",        "\u00E9",
                                         "e\u0301", "\u4E16", "\U0001F600", "<|end_of_text|>",
                                         "'LL",     "12345",  "\xC3"};
    size_t n = 0, want = rnd((uint32_t)max - 16);
    while (n < want) {
        if (rnd(3)) {
            p[n++] = (char)(rnd(2) ? 'a' + rnd(26) : rnd(256));
        } else {
            const char *s = pieces[rnd(sizeof pieces / sizeof *pieces)];
            memcpy(p + n, s, strlen(s));
            n += strlen(s);
        }
    }
    return n;
}

static void any_bytes_come_back(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_tokenizer *t = tiny_tokenizer(), *g = through_gguf(t, 2053);
    assert_string_equal(nib_tokenizer_pre(t), "dbrx");
    assert_string_equal(nib_tokenizer_pre(g), "dbrx");
    assert_int_equal(nib_tokenizer_n_vocab(g), 2053);
    assert_int_equal(nib_tokenizer_bos(g), 2046);
    assert_int_equal(nib_tokenizer_eos(g), 2047);
    assert_true(nib_tokenizer_adds_bos(g));
    assert_false(nib_tokenizer_adds_eos(g));
    for (int i = 0; i < 3000; i++) {
        char text[400], *back;
        nib_ids a = {0}, b = {0};
        size_t n = random_text(text, sizeof text), n_back;
        unsigned flags = rnd(4);
        assert_int_equal(nib_tokenizer_encode(t, text, n, flags, &a, &err), NIB_OK);
        assert_int_equal(nib_tokenizer_encode(g, text, n, flags, &b, &err), NIB_OK);
        assert_int_equal(a.n, b.n);
        if (a.n) assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
        if (flags & WITH) {
            assert_int_equal(a.id[0], 2046);
            memmove(a.id, a.id + 1, --a.n * sizeof *a.id);
        }
        assert_int_equal(nib_tokenizer_decode(t, a.id, a.n, false, &back, &n_back, &err), NIB_OK);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, text, n);
        nib_free(back);
        nib_ids_free(&a);
        nib_ids_free(&b);
    }
    nib_tokenizer_close(g);
    nib_tokenizer_close(t);
}

/* Text that is longer than any cache of words, and pieces of it one by one. */
static void long_text_is_the_sum_of_its_lines(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_tokenizer *t = tiny_tokenizer();
    nib_ids whole = {0}, lines = {0};
    enum { N = 1 << 18 };
    char *text = nib_alloc(N, 1);
    size_t n = 0, k;
    while (n < N - 100) { /* words end where a line begins */
        for (k = 5 + rnd(60); k > 0; k--) text[n++] = rnd(5) ? (char)('a' + rnd(4)) : ' ';
        text[n++] = 'x';
        text[n++] = '\n';
        assert_int_equal(nib_tokenizer_encode(t, text + n - 2, 2, 0, &lines, &err), NIB_OK);
    }
    nib_ids_free(&lines);
    assert_int_equal(nib_tokenizer_encode(t, text, n, 0, &whole, &err), NIB_OK);
    for (size_t at = 0; at < n; at += k) {
        k = (size_t)((char *)memchr(text + at, '\n', n - at) - (text + at));
        assert_int_equal(nib_tokenizer_encode(t, text + at, k, 0, &lines, &err), NIB_OK);
        for (; at + k < n && text[at + k] == '\n'; k++)
            assert_int_equal(nib_tokenizer_encode(t, "\n", 1, 0, &lines, &err), NIB_OK);
    }
    assert_int_equal(whole.n, lines.n);
    assert_memory_equal(whole.id, lines.id, whole.n * sizeof *whole.id);
    nib_ids_free(&whole);
    nib_ids_free(&lines);
    nib_free(text);
    nib_tokenizer_close(t);
}

static void decoding_knows_special_tokens_and_limits(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_tokenizer *t = tiny_tokenizer();
    char *text;
    size_t n;
    int32_t ids[] = {2046, 64, 2047};
    assert_int_equal(nib_tokenizer_decode(t, ids, 3, false, &text, &n, &err), NIB_OK);
    assert_string_equal(text, "<|begin_of_text|>a<|end_of_text|>");
    nib_free(text);
    assert_int_equal(nib_tokenizer_decode(t, ids, 3, true, &text, &n, &err), NIB_OK);
    assert_string_equal(text, "a");
    nib_free(text);
    ids[1] = 2048;
    assert_int_equal(nib_tokenizer_decode(t, ids, 3, true, &text, &n, &err), NIB_EINVAL);
    tmp_expect(err.msg, "token id 2048; the vocabulary has 0 to 2047");
    ids[1] = -1;
    assert_int_equal(nib_tokenizer_decode(t, ids, 3, true, &text, &n, &err), NIB_EINVAL);
    nib_tokenizer_close(t);
}

/* ---- GGUF keys ---- */

static void every_key_is_written(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_str s;
    uint64_t u;
    const void *data;
    size_t n;
    bool b;
    nib_tokenizer *t = by_hand(
        TOKENIZER(SPECIALS "," ADDED("11", "x\u2581y", "") "," ADDED("12", "<|odd|>", ""), ""),
        "{'bos_token':'<s>','eos_token':'</s>','pad_token':'</s>','chat_template':["
        "{'name':'default','template':'D'},{'name':'tool_use','template':'T'}]}");
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    assert_int_equal(nib_tokenizer_to_gguf(t, 12, NULL, kvs, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "13 tokens, the embedding only 12 rows");
    assert_int_equal(nib_tokenizer_to_gguf(t, 14, NULL, kvs, &err), NIB_OK);
    assert_true(nib_gguf_get_str(kvs, "tokenizer.ggml.model", &s));
    assert_string_equal(s.p, "gpt2");
    assert_true(nib_gguf_get_str(kvs, "tokenizer.ggml.pre", &s));
    assert_string_equal(s.p, "gpt-2");
    assert_true(nib_gguf_get_arr(kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, &data, &n));
    assert_int_equal(n, 14);
    const nib_str *token = data;
    assert_string_equal(token[7].p, "\u0120ab");
    assert_string_equal(token[10].p, "[PAD10]"); /* an id that no token has */
    assert_string_equal(token[11].p, "x y");
    assert_string_equal(token[13].p, "[PAD13]"); /* a row without a token */
    assert_true(nib_gguf_get_arr(kvs, "tokenizer.ggml.token_type", NIB_GGUF_I32, &data, &n));
    static const int32_t types[] = {1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 5, 4, 3, 5};
    assert_int_equal(n, 14);
    assert_memory_equal(data, types, sizeof types);
    assert_true(nib_gguf_get_arr(kvs, "tokenizer.ggml.merges", NIB_GGUF_STR, &data, &n));
    static const char *const merges[] = {"a b", "\u0120 a", "ab c", "\u0120 ab"};
    assert_int_equal(n, 4);
    for (int i = 0; i < 4; i++) assert_string_equal(((const nib_str *)data)[i].p, merges[i]);
    assert_true(nib_gguf_get_u64(kvs, "tokenizer.ggml.bos_token_id", &u) && u == 8);
    assert_true(nib_gguf_get_u64(kvs, "tokenizer.ggml.eos_token_id", &u) && u == 9);
    assert_true(nib_gguf_get_u64(kvs, "tokenizer.ggml.padding_token_id", &u) && u == 9);
    assert_null(nib_gguf_kvs_find(kvs, "tokenizer.ggml.unknown_token_id"));
    assert_true(nib_gguf_get_bool(kvs, "tokenizer.ggml.add_bos_token", &b) && !b);
    assert_true(nib_gguf_get_bool(kvs, "tokenizer.ggml.add_eos_token", &b) && !b);
    assert_true(nib_gguf_get_str(kvs, "tokenizer.chat_template", &s) && !strcmp(s.p, "D"));
    assert_true(nib_gguf_get_str(kvs, "tokenizer.chat_template.tool_use", &s) && !strcmp(s.p, "T"));
    assert_true(nib_gguf_get_arr(kvs, "tokenizer.chat_templates", NIB_GGUF_STR, &data, &n) &&
                n == 1);
    /* Once more from the file: the same records. */
    nib_tokenizer *back = through_gguf(t, 14);
    nib_gguf_kvs *again = nib_gguf_kvs_new();
    assert_int_equal(nib_tokenizer_to_gguf(back, 14, NULL, again, &err), NIB_OK);
    assert_int_equal(nib_gguf_kvs_count(again), nib_gguf_kvs_count(kvs));
    for (size_t i = 0; i < nib_gguf_kvs_count(kvs); i++) {
        const nib_gguf_kv *x = nib_gguf_kvs_at(kvs, i), *y = nib_gguf_kvs_find(again, x->key);
        if (!y || y->n != x->n) fail_msg("%s", x->key);
    }
    nib_tokenizer_close(back);
    nib_tokenizer_close(t);
    nib_gguf_kvs_free(again);
    nib_gguf_kvs_free(kvs);
}

static void a_template_may_have_a_file_of_its_own(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_str s;
    tmp_text("chat_template.jinja", "{{ messages }}");
    /* as in Transformers, whatever tokenizer_config.json has */
    nib_tokenizer *t =
        by_hand(TOKENIZER(SPECIALS, ""), "{'bos_token':'<s>','chat_template':'another'}");
    unlink(tmp_path("chat_template.jinja"));
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    assert_int_equal(nib_tokenizer_to_gguf(t, 10, NULL, kvs, &err), NIB_OK);
    assert_true(nib_gguf_get_str(kvs, "tokenizer.chat_template", &s));
    assert_string_equal(s.p, "{{ messages }}");
    nib_gguf_kvs_free(kvs);
    nib_tokenizer_close(t);
}

static void no_memory_is_an_error(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_source *s = open_folder(TOKENIZER(SPECIALS, "'normalizer':{'type':'NFC'},"),
                                "{'chat_template':'x'}", NULL);
    nib_tokenizer *t = NULL;
    nib_code rc = NIB_ENOMEM;
    for (long at = 1; rc == NIB_ENOMEM; at++) {
        nib_mem_fail_at(at);
        rc = nib_tokenizer_open(&t, s, &err);
        nib_mem_fail_at(0);
    }
    assert_int_equal(rc, NIB_OK);
    for (long at = 1; at < 100; at++) {
        nib_ids ids = {0};
        nib_mem_fail_at(at);
        rc = nib_tokenizer_encode(t, "e\u0301 abc <s>", 11, PARSE, &ids, &err);
        nib_mem_fail_at(0);
        nib_ids_free(&ids);
        if (rc == NIB_OK) break;
        assert_int_equal(rc, NIB_ENOMEM);
    }
    assert_int_equal(rc, NIB_OK);
    nib_tokenizer_close(t);
    nib_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_follow_their_ranks),
        cmocka_unit_test(whole_words_may_go_before_merges),
        cmocka_unit_test(special_tokens_are_parsed_only_when_asked),
        cmocka_unit_test(added_tokens_take_space_and_stand_alone),
        cmocka_unit_test(added_tokens_are_normalized_and_no_pieces),
        cmocka_unit_test(text_is_normalized_where_the_model_does),
        cmocka_unit_test(normalized_unless_special),
        cmocka_unit_test(a_space_may_go_in_front),
        cmocka_unit_test(tokenizer_config_adds_tokens),
        cmocka_unit_test(older_files_add_tokens),
        cmocka_unit_test(tokens_beyond_the_embedding_are_left_out),
        cmocka_unit_test(added_tokens_need_sense),
        cmocka_unit_test(bos_and_eos_are_added_as_the_model_says),
        cmocka_unit_test(special_ids_come_from_the_first_that_has_them),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(long_text_is_the_sum_of_its_lines),
        cmocka_unit_test(decoding_knows_special_tokens_and_limits),
        cmocka_unit_test(every_key_is_written),
        cmocka_unit_test(a_template_may_have_a_file_of_its_own),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
