/* SPDX-License-Identifier: MIT */
/* infer/arch.c - architectures as tables: what blocks compute, and what is an architecture's own in
 * names and keys.
 *
 * A kind of step that none of them has yet is an operation more in step.h and graph.c. Tensor names
 * that many have are in names.c, reading hyper-parameters is config.c, finding tensors model.c.
 * Tests: tests/infer/test_step.c, tests/run/test_arch_golden.c. */
#include "infer/model.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- what blocks compute ---- */

#define STEP(op, weight, to, a, b, flags)                                                          \
    {                                                                                              \
        NIB_OP_##op, NIB_ROLE_##weight, NIB_REG_##to, NIB_REG_##a, NIB_REG_##b, flags              \
    }
#define NORM(weight, to, a) STEP(NORM, weight, to, a, X, 0)
#define LINEAR(weight, to, a, flags) STEP(LINEAR, weight, to, a, X, flags)
#define HEAD_NORM(weight, x) STEP(HEAD_NORM, weight, x, x, X, 0)
#define HEAD_NORM_IF(weight, x) STEP(HEAD_NORM, weight, x, x, X, NIB_STEP_OPTIONAL)
#define PART(to, a) STEP(PART, NONE, to, a, X, 0)
#define ROPE(x) STEP(ROPE, NONE, x, x, X, 0)
#define CLIP(x) STEP(CLIP, NONE, x, x, X, 0)
#define ATTEND(to, a) STEP(ATTEND, NONE, to, a, X, 0)
#define GLU(to, a, b) STEP(GLU, NONE, to, a, b, 0)
#define ADD(to, a, b) STEP(ADD, NONE, to, a, b, 0)

/* Parts that many have in common. */
#define QKV(flags)                                                                                 \
    LINEAR(ATTN_Q, Q, H, flags), LINEAR(ATTN_K, K, H, flags), LINEAR(ATTN_V, V, H, flags)
#define ATTENTION ROPE(Q), ROPE(K), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
#define GATED                                                                                      \
    LINEAR(FFN_GATE, G, H, 0), LINEAR(FFN_UP, U, H, 0), GLU(G, G, U),                              \
        LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)
#define GATED_FFN NORM(FFN_NORM, H, X), GATED

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
#define ROUTER LINEAR(FFN_ROUTER, R, H, 0), STEP(ROUTE, NONE, R, R, X, 0)
#define ROUTER_WITH_BIAS LINEAR(FFN_ROUTER, R, H, 0), STEP(ROUTE, FFN_ROUTER_BIAS, R, R, X, 0)
#define ROUTED(glu)                                                                                \
    EXPERT(LINEAR, FFN_GATE_EXPS, EG, H, X, 0), EXPERT(LINEAR, FFN_UP_EXPS, EU, H, X, 0),          \
        EXPERT(glu, NONE, EG, EG, EU, 0), EXPERT(LINEAR, FFN_DOWN_EXPS, EY, EG, X, 0),             \
        EXPERT(MIX, NONE, X, EY, X, NIB_STEP_ADD)
#define EXPERTS NORM(FFN_NORM, H, X), ROUTER, ROUTED(GLU)
/* An expert that all tokens go to. */
#define SHARED(to, flags)                                                                          \
    LINEAR(FFN_GATE_SHEXP, SG, H, 0), LINEAR(FFN_UP_SHEXP, SU, H, 0), GLU(SG, SG, SU),             \
        LINEAR(FFN_DOWN_SHEXP, to, SG, flags)
#define GATED_SHARED                                                                               \
    LINEAR(FFN_SHARED_GATE, S, H, 0), SHARED(Y, 0), STEP(SIGMOID, NONE, Y, Y, S, 0), ADD(X, X, Y)

static const nib_step qwen3moe[] = {NORM(ATTN_NORM, H, X),     QKV(0),    HEAD_NORM(ATTN_Q_NORM, Q),
                                    HEAD_NORM(ATTN_K_NORM, K), ATTENTION, EXPERTS};
static const char *const qwen3moe_config_keys[] = {
    "num_experts",         "num_local_experts", "num_experts_per_tok", "moe_intermediate_size",
    "decoder_sparse_step", "mlp_only_layers",   "norm_topk_prob",      NULL};
static const char *const moe_gguf_keys[] = {"expert_used_count", "expert_feed_forward_length",
                                            NULL};
/* As checkpoints have it that were saved from memory: all experts of a layer in one tensor. */
static const nib_fused stacked_experts[] = {
    {"mlp.experts.gate_up_proj",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     false,
     false,
     false},
    {"mlp.experts.down_proj", {NIB_ROLE_FFN_DOWN_EXPS}, 1, false, false, false},
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
    SETTING(logit_softcap, "final_logit_softcapping", "final_logit_softcapping", 0, 0),
};
/* Gemma 3's class takes "attn_logit_softcapping", and does nothing with it. */
static const char *const gemma_config_keys[] = {"query_pre_attn_scalar", "sliding_window_pattern",
                                                "rope_local_base_freq", "attn_logit_softcapping",
                                                NULL};
static const char *const gemma_gguf_keys[] = {"rope.freq_base_swa", NULL};
#define GEMMA                                                                                      \
    .hf_stems = gemma_stems, .n_hf_stems = COUNT(gemma_stems), .config_keys = gemma_config_keys,   \
    .gguf_keys = gemma_gguf_keys, .act = NIB_ACT_GELU_TANH, .norm_plus_one = true,                 \
    .scaled_embd = true, .query_scale = true, .head_dim = 256, .tied = true

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

/* ---- further mixtures of experts ---- */

static const nib_step mixtral[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, EXPERTS};
static const nib_role_stem mixtral_stems[] = {
    {NIB_ROLE_FFN_ROUTER, "block_sparse_moe.gate"},
    {NIB_ROLE_FFN_ROUTER, "mlp.gate"},
    {NIB_ROLE_FFN_GATE_EXPS, "block_sparse_moe.experts.#.w1"},
    {NIB_ROLE_FFN_UP_EXPS, "block_sparse_moe.experts.#.w3"},
    {NIB_ROLE_FFN_DOWN_EXPS, "block_sparse_moe.experts.#.w2"},
};
static const char *const moe_config_keys[] = {"num_experts", "num_local_experts",
                                              "num_experts_per_tok", NULL};

static const nib_step qwen2moe[] = {
    NORM(ATTN_NORM, H, X), QKV(0),     ATTENTION, NORM(FFN_NORM, H, X), ROUTER,
    GATED_SHARED,          ROUTED(GLU)};
static const char *const qwen2moe_config_keys[] = {
    "num_experts",         "num_local_experts", "num_experts_per_tok", "moe_intermediate_size",
    "decoder_sparse_step", "mlp_only_layers",   "norm_topk_prob",      NULL};
#define NUMBER(field, hf, gguf, standard, max)                                                     \
    {                                                                                              \
        offsetof(nib_hparams, field), hf, gguf, standard, max                                      \
    }
static const nib_arch_number qwen2moe_numbers[] = {
    NUMBER(n_ff_shared, "shared_expert_intermediate_size", "expert_shared_feed_forward_length",
           5632, NIB_WIDTH_MAX),
};

/* Queries and keys are normed as a whole, before they are heads. */
#define QK_NORM NORM(ATTN_Q_NORM, Q, Q), NORM(ATTN_K_NORM, K, K)
static const nib_step olmoe[] = {NORM(ATTN_NORM, H, X), QKV(0), QK_NORM, ATTENTION, EXPERTS};
/* All three are clipped, which nothing can be scaled through. */
#define CLIPPED CLIP(Q), CLIP(K), CLIP(V)
static const nib_step olmoe_clipped[] = {
    NORM(ATTN_NORM, H, X), QKV(0), QK_NORM, CLIPPED, ATTENTION, EXPERTS};
static const nib_arch_setting clip_settings[] = {
    SETTING(clip_qkv, "clip_qkv", "attention.clamp_kqv", 0, 0),
};
static const char *const olmoe_config_keys[] = {"num_experts", "num_local_experts",
                                                "num_experts_per_tok", "norm_topk_prob", NULL};

static const nib_step granitemoe[] = {
    NORM(ATTN_NORM, H, X),        QKV(0),       ROPE(Q), ROPE(K), ATTEND(Q, Q),
    LINEAR(ATTN_OUTPUT, Y, Q, 0), ADD(X, X, Y), EXPERTS,
};
static const nib_step granitemoe_shared[] = {
    NORM(ATTN_NORM, H, X),
    QKV(0),
    ROPE(Q),
    ROPE(K),
    ATTEND(Q, Q),
    LINEAR(ATTN_OUTPUT, Y, Q, 0),
    ADD(X, X, Y),
    NORM(FFN_NORM, H, X),
    ROUTER,
    SHARED(Y, 0),
    ADD(X, X, Y),
    ROUTED(GLU),
};
static const nib_role_stem granitemoe_stems[] = {
    {NIB_ROLE_FFN_ROUTER, "block_sparse_moe.router.layer"},
    {NIB_ROLE_FFN_ROUTER, "block_sparse_moe.router"},
    {NIB_ROLE_FFN_GATE_EXPS, "block_sparse_moe.experts.#.gate_proj"},
    {NIB_ROLE_FFN_UP_EXPS, "block_sparse_moe.experts.#.up_proj"},
    {NIB_ROLE_FFN_DOWN_EXPS, "block_sparse_moe.experts.#.down_proj"},
    {NIB_ROLE_FFN_GATE_SHEXP, "shared_mlp.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "shared_mlp.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "shared_mlp.output_linear"},
};
static const nib_fused granitemoe_fused[] = {
    {"block_sparse_moe.input_linear",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     false,
     false,
     false},
    {"block_sparse_moe.output_linear", {NIB_ROLE_FFN_DOWN_EXPS}, 1, false, false, false},
    /* saved from memory */
    {"block_sparse_moe.experts.gate_up_proj",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     false,
     false,
     false},
    {"block_sparse_moe.experts.down_proj", {NIB_ROLE_FFN_DOWN_EXPS}, 1, false, false, false},
    {"shared_mlp.input_linear",
     {NIB_ROLE_FFN_GATE_SHEXP, NIB_ROLE_FFN_UP_SHEXP},
     2,
     false,
     false,
     false},
};
static const nib_arch_number granitemoe_numbers[] = {
    NUMBER(n_ff_shared, "shared_intermediate_size", "expert_shared_feed_forward_length", 0,
           NIB_WIDTH_MAX),
};

/* Scores are logits, and the experts' gates are clamped. */
static const nib_step gptoss[] = {NORM(ATTN_NORM, H, X),
                                  QKV(0),
                                  ROPE(Q),
                                  ROPE(K),
                                  STEP(ATTEND, ATTN_SINKS, Q, Q, X, 0),
                                  LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD),
                                  NORM(ATTN_POST_NORM, H, X),
                                  LINEAR(FFN_ROUTER, R, H, NIB_STEP_BIAS),
                                  STEP(ROUTE, NONE, R, R, X, 0),
                                  EXPERT(LINEAR, FFN_GATE_EXPS, EG, H, X, NIB_STEP_BIAS),
                                  EXPERT(LINEAR, FFN_UP_EXPS, EU, H, X, NIB_STEP_BIAS),
                                  EXPERT(GLU_CLAMP, NONE, EG, EG, EU, 0),
                                  EXPERT(LINEAR, FFN_DOWN_EXPS, EY, EG, X, NIB_STEP_BIAS),
                                  EXPERT(MIX, NONE, X, EY, X, NIB_STEP_ADD)};
static const nib_role_stem gptoss_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_NORM, NULL},
    {NIB_ROLE_FFN_ROUTER, "mlp.router"},
};
static const nib_fused gptoss_fused[] = {
    {"mlp.experts.gate_up_proj",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     true,
     true,
     false},
    {"mlp.experts.down_proj", {NIB_ROLE_FFN_DOWN_EXPS}, 1, true, false, false},
    {"mlp.experts.gate_up_proj_bias",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     false,
     true,
     true},
    {"mlp.experts.down_proj_bias", {NIB_ROLE_FFN_DOWN_EXPS}, 1, false, false, true},
};
static const char *const gptoss_config_keys[] = {
    "num_experts",       "num_local_experts",      "num_experts_per_tok",
    "experts_per_token", "initial_context_length", NULL};

static const nib_step glm4moe[] = {NORM(ATTN_NORM, H, X),
                                   QKV(0),
                                   HEAD_NORM_IF(ATTN_Q_NORM, Q),
                                   HEAD_NORM_IF(ATTN_K_NORM, K),
                                   ATTENTION,
                                   NORM(ATTN_POST_NORM, H, X),
                                   ROUTER_WITH_BIAS,
                                   SHARED(X, NIB_STEP_ADD),
                                   ROUTED(GLU)};
static const nib_step glm4moe_dense[] = {NORM(ATTN_NORM, H, X),
                                         QKV(0),
                                         HEAD_NORM_IF(ATTN_Q_NORM, Q),
                                         HEAD_NORM_IF(ATTN_K_NORM, K),
                                         ATTENTION,
                                         NORM(ATTN_POST_NORM, H, X),
                                         LINEAR(FFN_GATE, G, H, 0),
                                         LINEAR(FFN_UP, U, H, 0),
                                         GLU(G, G, U),
                                         LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const nib_role_stem glm4moe_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_NORM, NULL},
    {NIB_ROLE_FFN_GATE_SHEXP, "mlp.shared_experts.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "mlp.shared_experts.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "mlp.shared_experts.down_proj"},
};
static const char *const deepseek_config_keys[] = {"n_routed_experts",  "num_experts",
                                                   "num_local_experts", "num_experts_per_tok",
                                                   "norm_topk_prob",    "moe_intermediate_size",
                                                   "scoring_func",      "topk_method",
                                                   "use_qk_norm",       "num_nextn_predict_layers",
                                                   "aux_loss_alpha",    "seq_aux",
                                                   "num_mtp_layers",    "q_lora_rank",
                                                   "rope_interleave",   "qk_head_dim",
                                                   "mlp_layer_types",   NULL};
static const char *const deepseek_gguf_keys[] = {
    "expert_used_count",   "expert_feed_forward_length", "expert_gating_func",
    "expert_weights_norm", "nextn_predict_layers",       NULL};
static const nib_arch_number glm4moe_numbers[] = {
    NUMBER(n_next, "num_nextn_predict_layers", "nextn_predict_layers", 0, 64),
    NUMBER(n_shared, "n_shared_experts", "expert_shared_count", 1, 1024),
    NUMBER(n_dense_first, "first_k_dense_replace", "leading_dense_block_count", 1, NIB_LAYERS_MAX),
    NUMBER(n_group, "n_group", "expert_group_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_group_used, "topk_group", "expert_group_used_count", 1, NIB_EXPERTS_MAX),
};
static const nib_arch_setting glm4moe_settings[] = {
    SETTING(share_scale, "routed_scaling_factor", "expert_weights_scale", 1, 1),
};

/* ---- further dense ones ---- */

/* Norms on the branches alone. */
#define UNNORMED_QKV LINEAR(ATTN_Q, Q, X, 0), LINEAR(ATTN_K, K, X, 0), LINEAR(ATTN_V, V, X, 0)
#define POST_NORMS                                                                                 \
    ROPE(Q), ROPE(K), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, Y, Q, 0), NORM(ATTN_POST_NORM, Y, Y),      \
        ADD(X, X, Y), LINEAR(FFN_GATE, G, X, 0), LINEAR(FFN_UP, U, X, 0), GLU(G, G, U),            \
        LINEAR(FFN_DOWN, Y, G, 0), NORM(FFN_POST_NORM, Y, Y), ADD(X, X, Y)
/* Norms without weights. */
#define PLAIN_NORM STEP(NORM, NONE, H, X, X, 0)
static const nib_step olmo[] = {PLAIN_NORM, QKV(0), ATTENTION, PLAIN_NORM, GATED};
static const nib_step olmo_clipped[] = {PLAIN_NORM, QKV(0), CLIPPED, ATTENTION, PLAIN_NORM, GATED};
static const nib_step olmo2[] = {UNNORMED_QKV, QK_NORM, POST_NORMS};
static const nib_step exaone4[] = {UNNORMED_QKV, HEAD_NORM(ATTN_Q_NORM, Q),
                                   HEAD_NORM(ATTN_K_NORM, K), POST_NORMS};
static const char *const exaone4_config_keys[] = {"sliding_window_pattern", NULL};
static const nib_role_stem olmo2_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_POST_NORM, "post_feedforward_layernorm"},
    {NIB_ROLE_FFN_NORM, NULL},
};

/* Linears that read one input are stored as one. */
#define JOINT_QKV(flags) LINEAR(ATTN_QKV, QKV, H, flags), PART(Q, QKV), PART(K, QKV), PART(V, QKV)
#define JOINT_FFN LINEAR(FFN_UP, GU, H, 0), PART(G, GU), PART(U, GU), GLU(G, G, U)
static const nib_step phi3[] = {
    NORM(ATTN_NORM, H, X), JOINT_QKV(0), ATTENTION,
    NORM(FFN_NORM, H, X),  JOINT_FFN,    LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const nib_role_stem joint_stems[] = {
    {NIB_ROLE_FFN_UP, "mlp.gate_up_proj"},
};
static const nib_step glm[] = {
    NORM(ATTN_NORM, H, X), QKV(0),    ATTENTION,
    NORM(FFN_NORM, H, X),  JOINT_FFN, LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const nib_step glm4[] = {NORM(ATTN_NORM, H, X),
                                QKV(0),
                                ROPE(Q),
                                ROPE(K),
                                ATTEND(Q, Q),
                                LINEAR(ATTN_OUTPUT, Y, Q, 0),
                                NORM(ATTN_POST_NORM, Y, Y),
                                ADD(X, X, Y),
                                NORM(FFN_NORM, H, X),
                                JOINT_FFN,
                                LINEAR(FFN_DOWN, Y, G, 0),
                                NORM(FFN_POST_NORM, Y, Y),
                                ADD(X, X, Y)};
static const nib_role_stem glm4_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_self_attn_layernorm"},
    {NIB_ROLE_FFN_POST_NORM, "post_mlp_layernorm"},
    {NIB_ROLE_FFN_UP, "mlp.gate_up_proj"},
};

/* Both branches read one norm. */
static const nib_step cohere[] = {
    NORM(ATTN_NORM, H, X),        QKV(0),    HEAD_NORM_IF(ATTN_Q_NORM, Q),
    HEAD_NORM_IF(ATTN_K_NORM, K), ATTENTION, GATED};
static const nib_arch_setting cohere_settings[] = {
    SETTING(logit_scale, "logit_scale", "logit_scale", 0.0625, 1),
};
static const char *const cohere_config_keys[] = {"use_qk_norm", "sliding_window_pattern",
                                                 "order_of_interleaved_layers", NULL};
#define QK_NORM_IF HEAD_NORM_IF(ATTN_Q_NORM, Q), HEAD_NORM_IF(ATTN_K_NORM, K)
static const nib_step stablelm[] = {NORM(ATTN_NORM, H, X), QKV(0), QK_NORM_IF, ATTENTION,
                                    GATED_FFN};
static const nib_step stablelm_parallel[] = {NORM(ATTN_NORM, H, X), QKV(0), QK_NORM_IF, ATTENTION,
                                             GATED};
static const nib_role_stem stablelm_stems[] = {
    {NIB_ROLE_ATTN_Q_NORM, "self_attn.q_layernorm.norms.#"},
    {NIB_ROLE_ATTN_K_NORM, "self_attn.k_layernorm.norms.#"},
};
static const char *const stablelm_config_keys[] = {"use_parallel_residual", "qk_layernorm", NULL};
static const char *const parallel_keys[] = {"use_parallel_residual", NULL};

static const nib_step ministral3[] = {NORM(ATTN_NORM, H, X),
                                      QKV(0),
                                      ROPE(Q),
                                      ROPE(K),
                                      STEP(TEMPER, NONE, Q, Q, X, 0),
                                      ATTEND(Q, Q),
                                      LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD),
                                      GATED_FFN};
static const char *const ministral3_gguf_keys[] = {"attention.temperature_scale", NULL};

/* Some layers see their chunk alone and are turned, the others see all. */
#define CHUNKED_ATTENTION                                                                          \
    NORM(ATTN_NORM, H, X), QKV(0), ROPE(Q), ROPE(K), HEAD_NORM(NONE, Q), HEAD_NORM(NONE, K),       \
        STEP(TEMPER, NONE, Q, Q, X, 0), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
static const nib_step llama4[] = {CHUNKED_ATTENTION, NORM(FFN_NORM, H, X), ROUTER,
                                  SHARED(X, NIB_STEP_ADD), ROUTED(GLU)};
static const nib_step llama4_dense[] = {CHUNKED_ATTENTION, GATED_FFN};
static const nib_role_stem llama4_stems[] = {
    {NIB_ROLE_FFN_GATE, "feed_forward.gate_proj"},
    {NIB_ROLE_FFN_UP, "feed_forward.up_proj"},
    {NIB_ROLE_FFN_DOWN, "feed_forward.down_proj"},
    {NIB_ROLE_FFN_ROUTER, "feed_forward.router"},
    {NIB_ROLE_FFN_GATE_SHEXP, "feed_forward.shared_expert.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "feed_forward.shared_expert.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "feed_forward.shared_expert.down_proj"},
    {NIB_ROLE_FFN_GATE_EXPS, "feed_forward.experts.#.gate_proj"},
    {NIB_ROLE_FFN_UP_EXPS, "feed_forward.experts.#.up_proj"},
    {NIB_ROLE_FFN_DOWN_EXPS, "feed_forward.experts.#.down_proj"},
};
static const nib_fused llama4_fused[] = {
    {"feed_forward.experts.gate_up_proj",
     {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS},
     2,
     true,
     false,
     false},
    {"feed_forward.experts.down_proj", {NIB_ROLE_FFN_DOWN_EXPS}, 1, true, false, false},
};
static const nib_arch_number llama4_numbers[] = {
    NUMBER(n_ff, "intermediate_size_mlp", "feed_forward_length", 16384, NIB_WIDTH_MAX),
    NUMBER(n_ff_expert, "intermediate_size", "expert_feed_forward_length", 8192, NIB_WIDTH_MAX),
    NUMBER(n_expert_step, "interleave_moe_layer_step", "interleave_moe_layer_step", 1,
           NIB_LAYERS_MAX),
    NUMBER(temper_length, "floor_scale", "attention.temperature_length", 8192, INT32_MAX),
};
static const nib_arch_setting llama4_settings[] = {
    SETTING(temper, "attn_scale", "attention.temperature_scale", 0.1f, 0.1f),
};
static const char *const llama4_config_keys[] = {"num_local_experts",
                                                 "num_experts_per_tok",
                                                 "moe_layers",
                                                 "no_rope_layers",
                                                 "no_rope_layer_interval",
                                                 "attention_chunk_size",
                                                 "attn_temperature_tuning",
                                                 "use_qk_norm",
                                                 "for_llm_compressor",
                                                 NULL};

/* ---- norms with a mean, biases, no gates ---- */

#define PLAIN_FFN(act)                                                                             \
    LINEAR(FFN_UP, G, H, 0), STEP(act, NONE, G, G, X, 0), LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)
#define UNTURNED_ATTENTION ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
static const nib_step gpt2[] = {NORM(ATTN_NORM, H, X), JOINT_QKV(0), UNTURNED_ATTENTION,
                                NORM(FFN_NORM, H, X), PLAIN_FFN(ACT)};
static const char *const gpt2_config_keys[] = {"scale_attn_weights",
                                               "scale_attn_by_inverse_layer_idx", NULL};
static const nib_role_stem gpt2_stems[] = {
    {NIB_ROLE_TOKEN_EMBD, "transformer.wte"},
    {NIB_ROLE_TOKEN_EMBD, "wte"},
    {NIB_ROLE_POS_EMBD, "transformer.wpe"},
    {NIB_ROLE_POS_EMBD, "wpe"},
    {NIB_ROLE_OUTPUT_NORM, "transformer.ln_f"},
    {NIB_ROLE_ATTN_NORM, "ln_1"},
    {NIB_ROLE_FFN_NORM, "ln_2"},
    {NIB_ROLE_ATTN_QKV, "attn.c_attn"},
    {NIB_ROLE_ATTN_OUTPUT, "attn.c_proj"},
    {NIB_ROLE_FFN_UP, "mlp.c_fc"},
    {NIB_ROLE_FFN_DOWN, "mlp.c_proj"},
};
static const nib_step opt[] = {NORM(ATTN_NORM, H, X), QKV(0), UNTURNED_ATTENTION,
                               NORM(FFN_NORM, H, X), PLAIN_FFN(RELU)};
static const nib_step opt_act[] = {NORM(ATTN_NORM, H, X), QKV(0), UNTURNED_ATTENTION,
                                   NORM(FFN_NORM, H, X), PLAIN_FFN(ACT)};
/* Norms behind the branches, and behind what they were added to. */
#define POST_NORM_ATTENTION                                                                        \
    LINEAR(ATTN_Q, Q, X, 0), LINEAR(ATTN_K, K, X, 0), LINEAR(ATTN_V, V, X, 0), UNTURNED_ATTENTION, \
        NORM(ATTN_NORM, X, X)
#define POST_NORM_PLAIN(act)                                                                       \
    LINEAR(FFN_UP, G, X, 0), STEP(act, NONE, G, G, X, 0), LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD),    \
        NORM(FFN_NORM, X, X)
static const nib_step opt_post_norm[] = {POST_NORM_ATTENTION, POST_NORM_PLAIN(RELU)};
static const nib_step opt_post_norm_act[] = {POST_NORM_ATTENTION, POST_NORM_PLAIN(ACT)};
static const nib_arch_number opt_numbers[] = {
    NUMBER(n_embd_in, "word_embed_proj_dim", NULL, 0, NIB_WIDTH_MAX),
};
static const nib_role_stem opt_stems[] = {
    {NIB_ROLE_EMBD_IN, "model.decoder.project_in"},
    {NIB_ROLE_EMBD_OUT, "model.decoder.project_out"},
    {NIB_ROLE_TOKEN_EMBD, "model.decoder.embed_tokens"},
    {NIB_ROLE_POS_EMBD, "model.decoder.embed_positions"},
    {NIB_ROLE_OUTPUT_NORM, "model.decoder.final_layer_norm"},
    {NIB_ROLE_ATTN_NORM, "self_attn_layer_norm"},
    {NIB_ROLE_ATTN_OUTPUT, "self_attn.out_proj"},
    {NIB_ROLE_FFN_NORM, "final_layer_norm"},
    {NIB_ROLE_FFN_UP, "fc1"},
    {NIB_ROLE_FFN_DOWN, "fc2"},
};
static const char *const opt_config_keys[] = {"ffn_dim", "do_layer_norm_before",
                                              "_remove_final_layer_norm", NULL};
static const char *const opt_plain_config_keys[] = {"ffn_dim", "layer_norm_elementwise_affine",
                                                    "_remove_final_layer_norm", NULL};
static const nib_step opt_plain[] = {PLAIN_NORM, QKV(0), UNTURNED_ATTENTION, PLAIN_NORM,
                                     PLAIN_FFN(RELU)};
static const nib_step opt_plain_act[] = {PLAIN_NORM, QKV(0), UNTURNED_ATTENTION, PLAIN_NORM,
                                         PLAIN_FFN(ACT)};
#define OLD_STEMS                                                                                  \
    {NIB_ROLE_ATTN_QKV, "self_attention.query_key_value"},                                         \
        {NIB_ROLE_ATTN_OUTPUT, "self_attention.dense"}, {NIB_ROLE_FFN_UP, "mlp.dense_h_to_4h"},    \
        {NIB_ROLE_FFN_DOWN, "mlp.dense_4h_to_h"},                                                  \
        {NIB_ROLE_TOKEN_EMBD, "transformer.word_embeddings"},                                      \
    {                                                                                              \
        NIB_ROLE_OUTPUT_NORM, "transformer.ln_f"                                                   \
    }
static const nib_role_stem bloom_stems[] = {
    OLD_STEMS,
    {NIB_ROLE_EMBD_NORM, "transformer.word_embeddings_layernorm"},
};
/* Branches are added to what was normed for them. */
static const nib_step bloom_normed[] = {NORM(ATTN_NORM, X, X),
                                        LINEAR(ATTN_QKV, QKV, X, 0),
                                        PART(Q, QKV),
                                        PART(K, QKV),
                                        PART(V, QKV),
                                        UNTURNED_ATTENTION,
                                        NORM(FFN_NORM, X, X),
                                        LINEAR(FFN_UP, G, X, 0),
                                        STEP(ACT, NONE, G, G, X, 0),
                                        LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const char *const bloom_config_keys[] = {"apply_residual_connection_post_layernorm", NULL};
static const nib_step falcon[] = {NORM(ATTN_NORM, H, X), JOINT_QKV(0), ATTENTION, PLAIN_FFN(ACT)};
/* Each branch reads a norm of its own, both of the block's input. */
static const nib_step falcon_two_norms[] = {NORM(ATTN_NORM, F, X),
                                            NORM(ATTN_NORM_2, H, X),
                                            JOINT_QKV(0),
                                            ATTENTION,
                                            LINEAR(FFN_UP, G, F, 0),
                                            STEP(ACT, NONE, G, G, X, 0),
                                            LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const nib_role_stem falcon_stems[] = {OLD_STEMS};
static const nib_role_stem falcon_two_stems[] = {
    OLD_STEMS, {NIB_ROLE_ATTN_NORM, "ln_mlp"}, {NIB_ROLE_ATTN_NORM_2, "ln_attn"}};
static const char *const falcon_config_keys[] = {"activation",
                                                 "multi_query",
                                                 "new_decoder_architecture",
                                                 "num_kv_heads",
                                                 "n_head_kv",
                                                 "ffn_hidden_size",
                                                 "num_ln_in_parallel_attn",
                                                 "parallel_attn",
                                                 "alibi",
                                                 NULL};
/* Published configurations leave it out. */
static const nib_arch_number falcon_numbers[] = {
    NUMBER(n_ctx_train, "max_position_embeddings", NULL, 2048, INT32_MAX),
};
static const nib_step gptneox_parallel[] = {NORM(ATTN_NORM, H, X),
                                            NORM(FFN_NORM, F, X),
                                            JOINT_QKV(0),
                                            ATTENTION,
                                            LINEAR(FFN_UP, G, F, 0),
                                            STEP(ACT, NONE, G, G, X, 0),
                                            LINEAR(FFN_DOWN, X, G, NIB_STEP_ADD)};
static const nib_step gptneox[] = {NORM(ATTN_NORM, H, X), JOINT_QKV(0), ATTENTION,
                                   NORM(FFN_NORM, H, X), PLAIN_FFN(ACT)};
static const nib_role_stem gptneox_stems[] = {
    {NIB_ROLE_TOKEN_EMBD, "gpt_neox.embed_in"},
    {NIB_ROLE_OUTPUT, "embed_out"},
    {NIB_ROLE_OUTPUT_NORM, "gpt_neox.final_layer_norm"},
    {NIB_ROLE_ATTN_QKV, "attention.query_key_value"},
    {NIB_ROLE_ATTN_OUTPUT, "attention.dense"},
    {NIB_ROLE_FFN_UP, "mlp.dense_h_to_4h"},
    {NIB_ROLE_FFN_DOWN, "mlp.dense_4h_to_h"},
};
static const char *const gptneox_config_keys[] = {"rotary_emb_base", "rotary_pct",
                                                  "use_parallel_residual", NULL};
static const nib_step starcoder2[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION,
                                      NORM(FFN_NORM, H, X), PLAIN_FFN(ACT)};
static const nib_role_stem starcoder2_stems[] = {
    {NIB_ROLE_FFN_UP, "mlp.c_fc"},
    {NIB_ROLE_FFN_DOWN, "mlp.c_proj"},
};
static const char *const starcoder_config_keys[] = {"multi_query", "scale_attn_weights",
                                                    "pre_allocate_kv_cache", NULL};
static const char *const gptj_config_keys[] = {"rotary", "rotary_dim", NULL};
static const nib_role_stem gptj_stems[] = {
    {NIB_ROLE_TOKEN_EMBD, "transformer.wte"},
    {NIB_ROLE_OUTPUT_NORM, "transformer.ln_f"},
    {NIB_ROLE_ATTN_NORM, "ln_1"},
    {NIB_ROLE_ATTN_Q, "attn.q_proj"},
    {NIB_ROLE_ATTN_K, "attn.k_proj"},
    {NIB_ROLE_ATTN_V, "attn.v_proj"},
    {NIB_ROLE_ATTN_OUTPUT, "attn.out_proj"},
    {NIB_ROLE_FFN_UP, "mlp.fc_in"},
    {NIB_ROLE_FFN_DOWN, "mlp.fc_out"},
};
static const nib_step phi2[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, PLAIN_FFN(ACT)};
static const nib_step phi2_normed[] = {
    NORM(ATTN_NORM, H, X),     QKV(0),    HEAD_NORM(ATTN_Q_NORM, Q),
    HEAD_NORM(ATTN_K_NORM, K), ATTENTION, PLAIN_FFN(ACT)};
static const char *const phi2_config_keys[] = {"qk_layernorm", NULL};
static const nib_role_stem phi2_stems[] = {
    {NIB_ROLE_ATTN_Q_NORM, "self_attn.q_layernorm"},
    {NIB_ROLE_ATTN_K_NORM, "self_attn.k_layernorm"},
    {NIB_ROLE_OUTPUT_NORM, "model.final_layernorm"},
    {NIB_ROLE_ATTN_OUTPUT, "self_attn.dense"},
    {NIB_ROLE_FFN_UP, "mlp.fc1"},
    {NIB_ROLE_FFN_DOWN, "mlp.fc2"},
};

/* ---- the text part of models that see ---- */

static const char *const vl_gguf_keys[] = {"rope.dimension_sections", "n_deepstack_layers",
                                           "expert_used_count", "expert_feed_forward_length", NULL};
/* The class's values: published configurations leave out what is as there. */
static const nib_arch_number gemma3_numbers[] = {
    NUMBER(n_head, "num_attention_heads", NULL, 8, NIB_HEADS_MAX),
    NUMBER(n_head_kv, "num_key_value_heads", NULL, 4, NIB_HEADS_MAX),
    NUMBER(n_ctx_train, "max_position_embeddings", NULL, 131072, INT32_MAX),
    NUMBER(n_vocab, "vocab_size", NULL, 262208, NIB_WIDTH_MAX),
    NUMBER(n_layer, "num_hidden_layers", NULL, 26, NIB_LAYERS_MAX),
    NUMBER(n_embd, "hidden_size", NULL, 2304, NIB_WIDTH_MAX),
    NUMBER(n_ff, "intermediate_size", NULL, 9216, NIB_WIDTH_MAX),
};

static const char *const smollm3_config_keys[] = {"no_rope_layers", "no_rope_layer_interval", NULL};

/* ---- latent queries, keys and values ---- */

#define LATENT_QUERIES                                                                             \
    LINEAR(ATTN_Q_A, QA, H, 0), NORM(ATTN_Q_A_NORM, QA, QA), LINEAR(ATTN_Q_B, Q, QA, 0)
#define LATENT_ATTENTION                                                                           \
    LINEAR(ATTN_KV_A, KVA, H, 0), PART(C, KVA), PART(P, KVA), NORM(ATTN_KV_A_NORM, C, C),          \
        LINEAR(ATTN_KV_B, KV, C, 0), PART(V, KV), ROPE(Q), ROPE(P), STEP(KEYS, NONE, K, KV, P, 0), \
        ATTEND(O, Q), LINEAR(ATTN_OUTPUT, X, O, NIB_STEP_ADD)
#define LATENT_EXPERTS                                                                             \
    NORM(FFN_NORM, H, X), LINEAR(FFN_ROUTER, R, H, 0),                                             \
        STEP(ROUTE, FFN_ROUTER_BIAS, R, R, X, NIB_STEP_OPTIONAL), SHARED(X, NIB_STEP_ADD),         \
        ROUTED(GLU)
static const nib_step deepseek2[] = {NORM(ATTN_NORM, H, X), LATENT_QUERIES, LATENT_ATTENTION,
                                     LATENT_EXPERTS};
static const nib_step deepseek2_dense[] = {NORM(ATTN_NORM, H, X), LATENT_QUERIES, LATENT_ATTENTION,
                                           GATED_FFN};
static const nib_step deepseek2_lite[] = {NORM(ATTN_NORM, H, X), LINEAR(ATTN_Q, Q, H, 0),
                                          LATENT_ATTENTION, LATENT_EXPERTS};
static const nib_step deepseek2_lite_dense[] = {NORM(ATTN_NORM, H, X), LINEAR(ATTN_Q, Q, H, 0),
                                                LATENT_ATTENTION, GATED_FFN};
static const nib_role_stem deepseek_stems[] = {
    {NIB_ROLE_FFN_GATE_SHEXP, "mlp.shared_experts.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "mlp.shared_experts.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "mlp.shared_experts.down_proj"},
};
#define LATENT_NUMBERS                                                                             \
    NUMBER(kv_rank, "kv_lora_rank", "attention.kv_lora_rank", 512, NIB_WIDTH_MAX),                 \
        NUMBER(key_dim, "qk_nope_head_dim", NULL, 128, NIB_WIDTH_MAX),                             \
        NUMBER(rope_dim, "qk_rope_head_dim", "rope.dimension_count", 64, NIB_WIDTH_MAX),           \
        NUMBER(value_dim, "v_head_dim", "attention.value_length_mla", 128, NIB_WIDTH_MAX),         \
        NUMBER(head_dim, NULL, "attention.key_length_mla", 0, NIB_WIDTH_MAX)
static const nib_arch_number deepseek2_numbers[] = {
    LATENT_NUMBERS,
    NUMBER(n_shared, "n_shared_experts", "expert_shared_count", 2, 1024),
    NUMBER(n_group, "n_group", "expert_group_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_group_used, "topk_group", "expert_group_used_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_dense_first, "first_k_dense_replace", "leading_dense_block_count", 0, NIB_LAYERS_MAX),
    NUMBER(q_rank, "q_lora_rank", "attention.q_lora_rank", 1536, NIB_WIDTH_MAX),
};
static const nib_arch_number deepseek3_numbers[] = {
    NUMBER(n_next, "num_nextn_predict_layers", "nextn_predict_layers", 0, 64),
    LATENT_NUMBERS,
    NUMBER(n_shared, "n_shared_experts", "expert_shared_count", 1, 1024),
    NUMBER(n_group, "n_group", "expert_group_count", 8, NIB_EXPERTS_MAX),
    NUMBER(n_group_used, "topk_group", "expert_group_used_count", 4, NIB_EXPERTS_MAX),
    NUMBER(n_dense_first, "first_k_dense_replace", "leading_dense_block_count", 3, NIB_LAYERS_MAX),
    NUMBER(q_rank, "q_lora_rank", "attention.q_lora_rank", 1536, NIB_WIDTH_MAX),
};
static const nib_arch_setting deepseek2_settings[] = {
    SETTING(share_scale, "routed_scaling_factor", "expert_weights_scale", 1, 1),
};
static const nib_arch_setting deepseek3_settings[] = {
    SETTING(share_scale, "routed_scaling_factor", "expert_weights_scale", 2.5f, 1),
};
#define DEEPSEEK(lite)                                                                             \
    .name = "deepseek2", .when_hf = "q_lora_rank", .when_gguf = "blk.0.attn_q_a.weight",           \
    .when = (lite) ? NIB_WHEN_NOT : NIB_WHEN, .when_standard = !(lite), STEMS(deepseek_stems),     \
    .config_keys = deepseek_config_keys, .gguf_keys = deepseek_gguf_keys, FUSED(stacked_experts),  \
    .rope_adjacent = true, .writes_rope_dim = true, .experts = true, .routing_keys = true,         \
    .scale_by_yarn = true

/* ---- layers of linear attention among others ---- */

#define LINEAR_ATTENTION                                                                           \
    STEP(CONVOLVE, SSM_CONV, L, L, X, 0), STEP(STEP_SIZE, SSM_DT, LA, LA, X, 0),                   \
        STEP(DECAY, SSM_A, LA, LA, X, 0), STEP(DELTA, NONE, LO, L, LB, 0),                         \
        HEAD_NORM(SSM_NORM, LO), GLU(LZ, LZ, LO), LINEAR(SSM_OUT, X, LZ, NIB_STEP_ADD)
#define JOINT_LINEAR                                                                               \
    NORM(ATTN_NORM, H, X), LINEAR(SSM_IN, LI, H, NIB_STEP_F64), PART(L, LI), PART(LZ, LI),         \
        LINEAR(SSM_BA, LBA, H, NIB_STEP_F64), PART(LB, LBA), PART(LA, LBA), LINEAR_ATTENTION
#define APART_LINEAR                                                                               \
    NORM(ATTN_NORM, H, X), LINEAR(ATTN_QKV, L, H, NIB_STEP_F64), LINEAR(ATTN_GATE, LZ, H, 0),      \
        LINEAR(SSM_BETA, LB, H, NIB_STEP_F64), LINEAR(SSM_ALPHA, LA, H, NIB_STEP_F64),             \
        LINEAR_ATTENTION
#define GATED_ATTENTION                                                                            \
    NORM(ATTN_NORM, H, X), LINEAR(ATTN_Q, QG, H, 0), PART(Q, QG), PART(AG, QG),                    \
        LINEAR(ATTN_K, K, H, 0), LINEAR(ATTN_V, V, H, 0), HEAD_NORM(ATTN_Q_NORM, Q),               \
        HEAD_NORM(ATTN_K_NORM, K), ROPE(Q), ROPE(K), ATTEND(Q, Q),                                 \
        STEP(SIGMOID, NONE, Q, Q, AG, 0), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
#define POST_NORM_FFN NORM(ATTN_POST_NORM, H, X), GATED
#define POST_NORM_EXPERTS NORM(ATTN_POST_NORM, H, X), ROUTER, GATED_SHARED, ROUTED(GLU)
static const nib_step qwen3next[] = {GATED_ATTENTION, POST_NORM_EXPERTS};
static const nib_step qwen3next_dense[] = {GATED_ATTENTION, POST_NORM_FFN};
static const nib_step qwen3next_linear[] = {JOINT_LINEAR, POST_NORM_EXPERTS};
static const nib_step qwen3next_linear_dense[] = {JOINT_LINEAR, POST_NORM_FFN};
static const nib_step qwen35_linear[] = {APART_LINEAR, POST_NORM_FFN};
static const nib_step qwen35moe_linear[] = {APART_LINEAR, POST_NORM_EXPERTS};
static const nib_role_stem qwen35_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_NORM, NULL},
    {NIB_ROLE_ATTN_QKV, "linear_attn.in_proj_qkv"},
};
#define LINEAR_NUMBERS                                                                             \
    NUMBER(lin_taps, "linear_conv_kernel_dim", "ssm.conv_kernel", 4, 1024),                        \
        NUMBER(n_lin_k, "linear_num_key_heads", "ssm.group_count", 16, NIB_HEADS_MAX),             \
        NUMBER(n_lin_v, "linear_num_value_heads", "ssm.time_step_rank", 32, NIB_HEADS_MAX),        \
        NUMBER(lin_k_dim, "linear_key_head_dim", "ssm.state_size", 128, 1 << 14),                  \
        NUMBER(lin_v_dim, "linear_value_head_dim", NULL, 128, 1 << 14),                            \
        NUMBER(lin_inner, NULL, "ssm.inner_size", 0, NIB_WIDTH_MAX),                               \
        NUMBER(full_interval, "full_attention_interval", "full_attention_interval", 4,             \
               NIB_LAYERS_MAX)
static const nib_arch_number qwen35_numbers[] = {LINEAR_NUMBERS};
static const nib_arch_number qwen3next_numbers[] = {
    LINEAR_NUMBERS,
    NUMBER(n_ff_shared, "shared_expert_intermediate_size", "expert_shared_feed_forward_length", 512,
           NIB_WIDTH_MAX),
};
static const char *const qwen35_gguf_keys[] = {"rope.dimension_sections", "expert_used_count",
                                               "expert_feed_forward_length", NULL};
static const char *const qwen35_config_keys[] = {
    "num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size", NULL};
#define LINEAR_AMONG_OTHERS                                                                        \
    STEMS(qwen35_stems), .norm_plus_one = true, .head_dim = 256, .rope_part = 0.25f,               \
                         .writes_rope_dim = true, .norm_eps = 1e-6f
#define QWEN35                                                                                     \
    LINEAR_AMONG_OTHERS, .hf_skip = {"mtp.", "model.mtp.", "model.visual.", "visual."},            \
                         .text_part = true, .tiled_heads = true, .gguf_keys = qwen35_gguf_keys,    \
                         TEXT_PREFIXES

#define OPT                                                                                        \
    .name = "opt", .hf_classes = {"OPTForCausalLM"}, .when_standard = true,                        \
    .hf_blocks = "model.decoder.layers", STEMS(opt_stems), NUMBERS(opt_numbers),                   \
    .act = NIB_ACT_RELU, .layer_norm = true, .no_rope = true, .first_position = 2, .tied = true,   \
    .no_gguf = true

#define BLOOM                                                                                      \
    .name = "bloom", .hf_classes = {"BloomForCausalLM"},                                           \
    .when_hf = "apply_residual_connection_post_layernorm", .config_keys = bloom_config_keys,       \
    .hf_blocks = "transformer.h", STEMS(bloom_stems), .act = NIB_ACT_GELU_TANH,                    \
    .layer_norm = true, .ff_of_width = true, .no_rope = true, .alibi = true, .qkv_by_head = true,  \
    .tied = true
#define STARCODER                                                                                  \
    .name = "starcoder", .hf_classes = {"GPTBigCodeForCausalLM"}, .when_hf = "multi_query",        \
    .when_standard = true, .hf_blocks = "transformer.h", STEMS(gpt2_stems),                        \
    .config_keys = starcoder_config_keys, .act = NIB_ACT_GELU_TANH, .layer_norm = true,            \
    .ff_of_width = true, .no_rope = true, .tied = true, .block = BLOCK(gpt2)
#define PHI                                                                                        \
    .name = "phi2", .hf_classes = {"PhiForCausalLM"}, .when_hf = "qk_layernorm",                   \
    STEMS(phi2_stems), .config_keys = phi2_config_keys, .act = NIB_ACT_GELU_TANH,                  \
    .layer_norm = true, .rope_part = 0.5f, .writes_rope_dim = true
#define OLMO                                                                                       \
    .name = "olmo", .hf_classes = {"OlmoForCausalLM"}, .when_hf = "clip_qkv",                      \
    .when_gguf = "attention.clamp_kqv", SETTINGS(clip_settings), .rope_interleaved = true,         \
    .layer_norm = true, .plain_norms = true
#define OLMOE                                                                                      \
    .name = "olmoe", .hf_classes = {"OlmoeForCausalLM"}, .when_hf = "clip_qkv",                    \
    SETTINGS(clip_settings), .config_keys = olmoe_config_keys, .gguf_keys = moe_gguf_keys,         \
    FUSED(stacked_experts), .experts = true, .expert_ff_is_ff = true

/* ---- relatives of those above ---- */

static const nib_step seed_oss[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, POST_NORM_FFN};
static const nib_role_stem post_norm_stems[] = {
    {NIB_ROLE_ATTN_POST_NORM, "post_attention_layernorm"},
    {NIB_ROLE_FFN_NORM, NULL},
};
static const char *const seed_oss_config_keys[] = {"attention_out_bias", NULL};
static const nib_step nemotron[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, NORM(FFN_NORM, H, X),
                                    PLAIN_FFN(ACT)};

/* Heads are normed after they are turned. */
#define TURNED_THEN_NORMED                                                                         \
    NORM(ATTN_NORM, H, X), QKV(0), ROPE(Q), ROPE(K), HEAD_NORM(ATTN_Q_NORM, Q),                    \
        HEAD_NORM(ATTN_K_NORM, K), ATTEND(Q, Q), LINEAR(ATTN_OUTPUT, X, Q, NIB_STEP_ADD)
static const nib_step hunyuan[] = {TURNED_THEN_NORMED, GATED_FFN};
static const nib_step hunyuan_moe[] = {TURNED_THEN_NORMED, NORM(FFN_NORM, H, X), ROUTER,
                                       SHARED(X, NIB_STEP_ADD), ROUTED(GLU)};
static const nib_role_stem hunyuan_stems[] = {
    {NIB_ROLE_ATTN_Q_NORM, "self_attn.query_layernorm"},
    {NIB_ROLE_ATTN_K_NORM, "self_attn.key_layernorm"},
    {NIB_ROLE_FFN_ROUTER, "mlp.gate.wg"},
    {NIB_ROLE_FFN_GATE_SHEXP, "mlp.shared_mlp.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "mlp.shared_mlp.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "mlp.shared_mlp.down_proj"},
};
static const char *const hunyuan_config_keys[] = {"attention_head_dim",
                                                  "use_qk_norm",
                                                  "cla_share_factor",
                                                  "dense_list",
                                                  "enable_lm_head_fp32",
                                                  "num_experts",
                                                  "num_local_experts",
                                                  "moe_intermediate_size",
                                                  "num_shared_expert",
                                                  "norm_type",
                                                  NULL};
static const nib_arch_number hunyuan_moe_numbers[] = {
    NUMBER(n_expert_used, "moe_topk", "expert_used_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_ff_shared, NULL, "expert_shared_feed_forward_length", 0, NIB_WIDTH_MAX),
};

#define BIASED_EXPERTS NORM(FFN_NORM, H, X), ROUTER_WITH_BIAS, SHARED(X, NIB_STEP_ADD), ROUTED(GLU)
static const nib_step ernie_moe[] = {NORM(ATTN_NORM, H, X), QKV(0), ATTENTION, BIASED_EXPERTS};
static const nib_role_stem ernie_stems[] = {
    {NIB_ROLE_FFN_ROUTER_BIAS, "mlp.moe_statics.e_score_correction_bias$"},
    {NIB_ROLE_FFN_ROUTER_BIAS, "mlp.gate.moe_statics.e_score_correction_bias$"},
    {NIB_ROLE_FFN_GATE_SHEXP, "mlp.shared_experts.gate_proj"},
    {NIB_ROLE_FFN_UP_SHEXP, "mlp.shared_experts.up_proj"},
    {NIB_ROLE_FFN_DOWN_SHEXP, "mlp.shared_experts.down_proj"},
};
static const char *const ernie_moe_config_keys[] = {"moe_intermediate_size", "moe_layer_end_index",
                                                    "moe_norm_min", NULL};
static const nib_arch_number ernie_moe_numbers[] = {
    NUMBER(n_expert, "moe_num_experts", "expert_count", 64, NIB_EXPERTS_MAX),
    NUMBER(n_expert_used, "moe_k", "expert_used_count", 6, NIB_EXPERTS_MAX),
    NUMBER(n_shared, "moe_num_shared_experts", "expert_shared_count", 2, 1024),
    NUMBER(n_ff_shared, NULL, "expert_shared_feed_forward_length", 0, NIB_WIDTH_MAX),
    NUMBER(n_dense_first, "moe_layer_start_index", "leading_dense_block_count", 1, NIB_LAYERS_MAX),
    NUMBER(n_expert_step, "moe_layer_interval", "interleave_moe_layer_step", 1, NIB_LAYERS_MAX),
};

static const nib_step dots1[] = {NORM(ATTN_NORM, H, X),     QKV(0),    HEAD_NORM(ATTN_Q_NORM, Q),
                                 HEAD_NORM(ATTN_K_NORM, K), ATTENTION, BIASED_EXPERTS};
static const nib_arch_number dots1_numbers[] = {
    NUMBER(n_shared, "n_shared_experts", "expert_shared_count", 1, 1024),
    NUMBER(n_group, "n_group", "expert_group_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_group_used, "topk_group", "expert_group_used_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_dense_first, "first_k_dense_replace", "leading_dense_block_count", 0, NIB_LAYERS_MAX),
};

static const nib_step minimax_m2[] = {
    NORM(ATTN_NORM, H, X), QKV(0),           QK_NORM,    ATTENTION,
    NORM(FFN_NORM, H, X),  ROUTER_WITH_BIAS, ROUTED(GLU)};
static const nib_role_stem minimax_stems[] = {
    {NIB_ROLE_FFN_ROUTER, "block_sparse_moe.gate"},
    {NIB_ROLE_FFN_ROUTER, "mlp.gate"},
    {NIB_ROLE_FFN_ROUTER_BIAS, "block_sparse_moe.e_score_correction_bias$"},
    {NIB_ROLE_FFN_ROUTER_BIAS, "mlp.e_score_correction_bias$"},
    {NIB_ROLE_FFN_GATE_EXPS, "block_sparse_moe.experts.#.w1"},
    {NIB_ROLE_FFN_UP_EXPS, "block_sparse_moe.experts.#.w3"},
    {NIB_ROLE_FFN_DOWN_EXPS, "block_sparse_moe.experts.#.w2"},
};
static const char *const minimax_config_keys[] = {"num_experts",
                                                  "num_local_experts",
                                                  "num_experts_per_tok",
                                                  "scoring_func",
                                                  "attn_type_list",
                                                  "use_qk_norm",
                                                  "qk_norm_type",
                                                  "shared_intermediate_size",
                                                  "rotary_dim",
                                                  "use_routing_bias",
                                                  "layernorm_full_attention_beta",
                                                  "layernorm_linear_attention_beta",
                                                  "layernorm_mlp_beta",
                                                  "mtp_transformer_layers",
                                                  "num_mtp_modules",
                                                  NULL};

/* Granite 4 without Mamba's layers: what others have as a shared expert is all there is, where
 * there are no experts. */
static const nib_role_stem granite4_stems[] = {
    {NIB_ROLE_FFN_GATE, "shared_mlp.gate_proj"},
    {NIB_ROLE_FFN_UP, "shared_mlp.up_proj"},
    {NIB_ROLE_FFN_DOWN, "shared_mlp.output_linear"},
};
static const nib_fused granite4_fused[] = {
    {"shared_mlp.input_linear", {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP}, 2, false, false, false},
};
static const nib_arch_number granite4_numbers[] = {
    NUMBER(n_ff, "shared_intermediate_size", "feed_forward_length", 1024, NIB_WIDTH_MAX),
};
static const nib_arch_number granite4_moe_numbers[] = {
    NUMBER(n_ff_shared, "shared_intermediate_size", "expert_shared_feed_forward_length", 1024,
           NIB_WIDTH_MAX),
};
static const char *const granite4_config_keys[] = {"num_local_experts",
                                                   "num_experts_per_tok",
                                                   "position_embedding_type",
                                                   "mamba_n_heads",
                                                   "mamba_n_groups",
                                                   "mamba_d_state",
                                                   "mamba_d_head",
                                                   "mamba_d_conv",
                                                   "mamba_expand",
                                                   "mamba_chunk_size",
                                                   "mamba_conv_bias",
                                                   "mamba_proj_bias",
                                                   "time_step_limit",
                                                   "layers_block_type",
                                                   "normalization_function",
                                                   NULL};

static const nib_arch_number glm4lite_numbers[] = {
    NUMBER(n_next, "num_nextn_predict_layers", "nextn_predict_layers", 0, 64),
    NUMBER(kv_rank, "kv_lora_rank", "attention.kv_lora_rank", 512, NIB_WIDTH_MAX),
    NUMBER(key_dim, "qk_nope_head_dim", NULL, 192, NIB_WIDTH_MAX),
    NUMBER(rope_dim, "qk_rope_head_dim", "rope.dimension_count", 64, NIB_WIDTH_MAX),
    NUMBER(value_dim, "v_head_dim", "attention.value_length_mla", 256, NIB_WIDTH_MAX),
    NUMBER(head_dim, NULL, "attention.key_length_mla", 0, NIB_WIDTH_MAX),
    NUMBER(n_shared, "n_shared_experts", "expert_shared_count", 1, 1024),
    NUMBER(n_group, "n_group", "expert_group_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_group_used, "topk_group", "expert_group_used_count", 1, NIB_EXPERTS_MAX),
    NUMBER(n_dense_first, "first_k_dense_replace", "leading_dense_block_count", 1, NIB_LAYERS_MAX),
    NUMBER(q_rank, "q_lora_rank", "attention.q_lora_rank", 768, NIB_WIDTH_MAX),
};
static const nib_arch_setting glm4lite_settings[] = {
    SETTING(share_scale, "routed_scaling_factor", "expert_weights_scale", 1.8f, 1),
};

#define BLOCK(list)                                                                                \
    {                                                                                              \
        list, COUNT(list)                                                                          \
    }
#define STEMS(list) .hf_stems = list, .n_hf_stems = COUNT(list)
#define FUSED(list) .fused = list, .n_fused = COUNT(list)
#define NUMBERS(list) .numbers = list, .n_numbers = COUNT(list)
#define SETTINGS(list) .settings = list, .n_settings = COUNT(list)

#define TEXT_PREFIXES                                                                              \
    .hf_prefix = {{"model.language_model.", "model."},                                             \
                  {"language_model.model.", "model."},                                             \
                  {"language_model.lm_head.", "lm_head."}}
#define IMAGES_AND_TEXT                                                                            \
    .hf_skip = {"vision_tower.", "model.vision_tower.", "multi_modal_projector.",                  \
                "model.multi_modal_projector."},                                                   \
    .text_part = true, TEXT_PREFIXES

/* Of a list without its last row. */
#define NUMBERS_BUT_LAST(list) .numbers = list, .n_numbers = COUNT(list) - 1

static const nib_arch archs[] = {
    {
        .name = "llama",
        .hf_classes = {"LlamaForCausalLM", "MistralForCausalLM", "MinistralForCausalLM"},
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .block = {llama, COUNT(llama)},
        .when = NIB_WHEN_NOT,
        .when_gguf = "expert_count",
    },
    {
        .name = "qwen2",
        .hf_classes = {"Qwen2ForCausalLM"},
        .block = {qwen2, COUNT(qwen2)},
    },
    {
        .name = "qwen3",
        .hf_classes = {"Qwen3ForCausalLM"},
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
        .rope_switch = true,
        .writes_rope_dim = true,
        .settings = granite_settings,
        .n_settings = COUNT(granite_settings),
        .block = {granite, COUNT(granite)},
    },
    {
        .name = "llama",
        .hf_classes = {"MixtralForCausalLM"},
        .when = NIB_WHEN,
        .when_gguf = "expert_count",
        STEMS(mixtral_stems),
        .config_keys = moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(stacked_experts),
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(mixtral),
    },
    {
        .name = "qwen2moe",
        .hf_classes = {"Qwen2MoeForCausalLM"},
        .config_keys = qwen2moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(stacked_experts),
        NUMBERS(qwen2moe_numbers),
        .experts = true,
        .block = BLOCK(qwen2moe),
        .dense_block = BLOCK(qwen2),
    },
    {
        .when = NIB_WHEN_NOT,
        OLMOE,
        .block = BLOCK(olmoe),
    },
    {
        .when = NIB_WHEN,
        OLMOE,
        .no_gguf = true,
        .block = BLOCK(olmoe_clipped),
    },
    {
        .when = NIB_WHEN_NOT,
        OLMO,
        .block = BLOCK(olmo),
    },
    {
        .when = NIB_WHEN,
        OLMO,
        .block = BLOCK(olmo_clipped),
    },
    {
        .name = "granitemoe",
        .hf_classes = {"GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"},
        .rope_switch = true,
        .when = NIB_WHEN_NOT,
        .when_hf = "shared_intermediate_size",
        .when_gguf = "expert_shared_feed_forward_length",
        STEMS(granitemoe_stems),
        .config_keys = moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(granitemoe_fused),
        SETTINGS(granite_settings),
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(granitemoe),
    },
    {
        .name = "granitemoe",
        .hf_classes = {"GraniteMoeSharedForCausalLM"},
        .rope_switch = true,
        .when = NIB_WHEN,
        .when_hf = "shared_intermediate_size",
        .when_gguf = "expert_shared_feed_forward_length",
        STEMS(granitemoe_stems),
        .config_keys = moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(granitemoe_fused),
        SETTINGS(granite_settings),
        NUMBERS(granitemoe_numbers),
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(granitemoe_shared),
    },
    {
        .name = "gpt-oss",
        .hf_classes = {"GptOssForCausalLM"},
        STEMS(gptoss_stems),
        .config_keys = gptoss_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(gptoss_fused),
        .rope_base = 150000,
        .yarn_not_truncated = true,
        .head_dim = 64,
        .sliding_period = 2,
        .experts = true,
        .expert_ff_is_ff = true,
        .writes_expert_ff = true,
        .routing = NIB_ROUTE_SELECTED,
        .block = BLOCK(gptoss),
    },
    {
        .name = "glm4moe",
        .hf_classes = {"Glm4MoeForCausalLM"},
        STEMS(glm4moe_stems),
        .config_keys = deepseek_config_keys,
        .gguf_keys = deepseek_gguf_keys,
        FUSED(stacked_experts),
        NUMBERS(glm4moe_numbers),
        SETTINGS(glm4moe_settings),
        .rope_part = 0.5f,
        .writes_rope_dim = true,
        .experts = true,
        .share_norm = true,
        .routing = NIB_ROUTE_SIGMOID,
        .routing_keys = true,
        .block = BLOCK(glm4moe),
        .dense_block = BLOCK(glm4moe_dense),
    },
    {
        .name = "gemma",
        .hf_classes = {"GemmaForCausalLM"},
        .block = BLOCK(llama),
        .act = NIB_ACT_GELU_TANH,
        .norm_plus_one = true,
        .scaled_embd = true,
        .head_dim = 256,
        .tied = true,
    },
    {
        .name = "olmo2",
        .hf_classes = {"Olmo2ForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_gguf = "attention.sliding_window",
        STEMS(olmo2_stems),
        .block = BLOCK(olmo2),
    },
    {
        .name = "olmo2",
        .hf_classes = {"Olmo3ForCausalLM"},
        .when = NIB_WHEN,
        .when_gguf = "attention.sliding_window",
        STEMS(olmo2_stems),
        .gguf_keys = gemma_gguf_keys,
        .rope_base = 500000,
        .rope_base_sliding = 500000,
        .sliding_unscaled = true,
        .sliding_period = 4,
        .block = BLOCK(olmo2),
    },
    {
        .name = "phi3",
        .hf_classes = {"Phi3ForCausalLM"},
        STEMS(joint_stems),
        .rope_part = 1,
        .writes_rope_dim = true,
        .no_head_dim_key = true,
        .always_window_key = true,
        .block = BLOCK(phi3),
    },
    {
        .name = "chatglm",
        .hf_classes = {"GlmForCausalLM"},
        STEMS(joint_stems),
        .rope_adjacent = true,
        .rope_part = 0.5f,
        .writes_rope_dim = true,
        .block = BLOCK(glm),
    },
    {
        .name = "glm4",
        .hf_classes = {"Glm4ForCausalLM"},
        STEMS(glm4_stems),
        .rope_adjacent = true,
        .rope_part = 0.5f,
        .writes_rope_dim = true,
        .block = BLOCK(glm4),
    },
    {
        .name = "command-r",
        .hf_classes = {"CohereForCausalLM"},
        .config_keys = cohere_config_keys,
        SETTINGS(cohere_settings),
        .layer_norm = true,
        .rope_adjacent = true,
        .tied = true,
        .block = BLOCK(cohere),
    },
    {
        .name = "cohere2",
        .hf_classes = {"Cohere2ForCausalLM"},
        .config_keys = cohere_config_keys,
        SETTINGS(cohere_settings),
        .layer_norm = true,
        .rope_adjacent = true,
        .sliding_turn = true,
        .sliding_period = 4,
        .writes_rope_dim = true,
        .tied = true,
        .block = BLOCK(cohere),
    },
    {
        .name = "stablelm",
        .hf_classes = {"StableLmForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_hf = "use_parallel_residual",
        .when_gguf = "use_parallel_residual",
        STEMS(stablelm_stems),
        .config_keys = stablelm_config_keys,
        .gguf_keys = parallel_keys,
        .layer_norm = true,
        .rope_part = 0.25f,
        .writes_rope_dim = true,
        .block = BLOCK(stablelm),
    },
    {
        .name = "stablelm",
        .hf_classes = {"StableLmForCausalLM"},
        .when = NIB_WHEN,
        .when_hf = "use_parallel_residual",
        .when_gguf = "use_parallel_residual",
        STEMS(stablelm_stems),
        .config_keys = stablelm_config_keys,
        .gguf_keys = parallel_keys,
        .layer_norm = true,
        .rope_part = 0.25f,
        .writes_rope_dim = true,
        .block = BLOCK(stablelm_parallel),
    },
    {
        .name = "mistral3",
        .hf_classes = {"Ministral3ForCausalLM"},
        .gguf_keys = ministral3_gguf_keys,
        .rope_interleaved = true,
        .rope_base = 1000000,
        .writes_rope_dim = true,
        .block = BLOCK(ministral3),
    },
    {
        .name = "llama4",
        .hf_classes = {"Llama4ForCausalLM", "Llama4ForConditionalGeneration"},
        .hf_skip = {"vision_model.", "multi_modal_projector."},
        .text_part = true,
        .hf_prefix = {{"language_model.model.", "model."}, {"language_model.lm_head.", "lm_head."}},
        STEMS(llama4_stems),
        .config_keys = llama4_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(llama4_fused),
        NUMBERS(llama4_numbers),
        SETTINGS(llama4_settings),
        .rope_adjacent = true,
        .rope_base = 500000,
        .writes_rope_dim = true,
        .no_rope_interval = 4,
        .sliding_period = 4,
        .always_window_key = true,
        .chunk = 8192,
        .unit_heads = true,
        .head_dim = 128,
        .n_shared = 1,
        .experts = true,
        .routing = NIB_ROUTE_INPUT,
        .block = BLOCK(llama4),
        .dense_block = BLOCK(llama4_dense),
    },
    {
        .hf_classes = {"DeepseekV2ForCausalLM"},
        DEEPSEEK(false),
        NUMBERS(deepseek2_numbers),
        SETTINGS(deepseek2_settings),
        .block = BLOCK(deepseek2),
        .dense_block = BLOCK(deepseek2_dense),
    },
    {
        .hf_classes = {"DeepseekV2ForCausalLM"},
        DEEPSEEK(true),
        NUMBERS_BUT_LAST(deepseek2_numbers),
        SETTINGS(deepseek2_settings),
        .block = BLOCK(deepseek2_lite),
        .dense_block = BLOCK(deepseek2_lite_dense),
    },
    {
        .hf_classes = {"DeepseekV3ForCausalLM"},
        DEEPSEEK(false),
        NUMBERS(deepseek3_numbers),
        SETTINGS(deepseek3_settings),
        .routing = NIB_ROUTE_SIGMOID,
        .share_norm = true,
        .block = BLOCK(deepseek2),
        .dense_block = BLOCK(deepseek2_dense),
    },
    {
        .hf_classes = {"DeepseekV3ForCausalLM"},
        DEEPSEEK(true),
        NUMBERS_BUT_LAST(deepseek3_numbers),
        SETTINGS(deepseek3_settings),
        .routing = NIB_ROUTE_SIGMOID,
        .share_norm = true,
        .block = BLOCK(deepseek2_lite),
        .dense_block = BLOCK(deepseek2_lite_dense),
    },
    {
        .name = "qwen3next",
        .hf_classes = {"Qwen3NextForCausalLM"},
        .hf_skip = {"mtp."},
        LINEAR_AMONG_OTHERS,
        NUMBERS(qwen3next_numbers),
        .config_keys = qwen3moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(stacked_experts),
        .experts = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(qwen3next),
        .dense_block = BLOCK(qwen3next_dense),
        .linear_block = BLOCK(qwen3next_linear),
        .linear_dense_block = BLOCK(qwen3next_linear_dense),
    },
    {
        .name = "qwen35",
        .hf_classes = {"Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"},
        QWEN35,
        NUMBERS(qwen35_numbers),
        .block = BLOCK(qwen3next_dense),
        .linear_block = BLOCK(qwen35_linear),
    },
    {
        .name = "qwen35moe",
        .hf_classes = {"Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"},
        QWEN35,
        NUMBERS(qwen3next_numbers),
        .config_keys = qwen35_config_keys,
        FUSED(stacked_experts),
        .experts = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(qwen3next),
        .linear_block = BLOCK(qwen35moe_linear),
    },
    {
        .name = "gpt2",
        .hf_classes = {"GPT2LMHeadModel"},
        .config_keys = gpt2_config_keys,
        .hf_blocks = "transformer.h",
        STEMS(gpt2_stems),
        .hf_prefix = {{"h.", "transformer.h."}},
        .act = NIB_ACT_GELU_TANH,
        .layer_norm = true,
        .hf_by_input = true,
        .ff_of_width = true,
        .no_rope = true,
        .tied = true,
        .block = BLOCK(gpt2),
    },
    {
        .when = NIB_WHEN_NOT,
        .when_hf = "layer_norm_elementwise_affine",
        OPT,
        .config_keys = opt_plain_config_keys,
        .plain_norms = true,
        .block = BLOCK(opt_plain),
        .other_act_block = BLOCK(opt_plain_act),
    },
    {
        .when = NIB_WHEN,
        .when_hf = "do_layer_norm_before",
        OPT,
        .config_keys = opt_config_keys,
        .block = BLOCK(opt),
        .other_act_block = BLOCK(opt_act),
    },
    {
        .when = NIB_WHEN_NOT,
        .when_hf = "do_layer_norm_before",
        OPT,
        .config_keys = opt_config_keys,
        .no_output_norm = true,
        .block = BLOCK(opt_post_norm),
        .other_act_block = BLOCK(opt_post_norm_act),
    },
    {
        .when = NIB_WHEN_NOT,
        BLOOM,
        .block = BLOCK(gpt2),
    },
    {
        .when = NIB_WHEN,
        BLOOM,
        .no_gguf = true,
        .block = BLOCK(bloom_normed),
    },
    {
        .name = "falcon",
        .hf_classes = {"FalconForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_hf = "parallel_attn",
        .when_standard = true,
        .hf_blocks = "transformer.h",
        STEMS(falcon_stems),
        .config_keys = falcon_config_keys,
        NUMBERS(falcon_numbers),
        .act = NIB_ACT_GELU,
        .layer_norm = true,
        .ff_of_width = true,
        .qkv_by_head = true,
        .tied = true,
        .no_gguf = true,
        .block = BLOCK(gptneox),
    },
    {
        .name = "falcon",
        .hf_classes = {"FalconForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_hf = "new_decoder_architecture",
        .when_not_1 = "num_ln_in_parallel_attn",
        .when_gguf = "blk.0.attn_norm_2.weight",
        .hf_blocks = "transformer.h",
        STEMS(falcon_stems),
        .config_keys = falcon_config_keys,
        NUMBERS(falcon_numbers),
        .act = NIB_ACT_GELU,
        .layer_norm = true,
        .ff_of_width = true,
        .qkv_by_head = true,
        .tied = true,
        .block = BLOCK(falcon),
    },
    {
        .name = "falcon",
        .hf_classes = {"FalconForCausalLM"},
        .when = NIB_WHEN,
        .when_hf = "new_decoder_architecture",
        .when_not_1 = "num_ln_in_parallel_attn",
        .when_gguf = "blk.0.attn_norm_2.weight",
        .hf_blocks = "transformer.h",
        STEMS(falcon_two_stems),
        .config_keys = falcon_config_keys,
        NUMBERS(falcon_numbers),
        .act = NIB_ACT_GELU,
        .layer_norm = true,
        .ff_of_width = true,
        .qkv_by_head = true,
        .tied = true,
        .block = BLOCK(falcon_two_norms),
    },
    {
        .name = "gptneox",
        .hf_classes = {"GPTNeoXForCausalLM"},
        .when = NIB_WHEN,
        .when_standard = true,
        .when_hf = "use_parallel_residual",
        .when_gguf = "use_parallel_residual",
        .hf_blocks = "gpt_neox.layers",
        STEMS(gptneox_stems),
        .config_keys = gptneox_config_keys,
        .gguf_keys = parallel_keys,
        .act = NIB_ACT_GELU,
        .layer_norm = true,
        .rope_part = 0.25f,
        .writes_rope_dim = true,
        .qkv_by_head = true,
        .block = BLOCK(gptneox_parallel),
    },
    {
        .name = "gptneox",
        .hf_classes = {"GPTNeoXForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_standard = true,
        .when_hf = "use_parallel_residual",
        .when_gguf = "use_parallel_residual",
        .hf_blocks = "gpt_neox.layers",
        STEMS(gptneox_stems),
        .config_keys = gptneox_config_keys,
        .gguf_keys = parallel_keys,
        .act = NIB_ACT_GELU,
        .layer_norm = true,
        .rope_part = 0.25f,
        .writes_rope_dim = true,
        .qkv_by_head = true,
        .block = BLOCK(gptneox),
    },
    {
        .name = "starcoder2",
        .hf_classes = {"Starcoder2ForCausalLM"},
        STEMS(starcoder2_stems),
        .act = NIB_ACT_GELU_TANH,
        .layer_norm = true,
        .tied = true,
        .block = BLOCK(starcoder2),
    },
    {
        .when = NIB_WHEN,
        STARCODER,
    },
    {
        .when = NIB_WHEN_NOT,
        STARCODER,
        .qkv_by_head = true,
    },
    {
        .name = "gptj",
        .hf_classes = {"GPTJForCausalLM"},
        .hf_blocks = "transformer.h",
        STEMS(gptj_stems),
        .config_keys = gptj_config_keys,
        .act = NIB_ACT_GELU_TANH,
        .layer_norm = true,
        .ff_of_width = true,
        .rope_adjacent = true,
        .rope_part = 1,
        .no_gguf = true,
        .block = BLOCK(phi2),
    },
    {
        .when = NIB_WHEN_NOT,
        PHI,
        .block = BLOCK(phi2),
    },
    {
        .when = NIB_WHEN,
        PHI,
        .no_gguf = true,
        .block = BLOCK(phi2_normed),
    },
    {
        .name = "qwen2vl",
        .hf_classes = {"Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"},
        .hf_skip = {"visual.", "model.visual."},
        .text_part = true,
        TEXT_PREFIXES,
        .gguf_keys = vl_gguf_keys,
        .block = BLOCK(qwen2),
    },
    {
        .name = "qwen3vl",
        .hf_classes = {"Qwen3VLForConditionalGeneration"},
        .hf_skip = {"visual.", "model.visual."},
        .text_part = true,
        TEXT_PREFIXES,
        .gguf_keys = vl_gguf_keys,
        .deepstack = true,
        .rope_base = 500000,
        .block = BLOCK(qwen3),
    },
    {
        .name = "qwen3vlmoe",
        .hf_classes = {"Qwen3VLMoeForConditionalGeneration"},
        .hf_skip = {"visual.", "model.visual."},
        .text_part = true,
        TEXT_PREFIXES,
        .config_keys = qwen3moe_config_keys,
        .gguf_keys = vl_gguf_keys,
        FUSED(stacked_experts),
        .deepstack = true,
        .rope_base = 500000,
        .experts = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(qwen3moe),
        .dense_block = BLOCK(qwen3),
    },
    {
        .name = "llama",
        .hf_classes = {"Mistral3ForConditionalGeneration"},
        .text_type = "mistral",
        .text_class = "MistralForCausalLM",
        IMAGES_AND_TEXT,
        .when = NIB_WHEN_NOT,
        .when_gguf = "expert_count",
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .block = BLOCK(llama),
    },
    {
        .name = "mistral3",
        .hf_classes = {"Mistral3ForConditionalGeneration"},
        .text_type = "ministral3",
        .text_class = "Ministral3ForCausalLM",
        IMAGES_AND_TEXT,
        .gguf_keys = ministral3_gguf_keys,
        .rope_interleaved = true,
        .rope_base = 1000000,
        .writes_rope_dim = true,
        .block = BLOCK(ministral3),
    },
    {
        .name = "arcee",
        .hf_classes = {"ArceeForCausalLM"},
        .rope_interleaved = true,
        .writes_rope_dim = true,
        .act = NIB_ACT_RELU_SQUARED,
        .block = BLOCK(nemotron),
    },
    {
        .name = "nemotron",
        .hf_classes = {"NemotronForCausalLM"},
        .act = NIB_ACT_RELU_SQUARED,
        .layer_norm = true,
        .norm_plus_one = true,
        .rope_part = 0.5f,
        .writes_rope_dim = true,
        .block = BLOCK(nemotron),
    },
    {
        .name = "seed_oss",
        .hf_classes = {"SeedOssForCausalLM"},
        STEMS(post_norm_stems),
        .config_keys = seed_oss_config_keys,
        .head_dim = 128,
        .block = BLOCK(seed_oss),
    },
    {
        .name = "exaone4",
        .hf_classes = {"Exaone4ForCausalLM"},
        STEMS(olmo2_stems),
        .config_keys = exaone4_config_keys,
        .sliding_turn = true,
        .turns_windowless = true,
        .sliding_period = 4,
        .block = BLOCK(exaone4),
    },
    {
        .name = "hunyuan-dense",
        .hf_classes = {"HunYuanDenseV1ForCausalLM"},
        STEMS(hunyuan_stems),
        .config_keys = hunyuan_config_keys,
        .rope_alpha = true,
        .block = BLOCK(hunyuan),
    },
    {
        .name = "hunyuan-moe",
        .hf_classes = {"HunYuanMoEV1ForCausalLM"},
        STEMS(hunyuan_stems),
        .config_keys = hunyuan_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(stacked_experts),
        NUMBERS(hunyuan_moe_numbers),
        .rope_alpha = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .writes_expert_ff = true,
        .n_shared = 1,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(hunyuan_moe),
    },
    {
        .name = "ernie4_5",
        .hf_classes = {"Ernie4_5ForCausalLM"},
        .rope_adjacent = true,
        .rope_base = 500000,
        .head_dim = 128,
        .tied = true,
        .block = BLOCK(llama),
    },
    {
        .name = "ernie4_5-moe",
        .hf_classes = {"Ernie4_5_MoeForCausalLM"},
        STEMS(ernie_stems),
        .config_keys = ernie_moe_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(stacked_experts),
        NUMBERS(ernie_moe_numbers),
        .rope_adjacent = true,
        .rope_base = 500000,
        .tied = true,
        .experts = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(ernie_moe),
        .dense_block = BLOCK(llama),
    },
    {
        .name = "dots1",
        .hf_classes = {"Dots1ForCausalLM"},
        STEMS(deepseek_stems),
        .config_keys = deepseek_config_keys,
        .gguf_keys = deepseek_gguf_keys,
        FUSED(stacked_experts),
        NUMBERS(dots1_numbers),
        SETTINGS(deepseek2_settings),
        .experts = true,
        .routing = NIB_ROUTE_SIGMOID,
        .routing_keys = true,
        .block = BLOCK(dots1),
        .dense_block = BLOCK(qwen3),
    },
    {
        .name = "minimax-m2",
        .hf_classes = {"MiniMaxM2ForCausalLM"},
        STEMS(minimax_stems),
        .config_keys = minimax_config_keys,
        .gguf_keys = deepseek_gguf_keys,
        FUSED(stacked_experts),
        .rope_base = 5000000,
        .rope_part = 1,
        .head_dim = 128,
        .writes_rope_dim = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .writes_expert_ff = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .routing = NIB_ROUTE_SIGMOID,
        .routing_keys = true,
        .block = BLOCK(minimax_m2),
    },
    {
        .name = "granite",
        .hf_classes = {"GraniteMoeHybridForCausalLM"},
        .when = NIB_WHEN_NOT,
        .when_hf = "num_local_experts",
        .when_standard = true,
        STEMS(granite4_stems),
        .config_keys = granite4_config_keys,
        FUSED(granite4_fused),
        NUMBERS(granite4_numbers),
        SETTINGS(granite_settings),
        .rope_interleaved = true,
        .rope_switch = true,
        .writes_rope_dim = true,
        .block = BLOCK(granite),
    },
    {
        .name = "granitemoe",
        .hf_classes = {"GraniteMoeHybridForCausalLM"},
        .when = NIB_WHEN,
        .when_hf = "num_local_experts",
        .when_standard = true,
        STEMS(granitemoe_stems),
        .config_keys = granite4_config_keys,
        .gguf_keys = moe_gguf_keys,
        FUSED(granitemoe_fused),
        NUMBERS(granite4_moe_numbers),
        SETTINGS(granite_settings),
        .rope_interleaved = true,
        .rope_switch = true,
        .writes_rope_dim = true,
        .experts = true,
        .expert_ff_is_ff = true,
        .share_norm = true,
        .gguf_share_norm = true,
        .block = BLOCK(granitemoe_shared),
    },
    {
        .hf_classes = {"Glm4MoeLiteForCausalLM"},
        DEEPSEEK(false),
        NUMBERS(glm4lite_numbers),
        SETTINGS(glm4lite_settings),
        .routing = NIB_ROUTE_SIGMOID,
        .share_norm = true,
        .block = BLOCK(deepseek2),
        .dense_block = BLOCK(deepseek2_dense),
    },
    {
        .hf_classes = {"Glm4MoeLiteForCausalLM"},
        DEEPSEEK(true),
        NUMBERS_BUT_LAST(glm4lite_numbers),
        SETTINGS(glm4lite_settings),
        .routing = NIB_ROUTE_SIGMOID,
        .share_norm = true,
        .block = BLOCK(deepseek2_lite),
        .dense_block = BLOCK(deepseek2_lite_dense),
    },
    {
        .name = "gemma3",
        .hf_classes = {"Gemma3ForConditionalGeneration"},
        IMAGES_AND_TEXT,
        .block = BLOCK(gemma3),
        SETTINGS(gemma3_settings),
        NUMBERS(gemma3_numbers),
        .norm_eps = 1e-6f,
        .rope_base = 1000000,
        .rope_base_sliding = 10000,
        .sliding_period = 6,
        .wide_layers = 62,
        GEMMA,
    },
};

const nib_steps *nib_arch_steps_of(const nib_arch *a, nib_role r)
{
    const nib_steps *all[] = {&a->block, &a->dense_block, &a->linear_block, &a->linear_dense_block};
    for (size_t i = 0; i < COUNT(all); i++)
        if (nib_steps_find(all[i], r)) return all[i];
    return NULL;
}

size_t nib_arch_count(void)
{
    return COUNT(archs);
}

const nib_arch *nib_arch_at(size_t i)
{
    return &archs[i];
}
