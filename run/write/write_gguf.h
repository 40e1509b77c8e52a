/* SPDX-License-Identifier: MIT */
/* run/write/write_gguf.h - carry out a plan: read, quantize and write, a stream of bounded memory.
 *
 * The output is cut into pieces of some rows. A batch of pieces is read and encoded in parallel
 * while the batch before it is written. What is written does not depend on the number of threads.
 */
#ifndef NIB_RUN_WRITE_WRITE_GGUF_H
#define NIB_RUN_WRITE_WRITE_GGUF_H

#include "run/plan/plan.h"
#include "formats/solved_file.h"

typedef struct {
    size_t zero_importance_blocks; /* had no importance but 0, and were treated as equal */
    size_t rows_without_zero;      /* held weights of exactly 0 in a format that has none  */
    double seconds;                /* until the files were in place and checked */
} nib_quantize_result;

/* Run the plan. `solved` holds the tensors that are marked so; NULL when none is. NaN, infinities
 * and weights too large for their format are errors that name tensor, row and column; after any
 * error the target is what it was before. */
NIB_MUST_USE nib_code nib_write_gguf(nib_quantize_result *r, const nib_plan *p,
                                     const nib_solved_file *solved, const nib_ctx *ctx,
                                     nib_err *err);

/* Where the bytes of tensors go: tensor after tensor of the plan, each in any number of pieces. */
typedef struct {
    nib_code (*write)(void *arg, size_t tensor, const void *data, size_t n, nib_err *err);
    void *arg;
} nib_sink;

/* The stream alone, for writers of other files: make the tensors of the plan and hand them to
 * `sink`, one call at a time. Adds to the counts of r. */
NIB_MUST_USE nib_code nib_quantize_stream(nib_quantize_result *r, const nib_plan *p,
                                          const nib_solved_file *solved, const nib_sink *sink,
                                          const nib_ctx *ctx, nib_err *err);

#endif
