/* SPDX-License-Identifier: MIT */
/* run/write/manifest.c - see manifest.h. Tests: tests/run/test_manifest.c. */
#include "run/write/manifest.h"

#include "base/file.h"
#include "run/plan/provenance.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static nib_code recipe_of_folder(nib_json **out, const nib_source *s, nib_err *err)
{
    nib_json *root = NULL, *copy = nib_json_new_object();
    char *dir = nib_source_folder(s), *path = dir ? nib_path_join(dir, NIB_MANIFEST_FILE) : NULL;
    nib_code rc = path && copy ? NIB_OK : nib_fail_nomem(err, "a manifest");
    if (!rc && nib_file_exists(path)) rc = nib_json_load(&root, path, NIB_MANIFEST_MAX, err);
    const nib_json *recipe = root ? nib_json_get(root, "recipe") : NULL;
    for (const nib_json *j = nib_json_first(recipe); j && !rc; j = nib_json_next(j))
        if (!nib_json_add_copy(copy, nib_json_key(j), j)) rc = nib_fail_nomem(err, "a recipe");
    if (rc || !recipe) {
        nib_json_free(copy);
        copy = NULL;
    }
    *out = copy;
    nib_json_free(root);
    nib_free(path);
    nib_free(dir);
    return rc;
}

nib_code nib_manifest_recipe(nib_json **out, const nib_source *s, nib_err *err)
{
    nib_str text;
    *out = NULL;
    if (!nib_source_kvs(s)) return recipe_of_folder(out, s, err);
    if (!nib_gguf_get_str(nib_source_kvs(s), NIB_KEY_RECIPE, &text)) return NIB_OK;
    return nib_json_parse(out, text.p, text.n, err);
}

/* ---- GGUF ---- */

bool nib_manifest_reserve(nib_gguf_kvs *k, const nib_plan *p)
{
    uint8_t *zeros = nib_calloc(p->n, NIB_SHA256_BYTES);
    bool ok = zeros && nib_gguf_set_str(k, NIB_KEY_VERSION, NIB_VERSION, strlen(NIB_VERSION)) &&
              nib_gguf_set_arr(k, NIB_KEY_TENSORS, NIB_GGUF_U8, zeros, p->n * NIB_SHA256_BYTES) &&
              nib_gguf_set_arr(k, NIB_KEY_ERRORS, NIB_GGUF_F32, zeros, p->n);
    nib_free(zeros);
    return ok;
}

nib_code nib_manifest_fill(const nib_plan *p, const uint8_t *sha256, const nib_ctx *ctx,
                           nib_err *err)
{
    nib_provenance *from = p->recipe.provenance;
    nib_code rc = from ? nib_provenance_end(from, ctx, err) : NIB_OK;
    if (rc) return rc;
    uint8_t *errors = nib_alloc(p->n, sizeof(float));
    for (size_t i = 0; i < p->n && errors; i++) {
        uint32_t bits;
        memcpy(&bits, &p->error[i], sizeof bits);
        for (int b = 0; b < 4; b++) errors[4 * i + (size_t)b] = (uint8_t)(bits >> 8 * b);
    }
    const bool ok =
        errors && (!from || nib_provenance_to_gguf(from, p->kvs)) &&
        nib_gguf_set_arr(p->kvs, NIB_KEY_TENSORS, NIB_GGUF_U8, sha256, p->n * NIB_SHA256_BYTES) &&
        nib_gguf_set_arr(p->kvs, NIB_KEY_ERRORS, NIB_GGUF_F32, errors, p->n);
    nib_free(errors);
    return ok ? NIB_OK : nib_fail_nomem(err, "checksums");
}

/* ---- folders ---- */

nib_manifest nib_manifest_new(void)
{
    nib_manifest m = {.root = nib_json_new_object()};
    m.ok = m.root && nib_json_add_str(m.root, "nibble", NIB_VERSION);
    m.files = m.ok ? nib_json_add_object(m.root, "files") : NULL;
    m.tensors = m.files ? nib_json_add_object(m.root, "tensors") : NULL;
    m.ok = m.tensors;
    return m;
}

void nib_manifest_free(nib_manifest *m)
{
    nib_json_free(m->root);
    *m = (nib_manifest){0};
}

static bool add_digest(nib_json *to, const char *name, const uint8_t *sha256)
{
    char text[NIB_SHA256_DIGITS + 1];
    nib_sha256_text(text, sha256);
    return nib_json_add_str(to, name, text);
}

void nib_manifest_add(nib_manifest *m, const char *name, nib_st_writer *w, const nib_st_tensor *t,
                      size_t n)
{
    uint8_t digest[NIB_SHA256_BYTES];
    for (size_t i = 0; i < n && m->ok; i++)
        m->ok = add_digest(m->tensors, t[i].name, nib_st_tensor_digest(w, i));
    nib_st_digest(w, digest);
    m->ok = m->ok && add_digest(m->files, name, digest);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the files in a folder, sorted; the caller frees each, and the list. */
static nib_code list_files(char ***out, size_t *n, const char *dir, nib_err *err)
{
    nib_code rc = NIB_OK;
    char **list = NULL;
    size_t cap = 0;
    DIR *d = opendir(dir);
    *n = 0;
    *out = NULL;
    if (!d) return nib_fail_sys(err, errno, "%s", dir);
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        if (*n == cap) {
            char **grown = nib_grow(list, cap, cap ? 2 * cap : 32, sizeof *grown);
            if (grown) list = grown, cap = cap ? 2 * cap : 32;
        }
        if (*n == cap || !(list[*n] = nib_strdup(e->d_name)))
            rc = nib_fail_nomem(err, "the list of files");
        else
            ++*n;
    }
    closedir(d);
    if (*n) qsort(list, *n, sizeof *list, by_name);
    *out = list;
    return rc;
}

/* Digests of what nobody has added yet. */
static nib_code add_rest(nib_manifest *m, const char *dir, nib_err *err)
{
    char **name;
    size_t n;
    nib_code rc = list_files(&name, &n, dir, err);
    for (size_t i = 0; i < n; i++) {
        uint8_t digest[NIB_SHA256_BYTES];
        char *path = nib_path_join(dir, name[i]);
        if (!path && !rc) rc = nib_fail_nomem(err, "a path");
        if (!rc && !nib_file_is_dir(path) && !nib_json_get(m->files, name[i])) {
            rc = nib_sha256_file(digest, path, err);
            if (!rc) m->ok = m->ok && add_digest(m->files, name[i], digest);
        }
        nib_free(path);
        nib_free(name[i]);
    }
    nib_free(name);
    return rc;
}

static bool add_weights(nib_json *root, const nib_plan *p)
{
    nib_json *list = nib_json_add_object(root, "weights");
    bool ok = list != NULL;
    for (size_t i = 0; i < p->n && ok; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        nib_json *j = nib_json_add_object(list, t->src ? t->src->name : t->name);
        ok = j && nib_json_add_str(j, "from", t->src ? t->src->codec->name : "generated") &&
             nib_json_add_str(j, "type", t->codec->name) &&
             (p->error[i] < 0 || nib_json_add_real(j, "error", p->error[i]));
    }
    return ok;
}

/* The text with the digest of itself in its last line. */
static nib_code save(const char *dir, nib_json *root, bool ok, nib_err *err)
{
    char zeros[NIB_SHA256_DIGITS + 1];
    uint8_t digest[NIB_SHA256_BYTES] = {0};
    nib_sha256_text(zeros, digest);
    char *text = ok && nib_json_add_str(root, "sha256", zeros) ? nib_json_print(root, true) : NULL;
    char *path = nib_path_join(dir, NIB_MANIFEST_FILE);
    nib_code rc = text && path ? NIB_OK : nib_fail_nomem(err, NIB_MANIFEST_FILE);
    if (!rc) {
        char *at = text + strlen(text), hex[NIB_SHA256_DIGITS + 1];
        while (strncmp(at, zeros, NIB_SHA256_DIGITS) != 0) at--; /* the last member's value */
        nib_sha256_of(digest, text, strlen(text));
        nib_sha256_text(hex, digest);
        memcpy(at, hex, NIB_SHA256_DIGITS);
        rc = nib_file_save(path, text, strlen(text), false, err);
    }
    nib_free(path);
    nib_free(text);
    return rc;
}

nib_code nib_manifest_save(nib_manifest *m, const char *dir, const nib_plan *p, const nib_ctx *ctx,
                           nib_err *err)
{
    nib_provenance *from = p->recipe.provenance;
    nib_code rc = add_rest(m, dir, err);
    if (!rc && from) rc = nib_provenance_end(from, ctx, err);
    const bool ok =
        !rc && m->ok && (!from || nib_provenance_to_json(from, m->root)) && add_weights(m->root, p);
    if (!rc) rc = save(dir, m->root, ok, err);
    nib_manifest_free(m);
    return rc;
}
