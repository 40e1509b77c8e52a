/* SPDX-License-Identifier: MIT */
/* run/solve/solve_weights.c - the weights of a block of one output, once its inputs are known.
 * Tests: tests/run/test_solve.c, tests/run/test_solve_dir.c, tests/run/test_experts.c. */
#include "run/solve/solve_int.h"

#include "calib/accumulate.h"
#include "quant/awq.h"
#include "quant/hqq.h"
#include "quant/retarget.h"
#include "quant/round.h"
#include "run/plan/folder_layers.h"

#include <math.h>
#include <string.h>

/* ---- one weight ---- */

static bool has_ranges(const nib_plan_tensor *t)
{
    return t->layout.format.act == NIB_ACT_TENSOR;
}

/* Of the input of t, as the layout has it. */
static nib_code find_range(nib_act_range *out, const nib_solver *s, const nib_plan_tensor *t,
                           nib_err *err)
{
    nib_range r;
    *out = t->range;
    if (!nib_plan_measures_ranges(s->p)) return NIB_OK;
    nib_code rc = nib_input_ranges_find(&r, s->ranges, t->place.layer, t->place.role,
                                        s->opts->range, s->opts->percentile, err);
    const nib_act_quant act = nib_packing_act_quant(&t->layout.format);
    if (!rc) *out = nib_act_range_on(&r, &act);
    return rc;
}

/* To the side file; the weight becomes what readers will see. */
static nib_code keep_weight(nib_solver *s, nib_layer_weight *b, const uint32_t *outer, nib_err *err)
{
    nib_packing_values v = {.code = s->all->code.p, .param = s->all->param.p, .outer = outer};
    nib_code rc = has_ranges(b->tensor) ? find_range(&v.act, s, b->tensor, err) : NIB_OK;
    if (!rc) rc = nib_commit_write(&s->all->keep, b->tensor, &v, b->v, err);
    if (!rc) b->act = nib_commit_act(&s->all->keep, b->tensor);
    return rc;
}

/* As the plan has it, which outlives the run. */
static const char *planned_name(const nib_solver *s, const nib_plan_tensor *t)
{
    nib_place at = t->place;
    const nib_plan_tensor *found = nib_plan_find(s->p, at);
    if (!found) {
        at.expert = NIB_EXPERTS_ALL;
        found = nib_plan_find(s->p, at);
    }
    return found ? found->name : "";
}

static nib_code solve_weight(nib_solver *s, nib_layer_weight *b, float largest, nib_err *err)
{
    const nib_plan_tensor *t = b->tensor;
    nib_int_codec own;
    const nib_codec *codec = nib_folder_codec(&own, t, largest);
    const size_t n = (size_t)(t->rows * t->cols);
    uint8_t *code = nib_buf_reserve(&s->all->code, n, 1);
    nib_block_param *param = nib_buf_reserve(&s->all->param, n / t->codec->block, sizeof *param);
    nib_solve_line *line = &s->report->line[s->report->n];
    nib_gptq_report r;
    double started = nib_now();
    if (!code || !param) return nib_fail_nomem(err, "codes");
    nib_code rc = nib_gptq_solve(s->gptq, codec, b->v, (size_t)t->rows, code, param, &r, err);
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
    nib_debug(s->all->ctx->log,
              "%-28s %-7s output error %.3e, rounded %.3e (%.0f %%), damping %.3g, %.2f s", t->name,
              t->codec->name, r.solved, r.rtn, r.rtn > 0 ? 100 * r.solved / r.rtn : 100, line->damp,
              line->seconds);
    return NIB_OK;
}

/* Rounded to nearest, or by HQQ: by the writer, when the time comes, or here, where the writer
 * would find other weights in the source. */
static nib_code round_weight(nib_solver *s, nib_layer_weight *b, const nib_hessian *in,
                             float largest, nib_err *err)
{
    const nib_plan_tensor *t = b->tensor;
    nib_int_codec own;
    const nib_codec *codec = nib_folder_codec(&own, t, largest);
    const size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    const float *h = in->h.p;
    if (t->action != NIB_ACTION_STAGE) return nib_commit_round(&s->all->keep, t, b->v, err);
    uint8_t *code = nib_buf_reserve(&s->all->code, rows, cols);
    nib_block_param *param =
        nib_buf_reserve(&s->all->param, rows * cols / t->codec->block, sizeof *param);
    float *imp = nib_buf_reserve(&s->all->importance, cols, sizeof *imp);
    if (!code || !param || !imp) return nib_fail_nomem(err, "codes");
    for (size_t i = 0; i < cols; i++) imp[i] = h[i * cols + i];
    nib_code rc =
        t->method == NIB_METHOD_HQQ
            ? nib_hqq_rows(t->codec, b->v, rows, cols, b->v, code, param, s->all->ctx, err)
            : nib_round_rows(codec, b->v, imp, rows, cols, b->v, code, param, s->all->ctx, err);
    return rc ? rc : keep_weight(s, b, NULL, err);
}

/* AWQ's clipping, for groups with a scale of their own. Not for queries and keys: their product
 * counts.
 */
static bool clips(const nib_solver *s, const nib_layer_weight *b)
{
    const nib_codec *c = b->tensor->codec;
    return s->p->recipe.transform == NIB_TRANSFORM_AWQ && s->p->recipe.format == NIB_FORMAT_DIR &&
           !c->finish && c->block <= NIB_BLOCK_MAX &&
           !nib_steps_output(nib_model_steps(s->all->m, b->tensor->place.layer),
                             b->tensor->place.role)
                .scores;
}

static nib_code clip_weight(nib_solver *s, nib_layer_weight *b, const nib_hessian *in, nib_err *err)
{
    const nib_codec *c = b->tensor->codec;
    const size_t rows = (size_t)b->tensor->rows;
    float *limit = nib_buf_reserve(&s->all->param, rows * in->cols / c->block, sizeof *limit);
    if (!limit) return nib_fail_nomem(err, "limits of weights");
    nib_code rc = nib_awq_clip(limit, b->v, rows, in->cols, c, in->h.p, s->all->ctx, err);
    if (!rc) nib_awq_clamp(b->v, limit, rows, in->cols, c->block);
    return rc;
}

/* Columns that the weights of this input want to be rounded together. */
static size_t together(const nib_solver *s, const nib_hessian *in)
{
    size_t most = 1;
    for (size_t i = 0; i < in->n_roles; i++) {
        const nib_layer_weight *b = &s->all->block.weight[in->role[i]];
        if (b->tensor && b->tensor->method == NIB_METHOD_GPTQ && b->tensor->codec->vec > most)
            most = b->tensor->codec->vec;
    }
    return most;
}

/* How much of the drift is made up for: half of what is asked for at DRIFT_FEW tokens for each
 * column. As many coefficients as columns are fitted for each output, mostly to what rounding has
 * made random, so that of few tokens they say more of these than of the model. */
static double known_drift(const nib_solver *s, const nib_hessian *in)
{
    enum { DRIFT_FEW = 32 };
    const double t = (double)in->rows / (double)in->cols;
    return s->opts->drift * (t * t / (t * t + DRIFT_FEW * DRIFT_FEW));
}

/* What is done to a weight before it is rounded. */
static nib_code prepare_weight(nib_solver *s, nib_layer_weight *b, const nib_hessian *in,
                               bool *prepared, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (b->tensor->method != NIB_METHOD_GPTQ)
        return clips(s, b) ? clip_weight(s, b, in, err) : NIB_OK;
    if (!*prepared)
        rc = nib_gptq_prepare(s->gptq, in->h.p, in->cols, in->rows, together(s, in), err);
    *prepared = true;
    if (rc || !s->moments->drift) return rc;
    return nib_retarget(b->v, (size_t)b->tensor->rows, in->d.p, known_drift(s, in), s->gptq,
                        s->all->ctx, err);
}

/* Of those that share a scale. */
static float largest_of(const nib_solver *s, const nib_hessian *in)
{
    float most = 0;
    for (size_t i = 0; i < in->n_roles; i++) {
        const nib_layer_weight *b = &s->all->block.weight[in->role[i]];
        const nib_plan_tensor *t = b->tensor;
        if (!t || !t->layout.n_parts || !nib_packing_common(&t->layout.format)) continue;
        for (size_t k = 0; k < t->rows * t->cols; k++) most = fmaxf(most, fabsf(b->v[k]));
    }
    return most;
}

/* Every weight that reads this input: first all are prepared, because what they share is found from
 * what they then are. */
nib_code nib_solve_input(nib_solver *s, const nib_hessian *in, nib_err *err)
{
    nib_code rc = NIB_OK;
    bool prepared = false;
    float most = 0;
    for (size_t k = 0; k < 2 * in->n_roles && !rc; k++) {
        nib_layer_weight *b = &s->all->block.weight[in->role[k % in->n_roles]];
        if (k == in->n_roles) most = largest_of(s, in);
        if (!b->tensor) continue;
        rc = k < in->n_roles                        ? prepare_weight(s, b, in, &prepared, err)
             : b->tensor->method != NIB_METHOD_GPTQ ? round_weight(s, b, in, most, err)
                                                    : solve_weight(s, b, most, err);
        if (rc) rc = nib_wrap(err, "solving '%s'", b->tensor->name);
    }
    return rc;
}

/* ---- experts ---- */

/* The input of an expert's down projection, as its gate and up are now. */
static nib_code on_down(void *arg, const nib_linear_input *in, nib_err *err)
{
    nib_solver *s = arg;
    if (in->role[0] != NIB_ROLE_FFN_DOWN_EXPS) return NIB_OK;
    return nib_accumulate_hessian(s->all->expert_in[1].h.p, in->x, in->rows, in->cols, s->all->ctx,
                                  err);
}

static nib_code own_expert(void *arg, nib_place at, const float **w, const nib_act_quant **act,
                           nib_err *err)
{
    nib_solver *s = arg;
    (void)act, (void)err;
    if (s->all->block.weight[at.role].tensor) *w = s->all->block.weight[at.role].v;
    return NIB_OK;
}

/* Second moments of an expert's tokens, of what gate and up read (i = 0) or down reads (1). */
static nib_code sum_expert(nib_solver *s, uint32_t layer, uint32_t e, size_t i, nib_err *err)
{
    enum { ROWS = 4096 };
    static const nib_role down = NIB_ROLE_FFN_DOWN_EXPS,
                          gate_up[] = {NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS};
    const nib_expert_weights own = {own_expert, s};
    const nib_observer obs = {.linear_input = on_down, .arg = s};
    const size_t n = s->experts->of[e].n, embd = s->all->m->hp.n_embd;
    nib_hessian *in = &s->all->expert_in[i];
    in->cols = i ? s->all->m->hp.n_ff_expert : embd;
    in->n_roles = i ? 1 : 2;
    memcpy(in->role, i ? &down : gate_up, in->n_roles * sizeof *in->role);
    in->rows = n;
    float *h = nib_buf_reserve(&in->h, in->cols, in->cols * sizeof *h);
    float *x = nib_buf_reserve(&s->all->expert_x, n < ROWS ? n : ROWS, embd * sizeof *x);
    if (!h || !x) return nib_fail_nomem(err, "second moments of an expert");
    memset(h, 0, in->cols * in->cols * sizeof *h);
    nib_graph_replace_experts(s->all->runner.graph, &own);
    nib_code rc = NIB_OK;
    for (size_t at = 0; at < n && !rc; at += ROWS) {
        const size_t now = n - at < ROWS ? n - at : ROWS;
        rc = nib_expert_inputs_get(s->experts, e, at, now, x, err);
        if (!rc)
            rc = i ? nib_graph_expert(s->all->runner.graph, layer, e, x, now, &obs, err)
                   : nib_accumulate_hessian(h, x, now, embd, s->all->ctx, err);
    }
    nib_graph_replace_experts(s->all->runner.graph, NULL);
    return rc;
}

/* By what an expert saw: fewer tokens than an eighth of its channels say too little of how these go
 * together, so its weights are rounded by importance; none: to nearest. Fewer tokens, more damping:
 * (1 + channels / tokens) times as much. */
static nib_code solve_expert_input(nib_solver *s, nib_hessian *in, nib_err *err)
{
    const size_t cols = in->cols;
    float *h = in->h.p;
    double sum = 0;
    const bool few = in->rows < (cols + 7) / 8;
    for (size_t i = 0; i < cols; i++) sum += h[i * cols + i];
    for (size_t k = 0; k < in->n_roles && few; k++) {
        nib_layer_weight *b = &s->all->block.weight[in->role[k]];
        if (b->tensor && b->tensor->method == NIB_METHOD_GPTQ)
            s->all->block.part[in->role[k] - NIB_ROLE_FIRST_EXPERT].method = NIB_METHOD_RTN;
    }
    const float more = in->rows ? (float)(s->opts->gptq.damp * sum / (double)in->rows)
                                : 0; /* mean x cols / rows */
    for (size_t i = 0; i < cols; i++) h[i * cols + i] += in->rows ? more : 1;
    in->rows = 0; /* the few tokens are seen to */
    return nib_solve_input(s, in, err);
}

nib_code nib_solve_experts(nib_solver *s, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    size_t none = 0, few = 0;
    const bool drift = s->moments->drift;
    s->moments->drift = false; /* of experts it is not known */
    for (uint32_t e = 0; e < s->all->m->hp.n_expert && !rc; e++) {
        const size_t n = s->experts->of[e].n;
        none += !n;
        few += n && n < s->all->m->hp.n_embd / 8;
        rc = nib_layer_weights_load_expert(&s->all->block, e, err);
        for (size_t i = 0; i < 2 && !rc; i++) {
            rc = sum_expert(s, layer, e, i, err);
            if (!rc) rc = solve_expert_input(s, &s->all->expert_in[i], err);
        }
        nib_layer_weights_drop_expert(&s->all->block);
    }
    s->moments->drift = drift;
    if (none || few)
        nib_info(s->all->ctx->log,
                 "block %u: %zu of %u experts saw no token and are rounded to nearest, %zu saw few "
                 "and are rounded by importance: more text helps",
                 layer, none, s->all->m->hp.n_expert, few);
    return rc;
}
