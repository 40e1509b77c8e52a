/* SPDX-License-Identifier: MIT */
/* tests/support/gen.h - random models in Hugging Face layout, for tests and benchmarks.
 *
 * A folder with config.json, safetensors (one file or sharded) and a byte-level BPE tokenizer, as
 * the named family publishes them. Weights are bell-shaped with a spread that keeps activations and
 * logits around 1, so that comparing log-probabilities means something; they depend on the seed
 * alone. The models know nothing: they exercise shapes and code, not language. */
#ifndef NIB_TESTS_GEN_H
#define NIB_TESTS_GEN_H

#include "base/ctx.h"
#include "quant/codec.h"

#include <stdbool.h>
#include <stdint.h>

/* What differs from family to family. */
typedef struct {
    const char *name;       /* as --arch takes it */
    const char *hf_class;   /* config.json: architectures[0] */
    const char *model_type; /* config.json: model_type */
    double rope_theta, norm_eps;
    bool llama3_rope; /* rope_scaling of type llama3 */
    bool qkv_bias, qk_norm, explicit_head_dim;
    bool moe;   /* a mixture of experts, as Qwen3-MoE has it */
    bool gemma; /* norms as differences from 1, on the branches too; GELU; every other layer has a
                   window of 64                                                             */
    double softcap,
        rope_local; /* of logits, 50/30 of it for scores; base of sliding layers; 0: none
                     */
    /* tokenizer */
    const char *split;  /* Split regex; NULL: GPT-2's splitter inside the ByteLevel step */
    bool nfc;           /* NFC normalizer */
    bool ignore_merges; /* a whole pre-token that is in the vocabulary is taken as it is */
    bool add_bos;       /* post-processor puts BOS in front */
    const char *bos, *eos;
    const char *chat_template; /* NULL: none */
} gen_family;

/* NULL when unknown. */
const gen_family *gen_family_find(const char *name);
/* Names of all families, separated by "|". */
const char *gen_family_names(void);

typedef struct {
    const gen_family *family;
    uint32_t layers, hidden, ff, heads, kv_heads, head_dim, vocab;
    uint32_t experts, experts_used; /* of families with experts, each as wide as ff inside */
    bool tied;
    nib_type dtype;  /* NIB_BF16, NIB_F16 or NIB_F32 */
    uint32_t shards; /* safetensors files */
    uint64_t seed;
    const char *tokenizer; /* folder whose vocabulary and merges are taken over */
} gen_spec;

/* Write the model into `dir`, which is created when missing; files there are overwritten. */
NIB_MUST_USE nib_code gen_model(const gen_spec *spec, const char *dir, const nib_ctx *ctx,
                                nib_err *err);

/* The parts, in the files of the same names. */
NIB_MUST_USE nib_code gen_config_write(const gen_spec *spec, const char *dir, nib_err *err);
NIB_MUST_USE nib_code gen_tokenizer_write(const gen_spec *spec, const char *dir, nib_err *err);
NIB_MUST_USE nib_code gen_weights_write(const gen_spec *spec, const char *dir, const nib_ctx *ctx,
                                        nib_err *err);

/* Ids of BOS and EOS: the two after the ordinary tokens. Beyond them a vocabulary larger than the
 * demonstration model's has rows without a token, as published models do. */
uint32_t gen_bos_id(const gen_spec *spec);
uint32_t gen_eos_id(const gen_spec *spec);

/* dst[n] = mean + std * (bell-shaped, variance 1), numbers first .. first+n-1 of stream `stream`.
 */
void gen_fill(float *dst, size_t n, uint64_t stream, uint64_t first, float mean, float std);

/* Write a text file at dir/name, replacing an old one. */
NIB_MUST_USE nib_code gen_text_write(const char *dir, const char *name, const char *text, size_t n,
                                     nib_err *err);

#endif
