/* SPDX-License-Identifier: MIT */
/* formats/gguf_read.c - reads and checks one GGUF file: header, metadata, tensor records.
 *
 * Joining split files is the source's business. A file is read front to back through one buffer;
 * every length is compared with the bytes that are left before it is used, and with a cap before
 * memory is taken. Tests: tests/formats/test_gguf.c, tests/formats/test_gguf_bad.c. */
#include "formats/gguf_int.h"

#include <string.h>

enum { BUFFER = 1 << 16 };

/* ---- a bounded stream ---- */

/* Past the end, or after an error, it yields zeros and stays bad: read a record, check rc once. */
typedef struct {
    const nib_file *f;
    uint64_t pos;    /* of the next byte to hand out */
    size_t at, fill; /* in buf */
    uint8_t *buf;
    nib_code rc;
    nib_err *err;
} stream;

static uint64_t left(const stream *s)
{
    return s->rc ? 0 : s->f->size - s->pos;
}

static nib_code refill(stream *s)
{
    uint64_t n = s->f->size - s->pos;
    s->at = 0;
    s->fill = n < BUFFER ? (size_t)n : BUFFER;
    return s->rc = nib_file_read(s->f, s->pos, s->buf, s->fill, s->err);
}

static void take(stream *s, void *dst, size_t n)
{
    uint8_t *p = dst;
    if (!s->rc && n > left(s))
        s->rc = nib_fail(s->err, NIB_EFORMAT, "truncated: %zu bytes wanted at offset %llu of %llu",
                         n, (unsigned long long)s->pos, (unsigned long long)s->f->size);
    while (n && !s->rc) {
        if (s->at == s->fill && refill(s)) break;
        size_t k = s->fill - s->at < n ? s->fill - s->at : n;
        memcpy(p, s->buf + s->at, k);
        s->at += k;
        s->pos += k;
        p += k;
        n -= k;
    }
    if (s->rc) memset(p, 0, n);
}

static uint64_t take_uint(stream *s, size_t bytes)
{
    uint8_t b[8];
    uint64_t v = 0;
    take(s, b, bytes);
    for (size_t i = bytes; i-- > 0;) v = v << 8 | b[i];
    return v;
}

static int32_t take_i32(stream *s)
{
    return (int32_t)(uint32_t)take_uint(s, 4);
}

/* Length of a string that the file holds and that has at most `max` bytes. */
static size_t take_length(stream *s, uint64_t max)
{
    uint64_t n = take_uint(s, 8);
    if (!s->rc && n > left(s))
        s->rc = nib_fail(s->err, NIB_EFORMAT,
                         "truncated: a string of %llu bytes, %llu are left in the file",
                         (unsigned long long)n, (unsigned long long)left(s));
    if (!s->rc && n > max)
        s->rc = nib_fail(s->err, NIB_EFORMAT, "a string of %llu bytes; at most %llu are allowed",
                         (unsigned long long)n, (unsigned long long)max);
    return s->rc ? 0 : (size_t)n;
}

static nib_str take_str(stream *s, nib_arena *mem, uint64_t max)
{
    size_t n = take_length(s, max);
    char *p = s->rc ? NULL : nib_arena_alloc(mem, n + 1, 1, 1);
    if (!p) {
        if (!s->rc) s->rc = nib_fail_nomem(s->err, "a string");
        return (nib_str){"", 0};
    }
    take(s, p, n);
    p[n] = 0;
    return (nib_str){p, n};
}

/* ---- key/value records ---- */

/* What may still be allocated for metadata. */
static uint64_t meta_room(const nib_arena *mem)
{
    return mem->total < NIB_GGUF_META_MAX ? NIB_GGUF_META_MAX - mem->total : 0;
}

static nib_code read_strings(stream *s, nib_gguf_kv *kv, nib_arena *mem)
{
    if (kv->n > meta_room(mem) / sizeof(nib_str))
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "%zu strings; metadata is too large", kv->n);
    nib_str *v = nib_arena_alloc(mem, kv->n, sizeof *v, _Alignof(nib_str));
    if (!v) return s->rc = nib_fail_nomem(s->err, "metadata");
    for (size_t i = 0; i < kv->n && !s->rc; i++) v[i] = take_str(s, mem, meta_room(mem));
    kv->data = v;
    return s->rc;
}

static nib_code read_numbers(stream *s, nib_gguf_kv *kv, nib_arena *mem)
{
    size_t bytes = kv->n * nib_gguf_vtype_size(kv->elem); /* within the file: checked */
    if (bytes > meta_room(mem))
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "%zu bytes; metadata is too large", bytes);
    uint8_t *v = nib_arena_alloc(mem, bytes, 1, 8);
    if (!v) return s->rc = nib_fail_nomem(s->err, "metadata");
    take(s, v, bytes);
    if (kv->elem == NIB_GGUF_BOOL)
        for (size_t i = 0; i < bytes; i++) v[i] = v[i] != 0;
    kv->data = v;
    return s->rc;
}

/* Element type and count of an array. */
static nib_code read_array_head(stream *s, nib_gguf_kv *kv)
{
    int32_t elem = take_i32(s);
    uint64_t n = take_uint(s, 8);
    if (s->rc) return s->rc;
    if (elem == NIB_GGUF_ARR)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "arrays of arrays are not supported");
    if (elem < 0 || elem >= NIB_GGUF_VTYPE_COUNT)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "unknown array element type %d", elem);
    kv->elem = (nib_gguf_vtype)elem;
    size_t size = elem == NIB_GGUF_STR ? 8 : nib_gguf_vtype_size(kv->elem);
    if (n > NIB_GGUF_ARR_MAX || n * size > left(s))
        return s->rc = nib_fail(s->err, NIB_EFORMAT,
                                "an array of %llu elements does not fit into the %llu bytes left",
                                (unsigned long long)n, (unsigned long long)left(s));
    kv->n = (size_t)n;
    return NIB_OK;
}

static nib_code read_value(stream *s, nib_gguf_kv *kv, nib_arena *mem)
{
    int32_t type = take_i32(s);
    if (s->rc) return s->rc;
    if (type < 0 || type >= NIB_GGUF_VTYPE_COUNT)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "unknown value type %d", type);
    kv->type = kv->elem = (nib_gguf_vtype)type;
    kv->n = 1;
    if (type == NIB_GGUF_ARR && read_array_head(s, kv)) return s->rc;
    return kv->elem == NIB_GGUF_STR ? read_strings(s, kv, mem) : read_numbers(s, kv, mem);
}

static nib_code read_kv(stream *s, nib_gguf_kvs *k)
{
    nib_gguf_kv kv = {0};
    nib_arena *mem = nib_gguf_kvs_arena(k);
    nib_str key = take_str(s, mem, NIB_GGUF_KEY_MAX);
    if (s->rc) return nib_wrap(s->err, "a metadata key");
    if (!key.n || strlen(key.p) != key.n)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "metadata: a key is empty or holds a NUL");
    kv.key = key.p;
    if (read_value(s, &kv, mem)) return nib_wrap(s->err, "metadata key '%.200s'", key.p);
    bool twice;
    if (nib_gguf_kvs_put_new(k, &kv, &twice)) return NIB_OK;
    return s->rc =
               twice ? nib_fail(s->err, NIB_EFORMAT, "metadata key '%.200s' is there twice", key.p)
                     : nib_fail_nomem(s->err, "metadata");
}

/* ---- tensor records ---- */

static nib_code read_shape(stream *s, nib_tensor *t)
{
    uint32_t n = (uint32_t)take_uint(s, 4);
    if (s->rc) return s->rc;
    if (n > NIB_GGUF_DIMS_MAX)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "%u dimensions; at most %d are allowed", n,
                                NIB_GGUF_DIMS_MAX);
    t->n_dims = (int)n;
    for (uint32_t i = n; i-- > 0;) t->shape[i] = take_uint(s, 8);
    for (uint32_t i = 0; i < n && !s->rc; i++)
        if (t->shape[i] > INT64_MAX)
            s->rc = nib_fail(s->err, NIB_EFORMAT, "dimension of %lld", (long long)t->shape[i]);
    return s->rc;
}

/* The tensor's size from its shape and type. */
static nib_code size_tensor(nib_tensor *t, nib_err *err)
{
    uint64_t elems, cols = nib_tensor_cols(t);
    char shape[160];
    nib_tensor_shape_str(t, shape, sizeof shape);
    if (!nib_shape_elems(t->shape, t->n_dims, &elems))
        return nib_fail(err, NIB_EFORMAT, "shape %s has too many elements", shape);
    if (cols % t->codec->block)
        return nib_fail(err, NIB_EFORMAT, "rows of %llu are no whole number of %s blocks (%u)",
                        (unsigned long long)cols, t->codec->name, t->codec->block);
    if (__builtin_mul_overflow(elems / t->codec->block, (uint64_t)t->codec->bytes, &t->bytes) ||
        t->bytes > INT64_MAX)
        return nib_fail(err, NIB_EFORMAT, "shape %s has too many bytes", shape);
    return NIB_OK;
}

/* One record; *next is where its data must begin, relative to the data section. */
static nib_code read_tensor(stream *s, nib_tensor *t, uint64_t *next, uint64_t align)
{
    nib_type type;
    if (read_shape(s, t)) return s->rc;
    int32_t id = take_i32(s);
    t->offset = take_uint(s, 8);
    if (s->rc) return s->rc;
    if (!nib_gguf_type_from_id(id, &type)) return s->rc = nib_gguf_fail_type(id, s->err);
    t->codec = nib_codec_get(type);
    if ((s->rc = size_tensor(t, s->err))) return s->rc;
    if (t->offset != *next)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "data at offset %llu; %llu is next",
                                (unsigned long long)t->offset, (unsigned long long)*next);
    uint64_t padded = (t->bytes + align - 1) / align * align;
    if (__builtin_add_overflow(*next, padded, next) || *next > INT64_MAX)
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "the sum of all tensors is too large");
    return NIB_OK;
}

static nib_code read_tensors(stream *s, nib_tensors *ts, uint64_t n, uint64_t align, uint32_t file)
{
    uint64_t next = 0;
    size_t first = ts->n;
    for (uint64_t i = 0; i < n && !s->rc; i++) {
        char name[NIB_GGUF_NAME_MAX + 1];
        size_t n_name = take_length(s, NIB_GGUF_NAME_MAX);
        take(s, name, n_name);
        if (!s->rc && (!n_name || memchr(name, 0, n_name)))
            s->rc = nib_fail(s->err, NIB_EFORMAT, "the name is empty or holds a NUL");
        if (s->rc) return nib_wrap(s->err, "tensor %llu", (unsigned long long)i);
        nib_tensor *t = nib_tensors_add(ts, name, n_name);
        if (!t) return s->rc = nib_fail_nomem(s->err, "the list of tensors");
        if (read_tensor(s, t, &next, align)) return nib_wrap(s->err, "tensor '%s'", t->name);
        t->file = file;
    }
    uint64_t data = (s->pos + align - 1) / align * align;
    for (size_t i = first; i < ts->n; i++) {
        nib_tensor *t = &ts->v[i];
        t->offset += data; /* both are below 2^63 */
        if (t->offset > s->f->size || t->bytes > s->f->size - t->offset)
            return s->rc = nib_fail(s->err, NIB_EFORMAT,
                                    "truncated: data of tensor '%s' ends at %llu, the file at %llu",
                                    t->name, (unsigned long long)(t->offset + t->bytes),
                                    (unsigned long long)s->f->size);
    }
    return NIB_OK;
}

/* ---- the file ---- */

bool nib_gguf_begins_with(const char head[4])
{
    return !memcmp(head, "GGUF", 4);
}

static nib_code read_header(stream *s, uint64_t *n_tensors, uint64_t *n_kv)
{
    char magic[4];
    take(s, magic, 4);
    uint32_t version = (uint32_t)take_uint(s, 4);
    *n_tensors = take_uint(s, 8);
    *n_kv = take_uint(s, 8);
    if (s->rc) return s->rc;
    if (!nib_gguf_begins_with(magic))
        return s->rc = nib_fail(s->err, NIB_EFORMAT, "not a GGUF file");
    if (version && !(version & 0xFFFF))
        return s->rc = nib_fail(s->err, NIB_EFORMAT,
                                "a big-endian GGUF file; only little-endian ones are supported");
    if (version < 2 || version > 3)
        return s->rc =
                   nib_fail(s->err, NIB_EFORMAT, "GGUF version %u; supported are 2 and 3", version);
    /* the shortest records: an empty-named scalar has 24 bytes, a key with one byte 14 */
    if (*n_tensors > left(s) / 24 || *n_kv > left(s) / 14 || *n_kv > NIB_GGUF_KV_MAX)
        return s->rc = nib_fail(s->err, NIB_EFORMAT,
                                "%lld tensors and %lld metadata records do not fit into the file",
                                (long long)*n_tensors, (long long)*n_kv);
    return NIB_OK;
}

static nib_code read_alignment(stream *s, const nib_gguf_kvs *k, uint64_t *align)
{
    const nib_gguf_kv *kv = nib_gguf_kvs_find(k, "general.alignment");
    uint64_t v = NIB_GGUF_ALIGN;
    bool ok = !kv || (kv->type == NIB_GGUF_U32 && nib_gguf_get_u64(k, "general.alignment", &v) &&
                      v && !(v & (v - 1)) && v <= NIB_GGUF_ALIGN_MAX);
    if (!ok)
        return s->rc = nib_fail(s->err, NIB_EFORMAT,
                                "general.alignment (%llu) is not a u32 power of two up to %d",
                                (unsigned long long)v, NIB_GGUF_ALIGN_MAX);
    *align = v;
    return NIB_OK;
}

nib_code nib_gguf_read(nib_gguf_kvs **kvs, nib_tensors *ts, const nib_file *f, uint32_t file,
                       nib_err *err)
{
    uint64_t n_tensors = 0, n_kv = 0, align = 0;
    stream s = {.f = f, .err = err, .buf = nib_alloc(BUFFER, 1)};
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    *kvs = NULL;
    if (!s.buf || !k) s.rc = nib_fail_nomem(err, "reading a file");
    if (!s.rc) read_header(&s, &n_tensors, &n_kv);
    for (uint64_t i = 0; i < n_kv && !s.rc; i++) s.rc = read_kv(&s, k);
    if (!s.rc) read_alignment(&s, k, &align);
    if (!s.rc) read_tensors(&s, ts, n_tensors, align, file);
    if (s.rc) {
        nib_wrap_file(err, f);
    } else {
        *kvs = k;
        k = NULL;
    }
    nib_gguf_kvs_free(k);
    nib_free(s.buf);
    return s.rc;
}
