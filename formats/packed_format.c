/* SPDX-License-Identifier: MIT */
/* formats/packed_format.c - see packed_format.h: the table of checkpoint formats, and what they
 * share.
 * Tests: tests/formats/test_packed_gptq.c, tests/formats/test_packed_awq.c,
 * tests/formats/test_packed_ct.c, tests/formats/test_packed_bnb.c, tests/formats/test_packed_hqq.c,
 * tests/formats/test_packed_float.c. */
#include "formats/packed_format.h"

#include "base/half.h"
#include "formats/packed_format_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { UNPACK_ROWS = 64, SPAN = 16384 };

static const nib_packing_ops *const ops[NIB_PACKING_KINDS] = {
    [NIB_PACKING_GPTQ] = &nib_packing_gptq,
    [NIB_PACKING_AWQ] = &nib_packing_awq,
    [NIB_PACKING_CT_PACKED] = &nib_packing_ct_packed,
    [NIB_PACKING_CT_INT] = &nib_packing_ct_int,
    [NIB_PACKING_BNB4] = &nib_packing_bnb4,
    [NIB_PACKING_BNB8] = &nib_packing_bnb8,
    [NIB_PACKING_FP8] = &nib_packing_fp8,
    [NIB_PACKING_MXFP4] = &nib_packing_mxfp4,
    [NIB_PACKING_HQQ] = &nib_packing_hqq,
    [NIB_PACKING_FP8_TENSOR] = &nib_packing_fp8_tensor,
    [NIB_PACKING_FP8_VLLM] = &nib_packing_fp8_vllm,
    [NIB_PACKING_FP8_STACK] = &nib_packing_fp8_stack,
    [NIB_PACKING_FBGEMM] = &nib_packing_fbgemm,
    [NIB_PACKING_CT_FP8] = &nib_packing_ct_fp8,
    [NIB_PACKING_CT_NVFP4] = &nib_packing_ct_nvfp4,
    [NIB_PACKING_CT_MXFP4] = &nib_packing_ct_mxfp4,
    [NIB_PACKING_CT_MXFP8] = &nib_packing_ct_mxfp8,
};

const nib_packing_ops *nib_packing_ops_of(nib_packing_kind kind)
{
    return ops[kind];
}

bool nib_packing_same(const nib_packing *a, const nib_packing *b)
{
    return a->kind == b->kind && a->bits == b->bits && a->group == b->group &&
           a->per_tensor == b->per_tensor && a->sym == b->sym && a->desc_act == b->desc_act &&
           a->v2 == b->v2 && a->across == b->across && a->fp4 == b->fp4 &&
           a->code_type == b->code_type && a->nested == b->nested && a->rows == b->rows &&
           a->act == b->act && a->act_sym == b->act_sym && a->act_float == b->act_float;
}

/* ---- layers ---- */

nib_code nib_packing_make(nib_packed_parts *l, const nib_packing *f, uint64_t out, uint64_t in,
                          nib_err *err)
{
    if (!in || !out || in > NIB_PACKING_COLS_MAX || out > NIB_PACKING_COLS_MAX)
        return nib_fail(err, NIB_EINVAL, "shape [%llu, %llu]; packed folders hold up to %d",
                        (unsigned long long)out, (unsigned long long)in, NIB_PACKING_COLS_MAX);
    *l = (nib_packed_parts){.format = *f, .out = out, .in = in};
    l->group = f->group && f->group < in ? f->group : in;
    l->groups = (in + l->group - 1) / l->group;
    return ops[f->kind]->make(l, err);
}

void nib_packing_add(nib_packed_parts *l, nib_part_role role, nib_type type, int n_dims,
                     uint64_t rows, uint64_t cols)
{
    nib_packing_part *p = &l->part[l->n_parts++];
    *p = (nib_packing_part){
        role, ops[l->format.kind]->suffix[role], type, n_dims, {rows, cols}, l->bytes, 0};
    p->bytes = rows * (n_dims > 1 ? cols : 1) * nib_codec_get(type)->bytes;
    l->bytes += p->bytes;
}

nib_code nib_packing_check_groups(const nib_packed_parts *l, uint64_t group, nib_err *err)
{
    if (l->in % group == 0 && l->group == group) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "rows of %llu weights are no multiple of %llu",
                    (unsigned long long)l->in, (unsigned long long)group);
}

nib_type nib_packing_exponents(nib_type weight)
{
    (void)weight;
    return NIB_U8;
}

/* NULL: there is none of that role. */
static const nib_packing_part *find_part(const nib_packed_parts *l, nib_part_role role)
{
    for (size_t i = 0; i < l->n_parts; i++)
        if (l->part[i].role == role) return &l->part[i];
    return NULL;
}

uint8_t *nib_packing_at(uint8_t *packed, const nib_packed_parts *l, nib_part_role role)
{
    return packed + find_part(l, role)->at;
}

nib_type nib_packing_scale_type(nib_packing_kind kind, nib_type weight)
{
    return ops[kind]->scale_type(weight);
}

nib_int_codec nib_packing_codec(const nib_packed_parts *l)
{
    const nib_packing *f = &l->format;
    nib_int_codec c = nib_int_codec_make(f->bits, (size_t)l->group, f->sym);
    c.grid = ops[f->kind]->grid;
    c.codec.scale_type = f->scale_type;
    c.zero_min = f->kind == NIB_PACKING_GPTQ && !f->v2;
    if (ops[f->kind]->grid_of)
        ops[f->kind]->grid_of(&c, l);
    else if (f->per_tensor)
        nib_int_codec_per_tensor(&c);
    return c;
}

char *nib_packing_name(char *buf, size_t n, const nib_packing *f)
{
    const char *fp8 = f->code_type == NIB_F8_E5M2 ? "fp8_e5m2" : "fp8";
    if (f->kind == NIB_PACKING_BNB4)
        snprintf(buf, n, "%s-g%llu", f->fp4 ? "fp4" : "nf4", (unsigned long long)f->group);
    else if (f->kind == NIB_PACKING_CT_NVFP4)
        snprintf(buf, n, "nvfp4");
    else if (f->kind == NIB_PACKING_CT_MXFP4 || f->kind == NIB_PACKING_MXFP4)
        snprintf(buf, n, "mxfp4");
    else if (f->kind == NIB_PACKING_CT_MXFP8)
        snprintf(buf, n, "mxfp8");
    else if (f->rows)
        snprintf(buf, n, "%s-%llux%llu", fp8, (unsigned long long)f->rows,
                 (unsigned long long)f->group);
    else if (ops[f->kind]->act == NIB_ACT_FP8)
        snprintf(buf, n, "%s-%s", fp8, f->per_tensor ? "tensor" : "row");
    else
        return nib_int_codec_name(buf, n, f->bits, f->group, f->per_tensor);
    return buf;
}

/* ---- fields ---- */

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void nib_put_field(uint8_t *words, size_t stride, size_t i, unsigned bits, uint32_t v)
{
    const size_t at = i * bits;
    v <<= at % 8;
    for (size_t byte = at / 8; v; byte++, v >>= 8)
        words[byte / 4 * stride * 4 + byte % 4] |= (uint8_t)v;
}

uint32_t nib_get_bits(const uint8_t *words, size_t stride, size_t at, unsigned bits)
{
    const size_t shift = at % 32;
    const uint8_t *w = words + at / 32 * stride * 4;
    uint32_t v = word_at(w) >> shift;
    if (shift + bits > 32) v |= word_at(w + stride * 4) << (32 - shift);
    return v & ((1u << bits) - 1);
}

void nib_get_fields(uint8_t *dst, size_t n, const uint8_t *words, size_t stride, unsigned bits)
{
    const uint32_t mask = (1u << bits) - 1;
    uint64_t have = 0;
    unsigned n_bits = 0;
    for (size_t i = 0; i < n; i++) {
        if (n_bits < bits) {
            have |= (uint64_t)word_at(words) << n_bits;
            words += stride * 4;
            n_bits += 32;
        }
        dst[i] = (uint8_t)(have & mask);
        have >>= bits;
        n_bits -= bits;
    }
}

/* ---- packing ---- */

void nib_put_uint(uint8_t *dst, size_t bytes, uint64_t v)
{
    for (size_t b = 0; b < bytes; b++) dst[b] = (uint8_t)(v >> 8 * b);
}

bool nib_put_scale(uint8_t *dst, nib_type type, size_t i, float scale)
{
    const size_t n = nib_codec_get(type)->bytes;
    const float stored = nib_scale_stored(type, scale);
    nib_put_uint(dst + i * n, n,
                 type == NIB_F16    ? nib_f32_to_f16(stored)
                 : type == NIB_BF16 ? nib_f32_to_bf16(stored)
                                    : nib_f32_bits(stored));
    return isfinite(stored);
}

nib_code nib_pack_scale(uint8_t *packed, const nib_packed_parts *l, size_t i, float scale,
                        size_t row, nib_err *err)
{
    const nib_type type = l->format.scale_type;
    if (nib_put_scale(nib_packing_at(packed, l, NIB_PART_SCALES), type, i, scale)) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "row %zu holds values too large for scales in %s", row,
                    nib_codec_get(type)->name);
}

nib_code nib_check_zero(int32_t zero, int32_t low, int32_t high, size_t row, nib_err *err)
{
    if (zero >= low && zero <= high) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "row %zu: zero point %d; %d to %d can be stored", row,
                    (int)zero, (int)low, (int)high);
}

void nib_pack_g_idx(uint8_t *packed, const nib_packed_parts *l, const uint32_t *outer)
{
    uint8_t *dst = nib_packing_at(packed, l, NIB_PART_G_IDX);
    for (size_t c = 0; c < l->in; c++)
        nib_put_uint(dst + (outer ? outer[c] : c) * 4, 4, c / l->group);
}

nib_code nib_pack_input_range(uint8_t *packed, const nib_packed_parts *l, nib_act_range range,
                              nib_err *err)
{
    const nib_packing *f = &l->format;
    if (f->act != NIB_ACT_TENSOR) return NIB_OK;
    const nib_packing_part *p = find_part(l, NIB_PART_INPUT_SCALE);
    if (!(nib_scale_stored(p->type, range.scale) > 0) ||
        !nib_put_scale(packed + p->at, p->type, 0, range.scale))
        return nib_fail(err, NIB_ENUMERIC, "scale %g of the inputs cannot be stored in %s",
                        (double)range.scale, nib_codec_get(p->type)->name);
    if (range.zero < -128 || range.zero > 127 || (f->act_sym && range.zero))
        return nib_fail(err, NIB_ENUMERIC, "zero point %d of the inputs; %s", (int)range.zero,
                        f->act_sym ? "should be 0" : "-128 to 127 can be stored");
    if (!f->act_sym) *nib_packing_at(packed, l, NIB_PART_INPUT_ZERO) = (uint8_t)range.zero;
    return NIB_OK;
}

nib_code nib_packing_pack(uint8_t *dst, const nib_packed_parts *l, const nib_packing_values *v,
                          nib_err *err)
{
    if (v->outer && !l->format.desc_act)
        return nib_fail(err, NIB_EINVAL, "groups in order of activation need desc_act");
    memset(dst, 0, (size_t)l->bytes);
    return ops[l->format.kind]->pack(dst, l, v, err);
}

/* ---- reading ---- */

void nib_get_scales(float *dst, const uint8_t *src, nib_type type, size_t n)
{
    enum { BIAS = 127, NONE = 255 };
    if (type != NIB_U8 && type != NIB_F8_E8M0) nib_codec_get(type)->decode(dst, src, n, 0);
    for (size_t i = 0; i < n && (type == NIB_U8 || type == NIB_F8_E8M0); i++)
        dst[i] = src[i] == NONE ? NAN : ldexpf(1, src[i] - BIAS);
}

void nib_scale_groups(float *x, const nib_packed_parts *l, const nib_packing_rows *r)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, group = (size_t)l->group;
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < in; k++) x[i * in + k] *= r->scale[i * groups + k / group];
}

/* Where rows are short, what lies between the strip's bytes is cheaper to read along than to leave
 * out, which takes a call for every row: SPAN bytes at a time. */
nib_code nib_packing_strip(const nib_packing_from *from, const nib_packed_parts *l,
                           nib_part_role role, size_t first, size_t n, uint8_t *dst, nib_err *err)
{
    const nib_packing_part *p = find_part(l, role);
    const size_t part = (size_t)(p - l->part), rows = (size_t)p->shape[0];
    const size_t row = (size_t)(p->bytes / rows);
    uint8_t span[SPAN];
    const size_t at_once = row <= SPAN / 2 ? SPAN / row : 1;
    if (n == row) return from->read(from->arg, part, 0, dst, (size_t)p->bytes, err);
    nib_code rc = NIB_OK;
    for (size_t r = 0; r < rows && !rc; r += at_once) {
        const size_t k = rows - r < at_once ? rows - r : at_once;
        uint8_t *to = k > 1 ? span : dst + r * n;
        rc = from->read(from->arg, part, r * row + first, to, (k - 1) * row + n, err);
        for (size_t i = 0; i < k && k > 1; i++) memcpy(dst + (r + i) * n, span + i * row, n);
    }
    return rc;
}

nib_code nib_packing_lines(const nib_packing_from *from, const nib_packed_parts *l,
                           nib_part_role role, size_t row, size_t n, uint8_t *dst, nib_err *err)
{
    const nib_packing_part *p = find_part(l, role);
    const uint64_t bytes = p->bytes / p->shape[0];
    return from->read(from->arg, (size_t)(p - l->part), row * bytes, dst, (size_t)(n * bytes), err);
}

nib_code nib_read_group_scales(nib_packing_rows *r, const nib_packed_parts *l,
                               const nib_packing_from *from, size_t row, nib_err *err)
{
    const nib_codec *c = nib_codec_get(l->format.scale_type);
    const size_t groups = (size_t)l->groups;
    nib_code rc =
        nib_packing_strip(from, l, NIB_PART_SCALES, row * c->bytes, r->n * c->bytes, r->bytes, err);
    if (rc) return rc;
    for (size_t g = 0; g < groups; g++)
        for (size_t i = 0; i < r->n; i++)
            c->decode(&r->scale[i * groups + g], r->bytes + (g * r->n + i) * c->bytes, 1, 0);
    return NIB_OK;
}

bool nib_packing_read_bytes(const nib_packed_parts *l, uint64_t n, size_t *bytes)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, rows = (size_t)n;
    /* No code, scale or zero point takes more than 1, 4 and 4 bytes; a strip of fields may begin
     * and end inside a word, which adds less than 16 rows. */
    size_t strips, params;
    return nib_mul(rows + 16, in + 4 * groups, &strips) && nib_mul(rows, groups * 8, &params) &&
           nib_add(strips, params, bytes) && nib_add(*bytes, rows * in, bytes);
}

nib_code nib_packing_read(nib_packing_rows *r, const nib_packed_parts *l,
                          const nib_packing_from *from, uint64_t row, uint64_t n, nib_buf *work,
                          nib_err *err)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, rows = (size_t)n;
    size_t total;
    uint8_t *at = nib_packing_read_bytes(l, n, &total) ? nib_buf_reserve(work, total, 1) : NULL;
    if (!at) return nib_fail_nomem(err, "packed rows");
    r->n = rows;
    r->scale = (float *)(void *)at, at += rows * groups * 4;
    r->zero = (int32_t *)(void *)at, at += rows * groups * 4;
    r->bytes = at, at += (rows + 16) * (in + 4 * groups);
    r->code = at;
    return ops[l->format.kind]->read(r, l, from, (size_t)row, err);
}

nib_code nib_packing_settle(nib_packed_parts *l, bool *changed, const nib_packing_from *from,
                            nib_err *err)
{
    *changed = false;
    return ops[l->format.kind]->settle ? ops[l->format.kind]->settle(l, changed, from, err)
                                       : NIB_OK;
}

void nib_packing_decode(float *dst, const nib_packed_parts *l, const nib_packing_rows *r,
                        const uint32_t *g_idx)
{
    const size_t in = (size_t)l->in, groups = (size_t)l->groups, group = (size_t)l->group;
    if (ops[l->format.kind]->decode) {
        ops[l->format.kind]->decode(dst, l, r);
        return;
    }
    for (size_t i = 0; i < r->n; i++) {
        const uint8_t *code = r->code + i * in;
        const float *scale = r->scale + i * groups;
        const int32_t *zero = r->zero + i * groups;
        float *to = dst + i * in;
        for (size_t k = 0; k < in && g_idx; k++)
            to[k] = scale[g_idx[k]] * (float)(code[k] - zero[g_idx[k]]);
        for (size_t g = 0; g < groups && !g_idx; g++) {
            const size_t end = (g + 1) * group < in ? (g + 1) * group : in;
            for (size_t k = g * group; k < end; k++) to[k] = scale[g] * (float)(code[k] - zero[g]);
        }
    }
}

/* ---- unpacking ---- */

typedef struct {
    const nib_packed_parts *l;
    const uint8_t *packed;
} in_memory;

static nib_code read_memory(const void *arg, size_t part, uint64_t offset, void *dst, size_t n,
                            nib_err *err)
{
    const in_memory *m = arg;
    (void)err;
    memcpy(dst, m->packed + m->l->part[part].at + offset, n);
    return NIB_OK;
}

/* What readers of folders keep of nested scales; *tables is the caller's. */
static nib_code take_nested(nib_packed_parts *own, float **tables, const uint8_t *packed,
                            nib_err *err)
{
    const nib_packing_part *nested = find_part(own, NIB_PART_NESTED);
    const nib_packing_part *map = find_part(own, NIB_PART_NESTED_MAP);
    const nib_packing_part *text =
        find_part(own, own->format.fp4 ? NIB_PART_STATE_FP4 : NIB_PART_STATE_NF4);
    uint64_t out, in;
    float *to = *tables = nib_alloc((size_t)(nested->bytes + map->bytes), 1);
    if (!to) return nib_fail_nomem(err, "nested scales");
    own->nested = memcpy(to, packed + nested->at, (size_t)nested->bytes);
    own->nested_map = memcpy(to + nested->bytes / sizeof *to, packed + map->at, (size_t)map->bytes);
    return nib_packing_state(&own->format, &out, &in, (const char *)packed + text->at,
                             (size_t)text->bytes, err);
}

nib_code nib_packing_unpack(float *dst, const nib_packed_parts *l, const uint8_t *packed,
                            nib_buf *work, nib_err *err)
{
    const in_memory m = {l, packed};
    const nib_packing_from from = {read_memory, &m};
    const nib_packing_part *index = find_part(l, NIB_PART_G_IDX);
    nib_packed_parts own = *l;
    uint32_t *g_idx = NULL;
    float *tables = NULL;
    nib_code rc = l->format.nested ? take_nested(&own, &tables, packed, err) : NIB_OK;
    if (!rc && index && !(g_idx = nib_alloc((size_t)l->in, sizeof *g_idx)))
        rc = nib_fail_nomem(err, "column indices");
    for (size_t i = 0; index && i < l->in && !rc; i++)
        g_idx[i] = word_at(packed + index->at + i * 4);
    for (uint64_t row = 0; row < l->out && !rc; row += UNPACK_ROWS) {
        uint64_t n = l->out - row < UNPACK_ROWS ? l->out - row : UNPACK_ROWS;
        nib_packing_rows r;
        rc = nib_packing_read(&r, &own, &from, row, n, work, err);
        if (!rc) nib_packing_decode(dst + row * l->in, &own, &r, g_idx);
    }
    nib_free(g_idx);
    nib_free(tables);
    return rc;
}

nib_act_quant nib_packing_act_quant(const nib_packing *f)
{
    return (nib_act_quant){.scheme = f->act,
                           .number = f->act_float ? NIB_ACT_FP8 : ops[f->kind]->act,
                           .sym = f->act_sym,
                           .group = f->rows ? f->group : 0,
                           .most = f->act_most};
}

nib_act_quant nib_packing_act(const nib_packed_parts *l, const uint8_t *packed)
{
    const nib_packing *f = &l->format;
    nib_act_quant act = nib_packing_act_quant(f);
    if (f->act != NIB_ACT_TENSOR) return act;
    const nib_packing_part *p = find_part(l, NIB_PART_INPUT_SCALE);
    nib_get_scales(&act.range.scale, packed + p->at, p->type, 1);
    if (!f->act_sym) act.range.zero = (int8_t)packed[find_part(l, NIB_PART_INPUT_ZERO)->at];
    return act;
}

nib_packing_kind nib_packing_renamed(nib_packing_kind kind)
{
    return kind == NIB_PACKING_FP8_TENSOR ? NIB_PACKING_FP8_VLLM
           : kind == NIB_PACKING_FP8      ? NIB_PACKING_FP8_STACK
                                          : kind;
}

bool nib_packing_common(const nib_packing *f)
{
    return f->kind == NIB_PACKING_CT_NVFP4 || (f->per_tensor && ops[f->kind]->act == NIB_ACT_FP8);
}

/* ---- folders ---- */

bool nib_packing_holds(nib_packing_kind kind, nib_type codes)
{
    return ops[kind]->codes == NIB_F32 || ops[kind]->codes == codes;
}

const char *nib_packing_suffix(nib_packing_kind kind, nib_part_role role)
{
    return ops[kind]->suffix[role];
}

bool nib_packing_is_integers(nib_packing_kind kind)
{
    return !ops[kind]->decode;
}

bool nib_packing_levels(float *level, const nib_packed_parts *l)
{
    const nib_packing_ops *o = ops[l->format.kind];
    return o->levels && o->levels(level, l);
}

bool nib_packing_is_floats(nib_packing_kind kind)
{
    return ops[kind]->floats;
}

nib_code nib_packing_state(nib_packing *f, uint64_t *out, uint64_t *in, const char *text, size_t n,
                           nib_err *err)
{
    return ops[f->kind]->state(f, out, in, text, n, err);
}

nib_code nib_packing_facts(nib_packing *f, uint64_t *out, uint64_t *in, const nib_packing_fact *v,
                           nib_err *err)
{
    return ops[f->kind]->facts(f, out, in, v, err);
}

const char *nib_packing_weight_suffix(nib_packing_kind kind)
{
    return ops[kind]->weight_suffix ? ops[kind]->weight_suffix : ".weight";
}

unsigned nib_packing_tail(nib_packing_kind kind, nib_part_role role)
{
    return ops[kind]->tail[role];
}

bool nib_packing_measure(const nib_packing *f, const uint64_t shape[2], uint64_t *out, uint64_t *in)
{
    return ops[f->kind]->measure(f, shape, out, in);
}
