/* SPDX-License-Identifier: MIT */
/* infer/graph_state.h - inside infer/: what a forward pass holds between its steps (graph.h): the
 * model's vectors, decoded once, tables of angles, the cache, scratch memory, and what the caller
 * put in place of the model's own. */
#ifndef NIB_INFER_GRAPH_STATE_H
#define NIB_INFER_GRAPH_STATE_H

#include "infer/graph.h"
#include "infer/linear.h"
#include "infer/ops.h"

/* A parameter's decoded vectors; NULL where it has none. */
typedef struct {
    const float *weight, *bias;
} nib_graph_vectors;

struct nib_graph {
    const nib_model *m;
    nib_ctx ctx;
    const nib_ops *ops;
    size_t max_seq, max_ctx;
    nib_linear linear;
    float *vector_pool;
    nib_graph_vectors *global, *block; /* like the model's tables; matrices have no weight here */
    float *cosine, *sine;              /* [max_ctx][head_dim / 2]                               */
    float *k_cache, *v_cache;          /* [n_layer][max_seq][max_ctx][kv width]; NULL: no cache  */
    nib_buf hidden;                    /* [rows][n_embd] normed input                            */
    nib_buf work;                      /* q, k, v of a block, then gate and up                   */
    nib_buf logits;                    /* [a few rows][n_vocab]                                  */
    nib_buf *scratch;                  /* [threads] attention                                    */
    nib_graph_vectors replaced[NIB_ROLE_COUNT]; /* the caller's weights and biases, by role       */
    const nib_act_quant *act[NIB_ROLE_COUNT];   /* how inputs of the caller's weights are rounded */
};

/* Floats of a row of queries, and of keys or values. */
static inline size_t nib_graph_q_width(const nib_graph *g)
{
    return (size_t)g->m->hp.n_head * g->m->hp.head_dim;
}

static inline size_t nib_graph_kv_width(const nib_graph *g)
{
    return (size_t)g->m->hp.n_head_kv * g->m->hp.head_dim;
}

/* The vectors of a role, a norm's weight or a bias: the caller's, or the model's. */
nib_graph_vectors nib_graph_vectors_of(const nib_graph *g, uint32_t layer, nib_role r);

#endif
