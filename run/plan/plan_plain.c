/* SPDX-License-Identifier: MIT */
/* run/plan/plan_plain.c - the plan of a plain folder: every tensor of the model under its Hugging
 * Face name, in one dtype, whatever it was stored in. Tests: tests/run/test_write_plain.c. */
#include "base/file.h"
#include "run/plan/plan.h"
#include "run/plan/convert.h"
#include "run/plan/gguf_tensors.h"
#include "run/plan/memory.h"

#include <stdio.h>
#include <string.h>

/* ---- what can be asked for ---- */

static nib_code refuse(const char *option, nib_err *err)
{
    return nib_fail(err, NIB_EINVAL,
                    "%s is for number formats with fewer bits, not for --format "
                    "safetensors",
                    option);
}

static nib_code check_recipe(const nib_recipe *r, nib_err *err)
{
    if (r->method != NIB_METHOD_RTN || r->transform != NIB_TRANSFORM_NONE)
        return refuse("--method", err);
    if (r->n_overrides) return refuse("--override", err);
    if (r->protect_blocks) return refuse("--protect-blocks", err);
    if (r->n_tensor_types) return refuse("--tensor-type", err);
    if (r->output_type) return refuse("--output-type", err);
    if (r->embedding_type) return refuse("--embedding-type", err);
    if (r->pure) return refuse("--pure", err);
    if (r->leave_output) return refuse("--leave-output", err);
    if (r->pre) return refuse("--pre", err);
    return NIB_OK;
}

/* *out NULL: each tensor its own. */
static nib_code find_type(const nib_codec **out, nib_plan *p, nib_err *err)
{
    const char *name = p->recipe.type;
    const nib_codec *c = name ? nib_codec_find(name) : NULL;
    *out = NULL;
    p->label = "safetensors";
    if (!name && p->recipe.convert) return NIB_OK;
    if (!c || (c->type != NIB_F32 && c->type != NIB_F16 && c->type != NIB_BF16))
        return nib_fail(err, NIB_EINVAL,
                        "--format safetensors needs --type f32, f16 or bf16%s%.40s%s",
                        name ? ", not '" : "", name ? name : "", name ? "'" : "");
    *out = c;
    p->label = c->name;
    return NIB_OK;
}

/* ---- tensors ---- */

static void place_tensor(const nib_plan *p, const nib_placed *placed, nib_plan_tensor *t)
{
    const nib_model *m = p->model;
    const nib_tensor *src = placed->tensor;
    if (src->plus != 0 || src->neg_exp || (src->row_step && nib_source_find(m->src, src->name)))
        src = nib_source_find(m->src, src->name); /* as it is stored */
    *t = (nib_plan_tensor){.place = placed->place,
                           .src = src,
                           .rows = nib_tensor_rows(src),
                           .cols = nib_tensor_cols(src)};
    snprintf(t->name, sizeof t->name, "%s", src->name);
    t->embedding_or_output =
        t->place.role == NIB_ROLE_TOKEN_EMBD || t->place.role == NIB_ROLE_OUTPUT;
}

static nib_code list_folder(nib_plan *p, nib_err *err)
{
    const nib_model *m = p->model;
    p->tensor = nib_calloc(m->n_placed, sizeof *p->tensor);
    p->record = nib_calloc(m->n_placed, sizeof *p->record);
    if (!p->tensor || !p->record) return nib_fail_nomem(err, "a plan");
    for (; p->n < m->n_placed; p->n++) place_tensor(p, &m->placed[p->n], &p->tensor[p->n]);
    return NIB_OK;
}

static nib_code choose(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    const nib_codec *from = t->src->codec;
    nib_code rc = p->recipe.convert ? nib_convert_plain(p, t, ctx, err) : NIB_OK;
    const bool copied = t->codec == from && nib_tensor_is_plain(t->src) && !t->order.head;
    t->action = copied ? NIB_ACTION_COPY : NIB_ACTION_ENCODE;
    t->bytes = t->rows * t->cols * t->codec->bytes;
    if (!*t->reason)
        snprintf(t->reason, sizeof t->reason, copied ? "copied as it is" : "as asked for");
    return rc;
}

/* Tensors of each file with the widest elements first, otherwise as they are. */
static void align(nib_plan *p)
{
    nib_output_files *l = &p->layout;
    for (size_t i = 1; i < p->n; i++)
        for (size_t k = i; k && l->file_of[k] == l->file_of[k - 1] &&
                           p->tensor[k].codec->bytes > p->tensor[k - 1].codec->bytes;
             k--) {
            const nib_plan_tensor t = p->tensor[k];
            const nib_gguf_tensor r = p->record[k];
            const uint64_t bytes = l->bytes[k];
            p->tensor[k] = p->tensor[k - 1], p->tensor[k - 1] = t;
            p->record[k] = p->record[k - 1], p->record[k - 1] = r;
            l->bytes[k] = l->bytes[k - 1], l->bytes[k - 1] = bytes;
        }
    for (size_t i = 0; i < p->n; i++) p->record[i].name = p->tensor[i].name;
}

static nib_code list_tensors(nib_plan *p, const nib_codec *c, const nib_ctx *ctx, nib_err *err)
{
    const bool gguf = nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
    nib_code rc = gguf ? nib_plan_list_gguf(p, err) : list_folder(p, err);
    if (rc) return rc;
    nib_plan_sort(p);
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        nib_gguf_tensor *r = &p->record[i];
        t->codec = c;
        if ((rc = choose(p, t, ctx, err))) return rc;
        *r = (nib_gguf_tensor){.name = t->name, .type = t->codec->type};
        for (int d = 0; d < t->src->n_dims && r->n_dims < NIB_GGUF_DIMS_MAX; d++)
            r->shape[r->n_dims++] = t->src->shape[d];
    }
    return NIB_OK;
}

/* ---- the whole ---- */

nib_code nib_plan_plain(nib_plan *p, const nib_imatrix *im, const nib_ctx *ctx, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    const nib_codec *c = NULL;
    nib_code rc = check_recipe(r, err);
    if (!rc && im) rc = refuse("--imatrix", err);
    if (!rc) rc = find_type(&c, p, err);
    if (!rc) rc = list_tensors(p, c, ctx, err);
    if (!rc) rc = nib_plan_shards(p, err);
    if (rc) return rc;
    align(p);
    if ((rc = nib_plan_make_index(p, err))) return rc;
    nib_plan_add_up(p);
    p->peak_memory = nib_mem_peak() + nib_quantize_memory(p, ctx->threads);
    p->disk_free = nib_disk_free(r->out ? r->out : ".");
    if (strcmp(nib_model_activations(p->model), "f32") != 0)
        nib_warn(ctx->log,
                 "%s: inputs of linear layers are rounded (%s), which "
                 "a plain folder does not do",
                 nib_source_path(p->model->src), nib_model_activations(p->model));
    return r->out ? nib_folder_check(p, err) : NIB_OK;
}
