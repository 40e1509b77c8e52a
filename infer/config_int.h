/* SPDX-License-Identifier: MIT */
/* infer/config_int.h - inside infer/: what the readers of configurations share (config.c,
 * config_experts.c, config_keys.c, config_rope.c, sliding.c). */
#ifndef NIB_INFER_CONFIG_INT_H
#define NIB_INFER_CONFIG_INT_H

#include "infer/model.h"

enum { NIB_CONFIG_KEY_MAX = 128 };

/* The first of the keys (NULL-terminated) whose value is there and not null, and which it is; NULL:
 * none, and *found stays. */
const nib_json *nib_config_first(const nib_json *obj, const char *const *keys, const char **found);
/* A positive number if the key is there and not null; `out` keeps its default otherwise. */
NIB_MUST_USE nib_code nib_config_real(const nib_json *obj, const char *key, float *out,
                                      nib_err *err);

/* Neither null, false nor 0? */
bool nib_config_says_yes(const nib_json *j);
/* Has the architecture its own key for the number at this offset of nib_hparams? */
bool nib_config_has_number(const nib_arch *a, size_t field);
/* Does it list the key as one of its own? */
bool nib_config_lists_key(const nib_arch *a, const char *key);

/* The "model_type" of a class; NULL: the class is not known. */
const char *nib_config_model_type(const char *hf_class);
/* Architecture and hyper-parameters of a config.json. */
NIB_MUST_USE nib_code nib_config_from_hf(nib_hparams *hp, const nib_arch **arch,
                                         const nib_json *cfg, nib_err *err);
/* The architecture of a config.json, by its class; NULL: not known. */
const nib_arch *nib_arch_of_config(const nib_json *cfg);

/* "{arch}.{key}" in buf, which is returned. */
const char *nib_config_gguf_key(char buf[NIB_CONFIG_KEY_MAX], const char *arch, const char *key);
/* A whole number, if the key is there, which *there says. */
NIB_MUST_USE nib_code nib_config_gguf_number(uint32_t *out, bool *there, const nib_gguf_kvs *k,
                                             const char *key, nib_err *err);
/* A float if the key is there. */
NIB_MUST_USE nib_code nib_config_gguf_real(const nib_gguf_kvs *k, const char *key, float *out,
                                           nib_err *err);

/* ---- rotary embedding: config_rope.c ---- */

/* hp->rope_* and hp->llama3 from "rope_parameters" (Transformers 5) or "rope_scaling" (before), and
 * the base in either of them or on top; the inner one counts. The layers' windows are known. An
 * object for each kind of layer may give sliding layers a base of their own. NIB_EFORMAT: no
 * sensible value, a kind of scaling that is not implemented, or two spellings that contradict each
 * other. */
NIB_MUST_USE nib_code nib_rope_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg,
                                       nib_err *err);
/* Which layers turn, before their windows are known: "no_rope_layers", a list of 1 for those that
 * do and 0, or every "no_rope_layer_interval"-th does not. */
NIB_MUST_USE nib_code nib_turning_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg,
                                          nib_err *err);
/* The same from "{arch}.rope.*". As in llama.cpp a factor without a type is linear, and so is the
 * older rope.scale_linear. */
NIB_MUST_USE nib_code nib_rope_from_gguf(nib_hparams *hp, const nib_arch *a, const nib_gguf_kvs *k,
                                         nib_err *err);

/* Is a layer turned, where every `interval`-th is not (0: all are)? */
static inline bool nib_rope_turns_by_interval(uint32_t layer, uint32_t interval)
{
    return !interval || (layer + 1) % interval;
}

/* ---- blocks that differ: config_experts.c ---- */

/* Which blocks have experts, and how a token's shares of them are made. */
NIB_MUST_USE nib_code nib_experts_from_hf(nib_hparams *hp, const nib_arch *a, const nib_json *cfg,
                                          nib_err *err);
/* How experts are chosen: by keys, of architectures that have them. */
NIB_MUST_USE nib_code nib_routing_from_gguf(nib_hparams *hp, const nib_arch *a,
                                            const nib_gguf_kvs *k, nib_err *err);
/* NIB_EINVAL: GGUF has no key for what llama.cpp would do otherwise. */
NIB_MUST_USE nib_code nib_experts_check_gguf(const nib_hparams *hp, const nib_arch *a,
                                             nib_err *err);
/* Layers of linear attention: by "layer_types", or all but every full_interval-th. */
NIB_MUST_USE nib_code nib_linear_from_hf(nib_hparams *hp, const nib_json *cfg, nib_err *err);
void nib_linear_by_interval(nib_hparams *hp);
/* Heads of linear attention must be so many and so large that they fit; hp->lin_v_dim or
 * hp->lin_inner from the other. */
NIB_MUST_USE nib_code nib_linear_check(nib_hparams *hp, nib_err *err);
/* hp->full_interval from the layers, which is all that a file can tell of them. NIB_EINVAL: they do
 * not come in equal periods. */
NIB_MUST_USE nib_code nib_linear_interval(nib_hparams *hp, nib_err *err);

/* ---- keys that nobody reads: config_keys.c ---- */

/* NIB_EFORMAT, with the key's name and value: a setting of config.json, or of a GGUF's "{arch}.*",
 * that changes what a model computes and is not implemented; or one that is not known and looks
 * like it. Settings that are null, false, empty or leave things as they are pass. */
NIB_MUST_USE nib_code nib_config_check_keys(const nib_json *cfg, const nib_arch *a, nib_err *err);
NIB_MUST_USE nib_code nib_config_check_gguf_keys(const nib_gguf_kvs *k, const nib_arch *a,
                                                 nib_err *err);

#endif
