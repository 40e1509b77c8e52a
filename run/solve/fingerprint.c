/* SPDX-License-Identifier: MIT */
/* run/solve/fingerprint.c - a fingerprint of all that decides what solving makes.
 * Tests: tests/run/test_solve_opts.c. */
#include "run/solve/solve.h"

#include "calib/fingerprint.h"
#include "run/solve/layer_weights.h"

#include <string.h>

/* All zero where a GGUF file is written. */
static uint64_t hash_layout(uint64_t seed, const nib_packing *f)
{
    const double numbers[] = {f->kind,     f->bits,   (double)f->group, f->per_tensor, f->sym,
                              f->desc_act, f->v2,     f->scale_type,    f->act,        f->act_sym,
                              f->fp4,      f->nested, (double)f->rows,  f->act_float};
    return nib_hash(seed, numbers, sizeof numbers);
}

nib_code nib_solve_fingerprint(uint64_t *out, const nib_plan *p, const nib_windows *w,
                               const nib_solve_opts *opts, nib_err *err)
{
    const nib_gptq_opts *q = &opts->gptq;
    const size_t n_ctx = opts->stats ? opts->stats->head.n_ctx : w->n_ctx;
    const double numbers[] = {q->damp,
                              (double)q->order,
                              (double)q->when,
                              (double)q->lazy,
                              q->sweeps,
                              opts->propagate,
                              (double)n_ctx,
                              opts->true_sequential,
                              opts->all_experts,
                              nib_solve_drift(p, opts),
                              (double)opts->held_out,
                              (double)p->recipe.format,
                              (double)p->recipe.transform,
                              (double)p->recipe.scales,
                              opts->rescale.alpha,
                              opts->range,
                              opts->percentile};
    nib_code rc = nib_model_fingerprint(out, p->model, err);
    if (rc) return rc;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!nib_layer_weights_holds(t) && t->action != NIB_ACTION_STAGE) continue;
        *out = nib_hash(*out, t->name, strlen(t->name) + 1);
        *out = nib_hash(*out, t->codec->name, strlen(t->codec->name) + 1);
        *out = hash_layout(*out, &t->layout.format);
        *out = nib_hash(*out, &t->method, sizeof t->method);
        *out = nib_hash(*out, &t->range, sizeof t->range);
        if (t->own_factor) *out = nib_hash(*out, t->own_factor, sizeof *t->own_factor);
        if (t->importance)
            *out = nib_hash(*out, t->importance,
                            nib_plan_matrices(t) * t->cols * sizeof *t->importance);
    }
    *out = nib_hash(*out, numbers, sizeof numbers);
    *out = opts->stats ? nib_hash(*out, &opts->stats->head, sizeof opts->stats->head)
                       : nib_hash(*out, w->id, w->n * n_ctx * sizeof *w->id);
    return NIB_OK;
}
