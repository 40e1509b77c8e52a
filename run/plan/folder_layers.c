/* SPDX-License-Identifier: MIT */
/* run/plan/folder_layers.c - see folder_layers.h. Tests: tests/run/test_folder_mixed.c. */
#include "run/plan/folder_layers.h"

#include <stdio.h>
#include <string.h>

enum { VOCABULARY_GROUP = 128 };

/* Linear layers of a block that read one input, of which engines make one. */
typedef struct {
    nib_role role[NIB_FUSED_MAX]; /* [n] */
    size_t n;
    const char *fused; /* what engines call it; NULL: no name */
} set;

enum { SETS_MAX = 3 * NIB_INPUTS_MAX };

static const char *fused_name(nib_role first)
{
    static const struct {
        nib_role first;
        const char *name;
    } names[] = {{NIB_ROLE_ATTN_Q, "qkv_proj"}, {NIB_ROLE_FFN_GATE, "gate_up_proj"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].first == first) return names[i].name;
    return NULL;
}

/* The sets of a block: by input, routers and experts apart from what else reads it. */
static size_t list_sets(set out[SETS_MAX], const nib_model *m, uint32_t layer)
{
    nib_inputs in;
    size_t n = 0;
    nib_steps_inputs(&in, nib_model_steps(m, layer));
    for (size_t i = 0; i < in.n; i++) {
        set *of[3] = {NULL}; /* packed, never packed, experts' */
        for (size_t k = 0; k < in.input[i].n_readers; k++) {
            const nib_role r = in.input[i].reader[k];
            set **s = &of[nib_role_is_expert(r) ? 2 : !nib_role_is_linear(r)];
            if (!*s || (*s)->n == NIB_FUSED_MAX) {
                *s = &out[n++];
                **s = (set){.fused = fused_name(r)};
            }
            (*s)->role[(*s)->n++] = r;
        }
    }
    return n;
}

/* ---- one layer ---- */

/* What the user wants a matrix of the vocabulary to be; NULL: what it is. */
static const char *vocabulary_type(const nib_recipe *r, const nib_plan_tensor *t)
{
    return !nib_plan_of_vocabulary(t)             ? NULL
           : t->place.role == NIB_ROLE_TOKEN_EMBD ? r->embedding_type
                                                  : r->output_type;
}

/* The format of a scheme "w8a16": groups and zero points are as the other layers have them. */
static nib_code vocabulary_packing(nib_packing *f, const nib_recipe *r, const char *scheme,
                                   nib_err *err)
{
    const bool alike = r->layout.kind == NIB_PACKING_CT_PACKED;
    const bool named = strlen(scheme) == strlen("w8a16") && scheme[0] == 'w' && scheme[1] >= '1' &&
                       scheme[1] <= '8' && !strcmp(scheme + 2, "a16");
    const unsigned bits = named ? (unsigned)(scheme[1] - '0') : 0;
    if (!named)
        return nib_fail(err, NIB_EINVAL,
                        "'%s': a compressed-tensors folder packs embedding and output matrix as "
                        "w1a16 to w8a16",
                        scheme);
    *f = (nib_packing){.kind = NIB_PACKING_CT_PACKED,
                       .bits = bits,
                       .group = alike ? r->layout.group : VOCABULARY_GROUP,
                       .sym = !alike || r->layout.sym};
    return NIB_OK;
}

/* Before any wish for single tensors. No Hessian is collected for a matrix of the vocabulary, so
 * the solver's other weights leave it to be rounded. */
static nib_code usual_packing(nib_packing *f, bool *packed, nib_plan_tensor *t, const nib_recipe *r,
                              nib_err *err)
{
    const char *scheme = vocabulary_type(r, t), *option;
    *f = r->layout;
    *packed = scheme || (nib_role_is_linear(t->place.role) && !t->place.bias);
    if (!scheme) {
        if (*packed) snprintf(t->reason, sizeof t->reason, "linear layer of a block");
        return NIB_OK;
    }
    option = t->place.role == NIB_ROLE_TOKEN_EMBD ? "--embedding-type" : "--output-type";
    if (t->method == NIB_METHOD_GPTQ) t->method = NIB_METHOD_RTN;
    snprintf(t->reason, sizeof t->reason, "%s", option);
    nib_code rc = vocabulary_packing(f, r, scheme, err);
    return rc ? nib_wrap(err, "%s", option) : NIB_OK;
}

nib_code nib_folder_choose(nib_packing *f, bool *packed, nib_plan_tensor *t, const nib_plan *p,
                           nib_overrides *o, nib_err *err)
{
    const nib_override *wish = NULL;
    const nib_tensor *named = nib_model_tensor(p->model, t->place); /* NULL: the embedding again */
    nib_code rc = usual_packing(f, packed, t, &p->recipe, err);
    if (rc || !*packed || !named) return rc;
    const nib_packing usual = *f;
    const char *uniform = nib_packing_uniform(usual.kind);
    rc = nib_overrides_find(&wish, o, named, NIB_TYPE_COUNT, err);
    if (rc || !wish) return rc;
    snprintf(t->reason, sizeof t->reason, "%s", wish->why);
    if (wish->method == NIB_METHOD_GPTQ && nib_plan_of_vocabulary(t))
        return nib_fail(err, NIB_EINVAL,
                        "%s: method gptq is for weights of the blocks; embedding and output matrix "
                        "are rounded, or fitted by hqq",
                        wish->why);
    if (wish->method != NIB_METHOD_COUNT) t->method = wish->method;
    if (wish->bits) f->bits = wish->bits;
    if (wish->raise) f->bits = nib_packing_next_bits(f->kind, f->bits);
    if (wish->regroup) f->group = wish->group, f->per_tensor = false;
    *packed = !wish->skip && f->bits;
    if (!*packed || !uniform || nib_packing_same(f, &usual)) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "%s: %s; only method and skip can be chosen", wish->why,
                    uniform);
}

/* ---- layers that belong together ---- */

static bool is_packed(const nib_plan_tensor *t)
{
    return t->layout.n_parts > 0;
}

static bool alike(const nib_plan_tensor *a, const nib_plan_tensor *b)
{
    return is_packed(a) == is_packed(b) &&
           (!is_packed(a) || nib_packing_same(&a->layout.format, &b->layout.format));
}

/* Experts are one layer for engines, all of a block. */
static uint32_t n_experts(const nib_model *m, const set *s)
{
    return nib_role_is_expert(s->role[0]) ? m->hp.n_expert : 1;
}

/* What is carried over of NVFP4 keeps its global scale, and engines take one for all of a set. */
static nib_code check_factors(const nib_plan_tensor *a, const nib_plan_tensor *b, nib_err *err)
{
    if (!a->factor || !b->factor || *a->factor == *b->factor) return NIB_OK;
    return nib_fail(err, NIB_EINVAL,
                    "tensors '%s' and '%s': engines run these layers as one and take one global "
                    "scale for both, which here are %g and %g; 'nibble quantize' finds a common "
                    "one",
                    a->src->name, b->src->name, 1 / (double)*a->factor, 1 / (double)*b->factor);
}

static nib_code check_set(const nib_plan *p, uint32_t layer, const set *s, nib_err *err)
{
    const nib_plan_tensor *first =
        nib_plan_find(p, (nib_place){.layer = layer, .role = s->role[0]});
    for (uint32_t e = 0; e < n_experts(p->model, s); e++) {
        const nib_plan_tensor *of =
            nib_plan_find(p, (nib_place){.layer = layer, .role = s->role[0], .expert = e});
        for (size_t i = 0; i < s->n; i++) {
            const nib_place at = {.layer = layer, .role = s->role[i], .expert = e};
            const nib_plan_tensor *t = nib_plan_find(p, at);
            const nib_code rc = of && t ? check_factors(of, t, err) : NIB_OK;
            if (rc) return rc;
            if (first && t && !alike(first, t))
                return nib_fail(
                    err, NIB_EINVAL,
                    "tensors '%s' in %s and '%s' in %s: engines run these layers as one, so "
                    "both need the same bits and groups",
                    first->src->name, first->codec->name, t->src->name, t->codec->name);
        }
    }
    return NIB_OK;
}

nib_code nib_folder_check_fused(const nib_plan *p, nib_err *err)
{
    nib_code rc = NIB_OK;
    set sets[SETS_MAX];
    for (uint32_t layer = 0; layer < p->model->hp.n_layer; layer++) {
        const size_t n = list_sets(sets, p->model, layer);
        for (size_t i = 0; i < n && !rc; i++) rc = check_set(p, layer, &sets[i], err);
    }
    return rc;
}

size_t nib_folder_together(const nib_plan_tensor *out[NIB_FUSED_MAX], const nib_plan *p,
                           const nib_plan_tensor *t)
{
    set sets[SETS_MAX];
    nib_place at = t->place;
    const size_t n = list_sets(sets, p->model, at.layer);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const set *s = &sets[i];
        bool has = false;
        for (size_t k = 0; k < s->n; k++) has |= s->role[k] == t->place.role;
        for (size_t k = 0; k < s->n && has; k++) {
            at.role = s->role[k];
            out[count] = nib_plan_find(p, at);
            count += out[count] && is_packed(out[count]);
        }
        if (has) break;
    }
    return count;
}

const nib_codec *nib_folder_codec(nib_int_codec *own, const nib_plan_tensor *t, float largest)
{
    if (!is_packed(t) || !nib_packing_common(&t->layout.format)) return t->codec;
    *own = *(const nib_int_codec *)t->codec; /* as all packed tensors have */
    own->common = largest;
    return &own->codec;
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

/* A set of a block, or of one expert of it, that begins with `first`. */
static bool describe(nib_packing_exception *e, const nib_plan *p, const nib_plan_tensor *first,
                     const set *s, nib_arena *memory)
{
    *e = (nib_packing_exception){.fused = s->fused,
                                 .format = is_packed(first) ? &first->layout.format : NULL};
    bool ok = true;
    nib_place at = first->place;
    for (size_t i = 0; i < s->n && ok; i++) {
        at.role = s->role[i];
        const nib_plan_tensor *t = nib_plan_find(p, at);
        if (t) ok = split_name(t->src->name, memory, &e->parent, &e->layer[e->n++]);
    }
    return ok;
}

/* NULL: not packed. */
static const nib_packing *packing_of(const nib_plan *p, nib_role role)
{
    const nib_plan_tensor *t = nib_plan_find(p, (nib_place){.role = role});
    return t && is_packed(t) ? &t->layout.format : NULL;
}

/* Embedding and output matrix; what else is of the class of embeddings is not packed. */
static bool describe_vocabulary(nib_packing_note *note, nib_packing_exception *list,
                                const nib_plan *p, nib_arena *memory)
{
    const nib_plan_tensor *positions = nib_plan_find(p, (nib_place){.role = NIB_ROLE_POS_EMBD});
    const bool one = !nib_plan_find(p, (nib_place){.role = NIB_ROLE_OUTPUT});
    note->embedding = packing_of(p, NIB_ROLE_TOKEN_EMBD);
    note->head = one ? note->embedding : packing_of(p, NIB_ROLE_OUTPUT);
    if (!note->embedding || !positions) return true;
    nib_packing_exception *e = &list[note->n_exceptions++];
    *e = (nib_packing_exception){.n = 1};
    return split_name(positions->src->name, memory, &e->parent, &e->layer[0]);
}

nib_code nib_folder_list_exceptions(nib_packing_note *note, const nib_plan *p, nib_arena *memory,
                                    nib_err *err)
{
    char output[NIB_PLAN_NAME_MAX + 1];
    const char *parent;
    nib_packing_exception *list = nib_arena_alloc(memory, p->n, sizeof *list, sizeof(void *));
    nib_place_hf_name(p->model->arch, (nib_place){.role = NIB_ROLE_OUTPUT}, output, sizeof output);
    bool ok = list && split_name(output, memory, &parent, &note->output);
    note->exception = list;
    ok = ok && describe_vocabulary(note, list, p, memory);
    for (uint32_t layer = 0; layer < p->model->hp.n_layer && ok; layer++) {
        set sets[SETS_MAX];
        const size_t n = list_sets(sets, p->model, layer);
        for (size_t i = 0; i < n; i++)
            for (uint32_t e = 0; e < n_experts(p->model, &sets[i]) && ok; e++) {
                const nib_place at = {.layer = layer, .role = sets[i].role[0], .expert = e};
                const nib_plan_tensor *t = nib_plan_find(p, at);
                if (!t || (is_packed(t) && nib_packing_same(&t->layout.format, &p->recipe.layout)))
                    continue;
                ok = describe(&list[note->n_exceptions++], p, t, &sets[i], memory);
            }
    }
    return ok ? NIB_OK : nib_fail_nomem(err, "the list of layers");
}
