/* SPDX-License-Identifier: MIT */
/* infer/route.h - inside infer/: which experts a token goes to. */
#ifndef NIB_INFER_ROUTE_H
#define NIB_INFER_ROUTE_H

#include "infer/graph_state.h"

/* Room for the routes of a batch; false: no memory. */
bool nib_route_reserve(nib_graph *g, size_t rows);

/* Of the router's scores[n_expert] for row `row` of the batch, which are used up: the softmax over
 * all experts, of which the largest n_expert_used count (of equals the first), as shares that add
 * up to 1 where the model says so. */
void nib_route(nib_graph *g, float *scores, size_t row);

/* The routes of a batch by expert: entries [first[e], first[e + 1]) are expert e's tokens,
 * ascending, and its share of each. Valid until the next batch. */
typedef struct {
    const uint32_t *first; /* [n_expert + 1] */
    const uint32_t *token;
    const float *share;
} nib_routed;

NIB_MUST_USE nib_code nib_route_sort(nib_routed *out, nib_graph *g, size_t rows, nib_err *err);

#endif
