/* SPDX-License-Identifier: MIT */
/* run/dir_files.c - see dir_files.h. */
#include "run/dir_files.h"

#include "base/file.h"
#include "base/str.h"
#include "run/dir_formats.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SMALL_FILE_MAX = 256 << 20 };

char *nib_dir_source_folder(const nib_source *s)
{
    return nib_path_dir(nib_source_file(s, 0));
}

static nib_code put_file(const char *to, const char *name, const void *data, size_t n, nib_err *err)
{
    char *path = nib_path_join(to, name);
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = nib_file_save(path, data, n, false, err);
    nib_free(path);
    return rc;
}

/* Takes the tree; NULL or !ok: memory was short. */
nib_code nib_dir_put_json(const char *to, const char *name, nib_json *root, bool ok, nib_err *err)
{
    char *path = nib_path_join(to, name);
    nib_code rc = nib_json_save(root, path && ok, path ? path : name, false, err);
    nib_free(path);
    return rc;
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

/* config.json of a model that was quantized already, with another description; or of one that is
 * tied by it and has an output matrix of its own all the same, which readers would not look at. */
static nib_code replace_config(const char *to, const nib_model *m, const char *config, nib_err *err)
{
    const nib_source *s = m->src;
    nib_json *root = NULL;
    char *text = nib_json_print(nib_source_json(s, "config.json"), true), *with;
    nib_code rc =
        text ? nib_json_parse(&root, text, strlen(text), err) : nib_fail_nomem(err, "config.json");
    nib_free(text);
    if (rc) return rc;
    nib_json_remove(root, "quantization_config");
    nib_json_remove(root, "compression_config");
    if (m->head_differs) {
        nib_json_remove(root, "tie_word_embeddings");
        if (!nib_json_add_bool(root, "tie_word_embeddings", false)) {
            nib_json_free(root);
            return nib_fail_nomem(err, "config.json");
        }
    }
    text = nib_json_print(root, true);
    with = text ? add_member(text, strlen(text), config) : NULL;
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
    char *data = NULL, *with = NULL, *from = nib_dir_source_folder(s);
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

static nib_code put_configs(const char *to, const nib_plan *p, const nib_layout_note *note,
                            nib_err *err)
{
    const nib_source *s = p->model->src;
    const nib_layout_kind kind = p->recipe.layout.kind;
    nib_json *root = nib_json_new_object();
    bool ok = root && nib_layout_config_write(root, &p->recipe.layout, note);
    char *text = ok ? nib_json_print(root, true) : NULL;
    nib_json_free(root);
    if (!text) return nib_fail_nomem(err, "config.json");
    const nib_json *config = nib_source_json(s, "config.json");
    const bool replaces = nib_json_get(config, "quantization_config") ||
                          nib_json_get(config, "compression_config") || p->model->head_differs;
    nib_code rc =
        replaces ? replace_config(to, p->model, text, err) : extend_config(to, s, text, err);
    if (!rc && nib_layout_config_twice(kind))
        rc = put_file(to, nib_layout_config_file(kind), text, strlen(text), err);
    nib_free(text);
    return rc;
}

nib_code nib_dir_put_configs(const char *to, const nib_plan *p, const nib_layout_note *given,
                             nib_err *err)
{
    nib_layout_note note = *given;
    nib_arena names = {0};
    nib_code rc = nib_dir_list_exceptions(&note, p, &names, err);
    if (!rc) rc = put_configs(to, p, &note, err);
    nib_arena_free(&names);
    return rc;
}

/* ---- what is carried along ---- */

/* Texts that belong to a model; configurations and indexes are made anew. */
static bool carried_along(const char *name)
{
    static const char *const ends[] = {".json", ".txt", ".jinja", ".md", ".model", ".py"};
    static const char *const made[] = {"config.json", "quantize_config.json", "quant_config.json",
                                       "hf_quant_config.json", "model.safetensors.index.json"};
    if (*name == '.') return false;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!strcmp(name, made[i])) return false;
    if (strstr(name, ".index.json")) return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (nib_ends_with(name, ends[i])) return true;
    return !strncmp(name, "README", 6) || !strncmp(name, "LICENSE", 7) ||
           !strncmp(name, "NOTICE", 6);
}

static nib_code carry_one(const char *to, const char *from, const char *name, nib_err *err)
{
    char *data, *path = nib_path_join(from, name);
    size_t n;
    if (!path) return nib_fail_nomem(err, "a path");
    nib_code rc = NIB_OK;
    if (!nib_file_is_dir(path) && !(rc = nib_file_slurp(&data, &n, path, SMALL_FILE_MAX, err))) {
        rc = put_file(to, name, data, n, err);
        nib_free(data);
    }
    nib_free(path);
    return rc;
}

nib_code nib_dir_carry_files(const char *to, const nib_source *s, nib_err *err)
{
    nib_code rc = NIB_OK;
    char *from = nib_dir_source_folder(s);
    DIR *d = from ? opendir(from) : NULL;
    if (!from)
        rc = nib_fail_nomem(err, "a path");
    else if (!d)
        rc = nib_fail_sys(err, errno, "%s", from);
    for (struct dirent *e; d && !rc && (e = readdir(d));)
        if (carried_along(e->d_name)) rc = carry_one(to, from, e->d_name, err);
    if (d) closedir(d);
    nib_free(from);
    return rc;
}
