/* SPDX-License-Identifier: MIT */
/* run/write/folder_files.h - the files of a folder beside its tensors: configurations, and what is
 * carried along from the source's folder. `to` is the folder that is being filled. */
#ifndef NIB_RUN_WRITE_FOLDER_FILES_H
#define NIB_RUN_WRITE_FOLDER_FILES_H

#include "formats/packed_config.h"
#include "run/plan/plan.h"

/* Takes the tree; NULL or !ok: memory was short. */
NIB_MUST_USE nib_code nib_folder_put_json(const char *to, const char *name, nib_json *root, bool ok,
                                          nib_err *err);

/* The index of a folder of several files: which one holds which tensor. */
typedef struct {
    const nib_output_files *files; /* borrowed */
    nib_json *root, *map;          /* NULL: one file needs none */
    bool ok;                       /* memory was enough so far  */
} nib_shard_index;

/* `bytes`: of all tensors. */
nib_shard_index nib_shard_index_new(const nib_output_files *files, uint64_t bytes);
void nib_shard_index_add(nib_shard_index *x, const char *tensor, uint32_t file);
/* Write it into `to`; frees it in every case. */
NIB_MUST_USE nib_code nib_shard_index_save(nib_shard_index *x, const char *to, nib_err *err);

/* The source's config.json with the description of the packing, which also says which layers are
 * packed differently or not at all; and the file of its own where the format has one. */
NIB_MUST_USE nib_code nib_folder_put_configs(const char *to, const nib_plan *p,
                                             const nib_packing_note *note, nib_err *err);

/* The source's config.json for plain tensors in dtype `type`, without a description of packing. */
NIB_MUST_USE nib_code nib_folder_put_plain_config(const char *to, const nib_plan *p, nib_type type,
                                                  nib_err *err);
/* What a GGUF file says of its model as the files of a folder: config.json, tokenizer.json,
 * tokenizer_config.json, generation_config.json; with a note also how layers are packed. */
NIB_MUST_USE nib_code nib_folder_put_rebuilt(const char *to, const nib_plan *p, nib_type type,
                                             const nib_packing_note *note, nib_err *err);
/* The dtype that engines compute in: that of most of what is not packed, in a packed folder f16 or
 * bf16. */
nib_type nib_folder_dtype(const nib_plan *p);

#endif
