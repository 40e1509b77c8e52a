/* SPDX-License-Identifier: MIT */
/* tests/fuzz/fuzz_tokenizer_model.c - any bytes as tokenizer.model. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_tokenizer("tokenizer.model", data, n);
    return 0;
}
