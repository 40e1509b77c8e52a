/* SPDX-License-Identifier: MIT */
/* base/sha256.h - SHA-256 (FIPS 180-4), the checksum of files that were written. */
#ifndef NIB_BASE_SHA256_H
#define NIB_BASE_SHA256_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NIB_SHA256_BYTES = 32, NIB_SHA256_DIGITS = 64 };

typedef struct {
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
} nib_sha256;

void nib_sha256_begin(nib_sha256 *s);
void nib_sha256_add(nib_sha256 *s, const void *data, size_t n);
/* The digest of all that was added; begin anew before adding more. */
void nib_sha256_end(nib_sha256 *s, uint8_t digest[NIB_SHA256_BYTES]);

void nib_sha256_of(uint8_t digest[NIB_SHA256_BYTES], const void *data, size_t n);
/* More of a regular file, of which s->n bytes were added before, up to its byte `end` or its end.
 */
NIB_MUST_USE nib_code nib_sha256_add_file(nib_sha256 *s, const char *path, uint64_t end,
                                          nib_err *err);
/* Of a whole one. */
NIB_MUST_USE nib_code nib_sha256_file(uint8_t digest[NIB_SHA256_BYTES], const char *path,
                                      nib_err *err);

/* In text it is 64 lower-case hexadecimal digits. */
void nib_sha256_text(char text[NIB_SHA256_DIGITS + 1], const uint8_t digest[NIB_SHA256_BYTES]);

/* Blocks of 64 bytes in plain C, and with the processor's instructions; NULL where it has none. For
 * tests; the functions above choose. */
typedef void nib_sha256_blocks_fn(uint32_t h[8], const uint8_t *p, size_t blocks);
extern nib_sha256_blocks_fn *const nib_sha256_plain;
nib_sha256_blocks_fn *nib_sha256_native(void);

#endif
