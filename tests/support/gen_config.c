/* SPDX-License-Identifier: MIT */
/* Families of models, their config.json, and a model as the sum of its parts. */
#include "tests/support/gen.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Original ChatML-like template: only has to survive the trip into another file. */
static const char chat_template[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

#define WORDS_AND_MARKS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS_AND_SPACES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SPLIT_LLAMA "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" WORDS_AND_MARKS "|\\p{N}{1,3}|" MARKS_AND_SPACES
#define SPLIT_QWEN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" WORDS_AND_MARKS "|\\p{N}|" MARKS_AND_SPACES

static const gen_family families[] = {
    {.name = "llama",
     .hf_class = "LlamaForCausalLM",
     .model_type = "llama",
     .rope_theta = 10000,
     .norm_eps = 1e-5,
     .split = SPLIT_LLAMA,
     .add_bos = true,
     .bos = "<|begin_of_text|>",
     .eos = "<|end_of_text|>"},
    {.name = "llama3",
     .hf_class = "LlamaForCausalLM",
     .model_type = "llama",
     .rope_theta = 500000,
     .norm_eps = 1e-5,
     .llama3_rope = true,
     .split = SPLIT_LLAMA,
     .ignore_merges = true,
     .add_bos = true,
     .bos = "<|begin_of_text|>",
     .eos = "<|end_of_text|>"},
    {.name = "mistral",
     .hf_class = "MistralForCausalLM",
     .model_type = "mistral",
     .rope_theta = 1000000,
     .norm_eps = 1e-5,
     .explicit_head_dim = true,
     .add_bos = true,
     .bos = "<s>",
     .eos = "</s>"},
    {.name = "qwen2",
     .hf_class = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .rope_theta = 1000000,
     .norm_eps = 1e-6,
     .qkv_bias = true,
     .split = SPLIT_QWEN,
     .nfc = true,
     .bos = "<|endoftext|>",
     .eos = "<|im_end|>",
     .chat_template = chat_template},
    {.name = "qwen3",
     .hf_class = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .rope_theta = 1000000,
     .norm_eps = 1e-6,
     .qk_norm = true,
     .explicit_head_dim = true,
     .split = SPLIT_QWEN,
     .nfc = true,
     .bos = "<|endoftext|>",
     .eos = "<|im_end|>",
     .chat_template = chat_template},
    {.name = "qwen3moe",
     .hf_class = "Qwen3MoeForCausalLM",
     .model_type = "qwen3_moe",
     .rope_theta = 1000000,
     .norm_eps = 1e-6,
     .qk_norm = true,
     .explicit_head_dim = true,
     .moe = true,
     .split = SPLIT_QWEN,
     .nfc = true,
     .bos = "<|endoftext|>",
     .eos = "<|im_end|>",
     .chat_template = chat_template},
    {.name = "gemma2",
     .hf_class = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .rope_theta = 10000,
     .norm_eps = 1e-6,
     .gemma = true,
     .softcap = 30,
     .explicit_head_dim = true,
     .split = SPLIT_QWEN,
     .add_bos = true,
     .bos = "<bos>",
     .eos = "<eos>"},
    {.name = "gemma3",
     .hf_class = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .rope_theta = 1000000,
     .rope_local = 10000,
     .norm_eps = 1e-6,
     .gemma = true,
     .qk_norm = true,
     .explicit_head_dim = true,
     .split = SPLIT_QWEN,
     .add_bos = true,
     .bos = "<bos>",
     .eos = "<eos>"},
};

const gen_family *gen_family_find(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

const char *gen_family_names(void)
{
    return "llama|llama3|mistral|qwen2|qwen3|qwen3moe|gemma2|gemma3";
}

nib_code gen_text_write(const char *dir, const char *name, const char *text, size_t n, nib_err *err)
{
    char *path = nib_path_join(dir, name);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_file_save(path, text, n, true, err);
    nib_free(path);
    return rc;
}

static bool add_sizes(nib_json *j, const gen_spec *s)
{
    return nib_json_add_num(j, "hidden_size", s->hidden) &&
           nib_json_add_num(j, "intermediate_size", s->ff) &&
           nib_json_add_num(j, "num_hidden_layers", s->layers) &&
           nib_json_add_num(j, "num_attention_heads", s->heads) &&
           nib_json_add_num(j, "num_key_value_heads", s->kv_heads) &&
           nib_json_add_num(j, "vocab_size", s->vocab) &&
           nib_json_add_num(j, "max_position_embeddings", 4096) &&
           (!s->family->explicit_head_dim || nib_json_add_num(j, "head_dim", s->head_dim));
}

/* Scaling that begins early (original context 256), so that a few hundred positions show it. */
static bool add_rope(nib_json *j, const gen_spec *s)
{
    if (!nib_json_add_num(j, "rope_theta", s->family->rope_theta)) return false;
    if (!s->family->llama3_rope) return nib_json_add_null(j, "rope_scaling");
    nib_json *r = nib_json_add_object(j, "rope_scaling");
    return r && nib_json_add_num(r, "factor", 8) && nib_json_add_num(r, "low_freq_factor", 1) &&
           nib_json_add_num(r, "high_freq_factor", 4) &&
           nib_json_add_num(r, "original_max_position_embeddings", 256) &&
           nib_json_add_str(r, "rope_type", "llama3");
}

/* The activation, and what Gemma's classes have besides. */
static bool add_gemma(nib_json *j, const gen_spec *s)
{
    const gen_family *f = s->family;
    if (!f->gemma) return nib_json_add_str(j, "hidden_act", "silu");
    return nib_json_add_str(j, "hidden_activation", "gelu_pytorch_tanh") &&
           nib_json_add_num(j, "query_pre_attn_scalar", s->head_dim) &&
           nib_json_add_num(j, "sliding_window", 64) &&
           nib_json_add_num(j, "sliding_window_pattern", 2) &&
           (f->softcap == 0 ||
            (nib_json_add_num(j, "final_logit_softcapping", f->softcap) &&
             nib_json_add_num(j, "attn_logit_softcapping", f->softcap * 50 / 30))) &&
           (f->rope_local == 0 || nib_json_add_num(j, "rope_local_base_freq", f->rope_local));
}

static bool add_experts(nib_json *j, const gen_spec *s)
{
    if (!s->family->moe) return true;
    return nib_json_add_num(j, "num_experts", s->experts) &&
           nib_json_add_num(j, "num_experts_per_tok", s->experts_used) &&
           nib_json_add_num(j, "moe_intermediate_size", s->ff) &&
           nib_json_add_bool(j, "norm_topk_prob", true);
}

static const char *torch_dtype(nib_type t)
{
    return t == NIB_BF16 ? "bfloat16" : t == NIB_F16 ? "float16" : "float32";
}

nib_code gen_config_write(const gen_spec *s, const char *dir, nib_err *err)
{
    nib_code rc = NIB_OK;
    char *text = NULL;
    nib_json *j = nib_json_new_object();
    nib_json *classes = j ? nib_json_add_array(j, "architectures") : NULL;
    bool ok = classes && nib_json_add_str(classes, NULL, s->family->hf_class) &&
              nib_json_add_str(j, "model_type", s->family->model_type) && add_gemma(j, s) &&
              add_sizes(j, s) && add_experts(j, s) && add_rope(j, s) &&
              nib_json_add_num(j, "bos_token_id", gen_bos_id(s)) &&
              nib_json_add_num(j, "eos_token_id", gen_eos_id(s)) &&
              nib_json_add_num(j, "rms_norm_eps", s->family->norm_eps) &&
              nib_json_add_bool(j, "tie_word_embeddings", s->tied) &&
              nib_json_add_str(j, "torch_dtype", torch_dtype(s->dtype)) &&
              (text = nib_json_print(j, true));
    if (ok)
        rc = gen_text_write(dir, "config.json", text, strlen(text), err);
    else
        rc = nib_fail_nomem(err, "config.json");
    nib_free(text);
    nib_json_free(j);
    return rc;
}

nib_code gen_model(const gen_spec *s, const char *dir, const nib_ctx *ctx, nib_err *err)
{
    if (mkdir(dir, 0777) && errno != EEXIST) return nib_fail_sys(err, errno, "%s", dir);
    nib_code rc = gen_config_write(s, dir, err);
    if (!rc) rc = gen_tokenizer_write(s, dir, err);
    if (!rc) rc = gen_weights_write(s, dir, ctx, err);
    return rc;
}
