/* SPDX-License-Identifier: MIT */
/* tests/fuzz/tokenizer.h - for the targets that open a tokenizer from the file they are given. */
#ifndef NIB_TESTS_FUZZ_TOKENIZER_H
#define NIB_TESTS_FUZZ_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

/* A model's folder with data[n] as the file of that name and nothing else of a tokenizer: opened, a
 * text of many kinds of characters tokenized and put together again, and the tokenizer written as
 * GGUF metadata and as a folder's files. Whatever fails must say so. */
void fuzz_tokenizer(const char *name, const uint8_t *data, size_t n);

#endif
