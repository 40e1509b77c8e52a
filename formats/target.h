/* SPDX-License-Identifier: MIT */
/* formats/target.h - may, and can, these files be written? Asked before any work is done. */
#ifndef NIB_FORMATS_TARGET_H
#define NIB_FORMATS_TARGET_H

#include "base/lock.h"
#include "formats/gguf.h"

/* What a run writes, held against other runs. */
typedef struct {
    char *path; /* owned; NULL: none */
    nib_lock lock;
} nib_target;

/* Where `name` is written, without holding it: a folder's without slashes at its end, and what a
 * symbolic link points to in its place. NIB_EIO when that is a device, a FIFO or a socket. */
NIB_MUST_USE nib_code nib_target_find(nib_target *t, const char *name, bool folder, nib_err *err);
/* The same, held for this run: nobody else may write it, or what lies beside it, before
 * nib_target_release(). Errors: its folder is missing or not writable, or another run holds it. On
 * failure *t is empty. */
NIB_MUST_USE nib_code nib_target_claim(nib_target *t, const char *name, bool folder, nib_err *err);
void nib_target_release(nib_target *t); /* accepts {0} */

/* The folder that `path` is to be made in is there and writable. */
NIB_MUST_USE nib_code nib_target_folder(const char *path, nib_err *err);

/* What a run puts on the disk beside its target, in bytes. */
typedef struct {
    uint64_t output; /* under its temporary name                                             */
    uint64_t
        solved; /* tensors that wait for the output (formats/solved_file.h), until it is there */
    uint64_t spilled; /* activations that do not stay in memory (calib/activation_store.h), while it
                         solves */
} nib_disk_need;

/* NIB_EIO when disk_free bytes, and what an unfinished run's side file takes already, are too few
 * for what lies there at once: solved tensors, and the activations or the output. */
NIB_MUST_USE nib_code nib_target_room(const char *path, const nib_disk_need *need,
                                      uint64_t disk_free, nib_err *err);

/* Errors: a target exists and !force, is a folder or one of the source's own files; its folder is
 * missing or not writable. */
NIB_MUST_USE nib_code nib_target_check(const nib_output_files *l, const nib_source *src, bool force,
                                       nib_err *err);

#endif
