/* SPDX-License-Identifier: MIT */
/* tests/calib/tmp.h - a scratch folder, and files in it. Paths are valid until the next call. */
#ifndef NIB_TESTS_CALIB_TMP_H
#define NIB_TESTS_CALIB_TMP_H

#include <stddef.h>

/* CMocka group setup and teardown. */
int tmp_make(void **state);
int tmp_remove(void **state);

/* Path of a file of that name in the scratch folder; two are valid at a time. */
const char *tmp_path(const char *name);
/* Write n bytes, or a string; return the path. */
const char *tmp_write(const char *name, const void *data, size_t n);
const char *tmp_text(const char *name, const char *text);
/* The same, gzip-compressed. */
const char *tmp_gzip(const char *name, const char *text);
/* A copy `name` of a model's folder with n bytes of its model.safetensors at `at` replaced. */
const char *tmp_patched(const char *name, const char *folder, long at, const void *data, size_t n);

/* Fail unless `msg` contains `part`. */
void tmp_expect(const char *msg, const char *part);

#endif
