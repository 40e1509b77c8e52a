/* SPDX-License-Identifier: MIT */
/* formats/hf.c - the index of a sharded model and the JSON files beside it; see hf.h. What their
 * contents mean is for those who ask the source for them. */
#include "formats/hf.h"

#include <stdlib.h>
#include <string.h>

/* Largest files that are read; real ones stay below a fifth of this. */
enum { JSON_MAX = 256 << 20, TEXT_MAX = 16 << 20 };

static const char *const json_names[NIB_HF_JSON_COUNT] = {
    "config.json",        "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
    "chat_template.json", "quantize_config.json",    "quant_config.json", "hf_quant_config.json",
    "added_tokens.json",  "special_tokens_map.json", "tekken.json"};
static const char *const text_names[NIB_HF_TEXT_COUNT] = {
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "additional_chat_templates/rag.jinja",
    "tokenizer.model",
    "tiktoken.model",
    "qwen.tiktoken",
    "hy.tiktoken"};

/* As nib_json_load, but says so when it finds a git-lfs pointer. */
static nib_code load_json(nib_json **out, const char *path, nib_err *err)
{
    char *text;
    size_t n;
    *out = NULL;
    nib_code rc = nib_file_slurp(&text, &n, path, JSON_MAX, err);
    if (rc) return rc;
    rc = nib_is_lfs_pointer(text, n) ? nib_fail_lfs(err) : nib_json_parse(out, text, n, err);
    nib_free(text);
    return rc ? nib_wrap(err, "%s", path) : NIB_OK;
}

/* ---- side files ---- */

/* *path is set when the folder has the file; the caller frees it. */
static nib_code find_file(char **path, const char *dir, const char *name, nib_err *err)
{
    *path = nib_path_join(dir, name);
    if (!*path) return nib_fail_nomem(err, "a file name");
    if (!nib_file_exists(*path)) {
        nib_free(*path);
        *path = NULL;
    }
    return NIB_OK;
}

nib_code nib_hf_files_load(nib_hf_files *x, const char *dir, nib_err *err)
{
    nib_code rc = NIB_OK;
    char *path;
    *x = (nib_hf_files){0};
    for (int i = 0; i < NIB_HF_JSON_COUNT && !rc; i++) {
        rc = find_file(&path, dir, json_names[i], err);
        if (!rc && path) rc = load_json(&x->json[i], path, err);
        nib_free(path);
    }
    for (int i = 0; i < NIB_HF_TEXT_COUNT && !rc; i++) {
        rc = find_file(&path, dir, text_names[i], err);
        if (!rc && path) rc = nib_file_slurp(&x->text[i], &x->n_text[i], path, TEXT_MAX, err);
        nib_free(path);
    }
    if (rc) nib_hf_files_free(x);
    return rc;
}

void nib_hf_files_free(nib_hf_files *x)
{
    for (int i = 0; i < NIB_HF_JSON_COUNT; i++) nib_json_free(x->json[i]);
    for (int i = 0; i < NIB_HF_TEXT_COUNT; i++) nib_free(x->text[i]);
    *x = (nib_hf_files){0};
}

const nib_json *nib_hf_files_json(const nib_hf_files *x, const char *name)
{
    for (int i = 0; i < NIB_HF_JSON_COUNT; i++)
        if (!strcmp(json_names[i], name)) return x->json[i];
    return NULL;
}

const char *nib_hf_files_text(const nib_hf_files *x, const char *name, size_t *n)
{
    for (int i = 0; i < NIB_HF_TEXT_COUNT; i++)
        if (!strcmp(text_names[i], name)) {
            *n = x->n_text[i];
            return x->text[i];
        }
    return NULL;
}

/* ---- index ---- */

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_tensor(const void *a, const void *b)
{
    return strcmp(((const nib_hf_entry *)a)->tensor, ((const nib_hf_entry *)b)->tensor);
}

/* The sorted list of different files that the map names. x->file has room for all n values. */
static nib_code collect_files(nib_hf_index *x, const nib_json *map, nib_err *err)
{
    for (const nib_json *c = nib_json_first(map); c; c = nib_json_next(c)) {
        const char *file, *tensor = nib_json_key(c);
        if (!nib_json_str(c, &file))
            return nib_fail(err, NIB_EFORMAT, "weight_map: '%.200s' has no file name", tensor);
        if (!*file || strchr(file, '/') || !strcmp(file, ".") || !strcmp(file, ".."))
            return nib_fail(err, NIB_EFORMAT,
                            "weight_map: '%.200s' is in '%.200s', which is no plain file name",
                            tensor, file);
        x->file[x->n_files++] = file;
    }
    qsort(x->file, x->n_files, sizeof *x->file, by_string);
    size_t n = 0;
    for (size_t i = 0; i < x->n_files; i++)
        if (!n || strcmp(x->file[n - 1], x->file[i])) x->file[n++] = x->file[i];
    x->n_files = n;
    return NIB_OK;
}

static nib_code read_map(nib_hf_index *x, nib_err *err)
{
    const nib_json *map = nib_json_get(x->root, "weight_map");
    size_t n = nib_json_count(map);
    if (!nib_json_is_object(map) || !n)
        return nib_fail(err, NIB_EFORMAT, "'weight_map' is missing, empty or not an object");
    x->entry = nib_alloc(n, sizeof *x->entry);
    x->file = nib_alloc(n, sizeof *x->file);
    if (!x->entry || !x->file) return nib_fail_nomem(err, "the index");
    nib_code rc = collect_files(x, map, err);
    if (rc) return rc;
    for (const nib_json *c = nib_json_first(map); c; c = nib_json_next(c)) {
        const char *file;
        if (!nib_json_str(c, &file)) continue; /* collect_files() refuses these */
        const char **at = bsearch(&file, x->file, x->n_files, sizeof file, by_string);
        x->entry[x->n++] = (nib_hf_entry){nib_json_key(c), (uint32_t)(at - x->file)};
    }
    qsort(x->entry, x->n, sizeof *x->entry, by_tensor);
    return NIB_OK;
}

nib_code nib_hf_index_load(nib_hf_index *x, const char *path, nib_err *err)
{
    *x = (nib_hf_index){0};
    nib_code rc = load_json(&x->root, path, err);
    if (rc) return rc;
    if (!(rc = read_map(x, err))) return NIB_OK;
    nib_hf_index_free(x);
    return nib_wrap(err, "%s", path);
}

void nib_hf_index_free(nib_hf_index *x)
{
    nib_json_free(x->root);
    nib_free(x->entry);
    nib_free(x->file);
    *x = (nib_hf_index){0};
}

/* Both lists are sorted by name: walk them side by side. */
nib_code nib_hf_index_check(const nib_hf_index *x, const nib_tensors *ts, nib_err *err)
{
    for (size_t i = 0, j = 0; i < x->n || j < ts->n; i++, j++) {
        const nib_hf_entry *e = i < x->n ? &x->entry[i] : NULL;
        const nib_tensor *t = j < ts->n ? ts->sorted[j] : NULL;
        int d = !e ? 1 : !t ? -1 : strcmp(e->tensor, t->name);
        if (d < 0)
            return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' should be in %s, which lacks it",
                            e->tensor, x->file[e->file]);
        if (d > 0)
            return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' of %s is not in the index", t->name,
                            x->file[t->file]);
        if (e->file != t->file)
            return nib_fail(err, NIB_EFORMAT, "tensor '%.200s' should be in %s, but is in %s",
                            e->tensor, x->file[e->file], x->file[t->file]);
    }
    return NIB_OK;
}
