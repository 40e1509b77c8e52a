/* SPDX-License-Identifier: MIT */
/* infer/config_rope.c - what configurations say of the rotary embedding; see config_int.h.
 * Tests: tests/infer/test_config.c. */
#include "infer/config_int.h"

#include "base/str.h"

#include <math.h>
#include <string.h>

/* ---- config.json ---- */

/* One object, read. */
typedef struct {
    float base; /* 0: not given */
    nib_rope_scaling scaling;
    float factor;
    nib_rope_llama3 llama3;
    nib_rope_yarn yarn;
    float partial;          /* 0: not given */
    float temper;           /* the same     */
    float alpha;            /* the same: the base is multiplied by a power of it, and that is all */
    const nib_json *object; /* longrope's, with its lists */
} rope;

static bool same_scaling(const rope *a, const rope *b)
{
    return a->scaling == b->scaling && a->factor == b->factor &&
           a->llama3.factor == b->llama3.factor && a->llama3.low_freq == b->llama3.low_freq &&
           a->llama3.high_freq == b->llama3.high_freq &&
           a->llama3.n_ctx_orig == b->llama3.n_ctx_orig &&
           !memcmp(&a->yarn, &b->yarn, sizeof a->yarn) && a->partial == b->partial &&
           a->temper == b->temper && a->alpha == b->alpha;
}

/* A positive number that must be there. */
static nib_code need_real(const nib_json *obj, const char *type, const char *key, float *out,
                          nib_err *err)
{
    const nib_json *j = nib_json_get(obj, key);
    if (!j || nib_json_is_null(j))
        return nib_fail(err, NIB_EFORMAT, "key '%s' of %s rope scaling is missing", key, type);
    return nib_config_real(obj, key, out, err);
}

/* Transformers takes it from inside, from the top, or else the context as it is now. */
static nib_code read_original(uint32_t *out, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    static const char key[] = "original_max_position_embeddings";
    static const char *const now[] = {"max_position_embeddings", "n_ctx", "n_positions", NULL};
    const char *found = key;
    uint64_t v = 0;
    const nib_json *j = nib_json_get(obj, key);
    if (!j || nib_json_is_null(j)) j = nib_json_get(cfg, key);
    if (!j || nib_json_is_null(j)) j = nib_config_first(cfg, now, &found);
    if (!nib_json_u64(j, &v) || !v || v > INT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number", found);
    *out = (uint32_t)v;
    return NIB_OK;
}

/* The factor, or how much longer the context is than it was. */
static nib_code read_factor(rope *r, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    uint64_t now = 0;
    nib_json_u64(nib_json_get(cfg, "max_position_embeddings"), &now);
    if (now) r->factor = (float)((double)now / r->yarn.n_ctx_orig);
    return nib_config_real(obj, "factor", &r->factor, err);
}

static nib_code read_yarn(rope *r, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    nib_code rc;
    const struct {
        const char *key;
        float *to;
    } real[] = {{"beta_fast", &r->yarn.beta_fast},
                {"beta_slow", &r->yarn.beta_slow},
                {"mscale", &r->yarn.mscale},
                {"mscale_all_dim", &r->yarn.mscale_all},
                {"attention_factor", &r->yarn.attn_factor}};
    const nib_json *truncate = nib_json_get(obj, "truncate");
    bool yes = true;
    r->scaling = NIB_ROPE_YARN;
    r->yarn.beta_fast = 32;
    r->yarn.beta_slow = 1;
    if ((rc = read_original(&r->yarn.n_ctx_orig, cfg, obj, err))) return rc;
    if ((rc = read_factor(r, cfg, obj, err))) return rc;
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        if ((rc = nib_config_real(obj, real[i].key, real[i].to, err))) return rc;
    if (truncate && !nib_json_is_null(truncate) && !nib_json_bool(truncate, &yes))
        return nib_fail(err, NIB_EFORMAT, "'truncate' should be true or false");
    r->yarn.not_truncated = !yes;
    return NIB_OK;
}

static nib_code read_longrope(rope *r, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    nib_code rc;
    r->scaling = NIB_ROPE_LONGROPE;
    if ((rc = read_original(&r->yarn.n_ctx_orig, cfg, obj, err))) return rc;
    if ((rc = read_factor(r, cfg, obj, err))) return rc;
    return nib_config_real(obj, "attention_factor", &r->yarn.attn_factor, err);
}

/* A list of the divisors of all pairs. */
static nib_code read_divisors(float *out, const nib_hparams *hp, const nib_json *obj,
                              const char *key, nib_err *err)
{
    const nib_json *list = nib_json_get(obj, key);
    const uint32_t n = hp->rope_dim / 2;
    double v;
    if (!nib_json_is_array(list) || nib_json_count(list) != n || n > NIB_ROPE_PAIRS_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a list of %u numbers", key, n);
    for (const nib_json *j = nib_json_first(list); j; j = nib_json_next(j)) {
        if (!nib_json_num(j, &v) || !(v > 0) || v > 1e30)
            return nib_fail(err, NIB_EFORMAT, "'%s' should hold numbers above 0", key);
        *out++ = (float)v;
    }
    return NIB_OK;
}

static nib_code read_llama3(rope *r, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    static const char type[] = "llama3", orig_key[] = "original_max_position_embeddings";
    nib_code rc;
    uint64_t orig = 0;
    const nib_json *j = nib_json_get(obj, orig_key);
    if (!j) j = nib_json_get(cfg, orig_key);
    if (!j)
        return nib_fail(err, NIB_EFORMAT, "key '%s' of %s rope scaling is missing", orig_key, type);
    if (!nib_json_u64(j, &orig) || !orig || orig > INT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number", orig_key);
    r->scaling = NIB_ROPE_LLAMA3;
    r->llama3.n_ctx_orig = (uint32_t)orig;
    if ((rc = need_real(obj, type, "factor", &r->llama3.factor, err))) return rc;
    if ((rc = need_real(obj, type, "low_freq_factor", &r->llama3.low_freq, err))) return rc;
    if ((rc = need_real(obj, type, "high_freq_factor", &r->llama3.high_freq, err))) return rc;
    if (!(r->llama3.high_freq >= r->llama3.low_freq))
        return nib_fail(err, NIB_EFORMAT, "high_freq_factor %g is below low_freq_factor %g",
                        (double)r->llama3.high_freq, (double)r->llama3.low_freq);
    return NIB_OK;
}

/* "rope_type" (newer) or "type"; "" when the object has neither. */
static nib_code read_type(const nib_json *obj, const char **type, nib_err *err)
{
    static const char *const keys[] = {"rope_type", "type"};
    const char *found[2] = {"", ""};
    for (int i = 0; i < 2; i++) {
        const nib_json *j = nib_json_get(obj, keys[i]);
        if (j && !nib_json_is_null(j) && !nib_json_str(j, &found[i]))
            return nib_fail(err, NIB_EFORMAT, "'%s' should be a string", keys[i]);
    }
    if (*found[0] && *found[1] && strcmp(found[0], found[1]))
        return nib_fail(err, NIB_EFORMAT,
                        "rope scaling has 'rope_type' '%.40s' and 'type' '%.40s': which is it?",
                        found[0], found[1]);
    *type = *found[0] ? found[0] : found[1];
    return NIB_OK;
}

/* Keys of such an object: those before SCALING say nothing of a scaling. */
static const char *const object_keys[] = {
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "max_position_embeddings", /* as it is outside */
    "mrope_section",
    "mrope_interleaved",
    "rope_type",
    "type",
    "finetuned",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    "llama_4_scaling_beta",
    "alpha",
};
enum { SCALING = 9 };

static nib_code check_object_keys(const nib_json *obj, bool typed, nib_err *err)
{
    const size_t n = sizeof object_keys / sizeof *object_keys;
    for (const nib_json *j = nib_json_first(obj); j; j = nib_json_next(j)) {
        const char *key = nib_json_key(j);
        size_t i = 0;
        if (nib_json_is_null(j)) continue;
        while (i < n && strcmp(object_keys[i], key)) i++;
        if (i == n)
            return nib_fail(err, NIB_EFORMAT, "key '%.60s' of rope scaling is not supported", key);
        if (i >= SCALING && !typed)
            return nib_fail(err, NIB_EFORMAT, "rope scaling has '%s' and no 'rope_type'", key);
    }
    return NIB_OK;
}

static nib_code read_object(rope *r, const nib_json *cfg, const nib_json *obj, nib_err *err)
{
    nib_code rc;
    const char *type = "";
    *r = (rope){.factor = 1};
    if ((rc = read_type(obj, &type, err))) return rc;
    if ((rc = check_object_keys(obj, *type, err))) return rc;
    r->object = obj;
    if ((rc = nib_config_real(obj, "rope_theta", &r->base, err))) return rc;
    if ((rc = nib_config_real(obj, "partial_rotary_factor", &r->partial, err))) return rc;
    if ((rc = nib_config_real(obj, "llama_4_scaling_beta", &r->temper, err))) return rc;
    if (r->temper > 0 && (rc = read_original(&r->yarn.n_ctx_orig, cfg, obj, err))) return rc;
    if (!*type || !strcmp(type, "default") || !strcmp(type, "mrope")) return NIB_OK;
    if (!strcmp(type, "llama3")) return read_llama3(r, cfg, obj, err);
    if (nib_config_says_yes(nib_json_get(obj, "alpha")))
        return nib_config_real(obj, "alpha", &r->alpha, err);
    /* Phi-3's older files call it other names */
    if (!strcmp(type, "longrope") || !strcmp(type, "su") || nib_json_get(obj, "long_factor"))
        return read_longrope(r, cfg, obj, err);
    if (!strcmp(type, "yarn")) return read_yarn(r, cfg, obj, err);
    if (strcmp(type, "linear") && strcmp(type, "dynamic"))
        return nib_fail(err, NIB_EFORMAT,
                        "rope scaling '%.60s' is not supported (supported: default, linear, "
                        "dynamic, llama3, yarn, longrope)",
                        type);
    r->scaling = *type == 'l' ? NIB_ROPE_LINEAR : NIB_ROPE_DYNAMIC;
    return need_real(obj, type, "factor", &r->factor, err);
}

/* Does the object hold one, or null, for each kind of layer? */
static bool nested(const nib_json *obj)
{
    for (const nib_json *j = nib_json_first(obj); j; j = nib_json_next(j))
        if (nib_json_is_object(j) || nib_ends_with(nib_json_key(j), "_attention")) return true;
    return false;
}

/* What {"full_attention": {...}, "sliding_attention": {...}} says of the kinds that there are;
 * *sliding: the base of sliding layers, where the architecture has one (0: it has none); they may
 * have a linear scaling of their own. */
static nib_code read_nested(rope *r, float *sliding, nib_hparams *hp, const nib_json *cfg,
                            const nib_json *obj, const char *name, nib_err *err)
{
    static const char *const kinds[] = {"full_attention", "sliding_attention"};
    bool used[2] = {false, false}, first = true;
    for (uint32_t l = 0; l < hp->n_layer; l++) used[nib_layer_window(hp, l) != 0] = true;
    for (const nib_json *j = nib_json_first(obj); j; j = nib_json_next(j))
        if (!nib_json_is_object(j) && !nib_json_is_null(j))
            return nib_fail(err, NIB_EFORMAT, "'%s' has '%.60s' beside objects for kinds of layers",
                            name, nib_json_key(j));
    for (int i = 0; i < 2; i++) {
        rope one;
        const nib_json *j = nib_json_get(obj, kinds[i]);
        if (!used[i]) continue;
        if (!nib_json_is_object(j))
            return nib_fail(err, NIB_EFORMAT,
                            "'%s' has nothing for '%s': layers without rotary embedding are not "
                            "supported",
                            name, kinds[i]);
        nib_code rc = read_object(&one, cfg, j, err);
        if (rc) return nib_wrap(err, "'%s' of '%s'", kinds[i], name);
        if (first) {
            *r = one;
        } else if (!same_scaling(r, &one) || r->base != one.base) {
            if (*sliding == 0 || (one.scaling != NIB_ROPE_PLAIN && one.scaling != NIB_ROPE_LINEAR))
                return nib_fail(err, NIB_EFORMAT,
                                "'%s' differs between '%s' and '%s' layers, which is not supported",
                                name, kinds[0], kinds[1]);
            *sliding = one.base > 0 ? one.base : 10000;
            if (one.scaling == NIB_ROPE_LINEAR) hp->rope_factor_sliding = one.factor;
        }
        first = false;
    }
    return NIB_OK;
}

/* The member `name` of the configuration; *there: it is one and not empty. */
static nib_code read_member(rope *r, float *sliding, bool *there, nib_hparams *hp,
                            const nib_json *cfg, const char *name, nib_err *err)
{
    const nib_json *j = nib_json_get(cfg, name);
    *r = (rope){.factor = 1};
    *there = false;
    if (!j || nib_json_is_null(j)) return NIB_OK;
    if (!nib_json_is_object(j)) return nib_fail(err, NIB_EFORMAT, "'%s' should be an object", name);
    *there = nib_json_first(j) != NULL;
    return nested(j) ? read_nested(r, sliding, hp, cfg, j, name, err) : read_object(r, cfg, j, err);
}

static void set_turning(nib_hparams *hp, uint32_t layer, bool turns)
{
    if (!turns) hp->no_rope[layer / 8] |= (uint8_t)(1u << layer % 8);
}

/* Where sliding layers alone are turned. `windowless`: there is no key of a window, or it is null.
 */
static void turn_sliding(nib_hparams *hp, const nib_arch *a, bool windowless)
{
    for (uint32_t l = 0; a->sliding_turn && l < hp->n_layer; l++)
        set_turning(hp, l, nib_layer_window(hp, l) != 0 || (windowless && a->turns_windowless));
}

/* All layers are turned, or none is. */
static nib_code switch_turning(nib_hparams *hp, const nib_json *cfg, nib_err *err)
{
    const nib_json *j = nib_json_get(cfg, "position_embedding_type");
    const char *type = "nope"; /* what the class does without the key */
    if (j && !nib_json_is_null(j) && !nib_json_str(j, &type))
        return nib_fail(err, NIB_EFORMAT, "'position_embedding_type' should be a name");
    if (strcmp(type, "nope") && strcmp(type, "rope"))
        return nib_fail(err, NIB_EFORMAT,
                        "'position_embedding_type' is '%.60s' (supported: rope, nope)", type);
    for (uint32_t l = 0; l < hp->n_layer; l++) set_turning(hp, l, *type == 'r');
    return NIB_OK;
}

/* Tencent's "alpha": a longer context by another base. */
static nib_code stretch_base(nib_hparams *hp, const nib_arch *a, float alpha, nib_err *err)
{
    const double dim = hp->rope_dim;
    if (!(alpha > 0)) return NIB_OK;
    if (!a->rope_alpha || !(dim > 2))
        return nib_fail(err, NIB_EFORMAT, "key 'alpha' of rope scaling is not supported");
    hp->rope_base = (float)((double)hp->rope_base * pow((double)alpha, dim / (dim - 2)));
    return NIB_OK;
}

nib_code nib_turning_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    const nib_json *list = nib_json_get(cfg, "no_rope_layers");
    const nib_json *given = nib_json_get(cfg, "no_rope_layer_interval");
    uint64_t interval = a->no_rope_interval, turns;
    uint32_t l = 0;
    if (nib_config_lists_key(a, "position_embedding_type")) return switch_turning(hp, cfg, err);
    if (nib_config_lists_key(a, "alibi") && nib_config_says_yes(nib_json_get(cfg, "alibi"))) {
        hp->alibi = hp->alibi_rounded = true;
        for (; l < hp->n_layer; l++) set_turning(hp, l, false);
    }
    if (!a->no_rope_interval) return NIB_OK;
    if (given && !nib_json_is_null(given) &&
        (!nib_json_u64(given, &interval) || !interval || interval > NIB_LAYERS_MAX))
        return nib_fail(err, NIB_EFORMAT,
                        "'no_rope_layer_interval' should be a whole number from 1 to %d",
                        NIB_LAYERS_MAX);
    if (!list || nib_json_is_null(list) || (nib_json_is_array(list) && !nib_json_first(list))) {
        for (; l < hp->n_layer; l++)
            set_turning(hp, l, nib_rope_turns_by_interval(l, (uint32_t)interval));
        return NIB_OK;
    }
    if (!nib_json_is_array(list) || nib_json_count(list) != hp->n_layer)
        return nib_fail(err, NIB_EFORMAT, "'no_rope_layers' should be a list of %u numbers",
                        hp->n_layer);
    for (const nib_json *j = nib_json_first(list); j; j = nib_json_next(j), l++) {
        if (!nib_json_u64(j, &turns) || turns > 1)
            return nib_fail(err, NIB_EFORMAT, "'no_rope_layers' should hold 0 and 1 alone");
        set_turning(hp, l, turns);
    }
    return NIB_OK;
}

/* How many columns of a head are turned. */
static nib_code read_part(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, float inside,
                          nib_err *err)
{
    static const char *const keys[] = {"partial_rotary_factor", "rotary_pct", "rope_pct"};
    float part = a->rope_part > 0 ? a->rope_part : 1;
    nib_code rc = NIB_OK;
    const uint32_t dim = hp->head_dim  ? hp->head_dim
                         : a->head_dim ? a->head_dim
                                       : hp->n_embd / hp->n_head;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !rc; i++)
        rc = nib_config_real(cfg, keys[i], &part, err);
    if (!rc && nib_config_lists_key(a, "rotary_dim")) {
        float turned = 0;
        rc = nib_config_real(cfg, "rotary_dim", &turned, err);
        if (turned > 0) part = turned / (float)dim;
    }
    if (rc) return rc;
    if (inside > 0) part = inside;
    if (part > 1 || (part != 1 && !(a->rope_part > 0)))
        return nib_fail(err, NIB_EFORMAT, "'partial_rotary_factor' is %g, only 1 is supported",
                        (double)part);
    if (!hp->kv_rank) hp->rope_dim = (uint32_t)((double)dim * (double)part);
    return NIB_OK;
}

/* Models that see turn parts of a head by other positions than a text's, which are all the same. */
static nib_code read_sections(nib_hparams *hp, const nib_arch *a, const nib_json *obj, nib_err *err)
{
    const nib_json *list = nib_json_get(obj, "mrope_section");
    uint64_t v, sum = 0;
    size_t n = 0;
    if (!list) return NIB_OK;
    if (!a->text_part)
        return nib_fail(err, NIB_EFORMAT, "key 'mrope_section' of rope scaling is not supported");
    if (!nib_json_is_array(list) || nib_json_count(list) > 4)
        return nib_fail(err, NIB_EFORMAT, "'mrope_section' should be a list of numbers");
    for (const nib_json *j = nib_json_first(list); j; j = nib_json_next(j)) {
        if (!nib_json_u64(j, &v) || v > hp->rope_dim)
            return nib_fail(err, NIB_EFORMAT, "'mrope_section' should hold whole numbers");
        sum += v;
        hp->sections[n++] = (int32_t)v;
    }
    if (sum == hp->rope_dim / 2) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'mrope_section' has %llu pairs, the rotation %u",
                    (unsigned long long)sum, hp->rope_dim / 2);
}

nib_code nib_rope_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg, nib_err *err)
{
    static const char *const names[] = {"rope_parameters", "rope_scaling"};
    nib_code rc;
    rope of[2];
    bool there[2];
    float base = a->rope_base > 0 ? a->rope_base : 10000;
    float sliding = a->rope_base_sliding;
    const nib_json *window = nib_json_get(cfg, "sliding_window");
    turn_sliding(hp, a, window && nib_json_is_null(window));
    if ((rc = nib_config_real(cfg, "rope_local_base_freq", &sliding, err))) return rc;
    if ((rc = nib_config_real(cfg, "rope_theta", &base, err))) return rc;
    if ((rc = nib_config_real(cfg, "rotary_emb_base", &base, err))) return rc;
    for (int i = 0; i < 2; i++)
        if ((rc = read_member(&of[i], &sliding, &there[i], hp, cfg, names[i], err))) return rc;
    if (there[0] && there[1] &&
        (!same_scaling(&of[0], &of[1]) ||
         (of[0].base > 0 && of[1].base > 0 && of[0].base != of[1].base)))
        return nib_fail(err, NIB_EFORMAT, "'%s' and '%s' contradict each other", names[0],
                        names[1]);
    const rope *r = there[0] ? &of[0] : &of[1];
    hp->rope_base = of[0].base > 0 ? of[0].base : of[1].base > 0 ? of[1].base : base;
    hp->rope_base_sliding = hp->window ? sliding : 0;
    hp->rope_scaling = r->scaling;
    hp->rope_factor = r->factor;
    hp->llama3 = r->llama3;
    hp->yarn = r->yarn;
    if (r->temper > 0) {
        hp->temper = r->temper;
        hp->temper_floor = (float)r->yarn.n_ctx_orig;
    }
    if (a->sliding_unscaled && hp->window) hp->rope_base_sliding = hp->rope_base;
    if ((rc = read_part(hp, a, cfg, r->partial, err))) return rc;
    if ((rc = stretch_base(hp, a, r->alpha, err))) return rc;
    if ((rc = read_sections(hp, a, r->object, err))) return rc;
    if (hp->rope_scaling != NIB_ROPE_LONGROPE) return NIB_OK;
    rc = read_divisors(hp->rope_long, hp, r->object, "long_factor", err);
    return rc ? rc : read_divisors(hp->rope_short, hp, r->object, "short_factor", err);
}

/* ---- GGUF ---- */

/* What llama.cpp makes of the keys of YaRN and longrope. */
static nib_code gguf_yarn(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k, bool yarn,
                          nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    nib_rope_yarn *y = &hp->yarn;
    uint64_t orig = hp->n_ctx_train;
    float by = 1;
    const struct {
        const char *key;
        float *to;
    } real[] = {{"rope.scaling.factor", &hp->rope_factor},
                {"rope.scaling.yarn_beta_fast", &y->beta_fast},
                {"rope.scaling.yarn_beta_slow", &y->beta_slow},
                {"rope.scaling.yarn_log_multiplier", &y->mscale_all},
                {"rope.scaling.attn_factor", &by},
                {"attention.temperature_scale", &hp->temper}};
    *y = (nib_rope_yarn){.beta_fast = 32, .beta_slow = 1, .not_truncated = a->yarn_not_truncated};
    hp->rope_scaling = yarn ? NIB_ROPE_YARN : NIB_ROPE_LONGROPE;
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        nib_code rc = nib_config_gguf_real(k, nib_config_gguf_key(key, a->name, real[i].key),
                                           real[i].to, err);
        if (rc) return rc;
    }
    nib_config_gguf_key(key, a->name, "rope.scaling.original_context_length");
    if (nib_gguf_kvs_find(k, key) &&
        (!nib_gguf_get_u64(k, key, &orig) || !orig || orig > INT32_MAX))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a whole number", key);
    y->n_ctx_orig = (uint32_t)orig;
    hp->temper_floor = (float)orig;
    if (hp->kv_rank) { /* then llama.cpp turns without a magnitude, and has it in the scores */
        y->mscale_all *= 10;
        y->attn_factor = y->mscale_all > 0 ? by : (float)((double)by * nib_rope_magnitude(hp));
        return NIB_OK;
    }
    if (y->mscale_all > 0) y->mscale = 1;
    y->attn_factor = yarn ? (float)((double)by * nib_rope_magnitude(hp)) : by;
    return NIB_OK;
}

nib_code nib_rope_from_gguf(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k, nib_err *err)
{
    char key[NIB_CONFIG_KEY_MAX];
    nib_str type = {"linear", 6};
    nib_code rc;
    float factor = 0, magnitude = 1; /* as in llama.cpp: none */
    bool turned;
    hp->rope_base = 10000;
    hp->rope_factor = 1;
    hp->rope_base_sliding = hp->window ? a->rope_base_sliding : 0;
    for (uint32_t l = 0; l < hp->n_layer; l++)
        set_turning(
            hp, l, (a->chunk && !hp->window) || nib_rope_turns_by_interval(l, a->no_rope_interval));
    nib_config_gguf_key(key, a->name, "attention.sliding_window");
    turn_sliding(hp, a, !nib_gguf_kvs_find(k, key));
    nib_config_gguf_key(key, a->name, "rope.scaling.finetuned");
    if (a->rope_switch && nib_gguf_get_bool(k, key, &turned))
        for (uint32_t l = 0; l < hp->n_layer; l++) set_turning(hp, l, turned);
    nib_config_gguf_key(key, a->name, "rope.freq_base_swa");
    if (hp->rope_base_sliding > 0 &&
        (rc = nib_config_gguf_real(k, key, &hp->rope_base_sliding, err)))
        return rc;
    nib_config_gguf_key(key, a->name, "rope.freq_base");
    if ((rc = nib_config_gguf_real(k, key, &hp->rope_base, err))) return rc;
    nib_config_gguf_key(key, a->name, "rope.scaling.type");
    if (nib_gguf_kvs_find(k, key) && !nib_gguf_get_str(k, key, &type))
        return nib_fail(err, NIB_EFORMAT, "'%s' should be a string", key);
    if (a->sliding_unscaled && hp->window) hp->rope_base_sliding = hp->rope_base;
    if (!strcmp(type.p, "yarn") || !strcmp(type.p, "longrope"))
        return gguf_yarn(hp, a, k, *type.p == 'y', err);
    if (!strcmp(type.p, "none")) return NIB_OK;
    if (strcmp(type.p, "linear"))
        return nib_fail(err, NIB_EFORMAT,
                        "rope scaling '%.60s' is not supported (supported: none, linear, yarn, "
                        "longrope)",
                        type.p);
    nib_config_gguf_key(key, a->name, "rope.scaling.attn_factor");
    if ((rc = nib_config_gguf_real(k, key, &magnitude, err))) return rc;
    if (magnitude != 1)
        return nib_fail(err, NIB_EFORMAT, "'%s' = %g is not supported without yarn or longrope",
                        key, (double)magnitude);
    nib_config_gguf_key(key, a->name, "rope.scale_linear");
    if ((rc = nib_config_gguf_real(k, key, &factor, err))) return rc;
    nib_config_gguf_key(key, a->name, "rope.scaling.factor");
    if ((rc = nib_config_gguf_real(k, key, &factor, err))) return rc;
    if (factor == 0) return NIB_OK;
    hp->rope_scaling = NIB_ROPE_LINEAR;
    hp->rope_factor = factor;
    return NIB_OK;
}
