/* SPDX-License-Identifier: MIT */
/* tests/formats/make.h - files made byte by byte, and opened. */
#ifndef NIB_TESTS_FORMATS_MAKE_H
#define NIB_TESTS_FORMATS_MAKE_H

#include "formats/source.h"

typedef struct {
    uint8_t b[1 << 16];
    size_t n;
} bytes;

void put(bytes *f, const void *data, size_t n);
void put_uint(bytes *f, uint64_t v, size_t n); /* n bytes, little-endian */
void put_str(bytes *f, const char *s);         /* as GGUF has them: length, text */

/* A safetensors file: length, header, and `data` bytes 0, 1, 2, ... */
void make_safetensors(bytes *f, const char *header, size_t data);

/* Opening must work; the caller closes. */
nib_source *must_open(const char *path);
/* Opening must fail with a message that holds `part`. */
void must_refuse(const char *path, const char *part);

#endif
