/* SPDX-License-Identifier: MIT */
/* run/plan/gguf_tensors.c - see gguf_tensors.h. Tests: tests/run/test_write_plain.c,
 * tests/run/test_write_folder.c. */
#include "run/plan/gguf_tensors.h"

#include "infer/tokenizer.h"

#include <string.h>

/* Is a vector of the file a matrix of one row in a folder? Keys of one head have norms like
 * queries, which Cohere has for each. */
static bool is_matrix(const nib_model *m, nib_place place, const char *name)
{
    const nib_tensor *norms = nib_model_param(m, place.layer, NIB_ROLE_ATTN_Q_NORM)->weight;
    if (place.role == NIB_ROLE_ATTN_K_NORM)
        return norms && norms->n_dims == 2 && !nib_role_is_numbered(m->arch, place.role);
    return place.role == NIB_ROLE_FFN_SHARED_GATE || strstr(name, "moe_statics");
}

static nib_code add(nib_plan *p, nib_place place, const nib_tensor *src, nib_err *err)
{
    const nib_model *m = p->model;
    nib_plan_tensor *t = &p->tensor[p->n];
    nib_tensor *view = &p->view[p->n];
    *view = *src;
    nib_place_hf_name(m->arch, place, t->name, sizeof t->name);
    view->name = nib_arena_str(&p->memory, t->name, strlen(t->name));
    if (!view->name) return nib_fail_nomem(err, "a plan");
    if (nib_model_adds_one(m, place)) view->plus = -1;
    if (view->n_dims == 1 && is_matrix(m, place, t->name)) {
        view->n_dims = 2;
        view->shape[1] = view->shape[0];
        view->shape[0] = 1;
    }
    t->place = place;
    t->src = view;
    t->rows = nib_tensor_rows(view);
    t->cols = nib_tensor_cols(view);
    t->embedding_or_output = place.role == NIB_ROLE_TOKEN_EMBD || place.role == NIB_ROLE_OUTPUT;
    if (m->rope_interleaved && m->arch->rope_interleaved &&
        (place.role == NIB_ROLE_ATTN_Q || place.role == NIB_ROLE_ATTN_K))
        t->order = (nib_row_order){.head = m->hp.head_dim, .back = true};
    p->n++;
    return NIB_OK;
}

/* Configuration and tokenizer can be written: find out before the weights are. */
static nib_code check_files(const nib_plan *p, nib_err *err)
{
    nib_json *cfg;
    nib_tokenizer *tok;
    if (!(cfg = nib_json_new_object())) return nib_fail_nomem(err, "config.json");
    nib_code rc = nib_model_to_hf(p->model, cfg, err);
    nib_json_free(cfg);
    if (!rc) rc = nib_tokenizer_open(&tok, p->model->src, err);
    if (rc) return nib_wrap(err, "%s", nib_source_path(p->model->src));
    nib_tokenizer_close(tok);
    return NIB_OK;
}

/* So many tensors of a folder is the i-th one a stack of: one for each expert, or head with a norm
 * of its own. 0: it is none. */
static size_t pieces(const nib_model *m, size_t i)
{
    const nib_placed *t = &m->placed[i];
    if (nib_role_is_expert(t->place.role))
        return t->place.expert == NIB_EXPERTS_ALL && !t->place.bias ? m->hp.n_expert : 0;
    return nib_role_is_numbered(m->arch, t->place.role) ? nib_tensor_rows(t->tensor) : 0;
}

static nib_code add_piece(nib_plan *p, nib_place at, const nib_tensor *t, nib_err *err)
{
    if (nib_role_is_expert(at.role)) return add(p, at, nib_model_tensor(p->model, at), err);
    nib_tensor row = nib_tensor_slice(t, at.expert, 1, t->name);
    row.n_dims = 1;
    row.shape[0] = nib_tensor_cols(t);
    return add(p, at, &row, err);
}

nib_code nib_plan_list_gguf(nib_plan *p, nib_err *err)
{
    const nib_model *m = p->model;
    size_t n = 0;
    nib_code rc = check_files(p, err);
    if (rc) return rc;
    for (size_t i = 0; i < m->n_placed; i++) n += pieces(m, i) ? pieces(m, i) : 1;
    p->tensor = nib_calloc(n + 1, sizeof *p->tensor); /* one more that the caller may add */
    p->record = nib_calloc(n + 1, sizeof *p->record);
    p->view = nib_calloc(n, sizeof *p->view);
    if (!p->tensor || !p->record || !p->view) return nib_fail_nomem(err, "a plan");
    for (size_t i = 0; i < m->n_placed && !rc; i++) {
        nib_place at = m->placed[i].place;
        const nib_tensor *t = m->placed[i].tensor;
        const size_t many = pieces(m, i);
        if (at.role == NIB_ROLE_ROPE_FREQS || at.role == NIB_ROLE_ROPE_LONG ||
            at.role == NIB_ROLE_ROPE_SHORT)
            continue;
        if (!many) rc = add(p, at, t, err);
        for (at.expert = 0; at.expert < many && !rc; at.expert++) rc = add_piece(p, at, t, err);
    }
    return rc;
}
