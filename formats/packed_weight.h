/* SPDX-License-Identifier: MIT */
/* formats/packed_weight.h - inside formats/: one weight that a folder holds in several tensors: its
 * parts found, checked against each other, and read by rows. */
#ifndef NIB_FORMATS_PACKED_WEIGHT_H
#define NIB_FORMATS_PACKED_WEIGHT_H

#include "formats/tensors.h"

enum { NIB_PACKED_NAME_MAX = 512 }; /* bytes of a layer's name */

typedef struct nib_packed {
    nib_packed_parts l;
    const nib_tensor *part[NIB_PART_ROLES]; /* [l.n_parts] */
    const uint32_t *g_idx;                  /* [in], or NULL */
    nib_act_quant act;
    bool settled;    /* of another version of the format than the configuration says */
    nib_codec codec; /* for its name, type and group; it can neither fit nor finish */
} nib_packed;

/* What weights are made from. */
typedef struct {
    const nib_tensors *parts; /* the tensors of the files, indexed      */
    const nib_file *file;     /* the files                              */
    nib_arena *memory;        /* keeps column indices and names         */
} nib_packed_from;

/* The part of that role of the layer whose name is the first n bytes; NULL when there is none. */
const nib_tensor *nib_packed_part(const nib_tensors *ts, const char *name, size_t n,
                                  nib_packing_kind kind, nib_part_role role);
/* The error that tensor `there` has no companion with that suffix; n bytes of its name are the
 * layer's. */
nib_code nib_packed_missing(const nib_tensor *there, size_t n, const char *suffix, nib_err *err);

/* All about the weight whose codes are q; n bytes of its name are the layer's. The parts' shapes
 * and types agree with the format and with each other; a part that the format does not need is an
 * error, because it would be lost. */
NIB_MUST_USE nib_code nib_packed_gather(nib_packed *p, const nib_packed_from *from, nib_packing f,
                                        const nib_tensor *q, size_t n, nib_err *err);

/* Bytes [offset, offset + n) of the parts, one after the other; within their sum. */
NIB_MUST_USE nib_code nib_packed_read(const nib_packed *p, const nib_file *file, uint64_t offset,
                                      void *dst, size_t n, nib_err *err);
/* Rows [row, row + n) of the weight as f32, within its rows. */
NIB_MUST_USE nib_code nib_packed_read_rows(const nib_packed *p, const nib_file *file, uint64_t row,
                                           uint64_t n, float *dst, nib_buf *raw, nib_err *err);
/* The same rows as integers, which point into `raw`. */
NIB_MUST_USE nib_code nib_packed_read_ints(nib_packing_rows *r, const nib_packed *p,
                                           const nib_file *file, uint64_t row, uint64_t n,
                                           nib_buf *raw, nib_err *err);
/* See nib_tensor_act(), nib_tensor_int8() and nib_source_read_codes(). */
const nib_act_quant *nib_packed_act(const nib_packed *p);
bool nib_packed_int8(const nib_packed *p);
NIB_MUST_USE nib_code nib_packed_read_codes(const nib_packed *p, const nib_file *file, uint64_t row,
                                            uint64_t n, int8_t *code, float *scale, nib_buf *raw,
                                            nib_err *err);

#endif
