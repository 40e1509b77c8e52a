/* SPDX-License-Identifier: MIT */
/* formats/hf_weights.h - inside formats/: which files of a Hugging Face folder hold the weights. */
#ifndef NIB_FORMATS_HF_WEIGHTS_H
#define NIB_FORMATS_HF_WEIGHTS_H

#include "base/err.h"

#include <stddef.h>

#define NIB_HF_SINGLE "model.safetensors"
#define NIB_HF_INDEX "model.safetensors.index.json"

/* Either an index, or files without one. */
typedef struct {
    char *index; /* name of the index, or NULL       */
    char **file; /* [n] names, in order; else        */
    size_t n;
} nib_hf_weights;

/* In this order: model.safetensors; the index; files of other names, as long as it is plain how
 * they belong together: an index alone, a whole set of "NAME-00001-of-00003.safetensors", or one
 * file alone. NIB_EFORMAT says what the folder holds instead and what to do about it. *w is the
 * caller's to free, after a failure too. */
NIB_MUST_USE nib_code nib_hf_find_weights(nib_hf_weights *w, const char *dir, nib_err *err);
void nib_hf_weights_free(nib_hf_weights *w);

#endif
