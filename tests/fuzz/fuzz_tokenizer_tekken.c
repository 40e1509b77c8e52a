/* SPDX-License-Identifier: MIT */
/* tests/fuzz/fuzz_tokenizer_tekken.c - any bytes as tekken.json. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_tokenizer("tekken.json", data, n);
    return 0;
}
