/* SPDX-License-Identifier: MIT */
/* calib/imatrix_legacy.h - inside calib/: the binary layout that importance matrices had before
 * GGUF.
 *
 * i32 number of entries; for each: i32 name length, name, i32 ncall, i32 nval, f32 value[nval];
 * then, in newer files, i32 last chunk, i32 name length, name of the data set. A value is the mean
 * square times ncall. No magic number, so every size is doubted. */
#ifndef NIB_CALIB_IMATRIX_LEGACY_H
#define NIB_CALIB_IMATRIX_LEGACY_H

#include "calib/imatrix.h"

enum { NIB_IMATRIX_LEGACY_NAME_MAX = 1024 }; /* bytes of a name */

/* Fill an empty *m from the n bytes of a file. Its entries are not sorted yet, its values not
 * checked. On failure the caller frees what it holds. */
NIB_MUST_USE nib_code nib_imatrix_parse_legacy(nib_imatrix *m, const char *data, size_t n,
                                               nib_err *err);

#endif
