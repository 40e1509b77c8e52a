/* SPDX-License-Identifier: MIT */
/* formats/gguf_write.c - plans and writes GGUF files, one or split; see gguf.h.
 *
 * Version 3, alignment 32. The same function counts the head's bytes for the plan and writes them,
 * so the two cannot differ. Keys that describe the layout are never copied from the caller's set:
 * a split file gets its own. Tests: tests/formats/test_gguf.c. */
#include "base/sha256.h"
#include "base/str.h"
#include "formats/gguf_int.h"

#include <stdio.h>
#include <string.h>

/* ---- the head of a file: header, metadata, tensor records ---- */

/* Counts, and writes when there is an `out` or memory to write to. After an error it only counts.
 */
typedef struct {
    nib_out *out;
    uint8_t *to;
    uint64_t n;
    nib_code rc;
    nib_err *err;
} sink;

static void put(sink *s, const void *data, size_t n)
{
    if (s->to && n) memcpy(s->to + s->n, data, n);
    s->n += n;
    if (s->out && n && !s->rc) s->rc = nib_out_write(s->out, data, n, s->err);
}

static void put_uint(sink *s, uint64_t v, size_t bytes)
{
    uint8_t b[8];
    for (size_t i = 0; i < bytes; i++, v >>= 8) b[i] = (uint8_t)v;
    put(s, b, bytes);
}

static void put_str(sink *s, const char *p, size_t n)
{
    put_uint(s, n, 8);
    put(s, p, n);
}

static void put_kv(sink *s, const nib_gguf_kv *kv)
{
    put_str(s, kv->key, strlen(kv->key));
    put_uint(s, kv->type, 4);
    if (kv->type == NIB_GGUF_ARR) {
        put_uint(s, kv->elem, 4);
        put_uint(s, kv->n, 8);
    }
    if (kv->elem != NIB_GGUF_STR) {
        put(s, kv->data, kv->n * nib_gguf_vtype_size(kv->elem));
        return;
    }
    const nib_str *v = kv->data;
    for (size_t i = 0; i < kv->n; i++) put_str(s, v[i].p, v[i].n);
}

static uint64_t pad(uint64_t n)
{
    return (n + NIB_GGUF_ALIGN - 1) / NIB_GGUF_ALIGN * NIB_GGUF_ALIGN;
}

/* Dimensions in the file: contiguous one first, trailing ones of 1 left out, at least one. */
static void put_tensor(sink *s, const nib_gguf_tensor *t, uint64_t offset)
{
    int first = 0;
    while (first + 1 < t->n_dims && t->shape[first] == 1) first++;
    put_str(s, t->name, strlen(t->name));
    put_uint(s, t->n_dims ? (uint64_t)(t->n_dims - first) : 1, 4);
    for (int i = t->n_dims; i-- > first;) put_uint(s, t->shape[i], 8);
    if (!t->n_dims) put_uint(s, 1, 8);
    put_uint(s, (uint64_t)nib_gguf_type_id(t->type), 4);
    put_uint(s, offset, 8);
}

/* What a head is made of. */
typedef struct {
    const nib_gguf_kvs *kvs;
    const nib_gguf_tensor *t;
    size_t n;
    const nib_output_files *layout;
} model;

static size_t count_kvs(const model *m, uint32_t file)
{
    size_t n = m->layout->n_files > 1 ? 3 : 0;
    for (size_t i = 0; file == 0 && i < nib_gguf_kvs_count(m->kvs); i++)
        n += !nib_gguf_is_layout_key(nib_gguf_kvs_at(m->kvs, i)->key);
    return n;
}

static void put_split_keys(sink *s, const model *m, uint32_t file)
{
    uint16_t no = (uint16_t)file, count = (uint16_t)m->layout->n_files;
    int32_t tensors = (int32_t)m->n;
    put_kv(s, &(nib_gguf_kv){"split.no", NIB_GGUF_U16, NIB_GGUF_U16, 1, &no});
    put_kv(s, &(nib_gguf_kv){"split.count", NIB_GGUF_U16, NIB_GGUF_U16, 1, &count});
    put_kv(s, &(nib_gguf_kv){"split.tensors.count", NIB_GGUF_I32, NIB_GGUF_I32, 1, &tensors});
}

/* Everything in front of the tensor data of one file, whose tensors are t[begin .. end). */
static void put_head(sink *s, const model *m, uint32_t file, size_t begin, size_t end)
{
    put(s, "GGUF", 4);
    put_uint(s, 3, 4);
    put_uint(s, end - begin, 8);
    put_uint(s, count_kvs(m, file), 8);
    for (size_t i = 0; file == 0 && i < nib_gguf_kvs_count(m->kvs); i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(m->kvs, i);
        if (!nib_gguf_is_layout_key(kv->key)) put_kv(s, kv);
    }
    if (m->layout->n_files > 1) put_split_keys(s, m, file);
    uint64_t offset = 0;
    for (size_t i = begin; i < end; i++) {
        put_tensor(s, &m->t[i], offset);
        offset += pad(m->layout->bytes[i]);
    }
    static const uint8_t zeros[NIB_GGUF_ALIGN];
    put(s, zeros, (size_t)(pad(s->n) - s->n));
}

/* ---- plan ---- */

char *nib_gguf_split_path(const char *prefix, size_t n, unsigned index, unsigned count)
{
    size_t bytes;
    if (!nib_add(n, 32, &bytes)) return NULL;
    char *p = nib_alloc(bytes, 1);
    if (!p) return NULL;
    memcpy(p, prefix, n);
    snprintf(p + n, 32, "-%05u-of-%05u.gguf", index + 1, count);
    return p;
}

void nib_output_files_free(nib_output_files *l)
{
    for (size_t i = 0; l->file_path && i < l->n_files; i++) nib_free(l->file_path[i]);
    nib_free(l->file_path);
    nib_free(l->file_bytes);
    nib_free(l->file_of);
    nib_free(l->bytes);
    *l = (nib_output_files){0};
}

static nib_code size_tensor(const nib_gguf_tensor *t, uint64_t *bytes, nib_err *err)
{
    size_t n = strlen(t->name), row_bytes;
    const nib_codec *c = nib_codec_get(t->type);
    uint64_t elems, cols;
    if (!n || n > NIB_GGUF_NAME_MAX)
        return nib_fail(err, NIB_EINVAL, "the name has %zu bytes; GGUF allows 1 to %d", n,
                        NIB_GGUF_NAME_MAX);
    if (nib_gguf_type_id(t->type) < 0)
        return nib_fail(err, NIB_EINVAL, "GGUF has no type for %s", c->name);
    if (t->n_dims < 0 || t->n_dims > NIB_GGUF_DIMS_MAX)
        return nib_fail(err, NIB_EINVAL, "%d dimensions; GGUF allows up to %d", t->n_dims,
                        NIB_GGUF_DIMS_MAX);
    cols = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    if (!nib_codec_row_bytes(c, (size_t)cols, &row_bytes))
        return nib_fail(err, NIB_EINVAL, "rows of %llu are no whole number of %s blocks (%u)",
                        (unsigned long long)cols, c->name, c->block);
    if (!nib_shape_elems(t->shape, t->n_dims, &elems) ||
        __builtin_mul_overflow(cols ? elems / cols : 0, (uint64_t)row_bytes, bytes) ||
        *bytes > INT64_MAX / 2)
        return nib_fail(err, NIB_EINVAL, "the shape is too large");
    return NIB_OK;
}

static nib_code size_tensors(nib_output_files *l, const nib_gguf_tensor *t, size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint64_t sum = 0;
    const char **names = nib_alloc(n, sizeof *names);
    if (!names) return nib_fail_nomem(err, "the list of tensors");
    for (size_t i = 0; i < n && !rc; i++) {
        names[i] = t[i].name;
        if ((rc = size_tensor(&t[i], &l->bytes[i], err)))
            nib_wrap(err, "tensor '%.200s'", names[i]);
        else if (__builtin_add_overflow(sum, pad(l->bytes[i]), &sum) || sum > INT64_MAX / 2)
            rc = nib_fail(err, NIB_EINVAL, "the sum of all tensors is too large");
    }
    const char *twice = rc ? NULL : nib_names_twice(names, n);
    if (twice) rc = nib_fail(err, NIB_EINVAL, "tensor '%s' is there twice", twice);
    nib_free(names);
    return rc;
}

/* Which file each tensor goes to: a new one is begun when the next tensor would exceed the limit.
 */
static nib_code assign_files(nib_output_files *l, size_t n, uint64_t split_max, nib_err *err)
{
    uint64_t sum = 0;
    size_t file = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = pad(l->bytes[i]);
        if (split_max && sum && sum + bytes > split_max) {
            file++;
            sum = 0;
        }
        sum += bytes;
        if (file >= NIB_GGUF_SPLIT_MAX)
            return nib_fail(err, NIB_EINVAL, "more than %d files; split into larger ones",
                            NIB_GGUF_SPLIT_MAX);
        l->file_of[i] = (uint32_t)file;
    }
    l->n_files = file + 1;
    return NIB_OK;
}

static nib_code name_files(nib_output_files *l, const char *path, nib_err *err)
{
    size_t n = strlen(path);
    l->file_path = nib_calloc(l->n_files, sizeof *l->file_path);
    if (!l->file_path) return nib_fail_nomem(err, "file names");
    if (nib_ends_with(path, ".gguf")) n -= strlen(".gguf");
    for (size_t i = 0; i < l->n_files; i++) {
        l->file_path[i] = l->n_files == 1
                              ? nib_strdup(path)
                              : nib_gguf_split_path(path, n, (unsigned)i, (unsigned)l->n_files);
        if (!l->file_path[i]) return nib_fail_nomem(err, "file names");
    }
    return NIB_OK;
}

/* End of the run of tensors that begins at `begin` and belongs to `file`. */
static size_t file_end(const nib_output_files *l, size_t n, size_t begin, uint32_t file)
{
    while (begin < n && l->file_of[begin] == file) begin++;
    return begin;
}

static nib_code size_files(nib_output_files *l, const model *m, nib_err *err)
{
    size_t begin = 0;
    l->file_bytes = nib_alloc(l->n_files, sizeof *l->file_bytes);
    if (!l->file_bytes) return nib_fail_nomem(err, "file sizes");
    for (uint32_t f = 0; f < l->n_files; f++) {
        size_t end = file_end(l, m->n, begin, f);
        sink s = {.err = err};
        put_head(&s, m, f, begin, end);
        for (; begin < end; begin++) s.n += pad(l->bytes[begin]);
        l->file_bytes[f] = s.n;
        l->total_bytes += s.n;
    }
    return NIB_OK;
}

nib_code nib_gguf_plan(nib_output_files *l, const char *path, const nib_gguf_kvs *kvs,
                       const nib_gguf_tensor *t, size_t n, uint64_t split_max, nib_err *err)
{
    nib_code rc = NIB_OK;
    model m = {kvs, t, n, l};
    *l = (nib_output_files){0};
    if (n > INT32_MAX) return nib_fail(err, NIB_EINVAL, "%zu tensors are too many", n);
    l->bytes = nib_alloc(n, sizeof *l->bytes);
    l->file_of = nib_alloc(n, sizeof *l->file_of);
    if (!l->bytes || !l->file_of) {
        rc = nib_fail_nomem(err, "the file's layout");
        goto done;
    }
    if ((rc = size_tensors(l, t, n, err))) goto done;
    if ((rc = assign_files(l, n, split_max, err))) goto done;
    if ((rc = name_files(l, path, err))) goto done;
    rc = size_files(l, &m, err);
done:
    if (rc) nib_output_files_free(l);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

/* ---- writer ---- */

struct nib_gguf_writer {
    model m; /* tensors and metadata borrowed from the caller */
    nib_output_files layout;
    nib_out **out; /* [n_files]; NULL before a file is begun */
    bool force, finished;
    size_t next;   /* tensor whose turn it is       */
    uint64_t done; /* bytes of it that were written */
    uint32_t file; /* the file being written        */
};

void nib_gguf_abort(nib_gguf_writer *w)
{
    if (!w) return;
    for (size_t i = 0; w->out && i < w->layout.n_files; i++) nib_out_abort(w->out[i]);
    nib_free(w->out);
    nib_output_files_free(&w->layout);
    nib_free(w);
}

static nib_code begin_file(nib_gguf_writer *w, nib_err *err)
{
    uint32_t f = w->file;
    nib_code rc = nib_out_open(&w->out[f], w->layout.file_path[f], w->force, err);
    if (rc) return rc;
    sink s = {.out = w->out[f], .err = err};
    put_head(&s, &w->m, f, w->next, file_end(&w->layout, w->m.n, w->next, f));
    return s.rc;
}

static nib_code finish_file(nib_gguf_writer *w, nib_err *err)
{
    uint32_t f = w->file;
    uint64_t pos = nib_out_pos(w->out[f]), planned = w->layout.file_bytes[f];
    if (pos != planned)
        return nib_fail(err, NIB_EINVAL, "%s: %llu bytes were written, %llu planned",
                        w->layout.file_path[f], (unsigned long long)pos,
                        (unsigned long long)planned);
    return nib_out_finish(w->out[f], err);
}

/* Step over tensors that are complete: the padding of the one just written, tensors without bytes,
 * and from file to file. */
static nib_code advance(nib_gguf_writer *w, nib_err *err)
{
    nib_code rc;
    while (w->next < w->m.n && w->done == w->layout.bytes[w->next]) {
        uint64_t bytes = w->layout.bytes[w->next];
        if ((rc = nib_out_zeros(w->out[w->file], (size_t)(pad(bytes) - bytes), err))) return rc;
        w->next++;
        w->done = 0;
        if (w->next == w->m.n || w->layout.file_of[w->next] == w->file) continue;
        if ((rc = finish_file(w, err))) return rc;
        w->file++;
        if ((rc = begin_file(w, err))) return rc;
    }
    return NIB_OK;
}

nib_code nib_gguf_begin(nib_gguf_writer **out, const char *path, const nib_gguf_kvs *kvs,
                        const nib_gguf_tensor *t, size_t n, uint64_t split_max, bool force,
                        nib_err *err)
{
    nib_code rc;
    *out = NULL;
    nib_gguf_writer *w = nib_calloc(1, sizeof *w);
    if (!w) return nib_fail_nomem(err, "a file being written");
    w->force = force;
    if ((rc = nib_gguf_plan(&w->layout, path, kvs, t, n, split_max, err))) goto done;
    w->m = (model){kvs, t, n, &w->layout};
    if (!(w->out = nib_calloc(w->layout.n_files, sizeof *w->out))) {
        rc = nib_fail_nomem(err, "a file being written");
        goto done;
    }
    for (size_t i = 0; !force && i < w->layout.n_files; i++)
        if (nib_file_exists(w->layout.file_path[i])) {
            rc = nib_fail(err, NIB_EIO, "%s: exists already; --force replaces it",
                          w->layout.file_path[i]);
            goto done;
        }
    if ((rc = begin_file(w, err)) || (rc = advance(w, err))) goto done;
    *out = w;
    w = NULL;
done:
    nib_gguf_abort(w);
    return rc;
}

nib_code nib_gguf_write(nib_gguf_writer *w, size_t tensor, const void *data, size_t n, nib_err *err)
{
    if (!n) return NIB_OK;
    if (tensor != w->next || tensor >= w->m.n || n > w->layout.bytes[tensor] - w->done)
        return nib_fail(err, NIB_EINVAL, "tensor %zu is written out of turn, or beyond its size",
                        tensor);
    nib_code rc = nib_out_write(w->out[w->file], data, n, err);
    if (rc) return rc;
    w->done += n;
    return advance(w, err);
}

/* The head of a file in memory, the caller's. */
static nib_code make_head(uint8_t **head, size_t *n, const nib_gguf_writer *w, uint32_t file,
                          nib_err *err)
{
    size_t begin = 0;
    while (begin < w->m.n && w->layout.file_of[begin] != file) begin++;
    const size_t end = file_end(&w->layout, w->m.n, begin, file);
    sink count = {.err = err};
    put_head(&count, &w->m, file, begin, end);
    uint64_t data = 0;
    for (size_t i = begin; i < end; i++) data += pad(w->layout.bytes[i]);
    if (count.n + data != w->layout.file_bytes[file])
        return nib_fail(err, NIB_EINVAL, "%s: the metadata has changed its size",
                        w->layout.file_path[file]);
    sink s = {.err = err, .to = *head = nib_alloc((size_t)count.n, 1)};
    if (!s.to) return nib_fail_nomem(err, "a file's head");
    put_head(&s, &w->m, file, begin, end);
    *n = (size_t)s.n;
    return NIB_OK;
}

static nib_code digest_heads(uint8_t *digest, const nib_gguf_writer *w, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (uint32_t f = 0; f < w->layout.n_files && !rc; f++) {
        uint8_t *head = NULL;
        size_t n = 0;
        rc = make_head(&head, &n, w, f, err);
        if (!rc) nib_sha256_of(digest + f * NIB_SHA256_BYTES, head, n);
        nib_free(head);
    }
    return rc;
}

/* All tensors are written, and all files flushed. */
static nib_code finish(nib_gguf_writer *w, nib_err *err)
{
    if (w->finished) return NIB_OK;
    if (w->next != w->m.n)
        return nib_fail(err, NIB_EINVAL, "tensor '%s' is incomplete", w->m.t[w->next].name);
    nib_code rc = finish_file(w, err);
    w->finished = !rc;
    return rc;
}

nib_code nib_gguf_seal(nib_gguf_writer *w, nib_gguf_kvs *kvs, nib_err *err)
{
    const size_t bytes = w->layout.n_files * NIB_SHA256_BYTES;
    uint8_t *digest = nib_calloc(bytes, 1), *head = NULL;
    size_t n = 0;
    nib_code rc = finish(w, err);
    if (!rc && (!digest || !nib_gguf_set_arr(kvs, NIB_GGUF_HEADS, NIB_GGUF_U8, digest, bytes)))
        rc = nib_fail_nomem(err, "checksums");
    if (!rc) rc = digest_heads(digest, w, err);
    if (!rc && !nib_gguf_set_arr(kvs, NIB_GGUF_HEADS, NIB_GGUF_U8, digest, bytes))
        rc = nib_fail_nomem(err, "checksums");
    if (!rc) rc = make_head(&head, &n, w, 0, err);
    if (!rc) rc = nib_out_rewrite(w->out[0], 0, head, n, err);
    nib_free(digest);
    nib_free(head);
    return rc;
}

/* The first file is renamed last: until it is there, no reader takes the others for a model. */
nib_code nib_gguf_end(nib_gguf_writer *w, nib_err *err)
{
    nib_code rc = finish(w, err);
    if (rc) goto done;
    for (size_t i = w->layout.n_files; i-- > 0 && !rc;) {
        rc = nib_out_rename(w->out[i], err);
        w->out[i] = NULL;
    }
done:
    nib_gguf_abort(w);
    return rc;
}
