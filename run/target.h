/* SPDX-License-Identifier: MIT */
/* run/target.h - may, and can, these files be written? Asked before any work is done. */
#ifndef NIB_RUN_TARGET_H
#define NIB_RUN_TARGET_H

#include "formats/gguf.h"

/* The folder that `path` is to be made in is there and writable. */
NIB_MUST_USE nib_code nib_target_folder(const char *path, nib_err *err);

/* NIB_EIO when disk_free bytes are too few for `bytes` of what is to be `path`. */
NIB_MUST_USE nib_code nib_target_disk(const char *path, uint64_t bytes, uint64_t disk_free,
                                      nib_err *err);

/* Errors: a target exists and !force, is a folder or one of the source's own files; its folder is
 * missing or not writable; disk_free bytes are too few for all. */
NIB_MUST_USE nib_code nib_target_check(const nib_file_layout *l, const nib_source *src, bool force,
                                       uint64_t disk_free, nib_err *err);

#endif
