/* SPDX-License-Identifier: MIT */
/* infer/config_keys.c - the keys of configurations that no reader takes, held against what is
 * known of them; see config_int.h.
 *
 * Transformers' classes take what they know and keep the rest, so configurations are full of keys
 * without effect: of training, of generation, of other engines. Those are listed here. A key of a
 * later architecture, or of somebody's own code, does have an effect, and to ignore it would be to
 * compute another model. What is in no list is judged by its name: is it of the parts that a model
 * computes with? Tests: tests/infer/test_config.c. */
#include "infer/config_int.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

/* A name may begin or end with '*'. With values ("1|true", as compact JSON) it is a setting of
 * which these alone are implemented; without, it has no effect or is read elsewhere. */
typedef struct {
    const char *name, *values;
} known;

static const known config_keys[] = {
    /* read by config.c, config_rope.c, sliding.c and the readers of packed folders */
    {"architectures", NULL},
    {"model_type", NULL},
    {"num_hidden_layers", NULL},
    {"n_layers", NULL},
    {"n_layer", NULL},
    {"max_position_embeddings", NULL},
    {"n_ctx", NULL},
    {"n_positions", NULL},
    {"hidden_size", NULL},
    {"n_embd", NULL},
    {"dim", NULL},
    {"intermediate_size", NULL},
    {"n_inner", NULL},
    {"hidden_dim", NULL},
    {"num_attention_heads", NULL},
    {"n_head", NULL},
    {"n_heads", NULL},
    {"num_key_value_heads", NULL},
    {"n_kv_heads", NULL},
    {"head_dim", NULL},
    {"vocab_size", NULL},
    {"hidden_act", NULL},
    {"hidden_activation", NULL},
    {"rms_norm_eps", NULL},
    {"norm_eps", NULL},
    {"tie_word_embeddings", NULL},
    {"rope_theta", NULL},
    {"rope_scaling", NULL},
    {"rope_parameters", NULL},
    {"partial_rotary_factor", NULL},
    {"original_max_position_embeddings", NULL},
    {"sliding_window", NULL},
    {"use_sliding_window", NULL},
    {"max_window_layers", NULL},
    {"layer_types", NULL},
    {"quantization_config", NULL},
    {"compression_config", NULL},
    /* other spellings of these that the classes do not read; tensors have the sizes */
    {"num_layers", NULL},
    {"num_heads", NULL},
    {"num_kv_heads", NULL},
    {"kv_channels", NULL},
    {"multiple_of", NULL},
    {"ffn_dim_multiplier", NULL},
    {"layer_norm_eps*", NULL},
    {"norm_epsilon", NULL},
    /* biases are used where the tensors are there */
    {"attention_bias", NULL},
    {"mlp_bias", NULL},
    {"qkv_bias", NULL},
    {"use_bias", NULL},
    {"use_qkv_bias", NULL},
    {"bias", NULL},
    {"no_bias", NULL},
    /* how it is run: same values up to rounding */
    {"pretraining_tp", NULL},
    {"use_cache", NULL},
    {"use_flash_attention*", NULL},
    {"use_flash_attn*", NULL},
    {"flash_attention*", NULL},
    {"flash_attn*", NULL},
    {"use_sdpa*", NULL},
    {"use_fused_*", NULL},
    {"fused_*", NULL},
    {"use_memory_efficient_attention", NULL},
    {"*softmax_in_fp32", NULL},
    {"*logits_to_keep", NULL},
    {"attn_implementation*", NULL},
    {"chunk_size_feed_forward", NULL},
    {"low_cpu_mem_usage", NULL},
    {"cache_implementation", NULL},
    {"cache_config", NULL},
    {"*dtype", NULL},
    {"compute_dtype*", NULL},
    {"layernorm_compute_type", NULL},
    {"softmax_compute_type", NULL},
    {"rotary_dtype", NULL},
    {"param_init_type", NULL},
    /* training */
    {"initializer_range", NULL},
    {"init_*", NULL},
    {"*_init_std", NULL},
    {"*dropout*", NULL},
    {"*pdrop", NULL},
    {"gradient_checkpointing*", NULL},
    {"use_recompute", NULL},
    {"recompute*", NULL},
    {"virtual_pp_degree", NULL},
    {"sequence_parallel", NULL},
    {"tensor_parallel*", NULL},
    {"neftune_noise_alpha", NULL},
    {"z_loss*", NULL},
    {"*loss*", NULL},
    {"keep_in_fp32_modules", NULL},
    {"lora*", NULL},
    {"train*", NULL},
    {"unsloth*", NULL},
    {"ep_size", NULL},
    /* lengths and texts: of the tokenizer, of generation, of heads for other tasks */
    {"max_sequence_length", NULL},
    {"max_seq_len*", NULL},
    {"seq_length", NULL},
    {"seq_len", NULL},
    {"model_max_length", NULL},
    {"max_length", NULL},
    {"min_length", NULL},
    {"max_new_tokens", NULL},
    {"tokenizer_*", NULL},
    {"*token_id", NULL},
    {"*token_ids", NULL},
    {"*_token", NULL},
    {"*_tokens", NULL},
    {"*token_index", NULL},
    {"additional_vocab_size", NULL},
    {"org_vocab_size", NULL},
    {"pad_vocab_size*", NULL},
    {"bad_words_ids", NULL},
    {"do_sample", NULL},
    {"temperature", NULL},
    {"top_k", NULL},
    {"top_p", NULL},
    {"min_p", NULL},
    {"typical_p", NULL},
    {"num_beams", NULL},
    {"num_beam_groups", NULL},
    {"diversity_penalty", NULL},
    {"repetition_penalty", NULL},
    {"length_penalty", NULL},
    {"exponential_decay_length_penalty", NULL},
    {"early_stopping", NULL},
    {"*no_repeat_ngram_size", NULL},
    {"num_return_sequences", NULL},
    {"remove_invalid_values", NULL},
    {"output_*", NULL},
    {"return_dict*", NULL},
    {"num_labels", NULL},
    {"id2label", NULL},
    {"label2id", NULL},
    {"problem_type", NULL},
    {"summary_*", NULL},
    {"classifier_*", NULL},
    {"pooling*", NULL},
    {"task_specific_params", NULL},
    {"finetuning_task", NULL},
    {"prefix", NULL},
    {"is_decoder", NULL},
    {"tie_encoder_decoder", NULL},
    {"use_bfloat16", NULL},
    {"torchscript", NULL},
    {"tf_legacy_loss", NULL},
    {"torch*", NULL},
    /* where it comes from */
    {"_*", NULL},
    {"*_version", NULL},
    {"transformers*", NULL},
    {"auto_map", NULL},
    {"custom_pipelines", NULL},
    {"name_or_path", NULL},
    {"base_model*", NULL},
    {"is_llama_config", NULL},
    {"rlhf*", NULL},
    {"license", NULL},
    {"language*", NULL},
    {"onnx*", NULL},
    {"openvino*", NULL},
    /* what other models do */
    {"model_parallel", NULL},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {"is_causal", "true"},
    {"alibi", "false"},
    {"rope_interleaved", "false"},
    {"use_mrope", "false"},
    {"use_rope", "true"},
    {"rope_scaling_factor", "1"},
    {"use_rotary*", "true"},
    {"rotary_pct", "1"},
    {"rotary_percent*", "1"},
    {"rope_pct", "1"},
    {"position_embedding_type", "\"rope\"|\"rotary\"|\"rotary_embedding\"|\"absolute\""},
    {"position_embedding", "\"rope\"|\"rotary\""},
    {"activation", NULL},
    {"activation_function", NULL},
    {"normalization", "\"rmsnorm\"|\"RMSNorm\""},
    {"norm_type", "\"rmsnorm\"|\"RMSNorm\"|\"rms_norm\""},
    {"layer_norm_type", "\"rmsnorm\"|\"RMSNorm\"|\"rms_norm\""},
    {"use_rms_norm", "true"},
    {"use_rmsnorm", "true"},
    {"gated_mlp", "true"},
    {"scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "false"},
    {"reorder_and_upcast_attn", NULL},
    {"do_layer_norm_before", "true"},
    {"layer_norm_elementwise_affine", "true"},
    {"enable_bias", NULL},
    {"layerdrop", NULL},
    {"apply_residual_connection_post_layernorm", "false"},
    {"slow_but_exact", NULL},
    {"qk_layernorm", "false"},
    {"attn_logit_softcapping", ""}, /* of classes without the setting */
    {"router_jitter_noise", NULL},
    {"swiglu_limit", "7"},
    {"swiglu_alpha", "1.702"},
    {"parallel_attn", "true"},
    {"embedding_multiplier", "1"},
    {"residual_multiplier", "1"},
    {"logits_scaling", "1"},
    {"logit_scale", "1"},
    {"moe_layer_freq", "1"},
    {"scale_emb", "1"},
};

/* After "{arch}.". */
static const known gguf_keys[] = {
    {"block_count", NULL},
    {"context_length", NULL},
    {"embedding_length", NULL},
    {"feed_forward_length", NULL},
    {"vocab_size", NULL},
    {"attention.head_count", NULL},
    {"attention.head_count_kv", NULL},
    {"attention.key_length", NULL},
    {"attention.value_length", NULL},
    {"attention.layer_norm_rms_epsilon", NULL},
    {"attention.layer_norm_epsilon", NULL},
    {"attention.sliding_window", NULL},
    {"attention.sliding_window_pattern", NULL},
    {"attention.causal", "true"},
    {"rope.dimension_count", NULL},
    {"rope.freq_base", NULL},
    {"rope.scale_linear", NULL},
    {"rope.scaling.*", NULL}, /* of yarn, but for the type and the factor that are read */
    {"expert_count", NULL},
    {"tensor_data_layout", NULL},
    {"pooling_type", NULL},
};

static bool names(const char *pattern, const char *key)
{
    const size_t n = strlen(pattern), len = strlen(key);
    if (*pattern == '*' && pattern[n - 1] == '*' && n > 2) {
        char middle[64];
        snprintf(middle, sizeof middle, "%.*s", (int)n - 2, pattern + 1);
        return strstr(key, middle);
    }
    if (*pattern == '*') return len >= n - 1 && !strcmp(key + len - (n - 1), pattern + 1);
    if (pattern[n - 1] == '*') return !strncmp(key, pattern, n - 1);
    return !strcmp(key, pattern);
}

static const known *find(const known *list, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (names(list[i].name, key)) return &list[i];
    return NULL;
}

/* Is `text` one of the values "a|b"? */
static bool listed(const char *values, const char *text)
{
    const size_t n = strlen(text);
    for (const char *v = values; *v; v += strcspn(v, "|"), v += *v == '|')
        if (strcspn(v, "|") == n && !strncmp(v, text, n)) return true;
    return false;
}

/* A factor of 1 changes nothing, any other number may have 0 for 'none'. */
static double neutral_number(const char *key)
{
    return strstr(key, "scal") || strstr(key, "mult") || strstr(key, "factor") ? 1 : 0;
}

/* Parts of names of settings that models compute with. */
static bool sounds_computed(const char *key)
{
    static const char *const parts[] = {
        "_act",   "act_",   "activ",  "alibi", "attn",    "attention", "bias",     "causal",
        "chunk",  "clip",   "conv",   "embed", "expert",  "ffn",       "gate",     "head",
        "hidden", "kv",     "layer",  "logit", "mask",    "mlp",       "moe",      "mup",
        "multi",  "norm",   "ntk",    "posit", "qk",      "rank",      "residual", "rope",
        "rotary", "router", "scal",   "sink",  "softcap", "softmax",   "sparse",   "ssm",
        "state",  "theta",  "window",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(key, parts[i])) return true;
    return false;
}

/* ---- config.json ---- */

static bool is_neutral(const nib_json *j)
{
    const char *s;
    double v;
    bool b;
    if (nib_json_is_null(j)) return true;
    if (nib_json_bool(j, &b)) return !b;
    if (nib_json_str(j, &s)) return !*s;
    if (nib_json_num(j, &v)) return v == neutral_number(nib_json_key(j));
    return !nib_json_first(j);
}

/* A value as the tables have it, 1.0 as 1; the caller frees it. */
static char *json_text(const nib_json *j)
{
    double v;
    char *text = nib_json_print(j, false);
    const size_t n = text && nib_json_num(j, &v) ? nib_stem(text, ".0") : 0;
    if (n) text[n] = 0;
    return text;
}

static nib_code refuse(const nib_json *j, const char *why, nib_err *err)
{
    char *text = json_text(j);
    if (!text) return nib_fail_nomem(err, "a value of the configuration");
    nib_code rc = nib_fail(err, NIB_EFORMAT, "'%.60s' is %.60s, %s", nib_json_key(j), text, why);
    nib_free(text);
    return rc;
}

static nib_code check_values(const nib_json *j, const char *values, nib_err *err)
{
    char *text = json_text(j), why[160];
    if (!text) return nib_fail_nomem(err, "a value of the configuration");
    bool ok = listed(values, text);
    nib_free(text);
    if (ok) return NIB_OK;
    snprintf(why, sizeof why, "which is not supported%s%s", *values ? " (supported: " : "", values);
    if (*values) snprintf(why + strlen(why), sizeof why - strlen(why), ")");
    return refuse(j, why, err);
}

/* Is it one that is read for this architecture alone? */
static bool is_own(const nib_arch *a, bool gguf, const char *key)
{
    const char *const *own = gguf ? a->gguf_keys : a->config_keys;
    for (size_t i = 0; i < a->n_settings; i++)
        if (!strcmp(gguf ? a->settings[i].gguf : a->settings[i].hf, key)) return true;
    for (size_t i = 0; i < a->n_numbers; i++) {
        const char *name = gguf ? a->numbers[i].gguf : a->numbers[i].hf;
        if (name && !strcmp(name, key)) return true;
    }
    while (own && *own && strcmp(*own, key)) own++;
    return own && *own;
}

nib_code nib_config_check_keys(const nib_json *cfg, const nib_arch *a, nib_err *err)
{
    for (const nib_json *j = nib_json_first(cfg); j; j = nib_json_next(j)) {
        const char *key = nib_json_key(j);
        const known *k = find(config_keys, sizeof config_keys / sizeof *config_keys, key);
        nib_code rc = NIB_OK;
        if (nib_json_is_null(j) || is_own(a, false, key)) continue;
        if (k && k->values) rc = check_values(j, k->values, err);
        if (!k && !is_neutral(j) && sounds_computed(key))
            rc = refuse(j,
                        "and what that does to the model is not known: nothing is computed with "
                        "it; if it does nothing, take it out",
                        err);
        if (rc) return rc;
    }
    return NIB_OK;
}

void nib_config_warn_unknown(const nib_source *src, nib_log *log)
{
    const nib_json *cfg = nib_source_kvs(src) ? NULL : nib_source_json(src, "config.json");
    const nib_arch *a = nib_arch_of_config(cfg);
    for (const nib_json *j = nib_json_first(cfg); j; j = nib_json_next(j))
        if (!find(config_keys, sizeof config_keys / sizeof *config_keys, nib_json_key(j)) &&
            !is_neutral(j) && !(a && is_own(a, false, nib_json_key(j))))
            nib_warn(log, "%s: config.json: '%.60s' is not known, and left aside",
                     nib_source_path(src), nib_json_key(j));
}

/* ---- GGUF ---- */

static bool neutral_kv(const nib_gguf_kv *kv, const nib_gguf_kvs *k)
{
    uint64_t u;
    float f;
    bool b;
    nib_str s;
    if (nib_gguf_get_u64(k, kv->key, &u)) return (double)u == neutral_number(kv->key);
    if (nib_gguf_get_f32(k, kv->key, &f)) return (double)f == neutral_number(kv->key);
    if (nib_gguf_get_bool(k, kv->key, &b)) return !b;
    if (nib_gguf_get_str(k, kv->key, &s)) return !s.n;
    return kv->type == NIB_GGUF_ARR && !kv->n;
}

/* A scalar as compact JSON has it; "" for what is no number or flag. */
static void value_text(const nib_gguf_kv *kv, const nib_gguf_kvs *k, char *text, size_t n)
{
    uint64_t u;
    float f;
    bool b;
    *text = 0;
    if (nib_gguf_get_u64(k, kv->key, &u)) snprintf(text, n, "%llu", (unsigned long long)u);
    if (nib_gguf_get_f32(k, kv->key, &f)) snprintf(text, n, "%g", (double)f);
    if (nib_gguf_get_bool(k, kv->key, &b)) snprintf(text, n, "%s", b ? "true" : "false");
}

nib_code nib_config_check_gguf_keys(const nib_gguf_kvs *k, const nib_arch *a, nib_err *err)
{
    const size_t prefix = strlen(a->name);
    char text[40];
    for (size_t i = 0; i < nib_gguf_kvs_count(k); i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(k, i);
        if (strncmp(kv->key, a->name, prefix) || kv->key[prefix] != '.') continue;
        if (is_own(a, true, kv->key + prefix + 1)) continue;
        const known *of =
            find(gguf_keys, sizeof gguf_keys / sizeof *gguf_keys, kv->key + prefix + 1);
        value_text(kv, k, text, sizeof text);
        if (of ? !of->values || listed(of->values, text) : neutral_kv(kv, k)) continue;
        return nib_fail(err, NIB_EFORMAT, "'%.80s'%s%s is not supported", kv->key,
                        *text ? " = " : "", text);
    }
    return NIB_OK;
}
