/* SPDX-License-Identifier: MIT */
/* run/plan/plan_folder.c - the plan of a packed folder: what run/plan/folder_layers.h says is
 * packed, linear weights of the blocks, everything else is copied under its name. Tests:
 * tests/run/test_write_folder.c, tests/run/test_folder_mixed.c. */
#include "base/file.h"
#include "base/out_folder.h"
#include "formats/target.h"
#include "quant/hqq.h"
#include "run/plan/convert.h"
#include "run/plan/folder_layers.h"
#include "run/plan/gguf_tensors.h"
#include "run/plan/memory.h"
#include "run/plan/plan.h"

#include <stdio.h>
#include <string.h>

/* ---- what can be asked for ---- */

static nib_code refuse(const nib_recipe *r, const char *option, nib_err *err)
{
    return nib_fail(err, NIB_EINVAL, "%s is for GGUF files, not for --format %s", option,
                    nib_packing_method(r->layout.kind));
}

/* The formats of embedding and output matrix. */
static nib_code check_vocabulary(const nib_plan *p, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    const bool tied = p->model->hp.tied;
    const char *option = r->embedding_type ? "--embedding-type"
                         : r->output_type  ? "--output-type"
                                           : NULL;
    if (option && strcmp(nib_packing_method(r->layout.kind), "compressed-tensors"))
        return nib_fail(err, NIB_EINVAL,
                        "%s is for GGUF files and compressed-tensors folders: --format %s leaves "
                        "embedding and output matrix as they are",
                        option, nib_packing_method(r->layout.kind));
    if (r->leave_output && !(tied && r->embedding_type)) return refuse(r, "--leave-output", err);
    if (r->leave_output && r->output_type)
        return nib_fail(err, NIB_EINVAL, "--leave-output leaves nothing for --output-type to say");
    if (tied && r->output_type && !r->embedding_type)
        return nib_fail(err, NIB_EINVAL,
                        "--output-type: the embedding serves as output matrix; --embedding-type "
                        "packs the one matrix, both options make two of it");
    return NIB_OK;
}

static nib_code check_recipe(const nib_plan *p, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    if (r->type) return refuse(r, "--type", err);
    if (r->n_tensor_types) return refuse(r, "--tensor-type", err);
    if (r->pure) return refuse(r, "--pure", err);
    nib_code rc = check_vocabulary(p, err);
    if (rc) return rc;
    if (r->layout.act == NIB_ACT_TENSOR && p->model->hp.n_expert)
        return nib_fail(err, NIB_EINVAL,
                        "--activations: inputs of experts have no ranges yet; leave the option out "
                        "for 8-bit inputs with a range for each token");
    if (r->pre) return refuse(r, "--pre", err);
    if (r->layout.desc_act && r->method != NIB_METHOD_GPTQ)
        return nib_fail(err, NIB_EINVAL,
                        "--desc-act needs --method gptq: rounding to nearest sees no activations");
    return NIB_OK;
}

/* ---- tensors ---- */

static nib_code check_group(const nib_plan_tensor *t, uint64_t group, nib_err *err)
{
    if (group && t->cols % group)
        return nib_fail(
            err, NIB_EINVAL,
            "tensor '%s': rows of %llu weights are no multiple of the group size, %llu; "
            "choose another with --group-size",
            t->src->name, (unsigned long long)t->cols, (unsigned long long)group);
    return NIB_OK;
}

/* Format and size of a weight that is packed. */
static nib_code pack_tensor(nib_plan *p, nib_plan_tensor *t, nib_packing f, nib_int_codec *c,
                            const nib_ctx *ctx, nib_err *err)
{
    const bool convert = p->recipe.convert;
    if (!convert || !f.scale_type)
        f.scale_type = nib_packing_scale_type(f.kind, t->src->codec->type);
    nib_code rc = f.rows ? NIB_OK : check_group(t, f.group, err); /* tiles may be cut off */
    if (rc) return rc;
    rc = nib_packing_make(&t->layout, &f, t->rows, t->cols, err);
    if (rc) return nib_wrap(err, "tensor '%s'", t->src->name);
    *c = nib_packing_codec(&t->layout);
    /* With 256 even levels nothing is gained. */
    if (f.bits < 8 || nib_packing_is_floats(f.kind)) c->scales = p->recipe.scales;
    c->codec.uses_importance = c->scales == NIB_SCALES_SQUARE;
    c->codec.name = nib_packing_name(t->label, sizeof t->label, &f);
    t->codec = &c->codec;
    if (t->method == NIB_METHOD_HQQ && !nib_hqq_fits(t->codec))
        return nib_fail(err, NIB_EINVAL,
                        "tensor '%s': method hqq fits the scales or zero points of groups, and %s "
                        "has one scale for all, or for many, of them; use rtn",
                        t->src->name, t->codec->name);
    const nib_act_quant act = nib_packing_act_quant(&f);
    if (p->recipe.ranges)
        t->range = nib_act_range_on(
            nib_ranges_find(p->recipe.ranges, t->place.layer, t->place.role), &act);
    t->action = NIB_ACTION_STAGE;
    t->bytes = t->layout.bytes;
    if (convert) rc = nib_convert_packed(p, t, ctx, err);
    p->requantized |= (t->src->packed || t->src->codec->quantized) && !t->exact;
    return rc;
}

/* What takes up what is rescaled is written anew; what a folder cannot hold as it is, in another
 * dtype or order. */
static nib_code copy_tensor(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    const bool quantized = t->src->packed || t->src->codec->quantized;
    if (t->src->packed && !p->recipe.convert)
        return nib_fail(err, NIB_EINVAL,
                        "tensor '%s' is packed already, so it cannot be copied; start from the "
                        "original model",
                        t->src->name);
    t->codec = t->src->codec;
    if (p->recipe.convert || quantized) {
        nib_code rc = nib_convert_plain(p, t, ctx, err);
        if (rc) return rc;
    }
    t->bytes = t->rows * t->cols * t->codec->bytes;
    const bool view = t->src->row_step || t->src->of; /* its bytes lie among others */
    t->carried |= t->codec != t->src->codec || t->order.head || view || t->src->plus < 0;
    const bool staged = t->carried || nib_plan_rescales(p, t);
    t->action = staged ? NIB_ACTION_STAGE : NIB_ACTION_COPY;
    if (!staged) t->bytes = t->src->bytes;
    if (t->carried && nib_plan_rescales(p, t))
        return nib_fail(err, NIB_EINVAL,
                        "tensor '%s': --method %s changes it, and it cannot be written as it is "
                        "stored; start from a Hugging Face folder",
                        t->src->name,
                        p->recipe.transform == NIB_TRANSFORM_AWQ ? "awq" : "smoothquant");
    if (!*t->reason)
        snprintf(t->reason, sizeof t->reason,
                 t->action == NIB_ACTION_COPY ? "copied as it is" : "takes up what is rescaled");
    return NIB_OK;
}

/* Is it a matrix whose integers, if it has any, such a folder can hold? */
static bool could_carry(const nib_plan *p, const nib_plan_tensor *t)
{
    nib_int_groups g;
    const bool held = nib_plan_of_vocabulary(t) && t->src->packed && nib_tensor_ints(t->src, &g);
    return (nib_role_is_linear(t->place.role) && !t->place.bias) ||
           (held && p->recipe.layout.kind == NIB_PACKING_CT_PACKED);
}

static nib_code plan_tensor(nib_plan *p, size_t i, nib_overrides *o, const nib_ctx *ctx,
                            nib_err *err)
{
    nib_plan_tensor *t = &p->tensor[i];
    nib_packing f;
    bool packed = false;
    nib_code rc = !p->recipe.convert  ? nib_folder_choose(&f, &packed, t, p, o, err)
                  : could_carry(p, t) ? nib_convert_packing(&f, &packed, p, t, err)
                                      : NIB_OK;
    if (rc) return rc;
    return packed ? pack_tensor(p, t, f, &p->group[i], ctx, err) : copy_tensor(p, t, ctx, err);
}

static void add_tensor(nib_plan *p, nib_place place, const nib_tensor *src)
{
    nib_plan_tensor *t = &p->tensor[p->n++];
    t->place = place;
    t->src = src;
    t->rows = nib_tensor_rows(src);
    t->cols = nib_tensor_cols(src);
    t->embedding_or_output = place.role == NIB_ROLE_TOKEN_EMBD || place.role == NIB_ROLE_OUTPUT;
    snprintf(t->name, sizeof t->name, "%.*s", NIB_PLAN_NAME_MAX, src->name);
}

static nib_code list_folder(nib_plan *p, nib_err *err)
{
    const nib_model *m = p->model;
    const size_t n = m->n_placed + nib_source_count(m->src) + 1; /* for add_output() */
    p->tensor = nib_calloc(n, sizeof *p->tensor);
    p->record = nib_calloc(n, sizeof *p->record);
    if (!p->tensor || !p->record) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < m->n_placed; i++) add_tensor(p, m->placed[i].place, m->placed[i].tensor);
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        nib_place place; /* buffers have none */
        const nib_tensor *t = nib_source_at(m->src, i);
        if (!nib_model_place(m, t, &place) && !t->packed) add_tensor(p, place, t);
    }
    return NIB_OK;
}

/* Where the embedding serves as output matrix, and that is to be another: the same matrix under two
 * names. */
static nib_code add_output(nib_plan *p, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    const nib_plan_tensor *embd = NULL;
    nib_plan_tensor *t = &p->tensor[p->n];
    const nib_place place = {.role = NIB_ROLE_OUTPUT};
    if (!p->model->hp.tied || (!r->output_type && !r->leave_output)) return NIB_OK;
    for (size_t i = 0; i < p->n; i++)
        if (p->tensor[i].place.role == NIB_ROLE_TOKEN_EMBD) embd = &p->tensor[i];
    nib_tensor *view = nib_arena_alloc(&p->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!embd || !view) return nib_fail_nomem(err, "a plan");
    *view = *embd->src;
    nib_place_hf_name(p->model->arch, place, t->name, sizeof t->name);
    view->name = nib_arena_str(&p->memory, t->name, strlen(t->name));
    if (!view->name) return nib_fail_nomem(err, "a plan");
    add_tensor(p, place, view);
    return NIB_OK;
}

static nib_code list_tensors(nib_plan *p, nib_overrides *o, const nib_ctx *ctx, nib_err *err)
{
    const bool gguf = nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
    nib_code rc = gguf ? nib_plan_list_gguf(p, err) : list_folder(p, err);
    if (!rc) rc = add_output(p, err);
    if (rc) return rc;
    p->group = nib_calloc(p->n, sizeof *p->group);
    if (!p->group) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n; i++) p->tensor[i].method = p->recipe.method;
    nib_plan_sort(p);
    rc = nib_plan_make_index(p, err);
    if (!rc && p->recipe.convert) rc = nib_convert_reorder(p, err);
    if (!rc && p->recipe.convert) rc = nib_convert_layout(p, err);
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_tensor *t = p->tensor[i].src;
        nib_gguf_tensor *r = &p->record[i];
        if ((rc = plan_tensor(p, i, o, ctx, err))) break;
        *r = (nib_gguf_tensor){.name = p->tensor[i].name, .type = t->codec->type};
        for (int d = 0; d < t->n_dims && r->n_dims < NIB_GGUF_DIMS_MAX; d++)
            r->shape[r->n_dims++] = t->shape[d];
    }
    return rc;
}

/* ---- the whole ---- */

/* A folder that says it is packed should be. */
static nib_code check_any_packed(const nib_plan *p, nib_err *err)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->tensor[i].layout.n_parts) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "all layers are skipped, so nothing is left to pack");
}

bool nib_plan_measures_ranges(const nib_plan *p)
{
    const nib_recipe *r = &p->recipe;
    return r->layout.act == NIB_ACT_TENSOR && !r->ranges && !r->convert; /* it takes the source's */
}

/* Nothing is solved where rounding sees no activations. */
static void count_solved(nib_plan *p)
{
    size_t n = 0;
    bool looks = p->recipe.transform || nib_plan_measures_ranges(p);
    for (size_t i = 0; i < p->n; i++) {
        const bool staged = p->tensor[i].action == NIB_ACTION_STAGE && !p->tensor[i].carried &&
                            !nib_plan_of_vocabulary(&p->tensor[i]);
        n += staged;
        looks |= staged && p->tensor[i].method == NIB_METHOD_GPTQ;
    }
    p->n_solved = looks ? n : 0;
}

static nib_code plan_tensors(nib_plan *p, const nib_ctx *ctx, nib_err *err)
{
    nib_overrides *o;
    nib_code rc = nib_overrides_new(&o, &p->recipe, p->model, err);
    if (!rc) rc = list_tensors(p, o, ctx, err);
    if (!rc) rc = nib_folder_check_fused(p, err);
    if (!rc) rc = check_any_packed(p, err);
    if (!rc) nib_overrides_warn_unused(o, ctx->log);
    nib_overrides_free(o);
    if (!rc) count_solved(p);
    return rc;
}

/* Not every engine runs what is written. */
static void warn_engines(const nib_plan *p, nib_log *log)
{
    const nib_plan_tensor *embd = nib_plan_find(p, (nib_place){.role = NIB_ROLE_TOKEN_EMBD});
    if (p->recipe.convert) return;
    if (p->recipe.layout.desc_act)
        nib_warn(log,
                 "--desc-act: GPTQModel and Transformers follow the index of columns, vLLM passes "
                 "over it "
                 "since September 2026; without the option every engine reads the folder");
    if (!embd || !embd->layout.n_parts) return;
    if (nib_plan_find(p, (nib_place){.role = NIB_ROLE_OUTPUT}))
        nib_warn(log, "--embedding-type: vLLM runs packed embeddings, Transformers (5.17) does not "
                      "load them");
    else
        nib_warn(log,
                 "--embedding-type: one packed matrix for embedding and output, as llm-compressor "
                 "writes it, is read by compressed-tensors' library, but not run by vLLM and "
                 "Transformers (November 2026); with --leave-output or --output-type vLLM runs it");
}

static nib_code check_not_source(const nib_plan *p, nib_err *err)
{
    char *dir = nib_source_folder(p->model->src);
    if (!dir) return nib_fail_nomem(err, "a path");
    bool same = nib_file_same(dir, p->recipe.out);
    nib_free(dir);
    if (!same) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "%s: is the folder of the model that is being read",
                    p->recipe.out);
}

nib_code nib_folder_check(const nib_plan *p, nib_err *err)
{
    nib_code rc = nib_target_folder(p->recipe.out, err);
    if (!rc) rc = check_not_source(p, err);
    if (!rc) rc = nib_out_folder_check(p->recipe.out, NIB_FOLDER_MARK, p->recipe.force, err);
    return rc ? rc : nib_plan_room(p, 0, err);
}

nib_code nib_plan_dir(nib_plan *p, const nib_imatrix *im, const nib_ctx *ctx, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    nib_code rc = check_recipe(p, err);
    if (rc) return rc;
    if ((rc = plan_tensors(p, ctx, err))) return rc;
    nib_packing_name(p->label_text, sizeof p->label_text, &r->layout);
    p->label = p->label_text;
    if ((rc = nib_plan_importances(p, im, ctx, err))) return rc;
    if ((rc = nib_plan_shards(p, err))) return rc;
    nib_plan_add_up(p);
    p->peak_memory = nib_mem_peak() + nib_rounding_memory(p);
    p->disk_free = nib_disk_free(r->out ? r->out : ".");
    if (r->out) rc = nib_folder_check(p, err);
    if (!rc) warn_engines(p, ctx->log);
    if (!rc && p->requantized)
        nib_warn(ctx->log, "%s is quantized already: quantizing it again adds to its errors",
                 nib_source_path(p->model->src));
    return rc;
}
