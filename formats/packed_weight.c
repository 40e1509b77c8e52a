/* SPDX-License-Identifier: MIT */
/* formats/packed_weight.c - see packed_weight.h. Tests: tests/run/test_folder_kinds.c. */
#include "formats/packed_weight.h"

#include "base/rd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STATE_MAX = 4096 }; /* bytes of the text about a weight, some 200 in practice */

/* ---- the parts ---- */

const nib_tensor *nib_packed_part(const nib_tensors *ts, const char *name, size_t n,
                                  nib_packing_kind kind, nib_part_role role)
{
    char full[NIB_PACKED_NAME_MAX + 32];
    const char *suffix = nib_packing_suffix(kind, role);
    if (n > NIB_PACKED_NAME_MAX || !suffix) return NULL;
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, suffix);
    return nib_tensors_find(ts, full);
}

nib_code nib_packed_missing(const nib_tensor *there, size_t n, const char *suffix, nib_err *err)
{
    return nib_fail(err, NIB_EFORMAT, "tensor '%.*s%s' is missing, but '%.200s' is there",
                    (int)(n < 200 ? n : 200), there->name, suffix, there->name);
}

static bool type_fits(const nib_packing_part *p, nib_type t)
{
    switch (p->role) {
    case NIB_PART_SCALES:
        if (p->type == NIB_U8 || p->type == NIB_F8_E8M0 || p->type == NIB_F8_E4M3)
            return t == p->type; /* codes of scales */
        return t == NIB_F16 || t == NIB_BF16 || t == NIB_F32;
    case NIB_PART_INPUT_SCALE: return t == NIB_F16 || t == NIB_BF16 || t == NIB_F32;
    case NIB_PART_SHAPE: return t == NIB_I64 || t == NIB_I32;
    case NIB_PART_INPUT_ZERO: return t == NIB_I8 || t == NIB_I32;
    default: return t == p->type;
    }
}

/* A part as a matrix: its last `tail` dimensions are a row. False: it has too few. */
static bool as_matrix(const nib_tensor *t, unsigned tail, uint64_t shape[2])
{
    shape[0] = shape[1] = 1;
    for (int d = 0; d < t->n_dims; d++)
        shape[d >= t->n_dims - (int)tail] *= t->shape[d]; /* as many as the tensor has elements */
    return t->n_dims > (int)tail;
}

/* One number, whether as [] or as [1]. */
static bool is_scalar(int n_dims, const uint64_t *shape)
{
    return !n_dims || (n_dims == 1 && shape[0] == 1);
}

/* `tail`: see nib_packing_tail(). */
static nib_code check_part(const nib_tensor *t, const nib_packing_part *p, unsigned tail,
                           nib_err *err)
{
    char has[160], should[160];
    uint64_t shape[2];
    nib_tensor want = {.n_dims = p->n_dims, .shape = {p->shape[0], p->shape[1]}};
    if (!type_fits(p, t->codec->type))
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': dtype is %s, should be %s", t->name,
                        t->codec->name, nib_codec_get(p->type)->name);
    bool same = t->n_dims == p->n_dims;
    for (int d = 0; d < p->n_dims && same; d++) same = t->shape[d] == p->shape[d];
    if (tail && as_matrix(t, tail, shape) && shape[0] == p->shape[0] && shape[1] == p->shape[1])
        return NIB_OK;
    if (is_scalar(t->n_dims, t->shape) && is_scalar(p->n_dims, p->shape)) return NIB_OK;
    if (!tail && same) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': shape is %s, should be %s", t->name,
                    nib_tensor_shape_str(t, has, sizeof has),
                    nib_tensor_shape_str(&want, should, sizeof should));
}

/* The scales' dtype, which configurations leave open. */
static nib_code scale_type(nib_packing *f, const nib_tensor *scales, nib_err *err)
{
    nib_type t = scales ? scales->codec->type : f->scale_type;
    const bool exponents = f->rows && (t == NIB_U8 || t == NIB_F8_E8M0);
    if (f->scale_type == NIB_U8 || f->scale_type == NIB_F8_E4M3) return NIB_OK;
    if (t != NIB_F16 && t != NIB_BF16 && t != NIB_F32 && !exponents)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%.200s': dtype is %s, should be f16, bf16 or f32", scales->name,
                        scales->codec->name);
    f->scale_type = t;
    return NIB_OK;
}

/* Integer number i of a tensor of I8, I32 or I64. */
static nib_code read_int(int64_t *out, const nib_packed_from *from, const nib_tensor *t, size_t i,
                         nib_err *err)
{
    uint8_t raw[8];
    const size_t n = t->codec->bytes;
    nib_code rc = nib_file_read(&from->file[t->file], t->offset + i * n, raw, n, err);
    uint64_t v = 0;
    for (size_t b = n; b-- > 0;) v = v << 8 | raw[b];
    const unsigned unused = 64 - 8 * (unsigned)n;
    *out = (int64_t)(v << unused) >> unused;
    return rc;
}

static nib_code read_g_idx(nib_packed *p, const nib_packed_from *from, const nib_tensor *t,
                           nib_err *err)
{
    const size_t n = (size_t)p->l.in;
    uint32_t *g = nib_arena_alloc(from->memory, n, sizeof *g, sizeof *g);
    if (!g) return nib_fail_nomem(err, "column indices");
    nib_code rc = nib_file_read(&from->file[t->file], t->offset, g, n * sizeof *g, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) {
        nib_rd r = {(const uint8_t *)&g[i], (const uint8_t *)&g[i + 1], false};
        g[i] = nib_rd_u32(&r);
        if (g[i] >= p->l.groups)
            return nib_fail(err, NIB_EFORMAT,
                            "tensor '%.200s': column %zu is in group %d, should be from 0 to %llu",
                            t->name, i, (int)(int32_t)g[i], (unsigned long long)p->l.groups - 1);
    }
    p->g_idx = g;
    return NIB_OK;
}

/* Where there is a tensor that says the weight's shape: its last word may be part used. */
static nib_code read_shape(uint64_t out, uint64_t *in, const nib_packed_from *from,
                           const nib_tensor *t, unsigned per_word, nib_err *err)
{
    int64_t says[2];
    const nib_packing_part two = {
        .role = NIB_PART_SHAPE, .type = NIB_I64, .n_dims = 1, .shape = {2}};
    nib_code rc = check_part(t, &two, 0, err);
    for (size_t i = 0; i < 2 && !rc; i++) rc = read_int(&says[i], from, t, i, err);
    if (rc) return rc;
    if ((uint64_t)says[0] != out || (uint64_t)says[1] > *in || (uint64_t)says[1] + per_word <= *in)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%.200s': says [%lld, %lld], should be [%llu, %llu]", t->name,
                        (long long)says[0], (long long)says[1], (unsigned long long)out,
                        (unsigned long long)*in);
    *in = (uint64_t)says[1];
    return NIB_OK;
}

/* Where a text says how the weight is packed, and its shape. */
static nib_code read_state(nib_packing *f, uint64_t *out, uint64_t *in, const nib_packed_from *from,
                           const nib_tensor *q, size_t n, nib_err *err)
{
    char text[STATE_MAX];
    const nib_tensor *t = nib_packed_part(from->parts, q->name, n, f->kind, NIB_PART_STATE_NF4);
    if (!t) {
        t = nib_packed_part(from->parts, q->name, n, f->kind, NIB_PART_STATE_FP4);
        f->fp4 = true;
    }
    if (!t) return nib_packed_missing(q, n, nib_packing_suffix(f->kind, NIB_PART_STATE_NF4), err);
    if (t->codec->type != NIB_U8 || t->n_dims != 1 || t->bytes > STATE_MAX)
        return nib_fail(err, NIB_EFORMAT,
                        "tensor '%.200s': should be a text of at most %d bytes in u8", t->name,
                        STATE_MAX);
    nib_code rc = nib_file_read(&from->file[t->file], t->offset, text, (size_t)t->bytes, err);
    if (rc) return rc;
    if (!(rc = nib_packing_state(f, out, in, text, (size_t)t->bytes, err))) return NIB_OK;
    err->code = NIB_EFORMAT;
    nib_wrap(err, "tensor '%.200s'", t->name);
    return NIB_EFORMAT;
}

/* What a small tensor says. */
static nib_code read_fact(nib_packing_fact *v, const nib_packed_from *from, const nib_tensor *t,
                          nib_err *err)
{
    const nib_type type = t->codec->type;
    const uint64_t n = nib_tensor_elems(t);
    nib_code rc = NIB_OK;
    v->there = true;
    if (type == NIB_U8 && t->n_dims == 1 && n < sizeof v->text)
        return nib_file_read(&from->file[t->file], t->offset, v->text, (size_t)n, err);
    if ((type != NIB_U8 && type != NIB_I32 && type != NIB_I64) || n < 1 || n > 2)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': should be a number or a short text",
                        t->name);
    for (size_t i = 0; i < n && !rc; i++) rc = read_int(&v->number[i], from, t, i, err);
    return rc;
}

/* Where small tensors say how the weight is packed, and its shape. */
static nib_code read_facts(nib_packing *f, uint64_t *out, uint64_t *in, const nib_packed_from *from,
                           const nib_tensor *q, size_t n, nib_err *err)
{
    nib_packing_fact v[NIB_PACKING_FACTS] = {{0}};
    nib_code rc = NIB_OK;
    for (int i = 0; i < NIB_PACKING_FACTS && !rc; i++) {
        const nib_part_role role = (nib_part_role)(NIB_PART_FACT + i);
        const nib_tensor *t = nib_packed_part(from->parts, q->name, n, f->kind, role);
        if (t) rc = read_fact(&v[i], from, t, err);
    }
    if (rc) return rc;
    rc = nib_packing_facts(f, out, in, v, err);
    return rc ? nib_wrap(err, "tensor '%.200s'", q->name) : NIB_OK;
}

/* The codes' own shape says how large the weight is. */
static nib_code measure(nib_packed *p, const nib_packed_from *from, const nib_packing *f,
                        const nib_tensor *q, size_t n, nib_err *err)
{
    uint64_t out = 0, in = 0, matrix[2] = {q->shape[0], q->shape[1]};
    const unsigned tail = nib_packing_tail(f->kind, NIB_PART_CODES);
    nib_packing own = *f;
    const char *shape = nib_packing_suffix(f->kind, NIB_PART_SHAPE);
    if (!(tail ? as_matrix(q, tail, matrix) : q->n_dims == 2) ||
        !nib_packing_measure(f, matrix, &out, &in))
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': no shape of %u-bit codes", q->name,
                        f->bits);
    if (shape) {
        const nib_tensor *t = nib_packed_part(from->parts, q->name, n, f->kind, NIB_PART_SHAPE);
        if (!t) return nib_packed_missing(q, n, shape, err);
        nib_code rc = read_shape(out, &in, from, t, 31 / f->bits + 1, err);
        if (rc) return rc;
    }
    if (nib_packing_suffix(f->kind, NIB_PART_STATE_NF4)) {
        nib_code rc = read_state(&own, &out, &in, from, q, n, err);
        if (rc) return rc;
    }
    if (nib_packing_suffix(f->kind, NIB_PART_FACT)) {
        nib_code rc = read_facts(&own, &out, &in, from, q, n, err);
        if (rc) return rc;
    }
    if (!nib_packing_make(&p->l, &own, out, in, err)) return NIB_OK;
    err->code = NIB_EFORMAT;
    nib_wrap(err, "tensor '%.200s'", q->name);
    return NIB_EFORMAT;
}

static nib_code read_input_scale(nib_packed *p, const nib_packed_from *from, const nib_tensor *t,
                                 nib_err *err)
{
    uint8_t raw[4];
    const nib_codec *c = t->codec;
    float *scale = &p->act.range.scale;
    nib_code rc = nib_file_read(&from->file[t->file], t->offset, raw, c->bytes, err);
    if (rc) return rc;
    c->decode(scale, raw, 1, 0);
    if (*scale > 0 && isfinite(*scale)) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': the scale is %g", t->name, (double)*scale);
}

static nib_code read_input_zero(nib_packed *p, const nib_packed_from *from, const nib_tensor *t,
                                nib_err *err)
{
    int64_t zero;
    nib_code rc = read_int(&zero, from, t, 0, err);
    if (rc) return rc;
    p->act.range.zero = (int32_t)zero;
    if (zero >= -128 && zero <= 127) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': %lld, should be from -128 to 127", t->name,
                    (long long)zero);
}

/* All numbers of a part of F32. */
static nib_code read_floats(const float **out, const nib_packed_from *from, const nib_tensor *t,
                            nib_err *err)
{
    const size_t n = (size_t)t->bytes / sizeof **out;
    float *x = nib_arena_alloc(from->memory, n, sizeof *x, sizeof *x);
    if (!x) return nib_fail_nomem(err, "tables of a weight");
    nib_code rc = nib_file_read(&from->file[t->file], t->offset, x, n * sizeof *x, err);
    for (size_t i = 0; i < n && !rc; i++)
        if (!isfinite(x[i]))
            rc =
                nib_fail(err, NIB_EFORMAT, "tensor '%.200s': number %zu is not finite", t->name, i);
    *out = x;
    return rc;
}

/* What of a part is kept. */
static nib_code read_part_of(nib_packed *p, const nib_packed_from *from, const nib_tensor *t,
                             nib_part_role role, nib_err *err)
{
    switch (role) {
    case NIB_PART_MAP: return read_floats(&p->l.map, from, t, err);
    case NIB_PART_NESTED: return read_floats(&p->l.nested, from, t, err);
    case NIB_PART_NESTED_MAP: return read_floats(&p->l.nested_map, from, t, err);
    case NIB_PART_G_IDX: return read_g_idx(p, from, t, err);
    case NIB_PART_INPUT_SCALE: return read_input_scale(p, from, t, err);
    case NIB_PART_INPUT_ZERO: return read_input_zero(p, from, t, err);
    default: return NIB_OK;
    }
}

/* ---- parts that are too many or too few ---- */

/* Zero points of 0 where the format says symmetric: signed bytes, or packed fields of 2^(b-1). */
static nib_code check_neutral(const nib_packed *p, const nib_packed_from *from, const nib_tensor *t,
                              nib_err *err)
{
    uint8_t piece[4096];
    const uint8_t middle = p->l.format.bits == 4 ? 0x88 : 0x80;
    const bool words = t->codec->type == NIB_I32 && p->l.format.kind == NIB_PACKING_CT_PACKED;
    bool zeros = true, middles = words;
    for (uint64_t at = 0; at < t->bytes && (zeros || middles); at += sizeof piece) {
        const size_t n = t->bytes - at < sizeof piece ? (size_t)(t->bytes - at) : sizeof piece;
        nib_code rc = nib_file_read(&from->file[t->file], t->offset + at, piece, n, err);
        if (rc) return rc;
        for (size_t i = 0; i < n; i++) {
            zeros &= !piece[i];
            middles &= piece[i] == (middle == 0x88 || i % 4 == 3 ? middle : 0x80);
        }
    }
    if (zeros || middles) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT,
                    "tensor '%.200s': holds zero points other than 0, but quantization_config says "
                    "'symmetric'",
                    t->name);
}

/* LLM.int8 once had orders for single graphics cards. */
static nib_code check_order(const nib_packed_from *from, const nib_tensor *t, nib_err *err)
{
    uint8_t order = 255;
    nib_code rc =
        t->bytes == 1 ? nib_file_read(&from->file[t->file], t->offset, &order, 1, err) : NIB_OK;
    if (rc || !order) return rc;
    return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': should be 0, codes in rows", t->name);
}

/* A part that the configuration does not speak of would be lost, unless it says nothing. */
static nib_code refuse_others(const nib_packed *p, const nib_packed_from *from, const nib_tensor *q,
                              size_t n, nib_err *err)
{
    const nib_packing_kind kind = p->l.format.kind;
    for (int role = 0; role < NIB_PART_ROLES; role++) {
        const nib_tensor *t = nib_packed_part(from->parts, q->name, n, kind, (nib_part_role)role);
        bool used = !t;
        for (size_t i = 0; i < p->l.n_parts; i++) used |= p->part[i] == t;
        if (used) continue;
        if (role == NIB_PART_ORDER) {
            nib_code rc = check_order(from, t, err);
            if (rc) return rc;
            continue;
        }
        if (role != NIB_PART_ZEROS && role != NIB_PART_INPUT_ZERO)
            return nib_fail(err, NIB_EFORMAT,
                            "tensor '%.200s' is there, but quantization_config says that it is "
                            "not needed",
                            t->name);
        nib_code rc = check_neutral(p, from, t, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static nib_code name_codec(nib_packed *p, const nib_packed_from *from, nib_err *err)
{
    const nib_packing *f = &p->l.format;
    char name[32];
    nib_packing_name(name, sizeof name, f);
    p->codec = nib_packing_codec(&p->l).codec;
    p->codec.fit = NULL, p->codec.finish = NULL; /* they need the whole of an integer codec */
    p->codec.name = nib_arena_str(from->memory, name, strlen(name));
    return p->codec.name ? NIB_OK : nib_fail_nomem(err, "a name");
}

static bool is_fact(const nib_packing_part *p)
{
    return p->role >= NIB_PART_FACT;
}

/* Part i may be missing: the order of columns, which lie as they were, or what a layer needs not
 * say. */
static bool drop_part(nib_packed_parts *l, size_t i)
{
    const nib_packing_part *p = &l->part[i];
    if (!is_fact(p) && p->role != NIB_PART_G_IDX) return false;
    if (!is_fact(p) && l->format.desc_act && l->groups > 1) return false;
    l->bytes -= p->bytes;
    l->n_parts--;
    for (; i < l->n_parts; i++) l->part[i] = l->part[i + 1];
    return true;
}

typedef struct {
    const nib_packed *p;
    const nib_file *file;
} in_files;

static nib_code read_part(const void *arg, size_t part, uint64_t offset, void *dst, size_t n,
                          nib_err *err)
{
    const in_files *f = arg;
    const nib_tensor *t = f->p->part[part];
    return nib_file_read(&f->file[t->file], t->offset + offset, dst, n, err);
}

nib_code nib_packed_gather(nib_packed *p, const nib_packed_from *from, nib_packing f,
                           const nib_tensor *q, size_t n, nib_err *err)
{
    const nib_packing_kind also = nib_packing_renamed(f.kind);
    if (nib_packed_part(from->parts, q->name, n, also, NIB_PART_SCALES)) f.kind = also;
    const nib_tensor *scales = nib_packed_part(from->parts, q->name, n, f.kind, NIB_PART_SCALES);
    nib_code rc = scale_type(&f, scales, err);
    if (!rc) rc = measure(p, from, &f, q, n, err);
    p->act = nib_packing_act_quant(&f);
    for (size_t i = 0; i < p->l.n_parts && !rc;) {
        const nib_packing_part *part = &p->l.part[i];
        const nib_tensor *t = nib_packed_part(from->parts, q->name, n, f.kind, part->role);
        if (!t && drop_part(&p->l, i)) continue;
        p->part[i++] = t;
        if (t && is_fact(part)) continue; /* was read */
        rc = t ? check_part(t, part, nib_packing_tail(f.kind, part->role), err)
               : nib_packed_missing(q, n, part->suffix, err);
        if (!rc) rc = read_part_of(p, from, t, part->role, err);
    }
    if (!rc) rc = refuse_others(p, from, q, n, err);
    const in_files files = {p, from->file};
    if (!rc)
        rc = nib_packing_settle(&p->l, &p->settled, &(nib_packing_from){read_part, &files}, err);
    return rc ? rc : name_codec(p, from, err);
}

/* ---- reading ---- */

nib_code nib_packed_read(const nib_packed *p, const nib_file *file, uint64_t offset, void *dst,
                         size_t n, nib_err *err)
{
    uint8_t *to = dst;
    for (size_t i = 0; i < p->l.n_parts && n; i++) {
        const nib_tensor *t = p->part[i];
        if (offset >= t->bytes) {
            offset -= t->bytes;
            continue;
        }
        uint64_t left = t->bytes - offset;
        size_t k = n < left ? n : (size_t)left;
        nib_code rc = nib_file_read(&file[t->file], t->offset + offset, to, k, err);
        if (rc) return rc;
        to += k;
        n -= k;
        offset = 0;
    }
    return NIB_OK;
}

nib_code nib_packed_read_ints(nib_packing_rows *r, const nib_packed *p, const nib_file *file,
                              uint64_t row, uint64_t n, nib_buf *raw, nib_err *err)
{
    const in_files f = {p, file};
    return nib_packing_read(r, &p->l, &(nib_packing_from){read_part, &f}, row, n, raw, err);
}

nib_code nib_packed_read_rows(const nib_packed *p, const nib_file *file, uint64_t row, uint64_t n,
                              float *dst, nib_buf *raw, nib_err *err)
{
    nib_packing_rows rows;
    if (!n) return NIB_OK;
    nib_code rc = nib_packed_read_ints(&rows, p, file, row, n, raw, err);
    if (!rc) nib_packing_decode(dst, &p->l, &rows, p->g_idx);
    return rc;
}

const nib_act_quant *nib_packed_act(const nib_packed *p)
{
    return p->act.scheme ? &p->act : NULL;
}

bool nib_packed_int8(const nib_packed *p)
{
    const nib_packing *f = &p->l.format;
    return p->act.scheme && p->act.number == NIB_ACT_INT8 && f->bits == 8 && f->sym &&
           p->l.groups == 1;
}

nib_code nib_packed_read_codes(const nib_packed *p, const nib_file *file, uint64_t row, uint64_t n,
                               int8_t *code, float *scale, nib_buf *raw, nib_err *err)
{
    nib_packing_rows r;
    if (!n) return NIB_OK;
    nib_code rc = nib_packed_read_ints(&r, p, file, row, n, raw, err);
    if (rc) return rc;
    for (size_t i = 0; i < r.n * p->l.in; i++) code[i] = (int8_t)(r.code[i] - 128);
    for (size_t i = 0; i < r.n; i++) scale[i] = r.scale[i];
    return NIB_OK;
}
