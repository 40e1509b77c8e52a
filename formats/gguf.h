/* SPDX-License-Identifier: MIT */
/* formats/gguf.h - the GGUF container, versions 2 and 3: metadata, reader, streaming writer.
 *
 * Layout: "GGUF", u32 version, i64 n_tensors, i64 n_kv, key/value records, tensor records, zero
 * padding to the alignment, tensor data in the order of the records, each padded. Little-endian.
 * A tensor record has name, u32 n_dims, i64 ne[] with the contiguous dimension FIRST, i32 type,
 * u64 offset. In this program shapes have it last (formats/source.h); only gguf_*.c reverse them.
 */
#ifndef NIB_FORMATS_GGUF_H
#define NIB_FORMATS_GGUF_H

#include "formats/source.h"

enum { NIB_GGUF_NAME_MAX = 63, NIB_GGUF_DIMS_MAX = 4, NIB_GGUF_ALIGN = 32 };

/* ---- metadata ---- */

typedef enum {
    NIB_GGUF_U8,
    NIB_GGUF_I8,
    NIB_GGUF_U16,
    NIB_GGUF_I16,
    NIB_GGUF_U32,
    NIB_GGUF_I32,
    NIB_GGUF_F32,
    NIB_GGUF_BOOL,
    NIB_GGUF_STR,
    NIB_GGUF_ARR,
    NIB_GGUF_U64,
    NIB_GGUF_I64,
    NIB_GGUF_F64,
} nib_gguf_vtype;

typedef struct {
    const char *p; /* may hold any byte; also NUL-terminated */
    size_t n;
} nib_str;

typedef struct {
    const char *key;
    nib_gguf_vtype type; /* of the value; NIB_GGUF_ARR: an array of `elem` */
    nib_gguf_vtype elem;
    size_t n; /* elements; 1 for a scalar */
    /* n elements: nib_str[] for strings, else the packed little-endian array of the element type
     * as in the file (bool: one byte, 0 or 1). */
    const void *data;
} nib_gguf_kv;

/* Are these the first bytes of a GGUF file? */
bool nib_gguf_begins_with(const char head[4]);

/* An ordered set of key/value records; owns copies of all it holds. */
typedef struct nib_gguf_kvs nib_gguf_kvs;

nib_gguf_kvs *nib_gguf_kvs_new(void); /* NULL: no memory */
void nib_gguf_kvs_free(nib_gguf_kvs *k);
size_t nib_gguf_kvs_count(const nib_gguf_kvs *k);
const nib_gguf_kv *nib_gguf_kvs_at(const nib_gguf_kvs *k, size_t i);
const nib_gguf_kv *nib_gguf_kvs_find(const nib_gguf_kvs *k, const char *key); /* NULL: none */

/* Typed reads: true when the key is there with exactly that type (integers: any unsigned type, or
 * a signed one that is not negative). */
bool nib_gguf_get_u64(const nib_gguf_kvs *k, const char *key, uint64_t *out);
bool nib_gguf_get_f32(const nib_gguf_kvs *k, const char *key, float *out);
bool nib_gguf_get_bool(const nib_gguf_kvs *k, const char *key, bool *out);
bool nib_gguf_get_str(const nib_gguf_kvs *k, const char *key, nib_str *out);
/* An array of `elem`; *data as in nib_gguf_kv. */
bool nib_gguf_get_arr(const nib_gguf_kvs *k, const char *key, nib_gguf_vtype elem,
                      const void **data, size_t *n);

/* Set (replace in place, or append). False: no memory. */
bool nib_gguf_set_u16(nib_gguf_kvs *k, const char *key, uint16_t v);
bool nib_gguf_set_u32(nib_gguf_kvs *k, const char *key, uint32_t v);
bool nib_gguf_set_i32(nib_gguf_kvs *k, const char *key, int32_t v);
bool nib_gguf_set_f32(nib_gguf_kvs *k, const char *key, float v);
bool nib_gguf_set_bool(nib_gguf_kvs *k, const char *key, bool v);
bool nib_gguf_set_str(nib_gguf_kvs *k, const char *key, const char *s, size_t n);
/* data: nib_str[n] for strings, else n packed elements. */
bool nib_gguf_set_arr(nib_gguf_kvs *k, const char *key, nib_gguf_vtype elem, const void *data,
                      size_t n);
/* Copy a record as it is. */
bool nib_gguf_set_kv(nib_gguf_kvs *k, const nib_gguf_kv *kv);
void nib_gguf_del(nib_gguf_kvs *k, const char *key); /* no such key: nothing */

/* ---- types ---- */

/* GGUF's tensor type id of a number format, -1 when GGUF has none. */
int nib_gguf_type_id(nib_type t);
/* The number format of an id; false for ids that are unknown, removed, or that nibble does not
 * decode. */
bool nib_gguf_type_from_id(int id, nib_type *t);

/* ---- writer ---- */

typedef struct {
    const char *name; /* at most NIB_GGUF_NAME_MAX bytes */
    nib_type type;
    int n_dims;
    uint64_t shape[NIB_GGUF_DIMS_MAX]; /* contiguous dimension last, as in nib_tensor */
} nib_gguf_tensor;

/* Where everything will lie: known before a byte is written. */
typedef struct {
    size_t n_files;
    uint64_t total_bytes; /* of all files */
    uint64_t *file_bytes; /* [n_files]    */
    char **file_path;     /* [n_files]    */
    uint32_t *file_of;    /* [n_tensors]  */
    uint64_t *bytes;      /* [n_tensors], without padding */
} nib_output_files;

/* split_max: largest sum of padded tensor bytes of one file, 0 = one file. Split files are named
 * PREFIX-00001-of-0000N.gguf from path PREFIX.gguf. Checks names, shapes and duplicates. */
NIB_MUST_USE nib_code nib_gguf_plan(nib_output_files *l, const char *path, const nib_gguf_kvs *kvs,
                                    const nib_gguf_tensor *t, size_t n, uint64_t split_max,
                                    nib_err *err);
void nib_output_files_free(nib_output_files *l);

/* A stream: tensors are written in order, each in any number of pieces. The keys general.alignment
 * and split.* of `kvs` are left out; the writer makes its own. kvs and t are borrowed until the
 * end. */
typedef struct nib_gguf_writer nib_gguf_writer;

/* Plan as nib_gguf_plan() does and write the head of the first file. NIB_EIO: a file exists and
 * !force, or the folder cannot be written into. */
NIB_MUST_USE nib_code nib_gguf_begin(nib_gguf_writer **out, const char *path,
                                     const nib_gguf_kvs *kvs, const nib_gguf_tensor *t, size_t n,
                                     uint64_t split_max, bool force, nib_err *err);
/* The next n bytes of the tensor data; a tensor's padding is added when its last byte was written.
 * `tensor` must be the one whose turn it is (checked). */
NIB_MUST_USE nib_code nib_gguf_write(nib_gguf_writer *w, size_t tensor, const void *data, size_t n,
                                     nib_err *err);
/* For metadata that is known only now, checksums of what was written: all tensors are there, and
 * `kvs`, as it was given to nib_gguf_begin(), may hold other values of the same sizes. Its key
 * NIB_GGUF_HEADS, an array of NIB_SHA256_BYTES bytes for each file, is set to the digests of all in
 * front of the tensors of each, taken while it was zeros; the first file's head is written again.
 * NIB_EINVAL: a size has changed. */
#define NIB_GGUF_HEADS "nibble.heads.sha256"
NIB_MUST_USE nib_code nib_gguf_seal(nib_gguf_writer *w, nib_gguf_kvs *kvs, nib_err *err);
/* Check that all was written and that positions equal the plan, sync, rename. Frees w in every
 * case. */
NIB_MUST_USE nib_code nib_gguf_end(nib_gguf_writer *w, nib_err *err);
void nib_gguf_abort(nib_gguf_writer *w); /* accepts NULL; removes temporary files */

#endif
