/* SPDX-License-Identifier: MIT */
/* run/plan/carry.h - a source's integers on the grid of another format, without rounding: can they
 * be, and what they are there. */
#ifndef NIB_RUN_PLAN_CARRY_H
#define NIB_RUN_PLAN_CARRY_H

#include "base/arena.h"
#include "quant/regrid.h"
#include "run/plan/plan.h"

/* Where a matrix is not held; why is NIB_HELD where it is. */
typedef struct {
    nib_held why;
    uint64_t row, col; /* the first such row of the source, and column of the result */
} nib_carry_fault;

/* One matrix of integers (nib_tensor_ints()) to be put on a grid. */
typedef struct {
    const nib_source *src;
    const nib_tensor *t;
    nib_grid to;
    const uint32_t *col_from; /* [cols] column c of the result is this one of the source; NULL   */
    const uint32_t *row_to;   /* [rows] row of the result that this row of the source is; NULL    */
} nib_carry;

/* All rows: codes and parameters into code[rows][cols] and param[rows][groups], or, where both are
 * NULL, only a look. NIB_ENUMERIC names a scale that is no number; that the grid does not hold a
 * row is no error but said in *fault. Parallel over rows. */
NIB_MUST_USE nib_code nib_carry_matrix(uint8_t *code, nib_block_param *param,
                                       nib_carry_fault *fault, const nib_carry *k,
                                       const nib_ctx *ctx, nib_err *err);

/* The fault in words, for "tensor 'X': ...". */
void nib_carry_say(char *text, size_t n, const nib_carry_fault *fault, const nib_grid *to);

/* The grid that a planned tensor is written on; false: it is none of integers. */
bool nib_carry_grid(nib_grid *to, const nib_plan_tensor *t);
/* The grid of a packed layer. */
nib_grid nib_carry_grid_of(const nib_packed_parts *l);

/* Columns in the order of their groups, where these are not of neighbours: [cols], or NULL where
 * they are, and where groups differ in size. */
NIB_MUST_USE nib_code nib_carry_order(const uint32_t **order, const nib_tensor *t,
                                      nib_arena *memory, nib_err *err);

/* How the columns of a weight that reads what attention makes are heads. */
typedef struct {
    size_t n, n_kv, dim; /* query heads, heads of values, channels of either */
} nib_carry_heads;

/* The same where columns stay within their head and all query heads that share values have one
 * order: columns[n][dim], and the order of the values' channels in rows[n_kv][dim]. Both NULL where
 * groups are in order, or no such orders bring the columns of a group together. */
NIB_MUST_USE nib_code nib_carry_order_in_heads(const uint32_t **columns, const uint32_t **rows,
                                               const nib_tensor *t, const nib_carry_heads *heads,
                                               nib_arena *memory, nib_err *err);

#endif
