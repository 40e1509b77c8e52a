/* SPDX-License-Identifier: MIT */
/* tests/infer/tokenizers.c - see tokenizers.h. */
#include "tests/infer/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* A string of JSON with ' for ". */
static const char *quoted(const char *s)
{
    static char buf[8192];
    size_t n = strlen(s);
    assert_true(n < sizeof buf);
    memcpy(buf, s, n + 1);
    for (char *p = buf; (p = strchr(p, '\''));) *p = '"';
    return buf;
}

nib_source *open_folder(const char *tokenizer, const char *config, const char *generation)
{
    static bytes weights;
    weights.n = 0;
    make_safetensors(&weights, "{\"w\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                     2);
    tmp_write("model.safetensors", weights.b, weights.n);
    tmp_text("config.json", "{\"bos_token_id\":[9,8],\"eos_token_id\":8}");
    unlink(tmp_path("tokenizer.json"));
    unlink(tmp_path("tokenizer_config.json"));
    unlink(tmp_path("generation_config.json"));
    unlink(tmp_path("added_tokens.json"));
    unlink(tmp_path("special_tokens_map.json"));
    if (tokenizer) tmp_text("tokenizer.json", quoted(tokenizer));
    if (config) tmp_text("tokenizer_config.json", quoted(config));
    if (generation) tmp_text("generation_config.json", quoted(generation));
    return must_open(tmp_path(""));
}

nib_tokenizer *must_load(const nib_source *s)
{
    nib_err err = {0};
    nib_tokenizer *t = NULL;
    if (nib_tokenizer_open(&t, s, &err)) fail_msg("%s", err.msg);
    return t;
}

void side_file(const char *name, const char *json)
{
    tmp_text(name, quoted(json));
}

nib_tokenizer *by_hand(const char *tokenizer, const char *config)
{
    nib_source *s = open_folder(tokenizer, config, NULL);
    nib_tokenizer *t = must_load(s);
    nib_source_close(s);
    return t;
}

nib_tokenizer *tiny_tokenizer(void)
{
    nib_source *s = must_open(getenv("NIB_TINY"));
    nib_tokenizer *t = must_load(s);
    nib_source_close(s);
    return t;
}

nib_tokenizer *through_gguf(const nib_tokenizer *t, size_t n_vocab)
{
    nib_err err = {0};
    nib_gguf_writer *w = NULL;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    char path[256];
    snprintf(path, sizeof path, "%s", tmp_path("t.gguf"));
    assert_true(nib_gguf_set_str(kvs, "general.architecture", "llama", 5));
    if (nib_tokenizer_to_gguf(t, n_vocab, NULL, kvs, &err)) fail_msg("%s", err.msg);
    assert_int_equal(nib_gguf_begin(&w, path, kvs, NULL, 0, 0, true, &err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    nib_gguf_kvs_free(kvs);
    nib_source *s = must_open(path);
    nib_tokenizer *back = must_load(s);
    nib_source_close(s);
    return back;
}

nib_tokenizer *through_folder(const nib_tokenizer *t)
{
    nib_err err = {0};
    nib_json *tokenizer = nib_json_new_object(), *config = nib_json_new_object();
    if (nib_tokenizer_to_hf(t, 100, tokenizer, config, &err)) fail_msg("%s", err.msg);
    nib_source_close(open_folder(NULL, NULL, NULL));
    tmp_text("config.json", "{}");
    assert_int_equal(nib_json_save(tokenizer, true, tmp_path("tokenizer.json"), true, &err),
                     NIB_OK);
    assert_int_equal(nib_json_save(config, true, tmp_path("tokenizer_config.json"), true, &err),
                     NIB_OK);
    nib_source *s = must_open(tmp_path(""));
    nib_tokenizer *back = must_load(s);
    nib_source_close(s);
    return back;
}

const char *ids_of(const nib_tokenizer *t, const char *text, unsigned flags)
{
    static char out[2][4096];
    static int turn;
    char *at = out[turn ^= 1];
    nib_err err = {0};
    nib_ids ids = {0};
    assert_int_equal(nib_tokenizer_encode(t, text, strlen(text), flags, &ids, &err), NIB_OK);
    *at = 0;
    for (size_t i = 0; i < ids.n; i++) at += sprintf(at, "%s%d", i ? " " : "", (int)ids.id[i]);
    nib_ids_free(&ids);
    return out[turn];
}
