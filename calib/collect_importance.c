/* SPDX-License-Identifier: MIT */
/* calib/collect_importance.c - see collect_importance.h. */
#include "calib/collect_importance.h"
#include "base/file.h"
#include "base/utf8.h"
#include "calib/accumulate.h"
#include "calib/checkpoint.h"
#include "calib/pass.h"

#include <assert.h>
#include <math.h>
#include <string.h>

nib_calib_opts nib_calib_defaults(void)
{
    return (nib_calib_opts){.save_every = 180};
}

/* ---- entries ---- */

/* Experts share an entry. */
static void place_name(uint32_t layer, nib_role role, char *name, size_t n)
{
    nib_place p = {.layer = layer, .role = role};
    if (nib_role_is_expert(role)) p.expert = NIB_EXPERTS_ALL;
    nib_place_gguf_name(p, name, n);
}

static nib_code add_entry(nib_imatrix *out, const nib_model *m, uint32_t layer, nib_role role,
                          nib_err *err)
{
    char name[NIB_GGUF_NAME_MAX + 1];
    nib_imatrix_entry *e;
    const nib_param *param = nib_model_param(m, layer, role);
    if (!param->weight) return NIB_OK;
    place_name(layer, role, name, sizeof name);
    return nib_imatrix_add(out, name, strlen(name), nib_tensor_cols(param->weight),
                           param->expert ? m->hp.n_expert : 1, &e, err);
}

/* An empty entry for every weight that will be watched. */
static nib_code add_entries(nib_imatrix *out, const nib_model *m, bool with_output, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++) {
        const nib_steps *s = nib_model_steps(m, layer);
        for (size_t i = 0; i < s->n && !rc; i++)
            if (s->step[i].op == NIB_OP_LINEAR)
                rc = add_entry(out, m, layer, s->step[i].weight, err);
    }
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
    place_name(layer, role, name, sizeof name);
    return nib_imatrix_find(m, name);
}

static nib_code check_finite(const nib_imatrix_entry *e, const double *sum, nib_err *err)
{
    for (size_t j = 0; j < e->cols; j++)
        if (!isfinite(sum[j]))
            return nib_fail(err, NIB_ENUMERIC,
                            "the input of '%s' is not finite in channel %zu: the model computes "
                            "NaN or infinity on this text",
                            e->name, j);
    return NIB_OK;
}

/* Roles that share an input always come together: sum once, copy to the others. */
static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    const watch *w = arg;
    nib_imatrix_entry *first = entry_of(w->out, in->layer, in->role[0]);
    assert(first && first->cols == in->cols && in->expert < first->n_mat);
    double *sum = first->in_sum2 + in->expert * in->cols, *count = &first->counts[in->expert];
    nib_code rc = nib_accumulate_squares(sum, in->x, in->rows, in->cols, w->ctx, err);
    if (rc || (rc = check_finite(first, sum, err))) return rc;
    *count += (double)in->rows;
    for (size_t i = 1; i < in->n_roles; i++) {
        nib_imatrix_entry *e = entry_of(w->out, in->layer, in->role[i]);
        assert(e && e->cols == in->cols && in->expert < e->n_mat);
        memcpy(e->in_sum2 + in->expert * in->cols, sum, in->cols * sizeof *sum);
        e->counts[in->expert] = *count;
    }
    return NIB_OK;
}

/* ---- running ---- */

/* What an unfinished run needs to be kept. */
typedef struct {
    const nib_imatrix *m;
    const nib_calib_opts *opts;
    uint64_t fingerprint;
    double saved; /* when, nib_now() */
} keeper;

static nib_code save_now_and_then(void *arg, size_t done, nib_err *err)
{
    keeper *k = arg;
    if (nib_now() - k->saved < k->opts->save_every) return NIB_OK;
    nib_code rc = nib_checkpoint_save(k->m, k->fingerprint, done, k->opts->checkpoint, err);
    k->saved = nib_now();
    return rc;
}

/* Where an earlier run stopped: *done windows are in the sums of `out` already. */
static nib_code pick_up(keeper *k, nib_imatrix *out, size_t *done, const nib_model *m,
                        const nib_windows *w, const nib_ctx *ctx, nib_err *err)
{
    const char *path = k->opts->checkpoint;
    nib_code rc = nib_checkpoint_fingerprint(&k->fingerprint, m, w, k->opts, err);
    if (!rc) rc = nib_checkpoint_load(out, k->fingerprint, done, path, ctx->log, err);
    if (rc) return rc;
    if (*done > w->n)
        return nib_fail(err, NIB_EFORMAT, "%s: %zu windows done of %zu", path, *done, w->n);
    if (*done) nib_info(ctx->log, "going on after %zu of %zu windows", *done, w->n);
    return NIB_OK;
}

static nib_code run(nib_imatrix *out, const nib_model *m, const nib_windows *w,
                    const nib_calib_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    const bool with_output = opts->process_output && nib_model_param(m, 0, NIB_ROLE_OUTPUT)->weight;
    size_t done = 0;
    watch seen = {out, ctx};
    keeper k = {.m = out, .opts = opts, .saved = nib_now()};
    nib_pass pass = {
        .observer = {on_input, &seen, opts->all_experts}, .with_output = with_output, .arg = &k};
    nib_code rc = add_entries(out, m, with_output, err);
    if (!rc && opts->checkpoint) {
        pass.after_batch = save_now_and_then;
        rc = pick_up(&k, out, &done, m, w, ctx, err);
    }
    return rc ? rc : nib_pass_run(&pass, m, w, done, ctx, err);
}

nib_code nib_collect_importance(nib_imatrix *out, const nib_model *m, const nib_windows *w,
                                const nib_calib_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    *out = (nib_imatrix){.chunk_count = (uint32_t)w->n, .chunk_size = (uint32_t)w->n_ctx};
    nib_code rc = run(out, m, w, opts, ctx, err);
    if (rc) nib_imatrix_free(out);
    return rc;
}

nib_code nib_importance_texts(nib_imatrix *m, const nib_sample *s, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < s->n_texts && !rc; i++) {
        char *name = nib_utf8_replace(nib_path_base(s->text[i].path));
        rc = name ? nib_imatrix_add_dataset(m, name, strlen(name), err)
                  : nib_fail_nomem(err, "a file name");
        nib_free(name);
    }
    return rc;
}
