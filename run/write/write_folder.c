/* SPDX-License-Identifier: MIT */
/* run/write/write_folder.c - see write_folder.h. */
#include "run/write/write_folder.h"

#include "base/file.h"
#include "base/par.h"
#include "formats/carried.h"
#include "formats/safetensors.h"
#include "infer/kv_scales.h"
#include "run/write/folder_files.h"
#include "run/write/manifest.h"
#include "base/out_folder.h"
#include "formats/target.h"
#include "run/plan/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 4 << 20 }; /* whole numbers of any dtype */

/* ---- tensors ---- */

/* One tensor of the files and where its bytes are. */
typedef struct {
    const char *name;
    const nib_plan_tensor *t; /* NULL: of scales of keys or values, by their ranges */
    const float *range;
    uint64_t at; /* in the side file, or in the source's tensor */
    uint32_t file;
} entry;

typedef struct {
    const nib_plan *p;
    const nib_solved_file *side;
    const nib_ctx *ctx;
    nib_out_folder stage;
    nib_arena names;
    entry *e;          /* [n] */
    nib_st_tensor *st; /* [n] the same for the writer; of one file after the other */
    size_t n;
    uint8_t *piece; /* [PIECE] */
    nib_buf weights;
    nib_manifest manifest;
    nib_progress progress;
    uint64_t done;
} job;

/* A tensor in its own dtype, from the source or, where it was changed, from the side file. */
static void add_plain(job *j, const nib_plan_tensor *t, uint32_t file)
{
    nib_st_tensor *st = &j->st[j->n];
    *st = (nib_st_tensor){.name = t->src->name, .type = t->codec->type, .n_dims = t->src->n_dims};
    memcpy(st->shape, t->src->shape, sizeof st->shape);
    j->e[j->n++] =
        (entry){st->name, t, NULL, t->action == NIB_ACTION_STAGE ? t->solved_at : 0, file};
}

static nib_code add_packed(job *j, const nib_plan_tensor *t, uint32_t file, nib_err *err)
{
    char name[1024];
    const size_t stem = strlen(t->src->name) - (sizeof ".weight" - 1);
    for (size_t k = 0; k < t->layout.n_parts; k++) {
        const nib_packing_part *p = &t->layout.part[k];
        int len = snprintf(name, sizeof name, "%.*s%s", (int)stem, t->src->name, p->suffix);
        const char *copy = nib_arena_str(&j->names, name, (size_t)len);
        if (!copy) return nib_fail_nomem(err, "tensor names");
        j->st[j->n] = (nib_st_tensor){copy, p->type, p->n_dims, {p->shape[0], p->shape[1]}};
        j->e[j->n++] = (entry){copy, t, NULL, t->solved_at + p->at, file};
    }
    return NIB_OK;
}

/* Scales of keys and values, in the last file. */
static nib_code add_kv_scales(job *j, nib_err *err)
{
    const nib_kv_ranges *r = j->p->recipe.kv_ranges;
    const uint32_t file = j->e[j->n - 1].file;
    for (uint32_t i = 0; i < 2 * r->n_layer; i++) {
        char name[1024];
        if (!nib_kv_scale_name(name, sizeof name, j->p->model, i / 2, i % 2))
            return nib_fail(err, NIB_EINVAL, "--kv-scales: layer %u has no keys", i / 2);
        const char *copy = nib_arena_str(&j->names, name, strlen(name));
        if (!copy) return nib_fail_nomem(err, "tensor names");
        j->st[j->n] =
            (nib_st_tensor){copy, nib_folder_dtype(j->p), r->per_head ? 3 : 1, {r->n, 1, 1}};
        j->e[j->n++] = (entry){copy, NULL, r->of[i % 2] + i / 2 * r->n, 0, file};
    }
    return NIB_OK;
}

static nib_code list_entries(job *j, nib_err *err)
{
    const nib_plan *p = j->p;
    const size_t scales = p->recipe.kv_ranges ? 2 * p->recipe.kv_ranges->n_layer : 0;
    j->e = nib_alloc(p->n * NIB_PART_ROLES + scales, sizeof *j->e);
    j->st = nib_alloc(p->n * NIB_PART_ROLES + scales, sizeof *j->st);
    j->piece = nib_alloc(PIECE, 1);
    if (!j->e || !j->st || !j->piece) return nib_fail_nomem(err, "the list of tensors");
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        uint32_t file = p->layout.file_of[i];
        if (t->layout.n_parts)
            rc = add_packed(j, t, file, err);
        else
            add_plain(j, t, file);
    }
    return !rc && scales ? add_kv_scales(j, err) : rc;
}

/* The writer's tensors were sorted; names are unique and shared. */
static const entry *find_entry(const job *j, size_t first, size_t end, const char *name)
{
    for (size_t i = first; i + 1 < end; i++)
        if (j->e[i].name == name) return &j->e[i];
    return &j->e[end - 1];
}

/* Bytes of a tensor that is copied, which nobody has looked at yet. */
static nib_code copy_bytes(job *j, const nib_plan_tensor *t, uint64_t at, size_t n, nib_err *err)
{
    const uint32_t block = t->codec->bytes;
    nib_code rc = nib_source_read(j->p->model->src, t->src, at, j->piece, n, err);
    return rc ? rc
              : nib_weights_check_stored(t, j->piece, at / block, n / block, &j->weights,
                                         j->ctx->cpu, err);
}

/* What has never been other than 0 needs no scale. */
static nib_code write_kv_scale(job *j, nib_st_writer *w, size_t i, const nib_st_tensor *st,
                               const entry *e, nib_err *err)
{
    const nib_codec *c = nib_codec_get(st->type);
    const size_t n = j->p->recipe.kv_ranges->n;
    for (size_t k = 0; k < n; k++) {
        const float scale = e->range[k] > 0 ? e->range[k] / NIB_KV_E4M3_MAX : 1;
        const float stored = nib_scale_stored(st->type, scale);
        if (stored == 0 || !isfinite(stored))
            return nib_fail(err, NIB_ENUMERIC, "tensor '%s': a scale of %g is none in %s", e->name,
                            (double)scale, c->name);
        c->encode(j->piece + k * c->bytes, &scale, NULL, 1, 1, j->ctx->cpu, NULL);
    }
    return nib_st_write(w, i, j->piece, n * c->bytes, err);
}

static nib_code write_tensor(job *j, nib_st_writer *w, size_t i, const nib_st_tensor *st,
                             const entry *e, nib_err *err)
{
    if (!e->t) return write_kv_scale(j, w, i, st, e, err);
    uint64_t bytes = nib_codec_get(st->type)->bytes, at = 0;
    nib_code rc = NIB_OK;
    for (int d = 0; d < st->n_dims; d++) bytes *= st->shape[d];
    if (e->t->action != NIB_ACTION_STAGE) bytes = e->t->bytes;
    while (at < bytes && !rc) {
        size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        rc = e->t->action == NIB_ACTION_STAGE
                 ? nib_solved_file_read(j->side, e->at + at, j->piece, n, err)
                 : copy_bytes(j, e->t, at, n, err);
        if (!rc) rc = nib_st_write(w, i, j->piece, n, err);
        at += n;
        j->done += n;
        nib_progress_at(&j->progress, (double)j->done / 1e6);
    }
    return rc;
}

/* Entries [first, end) are those of file `f`. */
static nib_code write_file(job *j, size_t f, size_t first, size_t end, nib_err *err)
{
    const size_t n = end - first;
    nib_st_tensor *st = j->st + first;
    nib_st_writer *w = NULL;
    char *path = nib_path_join(j->stage.dir, nib_path_base(j->p->layout.file_path[f]));
    if (!path) return nib_fail_nomem(err, "a path");
    nib_st_sort(st, n);
    nib_code rc = nib_st_begin(&w, path, st, n, false, err);
    for (size_t i = 0; i < n && !rc; i++)
        rc = write_tensor(j, w, i, &st[i], find_entry(j, first, end, st[i].name), err);
    if (rc) {
        nib_st_abort(w);
    } else {
        nib_manifest_add(&j->manifest, nib_path_base(path), w, st, n);
        rc = nib_st_end(w, err);
    }
    nib_free(path);
    return rc;
}

static nib_code write_files(job *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_progress_begin(&j->progress, j->ctx->log, "writing", "MB", (double)j->p->bytes / 1e6);
    for (size_t first = 0, end; first < j->n && !rc; first = end) {
        for (end = first; end < j->n && j->e[end].file == j->e[first].file;) end++;
        rc = write_file(j, j->e[first].file, first, end, err);
    }
    nib_progress_end(&j->progress);
    return rc;
}

static nib_code put_index(const job *j, nib_err *err)
{
    nib_shard_index x = nib_shard_index_new(&j->p->layout, j->p->bytes);
    for (size_t i = 0; i < j->n; i++) nib_shard_index_add(&x, j->e[i].name, j->e[i].file);
    return nib_shard_index_save(&x, j->stage.dir, err);
}

/* ---- the whole ---- */

/* What was written opens and says what the plan said. */
static nib_code verify(const job *j, nib_err *err)
{
    const nib_plan *p = j->p;
    nib_source *s = NULL;
    nib_code rc = nib_source_open(&s, j->stage.dir, err);
    if (rc) return rc;
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        const nib_tensor *f = nib_source_find(s, t->src->name);
        if (!f || strcmp(f->codec->name, t->codec->name) || f->bytes != t->bytes ||
            nib_tensor_rows(f) != t->rows || nib_tensor_cols(f) != t->cols)
            rc = nib_fail(err, NIB_EFORMAT, "%s: tensor '%s' is not as it was written",
                          p->recipe.out, t->src->name);
    }
    const size_t n = p->n + (p->recipe.kv_ranges ? 2 * p->recipe.kv_ranges->n_layer : 0);
    if (!rc && nib_source_count(s) != n)
        rc = nib_fail(err, NIB_EFORMAT, "%s: %zu tensors were written, %zu are in the folder",
                      p->recipe.out, n, nib_source_count(s));
    nib_source_close(s);
    return rc;
}

nib_code nib_write_folder(nib_quantize_result *r, const nib_plan *p, const nib_solved_file *side,
                          const nib_packing_note *note, const nib_ctx *ctx, nib_err *err)
{
    double started = nib_now();
    job j = {.p = p, .side = side, .ctx = ctx, .stage = {.fd = -1}};
    j.manifest = nib_manifest_new();
    *r = (nib_quantize_result){0};
    nib_code rc = list_entries(&j, err);
    if (!rc)
        rc = nib_out_folder_open(&j.stage, p->recipe.out, NIB_FOLDER_MARK, p->recipe.force, err);
    if (!rc) rc = write_files(&j, err);
    if (!rc) rc = put_index(&j, err);
    if (!rc) rc = nib_folder_put_configs(j.stage.dir, p, note, err);
    if (!rc && nib_source_get_kind(p->model->src) != NIB_SOURCE_GGUF)
        rc = nib_carried_copy(j.stage.dir, p->model->src, err);
    if (!rc) rc = nib_manifest_save(&j.manifest, j.stage.dir, p, ctx, err);
    if (!rc) rc = verify(&j, err);
    nib_manifest_free(&j.manifest);
    if (rc)
        nib_out_folder_abort(&j.stage);
    else
        rc = nib_out_folder_commit(&j.stage, err);
    nib_arena_free(&j.names);
    nib_free(j.e);
    nib_free(j.st);
    nib_free(j.piece);
    nib_buf_free(&j.weights);
    r->seconds = nib_now() - started;
    return rc;
}
