/* SPDX-License-Identifier: MIT */
/* calib/block_pass.h - calibration windows on their way through a model, one block after the other.
 */
#ifndef NIB_CALIB_BLOCK_PASS_H
#define NIB_CALIB_BLOCK_PASS_H

#include "calib/text.h"
#include "infer/graph.h"
#include "calib/activation_store.h"

/* What runs the windows: a graph and room for a batch. One user at a time. */
typedef struct {
    nib_graph *graph;
    const nib_windows *w;
    size_t batch; /* windows that run through a block at a time */
    float *now;   /* [batch * n_ctx][n_embd]                     */
    nib_progress progress;
    double done; /* units of progress: windows through a block  */
} nib_runner;

/* Tokens that run through a block at a time, in windows of n_ctx. */
size_t nib_runner_rows(size_t n_ctx);
/* Fails when the model cannot run over them, as nib_pass_check() says. */
NIB_MUST_USE nib_code nib_runner_new(nib_runner *r, const nib_model *m, const nib_windows *w,
                                     const nib_ctx *ctx, nib_err *err);
void nib_runner_free(nib_runner *r); /* accepts {0} */

/* The activations of windows [first, first + n) between two blocks. */
typedef struct {
    nib_activation_store rows; /* [n * n_ctx][n_embd] */
    size_t first, n;
} nib_block_pass;

/* Embed the windows: what goes into block 0. `limit` and `beside` as in nib_activation_store_new().
 */
NIB_MUST_USE nib_code nib_block_pass_open(nib_block_pass *s, nib_runner *r, size_t first, size_t n,
                                          uint64_t limit, const char *beside, nib_err *err);
void nib_block_pass_close(nib_block_pass *s); /* accepts {0} */

/* Run windows [from, end) of the stream, counted in it, through a block; keep: what comes out takes
 * their place. obs may be NULL. */
NIB_MUST_USE nib_code nib_block_pass_run(nib_block_pass *s, nib_runner *r, uint32_t layer,
                                         size_t from, size_t end, bool keep,
                                         const nib_observer *obs, nib_err *err);

#endif
