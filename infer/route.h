/* SPDX-License-Identifier: MIT */
/* infer/route.h - inside infer/: which experts a token goes to. */
#ifndef NIB_INFER_ROUTE_H
#define NIB_INFER_ROUTE_H

#include "infer/graph_state.h"

/* Room for the routes of a batch; false: no memory. */
bool nib_route_reserve(nib_graph *g, size_t rows);

/* Of the router's scores[n_expert] for row `row` of the batch, which are used up: which
 * n_expert_used experts count (of equals the first) and how much, as hp->routing has it.
 * bias[n_expert], or NULL, is added while they are chosen; of groups of experts only the
 * n_group_used best count. */
void nib_route(nib_graph *g, float *scores, const float *bias, size_t row);

/* The routes of a batch by expert: entries [first[e], first[e + 1]) are expert e's tokens,
 * ascending, and its share of each. Valid until the next batch. */
typedef struct {
    const uint32_t *first; /* [n_expert + 1] */
    const uint32_t *token;
    const float *share;
} nib_routed;

NIB_MUST_USE nib_code nib_route_sort(nib_routed *out, nib_graph *g, size_t rows, nib_err *err);

#endif
