/* SPDX-License-Identifier: MIT */
/* formats/safetensors.c - reads and checks the header of one safetensors file; see safetensors.h.
 * Sharding is the source's business. */
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    nib_type type;
    unsigned bits;
} dtypes[] = {
    {"BOOL", NIB_BOOL, 8},       {"F4", NIB_F4, 4},
    {"F6_E2M3", NIB_F6_E2M3, 6}, {"F6_E3M2", NIB_F6_E3M2, 6},
    {"U8", NIB_U8, 8},           {"I8", NIB_I8, 8},
    {"F8_E5M2", NIB_F8_E5M2, 8}, {"F8_E4M3", NIB_F8_E4M3, 8},
    {"F8_E8M0", NIB_F8_E8M0, 8}, {"F8_E4M3FNUZ", NIB_F8_E4M3FNUZ, 8},
    {"F16", NIB_F16, 16},        {"F8_E5M2FNUZ", NIB_F8_E5M2FNUZ, 8},
    {"BF16", NIB_BF16, 16},      {"I16", NIB_I16, 16},
    {"U16", NIB_U16, 16},        {"I32", NIB_I32, 32},
    {"U32", NIB_U32, 32},        {"F32", NIB_F32, 32},
    {"F64", NIB_F64, 64},        {"I64", NIB_I64, 64},
    {"U64", NIB_U64, 64},        {"C64", NIB_C64, 64},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

const char *nib_st_dtype(nib_type t, unsigned *bits)
{
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].type == t) {
            *bits = dtypes[i].bits;
            return dtypes[i].name;
        }
    return NULL;
}

/* ---- one entry of the header ---- */

static nib_code read_dtype(nib_tensor *t, unsigned *bits, const nib_json *entry, nib_err *err)
{
    const char *name;
    if (!nib_json_str(nib_json_get(entry, "dtype"), &name))
        return nib_fail(err, NIB_EFORMAT, "'dtype' is missing or not a string");
    for (size_t i = 0; i < N_DTYPES; i++)
        if (!strcmp(dtypes[i].name, name)) {
            t->codec = nib_codec_get(dtypes[i].type);
            *bits = dtypes[i].bits;
            return NIB_OK;
        }
    return nib_fail(err, NIB_EFORMAT, "unknown dtype '%.60s'", name);
}

static nib_code read_shape(nib_tensor *t, const nib_json *entry, nib_err *err)
{
    const nib_json *shape = nib_json_get(entry, "shape");
    if (!nib_json_is_array(shape))
        return nib_fail(err, NIB_EFORMAT, "'shape' is missing or not an array");
    for (const nib_json *d = nib_json_first(shape); d; d = nib_json_next(d)) {
        if (t->n_dims == NIB_MAX_DIMS)
            return nib_fail(err, NIB_EFORMAT, "more than %d dimensions", NIB_MAX_DIMS);
        if (!nib_json_u64(d, &t->shape[t->n_dims++]))
            return nib_fail(err, NIB_EFORMAT, "dimension %d is not an integer from 0 to 2^53 - 1",
                            t->n_dims - 1);
    }
    return NIB_OK;
}

/* Byte range, relative to the data; `size` is the data's. */
static nib_code read_range(nib_tensor *t, const nib_json *entry, uint64_t size, nib_err *err)
{
    const nib_json *a = nib_json_get(entry, "data_offsets");
    if (!nib_json_is_array(a) || nib_json_count(a) != 2)
        return nib_fail(err, NIB_EFORMAT, "'data_offsets' is missing or not a pair");
    uint64_t begin, end;
    const nib_json *first = nib_json_first(a);
    if (!nib_json_u64(first, &begin) || !nib_json_u64(nib_json_next(first), &end))
        return nib_fail(err, NIB_EFORMAT, "'data_offsets' are not integers from 0 to 2^53 - 1");
    if (begin > end)
        return nib_fail(err, NIB_EFORMAT, "data ends at %llu, before it begins at %llu",
                        (unsigned long long)end, (unsigned long long)begin);
    if (end > size)
        return nib_fail(err, NIB_EFORMAT, "data ends at %llu, but the file holds %llu bytes of it",
                        (unsigned long long)end, (unsigned long long)size);
    t->offset = begin;
    t->bytes = end - begin;
    return NIB_OK;
}

static nib_code read_entry(nib_tensor *t, const nib_json *entry, uint64_t size, nib_err *err)
{
    nib_code rc;
    unsigned n_bits = 0;
    uint64_t elems, bits;
    if (!nib_json_is_object(entry)) return nib_fail(err, NIB_EFORMAT, "not a JSON object");
    if ((rc = read_dtype(t, &n_bits, entry, err))) return rc;
    if ((rc = read_shape(t, entry, err))) return rc;
    if ((rc = read_range(t, entry, size, err))) return rc;
    char shape[160];
    nib_tensor_shape_str(t, shape, sizeof shape);
    if (!nib_shape_elems(t->shape, t->n_dims, &elems) ||
        __builtin_mul_overflow(elems, n_bits, &bits))
        return nib_fail(err, NIB_EFORMAT, "shape %s has too many elements", shape);
    if (bits % 8)
        return nib_fail(err, NIB_EFORMAT, "shape %s of %u-bit elements does not fill whole bytes",
                        shape, n_bits);
    if (bits / 8 != t->bytes)
        return nib_fail(err, NIB_EFORMAT, "shape %s takes %llu bytes, 'data_offsets' span %llu",
                        shape, (unsigned long long)(bits / 8), (unsigned long long)t->bytes);
    return NIB_OK;
}

/* ---- the whole header ---- */

static nib_code check_metadata(const nib_json *meta, nib_err *err)
{
    if (!nib_json_is_object(meta))
        return nib_fail(err, NIB_EFORMAT, "'__metadata__' is not an object");
    for (const nib_json *c = nib_json_first(meta); c; c = nib_json_next(c))
        if (!nib_json_is_string(c))
            return nib_fail(err, NIB_EFORMAT, "'__metadata__': value of '%.200s' is not a string",
                            nib_json_key(c));
    return NIB_OK;
}

static int by_range(const void *a, const void *b)
{
    const nib_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Every byte of the data belongs to exactly one tensor; t[n] is sorted by range. */
static nib_code check_cover(const nib_tensor *t, size_t n, uint64_t size, nib_err *err)
{
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (t[i].offset != at)
            return nib_fail(err, NIB_EFORMAT,
                            "tensor '%.200s' begins at %llu where %llu is next: %s", t[i].name,
                            (unsigned long long)t[i].offset, (unsigned long long)at,
                            t[i].offset < at ? "tensors overlap" : "a gap between tensors");
        at += t[i].bytes; /* read_range() keeps every end within the file */
    }
    if (at != size)
        return nib_fail(err, NIB_EFORMAT, "%llu bytes after the last tensor belong to none",
                        (unsigned long long)(size - at));
    return NIB_OK;
}

static nib_code read_tensors(nib_tensors *ts, const nib_json *root, uint64_t start, uint64_t size,
                             uint32_t file, nib_err *err)
{
    nib_code rc;
    size_t first = ts->n;
    if ((rc = nib_tensors_reserve(ts, nib_json_count(root), err))) return rc;
    for (const nib_json *c = nib_json_first(root); c; c = nib_json_next(c)) {
        const char *name = nib_json_key(c);
        if (!strcmp(name, "__metadata__")) {
            if ((rc = check_metadata(c, err))) return rc;
            continue;
        }
        nib_tensor *t = nib_tensors_add(ts, name, strlen(name));
        if (!t) return nib_fail_nomem(err, "the list of tensors");
        if ((rc = read_entry(t, c, size, err))) return nib_wrap(err, "tensor '%.200s'", name);
        t->file = file;
    }
    size_t n = ts->n - first;
    nib_tensor *v = n ? ts->v + first : NULL;
    if (n) qsort(v, n, sizeof *v, by_range);
    if ((rc = check_cover(v, n, size, err))) return rc;
    for (size_t i = 0; i < n; i++) v[i].offset += start;
    return NIB_OK;
}

/* Length of the header; the file has been seen to hold it. */
static nib_code read_length(const nib_file *f, uint64_t *length, nib_err *err)
{
    uint8_t b[32] = {0};
    size_t have = f->size < sizeof b ? (size_t)f->size : sizeof b;
    nib_code rc = nib_file_read(f, 0, b, have, err);
    if (rc) return rc;
    if (nib_is_lfs_pointer(b, have)) return nib_fail_lfs(err);
    if (have < 8)
        return nib_fail(err, NIB_EFORMAT, "%zu bytes, too short for a safetensors file", have);
    uint64_t n = 0;
    for (int i = 8; i-- > 0;) n = n << 8 | b[i];
    if (n > NIB_ST_HEADER_MAX)
        return nib_fail(err, NIB_EFORMAT,
                        "not a safetensors file: header of %llu bytes, at most %d",
                        (unsigned long long)n, NIB_ST_HEADER_MAX);
    if (n > f->size - 8)
        return nib_fail(err, NIB_EFORMAT, "truncated: header of %llu bytes in a file of %llu",
                        (unsigned long long)n, (unsigned long long)f->size);
    *length = n;
    return NIB_OK;
}

static nib_code parse_header(nib_json **root, const char *text, size_t n, nib_err *err)
{
    if (!n || text[0] != '{')
        return nib_fail(err, NIB_EFORMAT, "not a safetensors file: the header has no '{' in front");
    while (text[n - 1] == ' ') n--;
    if (strchr("\t\r\n", text[n - 1]) && text[n - 1])
        return nib_fail(err, NIB_EFORMAT, "header is padded with something else than spaces");
    nib_code rc = nib_json_parse(root, text, n, err);
    return rc ? nib_wrap(err, "header") : NIB_OK;
}

nib_code nib_st_read(nib_tensors *ts, const nib_file *f, uint32_t file, nib_err *err)
{
    uint64_t n = 0;
    char *text = NULL;
    nib_json *root = NULL;
    nib_code rc = read_length(f, &n, err);
    if (rc) goto done;
    if (!(text = nib_alloc((size_t)n, 1))) {
        rc = nib_fail_nomem(err, "the header");
        goto done;
    }
    if ((rc = nib_file_read(f, 8, text, (size_t)n, err))) goto done;
    if ((rc = parse_header(&root, text, (size_t)n, err))) goto done;
    rc = read_tensors(ts, root, 8 + n, f->size - 8 - n, file, err);
done:
    nib_json_free(root);
    nib_free(text);
    return rc ? nib_wrap_file(err, f) : NIB_OK;
}
