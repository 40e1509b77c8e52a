/* SPDX-License-Identifier: MIT */
/* tests/fuzz/fuzz_tokenizer_json.c - any bytes as tokenizer.json. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_tokenizer("tokenizer.json", data, n);
    return 0;
}
