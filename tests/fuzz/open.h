/* SPDX-License-Identifier: MIT */
/* tests/fuzz/open.h - bytes opened as a model file. */
#ifndef NIB_TESTS_FUZZ_OPEN_H
#define NIB_TESTS_FUZZ_OPEN_H

#include "formats/source.h"

/* Called by a fuzzing engine, or by replay.c. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* NULL when the bytes are refused; aborts when that comes without a message. */
nib_source *fuzz_open(const uint8_t *data, size_t n);
/* What opened must be whole: read the ends of every tensor, find each by its name. */
void fuzz_read_all(const nib_source *s);

#endif
