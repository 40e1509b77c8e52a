/* SPDX-License-Identifier: MIT */
/* formats/packed_fp4.c - folders of 4-bit floats (E2M1): kinds of packed_format.h. Two codes are in
 * a byte, the first one in the low bits.
 *
 * "mxfp4", as gpt-oss has its experts (OCP Microscaling Formats, 2023), which is read; X has any
 * dimensions more:
 *   X_blocks              U8 [.., out, in / 32, 16]
 *   X_scales              U8 [.., out, in / 32]      E8M0: a power of two, 127 more
 * compressed-tensors, mxfp4-pack-quantized:
 *   X.weight_packed       U8 [out, in / 2]
 *   X.weight_scale        U8 [out, in / 32]          E8M0
 * compressed-tensors, nvfp4-pack-quantized:
 *   X.weight_packed       U8 [out, in / 2]
 *   X.weight_scale        F8_E4M3 [out, in / 16]
 *   X.weight_global_scale F32 [1]                    value = float * (scale / global scale)
 *   X.input_global_scale  F32 [1]                    unless inputs are not rounded
 *
 * Tests: tests/formats/test_packed_float.c, tests/run/test_arch_golden.c. */
#include "formats/packed_ct.h"
#include "quant/codec_float.h"

#include <math.h>

static const char *const oss_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = "_blocks", [NIB_PART_SCALES] = "_scales"};
static const char *const mx_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".weight_packed", [NIB_PART_SCALES] = ".weight_scale"};
static const char *const nv_suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".weight_packed",
                                                      [NIB_PART_SCALES] = ".weight_scale",
                                                      [NIB_PART_GLOBAL] = ".weight_global_scale",
                                                      [NIB_PART_INPUT_SCALE] =
                                                          ".input_global_scale"};

static nib_type e4m3_scales(nib_type weight)
{
    (void)weight;
    return NIB_F8_E4M3;
}

static bool is_nv(const nib_packed_parts *l)
{
    return l->format.kind == NIB_PACKING_CT_NVFP4;
}

static nib_code make(nib_packed_parts *l, nib_err *err)
{
    nib_code rc = nib_packing_check_groups(l, is_nv(l) ? NIB_NVFP4_GROUP : NIB_MX_GROUP, err);
    if (rc) return rc;
    nib_packing_add(l, NIB_PART_CODES, NIB_U8, 2, l->out, l->in / 2);
    nib_packing_add(l, NIB_PART_SCALES, l->format.scale_type, 2, l->out, l->groups);
    if (is_nv(l)) nib_packing_add(l, NIB_PART_GLOBAL, NIB_F32, 1, 1, 1);
    if (l->format.act == NIB_ACT_TENSOR) nib_packing_add(l, NIB_PART_INPUT_SCALE, NIB_F32, 1, 1, 1);
    return NIB_OK;
}

static bool measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *out = shape[0];
    return !__builtin_mul_overflow(shape[1], (uint64_t)2, in);
}

static nib_code read_rows(nib_packing_rows *r, const nib_packed_parts *l,
                          const nib_packing_from *from, size_t row, nib_err *err)
{
    const size_t n = r->n * (size_t)l->in / 2, n_scales = r->n * (size_t)l->groups;
    uint8_t raw[4] = {0};
    float global = 1;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->bytes, err);
    for (size_t i = 0; i < n && !rc; i++) {
        r->code[2 * i] = r->bytes[i] & 15;
        r->code[2 * i + 1] = r->bytes[i] >> 4;
    }
    if (!rc) rc = nib_packing_lines(from, l, NIB_PART_SCALES, row, r->n, r->bytes, err);
    if (!rc && is_nv(l)) rc = nib_packing_lines(from, l, NIB_PART_GLOBAL, 0, 1, raw, err);
    if (rc) return rc;
    if (is_nv(l)) nib_get_scales(&global, raw, NIB_F32, 1);
    nib_get_scales(r->scale, r->bytes, l->format.scale_type, n_scales);
    for (size_t i = 0; i < n_scales && is_nv(l); i++) r->scale[i] /= global;
    return NIB_OK;
}

static void decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    for (size_t i = 0; i < r->n * l->in; i++) dst[i] = nib_e2m1_values[r->code[i]];
    nib_scale_groups(dst, l, r);
}

static bool levels(float *level, const nib_packed_parts *l)
{
    (void)l;
    for (int code = 0; code < 16; code++) level[code] = nib_e2m1_values[code];
    return true;
}

static void grid_of(nib_int_codec *c, const nib_packed_parts *l)
{
    if (is_nv(l))
        nib_nvfp4_codec(c);
    else
        nib_mxfp4_codec(c);
}

static nib_code pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err)
{
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES);
    uint8_t *scales = nib_packing_at(dst, l, NIB_PART_SCALES);
    for (size_t i = 0; i < l->out * l->in; i++)
        codes[i / 2] |= (uint8_t)(nib_small_code(&nib_e2m1, v->code[i], 3) << i % 2 * 4);
    for (size_t i = 0; i < l->out * l->groups; i++) scales[i] = (uint8_t)v->param[i].sc[0];
    if (!is_nv(l)) return NIB_OK;
    for (size_t i = 1; i < l->out * l->groups; i++)
        if (v->param[i].d != v->param->d)
            return nib_fail(err, NIB_EINVAL, "group %zu has the global scale %g, the tensor %g", i,
                            (double)v->param[i].d, (double)v->param->d);
    if (!nib_put_scale(nib_packing_at(dst, l, NIB_PART_GLOBAL), NIB_F32, 0, v->param->d))
        return nib_fail(err, NIB_ENUMERIC, "the global scale is not finite");
    return nib_pack_input_range(dst, l, v->act, err);
}

/* ---- gpt-oss ---- */

static nib_code oss_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const nib_packing f = {.kind = NIB_PACKING_MXFP4,
                           .bits = 4,
                           .sym = true,
                           .group = NIB_MX_GROUP,
                           .scale_type = NIB_U8};
    (void)config;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

#define FP4_OPS                                                                                    \
    .bits = (const unsigned char[]){4, 0}, .make = make, .measure = measure, .grid_of = grid_of,   \
    .read = read_rows, .decode = decode, .levels = levels, .floats = true,                         \
    .uniform = "in a folder of 4-bit floats all layers are packed alike"

const nib_packing_ops nib_packing_mxfp4 = {
    .method = "mxfp4",
    .suffix = oss_suffix,
    .weight_suffix = "",
    .tail = {[NIB_PART_CODES] = 2, [NIB_PART_SCALES] = 1},
    .scale_type = nib_packing_exponents,
    .config_read = oss_config_read,
    FP4_OPS,
};
const nib_packing_ops nib_packing_ct_mxfp4 = {
    .method = "compressed-tensors",
    .suffix = mx_suffix,
    .scale_type = nib_packing_exponents,
    .act = NIB_ACT_MXFP4,
    .pack = pack,
    .config_read = nib_ct_config_read,
    .config_write = nib_ct_config_write,
    FP4_OPS,
};
const nib_packing_ops nib_packing_ct_nvfp4 = {
    .method = "compressed-tensors",
    .suffix = nv_suffix,
    .scale_type = e4m3_scales,
    .act = NIB_ACT_NVFP4,
    .pack = pack,
    .config_read = nib_ct_config_read,
    .config_write = nib_ct_config_write,
    FP4_OPS,
};
