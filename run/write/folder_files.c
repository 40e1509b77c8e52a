/* SPDX-License-Identifier: MIT */
/* run/write/folder_files.c - see folder_files.h. Tests: tests/run/test_write_folder.c. */
#include "run/write/folder_files.h"

#include "base/file.h"
#include "infer/tokenizer.h"
#include "run/plan/folder_layers.h"

#include <stdio.h>
#include <string.h>

enum { SMALL_FILE_MAX = 256 << 20 };

static nib_code put_file(const char *to, const char *name, const void *data, size_t n, nib_err *err)
{
    char *path = nib_path_join(to, name);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_file_save(path, data, n, false, err);
    nib_free(path);
    return rc;
}

/* Takes the tree; NULL or !ok: memory was short. */
nib_code nib_folder_put_json(const char *to, const char *name, nib_json *root, bool ok,
                             nib_err *err)
{
    char *path = nib_path_join(to, name);
    nib_code rc = nib_json_save(root, path && ok, path ? path : name, false, err);
    nib_free(path);
    return rc;
}

/* ---- the index ---- */

nib_shard_index nib_shard_index_new(const nib_output_files *files, uint64_t bytes)
{
    nib_shard_index x = {.files = files, .ok = true};
    if (files->n_files == 1) return x;
    x.root = nib_json_new_object();
    nib_json *meta = x.root ? nib_json_add_object(x.root, "metadata") : NULL;
    x.ok = meta && nib_json_add_num(meta, "total_size", (double)bytes);
    x.map = x.ok ? nib_json_add_object(x.root, "weight_map") : NULL;
    x.ok = x.map;
    return x;
}

void nib_shard_index_add(nib_shard_index *x, const char *tensor, uint32_t file)
{
    if (!x->map) return;
    x->ok = x->ok && nib_json_add_str(x->map, tensor, nib_path_base(x->files->file_path[file]));
}

nib_code nib_shard_index_save(nib_shard_index *x, const char *to, nib_err *err)
{
    if (x->files->n_files == 1) return NIB_OK;
    return nib_folder_put_json(to, "model.safetensors.index.json", x->root, x->ok, err);
}

/* ---- configuration ---- */

/* The text of a non-empty JSON object with a member more; the caller frees it. */
static char *add_member(const char *object, size_t n, const char *config)
{
    static const char before[] = ",\n  \"quantization_config\": ", after[] = "\n}\n";
    while (n && object[n - 1] != '}') n--;
    if (n) n--;
    while (n && strchr(" \t\r\n", object[n - 1])) n--;
    const size_t room = n + strlen(config) + sizeof before + sizeof after;
    char *text = nib_alloc(room, 1);
    if (text) snprintf(text, room, "%.*s%s%s%s", (int)n, object, before, config, after);
    return text;
}

/* Is the output matrix one of its own where the source's configuration says that it is not? Readers
 * would not look at it. */
static bool comes_untied(const nib_plan *p)
{
    const bool has_output = nib_plan_find(p, (nib_place){.role = NIB_ROLE_OUTPUT});
    return p->model->head_differs || (p->model->hp.tied && has_output);
}

static bool untie(nib_json *config)
{
    nib_json_remove(config, "tie_word_embeddings");
    return nib_json_add_bool(config, "tie_word_embeddings", false);
}

/* A copy of the source's configuration, without a description of packing. */
static nib_code copy_config(nib_json **root, const nib_plan *p, nib_err *err)
{
    *root = NULL;
    char *text = nib_json_print(nib_source_json(p->model->src, "config.json"), true);
    nib_code rc =
        text ? nib_json_parse(root, text, strlen(text), err) : nib_fail_nomem(err, "config.json");
    nib_free(text);
    if (rc) return rc;
    nib_json_remove(*root, "quantization_config");
    nib_json_remove(*root, "compression_config");
    if (!comes_untied(p) || untie(*root)) return NIB_OK;
    nib_json_free(*root);
    return nib_fail_nomem(err, "config.json");
}

/* The same with another description. */
static nib_code replace_config(const char *to, const nib_plan *p, const char *config, nib_err *err)
{
    nib_json *root = NULL;
    nib_code rc = copy_config(&root, p, err);
    if (rc) return rc;
    char *text = nib_json_print(root, true);
    char *with = text ? add_member(text, strlen(text), config) : NULL;
    rc = with ? put_file(to, "config.json", with, strlen(with), err)
              : nib_fail_nomem(err, "config.json");
    nib_free(with);
    nib_free(text);
    nib_json_free(root);
    return rc;
}

/* The text is kept letter by letter: some readers tell 1.0 from 1. */
static nib_code extend_config(const char *to, const nib_source *s, const char *config, nib_err *err)
{
    char *data = NULL, *with = NULL, *from = nib_source_folder(s);
    char *path = from ? nib_path_join(from, "config.json") : NULL;
    size_t n;
    nib_code rc =
        path ? nib_file_slurp(&data, &n, path, SMALL_FILE_MAX, err) : nib_fail_nomem(err, "a path");
    if (!rc && !(with = add_member(data, n, config))) rc = nib_fail_nomem(err, "config.json");
    if (!rc) rc = put_file(to, "config.json", with, strlen(with), err);
    nib_free(with);
    nib_free(data);
    nib_free(path);
    nib_free(from);
    return rc;
}

/* config.json with the description of the packing, from the source's, or rebuilt. */
static nib_code describe_packing(const char *to, const nib_plan *p, const nib_packing_note *note,
                                 const char *text, nib_err *err)
{
    const nib_source *s = p->model->src;
    const nib_json *config = nib_source_json(s, "config.json");
    const bool replaces = nib_json_get(config, "quantization_config") ||
                          nib_json_get(config, "compression_config") || comes_untied(p);
    if (nib_source_get_kind(s) == NIB_SOURCE_GGUF)
        return nib_folder_put_rebuilt(to, p, nib_folder_dtype(p), note, err);
    return replaces ? replace_config(to, p, text, err) : extend_config(to, s, text, err);
}

static nib_code put_configs(const char *to, const nib_plan *p, const nib_packing_note *note,
                            nib_err *err)
{
    const nib_packing_kind kind = p->recipe.layout.kind;
    nib_json *root = nib_json_new_object();
    bool ok = root && nib_packed_config_write(root, &p->recipe.layout, note);
    char *text = ok ? nib_json_print(root, true) : NULL;
    nib_json_free(root);
    if (!text) return nib_fail_nomem(err, "config.json");
    nib_code rc = describe_packing(to, p, note, text, err);
    if (!rc && nib_packed_config_twice(kind))
        rc = put_file(to, nib_packed_config_file(kind), text, strlen(text), err);
    nib_free(text);
    return rc;
}

nib_code nib_folder_put_configs(const char *to, const nib_plan *p, const nib_packing_note *given,
                                nib_err *err)
{
    nib_packing_note note = *given;
    nib_arena names = {0};
    nib_code rc = nib_folder_list_exceptions(&note, p, &names, err);
    if (!rc) rc = put_configs(to, p, &note, err);
    nib_arena_free(&names);
    return rc;
}

/* ---- plain folders ---- */

static const char *torch_name(nib_type t)
{
    return t == NIB_BF16 ? "bfloat16" : t == NIB_F16 ? "float16" : "float32";
}

nib_code nib_folder_put_plain_config(const char *to, const nib_plan *p, nib_type type, nib_err *err)
{
    nib_json *root;
    nib_code rc = copy_config(&root, p, err);
    if (rc) return rc;
    const char *key = nib_json_get(root, "dtype") ? "dtype" : "torch_dtype";
    nib_json_remove(root, "dtype");
    nib_json_remove(root, "torch_dtype");
    nib_json_remove(root, "tie_word_embeddings");
    bool ok = nib_json_add_str(root, key, torch_name(type)) &&
              nib_json_add_bool(root, "tie_word_embeddings", p->model->hp.tied);
    return nib_folder_put_json(to, "config.json", root, ok, err);
}

/* Ids that end a text: GGUF has one for the end of a text and one for the end of a turn. */
static bool add_generation(nib_json *j, const nib_tokenizer *tok, const nib_gguf_kvs *kvs)
{
    uint64_t turn;
    const int32_t eos = nib_tokenizer_eos(tok);
    bool ok = nib_tokenizer_add_ids(j, tok);
    if (!ok || eos < 0 || !nib_gguf_get_u64(kvs, "tokenizer.ggml.eot_token_id", &turn) ||
        turn >= nib_tokenizer_n_vocab(tok) || turn == (uint64_t)eos)
        return ok;
    nib_json_remove(j, "eos_token_id");
    nib_json *both = nib_json_add_array(j, "eos_token_id");
    return both && nib_json_add_num(both, NULL, eos) && nib_json_add_num(both, NULL, (double)turn);
}

nib_type nib_folder_dtype(const nib_plan *p)
{
    uint64_t weights[NIB_TYPE_COUNT] = {0};
    for (size_t i = 0; i < p->n; i++)
        weights[p->tensor[i].codec->type] += p->tensor[i].rows * p->tensor[i].cols;
    const nib_type two = weights[NIB_BF16] > weights[NIB_F16] ? NIB_BF16 : NIB_F16;
    const bool packed = p->recipe.format == NIB_FORMAT_DIR;
    return weights[NIB_F32] > weights[two] && !packed ? NIB_F32 : two;
}

static bool add_packing(nib_json *config, const nib_plan *p, const nib_packing_note *note)
{
    nib_json *j = note ? nib_json_add_object(config, "quantization_config") : NULL;
    return !note || (j && nib_packed_config_write(j, &p->recipe.layout, note));
}

static nib_code put_rebuilt(const char *to, const nib_plan *p, nib_type type,
                            const nib_packing_note *note, const nib_tokenizer *tok, nib_err *err)
{
    enum { CONFIG, TOKENIZER, TOKENIZER_CONFIG, GENERATION, N };
    static const char *const name[N] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    const nib_model *m = p->model;
    nib_json *j[N] = {0};
    bool ok = true;
    for (int i = 0; i < N && ok; i++) ok = (j[i] = nib_json_new_object()) != NULL;
    nib_code rc = ok ? nib_model_to_hf(m, j[CONFIG], err) : nib_fail_nomem(err, "config.json");
    if (!rc)
        rc = nib_tokenizer_to_hf(tok, m->hp.n_ctx_train, j[TOKENIZER], j[TOKENIZER_CONFIG], err);
    ok = !rc && nib_tokenizer_add_ids(j[CONFIG], tok) &&
         nib_json_add_str(j[CONFIG], "torch_dtype", torch_name(type)) &&
         (!comes_untied(p) || untie(j[CONFIG])) && add_packing(j[CONFIG], p, note) &&
         add_generation(j[GENERATION], tok, nib_source_kvs(m->src));
    for (int i = 0; i < N; i++) {
        if (rc)
            nib_json_free(j[i]);
        else
            rc = nib_folder_put_json(to, name[i], j[i], ok, err);
    }
    return rc;
}

nib_code nib_folder_put_rebuilt(const char *to, const nib_plan *p, nib_type type,
                                const nib_packing_note *note, nib_err *err)
{
    nib_tokenizer *tok;
    nib_code rc = nib_tokenizer_open(&tok, p->model->src, err);
    if (!rc) rc = put_rebuilt(to, p, type, note, tok, err);
    nib_tokenizer_close(tok);
    return rc;
}
