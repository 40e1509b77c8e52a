/* SPDX-License-Identifier: MIT */
/* formats/packed_folder.h - inside formats/: weights that a folder holds in several tensors each
 * take the place of those in the list of tensors.
 *
 * Which tensors make up a weight, and their shapes, is checked at open; so are the column indices,
 * which are kept. Everything else is read when rows are asked for (packed_weight.h). */
#ifndef NIB_FORMATS_PACKED_FOLDER_H
#define NIB_FORMATS_PACKED_FOLDER_H

#include "formats/hf.h"
#include "formats/packed_config.h"
#include "formats/packed_weight.h"

/* Start with {0}. */
typedef struct {
    nib_packed *v; /* [n] */
    size_t n;
    size_t n_settled;  /* that are of another version of their format than is said */
    nib_tensors parts; /* the tensors of the files */
    nib_arena memory;  /* of column indices and names */
} nib_packed_set;

/* When the folder's configuration says so, replace the tensors of packed weights in *ts, which is
 * indexed, by the weights themselves; the caller indexes it again when set->n is not 0. `file` are
 * the source's. */
NIB_MUST_USE nib_code nib_packed_fold(nib_packed_set *set, nib_tensors *ts,
                                      const nib_hf_files *side, const nib_file *file, nib_err *err);
void nib_packed_free(nib_packed_set *set);

/* The method by which the folder says it is quantized, where packed_format.h has no such method
 * ("bitsandbytes"); NULL: it has, or the folder says none. */
const char *nib_packed_unknown(const nib_hf_files *side);

#endif
