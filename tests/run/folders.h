/* SPDX-License-Identifier: MIT */
/* tests/run/folders.h - packed folders in the scratch folder: written, damaged, refused. */
#ifndef NIB_TESTS_RUN_FOLDERS_H
#define NIB_TESTS_RUN_FOLDERS_H

#include "run/write/write_folder.h"
#include "tests/run/fixture.h"

/* Round the demonstration model into a folder of the scratch folder. */
nib_code write_folder(const char *name, nib_recipe r, int threads, nib_err *err);
/* The same with importances. */
nib_code write_folder_with(const char *name, nib_recipe r, const nib_imatrix *im, int threads,
                           nib_err *err);
/* The same from another model. */
nib_code write_folder_of(const char *model, const char *name, nib_recipe r, const nib_imatrix *im,
                         int threads, nib_err *err);
/* As write_folder(), must succeed. */
void write_folder_ok(const char *name, nib_recipe r, int threads);

/* Replace the first `from` in a file of the scratch folder by `to`, which is as long. */
void patch(const char *name, const char *from, const char *to);
/* n bytes of a tensor of a one-file folder; the data of safetensors tensors, by name. */
void patch_tensor(const char *folder, const char *tensor, const void *data, size_t n);
/* Opening it must fail with a message that holds `part`. */
void refuse_folder(const char *name, const char *part);

#endif
