/* SPDX-License-Identifier: MIT */
/* formats/tensors.h - inside formats/: the list of tensors that readers fill and a source holds. */
#ifndef NIB_FORMATS_TENSORS_H
#define NIB_FORMATS_TENSORS_H

#include "base/arena.h"
#include "base/file.h"
#include "formats/source.h"

/* Start with {0}. */
typedef struct {
    nib_tensor *v; /* [n] in the order of file and offset                    */
    size_t n, cap;
    nib_arena names;           /* owns the tensors' names                    */
    const nib_tensor **sorted; /* [n] by name; set by nib_tensors_index()    */
} nib_tensors;

/* Room for n more, so that adding them does not move the list. */
NIB_MUST_USE nib_code nib_tensors_reserve(nib_tensors *ts, size_t n, nib_err *err);
/* A zeroed tensor at the end with a copy of the name; NULL: no memory. Valid until the next add. */
nib_tensor *nib_tensors_add(nib_tensors *ts, const char *name, size_t n_name);
/* Sort the names, once all tensors are there. The first name that is there twice is returned in
 * twice[2], which stays NULL when there is none. */
NIB_MUST_USE nib_code nib_tensors_index(nib_tensors *ts, const nib_tensor *twice[2], nib_err *err);
const nib_tensor *nib_tensors_find(const nib_tensors *ts, const char *name);
void nib_tensors_free(nib_tensors *ts);

/* Sort n names; one that is there twice, or NULL. */
const char *nib_names_twice(const char **names, size_t n);

/* Product of the dimensions; false when it is no 63-bit number. */
NIB_MUST_USE bool nib_shape_elems(const uint64_t *shape, int n_dims, uint64_t *elems);

/* Is this the start of a git-lfs pointer, the small text that stands for a file not downloaded? */
bool nib_is_lfs_pointer(const void *p, size_t n);
/* Its error. */
nib_code nib_fail_lfs(nib_err *err);

/* Put the file's path in front of an error, unless the system call that failed has done it. */
nib_code nib_wrap_file(nib_err *err, const nib_file *f);

#endif
