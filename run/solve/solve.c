/* SPDX-License-Identifier: MIT */
/* run/solve/solve.c - see solve.h. Windows go through a block together: once through the original
 * one, for all outputs that need its inputs, and once through each output's own. */
#include "run/solve/solve_int.h"

#include <string.h>

/* ---- outputs ---- */

/* Is the block still to be solved? */
static bool is_fresh(const nib_solver *s, uint32_t layer)
{
    return !s->err->code && layer >= s->side->done;
}

/* Is the output's stream of calibration windows the original model's? */
static bool on_original(const nib_solver *s)
{
    return !s->opts->stats && !s->opts->propagate;
}

/* Are ranges measured on the rescaled block, in a pass of their own? */
static bool measures_again(const nib_solver *s)
{
    return s->rescaler && nib_plan_measures_ranges(s->p);
}

static bool measures_at_once(const nib_solver *s)
{
    return !s->rescaler && nib_plan_measures_ranges(s->p);
}

static bool has_experts(const nib_solve_common *k, uint32_t layer)
{
    return !nib_layer_is_dense(&k->m->hp, layer);
}

/* The work memory is this output's now. */
static void take_turn(nib_solver *s)
{
    s->all->block.p = s->all->keep.p = s->p;
    s->all->keep.side = s->side;
}

static void unload(nib_solve_common *k)
{
    nib_layer_weights_release(&k->block);
    k->loaded = NULL;
}

/* The output's block as its source has it, unless it lies there. */
static nib_code load_block(nib_solver *s, uint32_t layer, nib_err *err)
{
    nib_solve_common *k = s->all;
    if (k->loaded == s) return NIB_OK;
    unload(k);
    take_turn(s);
    nib_code rc = nib_layer_weights_load(&k->block, layer, err);
    if (!rc) k->loaded = s;
    return rc;
}

/* ---- the inputs of a block ---- */

static void watch(nib_observers *to, nib_expert_inputs *experts, nib_hessians *moments,
                  nib_input_ranges *ranges)
{
    if (experts->of) nib_observers_add(to, nib_expert_inputs_observer(experts));
    nib_observers_add(to, nib_hessians_observer(moments));
    if (ranges) nib_observers_add(to, nib_input_ranges_observer(ranges));
}

/* What one gathering takes note of: at the original inputs, and each output at its own. */
typedef struct {
    nib_observers original;
    bool group; /* some outputs calibrate on the original inputs */
} gathering;

static void prepare(gathering *g, nib_solve_common *k, uint32_t layer, bool again)
{
    bool ranges = false;
    *g = (gathering){.group = false};
    for (size_t i = 0; i < k->n; i++) {
        nib_solver *s = &k->of[i];
        if (!is_fresh(s, layer)) continue;
        const bool measures = measures_at_once(s) && !again;
        g->group |= on_original(s);
        ranges |= on_original(s) && measures;
        if (on_original(s)) continue;
        s->watch = (nib_observers){.n = 0};
        nib_expert_inputs_start(s->experts);
        if (measures) nib_input_ranges_free(s->ranges);
        watch(&s->watch, s->experts, s->moments, measures ? s->ranges : NULL);
        if (s->drift) nib_observers_add(&g->original, nib_hessians_original_observer(s->moments));
    }
    if (!g->group) return;
    nib_expert_inputs_start(&k->experts);
    if (ranges) nib_input_ranges_free(&k->ranges);
    watch(&g->original, &k->experts, &k->moments, ranges ? &k->ranges : NULL);
}

/* The original windows [from, end): through the loaded block, as an output that calibrates on them
 * has it, or with the source's weights. */
static nib_code gather_original(nib_solve_common *k, gathering *g, uint32_t layer, size_t from,
                                size_t end, bool move, nib_err *err)
{
    const nib_observer obs = nib_observers_watch(&g->original);
    if (!g->group) nib_layer_weights_use(&k->block, false);
    nib_code rc = nib_block_pass_run(&k->original, &k->runner, layer, from, end, move, &obs, err);
    nib_layer_weights_use(&k->block, true);
    return rc;
}

static void gather_own(nib_solver *s, uint32_t layer, size_t from, size_t end)
{
    const nib_observer obs = nib_observers_watch(&s->watch);
    s->err->code =
        nib_block_pass_run(&s->x, &s->all->runner, layer, from, end, false, &obs, s->err);
}

/* Batch by batch through the loaded block, whose weights are still the source's, but for those that
 * --true-sequential has solved when it gathers once more (`again`): the original model's
 * activations, which move on if nothing is gathered from this block any more (`move`), then those
 * of the quantized blocks. Ranges are of the first time. */
static nib_code gather(nib_solve_common *k, uint32_t layer, bool again, bool move, nib_err *err)
{
    gathering g;
    nib_code rc = NIB_OK;
    prepare(&g, k, layer, again);
    for (size_t from = 0; from < k->n_calib && !rc; from += k->runner.batch) {
        const size_t end =
            k->n_calib - from < k->runner.batch ? k->n_calib : from + k->runner.batch;
        if (g.original.n) rc = gather_original(k, &g, layer, from, end, move, err);
        for (size_t i = 0; i < k->n && !rc; i++)
            if (is_fresh(&k->of[i], layer) && !on_original(&k->of[i]))
                gather_own(&k->of[i], layer, from, end);
    }
    return rc;
}

static nib_code read_moments(nib_solver *s, uint32_t layer, nib_err *err)
{
    nib_hessian_store_block b;
    nib_code rc = nib_hessian_store_block_open(&b, s->opts->stats, layer, err);
    nib_hessians_start(s->moments);
    for (size_t i = 0; i < b.n && !rc; i++) {
        nib_hessian *in = NULL;
        rc = nib_hessians_add(s->moments, b.input[i].role, b.input[i].n_roles, b.input[i].cols, &in,
                              err);
        if (!rc) rc = nib_hessian_store_block_read(&b, i, in->h.p, err);
        if (!rc) in->rows = (size_t)s->opts->stats->head.windows * s->opts->stats->head.n_ctx;
    }
    nib_hessian_store_block_close(&b);
    return rc;
}

/* Moments of the inputs of a block, and ranges, for all outputs that have it still to solve; the
 * lead's is loaded. Windows that a rescaling of original inputs is measured on are taken before
 * they move on. Where ranges are measured again, that pass moves them. */
static nib_code study_block(nib_solve_common *k, uint32_t layer, nib_solver *lead, nib_err *err)
{
    nib_code rc = NIB_OK;
    bool move = true, rescaled = false;
    if (lead->opts->stats) return read_moments(lead, layer, err);
    nib_hessians_start(&k->moments);
    for (size_t i = 0; i < k->n; i++) {
        nib_solver *s = &k->of[i];
        if (!is_fresh(s, layer)) continue;
        if (!on_original(s)) nib_hessians_start(s->moments);
        rescaled |= on_original(s) && s->rescaler;
        move &= !s->opts->true_sequential && !(on_original(s) && measures_again(s));
    }
    if (rescaled) rc = nib_rescale_begin(k->rescaler, &k->block, &k->original, k->n_calib, err);
    return rc ? rc : gather(k, layer, false, move, err);
}

/* ---- a block of one output ---- */

/* Rescaled, the block computes the same; the moments are those of its new inputs. */
static nib_code rescale_block(nib_solver *s, nib_err *err)
{
    nib_solve_common *k = s->all;
    nib_solve_report *r = s->report;
    size_t n = 0;
    nib_code rc = NIB_OK;
    nib_rescaler_use(s->rescaler, s->p, &s->opts->rescale, k->n > 1 ? &k->memo : NULL);
    if (!on_original(s)) rc = nib_rescale_begin(s->rescaler, &k->block, &s->x, k->n_calib, err);
    if (!rc && s->moments == &k->on_loan) rc = nib_hessians_copy(&k->on_loan, &k->moments, err);
    if (!rc)
        rc = nib_rescale_block(s->rescaler, &k->block, s->moments, &k->keep,
                               r->rescaled + r->n_rescaled, &n, err);
    for (size_t i = r->n_rescaled; i < r->n_rescaled + n && !rc; i++)
        nib_debug(k->ctx->log, "input of %-28s rescaled by %5.2f, output error %.3e, before %.3e",
                  r->rescaled[i].name, r->rescaled[i].chosen, r->rescaled[i].scaled,
                  r->rescaled[i].unscaled);
    r->n_rescaled += n;
    return rc ? rc
              : nib_block_pass_run(&s->rescaled, &k->runner, k->block.layer, 0, s->rescaled.n, true,
                                   NULL, err);
}

/* Ranges of the rescaled block's inputs; without propagation the windows move on with it. */
static nib_code observe_ranges(nib_solver *s, uint32_t layer, nib_err *err)
{
    nib_solve_common *k = s->all;
    const nib_observer obs = nib_input_ranges_observer(s->ranges);
    nib_input_ranges_free(s->ranges);
    return nib_block_pass_run(on_original(s) ? &k->original : &s->x, &k->runner, layer, 0,
                              k->n_calib, on_original(s), &obs, err);
}

/* Inputs of the block, some of whose weights are solved: the i-th dense one, or, after them all,
 * those of the experts. */
static nib_code renew(nib_solver *s, uint32_t layer, size_t i, nib_err *err)
{
    const size_t last = s->moments->n - !has_experts(s->all, layer);
    nib_hessians_renew(s->moments, i < s->moments->n ? i : i - 1);
    nib_code rc = gather(s->all, layer, true, i == last, err);
    return rc ? rc : s->err->code;
}

/* The loaded block, whose inputs were studied; then it is not the source's any more. */
static nib_code solve_block(nib_solver *s, uint32_t layer, nib_err *err)
{
    s->all->loaded = NULL;
    nib_code rc = s->rescaler ? rescale_block(s, err) : NIB_OK;
    if (!rc && measures_again(s)) rc = observe_ranges(s, layer, err);
    for (size_t i = 0; i < s->moments->n && !rc; i++) {
        if (i && s->opts->true_sequential) rc = renew(s, layer, i, err);
        if (!rc) rc = nib_solve_input(s, &s->moments->input[i], err);
    }
    if (!rc && has_experts(s->all, layer)) {
        if (s->opts->true_sequential) rc = renew(s, layer, s->moments->n, err);
        if (!rc) rc = nib_solve_experts(s, layer, err);
    }
    return rc ? rc : nib_solved_file_mark(s->side, layer + 1, err);
}

/* Solve the block, or take it as an earlier run solved it; then the output's windows move on. */
static nib_code finish_block(nib_solver *s, uint32_t layer, nib_err *err)
{
    nib_solve_common *k = s->all;
    nib_code rc = NIB_OK;
    if (is_fresh(s, layer)) {
        rc = load_block(s, layer, err);
        if (!rc) rc = solve_block(s, layer, err);
    } else if (!s->opts->stats) {
        k->loaded = NULL;
        take_turn(s);
        rc = nib_layer_weights_load_kept(&k->block, &k->keep, layer, err);
    }
    if (rc || s->opts->stats) return rc;
    nib_layer_weights_round_inputs(&k->block);
    if (has_experts(k, layer)) nib_layer_weights_use_experts(&k->block, &k->keep);
    return nib_block_pass_run(&s->x, &k->runner, layer, 0, s->x.n, true, NULL, err);
}

/* ---- a block from its beginning to its end ---- */

/* Windows that no output calibrates on, in the original model. */
static nib_code pass_original(nib_solve_common *k, uint32_t layer, nib_err *err)
{
    unload(k);
    nib_code rc = nib_block_pass_run(&k->held, &k->runner, layer, 0, k->held.n, true, NULL, err);
    return rc ? rc
              : nib_block_pass_run(&k->plain, &k->runner, layer, 0, k->plain.n, true, NULL, err);
}

/* The first output that has the block still to solve, with it loaded; NULL: none. */
static nib_solver *find_lead(nib_solve_common *k, uint32_t layer)
{
    for (size_t i = 0; i < k->n; i++) {
        nib_solver *s = &k->of[i];
        if (is_fresh(s, layer) && !load_block(s, layer, s->err)) return s;
    }
    return NULL;
}

/* The original windows move on through a block that nobody asked them for. */
static nib_code pass_over(nib_solve_common *k, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (!k->original.n) return NIB_OK;
    unload(k);
    for (size_t i = 0; i < k->n; i++)
        if (on_original(&k->of[i]) && !k->of[i].err->code) {
            rc = load_block(&k->of[i], layer, err);
            break;
        }
    return rc ? rc
              : nib_block_pass_run(&k->original, &k->runner, layer, 0, k->original.n, true, NULL,
                                   err);
}

/* Does an output look at the original inputs? */
static bool asks_original(const nib_solve_common *k, uint32_t layer)
{
    for (size_t i = 0; i < k->n; i++)
        if (is_fresh(&k->of[i], layer) && (on_original(&k->of[i]) || k->of[i].drift)) return true;
    return false;
}

/* Errors are of all outputs; each one's own are with it. */
static nib_code run_block(nib_solve_common *k, uint32_t layer, nib_err *err)
{
    const bool stats = k->of[0].opts->stats;
    k->memo.n = 0;
    k->loaded = NULL;
    nib_code rc = stats ? NIB_OK : pass_original(k, layer, err);
    if (!rc && !asks_original(k, layer)) rc = pass_over(k, layer, err);
    nib_solver *lead = rc ? NULL : find_lead(k, layer);
    if (lead) rc = study_block(k, layer, lead, err);
    for (size_t i = 0; i < k->n && !rc; i++) {
        nib_solver *s = &k->of[i];
        const double started = nib_now();
        if (!s->err->code) s->err->code = finish_block(s, layer, s->err);
        s->report->seconds += nib_now() - started;
    }
    return rc;
}

/* ---- the whole ---- */

/* A run that was resumed has no window that went through all rescaled blocks. */
static nib_code set_up_rescaling(nib_solver *s, nib_err *err)
{
    nib_solve_common *k = s->all;
    const size_t most = (size_t)k->m->hp.n_layer * NIB_INPUTS_MAX, windows = s->side->done ? 0 : 1;
    nib_rescaler **one = on_original(s) ? &k->rescaler : &s->rescaler;
    nib_code rc = NIB_OK;
    *(on_original(s) ? &k->moments.sizes : &s->own.sizes) = true;
    s->report->rescaled = nib_calloc(most, sizeof *s->report->rescaled);
    if (!s->report->rescaled) return nib_fail_nomem(err, "a report");
    if (!*one) rc = nib_rescaler_new(one, s->p, &s->opts->rescale, &k->runner, k->ctx, err);
    s->rescaler = *one;
    if (k->m->hp.n_expert)
        nib_info(k->ctx->log,
                 "channels of what experts read are not rescaled, those of attention are");
    if (!rc && !k->plain.n && windows)
        rc = nib_block_pass_open(&k->plain, &k->runner, 0, windows, UINT64_MAX, NULL, err);
    return rc ? rc
              : nib_block_pass_open(&s->rescaled, &k->runner, 0, windows, UINT64_MAX, NULL, err);
}

/* Of what may be kept of activations: the most that an output asks for. */
static uint64_t memory_left(const nib_solve_common *k)
{
    uint64_t most = 0, used = k->original.rows.ram_bytes + k->held.rows.ram_bytes;
    for (size_t i = 0; i < k->n; i++) {
        if (k->of[i].opts->memory > most) most = k->of[i].opts->memory;
        used += k->of[i].x.rows.ram_bytes;
    }
    return most > used ? most - used : 0;
}

static nib_code open_stream(nib_block_pass *x, nib_solve_common *k, size_t first, size_t n,
                            nib_err *err)
{
    return nib_block_pass_open(x, &k->runner, first, n, memory_left(k), k->of[0].p->recipe.out,
                               err);
}

static nib_code set_up_experts(nib_solver *s, nib_err *err)
{
    nib_solve_common *k = s->all;
    if (s->opts->all_experts && !k->m->hp.n_expert)
        nib_warn(k->ctx->log, "--all-experts has no effect: the model has no experts");
    if (!k->m->hp.n_expert || s->experts->of) return NIB_OK;
    nib_code rc = nib_expert_inputs_new(s->experts, &k->m->hp, k->n_calib * k->w->n_ctx,
                                        memory_left(k), k->of[0].p->recipe.out, err);
    s->experts->all_experts = s->opts->all_experts;
    return rc;
}

/* How many outputs calibrate on the original model. */
static size_t count_original(const nib_solve_common *k)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n; i++) n += on_original(&k->of[i]);
    return n;
}

static nib_code set_up_windows(nib_solve_common *k, nib_err *err)
{
    const size_t n = k->w->n, most = k->of[0].opts->held_out, held = most < n / 8 ? most : n / 8;
    bool original = count_original(k) > 0;
    k->n_calib = n - held;
    nib_code rc = nib_runner_new(&k->runner, k->m, k->w, k->ctx, err);
    for (size_t i = 0; i < k->n && !rc; i++) {
        nib_solver *s = &k->of[i];
        original |= s->drift;
        rc = on_original(s) ? open_stream(&s->x, k, k->n_calib, held, err)
                            : open_stream(&s->x, k, 0, n, err);
    }
    if (!rc) rc = open_stream(&k->held, k, k->n_calib, held, err);
    if (!rc && original) rc = open_stream(&k->original, k, 0, k->n_calib, err);
    k->block.graph = k->runner.graph;
    k->ranges.n_ctx = k->w->n_ctx;
    for (size_t i = 0; i < k->n && !rc; i++) {
        nib_solver *s = &k->of[i];
        s->own_ranges.n_ctx = k->w->n_ctx;
        rc = set_up_experts(s, err);
        if (!rc && s->p->recipe.transform) rc = set_up_rescaling(s, err);
    }
    return rc;
}

static bool same_solver(const nib_gptq_opts *a, const nib_gptq_opts *b)
{
    return a->damp == b->damp && a->order == b->order && a->group == b->group &&
           a->when == b->when && a->lazy == b->lazy && a->sweeps == b->sweeps;
}

/* Solvers have much memory: outputs of the same options share one. */
static nib_code set_up_gptq(nib_solver *s, nib_err *err)
{
    for (const nib_solver *o = s->all->of; o < s && !s->gptq; o++)
        if (same_solver(&o->opts->gptq, &s->opts->gptq)) s->gptq = o->gptq;
    if (s->gptq) return NIB_OK;
    s->own_gptq = true;
    return nib_gptq_new(&s->gptq, &s->opts->gptq, s->all->ctx, err);
}

static nib_code set_up_output(nib_solver *s, nib_solve_common *k, const nib_solve_output *o,
                              size_t n_original, nib_err *err)
{
    size_t n = 0;
    *s = (nib_solver){.all = k,
                      .p = o->plan,
                      .opts = o->opts,
                      .side = o->file,
                      .report = o->report,
                      .drift = nib_solve_drift(o->plan, o->opts) > 0,
                      .own_ranges = {.ctx = k->ctx},
                      .own = {.ctx = k->ctx}};
    const bool common = on_original(s), loan = common && n_original > 1 && s->p->recipe.transform;
    s->own.drift = s->drift;
    s->moments = loan ? &k->on_loan : common ? &k->moments : &s->own;
    s->experts = common ? &k->experts : &s->own_experts;
    s->ranges = common ? &k->ranges : &s->own_ranges;
    for (size_t i = 0; i < s->p->n; i++) n += nib_plan_matrices(&s->p->tensor[i]);
    s->report->line = nib_calloc(n, sizeof *s->report->line);
    if (!s->report->line) return nib_fail_nomem(err, "a report");
    return set_up_gptq(s, err);
}

static nib_code set_up(nib_solve_common *k, nib_solve_output *out, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t n_original = 0;
    k->of = nib_calloc(k->n, sizeof *k->of);
    if (!k->of) return nib_fail_nomem(err, "a list of outputs");
    for (size_t i = 0; i < k->n; i++) n_original += !out[i].opts->stats && !out[i].opts->propagate;
    for (size_t i = 0; i < k->n && !rc; i++) {
        rc = set_up_output(&k->of[i], k, &out[i], n_original, err);
        k->of[i].err = &out[i].err;
    }
    return rc || !k->w ? rc : set_up_windows(k, err);
}

static void tear_down_output(nib_solver *s)
{
    nib_block_pass_close(&s->x);
    nib_block_pass_close(&s->rescaled);
    if (!on_original(s)) nib_rescaler_free(s->rescaler);
    if (s->own_gptq) nib_gptq_free(s->gptq);
    nib_hessians_free(&s->own);
    nib_expert_inputs_free(&s->own_experts);
    nib_input_ranges_free(&s->own_ranges);
}

static void tear_down(nib_solve_common *k)
{
    for (size_t i = 0; i < k->n && k->of; i++)
        if (k->of[i].opts) tear_down_output(&k->of[i]);
    nib_free(k->of);
    nib_block_pass_close(&k->original);
    nib_block_pass_close(&k->held);
    nib_block_pass_close(&k->plain);
    nib_rescaler_free(k->rescaler);
    nib_rescale_memo_free(&k->memo);
    nib_runner_free(&k->runner);
    nib_hessians_free(&k->moments);
    nib_hessians_free(&k->on_loan);
    nib_expert_inputs_free(&k->experts);
    nib_input_ranges_free(&k->ranges);
    for (int i = 0; i < 2; i++) nib_buf_free(&k->expert_in[i].h);
    nib_commit_free(&k->keep);
    nib_layer_weights_free(&k->block);
    nib_buf *all[] = {&k->expert_x, &k->code, &k->param, &k->importance};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_buf_free(all[i]);
}

/* The rescaled model, before rounding, is the original one. */
static nib_code check_rescaled(nib_solver *s, nib_err *err)
{
    nib_divergence kl;
    nib_solve_common *k = s->all;
    nib_code rc = nib_divergence_rows(&kl, k->runner.graph, &k->plain.rows, &s->rescaled.rows, 0,
                                      k->w->n_ctx, k->ctx, err);
    if (rc || kl.logits <= NIB_RESCALE_TOLERANCE) return rc;
    return nib_fail(err, NIB_ENUMERIC,
                    "rescaling changes the model's logits by %.2g of them, at most %g is allowed",
                    kl.logits, NIB_RESCALE_TOLERANCE);
}

/* Of the quantized blocks, on the held-out windows. */
static nib_code diverge(nib_solver *s, nib_err *err)
{
    nib_solve_common *k = s->all;
    const size_t n_ctx = k->w->n_ctx, before = s->x.n - k->held.n;
    nib_code rc = s->rescaled.n ? check_rescaled(s, err) : NIB_OK;
    if (rc || !k->held.n) return rc;
    return nib_divergence_rows(&s->report->kl, k->runner.graph, &k->held.rows, &s->x.rows,
                               before * n_ctx, k->held.n * n_ctx, k->ctx, err);
}

/* Windows that run through a block, each as often as it does. */
static double windows_of_block(const nib_solve_common *k)
{
    nib_inputs inputs;
    size_t n = k->original.n + k->held.n + k->plain.n;
    nib_steps_inputs(&inputs, nib_model_steps(k->m, 0));
    for (size_t i = 0; i < k->n; i++) {
        const nib_solver *s = &k->of[i];
        const size_t rounds = s->opts->true_sequential ? inputs.n : 1;
        n += s->x.n + s->rescaled.n + measures_again(s) * k->n_calib;
        n += (rounds - 1) * k->original.n + (on_original(s) ? 0 : rounds * k->n_calib);
    }
    return (double)n;
}

static nib_code solve_all(nib_solve_common *k, nib_solve_output *out, nib_err *err)
{
    nib_code rc = set_up(k, out, err);
    nib_progress *progress = &k->runner.progress;
    if (rc) return rc;
    nib_progress_begin(progress, k->ctx->log, "solving", k->w ? "windows" : "blocks",
                       k->m->hp.n_layer * (k->w ? windows_of_block(k) : 1));
    for (uint32_t layer = 0; layer < k->m->hp.n_layer && !rc; layer++) {
        nib_progress_note(progress, "block %u of %u", layer + 1, k->m->hp.n_layer);
        rc = run_block(k, layer, err);
        if (!k->w) nib_progress_at(progress, layer + 1);
    }
    nib_progress_end(progress);
    for (size_t i = 0; i < k->n && !rc && k->w; i++)
        if (!out[i].err.code) out[i].err.code = diverge(&k->of[i], &out[i].err);
    return rc;
}

void nib_solve_report_free(nib_solve_report *r)
{
    nib_free(r->line);
    nib_free(r->rescaled);
    *r = (nib_solve_report){0};
}

void nib_solve_run(nib_solve_output *out, size_t n, const nib_windows *w, const nib_ctx *ctx)
{
    nib_err err;
    const double started = nib_now();
    const nib_hessian_store *stats = out[0].opts->stats;
    nib_solve_common k = {.m = out[0].plan->model,
                          .w = stats ? NULL : w,
                          .ctx = ctx,
                          .n = n,
                          .moments = {.ctx = ctx},
                          .on_loan = {.ctx = ctx},
                          .keep = {.ctx = ctx},
                          .block = {.ctx = ctx},
                          .ranges = {.ctx = ctx}};
    for (size_t i = 0; i < n; i++) {
        *out[i].report = (nib_solve_report){0};
        out[i].err = (nib_err){.code = NIB_OK};
    }
    nib_code rc = solve_all(&k, out, &err);
    double common = nib_now() - started;
    for (size_t i = 0; i < n; i++) common -= out[i].report->seconds;
    for (size_t i = 0; i < n; i++) {
        nib_solve_report *r = out[i].report;
        if (rc && !out[i].err.code) out[i].err = err;
        r->from_stats = stats;
        r->windows = stats ? stats->head.windows : k.n_calib;
        r->held_out = stats ? 0 : w->n - k.n_calib;
        r->n_ctx = stats ? stats->head.n_ctx : w->n_ctx;
        r->seconds += common / (double)n;
        if (out[i].err.code) nib_solve_report_free(r);
    }
    tear_down(&k);
}
