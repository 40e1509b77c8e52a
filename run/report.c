/* SPDX-License-Identifier: MIT */
/* run/report.c - a plan, and what the solver says of it, as JSON.
 * Tests: tests/run/test_plan.c, tests/run/test_job.c. */
#include "run/plan/plan.h"
#include "run/solve/solve.h"

static const char *source_format(const nib_plan_tensor *t)
{
    return t->src ? t->src->codec->name : "generated";
}

static bool add_tensor(nib_json *list, const nib_plan_tensor *t, const nib_gguf_tensor *record,
                       bool convert, double error)
{
    nib_json *j = nib_json_add_object(list, NULL);
    bool ok = j && nib_json_add_str(j, "name", t->name) &&
              nib_json_add_str(j, "type", t->codec->name) &&
              nib_json_add_str(j, "reason", t->reason) &&
              nib_json_add_str(j, "source", t->src ? t->src->name : "") &&
              nib_json_add_str(j, "source_type", source_format(t)) &&
              nib_json_add_bool(j, "copied", t->action == NIB_ACTION_COPY) &&
              (!convert || nib_json_add_bool(j, "lossless", t->exact)) &&
              (error < 0 || nib_json_add_num(j, "error", error)) &&
              nib_json_add_bool(j, "fallback", t->fallback) &&
              nib_json_add_bool(j, "importance", t->importance != NULL) &&
              nib_json_add_num(j, "bytes", (double)t->bytes);
    nib_json *shape = ok ? nib_json_add_array(j, "shape") : NULL;
    for (int d = 0; shape && ok && d < record->n_dims; d++)
        ok = nib_json_add_num(shape, NULL, (double)record->shape[d]);
    return ok && shape;
}

static bool add_types(nib_json *root, const nib_plan *p)
{
    nib_json *types = nib_json_add_object(root, "types");
    bool ok = types != NULL;
    for (int i = 0; i < NIB_TYPE_COUNT && ok; i++) {
        const nib_type_total *t = &p->by_type[i];
        if (!t->tensors) continue;
        nib_json *j = nib_json_add_object(types, nib_codec_get((nib_type)i)->name);
        ok = j && nib_json_add_num(j, "tensors", (double)t->tensors) &&
             nib_json_add_num(j, "weights", (double)t->weights) &&
             nib_json_add_num(j, "bytes", (double)t->bytes);
    }
    return ok;
}

static bool add_files(nib_json *root, const nib_output_files *l)
{
    nib_json *files = nib_json_add_array(root, "files");
    bool ok = files != NULL;
    for (size_t i = 0; i < l->n_files && ok; i++) {
        nib_json *j = nib_json_add_object(files, NULL);
        ok = j && nib_json_add_str(j, "path", l->file_path[i]) &&
             nib_json_add_num(j, "bytes", (double)l->file_bytes[i]);
    }
    return ok;
}

static bool add_totals(nib_json *j, const nib_plan *p)
{
    return nib_json_add_str(j, "type", p->label) &&
           nib_json_add_str(j, "architecture", p->model->arch->name) &&
           nib_json_add_num(j, "weights", (double)p->weights) &&
           nib_json_add_num(j, "tensor_bytes", (double)p->bytes) &&
           nib_json_add_num(j, "total_bytes", (double)p->layout.total_bytes) &&
           nib_json_add_num(j, "bits_per_weight", p->bits_per_weight) &&
           nib_json_add_num(j, "bits_per_weight_without_embeddings", p->bits_per_weight_inner) &&
           nib_json_add_num(j, "peak_memory_bytes", (double)p->peak_memory) &&
           (p->disk_free == UINT64_MAX ||
            nib_json_add_num(j, "disk_free_bytes", (double)p->disk_free)) &&
           nib_json_add_num(j, "fallbacks", (double)p->n_fallback) &&
           nib_json_add_num(j, "with_importance", (double)p->n_with_importance) &&
           nib_json_add_num(j, "without_importance", (double)p->n_without_importance) &&
           nib_json_add_bool(j, "requantized", p->requantized);
}

nib_json *nib_plan_json(const nib_plan *p)
{
    nib_json *root = nib_json_new_object();
    bool ok = root && add_totals(root, p) && add_files(root, &p->layout) && add_types(root, p);
    nib_json *list = ok ? nib_json_add_array(root, "tensors") : NULL;
    ok = list != NULL;
    for (size_t i = 0; i < p->n && ok; i++)
        ok = add_tensor(list, &p->tensor[i], &p->record[i], p->recipe.convert, p->error[i]);
    if (ok) return root;
    nib_json_free(root);
    return NULL;
}

static bool add_line(nib_json *list, const nib_solve_line *l)
{
    nib_json *j = nib_json_add_object(list, NULL);
    return j && nib_json_add_str(j, "name", l->name) &&
           (!l->of_expert || nib_json_add_num(j, "expert", l->expert)) &&
           nib_json_add_str(j, "type", l->codec->name) && nib_json_add_num(j, "error", l->solved) &&
           nib_json_add_num(j, "rounded_error", l->rtn) && nib_json_add_num(j, "damp", l->damp) &&
           nib_json_add_num(j, "seconds", l->seconds);
}

static bool add_rescaled(nib_json *list, const nib_rescale_line *l)
{
    nib_json *j = nib_json_add_object(list, NULL);
    return j && nib_json_add_str(j, "input_of", l->name) &&
           nib_json_add_num(j, "chosen", l->chosen) &&
           nib_json_add_num(j, "unscaled_error", l->unscaled) &&
           nib_json_add_num(j, "error", l->scaled);
}

bool nib_solve_report_json(nib_json *parent, const nib_solve_report *r)
{
    nib_json *j = nib_json_add_object(parent, "solved");
    bool ok = j && nib_json_add_num(j, "windows", (double)r->windows) &&
              nib_json_add_num(j, "held_out", (double)r->held_out) &&
              nib_json_add_num(j, "context", (double)r->n_ctx) &&
              nib_json_add_bool(j, "statistics", r->from_stats) &&
              nib_json_add_num(j, "seconds", r->seconds);
    if (ok && r->kl.n)
        ok = nib_json_add_num(j, "kl", r->kl.kl) && nib_json_add_num(j, "kl_error", r->kl.error) &&
             nib_json_add_num(j, "same_top", r->kl.same_top);
    nib_json *list = ok ? nib_json_add_array(j, "weights") : NULL;
    ok = list != NULL;
    for (size_t i = 0; i < r->n && ok; i++) ok = add_line(list, &r->line[i]);
    list = ok ? nib_json_add_array(j, "rescaled") : NULL;
    ok = list != NULL;
    for (size_t i = 0; i < r->n_rescaled && ok; i++) ok = add_rescaled(list, &r->rescaled[i]);
    return ok;
}
