/* SPDX-License-Identifier: MIT */
/* calib/imatrix.h - importance matrix: per-input-channel mean squares of every linear weight.
 *
 * File layout: GGUF with general.type "imatrix", imatrix.datasets, imatrix.chunk_count,
 * imatrix.chunk_size, and for each weight, in byte-wise order of names, two F32 tensors
 * NAME.in_sum2 (ne = cols, n_mat) and NAME.counts (ne = 1, n_mat); trailing dimensions of 1 are
 * dropped. Interchangeable with llama.cpp's. Other tensors in such a file are ignored, as
 * llama.cpp does. The legacy binary layout is read too: it holds means, not sums, so they count as
 * NIB_IMATRIX_LEGACY_CHUNK rows for each call that it names. */
#ifndef NIB_CALIB_IMATRIX_H
#define NIB_CALIB_IMATRIX_H

#include "base/err.h"
#include "formats/gguf.h"
#include "formats/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NIB_IMATRIX_FEW = 16 };
enum { NIB_IMATRIX_LEGACY_CHUNK = 512 }; /* llama.cpp's default chunk; the file does not say */

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

/* GGUF or legacy, found from the contents. Values that are not finite, negative or absurdly large
 * are errors naming the entry. On failure *m is empty. */
NIB_MUST_USE nib_code nib_imatrix_load(nib_imatrix *m, const char *path, nib_err *err);
NIB_MUST_USE nib_code nib_imatrix_save(const nib_imatrix *m, const char *path, bool force,
                                       nib_err *err);
void nib_imatrix_free(nib_imatrix *m);

/* The two halves that a checkpoint needs. write: sums and counts as `type`, NIB_F32 or the lossless
 * NIB_F64, and the keys of `extra` (may be NULL) after the usual ones. read: from an opened GGUF,
 * either type. */
NIB_MUST_USE nib_code nib_imatrix_write(const nib_imatrix *m, nib_type type,
                                        const nib_gguf_kvs *extra, const char *path, bool force,
                                        nib_err *err);
NIB_MUST_USE nib_code nib_imatrix_read(nib_imatrix *m, const nib_source *src, nib_err *err);

/* Room for a new entry with all sums and counts 0; *m must be sorted again before use. */
NIB_MUST_USE nib_code nib_imatrix_add(nib_imatrix *m, const char *name, size_t n_name, size_t cols,
                                      size_t n_mat, nib_imatrix_entry **out, nib_err *err);
NIB_MUST_USE nib_code nib_imatrix_add_dataset(nib_imatrix *m, const char *name, size_t n_name,
                                              nib_err *err);
/* Put entries in order; a name that appears twice is an error. */
NIB_MUST_USE nib_code nib_imatrix_sort(nib_imatrix *m, nib_err *err);

/* Matrices of the entry that saw fewer than NIB_IMATRIX_FEW rows, where it has several. */
size_t nib_imatrix_few(const nib_imatrix_entry *e);

/* Entry of a weight; NULL when there is none. */
nib_imatrix_entry *nib_imatrix_find(const nib_imatrix *m, const char *name);
/* importance[n][cols] = in_sum2 / counts of matrices [first, first + n); all 1 where the entry has
 * no counts at all. A matrix of several (an expert) that saw fewer than NIB_IMATRIX_FEW rows has
 * the mean of all mixed in, as if it had seen it NIB_IMATRIX_FEW times; the reference takes such
 * sums as they are, and all 1 for none. */
void nib_imatrix_values(const nib_imatrix_entry *e, size_t first, size_t n, float *importance);

#endif
