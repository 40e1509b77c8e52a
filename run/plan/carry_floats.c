/* SPDX-License-Identifier: MIT */
/* run/plan/carry_floats.c - see carry_floats.h. Tests: tests/run/test_convert.c. */
#include "run/plan/carry_floats.h"

#include "quant/codec_float.h"
#include "quant/ggml_block.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { E4M3_NAN = 127, E4M3_EIGHTH = 32 }; /* magnitudes; 0.125, the scale of a group of zeros */

/* ---- what there is ---- */

nib_floats nib_floats_of(const nib_tensor *t)
{
    nib_coded c;
    const nib_packed_parts *l = nib_tensor_parts(t);
    if (!nib_tensor_coded(&c, t)) return NIB_FLOATS_NONE;
    if (!l) return t->codec->type == NIB_NVFP4 ? NIB_FLOATS_NVFP4 : NIB_FLOATS_NONE;
    if (l->format.kind == NIB_PACKING_CT_NVFP4) return NIB_FLOATS_NVFP4;
    return nib_packing_is_floats(l->format.kind) && l->format.code_type == NIB_F8_E4M3
               ? NIB_FLOATS_FP8
               : NIB_FLOATS_NONE;
}

nib_floats nib_floats_in(const nib_plan *p, const nib_plan_tensor *t)
{
    const size_t n = t->src ? nib_plan_matrices(t) : 0;
    nib_floats all = NIB_FLOATS_NONE;
    for (size_t i = 0; i < n; i++) {
        nib_plan_tensor one;
        nib_plan_matrix(&one, p, t, i);
        const nib_floats this = one.src ? nib_floats_of(one.src) : NIB_FLOATS_NONE;
        if (!this || (i && this != all)) return NIB_FLOATS_NONE;
        all = this;
    }
    return all;
}

static bool is_compressed(nib_packing_kind kind)
{
    return kind == NIB_PACKING_CT_PACKED || kind == NIB_PACKING_CT_FP8 ||
           kind == NIB_PACKING_CT_NVFP4 || kind == NIB_PACKING_CT_MXFP8;
}

static bool holds_fp8(nib_packing_kind kind)
{
    return kind == NIB_PACKING_FP8 || kind == NIB_PACKING_FP8_TENSOR || kind == NIB_PACKING_FBGEMM;
}

/* Which folder of "fp8" has such scales. */
static nib_packing_kind fp8_kind(const nib_packing *f)
{
    return f->rows ? NIB_PACKING_FP8 : f->per_tensor ? NIB_PACKING_FP8_TENSOR : NIB_PACKING_FBGEMM;
}

/* How engines round inputs is what each format says: by a range, or each token by its own. Folders
 * of "fp8" with a scale for a tile or a matrix leave the latter to the engine; those with one for a
 * row know nothing else, and a bound. false: the format cannot say it. */
static bool adapt_fp8(nib_packing *f, nib_packing_kind to)
{
    const bool ours = f->kind == NIB_PACKING_CT_FP8;
    if (to == NIB_PACKING_CT_FP8) {
        if (!ours && f->act == NIB_ACT_NONE) f->act = NIB_ACT_TOKEN;
        f->act_most = 0;
    } else if (!f->rows && !f->per_tensor) {
        if (ours) f->act_most = FLT_MAX; /* there is none */
        if (f->act != NIB_ACT_TOKEN) return false;
    } else {
        if (f->rows && f->act == NIB_ACT_TENSOR) return false;
        if (f->act == NIB_ACT_TOKEN) f->act = NIB_ACT_NONE;
    }
    f->kind = to;
    if (f->scale_type != NIB_BF16 && f->scale_type != NIB_F16)
        f->scale_type = NIB_F32; /* of powers of two as exponents, too */
    return true;
}

bool nib_floats_layout(nib_packing *f, const nib_tensor *t, nib_packing_kind kind)
{
    const nib_packed_parts *l = nib_tensor_parts(t);
    switch (nib_floats_of(t)) {
    case NIB_FLOATS_NVFP4:
        *f = l ? l->format
               : (nib_packing){.kind = NIB_PACKING_CT_NVFP4,
                               .bits = 4,
                               .group = NIB_NVFP4_GROUP,
                               .sym = true,
                               .scale_type = NIB_F8_E4M3,
                               .act_sym = true};
        return is_compressed(kind);
    case NIB_FLOATS_FP8:
        *f = l->format;
        if (f->kind == NIB_PACKING_CT_MXFP8) return is_compressed(kind);
        if (is_compressed(kind)) return adapt_fp8(f, NIB_PACKING_CT_FP8);
        return holds_fp8(kind) && adapt_fp8(f, fp8_kind(f));
    default: return false;
    }
}

/* ---- parts as they are stored ---- */

/* The part of that role, which the layout has. */
static const nib_packing_part *part_of(const nib_packed_parts *l, nib_part_role role)
{
    const nib_packing_part *p = l->part;
    while (p->role != role) p++;
    return p;
}

nib_code nib_floats_factor(float *factor, const nib_source *src, const nib_tensor *t, nib_err *err)
{
    const nib_packed_parts *l = nib_tensor_parts(t);
    *factor = t->factor ? *t->factor : 1;
    if (!l || l->format.kind != NIB_PACKING_CT_NVFP4) return NIB_OK;
    float divisor;
    nib_code rc =
        nib_source_read(src, t, part_of(l, NIB_PART_GLOBAL)->at, &divisor, sizeof divisor, err);
    *factor = 1 / divisor;
    return rc;
}

/* Codes and scales of a row of NVFP4, both bytes as E2M1 and E4M3 have them. */
static nib_code read_nvfp4(uint8_t *code, uint8_t *scale, const nib_source *src,
                           const nib_tensor *t, uint64_t row, nib_buf *raw, nib_err *err)
{
    const size_t cols = (size_t)nib_tensor_cols(t), groups = cols / NIB_NVFP4_GROUP;
    const nib_packed_parts *l = nib_tensor_parts(t);
    nib_code rc = NIB_OK;
    if (l) {
        const uint64_t at = part_of(l, NIB_PART_CODES)->at + row * (cols / 2),
                       scales = part_of(l, NIB_PART_SCALES)->at + row * groups;
        uint8_t *packed = code + cols / 2; /* the upper half, read from its beginning on */
        rc = nib_source_read(src, t, at, packed, cols / 2, err);
        for (size_t i = 0; i < cols / 2 && !rc; i++) {
            const uint8_t both = packed[i];
            code[2 * i] = both & 15;
            code[2 * i + 1] = both >> 4;
        }
        return rc ? rc : nib_source_read(src, t, scales, scale, groups, err);
    }
    const size_t blocks = cols / t->codec->block;
    nib_nvfp4 *b = nib_buf_reserve(raw, blocks, sizeof *b);
    if (!b) return nib_fail_nomem(err, "a row");
    rc = nib_source_read(src, t, row * blocks * sizeof *b, b, blocks * sizeof *b, err);
    for (size_t k = 0; k < blocks && !rc; k++) {
        nib_nvfp4_bits(code + k * t->codec->block, &b[k]);
        memcpy(scale + 4 * k, b[k].d, 4);
    }
    return rc;
}

/* ---- NVFP4 ---- */

/* Groups whose scale is 0, or what GGUF reads as 0, get one that divides. */
static void keep_zeros(uint8_t *code, uint8_t *scale, size_t groups)
{
    for (size_t g = 0; g < groups; g++) {
        if (scale[g] & E4M3_NAN && (scale[g] & E4M3_NAN) != E4M3_NAN) continue;
        scale[g] = E4M3_EIGHTH;
        memset(code + g * NIB_NVFP4_GROUP, 0, NIB_NVFP4_GROUP);
    }
}

static void put_blocks(uint8_t *dst, const uint8_t *code, const uint8_t *scale, size_t cols)
{
    nib_nvfp4 *b = (nib_nvfp4 *)dst;
    for (size_t k = 0; k < cols / 64; k++, b++) {
        nib_nvfp4_set_bits(b, code + 64 * k);
        memcpy(b->d, scale + 4 * k, 4);
    }
}

static void put_parts(uint8_t *dst, const nib_packed_parts *l, size_t row, const uint8_t *code,
                      const uint8_t *scale)
{
    uint8_t *to = dst + part_of(l, NIB_PART_CODES)->at + row * (size_t)l->in / 2;
    for (size_t i = 0; i < l->in / 2; i++) to[i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);
    memcpy(dst + part_of(l, NIB_PART_SCALES)->at + row * (size_t)l->groups, scale,
           (size_t)l->groups);
}

/* Scales that a folder may have and GGUF's byte has not. */
static bool fits_ue4m3(const uint8_t *scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (scale[i] >= E4M3_NAN) return false;
    return true;
}

/* Where row r of the output comes from. */
static uint64_t source_row(const nib_plan_tensor *t, uint64_t r)
{
    const uint64_t at = nib_row_order_source(&t->order, r);
    return t->row_from ? t->row_from[at] : at;
}

static nib_code pack_nvfp4(uint8_t *dst, const char **why, const nib_plan *p,
                           const nib_plan_tensor *t, nib_err *err)
{
    const nib_packed_parts *l = t->layout.n_parts ? &t->layout : NULL;
    const size_t cols = (size_t)t->cols, groups = cols / NIB_NVFP4_GROUP;
    const bool blocks = !nib_tensor_parts(t->src);
    float factor, divisor;
    nib_buf raw = {0};
    uint8_t *code = nib_alloc(cols + groups, 1), *scale = code + cols;
    nib_code rc = code ? nib_floats_factor(&factor, p->model->src, t->src, err)
                       : nib_fail_nomem(err, "a row");
    divisor = rc ? 1 : 1 / factor;
    if (!rc && (!isfinite(factor) || !isfinite(divisor) || factor <= 0))
        *why = "its global scale is no positive number";
    for (uint64_t r = 0; r < t->rows && !rc && !*why; r++) {
        rc = read_nvfp4(code, scale, p->model->src, t->src, source_row(t, r), &raw, err);
        if (rc) break;
        if (blocks && l) keep_zeros(code, scale, groups);
        if (!blocks && !fits_ue4m3(scale, groups)) *why = "a scale is negative, or no number";
        if (dst && l)
            put_parts(dst, l, (size_t)r, code, scale);
        else if (dst)
            put_blocks(dst + r * (t->bytes / t->rows), code, scale, cols);
    }
    if (dst && l && !rc) {
        if (!blocks) /* as it was, not 1 / (1 / x) */
            rc = nib_source_read(p->model->src, t->src,
                                 part_of(nib_tensor_parts(t->src), NIB_PART_GLOBAL)->at, &divisor,
                                 sizeof divisor, err);
        memcpy(dst + part_of(l, NIB_PART_GLOBAL)->at, &divisor, sizeof divisor);
    }
    nib_buf_free(&raw);
    nib_free(code);
    return rc;
}

/* ---- FP8 ---- */

enum { FP8_ROWS = 64 };

/* The row of scales that row r has. */
static size_t scale_row(const nib_packing *f, uint64_t r)
{
    return f->per_tensor ? 0 : f->rows ? (size_t)(r / f->rows) : (size_t)r;
}

/* Scale i of the layout, which a dtype of the source's was; exponents are those of MXFP8. */
static bool put_scale(uint8_t *dst, const nib_packed_parts *l, size_t i, float scale)
{
    enum { BIAS = 127 };
    const nib_codec *c = nib_codec_get(l->format.scale_type);
    uint8_t *to = dst + part_of(l, NIB_PART_SCALES)->at + i * c->bytes;
    if (l->format.scale_type == NIB_U8)
        *to = (uint8_t)(isfinite(scale) ? ilogbf(scale) + BIAS : UINT8_MAX);
    else
        c->encode(to, &scale, NULL, 1, 1, 0, NULL);
    return isfinite(scale) && nib_scale_stored(l->format.scale_type, scale) == scale;
}

static bool has_nan(const uint8_t *code, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((code[i] & E4M3_NAN) == E4M3_NAN) return true;
    return false;
}

/* Rows [row, row + r->n) of a matrix whose tiles are those of the layout. */
static void put_fp8(uint8_t *dst, const char **why, const nib_packed_parts *l, uint64_t row,
                    const nib_packing_rows *r)
{
    const size_t cols = (size_t)l->in, groups = (size_t)l->groups;
    if (has_nan(r->code, r->n * cols)) *why = "a weight is no number";
    memcpy(dst + part_of(l, NIB_PART_CODES)->at + row * cols, r->code, r->n * cols);
    for (size_t i = 0; i < r->n; i++)
        for (size_t g = 0; g < groups; g++)
            if (!put_scale(dst, l, scale_row(&l->format, row + i) * groups + g,
                           r->scale[i * groups + g]))
                *why = "a scale is no number of the dtype that scales have there";
}

static nib_code pack_fp8(uint8_t *dst, const char **why, const nib_plan *p,
                         const nib_plan_tensor *t, nib_err *err)
{
    const nib_packed_parts *l = &t->layout, *from = nib_tensor_parts(t->src);
    nib_buf raw = {0}, look = {0};
    nib_packing_rows r;
    nib_code rc = NIB_OK;
    if (from->format.rows != l->format.rows || from->group != l->group ||
        from->format.per_tensor != l->format.per_tensor || t->order.head || t->row_from)
        *why = "its scales are of other tiles";
    if (!dst && !(dst = nib_buf_reserve(&look, (size_t)l->bytes, 1)))
        rc = nib_fail_nomem(err, "packed weights");
    for (uint64_t row = 0; row < t->rows && !rc && !*why; row += FP8_ROWS) {
        const uint64_t left = t->rows - row, n = left < FP8_ROWS ? left : FP8_ROWS;
        rc = nib_source_read_coded(&r, p->model->src, t->src, row, n, &raw, err);
        if (!rc) put_fp8(dst, why, l, row, &r);
    }
    nib_buf_free(&raw);
    nib_buf_free(&look);
    return rc;
}

nib_code nib_floats_pack(uint8_t *dst, const char **why, const nib_plan *p,
                         const nib_plan_tensor *t, nib_err *err)
{
    const bool nvfp4 = nib_floats_of(t->src) == NIB_FLOATS_NVFP4;
    const nib_packing_part *in = t->layout.n_parts && t->layout.format.act == NIB_ACT_TENSOR
                                     ? part_of(&t->layout, NIB_PART_INPUT_SCALE)
                                     : NULL;
    *why = NULL;
    nib_code rc = nvfp4 ? pack_nvfp4(dst, why, p, t, err) : pack_fp8(dst, why, p, t, err);
    if (rc || *why || !in) return rc;
    if (nib_scale_stored(in->type, t->range.scale) != t->range.scale)
        *why = "the scale of its input is no number of the dtype that scales have there";
    if (dst) nib_codec_get(in->type)->encode(dst + in->at, &t->range.scale, NULL, 1, 1, 0, NULL);
    return NIB_OK;
}
