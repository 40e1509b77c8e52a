/* SPDX-License-Identifier: MIT */
/* formats/hf.h - inside formats/: what lies around the weights in a Hugging Face folder. */
#ifndef NIB_FORMATS_HF_H
#define NIB_FORMATS_HF_H

#include "formats/tensors.h"

/* The index of a sharded model: which file holds which tensor. */
typedef struct {
    const char *tensor; /* borrowed from the JSON tree  */
    uint32_t file;      /* index into nib_hf_index.file */
} nib_hf_entry;

typedef struct {
    nib_json *root;      /* owns all names                 */
    nib_hf_entry *entry; /* [n] sorted by tensor           */
    const char **file;   /* [n_files] names, sorted        */
    size_t n, n_files;
} nib_hf_index;

/* Read and check model.safetensors.index.json. Errors name it. */
NIB_MUST_USE nib_code nib_hf_index_load(nib_hf_index *x, const char *path, nib_err *err);
void nib_hf_index_free(nib_hf_index *x);
/* Every tensor found is in the index under its file, and the other way round. `ts` is indexed and
 * its file numbers are those of the index. */
NIB_MUST_USE nib_code nib_hf_index_check(const nib_hf_index *x, const nib_tensors *ts,
                                         nib_err *err);

/* The small files beside the weights that the source offers. */
enum { NIB_HF_JSON_COUNT = 11, NIB_HF_TEXT_COUNT = 7 };
typedef struct {
    nib_json *json[NIB_HF_JSON_COUNT]; /* NULL: not there */
    char *text[NIB_HF_TEXT_COUNT];
    size_t n_text[NIB_HF_TEXT_COUNT];
} nib_hf_files;

/* Read those that are there. */
NIB_MUST_USE nib_code nib_hf_files_load(nib_hf_files *x, const char *dir, nib_err *err);
void nib_hf_files_free(nib_hf_files *x);
const nib_json *nib_hf_files_json(const nib_hf_files *x, const char *name);
/* *n: its bytes, which may be any. */
const char *nib_hf_files_text(const nib_hf_files *x, const char *name, size_t *n);

#endif
