/* SPDX-License-Identifier: MIT */
/* formats/safetensors_write.c - writes one safetensors file; see safetensors.h.
 *
 * The header is what the reference writer makes: metadata {"format":"pt"} first, entries in the
 * order of the data, padded with spaces to a multiple of 8.
 * Tests: tests/formats/test_safetensors.c. */
#include "base/utf8.h"
#include "formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nib_st_writer {
    nib_out *out;
    const nib_st_tensor *t; /* [n], borrowed */
    uint64_t *bytes;        /* [n] */
    size_t n, next;         /* next: tensor whose turn it is */
    uint64_t done;          /* bytes of it that were written */
    nib_sha256 file, tensor;
    uint8_t *digest; /* [n][NIB_SHA256_BYTES] */
};

static int in_file_order(const void *a, const void *b)
{
    const nib_st_tensor *x = a, *y = b;
    unsigned bits_x = 0, bits_y = 0;
    nib_st_dtype(x->type, &bits_x);
    nib_st_dtype(y->type, &bits_y);
    if (bits_x != bits_y) return bits_x > bits_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

void nib_st_sort(nib_st_tensor *t, size_t n)
{
    if (n) qsort(t, n, sizeof *t, in_file_order);
}

/* ---- checks ---- */

static nib_code size_tensor(const nib_st_tensor *t, uint64_t *bytes, nib_err *err)
{
    unsigned n_bits;
    uint64_t elems, bits;
    if (!nib_st_dtype(t->type, &n_bits))
        return nib_fail(err, NIB_EINVAL, "safetensors has no dtype for %s",
                        nib_codec_get(t->type)->name);
    if (nib_utf8_bad(t->name, strlen(t->name)) < strlen(t->name) ||
        !strcmp(t->name, "__metadata__"))
        return nib_fail(err, NIB_EINVAL, "not a name that safetensors can hold");
    if (t->n_dims < 0 || t->n_dims > NIB_MAX_DIMS)
        return nib_fail(err, NIB_EINVAL, "%d dimensions; at most %d", t->n_dims, NIB_MAX_DIMS);
    if (!nib_shape_elems(t->shape, t->n_dims, &elems) ||
        __builtin_mul_overflow(elems, n_bits, &bits) || bits % 8)
        return nib_fail(err, NIB_EINVAL, "a shape that is too large or does not fill whole bytes");
    *bytes = bits / 8;
    return NIB_OK;
}

static nib_code check_tensors(const nib_st_writer *w, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint64_t sum = 0;
    const char **names = nib_alloc(w->n, sizeof *names);
    if (!names) return nib_fail_nomem(err, "the list of tensors");
    for (size_t i = 0; i < w->n && !rc; i++) {
        names[i] = w->t[i].name;
        if ((rc = size_tensor(&w->t[i], &w->bytes[i], err)))
            nib_wrap(err, "tensor '%.200s'", names[i]);
        else if (__builtin_add_overflow(sum, w->bytes[i], &sum) || sum > INT64_MAX / 2)
            rc = nib_fail(err, NIB_EINVAL, "the sum of all tensors is too large");
    }
    const char *twice = rc ? NULL : nib_names_twice(names, w->n);
    if (twice) rc = nib_fail(err, NIB_EINVAL, "tensor '%.200s' is there twice", twice);
    nib_free(names);
    return rc;
}

/* ---- header ---- */

/* Text that grows; `p` is NULL after a failed allocation. */
typedef struct {
    char *p;
    size_t n, cap;
} text;

static void add(text *s, const char *p, size_t n)
{
    if (!s->p) return;
    if (n > s->cap - s->n) {
        size_t cap = s->cap * 2 + n;
        char *grown = nib_grow(s->p, s->n, cap, 1);
        if (!grown) nib_free(s->p);
        s->p = grown;
        s->cap = cap;
        if (!grown) return;
    }
    memcpy(s->p + s->n, p, n);
    s->n += n;
}

static void add_quoted(text *s, const char *p)
{
    add(s, "\"", 1);
    for (; *p; p++) {
        char escape[8];
        if (*p == '"' || *p == '\\')
            add(s, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", *p));
        else if ((unsigned char)*p < 0x20)
            add(s, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", *p));
        else
            add(s, p, 1);
    }
    add(s, "\"", 1);
}

static void add_numbers(text *s, const uint64_t *v, int n)
{
    char number[24];
    add(s, "[", 1);
    for (int i = 0; i < n; i++)
        add(s, number,
            (size_t)snprintf(number, sizeof number, "%s%llu", i ? "," : "",
                             (unsigned long long)v[i]));
    add(s, "]", 1);
}

/* The caller frees header->p. */
static nib_code make_header(text *header, const nib_st_writer *w, nib_err *err)
{
    static const char start[] = "{\"__metadata__\":{\"format\":\"pt\"}";
    text s = {nib_alloc(4096, 1), 0, 4096};
    uint64_t range[2] = {0, 0};
    unsigned bits;
    add(&s, start, sizeof start - 1);
    for (size_t i = 0; i < w->n; i++, range[0] = range[1]) {
        const char *dtype = nib_st_dtype(w->t[i].type, &bits);
        range[1] = range[0] + w->bytes[i];
        add(&s, ",", 1);
        add_quoted(&s, w->t[i].name);
        add(&s, ":{\"dtype\":", 10);
        add_quoted(&s, dtype);
        add(&s, ",\"shape\":", 9);
        add_numbers(&s, w->t[i].shape, w->t[i].n_dims);
        add(&s, ",\"data_offsets\":", 16);
        add_numbers(&s, range, 2);
        add(&s, "}", 1);
    }
    add(&s, "}       ", 1 + (7 - s.n % 8));
    *header = s;
    if (!s.p) return nib_fail_nomem(err, "the header");
    if (s.n > NIB_ST_HEADER_MAX)
        return nib_fail(err, NIB_EINVAL, "a header of %zu bytes; the format allows %d", s.n,
                        NIB_ST_HEADER_MAX);
    return NIB_OK;
}

static nib_code put(nib_st_writer *w, const void *data, size_t n, nib_err *err)
{
    nib_sha256_add(&w->file, data, n);
    return nib_out_write(w->out, data, n, err);
}

static nib_code write_header(nib_st_writer *w, nib_err *err)
{
    text header = {0};
    nib_code rc = make_header(&header, w, err);
    if (!rc) {
        uint8_t length[8];
        for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.n >> 8 * i);
        rc = put(w, length, 8, err);
    }
    if (!rc) rc = put(w, header.p, header.n, err);
    nib_free(header.p);
    return rc;
}

/* ---- writer ---- */

static void skip_complete(nib_st_writer *w)
{
    while (w->next < w->n && w->done == w->bytes[w->next]) {
        nib_sha256_end(&w->tensor, w->digest + w->next * NIB_SHA256_BYTES);
        nib_sha256_begin(&w->tensor);
        w->next++;
        w->done = 0;
    }
}

nib_code nib_st_begin(nib_st_writer **out, const char *path, const nib_st_tensor *t, size_t n,
                      bool force, nib_err *err)
{
    nib_code rc;
    *out = NULL;
    nib_st_writer *w = nib_calloc(1, sizeof *w);
    uint64_t *bytes = nib_alloc(n, sizeof *bytes);
    uint8_t *digest = nib_alloc(n, NIB_SHA256_BYTES);
    if (!w || !bytes || !digest) {
        nib_free(bytes);
        nib_free(digest);
        rc = nib_fail_nomem(err, "a file being written");
        goto done;
    }
    *w = (nib_st_writer){.t = t, .bytes = bytes, .n = n, .digest = digest};
    nib_sha256_begin(&w->file);
    nib_sha256_begin(&w->tensor);
    if ((rc = check_tensors(w, err))) {
        nib_wrap(err, "%s", path);
        goto done;
    }
    if ((rc = nib_out_open(&w->out, path, force, err))) goto done;
    if ((rc = write_header(w, err))) goto done;
    skip_complete(w);
    *out = w;
    w = NULL;
done:
    nib_st_abort(w);
    return rc;
}

nib_code nib_st_write(nib_st_writer *w, size_t tensor, const void *data, size_t n, nib_err *err)
{
    if (!n) return NIB_OK;
    if (tensor != w->next || tensor >= w->n || n > w->bytes[tensor] - w->done)
        return nib_fail(err, NIB_EINVAL, "tensor %zu is written out of turn, or beyond its size",
                        tensor);
    nib_code rc = put(w, data, n, err);
    if (rc) return rc;
    nib_sha256_add(&w->tensor, data, n);
    w->done += n;
    skip_complete(w);
    return NIB_OK;
}

void nib_st_digest(nib_st_writer *w, uint8_t sha256[NIB_SHA256_BYTES])
{
    nib_sha256 all = w->file;
    nib_sha256_end(&all, sha256);
}

const uint8_t *nib_st_tensor_digest(const nib_st_writer *w, size_t tensor)
{
    return w->digest + tensor * NIB_SHA256_BYTES;
}

nib_code nib_st_end(nib_st_writer *w, nib_err *err)
{
    nib_code rc;
    if (w->next != w->n) {
        rc = nib_fail(err, NIB_EINVAL, "tensor '%.200s' is incomplete", w->t[w->next].name);
    } else {
        rc = nib_out_commit(w->out, err);
        w->out = NULL;
    }
    nib_st_abort(w);
    return rc;
}

void nib_st_abort(nib_st_writer *w)
{
    if (!w) return;
    nib_out_abort(w->out);
    nib_free(w->bytes);
    nib_free(w->digest);
    nib_free(w);
}
