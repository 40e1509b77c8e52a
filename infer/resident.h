/* SPDX-License-Identifier: MIT */
/* infer/resident.h - inside infer/: weights that stay in memory, for who needs each of them again
 * and again: a decoding model reads all for every token. */
#ifndef NIB_INFER_RESIDENT_H
#define NIB_INFER_RESIDENT_H

#include "base/ctx.h"
#include "formats/source.h"
#include "quant/grouped.h"

/* A weight in memory. Rows as they lie in the file, where these are what they mean; packed integers
 * and floats of few bits as grouped.h has them; anything else decoded. */
typedef struct {
    const nib_codec *codec; /* of rows ... */
    uint8_t *rows;          /* or NULL; owned */
    nib_grouped *grouped;   /* or NULL; owned */
} nib_kept;

typedef struct {
    const nib_tensor *tensor;
    nib_kept kept;
} nib_resident_entry;

/* Start with {0}. One user at a time. */
typedef struct {
    nib_resident_entry *entry; /* [room], a hash table by tensor; room is a power of two or 0 */
    size_t room, n;
    uint64_t bytes; /* of all                                                              */
    uint64_t *left; /* borrowed: memory that weights may still take; what they do is taken */
                    /* off. NULL: any                                                      */
} nib_resident;

void nib_resident_free(nib_resident *r);

/* A weight, read when it is asked for the first time, by all threads; *kept holds nothing where it
 * would take more than there is left: the source serves then. */
NIB_MUST_USE nib_code nib_resident_get(nib_resident *r, const nib_source *src, const nib_tensor *t,
                                       const nib_ctx *ctx, nib_kept *kept, nib_err *err);

#endif
