/* SPDX-License-Identifier: MIT */
/* run/plan/plan_importance.c - which tensors of a plan are rounded with importances from a matrix.
 * Tests: tests/run/test_plan.c, tests/cases/inputs. */
#include "base/mem.h"
#include "base/str.h"
#include "run/plan/file_type.h"
#include "run/plan/plan.h"

#include <stdio.h>

/* Solved tensors have importances of their own, from the activations that are seen then. */
static bool could_use(const nib_plan *p, const nib_plan_tensor *t)
{
    if (t->action == NIB_ACTION_COPY || t->carried) return false;
    if (!t->codec->quantized || !t->codec->uses_importance) return false;
    if (t->action == NIB_ACTION_STAGE && t->method == NIB_METHOD_HQQ) return false;
    return p->recipe.format == NIB_FORMAT_DIR ? !nib_plan_solves(p, t)
                                              : t->action != NIB_ACTION_STAGE;
}

/* Importance matrices have GGUF's names. */
static void gguf_name(const nib_plan *p, const nib_plan_tensor *t, char name[NIB_PLAN_NAME_MAX + 1])
{
    nib_place place = t->place;
    if (nib_role_is_expert(place.role)) place.expert = NIB_EXPERTS_ALL;
    if (p->recipe.format == NIB_FORMAT_DIR)
        nib_place_gguf_name(place, name, NIB_PLAN_NAME_MAX + 1);
    else
        snprintf(name, NIB_PLAN_NAME_MAX + 1, "%s", t->name);
}

/* The entry that tensor t is to use; NULL when it uses none. */
static nib_code find_importance(const nib_plan *p, const nib_plan_tensor *t, const nib_imatrix *im,
                                const nib_imatrix_entry **out, nib_err *err)
{
    char name[NIB_PLAN_NAME_MAX + 1];
    *out = NULL;
    if (!im || t->action == NIB_ACTION_COPY || !t->codec->quantized) return NIB_OK;
    gguf_name(p, t, name);
    const size_t n_mat =
        nib_role_is_expert(t->place.role) ? p->model->hp.n_expert : nib_plan_matrices(t);
    const nib_imatrix_entry *e = nib_imatrix_find(im, name);
    if (e && (e->cols != t->cols || e->n_mat != n_mat)) {
        if (nib_file_type_is_embedding(name)) return NIB_OK;
        return nib_fail(err, NIB_EFORMAT,
                        "%s: entry '%s' has %zu x %zu values, but the tensor has rows of %llu; was "
                        "it made with another model?",
                        im->path ? im->path : "importance matrix", name, e->n_mat, e->cols,
                        (unsigned long long)t->cols);
    }
    if (could_use(p, t)) *out = e;
    return NIB_OK;
}

static nib_code attach(nib_plan *p, const nib_imatrix *im, nib_log *log, nib_err *err)
{
    size_t total = 0, at = 0, few = 0, experts = 0;
    nib_code rc;
    const nib_imatrix_entry *e;
    for (size_t i = 0; i < p->n; i++) {
        if ((rc = find_importance(p, &p->tensor[i], im, &e, err))) return rc;
        if (e) total += nib_plan_matrices(&p->tensor[i]) * e->cols;
    }
    if (!(p->importance = nib_alloc(total, sizeof *p->importance)))
        return nib_fail_nomem(err, "importances");
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        if ((rc = find_importance(p, t, im, &e, err))) return rc;
        if (e) {
            const size_t n = nib_plan_matrices(t), first = n < e->n_mat ? t->place.expert : 0;
            nib_imatrix_values(e, first, n, p->importance + at);
            const bool experts_all =
                nib_role_is_expert(t->place.role) && (n > 1 || !t->place.expert);
            if (experts_all) few += nib_imatrix_few(e);
            if (experts_all) experts += e->n_mat > 1 ? e->n_mat : 0;
            t->importance = p->importance + at;
            at += n * e->cols;
        }
        p->n_with_importance += e != NULL;
        if (im && !e && could_use(p, t)) {
            p->n_without_importance++;
            nib_debug(log, "no importances for %s", t->name);
        }
    }
    if (few)
        nib_info(log,
                 "%zu of %zu importances of experts are of fewer than %d tokens: the mean of their "
                 "block's experts is mixed in",
                 few, experts, NIB_IMATRIX_FEW);
    return NIB_OK;
}

/* Does an entry that is no tensor's name end with this tensor's? Then what stands before it. */
static size_t prefix_of(const nib_imatrix_entry *e, const char *name)
{
    const size_t n = nib_stem(e->name, name);
    return n && e->name[n - 1] == '.' ? n : 0;
}

/* Say why nothing fits: it may be names alone. */
static void warn_unused(const nib_plan *p, const nib_imatrix *im, nib_log *log)
{
    const char *path = im->path ? im->path : "the importance matrix";
    char name[NIB_PLAN_NAME_MAX + 1], hf[NIB_PLAN_NAME_MAX + 1], first[NIB_PLAN_NAME_MAX + 1] = "";
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!t->place.role || t->rows < 2) continue;
        gguf_name(p, t, name);
        nib_place_hf_name(p->model->arch, t->place, hf, sizeof hf);
        if (!*first) snprintf(first, sizeof first, "%s", name);
        for (size_t k = 0; k < im->n; k++) {
            const nib_imatrix_entry *e = &im->entry[k];
            const size_t n = prefix_of(e, name);
            if (!strcmp(e->name, name)) {
                nib_warn(log, "%s is used by no tensor: none of their formats weighs weights",
                         path);
                return;
            }
            if (n)
                nib_warn(log, "%s is used by no tensor: its names have '%.*s' before them", path,
                         (int)n, e->name);
            else if (nib_ends_with(e->name, hf))
                nib_warn(log,
                         "%s is used by no tensor: it has Hugging Face's names ('%s', not '%s')",
                         path, e->name, name);
            if (n || nib_ends_with(e->name, hf)) return;
        }
    }
    nib_warn(log, "%s is used by no tensor: it is of '%s' and others, the model has '%s'", path,
             im->n ? im->entry[0].name : "nothing", first);
}

nib_code nib_plan_importances(nib_plan *p, const nib_imatrix *im, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = attach(p, im, ctx->log, err);
    if (rc) return rc;
    if (im && !p->n_with_importance)
        warn_unused(p, im, ctx->log);
    else if (p->n_without_importance)
        nib_info(ctx->log, "%zu of %zu tensors have no importances and are quantized without%s",
                 p->n_without_importance, p->n_without_importance + p->n_with_importance,
                 ctx->log && ctx->log->level == NIB_LOG_VERBOSE ? "" : " (--verbose lists them)");
    return NIB_OK;
}
