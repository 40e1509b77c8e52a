/* SPDX-License-Identifier: MIT */
/* formats/packed_hqq.c - HQQ folders as the hqq library saves them (HQQLinear.state_dict()), one
 * kind of packed_format.h.
 *
 *   X.W_q    U8, with 3 bits I32: the codes
 *   X.scale  F16 [groups, 1]
 *   X.zero   F16 [groups, 1]  any number: value = (code - zero) * scale
 *   X.nbits, X.group_size, X.shape, X.axis, X.packing ...: one small tensor for each thing that is
 *            to be known of the layer; names of dtypes as text
 *
 * Groups are of G neighbours in the flattened weight ("axis" 1). Codes are cut into as many slices
 * as fit into a byte, 2 of 4 bits, 4 of 2 or 8 of one, or into a word, 10 of 3: code i of every
 * slice is in element i, the first slice in the highest bits. With 3 bits the last slices are
 * filled up. Codes of 5 and 6 bits have a byte each.
 *
 * Read, too: groups that cross rows, and "axis" 0, where a group is every C-th weight, C being the
 * number of groups. Then r->scale and r->zero are of each weight. The library decodes in f16, we in
 * f32; r->zero holds floats.
 * Tests: tests/formats/test_packed_hqq.c. */
#include "formats/packed_format_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    NBITS,
    GROUP_SIZE,
    SHAPE,
    AXIS,
    PACKING,
    VIEW_DTYPE,
    VIEW_AS_FLOAT,
    QUANT_SCALE,
    QUANT_ZERO,
    COMPUTE_DTYPE,
    OFFLOAD_META,
    ENCODED,
    STORES_CONFIG,
    CHANNEL_WISE,
    OPTIMIZE,
    ROUND_ZERO,
    FACTS,
};
_Static_assert((int)FACTS == (int)NIB_PACKING_FACTS, "each has a part");

#define FACT(i) [NIB_PART_FACT + (i)]
static const char *const suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".W_q",
    [NIB_PART_SCALES] = ".scale",
    [NIB_PART_ZEROS] = ".zero",
    FACT(NBITS) = ".nbits",
    FACT(GROUP_SIZE) = ".group_size",
    FACT(SHAPE) = ".shape",
    FACT(AXIS) = ".axis",
    FACT(PACKING) = ".packing",
    FACT(VIEW_DTYPE) = ".unpack_view_dtype",
    FACT(VIEW_AS_FLOAT) = ".view_as_float",
    FACT(QUANT_SCALE) = ".quant_scale",
    FACT(QUANT_ZERO) = ".quant_zero",
    FACT(COMPUTE_DTYPE) = ".compute_dtype",
    FACT(OFFLOAD_META) = ".offload_meta",
    FACT(ENCODED) = ".encoded_state_dict",
    FACT(STORES_CONFIG) = ".stores_quant_config",
    FACT(CHANNEL_WISE) = ".channel_wise",
    FACT(OPTIMIZE) = ".optimize",
    FACT(ROUND_ZERO) = ".round_zero",
};
#undef FACT

/* How codes of so many bits are put into elements. */
typedef struct {
    unsigned bits, per;
    const char *packing, *dtype;
} form;

static const form forms[] = {{8, 1, "8bit_u8", "torch.uint8"},  {6, 1, "8bit_u8", "torch.uint8"},
                             {5, 1, "8bit_u8", "torch.uint8"},  {4, 2, "4bit_u8", "torch.uint8"},
                             {3, 10, "3bit_32", "torch.int32"}, {2, 4, "2bit_u8", "torch.uint8"},
                             {1, 8, "1bit_u8", "torch.uint8"}};
static const unsigned char widths[] = {1, 2, 3, 4, 5, 6, 8, 0};

/* NULL: there is none. */
static const form *form_of(uint64_t bits)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (forms[i].bits == bits) return &forms[i];
    return NULL;
}

static nib_type scale_type(nib_type weight)
{
    (void)weight;
    return NIB_F16;
}

/* ---- shapes ---- */

/* Rows of the codes as a matrix of `columns` codes each. */
static uint64_t code_rows(const nib_packed_parts *l)
{
    return l->format.across ? l->group : l->out * l->in / l->group;
}

static uint64_t columns(const nib_packed_parts *l)
{
    return l->out * l->in / code_rows(l);
}

/* Are rows whole groups? */
static bool has_own_groups(const nib_packed_parts *l)
{
    return !l->format.across && l->in % l->group == 0;
}

/* Elements of a slice. */
static uint64_t slice(const nib_packed_parts *l)
{
    const unsigned per = form_of(l->format.bits)->per;
    return (code_rows(l) + per - 1) / per * columns(l);
}

static unsigned shift_of(const form *f, uint64_t s)
{
    return (unsigned)(f->per - 1 - s) * f->bits;
}

static void add_facts(nib_packed_parts *l, const form *f)
{
    const size_t text[] = {strlen(f->packing), strlen(f->dtype), sizeof "torch.float16" - 1};
    for (int i = 0; i < FACTS; i++) {
        const bool number = i <= AXIS, word = i == PACKING || i == VIEW_DTYPE || i == COMPUTE_DTYPE;
        const uint64_t n = i == SHAPE           ? 2
                           : i == PACKING       ? text[0]
                           : i == VIEW_DTYPE    ? text[1]
                           : i == COMPUTE_DTYPE ? text[2]
                                                : 1;
        nib_packing_add(l, (nib_part_role)(NIB_PART_FACT + i),
                        i == SHAPE ? NIB_I64
                        : number   ? NIB_I32
                                   : NIB_U8,
                        i == SHAPE || word, n, 1);
    }
}

static nib_code make(nib_packed_parts *l, nib_err *err)
{
    const nib_packing *f = &l->format;
    const form *how = form_of(f->bits);
    const uint64_t n = l->out * l->in;
    if (!how) return nib_fail(err, NIB_EINVAL, "%u bits; HQQ folders hold 1 to 6, or 8", f->bits);
    if (f->desc_act)
        return nib_fail(err, NIB_EINVAL, "HQQ folders cannot say that columns are reordered");
    l->group = f->group ? f->group : l->in;
    if (n % l->group)
        return nib_fail(
            err, NIB_EINVAL, "shape [%llu, %llu] is no multiple of the group size, %llu",
            (unsigned long long)l->out, (unsigned long long)l->in, (unsigned long long)l->group);
    l->groups = has_own_groups(l) ? l->in / l->group : l->in;
    const uint64_t rows = code_rows(l), cols = columns(l);
    if (f->bits != 3 && rows % how->per)
        return nib_fail(err, NIB_EINVAL,
                        "shape [%llu, %llu] has %llu rows of codes, which are no multiple of %u",
                        (unsigned long long)l->out, (unsigned long long)l->in,
                        (unsigned long long)rows, how->per);
    nib_packing_add(l, NIB_PART_CODES, f->bits == 3 ? NIB_I32 : NIB_U8, 2, slice(l) / cols, cols);
    nib_packing_add(l, NIB_PART_SCALES, f->scale_type, 2, f->across ? 1 : rows,
                    f->across ? cols : 1);
    nib_packing_add(l, NIB_PART_ZEROS, f->scale_type, 2, f->across ? 1 : rows,
                    f->across ? cols : 1);
    add_facts(l, how);
    return NIB_OK;
}

/* The small tensors say it. */
static bool measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f, (void)shape, (void)out, (void)in;
    return true;
}

static nib_code wrong(nib_err *err, int fact, const char *should)
{
    return nib_fail(err, NIB_EFORMAT, "'%s' should be %s", suffix[NIB_PART_FACT + fact] + 1,
                    should);
}

static nib_code facts(nib_packing *f, uint64_t *out, uint64_t *in, const nib_packing_fact *v,
                      nib_err *err)
{
    static const int needed[] = {NBITS, GROUP_SIZE, SHAPE, AXIS, PACKING};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!v[needed[i]].there)
            return nib_fail(err, NIB_EFORMAT, "'%s' is missing",
                            suffix[NIB_PART_FACT + needed[i]] + 1);
    const form *how = form_of((uint64_t)v[NBITS].number[0]);
    const int64_t group = v[GROUP_SIZE].number[0], *shape = v[SHAPE].number;
    if (!how) return wrong(err, NBITS, "1 to 6, or 8");
    if (strcmp(v[PACKING].text, how->packing)) return wrong(err, PACKING, how->packing);
    if (group < 1 || group > NIB_PACKING_COLS_MAX)
        return wrong(err, GROUP_SIZE, "the weights of a group");
    for (int i = 0; i < 2; i++)
        if (shape[i] < 1 || shape[i] > NIB_PACKING_COLS_MAX)
            return wrong(err, SHAPE, "rows and columns of the weight");
    if (v[AXIS].number[0] != 0 && v[AXIS].number[0] != 1) return wrong(err, AXIS, "0 or 1");
    if (v[VIEW_AS_FLOAT].number[0])
        return wrong(err, VIEW_AS_FLOAT, "0: codes that pose as floats are not read");
    if (v[QUANT_SCALE].number[0] || v[QUANT_ZERO].number[0])
        return wrong(err, v[QUANT_SCALE].number[0] ? QUANT_SCALE : QUANT_ZERO,
                     "0: nested scales are not read");
    *out = (uint64_t)shape[0];
    *in = (uint64_t)shape[1];
    f->bits = how->bits;
    f->group = (uint64_t)group;
    f->across = !v[AXIS].number[0];
    return NIB_OK;
}

/* ---- packing ---- */

static void put_facts(uint8_t *dst, const nib_packed_parts *l)
{
    const form *f = form_of(l->format.bits);
    const uint64_t number[FACTS] = {
        [NBITS] = f->bits,   [GROUP_SIZE] = l->group, [AXIS] = 1,     [ENCODED] = 1,
        [STORES_CONFIG] = 1, [CHANNEL_WISE] = 1,      [OPTIMIZE] = 1, [ROUND_ZERO] = f->bits == 4};
    const char *const text[FACTS] = {
        [PACKING] = f->packing, [VIEW_DTYPE] = f->dtype, [COMPUTE_DTYPE] = "torch.float16"};
    for (int i = 0; i < FACTS; i++) {
        uint8_t *to = nib_packing_at(dst, l, (nib_part_role)(NIB_PART_FACT + i));
        if (text[i])
            memcpy(to, text[i], strlen(text[i]));
        else if (i == SHAPE)
            nib_put_uint(to, 8, l->out), nib_put_uint(to + 8, 8, l->in);
        else
            nib_put_uint(to, i <= AXIS ? 4 : 1, number[i]);
    }
}

static nib_code pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                     nib_err *err)
{
    const form *f = form_of(l->format.bits);
    const uint64_t n = l->out * l->in, each = slice(l);
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES),
            *zeros = nib_packing_at(dst, l, NIB_PART_ZEROS);
    nib_code rc = NIB_OK;
    for (uint64_t i = 0; i < n; i++) {
        const unsigned shift = shift_of(f, i / each), byte = shift / 8;
        uint8_t *to = codes + i % each * (f->bits == 3 ? 4 : 1) + byte;
        const unsigned field = (unsigned)v->code[i] << shift % 8;
        to[0] |= (uint8_t)field;
        if (field >> 8) to[1] |= (uint8_t)(field >> 8);
    }
    for (size_t i = 0; i < l->out * l->groups && !rc; i++) {
        rc = nib_pack_scale(dst, l, i, v->param[i].d, i / (size_t)l->groups, err);
        if (!rc && !nib_put_scale(zeros, l->format.scale_type, i, v->param[i].zero))
            rc = nib_fail(err, NIB_ENUMERIC, "row %zu: the zero point %g is too large for %s",
                          i / (size_t)l->groups, (double)v->param[i].zero,
                          nib_codec_get(l->format.scale_type)->name);
    }
    if (!rc) put_facts(dst, l);
    return rc;
}

/* ---- reading ---- */

/* Bytes [at, at + n) of a part. */
static nib_code read_bytes(const nib_packing_from *from, const nib_packed_parts *l,
                           nib_part_role role, uint64_t at, void *dst, size_t n, nib_err *err)
{
    size_t part = 0;
    while (l->part[part].role != role) part++;
    return from->read(from->arg, part, at, dst, n, err);
}

/* Codes [i, i + n) of the flattened weight, which lie in as many runs as there are slices. */
static nib_code read_codes(uint8_t *code, const nib_packed_parts *l, const nib_packing_from *from,
                           uint64_t i, uint64_t n, nib_err *err)
{
    enum { PIECE = 4096 };
    uint8_t piece[PIECE];
    const form *f = form_of(l->format.bits);
    const size_t size = f->bits == 3 ? 4 : 1;
    const uint64_t each = slice(l);
    nib_code rc = NIB_OK;
    for (uint64_t k; n && !rc; i += k, code += k, n -= k) {
        const uint64_t at = i % each;
        const unsigned shift = shift_of(f, i / each), mask = (1u << f->bits) - 1;
        k = n < PIECE / size ? n : PIECE / size;
        if (k > each - at) k = each - at;
        rc = read_bytes(from, l, NIB_PART_CODES, at * size, piece, (size_t)k * size, err);
        for (size_t c = 0; c < k && !rc; c++)
            code[c] = (uint8_t)((size == 4 ? nib_get_bits(piece + 4 * c, 1, shift, f->bits)
                                           : (uint32_t)piece[c] >> shift) &
                                mask);
    }
    return rc;
}

/* Scales or zero points of a row whose groups are not its own: one for each weight. */
static nib_code read_each(float *dst, const nib_packed_parts *l, const nib_packing_from *from,
                          nib_part_role role, uint64_t row, uint8_t *bytes, nib_err *err)
{
    const nib_codec *c = nib_codec_get(l->format.scale_type);
    const uint64_t first = row * l->in, cols = columns(l), group = l->group;
    nib_code rc = NIB_OK;
    for (uint64_t k = 0, n; k < l->in && !rc; k += n) {
        const uint64_t i = first + k, at = l->format.across ? i % cols : i / group;
        const uint64_t run = l->format.across ? cols - at : group - i % group;
        n = run < l->in - k ? run : l->in - k;
        const size_t read = l->format.across ? (size_t)n : 1;
        rc = read_bytes(from, l, role, at * c->bytes, bytes, read * c->bytes, err);
        if (rc) break;
        c->decode(dst + k, bytes, read, 0);
        for (uint64_t j = read; j < n; j++) dst[k + j] = dst[k];
    }
    return rc;
}

static nib_code read_params(float *dst, nib_packing_rows *r, const nib_packed_parts *l,
                            const nib_packing_from *from, nib_part_role role, size_t row,
                            nib_err *err)
{
    const nib_codec *c = nib_codec_get(l->format.scale_type);
    const size_t groups = (size_t)l->groups;
    nib_code rc = NIB_OK;
    if (has_own_groups(l)) {
        rc = nib_packing_lines(from, l, role, row * groups, r->n * groups, r->bytes, err);
        if (!rc) c->decode(dst, r->bytes, r->n * groups, 0);
        return rc;
    }
    for (size_t i = 0; i < r->n && !rc; i++)
        rc = read_each(dst + i * groups, l, from, role, row + i, r->bytes, err);
    return rc;
}

static nib_code read(nib_packing_rows *r, const nib_packed_parts *l, const nib_packing_from *from,
                     size_t row, nib_err *err)
{
    nib_code rc = read_codes(r->code, l, from, row * l->in, r->n * l->in, err);
    if (!rc) rc = read_params(r->scale, r, l, from, NIB_PART_SCALES, row, err);
    return rc ? rc : read_params((float *)(void *)r->zero, r, l, from, NIB_PART_ZEROS, row, err);
}

static void decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, each = in / groups;
    const float *zero = (const float *)(const void *)r->zero;
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < in; k++) {
            const size_t g = i * groups + k / each;
            dst[i * in + k] = r->scale[g] * ((float)r->code[i * in + k] - zero[g]);
        }
}

/* ---- the configuration ---- */

/* What layers are like is theirs to say. */
static nib_code config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    const nib_packing f = {.kind = NIB_PACKING_HQQ, .bits = 4, .group = 64, .scale_type = NIB_F16};
    (void)config;
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

static bool config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    nib_json *all = nib_json_add_object(config, "quant_config");
    nib_json *weights = all ? nib_json_add_object(all, "weight_quant_params") : NULL;
    return weights && nib_json_add_num(weights, "nbits", f->bits) &&
           nib_json_add_bool(weights, "channel_wise", true) &&
           (f->group ? nib_json_add_num(weights, "group_size", (double)f->group)
                     : nib_json_add_null(weights, "group_size")) &&
           nib_json_add_bool(weights, "optimize", true) &&
           nib_json_add_bool(weights, "round_zero", f->bits == 4) &&
           nib_json_add_num(weights, "axis", 1) &&
           nib_json_add_bool(weights, "view_as_float", false) &&
           nib_json_add_null(all, "scale_quant_params") &&
           nib_json_add_null(all, "zero_quant_params") &&
           nib_json_add_bool(all, "offload_meta", false) &&
           nib_config_unpacked(config, "skip_modules", note, false);
}

static void grid_of(nib_int_codec *c, const nib_packed_parts *l)
{
    (void)l;
    c->codec.zero = NIB_ZERO_REAL;
}

const nib_packing_ops nib_packing_hqq = {
    .method = "hqq",
    .suffix = suffix,
    .bits = widths,
    .uniform = "in HQQ folders all layers are packed alike",
    .scale_type = scale_type,
    .make = make,
    .measure = measure,
    .facts = facts,
    .grid = NIB_GRID_HQQ,
    .grid_of = grid_of,
    .pack = pack,
    .read = read,
    .decode = decode,
    .config_read = config_read,
    .config_write = config_write,
};
