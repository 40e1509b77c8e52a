/* SPDX-License-Identifier: MIT */
/* run/inspect.c - see inspect.h. Reads headers only, never weights. */
#include "run/inspect.h"
#include "base/utf8.h"
#include "calib/imatrix.h"
#include "infer/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAY_SAMPLE = 5 };

/* The f32 as the shortest decimal that stands for it, so that 1e-5 is not 9.99999975e-06. */
static double tidy(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return strtod(text, NULL);
}

/* Names and texts from a file may hold any bytes, JSON only UTF-8. A copy for the caller. */
static char *clean_text(const char *text)
{
    size_t n = strlen(text);
    char *copy = nib_strndup(text, n);
    if (!copy) return NULL;
    for (size_t i = nib_utf8_bad(copy, n); i < n; i += nib_utf8_bad(copy + i, n - i)) copy[i] = '?';
    return copy;
}

static bool add_text(nib_json *to, const char *key, const char *text)
{
    char *copy = clean_text(text);
    bool ok = copy && nib_json_add_str(to, key, copy);
    nib_free(copy);
    return ok;
}

/* ---- model files ---- */

static bool add_type_totals(nib_json *root, const nib_source *s)
{
    uint64_t weights = 0, bytes = 0;
    struct {
        uint64_t tensors, weights, bytes;
    } by[NIB_TYPE_COUNT] = {0};
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        by[t->codec->type].tensors++;
        by[t->codec->type].weights += nib_tensor_elems(t);
        by[t->codec->type].bytes += t->bytes;
        weights += nib_tensor_elems(t);
        bytes += t->bytes;
    }
    bool ok = nib_json_add_num(root, "tensors", (double)nib_source_count(s)) &&
              nib_json_add_num(root, "weights", (double)weights) &&
              nib_json_add_num(root, "bits_per_weight",
                               weights ? 8.0 * (double)bytes / (double)weights : 0);
    nib_json *types = ok ? nib_json_add_object(root, "types") : NULL;
    ok = types != NULL;
    for (int i = 0; i < NIB_TYPE_COUNT && ok; i++) {
        if (!by[i].tensors) continue;
        nib_json *j = nib_json_add_object(types, nib_codec_get((nib_type)i)->name);
        ok = j && nib_json_add_num(j, "tensors", (double)by[i].tensors) &&
             nib_json_add_num(j, "weights", (double)by[i].weights) &&
             nib_json_add_num(j, "bytes", (double)by[i].bytes);
    }
    return ok;
}

static bool add_hparams(nib_json *root, const nib_model *m)
{
    static const char *const scaling[] = {"none", "linear", "llama3"};
    const nib_hparams *h = &m->hp;
    nib_json *j = nib_json_add_object(root, "model");
    return j && nib_json_add_str(j, "architecture", m->arch->name) &&
           nib_json_add_num(j, "layers", h->n_layer) &&
           nib_json_add_num(j, "context", h->n_ctx_train) &&
           nib_json_add_num(j, "embedding", h->n_embd) &&
           nib_json_add_num(j, "feed_forward", h->n_ff) &&
           nib_json_add_num(j, "heads", h->n_head) &&
           nib_json_add_num(j, "kv_heads", h->n_head_kv) &&
           nib_json_add_num(j, "head_size", h->head_dim) &&
           nib_json_add_num(j, "vocabulary", h->n_vocab) &&
           nib_json_add_num(j, "norm_epsilon", tidy(h->norm_eps)) &&
           nib_json_add_num(j, "rope_base", tidy(h->rope_base)) &&
           nib_json_add_str(j, "rope_scaling", scaling[h->rope_scaling]) &&
           (!h->window || nib_json_add_num(j, "sliding_window", h->window)) &&
           nib_json_add_bool(j, "tied_embedding", h->tied);
}

/* Hyper-parameters, or why nibble cannot run it: a file may well be looked at without. */
static bool add_model(nib_json *root, const nib_source *s)
{
    nib_model m;
    nib_err err = {0};
    if (nib_model_open(&m, s, &err)) return add_text(root, "not_runnable", err.msg);
    bool ok = add_hparams(root, &m);
    nib_model_close(&m);
    return ok;
}

static bool add_tensor_list(nib_json *root, const nib_source *s)
{
    nib_json *list = nib_json_add_array(root, "tensor_list");
    bool ok = list != NULL;
    for (size_t i = 0; i < nib_source_count(s) && ok; i++) {
        const nib_tensor *t = nib_source_at(s, i);
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && add_text(j, "name", t->name) && nib_json_add_str(j, "type", t->codec->name) &&
             nib_json_add_num(j, "bytes", (double)t->bytes);
        nib_json *shape = ok ? nib_json_add_array(j, "shape") : NULL;
        ok = shape != NULL;
        for (int d = 0; d < t->n_dims && ok; d++)
            ok = nib_json_add_num(shape, NULL, (double)t->shape[d]);
    }
    return ok;
}

/* ---- GGUF metadata ---- */

static double number_at(const nib_gguf_kv *kv, nib_gguf_vtype type, size_t i)
{
    static const unsigned char bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const char *p = (const char *)kv->data + i * bytes[type];
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } v;
    memcpy(&v, p, bytes[type]);
    switch (type) {
    case NIB_GGUF_I8: return v.i8;
    case NIB_GGUF_U16: return v.u16;
    case NIB_GGUF_I16: return v.i16;
    case NIB_GGUF_U32: return v.u32;
    case NIB_GGUF_I32: return v.i32;
    case NIB_GGUF_F32: return tidy(v.f32);
    case NIB_GGUF_U64: return (double)v.u64;
    case NIB_GGUF_I64: return (double)v.i64;
    case NIB_GGUF_F64: return v.f64;
    default: return v.u8;
    }
}

/* Element i under `key` (NULL: into an array). */
static bool add_value(nib_json *to, const char *key, const nib_gguf_kv *kv, nib_gguf_vtype type,
                      size_t i)
{
    if (type == NIB_GGUF_STR) return add_text(to, key, ((const nib_str *)kv->data)[i].p);
    double v = number_at(kv, type, i);
    if (type == NIB_GGUF_BOOL) return nib_json_add_bool(to, key, v != 0);
    return nib_json_add_num(to, key, v);
}

static const char *const vtype_name[] = {"u8",   "i8",  "u16", "i16", "u32", "i32", "f32",
                                         "bool", "str", "arr", "u64", "i64", "f64"};

static bool add_array(nib_json *to, const char *key, const nib_gguf_kv *kv)
{
    nib_json *j = nib_json_add_object(to, key);
    bool ok = j && nib_json_add_str(j, "array_of", vtype_name[kv->elem]) &&
              nib_json_add_num(j, "count", (double)kv->n);
    nib_json *first = ok ? nib_json_add_array(j, "first") : NULL;
    ok = first != NULL;
    for (size_t k = 0; k < kv->n && k < ARRAY_SAMPLE && ok; k++)
        ok = add_value(first, NULL, kv, kv->elem, k);
    return ok;
}

static bool add_metadata(nib_json *root, const nib_gguf_kvs *kvs)
{
    nib_json *meta = nib_json_add_object(root, "metadata");
    bool ok = meta != NULL;
    for (size_t i = 0; i < nib_gguf_kvs_count(kvs) && ok; i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(kvs, i);
        char *key = clean_text(kv->key);
        ok = key && (kv->type == NIB_GGUF_ARR ? add_array(meta, key, kv)
                                              : add_value(meta, key, kv, kv->type, 0));
        nib_free(key);
    }
    return ok;
}

static bool add_source(nib_json *root, const nib_source *s, bool with_tensors)
{
    static const char *const kinds[] = {"huggingface", "safetensors", "gguf"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < nib_source_count(s); i++) bytes += nib_source_at(s, i)->bytes;
    return nib_json_add_str(root, "kind", kinds[nib_source_get_kind(s)]) &&
           nib_json_add_num(root, "files", (double)nib_source_n_files(s)) &&
           nib_json_add_num(root, "bytes", (double)bytes) && add_type_totals(root, s) &&
           add_model(root, s) && (!nib_source_kvs(s) || add_metadata(root, nib_source_kvs(s))) &&
           (!with_tensors || add_tensor_list(root, s));
}

/* ---- importance matrices ---- */

static bool add_entries(nib_json *root, const nib_imatrix *m)
{
    nib_json *list = nib_json_add_array(root, "tensor_list");
    bool ok = list != NULL;
    for (size_t i = 0; i < m->n && ok; i++) {
        const nib_imatrix_entry *e = &m->entry[i];
        nib_json *j = nib_json_add_object(list, NULL);
        ok = j && add_text(j, "name", e->name) && nib_json_add_num(j, "columns", (double)e->cols) &&
             nib_json_add_num(j, "matrices", (double)e->n_mat) &&
             nib_json_add_num(j, "rows_seen", e->n_mat ? e->counts[0] : 0);
    }
    return ok;
}

static bool add_imatrix(nib_json *root, const nib_imatrix *m, bool with_tensors)
{
    bool ok = nib_json_add_str(root, "kind", "imatrix") &&
              nib_json_add_num(root, "entries", (double)m->n) &&
              nib_json_add_num(root, "chunk_count", m->chunk_count) &&
              nib_json_add_num(root, "chunk_size", m->chunk_size);
    nib_json *sets = ok ? nib_json_add_array(root, "datasets") : NULL;
    ok = sets != NULL;
    for (size_t i = 0; i < m->n_datasets && ok; i++) ok = add_text(sets, NULL, m->datasets[i]);
    return ok && (!with_tensors || add_entries(root, m));
}

/* True for a GGUF file whose metadata says so. */
static bool says_imatrix(const nib_source *s)
{
    nib_str type;
    return nib_source_kvs(s) && nib_gguf_get_str(nib_source_kvs(s), "general.type", &type) &&
           !strcmp(type.p, "imatrix");
}

/* ---- either ---- */

/* What no source can open may be an importance matrix of the old layout, which has no mark. */
static nib_code inspect_into(nib_json *root, const char *path, bool with_tensors, nib_err *err)
{
    nib_source *s = NULL;
    nib_imatrix m = {0};
    nib_err old;
    nib_code rc = nib_source_open(&s, path, err);
    bool ok;
    if (rc == NIB_OK && !says_imatrix(s)) {
        ok = add_source(root, s, with_tensors);
    } else {
        nib_code rc_old = nib_imatrix_load(&m, path, rc ? &old : err);
        if (rc_old) {
            nib_source_close(s);
            return rc ? rc : rc_old;
        }
        ok = add_imatrix(root, &m, with_tensors);
        nib_imatrix_free(&m);
    }
    nib_source_close(s);
    return ok ? NIB_OK : nib_fail_nomem(err, "a summary");
}

nib_code nib_inspect(nib_json **out, const char *path, bool with_tensors, nib_err *err)
{
    *out = NULL;
    nib_json *root = nib_json_new_object();
    if (!root || !nib_json_add_str(root, "path", path)) {
        nib_json_free(root);
        return nib_fail_nomem(err, "a summary");
    }
    nib_code rc = inspect_into(root, path, with_tensors, err);
    if (rc) {
        nib_json_free(root);
        return rc;
    }
    *out = root;
    return NIB_OK;
}
