/* SPDX-License-Identifier: MIT */
/* run/solve/layer_weights.c - see layer_weights.h. Tests: tests/run/test_steps.c. */
#include "run/solve/layer_weights.h"

#include "run/plan/weights.h"

bool nib_layer_weights_holds(const nib_plan_tensor *t)
{
    if (t->carried || nib_plan_of_vocabulary(t)) return false;
    if (t->action == NIB_ACTION_STAGE) return true;
    return nib_role_is_linear(t->place.role) && !t->place.bias && t->codec->quantized &&
           t->action != NIB_ACTION_COPY;
}

static nib_code load(nib_layer_weights *b, nib_layer_weight *to, const nib_plan_tensor *t,
                     nib_err *err)
{
    const size_t n = (size_t)(t->rows * t->cols);
    if (!nib_buf_reserve(&to->memory, n, sizeof *to->v)) return nib_fail_nomem(err, "weights");
    to->tensor = t;
    to->act = (nib_act_quant){0};
    to->v = to->memory.p;
    return nib_weights_read(b->p, t, 0, t->rows, to->v, &b->raw, b->ctx->cpu, err);
}

void nib_layer_weights_use(const nib_layer_weights *b, bool own)
{
    for (int r = 0; r < NIB_ROLE_COUNT; r++) {
        const nib_layer_weight *w = &b->weight[r], *bias = &b->bias[r];
        nib_graph_replace(b->graph, (nib_role)r, own && w->tensor ? w->v : NULL);
        nib_graph_replace_bias(b->graph, (nib_role)r, own && bias->tensor ? bias->v : NULL);
    }
}

void nib_layer_weights_release(nib_layer_weights *b)
{
    for (int r = 0; r < NIB_ROLE_COUNT; r++) {
        b->weight[r].tensor = b->bias[r].tensor = NULL;
        nib_graph_round_input(b->graph, (nib_role)r, NULL);
    }
    nib_layer_weights_use(b, false);
    nib_layer_weights_use_experts(b, NULL);
}

nib_code nib_layer_weights_load(nib_layer_weights *b, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_layer_weights_release(b);
    b->layer = layer;
    for (size_t i = 0; i < b->p->n && !rc; i++) {
        const nib_plan_tensor *t = &b->p->tensor[i];
        const nib_role role = t->place.role;
        if (!nib_layer_weights_holds(t) || t->place.layer != layer || nib_role_is_expert(role))
            continue;
        rc = load(b, t->place.bias ? &b->bias[role] : &b->weight[role], t, err);
    }
    nib_layer_weights_use(b, true);
    return rc;
}

nib_code nib_layer_weights_load_expert(nib_layer_weights *b, uint32_t expert, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (nib_role r = NIB_ROLE_FIRST_EXPERT; r < NIB_ROLE_COUNT && !rc; r++) {
        const nib_place at = {.layer = b->layer, .role = r, .expert = expert};
        nib_plan_tensor *part = &b->part[r - NIB_ROLE_FIRST_EXPERT];
        b->weight[r].tensor = NULL;
        if (nib_plan_expert(part, b->p, at) && nib_layer_weights_holds(part))
            rc = load(b, &b->weight[r], part, err);
    }
    return rc;
}

void nib_layer_weights_drop_expert(nib_layer_weights *b)
{
    for (nib_role r = NIB_ROLE_FIRST_EXPERT; r < NIB_ROLE_COUNT; r++) b->weight[r].tensor = NULL;
}

/* What an earlier run made of it, or the writer will. */
static nib_code kept(nib_commit *keep, nib_layer_weight *t, nib_err *err)
{
    if (t->tensor->action != NIB_ACTION_STAGE) return nib_commit_round(keep, t->tensor, t->v, err);
    nib_code rc = nib_commit_read(keep, t->tensor, t->v, err);
    if (!rc) t->act = nib_commit_act(keep, t->tensor);
    return rc;
}

nib_code nib_layer_weights_load_kept(nib_layer_weights *b, nib_commit *keep, uint32_t layer,
                                     nib_err *err)
{
    nib_code rc = nib_layer_weights_load(b, layer, err);
    for (int r = 0; r < NIB_ROLE_COUNT && !rc; r++) {
        nib_layer_weight *both[] = {&b->weight[r], &b->bias[r]};
        for (int i = 0; i < 2 && !rc; i++)
            if (both[i]->tensor) rc = kept(keep, both[i], err);
    }
    return rc;
}

/* What the output will hold of an expert. */
static nib_code get_expert(void *arg, nib_place at, const float **w, const nib_act_quant **act,
                           nib_err *err)
{
    nib_layer_weights *b = arg;
    nib_layer_weight *own = &b->weight[at.role];
    nib_plan_tensor *part = &b->part[at.role - NIB_ROLE_FIRST_EXPERT];
    if (!nib_plan_expert(part, b->p, at) || !nib_layer_weights_holds(part)) return NIB_OK;
    const bool staged = part->action == NIB_ACTION_STAGE;
    nib_code rc = NIB_OK;
    own->tensor = part;
    own->act = (nib_act_quant){0};
    own->v = nib_buf_reserve(&own->memory, (size_t)(part->rows * part->cols), sizeof *own->v);
    if (!own->v) return nib_fail_nomem(err, "weights");
    if (!staged)
        rc = nib_weights_read(b->p, part, 0, part->rows, own->v, &b->raw, b->ctx->cpu, err);
    if (!rc) rc = kept(b->keep, own, err);
    *w = own->v;
    *act = own->act.scheme ? &own->act : NULL;
    own->tensor = NULL;
    return rc;
}

void nib_layer_weights_use_experts(nib_layer_weights *b, nib_commit *keep)
{
    b->keep = keep;
    b->experts = (nib_expert_weights){get_expert, b};
    nib_graph_replace_experts(b->graph, keep ? &b->experts : NULL);
}

void nib_layer_weights_round_inputs(const nib_layer_weights *b)
{
    for (int r = 0; r < NIB_ROLE_COUNT; r++) {
        const nib_layer_weight *t = &b->weight[r];
        if (t->tensor && t->act.scheme) nib_graph_round_input(b->graph, (nib_role)r, &t->act);
    }
}

void nib_layer_weights_free(nib_layer_weights *b)
{
    for (int r = 0; r < NIB_ROLE_COUNT; r++) {
        nib_buf_free(&b->weight[r].memory);
        nib_buf_free(&b->bias[r].memory);
    }
    nib_buf_free(&b->raw);
}
