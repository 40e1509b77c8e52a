/* SPDX-License-Identifier: MIT */
/* calib/block_pass.c - see block_pass.h. Tests: tests/run/test_solve_dir.c. */
#include "calib/block_pass.h"

#include "calib/pass.h"

enum { BATCH_ROWS = 4096 }; /* tokens that run through a block at a time */

size_t nib_runner_rows(size_t n_ctx)
{
    return n_ctx < BATCH_ROWS ? BATCH_ROWS / n_ctx * n_ctx : n_ctx;
}

nib_code nib_runner_new(nib_runner *r, const nib_model *m, const nib_windows *w, const nib_ctx *ctx,
                        nib_err *err)
{
    *r = (nib_runner){0};
    nib_code rc = nib_pass_check(m, w, err);
    if (rc) return rc;
    r->w = w;
    r->batch = nib_runner_rows(w->n_ctx) / w->n_ctx;
    r->now = nib_alloc(r->batch * w->n_ctx, m->hp.n_embd * sizeof *r->now);
    if (!r->now) return nib_fail_nomem(err, "activations");
    if (!(rc = nib_graph_new(&r->graph, m, ctx, r->batch, w->n_ctx, false, err)))
        nib_graph_keep_inputs(r->graph);
    return rc;
}

void nib_runner_free(nib_runner *r)
{
    nib_graph_free(r->graph);
    nib_free(r->now);
    *r = (nib_runner){0};
}

nib_code nib_block_pass_open(nib_block_pass *s, nib_runner *r, size_t first, size_t n,
                             uint64_t limit, const char *beside, nib_err *err)
{
    const size_t n_ctx = r->w->n_ctx, n_embd = nib_graph_model(r->graph)->hp.n_embd;
    *s = (nib_block_pass){.first = first, .n = n};
    nib_code rc = nib_activation_store_new(&s->rows, n * n_ctx, n_embd, limit, beside, err);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = nib_graph_embed(r->graph, r->w->id + (first + i) * n_ctx, n_ctx, r->now, err);
        if (!rc) rc = nib_activation_store_put(&s->rows, i * n_ctx, n_ctx, r->now, err);
    }
    if (rc) nib_block_pass_close(s);
    return rc;
}

void nib_block_pass_close(nib_block_pass *s)
{
    nib_activation_store_free(&s->rows);
    *s = (nib_block_pass){0};
}

nib_code nib_block_pass_run(nib_block_pass *s, nib_runner *r, uint32_t layer, size_t from,
                            size_t end, bool keep, const nib_observer *obs, nib_err *err)
{
    const size_t n_ctx = r->w->n_ctx;
    for (size_t i = from; i < end; i += r->batch) {
        size_t k = end - i < r->batch ? end - i : r->batch;
        nib_code rc = nib_activation_store_get(&s->rows, i * n_ctx, k * n_ctx, r->now, err);
        if (!rc) rc = nib_graph_block(r->graph, layer, r->now, k, n_ctx, 0, obs, err);
        if (!rc && keep) rc = nib_activation_store_put(&s->rows, i * n_ctx, k * n_ctx, r->now, err);
        if (rc) return rc;
        r->done += (double)k;
        nib_progress_at(&r->progress, r->done);
    }
    return NIB_OK;
}
