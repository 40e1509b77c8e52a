/* SPDX-License-Identifier: MIT */
/* calib/activation_store.h - activations of many tokens, kept from block to block: in memory up to
 * a limit, in a temporary file beyond it (unlinked at once, so nothing is left behind). */
#ifndef NIB_CALIB_ACTIVATION_STORE_H
#define NIB_CALIB_ACTIVATION_STORE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* The usual limit. */
#define NIB_ACTIVATIONS_MEMORY ((uint64_t)1 << 30)

typedef struct {
    size_t cols;
    float *ram; /* [rows][cols]; NULL: in the file */
    size_t ram_bytes;
    int fd;
} nib_activation_store;

/* n rows of `cols` f32; more than `limit` bytes go to a file in the folder of `beside`. */
NIB_MUST_USE nib_code nib_activation_store_new(nib_activation_store *r, size_t n, size_t cols,
                                               uint64_t limit, const char *beside, nib_err *err);
NIB_MUST_USE nib_code nib_activation_store_put(nib_activation_store *r, size_t first, size_t n,
                                               const float *x, nib_err *err);
NIB_MUST_USE nib_code nib_activation_store_get(const nib_activation_store *r, size_t first,
                                               size_t n, float *x, nib_err *err);
void nib_activation_store_free(nib_activation_store *r); /* accepts {0} */

#endif
