/* SPDX-License-Identifier: MIT */
/* run/plan/memory.h - what carrying out a plan will keep in memory and on the disk, from shapes
 * alone. */
#ifndef NIB_RUN_PLAN_MEMORY_H
#define NIB_RUN_PLAN_MEMORY_H

#include "run/plan/solve_opts.h"

/* The output is made in pieces of so many rows of a tensor, ... */
uint64_t nib_piece_rows(const nib_plan_tensor *t);
/* ... and written in batches of pieces of at most so many bytes. */
uint64_t nib_batch_bytes(const nib_plan *p);

/* Estimate of the memory that writing the output takes beside the opened model, in bytes. */
uint64_t nib_quantize_memory(const nib_plan *p, int threads);
/* The same of rounding the weights of a packed folder to nearest. */
uint64_t nib_rounding_memory(const nib_plan *p);
/* Estimate of the memory that a run over so many windows takes beside the opened model, in bytes.
 */
uint64_t nib_solve_memory(const nib_plan *p, size_t windows, size_t n_ctx,
                          const nib_solve_opts *opts, int threads);
/* What an output adds to that where another is solved beside it (run/solve/solve.h). */
uint64_t nib_solve_memory_beside(const nib_plan *p, size_t windows, size_t n_ctx,
                                 const nib_solve_opts *opts);
/* Bytes of activations that it writes to a file because they are more than opts->memory. */
uint64_t nib_solve_spilled(const nib_plan *p, size_t windows, size_t n_ctx,
                           const nib_solve_opts *opts);

#endif
