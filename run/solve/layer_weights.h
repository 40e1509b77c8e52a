/* SPDX-License-Identifier: MIT */
/* run/solve/layer_weights.h - the part of a plan that is one transformer block, with its weights in
 * memory.
 *
 * What the output will not hold as it is in the source is loaded as f32 and stands in for the
 * source's weights in the forward pass, so that it can be changed under it. Of experts no more than
 * one is in memory. */
#ifndef NIB_RUN_SOLVE_LAYER_WEIGHTS_H
#define NIB_RUN_SOLVE_LAYER_WEIGHTS_H

#include "infer/graph.h"
#include "run/solve/commit.h"

/* A tensor of the output and its values. */
typedef struct {
    const nib_plan_tensor *tensor; /* NULL: none, the source's serves */
    float *v;                      /* [rows][cols]                    */
    nib_act_quant act;             /* of a weight that is packed: how its input is rounded */
    nib_buf memory;
} nib_layer_weight;

/* Start with the first three set, the rest {0}. */
typedef struct {
    const nib_plan *p;
    nib_graph *graph;
    const nib_ctx *ctx;
    uint32_t layer;
    nib_layer_weight weight[NIB_ROLE_COUNT]; /* matrices, and norms when they are rescaled   */
    nib_layer_weight bias[NIB_ROLE_COUNT];   /* of linears whose outputs are rescaled        */
    nib_plan_tensor
        part[NIB_ROLE_COUNT - NIB_ROLE_FIRST_EXPERT]; /* of the one expert in `weight` */
    nib_expert_weights experts;
    nib_commit *keep; /* where solved experts are read back from */
    nib_buf raw;
} nib_layer_weights;

/* Does a block in memory hold it? What is solved, and weights that the writer will round. */
bool nib_layer_weights_holds(const nib_plan_tensor *t);
/* The block's tensors of the plan from the source. Weights that are not finite are an error that
 * names tensor, row and column. */
NIB_MUST_USE nib_code nib_layer_weights_load(nib_layer_weights *b, uint32_t layer, nib_err *err);
/* One expert's weights of the loaded layer, in the places of its roles; without effect on the
 * graph.
 */
NIB_MUST_USE nib_code nib_layer_weights_load_expert(nib_layer_weights *b, uint32_t expert,
                                                    nib_err *err);
void nib_layer_weights_drop_expert(nib_layer_weights *b);
/* Once all experts are solved: the graph reads each back when its turn comes, or rounds it as the
 * writer will; keep NULL: the source's. */
void nib_layer_weights_use_experts(nib_layer_weights *b, nib_commit *keep);
/* The same as an earlier run wrote them. */
NIB_MUST_USE nib_code nib_layer_weights_load_kept(nib_layer_weights *b, nib_commit *keep,
                                                  uint32_t layer, nib_err *err);
/* Once all weights are packed: the graph rounds their inputs as engines will. */
void nib_layer_weights_round_inputs(const nib_layer_weights *b);
/* From now on the graph uses the block's own weights, or the source's. */
void nib_layer_weights_use(const nib_layer_weights *b, bool own);
/* The source's for good: the block holds nothing any more. */
void nib_layer_weights_release(nib_layer_weights *b);
void nib_layer_weights_free(nib_layer_weights *b);

#endif
