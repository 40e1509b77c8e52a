/* SPDX-License-Identifier: MIT */
/* calib/hessian_store.c - see hessian_store.h. */
#include "calib/hessian_store.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "calib/fingerprint.h"
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 1 << 20, VERSION = 1, NAME_ROOM = 256 };

static const char FORMAT[] = "nibble statistics";

/* Path of a block's file; the caller frees it. */
static char *block_path(const char *dir, uint32_t layer)
{
    char name[40];
    snprintf(name, sizeof name, "block-%05" PRIu32 ".safetensors", layer);
    return nib_path_join(dir, name);
}

/* Values of an upper triangle; cols is at most NIB_WIDTH_MAX. */
static uint64_t triangle(size_t cols)
{
    return (uint64_t)cols * (cols + 1) / 2;
}

/* ---- writing ---- */

nib_code nib_hessian_store_head_make(nib_hessian_store_head *h, const nib_model *m,
                                     const nib_windows *w, nib_err *err)
{
    *h = (nib_hessian_store_head){.n_layer = m->hp.n_layer, .windows = w->n, .n_ctx = w->n_ctx};
    h->text = nib_hash(0, w->id, w->n * w->n_ctx * sizeof *w->id);
    return nib_model_fingerprint(&h->model, m, err);
}

static bool fill_head(nib_json *j, const nib_hessian_store_head *h)
{
    return nib_json_add_str(j, "format", FORMAT) && nib_json_add_num(j, "version", VERSION) &&
           nib_hash_add(j, "model", h->model) && nib_hash_add(j, "text", h->text) &&
           nib_json_add_num(j, "blocks", (double)h->n_layer) &&
           nib_json_add_num(j, "windows", (double)h->windows) &&
           nib_json_add_num(j, "context", (double)h->n_ctx) &&
           nib_json_add_num(j, "tokens", (double)h->windows * (double)h->n_ctx);
}

nib_code nib_hessian_store_write_head(const char *dir, const nib_hessian_store_head *h,
                                      nib_err *err)
{
    char *path = nib_path_join(dir, NIB_STATS_HEAD_FILE);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_json *root = nib_json_new_object();
    nib_code rc = nib_json_save(root, root && fill_head(root, h), path, false, err);
    nib_free(path);
    return rc;
}

/* "attn_q+attn_k+attn_v" */
static void name_input(char name[NAME_ROOM], const nib_hessian_store_input *in)
{
    size_t at = 0;
    for (size_t i = 0; i < in->n_roles && at < NAME_ROOM; i++)
        at += (size_t)snprintf(name + at, NAME_ROOM - at, "%s%s", i ? "+" : "",
                               nib_role_name(in->role[i]));
}

static nib_code check_finite(const nib_hessian_store_input *in, nib_err *err)
{
    char name[NAME_ROOM];
    name_input(name, in);
    for (size_t i = 0; i < in->cols; i++) {
        const size_t n = in->cols - i, bad = nib_find_nonfinite(in->h + i * in->cols + i, n, 0);
        if (bad < n)
            return nib_fail(err, NIB_ENUMERIC,
                            "input of '%s': second moments are not finite in channel %zu: the "
                            "model computes NaN or infinity on this text",
                            name, i + bad);
    }
    return NIB_OK;
}

static nib_code write_input(nib_st_writer *w, size_t tensor, const nib_hessian_store_input *in,
                            uint8_t *bytes, nib_err *err)
{
    const nib_codec *f32 = nib_codec_get(NIB_F32);
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < in->cols && !rc; i++) {
        const size_t n = in->cols - i;
        f32->encode(bytes, in->h + i * in->cols + i, NULL, 1, n, 0, NULL);
        rc = nib_st_write(w, tensor, bytes, n * f32->bytes, err);
    }
    return rc;
}

static int by_name(const void *a, const void *b)
{
    char x[NAME_ROOM], y[NAME_ROOM];
    name_input(x, a), name_input(y, b);
    return strcmp(x, y);
}

/* All inputs, which are in the order of their names. */
static nib_code write_inputs(const char *path, const nib_hessian_store_input *in, size_t n,
                             nib_err *err)
{
    char name[NIB_ROLE_COUNT][NAME_ROOM];
    nib_st_tensor t[NIB_ROLE_COUNT];
    nib_st_writer *w = NULL;
    size_t most = 0;
    for (size_t i = 0; i < n; i++) {
        name_input(name[i], &in[i]);
        t[i] = (nib_st_tensor){name[i], NIB_F32, 1, {triangle(in[i].cols)}};
        if (in[i].cols > most) most = in[i].cols;
    }
    uint8_t *bytes = nib_alloc(most, sizeof(float));
    nib_code rc = bytes ? nib_st_begin(&w, path, t, n, false, err) : nib_fail_nomem(err, "moments");
    for (size_t i = 0; i < n && !rc; i++) rc = write_input(w, i, &in[i], bytes, err);
    if (rc)
        nib_st_abort(w);
    else
        rc = nib_st_end(w, err);
    nib_free(bytes);
    return rc;
}

nib_code nib_hessian_store_write_block(const char *dir, uint32_t layer,
                                       const nib_hessian_store_input *in, size_t n, nib_err *err)
{
    nib_hessian_store_input sorted[NIB_ROLE_COUNT];
    if (n > NIB_ROLE_COUNT) return nib_fail(err, NIB_EINVAL, "%zu inputs of a block", n);
    for (size_t i = 0; i < n; i++)
        if (check_finite(&in[i], err)) return nib_wrap(err, "block %" PRIu32, layer);
    char *path = block_path(dir, layer);
    if (!path) return nib_fail_nomem(err, "a path");
    memcpy(sorted, in, n * sizeof *in);
    qsort(sorted, n, sizeof *sorted, by_name);
    nib_code rc = write_inputs(path, sorted, n, err);
    nib_free(path);
    return rc;
}

uint64_t nib_hessian_store_bytes(const nib_hessian_store_input *in, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += triangle(in[i].cols) * sizeof(float);
    return sum;
}

/* ---- reading the head ---- */

/* A count from 1 to `most`. */
static nib_code get_count(const nib_json *j, const char *key, uint64_t most, uint64_t *out,
                          nib_err *err)
{
    if (nib_json_u64(nib_json_get(j, key), out) && *out >= 1 && *out <= most) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "'%s' is missing or no number from 1 to %" PRIu64, key, most);
}

static nib_code parse_head(nib_hessian_store_head *h, const nib_json *j, nib_err *err)
{
    const char *format = "";
    uint64_t version = 0;
    nib_code rc;
    if (!nib_json_str(nib_json_get(j, "format"), &format) || strcmp(format, FORMAT))
        return nib_fail(err, NIB_EFORMAT, "'format' is not '%s'", FORMAT);
    if (!nib_json_u64(nib_json_get(j, "version"), &version) || version != VERSION)
        return nib_fail(err, NIB_EFORMAT, "'version' is not %d, the one that is known", VERSION);
    if (!nib_hash_get(&h->model, j, "model") || !nib_hash_get(&h->text, j, "text"))
        return nib_fail(err, NIB_EFORMAT, "'model' or 'text' is no fingerprint of %d hex digits",
                        NIB_HASH_DIGITS);
    if ((rc = get_count(j, "blocks", NIB_LAYERS_MAX, &h->n_layer, err))) return rc;
    if ((rc = get_count(j, "windows", INT32_MAX, &h->windows, err))) return rc;
    return get_count(j, "context", INT32_MAX, &h->n_ctx, err);
}

static nib_code read_head(nib_hessian_store *s, nib_err *err)
{
    nib_json *root = NULL;
    uint64_t model = 0;
    char *path = nib_path_join(s->dir, NIB_STATS_HEAD_FILE);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = NIB_OK;
    if (!nib_file_exists(path))
        rc = nib_fail(err, NIB_EIO,
                      "%s: is no folder of statistics; 'nibble calibrate --hessians' makes one",
                      s->dir);
    if (!rc) rc = nib_json_load(&root, path, HEAD_MAX, err);
    if (!rc && (rc = parse_head(&s->head, root, err))) nib_wrap(err, "%s", path);
    nib_json_free(root);
    nib_free(path);
    if (rc) return rc;
    if ((rc = nib_model_fingerprint(&model, s->m, err))) return rc;
    if (model == s->head.model && s->head.n_layer == s->m->hp.n_layer) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "%s: holds the statistics of another model; 'nibble calibrate --hessians' "
                    "collects those of %s",
                    s->dir, nib_source_path(s->m->src));
}

/* ---- reading a block ---- */

static nib_role find_role(const char *name, size_t n)
{
    nib_role r = NIB_ROLE_FIRST_BLOCK;
    while (r < NIB_ROLE_COUNT &&
           (strlen(nib_role_name(r)) != n || memcmp(nib_role_name(r), name, n)))
        r++;
    return r;
}

/* Columns of the weight of a role; 0: the block has no such matrix. */
static size_t columns_of(const nib_model *m, uint32_t layer, nib_role r)
{
    const nib_tensor *t = nib_model_param(m, layer, r)->weight;
    return t && nib_role_is_linear(r) ? (size_t)nib_tensor_cols(t) : 0;
}

/* Add the input whose moments are t; seen[] counts the roles of all. */
static nib_code add_input(nib_hessian_store_block *b, const nib_model *m, uint32_t layer,
                          const nib_tensor *t, unsigned seen[NIB_ROLE_COUNT], nib_err *err)
{
    const size_t k = b->n++;
    const char *p = t->name;
    do {
        const size_t n = strcspn(p, "+");
        nib_role r = find_role(p, n);
        size_t cols = r < NIB_ROLE_COUNT ? columns_of(m, layer, r) : 0;
        if (!cols)
            return nib_fail(err, NIB_EFORMAT, "'%.*s' names no matrix of the block",
                            (int)(n < NAME_ROOM ? n : NAME_ROOM), p);
        if (seen[r]++)
            return nib_fail(err, NIB_EFORMAT, "the input of '%s' is there twice", nib_role_name(r));
        if (t->codec->type != NIB_F32 || t->n_dims != 1 || t->shape[0] != triangle(cols))
            return nib_fail(err, NIB_EFORMAT,
                            "should be f32 [%" PRIu64 "], the triangle of the moments of %zu "
                            "channels",
                            triangle(cols), cols);
        b->input[k].role[b->input[k].n_roles++] = r;
        b->input[k].cols = cols;
        p += n;
    } while (*p++ == '+');
    b->input[k].tensor = t;
    return NIB_OK;
}

static nib_code list_inputs(nib_hessian_store_block *b, const nib_model *m, uint32_t layer,
                            nib_err *err)
{
    unsigned seen[NIB_ROLE_COUNT] = {0};
    const size_t n = nib_source_count(b->src);
    if (n > NIB_ROLE_COUNT) return nib_fail(err, NIB_EFORMAT, "%zu tensors; too many", n);
    for (size_t i = 0; i < n; i++) {
        const nib_tensor *t = nib_source_at(b->src, i);
        nib_code rc = add_input(b, m, layer, t, seen, err);
        if (rc) return nib_wrap(err, "tensor '%.200s'", t->name);
    }
    for (nib_role r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++)
        if (!seen[r] && columns_of(m, layer, r))
            return nib_fail(err, NIB_EFORMAT, "the input of '%s' is missing", nib_role_name(r));
    return NIB_OK;
}

nib_code nib_hessian_store_block_open(nib_hessian_store_block *b, const nib_hessian_store *s,
                                      uint32_t layer, nib_err *err)
{
    *b = (nib_hessian_store_block){0};
    char *path = block_path(s->dir, layer);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_source_open(&b->src, path, err);
    if (!rc && (rc = list_inputs(b, s->m, layer, err))) nib_wrap(err, "%s", path);
    if (rc) nib_hessian_store_block_close(b);
    nib_free(path);
    return rc;
}

void nib_hessian_store_block_close(nib_hessian_store_block *b)
{
    nib_source_close(b->src);
    *b = (nib_hessian_store_block){0};
}

nib_code nib_hessian_store_block_read(const nib_hessian_store_block *b, size_t input, float *h,
                                      nib_err *err)
{
    const size_t cols = b->input[input].cols;
    const nib_tensor *t = b->input[input].tensor;
    const nib_codec *f32 = nib_codec_get(NIB_F32);
    uint8_t *bytes = nib_alloc(cols, f32->bytes);
    nib_code rc = bytes ? NIB_OK : nib_fail_nomem(err, "moments");
    uint64_t at = 0;
    for (size_t i = 0; i < cols && !rc; i++) {
        const size_t n = cols - i;
        float *row = h + i * cols + i;
        if ((rc = nib_source_read(b->src, t, at, bytes, n * f32->bytes, err))) break;
        f32->decode(row, bytes, n, 0);
        at += n * f32->bytes;
        size_t bad = nib_find_nonfinite(row, n, 0);
        if (bad < n)
            rc = nib_fail(err, NIB_ENUMERIC, "the moment of channels %zu and %zu is not finite", i,
                          i + bad);
        else if (row[0] < 0)
            rc = nib_fail(err, NIB_ENUMERIC, "the square of channel %zu is below 0", i);
    }
    nib_free(bytes);
    return rc ? nib_wrap(err, "%s: tensor '%s'", nib_source_path(b->src), t->name) : NIB_OK;
}

/* ---- the folder ---- */

nib_code nib_hessian_store_open(nib_hessian_store *s, const char *dir, const nib_model *m,
                                nib_err *err)
{
    *s = (nib_hessian_store){.m = m};
    if (!(s->dir = nib_strdup(dir))) return nib_fail_nomem(err, "a path");
    nib_code rc = read_head(s, err);
    for (uint32_t layer = 0; layer < m->hp.n_layer && !rc; layer++) {
        nib_hessian_store_block b;
        rc = nib_hessian_store_block_open(&b, s, layer, err);
        if (!rc) nib_hessian_store_block_close(&b);
    }
    if (rc) nib_hessian_store_close(s);
    return rc;
}

void nib_hessian_store_close(nib_hessian_store *s)
{
    nib_free(s->dir);
    *s = (nib_hessian_store){0};
}
