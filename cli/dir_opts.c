/* SPDX-License-Identifier: MIT */
/* cli/dir_opts.c - see dir_opts.h. Tests: tests/cases/commands. */
#include "cli/dir_opts.h"

#include <string.h>

enum { USUAL_GROUP = 128, USUAL_BLOCK = 64, PER_TENSOR = NIB_WIDTH_MAX + 1 };

const char *const nib_folder_formats[] = {
    "gguf", "gptq", "awq", "compressed-tensors", "bitsandbytes", "hqq", "fp8", "safetensors", NULL};
const char *const nib_folder_schemes[] = {
    "w4a16", "w8a16",    "w1a16", "w2a16",    "w3a16",  "w5a16",       "w6a16",
    "w7a16", "w8a8",     "w4a8",  "w4afp8",   "fp8",    "fp8-dynamic", "fp8-block",
    "nvfp4", "nvfp4a16", "mxfp4", "mxfp4a16", "mxfp8",  "mxfp8a16",    "nf4",
    "fp4",   "int8",     "block", "channel",  "tensor", NULL};
const char *const nib_folder_activations[] = {"dynamic", "minmax", "average", "percentile",
                                              "mse",     "kl",     NULL};
const char *const nib_folder_scales[] = {"search", "range", NULL};
const char *const nib_folder_checkpoint_formats[] = {"gptq", "gptq_v2", NULL};

static bool is(const char *value, const char *name)
{
    return value && !strcmp(value, name);
}

static bool group_given(const nib_dir_opts *o)
{
    return o->group_size != UINT64_MAX;
}

static bool has_groups(const nib_dir_opts *o)
{
    return group_given(o) && o->group_size && o->group_size != PER_TENSOR;
}

nib_format nib_dir_opts_kind(const nib_dir_opts *o)
{
    if (is(o->format, "safetensors")) return NIB_FORMAT_PLAIN;
    return nib_dir_opts_folder(o) ? NIB_FORMAT_DIR : NIB_FORMAT_GGUF;
}

bool nib_dir_opts_folder(const nib_dir_opts *o)
{
    return !is(o->format, "gguf");
}

static bool is_packed(const nib_dir_opts *o)
{
    return nib_dir_opts_kind(o) == NIB_FORMAT_DIR;
}

/* ---- floats ---- */

enum { TILE = 128, FBGEMM_MOST = 1200 };

#define E4M3 .bits = 8, .sym = true, .act_sym = true, .code_type = NIB_F8_E4M3
#define E2M1(columns) .bits = 4, .sym = true, .act_sym = true, .group = columns
#define TILES .rows = TILE, .group = TILE

/* Everything about them is said by the scheme; the first of a format is its usual one. */
static const struct {
    const char *format, *scheme;
    nib_packing layout;
} floats[] = {
    {"fp8", "block", {.kind = NIB_PACKING_FP8, E4M3, TILES}},
    {"fp8",
     "channel",
     {.kind = NIB_PACKING_FBGEMM, E4M3, .act = NIB_ACT_TOKEN, .act_most = FBGEMM_MOST}},
    {"fp8", "tensor", {.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true}},
    {"compressed-tensors",
     "fp8",
     {.kind = NIB_PACKING_CT_FP8, E4M3, .per_tensor = true, .act = NIB_ACT_TENSOR}},
    {"compressed-tensors", "fp8-dynamic", {.kind = NIB_PACKING_CT_FP8, E4M3, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "fp8-block",
     {.kind = NIB_PACKING_CT_FP8, E4M3, TILES, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "nvfp4",
     {.kind = NIB_PACKING_CT_NVFP4, E2M1(16), .act = NIB_ACT_TENSOR}},
    {"compressed-tensors", "nvfp4a16", {.kind = NIB_PACKING_CT_NVFP4, E2M1(16)}},
    {"compressed-tensors", "mxfp4", {.kind = NIB_PACKING_CT_MXFP4, E2M1(32), .act = NIB_ACT_TOKEN}},
    {"compressed-tensors", "mxfp4a16", {.kind = NIB_PACKING_CT_MXFP4, E2M1(32)}},
    {"compressed-tensors",
     "mxfp8",
     {.kind = NIB_PACKING_CT_MXFP8, E4M3, .group = 32, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors", "mxfp8a16", {.kind = NIB_PACKING_CT_MXFP8, E4M3, .group = 32}},
};
enum { N_FLOATS = sizeof floats / sizeof *floats };

/* The layout of the scheme, NULL: it is none of floats. */
static const nib_packing *float_layout(const nib_dir_opts *o)
{
    for (size_t i = 0; i < N_FLOATS; i++)
        if (is(o->format, floats[i].format) &&
            (o->scheme ? is(o->scheme, floats[i].scheme) : is(o->format, "fp8")))
            return &floats[i].layout;
    return NULL;
}

static const char *float_wrong(const nib_dir_opts *o)
{
    const nib_packing *f = float_layout(o);
    const bool by_range = f->act == NIB_ACT_TENSOR || f->kind == NIB_PACKING_FP8_TENSOR;
    if (o->bits || group_given(o) || o->asym || o->desc_act)
        return "--bits, --group-size, --asym and --desc-act are for integers: of floats the scheme "
               "says all";
    if ((o->activations || o->ranges) && !by_range)
        return "--activations and --ranges are for schemes whose inputs have one range: fp8, "
               "nvfp4, "
               "w8a8 and, of --format fp8, tensor";
    if (is(o->activations, nib_folder_activations[0]) && f->act == NIB_ACT_TENSOR)
        return "--activations dynamic: inputs of this scheme have one range; scheme fp8-dynamic "
               "has "
               "each token's own";
    if (o->ranges && o->activations) return "--ranges takes the place of --activations";
    return NULL;
}

static nib_packing float_packing(const nib_dir_opts *o)
{
    nib_packing f = *float_layout(o);
    if (o->ranges || nib_dir_opts_measured(o)) f.act = NIB_ACT_TENSOR;
    return f;
}

/* ---- integers ---- */

/* Schemes of integers that round inputs, by ranges of tokens unless w8a8 gets another. */
static const struct {
    const char *scheme;
    nib_packing layout;
} rounded[] = {
    {"w8a8", {.kind = NIB_PACKING_CT_INT, .bits = 8, .act = NIB_ACT_TOKEN}},
    {"w4a8", {.kind = NIB_PACKING_CT_INT, .bits = 4, .group = USUAL_GROUP, .act = NIB_ACT_TOKEN}},
    {"w4afp8",
     {.kind = NIB_PACKING_CT_PACKED,
      .bits = 4,
      .group = USUAL_GROUP,
      .act = NIB_ACT_TOKEN,
      .act_float = true}},
};

/* NULL: another scheme. */
static const nib_packing *rounded_layout(const nib_dir_opts *o)
{
    for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++)
        if (is(o->scheme, rounded[i].scheme)) return &rounded[i].layout;
    return NULL;
}

/* Bits of a scheme wNa16; 0: it is another. */
static unsigned packed_bits(const nib_dir_opts *o)
{
    const char *s = o->scheme;
    return s && s[0] == 'w' && !strcmp(s + 2, "a16") ? (unsigned)(s[1] - '0') : 0;
}

static bool is_bnb_scheme(const nib_dir_opts *o)
{
    return is(o->scheme, "nf4") || is(o->scheme, "fp4") || is(o->scheme, "int8");
}

static const char *bnb_wrong(const nib_dir_opts *o)
{
    if (!is_bnb_scheme(o)) return "--format bitsandbytes needs --type nf4, fp4 or int8";
    if (o->bits || o->asym || o->scales || o->activations || o->ranges || o->desc_act)
        return "--format bitsandbytes takes --scheme and, with nf4 and fp4, --group-size: the rest "
               "is "
               "fixed by its layout";
    if (o->double_quant && is(o->scheme, "int8"))
        return "--double-quant needs --scheme nf4 or fp4: int8 has one scale for a row";
    if (is(o->scheme, "int8") ? group_given(o) : group_given(o) && !has_groups(o))
        return "--group-size: nf4 and fp4 have blocks, int8 whole rows";
    return NULL;
}

const char *nib_dir_opts_wrong(const nib_dir_opts *o)
{
    const bool compressed = is(o->format, "compressed-tensors"),
               bnb = is(o->format, "bitsandbytes");
    const bool any =
        o->scheme || o->bits || group_given(o) || o->asym || o->scales || o->checkpoint_format;
    if (!is_packed(o) && o->desc_act)
        return "--desc-act needs --format gptq: GGUF has no index of columns, and --method gptq "
               "rounds them in order of activation anyway";
    if (compressed && o->desc_act)
        return "--desc-act needs --format gptq: since 2026 compressed-tensors refuses an index of "
               "columns, and --method gptq rounds them in order of activation anyway";
    if (!is_packed(o) && any)
        return "--scheme, --bits, --group-size, --asym, --scales and --checkpoint-format need "
               "--format gptq, awq, compressed-tensors or fp8";
    if (!nib_dir_opts_folder(o) && o->shard_max)
        return "--max-shard-size needs --format gptq, awq, compressed-tensors or safetensors";
    if (is(o->format, "hqq") && o->asym) return "--asym: HQQ folders always have zero points";
    if (o->checkpoint_format && !is(o->format, "gptq"))
        return "--checkpoint-format needs --format gptq";
    if (bnb) return bnb_wrong(o);
    if (o->double_quant) return "--double-quant needs --format bitsandbytes";
    if (float_layout(o)) return float_wrong(o);
    if (is(o->format, "fp8")) return "--format fp8 has --scheme block, channel and tensor";
    if (o->scheme && !compressed)
        return "--scheme needs --format compressed-tensors, fp8 or bitsandbytes";
    if (compressed && !packed_bits(o) && !rounded_layout(o))
        return "--format compressed-tensors needs --scheme w4a16, w8a16, w8a8, w4a8, w4afp8, fp8, "
               "fp8-dynamic, "
               "fp8-block, nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8 or mxfp8a16";
    if (o->kv_scales && !compressed)
        return "--kv-scales needs --format compressed-tensors: no other has a place for them";
    if (o->activations && !is(o->scheme, "w8a8"))
        return "--activations needs --scheme w8a8, fp8, nvfp4 or tensor";
    if (o->ranges && !is(o->scheme, "w8a8"))
        return "--ranges needs --scheme w8a8, fp8, nvfp4 or tensor";
    if (o->ranges && o->activations) return "--ranges takes the place of --activations";
    if (compressed && o->bits) return "--bits is said by --scheme";
    if (o->scales && (o->bits == 8 || is(o->scheme, "w8a16") || is(o->scheme, "w8a8")))
        return "--scales is for less than 8 bits: with 8 the range serves as well";
    if (rounded_layout(o) && !is(o->scheme, "w8a8") && o->asym)
        return "--asym: weights of schemes w4a8 and w4afp8 have no zero points, nor have inputs";
    if (is(o->scheme, "w8a8") && has_groups(o))
        return "--scheme w8a8 has whole rows or, with --group-size tensor, one scale for all: "
               "groups are for others";
    if (!is(o->scheme, "w8a8") && o->group_size == PER_TENSOR)
        return "--group-size tensor needs --scheme w8a8: engines load one scale for a whole "
               "weight only where inputs are rounded too";
    return NULL;
}

const char *nib_dir_opts_measured(const nib_dir_opts *o)
{
    const nib_packing *f = float_layout(o);
    if (f && f->act == NIB_ACT_TENSOR && !o->activations && !o->ranges) return "minmax";
    return is(o->activations, nib_folder_activations[0]) ? NULL : o->activations;
}

nib_int_scales nib_dir_opts_scales(const nib_dir_opts *o)
{
    return is(o->scales, "range") ? NIB_SCALES_RANGE : NIB_SCALES_SQUARE;
}

static nib_packing compressed_layout(const nib_dir_opts *o)
{
    if (rounded_layout(o)) {
        nib_packing f = *rounded_layout(o);
        f.per_tensor = o->group_size == PER_TENSOR;
        if (group_given(o) && !f.per_tensor) f.group = o->group_size;
        if (o->ranges || nib_dir_opts_measured(o)) f.act = NIB_ACT_TENSOR;
        f.sym = true, f.act_sym = !o->asym;
        return f;
    }
    return (nib_packing){.kind = NIB_PACKING_CT_PACKED,
                         .bits = packed_bits(o),
                         .group = group_given(o) ? o->group_size : USUAL_GROUP,
                         .sym = !o->asym};
}

static nib_packing bnb_layout(const nib_dir_opts *o)
{
    if (is(o->scheme, "int8"))
        return (nib_packing){.kind = NIB_PACKING_BNB8, .bits = 8, .sym = true};
    return (nib_packing){.kind = NIB_PACKING_BNB4,
                         .bits = 4,
                         .group = group_given(o) ? o->group_size : USUAL_BLOCK,
                         .sym = true,
                         .fp4 = is(o->scheme, "fp4"),
                         .nested = o->double_quant};
}

nib_packing nib_dir_opts_layout(const nib_dir_opts *o)
{
    if (is(o->format, "bitsandbytes")) return bnb_layout(o);
    if (float_layout(o)) return float_packing(o);
    if (is(o->format, "compressed-tensors")) return compressed_layout(o);
    const bool awq = is(o->format, "awq"), hqq = is(o->format, "hqq");
    return (nib_packing){.kind = awq   ? NIB_PACKING_AWQ
                                 : hqq ? NIB_PACKING_HQQ
                                       : NIB_PACKING_GPTQ,
                         .bits = o->bits ? (unsigned)o->bits : 4,
                         .group = group_given(o) ? o->group_size
                                  : hqq          ? USUAL_BLOCK
                                                 : USUAL_GROUP,
                         .sym = !awq && !hqq && !o->asym,
                         .desc_act = o->desc_act,
                         .v2 = is(o->checkpoint_format, "gptq_v2")};
}
