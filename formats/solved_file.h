/* SPDX-License-Identifier: MIT */
/* formats/solved_file.h - solved tensors on their way into the output, kept beside it.
 *
 * Solving goes block by block and takes long; the output is written in one stream when all is
 * known. Between the two, packed tensors wait in the file ".NAME.nibble-solved" in the target's
 * folder, each at the offset that the plan gave it. Its head says which run it is of and how many
 * blocks are done, so that a run that was killed can go on. Removed by the caller when the output
 * is in place. */
#ifndef NIB_FORMATS_SOLVED_FILE_H
#define NIB_FORMATS_SOLVED_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int fd; /* -1: closed */
    char *path;
    uint64_t fingerprint;
    uint32_t done; /* blocks */
} nib_solved_file;

/* What the file beside `target` takes on the disk; 0: there is none. */
uint64_t nib_solved_file_bytes(const char *target);
/* Open or create the file beside `target`. resume: one of the same fingerprint is taken up and
 * s->done says how far it came; one of another run is an error. Otherwise what is there is
 * replaced. */
NIB_MUST_USE nib_code nib_solved_file_open(nib_solved_file *s, const char *target,
                                           uint64_t fingerprint, bool resume, nib_err *err);
NIB_MUST_USE nib_code nib_solved_file_write(nib_solved_file *s, uint64_t offset, const void *data,
                                            size_t n, nib_err *err);
NIB_MUST_USE nib_code nib_solved_file_read(const nib_solved_file *s, uint64_t offset, void *data,
                                           size_t n, nib_err *err);
/* All of blocks 0 .. done-1 is written: make it last. */
NIB_MUST_USE nib_code nib_solved_file_mark(nib_solved_file *s, uint32_t done, nib_err *err);
/* Close; `remove` deletes the file. Accepts a closed one. */
void nib_solved_file_close(nib_solved_file *s, bool remove);

#endif
