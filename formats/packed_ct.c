/* SPDX-License-Identifier: MIT */
/* formats/packed_ct.c - compressed-tensors folders (llm-compressor) of integers: two kinds of
 * packed_format.h.
 *
 * pack-quantized, weights only, or inputs in 8-bit floats, of each token by its own range:
 *   X.weight_packed      I32 [out, in*b/32]     codes, each row a stream of b-bit fields
 *   X.weight_scale           [out, groups]      in the model's dtype
 *   X.weight_shape       I64 [2]                out, in
 *   X.weight_zero_point  I32 [out*b/32, groups] unless symmetric: each column a stream
 *   X.weight_g_idx       I32 [in]               with actorder "group"
 *
 * int-quantized, with 8-bit inputs:
 *   X.weight             I8  [out, in]          codes of b bits
 *   X.weight_scale           [out, groups]      or [1], one for all rows
 *   X.input_scale            [1]                unless the range is each token's own
 *   X.input_zero_point   I8  [1]                unless symmetric
 *
 * Zero points of 0 may be there all the same where it is symmetric, and then say nothing.
 *
 * Codes and zero points are signed, and packed after 2^(b-1) is added, as a stream that crosses
 * words. Before 2026 the library put floor(32 / b) codes into a word where b does not divide 32;
 * such a folder is refused by the shape of its codes. `bits` below are those that engines have
 * kernels for. */
#include "formats/packed_ct.h"

nib_type nib_ct_scale_type(nib_type weight)
{
    return weight == NIB_F16 || weight == NIB_BF16 ? weight : NIB_F32;
}

static nib_code refuse(nib_err *err, const char *what)
{
    return nib_fail(err, NIB_EINVAL, "compressed-tensors folders hold %s", what);
}

/* ---- pack-quantized ---- */

static const char *const packed_suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".weight_packed",
                                                          [NIB_PART_SCALES] = ".weight_scale",
                                                          [NIB_PART_ZEROS] = ".weight_zero_point",
                                                          [NIB_PART_G_IDX] = ".weight_g_idx",
                                                          [NIB_PART_SHAPE] = ".weight_shape"};

/* Words of n fields. */
static uint64_t words_of(uint64_t n, unsigned bits)
{
    return (n * bits + 31) / 32;
}

static nib_code packed_make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    if (f->per_tensor) return refuse(err, "one scale for a whole weight in int-quantized only");
    if (f->bits < 1 || f->bits > 8)
        return refuse(err, "weights of 1 to 8 bits, if they are packed");
    if (f->desc_act && !f->group)
        return refuse(err, "an order of columns only where they have groups");
    if (l->in % l->group) return refuse(err, "whole groups only");
    nib_packing_add(l, NIB_PART_CODES, NIB_I32, 2, l->out, words_of(l->in, f->bits));
    nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, l->out, l->groups);
    nib_packing_add(l, NIB_PART_SHAPE, NIB_I64, 1, 2, 1);
    if (!f->sym)
        nib_packing_add(l, NIB_PART_ZEROS, NIB_I32, 2, words_of(l->out, f->bits), l->groups);
    if (f->desc_act) nib_packing_add(l, NIB_PART_G_IDX, NIB_I32, 1, l->in, 1);
    return NIB_OK;
}

static bool packed_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out,
                           uint64_t *in)
{
    *out = shape[0];
    if (__builtin_mul_overflow(shape[1], (uint64_t)32, in)) return false;
    *in /= f->bits;
    return true;
}

static nib_code pack_params(uint8_t *dst, const nib_packed_parts *l, const nib_block_param *param,
                            nib_err *err)
{
    const unsigned bits = l->format.bits;
    const size_t groups = (size_t)l->groups;
    const int32_t middle = 1 << (bits - 1), low = l->format.sym ? middle : 0,
                  high = l->format.sym ? middle : (1 << bits) - 1;
    nib_code rc = NIB_OK;
    for (size_t r = 0; r < l->out && !rc; r++)
        for (size_t g = 0; g < groups && !rc; g++) {
            const nib_block_param *p = &param[r * groups + g];
            rc = nib_pack_scale(dst, l, r * groups + g, p->d, r, err);
            if (!rc) rc = nib_check_zero((int32_t)p->zero, low, high, r, err);
            if (!rc && !l->format.sym)
                nib_put_field(nib_packing_at(dst, l, NIB_PART_ZEROS) + g * 4, groups, r, bits,
                              (uint32_t)p->zero);
        }
    return rc;
}

static nib_code packed_pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                            nib_err *err)
{
    const size_t in = (size_t)l->in, row_bytes = (size_t)words_of(in, l->format.bits) * 4;
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES),
            *shape = nib_packing_at(dst, l, NIB_PART_SHAPE);
    for (size_t r = 0; r < l->out; r++)
        for (size_t k = 0; k < in; k++)
            nib_put_field(codes + r * row_bytes, 1, k, l->format.bits, v->code[r * in + k]);
    nib_put_uint(shape, 8, l->out);
    nib_put_uint(shape + 8, 8, l->in);
    if (l->format.desc_act) nib_pack_g_idx(dst, l, v->outer);
    return pack_params(dst, l, v->param, err);
}

/* Scales of both kinds. */
static nib_code read_scales(nib_packing_rows *r, const nib_packed_parts *l,
                            const nib_packing_from *from, size_t row, nib_err *err)
{
    const bool one = l->format.per_tensor;
    nib_code rc =
        nib_packing_lines(from, l, NIB_PART_SCALES, one ? 0 : row, one ? 1 : r->n, r->bytes, err);
    if (rc) return rc;
    nib_codec_get(l->format.scale_type)
        ->decode(r->scale, r->bytes, one ? 1 : r->n * (size_t)l->groups, 0);
    for (size_t i = 1; i < r->n && one; i++) r->scale[i] = r->scale[0];
    return NIB_OK;
}

static void fill_zeros(nib_packing_rows *r, const nib_packed_parts *l)
{
    const int32_t middle = 1 << (l->format.bits - 1);
    for (size_t i = 0; i < r->n * l->groups; i++) r->zero[i] = middle;
}

static nib_code read_zeros(nib_packing_rows *r, const nib_packed_parts *l,
                           const nib_packing_from *from, size_t row, nib_err *err)
{
    const unsigned bits = l->format.bits;
    const size_t groups = (size_t)l->groups, first = row * bits / 32,
                 words = (size_t)words_of(row + r->n, bits) - first;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_ZEROS, first, words, r->bytes, err);
    if (rc) return rc;
    for (size_t i = 0; i < r->n; i++)
        for (size_t g = 0; g < groups; g++)
            r->zero[i * groups + g] = (int32_t)nib_get_bits(r->bytes + g * 4, groups,
                                                            (row + i) * bits - first * 32, bits);
    return NIB_OK;
}

static nib_code packed_read(nib_packing_rows *r, const nib_packed_parts *l,
                            const nib_packing_from *from, size_t row, nib_err *err)
{
    const size_t in = (size_t)l->in, row_bytes = (size_t)words_of(in, l->format.bits) * 4;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->bytes, err);
    if (rc) return rc;
    for (size_t i = 0; i < r->n; i++)
        nib_get_fields(r->code + i * in, in, r->bytes + i * row_bytes, 1, l->format.bits);
    if (l->format.sym)
        fill_zeros(r, l);
    else if ((rc = read_zeros(r, l, from, row, err)))
        return rc;
    return read_scales(r, l, from, row, err);
}

const nib_packing_ops nib_packing_ct_packed = {
    .method = "compressed-tensors",
    .grid = NIB_GRID_CT,
    .suffix = packed_suffix,
    .bits = (const unsigned char[]){4, 8, 0},
    .scale_type = nib_ct_scale_type,
    .make = packed_make,
    .measure = packed_measure,
    .pack = packed_pack,
    .read = packed_read,
    .config_read = nib_ct_config_read,
    .config_write = nib_ct_config_write,
};

/* ---- int-quantized ---- */

static const char *const int_suffix[NIB_PART_ROLES] = {[NIB_PART_CODES] = ".weight",
                                                       [NIB_PART_SCALES] = ".weight_scale",
                                                       [NIB_PART_ZEROS] = ".weight_zero_point",
                                                       [NIB_PART_INPUT_SCALE] = ".input_scale",
                                                       [NIB_PART_INPUT_ZERO] = ".input_zero_point"};

static nib_code int_make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    if (f->bits < 1 || f->bits > 8 || !f->sym || f->desc_act)
        return refuse(err, "weights of 1 to 8 bits for 8-bit inputs, symmetric and in order");
    if (!f->act)
        return refuse(err, "weights for inputs that are not rounded in pack-quantized only");
    if (l->in % l->group) return refuse(err, "whole groups only");
    nib_packing_add(l, NIB_PART_CODES, NIB_I8, 2, l->out, l->in);
    if (f->per_tensor)
        nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 1, 1, 1);
    else
        nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, l->out, l->groups);
    if (f->act == NIB_ACT_TENSOR) {
        nib_packing_add(l, NIB_PART_INPUT_SCALE, f->scale_type, 1, 1, 1);
        if (!f->act_sym) nib_packing_add(l, NIB_PART_INPUT_ZERO, NIB_I8, 1, 1, 1);
    }
    return NIB_OK;
}

static bool int_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f;
    *out = shape[0];
    *in = shape[1];
    return true;
}

/* The scale that all rows have. */
static nib_code pack_one_scale(uint8_t *dst, const nib_packed_parts *l,
                               const nib_block_param *param, nib_err *err)
{
    const int32_t middle = 1 << (l->format.bits - 1);
    nib_code rc = nib_pack_scale(dst, l, 0, param->d, 0, err);
    for (size_t r = 0; r < l->out && !rc; r++) {
        rc = nib_check_zero((int32_t)param[r].zero, middle, middle, r, err);
        if (!rc && param[r].d != param->d)
            rc = nib_fail(err, NIB_EINVAL, "row %zu has the scale %g, the tensor %g", r,
                          (double)param[r].d, (double)param->d);
    }
    return rc;
}

static nib_code int_pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                         nib_err *err)
{
    const unsigned middle = 1u << (l->format.bits - 1);
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES);
    for (size_t i = 0; i < l->out * l->in; i++) codes[i] = (uint8_t)(v->code[i] - middle);
    nib_code rc = l->format.per_tensor ? pack_one_scale(dst, l, v->param, err)
                                       : pack_params(dst, l, v->param, err);
    return rc ? rc : nib_pack_input_range(dst, l, v->act, err);
}

static nib_code int_read(nib_packing_rows *r, const nib_packed_parts *l,
                         const nib_packing_from *from, size_t row, nib_err *err)
{
    const int middle = 1 << (l->format.bits - 1);
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->code, err);
    if (rc) return rc;
    for (size_t i = 0; i < r->n * l->in; i++) {
        const int8_t code = (int8_t)r->code[i];
        if (code < -middle || code >= middle)
            return nib_fail(err, NIB_EFORMAT, "row %llu holds the code %d, which has no %u bits",
                            (unsigned long long)(row + i / l->in), code, l->format.bits);
        r->code[i] = (uint8_t)(code + middle);
    }
    fill_zeros(r, l);
    return read_scales(r, l, from, row, err);
}

const nib_packing_ops nib_packing_ct_int = {
    .method = "compressed-tensors",
    .grid = NIB_GRID_CT,
    .suffix = int_suffix,
    .bits = (const unsigned char[]){4, 8, 0},
    .uniform = "with --scheme w8a8 and w4a8 all layers are packed alike",
    .scale_type = nib_ct_scale_type,
    .make = int_make,
    .measure = int_measure,
    .pack = int_pack,
    .read = int_read,
    .config_read = nib_ct_config_read,
    .config_write = nib_ct_config_write,
};
