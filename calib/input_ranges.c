/* SPDX-License-Identifier: MIT */
/* calib/input_ranges.c - see input_ranges.h. Tests: tests/calib/test_ranges.c. */
#include "calib/input_ranges.h"
#include "base/par.h"
#include "calib/pass.h"

#include <assert.h>
#include <string.h>

static nib_code wrap_input(uint32_t layer, nib_role role, nib_err *err)
{
    char name[NIB_GGUF_NAME_MAX + 1];
    nib_place_gguf_name((nib_place){.layer = layer, .role = role}, name, sizeof name);
    return nib_wrap(err, "the input of '%s' on this text", name);
}

void nib_input_ranges_free(nib_input_ranges *a)
{
    for (size_t i = 0; i < a->n; i++) nib_hist_free(&a->input[i].hist);
    nib_free(a->input);
    nib_buf_free(&a->work);
    a->input = NULL;
    a->n = a->room = 0;
}

/* ---- histograms ---- */

static nib_input_histogram *find(const nib_input_ranges *a, uint32_t layer, nib_role role)
{
    for (size_t i = a->n; i-- > 0;)
        for (size_t k = 0; k < a->input[i].n_roles && a->input[i].layer == layer; k++)
            if (a->input[i].role[k] == role) return &a->input[i];
    return NULL;
}

static nib_code new_input(nib_input_ranges *a, uint32_t layer, const nib_role *roles,
                          size_t n_roles, nib_input_histogram **out, nib_err *err)
{
    if (a->n == a->room) {
        const size_t room = a->room ? 2 * a->room : 8;
        nib_input_histogram *grown = nib_grow(a->input, a->room, room, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "histograms of activations");
        a->input = grown;
        a->room = room;
    }
    assert(n_roles <= NIB_READERS_MAX);
    nib_input_histogram *in = *out = &a->input[a->n++];
    *in = (nib_input_histogram){.layer = layer, .n_roles = n_roles};
    memcpy(in->role, roles, n_roles * sizeof *roles);
    return NIB_OK;
}

static nib_code on_input(void *arg, const nib_linear_input *seen, nib_err *err)
{
    nib_input_ranges *a = arg;
    const size_t cols = seen->cols;
    nib_input_histogram *in = find(a, seen->layer, seen->role[0]);
    nib_code rc = in ? NIB_OK : new_input(a, seen->layer, seen->role, seen->n_roles, &in, err);
    if (rc) return rc;
    for (size_t row = 0; row < seen->rows && !rc; row += a->n_ctx)
        rc = nib_hist_add(&in->hist, seen->x + row * cols, a->n_ctx, cols, &a->work, a->ctx, err);
    return rc ? wrap_input(seen->layer, seen->role[0], err) : NIB_OK;
}

nib_observer nib_input_ranges_observer(nib_input_ranges *a)
{
    return (nib_observer){.linear_input = on_input, .arg = a};
}

nib_code nib_input_ranges_find(nib_range *out, const nib_input_ranges *a, uint32_t layer,
                               nib_role role, nib_range_method method, double percentile,
                               nib_err *err)
{
    const nib_input_histogram *in = find(a, layer, role);
    assert(in);
    nib_code rc = nib_range_find(out, &in->hist, method, percentile, err);
    return rc ? wrap_input(layer, role, err) : NIB_OK;
}

/* ---- all ranges of a model ---- */

typedef struct {
    const nib_input_ranges *seen;
    nib_ranges *out; /* input[seen->n] */
} choice;

static nib_code choose(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const choice *c = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const nib_input_histogram *from = &c->seen->input[i];
        const nib_hist *h = &from->hist;
        nib_input_range *in = &c->out->input[i];
        *in = (nib_input_range){.layer = from->layer,
                                .n_roles = from->n_roles,
                                .values = h->values,
                                .batches = h->batches,
                                .min = h->lo,
                                .max = h->hi};
        memcpy(in->role, from->role, sizeof in->role);
        nib_code rc = nib_input_ranges_find(&in->range, c->seen, in->layer, in->role[0],
                                            c->out->method, c->out->percentile, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static nib_code measure(nib_ranges *out, nib_input_ranges *seen, const nib_model *m,
                        const nib_windows *w, nib_err *err)
{
    const nib_pass pass = {.observer = nib_input_ranges_observer(seen)};
    nib_code rc = nib_pass_run(&pass, m, w, 0, seen->ctx, err);
    if (rc) return rc;
    out->n = seen->n;
    out->input = nib_calloc(seen->n, sizeof *out->input);
    if (!out->input) return nib_fail_nomem(err, "activation ranges");
    choice c = {seen, out};
    rc = nib_par_for(seen->ctx->threads, seen->n, 1, choose, &c, err);
    return rc ? rc : nib_measured_on_get(&out->on, m, w, err);
}

nib_code nib_measure_ranges(nib_ranges *out, const nib_model *m, const nib_windows *w,
                            nib_range_method method, double percentile, const nib_ctx *ctx,
                            nib_err *err)
{
    nib_input_ranges seen = {.ctx = ctx, .n_ctx = w->n_ctx};
    *out = (nib_ranges){.arch = m->arch, .method = method, .percentile = percentile};
    nib_code rc = m->hp.n_expert ? nib_fail(err, NIB_EINVAL, "inputs of experts have no ranges yet")
                                 : measure(out, &seen, m, w, err);
    nib_input_ranges_free(&seen);
    if (rc) nib_ranges_free(out);
    return rc;
}
