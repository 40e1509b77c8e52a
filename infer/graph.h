/* SPDX-License-Identifier: MIT */
/* infer/graph.h - the reference forward pass: f32, batched, multi-threaded.
 *
 * Weights stay packed in the source and are decoded panel by panel as they are used, so running a
 * 4-bit file needs memory near the file's size. Results do not depend on the number of threads.
 * The pass is offered in steps, so that a caller can work block by block:
 *
 *     x = embed(ids); for each layer: block(x); logits(x, rows) -> consumer
 *
 * A batch is n_seq sequences of n_tok tokens each, row-major: row = seq * n_tok + t; x is
 * [rows][n_embd]. */
#ifndef NIB_INFER_GRAPH_H
#define NIB_INFER_GRAPH_H

#include "base/ctx.h"
#include "infer/kv_format.h"
#include "infer/model.h"

/* Run state: scratch memory and the KV cache. One user at a time. */
typedef struct nib_graph nib_graph;

/* An input of linear layers, as it comes by: x[rows][cols], valid during the call only. */
typedef struct {
    uint32_t layer;
    const nib_role *role; /* [n_roles] all that read it: q, k and v share one; gate and up do     */
    size_t n_roles;
    uint32_t expert;       /* of roles of experts: whose input it is, and ...                    */
    const uint32_t *token; /* ... [rows] which rows of the batch it has, ascending; NULL: all     */
    const float *scale;    /* [rows] by which they were multiplied before; NULL: by nothing       */
    const float *x;
    size_t rows, cols;
} nib_linear_input;

/* Watches the inputs of linear layers. Called from one thread; in the order of the steps, experts
 * one after the other, those without a token left out. */
typedef struct {
    nib_code (*linear_input)(void *arg, const nib_linear_input *in, nib_err *err);
    void *arg;
    bool all_experts; /* show every expert every token, also those that it is not chosen for; what
                         the block computes stays as it is */
} nib_observer;

/* Several that watch one pass, in this order; start with {.n = 0}. */
typedef struct {
    nib_observer of[40];
    size_t n;
    bool all_experts; /* one of them asks for it */
} nib_observers;

void nib_observers_add(nib_observers *all, nib_observer one);
/* Keeps a pointer to all. */
nib_observer nib_observers_watch(nib_observers *all);

/* max_seq: most sequences of a batch; max_ctx: most positions of a sequence, cache included.
 * cache: keep keys and values of every layer for later calls with pos > 0; without it every batch
 * is of whole sequences, pos = 0, and they live for the length of one block. Memory is taken as
 * batches need it. `ctx` is copied. */
NIB_MUST_USE nib_code nib_graph_new(nib_graph **out, const nib_model *m, const nib_ctx *ctx,
                                    size_t max_seq, size_t max_ctx, bool cache, nib_err *err);
void nib_graph_free(nib_graph *g); /* accepts NULL */
const nib_model *nib_graph_model(const nib_graph *g);

/* From now on keep keys and values in a cache of that kind, which is empty; also of whole
 * sequences: what attention sees is what the cache holds. */
NIB_MUST_USE nib_code nib_graph_keep(nib_graph *g, const nib_kv_choice *how, nib_err *err);

/* Bytes of the cache. */
uint64_t nib_graph_cache_bytes(const nib_graph *g);

/* Is shown keys k[rows][n_head_kv][head_dim], after their rotation by position, and values
 * v[rows][n_head_kv][value_dim] of each layer, before they are kept or anyone attends to them. */
typedef struct {
    void (*seen)(void *arg, uint32_t layer, const float *k, const float *v, size_t rows);
    void *arg;
} nib_kv_watch;

void nib_graph_watch_keys(nib_graph *g, nib_kv_watch watch);

/* From now on a batch of at most NIB_FEW_ROWS rows (linear.h) goes row by row, with packed weights
 * that stay in memory: fast for single tokens, and a token has the same bits alone and among
 * others. Larger batches go as ever. memory: what weights may take, borrowed; it is less what they
 * took; NULL: any. */
void nib_graph_few(nib_graph *g, uint64_t *memory);

/* In a graph with a cache: what sequence `to` holds of positions before n becomes what `from` holds
 * there. */
void nib_graph_copy_sequence(nib_graph *g, size_t from, size_t to, size_t n);

/* Rows of the embedding. An id outside the vocabulary is an error. */
NIB_MUST_USE nib_code nib_graph_embed(nib_graph *g, const int32_t *ids, size_t rows, float *x,
                                      nib_err *err);

/* Run block `layer` over x in place. Tokens stand at positions pos .. pos+n_tok-1 of their
 * sequences; keys and values of positions before `pos` come from the cache (earlier calls), and
 * this call's are added to it. The first block adds learned positions, where the model has them. */
NIB_MUST_USE nib_code nib_graph_block(nib_graph *g, uint32_t layer, float *x, size_t n_seq,
                                      size_t n_tok, size_t pos, const nib_observer *obs,
                                      nib_err *err);

/* From now on use these, borrowed, in place of the source's weight (w[out][in], or a norm's w[n])
 * or bias for this role of every block; NULL: the source's again. For callers that go block by
 * block with weights of their own, with or without a forward pass: g may be NULL. */
void nib_graph_replace(nib_graph *g, nib_role role, const float *w);
void nib_graph_replace_bias(nib_graph *g, nib_role role, const float *bias);

/* From now on round what this role reads as `act`, borrowed, says, where a caller's own weight
 * stands in for the source's; NULL: its input is left as it is again. The product with the rounded
 * values is in f32, and so within its errors of that in integers. */
void nib_graph_round_input(nib_graph *g, nib_role role, const nib_act_quant *act);
/* From now on inputs that the source has engines round to small floats stay as they are: where it
 * is the original of something else, whose engine will not round them so. */
void nib_graph_keep_inputs(nib_graph *g);

/* Where a caller has weights of experts of its own: asked for each when its turn comes, for a place
 * with an expert. *w[out][in] is valid until the next call; NULL: the source's serves. *act as in
 * nib_graph_round_input(). */
typedef struct {
    nib_code (*get)(void *arg, nib_place p, const float **w, const nib_act_quant **act,
                    nib_err *err);
    void *arg;
} nib_expert_weights;

/* From now on ask `from`, borrowed, for weights of experts; NULL: the source's again. */
void nib_graph_replace_experts(nib_graph *g, const nib_expert_weights *from);

/* What an expert of a block makes of x[rows][n_embd], before its share is taken: for the observer,
 * who sees all inputs of its linears; token is NULL. */
NIB_MUST_USE nib_code nib_graph_expert(nib_graph *g, uint32_t layer, uint32_t expert,
                                       const float *x, size_t rows, const nib_observer *obs,
                                       nib_err *err);

/* The rest of a branch of block `layer`, attention or feed-forward, from the input of the linear
 * `role` on: y[rows][n_embd] is what the branch adds to the residual when x[rows][in] is what role,
 * and the linears that share its input, are given; without the gate of a shared expert. Whole
 * sequences from position 0; not for a graph with a cache. y is not x. */
NIB_MUST_USE nib_code nib_graph_branch(nib_graph *g, uint32_t layer, nib_role role, const float *x,
                                       size_t n_seq, size_t n_tok, float *y, nib_err *err);

/* Receives the logits of one row; calls for different rows may come from different threads at once.
 * `row` indexes the list given to nib_graph_logits. */
typedef void nib_logits_fn(void *arg, size_t row, const float *logits, size_t n_vocab);

/* Final norm and output matrix for the n listed rows of x, a few rows at a time: memory
 * O(vocabulary). The observer sees the output matrix's input (role OUTPUT, layer 0). fn NULL: feeds
 * the observer alone and leaves the product out. */
NIB_MUST_USE nib_code nib_graph_logits(nib_graph *g, const float *x, const size_t *rows, size_t n,
                                       nib_logits_fn *fn, void *arg, const nib_observer *obs,
                                       nib_err *err);

#endif
