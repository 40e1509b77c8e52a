/* SPDX-License-Identifier: MIT */
/* calib/hessian_store.h - second moments of a model's activations on disk: collected once, solved
 * with many times.
 *
 * A folder holds, so that nobody needs more than one block's in memory,
 *   statistics.json          of which model and text they are: nib_hessian_store_head
 *   block-00000.safetensors  and so on, one file for each transformer block: for every distinct
 *                            input of its linear layers one F32 tensor, named by the roles that
 *                            read it ("ffn_gate+ffn_up"): the upper triangle of X'X, row by row,
 *                            cols (cols + 1) / 2 values */
#ifndef NIB_CALIB_HESSIAN_STORE_H
#define NIB_CALIB_HESSIAN_STORE_H

#include "calib/text.h"
#include "infer/model.h"

/* The file that makes a folder one of statistics. */
#define NIB_STATS_HEAD_FILE "statistics.json"

typedef struct {
    uint64_t model; /* nib_model_fingerprint()          */
    uint64_t text;  /* the same of the windows' tokens  */
    uint64_t n_layer, windows, n_ctx;
} nib_hessian_store_head;

/* An input of a block: the roles that read it, and its second moments. */
typedef struct {
    const nib_role *role; /* [n_roles] */
    size_t n_roles, cols;
    const float *h; /* [cols][cols], the upper triangle counts */
} nib_hessian_store_input;

/* Of a model and the windows that run through it. */
NIB_MUST_USE nib_code nib_hessian_store_head_make(nib_hessian_store_head *h, const nib_model *m,
                                                  const nib_windows *w, nib_err *err);
/* Write into the folder `dir`. Moments that are not finite are NIB_ENUMERIC: the model computes NaN
 * or infinity. */
NIB_MUST_USE nib_code nib_hessian_store_write_block(const char *dir, uint32_t layer,
                                                    const nib_hessian_store_input *in, size_t n,
                                                    nib_err *err);
NIB_MUST_USE nib_code nib_hessian_store_write_head(const char *dir, const nib_hessian_store_head *h,
                                                   nib_err *err);
/* Bytes that a block's values take on disk. */
uint64_t nib_hessian_store_bytes(const nib_hessian_store_input *in, size_t n);

typedef struct {
    char *dir;
    const nib_model *m; /* borrowed */
    nib_hessian_store_head head;
} nib_hessian_store;

/* Open a folder and check that it is whole and of this model: the head's fingerprint, and for each
 * block names and shapes. NIB_EINVAL: of another model. On failure *s is empty. */
NIB_MUST_USE nib_code nib_hessian_store_open(nib_hessian_store *s, const char *dir,
                                             const nib_model *m, nib_err *err);
void nib_hessian_store_close(nib_hessian_store *s); /* accepts {0} */

/* One block of it. */
typedef struct {
    nib_source *src;
    struct {
        nib_role role[NIB_ROLE_COUNT];
        size_t n_roles, cols;
        const nib_tensor *tensor;
    } input[NIB_ROLE_COUNT]; /* [n] */
    size_t n;
} nib_hessian_store_block;

/* Every 2-dimensional weight of the block is read by one of the inputs. */
NIB_MUST_USE nib_code nib_hessian_store_block_open(nib_hessian_store_block *b,
                                                   const nib_hessian_store *s, uint32_t layer,
                                                   nib_err *err);
/* The upper triangle of h[cols][cols]; the rest is left as it is. Values that are not finite, and a
 * diagonal below 0, are NIB_ENUMERIC. */
NIB_MUST_USE nib_code nib_hessian_store_block_read(const nib_hessian_store_block *b, size_t input,
                                                   float *h, nib_err *err);
void nib_hessian_store_block_close(nib_hessian_store_block *b); /* accepts {0} */

#endif
