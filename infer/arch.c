/* SPDX-License-Identifier: MIT */
/* infer/arch.c - architectures and tensor names as tables: the one place that knows both spellings.
 *
 * A kind of step that none of them has yet is an operation more in step.h and graph.c. Reading
 * hyper-parameters is config.c, finding tensors model.c. */
#include "infer/model.h"

#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- what blocks compute ---- */

#define STEP(op, weight, to, a, b, flags)                                                          \
    {                                                                                              \
        NIB_OP_##op, NIB_ROLE_##weight, NIB_REG_##to, NIB_REG_##a, NIB_REG_##b, flags              \
    }
#define NORM(weight, to, a) STEP(NORM, weight, to, a, X, 0)
#define LINEAR(weight, to, a, flags) STEP(LINEAR, weight, to, a, X, flags)
#define HEAD_NORM(weight, x) STEP(HEAD_NORM, weight, x, x, X, 0)
#define ROPE(x) STEP(ROPE, NONE, x, x, X, 0)
#define ATTEND(to, a) STEP(ATTEND, NONE, to, a, X, 0)
#define GLU(to, a, b) STEP(GLU, NONE, to, a, b, 0)
#define ADD(to, a, b) STEP(ADD, NONE, to, a, b, 0)

/* Parts that many have in common. */
#define QKV(flags)                                                                                 \
    LINEAR(ATTN_Q, Q, H, flags), LINEAR(ATTN_K, K, H, flags), LINEAR(ATTN_V, V, H, flags)
#define ATTENTION ROPE(Q), ROPE(K), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
#define GATED_FFN                                                                                  \
    NORM(FFN_NORM, H, X), LINEAR(FFN_GATE, G, H, 0), LINEAR(FFN_UP, U, H, 0), GLU(G, G, U),        \
        LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)

static const nib_step llama[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, GATED_FFN};

static const nib_step qwen2[] = {NORM(ATTN_NORM, H, X), QKV(NIB_STEP_BIAS), ATTENTION, GATED_FFN};

static const nib_step qwen3[] = {NORM(ATTN_NORM, H, X),     QKV(0),    HEAD_NORM(ATTN_Q_NORM, Q),
                                 HEAD_NORM(ATTN_K_NORM, K), ATTENTION, GATED_FFN};

/* Norms on the branches, too, before they are added to the residual stream. */
#define SANDWICH                                                                                   \
    ROPE(Q), ROPE(K), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, Y, Q, 0), NORM(ATTN_POST_NORM, Y, Y),      \
        ADD(X, X, Y), NORM(FFN_NORM, H, X), LINEAR(FFN_GATE, G, H, 0), LINEAR(FFN_UP, U, H, 0),    \
        GLU(G, G, U), LINEAR(FFN_DOWN, Y, G, 0), NORM(FFN_POST_NORM, Y, Y), ADD(X, X, Y)

static const nib_step gemma2[] = {NORM(ATTN_NORM, H, X), QKV(0), SANDWICH};

static const nib_step gemma3[] = {NORM(ATTN_NORM, H, X), QKV(0), HEAD_NORM(ATTN_Q_NORM, Q),
                                  HEAD_NORM(ATTN_K_NORM, K), SANDWICH};

/* A mixture of experts in place of the feed-forward layer. */
#define EXPERT(op, weight, to, a, b, flags) STEP(op, weight, to, a, b, NIB_STEP_EXPERT | (flags))
#define EXPERTS                                                                                    \
    NORM(FFN_NORM, H, X), LINEAR(FFN_ROUTER, R, H, 0), STEP(ROUTE, NONE, R, R, X, 0),              \
        EXPERT(LINEAR, FFN_GATE_EXPS, EG, H, X, 0), EXPERT(LINEAR, FFN_UP_EXPS, EU, H, X, 0),      \
        EXPERT(GLU, NONE, EG, EG, EU, 0), EXPERT(LINEAR, FFN_DOWN_EXPS, EY, EG, X, 0),             \
        EXPERT(MIX, NONE, X, EY, X, NIB_STEP_ADD)

static const nib_step qwen3moe[] = {NORM(ATTN_NORM, H, X),     QKV(0),    HEAD_NORM(ATTN_Q_NORM, Q),
                                    HEAD_NORM(ATTN_K_NORM, K), ATTENTION, EXPERTS};
static const char *const qwen3moe_config_keys[] = {
    "num_experts",         "num_local_experts", "num_experts_per_tok", "moe_intermediate_size",
    "decoder_sparse_step", "mlp_only_layers",   "norm_topk_prob",      NULL};
static const char *const moe_gguf_keys[] = {"expert_used_count", "expert_feed_forward_length",
                                            NULL};
/* As checkpoints have it that were saved from memory: all experts of a layer in one tensor. */
static const nib_fused stacked_experts[] = {
    {"mlp.experts.gate_up_proj", {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS}, 2},
    {"mlp.experts.down_proj", {NIB_ROLE_FFN_DOWN_EXPS}, 1},
};

static const nib_role_stem gemma_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_NORM, "pre_feedforward_layernorm"},
    {NIB_ROLE_FFN_POST_NORM, "post_feedforward_layernorm"},
};
#define SETTING(field, hf, gguf, standard, none)                                                   \
    {                                                                                              \
        offsetof(nib_hparams, field), hf, gguf, standard, none                                     \
    }
static const nib_arch_setting gemma2_settings[] = {
    SETTING(attn_softcap, "attn_logit_softcapping", "attn_logit_softcapping", 50, 0),
    SETTING(logit_softcap, "final_logit_softcapping", "final_logit_softcapping", 30, 0),
};
static const nib_arch_setting gemma3_settings[] = {
    SETTING(attn_softcap, "attn_logit_softcapping", "attn_logit_softcapping", 0, 0),
    SETTING(logit_softcap, "final_logit_softcapping", "final_logit_softcapping", 0, 0),
};
static const char *const gemma_config_keys[] = {"query_pre_attn_scalar", "sliding_window_pattern",
                                                "rope_local_base_freq", NULL};
static const char *const gemma_gguf_keys[] = {"rope.freq_base_swa", NULL};
#define GEMMA                                                                                      \
    .hf_stems = gemma_stems, .n_hf_stems = COUNT(gemma_stems), .config_keys = gemma_config_keys,   \
    .gguf_keys = gemma_gguf_keys, .gelu = true, .norm_plus_one = true, .scaled_embd = true,        \
    .query_scale = true, .head_dim = 256, .tied = true

/* Branches are scaled before they are added. */
static const nib_step granite[] = {NORM(ATTN_NORM, H, X),
                                   QKV(0),
                                   ROPE(Q),
                                   ROPE(K),
                                   ATTEND(Q, Q),
                                   LINEAR(ATTN_OUTPUT, Y, Q, 0),
                                   ADD(X, X, Y),
                                   NORM(FFN_NORM, H, X),
                                   LINEAR(FFN_GATE, G, H, 0),
                                   LINEAR(FFN_UP, U, H, 0),
                                   GLU(G, G, U),
                                   LINEAR(FFN_DOWN, Y, G, 0),
                                   ADD(X, X, Y)};
static const nib_arch_setting granite_settings[] = {
    SETTING(embd_scale, "embedding_multiplier", "embedding_scale", 1, 1),
    SETTING(residual_scale, "residual_multiplier", "residual_scale", 1, 1),
    SETTING(attn_scale, "attention_multiplier", "attention.scale", 1, 0),
    SETTING(logit_divisor, "logits_scaling", "logit_scale", 1, 1),
};

static const char *const smollm3_config_keys[] = {"no_rope_layers", "no_rope_layer_interval", NULL};

static const nib_arch archs[] = {
    {
        .name = "llama",
        .hf_classes = {"LlamaForCausalLM", "MistralForCausalLM"},
        .rope_interleaved = true,
        .hf_attention_bias = true,
        .hf_mlp_bias = true,
        .writes_hf = true,
        .writes_rope_dim = true,
        .block = {llama, COUNT(llama)},
    },
    {
        .name = "qwen2",
        .hf_classes = {"Qwen2ForCausalLM"},
        .writes_hf = true,
        .block = {qwen2, COUNT(qwen2)},
    },
    {
        .name = "qwen3",
        .hf_classes = {"Qwen3ForCausalLM"},
        .hf_attention_bias = true,
        .writes_hf = true,
        .block = {qwen3, COUNT(qwen3)},
    },
    {
        .name = "qwen3moe",
        .hf_classes = {"Qwen3MoeForCausalLM"},
        .config_keys = qwen3moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        .fused = stacked_experts,
        .n_fused = COUNT(stacked_experts),
        .experts = true,
        .gguf_share_norm = true,
        .block = {qwen3moe, COUNT(qwen3moe)},
        .dense_block = {qwen3, COUNT(qwen3)},
    },
    {
        .name = "gemma2",
        .hf_classes = {"Gemma2ForCausalLM"},
        .block = {gemma2, COUNT(gemma2)},
        .settings = gemma2_settings,
        .n_settings = COUNT(gemma2_settings),
        .sliding_period = 2,
        .wide_layers = 46,
        GEMMA,
    },
    {
        .name = "gemma3",
        .hf_classes = {"Gemma3ForCausalLM"},
        .block = {gemma3, COUNT(gemma3)},
        .settings = gemma3_settings,
        .n_settings = COUNT(gemma3_settings),
        .rope_base = 1000000,
        .rope_base_sliding = 10000,
        .sliding_period = 6,
        .wide_layers = 62,
        GEMMA,
    },
    {
        .name = "smollm3",
        .hf_classes = {"SmolLM3ForCausalLM"},
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .tied = true,
        .rope_base = 2000000,
        .no_rope_interval = 4,
        .config_keys = smollm3_config_keys,
        .block = {llama, COUNT(llama)},
    },
    {
        .name = "granite",
        .hf_classes = {"GraniteForCausalLM"},
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .settings = granite_settings,
        .n_settings = COUNT(granite_settings),
        .block = {granite, COUNT(granite)},
    },
};

size_t nib_arch_count(void)
{
    return COUNT(archs);
}

const nib_arch *nib_arch_at(size_t i)
{
    return &archs[i];
}

/* Stems of tensor names: ".weight" or ".bias" follows, a block's prefix goes before. */
static const struct {
    const char *gguf, *hf; /* hf NULL: no such tensor there */
    bool linear;           /* of a block; may have a bias */
} roles[NIB_ROLE_COUNT] = {
    [NIB_ROLE_TOKEN_EMBD] = {"token_embd", "model.embed_tokens", false},
    [NIB_ROLE_OUTPUT_NORM] = {"output_norm", "model.norm", false},
    [NIB_ROLE_OUTPUT] = {"output", "lm_head", false},
    [NIB_ROLE_ROPE_FREQS] = {"rope_freqs", NULL, false},
    [NIB_ROLE_ATTN_NORM] = {"attn_norm", "input_layernorm", false},
    [NIB_ROLE_ATTN_Q] = {"attn_q", "self_attn.q_proj", true},
    [NIB_ROLE_ATTN_K] = {"attn_k", "self_attn.k_proj", true},
    [NIB_ROLE_ATTN_V] = {"attn_v", "self_attn.v_proj", true},
    [NIB_ROLE_ATTN_Q_NORM] = {"attn_q_norm", "self_attn.q_norm", false},
    [NIB_ROLE_ATTN_K_NORM] = {"attn_k_norm", "self_attn.k_norm", false},
    [NIB_ROLE_ATTN_OUTPUT] = {"attn_output", "self_attn.o_proj", true},
    [NIB_ROLE_ATTN_POST_NORM] = {"post_attention_norm", NULL, false},
    [NIB_ROLE_FFN_NORM] = {"ffn_norm", "post_attention_layernorm", false},
    [NIB_ROLE_FFN_GATE] = {"ffn_gate", "mlp.gate_proj", true},
    [NIB_ROLE_FFN_UP] = {"ffn_up", "mlp.up_proj", true},
    [NIB_ROLE_FFN_DOWN] = {"ffn_down", "mlp.down_proj", true},
    [NIB_ROLE_FFN_POST_NORM] = {"post_ffw_norm", NULL, false},
    [NIB_ROLE_FFN_ROUTER] = {"ffn_gate_inp", "mlp.gate", false},
    [NIB_ROLE_FFN_GATE_EXPS] = {"ffn_gate_exps", "mlp.experts.#.gate_proj", true},
    [NIB_ROLE_FFN_UP_EXPS] = {"ffn_up_exps", "mlp.experts.#.up_proj", true},
    [NIB_ROLE_FFN_DOWN_EXPS] = {"ffn_down_exps", "mlp.experts.#.down_proj", true},
};

const char *nib_role_name(nib_role r)
{
    return roles[r].gguf;
}

bool nib_role_is_linear(nib_role r)
{
    return roles[r].linear;
}

/* '#' in a stem stands for the number of an expert, or '*' for all of them. */
static void place_name(nib_place p, const char *prefix, const char *stem, char *buf, size_t n)
{
    char layer[64] = "", expert[16] = "*";
    const size_t head = strcspn(stem, "#");
    if (p.role >= NIB_ROLE_FIRST_BLOCK) snprintf(layer, sizeof layer, "%s.%u.", prefix, p.layer);
    if (p.expert != NIB_EXPERTS_ALL) snprintf(expert, sizeof expert, "%u", p.expert);
    snprintf(buf, n, "%s%.*s%s%s.%s", layer, (int)head, stem, stem[head] ? expert : "",
             stem[head] ? stem + head + 1 : "", p.bias ? "bias" : "weight");
}

void nib_place_gguf_name(nib_place p, char *buf, size_t n)
{
    place_name(p, "blk", roles[p.role].gguf, buf, n);
}

static const char *hf_stem(const nib_arch *a, nib_role r)
{
    for (size_t i = 0; i < a->n_hf_stems; i++)
        if (a->hf_stems[i].role == r) return a->hf_stems[i].stem;
    return roles[r].hf;
}

void nib_place_hf_name(const nib_arch *a, nib_place p, char *buf, size_t n)
{
    const char *stem = hf_stem(a, p.role);
    place_name(p, "model.layers", stem ? stem : roles[p.role].gguf, buf, n);
}

/* A number without sign or leading zeros, and what follows it; NULL when there is none. */
static const char *parse_number(const char *s, uint32_t *number)
{
    uint32_t v = 0;
    if (s[0] == '0' && s[1] >= '0' && s[1] <= '9') return NULL;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (p - s >= 9) return NULL;
        v = v * 10 + (uint32_t)(*p - '0');
    }
    if (p == s) return NULL;
    *number = v;
    return p;
}

/* Is name[0 .. n) the stem, with a number or '*' in the place of '#'? */
static bool matches(const char *stem, const char *name, size_t n, uint32_t *expert)
{
    const size_t head = strcspn(stem, "#");
    const char *end = name + n, *rest = name + head;
    if (n < head || strncmp(stem, name, head)) return false;
    if (!stem[head]) return n == head;
    if (*rest == '*')
        *expert = NIB_EXPERTS_ALL, rest++;
    else
        rest = parse_number(rest, expert);
    if (!rest || rest > end) return false;
    return strlen(stem + head + 1) == (size_t)(end - rest) &&
           !strncmp(stem + head + 1, rest, (size_t)(end - rest));
}

/* ".weight" or ".bias" at the end: the length of what stands before it; 0: neither. */
static size_t without_end(const char *name, bool *bias)
{
    const char *dot = strrchr(name, '.');
    if (!dot) return 0;
    *bias = !strcmp(dot, ".bias");
    return *bias || !strcmp(dot, ".weight") ? (size_t)(dot - name) : 0;
}

const nib_fused *nib_place_fused(const nib_arch *a, const char *name, nib_place *first)
{
    static const char prefix[] = "model.layers.";
    uint32_t layer;
    bool bias = false;
    if (strncmp(name, prefix, sizeof prefix - 1)) return NULL;
    name = parse_number(name + sizeof prefix - 1, &layer);
    if (!name || *name++ != '.') return NULL;
    size_t n = without_end(name, &bias);
    if (!n) n = strlen(name);
    for (size_t i = 0; i < a->n_fused && !bias; i++) {
        const nib_fused *f = &a->fused[i];
        if (strlen(f->stem) != n || strncmp(f->stem, name, n)) continue;
        *first = (nib_place){.layer = layer, .role = f->role[0]};
        if (nib_role_is_expert(f->role[0])) first->expert = NIB_EXPERTS_ALL;
        return f;
    }
    return NULL;
}

bool nib_place_parse(const char *name, const nib_arch *hf, nib_place *out)
{
    const char *prefix = hf ? "model.layers." : "blk.";
    nib_role first = NIB_ROLE_FIRST, end = NIB_ROLE_FIRST_BLOCK;
    nib_place p = {0};
    if (!strncmp(name, prefix, strlen(prefix))) {
        name = parse_number(name + strlen(prefix), &p.layer);
        if (!name || *name++ != '.') return false;
        first = NIB_ROLE_FIRST_BLOCK, end = NIB_ROLE_COUNT;
    }
    const size_t n = without_end(name, &p.bias);
    for (p.role = first; n && p.role < end; p.role++) {
        const char *stem = hf ? hf_stem(hf, p.role) : roles[p.role].gguf;
        p.expert = nib_role_is_expert(p.role) ? NIB_EXPERTS_ALL : 0;
        if (!stem || !matches(stem, name, n, &p.expert)) continue;
        if (p.bias && !roles[p.role].linear) return false;
        *out = p;
        return true;
    }
    return false;
}

uint64_t nib_rope_source_row(uint64_t row, uint32_t head_dim)
{
    uint64_t head = row / head_dim, in = row % head_dim;
    return head * head_dim + in % 2 * (head_dim / 2) + in / 2;
}

uint64_t nib_rope_paired_row(uint64_t row, uint32_t head_dim)
{
    uint64_t head = row / head_dim, in = row % head_dim;
    return head * head_dim + in % (head_dim / 2) * 2 + in / (head_dim / 2);
}
