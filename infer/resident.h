/* SPDX-License-Identifier: MIT */
/* infer/resident.h - inside infer/: packed weights that stay in memory, for who needs each of them
 * again and again: a decoding model reads all for every token. */
#ifndef NIB_INFER_RESIDENT_H
#define NIB_INFER_RESIDENT_H

#include "base/ctx.h"
#include "formats/source.h"

typedef struct {
    const nib_tensor *tensor;
    uint8_t *bytes;
} nib_resident_entry;

/* Start with {0}. One user at a time. */
typedef struct {
    nib_resident_entry *entry; /* [room], a hash table by tensor; room is a power of two or 0 */
    size_t room, n;
    uint64_t bytes; /* of all */
    uint64_t most;  /* 0: half of the machine's memory, found at the first weight */
} nib_resident;

void nib_resident_free(nib_resident *r);

/* The packed rows of a plain tensor as they lie in the file, read when it is asked for the first
 * time, by all threads. *bytes is NULL where the tensor is not plain, or all together would take
 * more than r->most: the source serves then. */
NIB_MUST_USE nib_code nib_resident_get(nib_resident *r, const nib_source *src, const nib_tensor *t,
                                       int threads, const uint8_t **bytes, nib_err *err);

#endif
