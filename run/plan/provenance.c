/* SPDX-License-Identifier: MIT */
/* run/plan/provenance.c - see provenance.h. Tests: tests/run/test_manifest.c. */
#include "run/plan/provenance.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the list ---- */

static bool is_regular(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* The name in valid UTF-8, in the arena. */
static const char *name_of(nib_provenance *p, const char *path)
{
    char *valid = nib_utf8_replace(nib_path_base(path));
    const char *name = valid ? nib_arena_str(&p->memory, valid, strlen(valid)) : NULL;
    nib_free(valid);
    return name;
}

static nib_code append(nib_provenance *p, nib_input_file **list, size_t *n, const char *path,
                       bool named, bool read, nib_err *err)
{
    nib_input_file *grown = nib_grow(*list, *n, *n + 1, sizeof *grown);
    if (!grown) return nib_fail_nomem(err, "the list of inputs");
    *list = grown;
    nib_input_file f = {.name = named ? name_of(p, path) : ""};
    if (read) f.path = nib_arena_str(&p->memory, path, strlen(path));
    if (!f.name || (read && !f.path)) return nib_fail_nomem(err, "the list of inputs");
    grown[(*n)++] = f;
    return NIB_OK;
}

nib_code nib_provenance_source(nib_provenance *p, const nib_source *s, nib_err *err)
{
    static const char *const beside[] = {"config.json", "tokenizer.json", "tokenizer.model"};
    const bool folder = nib_source_get_kind(s) == NIB_SOURCE_HF;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < nib_source_n_files(s) && !rc; i++)
        rc = append(p, &p->source, &p->n_sources, nib_source_file(s, i), folder, true, err);
    char *dir = folder && !rc ? nib_source_folder(s) : NULL;
    for (size_t i = 0; i < sizeof beside / sizeof *beside && dir && !rc; i++) {
        char *path = nib_path_join(dir, beside[i]);
        if (!path) rc = nib_fail_nomem(err, "a path");
        if (path && is_regular(path))
            rc = append(p, &p->source, &p->n_sources, path, true, true, err);
        nib_free(path);
    }
    nib_free(dir);
    return rc;
}

nib_code nib_provenance_add(nib_provenance *p, const char *path, nib_err *err)
{
    return append(p, &p->other, &p->n_others, path, true, is_regular(path), err);
}

nib_code nib_provenance_add_text(nib_provenance *p, const char *path, nib_err *err)
{
    p->n_texts++;
    return append(p, &p->other, &p->n_others, path, true, false, err);
}

void nib_provenance_texts(nib_provenance *p, const uint8_t *sha256, size_t n)
{
    for (size_t i = 0; i < n && i < p->n_texts; i++) {
        memcpy(p->other[i].sha256, sha256 + i * NIB_SHA256_BYTES, NIB_SHA256_BYTES);
        p->other[i].known = true;
    }
}

void nib_provenance_free(nib_provenance *p)
{
    nib_json_free(p->recipe);
    nib_free(p->source);
    nib_free(p->other);
    nib_arena_free(&p->memory);
    *p = (nib_provenance){0};
}

/* ---- checksums ---- */

static nib_input_file *file_at(const nib_provenance *p, size_t i)
{
    return i < p->n_sources ? &p->source[i] : &p->other[i - p->n_sources];
}

static const nib_input_file *find_seen(const nib_provenance *seen, const char *path)
{
    for (size_t i = 0; i < seen->n_others; i++)
        if (!strcmp(seen->other[i].path, path)) return &seen->other[i];
    return NULL;
}

nib_code nib_provenance_begin(nib_provenance *p, nib_provenance *seen, nib_err *err)
{
    nib_code rc = NIB_OK;
    p->seen = seen;
    for (size_t i = 0; i < p->n_sources + p->n_others && !rc; i++) {
        nib_input_file *f = file_at(p, i);
        if (!f->path || f->known) continue;
        const nib_input_file *s = seen ? find_seen(seen, f->path) : NULL;
        if (s) {
            memcpy(f->sha256, s->sha256, sizeof f->sha256);
            f->known = true;
            continue;
        }
        nib_file file = {.fd = -1};
        rc = nib_file_open(&file, f->path, err);
        f->bytes = file.size;
        nib_file_close(&file);
        nib_sha256_begin(&f->so_far);
    }
    return rc;
}

nib_code nib_provenance_read(nib_provenance *p, size_t i, double share, nib_err *err)
{
    nib_input_file *f = file_at(p, i);
    if (!f->path || f->known) return NIB_OK;
    const uint64_t end = share < 1 ? (uint64_t)(share * (double)f->bytes) : f->bytes;
    nib_code rc = nib_sha256_add_file(&f->so_far, f->path, end, err);
    if (rc || f->so_far.n < f->bytes) return rc;
    nib_sha256_end(&f->so_far, f->sha256);
    f->known = true;
    return NIB_OK;
}

static nib_code read_rest(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    nib_code rc = NIB_OK;
    (void)thread;
    for (size_t i = begin; i < end && !rc; i++) rc = nib_provenance_read(arg, i, 1, err);
    return rc;
}

nib_code nib_provenance_end(nib_provenance *p, const nib_ctx *ctx, nib_err *err)
{
    const size_t n = p->n_sources + p->n_others;
    nib_provenance *seen = p->seen;
    nib_code rc = nib_par_for(ctx->threads, n, 1, read_rest, p, err);
    for (size_t i = 0; i < n && seen && !rc; i++) {
        const nib_input_file *f = file_at(p, i);
        if (!f->path || find_seen(seen, f->path)) continue;
        rc = append(seen, &seen->other, &seen->n_others, f->path, false, true, err);
        if (!rc) memcpy(seen->other[seen->n_others - 1].sha256, f->sha256, sizeof f->sha256);
    }
    return rc;
}

/* ---- into the output ---- */

static bool set_files(nib_gguf_kvs *k, const char *names, const char *digests,
                      const nib_input_file *f, size_t n)
{
    nib_str *name = nib_alloc(n, sizeof *name);
    uint8_t *all = nib_alloc(n, NIB_SHA256_BYTES);
    bool ok = name && all;
    for (size_t i = 0; i < n && ok; i++) {
        name[i] = (nib_str){f[i].name, strlen(f[i].name)};
        memcpy(all + i * NIB_SHA256_BYTES, f[i].sha256, NIB_SHA256_BYTES);
    }
    ok = ok && nib_gguf_set_arr(k, names, NIB_GGUF_STR, name, n) &&
         nib_gguf_set_arr(k, digests, NIB_GGUF_U8, all, n * NIB_SHA256_BYTES);
    nib_free(name);
    nib_free(all);
    return ok;
}

static bool set_str(nib_gguf_kvs *k, const char *key, const char *text)
{
    return nib_gguf_set_str(k, key, text, strlen(text));
}

/* The keys by which the Hub and llama.cpp know the model that this one comes from. */
static bool set_base_model(nib_gguf_kvs *k, const char *model)
{
    char url[512];
    const char *slash = strchr(model, '/');
    snprintf(url, sizeof url, "https://huggingface.co/%s", model);
    return nib_gguf_set_u32(k, "general.base_model.count", 1) &&
           set_str(k, "general.base_model.0.name", slash ? slash + 1 : model) &&
           (!slash || (nib_gguf_set_str(k, "general.base_model.0.organization", model,
                                        (size_t)(slash - model)) &&
                       set_str(k, "general.base_model.0.repo_url", url)));
}

static bool set_datasets(nib_gguf_kvs *k, const nib_provenance *p)
{
    bool ok = nib_gguf_set_u32(k, "general.dataset.count", (uint32_t)p->n_texts);
    for (size_t i = 0; i < p->n_texts && ok; i++) {
        char key[64];
        snprintf(key, sizeof key, "general.dataset.%zu.name", i);
        ok = set_str(k, key, p->other[i].name);
    }
    return ok;
}

static bool set_recipe(nib_gguf_kvs *k, const nib_json *recipe)
{
    char *text = nib_json_print(recipe, false);
    const bool ok = text && set_str(k, NIB_KEY_RECIPE, text);
    nib_free(text);
    return ok;
}

bool nib_provenance_to_gguf(const nib_provenance *p, nib_gguf_kvs *k)
{
    return set_str(k, "general.quantized_by", "nibble") && set_recipe(k, p->recipe) &&
           set_files(k, "nibble.source.files", "nibble.source.sha256", p->source, p->n_sources) &&
           (!p->n_others ||
            set_files(k, "nibble.inputs.files", "nibble.inputs.sha256", p->other, p->n_others)) &&
           (!p->n_texts || set_datasets(k, p)) &&
           (!p->base_model || set_base_model(k, p->base_model));
}

static bool add_files(nib_json *to, const char *key, const nib_input_file *f, size_t n)
{
    nib_json *list = nib_json_add_array(to, key);
    bool ok = list != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        char text[NIB_SHA256_DIGITS + 1];
        nib_json *j = nib_json_add_object(list, NULL);
        nib_sha256_text(text, f[i].sha256);
        ok = j && (!*f[i].name || nib_json_add_str(j, "name", f[i].name)) &&
             (!f[i].known || nib_json_add_str(j, "sha256", text));
    }
    return ok;
}

bool nib_provenance_to_json(const nib_provenance *p, nib_json *to)
{
    return (!p->base_model || nib_json_add_str(to, "base_model", p->base_model)) &&
           nib_json_add_copy(to, "recipe", p->recipe) &&
           add_files(to, "source", p->source, p->n_sources) &&
           (!p->n_others || add_files(to, "inputs", p->other, p->n_others));
}
