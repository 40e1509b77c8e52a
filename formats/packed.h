/* SPDX-License-Identifier: MIT */
/* formats/packed.h - inside formats/: weights that a folder holds in several tensors each.
 *
 * Which tensors make up a weight, and their shapes, is checked at open; so are the column indices,
 * which are kept. Everything else is read when rows are asked for. */
#ifndef NIB_FORMATS_PACKED_H
#define NIB_FORMATS_PACKED_H

#include "formats/hf.h"
#include "formats/layout_config.h"

typedef struct nib_packed nib_packed;

/* Start with {0}. */
typedef struct {
    nib_packed *v; /* [n] */
    size_t n;
    nib_tensors parts; /* the tensors of the files */
    nib_arena memory;  /* of column indices and names */
} nib_packed_set;

/* When the folder's configuration says so, replace the tensors of packed weights in *ts, which is
 * indexed, by the weights themselves; the caller indexes it again when set->n is not 0. `file` are
 * the source's. */
NIB_MUST_USE nib_code nib_packed_fold(nib_packed_set *set, nib_tensors *ts, const nib_hf_side *side,
                                      const nib_file *file, nib_err *err);
void nib_packed_free(nib_packed_set *set);

/* Bytes [offset, offset + n) of the parts, one after the other; within their sum. */
NIB_MUST_USE nib_code nib_packed_read(const nib_packed *p, const nib_file *file, uint64_t offset,
                                      void *dst, size_t n, nib_err *err);
/* Rows [row, row + n) of the weight as f32, within its rows. */
NIB_MUST_USE nib_code nib_packed_read_rows(const nib_packed *p, const nib_file *file, uint64_t row,
                                           uint64_t n, float *dst, nib_buf *raw, nib_err *err);
/* See nib_tensor_act() and nib_source_read_codes(). */
const nib_act_quant *nib_packed_act(const nib_packed *p);
NIB_MUST_USE nib_code nib_packed_read_codes(const nib_packed *p, const nib_file *file, uint64_t row,
                                            uint64_t n, int8_t *code, float *scale, nib_buf *raw,
                                            nib_err *err);

#endif
