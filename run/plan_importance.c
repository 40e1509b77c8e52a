/* SPDX-License-Identifier: MIT */
/* run/plan_importance.c - which tensors of a plan are rounded with importances from a matrix. */
#include "base/mem.h"
#include "run/mix.h"
#include "run/plan.h"

#include <stdio.h>

/* Solved tensors have importances of their own, from the activations that are seen then. */
static bool could_use(const nib_plan *p, const nib_plan_tensor *t)
{
    if (t->copy || !t->codec->quantized || !t->codec->uses_importance) return false;
    return p->recipe.format == NIB_FORMAT_DIR ? !p->n_solved : !t->solve;
}

/* The entry that tensor t is to use; NULL when it uses none. Matrices have GGUF's names. */
static nib_code find_importance(const nib_plan *p, const nib_plan_tensor *t, const nib_imatrix *im,
                                const nib_imatrix_entry **out, nib_err *err)
{
    char name[NIB_PLAN_NAME_MAX + 1];
    *out = NULL;
    if (!im || t->copy || !t->codec->quantized) return NIB_OK;
    if (p->recipe.format == NIB_FORMAT_DIR)
        nib_place_gguf_name(t->place, name, sizeof name);
    else
        snprintf(name, sizeof name, "%s", t->name);
    const nib_imatrix_entry *e = nib_imatrix_find(im, name);
    if (e && (e->cols != t->cols || e->n_mat != 1)) {
        if (nib_mix_is_embedding(name)) return NIB_OK;
        return nib_fail(err, NIB_EFORMAT,
                        "%s: entry '%s' has %zu x %zu values, but the tensor has rows of %llu; was "
                        "it made with another model?",
                        im->path ? im->path : "importance matrix", name, e->n_mat, e->cols,
                        (unsigned long long)t->cols);
    }
    if (could_use(p, t)) *out = e;
    return NIB_OK;
}

static nib_code attach(nib_plan *p, const nib_imatrix *im, nib_err *err)
{
    size_t total = 0, at = 0;
    nib_code rc;
    const nib_imatrix_entry *e;
    for (size_t i = 0; i < p->n; i++) {
        if ((rc = find_importance(p, &p->tensor[i], im, &e, err))) return rc;
        if (e) total += e->cols;
    }
    if (!(p->importance = nib_alloc(total, sizeof *p->importance)))
        return nib_fail_nomem(err, "importances");
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        if ((rc = find_importance(p, t, im, &e, err))) return rc;
        if (e) {
            nib_imatrix_values(e, p->importance + at);
            t->importance = p->importance + at;
            at += e->cols;
        }
        p->n_with_importance += e != NULL;
        p->n_without_importance += im && !e && could_use(p, t);
    }
    return NIB_OK;
}

nib_code nib_plan_importances(nib_plan *p, const nib_imatrix *im, const nib_ctx *ctx, nib_err *err)
{
    nib_code rc = attach(p, im, err);
    if (rc) return rc;
    if (im && !p->n_with_importance)
        nib_warn(ctx->log, "%s is used by no tensor",
                 im->path ? im->path : "the importance matrix");
    else if (p->n_without_importance)
        nib_info(ctx->log, "%zu of %zu tensors have no importances and are quantized without",
                 p->n_without_importance, p->n_without_importance + p->n_with_importance);
    return NIB_OK;
}
