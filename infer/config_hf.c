/* SPDX-License-Identifier: MIT */
/* infer/config_hf.c - hyper-parameters as a config.json: the way back from GGUF.
 *
 * GGUF's architectures are fewer than the classes: one is chosen that computes the same. What is
 * written is read again and held against the model, so that what no class can be told is an error.
 * Tests: tests/run/test_write_plain.c, tests/run/test_arch_golden.c. */
#include "infer/config_int.h"

#include <math.h>
#include <string.h>

/* ---- Llama 3's rotary scaling ---- */

/* Where a divisor comes from 1 / factor by way of f32 arithmetic in another order it differs by a
 * few roundings of numbers up to 4 / 3: below 5e-7. */
static const double SAME_DIVISOR = 1e-6;

static bool same_divisors(const nib_model *m, const nib_hparams *hp, float *work)
{
    nib_llama3_factors(hp, work);
    for (uint32_t i = 0; i < hp->rope_dim / 2; i++)
        if (fabs(1.0 / (double)work[i] - 1.0 / (double)m->rope_factors[i]) > SAME_DIVISOR)
            return false;
    return true;
}

/* The original context for which the blended divisor of pair i comes out, given the rest. */
static double context_of(const nib_model *m, const nib_hparams *hp, uint32_t i)
{
    const double pi = 3.14159265358979323846, factor = hp->llama3.factor;
    const double wavelength = 2 * pi * pow(hp->rope_base, 2.0 * i / hp->rope_dim);
    const double smooth = (1 / (double)m->rope_factors[i] - 1 / factor) / (1 - 1 / factor);
    return wavelength *
           (smooth * (double)(hp->llama3.high_freq - hp->llama3.low_freq) + hp->llama3.low_freq);
}

/* Parameters of the scaling whose divisors the model has, into hp->llama3. A file holds the
 * divisors alone. Only ratios of the frequency factors and the context matter, so the lower one
 * can be 1; the upper is a small number in every model, the context a whole one. Where no divisor
 * is blended, any context between those that are and are not stretched computes the same. */
static bool find_llama3(const nib_model *m, nib_hparams *hp, float *work)
{
    static const float upper[] = {4, 2, 3, 5, 6, 7, 8, 10, 12, 16, 32};
    uint32_t blended = 0, n = hp->rope_dim / 2;
    float most = 1;
    for (uint32_t i = 0; i < n; i++) most = fmaxf(most, m->rope_factors[i]);
    for (uint32_t i = 0; i < n; i++)
        if (m->rope_factors[i] > 1 && m->rope_factors[i] < most && !blended) blended = i;
    hp->llama3.factor = most;
    hp->llama3.low_freq = 1;
    for (size_t k = 0; k < sizeof upper / sizeof *upper; k++) {
        hp->llama3.high_freq = upper[k];
        double context = blended ? rint(context_of(m, hp, blended)) : 1;
        for (; context >= 1 && context < INT32_MAX; context *= 2) {
            hp->llama3.n_ctx_orig = (uint32_t)context;
            if (same_divisors(m, hp, work)) return true;
            if (blended) break;
        }
    }
    return false;
}

static nib_code add_llama3(nib_json *cfg, const nib_model *m, nib_err *err)
{
    nib_hparams hp = m->hp;
    float *work = nib_alloc(hp.rope_dim / 2, sizeof *work);
    if (!work) return nib_fail_nomem(err, "rope factors");
    const bool found = find_llama3(m, &hp, work) && m->hp.rope_scaling != NIB_ROPE_LINEAR;
    nib_free(work);
    if (!found)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor 'rope_freqs.weight' holds divisors that are not those of Llama 3's "
                        "rotary scaling, and config.json has no word for others");
    nib_json *rope = nib_json_add_object(cfg, "rope_scaling");
    bool ok = rope && nib_json_add_str(rope, "rope_type", "llama3") &&
              nib_json_add_real(rope, "factor", hp.llama3.factor) &&
              nib_json_add_real(rope, "low_freq_factor", hp.llama3.low_freq) &&
              nib_json_add_real(rope, "high_freq_factor", hp.llama3.high_freq) &&
              nib_json_add_num(rope, "original_max_position_embeddings", hp.llama3.n_ctx_orig);
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* YaRN and longrope, with the magnitude that the file has rather than each reader's own. */
static bool add_yarn(nib_json *rope, const nib_hparams *hp)
{
    const nib_rope_yarn *y = &hp->yarn;
    return nib_json_add_str(rope, "rope_type", "yarn") &&
           nib_json_add_real(rope, "factor", hp->rope_factor) &&
           nib_json_add_real(rope, "beta_fast", y->beta_fast) &&
           nib_json_add_real(rope, "beta_slow", y->beta_slow) &&
           nib_json_add_num(rope, "original_max_position_embeddings", y->n_ctx_orig) &&
           nib_json_add_real(rope, "attention_factor", (float)nib_rope_magnitude(hp)) &&
           (!(hp->temper > 0) || nib_json_add_real(rope, "llama_4_scaling_beta", hp->temper));
}

static bool add_divisors(nib_json *rope, const char *key, const float *divisor, uint32_t n)
{
    nib_json *list = nib_json_add_array(rope, key);
    bool ok = list;
    for (uint32_t i = 0; i < n && ok; i++) ok = nib_json_add_real(list, NULL, divisor[i]);
    return ok;
}

static bool add_longrope(nib_json *cfg, nib_json *rope, const nib_hparams *hp)
{
    const uint32_t n = hp->rope_dim / 2, orig = hp->yarn.n_ctx_orig;
    return nib_json_add_num(cfg, "original_max_position_embeddings", orig) &&
           nib_json_add_str(rope, "rope_type", "longrope") &&
           nib_json_add_real(rope, "factor", (float)hp->n_ctx_train / (float)orig) &&
           nib_json_add_num(rope, "original_max_position_embeddings", orig) &&
           nib_json_add_real(rope, "attention_factor", (float)nib_rope_magnitude(hp)) &&
           add_divisors(rope, "long_factor", hp->rope_long, n) &&
           add_divisors(rope, "short_factor", hp->rope_short, n);
}

static nib_code add_rope(nib_json *cfg, const nib_model *m, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    bool ok = nib_json_add_real(cfg, "rope_theta", hp->rope_base);
    if (ok && m->arch->rope_part > 0)
        ok = nib_json_add_real(cfg, "partial_rotary_factor",
                               (float)hp->rope_dim / (float)hp->head_dim);
    if (ok && hp->rope_base_sliding > 0 && !m->arch->sliding_unscaled)
        ok = nib_json_add_real(cfg, "rope_local_base_freq", hp->rope_base_sliding);
    if (ok && m->rope_factors) return add_llama3(cfg, m, err);
    if (ok && hp->rope_scaling != NIB_ROPE_PLAIN) {
        nib_json *rope = nib_json_add_object(cfg, "rope_scaling");
        ok = rope && (hp->rope_scaling == NIB_ROPE_LINEAR
                          ? nib_json_add_str(rope, "rope_type", "linear") &&
                                nib_json_add_real(rope, "factor", hp->rope_factor)
                      : hp->rope_scaling == NIB_ROPE_YARN ? add_yarn(rope, hp)
                                                          : add_longrope(cfg, rope, hp));
    }
    nib_json *list =
        ok && m->arch->no_rope_interval ? nib_json_add_array(cfg, "no_rope_layers") : NULL;
    for (uint32_t l = 0; l < hp->n_layer && list && ok; l++)
        ok = nib_json_add_num(list, NULL, nib_layer_turns(hp, l));
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* ---- classes ---- */

/* What is a class's own in a configuration. A flag of biases: its key; ALWAYS, or NULL for never.
 */
typedef struct {
    const char *name;
    const char *qkv_bias, *out_bias, *mlp_bias;
    const char *experts; /* key of their number                                           */
    const char *eps;     /* of the epsilon of norms; NULL: "rms_norm_eps"                 */
    const char *act;     /* of the activation; NULL: "hidden_act"                         */
    const char *qk_norm; /* flag of norms of queries and keys                             */
    enum {
        NO_WINDOW,
        ALL_SLIDE,    /* or none does                                                       */
        SOME_SLIDE,   /* by "layer_types"                                                   */
        FLAGGED_SLIDE /* the same, if "use_sliding_window" says so                          */
    } window;
} hf_class;

#define ALWAYS ""
#define ATTENTION_BIAS .qkv_bias = "attention_bias", .out_bias = "attention_bias"
static const hf_class classes[] = {
    {"LlamaForCausalLM", ATTENTION_BIAS, .mlp_bias = "mlp_bias"},
    {"MistralForCausalLM", .window = ALL_SLIDE},
    {"MixtralForCausalLM", .experts = "num_local_experts", .window = ALL_SLIDE},
    {"Qwen2ForCausalLM", .qkv_bias = ALWAYS, .window = FLAGGED_SLIDE},
    {"Qwen2MoeForCausalLM", .qkv_bias = "qkv_bias", .experts = "num_experts",
     .window = FLAGGED_SLIDE},
    {"Qwen3ForCausalLM", ATTENTION_BIAS, .window = FLAGGED_SLIDE},
    {"Qwen3MoeForCausalLM", ATTENTION_BIAS, .experts = "num_experts", .window = FLAGGED_SLIDE},
    {"OlmoeForCausalLM", ATTENTION_BIAS, .experts = "num_experts"},
    {"Olmo2ForCausalLM", ATTENTION_BIAS},
    {"Olmo3ForCausalLM", ATTENTION_BIAS, .window = SOME_SLIDE},
    {"GemmaForCausalLM", ATTENTION_BIAS, .act = "hidden_activation"},
    {"Gemma2ForCausalLM", ATTENTION_BIAS, .act = "hidden_activation", .window = SOME_SLIDE},
    {"Gemma3ForCausalLM", ATTENTION_BIAS, .act = "hidden_activation", .window = SOME_SLIDE},
    {"SmolLM3ForCausalLM", ATTENTION_BIAS, .mlp_bias = "mlp_bias"},
    {"GraniteForCausalLM", ATTENTION_BIAS, .mlp_bias = "mlp_bias"},
    {"Phi3ForCausalLM", .window = ALL_SLIDE},
    {"GlmForCausalLM", .qkv_bias = "attention_bias"},
    {"Glm4ForCausalLM", .qkv_bias = "attention_bias"},
    {"Glm4MoeForCausalLM", .qkv_bias = "attention_bias", .experts = "n_routed_experts",
     .qk_norm = "use_qk_norm"},
    {"CohereForCausalLM", ATTENTION_BIAS, .eps = "layer_norm_eps", .qk_norm = "use_qk_norm"},
    {"Cohere2ForCausalLM", ATTENTION_BIAS, .eps = "layer_norm_eps", .window = SOME_SLIDE},
    {"StableLmForCausalLM", .qkv_bias = "use_qkv_bias", .eps = "layer_norm_eps",
     .qk_norm = "qk_layernorm"},
    {"Starcoder2ForCausalLM", .qkv_bias = "use_bias", .out_bias = "use_bias",
     .mlp_bias = "use_bias", .eps = "norm_epsilon", .window = ALL_SLIDE},
    {"PhiForCausalLM", .qkv_bias = ALWAYS, .out_bias = ALWAYS, .mlp_bias = ALWAYS,
     .eps = "layer_norm_eps"},
    {"Dots1ForCausalLM", ATTENTION_BIAS, .experts = "n_routed_experts", .window = SOME_SLIDE},
    {"HunYuanDenseV1ForCausalLM", ATTENTION_BIAS},
    {"HunYuanMoEV1ForCausalLM", ATTENTION_BIAS, .experts = "num_experts"},
    {"Ernie4_5_MoeForCausalLM", .qkv_bias = "use_bias", .out_bias = "use_bias",
     .mlp_bias = "use_bias"},
    {"MiniMaxM2ForCausalLM", .experts = "num_local_experts"},
    {"Ministral3ForCausalLM", .window = ALL_SLIDE},
    {"OlmoForCausalLM", ATTENTION_BIAS},
    {"ArceeForCausalLM", ATTENTION_BIAS, .mlp_bias = "mlp_bias"},
    {"NemotronForCausalLM", ATTENTION_BIAS, .mlp_bias = "mlp_bias", .eps = "norm_eps"},
    {"SeedOssForCausalLM", .qkv_bias = "attention_bias", .out_bias = "attention_out_bias",
     .mlp_bias = "mlp_bias"},
    {"Exaone4ForCausalLM", .window = SOME_SLIDE},
    {"Ernie4_5ForCausalLM", .qkv_bias = "use_bias", .out_bias = "use_bias", .mlp_bias = "use_bias"},
};

/* Llama's class has no sliding window; Mistral's has, in all layers, and is the same otherwise.
 * NULL: there is none whose configuration is written. */
static const hf_class *class_of(const nib_model *m)
{
    const char *name = m->arch->hf_classes[0];
    if (m->hp.window && !strcmp(name, "LlamaForCausalLM")) name = "MistralForCausalLM";
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].name, name)) return &classes[i];
    return NULL;
}

/* ---- windows ---- */

static bool add_layer_types(nib_json *cfg, const nib_hparams *hp)
{
    nib_json *list = nib_json_add_array(cfg, "layer_types");
    bool ok = list;
    for (uint32_t l = 0; l < hp->n_layer && ok; l++)
        ok = nib_json_add_str(list, NULL,
                              nib_layer_window(hp, l) ? "sliding_attention" : "full_attention");
    return ok;
}

static nib_code add_window(nib_json *cfg, const hf_class *c, const nib_hparams *hp, nib_err *err)
{
    uint32_t first = 0, n = 0;
    bool ok = true;
    if (!hp->window) {
        if (c->window == SOME_SLIDE) ok = nib_json_add_null(cfg, "sliding_window");
        return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
    }
    while (!nib_layer_window(hp, first)) first++;
    for (uint32_t l = 0; l < hp->n_layer; l++) n += nib_layer_window(hp, l) != 0;
    if (c->window == ALL_SLIDE && n < hp->n_layer)
        return nib_fail(err, NIB_EFORMAT,
                        "%u of %u layers attend to a sliding window, which config.json can say of "
                        "all layers or none",
                        n, hp->n_layer);
    ok = nib_json_add_num(cfg, "sliding_window", hp->window);
    if (ok && c->window == FLAGGED_SLIDE) /* those that do not know the types go by the first */
        ok = nib_json_add_bool(cfg, "use_sliding_window", true) &&
             nib_json_add_num(cfg, "max_window_layers", first);
    if (ok && c->window >= SOME_SLIDE) ok = add_layer_types(cfg, hp);
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* ---- biases ---- */

/* Have all of these linears, as far as there are any, a bias in every block? NIB_EFORMAT when some
 * have. */
static nib_code have_biases(bool *out, const nib_model *m, const nib_role *role, size_t n,
                            nib_err *err)
{
    size_t found = 0, all = 0;
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++)
        for (size_t i = 0; i < n; i++) {
            const nib_param *par = nib_model_param(m, layer, role[i]);
            all += par->weight != NULL;
            found += par->bias != NULL;
        }
    *out = found > 0;
    if (!found || found == all) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT,
                    "only some of the linear layers like '%s' have a bias, which config.json "
                    "cannot say",
                    nib_role_name(role[0]));
}

static nib_code add_biases(nib_json *cfg, const hf_class *c, const nib_model *m, nib_err *err)
{
    static const nib_role qkv[] = {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V,
                                   NIB_ROLE_ATTN_QKV};
    static const nib_role output[] = {NIB_ROLE_ATTN_OUTPUT};
    static const nib_role mlp[] = {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP, NIB_ROLE_FFN_DOWN};
    const struct {
        const char *key;
        const nib_role *role;
        size_t n;
    } groups[] = {{c->qkv_bias, qkv, 4}, {c->out_bias, output, 1}, {c->mlp_bias, mlp, 3}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        const char *key = groups[i].key;
        bool have, said;
        nib_code rc = have_biases(&have, m, groups[i].role, groups[i].n, err);
        if (rc) return rc;
        const bool before = key && nib_json_bool(nib_json_get(cfg, key), &said);
        if (key && *key && !before && !nib_json_add_bool(cfg, key, have))
            return nib_fail_nomem(err, "config.json");
        if (key ? (!*key && !have) || (before && said != have) : have)
            return nib_fail(err, NIB_EFORMAT, "%s cannot have %s bias in '%s', as this model has",
                            c->name, have ? "a" : "no", nib_role_name(groups[i].role[0]));
    }
    return NIB_OK;
}

/* ---- numbers ---- */

static bool add_whole(nib_json *cfg, const nib_arch *a, size_t field, const char *key, uint32_t v)
{
    return nib_config_has_number(a, field) || nib_json_add_num(cfg, key, v);
}

static bool add_experts(nib_json *cfg, const hf_class *c, const nib_arch *a, const nib_hparams *hp)
{
    if (!hp->n_expert) return true;
    return add_whole(cfg, a, offsetof(nib_hparams, n_expert), c->experts, hp->n_expert) &&
           add_whole(cfg, a, offsetof(nib_hparams, n_expert_used), "num_experts_per_tok",
                     hp->n_expert_used) &&
           (a->expert_ff_is_ff ||
            nib_json_add_num(cfg, "moe_intermediate_size", hp->n_ff_expert)) &&
           (!nib_config_lists_key(a, "norm_topk_prob") ||
            nib_json_add_bool(cfg, "norm_topk_prob", hp->share_norm));
}

/* What the architecture's tables have keys for. */
static bool add_own(nib_json *cfg, const nib_arch *a, const nib_hparams *hp)
{
    bool ok = true;
    for (size_t i = 0; i < a->n_settings && ok; i++) {
        const nib_arch_setting *s = &a->settings[i];
        const float v = *(const float *)((const char *)hp + s->field);
        ok = v > 0 ? nib_json_add_real(cfg, s->hf, v) : nib_json_add_null(cfg, s->hf);
    }
    for (size_t i = 0; i < a->n_numbers && ok; i++) {
        const nib_arch_number *n = &a->numbers[i];
        if (n->hf)
            ok = nib_json_add_num(cfg, n->hf, *(const uint32_t *)((const char *)hp + n->field));
    }
    if (!ok || !a->query_scale) return ok;
    const double width = 1 / ((double)hp->attn_scale * (double)hp->attn_scale), whole = rint(width);
    return nib_json_add_num(cfg, "query_pre_attn_scalar",
                            fabs(width - whole) < 1e-5 * whole ? whole : width);
}

static bool add_flags(nib_json *cfg, const hf_class *c, const nib_model *m)
{
    const nib_arch *a = m->arch;
    const bool normed = nib_model_param(m, 0, NIB_ROLE_ATTN_Q_NORM)->weight != NULL;
    const bool parallel = a->when_hf && !strcmp(a->when_hf, "use_parallel_residual");
    return (!c->qk_norm || nib_json_add_bool(cfg, c->qk_norm, normed)) &&
           (!parallel || nib_json_add_bool(cfg, a->when_hf, a->when == NIB_WHEN));
}

static bool add_numbers(nib_json *cfg, const hf_class *c, const nib_arch *a, const nib_hparams *hp)
{
    static const char *const acts[] = {
        [NIB_ACT_SILU] = "silu",          [NIB_ACT_GELU_TANH] = "gelu_pytorch_tanh",
        [NIB_ACT_GELU] = "gelu",          [NIB_ACT_RELU] = "relu",
        [NIB_ACT_RELU_SQUARED] = "relu2", [NIB_ACT_GELU_QUICK] = "quick_gelu",
    };
    nib_json *names = nib_json_add_array(cfg, "architectures");
    return names && nib_json_add_str(names, NULL, c->name) &&
           nib_json_add_str(cfg, "model_type", nib_config_model_type(c->name)) &&
           nib_json_add_num(cfg, "vocab_size", hp->n_vocab) &&
           nib_json_add_num(cfg, "max_position_embeddings", hp->n_ctx_train) &&
           nib_json_add_num(cfg, "hidden_size", hp->n_embd) &&
           nib_json_add_num(cfg, "intermediate_size", hp->n_ff) &&
           nib_json_add_num(cfg, "num_hidden_layers", hp->n_layer) &&
           nib_json_add_num(cfg, "num_attention_heads", hp->n_head) &&
           nib_json_add_num(cfg, "num_key_value_heads", hp->n_head_kv) &&
           nib_json_add_num(cfg, "head_dim", hp->head_dim) &&
           nib_json_add_str(cfg, c->act ? c->act : "hidden_act", acts[hp->act]) &&
           nib_json_add_real(cfg, c->eps ? c->eps : "rms_norm_eps", hp->norm_eps) &&
           nib_json_add_bool(cfg, "tie_word_embeddings", hp->tied) && add_experts(cfg, c, a, hp) &&
           add_own(cfg, a, hp);
}

/* ---- the way back ---- */

/* Numbers come through decimals and quotients: a few roundings of f32. */
static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

/* Do pairs of a head turn by as much, in contexts of n tokens? */
static bool turn_alike(const nib_hparams *a, const nib_hparams *b, size_t n)
{
    double x, y;
    for (uint32_t i = 0; i < a->rope_dim / 2; i++)
        if (!is_near(nib_rope_step(a, NULL, i, n, &x), nib_rope_step(b, NULL, i, n, &y)) ||
            !is_near(x, y))
            return false;
    return true;
}

/* The first thing in which two models differ; NULL: they compute the same. `divisors`: the angles'
 * are held against each other elsewhere. */
static const char *difference(const nib_hparams *a, const nib_hparams *b, bool divisors)
{
    static const struct {
        const char *what;
        size_t field;
    } whole[] =
        {
            {"number of blocks", offsetof(nib_hparams, n_layer)},
            {"context", offsetof(nib_hparams, n_ctx_train)},
            {"width", offsetof(nib_hparams, n_embd)},
            {"width of the embedding", offsetof(nib_hparams, n_embd_in)},
            {"feed-forward width", offsetof(nib_hparams, n_ff)},
            {"number of heads", offsetof(nib_hparams, n_head)},
            {"number of key and value heads", offsetof(nib_hparams, n_head_kv)},
            {"size of a head", offsetof(nib_hparams, head_dim)},
            {"size of a head's values", offsetof(nib_hparams, value_dim)},
            {"vocabulary", offsetof(nib_hparams, n_vocab)},
            {"number of turned columns", offsetof(nib_hparams, rope_dim)},
            {"number of experts", offsetof(nib_hparams, n_expert)},
            {"number of experts for a token", offsetof(nib_hparams, n_expert_used)},
            {"width of an expert", offsetof(nib_hparams, n_ff_expert)},
            {"width of the shared expert", offsetof(nib_hparams, n_ff_shared)},
            {"number of experts' groups", offsetof(nib_hparams, n_group)},
            {"number of groups for a token", offsetof(nib_hparams, n_group_used)},
        },
      real[] = {
          {"epsilon of norms", offsetof(nib_hparams, norm_eps)},
          {"rotary base", offsetof(nib_hparams, rope_base)},
          {"rotary base of sliding layers", offsetof(nib_hparams, rope_base_sliding)},
          {"scale of shares", offsetof(nib_hparams, share_scale)},
          {"scale of the embedding", offsetof(nib_hparams, embd_scale)},
          {"scale of scores", offsetof(nib_hparams, attn_scale)},
          {"scale of branches", offsetof(nib_hparams, residual_scale)},
          {"divisor of logits", offsetof(nib_hparams, logit_divisor)},
          {"scale of logits", offsetof(nib_hparams, logit_scale)},
          {"cap of scores", offsetof(nib_hparams, attn_softcap)},
          {"cap of logits", offsetof(nib_hparams, logit_softcap)},
          {"temper of queries", offsetof(nib_hparams, temper)},
          {"clip of queries, keys and values", offsetof(nib_hparams, clip_qkv)},
      };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (memcmp((const char *)a + whole[i].field, (const char *)b + whole[i].field, 4))
            return whole[i].what;
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        if (!is_near((double)*(const float *)((const char *)a + real[i].field),
                     (double)*(const float *)((const char *)b + real[i].field)))
            return real[i].what;
    for (uint32_t l = 0; l < a->n_layer; l++) {
        if (nib_layer_window(a, l) != nib_layer_window(b, l)) return "choice of sliding layers";
        if (nib_layer_turns(a, l) != nib_layer_turns(b, l)) return "choice of turned layers";
        if (nib_layer_is_dense(a, l) != nib_layer_is_dense(b, l)) return "choice of dense blocks";
    }
    if (a->act != b->act) return "activation";
    if (a->tied != b->tied) return "output matrix";
    if (a->n_expert && (a->routing != b->routing || a->share_norm != b->share_norm))
        return "way to choose experts";
    if (!divisors && (!turn_alike(a, b, 1) || !turn_alike(a, b, a->n_ctx_train)))
        return "rotary scaling";
    return NULL;
}

static nib_code check_way_back(const nib_json *cfg, const nib_model *m, nib_err *err)
{
    nib_hparams hp;
    const nib_arch *arch;
    nib_code rc = nib_config_from_hf(&hp, &arch, cfg, err);
    if (rc) return rc;
    const char *what =
        arch != m->arch ? "architecture" : difference(&m->hp, &hp, m->rope_factors != NULL);
    if (!what) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "the %s of this model is not what config.json can say of %s",
                    what, m->arch->hf_classes[0]);
}

/* ---- the whole ---- */

nib_code nib_model_to_hf(const nib_model *m, nib_json *cfg, nib_err *err)
{
    const hf_class *c = class_of(m);
    if (!c)
        return nib_fail(err, NIB_EFORMAT,
                        "the configuration of architecture '%s' is read, but not written yet",
                        m->arch->name);
    if (!add_numbers(cfg, c, m->arch, &m->hp) || !add_flags(cfg, c, m))
        return nib_fail_nomem(err, "config.json");
    nib_code rc = add_biases(cfg, c, m, err);
    if (!rc) rc = add_window(cfg, c, &m->hp, err);
    if (!rc) rc = add_rope(cfg, m, err);
    return rc ? rc : check_way_back(cfg, m, err);
}
