/* SPDX-License-Identifier: MIT */
/* infer/config_experts.c - what configurations say of blocks that differ from others: those with
 * experts, and how these are chosen; those of linear attention. See config_int.h.
 * Tests: tests/infer/test_config.c, tests/run/test_arch_golden.c. */
#include "infer/config_int.h"

#include <math.h>
#include <string.h>

static void set_dense(nib_hparams *hp, uint64_t layer, bool dense)
{
    const uint8_t bit = (uint8_t)(1u << layer % 8);
    if (dense)
        hp->dense[layer / 8] |= bit;
    else
        hp->dense[layer / 8] &= (uint8_t)~bit;
}

/* By a list of blocks, where there is one: those that are in it are dense, or those that are not.
 */
static nib_code read_layers(nib_hparams *hp, const nib_json *cfg, const char *key, bool dense,
                            nib_err *err)
{
    uint64_t layer;
    const nib_json *j = nib_json_get(cfg, key);
    if (!j || nib_json_is_null(j)) return NIB_OK;
    if (!nib_json_is_array(j))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a list of layers", key);
    for (uint32_t l = 0; l < hp->n_layer && !dense; l++) set_dense(hp, l, true);
    for (j = nib_json_first(j); j; j = nib_json_next(j)) {
        if (!nib_json_u64(j, &layer) || layer >= hp->n_layer)
            return nib_fail(err, NIB_EFORMAT, "'%s' should have numbers below %u", key,
                            hp->n_layer);
        set_dense(hp, layer, dense);
    }
    return NIB_OK;
}

/* By the numbers that both kinds of files have. */
static void dense_by_number(nib_hparams *hp)
{
    for (uint32_t l = 0; l < hp->n_layer; l++)
        if (l < hp->n_dense_first || (hp->n_expert_step && (l + 1) % hp->n_expert_step))
            set_dense(hp, l, true);
}

/* By "mlp_layer_types", where they are: "dense" or "sparse". */
static nib_code read_layer_kinds(nib_hparams *hp, const nib_json *cfg, nib_err *err)
{
    const nib_json *kinds = nib_json_get(cfg, "mlp_layer_types");
    uint32_t l = 0;
    if (!kinds || nib_json_is_null(kinds)) return NIB_OK;
    if (!nib_json_is_array(kinds) || nib_json_count(kinds) != hp->n_layer)
        return nib_fail(err, NIB_EFORMAT, "'mlp_layer_types' should be a list of %u names",
                        hp->n_layer);
    for (const nib_json *j = nib_json_first(kinds); j; j = nib_json_next(j), l++) {
        const char *kind = "";
        nib_json_str(j, &kind);
        if (strcmp(kind, "dense") && strcmp(kind, "sparse"))
            return nib_fail(err, NIB_EFORMAT,
                            "'mlp_layer_types' has '%.40s' for layer %u (supported: dense, sparse)",
                            kind, l);
        set_dense(hp, l, *kind == 'd');
    }
    for (hp->n_dense_first = 0; hp->n_dense_first < hp->n_layer; hp->n_dense_first++)
        if (!nib_layer_is_dense(hp, hp->n_dense_first)) break;
    return NIB_OK;
}

/* Ernie's last block with experts, where it is not the last of all. */
static nib_code dense_at_the_end(nib_hparams *hp, const nib_json *cfg, nib_err *err)
{
    const nib_json *j = nib_json_get(cfg, "moe_layer_end_index");
    double last;
    if (!j || nib_json_is_null(j)) return NIB_OK;
    if (!nib_json_num(j, &last) || !(last >= -1 && last < NIB_LAYERS_MAX) || last != floor(last))
        return nib_fail(err, NIB_EFORMAT,
                        "'moe_layer_end_index' should be a layer's number, or -1");
    for (uint32_t l = 0; l < hp->n_layer; l++)
        if (last >= 0 && l > (uint32_t)last) set_dense(hp, l, true);
    return NIB_OK;
}

/* How DeepSeek's classes choose experts. */
static nib_code latent_routing(nib_hparams *hp, const nib_arch *a, const nib_json *cfg,
                               nib_err *err)
{
    const bool sigmoid = a->routing == NIB_ROUTE_SIGMOID;
    const char *score = sigmoid ? "sigmoid" : "softmax", *method = sigmoid ? "noaux_tc" : "greedy";
    nib_json_str(nib_json_get(cfg, "scoring_func"), &score);
    nib_json_str(nib_json_get(cfg, "topk_method"), &method);
    const bool greedy = !strcmp(method, "greedy");
    if (strcmp(score, sigmoid ? "sigmoid" : "softmax"))
        return nib_fail(err, NIB_EFORMAT,
                        "'scoring_func' is '%.60s', of this class only '%s' is "
                        "supported",
                        score, sigmoid ? "sigmoid" : "softmax");
    if (sigmoid ? strcmp(method, "noaux_tc") : !greedy && strcmp(method, "group_limited_greedy"))
        return nib_fail(err, NIB_EFORMAT, "'topk_method' is '%.60s', of this class only %s", method,
                        sigmoid ? "noaux_tc is supported"
                                : "greedy and group_limited_greedy are supported");
    if (!sigmoid && hp->share_norm)
        return nib_fail(err, NIB_EFORMAT,
                        "'norm_topk_prob' is true, which is not supported: "
                        "Transformers' class does not look at it, the authors' does");
    if (!sigmoid && greedy) hp->n_group = hp->n_group_used = 1;
    const nib_json *j = nib_json_get(cfg, "rope_interleave");
    bool adjacent = true;
    if (j && !nib_json_is_null(j) && !nib_json_bool(j, &adjacent))
        return nib_fail(err, NIB_EFORMAT, "'rope_interleave' should be true or false");
    hp->rope_halves = !adjacent;
    return NIB_OK;
}

nib_code nib_experts_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    uint64_t step = 1;
    if (!a->experts) return NIB_OK;
    const nib_json *j = nib_json_get(cfg, "decoder_sparse_step");
    if (j && !nib_json_is_null(j) && (!nib_json_u64(j, &step) || !step || step > NIB_LAYERS_MAX))
        return nib_fail(err, NIB_EFORMAT, "'decoder_sparse_step' should be a whole number from 1");
    for (uint32_t l = 0; l < hp->n_layer; l++)
        if ((l + 1) % step) set_dense(hp, l, true);
    dense_by_number(hp);
    nib_code rc = read_layers(hp, cfg, "mlp_only_layers", true, err);
    if (!rc && nib_config_has_number(a, offsetof(nib_hparams, n_expert_step)))
        rc = read_layers(hp, cfg, "moe_layers", false, err);
    if (!rc) rc = read_layer_kinds(hp, cfg, err);
    if (!rc) rc = dense_at_the_end(hp, cfg, err);
    for (uint32_t l = 0; l < hp->n_layer && !rc && !a->dense_block.n; l++)
        if (nib_layer_is_dense(hp, l))
            rc = nib_fail(err, NIB_EFORMAT, "block %u has no experts, which '%s' has in all", l,
                          a->name);
    if (rc) return rc;
    hp->share_norm = a->share_norm; /* the class's own value; what is published may say another */
    hp->routing = a->routing;
    j = nib_json_get(cfg, "norm_topk_prob");
    if (j && !nib_json_is_null(j) && !nib_json_bool(j, &hp->share_norm))
        return nib_fail(err, NIB_EFORMAT, "'norm_topk_prob' should be true or false");
    return hp->kv_rank ? latent_routing(hp, a, cfg, err) : NIB_OK;
}

/* ---- layers of linear attention ---- */

static void set_linear(nib_hparams *hp, uint32_t layer)
{
    hp->linear[layer / 8] |= (uint8_t)(1u << layer % 8);
}

void nib_linear_by_interval(nib_hparams *hp)
{
    for (uint32_t l = 0; l < hp->n_layer && hp->full_interval; l++)
        if ((l + 1) % hp->full_interval) set_linear(hp, l);
}

nib_code nib_linear_from_hf(nib_hparams *hp, const nib_json *cfg, nib_err *err)
{
    const nib_json *types = nib_json_get(cfg, "layer_types");
    uint32_t l = 0;
    if (!types || nib_json_is_null(types)) {
        nib_linear_by_interval(hp);
        return NIB_OK;
    }
    if (!nib_json_is_array(types) || nib_json_count(types) != hp->n_layer)
        return nib_fail(err, NIB_EFORMAT, "'layer_types' should be a list of %u names",
                        hp->n_layer);
    for (const nib_json *j = nib_json_first(types); j; j = nib_json_next(j), l++) {
        const char *name = "";
        nib_json_str(j, &name);
        if (!strcmp(name, "linear_attention"))
            set_linear(hp, l);
        else if (strcmp(name, "full_attention"))
            return nib_fail(err, NIB_EFORMAT,
                            "'layer_types' has '%.40s' for layer %u (supported: full_attention, "
                            "linear_attention)",
                            name, l);
    }
    return NIB_OK;
}

nib_code nib_linear_check(nib_hparams *hp, nib_err *err)
{
    if (!hp->n_lin_k || !hp->n_lin_v || !hp->lin_k_dim || !hp->lin_taps ||
        hp->n_lin_v % hp->n_lin_k)
        return nib_fail(err, NIB_EFORMAT,
                        "linear attention of %u value heads, %u key heads of %u, %u taps",
                        hp->n_lin_v, hp->n_lin_k, hp->lin_k_dim, hp->lin_taps);
    if (hp->lin_inner) hp->lin_v_dim = hp->lin_inner / hp->n_lin_v;
    if (!hp->lin_v_dim || hp->lin_v_dim > NIB_WIDTH_MAX / hp->n_lin_v ||
        hp->lin_k_dim > NIB_WIDTH_MAX / hp->n_lin_k)
        return nib_fail(err, NIB_EFORMAT, "linear attention of %u values for each of %u heads",
                        hp->lin_v_dim, hp->n_lin_v);
    hp->lin_inner = hp->n_lin_v * hp->lin_v_dim;
    return NIB_OK;
}

nib_code nib_linear_interval(nib_hparams *hp, nib_err *err)
{
    for (hp->full_interval = 1; hp->full_interval <= hp->n_layer + 1; hp->full_interval++) {
        uint32_t l = 0;
        while (l < hp->n_layer && nib_layer_is_linear(hp, l) == ((l + 1) % hp->full_interval != 0))
            l++;
        if (l == hp->n_layer) return NIB_OK;
    }
    return nib_fail(err, NIB_EINVAL,
                    "the layers of linear attention do not come in equal periods, which are all "
                    "that llama.cpp knows");
}

/* ---- GGUF ---- */

/* llama.cpp takes a model of so many experts for one whose heads are not normed. */
enum { UNIT_HEADS_NOT = 128 };

nib_code nib_routing_from_gguf(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k,
                               nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    uint32_t gating = a->routing == NIB_ROUTE_SIGMOID ? 2 : 1;
    bool there;
    hp->share_norm = a->gguf_share_norm;
    hp->routing = a->routing;
    hp->unit_heads = a->unit_heads && hp->n_expert != UNIT_HEADS_NOT;
    dense_by_number(hp);
    if (!a->routing_keys) return NIB_OK;
    nib_config_gguf_key(key, a->name, "expert_weights_norm");
    if (nib_gguf_kvs_find(k, key) && !nib_gguf_get_bool(k, key, &hp->share_norm))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be true or false", key);
    nib_code rc = nib_config_gguf_number(
        &gating, &there, k, nib_config_gguf_key(key, a->name, "expert_gating_func"), err);
    if (rc) return rc;
    if (gating > 2)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be 1 or 2, nothing else is supported", key);
    hp->routing = gating == 2 ? NIB_ROUTE_SIGMOID : NIB_ROUTE_SOFTMAX;
    return NIB_OK;
}

nib_code nib_experts_check_gguf(const nib_hparams *hp, const nib_arch *a, nib_err *err)
{
    for (uint32_t l = 0; a->experts && l < hp->n_layer; l++) {
        const bool dense =
            l < hp->n_dense_first || (hp->n_expert_step && (l + 1) % hp->n_expert_step);
        if (nib_layer_is_dense(hp, l) && !dense && (hp->n_dense_first || hp->n_expert_step > 1))
            return nib_fail(err, NIB_EINVAL,
                            "block %u has no experts, and llama.cpp wants them in it: it knows "
                            "blocks without them first and in equal steps alone",
                            l);
        if (nib_layer_is_dense(hp, l) && !dense)
            return nib_fail(err, NIB_EINVAL,
                            "block %u has no experts: llama.cpp wants them in every block of '%s'",
                            l, a->name);
        if (!nib_layer_is_dense(hp, l) && dense)
            return nib_fail(err, NIB_EINVAL,
                            "block %u has experts, and llama.cpp wants none in it: it knows "
                            "blocks without them first and in equal steps alone",
                            l);
    }
    if (a->unit_heads && hp->unit_heads != (hp->n_expert != UNIT_HEADS_NOT))
        return nib_fail(err, NIB_EINVAL,
                        "llama.cpp norms the heads of '%s' unless it has %d experts, and "
                        "'use_qk_norm' says otherwise",
                        a->name, UNIT_HEADS_NOT);
    if (!a->experts || a->routing_keys || hp->share_norm == a->gguf_share_norm) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "llama.cpp %s the shares of a token's experts in '%s', and 'norm_topk_prob' "
                    "says otherwise",
                    a->gguf_share_norm ? "normalizes" : "does not normalize", a->name);
}
