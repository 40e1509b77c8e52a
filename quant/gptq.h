/* SPDX-License-Identifier: MIT */
/* quant/gptq.h - error-compensated rounding onto any number format.
 *
 * For one linear layer y = W x with calibration inputs X the error to minimize is, for each row w
 * of W and its quantized q, (w-q)' H (w-q) with H = X'X. Rows are independent and share H. The
 * solver
 *
 *   1. fits each block's parameters with the Hessian's diagonal as importance,
 *   2. rounds column after column, each to the grid point nearest to what is best for it given the
 *      columns already rounded, if all others could still take any value (GPTQ, arXiv:2210.17323);
 *      where codes are of vectors, vector after vector, to the point nearest in the metric of the
 *      factor's diagonal block; then
 *   3. improves on it by coordinate descent under the full H: every column's best code given all
 *      others, together with neighbouring scale codes of its sub-block and a least-squares refit
 *      of the block's super-scales, until a sweep gains little.
 *
 * It knows a format only through nib_codec, so it works for all of them. */
#ifndef NIB_QUANT_GPTQ_H
#define NIB_QUANT_GPTQ_H

#include "base/ctx.h"
#include "quant/codec.h"

typedef enum {
    NIB_PARAMS_AHEAD,   /* all blocks are fitted to the original weights (static groups)         */
    NIB_PARAMS_REACHED, /* a block is fitted when the solver reaches it, on compensated weights */
} nib_params_when;

typedef enum {
    NIB_ORDER_NATURAL,  /* as stored                                                             */
    NIB_ORDER_DIAGONAL, /* by decreasing diagonal of H (act-order). With NIB_PARAMS_REACHED the
                           blocks themselves are made of columns in that order: nib_gptq_outer() */
    NIB_ORDER_GROUPS,   /* groups by their largest diagonal, then inside each (group aware)      */
} nib_order;

#define NIB_GPTQ_DAMP 0.01
enum { NIB_GPTQ_SWEEPS = 8 };
/* From so many tokens for each column what is off a Hessian's diagonal counts half. */
enum { NIB_GPTQ_FEW = 8 };

typedef struct {
    double damp;          /* share of the mean diagonal added to it; default NIB_GPTQ_DAMP  */
    nib_order order;      /* default NIB_ORDER_DIAGONAL                                     */
    size_t group;         /* NIB_ORDER_GROUPS: columns of a group; with NIB_PARAMS_REACHED */
                          /* that must be the codec's block                                 */
    nib_params_when when; /* default NIB_PARAMS_AHEAD                                       */
    size_t lazy;     /* columns that are rounded between two matrix products, default 128; with   */
                     /* NIB_PARAMS_REACHED a block sees the errors of the columns before these    */
    unsigned sweeps; /* most coordinate-descent sweeps, default NIB_GPTQ_SWEEPS; 0 = plain GPTQ */
} nib_gptq_opts;

nib_gptq_opts nib_gptq_defaults(void);

/* A solver: options, work memory that is reused from layer to layer, and one prepared Hessian,
 * which all weights that read the same input share. One user at a time. */
typedef struct nib_gptq nib_gptq;

NIB_MUST_USE nib_code nib_gptq_new(nib_gptq **out, const nib_gptq_opts *opts, const nib_ctx *ctx,
                                   nib_err *err);
void nib_gptq_free(nib_gptq *g); /* accepts NULL */

/* Take a Hessian, h[cols][cols]: X'X or any multiple, symmetric, upper triangle read; it may be
 * thrown away afterwards. It was summed over so many tokens; 0: it is exact. What is off the
 * diagonal is an estimate from them and counts the less the fewer they are for each column: it is
 * multiplied by t^2 / (t^2 + NIB_GPTQ_FEW^2) for t = tokens / cols, shrunk towards uncorrelated
 * inputs; docs/gptq.md has what it was chosen by. Inputs that never fired
 * (zero diagonal) are dead: their weights count as 0. When the factorization fails, damping is
 * raised and tried again with a warning. together: columns that stay together in the order, the
 * largest `vec` of the codecs that will be solved, at least 1; it divides cols. NIB_ENUMERIC: not
 * finite, or no damping helps. */
NIB_MUST_USE nib_code nib_gptq_prepare(nib_gptq *g, const float *h, size_t cols, size_t tokens,
                                       size_t together, nib_err *err);
/* The damping that was used. */
double nib_gptq_damp(const nib_gptq *g);
/* The factor of the damped Hessian, H = R'R: r[cols][cols], upper triangle, in the order of
 * rounding backwards: its row and column i are stored column outer[perm[i]]. Valid until the next
 * preparation. */
typedef struct {
    const float *r;
    const uint32_t *perm, *outer;
    size_t cols;
    float keep; /* what is off the diagonal of H was multiplied by this before */
} nib_gptq_factor;

nib_gptq_factor nib_gptq_factored(const nib_gptq *g);
/* NULL: blocks are of neighbouring columns, as stored. Otherwise (NIB_ORDER_DIAGONAL with
 * NIB_PARAMS_REACHED) column outer[c] is the c-th of the blocks: it belongs to block c /
 * codec->block. */
const uint32_t *nib_gptq_outer(const nib_gptq *g);

/* Errors as shares of the output's energy: tr(E H E') / tr(W H W'). */
typedef struct {
    double rtn;    /* importance-weighted round-to-nearest: what step 1 alone gives */
    double solved; /* the result */
    double energy; /* tr(W H W') */
} nib_gptq_report;

/* Solve w[rows][cols] onto codec c under the prepared Hessian. code[rows][cols] and
 * param[rows][cols/block] are the caller's; pack() turns them into bytes. report may be NULL (the
 * measuring costs about two sweeps). Parallel over rows; the same result for any number of threads.
 */
NIB_MUST_USE nib_code nib_gptq_solve(nib_gptq *g, const nib_codec *c, const float *w, size_t rows,
                                     uint8_t *code, nib_block_param *param, nib_gptq_report *report,
                                     nib_err *err);

#endif
