/* SPDX-License-Identifier: MIT */
/* report/layer_errors.h - how far a model's weights are from the base's, layer by layer.
 *
 * The relative error of a weight is |w' - w| / |w|, both as Frobenius norms over the whole matrix,
 * of experts over all of them. Rows stand in the base's order whatever containers the two are in.
 * Channels that a method has rescaled (AWQ, SmoothQuant) or turned count as errors, though the
 * model computes the same. Memory is a few rows of each thread. */
#ifndef NIB_REPORT_LAYER_ERRORS_H
#define NIB_REPORT_LAYER_ERRORS_H

#include "base/ctx.h"
#include "infer/model.h"

enum { NIB_WEIGHT_BINS = 72, NIB_WEIGHT_SAMPLE = 32 };

/* Of one matrix: its values, before and after, and the block of weights that moved most. */
typedef struct {
    nib_place place;
    double error;
    double span;                    /* bins are equal parts of -span .. span                */
    double before[NIB_WEIGHT_BINS]; /* shares of all weights                                */
    double after[NIB_WEIGHT_BINS];
    uint64_t row, col; /* of the block, in the model's rows                    */
    size_t n;          /* weights of the block                                 */
    float block_before[NIB_WEIGHT_SAMPLE], block_after[NIB_WEIGHT_SAMPLE];
} nib_weight_picture;

typedef struct {
    uint32_t n_layer;
    nib_role role[NIB_ROLE_COUNT]; /* [n_roles] linears of the blocks that either layer has */
    size_t n_roles;
    double *error;            /* [n_layer][n_roles], owned; NAN: there is none to compare  */
    double embd, output;      /* of the embedding, of the output matrix; NAN: none         */
    double least, most;       /* of `error` above 0; 0: all are the same weights           */
    nib_weight_picture worst; /* the matrix with the largest error                      */
} nib_layer_errors;

/* False: the two cannot be compared weight by weight (another architecture, other shapes), *why
 * says so, in a static string. */
bool nib_layer_errors_possible(const nib_model *base, const nib_model *other, const char **why);
/* NIB_EINVAL where that is not possible. */
NIB_MUST_USE nib_code nib_layer_errors_measure(nib_layer_errors *e, const nib_model *base,
                                               const nib_model *other, const nib_ctx *ctx,
                                               nib_err *err);
void nib_layer_errors_free(nib_layer_errors *e); /* accepts {0} */

#endif
