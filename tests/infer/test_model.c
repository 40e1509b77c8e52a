/* SPDX-License-Identifier: MIT */
/* Opening models: configurations old and new, right and wrong; tensors missing, unknown or of the
 * wrong shape; names; and the metadata written for a GGUF. */
#include "infer/model.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The configuration of tiny.c's "llama", compact. */
static const char base[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_act\":\"silu\",\"hidden_size\":64,"
    "\"intermediate_size\":80,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"vocab_size\":257,\"max_position_embeddings\":4096,"
    "\"rope_theta\":10000.0,\"rope_scaling\":null,\"rms_norm_eps\":1e-05,"
    "\"tie_word_embeddings\":false}";

/* `base` with `from` replaced by `to`. */
static void edit(char *out, size_t n, const char *from, const char *to)
{
    const char *at = strstr(base, from);
    if (!at) fail_msg("no %s", from);
    snprintf(out, n, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
}

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static const struct {
    const char *from, *to, *message;
} bad_configs[] = {
    {"\"architectures\":[\"LlamaForCausalLM\"],", "", "key 'architectures' with a class name"},
    {"LlamaForCausalLM", "MambaForCausalLM",
     "architecture 'MambaForCausalLM' is not known (known, mostly with 'ForCausalLM' behind: "
     "Llama, "
     "Mistral, Ministral, Qwen2, "},
    {"\"hidden_size\":64,", "", "config.json: key 'hidden_size' is missing"},
    {"\"hidden_size\":64", "\"hidden_size\":\"64\"", "'hidden_size' should be a whole number"},
    {"\"hidden_size\":64", "\"hidden_size\":0", "'hidden_size' is 0, should be from 1 to 16777216"},
    {"\"hidden_size\":64", "\"hidden_size\":66", "66 is no multiple of the 4 heads"},
    {"\"hidden_size\":64", "\"hidden_size\":60", "head size 15 is odd"},
    {"\"num_hidden_layers\":2", "\"num_hidden_layers\":4294967297",
     "'num_hidden_layers' is 4294967297, should be from 1 to 16384"},
    {"\"num_hidden_layers\":2", "\"num_hidden_layers\":9000", "9000 blocks, but only"},
    {"\"num_key_value_heads\":2", "\"num_key_value_heads\":3",
     "4 heads are no multiple of 3 key/value heads"},
    {"\"num_attention_heads\":4", "\"num_attention_heads\":16384,\"head_dim\":16777216",
     "16384 heads of 16777216 are wider than"},
    {"\"vocab_size\":257,", "", "'vocab_size' should be a number from 1"},
    {"\"silu\"", "\"prelu\"", "'hidden_act' is \"prelu\"; of llama only these are supported: silu"},
    {"\"silu\"", "7", "'hidden_act' is not a name"},
    {"1e-05", "-1", "'rms_norm_eps' should be a positive number"},
    {"\"rms_norm_eps\":1e-05,", "", "key 'rms_norm_eps' is missing"},
    {"10000.0", "0.5", "rotary base is 0.5, should be above 1"},
    {"\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"ntk\",\"factor\":4}",
     "rope scaling 'ntk' is not supported (supported: default, linear, dynamic, llama3, yarn, "
     "longrope)"},
    {"\"rope_scaling\":null", "\"rope_scaling\":{\"type\":\"linear\"}",
     "key 'factor' of linear rope scaling is missing"},
    {"\"rope_scaling\":null", "\"rope_scaling\":7", "'rope_scaling' should be an object"},
    {"\"rope_scaling\":null",
     "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":5,"
     "\"high_freq_factor\":4,\"original_max_position_embeddings\":512}",
     "high_freq_factor 4 is below low_freq_factor 5"},
    {"\"rope_scaling\":null", "\"partial_rotary_factor\":0.5",
     "'partial_rotary_factor' is 0.5, only 1 is supported"},
    /* right in themselves, wrong for these weights */
    {"\"intermediate_size\":80", "\"intermediate_size\":96",
     "tensor 'model.layers.0.mlp.gate_proj.weight': shape is [80, 64], expected [96, 64]"},
    {"\"vocab_size\":257", "\"vocab_size\":256", "shape is [257, 64], expected [256, 64]"},
    {"\"num_hidden_layers\":2", "\"num_hidden_layers\":3",
     "tensor 'model.layers.2.input_layernorm.weight' is missing"},
    {"\"num_hidden_layers\":2", "\"num_hidden_layers\":1",
     "has no place in architecture 'llama' with 1 blocks"},
    {"LlamaForCausalLM", "Qwen2ForCausalLM",
     "tensor 'model.layers.0.self_attn.q_proj.bias' is missing"},
    {"LlamaForCausalLM", "Qwen3ForCausalLM",
     "tensor 'model.layers.0.self_attn.q_norm.weight' is missing"},
};

static void wrong_configurations_are_named(void **state)
{
    (void)state;
    tiny t;
    tiny_make(&t, "llama");
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++) {
        char text[1024];
        nib_err err;
        edit(text, sizeof text, bad_configs[i].from, bad_configs[i].to);
        tiny_config(&t, text);
        must(nib_source_open(&t.src, t.dir, &err), &err);
        if (nib_model_open(&t.model, t.src, &err) != NIB_EFORMAT)
            fail_msg("accepted: %s", bad_configs[i].to);
        if (!strstr(err.msg, bad_configs[i].message) || strncmp(err.msg, t.dir, strlen(t.dir)))
            fail_msg("'%s' should say '%s'", err.msg, bad_configs[i].message);
        nib_source_close(t.src);
        t.src = NULL;
    }
    tiny_drop(&t);
}

static void open_with(tiny *t, const char *from, const char *to)
{
    char text[1024];
    edit(text, sizeof text, from, to);
    tiny_config(t, text);
    tiny_open(t);
}

static void close_one(tiny *t)
{
    nib_model_close(&t->model);
    nib_source_close(t->src);
    t->src = NULL;
}

static void configurations_old_and_new(void **state)
{
    (void)state;
    static const char llama3[] = "\"rope_type\":\"llama3\",\"factor\":32,\"low_freq_factor\":1,"
                                 "\"high_freq_factor\":4,"
                                 "\"original_max_position_embeddings\":512";
    char to[400];
    float old[8];
    tiny t;
    tiny_make(&t, "llama");

    open_with(&t, "\"rope_scaling\":null,", "");
    assert_null(t.model.rope_factors);
    assert_int_equal(t.model.hp.head_dim, 16);
    assert_false(t.model.hp.head_dim_given);
    assert_false(t.model.hp.tied);
    assert_false(t.model.rope_interleaved);
    close_one(&t);

    snprintf(to, sizeof to, "\"rope_scaling\":{%s}", llama3);
    open_with(&t, "\"rope_scaling\":null", to);
    assert_true(t.model.hp.rope_scaling == NIB_ROPE_LLAMA3 && t.model.hp.rope_base == 10000);
    memcpy(old, t.model.rope_factors, sizeof old);
    /* Wavelength 2 pi base^(2i/16): pair 0 is short, the last is 2 pi 10000^(7/8) = 19868, long;
     * pair 3 is 198.7: s = (512 / 198.7 - 1) / 3 = 0.5257. */
    assert_true(old[0] == 1 && old[7] == 32);
    assert_true(fabs((double)old[3] - 1 / ((1 - 0.52570) / 32 + 0.52570)) < 1e-3);
    close_one(&t);

    snprintf(to, sizeof to, "\"rope_parameters\":{%s,\"rope_theta\":10000.0}", llama3);
    open_with(&t, "\"rope_theta\":10000.0,\"rope_scaling\":null", to);
    assert_memory_equal(old, t.model.rope_factors, sizeof old);
    close_one(&t);

    open_with(&t, "\"rope_scaling\":null", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}");
    assert_true(t.model.hp.rope_scaling == NIB_ROPE_LINEAR && t.model.hp.rope_factor == 4);
    close_one(&t);

    open_with(&t, "\"rope_theta\":10000.0,\"rope_scaling\":null",
              "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5}");
    assert_true(t.model.hp.rope_scaling == NIB_ROPE_PLAIN && t.model.hp.rope_base == 500000);
    tiny_drop(&t);
}

static void what_has_no_place_gets_none(void **state)
{
    (void)state;
    static char *const names[] = {"model.layers.0.self_attn.rotary_emb.inv_freq",
                                  "model.layers.0.self_attn.q_norm.weight",
                                  "model.layers.2.mlp.up_proj.weight"};
    tiny t;
    tiny_make(&t, "llama");
    tiny_open(&t);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const nib_tensor tensor = {.name = names[i]};
        nib_place p = {.role = NIB_ROLE_ATTN_Q, .layer = 1, .bias = true};
        assert_false(nib_model_place(&t.model, &tensor, &p));
        assert_true(p.role == NIB_ROLE_NONE && !p.layer && !p.bias);
    }
    close_one(&t);
    tiny_drop(&t);
}

static void there_and_back(const nib_arch *a, nib_role r, bool hf)
{
    nib_place p = {.role = r, .layer = r < NIB_ROLE_FIRST_BLOCK ? 0 : 17}, back;
    char name[96];
    if (hf)
        nib_place_hf_name(a, p, name, sizeof name);
    else
        nib_place_gguf_name(p, name, sizeof name);
    if (!nib_place_parse(name, hf ? a : NULL, &back))
        fail_msg("%s: %s is not known", a->name, name);
    if (nib_role_is_expert(r) && !hf) p.expert = NIB_EXPERTS_ALL;
    if (back.role != r || back.layer != p.layer || back.bias || back.expert != p.expert)
        fail_msg("%s: %s is role %d, not %d", a->name, name, back.role, r);
    assert_false(nib_place_parse(name, hf ? NULL : a, &back));
}

/* All that blocks use, and what each model has. */
static void names_there_and_back(void **state)
{
    static const nib_role global[] = {NIB_ROLE_TOKEN_EMBD, NIB_ROLE_OUTPUT_NORM, NIB_ROLE_OUTPUT};
    (void)state;
    for (size_t i = 0; i < nib_arch_count(); i++)
        for (int hf = 0; hf < 2; hf++) {
            const nib_arch *a = nib_arch_at(i);
            for (size_t k = 0; k < sizeof global / sizeof *global; k++)
                there_and_back(a, global[k], hf);
            for (nib_role r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++)
                if (nib_steps_find(&a->block, r) || nib_steps_find(&a->dense_block, r))
                    there_and_back(a, r, hf);
        }
    nib_place p;
    assert_true(nib_place_parse("blk.0.attn_q.bias", NULL, &p) && p.bias);
    static const char *const wrong[] = {"",
                                        "blk.attn_q.weight",
                                        "blk.00.attn_q.weight",
                                        "blk.1attn_q.weight",
                                        ".weight",
                                        "blk.-1.attn_q.weight",
                                        "blk.1.attn_q",
                                        "blk.1.attn_q.scale",
                                        "blk.weight",
                                        "token_embd.bias",
                                        "blk.1.output.weight",
                                        "attn_q.weight",
                                        "blk.1.",
                                        "blk.9999999999.attn_q.weight"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (nib_place_parse(wrong[i], NULL, &p)) fail_msg("'%s' is taken", wrong[i]);
}

static void row_order_of_adjacent_pairs(void **state)
{
    (void)state;
    /* Two heads of 6: 0 3 1 4 2 5, then the same from 6 on. */
    static const uint64_t expected[] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    for (uint64_t r = 0; r < 12; r++) assert_int_equal(nib_rope_source_row(r, 6), expected[r]);
}

static void metadata_of_a_gguf(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint64_t value;
    } llama[] = {
        {"llama.block_count", 2},          {"llama.context_length", 4096},
        {"llama.embedding_length", 64},    {"llama.feed_forward_length", 80},
        {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
        {"llama.vocab_size", 257},         {"llama.rope.dimension_count", 16},
    };
    tiny t;
    nib_err err;
    nib_str arch;
    float f;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    tiny_make(&t, "llama");
    tiny_open(&t);
    must(nib_model_to_gguf(&t.model, kvs, &err), &err);
    assert_true(nib_gguf_get_str(kvs, "general.architecture", &arch));
    assert_string_equal(arch.p, "llama");
    for (size_t i = 0; i < sizeof llama / sizeof *llama; i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_find(kvs, llama[i].key);
        uint64_t v;
        if (!kv || kv->type != NIB_GGUF_U32 || !nib_gguf_get_u64(kvs, llama[i].key, &v) ||
            v != llama[i].value)
            fail_msg("%s", llama[i].key);
    }
    assert_true(nib_gguf_get_f32(kvs, "llama.rope.freq_base", &f) && f == 10000);
    assert_true(nib_gguf_get_f32(kvs, "llama.attention.layer_norm_rms_epsilon", &f) && f == 1e-5f);
    assert_null(nib_gguf_kvs_find(kvs, "llama.attention.key_length"));
    assert_null(nib_gguf_kvs_find(kvs, "llama.rope.scaling.type"));
    nib_gguf_kvs_free(kvs);
    tiny_drop(&t);

    kvs = nib_gguf_kvs_new();
    uint64_t n = 0;
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    must(nib_model_to_gguf(&t.model, kvs, &err), &err);
    assert_true(nib_gguf_get_u64(kvs, "qwen3.attention.key_length", &n) && n == 16);
    assert_true(nib_gguf_get_u64(kvs, "qwen3.attention.value_length", &n) && n == 16);
    assert_null(nib_gguf_kvs_find(kvs, "qwen3.vocab_size"));
    assert_null(nib_gguf_kvs_find(kvs, "qwen3.rope.dimension_count"));
    nib_gguf_kvs_free(kvs);
    tiny_drop(&t);
}

/* ---- GGUF metadata, read ---- */

/* Write a GGUF with these metadata and one embedding of 8 tokens, try to open it as a model. */
static void expect_gguf(nib_gguf_kvs *kvs, const char *message)
{
    char dir[] = "/tmp/nib-infer-XXXXXX", path[64];
    const float zero[8 * 16] = {0};
    const nib_gguf_tensor embd = {"token_embd.weight", NIB_F32, 2, {8, 16}};
    nib_gguf_writer *w;
    nib_source *src;
    nib_model m;
    nib_err err;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    must(nib_gguf_begin(&w, path, kvs, &embd, 1, 0, true, &err), &err);
    must(nib_gguf_write(w, 0, zero, sizeof zero, &err), &err);
    must(nib_gguf_end(w, &err), &err);
    must(nib_source_open(&src, path, &err), &err);
    assert_int_equal(nib_model_open(&m, src, &err), NIB_EFORMAT);
    if (!strstr(err.msg, message)) fail_msg("'%s' should say '%s'", err.msg, message);
    nib_source_close(src);
    remove(path);
    remove(dir);
}

static void wrong_metadata_is_named(void **state)
{
    (void)state;
    const uint32_t two[] = {4, 4};
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    expect_gguf(k, "key 'general.architecture' is missing");
    nib_gguf_set_str(k, "general.architecture", "mamba", 5);
    expect_gguf(k, "architecture 'mamba' is not known (known: llama, qwen2, qwen3, ");
    nib_gguf_set_str(k, "general.architecture", "llama", 5);
    expect_gguf(k, "key 'llama.block_count' is missing");
    nib_gguf_set_u32(k, "llama.block_count", 1);
    nib_gguf_set_u32(k, "llama.context_length", 32);
    nib_gguf_set_u32(k, "llama.embedding_length", 16);
    nib_gguf_set_arr(k, "llama.feed_forward_length", NIB_GGUF_U32, two, 2);
    expect_gguf(k, "'llama.feed_forward_length' should be one whole number");
    nib_gguf_set_u32(k, "llama.feed_forward_length", 32);
    nib_gguf_set_u32(k, "llama.attention.head_count", 4);
    expect_gguf(k, "key 'llama.attention.layer_norm_rms_epsilon' is missing or no float");
    nib_gguf_set_f32(k, "llama.attention.layer_norm_rms_epsilon", NAN);
    expect_gguf(k, "norm epsilon is nan");
    nib_gguf_set_f32(k, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    nib_gguf_set_u32(k, "llama.rope.dimension_count", 2);
    expect_gguf(k, "'llama.rope.dimension_count' should be 4");
    nib_gguf_set_u32(k, "llama.rope.dimension_count", 4);
    nib_gguf_set_u32(k, "llama.expert_count", 8);
    expect_gguf(k, "key 'llama.expert_used_count' is missing");
    nib_gguf_del(k, "llama.expert_count");
    nib_gguf_set_str(k, "llama.rope.scaling.type", "ntk", 3);
    expect_gguf(k, "rope scaling 'ntk' is not supported");
    nib_gguf_set_str(k, "llama.rope.scaling.type", "linear", 6);
    nib_gguf_set_f32(k, "llama.rope.scaling.attn_factor", 1.2f);
    expect_gguf(k, "'llama.rope.scaling.attn_factor' = 1.2 is not supported");
    nib_gguf_del(k, "llama.rope.scaling.attn_factor");
    nib_gguf_del(k, "llama.rope.scaling.type");
    expect_gguf(k, "tensor 'output_norm.weight' is missing");
    nib_gguf_kvs_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_configurations_are_named),
        cmocka_unit_test(configurations_old_and_new),
        cmocka_unit_test(what_has_no_place_gets_none),
        cmocka_unit_test(names_there_and_back),
        cmocka_unit_test(row_order_of_adjacent_pairs),
        cmocka_unit_test(metadata_of_a_gguf),
        cmocka_unit_test(wrong_metadata_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
