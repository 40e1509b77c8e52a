/* SPDX-License-Identifier: MIT */
/* run/solve.c - see solve.h. */
#include "run/solve.h"

#include "base/par.h"
#include "calib/fingerprint.h"
#include "calib/observe.h"
#include "infer/graph.h"
#include "run/rows.h"

#include <math.h>
#include <string.h>

enum {
    BATCH_ROWS = 4096, /* tokens that run through a block at a time       */
    GROUPS_MAX = 8,    /* distinct inputs of the linear layers of a block */
    PACK_ROWS = 32,
};

/* The second moments of one input, and the roles that read it. */
typedef struct {
    nib_role role[NIB_ROLE_COUNT];
    size_t n_roles, cols;
    nib_buf h;
} group;

typedef struct {
    const nib_plan *p;
    const nib_model *m;
    const nib_windows *w;
    const nib_solve_opts *opts;
    const nib_ctx *ctx;
    nib_side *side;
    nib_solve_report *report;
    nib_graph *graph;
    nib_gptq *gptq;
    size_t n_calib, batch; /* windows: to calibrate on (the first ones), at a time */
    nib_rows x;            /* inputs of the block: all windows                     */
    nib_rows original;     /* the held-out windows in the original model           */
    float *now;            /* [batch rows][n_embd]                                 */
    group group[GROUPS_MAX];
    size_t n_groups;
    int only; /* gather the moments of this group alone; -1: of all */
    nib_buf weight[NIB_ROLE_COUNT];
    nib_buf code, param, packed, raw;
    nib_progress progress;
    double done; /* units of progress: windows through a block */
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

nib_code nib_solve_fingerprint(uint64_t *out, const nib_plan *p, const nib_windows *w,
                               const nib_solve_opts *opts, nib_err *err)
{
    const nib_gptq_opts *q = &opts->gptq;
    const nib_gptq_format *f = &p->recipe.gptq;
    const double numbers[] = {
        q->damp,          (double)q->order, (double)q->when,         (double)q->lazy,
        q->sweeps,        opts->propagate,  opts->true_sequential,   (double)opts->held_out,
        (double)w->n_ctx, (double)f->bits,  (double)f->group,        f->v2,
        f->sym,           f->desc_act,      (double)p->recipe.format};
    nib_code rc = nib_model_fingerprint(out, p->model, err);
    if (rc) return rc;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!t->solve) continue;
        *out = nib_hash(*out, t->name, strlen(t->name) + 1);
        *out = nib_hash(*out, t->codec->name, strlen(t->codec->name) + 1);
    }
    *out = nib_hash(*out, numbers, sizeof numbers);
    *out = nib_hash(*out, w->id, w->n * w->n_ctx * sizeof *w->id);
    return NIB_OK;
}

/* The plan's tensor of a weight; NULL when it is not to be solved. */
static const nib_plan_tensor *find_tensor(const nib_plan *p, uint32_t layer, nib_role role)
{
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->solve && t->place.layer == layer && t->place.role == role) return t;
    }
    return NULL;
}

/* ---- moments ---- */

static nib_code new_group(solver *s, const nib_role *roles, size_t n_roles, size_t cols,
                          group **out, nib_err *err)
{
    if (s->n_groups == GROUPS_MAX)
        return nib_fail(err, NIB_EINVAL, "more than %d inputs of linear layers in a block",
                        GROUPS_MAX);
    group *g = &s->group[s->n_groups];
    float *h = nib_buf_reserve(&g->h, cols, cols * sizeof *h);
    if (!h) return nib_fail_nomem(err, "second moments");
    memset(h, 0, cols * cols * sizeof *h);
    memcpy(g->role, roles, n_roles * sizeof *roles);
    g->n_roles = n_roles;
    g->cols = cols;
    s->n_groups++;
    *out = g;
    return NIB_OK;
}

static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    solver *s = arg;
    (void)layer;
    size_t i = 0;
    while (i < s->n_groups && s->group[i].role[0] != roles[0]) i++;
    group *g = &s->group[i];
    if (i == s->n_groups) {
        nib_code rc = new_group(s, roles, n_roles, cols, &g, err);
        if (rc) return rc;
    }
    if (s->only >= 0 && (size_t)s->only != i) return NIB_OK;
    return nib_observe_moments(g->h.p, x, rows, cols, s->ctx, err);
}

/* ---- running windows through the block ---- */

/* Windows [first, first + n) of `rows`, in place when `keep`. */
static nib_code run_windows(solver *s, nib_rows *rows, uint32_t layer, size_t first, size_t n,
                            bool keep, const nib_observer *obs, nib_err *err)
{
    const size_t n_ctx = s->w->n_ctx;
    for (size_t i = first; i < first + n; i += s->batch) {
        size_t k = first + n - i < s->batch ? first + n - i : s->batch;
        nib_code rc = nib_rows_get(rows, i * n_ctx, k * n_ctx, s->now, err);
        if (!rc) rc = nib_graph_block(s->graph, layer, s->now, k, n_ctx, 0, obs, err);
        if (!rc && keep) rc = nib_rows_put(rows, i * n_ctx, k * n_ctx, s->now, err);
        if (rc) return rc;
        s->done += (double)k;
        nib_progress_at(&s->progress, s->done);
    }
    return NIB_OK;
}

static nib_code gather(solver *s, uint32_t layer, int only, bool keep, nib_err *err)
{
    const nib_observer obs = {on_input, s};
    if (only <= 0) s->n_groups = 0; /* found again, and zeroed, as they are met */
    s->only = only;
    return run_windows(s, &s->x, layer, 0, s->n_calib, keep, &obs, err);
}

/* ---- solving one weight ---- */

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
    if (!rc) nib_graph_replace(s->graph, role, w);
    return rc;
}

typedef struct {
    const nib_plan_tensor *t;
    const uint8_t *code;
    const nib_block_param *param;
    uint8_t *packed;
    float *w;
    unsigned cpu;
} packing;

/* Rows of the file, packed; and decoded again into the row of the weight that they come from. */
static nib_code pack_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const packing *k = arg;
    const nib_codec *c = k->t->codec;
    const size_t cols = (size_t)k->t->cols, blocks = cols / c->block;
    for (size_t r = begin; r < end; r++) {
        size_t from = k->t->rope_head ? (size_t)nib_rope_source_row(r, k->t->rope_head) : r;
        uint8_t *dst = k->packed + r * blocks * c->bytes;
        for (size_t b = 0; b < blocks; b++)
            c->pack(dst + b * c->bytes, &k->param[from * blocks + b],
                    k->code + from * cols + b * c->block);
        c->decode(k->w + from * cols, dst, blocks, k->cpu);
    }
    return NIB_OK;
}

/* The same for a folder's tensors. */
static nib_code keep_packed(solver *s, const nib_plan_tensor *t, float *w, nib_err *err)
{
    nib_gptq_linear l;
    const uint32_t *outer = nib_gptq_outer(s->gptq);
    nib_code rc = nib_gptq_linear_make(&l, &s->p->recipe.gptq, t->rows, t->cols, err);
    if (rc) return rc;
    uint8_t *packed = nib_buf_reserve(&s->packed, (size_t)l.bytes, 1);
    if (!packed) return nib_fail_nomem(err, "packed weights");
    if (outer && !l.format.desc_act)
        return nib_fail(err, NIB_EINVAL, "groups in order of activation need desc_act");
    rc = nib_gptq_pack(packed, &l, s->code.p, s->param.p, outer, err);
    if (!rc) rc = nib_gptq_unpack(w, &l, packed, &s->raw, err);
    return rc ? rc : nib_side_write(s->side, t->solved_at, packed, (size_t)l.bytes, err);
}

static nib_code keep_solved(solver *s, const nib_plan_tensor *t, float *w, nib_err *err)
{
    if (s->p->recipe.format == NIB_FORMAT_GPTQ) return keep_packed(s, t, w, err);
    packing k = {t, s->code.p,  s->param.p, nib_buf_reserve(&s->packed, (size_t)t->bytes, 1),
                 w, s->ctx->cpu};
    if (!k.packed) return nib_fail_nomem(err, "packed weights");
    nib_code rc = nib_par_for(s->ctx->threads, (size_t)t->rows, PACK_ROWS, pack_rows, &k, err);
    if (!rc && !t->codec->valid(k.packed, (size_t)(t->rows * t->cols / t->codec->block)))
        rc = nib_fail(err, NIB_ENUMERIC, "tensor '%s': values too large for %s", t->src->name,
                      t->codec->name);
    return rc ? rc : nib_side_write(s->side, t->solved_at, k.packed, (size_t)t->bytes, err);
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
    if (!rc) rc = keep_solved(s, t, w, err);
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

static nib_code solve_group(solver *s, uint32_t layer, const group *g, nib_err *err)
{
    nib_code rc = NIB_OK;
    bool prepared = false;
    for (size_t i = 0; i < g->n_roles && !rc; i++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, g->role[i]);
        if (!t) continue;
        if (!prepared) rc = nib_gptq_prepare(s->gptq, g->h.p, g->cols, err);
        prepared = true;
        if (!rc) rc = solve_weight(s, t, err);
        if (rc) rc = nib_wrap(err, "solving '%s'", t->name);
    }
    return rc;
}

/* ---- blocks ---- */

static nib_code load_block(solver *s, uint32_t layer, nib_err *err)
{
    for (int role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT; role++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, (nib_role)role);
        nib_graph_replace(s->graph, (nib_role)role, NULL);
        nib_code rc = t ? load_weight(s, t, (nib_role)role, err) : NIB_OK;
        if (rc) return rc;
    }
    return NIB_OK;
}

/* One weight of a folder that an earlier run solved. */
static nib_code load_packed(solver *s, const nib_plan_tensor *t, nib_err *err)
{
    nib_gptq_linear l;
    nib_code rc = nib_gptq_linear_make(&l, &s->p->recipe.gptq, t->rows, t->cols, err);
    if (rc) return rc;
    uint8_t *packed = nib_buf_reserve(&s->packed, (size_t)l.bytes, 1);
    if (!packed) return nib_fail_nomem(err, "packed weights");
    rc = nib_side_read(s->side, t->solved_at, packed, (size_t)l.bytes, err);
    return rc ? rc : nib_gptq_unpack(s->weight[t->place.role].p, &l, packed, &s->raw, err);
}

/* The weights of a block that an earlier run solved. */
static nib_code load_solved(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = load_block(s, layer, err);
    for (int role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT && !rc; role++) {
        const nib_plan_tensor *t = find_tensor(s->p, layer, (nib_role)role);
        if (!t) continue;
        if (s->p->recipe.format == NIB_FORMAT_GPTQ) {
            rc = load_packed(s, t, err);
            continue;
        }
        const size_t row = (size_t)(t->bytes / t->rows), blocks = (size_t)t->cols / t->codec->block;
        uint8_t *packed = nib_buf_reserve(&s->packed, (size_t)t->bytes, 1);
        if (!packed) return nib_fail_nomem(err, "packed weights");
        rc = nib_side_read(s->side, t->solved_at, packed, (size_t)t->bytes, err);
        for (size_t r = 0; r < t->rows && !rc; r++) {
            size_t to = t->rope_head ? (size_t)nib_rope_source_row(r, t->rope_head) : r;
            t->codec->decode((float *)s->weight[role].p + to * t->cols, packed + r * row, blocks,
                             s->ctx->cpu);
        }
    }
    return rc;
}

static nib_code solve_block(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = load_block(s, layer, err);
    if (rc) return rc;
    if (!s->opts->true_sequential) {
        if ((rc = gather(s, layer, -1, !s->opts->propagate, err))) return rc;
        for (size_t i = 0; i < s->n_groups && !rc; i++)
            rc = solve_group(s, layer, &s->group[i], err);
    } else {
        size_t i = 0;
        do {
            if ((rc = gather(s, layer, (int)i, false, err))) return rc;
            rc = solve_group(s, layer, &s->group[i], err);
        } while (!rc && ++i < s->n_groups);
    }
    if (!rc) rc = nib_side_mark(s->side, layer + 1, err);
    return rc;
}

static nib_code run_block(solver *s, uint32_t layer, nib_err *err)
{
    const size_t held = s->w->n - s->n_calib;
    nib_code rc = NIB_OK;
    for (int role = 0; role < NIB_ROLE_COUNT; role++)
        nib_graph_replace(s->graph, (nib_role)role, NULL);
    if (held) rc = run_windows(s, &s->original, layer, 0, held, true, NULL, err);
    if (!rc && layer < s->side->done)
        rc = load_solved(s, layer, err);
    else if (!rc)
        rc = solve_block(s, layer, err);
    if (rc) return rc;
    /* Without propagation the calibration windows have moved on already, through the original
     * block. */
    size_t first = s->opts->propagate ? 0 : s->n_calib;
    return run_windows(s, &s->x, layer, first, s->w->n - first, true, NULL, err);
}

/* ---- the whole ---- */

static nib_code embed_windows(solver *s, nib_err *err)
{
    const size_t n_ctx = s->w->n_ctx;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < s->w->n && !rc; i++) {
        rc = nib_graph_embed(s->graph, s->w->id + i * n_ctx, n_ctx, s->now, err);
        if (!rc) rc = nib_rows_put(&s->x, i * n_ctx, n_ctx, s->now, err);
        if (!rc && i >= s->n_calib)
            rc = nib_rows_put(&s->original, (i - s->n_calib) * n_ctx, n_ctx, s->now, err);
    }
    return rc;
}

static nib_code set_up(solver *s, nib_err *err)
{
    const nib_windows *w = s->w;
    const size_t n_embd = s->m->hp.n_embd,
                 held = s->opts->held_out < w->n / 8 ? s->opts->held_out : w->n / 8;
    nib_code rc;
    s->n_calib = w->n - held;
    s->batch = BATCH_ROWS / w->n_ctx ? BATCH_ROWS / w->n_ctx : 1;
    s->report->line = nib_calloc(s->p->n, sizeof *s->report->line);
    s->now = nib_alloc(s->batch * w->n_ctx, n_embd * sizeof *s->now);
    if (!s->report->line || !s->now) return nib_fail_nomem(err, "activations");
    if ((rc = nib_rows_new(&s->x, w->n * w->n_ctx, n_embd, s->opts->memory, s->p->recipe.out, err)))
        return rc;
    if ((rc = nib_rows_new(&s->original, held * w->n_ctx, n_embd, s->opts->memory, s->p->recipe.out,
                           err)))
        return rc;
    if ((rc = nib_graph_new(&s->graph, s->m, s->ctx, s->batch, w->n_ctx, false, err))) return rc;
    if ((rc = nib_gptq_new(&s->gptq, &s->opts->gptq, s->ctx, err))) return rc;
    return embed_windows(s, err);
}

static void tear_down(solver *s)
{
    nib_graph_free(s->graph);
    nib_gptq_free(s->gptq);
    nib_rows_free(&s->x);
    nib_rows_free(&s->original);
    for (int i = 0; i < GROUPS_MAX; i++) nib_buf_free(&s->group[i].h);
    for (int i = 0; i < NIB_ROLE_COUNT; i++) nib_buf_free(&s->weight[i]);
    nib_buf_free(&s->code);
    nib_buf_free(&s->param);
    nib_buf_free(&s->packed);
    nib_buf_free(&s->raw);
    nib_free(s->now);
}

static nib_code solve_all(solver *s, nib_err *err)
{
    nib_code rc = set_up(s, err);
    const double passes = s->opts->true_sequential ? 5 : s->opts->propagate ? 2 : 1;
    nib_progress_begin(&s->progress, s->ctx->log, "solving", "windows",
                       s->m->hp.n_layer * passes * (double)s->w->n);
    for (uint32_t layer = 0; layer < s->m->hp.n_layer && !rc; layer++) {
        nib_progress_note(&s->progress, "block %u of %u", layer + 1, s->m->hp.n_layer);
        rc = run_block(s, layer, err);
    }
    nib_progress_end(&s->progress);
    if (rc || s->n_calib == s->w->n) return rc;
    const size_t n_ctx = s->w->n_ctx;
    return nib_kl_rows(&s->report->kl, s->graph, &s->original, &s->x, s->n_calib * n_ctx,
                       (s->w->n - s->n_calib) * n_ctx, s->ctx, err);
}

nib_code nib_solve_run(nib_solve_report *r, nib_side *side, const nib_plan *p, const nib_windows *w,
                       const nib_solve_opts *opts, const nib_ctx *ctx, nib_err *err)
{
    double started = nib_now();
    *r = (nib_solve_report){0};
    solver s = {.p = p, .m = p->model, .w = w, .opts = opts, .ctx = ctx, .side = side, .report = r};
    s.x.fd = s.original.fd = -1;
    nib_code rc = solve_all(&s, err);
    r->windows = s.n_calib;
    r->held_out = w->n - s.n_calib;
    r->n_ctx = w->n_ctx;
    r->seconds = nib_now() - started;
    tear_down(&s);
    if (rc) nib_solve_report_free(r);
    return rc;
}
