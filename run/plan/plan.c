/* SPDX-License-Identifier: MIT */
/* run/plan/plan.c - see plan.h. */
#include "run/plan/plan.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/str.h"
#include "run/plan/convert.h"
#include "run/plan/override.h"
#include "run/plan/memory.h"
#include "run/plan/own_factors.h"
#include "formats/carried.h"
#include "formats/target.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What choosing formats needs beside the plan. */
typedef struct {
    nib_plan *p;
    nib_file_type_mix mix;
    nib_overrides *overrides;
    nib_type output_type, embedding_type; /* NIB_TYPE_COUNT: no wish */
} chooser;

/* ---- tensors by place ---- */

static uint64_t place_key(nib_place p)
{
    return (((uint64_t)p.layer << 8 | (uint64_t)p.role) << 32 | p.expert) << 1 | p.bias;
}

static int by_key(const void *a, const void *b)
{
    const nib_plan_index *s = a, *t = b;
    return (s->key > t->key) - (s->key < t->key);
}

nib_code nib_plan_make_index(nib_plan *p, nib_err *err)
{
    p->index = nib_alloc(p->n + 1, sizeof *p->index);
    if (!p->index) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n; i++)
        if (p->tensor[i].place.role)
            p->index[p->n_index++] = (nib_plan_index){place_key(p->tensor[i].place), i};
    qsort(p->index, p->n_index, sizeof *p->index, by_key);
    return NIB_OK;
}

const nib_plan_tensor *nib_plan_find(const nib_plan *p, nib_place at)
{
    const nib_plan_index key = {.key = place_key(at)},
                         *found = bsearch(&key, p->index, p->n_index, sizeof *p->index, by_key);
    return found ? &p->tensor[found->at] : NULL;
}

void nib_plan_matrix(nib_plan_tensor *out, const nib_plan *p, const nib_plan_tensor *t, size_t i)
{
    const size_t n = nib_plan_matrices(t);
    *out = *t;
    if (n == 1) return;
    out->place.expert = (uint32_t)i;
    out->src = nib_model_tensor(p->model, out->place);
    out->rows /= n;
    out->bytes /= n;
    out->solved_at += i * out->bytes;
    if (out->importance) out->importance += i * t->cols;
    if (out->factor) out->factor += i;
    snprintf(out->name, sizeof out->name, "%.200s, expert %zu", t->name, i);
}

bool nib_plan_expert(nib_plan_tensor *out, const nib_plan *p, nib_place at)
{
    nib_place all = at;
    all.expert = NIB_EXPERTS_ALL;
    const nib_plan_tensor *t = nib_plan_find(p, at);
    if (t) {
        *out = *t;
        return true;
    }
    if (!(t = nib_plan_find(p, all))) return false;
    nib_plan_matrix(out, p, t, at.expert);
    return true;
}

/* ---- which tensors, and in which order ---- */

/* N of "blk.N.", -1 for tensors outside the blocks: these come first in the file. */
static long block_number(const char *name)
{
    return strncmp(name, "blk.", 4) ? -1 : strtol(name + 4, NULL, 10);
}

static int by_place(const void *a, const void *b)
{
    const nib_plan_tensor *s = a, *t = b;
    long i = block_number(s->name), j = block_number(t->name);
    return i != j ? (i < j ? -1 : 1) : strcmp(s->name, t->name);
}

static bool from_gguf(const nib_plan *p)
{
    return nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
}

static void add_tensor(nib_plan *p, nib_place place, const nib_tensor *src, const char *name)
{
    nib_plan_tensor *t = &p->tensor[p->n++];
    t->place = place;
    t->src = src;
    t->method = p->recipe.method;
    t->rows = nib_tensor_rows(src);
    t->cols = nib_tensor_cols(src);
    if (name)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        nib_place_gguf_name(place, t->name, sizeof t->name);
}

/* Tensors of a GGUF file: all but empty ones, and factors, which come with their weights. */
static void list_gguf(nib_plan *p)
{
    for (size_t i = 0; i < nib_source_count(p->model->src); i++) {
        const nib_tensor *src = nib_source_at(p->model->src, i);
        nib_place place;
        const bool placed = nib_model_place(p->model, src, &place);
        if (placed || (nib_tensor_elems(src) && !src->is_factor))
            add_tensor(p, place, placed ? nib_model_tensor(p->model, place) : src, src->name);
    }
}

static nib_row_order order_of(const nib_model *m, nib_place p)
{
    nib_row_order o = {.head = m->hp.head_dim};
    if (m->arch->rope_interleaved && !m->rope_interleaved &&
        nib_steps_output(nib_model_steps(m, p.layer), p.role).turned)
        return o;
    o.n_head = m->hp.n_head;
    o.n_head_kv = m->hp.n_head_kv;
    if (m->qkv_by_head && p.role == NIB_ROLE_ATTN_QKV && o.n_head_kv > 1) return o;
    return (nib_row_order){0};
}

/* The first of the two parts that GGUF has of some weights. */
static nib_role first_part(nib_role r)
{
    return r == NIB_ROLE_ATTN_KV_B ? NIB_ROLE_ATTN_K_B
           : r == NIB_ROLE_SSM_IN  ? NIB_ROLE_ATTN_QKV
                                   : r;
}

/* In another order than the model computes with a tensor is its own: nobody solves it. */
static void add_as_gguf(nib_plan *p, nib_place place)
{
    const nib_tensor *own =
        place.bias ? NULL : nib_model_param(p->model, place.layer, place.role)->gguf;
    add_tensor(p, place, own ? own : nib_model_tensor(p->model, place), NULL);
    nib_plan_tensor *t = &p->tensor[p->n - 1];
    t->order = order_of(p->model, place);
    if (own) t->place = (nib_place){.layer = place.layer};
}

/* What a folder's tensors become: experts are stacked, heads turned where GGUF has them so. Buffers
 * that nobody reads are left out. */
static void list_folder(nib_plan *p)
{
    const nib_model *m = p->model;
    for (size_t i = 0; i < m->n_placed; i++) {
        nib_place place = m->placed[i].place;
        if (nib_role_is_expert(place.role)) {
            if (place.expert && place.expert != NIB_EXPERTS_ALL) continue;
            place.expert = NIB_EXPERTS_ALL;
        } else if (place.expert) {
            continue; /* norms of heads are stacked, too */
        }
        const nib_role first = first_part(place.role);
        if (first != place.role) {
            place.role = first;
            add_tensor(p, place, nib_model_tensor(m, place), NULL);
            place.role = first == NIB_ROLE_ATTN_K_B ? NIB_ROLE_ATTN_V_B : NIB_ROLE_ATTN_GATE;
        }
        add_as_gguf(p, place);
    }
}

/* Divisors of the rotation's angles, which the folder's configuration gives. */
static void add_factors(nib_plan *p, nib_role role, const float *values)
{
    nib_plan_tensor *t = &p->tensor[p->n++];
    t->place.role = role;
    nib_place_gguf_name(t->place, t->name, sizeof t->name);
    t->values = values;
    t->rows = 1;
    t->cols = p->model->hp.rope_dim / 2;
}

static nib_code list_tensors(nib_plan *p, nib_err *err)
{
    const size_t n = from_gguf(p) ? nib_source_count(p->model->src) : p->model->n_placed;
    p->tensor = nib_calloc(n + 2 + p->model->hp.n_layer, sizeof *p->tensor);
    if (!p->tensor) return nib_fail_nomem(err, "a plan");
    if (from_gguf(p))
        list_gguf(p);
    else
        list_folder(p);
    if (!from_gguf(p) && p->model->rope_factors)
        add_factors(p, NIB_ROLE_ROPE_FREQS, p->model->rope_factors);
    if (!from_gguf(p) && p->model->hp.rope_scaling == NIB_ROPE_LONGROPE) {
        add_factors(p, NIB_ROLE_ROPE_LONG, p->model->hp.rope_long);
        add_factors(p, NIB_ROLE_ROPE_SHORT, p->model->hp.rope_short);
    }
    if (!p->recipe.convert || !from_gguf(p)) /* a converted GGUF file keeps its order */
        qsort(p->tensor, p->n, sizeof *p->tensor, by_place);
    return nib_plan_make_index(p, err);
}

/* GGUF has no key for a scale of the scores, so queries are stored scaled where the model's is
 * another than the engine's: their norm, which comes last, or else what makes them. */
static nib_code scale_queries(nib_plan *p, nib_err *err)
{
    const nib_model *m = p->model;
    const float usual = nib_usual_attn_scale(&m->hp, m->arch), scale = m->hp.attn_scale / usual;
    size_t n = 0;
    if (from_gguf(p) || scale == 1) return NIB_OK;
    if (!(p->view = nib_calloc(p->n, sizeof *p->view))) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        const nib_steps *s = nib_model_steps(m, t->place.layer);
        const bool normed = nib_steps_find(s, NIB_ROLE_ATTN_Q_NORM);
        if (!t->src || t->place.role != (normed ? NIB_ROLE_ATTN_Q_NORM : NIB_ROLE_ATTN_Q)) continue;
        if (p->recipe.transform || p->recipe.method == NIB_METHOD_GPTQ)
            return nib_fail(err, NIB_EINVAL,
                            "the scores of this model have a scale of their own, which a GGUF file "
                            "of '%s' takes up in '%s'; write one with --type f32 or bf16 first and "
                            "start from that",
                            m->arch->name, t->name);
        p->view[n] = *t->src;
        p->view[n].times = (t->src->times != 0 ? t->src->times : 1) * scale;
        t->src = &p->view[n++];
    }
    if (n) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "llama.cpp scales the scores of '%s' by %g, this model's are scaled by %g, and "
                    "GGUF has no key for it",
                    m->arch->name, (double)usual, (double)m->hp.attn_scale);
}

/* ---- which format ---- */

static NIB_PRINTF(2, 3) void say_why(nib_plan_tensor *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->reason, sizeof t->reason, fmt, ap);
    va_end(ap);
}

static int n_dims_of(const nib_plan_tensor *t)
{
    if (!t->src) return 1;
    int n = t->src->n_dims, outer = 0;
    while (outer < n - 1 && t->src->shape[outer] == 1) outer++;
    return n - outer;
}

/* Format of a tensor that is not to be quantized. */
static void keep_type(const chooser *c, nib_plan_tensor *t)
{
    nib_type type = t->src ? t->src->codec->type : NIB_F32;
    if (from_gguf(c->p)) {
        say_why(t, "kept as it is");
    } else if (n_dims_of(t) > 1 && nib_file_type_is_output(&c->mix, t->name)) {
        if (type != NIB_F16 && type != NIB_BF16) type = NIB_F32;
        say_why(t, "output matrix left as it is");
    } else {
        type = NIB_F32;
        say_why(t, t->src ? "norms and biases stay f32" : "rotary frequencies");
    }
    t->codec = nib_codec_get(type);
}

/* A matrix that the user wants as it is; packed ones that GGUF cannot hold become f16. */
static nib_code skip_tensor(const chooser *c, nib_plan_tensor *t, const char *why)
{
    const nib_codec *from = t->src->codec;
    bool holds = from_gguf(c->p) || (!t->src->packed && !from->quantized && from->encode);
    t->codec = holds ? from : nib_codec_get(NIB_F16);
    say_why(t, "%s", why);
    return NIB_OK;
}

/* A stand-in where the rows are not whole blocks. */
static nib_code fit_shape(nib_plan_tensor *t, nib_type want, nib_err *err)
{
    nib_type type = nib_file_type_fit(want, t->cols);
    const nib_codec *w = nib_codec_get(want);
    if (type == NIB_TYPE_COUNT)
        return nib_fail(err, NIB_EINVAL,
                        "tensor '%s': rows of %llu weights are not whole blocks of %s (%u), and it "
                        "has no stand-in; choose another with --tensor-type",
                        t->name, (unsigned long long)t->cols, w->name, w->block);
    if (type != want) {
        t->fallback = true;
        say_why(t, "stands in for %s: rows of %llu are not whole blocks of %u", w->name,
                (unsigned long long)t->cols, w->block);
    }
    t->codec = nib_codec_get(type);
    return NIB_OK;
}

/* A format that was asked for without stand-ins. */
static nib_code take_type(nib_plan_tensor *t, nib_type type, const char *why, nib_err *err)
{
    t->codec = nib_codec_get(type);
    say_why(t, "%s", why);
    if (t->cols % t->codec->block == 0) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "tensor '%s': rows of %llu weights are not whole blocks of %s (%u); %s allows "
                    "no stand-in",
                    t->name, (unsigned long long)t->cols, t->codec->name, t->codec->block, why);
}

static nib_code choose_type(chooser *c, nib_plan_tensor *t, nib_err *err)
{
    const nib_recipe *r = &c->p->recipe;
    nib_type base = c->p->file_type->base;
    const char *why;
    bool output = nib_file_type_is_output(&c->mix, t->name);
    if (!nib_file_type_quantizable(t->name, n_dims_of(t)) ||
        (r->leave_output && !strcmp(t->name, "output.weight"))) {
        keep_type(c, t);
        return NIB_OK;
    }
    if (nib_file_type_is_embedding(t->name) && c->embedding_type != NIB_TYPE_COUNT)
        return take_type(t, c->embedding_type, "--embedding-type", err);
    if (output && c->output_type != NIB_TYPE_COUNT)
        return take_type(t, c->output_type, "--output-type", err);
    const nib_override *o;
    nib_code rc = nib_overrides_find(&o, c->overrides, t->src, base, err);
    if (rc) return rc;
    if (o && o->method != NIB_METHOD_COUNT) t->method = o->method;
    if (o && o->skip) return skip_tensor(c, t, o->why);
    if (o && o->type != NIB_TYPE_COUNT) {
        say_why(t, "%s", o->why);
        return fit_shape(t, o->type, err);
    }
    const bool raise = o && o->raise;
    if (r->pure && !raise) return take_type(t, base, "--pure", err);
    nib_type type = r->pure ? base : nib_file_type_choose(&c->mix, t->name, t->cols, &why);
    say_why(t, "%s", raise ? o->why : why);
    return fit_shape(t, raise ? nib_file_type_higher(type) : type, err);
}

/* Bytes as they lie; the weight's factor comes along. */
static bool is_copied(nib_plan_tensor *t)
{
    nib_tensor stored = *t->src;
    stored.factor = NULL;
    if (t->src->codec != t->codec || t->order.head || !nib_tensor_is_plain(&stored)) return false;
    t->factor = t->src->factor;
    return true;
}

/* Can the source be read as weights, and does anything have to be done to them? */
static nib_code choose_action(nib_plan *p, nib_plan_tensor *t, nib_err *err)
{
    const nib_codec *from = t->src ? t->src->codec : nib_codec_get(NIB_F32);
    if (!t->src)
        t->action = NIB_ACTION_GENERATE;
    else if (is_copied(t))
        t->action = NIB_ACTION_COPY;
    if (t->action == NIB_ACTION_COPY) return NIB_OK;
    if (t->src && !nib_tensor_readable(t->src))
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': %s holds no weights that nibble can read",
                        t->src->name, from->name);
    if (!t->codec->encode)
        return nib_fail(err, NIB_EINVAL, "tensor '%s': %s cannot be written yet", t->name,
                        t->codec->name);
    p->requantized |= from->quantized && !t->exact;
    return NIB_OK;
}

static nib_code init_chooser(chooser *c, nib_plan *p, const nib_imatrix *im, nib_err *err)
{
    const nib_recipe *r = &p->recipe;
    const nib_hparams *hp = &p->model->hp;
    nib_code rc = NIB_OK;
    c->p = p;
    c->output_type = c->embedding_type = NIB_TYPE_COUNT;
    if ((rc = nib_file_type_find(&p->file_type, r->type ? r->type : "q4_k_m", err))) return rc;
    p->label = p->file_type->name;
    if (r->output_type && (rc = nib_writable_type_find(&c->output_type, r->output_type, err)))
        return rc;
    if (r->embedding_type &&
        (rc = nib_writable_type_find(&c->embedding_type, r->embedding_type, err)))
        return rc;
    if ((rc = nib_overrides_new(&c->overrides, r, p->model, err))) return rc;
    c->mix = (nib_file_type_mix){.file_type = p->file_type,
                                 .arch = p->model->arch->name,
                                 .n_expert = hp->n_expert,
                                 .n_layer = hp->n_layer,
                                 .n_head = hp->n_head,
                                 .n_head_kv = hp->n_head_kv,
                                 .has_importance = im && im->n};
    for (size_t i = 0; i < p->n; i++) {
        c->mix.n_attn_v += nib_file_type_counts_as_v(p->tensor[i].name);
        c->mix.has_output |= !strcmp(p->tensor[i].name, "output.weight");
    }
    return NIB_OK;
}

static nib_code choose_all(chooser *c, const nib_ctx *ctx, nib_err *err)
{
    nib_plan *p = c->p;
    const bool convert = p->recipe.convert;
    nib_code rc = convert ? nib_convert_begin(p, err) : NIB_OK;
    for (size_t i = 0; i < p->n && !rc; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        rc = convert ? nib_convert_choose(p, t, ctx, err) : choose_type(c, t, err);
        if (!rc && !t->carried) rc = choose_action(p, t, err);
    }
    if (!rc && convert) nib_convert_label(p);
    return rc;
}

static void make_factor(nib_plan_tensor *f, const nib_plan_tensor *t)
{
    const int stem = (int)nib_stem(t->name, ".weight");
    *f = (nib_plan_tensor){.values = t->factor,
                           .rows = 1,
                           .cols = nib_plan_matrices(t),
                           .codec = nib_codec_get(NIB_F32),
                           .action = NIB_ACTION_GENERATE,
                           .exact = true,
                           .is_factor = true};
    snprintf(f->name, sizeof f->name, "%.*s.scale", stem, t->name);
    say_why(f, "factor of the weight");
}

/* Tensors of factors, each before its weight, as names have it. */
static nib_code add_factors_of_weights(nib_plan *p, nib_err *err)
{
    size_t n = p->n, at = 0;
    for (size_t i = 0; i < p->n; i++) n += p->tensor[i].factor != NULL;
    if (n == p->n) return NIB_OK;
    nib_plan_tensor *all = nib_calloc(n, sizeof *all);
    if (!all) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n; i++) {
        if (p->tensor[i].factor) make_factor(&all[at++], &p->tensor[i]);
        all[at++] = p->tensor[i];
    }
    nib_free(p->tensor);
    nib_free(p->index);
    p->tensor = all;
    p->n = n;
    p->n_index = 0;
    return nib_plan_make_index(p, err);
}

bool nib_plan_rescales(const nib_plan *p, const nib_plan_tensor *t)
{
    nib_inputs inputs;
    if (p->recipe.transform == NIB_TRANSFORM_NONE || !t->src) return false;
    if (t->place.role < NIB_ROLE_FIRST_BLOCK) return false;
    nib_steps_inputs(&inputs, nib_model_steps(p->model, t->place.layer));
    for (size_t i = 0; i < inputs.n; i++)
        if (inputs.input[i].producer == t->place.role) return t->place.bias || n_dims_of(t) == 1;
    return false;
}

/* Matrices of the blocks in a quantized format go through the solver of their method, and all of
 * them where channels are rescaled before they are rounded. HQQ's are fitted without activations.
 */
static void mark_solved(nib_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        bool matrix = nib_role_is_linear(t->place.role) && !t->place.bias;
        if (matrix && (t->method != NIB_METHOD_RTN || p->recipe.transform) && t->codec->quantized &&
            t->codec->fit && t->action == NIB_ACTION_ENCODE) {
            t->action = NIB_ACTION_STAGE;
            p->n_solved += t->method == NIB_METHOD_GPTQ || p->recipe.transform;
        }
        if (nib_plan_rescales(p, t)) t->action = NIB_ACTION_STAGE;
    }
}

/* ---- importances ---- */

/* Some formats cannot do without. */
static nib_code check_importances(const chooser *c, nib_err *err)
{
    for (size_t i = 0; i < c->p->n && !c->p->recipe.importances_come; i++) {
        const nib_plan_tensor *t = &c->p->tensor[i];
        if (!t->importance && t->action != NIB_ACTION_COPY && t->action != NIB_ACTION_STAGE &&
            nib_file_type_needs_importance(&c->mix, t->name, t->codec->type))
            return nib_fail(err, NIB_EINVAL,
                            "tensor '%s': %s needs importances (--imatrix; 'nibble calibrate' "
                            "makes them), and there are none for it",
                            t->name, c->p->file_type->name);
    }
    return NIB_OK;
}

/* ---- sizes ---- */

static nib_code list_records(nib_plan *p, nib_err *err)
{
    if (!(p->record = nib_calloc(p->n, sizeof *p->record))) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        nib_gguf_tensor *r = &p->record[i];
        *r = (nib_gguf_tensor){.name = t->name, .type = t->codec->type, .n_dims = 1};
        r->shape[0] = t->cols;
        if (!t->src) continue;
        int n = n_dims_of(t);
        if (n > NIB_GGUF_DIMS_MAX)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': %d dimensions; GGUF holds at most %d",
                            t->src->name, n, NIB_GGUF_DIMS_MAX);
        r->n_dims = n ? n : 1;
        for (int d = 0; d < n; d++) r->shape[d] = t->src->shape[t->src->n_dims - n + d];
    }
    return NIB_OK;
}

static void size_tensors(nib_plan *p, const nib_file_type_mix *mix)
{
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        t->bytes = p->layout.bytes[i];
        t->embedding_or_output =
            nib_file_type_is_output(mix, t->name) || nib_file_type_is_embedding(t->name);
    }
}

void nib_plan_add_up(nib_plan *p)
{
    uint64_t inner_weights = 0, inner_bytes = 0, solved = 0;
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        nib_type_total *by = &p->by_type[t->codec->type];
        uint64_t weights = t->rows * t->cols;
        if (t->action == NIB_ACTION_STAGE) {
            t->solved_at = solved;
            solved += t->bytes;
            p->n_carried += t->carried;
            p->n_rounded += !t->carried && !nib_plan_solves(p, t);
        }
        by->tensors++;
        by->weights += weights;
        by->bytes += t->bytes;
        p->weights += weights;
        p->bytes += t->bytes;
        p->n_fallback += t->fallback;
        if (t->embedding_or_output) continue;
        inner_weights += weights;
        inner_bytes += t->bytes;
    }
    p->solved_bytes = solved;
    if (p->weights) p->bits_per_weight = 8.0 * (double)p->bytes / (double)p->weights;
    if (inner_weights) p->bits_per_weight_inner = 8.0 * (double)inner_bytes / (double)inner_weights;
}

/* llama.cpp knows by the number of blocks that EXAONE 4 slides. */
enum { SLIDING_BLOCKS = 64 };

/* The same of windows and experts. */
static void warn_layers(const nib_model *m, nib_log *log)
{
    const nib_hparams *hp = &m->hp;
    const nib_arch *a = m->arch;
    if (hp->window && hp->window < hp->n_ctx_train && !a->sliding_period && !a->chunk)
        nib_warn(log,
                 "llama.cpp knows no sliding window of '%s': it agrees in texts of up to %u tokens",
                 a->name, hp->window);
    if (a->chunk && hp->window &&
        (hp->window != a->chunk || hp->temper_length != a->chunk || hp->temper != 0.1f))
        nib_warn(
            log,
            "llama.cpp computes '%s' with chunks of %u tokens, and tempers by 0.1 and %u: this "
            "model has %u, %g and %u",
            a->name, a->chunk, a->chunk, hp->window, (double)hp->temper, hp->temper_length);
    if (a->turns_windowless && hp->window && hp->n_layer != SLIDING_BLOCKS)
        nib_warn(log,
                 "llama.cpp takes windows of '%s' for those of a model of %d blocks alone: its "
                 "logits for this one are others",
                 a->name, SLIDING_BLOCKS);
    if (hp->n_group > 1 && hp->routing != NIB_ROUTE_SIGMOID)
        nib_warn(log, "llama.cpp takes a group of experts for worth its two best, this model for "
                      "its best alone: some tokens go to other experts");
}

/* Where llama.cpp computes something else with the file than Transformers with the folder. */
static void warn_differences(const nib_plan *p, nib_log *log)
{
    const nib_model *m = p->model;
    if (from_gguf(p)) return;
    if (m->hp.rope_scaling == NIB_ROPE_DYNAMIC)
        nib_warn(log,
                 "llama.cpp knows no dynamic rope scaling: texts of more than %u tokens are "
                 "computed without it",
                 m->hp.n_ctx_train);
    if (m->hp.rope_scaling == NIB_ROPE_YARN && m->hp.yarn.not_truncated)
        nib_warn(log, "llama.cpp rounds the corners of YaRN's ramp, which 'truncate': false does "
                      "not: its logits differ a little");
    warn_layers(m, log);
    if (m->hp.act == NIB_ACT_GELU)
        nib_warn(log, "llama.cpp computes GELU in its tanh form: its logits differ a little");
}

static void warn_odd(const chooser *c, nib_log *log)
{
    const nib_plan *p = c->p;
    nib_overrides_warn_unused(c->overrides, log);
    warn_differences(p, log);
    if (p->requantized)
        nib_warn(log, "%s is quantized already: quantizing it again adds to its errors",
                 nib_source_path(p->model->src));
    if (p->recipe.leave_output && !c->mix.has_output)
        nib_warn(log, "--leave-output has no effect: the embedding serves as output matrix");
    if (!p->model->arch->sliding_period && p->model->hp.window &&
        p->model->hp.window < p->model->hp.n_ctx_train)
        nib_warn(log,
                 "llama.cpp has no sliding window for '%s': it computes texts of more than %u "
                 "tokens with full attention",
                 p->model->arch->name, p->model->hp.window);
}

/* Where everything will lie. How many files there are does not depend on the metadata, which has a
 * digest for each. */
static nib_code lay_out(nib_plan *p, const char *path, nib_err *err)
{
    const uint64_t most = p->recipe.split_max;
    nib_gguf_del(p->kvs, NIB_GGUF_HEADS); /* the source's */
    nib_code rc = nib_gguf_plan(&p->layout, path, p->kvs, p->record, p->n, most, err);
    if (rc) return rc;
    const size_t bytes = p->layout.n_files * NIB_SHA256_BYTES;
    uint8_t *zeros = nib_calloc(bytes, 1);
    const bool ok = zeros && nib_gguf_set_arr(p->kvs, NIB_GGUF_HEADS, NIB_GGUF_U8, zeros, bytes);
    nib_free(zeros);
    nib_output_files_free(&p->layout);
    if (!ok) return nib_fail_nomem(err, "checksums");
    return nib_gguf_plan(&p->layout, path, p->kvs, p->record, p->n, most, err);
}

/* ---- the whole ---- */

static nib_code make(nib_plan *p, chooser *c, const nib_imatrix *im, const nib_ctx *ctx,
                     nib_err *err)
{
    nib_code rc = NIB_OK;
    const nib_recipe *r = &p->recipe;
    if (r->format == NIB_FORMAT_DIR) return nib_plan_dir(p, im, ctx, err);
    if (r->format == NIB_FORMAT_PLAIN) return nib_plan_plain(p, im, ctx, err);
    if ((rc = list_tensors(p, err))) return rc;
    if ((rc = scale_queries(p, err))) return rc;
    if ((rc = init_chooser(c, p, im, err))) return rc;
    if ((rc = choose_all(c, ctx, err))) return rc;
    mark_solved(p);
    if ((rc = nib_plan_own_factors(p, err))) return rc;
    if ((rc = add_factors_of_weights(p, err))) return rc;
    if ((rc = nib_plan_importances(p, im, ctx, err))) return rc;
    if ((rc = check_importances(c, err))) return rc;
    if ((rc = list_records(p, err))) return rc;
    if ((rc = nib_export_metadata(&p->kvs, p, im, err))) return rc;
    const char *path = r->out ? r->out : "model.gguf";
    if ((rc = lay_out(p, path, err))) return rc;
    size_tensors(p, &c->mix);
    nib_plan_add_up(p);
    p->peak_memory = nib_mem_peak() + nib_quantize_memory(p, ctx->threads);
    if (p->n_carried || p->n_rounded) p->peak_memory += nib_rounding_memory(p);
    p->disk_free = nib_disk_free(path);
    if (r->out) rc = nib_target_check(&p->layout, p->model->src, r->force, err);
    if (!rc && r->out) rc = nib_plan_room(p, 0, err);
    if (!rc) warn_odd(c, ctx->log);
    return rc;
}

nib_code nib_plan_make(nib_plan *p, const nib_recipe *recipe, const nib_model *model,
                       const nib_imatrix *imatrix, const nib_ctx *ctx, nib_err *err)
{
    chooser c = {0};
    *p = (nib_plan){.model = model, .recipe = *recipe};
    nib_code rc = make(p, &c, imatrix, ctx, err);
    if (!rc && !(p->error = nib_alloc(p->n, sizeof *p->error))) rc = nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        const bool same = t->action == NIB_ACTION_COPY || t->action == NIB_ACTION_GENERATE;
        p->error[i] = same || t->exact ? 0 : -1;
    }
    if (rc) nib_plan_free(p);
    nib_overrides_free(c.overrides);
    return rc;
}

nib_code nib_plan_room(const nib_plan *p, uint64_t spilled, nib_err *err)
{
    nib_disk_need need = {.solved = p->solved_bytes, .spilled = spilled};
    const bool carries = p->recipe.format != NIB_FORMAT_GGUF &&
                         nib_source_get_kind(p->model->src) != NIB_SOURCE_GGUF;
    nib_code rc = carries ? nib_carried_bytes(&need.output, p->model->src, err) : NIB_OK;
    need.output += p->layout.total_bytes;
    return rc ? rc : nib_target_room(p->recipe.out, &need, nib_disk_free(p->recipe.out), err);
}

void nib_plan_free(nib_plan *p)
{
    nib_output_files_free(&p->layout);
    nib_gguf_kvs_free(p->kvs);
    nib_free(p->importance);
    nib_free(p->error);
    nib_free(p->group);
    nib_free(p->record);
    nib_free(p->view);
    nib_arena_free(&p->memory);
    nib_free(p->tensor);
    nib_free(p->index);
    *p = (nib_plan){0};
}
