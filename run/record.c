/* SPDX-License-Identifier: MIT */
/* run/record.c - see record.h. Tests: tests/run/test_manifest.c. */
#include "run/record.h"

#include "formats/packed_config.h"

static bool add_opt(nib_json *j, const char *key, const char *value)
{
    return !value || nib_json_add_str(j, key, value);
}

static bool add_flag(nib_json *j, const char *key, bool on)
{
    return !on || nib_json_add_bool(j, key, true);
}

static bool add_list(nib_json *j, const char *key, const char *const *v, size_t n)
{
    nib_json *list = n ? nib_json_add_array(j, key) : NULL;
    bool ok = !n || list;
    for (size_t i = 0; i < n && ok; i++) ok = nib_json_add_str(list, NULL, v[i]);
    return ok;
}

static const char *format_name(const nib_recipe *r)
{
    return r->format == NIB_FORMAT_GGUF    ? "gguf"
           : r->format == NIB_FORMAT_PLAIN ? "safetensors"
                                           : nib_packing_method(r->layout.kind);
}

static bool add_layout(nib_json *j, const nib_recipe *r)
{
    const nib_packing *l = &r->layout;
    char name[32];
    if (r->format != NIB_FORMAT_DIR) return true;
    if (r->convert)
        return (!r->bits_given || nib_json_add_num(j, "bits", l->bits)) &&
               (!r->group_given || nib_json_add_num(j, "group-size", (double)l->group)) &&
               (!r->sym_given || nib_json_add_bool(j, l->sym ? "sym" : "asym", true));
    if (nib_packing_is_floats(l->kind))
        return nib_json_add_str(j, "scheme", nib_packing_name(name, sizeof name, l)) &&
               nib_json_add_str(j, "scales", r->scales == NIB_SCALES_RANGE ? "range" : "search") &&
               (!l->act ||
                nib_json_add_str(j, "activations", l->act == NIB_ACT_TOKEN ? "token" : "tensor"));
    return nib_json_add_num(j, "bits", l->bits) &&
           (l->per_tensor ? nib_json_add_str(j, "group-size", "tensor")
                          : nib_json_add_num(j, "group-size", (double)l->group)) &&
           add_flag(j, "asym", !l->sym) && add_flag(j, "desc-act", l->desc_act) &&
           add_flag(j, "gptq_v2", l->v2) && add_flag(j, "double-quant", l->nested) &&
           (!l->act ||
            nib_json_add_str(j, "activations", l->act == NIB_ACT_TOKEN ? "token" : "tensor")) &&
           nib_json_add_str(j, "scales", r->scales == NIB_SCALES_RANGE ? "range" : "search");
}

static const char *method_name(const nib_recipe *r)
{
    const bool gptq = r->method == NIB_METHOD_GPTQ;
    switch (r->transform) {
    case NIB_TRANSFORM_AWQ: return gptq ? "awq+gptq" : "awq";
    case NIB_TRANSFORM_SMOOTHQUANT: return gptq ? "smoothquant+gptq" : "smoothquant";
    default: return gptq ? "gptq" : r->method == NIB_METHOD_HQQ ? "hqq" : "rtn";
    }
}

/* Does the model run over texts? Rounding sees no activations. */
static bool looks(const nib_recipe *r)
{
    return r->method == NIB_METHOD_GPTQ || r->transform || r->layout.act == NIB_ACT_TENSOR;
}

/* What solving goes by. */
static bool add_solving(nib_json *j, const nib_job_opts *o)
{
    const nib_recipe *r = &o->recipe;
    const nib_solve_opts *s = &o->solve;
    const nib_sample *t = &o->text;
    const bool gptq = r->method == NIB_METHOD_GPTQ;
    if (!looks(r)) return true;
    return (!gptq || (nib_json_add_num(j, "damp", s->gptq.damp) &&
                      nib_json_add_num(j, "sweeps", (double)s->gptq.sweeps) &&
                      (o->stats || !s->propagate || nib_json_add_num(j, "drift", s->drift)) &&
                      add_flag(j, "no-propagate", !s->propagate) &&
                      add_flag(j, "true-sequential", s->true_sequential) &&
                      add_flag(j, "all-experts", s->all_experts))) &&
           (r->transform != NIB_TRANSFORM_SMOOTHQUANT ||
            nib_json_add_num(j, "alpha", s->rescale.alpha)) &&
           add_flag(j, "stats", o->stats) && nib_json_add_num(j, "seed", (double)t->seed) &&
           nib_json_add_num(j, "samples", (double)(t->samples ? t->samples : NIB_SOLVE_WINDOWS)) &&
           (!t->n_ctx || nib_json_add_num(j, "ctx", (double)t->n_ctx)) &&
           add_flag(j, "chat", t->chat);
}

static nib_json *recipe(const nib_job_opts *o, bool importances)
{
    const nib_recipe *r = &o->recipe;
    nib_json *j = nib_json_new_object();
    const bool ok = j && nib_json_add_str(j, "command", r->convert ? "convert" : "quantize") &&
                    nib_json_add_str(j, "format", format_name(r)) && add_opt(j, "type", r->type) &&
                    add_layout(j, r) &&
                    (r->convert || nib_json_add_str(j, "method", method_name(r))) &&
                    add_flag(j, "requantize", r->requantize) &&
                    add_list(j, "override", r->overrides, r->n_overrides) &&
                    add_list(j, "tensor-type", r->tensor_types, r->n_tensor_types) &&
                    add_opt(j, "protect-blocks", r->protect_blocks) &&
                    add_opt(j, "output-type", r->output_type) &&
                    add_opt(j, "embedding-type", r->embedding_type) && add_opt(j, "pre", r->pre) &&
                    add_flag(j, "pure", r->pure) && add_flag(j, "leave-output", r->leave_output) &&
                    add_flag(j, "imatrix", importances) && add_flag(j, "ranges", o->ranges) &&
                    add_flag(j, "kv-scales", o->kv_ranges) && add_solving(j, o);
    if (ok) return j;
    nib_json_free(j);
    return NULL;
}

nib_code nib_record_job(nib_provenance *p, const nib_job_opts *o, const nib_source *s,
                        const nib_imatrix *im, nib_err *err)
{
    const char *const files[] = {im ? im->path : NULL, o->ranges, o->kv_ranges};
    nib_provenance_free(p);
    p->base_model = o->base_model;
    if (!(p->recipe = recipe(o, im))) return nib_fail_nomem(err, "the record of a recipe");
    nib_code rc = nib_provenance_source(p, s, err);
    for (size_t i = 0; i < o->text.n_texts && looks(&o->recipe) && !rc; i++)
        rc = nib_provenance_add_text(p, o->text.text[i].path, err);
    for (size_t i = 0; i < sizeof files / sizeof *files && !rc; i++)
        if (files[i]) rc = nib_provenance_add(p, files[i], err);
    return rc;
}
