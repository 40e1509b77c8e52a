/* SPDX-License-Identifier: MIT */
/* infer/sliding.c - see sliding.h. */
#include "infer/sliding.h"
#include "infer/config_int.h"

#include <string.h>

enum { WINDOW_MAX = INT32_MAX };

static void slide(nib_hparams *hp, uint32_t layer)
{
    hp->sliding[layer / 8] |= (uint8_t)(1u << layer % 8);
}

/* No window is left where no layer uses it. */
static void settle(nib_hparams *hp)
{
    bool any = false;
    for (uint32_t l = 0; l < hp->n_layer; l++) any = any || nib_layer_window(hp, l);
    if (!any) hp->window = 0;
}

/* ---- config.json ---- */

/* What classes do with the keys, and their defaults. */
typedef struct {
    const char *hf_class;
    uint32_t window; /* of a configuration without the key; 0: the class has no windows */
    /* Windows are used only if use_sliding_window says so, and from layer max_window_layers on, by
     * default this one, or up to it; layer_types decides where it is given. */
    bool optional;
    uint32_t first_layer, end_layer;
    bool all; /* of all layers or none: max_window_layers and layer_types count for nothing */
    /* Every such layer sees all, unless a key for it or layer_types say otherwise; 0: none does. */
    uint32_t period;
    bool given;    /* windows are used where there is a key for them */
    bool chunk;    /* chunks, of the layers that are turned */
    bool unturned; /* windows of the layers that are not, where there is a key for them */
    bool typed;    /* layers are of a kind that is not supported where layer_types does not say */
    bool decided;  /* layer_types decides, where it is given, of classes without the above too  */
} sliding_class;

/* The key of windows or chunks. */
static const char *window_key(const sliding_class *c)
{
    return c->chunk ? "attention_chunk_size" : "sliding_window";
}

static const sliding_class classes[] = {
    {"Llama4ForCausalLM", .window = 8192, .chunk = true},
    {"Llama4ForConditionalGeneration", .window = 8192, .chunk = true},
    {"MistralForCausalLM", .window = 4096},
    {"Qwen2ForCausalLM", .window = 4096, .optional = true, .first_layer = 28},
    {"Qwen3ForCausalLM", .window = 4096, .optional = true, .first_layer = 28},
    {"Qwen3MoeForCausalLM", .window = 4096, .optional = true, .all = true},
    {"Qwen2MoeForCausalLM", .window = 4096, .optional = true, .end_layer = 28, .period = 2},
    {"Qwen2VLForConditionalGeneration", .window = 4096, .optional = true, .first_layer = 80},
    {"Qwen2_5_VLForConditionalGeneration", .window = 4096, .optional = true, .first_layer = 80},
    {"Gemma3ForConditionalGeneration", .window = 4096, .period = 6},
    {"SmolLM3ForCausalLM", .optional = true, .given = true, .unturned = true},
    {"Gemma2ForCausalLM", .window = 4096, .period = 2},
    {"Gemma3ForCausalLM", .window = 4096, .period = 6},
    {"Olmo3ForCausalLM", .window = 4096, .period = 4},
    {"Cohere2ForCausalLM", .window = 4096, .period = 4},
    {"GptOssForCausalLM", .window = 128, .period = 2},
    {"MixtralForCausalLM", .given = true},
    {"Phi3ForCausalLM", .given = true},
    {"Ministral3ForCausalLM", .given = true},
    {"Starcoder2ForCausalLM", .given = true},
    {"MinistralForCausalLM", .window = 4096, .decided = true},
    {"Exaone4ForCausalLM", .window = 4096, .period = 4},
    {"Dots1ForCausalLM", .window = 4096, .first_layer = 62},
    {"GraniteMoeHybridForCausalLM", .typed = true},
};

/* A whole number from `least` on; `out` keeps its default when the key is absent. */
static nib_code read_number(const nib_json *cfg, const char *key, uint32_t least, uint32_t *out,
                            nib_err *err)
{
    const nib_json *j = nib_json_get(cfg, key);
    uint64_t v;
    if (!j) return NIB_OK;
    if (!nib_json_u64(j, &v) || v < least || v > WINDOW_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number from %u to %d", key, least,
                        WINDOW_MAX);
    *out = (uint32_t)v;
    return NIB_OK;
}

/* Layers by "layer_types"; without windows (hp->window is 0) all of them must be full. */
static nib_code read_types(nib_hparams *hp, const nib_json *types, bool decides, bool chunk,
                           nib_err *err)
{
    const char *sliding = chunk ? "chunked_attention" : "sliding_attention";
    if (!nib_json_is_array(types) || nib_json_count(types) != hp->n_layer)
        return nib_fail(err, NIB_EFORMAT, "'layer_types' should be a list of %u names",
                        hp->n_layer);
    uint32_t l = 0;
    if (decides) memset(hp->sliding, 0, sizeof hp->sliding);
    for (const nib_json *j = nib_json_first(types); j; j = nib_json_next(j), l++) {
        const char *name = "";
        nib_json_str(j, &name);
        bool slides = !strcmp(name, sliding);
        if (!slides && strcmp(name, "full_attention") && strcmp(name, "attention"))
            return nib_fail(err, NIB_EFORMAT,
                            "'layer_types' has '%.40s' for layer %u (supported: full_attention, "
                            "%s)",
                            name, l, sliding);
        if (slides && decides) slide(hp, l);
        if (slides != (nib_layer_window(hp, l) != 0))
            return nib_fail(err, NIB_EFORMAT,
                            "'layer_types' has '%s' for layer %u, the other keys mean '%s'", name,
                            l, slides ? "full_attention" : sliding);
    }
    return NIB_OK;
}

/* "sliding_window_pattern": a number, or a letter for each layer of a period, as in "LLLG". */
static nib_code read_period(const nib_json *cfg, uint32_t *period, nib_err *err)
{
    const nib_json *j = nib_json_get(cfg, "sliding_window_pattern");
    const char *letters;
    if (j && nib_json_is_null(j)) return NIB_OK;
    if (!nib_json_str(j, &letters))
        return read_number(cfg, "sliding_window_pattern", 1, period, err);
    const size_t n = strspn(letters, "L");
    if (n >= NIB_LAYERS_MAX || strcmp(letters + n, "G"))
        return nib_fail(err, NIB_EFORMAT,
                        "'sliding_window_pattern' is \"%.40s\", should be L for each sliding layer "
                        "and G for the last of a period",
                        letters);
    *period = (uint32_t)n + 1;
    return NIB_OK;
}

nib_code nib_sliding_from_hf(nib_hparams *hp, const char *hf_class, const nib_json *cfg,
                             nib_err *err)
{
    nib_code rc;
    static const sliding_class none = {0};
    const sliding_class *c = &none;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].hf_class, hf_class)) c = &classes[i];
    uint32_t first = c->first_layer, end = c->end_layer, period = c->period;
    bool use = !c->optional;
    const nib_json *j = nib_json_get(cfg, "use_sliding_window");
    if (c->optional && j && !nib_json_bool(j, &use))
        return nib_fail(err, NIB_EFORMAT, "'use_sliding_window' should be true or false");
    j = nib_json_get(cfg, window_key(c));
    if ((c->window || (c->given && j)) && use && !nib_json_is_null(j)) {
        hp->window = c->window;
        if ((rc = read_number(cfg, window_key(c), 1, &hp->window, err))) return rc;
    }
    if ((c->optional || c->first_layer) && !c->unturned && !c->all &&
        (rc = read_number(cfg, "max_window_layers", 0, end ? &end : &first, err)))
        return rc;
    if (period && hp->window && (rc = read_period(cfg, &period, err))) return rc;
    for (uint32_t l = first; l < hp->n_layer && hp->window; l++)
        if ((!c->end_layer || l < end) && (!period || (l + 1) % period) &&
            (!c->chunk || nib_layer_turns(hp, l)) && (!c->unturned || !nib_layer_turns(hp, l)))
            slide(hp, l);
    const bool decides =
        ((c->optional && !c->all) || c->period || c->first_layer || c->chunk || c->decided) &&
        hp->window;
    j = nib_json_get(cfg, "layer_types");
    if (!j || nib_json_is_null(j)) {
        if (c->typed)
            return nib_fail(err, NIB_EFORMAT,
                            "key 'layer_types' is missing: without it all layers are Mamba's, "
                            "which are not supported");
    } else if ((rc = read_types(hp, j, decides, c->chunk, err))) {
        return rc;
    }
    settle(hp);
    return NIB_OK;
}

/* ---- GGUF ---- */

static const char WINDOW[] = "attention.sliding_window";
static const char PATTERN[] = "attention.sliding_window_pattern";

nib_code nib_sliding_from_gguf(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *kvs,
                               nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    const void *flags = NULL;
    size_t n = 0;
    uint64_t v, period = a->sliding_period;
    nib_config_gguf_key(key, a->name, WINDOW);
    v = a->chunk;
    if (!nib_gguf_kvs_find(kvs, key) && !a->chunk) return NIB_OK;
    if (nib_gguf_kvs_find(kvs, key) && (!nib_gguf_get_u64(kvs, key, &v) || v > WINDOW_MAX))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number up to %d", key,
                        WINDOW_MAX);
    hp->window = (uint32_t)v;
    if (!hp->window) return NIB_OK;
    nib_config_gguf_key(key, a->name, PATTERN);
    if (nib_gguf_kvs_find(kvs, key) && !nib_gguf_get_u64(kvs, key, &period) &&
        (!nib_gguf_get_arr(kvs, key, NIB_GGUF_BOOL, &flags, &n) || n != hp->n_layer))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number or %u flags", key,
                        hp->n_layer);
    for (uint32_t l = 0; l < hp->n_layer; l++)
        if (flags ? ((const uint8_t *)flags)[l] != 0 : !period || l % period < period - 1)
            slide(hp, l);
    settle(hp);
    return NIB_OK;
}

/* Is each layer of the period the one that sees all, and does no other? */
static bool has_period(const nib_hparams *hp, uint32_t period)
{
    for (uint32_t l = 0; l < hp->n_layer; l++)
        if ((nib_layer_window(hp, l) != 0) != (!period || l % period < period - 1)) return false;
    return true;
}

nib_code nib_sliding_to_gguf(const nib_hparams *hp, const nib_arch *a, nib_gguf_kvs *kvs,
                             nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    uint8_t flags[NIB_LAYERS_MAX];
    if (!hp->window && !a->always_window_key) return NIB_OK;
    bool ok = nib_gguf_set_u32(kvs, nib_config_gguf_key(key, a->name, WINDOW), hp->window);
    if (!hp->window) return ok ? NIB_OK : nib_fail_nomem(err, "metadata");
    nib_config_gguf_key(key, a->name, PATTERN);
    if (ok && !has_period(hp, a->sliding_period)) {
        uint32_t period = 1;
        for (uint32_t l = 0; l < hp->n_layer; l++) flags[l] = nib_layer_window(hp, l) != 0;
        while (period <= hp->n_layer + 1 && !has_period(hp, period)) period++;
        if (!a->sliding_period)
            ok = nib_gguf_set_arr(kvs, key, NIB_GGUF_BOOL, flags, hp->n_layer);
        else if (period <= hp->n_layer + 1)
            ok = nib_gguf_set_u32(kvs, key, period);
        else
            return nib_fail(err, NIB_EINVAL,
                            "the sliding layers of this model do not come in equal periods, which "
                            "are all that llama.cpp knows for '%s'",
                            a->name);
    }
    return ok ? NIB_OK : nib_fail_nomem(err, "metadata");
}
