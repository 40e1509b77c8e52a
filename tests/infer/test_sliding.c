/* SPDX-License-Identifier: MIT */
/* Which layers slide, as configuration_{mistral,qwen2,qwen3}.py of Transformers and llama.cpp's
 * GGUF keys have it. Models of four layers. */
#include "infer/sliding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { LAYERS = 4 };

/* "0 16 16 16": the window of each layer. */
static void describe(const nib_hparams *hp, char *text, size_t n)
{
    size_t at = 0;
    for (uint32_t l = 0; l < LAYERS; l++)
        at += (size_t)snprintf(text + at, n - at, l ? " %u" : "%u", nib_layer_window(hp, l));
}

#define FULL "\"full_attention\""
#define SLIDING "\"sliding_attention\""

static const struct {
    const char *hf_class, *keys, *expected; /* windows, or the message */
} configs[] = {
    {"LlamaForCausalLM", "", "0 0 0 0"},
    {"LlamaForCausalLM", "\"sliding_window\":16", "0 0 0 0"}, /* Transformers' class has none */
    {"LlamaForCausalLM", "\"layer_types\":[" FULL "," FULL "," FULL "," FULL "]", "0 0 0 0"},
    {"LlamaForCausalLM", "\"layer_types\":[" FULL "," FULL "," SLIDING "," FULL "]",
     "'layer_types' has 'sliding_attention' for layer 2, the other keys mean 'full_attention'"},
    {"MistralForCausalLM", "\"sliding_window\":16", "16 16 16 16"},
    {"MistralForCausalLM", "\"sliding_window\":null", "0 0 0 0"},
    {"MistralForCausalLM", "", "4096 4096 4096 4096"},
    {"MistralForCausalLM", "\"sliding_window\":16,\"use_sliding_window\":false", "16 16 16 16"},
    {"MistralForCausalLM", "\"sliding_window\":16,\"max_window_layers\":2", "16 16 16 16"},
    {"MistralForCausalLM",
     "\"sliding_window\":16,\"layer_types\":[" SLIDING "," FULL "," SLIDING "," SLIDING "]",
     "'layer_types' has 'full_attention' for layer 1, the other keys mean 'sliding_attention'"},
    {"MistralForCausalLM", "\"sliding_window\":0",
     "'sliding_window' should be a whole number from 1 to 2147483647"},
    {"MistralForCausalLM", "\"sliding_window\":\"16\"", "'sliding_window' should be a whole"},
    {"MistralForCausalLM", "\"sliding_window\":2147483648", "'sliding_window' should be a whole"},
    {"Qwen2ForCausalLM", "\"sliding_window\":16,\"max_window_layers\":2", "0 0 0 0"},
    {"Qwen2ForCausalLM",
     "\"use_sliding_window\":false,\"sliding_window\":16,\"max_window_layers\":2", "0 0 0 0"},
    {"Qwen2ForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":2", "0 0 16 16"},
    {"Qwen2ForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":null,\"max_window_layers\":2", "0 0 0 0"},
    {"Qwen2ForCausalLM", "\"use_sliding_window\":true,\"max_window_layers\":0",
     "4096 4096 4096 4096"},
    {"Qwen2ForCausalLM", "\"use_sliding_window\":true,\"sliding_window\":16", "0 0 0 0"},
    {"Qwen3ForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":2,"
     "\"layer_types\":[" SLIDING "," FULL "," SLIDING "," FULL "]",
     "16 0 16 0"},
    {"Qwen3ForCausalLM",
     "\"use_sliding_window\":false,\"sliding_window\":null,\"max_window_layers\":2,"
     "\"layer_types\":[" FULL "," FULL "," FULL "," FULL "]",
     "0 0 0 0"},
    {"Qwen3ForCausalLM",
     "\"use_sliding_window\":false,\"sliding_window\":16,"
     "\"layer_types\":[" SLIDING "," FULL "," SLIDING "," FULL "]",
     "'layer_types' has 'sliding_attention' for layer 0, the other keys mean 'full_attention'"},
    /* the whole class slides, whatever else the keys say */
    {"Qwen3MoeForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":2", "16 16 16 16"},
    {"Qwen3MoeForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,"
     "\"layer_types\":[" SLIDING "," FULL "," SLIDING "," FULL "]",
     "'layer_types' has 'full_attention' for layer 1, the other keys mean 'sliding_attention'"},
    /* every other layer does, before that one */
    {"Qwen2MoeForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":2", "16 0 0 0"},
    {"Qwen2MoeForCausalLM", "\"use_sliding_window\":true", "4096 0 4096 0"},
    {"Qwen2MoeForCausalLM",
     "\"use_sliding_window\":true,\"sliding_window\":16,"
     "\"layer_types\":[" FULL "," FULL "," SLIDING "," SLIDING "]",
     "0 0 16 16"},
    {"Qwen3ForCausalLM", "\"layer_types\":[" FULL "]", "'layer_types' should be a list of 4 names"},
    {"Qwen3ForCausalLM", "\"layer_types\":[" FULL ",\"linear_attention\"," FULL "," FULL "]",
     "'layer_types' has 'linear_attention' for layer 1 (supported: full_attention, "
     "sliding_attention)"},
    {"Qwen3ForCausalLM", "\"layer_types\":[" FULL ",7," FULL "," FULL "]",
     "'layer_types' has '' for layer 1"},
    {"Qwen3ForCausalLM", "\"use_sliding_window\":1",
     "'use_sliding_window' should be true or false"},
    {"Qwen3ForCausalLM", "\"use_sliding_window\":true,\"max_window_layers\":null",
     "'max_window_layers' should be a whole number from 0"},
};

static void windows_of_configurations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        char text[400], got[100];
        nib_err err = {0};
        nib_json *cfg;
        nib_hparams hp = {.n_layer = LAYERS};
        snprintf(text, sizeof text, "{%s}", configs[i].keys);
        assert_int_equal(nib_json_parse(&cfg, text, strlen(text), &err), NIB_OK);
        if (nib_sliding_from_hf(&hp, configs[i].hf_class, cfg, &err) == NIB_OK) {
            describe(&hp, got, sizeof got);
            if (strcmp(got, configs[i].expected))
                fail_msg("%s %s: %s", configs[i].hf_class, text, got);
        } else if (!strstr(err.msg, configs[i].expected)) {
            fail_msg("%s %s: %s", configs[i].hf_class, text, err.msg);
        }
        nib_json_free(cfg);
    }
}

static void expect_gguf_of(const nib_arch *a, const nib_gguf_kvs *k, const char *expected)
{
    char got[100];
    nib_err err = {0};
    nib_hparams hp = {.n_layer = LAYERS};
    if (nib_sliding_from_gguf(&hp, a, k, &err) == NIB_OK) {
        describe(&hp, got, sizeof got);
        assert_string_equal(got, expected);
    } else if (!strstr(err.msg, expected)) {
        fail_msg("'%s' should say '%s'", err.msg, expected);
    }
}

static const nib_arch qwen2 = {.name = "qwen2"}, gemma = {.name = "gemma", .sliding_period = 2};

static void expect_gguf(const nib_gguf_kvs *k, const char *expected)
{
    expect_gguf_of(&qwen2, k, expected);
}

static void windows_of_gguf_files(void **state)
{
    (void)state;
    static const char window[] = "qwen2.attention.sliding_window";
    static const char pattern[] = "qwen2.attention.sliding_window_pattern";
    static const uint8_t flags[LAYERS + 1] = {1, 0, 0, 1, 1};
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    assert_non_null(k);
    expect_gguf(k, "0 0 0 0");
    assert_true(nib_gguf_set_u32(k, window, 16));
    expect_gguf(k, "16 16 16 16");
    assert_true(nib_gguf_set_arr(k, pattern, NIB_GGUF_BOOL, flags, LAYERS));
    expect_gguf(k, "16 0 0 16");
    assert_true(nib_gguf_set_arr(k, pattern, NIB_GGUF_BOOL, flags, LAYERS + 1));
    expect_gguf(k, "sliding_window_pattern' should be a whole number or 4 flags");
    assert_true(nib_gguf_set_u32(k, pattern, 3)); /* llama.cpp: slides where i % n < n - 1 */
    expect_gguf(k, "16 16 0 16");
    assert_true(nib_gguf_set_u32(k, pattern, 1));
    expect_gguf(k, "0 0 0 0");
    assert_true(nib_gguf_set_u32(k, pattern, 0));
    expect_gguf(k, "16 16 16 16");
    assert_true(nib_gguf_set_str(k, pattern, "all", 3));
    expect_gguf(k, "sliding_window_pattern' should be a whole number or 4 flags");
    assert_true(nib_gguf_set_u32(k, window, 0));
    expect_gguf(k, "0 0 0 0");
    assert_true(nib_gguf_set_f32(k, window, 16));
    expect_gguf(k, "sliding_window' should be a whole number up to");
    nib_gguf_kvs_free(k);
}

static void gguf_keys_there_and_back(void **state)
{
    (void)state;
    static const struct {
        uint8_t layers;
        size_t n_keys;
        const char *expected;
    } of[] = {{0, 0, "0 0 0 0"}, {15, 1, "16 16 16 16"}, {10, 2, "0 16 0 16"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        nib_err err = {0};
        nib_gguf_kvs *k = nib_gguf_kvs_new();
        const nib_hparams hp = {
            .n_layer = LAYERS, .window = of[i].layers ? 16 : 0, .sliding = {of[i].layers}};
        assert_int_equal(nib_sliding_to_gguf(&hp, &qwen2, k, &err), NIB_OK);
        assert_int_equal(nib_gguf_kvs_count(k), of[i].n_keys);
        expect_gguf(k, of[i].expected);
        nib_gguf_kvs_free(k);
    }
}

/* Where llama.cpp has a period of its own for the architecture, it reads another as a number, and
 * nothing else. */
static void periods(void **state)
{
    (void)state;
    static const struct {
        uint8_t layers;
        size_t n_keys;
        const char *expected;
    } of[] = {{5, 1, "16 0 16 0"}, {11, 2, "16 16 0 16"}, {15, 2, "16 16 16 16"}, {9, 0, NULL}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        nib_err err = {0};
        nib_gguf_kvs *k = nib_gguf_kvs_new();
        const nib_hparams hp = {.n_layer = LAYERS, .window = 16, .sliding = {of[i].layers}};
        nib_code rc = nib_sliding_to_gguf(&hp, &gemma, k, &err);
        if (of[i].expected) {
            assert_int_equal(rc, NIB_OK);
            assert_int_equal(nib_gguf_kvs_count(k), of[i].n_keys);
            expect_gguf_of(&gemma, k, of[i].expected);
        } else {
            assert_int_equal(rc, NIB_EINVAL);
        }
        nib_gguf_kvs_free(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(periods),
        cmocka_unit_test(windows_of_configurations),
        cmocka_unit_test(windows_of_gguf_files),
        cmocka_unit_test(gguf_keys_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
