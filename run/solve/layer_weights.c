/* SPDX-License-Identifier: MIT */
/* run/solve/layer_weights.c - see layer_weights.h. */
#include "run/solve/layer_weights.h"

#include "run/plan/weights.h"

bool nib_layer_weights_holds(const nib_plan_tensor *t)
{
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
}

nib_code nib_layer_weights_load(nib_layer_weights *b, uint32_t layer, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_layer_weights_release(b);
    b->layer = layer;
    for (size_t i = 0; i < b->p->n && !rc; i++) {
        const nib_plan_tensor *t = &b->p->tensor[i];
        const nib_role role = t->place.role;
        if (!nib_layer_weights_holds(t) || t->place.layer != layer) continue;
        rc = load(b, t->place.bias ? &b->bias[role] : &b->weight[role], t, err);
    }
    nib_layer_weights_use(b, true);
    return rc;
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
