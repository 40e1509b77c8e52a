/* SPDX-License-Identifier: MIT */
/* calib/imatrix.h - importance matrix: per-input-channel mean squares of every linear weight.
 *
 * File layout: GGUF with general.type "imatrix", imatrix.datasets, imatrix.chunk_count,
 * imatrix.chunk_size, and for each weight two F32 tensors NAME.in_sum2 and NAME.counts, by GGUF
 * tensor name; interchangeable with llama.cpp's. The legacy binary layout is read too. */
#ifndef NIB_CALIB_IMATRIX_H
#define NIB_CALIB_IMATRIX_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *name;      /* GGUF tensor name, "blk.0.attn_q.weight" */
    size_t cols;     /* input channels */
    size_t n_mat;    /* 1 for dense weights */
    double *in_sum2; /* [n_mat][cols] sums of squares */
    double *counts;  /* [n_mat] rows summed */
} nib_imatrix_entry;

typedef struct {
    nib_imatrix_entry *entry; /* sorted by name, byte-wise */
    size_t n;
    char **datasets;
    size_t n_datasets;
    uint32_t chunk_count, chunk_size;
    char *path; /* where it was read from; NULL for a new one */
} nib_imatrix;

/* GGUF or legacy, found from the contents. Non-finite or negative values are errors naming the
 * entry. */
NIB_MUST_USE nib_code nib_imatrix_load(nib_imatrix *m, const char *path, nib_err *err);
NIB_MUST_USE nib_code nib_imatrix_save(const nib_imatrix *m, const char *path, bool force,
                                       nib_err *err);
void nib_imatrix_free(nib_imatrix *m);

/* Entry of a weight; NULL when there is none. */
const nib_imatrix_entry *nib_imatrix_find(const nib_imatrix *m, const char *name);
/* importance[cols] = in_sum2 / counts of matrix 0; all 1 where counts <= 0. */
void nib_imatrix_values(const nib_imatrix_entry *e, float *importance);

#endif
