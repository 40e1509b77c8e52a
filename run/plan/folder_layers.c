/* SPDX-License-Identifier: MIT */
/* run/plan/folder_layers.c - see folder_layers.h. */
#include "run/plan/folder_layers.h"

#include <stdio.h>
#include <string.h>

/* All linear layers of a block. */
static const struct {
    nib_role role[NIB_FUSED_MAX];
    size_t n;
    const char *fused;
} sets[] = {
    {{NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V}, 3, "qkv_proj"},
    {{NIB_ROLE_ATTN_OUTPUT}, 1, NULL},
    {{NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP}, 2, "gate_up_proj"},
    {{NIB_ROLE_FFN_DOWN}, 1, NULL},
};

enum { N_SETS = sizeof sets / sizeof *sets };

/* ---- one layer ---- */

nib_code nib_folder_choose(nib_packing *f, bool *packed, nib_plan_tensor *t, const nib_recipe *r,
                           nib_overrides *o, nib_err *err)
{
    const nib_override *wish;
    const char *uniform = nib_packing_uniform(r->layout.kind);
    nib_code rc = nib_overrides_find(&wish, o, t->src, NIB_TYPE_COUNT, err);
    *f = r->layout;
    *packed = true;
    snprintf(t->reason, sizeof t->reason, "%s", wish ? wish->why : "linear layer of a block");
    if (rc || !wish) return rc;
    if (wish->method != NIB_METHOD_COUNT) t->method = wish->method;
    if (wish->bits) f->bits = wish->bits;
    if (wish->raise) f->bits = nib_packing_next_bits(f->kind, f->bits);
    if (wish->regroup) f->group = wish->group, f->per_tensor = false;
    *packed = !wish->skip && f->bits;
    if (!*packed || !uniform || nib_packing_same(f, &r->layout)) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "%s: %s; only method and skip can be chosen", wish->why,
                    uniform);
}

/* ---- layers that belong together ---- */

/* The weight of that role; NULL: this block has none. */
static const nib_plan_tensor *find_weight(const nib_plan *p, uint32_t layer, nib_role role)
{
    for (size_t i = 0; i < p->n; i++) {
        const nib_place at = p->tensor[i].place;
        if (at.role == role && at.layer == layer && !at.bias) return &p->tensor[i];
    }
    return NULL;
}

static bool is_packed(const nib_plan_tensor *t)
{
    return t->layout.n_parts > 0;
}

static bool alike(const nib_plan_tensor *a, const nib_plan_tensor *b)
{
    return is_packed(a) == is_packed(b) &&
           (!is_packed(a) || nib_packing_same(&a->layout.format, &b->layout.format));
}

static nib_code check_set(const nib_plan *p, uint32_t layer, size_t set, nib_err *err)
{
    const nib_plan_tensor *first = find_weight(p, layer, sets[set].role[0]);
    for (size_t i = 1; i < sets[set].n; i++) {
        const nib_plan_tensor *t = find_weight(p, layer, sets[set].role[i]);
        if (first && t && !alike(first, t))
            return nib_fail(
                err, NIB_EINVAL,
                "tensors '%s' in %s and '%s' in %s: engines run these layers as one, so "
                "both need the same bits and groups",
                first->src->name, first->codec->name, t->src->name, t->codec->name);
    }
    return NIB_OK;
}

nib_code nib_folder_check_fused(const nib_plan *p, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (uint32_t layer = 0; layer < p->model->hp.n_layer; layer++)
        for (size_t set = 0; set < N_SETS && !rc; set++) rc = check_set(p, layer, set, err);
    return rc;
}

/* ---- what the configuration will say ---- */

/* "model.layers.0.self_attn.q_proj.weight" into "model.layers.0.self_attn." and "q_proj". */
static bool split_name(const char *weight, nib_arena *memory, const char **parent,
                       const char **layer)
{
    const char *end = weight + strlen(weight) - strlen(".weight"), *from = end;
    while (from > weight && from[-1] != '.') from--;
    *parent = nib_arena_str(memory, weight, (size_t)(from - weight));
    *layer = nib_arena_str(memory, from, (size_t)(end - from));
    return *parent && *layer;
}

/* The set that begins with `first`. */
static bool describe(nib_packing_exception *e, const nib_plan *p, const nib_plan_tensor *first,
                     size_t set, nib_arena *memory)
{
    *e = (nib_packing_exception){.fused = sets[set].fused,
                                 .format = is_packed(first) ? &first->layout.format : NULL};
    bool ok = true;
    for (size_t i = 0; i < sets[set].n && ok; i++) {
        const nib_plan_tensor *t = find_weight(p, first->place.layer, sets[set].role[i]);
        if (t) ok = split_name(t->src->name, memory, &e->parent, &e->layer[e->n++]);
    }
    return ok;
}

nib_code nib_folder_list_exceptions(nib_packing_note *note, const nib_plan *p, nib_arena *memory,
                                    nib_err *err)
{
    const size_t most = (size_t)p->model->hp.n_layer * N_SETS;
    char output[NIB_PLAN_NAME_MAX + 1];
    const char *parent;
    nib_packing_exception *list = nib_arena_alloc(memory, most, sizeof *list, sizeof(void *));
    nib_place_hf_name(p->model->arch, (nib_place){.role = NIB_ROLE_OUTPUT}, output, sizeof output);
    bool ok = list && split_name(output, memory, &parent, &note->output);
    note->exception = list;
    for (uint32_t layer = 0; layer < p->model->hp.n_layer; layer++)
        for (size_t set = 0; set < N_SETS && ok; set++) {
            const nib_plan_tensor *t = find_weight(p, layer, sets[set].role[0]);
            if (!t || (is_packed(t) && nib_packing_same(&t->layout.format, &p->recipe.layout)))
                continue;
            ok = describe(&list[note->n_exceptions++], p, t, set, memory);
        }
    return ok ? NIB_OK : nib_fail_nomem(err, "the list of layers");
}
