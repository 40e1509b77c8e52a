/* SPDX-License-Identifier: MIT */
/* calib/activations.c - see activations.h. */
#include "calib/activations.h"
#include "base/par.h"
#include "calib/fingerprint.h"
#include "calib/pass.h"

#include <assert.h>
#include <string.h>

typedef struct {
    nib_ranges *out;
    nib_hist *hist; /* one for each of out->input */
    nib_buf work;
    size_t n_ctx;
    const nib_ctx *ctx;
} watch;

static nib_code wrap_input(const nib_input_range *in, nib_err *err)
{
    char name[NIB_GGUF_NAME_MAX + 1];
    nib_place_gguf_name((nib_place){in->role[0], in->layer, false}, name, sizeof name);
    return nib_wrap(err, "the input of '%s' on this text", name);
}

/* The entry of an input; a new one when it is seen for the first time. The first batch visits the
 * layers in order, and so the entries are in theirs. */
static size_t entry_of(nib_ranges *r, uint32_t layer, const nib_role *roles, size_t n_roles)
{
    for (size_t i = r->n; i-- > 0;)
        if (r->input[i].layer == layer && r->input[i].role[0] == roles[0]) return i;
    assert(n_roles <= NIB_INPUT_ROLES);
    nib_input_range *in = &r->input[r->n];
    *in = (nib_input_range){.layer = layer, .n_roles = n_roles};
    memcpy(in->role, roles, n_roles * sizeof *roles);
    return r->n++;
}

static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    watch *w = arg;
    const size_t i = entry_of(w->out, layer, roles, n_roles);
    for (size_t row = 0; row < rows; row += w->n_ctx) {
        nib_code rc =
            nib_hist_add(&w->hist[i], x + row * cols, w->n_ctx, cols, &w->work, w->ctx, err);
        if (rc) return wrap_input(&w->out->input[i], err);
    }
    return NIB_OK;
}

static nib_code choose(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const watch *w = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const nib_hist *h = &w->hist[i];
        nib_input_range *in = &w->out->input[i];
        nib_code rc = nib_range_find(&in->range, h, w->out->method, w->out->percentile, err);
        if (rc) return wrap_input(in, err);
        in->values = h->values;
        in->batches = h->batches;
        in->min = h->lo;
        in->max = h->hi;
    }
    return NIB_OK;
}

static nib_code measure(watch *w, const nib_model *m, const nib_windows *windows, nib_err *err)
{
    const nib_pass pass = {.observer = {on_input, w}};
    nib_code rc = nib_pass_run(&pass, m, windows, 0, w->ctx, err);
    if (!rc) rc = nib_par_for(w->ctx->threads, w->out->n, 1, choose, w, err);
    return rc ? rc : nib_model_fingerprint(&w->out->model, m, err);
}

nib_code nib_measure_ranges(nib_ranges *out, const nib_model *m, const nib_windows *w,
                            nib_range_method method, double percentile, const nib_ctx *ctx,
                            nib_err *err)
{
    const size_t most = (size_t)m->hp.n_layer * NIB_ROLE_COUNT;
    *out = (nib_ranges){.method = method,
                        .percentile = percentile,
                        .n_windows = w->n,
                        .n_ctx = w->n_ctx,
                        .text = nib_hash(NIB_HASH_START, w->id, w->n * w->n_ctx * sizeof *w->id),
                        .input = nib_alloc(most, sizeof *out->input)};
    watch seen = {
        .out = out, .hist = nib_calloc(most, sizeof *seen.hist), .n_ctx = w->n_ctx, .ctx = ctx};
    nib_code rc = seen.hist && out->input ? measure(&seen, m, w, err)
                                          : nib_fail_nomem(err, "activation ranges");
    for (size_t i = 0; i < out->n; i++) nib_hist_free(&seen.hist[i]);
    nib_free(seen.hist);
    nib_buf_free(&seen.work);
    if (rc) nib_ranges_free(out);
    return rc;
}
