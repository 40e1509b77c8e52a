/* SPDX-License-Identifier: MIT */
/* run/plan/own_factors.c - see own_factors.h. Tests: tests/run/test_own_factors.c. */
#include "run/plan/own_factors.h"

#include "base/par.h"
#include "quant/scaled.h"
#include "run/plan/weights.h"

#include <math.h>
#include <stdalign.h>

enum { ROWS = 64 };

static bool gets_one(const nib_plan *p, const nib_plan_tensor *t)
{
    return !p->recipe.convert && t->action == NIB_ACTION_STAGE && !t->carried &&
           t->codec == nib_codec_get(NIB_NVFP4) &&
           nib_gguf_has_factor(p->model->arch, t->place.role);
}

nib_code nib_plan_own_factors(nib_plan *p, nib_err *err)
{
    for (size_t i = 0; i < p->n; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        const size_t n = nib_plan_matrices(t);
        if (!gets_one(p, t)) continue;
        nib_scaled_codec *c = nib_arena_alloc(&p->memory, 1, sizeof *c, alignof(nib_scaled_codec));
        t->own_factor = nib_arena_alloc(&p->memory, n, sizeof(float), alignof(float));
        if (!c || !t->own_factor) return nib_fail_nomem(err, "a plan");
        for (size_t k = 0; k < n; k++) t->own_factor[k] = 1;
        nib_scaled_codec_make(c, t->codec, t->own_factor);
        t->codec = &c->codec;
        t->factor = t->own_factor;
    }
    return NIB_OK;
}

/* ---- what they are ---- */

typedef struct {
    const nib_plan *p;
    const nib_plan_tensor *t;
    unsigned cpu;
    nib_buf *memory; /* [threads][2] */
    float *most;     /* [chunks]     */
} job;

static nib_code find_most(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    nib_buf *m = &j->memory[2 * thread];
    const size_t n = (end - begin) * (size_t)j->t->cols;
    float *w = nib_buf_reserve(&m[0], n, sizeof *w), most = 0;
    if (!w) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_weights_read(j->p, j->t, begin, end - begin, w, &m[1], j->cpu, err);
    for (size_t i = 0; i < n && !rc; i++) most = fmaxf(most, fabsf(w[i]));
    j->most[begin / ROWS] = most;
    return rc;
}

/* All matrices of a stack have the same. */
static nib_code find_factor(const nib_plan *p, nib_plan_tensor *t, nib_buf *memory,
                            const nib_ctx *ctx, nib_err *err)
{
    const size_t chunks = (size_t)(t->rows + ROWS - 1) / ROWS;
    job j = {p, t, ctx->cpu, memory, nib_calloc(chunks, sizeof *j.most)};
    if (!j.most) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_par_for(ctx->threads, (size_t)t->rows, ROWS, find_most, &j, err);
    float most = 0;
    for (size_t i = 0; i < chunks; i++) most = fmaxf(most, j.most[i]);
    for (size_t k = 0; k < nib_plan_matrices(t); k++)
        t->own_factor[k] = nib_scaled_factor(nib_codec_get(NIB_NVFP4), most);
    nib_free(j.most);
    return rc;
}

nib_code nib_find_own_factors(nib_plan *p, const nib_ctx *ctx, nib_err *err)
{
    const size_t n_memory = 2 * (size_t)ctx->threads;
    nib_code rc = NIB_OK;
    if (p->factors_found) return NIB_OK;
    nib_buf *memory = nib_calloc(n_memory, sizeof *memory);
    if (!memory) return nib_fail_nomem(err, "work memory");
    for (size_t i = 0; i < p->n && !rc; i++)
        if (p->tensor[i].own_factor) rc = find_factor(p, &p->tensor[i], memory, ctx, err);
    p->factors_found = !rc;
    for (size_t i = 0; i < n_memory; i++) nib_buf_free(&memory[i]);
    nib_free(memory);
    return rc;
}
