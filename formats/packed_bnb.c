/* SPDX-License-Identifier: MIT */
/* formats/packed_bnb.c - bitsandbytes folders, as Transformers saves them: two kinds of
 * packed_format.h.
 *
 * 4 bits (QLoRA, arXiv:2305.14314), blocks of neighbours in the matrix row after row:
 *   X.weight                   U8  [(n + 1) / 2, 1]  two codes to a byte, the first one above
 *   X.weight.absmax            F32 [blocks], or U8 where scales are quantized too ("nested")
 *   X.weight.quant_map         F32 [16]              what codes stand for: NF4 or FP4
 *   X.weight.nested_absmax     F32 [blocks / 256]
 *   X.weight.nested_quant_map  F32 [256]
 *   X.weight.quant_state.bitsandbytes__nf4, __fp4    U8, a JSON text: block, shape, nested_offset
 * value = map[code] * absmax, absmax = nested_map[byte] * nested_absmax + nested_offset. Nested
 * scales are rounded before codes are chosen, so that these are the best under what is stored; the
 * library rounds them afterwards.
 *
 * 8 bits (LLM.int8, arXiv:2208.07339), a scale for each row:
 *   X.weight         I8  [out, in]
 *   X.SCB            F32 [out]  largest magnitudes
 *   X.weight_format  U8  []     0: in rows; may be missing
 * value = code * SCB * (1 / 127).
 *
 * Which layers are packed is said by their tensors alone: those that the configuration skips have
 * weights as others do. Values are not rounded to the model's dtype, as engines do after this.
 * Tests: tests/formats/test_packed_bnb.c. */
#include "base/half.h"
#include "formats/packed_format_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NESTED_BLOCK = 256, MAP = 16, NESTED_MAP = 256, NESTED_ZERO = 127, TEXT = 256 };

/* ---- 4 bits ---- */

static const char *const four_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".weight",
    [NIB_PART_SCALES] = ".weight.absmax",
    [NIB_PART_MAP] = ".weight.quant_map",
    [NIB_PART_NESTED] = ".weight.nested_absmax",
    [NIB_PART_NESTED_MAP] = ".weight.nested_quant_map",
    [NIB_PART_STATE_NF4] = ".weight.quant_state.bitsandbytes__nf4",
    [NIB_PART_STATE_FP4] = ".weight.quant_state.bitsandbytes__fp4",
};

/* In the order of codes. */
static const float nf4_map[MAP] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
static const float fp4_map[MAP] = {
    0, 0.0625f / 12,  8.0f / 12,  1,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
    0, -0.0625f / 12, -8.0f / 12, -1, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f};
/* The codes of FP4 from the least value to the largest, without the second zero; and the values. */
static const uint8_t fp4_codes[MAP - 1] = {11, 10, 13, 12, 15, 14, 9, 0, 1, 6, 7, 4, 5, 2, 3};
static const float fp4_levels[MAP - 1] = {-1,         -8.0f / 12,    -0.5f, -4.0f / 12,   -0.25f,
                                          -2.0f / 12, -0.0625f / 12, 0,     0.0625f / 12, 2.0f / 12,
                                          0.25f,      4.0f / 12,     0.5f,  8.0f / 12,    1};

/* The library's "dynamic" map, what is above 0 of it: of each power of ten 2^i middles of even
 * steps. Below 0 it is the same but for 1. As its floats came out. */
static const float dynamic_map[NESTED_MAP / 2] = {
    5.5000004e-07f, 3.2500002e-06f, 7.75e-06f,      2.1249998e-05f, 4.375e-05f,     6.625e-05f,
    8.875e-05f,     0.00015625001f, 0.00026875004f, 0.00038125002f, 0.00049375003f, 0.0006062501f,
    0.00071875006f, 0.00083125f,    0.0009437501f,  0.0012812499f,  0.00184375f,    0.00240625f,
    0.00296875f,    0.0035312497f,  0.00409375f,    0.0046562497f,  0.0052187503f,  0.00578125f,
    0.00634375f,    0.00690625f,    0.00746875f,    0.00803125f,    0.00859375f,    0.009156249f,
    0.00971875f,    0.01140625f,    0.01421875f,    0.01703125f,    0.01984375f,    0.02265625f,
    0.02546875f,    0.028281247f,   0.03109375f,    0.033906247f,   0.036718752f,   0.03953125f,
    0.042343747f,   0.04515625f,    0.04796875f,    0.05078125f,    0.05359375f,    0.05640625f,
    0.059218753f,   0.062031247f,   0.06484375f,    0.067656256f,   0.070468746f,   0.07328125f,
    0.07609375f,    0.07890625f,    0.08171874f,    0.08453125f,    0.08734375f,    0.09015625f,
    0.092968754f,   0.095781244f,   0.09859375f,    0.107031256f,   0.12109375f,    0.13515624f,
    0.14921875f,    0.16328125f,    0.17734374f,    0.19140625f,    0.20546874f,    0.21953125f,
    0.23359376f,    0.24765626f,    0.26171875f,    0.27578127f,    0.28984374f,    0.30390626f,
    0.31796873f,    0.33203125f,    0.3460937f,     0.36015624f,    0.37421876f,    0.38828123f,
    0.40234375f,    0.4164062f,     0.43046874f,    0.44453126f,    0.45859373f,    0.47265625f,
    0.48671877f,    0.50078124f,    0.51484376f,    0.5289062f,     0.54296875f,    0.5570313f,
    0.5710938f,     0.58515626f,    0.5992187f,     0.61328125f,    0.6273438f,     0.64140624f,
    0.65546876f,    0.6695313f,     0.68359375f,    0.6976563f,     0.7117188f,     0.72578126f,
    0.7398438f,     0.75390625f,    0.7679688f,     0.78203124f,    0.7960937f,     0.8101562f,
    0.82421875f,    0.8382812f,     0.85234374f,    0.8664062f,     0.8804687f,     0.89453125f,
    0.9085938f,     0.92265624f,    0.9367187f,     0.9507812f,     0.96484375f,    0.9789062f,
    0.99296874f,    1.0f,
};

/* Entry k of the whole, in order. */
static float nested_value(size_t k)
{
    return k < NESTED_ZERO   ? -dynamic_map[NESTED_ZERO - 1 - k]
           : k > NESTED_ZERO ? dynamic_map[k - NESTED_ZERO - 1]
                             : 0;
}

static const float *map_of(const nib_packed_parts *l)
{
    return l->map ? l->map : l->format.fp4 ? fp4_map : nf4_map;
}

/* Of the weight, which the text names. */
static nib_type weight_type(nib_type weight)
{
    return weight == NIB_F16 || weight == NIB_BF16 ? weight : NIB_F32;
}

static nib_type f32_scales(nib_type weight)
{
    (void)weight;
    return NIB_F32;
}

/* The offset as Python prints it, padded: its place in the text is there before it is known. */
static void offset_text(char buf[32], float offset)
{
    char number[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, (double)offset);
        if (strtod(number, NULL) == (double)offset) break;
    }
    if (!strpbrk(number, ".e")) strcat(number, ".0");
    snprintf(buf, 32, "%-24s", number);
}

/* As Python's json.dumps() has it. */
static int state_text(char *buf, size_t n, const nib_packed_parts *l, float offset)
{
    const nib_type t = l->format.scale_type;
    char nested[128] = "", number[32];
    offset_text(number, offset);
    if (l->format.nested)
        snprintf(nested, sizeof nested,
                 ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", "
                 "\"nested_offset\": %s",
                 number);
    return snprintf(
        buf, n,
        "{\"quant_type\": \"%s\", \"blocksize\": %llu, \"dtype\": \"%s\", \"shape\": [%llu, "
        "%llu]%s}",
        l->format.fp4 ? "fp4" : "nf4", (unsigned long long)l->group,
        t == NIB_F16    ? "float16"
        : t == NIB_BF16 ? "bfloat16"
                        : "float32",
        (unsigned long long)l->out, (unsigned long long)l->in, nested);
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static nib_code four_make(nib_packed_parts *l, nib_err *err)
{
    nib_packing *f = &l->format;
    char text[TEXT];
    if (!f->group) return nib_fail(err, NIB_EINVAL, "bitsandbytes folders hold blocks of weights");
    const uint64_t n = l->out * l->in, blocks = ceil_div(n, f->group);
    l->group = f->group;
    if (!f->state_bytes) f->state_bytes = (uint32_t)state_text(text, sizeof text, l, 0);
    /* Of a row: its own and, where rows are not whole blocks, shares of those at its ends. */
    l->groups = l->in % f->group ? l->in / f->group + 2 : l->in / f->group;
    nib_packing_add(l, NIB_PART_CODES, NIB_U8, 2, ceil_div(n, 2), 1);
    nib_packing_add(l, NIB_PART_SCALES, f->nested ? NIB_U8 : NIB_F32, 1, blocks, 1);
    nib_packing_add(l, NIB_PART_MAP, NIB_F32, 1, MAP, 1);
    if (f->nested) {
        nib_packing_add(l, NIB_PART_NESTED, NIB_F32, 1, ceil_div(blocks, NESTED_BLOCK), 1);
        nib_packing_add(l, NIB_PART_NESTED_MAP, NIB_F32, 1, NESTED_MAP, 1);
    }
    nib_packing_add(l, f->fp4 ? NIB_PART_STATE_FP4 : NIB_PART_STATE_NF4, NIB_U8, 1, f->state_bytes,
                    1);
    return NIB_OK;
}

/* The text says it. */
static bool four_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    (void)f, (void)out, (void)in;
    return shape[1] == 1;
}

static nib_code wrong_state(nib_err *err, const char *key, const char *should)
{
    return nib_fail(err, NIB_EFORMAT, "'%s' should be %s", key, should);
}

static nib_code read_nested(nib_packing *f, const nib_json *j, nib_err *err)
{
    uint64_t block;
    double offset;
    const char *type;
    f->nested = nib_json_get(j, "nested_blocksize") != NULL;
    if (!f->nested) return NIB_OK;
    if (!nib_json_u64(nib_json_get(j, "nested_blocksize"), &block) || block != NESTED_BLOCK)
        return wrong_state(err, "nested_blocksize", "256");
    if (!nib_json_str(nib_json_get(j, "nested_dtype"), &type) || strcmp(type, "float32"))
        return wrong_state(err, "nested_dtype", "float32");
    if (!nib_json_num(nib_json_get(j, "nested_offset"), &offset) || !isfinite((float)offset))
        return wrong_state(err, "nested_offset", "a number");
    f->nested_offset = (float)offset;
    return NIB_OK;
}

static nib_code read_state(nib_packing *f, uint64_t *out, uint64_t *in, const nib_json *j,
                           nib_err *err)
{
    const nib_json *shape = nib_json_get(j, "shape"), *rows = nib_json_first(shape);
    const char *type;
    if (!nib_json_str(nib_json_get(j, "quant_type"), &type) || strcmp(type, f->fp4 ? "fp4" : "nf4"))
        return wrong_state(err, "quant_type", f->fp4 ? "fp4" : "nf4");
    if (!nib_json_u64(nib_json_get(j, "blocksize"), &f->group) || f->group < 16 ||
        f->group > NIB_PACKING_COLS_MAX)
        return wrong_state(err, "blocksize", "a number of weights from 16 on");
    if (!nib_json_is_array(shape) || nib_json_count(shape) != 2 || !nib_json_u64(rows, out) ||
        !nib_json_u64(nib_json_next(rows), in) || !*out || !*in || *out > NIB_PACKING_COLS_MAX ||
        *in > NIB_PACKING_COLS_MAX)
        return wrong_state(err, "shape", "rows and columns of the weight");
    return read_nested(f, j, err);
}

static nib_code four_state(nib_packing *f, uint64_t *out, uint64_t *in, const char *text, size_t n,
                           nib_err *err)
{
    nib_json *j;
    nib_code rc = nib_json_parse(&j, text, n, err);
    if (rc) return rc;
    rc = read_state(f, out, in, j, err);
    nib_json_free(j);
    f->state_bytes = (uint32_t)n;
    return rc;
}

/* Scale of block b, of which the stored numbers from block `first` on lie at `raw`. */
static float block_scale(const nib_packed_parts *l, const uint8_t *raw, uint64_t first, uint64_t b)
{
    float x;
    if (l->format.nested)
        return l->nested_map[raw[b - first]] * l->nested[b / NESTED_BLOCK] +
               l->format.nested_offset;
    memcpy(&x, raw + (b - first) * sizeof x, sizeof x);
    return x;
}

/* zero[] of a row: how far into its first block it begins. */
static nib_code read_scales(nib_packing_rows *r, const nib_packed_parts *l,
                            const nib_packing_from *from, uint64_t row, nib_err *err)
{
    const uint64_t in = l->in, block = l->group, first = row * in / block,
                   last = ((row + r->n) * in - 1) / block;
    nib_code rc = nib_packing_lines(from, l, NIB_PART_SCALES, (size_t)first,
                                    (size_t)(last - first + 1), r->bytes, err);
    for (uint64_t i = 0; i < r->n && !rc; i++) {
        const uint64_t at = (row + i) * in / block, end = ((row + i + 1) * in - 1) / block;
        r->zero[i * l->groups] = (int32_t)((row + i) * in % block);
        for (uint64_t b = at; b <= end; b++)
            r->scale[i * l->groups + (b - at)] = block_scale(l, r->bytes, first, b);
    }
    return rc;
}

static nib_code four_read(nib_packing_rows *r, const nib_packed_parts *l,
                          const nib_packing_from *from, size_t row, nib_err *err)
{
    const uint64_t from_code = row * l->in, n = r->n * l->in, first = from_code / 2,
                   bytes = ceil_div(from_code + n, 2) - first;
    nib_code rc =
        nib_packing_lines(from, l, NIB_PART_CODES, (size_t)first, (size_t)bytes, r->bytes, err);
    for (uint64_t i = 0; i < n && !rc; i++) {
        const uint64_t at = from_code + i;
        r->code[i] = r->bytes[at / 2 - first] >> (at % 2 ? 0 : 4) & 15;
    }
    return rc ? rc : read_scales(r, l, from, row, err);
}

/* ---- nested scales ---- */

/* Parameters have the scale that is stored in d, and in dmin, which four-bit codes do not use, the
 * one that it was made of: so packing makes the same of it again. */
static float nested_offset(const nib_block_param *p, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)p[i].dmin;
    return (float)(sum / (double)n);
}

/* The nearest entry; of two the lower one. x within -1 .. 1. */
static uint8_t nested_code(float x)
{
    size_t low = 0, high = NESTED_MAP - 1;
    while (low < high) { /* entries up to this one have a middle below x */
        const size_t k = (low + high) / 2;
        if ((nested_value(k) + nested_value(k + 1)) / 2 < x)
            low = k + 1;
        else
            high = k;
    }
    return (uint8_t)low;
}

/* Up to NESTED_BLOCK scales less their mean: codes, and what they are multiplied by. The last
 * blocks of a weight may be fewer; there the library divides, and has no zero. */
static float nest(uint8_t *code, const nib_block_param *p, size_t n, float offset)
{
    const float least = 1e-38f;
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(p[i].dmin - offset));
    const float by = fmaxf(most, least), inverse = 1 / by;
    for (size_t i = 0; i < n; i++) {
        const float x = p[i].dmin - offset, y = n < NESTED_BLOCK ? x / by : x * inverse;
        code[i] = nested_code(fminf(fmaxf(y, -1), 1));
    }
    return n < NESTED_BLOCK ? by : most;
}

static nib_code nested_finish(const nib_codec *c, nib_block_param *p, const nib_fit_matrix *m,
                              const nib_ctx *ctx, nib_err *err)
{
    const size_t n = m->rows * (m->cols / c->block);
    uint8_t code[NESTED_BLOCK];
    (void)ctx, (void)err;
    for (size_t i = 0; i < n; i++) p[i].dmin = p[i].d;
    const float offset = nested_offset(p, n);
    for (size_t at = 0; at < n; at += NESTED_BLOCK) {
        const size_t k = n - at < NESTED_BLOCK ? n - at : NESTED_BLOCK;
        const float most = nest(code, p + at, k, offset);
        for (size_t i = 0; i < k; i++) p[at + i].d = nested_value(code[i]) * most + offset;
    }
    return NIB_OK;
}

static nib_code pack_nested(uint8_t *dst, const nib_packed_parts *l, const nib_block_param *p,
                            float offset, nib_err *err)
{
    const size_t n = (size_t)(l->out * l->groups);
    uint8_t *scales = nib_packing_at(dst, l, NIB_PART_SCALES);
    uint8_t *nested = nib_packing_at(dst, l, NIB_PART_NESTED);
    for (size_t at = 0; at < n; at += NESTED_BLOCK) {
        const size_t k = n - at < NESTED_BLOCK ? n - at : NESTED_BLOCK;
        const float most = nest(scales + at, p + at, k, offset);
        if (!nib_put_scale(nested, NIB_F32, at / NESTED_BLOCK, most) || !isfinite(offset))
            return nib_fail(err, NIB_ENUMERIC, "row %zu holds values too large for nested scales",
                            at / (size_t)l->groups);
    }
    for (size_t k = 0; k < NESTED_MAP; k++)
        nib_put_uint(nib_packing_at(dst, l, NIB_PART_NESTED_MAP) + 4 * k, 4,
                     nib_f32_bits(nested_value(k)));
    return NIB_OK;
}

static nib_code pack_plain_scales(uint8_t *dst, const nib_packed_parts *l, const nib_block_param *p,
                                  nib_err *err)
{
    uint8_t *scales = nib_packing_at(dst, l, NIB_PART_SCALES);
    for (size_t i = 0; i < l->out * l->groups; i++)
        if (!nib_put_scale(scales, NIB_F32, i, p[i].d))
            return nib_fail(err, NIB_ENUMERIC, "row %zu holds values too large for scales in f32",
                            i / (size_t)l->groups);
    return NIB_OK;
}

static nib_code four_pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                          nib_err *err)
{
    char text[TEXT];
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES);
    uint8_t *state =
        nib_packing_at(dst, l, l->format.fp4 ? NIB_PART_STATE_FP4 : NIB_PART_STATE_NF4);
    const bool nested = l->format.nested;
    const float offset = nested ? nested_offset(v->param, (size_t)(l->out * l->groups)) : 0;
    for (uint64_t i = 0; i < l->out * l->in; i++) {
        const unsigned code = l->format.fp4 ? fp4_codes[v->code[i]] : v->code[i];
        codes[i / 2] |= (uint8_t)(code << (i % 2 ? 0 : 4));
    }
    for (size_t k = 0; k < MAP; k++)
        nib_put_uint(nib_packing_at(dst, l, NIB_PART_MAP) + 4 * k, 4, nib_f32_bits(map_of(l)[k]));
    state_text(text, sizeof text, l, offset);
    memcpy(state, text, l->format.state_bytes);
    return nested ? pack_nested(dst, l, v->param, offset, err)
                  : pack_plain_scales(dst, l, v->param, err);
}

static void four_grid(nib_int_codec *c, const nib_packed_parts *l)
{
    const bool fp4 = l->format.fp4;
    c->codec.type = fp4 ? NIB_FP4 : NIB_NF4;
    c->codec.codebook = fp4 ? fp4_levels : nf4_map;
    c->codec.n_codes = fp4 ? MAP - 1 : MAP;
    c->codec.scale_type = NIB_F32;
    c->codec.fit = nib_levels_fit;
    c->codec.fixed_d = l->format.nested;
    if (l->format.nested) c->codec.finish = nested_finish;
}

static void four_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    const float *map = map_of(l);
    const size_t in = (size_t)l->in, block = (size_t)l->group, groups = (size_t)l->groups;
    for (size_t i = 0; i < r->n; i++) {
        const float *scale = r->scale + i * groups;
        size_t at = (size_t)r->zero[i * groups];
        for (size_t k = 0; k < in; k++, at++)
            dst[i * in + k] = map[r->code[i * in + k]] * scale[at / block];
    }
}

static bool four_levels(float *level, const nib_packed_parts *l)
{
    memcpy(level, map_of(l), MAP * sizeof *level);
    return l->in % l->group == 0;
}

/* ---- 8 bits ---- */

static const char *const eight_suffix[NIB_PART_ROLES] = {
    [NIB_PART_CODES] = ".weight", [NIB_PART_SCALES] = ".SCB", [NIB_PART_ORDER] = ".weight_format"};

static nib_code eight_make(nib_packed_parts *l, nib_err *err)
{
    (void)err;
    nib_packing_add(l, NIB_PART_CODES, NIB_I8, 2, l->out, l->in);
    nib_packing_add(l, NIB_PART_SCALES, NIB_F32, 1, l->out, 1);
    return NIB_OK;
}

static bool eight_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out,
                          uint64_t *in)
{
    (void)f;
    *out = shape[0];
    *in = shape[1];
    return true;
}

static nib_code eight_pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                           nib_err *err)
{
    uint8_t *codes = nib_packing_at(dst, l, NIB_PART_CODES);
    nib_code rc = NIB_OK;
    for (uint64_t i = 0; i < l->out * l->in; i++) codes[i] = v->code[i] ^ 128;
    for (size_t r = 0; r < l->out && !rc; r++) {
        rc = nib_check_zero((int32_t)v->param[r].zero, 128, 128, r, err);
        if (!rc) rc = nib_pack_scale(dst, l, r, v->param[r].d * 127, r, err);
    }
    return rc;
}

static nib_code eight_read(nib_packing_rows *r, const nib_packed_parts *l,
                           const nib_packing_from *from, size_t row, nib_err *err)
{
    nib_code rc = nib_packing_lines(from, l, NIB_PART_CODES, row, r->n, r->code, err);
    if (!rc) rc = nib_packing_lines(from, l, NIB_PART_SCALES, row, r->n, (uint8_t *)r->scale, err);
    return rc;
}

static const float eight_part = 0.007874015718698502f; /* 1 / 127 */

static void eight_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < l->in; k++)
            dst[i * l->in + k] = (float)(int8_t)r->code[i * l->in + k] * r->scale[i] * eight_part;
}

static bool eight_levels(float *level, const nib_packed_parts *l)
{
    (void)l;
    for (int code = 0; code < 256; code++) level[code] = (float)(int8_t)code * eight_part;
    return true;
}

/* ---- the configuration ---- */

static bool config_write(nib_json *config, const nib_packing *f, const nib_packing_note *note)
{
    const bool four = f->kind == NIB_PACKING_BNB4;
    bool ok = nib_json_add_bool(config, "_load_in_4bit", four) &&
              nib_json_add_bool(config, "_load_in_8bit", !four);
    if (four)
        ok = ok && nib_json_add_str(config, "bnb_4bit_compute_dtype", "bfloat16") &&
             nib_json_add_str(config, "bnb_4bit_quant_storage", "uint8") &&
             nib_json_add_str(config, "bnb_4bit_quant_type", f->fp4 ? "fp4" : "nf4") &&
             nib_json_add_bool(config, "bnb_4bit_use_double_quant", f->nested);
    return ok && nib_json_add_bool(config, "llm_int8_enable_fp32_cpu_offload", false) &&
           nib_json_add_bool(config, "llm_int8_has_fp16_weight", false) &&
           nib_config_unpacked(config, "llm_int8_skip_modules", note, false) &&
           nib_json_add_real(config, "llm_int8_threshold", 6) &&
           nib_json_add_bool(config, "load_in_4bit", four) &&
           nib_json_add_bool(config, "load_in_8bit", !four);
}

static nib_code config_read(nib_packing_rules *rules, const nib_json *config, nib_err *err)
{
    bool four = false, eight = false;
    const char *storage = "uint8";
    nib_code rc = nib_config_flag(&four, config, "load_in_4bit", err);
    if (!rc) rc = nib_config_flag(&eight, config, "load_in_8bit", err);
    if (!rc && !four) rc = nib_config_flag(&four, config, "_load_in_4bit", err);
    if (!rc && !eight) rc = nib_config_flag(&eight, config, "_load_in_8bit", err);
    if (rc) return rc;
    if (four == eight)
        return nib_fail(err, NIB_EFORMAT,
                        "one of 'load_in_4bit' and 'load_in_8bit' should be true");
    nib_json_str(nib_json_get(config, "bnb_4bit_quant_storage"), &storage);
    if (four && strcmp(storage, "uint8"))
        return nib_fail(err, NIB_EFORMAT, "'bnb_4bit_quant_storage' is '%.60s'; nibble reads uint8",
                        storage);
    const nib_packing f = {.kind = four ? NIB_PACKING_BNB4 : NIB_PACKING_BNB8,
                           .bits = four ? 4 : 8,
                           .group = 0,
                           .sym = true,
                           .scale_type = four ? NIB_U8 : NIB_F32};
    return nib_packing_rules_add(rules, NIB_RULE_ALL, NULL, &f, err);
}

const nib_packing_ops nib_packing_bnb4 = {
    .method = "bitsandbytes",
    .suffix = four_suffix,
    .bits = (const unsigned char[]){4, 0},
    .codes = NIB_U8,
    .uniform = "in bitsandbytes folders all layers are packed alike",
    .scale_type = weight_type,
    .make = four_make,
    .measure = four_measure,
    .state = four_state,
    .grid_of = four_grid,
    .pack = four_pack,
    .read = four_read,
    .decode = four_decode,
    .levels = four_levels,
    .config_read = config_read,
    .config_write = config_write,
};

const nib_packing_ops nib_packing_bnb8 = {
    .method = "bitsandbytes",
    .suffix = eight_suffix,
    .bits = (const unsigned char[]){8, 0},
    .codes = NIB_I8,
    .uniform = "in bitsandbytes folders all layers are packed alike",
    .scale_type = f32_scales,
    .make = eight_make,
    .measure = eight_measure,
    .grid = NIB_GRID_AWQ,
    .pack = eight_pack,
    .read = eight_read,
    .decode = eight_decode,
    .levels = eight_levels,
    .config_read = config_read,
    .config_write = config_write,
};
