/* SPDX-License-Identifier: MIT */
/* quant/grouped.h - a weight of small codes in memory, laid out for products with vectors: what
 * packed folders hold, whatever their layout in the file is.
 *
 *   value[r][c] = scale[r][g] * (code[r][c] - zero[r][g])     g the group of column c, or
 *   value[r][c] = scale[r][g] * level[code[r][c]]
 *
 * Columns are brought into the order of their groups, and each group is filled up to runs of 32, of
 * 16 bytes (column j of a run below, j + 16 above) or of 32. A vector is brought into the same
 * order before it is multiplied, with zeros where a run is filled up, so groups of columns that lie
 * apart (GPTQ's order of activation) cost no more than others. Sums are those of quant/dot.h: one
 * of a group's levels times the vector's values, which meets the group's scale, and the vector's
 * own sum, which meets the zero point. */
#ifndef NIB_QUANT_GROUPED_H
#define NIB_QUANT_GROUPED_H

#include "base/err.h"
#include "quant/dot.h"

typedef struct {
    size_t rows, cols, groups;
    unsigned bits;         /* of a code: 1 to 8; up to 4 take half a byte                  */
    size_t group;          /* columns c have group c / group, where there is no ...        */
    const uint32_t *g_idx; /* [cols] group of each column, each below `groups`; NULL: none */
    const float *level;    /* [1 << bits] what codes stand for; NULL: integers             */
} nib_grouped_shape;

typedef struct nib_grouped nib_grouped;

/* What it takes, in bytes; UINT64_MAX: more than can be. */
uint64_t nib_grouped_bytes(const nib_grouped_shape *s);
/* Room for the weight; what `s` points to is copied. */
NIB_MUST_USE nib_code nib_grouped_new(nib_grouped **out, const nib_grouped_shape *s, nib_err *err);
void nib_grouped_free(nib_grouped *w); /* accepts NULL */
/* Fill in a row: code[cols], scale[groups], zero[groups] of integers. Rows may be filled in by any
 * thread. */
void nib_grouped_set(nib_grouped *w, size_t row, const uint8_t *code, const float *scale,
                     const int32_t *zero);

/* All rows are filled in: zero points that are all in the middle are forgotten, as symmetric
 * formats have them. */
void nib_grouped_done(nib_grouped *w);

/* A vector x[cols] in the weight's order, to[nib_grouped_step()], and the sums of its groups,
 * sum[nib_grouped_groups()]. */
size_t nib_grouped_step(const nib_grouped *w);
size_t nib_grouped_groups(const nib_grouped *w);
void nib_grouped_order(float *to, float *sum, const nib_grouped *w, const float *x);
/* y[i * y_step + r] = row (first + r) . x[i] for n_rows rows; in->x, in->sum as the above has made
 * them: in->step is nib_grouped_step(), in->sum_step the number of groups. */
void nib_grouped_dot(const nib_grouped *w, float *y, size_t y_step, size_t first, size_t n_rows,
                     const nib_dot_in *in, unsigned cpu);

#endif
