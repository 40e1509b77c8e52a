/* SPDX-License-Identifier: MIT */
/* infer/model.c - which tensor of a source plays which role, with every shape checked. */
#include "infer/model.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BUF = 128 };

static bool is_gguf(const nib_model *m)
{
    return nib_source_get_kind(m->src) == NIB_SOURCE_GGUF;
}

static nib_param *param(nib_model *m, nib_place p)
{
    return p.role < NIB_ROLE_FIRST_BLOCK ? &m->global[p.role]
                                         : &m->block[(size_t)p.layer * NIB_ROLE_COUNT + p.role];
}

/* A block's step that uses the weight; NULL: none, or a global one. */
static const nib_step *step_of(const nib_model *m, nib_place p)
{
    return p.role < NIB_ROLE_FIRST_BLOCK ? NULL
                                         : nib_steps_find(nib_model_steps(m, p.layer), p.role);
}

static bool is_norm(const nib_model *m, nib_place p)
{
    const nib_step *s = step_of(m, p);
    if (!s) return p.role == NIB_ROLE_OUTPUT_NORM || p.role == NIB_ROLE_EMBD_NORM;
    return s->op == NIB_OP_NORM || s->op == NIB_OP_HEAD_NORM;
}

/* Not the norm of linear attention's output. */
bool nib_model_adds_one(const nib_model *m, nib_place p)
{
    return m->arch->norm_plus_one && is_norm(m, p) && !p.bias && p.role != NIB_ROLE_SSM_NORM;
}

/* Global tensors that some architectures have. */
static bool is_used(const nib_model *m, nib_place p)
{
    const nib_arch *a = m->arch;
    switch (p.role) {
    case NIB_ROLE_POS_EMBD: return a->no_rope && !a->alibi;
    case NIB_ROLE_EMBD_NORM: return a->alibi;
    case NIB_ROLE_EMBD_IN:
    case NIB_ROLE_EMBD_OUT: return m->hp.n_embd_in != m->hp.n_embd;
    case NIB_ROLE_OUTPUT_NORM:
        return !a->no_output_norm && !m->hp.no_output_norm && !a->plain_norms;
    default: return true;
    }
}

/* Weights of a role that each have a number: of experts, or of heads. */
static uint32_t n_numbered(const nib_model *m, nib_place p)
{
    return nib_role_is_expert(p.role) ? m->hp.n_expert : m->hp.n_head;
}

/* The role whose step uses it: GGUF has some weights in two parts. */
static nib_role used_as(const nib_model *m, nib_place p)
{
    if (p.role == NIB_ROLE_ATTN_K_B || p.role == NIB_ROLE_ATTN_V_B) return NIB_ROLE_ATTN_KV_B;
    if ((p.role == NIB_ROLE_ATTN_QKV || p.role == NIB_ROLE_ATTN_GATE) && !step_of(m, p))
        return NIB_ROLE_SSM_IN;
    return p.role;
}

bool nib_model_place(const nib_model *m, const nib_tensor *t, nib_place *out)
{
    nib_place p;
    *out = (nib_place){0};
    if (!nib_place_parse(t->name, is_gguf(m) ? NULL : m->arch, &p) &&
        (is_gguf(m) || !nib_place_fused(m->arch, t->name, &p)))
        return false;
    if (p.role >= NIB_ROLE_FIRST_BLOCK &&
        (p.layer >= m->hp.n_layer || !nib_steps_find(nib_model_steps(m, p.layer), used_as(m, p))))
        return false;
    if (p.expert == NIB_EXPERTS_ALL && !nib_role_is_expert(p.role)) return false;
    if (p.expert != NIB_EXPERTS_ALL && p.expert && p.expert >= n_numbered(m, p)) return false;
    if (p.bias && is_norm(m, p) && !m->hp.layer_norm) return false;
    if (!is_used(m, p)) return false;
    *out = p;
    return true;
}

static bool ends_in_one(const char *name, const char *const *ends)
{
    for (; *ends; ends++)
        if (nib_ends_with(name, *ends)) return true;
    return false;
}

/* Buffers that some checkpoints carry and nobody reads: tables of the rotation, causal masks. */
static bool harmless(const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.masked_bias",
                                       ".attention.bias", NULL};
    return ends_in_one(name, ends);
}

/* Beside a weight of a GGUF file: its factor, which the source multiplies it by, or the scale of
 * its input, for engines that round that; it changes no weight. */
static bool is_beside_weight(const nib_model *m, const nib_tensor *t)
{
    static const char end[] = ".input_scale";
    char name[NAME_BUF];
    if (!is_gguf(m)) return false;
    if (t->is_factor) return true;
    if (!nib_ends_with(t->name, end)) return false;
    snprintf(name, sizeof name, "%.*s.weight", (int)(strlen(t->name) - (sizeof end - 1)), t->name);
    return nib_source_find(m->src, name);
}

/* Of a part of the model that is not for text. */
static bool is_skipped(const nib_model *m, const char *name)
{
    const nib_arch *a = m->arch;
    for (size_t i = 0; !is_gguf(m) && i < sizeof a->hf_skip / sizeof *a->hf_skip; i++)
        if (a->hf_skip[i] && !strncmp(name, a->hf_skip[i], strlen(a->hf_skip[i]))) return true;
    return false;
}

/* Of a block behind the last one, which proposes further tokens. */
static bool is_of_next_block(const nib_model *m, const char *name)
{
    const uint32_t layer = nib_block_of_name(name, is_gguf(m) ? NULL : m->arch);
    return layer != UINT32_MAX && layer >= m->hp.n_layer && layer - m->hp.n_layer < m->hp.n_next;
}

/* Scales for engines whose key/value cache has 8 bits, as compressed-tensors, ModelOpt and older
 * tools name them; they change no weight. */
static bool is_cache_scale(const char *name)
{
    static const char *const ends[] = {"self_attn.k_scale",
                                       "self_attn.v_scale",
                                       "self_attn.q_scale",
                                       "self_attn.kv_scale",
                                       "self_attn.k_proj.k_scale",
                                       "self_attn.v_proj.v_scale",
                                       "self_attn.k_proj.output_scale",
                                       "self_attn.v_proj.output_scale",
                                       "self_attn.q_proj.output_scale",
                                       NULL};
    return ends_in_one(name, ends);
}

const nib_steps *nib_model_steps(const nib_model *m, uint32_t layer)
{
    const nib_arch *a = m->arch;
    const bool dense = a->experts && nib_layer_is_dense(&m->hp, layer);
    if (nib_layer_is_linear(&m->hp, layer))
        return dense ? &a->linear_dense_block : &a->linear_block;
    if (dense) return &a->dense_block;
    return a->other_act_block.n && m->hp.act != a->act ? &a->other_act_block : &a->block;
}

void nib_model_widths(size_t width[NIB_REG_COUNT], const nib_hparams *hp)
{
    width[NIB_REG_X] = width[NIB_REG_H] = width[NIB_REG_F] = width[NIB_REG_Y] = hp->n_embd;
    width[NIB_REG_Q] = (size_t)hp->n_head * hp->head_dim;
    width[NIB_REG_K] = (size_t)hp->n_head_kv * hp->head_dim;
    width[NIB_REG_V] = (size_t)hp->n_head_kv * hp->value_dim;
    const size_t keys = (size_t)hp->n_lin_k * hp->lin_k_dim,
                 values = (size_t)hp->n_lin_v * hp->lin_v_dim;
    width[NIB_REG_AG] = width[NIB_REG_Q];
    width[NIB_REG_QG] = 2 * width[NIB_REG_Q];
    width[NIB_REG_L] = 2 * keys + values;
    width[NIB_REG_LI] = 2 * keys + 2 * values;
    width[NIB_REG_LZ] = width[NIB_REG_LO] = values;
    width[NIB_REG_LB] = width[NIB_REG_LA] = hp->n_lin_v;
    width[NIB_REG_LBA] = 2 * (size_t)hp->n_lin_v;
    width[NIB_REG_QA] = hp->q_rank;
    width[NIB_REG_C] = hp->kv_rank;
    width[NIB_REG_P] = hp->rope_dim;
    width[NIB_REG_KVA] = (size_t)hp->kv_rank + hp->rope_dim;
    width[NIB_REG_KV] = (size_t)hp->n_head * (hp->key_dim + hp->value_dim);
    width[NIB_REG_O] = (size_t)hp->n_head * hp->value_dim;
    width[NIB_REG_QKV] = width[NIB_REG_Q] + 2 * width[NIB_REG_K];
    width[NIB_REG_G] = width[NIB_REG_U] = hp->n_ff;
    width[NIB_REG_GU] = 2 * (size_t)hp->n_ff;
    width[NIB_REG_SG] = width[NIB_REG_SU] = hp->n_ff_shared;
    width[NIB_REG_S] = 1;
    width[NIB_REG_EY] = hp->n_embd;
    width[NIB_REG_EG] = width[NIB_REG_EU] = hp->n_ff_expert;
    width[NIB_REG_R] = hp->n_expert;
}

/* Rows and columns of the weight at a place; vectors have one row. */
static void weight_shape(const nib_model *m, nib_place p, uint64_t *rows, uint64_t *cols)
{
    const nib_hparams *hp = &m->hp;
    size_t width[NIB_REG_COUNT];
    *rows = 1;
    *cols = hp->n_embd;
    if (p.role == NIB_ROLE_TOKEN_EMBD || p.role == NIB_ROLE_OUTPUT)
        *rows = hp->n_vocab, *cols = hp->n_embd_in;
    if (p.role == NIB_ROLE_EMBD_IN) *rows = hp->n_embd, *cols = hp->n_embd_in;
    if (p.role == NIB_ROLE_EMBD_OUT) *rows = hp->n_embd_in;
    if (p.role == NIB_ROLE_POS_EMBD) *rows = (uint64_t)hp->n_ctx_train + m->arch->first_position;
    if (p.role == NIB_ROLE_ROPE_FREQS || p.role == NIB_ROLE_ROPE_LONG ||
        p.role == NIB_ROLE_ROPE_SHORT)
        *cols = hp->rope_dim / 2;
    if (p.role < NIB_ROLE_FIRST_BLOCK) return;
    const nib_step *s = nib_steps_find(nib_model_steps(m, p.layer), p.role);
    nib_model_widths(width, hp);
    if (s->op == NIB_OP_LINEAR || s->op == NIB_OP_CONVOLVE) *rows = width[s->to];
    *cols = s->op == NIB_OP_CONVOLVE                           ? hp->lin_taps
            : s->to == NIB_REG_LO && s->op == NIB_OP_HEAD_NORM ? hp->lin_v_dim
            : s->op == NIB_OP_HEAD_NORM                        ? hp->head_dim
            : s->op == NIB_OP_ATTEND                           ? hp->n_head
                                                               : width[s->a];
}

/* Heads of the register that a step norms. */
static uint32_t heads_of(const nib_model *m, const nib_step *s)
{
    return s->to == NIB_REG_LO ? 1 : s->to == NIB_REG_Q ? m->hp.n_head : m->hp.n_head_kv;
}

/* Has each head a tensor of its own for this norm? */
static bool is_by_head(const nib_model *m, nib_place p)
{
    return !is_gguf(m) && !nib_role_is_expert(p.role) && nib_role_is_numbered(m->arch, p.role);
}

/* `rows`: of a weight with those that are joined with it; of stacks, of one expert. */
static nib_code check_shape(const nib_model *m, const nib_tensor *t, nib_place p, uint64_t rows,
                            uint64_t cols, nib_err *err)
{
    char shape[96];
    const uint64_t n = m->hp.n_expert;
    nib_tensor_shape_str(t, shape, sizeof shape);
    if (p.expert == NIB_EXPERTS_ALL && p.bias) rows = n;
    if (p.expert == NIB_EXPERTS_ALL && !p.bias) {
        if (t->n_dims == 3 && t->shape[0] == n && t->shape[1] == rows && t->shape[2] == cols)
            return NIB_OK;
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu, %llu, %llu]",
                        t->name, shape, (unsigned long long)n, (unsigned long long)rows,
                        (unsigned long long)cols);
    }
    if (nib_tensor_rows(t) != rows || nib_tensor_cols(t) != cols) {
        if (rows == 1)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu]", t->name,
                            shape, (unsigned long long)cols);
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu, %llu]",
                        t->name, shape, (unsigned long long)rows, (unsigned long long)cols);
    }
    return NIB_OK;
}

/* Is it stored the other way round, [in][out]? Of stacks of experts the shape says it: there are
 * checkpoints of both kinds. */
static bool is_by_input(const nib_model *m, const nib_tensor *t, nib_place p, const nib_fused *f,
                        uint64_t rows, uint64_t cols)
{
    const nib_packed_parts *l = nib_tensor_parts(t);
    if (is_gguf(m) || (t->packed && (!l || l->format.kind != NIB_PACKING_FP8_STACK)) || p.bias)
        return false;
    if (f && t->n_dims == 3 && rows != cols) return t->shape[1] == cols && t->shape[2] == rows;
    return f ? f->by_input : m->arch->hf_by_input && nib_role_is_linear(p.role);
}

/* GGUF's two parts of what leads out of latent keys and values: a matrix of each head. */
static nib_code check_heads(const nib_model *m, const nib_tensor *t, nib_place p, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const bool keys = p.role == NIB_ROLE_ATTN_K_B;
    const uint64_t rows = keys ? hp->kv_rank : hp->value_dim,
                   cols = keys ? hp->key_dim : hp->kv_rank;
    char shape[96];
    if (t->n_dims == 3 && t->shape[0] == hp->n_head && t->shape[1] == rows && t->shape[2] == cols &&
        nib_tensor_readable(t))
        return NIB_OK;
    return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%u, %llu, %llu]",
                    t->name, nib_tensor_shape_str(t, shape, sizeof shape), hp->n_head,
                    (unsigned long long)rows, (unsigned long long)cols);
}

static nib_code check_tensor(const nib_model *m, const nib_tensor *t, nib_place p,
                             const nib_fused *f, nib_err *err)
{
    uint64_t rows, cols;
    const nib_role used = used_as(m, p);
    if (used == NIB_ROLE_ATTN_KV_B && used != p.role) return check_heads(m, t, p, err);
    if (used != p.role) { /* a part of what folders have as one */
        size_t width[NIB_REG_COUNT];
        nib_model_widths(width, &m->hp);
        return check_shape(m, t, p, width[p.role == NIB_ROLE_ATTN_QKV ? NIB_REG_L : NIB_REG_LZ],
                           m->hp.n_embd, err);
    }
    weight_shape(m, p, &rows, &cols);
    for (size_t i = 1; f && i < f->n; i++) {
        uint64_t more;
        nib_place with = p;
        with.role = f->role[i];
        weight_shape(m, with, &more, &cols);
        rows += more;
    }
    if (p.bias && !is_norm(m, p)) cols = rows, rows = 1;
    const nib_step *s = step_of(m, p);
    const uint64_t heads = s && s->op == NIB_OP_HEAD_NORM ? heads_of(m, s) : 0;
    if (!p.bias && heads && nib_tensor_rows(t) == heads) rows = heads; /* one of each */
    if (is_by_input(m, t, p, f, rows, cols)) {
        const uint64_t in = cols;
        cols = rows, rows = in;
    }
    nib_code rc = check_shape(m, t, p, rows, cols, err);
    if (rc) return rc;
    if (!nib_tensor_readable(t))
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': type %s cannot hold weights", t->name,
                        t->codec->name);
    return NIB_OK;
}

/* Prefixes of names that tools leave, and what to do about them. */
static const struct {
    const char *prefix, *what;
} prefixes[] = {
    {"base_model.model.", ", as PEFT saves it: merge the adapter and save the model"},
    {"_orig_mod.", ", as torch.compile leaves it: save the model inside"},
    {"module.", ", as DataParallel leaves it: save the model inside"},
    {"language_model.", ", as models of images and text have it: save the part for text alone"},
};

static bool parses(const nib_model *m, const char *name)
{
    nib_place p;
    return nib_place_parse(name, is_gguf(m) ? NULL : m->arch, &p);
}

/* "; without 'X.' before it ...": of a name that a prefix keeps from its place; "" of others. */
static void explain_prefix(char *text, size_t size, const nib_model *m, const char *name)
{
    char longer[NAME_BUF];
    *text = 0;
    if (snprintf(longer, sizeof longer, "model.%s", name) < NAME_BUF && parses(m, longer))
        snprintf(text, size,
                 "; with 'model.' before it it would have one: the tensors were saved "
                 "without the model's head");
    for (const char *dot = strchr(name, '.'); dot && !*text; dot = strchr(dot + 1, '.')) {
        const char *what = "";
        if (!parses(m, dot + 1)) continue;
        const int n = (int)(dot + 1 - name);
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (!strncmp(name, prefixes[i].prefix, strlen(prefixes[i].prefix)))
                what = prefixes[i].what;
        snprintf(text, size, "; without '%.*s' before it it would have one%s", n, name, what);
    }
}

static nib_code missing(const nib_model *m, nib_place p, nib_err *err)
{
    char name[NAME_BUF];
    if (is_gguf(m))
        nib_place_gguf_name(p, name, sizeof name);
    else
        nib_place_hf_name(m->arch, p, name, sizeof name);
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const char *other = nib_source_at(m->src, i)->name;
        const size_t prefix = nib_stem(other, name);
        if (prefix && other[prefix - 1] == '.')
            return nib_fail(err, NIB_EFORMAT, "tensor '%s' is missing, but '%s' is there", name,
                            other);
    }
    return nib_fail(err, NIB_EFORMAT, "tensor '%s' is missing", name);
}

/* The tensor as a difference from 1. */
static const nib_tensor *plus_one(nib_model *m, const nib_tensor *t)
{
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!view) return NULL;
    *view = *t;
    view->plus = 1;
    return view;
}

/* The tensor as the logarithm of what is taken off. */
static const nib_tensor *neg_exp(nib_model *m, const nib_tensor *t)
{
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!view) return NULL;
    *view = *t;
    view->neg_exp = true;
    return view;
}

/* A matrix that is stored [in][out], as [out][in]. */
static const nib_tensor *by_output(nib_model *m, const nib_tensor *t)
{
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    const uint64_t in = nib_tensor_rows(t), out = nib_tensor_cols(t);
    if (!view) return NULL;
    *view = nib_tensor_strided(t, 0, out, in, 1, out, t->name);
    return view;
}

static nib_code add_placed(nib_model *m, nib_place p, const nib_tensor *t, nib_err *err)
{
    if (m->n_placed == m->room) {
        const size_t room = m->room ? 2 * m->room : 512;
        nib_placed *grown = nib_grow(m->placed, m->n_placed, room, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "tensor table");
        m->placed = grown;
        m->room = room;
    }
    m->placed[m->n_placed++] = (nib_placed){p, t};
    return NIB_OK;
}

/* Room for each expert's part of the weight at a place. */
static nib_tensor *experts_of(nib_model *m, nib_param *par)
{
    const size_t n = m->hp.n_expert > m->hp.n_head ? m->hp.n_expert : m->hp.n_head;
    if (!par->expert &&
        (par->expert = nib_arena_alloc(&m->memory, n, sizeof *par->expert, _Alignof(nib_tensor))))
        memset(par->expert, 0, n * sizeof *par->expert);
    return par->expert;
}

/* `part` of a tensor is the weight of one place; it gets the name that it would have by itself. */
static nib_code place_part(nib_model *m, nib_tensor part, nib_place p, nib_err *err)
{
    char name[NAME_BUF];
    nib_param *par = param(m, p);
    nib_place_hf_name(m->arch, p, name, sizeof name);
    const bool one = nib_role_is_expert(p.role) && !p.bias;
    nib_tensor *view = one ? experts_of(m, par)
                           : nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!is_gguf(m)) part.name = nib_arena_str(&m->memory, name, strlen(name));
    if (!part.name || !view) return nib_fail_nomem(err, "tensor table");
    if (one)
        view += p.expert;
    else if (p.bias)
        par->bias = view;
    else
        par->weight = view;
    *view = part;
    return add_placed(m, p, view, err);
}

/* Rows from `row` on are one weight's of `all`, which a joint tensor has for each expert. */
typedef struct {
    const nib_tensor *t;
    const nib_fused *f; /* NULL: a stack of one role */
    uint64_t row, all, rows, cols;
    size_t index, n;
    bool by_input;
    const nib_tensor *turned; /* of packed ones by input: the expert's weights, rows in place */
} joint;

static nib_tensor part_of(const joint *j, uint32_t expert)
{
    const bool mixed = j->f && j->f->mixed;
    const uint64_t row = mixed ? j->index : j->row, step = mixed ? j->n : 1;
    const uint64_t first = expert * j->all * j->cols;
    if (j->turned) return nib_tensor_rows_of(j->turned, row, j->rows, step, NULL);
    if (j->t->packed) return nib_tensor_rows_of(j->t, expert * j->all + row, j->rows, step, NULL);
    if (j->by_input)
        return nib_tensor_strided(j->t, first + row, j->rows, j->cols, step, j->all, NULL);
    if (mixed)
        return nib_tensor_strided(j->t, first + row * j->cols, j->rows, j->cols, step * j->cols, 1,
                                  NULL);
    return nib_tensor_slice(j->t, expert * j->all + row, j->rows, j->t->name);
}

/* Biases of all experts for one role, [expert][rows]. */
static nib_tensor biases_of(const joint *j, uint32_t n_expert)
{
    const bool mixed = j->f->mixed;
    return nib_tensor_strided(j->t, mixed ? j->index : j->row, n_expert, j->rows, j->all,
                              mixed ? j->n : 1, NULL);
}

/* The parts of a stack of experts, or of a joint tensor, or both. */
static nib_code place_parts(nib_model *m, const nib_tensor *t, nib_place p, const nib_fused *f,
                            nib_err *err)
{
    const nib_role alone[] = {p.role}, *role = f ? f->role : alone;
    const bool experts = p.expert == NIB_EXPERTS_ALL;
    joint j = {.t = t, .f = f, .n = f ? f->n : 1};
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < j.n; i++) {
        weight_shape(m, (nib_place){.layer = p.layer, .role = role[i]}, &j.rows, &j.cols);
        j.all += j.rows;
    }
    j.by_input = is_by_input(m, t, p, f, j.all, j.cols);
    if (j.n == 1 && !j.by_input) param(m, p)->weight = t;
    for (uint32_t e = 0; e < (experts ? m->hp.n_expert : 1) && !rc; e++) {
        j.row = 0;
        if (t->packed && j.by_input) {
            nib_tensor *turned =
                nib_arena_alloc(&m->memory, 1, sizeof *turned, _Alignof(nib_tensor));
            if (!turned) return nib_fail_nomem(err, "tensor table");
            *turned = nib_tensor_turned(t, e * j.cols, j.cols, t->name);
            j.turned = turned;
        }
        for (j.index = 0; j.index < j.n && !rc; j.index++) {
            const nib_place one = {.layer = p.layer, .role = role[j.index], .expert = e};
            weight_shape(m, one, &j.rows, &j.cols);
            rc = place_part(m, part_of(&j, e), one, err);
            j.row += j.rows;
        }
    }
    return rc;
}

/* A tensor of the biases of all experts. */
static nib_code place_biases(nib_model *m, const nib_tensor *t, nib_place p, const nib_fused *f,
                             nib_err *err)
{
    joint j = {.t = t, .f = f, .n = f->n};
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < f->n; i++) {
        weight_shape(m, (nib_place){.layer = p.layer, .role = f->role[i]}, &j.rows, &j.cols);
        j.all += j.rows;
    }
    for (j.index = 0; j.index < f->n && !rc; j.index++) {
        p.role = f->role[j.index];
        weight_shape(m, p, &j.rows, &j.cols);
        rc = place_part(m, biases_of(&j, m->hp.n_expert), p, err);
        j.row += j.rows;
    }
    return rc;
}

static nib_code place_whole(nib_model *m, const nib_tensor *t, nib_place p, nib_err *err)
{
    nib_param *par = param(m, p);
    if (nib_model_adds_one(m, p) && !is_gguf(m) && !(t = plus_one(m, t)))
        return nib_fail_nomem(err, "tensor table");
    if (p.role == NIB_ROLE_SSM_A && !is_gguf(m) && !(t = neg_exp(m, t)))
        return nib_fail_nomem(err, "tensor table");
    if (is_by_input(m, t, p, NULL, 0, 0) && !(t = by_output(m, t)))
        return nib_fail_nomem(err, "tensor table");
    if (p.bias) {
        par->bias = t;
    } else if (nib_role_is_expert(p.role) || is_by_head(m, p)) {
        if (!experts_of(m, par)) return nib_fail_nomem(err, "tensor table");
        par->expert[p.expert] = *t;
        t = &par->expert[p.expert];
    } else {
        par->weight = t;
    }
    return add_placed(m, p, t, err);
}

/* Where each head's norm is a tensor of its own: all of them as one. */
static nib_code stack_heads(nib_model *m, nib_err *err)
{
    static const nib_role roles[] = {NIB_ROLE_ATTN_Q_NORM, NIB_ROLE_ATTN_K_NORM};
    nib_place p = {.layer = 0};
    char name[NAME_BUF];
    for (p.layer = 0; p.layer < m->hp.n_layer; p.layer++)
        for (int i = 0; i < 2; i++) {
            p.role = roles[i];
            nib_param *par = param(m, p);
            nib_place one = p;
            if (!par->expert) continue;
            const uint32_t n = heads_of(m, step_of(m, p));
            for (one.expert = 0; one.expert < n; one.expert++)
                if (!par->expert[one.expert].name) return missing(m, one, err);
            nib_tensor *t = nib_arena_alloc(&m->memory, 1, sizeof *t, _Alignof(nib_tensor));
            nib_place_gguf_name(p, name, sizeof name);
            const char *copy = nib_arena_str(&m->memory, name, strlen(name));
            if (!t || !copy) return nib_fail_nomem(err, "tensor table");
            *t = nib_tensor_stack(par->expert, n, copy);
            par->weight = t;
        }
    return NIB_OK;
}

/* Where each expert's weight is a tensor of its own: all of them as one. */
static nib_code stack_experts(nib_model *m, nib_err *err)
{
    nib_place p = {.expert = NIB_EXPERTS_ALL};
    char name[NAME_BUF];
    for (p.layer = 0; p.layer < m->hp.n_layer && m->hp.n_expert; p.layer++)
        for (p.role = NIB_ROLE_FIRST_EXPERT; p.role < NIB_ROLE_COUNT; p.role++) {
            nib_param *par = param(m, p);
            nib_place one = p;
            if (par->weight || !par->expert) continue;
            for (one.expert = 0; one.expert < m->hp.n_expert; one.expert++)
                if (!par->expert[one.expert].name) return missing(m, one, err);
            nib_tensor *t = nib_arena_alloc(&m->memory, 1, sizeof *t, _Alignof(nib_tensor));
            nib_place_hf_name(m->arch, p, name, sizeof name);
            const char *copy = nib_arena_str(&m->memory, name, strlen(name));
            if (!t || !copy) return nib_fail_nomem(err, "tensor table");
            const nib_tensor *first = par->expert;
            *t = (nib_tensor){
                .name = copy,
                .codec = first->codec,
                .n_dims = 3,
                .shape = {m->hp.n_expert, nib_tensor_rows(first), nib_tensor_cols(first)},
                .bytes = first->bytes * m->hp.n_expert,
                .part = first,
                .n_parts = m->hp.n_expert};
            par->weight = t;
        }
    return NIB_OK;
}

/* A stack of n parts, yet to be made, as the weight at a place. */
static nib_tensor *new_parts(nib_model *m, nib_place p, size_t n, nib_tensor **stack, char **name)
{
    char text[NAME_BUF];
    nib_place_gguf_name(p, text, sizeof text);
    nib_tensor *parts = nib_arena_alloc(&m->memory, n + 1, sizeof *parts, _Alignof(nib_tensor));
    *name = parts ? nib_arena_str(&m->memory, text, strlen(text)) : NULL;
    *stack = parts + n;
    return *name ? parts : NULL;
}

/* Of each head its key, turned, and its value. */
static nib_code join_heads(nib_model *m, uint32_t layer, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const nib_tensor *k = param(m, (nib_place){.layer = layer, .role = NIB_ROLE_ATTN_K_B})->weight;
    const nib_tensor *v = param(m, (nib_place){.layer = layer, .role = NIB_ROLE_ATTN_V_B})->weight;
    const nib_place p = {.layer = layer, .role = NIB_ROLE_ATTN_KV_B};
    nib_tensor *stack;
    char *name;
    if (!k || !v) return NIB_OK; /* what is missing is found later */
    nib_tensor *part = new_parts(m, p, 2 * (size_t)hp->n_head, &stack, &name);
    if (!part) return nib_fail_nomem(err, "tensor table");
    for (uint32_t h = 0; h < hp->n_head; h++) {
        part[2 * h] = nib_tensor_turned(k, (uint64_t)h * hp->kv_rank, hp->kv_rank, name);
        part[2 * h + 1] =
            nib_tensor_rows_of(v, (uint64_t)h * hp->value_dim, hp->value_dim, 1, name);
    }
    *stack = nib_tensor_stack(part, 2 * (size_t)hp->n_head, name);
    param(m, p)->weight = stack;
    return NIB_OK;
}

/* One of the two parts that GGUF has of it. */
static nib_code split_heads(nib_model *m, uint32_t layer, nib_role role, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const nib_tensor *all =
        param(m, (nib_place){.layer = layer, .role = NIB_ROLE_ATTN_KV_B})->weight;
    const nib_place p = {.layer = layer, .role = role};
    const uint64_t key = hp->key_dim, value = hp->value_dim;
    nib_tensor *stack;
    char *name;
    nib_tensor *part = new_parts(m, p, hp->n_head, &stack, &name);
    if (!part) return nib_fail_nomem(err, "tensor table");
    for (uint32_t h = 0; h < hp->n_head; h++)
        part[h] = role == NIB_ROLE_ATTN_K_B
                      ? nib_tensor_turned(all, h * (key + value), key, name)
                      : nib_tensor_rows_of(all, h * (key + value) + key, value, 1, name);
    *stack = nib_tensor_stack(part, hp->n_head, name);
    stack->n_dims = 3;
    stack->shape[0] = hp->n_head;
    stack->shape[1] = nib_tensor_rows(part);
    stack->shape[2] = nib_tensor_cols(part);
    param(m, p)->weight = stack;
    return NIB_OK;
}

/* ---- linear attention, as GGUF has it ---- */

/* Rows of a tensor for a part of a stack. */
static nib_tensor *add_rows(nib_tensor *part, const nib_tensor *t, uint64_t row, uint64_t n)
{
    *part = nib_tensor_rows_of(t, row, n, 1, t->name);
    return part + 1;
}

/* What folders have as one by key heads: of each head its query, key, values and gates. */
static nib_code join_linear(nib_model *m, uint32_t layer, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const nib_place p = {.layer = layer, .role = NIB_ROLE_SSM_IN};
    const nib_tensor *qkv =
                         param(m, (nib_place){.layer = layer, .role = NIB_ROLE_ATTN_QKV})->weight,
                     *z = param(m, (nib_place){.layer = layer, .role = NIB_ROLE_ATTN_GATE})->weight;
    const uint64_t heads = hp->n_lin_k, key = hp->lin_k_dim,
                   value = hp->n_lin_v / heads * hp->lin_v_dim;
    nib_tensor *stack;
    char *name;
    if (!qkv || !z) return NIB_OK; /* what is missing is found later */
    nib_tensor *part = new_parts(m, p, 4 * (size_t)heads, &stack, &name), *to = part;
    if (!part) return nib_fail_nomem(err, "tensor table");
    for (uint64_t h = 0; h < heads; h++) {
        to = add_rows(to, qkv, h * key, key);
        to = add_rows(to, qkv, (heads + h) * key, key);
        to = add_rows(to, qkv, 2 * heads * key + h * value, value);
        to = add_rows(to, z, h * value, value);
    }
    *stack = nib_tensor_stack(part, 4 * (size_t)heads, name);
    param(m, p)->weight = stack;
    return NIB_OK;
}

/* And GGUF's two parts of that. */
static nib_code split_linear(nib_model *m, uint32_t layer, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const nib_tensor *all = param(m, (nib_place){.layer = layer, .role = NIB_ROLE_SSM_IN})->weight;
    const nib_place qkv = {.layer = layer, .role = NIB_ROLE_ATTN_QKV},
                    z = {.layer = layer, .role = NIB_ROLE_ATTN_GATE};
    const uint64_t heads = hp->n_lin_k, key = hp->lin_k_dim,
                   value = hp->n_lin_v / heads * hp->lin_v_dim, each = 2 * key + 2 * value;
    const struct {
        nib_place place;
        int first, n;
    } of[] = {{qkv, 0, 3}, {z, 3, 1}};
    for (int i = 0; i < 2; i++) {
        nib_tensor *stack;
        char *name;
        const size_t n = (size_t)of[i].n * (size_t)heads;
        nib_tensor *part = new_parts(m, of[i].place, n, &stack, &name), *to = part;
        if (!part) return nib_fail_nomem(err, "tensor table");
        for (int k = of[i].first; k < of[i].first + of[i].n; k++)
            for (uint64_t h = 0; h < heads; h++)
                to = add_rows(to, all,
                              h * each + (k < 2 ? (uint64_t)k * key : 2 * key) +
                                  (k == 3 ? value : 0),
                              k < 2 ? key : value);
        *stack = nib_tensor_stack(part, n, name);
        param(m, of[i].place)->weight = stack;
    }
    return NIB_OK;
}

/* The value head of a folder that GGUF's h-th one is. */
static uint32_t tiled_head(const nib_hparams *hp, uint32_t h)
{
    return h % hp->n_lin_k * (hp->n_lin_v / hp->n_lin_k) + h / hp->n_lin_k;
}

/* Rows of value heads, `each` for one, behind the first `before` rows. */
static nib_code tile_rows(nib_model *m, nib_place p, uint64_t before, uint64_t each, nib_err *err)
{
    const nib_tensor *t = param(m, p)->weight;
    nib_tensor *stack;
    char *name;
    if (!t) return NIB_OK;
    nib_tensor *part = new_parts(m, p, (size_t)m->hp.n_lin_v + 1, &stack, &name), *to = part;
    if (!part) return nib_fail_nomem(err, "tensor table");
    if (before) to = add_rows(to, t, 0, before);
    for (uint32_t h = 0; h < m->hp.n_lin_v; h++)
        to = add_rows(to, t, before + tiled_head(&m->hp, h) * each, each);
    *stack = nib_tensor_stack(part, (size_t)(to - part), name);
    param(m, p)->gguf = stack;
    return NIB_OK;
}

/* Columns of value heads. */
static nib_code tile_columns(nib_model *m, nib_place p, uint32_t each, nib_err *err)
{
    const nib_tensor *t = param(m, p)->weight;
    const size_t n = (size_t)m->hp.n_lin_v * each;
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    uint32_t *order = nib_arena_alloc(&m->memory, n, sizeof *order, sizeof *order);
    if (!t) return NIB_OK;
    if (!view || !order) return nib_fail_nomem(err, "tensor table");
    for (size_t c = 0; c < n; c++)
        order[c] = tiled_head(&m->hp, (uint32_t)(c / each)) * each + (uint32_t)(c % each);
    *view = nib_tensor_columns_of(t, order, t->name);
    param(m, p)->gguf = view;
    return NIB_OK;
}

/* GGUF has value heads by their number in the group of a key head. */
static nib_code tile_heads(nib_model *m, uint32_t layer, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    const uint64_t keys = 2 * (uint64_t)hp->n_lin_k * hp->lin_k_dim;
    const struct {
        nib_role role;
        uint64_t before, each;
    } rows[] = {{NIB_ROLE_ATTN_QKV, keys, hp->lin_v_dim},
                {NIB_ROLE_SSM_CONV, keys, hp->lin_v_dim},
                {NIB_ROLE_ATTN_GATE, 0, hp->lin_v_dim},
                {NIB_ROLE_SSM_BETA, 0, 1},
                {NIB_ROLE_SSM_ALPHA, 0, 1}};
    nib_place p = {.layer = layer};
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !rc; i++) {
        p.role = rows[i].role;
        rc = tile_rows(m, p, rows[i].before, rows[i].each, err);
    }
    p.role = NIB_ROLE_SSM_A;
    if (!rc) rc = tile_columns(m, p, 1, err);
    p.role = NIB_ROLE_SSM_DT;
    if (!rc) rc = tile_columns(m, p, 1, err);
    p.role = NIB_ROLE_SSM_OUT;
    return rc ? rc : tile_columns(m, p, hp->lin_v_dim, err);
}

/* Folders have kernels as [channels][1][taps]. */
static nib_code flatten_kernel(nib_model *m, uint32_t layer, nib_err *err)
{
    nib_param *par = param(m, (nib_place){.layer = layer, .role = NIB_ROLE_SSM_CONV});
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!par->weight || par->weight->n_dims < 3) return NIB_OK;
    if (!view) return nib_fail_nomem(err, "tensor table");
    *view = *par->weight;
    view->n_dims = 2;
    view->shape[0] = nib_tensor_rows(par->weight);
    view->shape[1] = nib_tensor_cols(par->weight);
    par->gguf = view;
    return NIB_OK;
}

/* The forms of linear attention's weights that are not there. */
static nib_code place_linear(nib_model *m, nib_err *err)
{
    const nib_hparams *hp = &m->hp;
    nib_code rc = NIB_OK;
    for (uint32_t l = 0; l < hp->n_layer && !rc; l++) {
        const bool as_one = nib_steps_find(nib_model_steps(m, l), NIB_ROLE_SSM_IN);
        if (!nib_layer_is_linear(hp, l)) continue;
        if (as_one && !param(m, (nib_place){.layer = l, .role = NIB_ROLE_SSM_IN})->weight)
            rc = join_linear(m, l, err);
        else if (as_one)
            rc = split_linear(m, l, err);
        if (!rc && !is_gguf(m)) rc = flatten_kernel(m, l, err);
        if (!rc && !is_gguf(m) && m->arch->tiled_heads && hp->n_lin_v > hp->n_lin_k)
            rc = tile_heads(m, l, err);
    }
    return rc;
}

/* What leads out of latent keys and values is one tensor in folders and two in GGUF: make the form
 * that is not there. */
static nib_code place_latent(nib_model *m, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (uint32_t l = 0; l < m->hp.n_layer && m->hp.kv_rank && !rc; l++) {
        if (!param(m, (nib_place){.layer = l, .role = NIB_ROLE_ATTN_KV_B})->weight) {
            rc = join_heads(m, l, err);
            continue;
        }
        rc = split_heads(m, l, NIB_ROLE_ATTN_K_B, err);
        if (!rc) rc = split_heads(m, l, NIB_ROLE_ATTN_V_B, err);
    }
    return rc;
}

/* Give every tensor of the source its place. */
static nib_code place_all(nib_model *m, nib_err *err)
{
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const nib_tensor *t = nib_source_at(m->src, i);
        nib_place p;
        if (!nib_model_place(m, t, &p)) {
            char hint[256];
            m->has_cache_scales |= is_cache_scale(t->name);
            m->has_next_blocks |= is_of_next_block(m, t->name);
            if (harmless(t->name) || is_cache_scale(t->name) || is_skipped(m, t->name) ||
                is_of_next_block(m, t->name) || is_beside_weight(m, t))
                continue;
            explain_prefix(hint, sizeof hint, m, t->name);
            return nib_fail(err, NIB_EFORMAT,
                            "tensor '%s' has no place in architecture '%s' with %u blocks%s",
                            t->name, m->arch->name, m->hp.n_layer, hint);
        }
        const nib_fused *f = is_gguf(m) ? NULL : nib_place_fused(m->arch, t->name, &p);
        nib_code rc = check_tensor(m, t, p, f, err);
        if (!rc)
            rc = f && f->bias                                    ? place_biases(m, t, p, f, err)
                 : f || (p.expert == NIB_EXPERTS_ALL && !p.bias) ? place_parts(m, t, p, f, err)
                                                                 : place_whole(m, t, p, err);
        if (rc) return rc;
    }
    nib_code rc = place_latent(m, err);
    if (!rc) rc = place_linear(m, err);
    if (!rc) rc = stack_heads(m, err);
    return rc ? rc : stack_experts(m, err);
}

/* One of the two matrices of the vocabulary is missing while the other is there: the key that ties
 * them is what is to be looked at. */
static nib_code missing_twin(const nib_model *m, nib_role role, nib_err *err)
{
    const bool output = role == NIB_ROLE_OUTPUT;
    char name[NAME_BUF], other[NAME_BUF];
    nib_place_hf_name(m->arch, (nib_place){.role = role}, name, sizeof name);
    nib_place_hf_name(m->arch, (nib_place){.role = output ? NIB_ROLE_TOKEN_EMBD : NIB_ROLE_OUTPUT},
                      other, sizeof other);
    if (output)
        return nib_fail(
            err, NIB_EFORMAT,
            "tensor '%s' is missing, and config.json does not say "
            "'tie_word_embeddings': true: if the embedding, '%s', is to serve as output "
            "matrix, add that key",
            name, other);
    return nib_fail(err, NIB_EFORMAT,
                    "tensor '%s' is missing, while '%s' is there: where both are one and the same "
                    "('tie_word_embeddings': true, which config.json %s), store it under the "
                    "embedding's name",
                    name, other, m->hp.tied ? "says" : "does not say");
}

static bool required(const nib_model *m, nib_place p)
{
    if (p.role == NIB_ROLE_ROPE_FREQS || p.role == NIB_ROLE_ROPE_LONG ||
        p.role == NIB_ROLE_ROPE_SHORT || (p.role < NIB_ROLE_FIRST_BLOCK && p.bias) ||
        !is_used(m, p))
        return false;
    if (p.role == NIB_ROLE_OUTPUT) return !m->hp.tied;
    if (p.role < NIB_ROLE_FIRST_BLOCK) return true;
    const nib_step *s = nib_steps_find(nib_model_steps(m, p.layer), p.role);
    if (!s || s->flags & NIB_STEP_OPTIONAL) return false;
    return !p.bias || s->flags & NIB_STEP_BIAS;
}

static bool has_twin(const nib_model *m, nib_role role)
{
    return m->global[role == NIB_ROLE_OUTPUT ? NIB_ROLE_TOKEN_EMBD : NIB_ROLE_OUTPUT].weight;
}

static nib_code check_complete(nib_model *m, nib_err *err)
{
    nib_place p = {.layer = 0};
    for (p.role = NIB_ROLE_FIRST; p.role < NIB_ROLE_COUNT; p.role++) {
        uint32_t layers = p.role < NIB_ROLE_FIRST_BLOCK ? 1 : m->hp.n_layer;
        for (p.layer = 0; p.layer < layers; p.layer++) {
            const nib_param *par = param(m, p);
            p.expert = nib_role_is_expert(p.role) ? NIB_EXPERTS_ALL : 0;
            p.bias = true;
            if (!par->bias && required(m, p)) return missing(m, p, err);
            p.bias = false;
            if (par->weight || !required(m, p)) continue;
            const bool twin = p.role == NIB_ROLE_OUTPUT || p.role == NIB_ROLE_TOKEN_EMBD;
            if (twin && !is_gguf(m) && has_twin(m, p.role)) return missing_twin(m, p.role, err);
            return missing(m, p, err);
        }
    }
    return NIB_OK;
}

/* Llama 3's divisors: long wavelengths (rarely rotated pairs) are stretched by the factor, short
 * ones left alone, those between blended. */
void nib_llama3_factors(const nib_hparams *hp, float *out)
{
    const double pi = 3.14159265358979323846, orig = hp->llama3.n_ctx_orig;
    const double factor = hp->llama3.factor, low = hp->llama3.low_freq, high = hp->llama3.high_freq;
    for (uint32_t i = 0; i < hp->rope_dim / 2; i++) {
        double wavelength = 2 * pi * pow(hp->rope_base, 2.0 * i / hp->rope_dim);
        double smooth = (orig / wavelength - low) / (high - low);
        if (wavelength < orig / high)
            out[i] = 1;
        else if (wavelength > orig / low || high == low)
            out[i] = (float)factor;
        else
            out[i] = (float)(1 / ((1 - smooth) / factor + smooth));
    }
}

static nib_code read_factors(const nib_model *m, const nib_tensor *t, float *out, nib_err *err)
{
    nib_buf raw = {0};
    nib_code rc = nib_source_read_rows(m->src, t, 0, 1, out, &raw, 0, err);
    nib_buf_free(&raw);
    if (rc) return rc;
    for (uint32_t i = 0; i < m->hp.rope_dim / 2; i++)
        if (!(out[i] > 0) || !isfinite(out[i]))
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': value %u is %g, should be above 0",
                            t->name, i, (double)out[i]);
    return NIB_OK;
}

/* Divisors for long and for short contexts come together. */
static nib_code set_long_factors(nib_model *m, nib_err *err)
{
    static const nib_role role[] = {NIB_ROLE_ROPE_LONG, NIB_ROLE_ROPE_SHORT};
    float *const to[] = {m->hp.rope_long, m->hp.rope_short};
    nib_code rc = NIB_OK;
    for (int i = 0; i < 2 && !rc; i++) {
        const nib_tensor *t = m->global[role[i]].weight, *other = m->global[role[!i]].weight;
        if (!t && other)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s' is there alone", other->name);
        if (t && m->hp.rope_dim / 2 > NIB_ROPE_PAIRS_MAX)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': %u divisors, at most %d are read",
                            t->name, m->hp.rope_dim / 2, NIB_ROPE_PAIRS_MAX);
        if (t) rc = read_factors(m, t, to[i], err);
        if (t) m->hp.rope_scaling = NIB_ROPE_LONGROPE;
    }
    return rc;
}

static nib_code set_factors(nib_model *m, nib_err *err)
{
    const nib_tensor *t = m->global[NIB_ROLE_ROPE_FREQS].weight;
    nib_code rc = set_long_factors(m, err);
    if (rc || (!t && m->hp.rope_scaling != NIB_ROPE_LLAMA3)) return rc;
    m->rope_factors = nib_alloc(m->hp.rope_dim / 2, sizeof *m->rope_factors);
    if (!m->rope_factors) return nib_fail_nomem(err, "rope factors");
    if (t) return read_factors(m, t, m->rope_factors, err);
    nib_llama3_factors(&m->hp, m->rope_factors);
    return NIB_OK;
}

/* A GGUF states the vocabulary's size and tying by its tensors alone. */
static nib_code vocab_from_tensors(nib_model *m, nib_err *err)
{
    const nib_tensor *t = nib_source_find(m->src, "token_embd.weight");
    if (!t) return missing(m, (nib_place){.role = NIB_ROLE_TOKEN_EMBD}, err);
    uint64_t rows = nib_tensor_rows(t);
    if (rows < 1 || rows > NIB_WIDTH_MAX)
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': %llu rows, should be from 1 to %d", t->name,
                        (unsigned long long)rows, NIB_WIDTH_MAX);
    m->hp.n_vocab = (uint32_t)rows;
    m->hp.tied = true;
    return NIB_OK;
}

/* Do two matrices of the same shape hold different values? */
static nib_code compare_values(bool *differ, const nib_model *m, const nib_tensor *a,
                               const nib_tensor *b, nib_err *err)
{
    enum { ROWS = 64 };
    const uint64_t rows = nib_tensor_rows(a), cols = nib_tensor_cols(a);
    nib_buf raw = {0};
    float *x = nib_alloc(2 * ROWS * (size_t)cols, sizeof *x), *y = x + ROWS * cols;
    nib_code rc = x ? NIB_OK : nib_fail_nomem(err, "rows of the output matrix");
    *differ = false;
    for (uint64_t r = 0; r < rows && !rc && !*differ; r += ROWS) {
        const uint64_t n = rows - r < ROWS ? rows - r : ROWS;
        rc = nib_source_read_rows(m->src, a, r, n, x, &raw, 0, err);
        if (!rc) rc = nib_source_read_rows(m->src, b, r, n, y, &raw, 0, err);
        *differ = !rc && memcmp(x, y, (size_t)(n * cols) * sizeof *x);
    }
    nib_buf_free(&raw);
    nib_free(x);
    return rc;
}

/* A configuration may say that the embedding serves as output matrix while there is one. */
static nib_code check_tied(nib_model *m, nib_err *err)
{
    const nib_tensor *output = m->global[NIB_ROLE_OUTPUT].weight;
    const bool said = m->hp.tied;
    m->hp.tied = !output;
    if (is_gguf(m) || !said || !output) return NIB_OK;
    return compare_values(&m->head_differs, m, output, m->global[NIB_ROLE_TOKEN_EMBD].weight, err);
}

static nib_code open_model(nib_model *m, nib_err *err)
{
    nib_code rc;
    if (is_gguf(m) && (rc = vocab_from_tensors(m, err))) return rc;
    /* Every block has tensors of its own: a count without them is a lie, and not worth memory. */
    if (m->hp.n_layer > nib_source_count(m->src))
        return nib_fail(err, NIB_EFORMAT, "%u blocks, but only %zu tensors", m->hp.n_layer,
                        nib_source_count(m->src));
    m->block = nib_calloc((size_t)m->hp.n_layer * NIB_ROLE_COUNT, sizeof *m->block);
    if (!m->block) return nib_fail_nomem(err, "tensor table");
    if ((rc = place_all(m, err))) return rc;
    if ((rc = check_complete(m, err))) return rc;
    if ((rc = check_tied(m, err))) return rc;
    return set_factors(m, err);
}

/* Why the tensors are not as they should be, where the folder tells. */
static void name_method(const nib_source *src, nib_err *err)
{
    const char *method = nib_source_unknown_method(src);
    if (method)
        nib_wrap(err,
                 "quantized by '%.60s', which nibble does not read (it reads gptq, awq, "
                 "compressed-tensors, fp8, mxfp4 and GGUF): start from the original model",
                 method);
}

nib_code nib_model_open(nib_model *m, const nib_source *src, nib_err *err)
{
    *m = (nib_model){.src = src};
    nib_code rc = nib_config_read(&m->hp, &m->arch, src, err);
    if (rc) return rc;
    m->rope_interleaved =
        (m->arch->rope_adjacent && !m->hp.rope_halves) || (is_gguf(m) && m->arch->rope_interleaved);
    m->qkv_by_head = !is_gguf(m) && m->arch->qkv_by_head;
    m->tiled_heads = is_gguf(m) && m->arch->tiled_heads;
    if ((rc = open_model(m, err))) {
        nib_model_close(m);
        name_method(src, err);
        return nib_wrap(err, "%s", nib_source_path(src));
    }
    return NIB_OK;
}

void nib_model_close(nib_model *m)
{
    nib_free(m->block);
    nib_free(m->placed);
    nib_arena_free(&m->memory);
    nib_free(m->rope_factors);
    *m = (nib_model){0};
}

const char *nib_model_activations(const nib_model *m)
{
    static const char *const words[][4] = {
        [NIB_ACT_INT8] = {"f32", "int8 per token", "int8 per tensor", "int8 per token and tensor"},
        [NIB_ACT_FP8] = {"f32", "fp8 per token", "fp8 per tensor", "fp8 per token and tensor"},
        [NIB_ACT_NVFP4] = {"f32", "nvfp4", "nvfp4", "nvfp4"},
        [NIB_ACT_MXFP4] = {"f32", "mxfp4", "mxfp4", "mxfp4"},
        [NIB_ACT_MXFP8] = {"f32", "mxfp8", "mxfp8", "mxfp8"}};
    unsigned seen[NIB_ACT_NUMBERS] = {0}, n = 0;
    nib_act_number number = NIB_ACT_INT8;
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const nib_act_quant *a = nib_tensor_act(nib_source_at(m->src, i));
        if (!a) continue;
        n += !seen[a->number];
        number = a->number;
        seen[number] |= a->scheme == NIB_ACT_TOKEN ? 1 : 2;
    }
    return n > 1 ? "of several formats" : words[number][seen[number]];
}
