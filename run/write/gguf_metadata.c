/* SPDX-License-Identifier: MIT */
/* run/write/gguf_metadata.c - the metadata of a GGUF file that is to be written.
 *
 * From a Hugging Face folder: everything that a client needs to run the model with this file alone.
 * From GGUF: a copy, with what quantizing changes. No dates, no machine's paths but the importance
 * matrix's as the user gave it: equal input gives equal bytes. Tests: tests/run/test_plan.c. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "infer/tokenizer.h"
#include "run/plan/plan.h"
#include "run/plan/provenance.h"
#include "run/write/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUANTIZATION_VERSION = 2, IMATRIX_TEXT_MAX = 127 };

static nib_code no_memory(nib_err *err)
{
    return nib_fail_nomem(err, "metadata");
}

/* At most `max` bytes, of whole characters: names of files may be any bytes, metadata is text. */
static bool set_text(nib_gguf_kvs *k, const char *key, const char *text, size_t max)
{
    char *valid = nib_utf8_replace(text);
    if (!valid) return false;
    size_t n = strlen(valid);
    if (n > max) n = nib_utf8_bad(valid, max);
    const bool ok = nib_gguf_set_str(k, key, valid, n);
    nib_free(valid);
    return ok;
}

/* Name of the model's folder; the configuration's _name_or_path where the folder has none. */
static bool set_name(nib_gguf_kvs *k, const nib_source *src)
{
    const char *path = nib_source_path(src), *name = "model";
    char *real = realpath(path, NULL);
    if (real && !nib_file_is_dir(real)) {
        char *slash = strrchr(real, '/');
        if (slash) *slash = 0;
    }
    nib_json_str(nib_json_get(nib_source_json(src, "config.json"), "_name_or_path"), &name);
    if (real && *nib_path_base(real)) name = nib_path_base(real);
    bool ok = set_text(k, "general.name", name, SIZE_MAX);
    free(real);
    return ok;
}

/* "473M", "1.5B": two digits or more. */
static bool set_size_label(nib_gguf_kvs *k, const nib_plan *p)
{
    static const char unit[] = "KMBT";
    double n = 0;
    for (size_t i = 0; i < p->n; i++) n += (double)p->tensor[i].rows * (double)p->tensor[i].cols;
    size_t u = 0;
    for (n /= 1000; n >= 999.5 && unit[u + 1]; u++) n /= 1000;
    char text[32];
    snprintf(text, sizeof text, "%.*f%c", n < 9.95 ? 1 : 0, n, unit[u]);
    return set_text(k, "general.size_label", text, SIZE_MAX);
}

static nib_code from_folder(nib_gguf_kvs *k, const nib_plan *p, nib_err *err)
{
    const nib_model *m = p->model;
    nib_tokenizer *tok = NULL;
    if (!set_text(k, "general.architecture", m->arch->name, SIZE_MAX) ||
        !set_text(k, "general.type", "model", SIZE_MAX) || !set_name(k, m->src) ||
        !set_size_label(k, p))
        return no_memory(err);
    nib_code rc = nib_model_to_gguf(m, k, err);
    if (!rc) rc = nib_tokenizer_open(&tok, m->src, err);
    if (!rc) rc = nib_tokenizer_to_gguf(tok, m->hp.n_vocab, p->recipe.pre, k, err);
    nib_tokenizer_close(tok);
    return rc;
}

/* The formats that quantized tensors had before they were quantized once more. */
static bool set_requantized(nib_gguf_kvs *k, const nib_plan *p)
{
    nib_str names[NIB_TYPE_COUNT];
    size_t n = 0;
    for (int type = 0; type < NIB_TYPE_COUNT; type++) {
        const nib_codec *c = nib_codec_get((nib_type)type);
        bool found = false;
        for (size_t i = 0; i < p->n && c->quantized && !found; i++)
            found = p->tensor[i].src && p->tensor[i].action != NIB_ACTION_COPY &&
                    p->tensor[i].src->codec == c;
        if (found) names[n++] = (nib_str){c->name, strlen(c->name)};
    }
    return nib_gguf_set_arr(k, "quantize.requantized_from", NIB_GGUF_STR, names, n);
}

static nib_code from_gguf(nib_gguf_kvs *k, const nib_plan *p, nib_err *err)
{
    const nib_gguf_kvs *in = nib_source_kvs(p->model->src);
    if (p->recipe.pre)
        return nib_fail(err, NIB_EINVAL,
                        "--pre names the pre-tokenizer of a folder's tokenizer; a GGUF file has "
                        "its name already");
    for (size_t i = 0; i < nib_gguf_kvs_count(in); i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(in, i);
        if (!strncmp(kv->key, "split.", 6) || !strcmp(kv->key, "general.alignment")) continue;
        if (!nib_gguf_set_kv(k, kv)) return no_memory(err);
    }
    if (p->requantized && !set_requantized(k, p)) return no_memory(err);
    return NIB_OK;
}

static bool set_imatrix(nib_gguf_kvs *k, const nib_imatrix *im)
{
    bool ok = nib_gguf_set_u32(k, "quantize.imatrix.entries_count", (uint32_t)im->n);
    if (im->path) ok = ok && set_text(k, "quantize.imatrix.file", im->path, IMATRIX_TEXT_MAX);
    if (im->n_datasets)
        ok = ok && set_text(k, "quantize.imatrix.dataset", im->datasets[0], IMATRIX_TEXT_MAX);
    if (im->chunk_count)
        ok = ok && nib_gguf_set_u32(k, "quantize.imatrix.chunks_count", im->chunk_count);
    return ok;
}

nib_code nib_export_metadata(nib_gguf_kvs **out, const nib_plan *p, const nib_imatrix *imatrix,
                             nib_err *err)
{
    *out = NULL;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    if (!k) return no_memory(err);
    bool gguf = nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
    nib_code rc = gguf ? from_gguf(k, p, err) : from_folder(k, p, err);
    if (!rc && (!nib_gguf_set_u32(k, "general.quantization_version", QUANTIZATION_VERSION) ||
                !nib_gguf_set_u32(k, "general.file_type", p->file_type->id) ||
                !nib_manifest_reserve(k, p) ||
                (p->recipe.provenance && !nib_provenance_to_gguf(p->recipe.provenance, k)) ||
                (imatrix && !set_imatrix(k, imatrix))))
        rc = no_memory(err);
    if (rc) {
        nib_gguf_kvs_free(k);
        return rc;
    }
    *out = k;
    return NIB_OK;
}
