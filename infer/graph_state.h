/* SPDX-License-Identifier: MIT */
/* infer/graph_state.h - inside infer/: what a forward pass holds between its steps (graph.h): the
 * model's vectors, decoded once, tables of angles, the cache, scratch memory, and what the caller
 * put in place of the model's own. */
#ifndef NIB_INFER_GRAPH_STATE_H
#define NIB_INFER_GRAPH_STATE_H

#include "infer/graph.h"
#include "infer/kv_cache.h"
#include "infer/kv_scales.h"
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
    struct {
        float *cosine, *sine; /* [max_ctx][rope_dim / 2] */
    } turn[2];                /* of layers that see all, and of sliding ones where those differ  */
    float *ones;  /* [widest of a row] for norms without weights, and what has no gate */
    float *slope; /* [n_head] of ALiBi; NULL: none                                    */
    nib_kv_watch watch;
    nib_kv_scales kv_scales; /* of a cache that has such */
    bool has_cache;
    nib_kv_cache cache;                /* [max_seq] sequences of max_ctx positions               */
    nib_buf work;                      /* registers of a block; normed input of the output matrix */
    nib_buf logits;                    /* [a few rows][n_vocab]                                  */
    nib_buf narrow;                    /* [rows][n_embd_in] where that is not n_embd             */
    nib_buf route_expert, route_share; /* uint32_t, float [rows][n_expert_used] of a batch       */
    bool all_experts;           /* each expert is shown all tokens, for who watches               */
    nib_buf route_all;          /* with it, where inputs are scaled: float [rows][n_expert]       */
    nib_buf other, other_share; /* tokens that did not choose an expert: uint32_t, float          */
    nib_buf token, share;       /* of all experts: uint32_t, float [rows * n_expert_used]         */
    nib_buf routed;             /* what experts read, for the tokens of one                       */
    const nib_expert_weights *experts; /* the caller's weights of experts; NULL: the source's    */
    nib_buf *scratch;                  /* [threads] attention                                    */
    nib_graph_vectors replaced[NIB_ROLE_COUNT]; /* the caller's weights and biases, by role       */
    const nib_act_quant *act[NIB_ROLE_COUNT];   /* how inputs of the caller's weights are rounded */
};

/* The vectors of a role, a norm's weight or a bias: the caller's, or the model's. */
nib_graph_vectors nib_graph_vectors_of(const nib_graph *g, uint32_t layer, nib_role r);

#endif
