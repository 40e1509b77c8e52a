/* SPDX-License-Identifier: MIT */
/* calib/pass.c - see pass.h. Tests: tests/calib/test_ranges.c. */
#include "calib/pass.h"
#include "base/mem.h"

/* Rows of a batch, unless one window is longer: enough to make decoding the weights cheap. */
enum { BATCH_ROWS = 2048 };

typedef struct {
    const nib_pass *p;
    const nib_model *m;
    const nib_windows *w;
    nib_graph *graph;
    float *x;    /* [batch rows][n_embd] */
    size_t *all; /* 0, 1, 2 ... : rows that go through the output layer */
    nib_progress progress;
    size_t from, batch;
} run;

static nib_code run_batch(run *r, size_t first, size_t n, nib_err *err)
{
    size_t n_ctx = r->w->n_ctx, rows = n * n_ctx;
    uint32_t n_layer = r->m->hp.n_layer;
    nib_code rc = nib_graph_embed(r->graph, r->w->id + first * n_ctx, rows, r->x, err);
    for (uint32_t layer = 0; layer < n_layer && !rc; layer++) {
        rc = nib_graph_block(r->graph, layer, r->x, n, n_ctx, 0, &r->p->observer, err);
        double share = (double)(layer + 1) / n_layer;
        nib_progress_at(&r->progress, (double)((first - r->from) * n_ctx) + share * (double)rows);
    }
    if (rc || !r->p->with_output) return rc;
    return nib_graph_logits(r->graph, r->x, r->all, rows, NULL, NULL, &r->p->observer, err);
}

static nib_code run_all(run *r, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t done = r->from; done < r->w->n && !rc;) {
        size_t n = r->w->n - done < r->batch ? r->w->n - done : r->batch;
        rc = run_batch(r, done, n, err);
        done += n;
        if (!rc && r->p->after_batch && done < r->w->n)
            rc = r->p->after_batch(r->p->arg, done, err);
    }
    return rc;
}

nib_code nib_pass_check(const nib_model *m, const nib_windows *w, nib_err *err)
{
    if (!w->n) return nib_fail(err, NIB_EINVAL, "no windows to run over");
    if (w->n_ctx > m->hp.n_ctx_train)
        return nib_fail(err, NIB_EINVAL,
                        "a window of %zu tokens is longer than the model's context of %u", w->n_ctx,
                        m->hp.n_ctx_train);
    return NIB_OK;
}

static nib_code set_up(run *r, const nib_ctx *ctx, nib_err *err)
{
    size_t n_ctx = r->w->n_ctx, rows;
    r->batch = BATCH_ROWS / n_ctx ? BATCH_ROWS / n_ctx : 1;
    if (r->batch > r->w->n) r->batch = r->w->n;
    rows = r->batch * n_ctx;
    r->x = nib_alloc(rows, r->m->hp.n_embd * sizeof *r->x);
    r->all = nib_alloc(rows, sizeof *r->all);
    if (!r->x || !r->all) return nib_fail_nomem(err, "activations");
    for (size_t i = 0; i < rows; i++) r->all[i] = i;
    nib_code rc = nib_graph_new(&r->graph, r->m, ctx, r->batch, n_ctx, false, err);
    if (!rc) nib_graph_watch_keys(r->graph, r->p->keys);
    if (!rc) nib_graph_keep_inputs(r->graph);
    return rc;
}

nib_code nib_pass_run(const nib_pass *p, const nib_model *m, const nib_windows *w, size_t from,
                      const nib_ctx *ctx, nib_err *err)
{
    run r = {.p = p, .m = m, .w = w, .from = from};
    nib_code rc = nib_pass_check(m, w, err);
    if (!rc) rc = set_up(&r, ctx, err);
    if (!rc) {
        nib_progress_begin(&r.progress, ctx->log, "calibrating", "tokens",
                           (double)((w->n - from) * w->n_ctx));
        rc = run_all(&r, err);
        nib_progress_end(&r.progress);
    }
    nib_graph_free(r.graph);
    nib_free(r.all);
    nib_free(r.x);
    return rc;
}
