/* SPDX-License-Identifier: MIT */
/* base/out_folder.h - a folder being written: made under a temporary name beside the target and
 * renamed when it is whole.
 *
 * The temporary folder (".NAME.nibble-tmp.PID") is locked while its maker lives; those of dead runs
 * are removed when the next one makes the same target. Folders are flat: files only. */
#ifndef NIB_BASE_OUT_FOLDER_H
#define NIB_BASE_OUT_FOLDER_H

#include "base/err.h"

#include <stdbool.h>

typedef struct {
    char *target, *dir, *old; /* final, temporary, and where a replaced one may wait */
    const char *mark;         /* a file that only folders of this kind hold          */
    bool force;               /* whether the target may be replaced                  */
    int fd;                   /* of dir, holds the lock; -1: none                    */
} nib_out_folder;

/* May `target` be made? It must not exist, or, with `force`, be an empty folder or one of files
 * alone that holds one named `mark`, so that a slip does not cost somebody's home. */
NIB_MUST_USE nib_code nib_out_folder_check(const char *target, const char *mark, bool force,
                                           nib_err *err);
/* Make the temporary folder, once what dead runs left is removed and the target checked as above: a
 * folder that a run killed in commit had moved aside is back by then. `mark` is borrowed. */
NIB_MUST_USE nib_code nib_out_folder_open(nib_out_folder *s, const char *target, const char *mark,
                                          bool force, nib_err *err);
/* Check the target again, rename over it, which is replaced as a whole; sync. Frees s in every
 * case. */
NIB_MUST_USE nib_code nib_out_folder_commit(nib_out_folder *s, nib_err *err);
/* Remove the temporary folder; accepts a closed one. */
void nib_out_folder_abort(nib_out_folder *s);

#endif
