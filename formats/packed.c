/* SPDX-License-Identifier: MIT */
/* formats/packed.c - see packed.h. */
#include "formats/packed.h"

#include "base/half.h"
#include "base/rd.h"
#include "quant/codec_int.h"

#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 512 };

struct nib_packed {
    nib_gptq_linear l;
    struct {
        uint64_t offset, bytes;
        uint32_t file;
    } part[NIB_GPTQ_PARTS];
    nib_type scale_type;
    const uint32_t *g_idx; /* [in] */
    nib_codec codec;       /* for its name, type and group */
};

void nib_packed_free(nib_packed_set *set)
{
    nib_free(set->v);
    nib_arena_free(&set->memory);
    *set = (nib_packed_set){0};
}

/* ---- what the folder says ---- */

/* The object that describes the format; NULL when the folder holds no GPTQ. */
static const nib_json *find_config(const nib_hf_side *side)
{
    const char *method;
    const nib_json *j = nib_json_get(nib_hf_side_json(side, "config.json"), "quantization_config");
    if (j)
        return nib_json_str(nib_json_get(j, "quant_method"), &method) && !strcmp(method, "gptq")
                   ? j
                   : NULL;
    j = nib_hf_side_json(side, "quantize_config.json");
    if (nib_json_str(nib_json_get(j, "quant_method"), &method) && strcmp(method, "gptq"))
        return NULL;
    return j;
}

/* ---- finding the parts ---- */

/* Length of the name without the suffix of part p; 0: it has another. */
static size_t prefix_of(const char *name, nib_gptq_part p)
{
    const char *suffix = nib_gptq_suffix(p);
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && !strcmp(name + n - m, suffix) ? n - m : 0;
}

/* Part p of the weight whose first n bytes of name are given; NULL when there is none. */
static const nib_tensor *find_part(const nib_tensors *ts, const char *name, size_t n,
                                   nib_gptq_part p)
{
    char full[NAME_MAX_BYTES + 16];
    if (n > NAME_MAX_BYTES) return NULL;
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, nib_gptq_suffix(p));
    return nib_tensors_find(ts, full);
}

static nib_code check_part(const nib_tensor *t, const uint64_t shape[2], int n_dims, bool is_scale,
                           nib_err *err)
{
    char text[160];
    nib_type type = t->codec->type;
    bool fits = is_scale ? type == NIB_F16 || type == NIB_BF16 || type == NIB_F32 : type == NIB_I32;
    if (!fits)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': dtype is %s, should be %s", t->name,
                        t->codec->name, is_scale ? "f16, bf16 or f32" : "i32");
    if (t->n_dims == n_dims && t->shape[0] == shape[0] && (n_dims == 1 || t->shape[1] == shape[1]))
        return NIB_OK;
    nib_tensor_shape_str(t, text, sizeof text);
    if (n_dims == 1)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': shape is %s, should be [%llu]", t->name,
                        text, (unsigned long long)shape[0]);
    return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': shape is %s, should be [%llu, %llu]",
                    t->name, text, (unsigned long long)shape[0], (unsigned long long)shape[1]);
}

/* The codes' own shape says how large the weight is. */
static nib_code measure(nib_packed *p, const nib_gptq_format *f, const nib_tensor *q, nib_err *err)
{
    uint64_t bits = 0;
    if (q->n_dims != 2 || __builtin_mul_overflow(q->shape[0], (uint64_t)32, &bits) ||
        bits % f->bits)
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s': no shape of %u-bit codes", q->name,
                        f->bits);
    nib_code rc = nib_gptq_linear_make(&p->l, f, q->shape[1], bits / f->bits, err);
    if (!rc) return NIB_OK;
    err->code = NIB_EFORMAT;
    nib_wrap(err, "tensor '%.200s'", q->name);
    return NIB_EFORMAT;
}

static nib_code read_g_idx(nib_packed *p, nib_packed_set *set, const nib_file *file,
                           const nib_tensor *t, nib_err *err)
{
    const size_t n = (size_t)p->l.in;
    uint32_t *g = nib_arena_alloc(&set->memory, n, sizeof *g, sizeof *g);
    if (!g) return nib_fail_nomem(err, "column indices");
    nib_code rc = nib_file_read(&file[t->file], t->offset, g, n * sizeof *g, err);
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

/* All about the weight whose codes are q; n bytes of its name are the layer's. */
static nib_code gather(nib_packed *p, nib_packed_set *set, const nib_gptq_format *f,
                       const nib_tensors *ts, const nib_tensor *q, size_t n, const nib_file *file,
                       nib_err *err)
{
    nib_code rc = measure(p, f, q, err);
    for (int i = 0; i < NIB_GPTQ_PARTS && !rc; i++) {
        const nib_tensor *t = find_part(ts, q->name, n, (nib_gptq_part)i);
        if (!t)
            return nib_fail(err, NIB_EFORMAT, "tensor '%.*s%s' is missing, but '%.200s' is there",
                            (int)(n < 200 ? n : 200), q->name, nib_gptq_suffix((nib_gptq_part)i),
                            q->name);
        rc = check_part(t, p->l.shape[i], i == NIB_GPTQ_G_IDX ? 1 : 2, i == NIB_GPTQ_SCALES, err);
        p->part[i].offset = t->offset;
        p->part[i].bytes = t->bytes;
        p->part[i].file = t->file;
        if (i == NIB_GPTQ_SCALES) p->scale_type = t->codec->type;
        if (!rc && i == NIB_GPTQ_G_IDX) rc = read_g_idx(p, set, file, t, err);
    }
    return rc;
}

static nib_code name_codec(nib_packed *p, nib_packed_set *set, nib_err *err)
{
    const nib_gptq_format *f = &p->l.format;
    char name[32];
    nib_int_codec_name(name, sizeof name, f->bits, f->group);
    p->codec = nib_int_codec_make(f->bits, (size_t)p->l.group, f->sym, true, false).codec;
    p->codec.name = nib_arena_str(&set->memory, name, strlen(name));
    return p->codec.name ? NIB_OK : nib_fail_nomem(err, "a name");
}

/* The weight itself, in place of its codes. */
static nib_code add_weight(nib_tensors *to, nib_packed *p, const nib_tensor *q, size_t n,
                           nib_err *err)
{
    char name[NAME_MAX_BYTES + 16];
    int k = snprintf(name, sizeof name, "%.*s.weight", (int)n, q->name);
    nib_tensor *t = nib_tensors_add(to, name, (size_t)k);
    if (!t) return nib_fail_nomem(err, "the list of tensors");
    t->codec = &p->codec;
    t->n_dims = 2;
    t->shape[0] = p->l.out;
    t->shape[1] = p->l.in;
    t->offset = q->offset;
    t->file = q->file;
    for (int i = 0; i < NIB_GPTQ_PARTS; i++) t->bytes += p->part[i].bytes;
    t->packed = p;
    return NIB_OK;
}

static nib_code copy_tensor(nib_tensors *to, const nib_tensor *from, nib_err *err)
{
    nib_tensor *t = nib_tensors_add(to, from->name, strlen(from->name));
    if (!t) return nib_fail_nomem(err, "the list of tensors");
    const char *name = t->name;
    *t = *from;
    t->name = name;
    return NIB_OK;
}

/* One tensor of the files: the codes of a weight, another part of one, or one of its own. */
static nib_code fold_one(nib_packed_set *set, nib_tensors *to, const nib_gptq_format *f,
                         const nib_tensors *ts, const nib_tensor *t, const nib_file *file,
                         nib_err *err)
{
    size_t n = prefix_of(t->name, NIB_GPTQ_QWEIGHT);
    if (n && n <= NAME_MAX_BYTES) {
        nib_packed *p = &set->v[set->n++];
        nib_code rc = gather(p, set, f, ts, t, n, file, err);
        if (!rc) rc = name_codec(p, set, err);
        return rc ? rc : add_weight(to, p, t, n, err);
    }
    for (int i = NIB_GPTQ_QZEROS; i < NIB_GPTQ_PARTS; i++) {
        n = prefix_of(t->name, (nib_gptq_part)i);
        if (!n) continue;
        if (find_part(ts, t->name, n, NIB_GPTQ_QWEIGHT)) return NIB_OK;
        return nib_fail(err, NIB_EFORMAT, "tensor '%.*s.qweight' is missing, but '%.200s' is there",
                        (int)(n < 200 ? n : 200), t->name, t->name);
    }
    return copy_tensor(to, t, err);
}

nib_code nib_packed_fold(nib_packed_set *set, nib_tensors *ts, const nib_hf_side *side,
                         const nib_file *file, nib_err *err)
{
    const nib_json *config = find_config(side);
    nib_gptq_format f;
    nib_tensors folded = {0};
    size_t n = 0;
    if (!config) return NIB_OK;
    nib_code rc = nib_gptq_config_read(&f, config, err);
    if (rc) return nib_wrap(err, "quantization_config");
    for (size_t i = 0; i < ts->n; i++) n += prefix_of(ts->v[i].name, NIB_GPTQ_QWEIGHT) > 0;
    if (!n) return NIB_OK;
    if (!(set->v = nib_calloc(n, sizeof *set->v))) return nib_fail_nomem(err, "packed weights");
    rc = nib_tensors_reserve(&folded, ts->n, err);
    for (size_t i = 0; i < ts->n && !rc; i++)
        rc = fold_one(set, &folded, &f, ts, &ts->v[i], file, err);
    if (rc) {
        nib_tensors_free(&folded);
        return rc;
    }
    nib_tensors_free(ts);
    *ts = folded;
    return NIB_OK;
}

/* ---- reading ---- */

nib_code nib_packed_read(const nib_packed *p, const nib_file *file, uint64_t offset, void *dst,
                         size_t n, nib_err *err)
{
    uint8_t *to = dst;
    for (int i = 0; i < NIB_GPTQ_PARTS && n; i++) {
        if (offset >= p->part[i].bytes) {
            offset -= p->part[i].bytes;
            continue;
        }
        uint64_t left = p->part[i].bytes - offset;
        size_t k = n < left ? n : (size_t)left;
        nib_code rc = nib_file_read(&file[p->part[i].file], p->part[i].offset + offset, to, k, err);
        if (rc) return rc;
        to += k;
        n -= k;
        offset = 0;
    }
    return NIB_OK;
}

/* Bytes [first, first + n) of each row of a part, one after the other. All rows in one piece when
 * they are whole. */
static nib_code read_strip(const nib_packed *p, const nib_file *file, nib_gptq_part part,
                           uint64_t rows, size_t first, size_t n, uint8_t *dst, nib_err *err)
{
    const nib_file *f = &file[p->part[part].file];
    const uint64_t at = p->part[part].offset, row = p->part[part].bytes / rows;
    if (n == row) return nib_file_read(f, at, dst, (size_t)(rows * row), err);
    nib_code rc = NIB_OK;
    for (uint64_t r = 0; r < rows && !rc; r++)
        rc = nib_file_read(f, at + r * row + first, dst + r * n, n, err);
    return rc;
}

/* Little-endian words to the machine's, in place. */
static void to_words(void *raw, size_t n)
{
    uint32_t *w = raw;
    for (size_t i = 0; i < n; i++) {
        nib_rd r = {(const uint8_t *)&w[i], (const uint8_t *)&w[i + 1], false};
        w[i] = nib_rd_u32(&r);
    }
}

/* Work memory for n rows: what is read, and what it becomes. */
typedef struct {
    uint32_t *qweight, *zero_words;
    uint8_t *scale_raw;
    float *scale;
    uint16_t *zero;
    size_t zero_stride; /* words per group */
} work;

static bool carve(work *w, const nib_packed *p, size_t n, nib_buf *raw)
{
    const nib_gptq_linear *l = &p->l;
    const size_t groups = (size_t)l->groups, words = (size_t)l->shape[NIB_GPTQ_QWEIGHT][0];
    /* A strip of fields may begin and end inside a word. */
    w->zero_stride = n * l->format.bits / 32 + 2;
    size_t each = words + groups + groups + groups; /* qweight, scale read, scale, zero, per row */
    size_t total;
    if (!nib_mul(each, n, &total) || !nib_add(total, groups * w->zero_stride, &total)) return false;
    uint32_t *at = nib_buf_reserve(raw, total, sizeof *at);
    if (!at) return false;
    w->qweight = at, at += words * n;
    w->zero_words = at, at += groups * w->zero_stride;
    w->scale_raw = (uint8_t *)at, at += groups * n;
    w->scale = (float *)at, at += groups * n;
    w->zero = (uint16_t *)at;
    return true;
}

/* The strip begins with a whole word, so its first field need not begin with it. */
static nib_code read_zeros(work *w, const nib_packed *p, const nib_file *file, size_t row, size_t n,
                           nib_err *err)
{
    const nib_gptq_linear *l = &p->l;
    const unsigned bits = l->format.bits;
    const size_t first = row * bits / 32, end = ((row + n) * bits + 31) / 32, k = end - first;
    nib_code rc = read_strip(p, file, NIB_GPTQ_QZEROS, l->groups, first * 4, k * 4,
                             (uint8_t *)w->zero_words, err);
    if (rc) return rc;
    to_words(w->zero_words, (size_t)l->groups * k);
    for (size_t g = 0; g < l->groups; g++)
        for (size_t i = 0; i < n; i++) {
            const size_t bit = (row + i) * bits - first * 32;
            const uint32_t *words = w->zero_words + g * k + bit / 32;
            uint32_t v = words[0] >> bit % 32;
            if (bit % 32 + bits > 32) v |= words[1] << (32 - bit % 32);
            w->zero[g * n + i] = nib_gptq_zero(&l->format, v & ((1u << bits) - 1));
        }
    return NIB_OK;
}

nib_code nib_packed_read_rows(const nib_packed *p, const nib_file *file, uint64_t row, uint64_t n,
                              float *dst, nib_buf *raw, nib_err *err)
{
    const nib_gptq_linear *l = &p->l;
    const nib_codec *c = nib_codec_get(p->scale_type);
    const size_t groups = (size_t)l->groups, rows = (size_t)n;
    work w;
    if (!n) return NIB_OK;
    if (!carve(&w, p, rows, raw)) return nib_fail_nomem(err, "packed rows");
    nib_code rc = read_strip(p, file, NIB_GPTQ_QWEIGHT, l->shape[NIB_GPTQ_QWEIGHT][0],
                             (size_t)row * 4, rows * 4, (uint8_t *)w.qweight, err);
    if (!rc)
        rc = read_strip(p, file, NIB_GPTQ_SCALES, groups, (size_t)row * c->bytes, rows * c->bytes,
                        w.scale_raw, err);
    if (!rc) rc = read_zeros(&w, p, file, (size_t)row, rows, err);
    if (rc) return rc;
    to_words(w.qweight, (size_t)l->shape[NIB_GPTQ_QWEIGHT][0] * rows);
    c->decode(w.scale, w.scale_raw, groups * rows, 0);
    nib_gptq_decode(dst, l, &(nib_gptq_rows){w.qweight, w.scale, w.zero, p->g_idx, rows, rows});
    return NIB_OK;
}
