/* SPDX-License-Identifier: MIT */
/* base/lock.h - a target that one run at a time may write.
 *
 * What lies beside a target while it is made (solved tensors, checkpoints) bears its name, so two
 * runs would write into each other's. The lock is a file ".NAME.nibble-lock" in the target's
 * folder, locked with flock(2) for as long as its holder lives: a dead process holds nothing, and a
 * dying one is waited for (1 s), whatever it left behind, and network file systems pass the lock
 * on. The file holds the holder's process number and host. Where a file system has no locks, a
 * living process of this host that the file names counts as the holder. */
#ifndef NIB_BASE_LOCK_H
#define NIB_BASE_LOCK_H

#include "base/err.h"

typedef struct {
    int fd;     /* -1: none */
    char *path; /* of the lock file */
} nib_lock;

/* Lock `target`, which need not exist. NIB_EIO when another run holds it, which the message names,
 * or when no file can be made in its folder. */
NIB_MUST_USE nib_code nib_lock_take(nib_lock *l, const char *target, nib_err *err);
/* Remove the lock file and unlock; accepts one that is not taken, or {0}. */
void nib_lock_release(nib_lock *l);

#endif
