/* SPDX-License-Identifier: MIT */
/* run/dir_files.h - the files of a packed folder beside its tensors: configurations, and what is
 * carried along from the source's folder. `to` is the folder that is being filled. */
#ifndef NIB_RUN_DIR_FILES_H
#define NIB_RUN_DIR_FILES_H

#include "formats/layout_config.h"
#include "run/plan.h"

/* The folder that the source's files lie in; the caller frees it; NULL: no memory. */
char *nib_dir_source_folder(const nib_source *s);

/* Takes the tree; NULL or !ok: memory was short. */
NIB_MUST_USE nib_code nib_dir_put_json(const char *to, const char *name, nib_json *root, bool ok,
                                       nib_err *err);

/* The source's config.json with the description of the packing, which also says which layers are
 * packed differently or not at all; and the file of its own where the format has one. */
NIB_MUST_USE nib_code nib_dir_put_configs(const char *to, const nib_plan *p,
                                          const nib_layout_note *note, nib_err *err);

/* Tokenizer, generation configuration, chat template, texts: copied as they are. */
NIB_MUST_USE nib_code nib_dir_carry_files(const char *to, const nib_source *s, nib_err *err);

#endif
