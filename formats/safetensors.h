/* SPDX-License-Identifier: MIT */
/* formats/safetensors.h - the safetensors container: header reader and streaming writer.
 *
 * Layout: u64 header length, a JSON object that maps names to dtype, shape and byte range, then
 * the data. The reader holds a file to every rule of the format's text, also where the reference
 * implementation is lenient: the header begins with '{', only spaces pad it, no name is there
 * twice, every byte of the data belongs to one tensor. Unknown members of an entry are ignored. */
#ifndef NIB_FORMATS_SAFETENSORS_H
#define NIB_FORMATS_SAFETENSORS_H

#include "base/sha256.h"
#include "formats/tensors.h"

/* The format's own limit for the header, in bytes. */
enum { NIB_ST_HEADER_MAX = 100000000 };

/* Append the tensors of f, which is the source's file number `file`, in the order of their
 * offsets. Errors name the file. */
NIB_MUST_USE nib_code nib_st_read(nib_tensors *ts, const nib_file *f, uint32_t file, nib_err *err);

/* Name of a dtype in the format ("BF16"), NULL when it has none; and bits per element. */
const char *nib_st_dtype(nib_type t, unsigned *bits);

/* ---- writer: one file, a stream over nib_out ---- */

typedef struct {
    const char *name; /* UTF-8 */
    nib_type type;
    int n_dims;
    uint64_t shape[NIB_MAX_DIMS];
} nib_st_tensor;

/* Put tensors into the order in which a file holds them: widest elements first, so that all are
 * aligned, then by name. */
void nib_st_sort(nib_st_tensor *t, size_t n);

typedef struct nib_st_writer nib_st_writer;

/* Open `path` and write the header. Tensors lie in the order given; use nib_st_sort() first. What
 * t points to must stay until the end. NIB_EINVAL for a bad name, type, shape or a duplicate. */
NIB_MUST_USE nib_code nib_st_begin(nib_st_writer **out, const char *path, const nib_st_tensor *t,
                                   size_t n, bool force, nib_err *err);
/* The next n bytes of the data; `tensor` must be the one whose turn it is (checked). */
NIB_MUST_USE nib_code nib_st_write(nib_st_writer *w, size_t tensor, const void *data, size_t n,
                                   nib_err *err);
/* Digests of the whole file and of a tensor's bytes, once all is written; before nib_st_end(). */
void nib_st_digest(nib_st_writer *w, uint8_t sha256[NIB_SHA256_BYTES]);
const uint8_t *nib_st_tensor_digest(const nib_st_writer *w, size_t tensor);
/* Check that everything was written, sync, rename. Frees w in every case. */
NIB_MUST_USE nib_code nib_st_end(nib_st_writer *w, nib_err *err);
void nib_st_abort(nib_st_writer *w); /* accepts NULL; removes the temporary file */

#endif
