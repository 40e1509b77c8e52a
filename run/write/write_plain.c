/* SPDX-License-Identifier: MIT */
/* run/write/write_plain.c - see write_plain.h. */
#include "run/write/write_plain.h"

#include "base/file.h"
#include "formats/carried.h"
#include "formats/safetensors.h"
#include "infer/tokenizer.h"
#include "run/write/folder_files.h"
#include "run/write/manifest.h"
#include "base/out_folder.h"

#include <string.h>

/* ---- tensors ---- */

/* Files are written one after the other, in the order of the plan, which has those with the widest
 * elements of each first, so that all are aligned. */
typedef struct {
    const nib_plan *p;
    const char *dir;
    nib_st_tensor *st; /* [n] */
    size_t first;      /* tensor of the file that is being written */
    size_t n_file;     /* tensors of it */
    nib_st_writer *w;  /* NULL: none is */
    nib_manifest *manifest;
} output;

static nib_code open_file(output *o, size_t tensor, nib_err *err)
{
    const nib_output_files *l = &o->p->layout;
    const uint32_t f = l->file_of[tensor];
    size_t end = tensor;
    while (end < o->p->n && l->file_of[end] == f) end++;
    char *path = nib_path_join(o->dir, nib_path_base(l->file_path[f]));
    if (!path) return nib_fail_nomem(err, "a path");
    o->first = tensor;
    o->n_file = end - tensor;
    nib_code rc = nib_st_begin(&o->w, path, o->st + tensor, end - tensor, false, err);
    nib_free(path);
    return rc;
}

static nib_code close_file(output *o, nib_err *err)
{
    if (o->w)
        nib_manifest_add(o->manifest,
                         nib_path_base(o->p->layout.file_path[o->p->layout.file_of[o->first]]),
                         o->w, o->st + o->first, o->n_file);
    nib_code rc = o->w ? nib_st_end(o->w, err) : NIB_OK;
    o->w = NULL;
    return rc;
}

static nib_code write_tensor(void *arg, size_t tensor, const void *data, size_t n, nib_err *err)
{
    output *o = arg;
    const uint32_t *file_of = o->p->layout.file_of;
    nib_code rc = NIB_OK;
    if (!o->w || file_of[tensor] != file_of[o->first]) {
        rc = close_file(o, err);
        if (!rc) rc = open_file(o, tensor, err);
    }
    return rc ? rc : nib_st_write(o->w, tensor - o->first, data, n, err);
}

static nib_code write_tensors(nib_quantize_result *r, nib_manifest *manifest, const nib_plan *p,
                              const char *dir, const nib_ctx *ctx, nib_err *err)
{
    output o = {.p = p, .dir = dir, .st = nib_alloc(p->n, sizeof *o.st), .manifest = manifest};
    const nib_sink sink = {write_tensor, &o};
    if (!o.st) return nib_fail_nomem(err, "the list of tensors");
    for (size_t i = 0; i < p->n; i++) {
        const nib_gguf_tensor *t = &p->record[i];
        o.st[i] = (nib_st_tensor){.name = t->name, .type = t->type, .n_dims = t->n_dims};
        for (int d = 0; d < t->n_dims; d++) o.st[i].shape[d] = t->shape[d];
    }
    nib_code rc = nib_quantize_stream(r, p, NULL, &sink, ctx, err);
    if (rc)
        nib_st_abort(o.w);
    else
        rc = close_file(&o, err);
    nib_free(o.st);
    return rc;
}

/* ---- what lies beside them ---- */

static nib_code put_index(const nib_plan *p, const char *dir, nib_err *err)
{
    nib_shard_index x = nib_shard_index_new(&p->layout, p->bytes);
    for (size_t i = 0; i < p->n; i++)
        nib_shard_index_add(&x, p->tensor[i].name, p->layout.file_of[i]);
    return nib_shard_index_save(&x, dir, err);
}

static nib_code put_rest(const nib_plan *p, const char *dir, nib_err *err)
{
    const nib_source *src = p->model->src;
    const nib_type type = nib_folder_dtype(p);
    if (nib_source_get_kind(src) == NIB_SOURCE_GGUF)
        return nib_folder_put_rebuilt(dir, p, type, NULL, err);
    nib_code rc = nib_folder_put_plain_config(dir, p, type, err);
    return rc ? rc : nib_carried_copy(dir, src, err);
}

/* ---- the whole ---- */

static nib_code check_tensors(const nib_plan *p, const nib_source *s, nib_err *err)
{
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        const nib_tensor *f = nib_source_find(s, t->name);
        if (!f || f->codec != t->codec || f->bytes != t->bytes || nib_tensor_cols(f) != t->cols)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s' is not as it was written", t->name);
    }
    if (nib_source_count(s) == p->n) return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "%zu tensors were written, %zu are in the folder", p->n,
                    nib_source_count(s));
}

/* What was written opens as the same model. */
static nib_code verify(const nib_plan *p, const char *dir, nib_err *err)
{
    nib_source *s = NULL;
    nib_model m = {0};
    nib_tokenizer *tok = NULL;
    const bool gguf = nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
    nib_code rc = nib_source_open(&s, dir, err);
    if (!rc) rc = check_tensors(p, s, err);
    if (!rc) rc = nib_model_open(&m, s, err);
    if (!rc && m.arch != p->model->arch)
        rc = nib_fail(err, NIB_EFORMAT, "its architecture has become '%s'", m.arch->name);
    if (!rc && gguf) rc = nib_tokenizer_open(&tok, s, err);
    nib_tokenizer_close(tok);
    nib_model_close(&m);
    nib_source_close(s);
    return rc ? nib_wrap(err, "%s", p->recipe.out) : NIB_OK;
}

nib_code nib_write_plain(nib_quantize_result *r, const nib_plan *p, const nib_ctx *ctx,
                         nib_err *err)
{
    const double started = nib_now();
    nib_out_folder stage = {.fd = -1};
    nib_manifest manifest = nib_manifest_new();
    *r = (nib_quantize_result){0};
    nib_code rc = nib_out_folder_open(&stage, p->recipe.out, NIB_FOLDER_MARK, p->recipe.force, err);
    if (!rc) rc = write_tensors(r, &manifest, p, stage.dir, ctx, err);
    if (!rc) rc = put_index(p, stage.dir, err);
    if (!rc) rc = put_rest(p, stage.dir, err);
    if (!rc) rc = nib_manifest_save(&manifest, stage.dir, p, ctx, err);
    if (!rc) rc = verify(p, stage.dir, err);
    nib_manifest_free(&manifest);
    if (rc)
        nib_out_folder_abort(&stage);
    else
        rc = nib_out_folder_commit(&stage, err);
    r->seconds = nib_now() - started;
    return rc;
}
