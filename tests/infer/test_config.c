/* SPDX-License-Identifier: MIT */
/* Keys of configurations: what published models have is taken, what changes the result and is not
 * implemented is refused by name, what contradicts itself too. */
#include "infer/config_int.h"
#include "tests/infer/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SIZES                                                                                      \
    "\"hidden_act\":\"silu\",\"hidden_size\":64,\"intermediate_size\":80,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":257,"                      \
    "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0"
#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," SIZES
#define QWEN3 "\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\"," SIZES

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* Reads a configuration: only config.json of the folder matters. */
static nib_code read_config(const tiny *t, const char *text, nib_hparams *hp, nib_err *err)
{
    nib_source *src;
    const nib_arch *arch;
    tiny_config(t, text);
    must(nib_source_open(&src, t->dir, err), err);
    nib_code rc = nib_config_read(hp, &arch, src, err);
    nib_source_close(src);
    return rc;
}

/* As published, and as Transformers and others save them. */
static const char *const good[] = {
    /* SmolLM2-135M-Instruct */
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
    "\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":576,"
    "\"initializer_range\":0.041666666666666664,\"intermediate_size\":1536,\"is_llama_config\":"
    "true,"
    "\"max_position_embeddings\":8192,\"mlp_bias\":false,\"model_type\":\"llama\","
    "\"num_attention_heads\":9,\"num_hidden_layers\":30,\"num_key_value_heads\":3,"
    "\"pad_token_id\":2,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_interleaved\":false,"
    "\"rope_scaling\":null,\"rope_theta\":100000,\"tie_word_embeddings\":true,"
    "\"torch_dtype\":\"bfloat16\",\"transformers.js_config\":{\"dtype\":\"q4\",\"kv_cache_dtype\":"
    "{\"q4f16\":\"float16\",\"fp16\":\"float16\"}},\"transformers_version\":\"4.42.3\","
    "\"use_cache\":true,\"vocab_size\":49152}",
    /* Llama-3.2-1B-Instruct */
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
    "\"bos_token_id\":128000,\"eos_token_id\":[128001,128008,128009],\"head_dim\":64,"
    "\"hidden_act\":\"silu\",\"hidden_size\":2048,\"initializer_range\":0.02,"
    "\"intermediate_size\":8192,\"max_position_embeddings\":131072,\"mlp_bias\":false,"
    "\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":16,"
    "\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":{"
    "\"factor\":32.0,\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,"
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,"
    "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"transformers_version\":"
    "\"4.45.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}",
    /* the first Llama, in the first folders */
    "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":0,\"eos_token_id\":1,"
    "\"hidden_act\":\"silu\",\"hidden_size\":4096,\"intermediate_size\":11008,"
    "\"initializer_range\":0.02,\"max_sequence_length\":2048,\"max_position_embeddings\":2048,"
    "\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":32,"
    "\"pad_token_id\":-1,\"rms_norm_eps\":1e-06,\"torch_dtype\":\"float16\","
    "\"transformers_version\":\"4.27.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}",
    /* deepseek-coder-1.3b, with the older name of the type */
    "{\"architectures\":[\"LlamaForCausalLM\"],\"bos_token_id\":32013,\"eos_token_id\":32014,"
    "\"hidden_act\":\"silu\",\"hidden_size\":2048,\"initializer_range\":0.02,"
    "\"intermediate_size\":5504,\"max_position_embeddings\":16384,\"model_type\":\"llama\","
    "\"num_attention_heads\":16,\"num_hidden_layers\":24,\"num_key_value_heads\":16,"
    "\"pretraining_tp\":1,\"rms_norm_eps\":1e-06,\"rope_scaling\":{\"factor\":4.0,\"type\":"
    "\"linear\"},\"rope_theta\":100000,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.33.1\",\"use_cache\":true,\"vocab_size\":32256}",
    /* DeepSeek-R1-Distill-Qwen-1.5B */
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":151643,"
    "\"eos_token_id\":151643,\"hidden_act\":\"silu\",\"hidden_size\":1536,"
    "\"initializer_range\":0.02,\"intermediate_size\":8960,\"max_position_embeddings\":131072,"
    "\"max_window_layers\":21,\"model_type\":\"qwen2\",\"num_attention_heads\":12,"
    "\"num_hidden_layers\":28,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"rope_theta\":"
    "10000,"
    "\"sliding_window\":4096,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.44.0\",\"use_cache\":true,\"use_mrope\":false,"
    "\"use_sliding_window\":false,\"vocab_size\":151936}",
    /* Mistral-Small, saved by Unsloth with Transformers 5 */
    "{\"architectures\":[\"MistralForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":1,"
    "\"dtype\":\"bfloat16\",\"eos_token_id\":2,\"head_dim\":128,\"hidden_act\":\"silu\","
    "\"hidden_size\":5120,\"initializer_range\":0.02,\"intermediate_size\":32768,"
    "\"max_position_embeddings\":131072,\"model_type\":\"mistral\",\"num_attention_heads\":32,"
    "\"num_hidden_layers\":40,\"num_key_value_heads\":8,\"pad_token_id\":11,\"rms_norm_eps\":1e-05,"
    "\"rope_parameters\":{\"rope_theta\":1000000000.0,\"rope_type\":\"default\"},"
    "\"sliding_window\":null,\"tie_word_embeddings\":false,\"transformers_version\":\"5.10.2\","
    "\"unsloth_version\":\"2025.12.5\",\"use_cache\":false,\"vocab_size\":131072}",
    /* by PaddleNLP */
    "{" LLAMA ",\"alibi\":false,\"attention_probs_dropout_prob\":0.1,\"hidden_dropout_prob\":0.1,"
    "\"paddlenlp_version\":null,\"rope_scaling_factor\":1.0,\"rope_scaling_type\":null,"
    "\"use_recompute\":false,\"virtual_pp_degree\":1}",
    /* a full dump of an old base class */
    "{" LLAMA ",\"return_dict\":true,\"output_hidden_states\":false,\"torchscript\":false,"
    "\"pruned_heads\":{},\"chunk_size_feed_forward\":0,\"is_decoder\":false,"
    "\"cross_attention_hidden_size\":null,\"add_cross_attention\":false,\"temperature\":1.0,"
    "\"top_k\":50,\"repetition_penalty\":1.0,\"length_penalty\":1.0,\"id2label\":{\"0\":"
    "\"LABEL_0\"},\"_attn_implementation_autoset\":true,\"task_specific_params\":null,"
    "\"encoder_no_repeat_ngram_size\":0,\"typical_p\":1.0,\"num_beam_groups\":1}",
    /* switched off, or as it is anyway */
    "{" LLAMA ",\"num_experts\":0,\"attention_sink_size\":null,\"use_qk_norm\":false,"
    "\"logit_scale\":1.0,\"embedding_multiplier\":1,\"final_logit_softcapping\":null,"
    "\"no_rope_layers\":[],\"is_causal\":true,\"tie_word_embeddings\":null}",
    "{" LLAMA ",\"rotary_percentage\":1.0,\"use_rotary_position_embeddings\":true}",
    /* of nobody's business */
    "{" LLAMA ",\"our_note\":\"fine-tuned on recipes\",\"run\":7}",
    "{" LLAMA ",\"rope_scaling\":{},\"rope_parameters\":null}",
    "{" LLAMA ",\"rope_scaling\":null,\"rope_parameters\":{\"rope_theta\":5e5}}",
    "{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"rope_type\":\"linear\",\"factor\":2}}",
    "{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0},"
    "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,\"rope_theta\":10000}}",
};

static void published_configurations_are_taken(void **state)
{
    (void)state;
    tiny t;
    tiny_make(&t, "llama");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        nib_hparams hp;
        nib_err err = {0};
        if (read_config(&t, good[i], &hp, &err)) fail_msg("%s\n%s", err.msg, good[i]);
    }
    tiny_drop(&t);
}

static const struct {
    const char *keys, *message;
} bad[] = {
    {LLAMA ",\"attention_sink_size\":4", "'attention_sink_size' is 4, and what that does"},
    {LLAMA ",\"final_logit_softcapping\":30.0", "'final_logit_softcapping' is 30, and what"},
    {LLAMA ",\"num_local_experts\":8", "'num_local_experts' is 8, and what"},
    {LLAMA ",\"use_qk_norm\":true", "'use_qk_norm' is true, and what"},
    {LLAMA ",\"no_rope_layers\":[1,1,0]", "'no_rope_layers' is [1,1,0], and what"},
    {LLAMA ",\"per_layer_config\":{\"0\":{}}", "'per_layer_config' is {\"0\":{}}, and what"},
    {LLAMA ",\"residual_multiplier\":0.22",
     "'residual_multiplier' is 0.22, which is not supported (supported: 1)"},
    {LLAMA ",\"logit_scale\":0", "'logit_scale' is 0, which is not supported (supported: 1)"},
    {LLAMA ",\"alibi\":true", "'alibi' is true, which is not supported (supported: false)"},
    {LLAMA ",\"is_causal\":false", "'is_causal' is false, which is not supported"},
    {LLAMA ",\"position_embedding_type\":\"alibi\"", "'position_embedding_type' is \"alibi\""},
    {LLAMA ",\"rope_interleaved\":true", "'rope_interleaved' is true, which is not supported"},
    {"\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"mistral\"," SIZES,
     "'model_type' is 'mistral', that of 'architectures' LlamaForCausalLM is 'llama'"},
    {"\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2_moe\"," SIZES,
     "'model_type' is 'qwen2_moe', that of 'architectures' Qwen2ForCausalLM is 'qwen2'"},
    /* rope */
    {LLAMA ",\"rope_scaling\":{\"factor\":4.0}", "rope scaling has 'factor' and no 'rope_type'"},
    {LLAMA ",\"rope_parameters\":{\"rope_theta\":1e6,\"factor\":4.0}",
     "rope scaling has 'factor' and no 'rope_type'"},
    {LLAMA ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"linear\",\"rope_type\":\"default\"}",
     "rope scaling has 'rope_type' 'default' and 'type' 'linear': which is it?"},
    {LLAMA ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"linear\"},"
           "\"rope_parameters\":{\"rope_type\":\"default\"}",
     "'rope_parameters' and 'rope_scaling' contradict each other"},
    {LLAMA ",\"rope_scaling\":{\"factor\":4.0,\"type\":\"linear\"},"
           "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2.0}",
     "'rope_parameters' and 'rope_scaling' contradict each other"},
    {LLAMA ",\"rope_scaling\":{\"rope_type\":\"default\",\"rope_theta\":2e4},"
           "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":3e4}",
     "'rope_parameters' and 'rope_scaling' contradict each other"},
    {LLAMA ",\"rope_scaling\":{\"rope_type\":\"default\",\"mrope_section\":[16,24,24]}",
     "key 'mrope_section' of rope scaling is not supported"},
    {LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
           "\"high_freq_factor\":4}",
     "key 'original_max_position_embeddings' of llama3 rope scaling is missing"},
    {LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"ntk\",\"factor\":4}}",
     "'full_attention' of 'rope_parameters': rope scaling 'ntk' is not supported"},
    {LLAMA ",\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"default\"}}",
     "'rope_parameters' has nothing for 'full_attention'"},
    {LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":1,\"alpha\":1000}",
     "key 'alpha' of rope scaling is not supported"},
    {LLAMA ",\"moe_layer_freq\":2", "'moe_layer_freq' is 2, which is not supported"},
    {LLAMA ",\"rope_parameters\":{\"full_attention\":null}",
     "'rope_parameters' has nothing for 'full_attention'"},
    {LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"},"
           "\"rope_theta\":1e6}",
     "'rope_parameters' has 'rope_theta' beside objects for kinds of layers"},
    {QWEN3 ",\"use_sliding_window\":true,\"max_window_layers\":1,\"sliding_window\":16,"
           "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6},"
           "\"sliding_attention\":{\"rope_theta\":1e4}}",
     "'rope_parameters' differs between 'full_attention' and 'sliding_attention' layers"},
};

static void what_changes_the_result_is_refused(void **state)
{
    (void)state;
    tiny t;
    tiny_make(&t, "llama");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[1200];
        nib_hparams hp;
        nib_err err = {0};
        snprintf(text, sizeof text, "{%s}", bad[i].keys);
        if (read_config(&t, text, &hp, &err) != NIB_EFORMAT) fail_msg("accepted: %s", text);
        if (!strstr(err.msg, bad[i].message))
            fail_msg("'%s' should say '%s'", err.msg, bad[i].message);
    }
    tiny_drop(&t);
}

static void ropes_of_kinds_of_layers(void **state)
{
    (void)state;
    tiny t;
    nib_hparams hp;
    nib_err err = {0};
    tiny_make(&t, "llama");
    must(read_config(&t,
                     "{" QWEN3 ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6},"
                     "\"sliding_attention\":{\"rope_theta\":1e4}}}",
                     &hp, &err),
         &err); /* no layer slides */
    assert_true(hp.rope_base == 1e6f);
    must(read_config(&t,
                     "{" QWEN3 ",\"use_sliding_window\":true,\"max_window_layers\":1,"
                     "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":"
                     "3,\"rope_theta\":2e6},\"sliding_attention\":{\"rope_type\":\"linear\","
                     "\"factor\":3,\"rope_theta\":2e6}}}",
                     &hp, &err),
         &err);
    assert_true(hp.rope_base == 2e6f && hp.rope_factor == 3);
    assert_int_equal(hp.rope_scaling, NIB_ROPE_LINEAR);
    tiny_drop(&t);
}

/* Transformers 5 looks inside first. */
static void inner_bases_count(void **state)
{
    (void)state;
    tiny t;
    nib_hparams hp;
    nib_err err = {0};
    tiny_make(&t, "llama");
    must(read_config(&t, "{" LLAMA ",\"rope_parameters\":{\"rope_theta\":5e5}}", &hp, &err), &err);
    assert_true(hp.rope_base == 5e5f);
    must(read_config(&t,
                     "{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"default\"},\"rope_scaling\":"
                     "{\"rope_type\":\"default\",\"rope_theta\":3e5}}",
                     &hp, &err),
         &err);
    assert_true(hp.rope_base == 3e5f);
    tiny_drop(&t);
}

/* Reads a linear factor from GGUF metadata. */
static void expect_factor(const nib_gguf_kvs *k, nib_rope_scaling scaling, float factor)
{
    nib_hparams hp = {0};
    nib_err err = {0};
    must(nib_rope_from_gguf(&hp, nib_arch_at(0), k, &err), &err);
    assert_int_equal(hp.rope_scaling, scaling);
    assert_true(hp.rope_factor == factor);
}

/* llama.cpp: linear unless another type is given; the newer key counts; 0 is none. */
static void factors_of_gguf_files(void **state)
{
    (void)state;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    assert_non_null(k);
    expect_factor(k, NIB_ROPE_PLAIN, 1);
    assert_true(nib_gguf_set_f32(k, "llama.rope.scale_linear", 4));
    expect_factor(k, NIB_ROPE_LINEAR, 4);
    assert_true(nib_gguf_set_f32(k, "llama.rope.scaling.factor", 8));
    expect_factor(k, NIB_ROPE_LINEAR, 8);
    assert_true(nib_gguf_set_str(k, "llama.rope.scaling.type", "linear", 6));
    expect_factor(k, NIB_ROPE_LINEAR, 8);
    assert_true(nib_gguf_set_f32(k, "llama.rope.scaling.factor", 0));
    expect_factor(k, NIB_ROPE_PLAIN, 1);
    assert_true(nib_gguf_set_f32(k, "llama.rope.scaling.factor", 8));
    assert_true(nib_gguf_set_str(k, "llama.rope.scaling.type", "none", 4));
    expect_factor(k, NIB_ROPE_PLAIN, 1);
    nib_gguf_kvs_free(k);
}

static void keys_of_gguf_files(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    assert_non_null(k);
    assert_true(nib_gguf_set_u32(k, "llama.expert_used_count", 0));
    assert_true(nib_gguf_set_u32(k, "llama.rope.scaling.original_context_length", 4096));
    assert_true(nib_gguf_set_f32(k, "llama.rope.scaling.attn_factor", 1));
    assert_true(nib_gguf_set_f32(k, "llama.logit_scale", 1));
    assert_true(nib_gguf_set_bool(k, "llama.attention.causal", true));
    assert_true(nib_gguf_set_bool(k, "llama.use_parallel_residual", false));
    assert_true(nib_gguf_set_str(k, "llama.tensor_data_layout", "Meta AI original pth", 20));
    assert_true(nib_gguf_set_f32(k, "llamafile.logit_scale", 7)); /* another name space */
    must(nib_config_check_gguf_keys(k, nib_arch_at(0), &err), &err);
    assert_true(nib_gguf_set_f32(k, "llama.logit_scale", 0.5f));
    assert_int_equal(nib_config_check_gguf_keys(k, nib_arch_at(0), &err), NIB_EFORMAT);
    assert_string_equal(err.msg, "'llama.logit_scale' = 0.5 is not supported");
    nib_gguf_del(k, "llama.logit_scale");
    assert_true(nib_gguf_set_bool(k, "llama.attention.causal", false));
    assert_int_equal(nib_config_check_gguf_keys(k, nib_arch_at(0), &err), NIB_EFORMAT);
    assert_string_equal(err.msg, "'llama.attention.causal' = false is not supported");
    nib_gguf_del(k, "llama.attention.causal");
    assert_true(nib_gguf_set_str(k, "llama.attention.kind", "linear", 6));
    assert_int_equal(nib_config_check_gguf_keys(k, nib_arch_at(0), &err), NIB_EFORMAT);
    assert_string_equal(err.msg, "'llama.attention.kind' is not supported");
    nib_gguf_kvs_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_configurations_are_taken),
        cmocka_unit_test(what_changes_the_result_is_refused),
        cmocka_unit_test(ropes_of_kinds_of_layers),
        cmocka_unit_test(inner_bases_count),
        cmocka_unit_test(factors_of_gguf_files),
        cmocka_unit_test(keys_of_gguf_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
