/* SPDX-License-Identifier: MIT */
/* tests/fuzz/open.c - see open.h. The readers want files; a file in memory is one. */
#define _GNU_SOURCE
#include "tests/fuzz/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

nib_source *fuzz_open(const uint8_t *data, size_t n)
{
    char path[32];
    nib_source *s;
    nib_err err = {0};
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    nib_code rc = nib_source_open(&s, path, &err);
    close(fd);
    if (rc ? s || !err.msg[0] || err.code != rc : !s) abort();
    return s;
}

void fuzz_read_all(const nib_source *s)
{
    uint8_t b[64];
    nib_err err;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        size_t k = t->bytes < sizeof b ? (size_t)t->bytes : sizeof b;
        if (nib_source_find(s, t->name) != t) abort();
        if (nib_source_read(s, t, 0, b, k, &err)) abort();
        if (nib_source_read(s, t, t->bytes - k, b, k, &err)) abort();
        if (t->bytes && nib_tensor_elems(t) == 0) abort();
    }
}
