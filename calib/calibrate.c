/* SPDX-License-Identifier: MIT */
/* calib/calibrate.c - see calibrate.h. */
#include "calib/calibrate.h"
#include "base/mem.h"
#include "calib/checkpoint.h"
#include "calib/observe.h"
#include "infer/graph.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Rows of a batch, unless one window is longer: enough to make decoding the weights cheap. */
enum { BATCH_ROWS = 2048 };

static const nib_role BLOCK_LINEAR[] = {
    NIB_ROLE_ATTN_Q,   NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V,   NIB_ROLE_ATTN_OUTPUT,
    NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP, NIB_ROLE_FFN_DOWN,
};

nib_calib_opts nib_calib_defaults(void)
{
    return (nib_calib_opts){.save_every = 180};
}

/* ---- entries ---- */

static nib_code add_entry(nib_imatrix *out, const nib_model *m, uint32_t layer, nib_role role,
                          nib_err *err)
{
    char name[NIB_GGUF_NAME_MAX + 1];
    nib_imatrix_entry *e;
    const nib_tensor *weight = nib_model_param(m, layer, role)->weight;
    if (!weight) return NIB_OK;
    nib_place_gguf_name((nib_place){role, layer, false}, name, sizeof name);
    return nib_imatrix_add(out, name, strlen(name), nib_tensor_cols(weight), 1, &e, err);
}

/* An empty entry for every weight that will be watched. */
static nib_code add_entries(nib_imatrix *out, const nib_model *m, bool with_output, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++)
        for (size_t i = 0; i < sizeof BLOCK_LINEAR / sizeof *BLOCK_LINEAR && !rc; i++)
            rc = add_entry(out, m, layer, BLOCK_LINEAR[i], err);
    if (!rc && with_output) rc = add_entry(out, m, 0, NIB_ROLE_OUTPUT, err);
    return rc ? rc : nib_imatrix_sort(out, err);
}

/* ---- watching ---- */

typedef struct {
    nib_imatrix *out;
    const nib_ctx *ctx;
} watch;

static nib_imatrix_entry *entry_of(const nib_imatrix *m, uint32_t layer, nib_role role)
{
    char name[NIB_GGUF_NAME_MAX + 1];
    nib_place_gguf_name((nib_place){role, layer, false}, name, sizeof name);
    return nib_imatrix_find(m, name);
}

static nib_code check_finite(const nib_imatrix_entry *e, nib_err *err)
{
    for (size_t j = 0; j < e->cols; j++)
        if (!isfinite(e->in_sum2[j]))
            return nib_fail(err, NIB_ENUMERIC,
                            "the input of '%s' is not finite in channel %zu: the model computes "
                            "NaN or infinity on this text",
                            e->name, j);
    return NIB_OK;
}

/* Roles that share an input always come together: sum once, copy to the others. */
static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    const watch *w = arg;
    nib_imatrix_entry *first = entry_of(w->out, layer, roles[0]);
    assert(first && first->cols == cols);
    nib_code rc = nib_observe_squares(first->in_sum2, x, rows, cols, w->ctx, err);
    if (rc || (rc = check_finite(first, err))) return rc;
    first->counts[0] += (double)rows;
    for (size_t i = 1; i < n_roles; i++) {
        nib_imatrix_entry *e = entry_of(w->out, layer, roles[i]);
        assert(e && e->cols == cols);
        memcpy(e->in_sum2, first->in_sum2, cols * sizeof *e->in_sum2);
        e->counts[0] = first->counts[0];
    }
    return NIB_OK;
}

/* ---- running ---- */

typedef struct {
    const nib_model *m;
    const nib_windows *w;
    nib_graph *graph;
    float *x;    /* [batch rows][n_embd] */
    size_t *all; /* 0, 1, 2 ... : rows that go through the output layer */
    bool with_output;
    nib_observer observer;
    nib_progress progress;
    size_t begun_at; /* windows done by an earlier run */
} pass;

static nib_code run_batch(pass *p, size_t first, size_t n, nib_err *err)
{
    size_t n_ctx = p->w->n_ctx, rows = n * n_ctx;
    uint32_t n_layer = p->m->hp.n_layer;
    nib_code rc = nib_graph_embed(p->graph, p->w->id + first * n_ctx, rows, p->x, err);
    for (uint32_t layer = 0; layer < n_layer && !rc; layer++) {
        rc = nib_graph_block(p->graph, layer, p->x, n, n_ctx, 0, &p->observer, err);
        double share = (double)(layer + 1) / n_layer;
        nib_progress_at(&p->progress,
                        (double)((first - p->begun_at) * n_ctx) + share * (double)rows);
    }
    if (rc || !p->with_output) return rc;
    return nib_graph_logits(p->graph, p->x, p->all, rows, NULL, NULL, &p->observer, err);
}

static nib_code run_all(pass *p, nib_imatrix *out, size_t batch, const nib_calib_opts *opts,
                        const nib_ctx *ctx, nib_err *err)
{
    uint64_t fingerprint = 0;
    size_t done = 0;
    nib_code rc = NIB_OK;
    if (opts->checkpoint) {
        rc = nib_checkpoint_fingerprint(&fingerprint, p->m, p->w, opts, err);
        if (!rc) rc = nib_checkpoint_load(out, fingerprint, &done, opts->checkpoint, ctx->log, err);
        if (rc) return rc;
        if (done > p->w->n)
            return nib_fail(err, NIB_EFORMAT, "%s: %zu windows done of %zu", opts->checkpoint, done,
                            p->w->n);
        if (done) nib_info(ctx->log, "going on after %zu of %zu windows", done, p->w->n);
    }
    p->begun_at = done;
    double saved = nib_now();
    nib_progress_begin(&p->progress, ctx->log, "calibrating", "tokens",
                       (double)((p->w->n - done) * p->w->n_ctx));
    while (done < p->w->n && !rc) {
        size_t n = p->w->n - done < batch ? p->w->n - done : batch;
        if ((rc = run_batch(p, done, n, err))) break;
        done += n;
        if (!opts->checkpoint || done == p->w->n || nib_now() - saved < opts->save_every) continue;
        rc = nib_checkpoint_save(out, fingerprint, done, opts->checkpoint, err);
        saved = nib_now();
    }
    nib_progress_end(&p->progress);
    return rc;
}

static nib_code check_windows(const nib_model *m, const nib_windows *w, nib_err *err)
{
    if (!w->n) return nib_fail(err, NIB_EINVAL, "no windows to run over");
    if (w->n_ctx > m->hp.n_ctx_train)
        return nib_fail(err, NIB_EINVAL,
                        "a window of %zu tokens is longer than the model's context of %u", w->n_ctx,
                        m->hp.n_ctx_train);
    return NIB_OK;
}

nib_code nib_calibrate(nib_imatrix *out, const nib_model *m, const nib_windows *w,
                       const nib_calib_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    *out = (nib_imatrix){0};
    nib_code rc = check_windows(m, w, err);
    if (rc) return rc;
    size_t batch = BATCH_ROWS / w->n_ctx, rows;
    if (batch < 1) batch = 1;
    if (batch > w->n) batch = w->n;
    rows = batch * w->n_ctx;
    watch seen = {out, ctx};
    pass p = {.m = m,
              .w = w,
              .with_output = opts->process_output && nib_model_param(m, 0, NIB_ROLE_OUTPUT)->weight,
              .observer = {on_input, &seen}};
    if ((rc = add_entries(out, m, p.with_output, err))) goto done;
    p.x = nib_alloc(rows, m->hp.n_embd * sizeof *p.x);
    p.all = nib_alloc(rows, sizeof *p.all);
    if (!p.x || !p.all) {
        rc = nib_fail_nomem(err, "activations");
        goto done;
    }
    for (size_t i = 0; i < rows; i++) p.all[i] = i;
    if ((rc = nib_graph_new(&p.graph, m, ctx, batch, w->n_ctx, false, err))) goto done;
    rc = run_all(&p, out, batch, opts, ctx, err);
    out->chunk_count = (uint32_t)w->n;
    out->chunk_size = (uint32_t)w->n_ctx;
done:
    nib_graph_free(p.graph);
    nib_free(p.all);
    nib_free(p.x);
    if (rc) nib_imatrix_free(out);
    return rc;
}
