/* SPDX-License-Identifier: MIT */
/* Any bytes as a safetensors file: refused with a message, or whole. */
#include "tests/fuzz/open.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nib_source *s = fuzz_open(data, n);
    if (!s) return 0;
    if (nib_source_get_kind(s) == NIB_SOURCE_SAFETENSORS) {
        uint64_t next = 0; /* the data is covered without gaps, to the end of the file */
        for (size_t i = 0; i < nib_source_count(s); i++) {
            const nib_tensor *t = nib_source_at(s, i);
            if (i && t->offset != next) abort();
            next = t->offset + t->bytes;
        }
        if (nib_source_count(s) && next != n) abort();
    }
    fuzz_read_all(s);
    nib_source_close(s);
    return 0;
}
