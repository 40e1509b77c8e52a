/* SPDX-License-Identifier: MIT */
/* tests/infer/tiny.h - small random models on disk, opened. */
#ifndef NIB_TESTS_INFER_TINY_H
#define NIB_TESTS_INFER_TINY_H

#include "infer/model.h"
#include "tests/support/gen.h"

typedef struct {
    char dir[64];
    gen_spec spec;
    nib_source *src;
    nib_model model;
} tiny;

/* A folder with config.json and weights of that family: 2 blocks, width 48, 4 heads of 16 (2 for
 * keys and values), 257 tokens. Not opened. Fails the test when it cannot. */
void tiny_make(tiny *t, const char *family);
/* The same with heads of 32, for caches in blocks. */
void tiny_make_wide(tiny *t, const char *family);
/* Any other model. */
void tiny_make_spec(tiny *t, gen_spec spec);
/* Open source and model; fails the test with the message when it cannot. */
void tiny_open(tiny *t);
/* The same model as a GGUF of F32 tensors, at path (inside the folder). */
void tiny_write_gguf(const tiny *t, const char *path);
/* Replace config.json. */
void tiny_config(const tiny *t, const char *text);
/* Close and remove. */
void tiny_drop(tiny *t);

/* The processor's kernels, n threads. */
nib_ctx tiny_ctx(int threads);

#endif
