/* SPDX-License-Identifier: MIT */
/* run/rows.h - activations of many tokens, kept from block to block: in memory up to a limit, in a
 * temporary file beyond it (unlinked at once, so nothing is left behind). */
#ifndef NIB_RUN_ROWS_H
#define NIB_RUN_ROWS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* The usual limit. */
#define NIB_ROWS_MEMORY ((uint64_t)1 << 30)

typedef struct {
    size_t cols;
    float *ram; /* [rows][cols]; NULL: in the file */
    size_t ram_bytes;
    int fd;
} nib_rows;

/* n rows of `cols` f32; more than `limit` bytes go to a file in the folder of `beside`. */
NIB_MUST_USE nib_code nib_rows_new(nib_rows *r, size_t n, size_t cols, uint64_t limit,
                                   const char *beside, nib_err *err);
NIB_MUST_USE nib_code nib_rows_put(nib_rows *r, size_t first, size_t n, const float *x,
                                   nib_err *err);
NIB_MUST_USE nib_code nib_rows_get(const nib_rows *r, size_t first, size_t n, float *x,
                                   nib_err *err);
void nib_rows_free(nib_rows *r); /* accepts {0} */

#endif
