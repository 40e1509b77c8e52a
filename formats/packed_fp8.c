/* SPDX-License-Identifier: MIT */
/* formats/packed_fp8.c - folders of 8-bit floats: kinds of packed_format.h. A value is its scale
 * times the float that its code is.
 *
 * "fp8", as DeepSeek and Qwen publish it, a scale for a tile of rows and columns, mostly 128 x 128:
 *   X.weight            F8_E4M3 [out, in]; F8_E5M2 is read, too
 *   X.weight_scale_inv  [tiles of rows, tiles of columns]; a factor, whatever its name says.
 *                       F32 is written; BF16, F16 and powers of two as E8M0 or U8 are read
 * and where a tensor is of all experts, as Qwen3-VL was published, its sides whole tiles, which is
 * read; X ends in "gate_up_proj" or "down_proj", and may have rows and columns in turned places:
 *   X                   F8_E4M3 [experts, out, in]
 *   X_scale_inv         [experts, tiles of rows, tiles of columns]
 * "fp8" without tiles, as Transformers has it and Mistral publishes it, one scale for a weight:
 *   X.weight            F8_E4M3 [out, in]
 *   X.weight_scale_inv  F32 []; BF16 and F16 are read, too
 *   X.activation_scale  F32 []    unless each token has its own
 * and with the names that vLLM's FP8 layers have, which is read:
 *   X.weight_scale, X.input_scale   [] or [1]
 * "fbgemm_fp8", as Llama 3.1 was published, a scale for a row:
 *   X.weight            F8_E4M3 [out, in]
 *   X.weight_scale      F32 [out, 1]
 * compressed-tensors, float-quantized:
 *   X.weight            F8_E4M3 [out, in]
 *   X.weight_scale      in the model's dtype: [1], [out, 1], or [tiles of rows, tiles of columns]
 *   X.input_scale       [1]       unless inputs have scales of their own
 * compressed-tensors, mxfp8-quantized:
 *   X.weight            F8_E4M3 [out, in]
 *   X.weight_scale      U8 [out, in / 32]    E8M0: a power of two, 127 more
 *
 * Inputs are rounded to E4M3 too, by a range, or each token by its own; with tiles and in
 * groups, each as many channels of it as these have. Only of "fp8" with "activation_scheme":
 * "dynamic" they stay: there it is the engine's kernels that round, by 128 channels of a token, not
 * all of them do, and without a graphics card Transformers multiplies the decoded weights with
 * inputs as they are. Layers that are left as they were have no scales, whatever the configuration
 * lists. Tests: tests/formats/test_packed_float.c, tests/run/test_arch_golden.c. */
#include "formats/packed_ct.h"
#include "quant/codec_float.h"

#include <math.h>
#include <string.h>

static const char *const inverse_suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".weight",
                                                           [NIB_PART_SCALES] = ".weight_scale_inv",
                                                           [NIB_PART_INPUT_SCALE] =
                                                               ".activation_scale"};
static const char *const suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".weight",
                                                   [NIB_PART_SCALES] = ".weight_scale",
                                                   [NIB_PART_INPUT_SCALE] = ".input_scale"};

static const char *const stack_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = "", [NIB_PART_SCALES] = "_scale_inv"};

static nib_type f32_scales(nib_type weight)
{
    (void)weight;
    return NIB_F32;
}

static uint64_t bands(const nib_packed_parts *l)
{
    return (l->out + l->format.rows - 1) / l->format.rows;
}

static nib_code make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    const int one = f->kind == NIB_PACKING_FP8_TENSOR ? 0 : 1; /* dimensions of a single number */
    if (f->bits != 8 || !f->sym || f->desc_act || (f->group && !f->rows))
        return nib_fail(err, NIB_EINVAL, "folders of 8-bit floats have no groups of columns");
    nib_packing_add(l, NIB_PART_CODES, f->code_type, 2, l->out, l->in);
    if (f->rows)
        nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, bands(l), l->groups);
    else if (f->per_tensor)
        nib_packing_add(l, NIB_PART_SCALES, f->scale_type, one, 1, 1);
    else
        nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, l->out, 1);
    if (f->act == NIB_ACT_TENSOR)
        nib_packing_add(l, NIB_PART_INPUT_SCALE, f->scale_type, one, 1, 1);
    return NIB_OK;
}

static nib_code make_mx(nib_packed_parts *l, nib_err *err)
{
    nib_code rc = nib_packing_check_groups(l, NIB_MX_GROUP, err);
    if (rc) return rc;
    nib_packing_add(l, NIB_PART_CODES, l->format.code_type, 2, l->out, l->in);
    nib_packing_add(l, NIB_PART_SCALES, l->format.scale_type, 2, l->out, l->groups);
    return NIB_OK;
}

static bool measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *out = shape[0];
    *in = shape[1];
    return true;
}

static void grid_of(nib_int_codec *c, const nib_packed_parts *l)
{
    const nib_packing *f = &l->format;
    nib_fp8_codec(c, (size_t)l->in,
                  f->per_tensor ? 0
                  : f->rows     ? (size_t)f->rows
                                : 1,
                  (size_t)l->group);
    c->codec.type = f->code_type;
}

static void mx_grid_of(nib_int_codec *c, const nib_packed_parts *l)
{
    (void)l;
    nib_mxfp8_codec(c);
}

/* ---- reading ---- */

/* The row of scales that a row of the weight has. */
static size_t scale_row(const nib_packed_parts *l, size_t row)
{
    return l->format.per_tensor ? 0 : l->format.rows ? row / (size_t)l->format.rows : row;
}

static nib_code read_rows(nib_packing_rows *r, const nib_packed_parts *l,
                          const nib_packing_from *from, size_t row, nib_err *err)
{
    const size_t groups = (size_t)l->groups, first = scale_row(l, row),
                 n = scale_row(l, row + r->n - 1) - first + 1,
                 bytes = nib_codec_get(l->format.scale_type)->bytes;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->code, err);
    if (!rc) rc = nib_packing_lines(from, l, NIB_PART_SCALES, first, n, r->bytes, err);
    for (size_t i = 0; i < r->n && !rc; i++)
        nib_get_scales(r->scale + i * groups,
                       r->bytes + (scale_row(l, row + i) - first) * groups * bytes,
                       l->format.scale_type, groups);
    return rc;
}

static void decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    nib_codec_get(l->format.code_type)->decode(dst, r->code, r->n * (size_t)l->in, 0);
    nib_scale_groups(dst, l, r);
}

static bool levels(float *level, const nib_packed_parts *l)
{
    uint8_t code[256];
    for (int i = 0; i < 256; i++) code[i] = (uint8_t)i;
    nib_codec_get(l->format.code_type)->decode(level, code, sizeof code, 0);
    return true;
}

/* ---- writing ---- */

/* First row of the tile that a row is in. */
static size_t tile_top(const nib_packed_parts *l, size_t row)
{
    const size_t rows = (size_t)l->format.rows;
    return l->format.per_tensor ? 0 : rows ? row - row % rows : row;
}

/* The scale of each tile; all its blocks should have it. */
static nib_code pack_scales(uint8_t *dst, const nib_packed_parts *l, const nib_block_param *p,
                            nib_err *err)
{
    const size_t block = nib_packing_codec(l).codec.block, blocks = (size_t)l->in / block,
                 tile = (size_t)l->group / block;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < l->out * blocks && !rc; i++) {
        const size_t row = i / blocks, b = i % blocks, first = b - b % tile, top = tile_top(l, row);
        const float d = p[top * blocks + first].d;
        if (row == top && b == first)
            rc = nib_pack_scale(dst, l, scale_row(l, row) * l->groups + b / tile, d, row, err);
        else if (p[i].d != d)
            rc = nib_fail(err, NIB_EINVAL, "row %zu has the scale %g, its tile %g", row,
                          (double)p[i].d, (double)d);
    }
    return rc;
}

static void pack_codes(uint8_t *dst, const nib_packed_parts *l, const uint8_t *code)
{
    uint8_t *to = nib_packing_at(dst, l, NIB_PART_CODES);
    for (size_t i = 0; i < l->out * l->in; i++) to[i] = nib_small_code(&nib_e4m3, code[i], 7);
}

static nib_code pack_mx(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                        nib_err *err)
{
    uint8_t *scales = nib_packing_at(dst, l, NIB_PART_SCALES);
    (void)err;
    pack_codes(dst, l, v->code);
    for (size_t i = 0; i < l->out * l->groups; i++) scales[i] = (uint8_t)v->param[i].sc[0];
    return NIB_OK;
}

static nib_code pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err)
{
    pack_codes(dst, l, v->code);
    nib_code rc = pack_scales(dst, l, v->param, err);
    return rc ? rc : nib_pack_input_range(dst, l, v->act, err);
}

/* ---- the configurations ---- */

static nib_code read_tile(nib_packing *f, const nib_json *j, nib_err *err)
{
    const nib_json *side = nib_json_first(j);
    if (!nib_json_is_array(j) || nib_json_count(j) != 2 || !nib_json_u64(side, &f->rows) ||
        !nib_json_u64(nib_json_next(side), &f->group) || !f->rows || !f->group ||
        f->rows > NIB_PACKING_COLS_MAX || f->group > NIB_PACKING_COLS_MAX)
        return nib_fail(err, NIB_EFORMAT,
                        "'weight_block_size' should be the rows and columns of a tile");
    return NIB_OK;
}

static nib_code fp8_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const char *fmt = "e4m3", *scheme = "dynamic";
    const nib_json *tile = nib_json_get(config, "weight_block_size");
    nib_packing f = {.kind = NIB_PACKING_FP8, .bits = 8, .sym = true, .scale_type = NIB_F32};
    nib_json_str(nib_json_get(config, "fmt"), &fmt);
    nib_json_str(nib_json_get(config, "activation_scheme"), &scheme);
    const bool fixed = !strcmp(scheme, "static");
    if (tile && !nib_json_is_null(tile)) {
        nib_code rc = read_tile(&f, tile, err);
        if (rc) return rc;
    } else {
        f.kind = NIB_PACKING_FP8_TENSOR;
        f.per_tensor = true;
    }
    if (strcmp(scheme, "dynamic") && (!fixed || f.rows))
        return nib_fail(err, NIB_EFORMAT,
                        "'activation_scheme' is '%.60s'; nibble reads dynamic and, without tiles, "
                        "static",
                        scheme);
    if (strcmp(fmt, "e4m3") && strcmp(fmt, "e5m2"))
        return nib_fail(err, NIB_EFORMAT, "'fmt' is '%.60s'; nibble reads e4m3 and e5m2", fmt);
    f.code_type = strcmp(fmt, "e5m2") ? NIB_F8_E4M3 : NIB_F8_E5M2;
    f.act = fixed ? NIB_ACT_TENSOR : NIB_ACT_NONE;
    f.act_sym = true;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

static bool fp8_config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    bool ok = nib_json_add_str(config, "activation_scheme",
                               f->act == NIB_ACT_TENSOR ? "static" : "dynamic") &&
              nib_json_add_str(config, "fmt", "e4m3") &&
              nib_config_unpacked(config, "modules_to_not_convert", note, false);
    if (!f->rows) /* Transformers takes what is not said for tiles of 128 */
        return ok && nib_json_add_null(config, "weight_block_size") &&
               nib_config_unpacked(config, "ignored_layers", note, false);
    nib_json *tile = ok ? nib_json_add_array(config, "weight_block_size") : NULL;
    return tile && nib_json_add_num(tile, NULL, (double)f->rows) &&
           nib_json_add_num(tile, NULL, (double)f->group);
}

enum { FBGEMM_BOUND = 1200 }; /* as it was published, and where the configuration says nothing */

static nib_code fbgemm_config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    double bound = FBGEMM_BOUND;
    nib_packing f = {.kind = NIB_PACKING_FBGEMM,
                     .bits = 8,
                     .sym = true,
                     .scale_type = NIB_F32,
                     .code_type = NIB_F8_E4M3,
                     .act = NIB_ACT_TOKEN,
                     .act_sym = true};
    const nib_json *j = nib_json_get(config, "activation_scale_ub");
    if (j && (!nib_json_num(j, &bound) || !(bound > 0)))
        return nib_fail(err, NIB_EFORMAT, "'activation_scale_ub' is no positive number");
    f.act_most = (float)bound;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

static bool fbgemm_config_write(nib_json *config, const nib_packing *f,
                                const nib_packing_note *note)
{
    return nib_json_add_real(config, "activation_scale_ub", f->act_most) &&
           nib_config_unpacked(config, "modules_to_not_convert", note, false);
}

#define E4M3_OPS                                                                                   \
    .bits = (const unsigned char[]){8, 0}, .measure = measure, .floats = true, .read = read_rows,  \
    .decode = decode, .levels = levels,                                                            \
    .uniform = "in a folder of 8-bit floats all layers are packed alike"
#define FP8_OPS E4M3_OPS, .make = make, .grid_of = grid_of, .act = NIB_ACT_FP8, .pack = pack

const nib_packing_ops nib_packing_fp8 = {.method = "fp8",
                                         .suffix = inverse_suffix,
                                         .scale_type = f32_scales,
                                         .config_read = fp8_config_read,
                                         .config_write = fp8_config_write,
                                         FP8_OPS};
const nib_packing_ops nib_packing_fp8_stack = {
    .method = "fp8",
    .suffix = stack_suffix,
    .weight_suffix = "",
    .tail = {[NIB_PART_CODES] = 1, [NIB_PART_SCALES] = 1},
    .scale_type = f32_scales,
    .config_read = fp8_config_read,
    FP8_OPS};
const nib_packing_ops nib_packing_fp8_tensor = {.method = "fp8",
                                                .suffix = inverse_suffix,
                                                .scale_type = f32_scales,
                                                .config_read = fp8_config_read,
                                                .config_write = fp8_config_write,
                                                FP8_OPS};
const nib_packing_ops nib_packing_fp8_vllm = {.method = "fp8",
                                              .suffix = suffix,
                                              .scale_type = f32_scales,
                                              .config_read = fp8_config_read,
                                              .config_write = fp8_config_write,
                                              FP8_OPS};
const nib_packing_ops nib_packing_fbgemm = {.method = "fbgemm_fp8",
                                            .suffix = suffix,
                                            .scale_type = f32_scales,
                                            .config_read = fbgemm_config_read,
                                            .config_write = fbgemm_config_write,
                                            FP8_OPS};
const nib_packing_ops nib_packing_ct_fp8 = {.method = "compressed-tensors",
                                            .grid = NIB_GRID_CT,
                                            .suffix = suffix,
                                            .scale_type = nib_ct_scale_type,
                                            .config_read = nib_ct_config_read,
                                            .config_write = nib_ct_config_write,
                                            FP8_OPS};
const nib_packing_ops nib_packing_ct_mxfp8 = {.method = "compressed-tensors",
                                              .suffix = suffix,
                                              .scale_type = nib_packing_exponents,
                                              .config_read = nib_ct_config_read,
                                              .config_write = nib_ct_config_write,
                                              .make = make_mx,
                                              .grid_of = mx_grid_of,
                                              .act = NIB_ACT_MXFP8,
                                              .pack = pack_mx,
                                              E4M3_OPS};
