/* SPDX-License-Identifier: MIT */
/* formats/source.c - opens whatever a model is stored in; see source.h. The layouts themselves are
 * read by safetensors.c and gguf_read.c, the index and side files of a folder by hf.c.
 * Tests: tests/formats/test_hf.c, tests/formats/test_gguf.c. */
#include "base/str.h"
#include "formats/gguf_int.h"
#include "formats/hf.h"
#include "formats/hf_weights.h"
#include "formats/packed_folder.h"
#include "formats/safetensors.h"
#include "quant/codec_float.h"
#include "quant/ggml_block.h"

#include <math.h>
#include <string.h>

struct nib_source {
    nib_source_kind kind;
    char *path;
    nib_file *file; /* [n_files], fd = -1 before it is opened */
    size_t n_files;
    nib_tensors tensors;
    nib_hf_files side;     /* of folders */
    nib_gguf_kvs *kvs;     /* of GGUF    */
    nib_packed_set packed; /* of folders */
};

void nib_source_close(nib_source *s)
{
    if (!s) return;
    for (size_t i = 0; s->file && i < s->n_files; i++) nib_file_close(&s->file[i]);
    nib_free(s->file);
    nib_tensors_free(&s->tensors);
    nib_hf_files_free(&s->side);
    nib_packed_free(&s->packed);
    nib_gguf_kvs_free(s->kvs);
    nib_free(s->path);
    nib_free(s);
}

/* ---- opening ---- */

static nib_code make_files(nib_source *s, size_t n, nib_err *err)
{
    nib_file *file = nib_grow(s->file, s->n_files, n, sizeof *file);
    if (!file) return nib_fail_nomem(err, "the list of files");
    for (size_t i = s->n_files; i < n; i++) file[i] = (nib_file){.fd = -1};
    s->file = file;
    s->n_files = n;
    return NIB_OK;
}

static nib_code index_tensors(nib_source *s, nib_err *err)
{
    const nib_tensor *twice[2];
    nib_code rc = nib_tensors_index(&s->tensors, twice, err);
    if (rc || !twice[0]) return rc;
    nib_fail(err, NIB_EFORMAT, "tensor '%.200s' is there twice: in %s and %s", twice[0]->name,
             s->file[twice[0]->file].path, nib_path_base(s->file[twice[1]->file].path));
    return nib_wrap(err, "%s", s->path);
}

static nib_code open_single(nib_source *s, const char *path, nib_err *err)
{
    nib_code rc = make_files(s, 1, err);
    if (rc) return rc;
    if ((rc = nib_file_open(&s->file[0], path, err))) return rc;
    if ((rc = nib_st_read(&s->tensors, &s->file[0], 0, err))) return rc;
    return index_tensors(s, err);
}

static nib_code open_shard(nib_source *s, const char *dir, const char *name, uint32_t i,
                           nib_err *err)
{
    char *path = nib_path_join(dir, name);
    if (!path) return nib_fail_nomem(err, "a file name");
    nib_code rc;
    if (!nib_file_exists(path))
        rc = nib_fail(err, NIB_EFORMAT, "%s: missing, but the index names it", path);
    else if (!(rc = nib_file_open(&s->file[i], path, err)))
        rc = nib_st_read(&s->tensors, &s->file[i], i, err);
    nib_free(path);
    return rc;
}

static nib_code open_sharded(nib_source *s, const char *dir, const char *index, nib_err *err)
{
    nib_hf_index x;
    nib_code rc = nib_hf_index_load(&x, index, err);
    if (rc) return rc;
    if ((rc = make_files(s, x.n_files, err))) goto done;
    for (uint32_t i = 0; i < x.n_files && !rc; i++) rc = open_shard(s, dir, x.file[i], i, err);
    if (rc || (rc = index_tensors(s, err))) goto done;
    if ((rc = nib_hf_index_check(&x, &s->tensors, err))) nib_wrap(err, "%s", index);
done:
    nib_hf_index_free(&x);
    return rc;
}

/* What lies beside the weights; it says whether they are packed. */
static nib_code read_side(nib_source *s, const char *dir, nib_err *err)
{
    nib_code rc = nib_hf_files_load(&s->side, dir, err);
    if (rc) return rc;
    if ((rc = nib_packed_fold(&s->packed, &s->tensors, &s->side, s->file, err)))
        return nib_wrap(err, "%s", s->path);
    return s->packed.n ? index_tensors(s, err) : NIB_OK;
}

/* Files that no index lists: one, or all the shards there are. */
static nib_code open_files(nib_source *s, const char *dir, const nib_hf_weights *w, nib_err *err)
{
    nib_code rc = make_files(s, w->n, err);
    for (uint32_t i = 0; i < w->n && !rc; i++) rc = open_shard(s, dir, w->file[i], i, err);
    return rc ? rc : index_tensors(s, err);
}

/* A folder; the single file wins over an index, as it does elsewhere. */
static nib_code open_folder(nib_source *s, const char *dir, nib_err *err)
{
    nib_hf_weights w;
    char *index = NULL;
    nib_code rc = nib_hf_find_weights(&w, dir, err);
    if (!rc && w.index && !(index = nib_path_join(dir, w.index)))
        rc = nib_fail_nomem(err, "a file name");
    if (!rc) rc = index ? open_sharded(s, dir, index, err) : open_files(s, dir, &w, err);
    if (!rc) rc = read_side(s, dir, err);
    nib_free(index);
    nib_hf_weights_free(&w);
    return rc;
}

/* The index was named: the folder is where it lies. */
static nib_code open_index(nib_source *s, const char *path, nib_err *err)
{
    char *dir = nib_path_dir(path);
    if (!dir) return nib_fail_nomem(err, "a file name");
    nib_code rc = open_sharded(s, dir, path, err);
    if (!rc) rc = read_side(s, dir, err);
    nib_free(dir);
    return rc;
}

/* ---- opening GGUF ---- */

/* File i of `count`. Its metadata beyond the place in the split is ignored, as elsewhere. */
static nib_code open_split(nib_source *s, const char *path, uint32_t i, uint64_t count,
                           nib_err *err)
{
    uint64_t no, of;
    nib_gguf_kvs *kvs = NULL;
    nib_code rc = nib_file_open(&s->file[i], path, err);
    if (rc) return rc;
    if ((rc = nib_gguf_read(&kvs, &s->tensors, &s->file[i], i, err))) return rc;
    if (!nib_gguf_get_u64(kvs, "split.no", &no) || !nib_gguf_get_u64(kvs, "split.count", &of))
        rc = nib_fail(err, NIB_EFORMAT, "%s: says not which file of a split model it is", path);
    else if (no != i || of != count)
        rc = nib_fail(err, NIB_EFORMAT, "%s: says it is file %llu of %llu", path,
                      (unsigned long long)no + 1, (unsigned long long)of);
    nib_gguf_kvs_free(kvs);
    return rc;
}

/* The rest of a split model, whose first file has been read. The others' names follow from its. */
static nib_code open_splits(nib_source *s, const char *path, uint64_t count, nib_err *err)
{
    static const size_t suffix = sizeof "-00001-of-00001.gguf" - 1;
    nib_code rc = NIB_OK;
    size_t n = strlen(path) > suffix ? strlen(path) - suffix : 0;
    for (uint32_t i = 0; i < count && !rc; i++) {
        char *name = nib_gguf_split_path(path, n, i, (unsigned)count);
        if (!name)
            rc = nib_fail_nomem(err, "a file name");
        else if (i)
            rc = open_split(s, name, i, count, err);
        else if (strcmp(name, path))
            rc = nib_fail(err, NIB_EFORMAT, "%s: first of %llu files, so its name must end in '%s'",
                          path, (unsigned long long)count, name + n);
        else
            rc = make_files(s, (size_t)count, err);
        nib_free(name);
    }
    return rc;
}

static nib_code open_gguf(nib_source *s, const char *path, nib_err *err)
{
    uint64_t no = 0, count = 0, total;
    nib_code rc = make_files(s, 1, err);
    if (rc) return rc;
    if ((rc = nib_file_open(&s->file[0], path, err))) return rc;
    if ((rc = nib_gguf_read(&s->kvs, &s->tensors, &s->file[0], 0, err))) return rc;
    nib_gguf_get_u64(s->kvs, "split.no", &no);
    nib_gguf_get_u64(s->kvs, "split.count", &count);
    if (no)
        return nib_fail(err, NIB_EFORMAT, "%s: file %llu of a split model; open the first", path,
                        (unsigned long long)no + 1);
    if (count > NIB_GGUF_SPLIT_MAX)
        return nib_fail(err, NIB_EFORMAT, "%s: split.count is %llu; at most %d", path,
                        (unsigned long long)count, NIB_GGUF_SPLIT_MAX);
    if (count > 1) {
        if ((rc = open_splits(s, path, count, err))) return rc;
        if (nib_gguf_get_u64(s->kvs, "split.tensors.count", &total) && total != s->tensors.n)
            return nib_fail(err, NIB_EFORMAT, "%s: %zu tensors in all files; %llu were announced",
                            path, s->tensors.n, (unsigned long long)total);
    }
    rc = index_tensors(s, err);
    return rc ? rc : nib_gguf_take_factors(&s->tensors, s->file, err);
}

/* ---- what is it ---- */

static nib_code open_any(nib_source *s, nib_err *err)
{
    const char *path = s->path;
    if (nib_file_is_dir(path)) {
        s->kind = NIB_SOURCE_HF;
        return open_folder(s, path, err);
    }
    if (!strcmp(nib_path_base(path), "config.json"))
        return nib_fail(err, NIB_EFORMAT, "%s: describes a model; give the folder that it is in",
                        path);
    if (nib_ends_with(path, ".json")) {
        s->kind = NIB_SOURCE_HF;
        return open_index(s, path, err);
    }
    char magic[4];
    nib_code rc = nib_file_head(magic, sizeof magic, path, err);
    if (rc) return rc;
    if (nib_gguf_begins_with(magic)) {
        s->kind = NIB_SOURCE_GGUF;
        return open_gguf(s, path, err);
    }
    if (!memcmp(magic, "PK\3\4", 4))
        return nib_fail(err, NIB_EFORMAT,
                        "%s: a PyTorch (pickle) or zip file; convert it to safetensors first",
                        path);
    s->kind = NIB_SOURCE_SAFETENSORS;
    return open_single(s, path, err);
}

nib_code nib_source_open(nib_source **out, const char *path, nib_err *err)
{
    *out = NULL;
    nib_source *s = nib_calloc(1, sizeof *s);
    if (!s || !(s->path = nib_strdup(path))) {
        nib_source_close(s);
        return nib_fail_nomem(err, "a model");
    }
    nib_code rc = open_any(s, err);
    if (rc) {
        nib_source_close(s);
        return rc;
    }
    *out = s;
    return NIB_OK;
}

/* ---- asking ---- */

nib_source_kind nib_source_get_kind(const nib_source *s)
{
    return s->kind;
}

const char *nib_source_unknown_method(const nib_source *s)
{
    return nib_packed_unknown(&s->side);
}

size_t nib_source_settled(const nib_source *s)
{
    return s->packed.n_settled;
}

const char *nib_source_path(const nib_source *s)
{
    return s->path;
}

size_t nib_source_n_files(const nib_source *s)
{
    return s->n_files;
}

const char *nib_source_file(const nib_source *s, size_t i)
{
    return s->file[i].path;
}

size_t nib_source_count(const nib_source *s)
{
    return s->tensors.n;
}

const nib_tensor *nib_source_at(const nib_source *s, size_t i)
{
    return &s->tensors.v[i];
}

const nib_tensor *nib_source_find(const nib_source *s, const char *name)
{
    return nib_tensors_find(&s->tensors, name);
}

const nib_json *nib_source_json(const nib_source *s, const char *name)
{
    return nib_hf_files_json(&s->side, name);
}

const char *nib_source_text(const nib_source *s, const char *name)
{
    size_t n;
    return nib_hf_files_text(&s->side, name, &n);
}

const char *nib_source_bytes(const nib_source *s, const char *name, size_t *n)
{
    return nib_hf_files_text(&s->side, name, n);
}

const nib_gguf_kvs *nib_source_kvs(const nib_source *s)
{
    return s->kvs;
}

/* ---- reading ---- */

static nib_code read_parts(const nib_source *s, const nib_tensor *t, uint64_t offset, void *dst,
                           size_t n, nib_err *err)
{
    const nib_tensor *part = t->part;
    nib_code rc = NIB_OK;
    while (n && offset >= part->bytes) offset -= part++->bytes;
    for (uint8_t *to = dst; n && !rc; offset = 0, part++) {
        const uint64_t left = part->bytes - offset;
        const size_t now = left < n ? (size_t)left : n;
        rc = nib_source_read(s, part, offset, to, now, err);
        to += now, n -= now;
    }
    return rc;
}

nib_code nib_source_read(const nib_source *s, const nib_tensor *t, uint64_t offset, void *dst,
                         size_t n, nib_err *err)
{
    if (offset > t->bytes || n > t->bytes - offset)
        return nib_fail(err, NIB_EINVAL, "tensor '%.200s': %zu bytes at %llu asked for, of %llu",
                        t->name, n, (unsigned long long)offset, (unsigned long long)t->bytes);
    if (t->n_parts) return read_parts(s, t, offset, dst, n, err);
    if (t->packed) return nib_packed_read(t->packed, s->file, offset, dst, n, err);
    return nib_file_read(&s->file[t->file], t->offset + offset, dst, n, err);
}

bool nib_tensor_readable(const nib_tensor *t)
{
    return t->packed || t->n_parts || t->of || t->codec->decode;
}

bool nib_tensor_is_plain(const nib_tensor *t)
{
    if (t->packed || t->of || t->neg_exp || t->plus != 0 || t->times != 0 || t->row_step ||
        t->factor)
        return false;
    for (size_t i = 0; i < t->n_parts; i++)
        if (t->part[i].codec != t->codec || !nib_tensor_is_plain(&t->part[i])) return false;
    return true;
}

const nib_act_quant *nib_tensor_act(const nib_tensor *t)
{
    return t->packed ? nib_packed_act(t->packed) : NULL;
}

static nib_code check_rows(const nib_tensor *t, uint64_t row, uint64_t n, nib_err *err)
{
    const uint64_t rows = nib_tensor_rows(t);
    if (row <= rows && n <= rows - row) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "tensor '%.200s': rows %llu + %llu asked for, of %llu",
                    t->name, (unsigned long long)row, (unsigned long long)n,
                    (unsigned long long)rows);
}

bool nib_tensor_int8(const nib_tensor *t)
{
    return t->packed && nib_packed_int8(t->packed);
}

nib_code nib_source_read_codes(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                               int8_t *code, float *scale, nib_buf *raw, nib_err *err)
{
    if (!nib_tensor_int8(t))
        return nib_fail(err, NIB_EINVAL, "tensor '%.200s' holds %s, not 8-bit integers by rows",
                        t->name, t->codec->name);
    nib_code rc = check_rows(t, row, n, err);
    if (rc) return rc;
    rc = nib_packed_read_codes(t->packed, s->file, row, n, code, scale, raw, err);
    return rc ? nib_wrap(err, "tensor '%.200s'", t->name) : NIB_OK;
}

bool nib_tensor_ints(const nib_tensor *t, nib_int_groups *g)
{
    const nib_codec *c = t->codec;
    const uint64_t cols = nib_tensor_cols(t);
    if (t->n_parts || t->row_step || t->plus != 0 || t->times != 0 || t->factor) return false;
    if (t->packed && !nib_packing_is_integers(t->packed->l.format.kind)) return false;
    if (t->packed) {
        const nib_packed_parts *l = &t->packed->l;
        *g = (nib_int_groups){l->group, l->groups, t->packed->g_idx, &l->format};
        return true;
    }
    if (!c->quantized || !c->unpack || c->codebook || c->sc_level || c->mn_max || !c->sub)
        return false;
    *g = (nib_int_groups){c->sub, cols / c->sub, NULL, NULL};
    return true;
}

/* Of n rows in `at`, whose blocks lie behind the results. */
static void unpack_blocks(nib_packing_rows *r, const nib_codec *c, size_t blocks)
{
    const size_t subs = c->block / c->sub;
    for (size_t b = 0; b < blocks; b++) {
        nib_block_param p;
        c->unpack(&p, r->code + b * c->block, r->bytes + b * c->bytes);
        for (size_t i = 0; i < subs; i++) {
            r->scale[b * subs + i] = p.d * (float)p.sc[i];
            r->zero[b * subs + i] = -c->level0;
        }
    }
}

static nib_code read_block_ints(nib_packing_rows *r, const nib_source *s, const nib_tensor *t,
                                uint64_t row, uint64_t n, nib_buf *raw, nib_err *err)
{
    const nib_codec *c = t->codec;
    size_t blocks, groups, bytes, all;
    uint8_t *at = NULL;
    const uint64_t per_row = nib_tensor_cols(t) / c->block;
    if (nib_mul((size_t)n, (size_t)per_row, &blocks) &&
        nib_mul(blocks, c->block / c->sub, &groups) && nib_mul(blocks, c->bytes, &bytes) &&
        nib_mul(blocks, c->block + c->bytes + 8 * (c->block / c->sub), &all))
        at = nib_buf_reserve(raw, all, 1);
    if (!at) return nib_fail_nomem(err, "packed rows");
    *r = (nib_packing_rows){.n = (size_t)n,
                            .scale = (float *)(void *)at,
                            .zero = (int32_t *)(void *)(at + groups * 4),
                            .bytes = at + groups * 8,
                            .code = at + groups * 8 + bytes};
    nib_code rc = nib_source_read(s, t, row * per_row * c->bytes, r->bytes, bytes, err);
    if (!rc) unpack_blocks(r, c, blocks);
    return rc;
}

nib_code nib_source_read_ints(nib_packing_rows *r, const nib_source *s, const nib_tensor *t,
                              uint64_t row, uint64_t n, nib_buf *raw, nib_err *err)
{
    nib_int_groups g;
    if (!nib_tensor_ints(t, &g))
        return nib_fail(err, NIB_EINVAL, "tensor '%.200s' holds %s, not integers in groups",
                        t->name, t->codec->name);
    nib_code rc = check_rows(t, row, n, err);
    if (rc) return rc;
    if (!t->packed) return read_block_ints(r, s, t, row, n, raw, err);
    return nib_source_read_coded(r, s, t, row, n, raw, err);
}

const nib_packed_parts *nib_tensor_parts(const nib_tensor *t)
{
    return t->packed && !t->n_parts && !t->of && !t->row_step ? &t->packed->l : NULL;
}

/* Is it what the file has, in NVFP4's blocks? */
static bool is_nvfp4(const nib_tensor *t)
{
    return t->codec->type == NIB_NVFP4 && !t->packed && !t->of;
}

bool nib_tensor_coded(nib_coded *c, const nib_tensor *t)
{
    if (t->n_parts || t->row_step || t->plus != 0 || t->times != 0 || t->neg_exp) return false;
    if (is_nvfp4(t)) {
        *c = (nib_coded){
            .group = t->codec->sub, .groups = nib_tensor_cols(t) / t->codec->sub, .bits = 4};
        memcpy(c->level, nib_e2m1_values, sizeof nib_e2m1_values);
        return true;
    }
    if (!t->packed) return false;
    const nib_packed_parts *l = &t->packed->l;
    *c = (nib_coded){.group = l->group,
                     .groups = l->groups,
                     .g_idx = t->packed->g_idx,
                     .bits = l->format.bits,
                     .integers = nib_packing_is_integers(l->format.kind)};
    return c->integers || nib_packing_levels(c->level, l);
}

/* Of rows [row, row + r->n) of blocks at r->bytes. */
static void unpack_nvfp4(nib_packing_rows *r, const nib_tensor *t, uint64_t row)
{
    const nib_nvfp4 *b = (const nib_nvfp4 *)r->bytes;
    const size_t blocks = (size_t)nib_tensor_cols(t) / t->codec->block;
    uint8_t *code = r->code;
    float *scale = r->scale;
    for (size_t i = 0; i < r->n; i++) {
        const float factor = t->factor ? t->factor[(row + i) / t->factor_rows] : 1;
        for (size_t k = 0; k < blocks; k++, b++, code += t->codec->block, scale += 4) {
            nib_nvfp4_bits(code, b);
            for (int sub = 0; sub < 4; sub++)
                scale[sub] = 2 * nib_ue4m3_half[b->d[sub] & 127] * factor;
        }
    }
}

static nib_code read_nvfp4(nib_packing_rows *r, const nib_source *s, const nib_tensor *t,
                           uint64_t row, uint64_t n, nib_buf *raw, nib_err *err)
{
    const nib_codec *c = t->codec;
    size_t blocks, bytes = 0, all;
    uint8_t *at = NULL;
    const uint64_t per_row = nib_tensor_cols(t) / c->block;
    const size_t zeros = 4 * (sizeof(float) + sizeof(int32_t)); /* a block's scales and zeros */
    if (nib_mul((size_t)n, (size_t)per_row, &blocks) && nib_mul(blocks, c->bytes, &bytes) &&
        nib_mul(blocks, zeros + c->block + c->bytes, &all))
        at = nib_buf_reserve(raw, all, 1);
    if (!at) return nib_fail_nomem(err, "packed rows");
    *r = (nib_packing_rows){.n = (size_t)n,
                            .scale = (float *)(void *)at,
                            .zero = (int32_t *)(void *)(at + blocks * zeros / 2),
                            .bytes = at + blocks * zeros,
                            .code = at + blocks * (zeros + c->bytes)};
    memset(r->zero, 0, blocks * zeros / 2);
    nib_code rc = nib_source_read(s, t, row * per_row * c->bytes, r->bytes, bytes, err);
    if (!rc) unpack_nvfp4(r, t, row);
    return rc;
}

nib_code nib_source_read_coded(nib_packing_rows *r, const nib_source *s, const nib_tensor *t,
                               uint64_t row, uint64_t n, nib_buf *raw, nib_err *err)
{
    nib_code rc = check_rows(t, row, n, err);
    if (!rc && is_nvfp4(t)) return read_nvfp4(r, s, t, row, n, raw, err);
    if (!rc) rc = nib_packed_read_ints(r, t->packed, s->file, row, n, raw, err);
    return rc ? nib_wrap(err, "tensor '%.200s'", t->name) : NIB_OK;
}

/* Elements that are read at once for n rows of a view: a row where its columns lie closer together
 * than its rows, otherwise a column of them. */
static uint64_t strided_span(const nib_tensor *t, uint64_t n)
{
    const bool by_rows = t->row_step > t->col_step;
    return by_rows ? (nib_tensor_cols(t) - 1) * t->col_step + 1 : (n - 1) * t->row_step + 1;
}

uint64_t nib_tensor_rows_memory(const nib_tensor *t, uint64_t n)
{
    size_t bytes;
    const nib_codec *c = t->codec;
    uint64_t most = 0;
    for (size_t i = 0; i < t->n_parts; i++) {
        const uint64_t rows = nib_tensor_rows(&t->part[i]),
                       one = nib_tensor_rows_memory(&t->part[i], n < rows ? n : rows);
        most = one > most ? one : most;
    }
    if (t->n_parts) return most;
    if (t->of) return nib_tensor_rows_memory(t->of, t->of_step == 1 ? n : 1);
    if (t->packed) return nib_packing_read_bytes(&t->packed->l, n, &bytes) ? bytes : UINT64_MAX;
    if (t->row_step) return strided_span(t, n) * (c->bytes + sizeof(float));
    if (t->factor && is_nvfp4(t)) return n * nib_tensor_cols(t) * 3; /* codes, scales and bytes */
    return nib_codec_row_bytes(c, (size_t)nib_tensor_cols(t), &bytes) ? n * bytes : UINT64_MAX;
}

static void apply_view(const nib_tensor *t, float *x, size_t n)
{
    for (size_t i = 0; t->plus != 0 && i < n; i++) x[i] += t->plus;
    for (size_t i = 0; t->times != 0 && i < n; i++) x[i] *= t->times;
    for (size_t i = 0; t->neg_exp && i < n; i++) x[i] = -expf(x[i]);
}

static nib_code read_rows_of_parts(const nib_source *s, const nib_tensor *t, uint64_t row,
                                   uint64_t n, float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    const uint64_t cols = nib_tensor_cols(t);
    const nib_tensor *part = t->part;
    nib_code rc = NIB_OK;
    while (n && row >= nib_tensor_rows(part)) row -= nib_tensor_rows(part++);
    for (; n && !rc; row = 0, part++) {
        const uint64_t left = nib_tensor_rows(part) - row, now = left < n ? left : n;
        rc = nib_source_read_rows(s, part, row, now, dst, raw, cpu, err);
        n -= now, dst += now * cols;
    }
    return rc;
}

/* Columns [row, row + n) of t->of become rows. */
static nib_code read_turned(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                            float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    const uint64_t cols = nib_tensor_cols(t);
    float *x = nib_alloc((size_t)nib_tensor_cols(t->of), sizeof *x);
    nib_code rc = x ? NIB_OK : nib_fail_nomem(err, "a row of a turned view");
    for (uint64_t c = 0; c < cols && !rc; c++) {
        rc = nib_source_read_rows(s, t->of, t->of_row + c, 1, x, raw, cpu, err);
        for (uint64_t r = 0; r < n && !rc; r++) dst[r * cols + c] = x[row + r];
    }
    nib_free(x);
    return rc;
}

/* Rows whose columns lie in another order. */
static nib_code read_columns_of(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                                float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    const uint64_t cols = nib_tensor_cols(t);
    float *x = nib_alloc((size_t)cols, sizeof *x);
    nib_code rc = x ? NIB_OK : nib_fail_nomem(err, "a row of a view");
    for (uint64_t r = 0; r < n && !rc; r++) {
        rc =
            nib_source_read_rows(s, t->of, t->of_row + (row + r) * t->of_step, 1, x, raw, cpu, err);
        for (uint64_t c = 0; c < cols && !rc; c++) dst[r * cols + c] = x[t->of_col[c]];
    }
    nib_free(x);
    return rc;
}

static nib_code read_rows_of(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                             float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    const uint64_t cols = nib_tensor_cols(t), step = t->of_step;
    nib_code rc = NIB_OK;
    if (t->of_col) return read_columns_of(s, t, row, n, dst, raw, cpu, err);
    if (!step) return read_turned(s, t, row, n, dst, raw, cpu, err);
    if (step == 1) return nib_source_read_rows(s, t->of, t->of_row + row, n, dst, raw, cpu, err);
    for (uint64_t r = 0; r < n && !rc; r++)
        rc = nib_source_read_rows(s, t->of, t->of_row + (row + r) * step, 1, dst + r * cols, raw,
                                  cpu, err);
    return rc;
}

/* Elements of a view, in runs that hold more than is taken of them. */
static nib_code read_strided(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                             float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    const nib_codec *c = t->codec;
    const bool by_rows = t->row_step > t->col_step;
    const uint64_t cols = nib_tensor_cols(t), span = n ? strided_span(t, n) : 0;
    const uint64_t runs = by_rows ? n : cols, each = by_rows ? cols : n;
    const uint64_t run_step = by_rows ? t->row_step : t->col_step;
    const uint64_t step = by_rows ? t->col_step : t->row_step;
    float *x = nib_buf_reserve(raw, (size_t)span, sizeof *x + c->bytes);
    if (span && !x) return nib_fail_nomem(err, "elements of a view");
    uint8_t *stored = (uint8_t *)(x + span);
    nib_code rc = NIB_OK;
    for (uint64_t i = 0; i < runs && n && !rc; i++) {
        const uint64_t first = row * t->row_step + i * run_step;
        rc = nib_file_read(&s->file[t->file], t->offset + first * c->bytes, stored,
                           (size_t)(span * c->bytes), err);
        if (rc) break;
        c->decode(x, stored, (size_t)span, cpu);
        for (uint64_t k = 0; k < each; k++)
            dst[by_rows ? i * cols + k : k * cols + i] = x[k * step];
    }
    return rc;
}

/* NVFP4's blocks with a factor: it belongs to their scales, for everybody who reads them. */
static nib_code read_scaled(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                            float *dst, nib_buf *raw, nib_err *err)
{
    nib_packing_rows r;
    const size_t all = (size_t)(n * nib_tensor_cols(t)), group = t->codec->sub;
    nib_code rc = read_nvfp4(&r, s, t, row, n, raw, err);
    for (size_t i = 0; i < all && !rc; i++)
        dst[i] = nib_e2m1_values[r.code[i]] * r.scale[i / group];
    return rc;
}

nib_code nib_source_read_rows(const nib_source *s, const nib_tensor *t, uint64_t row, uint64_t n,
                              float *dst, nib_buf *raw, unsigned cpu, nib_err *err)
{
    size_t row_bytes, bytes;
    const nib_codec *c = t->codec;
    uint64_t cols = nib_tensor_cols(t);
    if (!nib_tensor_readable(t))
        return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' holds %s, which are not weights",
                        t->name, c->name);
    nib_code rc = check_rows(t, row, n, err);
    if (rc) return rc;
    if (t->n_parts) return read_rows_of_parts(s, t, row, n, dst, raw, cpu, err);
    if (t->of) {
        rc = read_rows_of(s, t, row, n, dst, raw, cpu, err);
        if (!rc) apply_view(t, dst, (size_t)(n * cols));
        return rc;
    }
    if (t->row_step) {
        rc = read_strided(s, t, row, n, dst, raw, cpu, err);
        if (!rc) apply_view(t, dst, (size_t)(n * cols));
        return rc ? nib_wrap(err, "tensor '%.200s'", t->name) : NIB_OK;
    }
    if (t->packed) {
        rc = nib_packed_read_rows(t->packed, s->file, row, n, dst, raw, err);
        if (!rc) apply_view(t, dst, (size_t)(n * cols));
        return rc ? nib_wrap(err, "tensor '%.200s'", t->name) : NIB_OK;
    }
    if (t->factor && is_nvfp4(t)) {
        rc = read_scaled(s, t, row, n, dst, raw, err);
        if (!rc) apply_view(t, dst, (size_t)(n * cols));
        return rc;
    }
    if (!nib_codec_row_bytes(c, (size_t)cols, &row_bytes) || !nib_mul(row_bytes, n, &bytes))
        return nib_fail(err, NIB_ENOMEM, "tensor '%.200s': rows are too large", t->name);
    void *packed = nib_buf_reserve(raw, bytes, 1);
    if (!packed) return nib_fail_nomem(err, "packed rows");
    rc = nib_source_read(s, t, row * row_bytes, packed, bytes, err);
    if (rc) return rc;
    c->decode(dst, packed, (size_t)(n * (cols / c->block)), cpu);
    for (uint64_t i = 0; t->factor && i < n * cols; i++)
        dst[i] *= t->factor[(row + i / cols) / t->factor_rows];
    apply_view(t, dst, (size_t)(n * cols));
    return NIB_OK;
}

char *nib_source_folder(const nib_source *s)
{
    return nib_path_dir(nib_source_file(s, 0));
}
