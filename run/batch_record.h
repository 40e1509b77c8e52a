/* SPDX-License-Identifier: MIT */
/* run/batch_record.h - what a batch has finished, on disk, so that a later run need not do it
 * again.
 *
 * A JSON file beside the recipe with a record for each file or folder that the batch made, or began
 * to make: a fingerprint of all that decides its bytes, and a hash of these bytes when it was
 * finished. It is written anew, and made last, at every change. */
#ifndef NIB_RUN_BATCH_RECORD_H
#define NIB_RUN_BATCH_RECORD_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *output; /* path */
    uint64_t fingerprint, contents;
    bool done;
} nib_batch_record;

typedef struct {
    char *path; /* of the file */
    nib_batch_record *record;
    size_t n;
} nib_batch_records;

/* Those of an earlier run, where `resume` asks for them and the file is there; else none, and
 * nothing is read. NIB_EFORMAT: it is something else. Free it in either case. */
NIB_MUST_USE nib_code nib_batch_records_open(nib_batch_records *r, const char *path, bool resume,
                                             nib_err *err);
void nib_batch_records_free(nib_batch_records *r);
/* NULL: none. */
const nib_batch_record *nib_batch_records_find(const nib_batch_records *r, const char *output);
/* Record it in place of an earlier one, and save all. */
NIB_MUST_USE nib_code nib_batch_records_set(nib_batch_records *r, const nib_batch_record *what,
                                            nib_err *err);

/* Hash of a file, or of all files of a folder with their names. */
NIB_MUST_USE nib_code nib_batch_hash(uint64_t *h, const char *path, nib_err *err);

#endif
