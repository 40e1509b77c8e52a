/* SPDX-License-Identifier: MIT */
/* formats/packed_float.c - folders of small floats, which are read: two kinds of packed_format.h.
 *
 * "fp8", as DeepSeek and Qwen publish it:
 *   X.weight            F8_E4M3 or F8_E5M2 [out, in]
 *   X.weight_scale_inv  [blocks of rows, blocks of columns]
 *
 * "mxfp4", as gpt-oss has its experts (OCP Microscaling Formats, 2023); X has any dimensions more:
 *   X_blocks  U8 [.., out, in / 32, 16]  two E2M1 to a byte, the first one in the low bits
 *   X_scales  U8 [.., out, in / 32]      E8M0
 *
 * A value is its scale times the float that its code is. Layers that are left as they were have no
 * scales, whatever the configuration lists. Tests: tests/run/test_arch_golden.c. */
#include "formats/packed_format_impl.h"
#include "quant/codec.h"

#include <math.h>
#include <string.h>

/* ---- fp8 ---- */

static const char *const fp8_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".weight", [NIB_PART_SCALES] = ".weight_scale_inv"};

static nib_type fp8_scale_type(nib_type weight)
{
    (void)weight;
    return NIB_F32;
}

static nib_code fp8_make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    (void)err;
    nib_packing_add(l, NIB_PART_CODES, f->code_type, 2, l->out, l->in);
    nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, (l->out + f->rows - 1) / f->rows,
                    l->groups);
    return NIB_OK;
}

static bool fp8_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *out = shape[0];
    *in = shape[1];
    return true;
}

static nib_code fp8_read(nib_packing_rows *r, const nib_packed_parts *l,
                         const nib_packing_from *from, size_t row, nib_err *err)
{
    const size_t each = (size_t)l->format.rows, groups = (size_t)l->groups, first = row / each;
    const nib_codec *c = nib_codec_get(l->format.scale_type);
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->code, err);
    if (!rc)
        rc = nib_packing_lines(from, l, NIB_PART_SCALES, first, (row + r->n - 1) / each - first + 1,
                               r->bytes, err);
    for (size_t i = 0; i < r->n && !rc; i++)
        c->decode(r->scale + i * groups, r->bytes + ((row + i) / each - first) * groups * c->bytes,
                  groups, 0);
    return rc;
}

/* Columns of a group times its scale. */
static void scale_groups(float *x, const nib_packed_parts *l, const nib_packing_rows *r)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, group = (size_t)l->group;
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < in; k++) x[i * in + k] *= r->scale[i * groups + k / group];
}

static void fp8_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    nib_codec_get(l->format.code_type)->decode(dst, r->code, r->n * (size_t)l->in, 0);
    scale_groups(dst, l, r);
}

static bool fp8_levels(float *level, const nib_packed_parts *l)
{
    uint8_t code[256];
    for (int i = 0; i < 256; i++) code[i] = (uint8_t)i;
    nib_codec_get(l->format.code_type)->decode(level, code, sizeof code, 0);
    return true;
}

static nib_code fp8_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const char *fmt = "e4m3", *scheme = "dynamic";
    const nib_json *j = nib_json_get(config, "weight_block_size"), *side = nib_json_first(j);
    nib_packing f = {.kind = NIB_PACKING_FP8, .bits = 8, .sym = true, .scale_type = NIB_F32};
    if (!nib_json_is_array(j) || nib_json_count(j) != 2 || !nib_json_u64(side, &f.rows) ||
        !nib_json_u64(nib_json_next(side), &f.group) || !f.rows || !f.group ||
        f.rows > NIB_PACKING_COLS_MAX || f.group > NIB_PACKING_COLS_MAX)
        return nib_fail(err, NIB_EFORMAT,
                        "'weight_block_size' should be the rows and columns of a block; scales of "
                        "whole rows or tensors are not supported");
    nib_json_str(nib_json_get(config, "fmt"), &fmt);
    nib_json_str(nib_json_get(config, "activation_scheme"), &scheme);
    if (strcmp(scheme, "dynamic"))
        return nib_fail(err, NIB_EFORMAT, "'activation_scheme' is '%.60s'; nibble reads dynamic",
                        scheme);
    if (strcmp(fmt, "e4m3") && strcmp(fmt, "e5m2"))
        return nib_fail(err, NIB_EFORMAT, "'fmt' is '%.60s'; nibble reads e4m3 and e5m2", fmt);
    f.code_type = strcmp(fmt, "e5m2") ? NIB_F8_E4M3 : NIB_F8_E5M2;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

const nib_packing_ops nib_packing_fp8 = {
    .method = "fp8",
    .suffix = fp8_suffix,
    .bits = (const unsigned char[]){8, 0},
    .scale_type = fp8_scale_type,
    .make = fp8_make,
    .measure = fp8_measure,
    .read = fp8_read,
    .decode = fp8_decode,
    .levels = fp8_levels,
    .config_read = fp8_config_read,
};

/* ---- mxfp4 ---- */

enum { MX_GROUP = 32, MX_BIAS = 127 };

static const char *const mx_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = "_blocks", [NIB_PART_SCALES] = "_scales"};

static nib_type mx_scale_type(nib_type weight)
{
    (void)weight;
    return NIB_U8;
}

static nib_code mx_make(nib_packed_parts *l, nib_err *err)
{
    if (l->in % MX_GROUP)
        return nib_fail(err, NIB_EINVAL, "rows of %llu weights are no multiple of %d",
                        (unsigned long long)l->in, MX_GROUP);
    nib_packing_add(l, NIB_PART_CODES, NIB_U8, 2, l->out, l->in / 2);
    nib_packing_add(l, NIB_PART_SCALES, NIB_U8, 2, l->out, l->groups);
    return NIB_OK;
}

static bool mx_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *out = shape[0];
    return !__builtin_mul_overflow(shape[1], (uint64_t)2, in);
}

static nib_code mx_read(nib_packing_rows *r, const nib_packed_parts *l,
                        const nib_packing_from *from, size_t row, nib_err *err)
{
    const size_t n = r->n * (size_t)l->in / 2, n_scales = r->n * (size_t)l->groups;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->bytes, err);
    for (size_t i = 0; i < n && !rc; i++) {
        r->code[2 * i] = r->bytes[i] & 15;
        r->code[2 * i + 1] = r->bytes[i] >> 4;
    }
    if (!rc) rc = nib_packing_lines(from, l, NIB_PART_SCALES, row, r->n, r->bytes, err);
    for (size_t i = 0; i < n_scales && !rc; i++)
        r->scale[i] = r->bytes[i] == 255 ? NAN : ldexpf(1, r->bytes[i] - MX_BIAS);
    return rc;
}

static void mx_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    for (size_t i = 0; i < r->n * l->in; i++) dst[i] = nib_e2m1_values[r->code[i]];
    scale_groups(dst, l, r);
}

static bool mx_levels(float *level, const nib_packed_parts *l)
{
    (void)l;
    for (int code = 0; code < 16; code++) level[code] = nib_e2m1_values[code];
    return true;
}

static nib_code mx_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const nib_packing f = {
        .kind = NIB_PACKING_MXFP4, .bits = 4, .sym = true, .group = MX_GROUP, .scale_type = NIB_U8};
    (void)config;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

const nib_packing_ops nib_packing_mxfp4 = {
    .method = "mxfp4",
    .suffix = mx_suffix,
    .weight_suffix = "",
    .tail = {[NIB_PART_CODES] = 2, [NIB_PART_SCALES] = 1},
    .bits = (const unsigned char[]){4, 0},
    .scale_type = mx_scale_type,
    .make = mx_make,
    .measure = mx_measure,
    .read = mx_read,
    .decode = mx_decode,
    .levels = mx_levels,
    .config_read = mx_config_read,
};
