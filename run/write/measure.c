/* SPDX-License-Identifier: MIT */
/* run/write/measure.c - see measure.h. Tests: tests/run/test_manifest.c. */
#include "run/write/measure.h"

#include "base/par.h"
#include "run/plan/weights.h"
#include "run/solve/commit.h"

#include <math.h>

enum { PIECE_WEIGHTS = 1 << 18, LANES = 8 };

/* Sums that do not wait for each other. */
void nib_difference_add(nib_difference *d, const float *w, const float *now, size_t n)
{
    double diff[LANES] = {0}, weight[LANES] = {0}, largest[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES) {
        const size_t m = n - i < LANES ? n - i : LANES;
        for (size_t l = 0; l < m; l++) {
            const double x = w[i + l], e = x - now[i + l], size = fabs(e);
            diff[l] += e * e;
            weight[l] += x * x;
            largest[l] = size > largest[l] ? size : largest[l];
        }
    }
    for (size_t l = 0; l < LANES; l++)
        nib_difference_join(d, &(nib_difference){diff[l], weight[l], largest[l]});
    if (isnan(d->diff)) d->largest = NAN;
}

void nib_difference_join(nib_difference *d, const nib_difference *more)
{
    d->diff += more->diff;
    d->weight += more->weight;
    if (more->largest > d->largest || isnan(more->largest)) d->largest = more->largest;
}

double nib_difference_error(const nib_difference *d)
{
    return d->diff == 0 ? 0 : sqrt(d->diff / d->weight);
}

/* ---- staged tensors ---- */

typedef struct {
    const nib_plan *p;
    const nib_plan_tensor *t;
    const float *now; /* [rows][cols] */
    size_t at_once;   /* rows */
    unsigned cpu;
    nib_buf *memory;      /* [threads][2] */
    nib_difference *part; /* [chunks] */
} job;

static nib_code measure_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    nib_buf *m = j->memory + 2 * thread;
    const size_t cols = (size_t)j->t->cols, n = (end - begin) * cols;
    float *w = nib_buf_reserve(&m[0], n, sizeof *w);
    if (!w) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_weights_read(j->p, j->t, begin, end - begin, w, &m[1], j->cpu, err);
    if (!rc) nib_difference_add(&j->part[begin / j->at_once], w, j->now + begin * cols, n);
    return rc;
}

static nib_code measure(nib_difference *d, nib_commit *keep, const nib_plan_tensor *t, nib_buf *now,
                        nib_buf *memory, nib_err *err)
{
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    job j = {.p = keep->p, .t = t, .cpu = keep->ctx->cpu, .memory = memory};
    j.at_once = PIECE_WEIGHTS / cols ? PIECE_WEIGHTS / cols : 1;
    const size_t chunks = (rows + j.at_once - 1) / j.at_once;
    float *w = nib_buf_reserve(now, rows, cols * sizeof *w);
    j.now = w;
    j.part = nib_calloc(chunks, sizeof *j.part);
    nib_code rc = w && j.part ? nib_commit_read(keep, t, w, err) : nib_fail_nomem(err, "weights");
    if (!rc) rc = nib_par_for(keep->ctx->threads, rows, j.at_once, measure_rows, &j, err);
    for (size_t i = 0; i < chunks && !rc; i++) nib_difference_join(d, &j.part[i]);
    nib_free(j.part);
    return rc;
}

static nib_code measure_tensor(nib_commit *keep, const nib_plan_tensor *t, nib_buf *now,
                               nib_buf *memory, nib_err *err)
{
    nib_plan_tensor one;
    nib_difference d = {0};
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < nib_plan_matrices(t) && !rc; i++) {
        nib_plan_matrix(&one, keep->p, t, i);
        rc = measure(&d, keep, &one, now, memory, err);
    }
    keep->p->error[t - keep->p->tensor] = (float)nib_difference_error(&d);
    return rc;
}

nib_code nib_measure_staged(nib_solved_file *side, const nib_plan *p, const nib_ctx *ctx,
                            nib_err *err)
{
    nib_commit keep = {.p = p, .side = side, .ctx = ctx};
    nib_buf now = {0}, *memory;
    nib_code rc = NIB_OK;
    const size_t n_memory = 2 * (size_t)ctx->threads;
    if (p->recipe.transform != NIB_TRANSFORM_NONE) return NIB_OK;
    if (!(memory = nib_calloc(n_memory, sizeof *memory))) return nib_fail_nomem(err, "work memory");
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->action == NIB_ACTION_STAGE && !t->carried)
            rc = measure_tensor(&keep, t, &now, memory, err);
    }
    for (size_t i = 0; i < n_memory; i++) nib_buf_free(&memory[i]);
    nib_free(memory);
    nib_buf_free(&now);
    nib_commit_free(&keep);
    return rc;
}
