/* SPDX-License-Identifier: MIT */
/* tests/run/fixture.h - a scratch folder, opened models, and plans made and carried out. */
#ifndef NIB_TESTS_RUN_FIXTURE_H
#define NIB_TESTS_RUN_FIXTURE_H

#include "run/write/write_gguf.h"
#include "tests/support/gen.h"

/* CMocka group setup and teardown of the scratch folder. */
int scratch_make(void **state);
int scratch_remove(void **state);
/* Path of a file in it; four are valid at a time. */
const char *scratch(const char *name);
/* Files in the scratch folder whose name contains `part`. */
int scratch_count(const char *part);

/* May this process mount a small disk? Says on standard error that a test is skipped when not. */
bool may_mount(void);

/* The demonstration model's folder. */
const char *tiny_llama(void);
/* A small random model in the scratch folder; returns its path. Rows of `hidden` weights. */
const char *random_model(const char *name, const gen_family *family, uint32_t hidden,
                         uint32_t layers, nib_type dtype);

typedef struct {
    nib_source *src;
    nib_model model;
} opened;
void open_model(opened *o, const char *path);
void close_model(opened *o);

/* Plan and run; both threads of the machine unless said otherwise. NIB_OK or the first error. */
nib_code quantize(const char *model, const nib_recipe *r, const nib_imatrix *im, int threads,
                  nib_quantize_result *result, nib_err *err);
/* The same, must succeed. */
void quantize_ok(const char *model, const nib_recipe *r, const nib_imatrix *im);

/* All bytes of a tensor, or all its values; free with nib_free. */
uint8_t *tensor_bytes(const nib_source *s, const nib_tensor *t);
float *tensor_values(const nib_source *s, const nib_tensor *t);

/* An importance matrix with an entry for every linear weight of the model's blocks; values differ
 * from column to column. */
void fake_imatrix(nib_imatrix *im, const nib_model *m);

void expect_text(const char *msg, const char *part);
/* Do two GGUF files hold the same tensors and metadata, but for what is said of where they come
 * from? */
bool same_models(const char *a, const char *b);
/* Do the two files hold the same bytes? */
bool same_files(const char *a, const char *b);

#endif
