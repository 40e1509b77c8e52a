/* SPDX-License-Identifier: MIT */
/* infer/config.c - hyper-parameters from config.json or GGUF metadata, and back into metadata.
 *
 * Both spellings of a number stand in one table row. Everything read here is checked here: the rest
 * of the program trusts nib_hparams. A setting that would change the result and is not implemented
 * is refused by name (config_keys.c). */
#include "infer/config_int.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "infer/sliding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    size_t field; /* offset in nib_hparams, a uint32_t */
    const char *hf[6];
    const char *gguf; /* after "{arch}." */
    uint32_t max;
    bool optional; /* stays 0 */
    bool experts;  /* read of architectures with experts alone */
} number;

#define FIELD(name) offsetof(nib_hparams, name)
static const number numbers[] = {
    {FIELD(n_layer),
     {"num_hidden_layers", "n_layers", "n_layer"},
     "block_count",
     NIB_LAYERS_MAX,
     false,
     false},
    {FIELD(n_ctx_train),
     {"max_position_embeddings", "n_ctx", "n_positions"},
     "context_length",
     INT32_MAX,
     false,
     false},
    {FIELD(n_embd),
     {"hidden_size", "n_embd", "dim"},
     "embedding_length",
     NIB_WIDTH_MAX,
     false,
     false},
    {FIELD(n_ff),
     {"intermediate_size", "n_inner", "hidden_dim", "ffn_dim", "ffn_hidden_size"},
     "feed_forward_length",
     NIB_WIDTH_MAX,
     false,
     false},
    {FIELD(n_head),
     {"num_attention_heads", "n_head", "n_heads"},
     "attention.head_count",
     NIB_HEADS_MAX,
     false,
     false},
    {FIELD(n_head_kv),
     {"num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_head_kv"},
     "attention.head_count_kv",
     NIB_HEADS_MAX,
     true,
     false},
    {FIELD(head_dim), {"head_dim"}, "attention.key_length", NIB_WIDTH_MAX, true, false},
    {FIELD(n_expert),
     {"num_experts", "num_local_experts", "n_routed_experts"},
     "expert_count",
     NIB_EXPERTS_MAX,
     false,
     true},
    {FIELD(n_expert_used),
     {"num_experts_per_tok"},
     "expert_used_count",
     NIB_EXPERTS_MAX,
     false,
     true},
    {FIELD(n_ff_expert),
     {"moe_intermediate_size"},
     "expert_feed_forward_length",
     NIB_WIDTH_MAX,
     false,
     true},
};

static uint32_t *number_at(nib_hparams *hp, const number *n)
{
    return (uint32_t *)((char *)hp + n->field);
}

static nib_code check_number(const number *n, const char *key, uint64_t v, nib_err *err)
{
    if (v >= 1 && v <= n->max) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is %llu, should be from 1 to %lu", key,
                    (unsigned long long)v, (unsigned long)n->max);
}

static float *setting_at(nib_hparams *hp, const nib_arch_setting *s)
{
    return (float *)((char *)hp + s->field);
}

float nib_usual_attn_scale(const nib_hparams *hp, const nib_arch *a)
{
    for (size_t i = 0; i < a->n_settings; i++)
        if (a->settings[i].field == FIELD(attn_scale) && hp->attn_scale > 0) return hp->attn_scale;
    const bool wide = a->wide_layers && hp->n_layer == a->wide_layers;
    if (a->scale_by_yarn && hp->rope_scaling == NIB_ROPE_YARN && hp->yarn.mscale_all > 0) {
        const double by = nib_yarn_magnitude((double)hp->rope_factor, (double)hp->yarn.mscale_all);
        return (float)(by * by / sqrt((double)hp->head_dim));
    }
    return (float)(1 / sqrt(wide ? (double)hp->n_embd / hp->n_head : (double)hp->head_dim));
}

/* What no single key can be wrong about, and defaults that depend on other keys. */
static nib_code finish(nib_hparams *hp, const nib_arch *a, nib_err *err)
{
    hp->layer_norm = a->layer_norm;
    hp->chunked = a->chunk != 0;
    if (!hp->n_embd_in) hp->n_embd_in = hp->n_embd;
    if (!hp->n_shared) hp->n_shared = a->n_shared;
    if (hp->temper_length) hp->temper_floor = (float)hp->temper_length;
    hp->alibi |= a->alibi;
    if (a->scaled_embd) hp->embd_scale = (float)sqrt((double)hp->n_embd);
    if (!hp->n_ff_expert) hp->n_ff_expert = hp->n_ff;
    if (hp->n_shared) hp->n_ff_shared = hp->n_shared * hp->n_ff_expert;
    if (hp->n_group > 1 && (hp->n_expert % hp->n_group || hp->n_group_used > hp->n_group))
        return nib_fail(err, NIB_EFORMAT, "%u experts in %u groups, %u of which count for a token",
                        hp->n_expert, hp->n_group, hp->n_group_used);
    if (hp->n_expert_used > hp->n_expert)
        return nib_fail(err, NIB_EFORMAT, "%u experts for a token, of %u", hp->n_expert_used,
                        hp->n_expert);
    if (!hp->n_head_kv || hp->kv_rank) hp->n_head_kv = hp->n_head;
    if (hp->kv_rank && !hp->head_dim) hp->head_dim = hp->key_dim + hp->rope_dim;
    hp->head_dim_given = hp->head_dim != 0 || a->head_dim;
    if (!hp->head_dim) hp->head_dim = a->head_dim;
    if (!hp->head_dim) {
        if (hp->n_embd % hp->n_head)
            return nib_fail(err, NIB_EFORMAT,
                            "width %u is no multiple of the %u heads, and no head_dim is given",
                            hp->n_embd, hp->n_head);
        hp->head_dim = hp->n_embd / hp->n_head;
    }
    if (hp->n_head % hp->n_head_kv)
        return nib_fail(err, NIB_EFORMAT, "%u heads are no multiple of %u key/value heads",
                        hp->n_head, hp->n_head_kv);
    if (hp->head_dim % 2 && !a->no_rope)
        return nib_fail(err, NIB_EFORMAT, "head size %u is odd: rotary embedding pairs its columns",
                        hp->head_dim);
    if (!hp->rope_dim) hp->rope_dim = hp->head_dim;
    if (hp->rope_dim % 2 && !a->no_rope)
        return nib_fail(err, NIB_EFORMAT, "%u columns of a head are turned, which are no pairs",
                        hp->rope_dim);
    if (hp->rope_dim > hp->head_dim)
        return nib_fail(err, NIB_EFORMAT, "%u columns of a head are turned, of %u", hp->rope_dim,
                        hp->head_dim);
    if (a->linear_block.n) {
        nib_code rc = nib_linear_check(hp, err);
        if (rc) return rc;
    }
    if (hp->kv_rank) hp->key_dim = hp->head_dim - hp->rope_dim;
    if (hp->head_dim > NIB_WIDTH_MAX / hp->n_head)
        return nib_fail(err, NIB_EFORMAT, "%u heads of %u are wider than %u", hp->n_head,
                        hp->head_dim, (unsigned)NIB_WIDTH_MAX);
    if (!hp->value_dim) hp->value_dim = hp->head_dim;
    if (hp->value_dim > NIB_WIDTH_MAX / hp->n_head)
        return nib_fail(err, NIB_EFORMAT, "%u heads of %u values are wider than %u", hp->n_head,
                        hp->value_dim, (unsigned)NIB_WIDTH_MAX);
    if (!(hp->attn_scale > 0)) hp->attn_scale = nib_usual_attn_scale(hp, a);
    if (!(hp->norm_eps >= 0 && hp->norm_eps < 1))
        return nib_fail(err, NIB_EFORMAT, "norm epsilon is %g, should be from 0 to 1",
                        (double)hp->norm_eps);
    if (!(hp->rope_base > 1) || !isfinite(hp->rope_base))
        return nib_fail(err, NIB_EFORMAT, "rotary base is %g, should be above 1",
                        (double)hp->rope_base);
    if (!(hp->rope_factor > 0) || !isfinite(hp->rope_factor))
        return nib_fail(err, NIB_EFORMAT, "rotary scaling factor is %g, should be above 0",
                        (double)hp->rope_factor);
    return NIB_OK;
}

/* ---- config.json ---- */

const nib_json *nib_config_first(const nib_json *cfg, const char *const *keys, const char **found)
{
    for (; *keys; keys++) {
        const nib_json *j = nib_json_get(cfg, *keys);
        if (!j || nib_json_is_null(j)) continue;
        *found = *keys;
        return j;
    }
    return NULL;
}

bool nib_config_says_yes(const nib_json *j)
{
    bool b;
    double v;
    if (!j || nib_json_is_null(j)) return false;
    if (nib_json_bool(j, &b)) return b;
    return !nib_json_num(j, &v) || v != 0;
}

bool nib_config_has_number(const nib_arch *a, size_t field)
{
    for (size_t i = 0; i < a->n_numbers; i++)
        if (a->numbers[i].field == field) return true;
    return false;
}

static nib_code check_own(const nib_arch_number *n, const char *key, uint64_t v, nib_err *err)
{
    if (v <= n->max) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is %llu, should be at most %u", key,
                    (unsigned long long)v, n->max);
}

/* A whole number, or a list that has the same one for each layer. */
static bool whole_number(const nib_json *j, uint64_t *out)
{
    uint64_t v;
    if (!nib_json_is_array(j)) return nib_json_u64(j, out);
    const nib_json *of = nib_json_first(j);
    if (!nib_json_u64(of, out)) return false;
    while ((of = nib_json_next(of)))
        if (!nib_json_u64(of, &v) || v != *out) return false;
    return true;
}

static nib_code hf_own_numbers(nib_hparams *hp, const nib_arch *a, const nib_json *cfg,
                               nib_err *err)
{
    for (size_t i = 0; i < a->n_numbers; i++) {
        const nib_arch_number *n = &a->numbers[i];
        const nib_json *j = n->hf ? nib_json_get(cfg, n->hf) : NULL;
        uint64_t v = n->standard;
        if (!j && n->field == FIELD(n_next)) j = nib_json_get(cfg, "num_mtp_layers");
        if (j && !nib_json_is_null(j) && !whole_number(j, &v))
            return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number", n->hf);
        nib_code rc = check_own(n, n->hf, v, err);
        if (rc) return rc;
        *(uint32_t *)((char *)hp + n->field) = (uint32_t)v;
    }
    return NIB_OK;
}

/* May the number be left out? */
static bool may_lack(const nib_arch *a, const number *n)
{
    return n->optional || (n->field == FIELD(n_ff) && a->ff_of_width) ||
           (n->field == FIELD(n_ff_expert) && a->expert_ff_is_ff) ||
           (n->field == FIELD(n_ctx_train) && a->alibi);
}

static nib_code hf_numbers(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const number *n = &numbers[i];
        const char *key = n->hf[0];
        const nib_json *j = nib_config_first(cfg, n->hf, &key);
        uint64_t v;
        if ((n->experts && !a->experts) || nib_config_has_number(a, n->field)) continue;
        if (!j && may_lack(a, n)) continue;
        if (!j) return nib_fail(err, NIB_EFORMAT, "key '%s' is missing", key);
        if (!whole_number(j, &v))
            return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number", key);
        nib_code rc = check_number(n, key, v, err);
        if (rc) return rc;
        *number_at(hp, n) = (uint32_t)v;
    }
    if (!hp->n_ff && a->ff_of_width) hp->n_ff = 4 * hp->n_embd;
    const nib_json *one = nib_json_get(cfg, "multi_query"); /* the classes' own value is true */
    if (nib_config_lists_key(a, "multi_query") && (!one || nib_config_says_yes(one)) &&
        !nib_config_says_yes(nib_json_get(cfg, "new_decoder_architecture")))
        hp->n_head_kv = 1; /* whatever the other key says: Falcon's first form, StarCoder */
    if (!hp->n_ctx_train && a->alibi) hp->n_ctx_train = 2048; /* any will do */
    return hf_own_numbers(hp, a, cfg, err);
}

bool nib_config_lists_key(const nib_arch *a, const char *key)
{
    for (const char *const *k = a->config_keys; k && *k; k++)
        if (!strcmp(*k, key)) return true;
    return false;
}

nib_code nib_config_real(const nib_json *obj, const char *key, float *out, nib_err *err)
{
    const nib_json *j = nib_json_get(obj, key);
    double v;
    if (!j || nib_json_is_null(j)) return NIB_OK;
    if (!nib_json_num(j, &v) || !(v > 0) || v > 1e30)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a positive number", key);
    *out = (float)v;
    return NIB_OK;
}

static bool is_meant(const nib_arch *a, bool yes)
{
    return a->when == NIB_WHEN_ANY || yes == (a->when == NIB_WHEN);
}

static bool hf_says_yes(const nib_arch *a, const nib_json *cfg)
{
    const nib_json *j = nib_json_get(cfg, a->when_hf);
    uint64_t v = 0;
    if (a->when_not_1 && nib_json_u64(nib_json_get(cfg, a->when_not_1), &v) && v == 1) return false;
    return j ? nib_config_says_yes(j) : a->when_standard;
}

const nib_arch *nib_arch_of_config(const nib_json *cfg)
{
    const char *name, *text = "";
    if (!nib_json_str(nib_json_first(nib_json_get(cfg, "architectures")), &name)) return NULL;
    nib_json_str(nib_json_get(nib_json_get(cfg, "text_config"), "model_type"), &text);
    for (size_t i = 0; i < nib_arch_count(); i++) {
        const nib_arch *a = nib_arch_at(i);
        if (a->when_hf && !is_meant(a, hf_says_yes(a, cfg))) continue;
        if (a->text_type && strcmp(a->text_type, text)) continue;
        for (const char *const *c = a->hf_classes; *c; c++)
            if (!strcmp(*c, name)) return a;
    }
    return NULL;
}

/* Does a key or tensor say yes? */
static bool gguf_says_yes(const nib_arch *a, const nib_source *src)
{
    const nib_gguf_kvs *k = nib_source_kvs(src);
    char key[NIB_CONFIG_KEY_MAX];
    uint64_t u;
    bool b;
    if (!strncmp(a->when_gguf, "blk.", 4)) return nib_source_find(src, a->when_gguf);
    nib_config_gguf_key(key, a->name, a->when_gguf);
    if (!nib_gguf_kvs_find(k, key)) return a->when_standard;
    if (nib_gguf_get_bool(k, key, &b)) return b;
    return !nib_gguf_get_u64(k, key, &u) || u;
}

static const nib_arch *arch_of_gguf(const char *name, const nib_source *src)
{
    for (size_t i = 0; i < nib_arch_count(); i++) {
        const nib_arch *a = nib_arch_at(i);
        if (!strcmp(a->name, name) && !a->no_gguf &&
            (!a->when_gguf || is_meant(a, gguf_says_yes(a, src))))
            return a;
    }
    return NULL;
}

/* Has a row before the i-th one this name, GGUF's or of a class? */
static bool is_named_before(size_t i, const char *name, bool gguf)
{
    while (i-- > 0) {
        if (gguf && !strcmp(nib_arch_at(i)->name, name)) return true;
        for (const char *const *c = nib_arch_at(i)->hf_classes; !gguf && *c; c++)
            if (!strcmp(*c, name)) return true;
    }
    return false;
}

static nib_code unknown_arch(const char *name, bool gguf, nib_err *err)
{
    char known[1200] = "";
    size_t n = 0;
    for (size_t i = 0; i < nib_arch_count(); i++) {
        const char *const one[] = {nib_arch_at(i)->name, NULL};
        for (const char *const *c = gguf ? one : nib_arch_at(i)->hf_classes; *c && n < sizeof known;
             c++) {
            const size_t stem = nib_stem(*c, "ForCausalLM");
            if (is_named_before(i, *c, gguf)) continue;
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%.*s", n ? ", " : "",
                                  (int)(stem ? stem : strlen(*c)), *c);
        }
    }
    return nib_fail(err, NIB_EFORMAT, "architecture '%s' is not known (known%s: %s)", name,
                    gguf ? "" : ", mostly with 'ForCausalLM' behind", known);
}

/* The first row of a class is the one that is written. */
static const struct {
    const char *hf_class, *type;
} model_types[] = {
    {"LlamaForCausalLM", "llama"},
    {"MistralForCausalLM", "mistral"},
    {"Qwen2ForCausalLM", "qwen2"},
    {"Qwen3ForCausalLM", "qwen3"},
    {"Qwen3MoeForCausalLM", "qwen3_moe"},
    {"Gemma2ForCausalLM", "gemma2"},
    {"Gemma3ForCausalLM", "gemma3_text"},
    {"SmolLM3ForCausalLM", "smollm3"},
    {"GraniteForCausalLM", "granite"},
    {"MixtralForCausalLM", "mixtral"},
    {"Qwen2MoeForCausalLM", "qwen2_moe"},
    {"OlmoForCausalLM", "olmo"},
    {"OlmoeForCausalLM", "olmoe"},
    {"GraniteMoeForCausalLM", "granitemoe"},
    {"GraniteMoeSharedForCausalLM", "granitemoeshared"},
    {"GptOssForCausalLM", "gpt_oss"},
    {"Glm4MoeForCausalLM", "glm4_moe"},
    {"GemmaForCausalLM", "gemma"},
    {"Olmo2ForCausalLM", "olmo2"},
    {"Olmo3ForCausalLM", "olmo3"},
    {"Phi3ForCausalLM", "phi3"},
    {"GlmForCausalLM", "glm"},
    {"Glm4ForCausalLM", "glm4"},
    {"CohereForCausalLM", "cohere"},
    {"Cohere2ForCausalLM", "cohere2"},
    {"StableLmForCausalLM", "stablelm"},
    {"Ministral3ForCausalLM", "ministral3"},
    {"GPT2LMHeadModel", "gpt2"},
    {"OPTForCausalLM", "opt"},
    {"BloomForCausalLM", "bloom"},
    {"FalconForCausalLM", "falcon"},
    {"GPTNeoXForCausalLM", "gpt_neox"},
    {"GPTBigCodeForCausalLM", "gpt_bigcode"},
    {"GPTJForCausalLM", "gptj"},
    {"Starcoder2ForCausalLM", "starcoder2"},
    {"PhiForCausalLM", "phi"},
    {"Qwen3NextForCausalLM", "qwen3_next"},
    {"Qwen3_5ForCausalLM", "qwen3_5_text"},
    {"Qwen3_5ForConditionalGeneration", "qwen3_5"},
    {"Qwen3_5MoeForCausalLM", "qwen3_5_moe_text"},
    {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"},
    {"DeepseekV2ForCausalLM", "deepseek_v2"},
    {"DeepseekV3ForCausalLM", "deepseek_v3"},
    {"Llama4ForCausalLM", "llama4_text"},
    {"Llama4ForConditionalGeneration", "llama4"},
    {"Qwen2VLForConditionalGeneration", "qwen2_vl"},
    {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl"},
    {"Qwen3VLForConditionalGeneration", "qwen3_vl"},
    {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe"},
    {"DeepseekV3ForCausalLM", "kimi_k2"}, /* Kimi K2: the same class */
    {"Gemma3ForConditionalGeneration", "gemma3"},
    {"Mistral3ForConditionalGeneration", "mistral3"},
    {"MinistralForCausalLM", "ministral"},
    {"ArceeForCausalLM", "arcee"},
    {"NemotronForCausalLM", "nemotron"},
    {"SeedOssForCausalLM", "seed_oss"},
    {"Exaone4ForCausalLM", "exaone4"},
    {"HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"},
    {"HunYuanMoEV1ForCausalLM", "hunyuan_v1_moe"},
    {"Ernie4_5ForCausalLM", "ernie4_5"},
    {"Ernie4_5_MoeForCausalLM", "ernie4_5_moe"},
    {"Dots1ForCausalLM", "dots1"},
    {"MiniMaxM2ForCausalLM", "minimax_m2"},
    {"MiniMaxM2ForCausalLM", "minimax"}, /* as it was published */
    {"GraniteMoeHybridForCausalLM", "granitemoehybrid"},
    {"Glm4MoeLiteForCausalLM", "glm4_moe_lite"},
};

const char *nib_config_model_type(const char *hf_class)
{
    for (size_t i = 0; i < sizeof model_types / sizeof *model_types; i++)
        if (!strcmp(model_types[i].hf_class, hf_class)) return model_types[i].type;
    return NULL;
}

/* Transformers chooses the class by the type, most others by the class's name. */
static nib_code check_model_type(const nib_json *cfg, const char *hf_class, nib_err *err)
{
    const char *type = "", *usual = nib_config_model_type(hf_class);
    if (!nib_json_str(nib_json_get(cfg, "model_type"), &type)) return NIB_OK;
    for (size_t i = 0; i < sizeof model_types / sizeof *model_types; i++)
        if (!strcmp(model_types[i].hf_class, hf_class) && !strcmp(model_types[i].type, type))
            return NIB_OK;
    if (!usual) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'model_type' is '%.60s', that of 'architectures' %s is '%s'",
                    type, hf_class, usual);
}

/* Has a block a step whose activation is not the one that configurations name? */
static bool has_fixed_activation(const nib_arch *a)
{
    bool fixed = a->linear_block.n;
    for (size_t i = 0; i < a->block.n; i++)
        fixed |= a->block.step[i].op == NIB_OP_GLU_CLAMP ||
                 (a->block.step[i].op == NIB_OP_RELU && !a->other_act_block.n);
    return fixed;
}

/* Does the class read "hidden_act"? Gemma 2's and 3's have another key. Gemma's own read it from
 * Transformers 5 on; before, "gelu" meant the tanh form, with which the models were trained. */
static bool reads_hidden_act(const nib_arch *a, const nib_json *cfg)
{
    const char *version;
    if (!a->scaled_embd) return true;
    return !a->query_scale && nib_json_str(nib_json_get(cfg, "transformers_version"), &version) &&
           strtoul(version, NULL, 10) >= 5;
}

static nib_code hf_activation(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    static const char *const keys[] = {"hidden_activation", "hidden_act", "activation_function",
                                       "activation", NULL};
    static const struct {
        const char *name;
        nib_activation act;
    } acts[] = {
        {"silu", NIB_ACT_SILU},
        {"swish", NIB_ACT_SILU},
        {"gelu", NIB_ACT_GELU},
        {"gelu_pytorch_tanh", NIB_ACT_GELU_TANH},
        {"gelu_new", NIB_ACT_GELU_TANH},
        {"gelu_fast", NIB_ACT_GELU_TANH},
        {"relu", NIB_ACT_RELU},
        {"relu2", NIB_ACT_RELU_SQUARED},
        {"gelu_python", NIB_ACT_GELU},
        {"gelu_accurate", NIB_ACT_GELU_TANH},
        {"quick_gelu", NIB_ACT_GELU_QUICK},
    };
    char known[160] = "";
    const char *key = keys[0], *name = NULL;
    const nib_json *j = nib_config_first(cfg, keys, &key);
    hp->act = a->act;
    if (!j || (strcmp(key, "hidden_activation") != 0 && !reads_hidden_act(a, cfg))) return NIB_OK;
    if (!nib_json_str(j, &name)) return nib_fail(err, NIB_EFORMAT, "'%s' is not a name", key);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (acts[i].act != a->act && has_fixed_activation(a)) continue;
        if (strcmp(acts[i].name, name)) {
            const size_t n = strlen(known);
            snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", acts[i].name);
            continue;
        }
        hp->act = acts[i].act;
        return NIB_OK;
    }
    return nib_fail(err, NIB_EFORMAT, "'%s' is \"%.60s\"; of %s only these are supported: %s", key,
                    name, a->name, known);
}

/* Numbers of the architecture's own, and the scale of the scores. */
static nib_code hf_settings(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    float width = 256; /* the classes' default */
    for (size_t i = 0; i < a->n_settings; i++) {
        const nib_arch_setting *s = &a->settings[i];
        const nib_json *j = nib_json_get(cfg, s->hf);
        float *to = setting_at(hp, s);
        *to = j && nib_json_is_null(j) ? s->none : s->standard;
        nib_code rc = nib_config_real(cfg, s->hf, to, err);
        if (rc) return rc;
    }
    if (nib_config_lists_key(a, "scale_attn_weights")) {
        const nib_json *scaled = nib_json_get(cfg, "scale_attn_weights");
        if (scaled && !nib_config_says_yes(scaled)) hp->attn_scale = 1;
        hp->scale_by_layer =
            nib_config_says_yes(nib_json_get(cfg, "scale_attn_by_inverse_layer_idx"));
    }
    if (nib_config_lists_key(a, "_remove_final_layer_norm"))
        hp->no_output_norm = nib_config_says_yes(nib_json_get(cfg, "_remove_final_layer_norm"));
    const nib_json *tunes = nib_json_get(cfg, "attn_temperature_tuning");
    const nib_json *unit = nib_json_get(cfg, "use_qk_norm");
    if (a->chunk && tunes && !nib_config_says_yes(tunes)) hp->temper = 0;
    hp->unit_heads = a->unit_heads && (!unit || nib_config_says_yes(unit));
    if (!a->query_scale) return NIB_OK;
    nib_code rc = nib_config_real(cfg, "query_pre_attn_scalar", &width, err);
    hp->attn_scale = (float)(1 / sqrt((double)width));
    return rc;
}

static nib_code hf_read(nib_hparams *hp, const nib_arch **arch, const nib_json *cfg, nib_err *err)
{
    static const char *const eps[] = {"rms_norm_eps",       "norm_eps",     "layer_norm_eps",
                                      "layer_norm_epsilon", "norm_epsilon", NULL};
    nib_code rc;
    const char *hf_class, *key = eps[0];
    uint64_t n_vocab;
    const nib_json *j = nib_json_first(nib_json_get(cfg, "architectures"));

    if (!nib_json_str(j, &hf_class))
        return nib_fail(err, NIB_EFORMAT, "key 'architectures' with a class name is missing");
    if (!(*arch = nib_arch_of_config(cfg))) return unknown_arch(hf_class, false, err);
    if ((rc = check_model_type(cfg, hf_class, err))) return rc;
    const nib_json *top = cfg, *text = nib_json_get(cfg, "text_config");
    if ((*arch)->text_part && nib_json_is_object(text)) cfg = text;
    if ((*arch)->deepstack)
        hp->n_deepstack = (uint32_t)nib_json_count(
            nib_json_get(nib_json_get(top, "vision_config"), "deepstack_visual_indexes"));
    if ((rc = nib_config_check_keys(cfg, *arch, err))) return rc;
    if ((rc = hf_numbers(hp, *arch, cfg, err))) return rc;
    if ((rc = nib_experts_from_hf(hp, *arch, cfg, err))) return rc;
    if ((rc = nib_turning_from_hf(hp, *arch, cfg, err))) return rc;
    if ((rc = (*arch)->linear_block.n
                  ? nib_linear_from_hf(hp, cfg, err)
                  : nib_sliding_from_hf(hp, (*arch)->text_class ? (*arch)->text_class : hf_class,
                                        cfg, err)))
        return rc;
    n_vocab = hp->n_vocab; /* the class's own */
    nib_json_u64(nib_json_get(cfg, "vocab_size"), &n_vocab);
    if (!n_vocab || n_vocab > NIB_WIDTH_MAX)
        return nib_fail(err, NIB_EFORMAT, "key 'vocab_size' should be a number from 1 to %d",
                        NIB_WIDTH_MAX);
    hp->n_vocab = (uint32_t)n_vocab;
    if ((rc = hf_activation(hp, *arch, cfg, err))) return rc;
    if ((rc = hf_settings(hp, *arch, cfg, err))) return rc;
    key = eps[0];
    hp->norm_eps = (*arch)->norm_eps > 0 ? (*arch)->norm_eps : 1e-5f; /* norms with a mean's */
    if (!nib_config_first(cfg, eps, &key) && !(*arch)->layer_norm && !((*arch)->norm_eps > 0))
        return nib_fail(err, NIB_EFORMAT, "key '%s' is missing", key);
    if ((rc = nib_config_real(cfg, key, &hp->norm_eps, err))) return rc;
    hp->tied = (*arch)->tied;
    j = nib_json_get(cfg, "tie_word_embeddings");
    if (!j) j = nib_json_get(top, "tie_word_embeddings");
    if (j && !nib_json_is_null(j) && !nib_json_bool(j, &hp->tied))
        return nib_fail(err, NIB_EFORMAT, "'tie_word_embeddings' should be true or false");
    if ((rc = nib_rope_from_hf(hp, *arch, cfg, err))) return rc;
    return finish(hp, *arch, err);
}

/* ---- GGUF ---- */

const char *nib_config_gguf_key(char buf[NIB_CONFIG_KEY_MAX], const char *arch, const char *key)
{
    snprintf(buf, NIB_CONFIG_KEY_MAX, "%s.%s", arch, key);
    return buf;
}

nib_code nib_config_gguf_real(const nib_gguf_kvs *k, const char *key, float *out, nib_err *err)
{
    if (!nib_gguf_kvs_find(k, key) || nib_gguf_get_f32(k, key, out)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' should be a float", key);
}

static const char *eps_key(const nib_arch *a)
{
    return a->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}

nib_code nib_config_gguf_number(uint32_t *out, bool *there, const nib_gguf_kvs *k, const char *key,
                                nib_err *err)
{
    uint64_t v;
    *there = nib_gguf_kvs_find(k, key) != NULL;
    if (!*there) return NIB_OK;
    if (!nib_gguf_get_u64(k, key, &v) || v > UINT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be one whole number", key);
    *out = (uint32_t)v;
    return NIB_OK;
}

static nib_code gguf_own_numbers(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k,
                                 nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    for (size_t i = 0; i < a->n_numbers; i++) {
        const nib_arch_number *n = &a->numbers[i];
        uint32_t v = n->standard;
        bool there;
        if (!n->gguf) continue;
        nib_code rc =
            nib_config_gguf_number(&v, &there, k, nib_config_gguf_key(key, a->name, n->gguf), err);
        if (!rc) rc = check_own(n, key, v, err);
        if (rc) return rc;
        if (!there && !v) continue; /* as the usual key has it */
        *(uint32_t *)((char *)hp + n->field) = v;
    }
    return NIB_OK;
}

static nib_code gguf_numbers(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k,
                             nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const number *n = &numbers[i];
        uint32_t v = 0;
        bool there;
        if (n->experts && !a->experts) continue;
        nib_code rc =
            nib_config_gguf_number(&v, &there, k, nib_config_gguf_key(key, a->name, n->gguf), err);
        if (rc) return rc;
        if (!there && may_lack(a, n) && n->field != FIELD(n_ctx_train)) continue;
        if (!there) return nib_fail(err, NIB_EFORMAT, "key '%s' is missing", key);
        if ((rc = check_number(n, key, v, err))) return rc;
        *number_at(hp, n) = v;
    }
    nib_code rc = gguf_own_numbers(hp, a, k, err);
    bool there;
    if (!rc && !a->no_rope && a->rope_part > 0)
        rc = nib_config_gguf_number(&hp->rope_dim, &there, k,
                                    nib_config_gguf_key(key, a->name, "rope.dimension_count"), err);
    return rc;
}

/* llama.cpp counts blocks that propose further tokens among the others. */
static nib_code take_off_next(nib_hparams *hp, nib_err *err)
{
    if (hp->n_next >= hp->n_layer)
        return nib_fail(err, NIB_EFORMAT, "%u of %u blocks propose further tokens", hp->n_next,
                        hp->n_layer);
    hp->n_layer -= hp->n_next;
    return NIB_OK;
}

/* Settings that would change the result and must have the one value that the graph implements. */
static nib_code gguf_fixed(const nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k,
                           nib_err *err)
{
    const struct {
        const char *key;
        uint64_t value;
    } fixed[] = {
        {"attention.value_length", hp->kv_rank ? hp->kv_rank : hp->head_dim},
        {"rope.dimension_count", hp->rope_dim},
        {"expert_count", 0},
    };
    char key[NIB_CONFIG_KEY_MAX];
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        uint64_t v;
        if (a->experts && !strcmp(fixed[i].key, "expert_count")) continue;
        nib_config_gguf_key(key, a->name, fixed[i].key);
        if (!nib_gguf_kvs_find(k, key)) continue;
        if (!nib_gguf_get_u64(k, key, &v) || v != fixed[i].value)
            return nib_fail(err, NIB_EFORMAT, "'%s' should be %llu, nothing else is supported", key,
                            (unsigned long long)fixed[i].value);
    }
    return NIB_OK;
}

static nib_code gguf_read(nib_hparams *hp, const nib_arch **arch, const nib_source *src,
                          nib_err *err)
{
    const nib_gguf_kvs *k = nib_source_kvs(src);
    char key[NIB_CONFIG_KEY_MAX];
    nib_str name;
    nib_code rc;
    if (!nib_gguf_get_str(k, "general.architecture", &name))
        return nib_fail(err, NIB_EFORMAT, "key 'general.architecture' is missing");
    *arch = arch_of_gguf(name.p, src);
    if (!*arch) return unknown_arch(name.p, true, err);
    if ((rc = nib_config_check_gguf_keys(k, *arch, err))) return rc;
    if ((rc = gguf_numbers(hp, *arch, k, err))) return rc;
    if ((rc = take_off_next(hp, err))) return rc;
    if ((rc = nib_sliding_from_gguf(hp, *arch, k, err))) return rc;
    if ((*arch)->linear_block.n) nib_linear_by_interval(hp);
    if ((rc = nib_routing_from_gguf(hp, *arch, k, err))) return rc;
    hp->act = (*arch)->act;
    nib_config_gguf_key(key, (*arch)->name, eps_key(*arch));
    if (!nib_gguf_get_f32(k, key, &hp->norm_eps))
        return nib_fail(err, NIB_EFORMAT, "key '%s' is missing or no float", key);
    if ((rc = nib_rope_from_gguf(hp, *arch, k, err))) return rc;
    for (size_t i = 0; i < (*arch)->n_settings; i++) {
        const nib_arch_setting *s = &(*arch)->settings[i];
        *setting_at(hp, s) = s->none;
        nib_config_gguf_key(key, (*arch)->name, s->gguf);
        if ((rc = nib_config_gguf_real(k, key, setting_at(hp, s), err))) return rc;
    }
    if ((rc = finish(hp, *arch, err))) return rc;
    return gguf_fixed(hp, *arch, k, err);
}

/* Does config.json lie beside the source's file? */
static bool is_in_folder(const nib_source *src)
{
    char *dir = nib_path_dir(nib_source_file(src, 0));
    char *config = dir ? nib_path_join(dir, "config.json") : NULL;
    const bool there = config && nib_file_exists(config);
    nib_free(config);
    nib_free(dir);
    return there && nib_source_get_kind(src) == NIB_SOURCE_SAFETENSORS;
}

/* What does nothing. */
static const nib_hparams neutral = {
    .embd_scale = 1, .residual_scale = 1, .logit_divisor = 1, .logit_scale = 1, .share_scale = 1};

nib_code nib_config_from_hf(nib_hparams *hp, const nib_arch **arch, const nib_json *cfg,
                            nib_err *err)
{
    *hp = neutral;
    return hf_read(hp, arch, cfg, err);
}

nib_code nib_config_read(nib_hparams *hp, const nib_arch **arch, const nib_source *src,
                         nib_err *err)
{
    const nib_gguf_kvs *kvs = nib_source_kvs(src);
    if (kvs) {
        *hp = neutral;
        nib_code rc = gguf_read(hp, arch, src, err);
        return rc ? nib_wrap(err, "%s", nib_source_path(src)) : NIB_OK;
    }
    const nib_json *cfg = nib_source_json(src, "config.json");
    if (!cfg && is_in_folder(src))
        return nib_fail(err, NIB_EFORMAT,
                        "%s: a file of the model in its folder; give the folder and not the file",
                        nib_source_path(src));
    if (!cfg)
        return nib_fail(err, NIB_EFORMAT,
                        "%s: no config.json beside the weights, so the architecture is unknown",
                        nib_source_path(src));
    nib_code rc = nib_config_from_hf(hp, arch, cfg, err);
    return rc ? nib_wrap(err, "%s: config.json", nib_source_path(src)) : NIB_OK;
}

/* ---- into GGUF ---- */

/* Keys of one architecture, until memory runs out. */
typedef struct {
    nib_gguf_kvs *kvs;
    const nib_arch *a;
    bool ok;
} to_gguf;

static const char *key_of(const to_gguf *w, char *buf, const char *key)
{
    return nib_config_gguf_key(buf, w->a->name, key);
}

static void put_u32(to_gguf *w, const char *key, uint32_t v)
{
    char b[NIB_CONFIG_KEY_MAX];
    w->ok = w->ok && nib_gguf_set_u32(w->kvs, key_of(w, b, key), v);
}

static void put_f32(to_gguf *w, const char *key, float v)
{
    char b[NIB_CONFIG_KEY_MAX];
    w->ok = w->ok && nib_gguf_set_f32(w->kvs, key_of(w, b, key), v);
}

static void put_bool(to_gguf *w, const char *key, bool v)
{
    char b[NIB_CONFIG_KEY_MAX];
    w->ok = w->ok && nib_gguf_set_bool(w->kvs, key_of(w, b, key), v);
}

static void put_str(to_gguf *w, const char *key, const char *v)
{
    char b[NIB_CONFIG_KEY_MAX];
    w->ok = w->ok && nib_gguf_set_str(w->kvs, key_of(w, b, key), v, strlen(v));
}

static void put_experts(to_gguf *w, const nib_hparams *hp)
{
    put_u32(w, "expert_count", hp->n_expert);
    put_u32(w, "expert_used_count", hp->n_expert_used);
    if (!w->a->expert_ff_is_ff || w->a->writes_expert_ff)
        put_u32(w, "expert_feed_forward_length", hp->n_ff_expert);
    if (!w->a->routing_keys) return;
    put_u32(w, "expert_gating_func", hp->routing == NIB_ROUTE_SIGMOID ? 2 : 1);
    put_bool(w, "expert_weights_norm", hp->share_norm);
}

static void put_own(to_gguf *w, const nib_hparams *hp)
{
    for (size_t i = 0; i < w->a->n_settings; i++) {
        const float v = *setting_at((nib_hparams *)hp, &w->a->settings[i]);
        if (v > 0 || v != w->a->settings[i].none) put_f32(w, w->a->settings[i].gguf, v);
    }
    for (size_t i = 0; i < w->a->n_numbers; i++) {
        const nib_arch_number *n = &w->a->numbers[i];
        const uint32_t v = *(const uint32_t *)((const char *)hp + n->field);
        if (n->field == FIELD(n_next)) continue; /* they are not written */
        if (n->gguf && (v || n->standard)) put_u32(w, n->gguf, v);
    }
    if (w->a->when_gguf && strstr(w->a->when_gguf, "parallel"))
        put_bool(w, w->a->when_gguf, w->a->when == NIB_WHEN);
}

static void put_rope(to_gguf *w, const nib_hparams *hp)
{
    const nib_rope_yarn *y = &hp->yarn;
    const bool yarn = hp->rope_scaling == NIB_ROPE_YARN;
    if (w->a->no_rope) return;
    if (hp->rope_scaling == NIB_ROPE_LINEAR) {
        put_str(w, "rope.scaling.type", "linear");
        put_f32(w, "rope.scaling.factor", hp->rope_factor);
    }
    if (yarn) {
        put_str(w, "rope.scaling.type", "yarn");
        put_f32(w, "rope.scaling.factor", hp->rope_factor);
        put_f32(w, "rope.scaling.yarn_beta_fast", y->beta_fast);
        put_f32(w, "rope.scaling.yarn_beta_slow", y->beta_slow);
    }
    if (hp->rope_scaling == NIB_ROPE_LONGROPE) put_str(w, "rope.scaling.type", "longrope");
    if (yarn || hp->rope_scaling == NIB_ROPE_LONGROPE) {
        /* llama.cpp multiplies it with what YaRN has for the factor */
        const bool latent = hp->kv_rank != 0,
                   log = yarn && y->mscale_all > 0 && (latent || y->mscale == y->mscale_all);
        const float all = latent ? 0.1f * y->mscale_all : y->mscale_all;
        const double usual = yarn && !log ? nib_yarn_magnitude((double)hp->rope_factor, 1) : 1;
        const float by = (float)(nib_rope_magnitude(hp) / usual);
        put_u32(w, "rope.scaling.original_context_length", y->n_ctx_orig);
        if (log) put_f32(w, "rope.scaling.yarn_log_multiplier", all);
        if (by != 1) put_f32(w, "rope.scaling.attn_factor", by);
    }
    if (w->a->rope_switch && !nib_layer_turns(hp, 0)) put_bool(w, "rope.scaling.finetuned", false);
    if (hp->sections[0]) {
        char b[NIB_CONFIG_KEY_MAX];
        w->ok = w->ok && nib_gguf_set_arr(w->kvs, key_of(w, b, "rope.dimension_sections"),
                                          NIB_GGUF_I32, hp->sections, 4);
    }
    if (w->a->deepstack) put_u32(w, "n_deepstack_layers", hp->n_deepstack);
    if (hp->temper > 0) put_f32(w, "attention.temperature_scale", hp->temper);
    put_f32(w, "rope.freq_base", hp->rope_base);
}

/* Rotations that a file cannot tell. */
static nib_code check_rope_for_gguf(const nib_hparams *hp, const nib_arch *a, nib_err *err)
{
    const uint32_t interval = a->chunk && !hp->window ? 0 : a->no_rope_interval;
    if (hp->rope_halves)
        return nib_fail(err, NIB_EINVAL,
                        "'rope_interleave' is false: llama.cpp turns adjacent columns of '%s'",
                        a->name);
    if (a->turns_windowless && !hp->window && !nib_layer_turns(hp, 0))
        return nib_fail(err, NIB_EINVAL,
                        "no layer of this model slides and none is turned: llama.cpp turns all of "
                        "'%s' where none slides",
                        a->name);
    for (uint32_t l = 0; !a->sliding_turn && !a->rope_switch && l < hp->n_layer; l++)
        if (nib_layer_turns(hp, l) != nib_rope_turns_by_interval(l, interval))
            return nib_fail(err, NIB_EINVAL,
                            "llama.cpp gives every %u-th layer of '%s' no rotation, and GGUF has "
                            "no key for this model's other choice",
                            a->no_rope_interval, a->name);
    return NIB_OK;
}

/* llama.cpp has one for each architecture; the two kinds of GELU are near each other. */
static nib_code check_activation_for_gguf(const nib_hparams *hp, const nib_arch *a, nib_err *err)
{
    const bool gelu = hp->act == NIB_ACT_GELU || hp->act == NIB_ACT_GELU_TANH;
    if (hp->act == a->act || (gelu && (a->act == NIB_ACT_GELU || a->act == NIB_ACT_GELU_TANH)))
        return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "this model's activation is not the one that llama.cpp has for '%s', and GGUF "
                    "has no key for it",
                    a->name);
}

/* Does llama.cpp know another form of the architecture? */
static bool is_known_otherwise(const nib_arch *a)
{
    for (size_t i = 0; i < nib_arch_count(); i++)
        if (!nib_arch_at(i)->no_gguf && !strcmp(nib_arch_at(i)->name, a->name)) return true;
    return false;
}

/* What else llama.cpp has no key for. */
static nib_code check_forms_for_gguf(const nib_hparams *hp, const nib_arch *a, nib_err *err)
{
    const char *key = a->no_gguf && is_known_otherwise(a) ? a->when_hf : NULL;
    if (hp->alibi && !a->alibi) key = "alibi";
    if (hp->rope_factor_sliding > 0) key = "rope_parameters"; /* of sliding layers */
    if (hp->scale_by_layer) key = "scale_attn_by_inverse_layer_idx";
    if (!key && !a->no_gguf) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "llama.cpp does not know '%s'%s%s%s, so GGUF has no place for it", a->name,
                    key ? " with this model's '" : "", key ? key : "", key ? "'" : "");
}

nib_code nib_model_to_gguf(const nib_model *m, nib_gguf_kvs *kvs, nib_err *err)
{
    const nib_arch *a = m->arch;
    nib_hparams with = m->hp; /* and what follows from it */
    const nib_hparams *hp = &with;
    nib_code rc = a->linear_block.n ? nib_linear_interval(&with, err) : NIB_OK;
    if (!rc) rc = check_forms_for_gguf(hp, a, err);
    if (!rc) rc = check_activation_for_gguf(hp, a, err);
    if (rc) return rc;
    to_gguf w = {kvs, a, true};
    w.ok = nib_gguf_set_str(kvs, "general.architecture", a->name, strlen(a->name));
    put_u32(&w, "block_count", hp->n_layer);
    put_u32(&w, "context_length", hp->n_ctx_train);
    put_u32(&w, "embedding_length", hp->n_embd);
    put_u32(&w, "feed_forward_length", hp->n_ff);
    put_u32(&w, "attention.head_count", hp->n_head);
    put_u32(&w, "attention.head_count_kv", hp->kv_rank ? 1 : hp->n_head_kv);
    put_rope(&w, hp);
    put_f32(&w, eps_key(a), hp->norm_eps);
    if (hp->kv_rank) { /* as if the latent vectors were the keys and values of one head */
        put_u32(&w, "attention.key_length", hp->kv_rank + hp->rope_dim);
        put_u32(&w, "attention.value_length", hp->kv_rank);
    } else if (hp->head_dim_given && !a->no_head_dim_key) {
        put_u32(&w, "attention.key_length", hp->head_dim);
        put_u32(&w, "attention.value_length", hp->head_dim);
    }
    if (a->writes_rope_dim) {
        put_u32(&w, "vocab_size", hp->n_vocab);
        put_u32(&w, "rope.dimension_count", hp->rope_dim);
    }
    put_own(&w, hp);
    if (a->experts) put_experts(&w, hp);
    if ((rc = nib_experts_check_gguf(hp, a, err))) return rc;
    if ((rc = check_rope_for_gguf(hp, a, err))) return rc;
    if (hp->rope_base_sliding > 0) put_f32(&w, "rope.freq_base_swa", hp->rope_base_sliding);
    return w.ok ? nib_sliding_to_gguf(hp, a, kvs, err) : nib_fail_nomem(err, "metadata");
}
