/* SPDX-License-Identifier: MIT */
/* infer/config_hf.c - hyper-parameters as a config.json: the way back from GGUF.
 *
 * GGUF's architectures are fewer than the classes: one is chosen that computes the same. What no
 * class can be told is an error. Tests: tests/run/test_write_plain.c. */
#include "infer/model.h"

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

static nib_code add_rope(nib_json *cfg, const nib_model *m, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    bool ok = nib_json_add_real(cfg, "rope_theta", hp->rope_base);
    if (ok && m->rope_factors) return add_llama3(cfg, m, err);
    if (ok && hp->rope_scaling == NIB_ROPE_LINEAR) {
        nib_json *rope = nib_json_add_object(cfg, "rope_scaling");
        ok = rope && nib_json_add_str(rope, "rope_type", "linear") &&
             nib_json_add_real(rope, "factor", hp->rope_factor);
    }
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* ---- classes ---- */

/* Llama's class has no sliding window; Mistral's has, in all layers, and is the same otherwise. */
static bool is_mistral(const nib_model *m)
{
    return m->hp.window && !strcmp(m->arch->hf_classes[0], "LlamaForCausalLM");
}

static const char *class_of(const nib_model *m)
{
    return is_mistral(m) ? "MistralForCausalLM" : m->arch->hf_classes[0];
}

static bool add_layer_types(nib_json *cfg, const nib_hparams *hp)
{
    nib_json *list = nib_json_add_array(cfg, "layer_types");
    bool ok = list;
    for (uint32_t l = 0; l < hp->n_layer && ok; l++)
        ok = nib_json_add_str(list, NULL,
                              nib_layer_window(hp, l) ? "sliding_attention" : "full_attention");
    return ok;
}

static nib_code add_window(nib_json *cfg, const nib_model *m, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    uint32_t first = 0, n = 0;
    if (!hp->window) return NIB_OK;
    while (!nib_layer_window(hp, first)) first++;
    for (uint32_t l = 0; l < hp->n_layer; l++) n += nib_layer_window(hp, l) != 0;
    if (is_mistral(m) && n < hp->n_layer)
        return nib_fail(err, NIB_EFORMAT,
                        "%u of %u layers attend to a sliding window, which config.json can say of "
                        "all layers or none",
                        n, hp->n_layer);
    bool ok = nib_json_add_num(cfg, "sliding_window", hp->window);
    if (ok && !is_mistral(m)) /* readers that do not know the types go by the first layer */
        ok = nib_json_add_bool(cfg, "use_sliding_window", true) &&
             nib_json_add_num(cfg, "max_window_layers", first) && add_layer_types(cfg, hp);
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* ---- biases ---- */

/* Have all of these roles a bias in every block? NIB_EFORMAT when some have. */
static nib_code have_biases(bool *out, const nib_model *m, const nib_role *role, size_t n,
                            nib_err *err)
{
    size_t found = 0;
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++)
        for (size_t i = 0; i < n; i++) found += nib_model_param(m, layer, role[i])->bias != NULL;
    *out = found > 0;
    if (!found || found == n * m->hp.n_layer) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT,
                    "only some of the linear layers like '%s' have a bias, which config.json "
                    "cannot say of %s",
                    nib_role_name(role[0]), class_of(m));
}

static nib_code add_biases(nib_json *cfg, const nib_model *m, nib_err *err)
{
    static const nib_role attn[] = {NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K,
                                    NIB_ROLE_ATTN_V};
    static const nib_role mlp[] = {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP, NIB_ROLE_FFN_DOWN};
    const nib_arch *a = m->arch;
    bool of_attn, of_mlp;
    /* Without the flag q, k and v always have one, the output has none. */
    nib_code rc = have_biases(&of_attn, m, attn, a->hf_attention_bias ? 4 : 1, err);
    if (!rc) rc = have_biases(&of_mlp, m, mlp, 3, err);
    if (rc) return rc;
    const bool can_attn = a->hf_attention_bias && !is_mistral(m);
    const bool can_mlp = a->hf_mlp_bias && !is_mistral(m);
    if ((of_attn && !can_attn) || (of_mlp && !can_mlp))
        return nib_fail(err, NIB_EFORMAT, "%s has no bias in '%s', and this model has", class_of(m),
                        nib_role_name(of_attn && !can_attn ? attn[0] : mlp[0]));
    bool ok = (!can_attn || nib_json_add_bool(cfg, "attention_bias", of_attn)) &&
              (!can_mlp || nib_json_add_bool(cfg, "mlp_bias", of_mlp));
    return ok ? NIB_OK : nib_fail_nomem(err, "config.json");
}

/* ---- the whole ---- */

nib_code nib_model_to_hf(const nib_model *m, nib_json *cfg, nib_err *err)
{
    const nib_arch *a = m->arch;
    const nib_hparams *hp = &m->hp;
    if (!a->writes_hf)
        return nib_fail(err, NIB_EFORMAT,
                        "the configuration of architecture '%s' is read, but not written yet",
                        a->name);
    nib_json *classes = nib_json_add_array(cfg, "architectures");
    bool ok = classes && nib_json_add_str(classes, NULL, class_of(m)) &&
              nib_json_add_str(cfg, "model_type", is_mistral(m) ? "mistral" : a->name) &&
              nib_json_add_num(cfg, "vocab_size", hp->n_vocab) &&
              nib_json_add_num(cfg, "max_position_embeddings", hp->n_ctx_train) &&
              nib_json_add_num(cfg, "hidden_size", hp->n_embd) &&
              nib_json_add_num(cfg, "intermediate_size", hp->n_ff) &&
              nib_json_add_num(cfg, "num_hidden_layers", hp->n_layer) &&
              nib_json_add_num(cfg, "num_attention_heads", hp->n_head) &&
              nib_json_add_num(cfg, "num_key_value_heads", hp->n_head_kv) &&
              nib_json_add_num(cfg, "head_dim", hp->head_dim) &&
              nib_json_add_str(cfg, "hidden_act", "silu") &&
              nib_json_add_real(cfg, "rms_norm_eps", hp->norm_eps) &&
              nib_json_add_bool(cfg, "tie_word_embeddings", hp->tied);
    if (!ok) return nib_fail_nomem(err, "config.json");
    nib_code rc = add_biases(cfg, m, err);
    if (!rc) rc = add_window(cfg, m, err);
    return rc ? rc : add_rope(cfg, m, err);
}
