/* SPDX-License-Identifier: MIT */
/* run/solve.c - see solve.h. */
#include "run/solve.h"

#include "calib/fingerprint.h"
#include "run/keep.h"
#include "run/moments.h"
#include "run/stream.h"

#include <string.h>

typedef struct {
    const nib_plan *p;
    const nib_model *m;
    const nib_windows *w;
    const nib_solve_opts *opts;
    const nib_ctx *ctx;
    nib_side *side;
    nib_solve_report *report;
    nib_gptq *gptq;
    size_t n_calib; /* windows to calibrate on: the first ones */
    nib_runner runner;
    nib_stream x;        /* inputs of the block: all windows         */
    nib_stream original; /* the held-out windows in the original model */
    nib_moments moments;
    nib_keep keep;
    nib_buf weight[NIB_ROLE_COUNT];
    nib_buf code, param, raw;
} solver;

nib_solve_opts nib_solve_defaults(void)
{
    return (nib_solve_opts){
        .gptq = nib_gptq_defaults(), .propagate = true, .held_out = 8, .memory = (uint64_t)1 << 30};
}

void nib_solve_report_free(nib_solve_report *r)
{
    nib_free(r->line);
    *r = (nib_solve_report){0};
}

/* All zero where a GGUF file is written. */
static uint64_t hash_layout(uint64_t seed, const nib_layout_format *f)
{
    const double numbers[] = {f->kind,     f->bits, (double)f->group, f->sym,
                              f->desc_act, f->v2,   f->scale_type};
    return nib_hash(seed, numbers, sizeof numbers);
}

/* Is it a weight of a block that is rounded to nearest, and not by the solver? */
static bool rounded(const nib_plan_tensor *t)
{
    return t->place.role >= NIB_ROLE_FIRST_BLOCK && !t->place.bias && t->src->n_dims == 2 &&
           t->codec->quantized && !t->copy && !t->solve;
}

nib_code nib_solve_fingerprint(uint64_t *out, const nib_plan *p, const nib_windows *w,
                               const nib_solve_opts *opts, nib_err *err)
{
    const nib_gptq_opts *q = &opts->gptq;
    const double numbers[] = {q->damp,
                              (double)q->order,
                              (double)q->when,
                              (double)q->lazy,
                              q->sweeps,
                              opts->propagate,
                              (double)w->n_ctx,
                              opts->true_sequential,
                              (double)opts->held_out,
                              (double)p->recipe.format};
    nib_code rc = nib_model_fingerprint(out, p->model, err);
    if (rc) return rc;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!t->solve && !rounded(t)) continue;
        *out = nib_hash(*out, t->name, strlen(t->name) + 1);
        *out = nib_hash(*out, t->codec->name, strlen(t->codec->name) + 1);
        *out = hash_layout(*out, &t->layout.format);
        *out = nib_hash(*out, &t->method, sizeof t->method);
        if (t->importance) *out = nib_hash(*out, t->importance, t->cols * sizeof *t->importance);
    }
    *out = nib_hash(*out, numbers, sizeof numbers);
    *out = nib_hash(*out, w->id, w->n * w->n_ctx * sizeof *w->id);
    return NIB_OK;
}

/* The plan's tensor of a weight; NULL when the output holds it as it was. */
static const nib_plan_tensor *find_tensor(const nib_plan *p, uint32_t layer, nib_role role)
{
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->place.layer == layer && t->place.role == role && (t->solve || rounded(t))) return t;
    }
    return NULL;
}

/* ---- one weight ---- */

static nib_code load_weight(solver *s, const nib_plan_tensor *t, nib_role role, nib_err *err)
{
    const nib_tensor *src = t->src;
    size_t n = (size_t)(t->rows * t->cols);
    float *w = nib_buf_reserve(&s->weight[role], n, sizeof *w);
    if (!w) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_source_read_rows(s->m->src, src, 0, t->rows, w, &s->raw, s->ctx->cpu, err);
    size_t bad = rc ? n : nib_find_nonfinite(w, n, s->ctx->cpu);
    if (!rc && bad < n)
        rc = nib_fail(err, NIB_ENUMERIC, "tensor '%s': row %zu, column %zu is not finite",
                      src->name, bad / (size_t)t->cols, bad % (size_t)t->cols);
    if (!rc) nib_graph_replace(s->runner.graph, role, w);
    return rc;
}

static nib_code solve_weight(solver *s, const nib_plan_tensor *t, nib_err *err)
{
    const size_t n = (size_t)(t->rows * t->cols);
    float *w = s->weight[t->place.role].p;
    uint8_t *code = nib_buf_reserve(&s->code, n, 1);
    nib_block_param *param = nib_buf_reserve(&s->param, n / t->codec->block, sizeof *param);
    nib_solve_line *line = &s->report->line[s->report->n];
    nib_gptq_report r;
    double started = nib_now();
    if (!code || !param) return nib_fail_nomem(err, "codes");
    nib_code rc = nib_gptq_solve(s->gptq, t->codec, w, (size_t)t->rows, code, param, &r, err);
    if (!rc) rc = nib_keep_write(&s->keep, t, code, param, nib_gptq_outer(s->gptq), w, err);
    if (rc) return rc;
    *line = (nib_solve_line){
        t->name, t->codec, r.rtn, r.solved, nib_gptq_damp(s->gptq), nib_now() - started};
    s->report->n++;
    nib_debug(s->ctx->log,
              "%-28s %-7s output error %.3e, rounded %.3e (%.0f %%), damping %.3g, %.2f s", t->name,
              t->codec->name, r.solved, r.rtn, r.rtn > 0 ? 100 * r.solved / r.rtn : 100, line->damp,
              line->seconds);
    return NIB_OK;
}

/* The bytes are made when the output is written; here only what later blocks see of them. */
static nib_code round_weight(solver *s, const nib_plan_tensor *t, nib_err *err)
{
    return nib_keep_round(&s->keep, t, s->weight[t->place.role].p, err);
}

/* Every weight that reads this input. */
static nib_code solve_input(solver *s, uint32_t layer, const nib_moments_input *in, nib_err *err)
{
    nib_code rc = NIB_OK;
    bool prepared = false;
    for (size_t i = 0; i < in->n_roles && !rc; i++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, in->role[i]);
        if (!t) continue;
        if (t->solve && !prepared) rc = nib_gptq_prepare(s->gptq, in->h.p, in->cols, err);
        prepared |= t->solve;
        if (!rc) rc = t->solve ? solve_weight(s, t, err) : round_weight(s, t, err);
        if (rc) rc = nib_wrap(err, "solving '%s'", t->name);
    }
    return rc;
}

/* ---- one block ---- */

static nib_code load_block(solver *s, uint32_t layer, nib_err *err)
{
    for (int role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT; role++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, (nib_role)role);
        nib_graph_replace(s->runner.graph, (nib_role)role, NULL);
        nib_code rc = t ? load_weight(s, t, (nib_role)role, err) : NIB_OK;
        if (rc) return rc;
    }
    return NIB_OK;
}

/* The weights of a block that an earlier run solved. */
static nib_code load_solved(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = load_block(s, layer, err);
    for (int role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT && !rc; role++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, (nib_role)role);
        if (!t) continue;
        rc =
            t->solve ? nib_keep_read(&s->keep, t, s->weight[role].p, err) : round_weight(s, t, err);
    }
    return rc;
}

static nib_code gather(solver *s, uint32_t layer, int only, bool keep, nib_err *err)
{
    const nib_observer obs = nib_moments_observer(&s->moments);
    nib_moments_start(&s->moments, only);
    return nib_stream_block(&s->x, &s->runner, layer, 0, s->n_calib, keep, &obs, err);
}

static nib_code solve_block(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = load_block(s, layer, err);
    if (rc) return rc;
    if (!s->opts->true_sequential) {
        if ((rc = gather(s, layer, -1, !s->opts->propagate, err))) return rc;
        for (size_t i = 0; i < s->moments.n && !rc; i++)
            rc = solve_input(s, layer, &s->moments.input[i], err);
    } else {
        size_t i = 0;
        do {
            if ((rc = gather(s, layer, (int)i, false, err))) return rc;
            rc = solve_input(s, layer, &s->moments.input[i], err);
        } while (!rc && ++i < s->moments.n);
    }
    return rc ? rc : nib_side_mark(s->side, layer + 1, err);
}

static nib_code run_block(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (int role = 0; role < NIB_ROLE_COUNT; role++)
        nib_graph_replace(s->runner.graph, (nib_role)role, NULL);
    rc = nib_stream_block(&s->original, &s->runner, layer, 0, s->original.n, true, NULL, err);
    if (rc) return rc;
    rc = layer < s->side->done ? load_solved(s, layer, err) : solve_block(s, layer, err);
    if (rc) return rc;
    /* Without propagation the calibration windows have moved on already, through the original
     * block. */
    size_t first = s->opts->propagate ? 0 : s->n_calib;
    return nib_stream_block(&s->x, &s->runner, layer, first, s->w->n, true, NULL, err);
}

/* ---- the whole ---- */

static nib_code set_up(solver *s, nib_err *err)
{
    const size_t n = s->w->n, held = s->opts->held_out < n / 8 ? s->opts->held_out : n / 8;
    const char *beside = s->p->recipe.out;
    s->n_calib = n - held;
    s->report->line = nib_calloc(s->p->n, sizeof *s->report->line);
    if (!s->report->line) return nib_fail_nomem(err, "a report");
    nib_code rc = nib_runner_new(&s->runner, s->m, s->w, s->ctx, err);
    if (!rc) rc = nib_stream_open(&s->x, &s->runner, 0, n, s->opts->memory, beside, err);
    if (!rc)
        rc = nib_stream_open(&s->original, &s->runner, s->n_calib, held,
                             s->opts->memory - s->x.rows.ram_bytes, beside, err);
    return rc ? rc : nib_gptq_new(&s->gptq, &s->opts->gptq, s->ctx, err);
}

static void tear_down(solver *s)
{
    nib_stream_close(&s->x);
    nib_stream_close(&s->original);
    nib_runner_free(&s->runner);
    nib_gptq_free(s->gptq);
    nib_moments_free(&s->moments);
    nib_keep_free(&s->keep);
    for (int i = 0; i < NIB_ROLE_COUNT; i++) nib_buf_free(&s->weight[i]);
    nib_buf_free(&s->code);
    nib_buf_free(&s->param);
    nib_buf_free(&s->raw);
}

static nib_code solve_all(solver *s, nib_err *err)
{
    nib_code rc = set_up(s, err);
    const double passes = s->opts->true_sequential ? 5 : s->opts->propagate ? 2 : 1;
    nib_progress *progress = &s->runner.progress;
    nib_progress_begin(progress, s->ctx->log, "solving", "windows",
                       s->m->hp.n_layer * passes * (double)s->w->n);
    for (uint32_t layer = 0; layer < s->m->hp.n_layer && !rc; layer++) {
        nib_progress_note(progress, "block %u of %u", layer + 1, s->m->hp.n_layer);
        rc = run_block(s, layer, err);
    }
    nib_progress_end(progress);
    if (rc || !s->original.n) return rc;
    const size_t n_ctx = s->w->n_ctx;
    return nib_kl_rows(&s->report->kl, s->runner.graph, &s->original.rows, &s->x.rows,
                       s->n_calib * n_ctx, s->original.n * n_ctx, s->ctx, err);
}

nib_code nib_solve_run(nib_solve_report *r, nib_side *side, const nib_plan *p, const nib_windows *w,
                       const nib_solve_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    double started = nib_now();
    *r = (nib_solve_report){0};
    solver s = {.p = p,
                .m = p->model,
                .w = w,
                .opts = opts,
                .ctx = ctx,
                .side = side,
                .report = r,
                .moments = {.ctx = ctx},
                .keep = {.p = p, .side = side, .ctx = ctx}};
    nib_code rc = solve_all(&s, err);
    r->windows = s.n_calib;
    r->held_out = w->n - s.n_calib;
    r->n_ctx = w->n_ctx;
    r->seconds = nib_now() - started;
    tear_down(&s);
    if (rc) nib_solve_report_free(r);
    return rc;
}
