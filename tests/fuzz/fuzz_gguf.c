/* SPDX-License-Identifier: MIT */
/* Any bytes as a GGUF file: refused with a message, or whole; and its metadata can be copied. */
#include "formats/gguf.h"
#include "tests/fuzz/open.h"

#include <stdlib.h>
#include <string.h>

static void copy_metadata(const nib_gguf_kvs *k)
{
    nib_gguf_kvs *copy = nib_gguf_kvs_new();
    for (size_t i = 0; i < nib_gguf_kvs_count(k); i++) {
        const nib_gguf_kv *kv = nib_gguf_kvs_at(k, i);
        if (nib_gguf_kvs_find(k, kv->key) != kv) abort();
        if (!nib_gguf_set_kv(copy, kv)) abort();
    }
    while (nib_gguf_kvs_count(copy)) nib_gguf_del(copy, nib_gguf_kvs_at(copy, 0)->key);
    nib_gguf_kvs_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nib_source *s = fuzz_open(data, n);
    if (!s) return 0;
    if (nib_source_kvs(s)) copy_metadata(nib_source_kvs(s));
    fuzz_read_all(s);
    nib_source_close(s);
    return 0;
}
