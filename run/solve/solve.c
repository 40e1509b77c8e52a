/* SPDX-License-Identifier: MIT */
/* run/solve/solve.c - see solve.h. */
#include "run/solve/solve.h"

#include "calib/expert_inputs.h"
#include "calib/input_ranges.h"
#include "quant/awq.h"
#include "quant/retarget.h"
#include "quant/round.h"
#include "run/solve/layer_weights.h"
#include "calib/accumulate.h"
#include "calib/block_pass.h"

#include <string.h>

typedef struct {
    const nib_plan *p;
    const nib_model *m;
    const nib_windows *w;
    const nib_solve_opts *opts;
    const nib_ctx *ctx;
    nib_solved_file *side;
    nib_solve_report *report;
    nib_gptq *gptq;
    size_t n_calib; /* windows to calibrate on: the first ones */
    nib_runner runner;
    nib_block_pass x;        /* inputs of the block: all windows         */
    nib_block_pass original; /* the held-out windows in the original model */
    nib_block_pass
        calib_original; /* with drift: the windows to calibrate on, in the original model */
    nib_hessians moments;
    nib_expert_inputs experts; /* of models with experts */
    nib_hessian expert_in[2];  /* of one expert: what gate and up read, what down reads */
    nib_buf expert_x;
    nib_commit keep;
    nib_layer_weights block;
    nib_input_ranges activations;   /* of the block, where the layout wants ranges */
    nib_rescaler *rescaler;         /* NULL: blocks are not rescaled                       */
    nib_block_pass plain, rescaled; /* with it, one window: in the original model, in the rescaled
                                   one before rounding                                 */
    nib_buf code, param, importance;
} solver;

/* ---- one weight ---- */

static bool has_ranges(const nib_plan_tensor *t)
{
    return t->layout.format.act == NIB_ACT_TENSOR;
}

/* Of the input of t, as the layout has it. */
static nib_code find_range(nib_act_range *out, const solver *s, const nib_plan_tensor *t,
                           nib_err *err)
{
    nib_range r;
    *out = t->range;
    if (!nib_plan_measures_ranges(s->p)) return NIB_OK;
    nib_code rc = nib_input_ranges_find(&r, &s->activations, t->place.layer, t->place.role,
                                        s->opts->range, s->opts->percentile, err);
    if (!rc) *out = nib_act_range_on(&r, t->layout.format.act_sym);
    return rc;
}

/* To the side file; the weight becomes what readers will see. */
static nib_code keep_weight(solver *s, nib_layer_weight *b, const uint32_t *outer, nib_err *err)
{
    nib_packing_values v = {.code = s->code.p, .param = s->param.p, .outer = outer};
    nib_code rc = has_ranges(b->tensor) ? find_range(&v.act, s, b->tensor, err) : NIB_OK;
    if (!rc) rc = nib_commit_write(&s->keep, b->tensor, &v, b->v, err);
    if (!rc) b->act = nib_commit_act(&s->keep, b->tensor);
    return rc;
}

/* As the plan has it, which outlives the run. */
static const char *planned_name(const solver *s, const nib_plan_tensor *t)
{
    nib_place at = t->place;
    const nib_plan_tensor *found = nib_plan_find(s->p, at);
    if (!found) {
        at.expert = NIB_EXPERTS_ALL;
        found = nib_plan_find(s->p, at);
    }
    return found ? found->name : "";
}

static nib_code solve_weight(solver *s, nib_layer_weight *b, nib_err *err)
{
    const nib_plan_tensor *t = b->tensor;
    const size_t n = (size_t)(t->rows * t->cols);
    uint8_t *code = nib_buf_reserve(&s->code, n, 1);
    nib_block_param *param = nib_buf_reserve(&s->param, n / t->codec->block, sizeof *param);
    nib_solve_line *line = &s->report->line[s->report->n];
    nib_gptq_report r;
    double started = nib_now();
    if (!code || !param) return nib_fail_nomem(err, "codes");
    nib_code rc = nib_gptq_solve(s->gptq, t->codec, b->v, (size_t)t->rows, code, param, &r, err);
    if (!rc) rc = keep_weight(s, b, nib_gptq_outer(s->gptq), err);
    if (rc) return rc;
    *line = (nib_solve_line){.name = planned_name(s, t),
                             .of_expert = nib_role_is_expert(t->place.role),
                             .expert = t->place.expert,
                             .codec = t->codec,
                             .rtn = r.rtn,
                             .solved = r.solved,
                             .damp = nib_gptq_damp(s->gptq),
                             .seconds = nib_now() - started};
    s->report->n++;
    nib_debug(s->ctx->log,
              "%-28s %-7s output error %.3e, rounded %.3e (%.0f %%), damping %.3g, %.2f s", t->name,
              t->codec->name, r.solved, r.rtn, r.rtn > 0 ? 100 * r.solved / r.rtn : 100, line->damp,
              line->seconds);
    return NIB_OK;
}

/* Rounded to nearest: by the writer, when the time comes, or here, where the writer would find
 * other weights in the source. */
static nib_code round_weight(solver *s, nib_layer_weight *b, const nib_hessian *in, nib_err *err)
{
    const nib_plan_tensor *t = b->tensor;
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    const float *h = in->h.p;
    if (t->action != NIB_ACTION_STAGE) return nib_commit_round(&s->keep, t, b->v, err);
    uint8_t *code = nib_buf_reserve(&s->code, rows, cols);
    nib_block_param *param =
        nib_buf_reserve(&s->param, rows * cols / t->codec->block, sizeof *param);
    float *imp = nib_buf_reserve(&s->importance, cols, sizeof *imp);
    if (!code || !param || !imp) return nib_fail_nomem(err, "codes");
    for (size_t i = 0; i < cols; i++) imp[i] = h[i * cols + i];
    nib_code rc = nib_round_rows(t->codec, b->v, imp, rows, cols, b->v, code, param, s->ctx, err);
    return rc ? rc : keep_weight(s, b, NULL, err);
}

/* AWQ's clipping, for groups with one scale. Not for queries and keys: their product counts.
 */
static bool clips(const solver *s, const nib_layer_weight *b)
{
    const nib_codec *c = b->tensor->codec;
    return s->p->recipe.transform == NIB_TRANSFORM_AWQ && s->p->recipe.format == NIB_FORMAT_DIR &&
           !c->per_tensor && c->block <= NIB_BLOCK_MAX &&
           !nib_steps_output(nib_model_steps(s->m, b->tensor->place.layer), b->tensor->place.role)
                .scores;
}

static nib_code clip_weight(solver *s, nib_layer_weight *b, const nib_hessian *in, nib_err *err)
{
    const nib_codec *c = b->tensor->codec;
    const size_t rows = (size_t)b->tensor->rows;
    float *limit = nib_buf_reserve(&s->param, rows * in->cols / c->block, sizeof *limit);
    if (!limit) return nib_fail_nomem(err, "limits of weights");
    nib_code rc = nib_awq_clip(limit, b->v, rows, in->cols, c, in->h.p, s->ctx, err);
    if (!rc) nib_awq_clamp(b->v, limit, rows, in->cols, c->block);
    return rc;
}

/* Columns that the weights of this input want to be rounded together. */
static size_t together(const solver *s, const nib_hessian *in)
{
    size_t most = 1;
    for (size_t i = 0; i < in->n_roles; i++) {
        const nib_layer_weight *b = &s->block.weight[in->role[i]];
        if (b->tensor && b->tensor->method == NIB_METHOD_GPTQ && b->tensor->codec->vec > most)
            most = b->tensor->codec->vec;
    }
    return most;
}

/* Every weight that reads this input. */
static nib_code solve_input(solver *s, const nib_hessian *in, nib_err *err)
{
    nib_code rc = NIB_OK;
    bool prepared = false;
    for (size_t i = 0; i < in->n_roles && !rc; i++) {
        nib_layer_weight *b = &s->block.weight[in->role[i]];
        if (!b->tensor) continue;
        if (b->tensor->method == NIB_METHOD_RTN) {
            if (clips(s, b)) rc = clip_weight(s, b, in, err);
            if (!rc) rc = round_weight(s, b, in, err);
        } else {
            if (!prepared)
                rc = nib_gptq_prepare(s->gptq, in->h.p, in->cols, in->rows, together(s, in), err);
            prepared = true;
            if (!rc && s->moments.drift)
                rc = nib_retarget(b->v, (size_t)b->tensor->rows, in->d.p, s->opts->drift, s->gptq,
                                  s->ctx, err);
            if (!rc) rc = solve_weight(s, b, err);
        }
        if (rc) rc = nib_wrap(err, "solving '%s'", b->tensor->name);
    }
    return rc;
}

/* ---- one block ---- */

/* With the source's weights, which have been neither solved nor rescaled. */
static nib_code gather_original(solver *s, uint32_t layer, size_t from, size_t end, bool keep,
                                nib_err *err)
{
    const nib_observer obs = nib_hessians_original_observer(&s->moments);
    nib_layer_weights_use(&s->block, false);
    nib_code rc =
        nib_block_pass_run(&s->calib_original, &s->runner, layer, from, end, keep, &obs, err);
    nib_layer_weights_use(&s->block, true);
    return rc;
}

/* Batch by batch through the block: with drift the original model's activations, which move on if
 * nothing is gathered from this block again (`last`), then those of the quantized blocks, which
 * move on if they are to (`keep`); `ranges` of these too. */
static nib_code gather(solver *s, uint32_t layer, bool last, bool keep, bool ranges, nib_err *err)
{
    nib_observers all = {.n = 0};
    if (s->experts.of) nib_observers_add(&all, nib_expert_inputs_observer(&s->experts));
    nib_observers_add(&all, nib_hessians_observer(&s->moments));
    if (ranges) nib_observers_add(&all, nib_input_ranges_observer(&s->activations));
    const nib_observer obs = nib_observers_watch(&all);
    nib_code rc = NIB_OK;
    nib_expert_inputs_start(&s->experts);
    if (ranges) nib_input_ranges_free(&s->activations);
    for (size_t i = 0; i < s->n_calib && !rc; i += s->runner.batch) {
        const size_t end = s->n_calib - i < s->runner.batch ? s->n_calib : i + s->runner.batch;
        if (s->moments.drift) rc = gather_original(s, layer, i, end, last, err);
        if (!rc) rc = nib_block_pass_run(&s->x, &s->runner, layer, i, end, keep, &obs, err);
    }
    return rc;
}

static nib_code read_moments(solver *s, uint32_t layer, nib_err *err)
{
    nib_hessian_store_block b;
    nib_code rc = nib_hessian_store_block_open(&b, s->opts->stats, layer, err);
    nib_hessians_start(&s->moments);
    for (size_t i = 0; i < b.n && !rc; i++) {
        nib_hessian *in = NULL;
        rc = nib_hessians_add(&s->moments, b.input[i].role, b.input[i].n_roles, b.input[i].cols,
                              &in, err);
        if (!rc) rc = nib_hessian_store_block_read(&b, i, in->h.p, err);
        if (!rc) in->rows = (size_t)s->opts->stats->head.windows * s->opts->stats->head.n_ctx;
    }
    nib_hessian_store_block_close(&b);
    return rc;
}

/* Rescaled, the block computes the same; the moments are those of its new inputs. */
static nib_code rescale_block(solver *s, nib_err *err)
{
    nib_solve_report *r = s->report;
    size_t n = 0;
    nib_code rc = nib_rescale_block(s->rescaler, &s->block, &s->moments, &s->keep,
                                    r->rescaled + r->n_rescaled, &n, err);
    for (size_t i = r->n_rescaled; i < r->n_rescaled + n && !rc; i++)
        nib_debug(s->ctx->log, "input of %-28s rescaled by %5.2f, output error %.3e, before %.3e",
                  r->rescaled[i].name, r->rescaled[i].chosen, r->rescaled[i].scaled,
                  r->rescaled[i].unscaled);
    r->n_rescaled += n;
    return rc ? rc
              : nib_block_pass_run(&s->rescaled, &s->runner, s->block.layer, 0, s->rescaled.n, true,
                                   NULL, err);
}

/* Ranges of the loaded block's inputs. */
static nib_code observe_ranges(solver *s, uint32_t layer, bool keep, nib_err *err)
{
    const nib_observer obs = nib_input_ranges_observer(&s->activations);
    nib_input_ranges_free(&s->activations);
    return nib_block_pass_run(&s->x, &s->runner, layer, 0, s->n_calib, keep, &obs, err);
}

/* Moments of the loaded block's inputs, and their ranges; where the block is rescaled, by these
 * moments, ranges are those of the new inputs. Without propagation the windows move on in the last
 * pass: the block still computes the same. */
static nib_code study_block(solver *s, uint32_t layer, nib_err *err)
{
    const bool ranges = nib_plan_measures_ranges(s->p), move = !s->opts->propagate,
               again = ranges && s->rescaler; /* inputs change */
    nib_code rc = NIB_OK;
    if (s->opts->stats) return read_moments(s, layer, err);
    if (s->rescaler) rc = nib_rescale_begin(s->rescaler, &s->block, &s->x, s->n_calib, err);
    nib_hessians_start(&s->moments);
    if (!rc)
        rc = gather(s, layer, !s->opts->true_sequential, move && !again, ranges && !again, err);
    if (!rc && s->rescaler) rc = rescale_block(s, err);
    return rc || !again ? rc : observe_ranges(s, layer, move, err);
}

/* ---- experts ---- */

static bool has_experts(const solver *s, uint32_t layer)
{
    return !nib_layer_is_dense(&s->m->hp, layer);
}

/* The input of an expert's down projection, as its gate and up are now. */
static nib_code on_down(void *arg, const nib_linear_input *in, nib_err *err)
{
    solver *s = arg;
    if (in->role[0] != NIB_ROLE_FFN_DOWN_EXPS) return NIB_OK;
    return nib_accumulate_hessian(s->expert_in[1].h.p, in->x, in->rows, in->cols, s->ctx, err);
}

static nib_code own_expert(void *arg, nib_place at, const float **w, const nib_act_quant **act,
                           nib_err *err)
{
    solver *s = arg;
    (void)act, (void)err;
    if (s->block.weight[at.role].tensor) *w = s->block.weight[at.role].v;
    return NIB_OK;
}

/* Second moments of an expert's tokens, of what gate and up read (i = 0) or down reads (1). */
static nib_code sum_expert(solver *s, uint32_t layer, uint32_t e, size_t i, nib_err *err)
{
    enum { ROWS = 4096 };
    static const nib_role down = NIB_ROLE_FFN_DOWN_EXPS,
                          gate_up[] = {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS};
    const nib_expert_weights own = {own_expert, s};
    const nib_observer obs = {on_down, s};
    const size_t n = s->experts.of[e].n, embd = s->m->hp.n_embd;
    nib_hessian *in = &s->expert_in[i];
    in->cols = i ? s->m->hp.n_ff_expert : embd;
    in->n_roles = i ? 1 : 2;
    memcpy(in->role, i ? &down : gate_up, in->n_roles * sizeof *in->role);
    in->rows = n;
    float *h = nib_buf_reserve(&in->h, in->cols, in->cols * sizeof *h);
    float *x = nib_buf_reserve(&s->expert_x, n < ROWS ? n : ROWS, embd * sizeof *x);
    if (!h || !x) return nib_fail_nomem(err, "second moments of an expert");
    memset(h, 0, in->cols * in->cols * sizeof *h);
    nib_graph_replace_experts(s->runner.graph, &own);
    nib_code rc = NIB_OK;
    for (size_t at = 0; at < n && !rc; at += ROWS) {
        const size_t now = n - at < ROWS ? n - at : ROWS;
        rc = nib_expert_inputs_get(&s->experts, e, at, now, x, err);
        if (!rc)
            rc = i ? nib_graph_expert(s->runner.graph, layer, e, x, now, &obs, err)
                   : nib_accumulate_hessian(h, x, now, embd, s->ctx, err);
    }
    nib_graph_replace_experts(s->runner.graph, NULL);
    return rc;
}

/* By what an expert saw: fewer tokens than an eighth of its channels say too little of how these go
 * together, so its weights are rounded by importance; none: to nearest. Fewer tokens, more damping:
 * (1 + channels / tokens) times as much. */
static nib_code solve_expert_input(solver *s, nib_hessian *in, nib_err *err)
{
    const size_t cols = in->cols;
    float *h = in->h.p;
    double sum = 0;
    const bool few = in->rows < (cols + 7) / 8;
    for (size_t i = 0; i < cols; i++) sum += h[i * cols + i];
    for (size_t k = 0; k < in->n_roles && few; k++) {
        nib_layer_weight *b = &s->block.weight[in->role[k]];
        if (b->tensor && b->tensor->method != NIB_METHOD_RTN)
            s->block.part[in->role[k] - NIB_ROLE_FIRST_EXPERT].method = NIB_METHOD_RTN;
    }
    const float more = in->rows ? (float)(s->opts->gptq.damp * sum / (double)in->rows)
                                : 0; /* mean x cols / rows */
    for (size_t i = 0; i < cols; i++) h[i * cols + i] += in->rows ? more : 1;
    in->rows = 0; /* the few tokens are seen to */
    return solve_input(s, in, err);
}

static nib_code solve_experts(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t none = 0, few = 0;
    const bool drift = s->moments.drift;
    s->moments.drift = false; /* of experts it is not known */
    for (uint32_t e = 0; e < s->m->hp.n_expert && !rc; e++) {
        const size_t n = s->experts.of[e].n;
        none += !n;
        few += n && n < s->m->hp.n_embd / 8;
        rc = nib_layer_weights_load_expert(&s->block, e, err);
        for (size_t i = 0; i < 2 && !rc; i++) {
            rc = sum_expert(s, layer, e, i, err);
            if (!rc) rc = solve_expert_input(s, &s->expert_in[i], err);
        }
        nib_layer_weights_drop_expert(&s->block);
    }
    s->moments.drift = drift;
    if (none || few)
        nib_info(s->ctx->log,
                 "block %u: %zu of %u experts saw no token and are rounded to nearest, %zu saw few "
                 "and are rounded by importance: more text helps",
                 layer, none, s->m->hp.n_expert, few);
    return rc;
}

/* ---- a block from its beginning to its end ---- */

/* Inputs of the block, some of whose weights are solved: the i-th dense one, or, after them all,
 * those of the experts. */
static nib_code renew(solver *s, uint32_t layer, size_t i, nib_err *err)
{
    const size_t last = s->moments.n - !has_experts(s, layer);
    nib_hessians_renew(&s->moments, i < s->moments.n ? i : i - 1);
    return gather(s, layer, i == last, false, false, err);
}

static nib_code solve_block(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = nib_layer_weights_load(&s->block, layer, err);
    if (!rc) rc = study_block(s, layer, err);
    for (size_t i = 0; i < s->moments.n && !rc; i++) {
        if (i && s->opts->true_sequential) rc = renew(s, layer, i, err);
        if (!rc) rc = solve_input(s, &s->moments.input[i], err);
    }
    if (!rc && has_experts(s, layer)) {
        if (s->opts->true_sequential) rc = renew(s, layer, s->moments.n, err);
        if (!rc) rc = solve_experts(s, layer, err);
    }
    return rc ? rc : nib_solved_file_mark(s->side, layer + 1, err);
}

/* A block that an earlier run has solved. */
static nib_code pass_over(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = nib_block_pass_run(&s->calib_original, &s->runner, layer, 0, s->calib_original.n,
                                     true, NULL, err);
    return rc ? rc : nib_layer_weights_load_kept(&s->block, &s->keep, layer, err);
}

static nib_code run_block(solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (s->opts->stats) return layer < s->side->done ? NIB_OK : solve_block(s, layer, err);
    nib_layer_weights_release(&s->block);
    rc = nib_block_pass_run(&s->original, &s->runner, layer, 0, s->original.n, true, NULL, err);
    if (!rc) rc = nib_block_pass_run(&s->plain, &s->runner, layer, 0, s->plain.n, true, NULL, err);
    if (rc) return rc;
    rc = layer < s->side->done ? pass_over(s, layer, err) : solve_block(s, layer, err);
    if (rc) return rc;
    nib_layer_weights_round_inputs(&s->block);
    if (has_experts(s, layer)) nib_layer_weights_use_experts(&s->block, &s->keep);
    /* Without propagation the calibration windows have moved on already, through the original
     * block. */
    size_t first = s->opts->propagate ? 0 : s->n_calib;
    return nib_block_pass_run(&s->x, &s->runner, layer, first, s->w->n, true, NULL, err);
}

/* ---- the whole ---- */

/* A run that was resumed has no window that went through all rescaled blocks. */
static nib_code set_up_rescaling(solver *s, nib_err *err)
{
    const size_t most = (size_t)s->m->hp.n_layer * NIB_INPUTS_MAX, windows = s->side->done ? 0 : 1;
    s->moments.sizes = true;
    s->report->rescaled = nib_calloc(most, sizeof *s->report->rescaled);
    if (!s->report->rescaled) return nib_fail_nomem(err, "a report");
    nib_code rc = nib_rescaler_new(&s->rescaler, s->p, &s->opts->rescale, &s->runner, s->ctx, err);
    if (s->m->hp.n_expert)
        nib_info(s->ctx->log,
                 "channels of what experts read are not rescaled, those of attention are");
    if (!rc) rc = nib_block_pass_open(&s->plain, &s->runner, 0, windows, UINT64_MAX, NULL, err);
    if (!rc) rc = nib_block_pass_open(&s->rescaled, &s->runner, 0, windows, UINT64_MAX, NULL, err);
    return rc;
}

/* Of what may be kept of activations. */
static uint64_t memory_left(const solver *s)
{
    return s->opts->memory - s->x.rows.ram_bytes - s->original.rows.ram_bytes -
           s->calib_original.rows.ram_bytes;
}

static nib_code set_up_windows(solver *s, nib_err *err)
{
    const size_t n = s->w->n, held = s->opts->held_out < n / 8 ? s->opts->held_out : n / 8;
    const char *beside = s->p->recipe.out;
    s->n_calib = n - held;
    nib_code rc = nib_runner_new(&s->runner, s->m, s->w, s->ctx, err);
    if (!rc) rc = nib_block_pass_open(&s->x, &s->runner, 0, n, s->opts->memory, beside, err);
    if (!rc)
        rc = nib_block_pass_open(&s->original, &s->runner, s->n_calib, held, memory_left(s), beside,
                                 err);
    s->moments.drift = nib_solve_drift(s->p, s->opts) > 0;
    if (!rc && s->moments.drift)
        rc = nib_block_pass_open(&s->calib_original, &s->runner, 0, s->n_calib, memory_left(s),
                                 beside, err);
    if (!rc && s->m->hp.n_expert)
        rc = nib_expert_inputs_new(&s->experts, &s->m->hp, s->n_calib * s->w->n_ctx, memory_left(s),
                                   beside, err);
    s->block.graph = s->runner.graph;
    s->activations.n_ctx = s->w->n_ctx;
    return rc || s->p->recipe.transform == NIB_TRANSFORM_NONE ? rc : set_up_rescaling(s, err);
}

static nib_code set_up(solver *s, nib_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < s->p->n; i++) n += nib_plan_matrices(&s->p->tensor[i]);
    s->report->line = nib_calloc(n, sizeof *s->report->line);
    if (!s->report->line) return nib_fail_nomem(err, "a report");
    nib_code rc = nib_gptq_new(&s->gptq, &s->opts->gptq, s->ctx, err);
    return rc || s->opts->stats ? rc : set_up_windows(s, err);
}

static void tear_down(solver *s)
{
    nib_block_pass_close(&s->x);
    nib_block_pass_close(&s->original);
    nib_block_pass_close(&s->calib_original);
    nib_block_pass_close(&s->plain);
    nib_block_pass_close(&s->rescaled);
    nib_rescaler_free(s->rescaler);
    nib_runner_free(&s->runner);
    nib_gptq_free(s->gptq);
    nib_hessians_free(&s->moments);
    nib_expert_inputs_free(&s->experts);
    for (int i = 0; i < 2; i++) nib_buf_free(&s->expert_in[i].h);
    nib_buf_free(&s->expert_x);
    nib_commit_free(&s->keep);
    nib_layer_weights_free(&s->block);
    nib_input_ranges_free(&s->activations);
    nib_buf_free(&s->code);
    nib_buf_free(&s->param);
    nib_buf_free(&s->importance);
}

/* The rescaled model, before rounding, is the original one. */
static nib_code check_rescaled(solver *s, nib_err *err)
{
    nib_divergence kl;
    nib_code rc = nib_divergence_rows(&kl, s->runner.graph, &s->plain.rows, &s->rescaled.rows, 0,
                                      s->w->n_ctx, s->ctx, err);
    if (rc || kl.logits <= NIB_RESCALE_TOLERANCE) return rc;
    return nib_fail(err, NIB_ENUMERIC,
                    "rescaling changes the model's logits by %.2g of them, at most %g is allowed",
                    kl.logits, NIB_RESCALE_TOLERANCE);
}

/* Windows that run through a block, each as often as it does. */
static double windows_of_block(const solver *s)
{
    nib_inputs inputs;
    nib_steps_inputs(&inputs, nib_model_steps(s->m, 0));
    const size_t rounds = s->opts->true_sequential ? inputs.n : 1,
                 passes = rounds * (1u + s->moments.drift) +
                          (s->rescaler && nib_plan_measures_ranges(s->p)) + s->opts->propagate,
                 held = s->original.n;
    return (double)(passes * s->n_calib + 2 * held + s->plain.n + s->rescaled.n);
}

static nib_code solve_all(solver *s, nib_err *err)
{
    nib_code rc = set_up(s, err);
    const bool stats = s->opts->stats;
    nib_progress *progress = &s->runner.progress;
    nib_progress_begin(progress, s->ctx->log, "solving", stats ? "blocks" : "windows",
                       s->m->hp.n_layer * (stats ? 1 : windows_of_block(s)));
    for (uint32_t layer = 0; layer < s->m->hp.n_layer && !rc; layer++) {
        nib_progress_note(progress, "block %u of %u", layer + 1, s->m->hp.n_layer);
        rc = run_block(s, layer, err);
        if (stats) nib_progress_at(progress, layer + 1);
    }
    nib_progress_end(progress);
    if (!rc && s->rescaled.n) rc = check_rescaled(s, err);
    if (rc || !s->original.n) return rc;
    const size_t n_ctx = s->w->n_ctx;
    return nib_divergence_rows(&s->report->kl, s->runner.graph, &s->original.rows, &s->x.rows,
                               s->n_calib * n_ctx, s->original.n * n_ctx, s->ctx, err);
}

void nib_solve_report_free(nib_solve_report *r)
{
    nib_free(r->line);
    nib_free(r->rescaled);
    *r = (nib_solve_report){0};
}

nib_code nib_solve_run(nib_solve_report *r, nib_solved_file *side, const nib_plan *p,
                       const nib_windows *w, const nib_solve_opts *opts, const nib_ctx *ctx,
                       nib_err *err)
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
                .keep = {.p = p, .side = side, .ctx = ctx},
                .block = {.p = p, .ctx = ctx},
                .activations = {.ctx = ctx}};
    nib_code rc = solve_all(&s, err);
    r->from_stats = opts->stats;
    r->windows = opts->stats ? opts->stats->head.windows : s.n_calib;
    r->held_out = opts->stats ? 0 : w->n - s.n_calib;
    r->n_ctx = opts->stats ? opts->stats->head.n_ctx : w->n_ctx;
    r->seconds = nib_now() - started;
    tear_down(&s);
    if (rc) nib_solve_report_free(r);
    return rc;
}
