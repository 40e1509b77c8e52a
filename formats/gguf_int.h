/* SPDX-License-Identifier: MIT */
/* formats/gguf_int.h - what the files gguf_*.c share. */
#ifndef NIB_FORMATS_GGUF_INT_H
#define NIB_FORMATS_GGUF_INT_H

#include "formats/gguf.h"
#include "formats/tensors.h"

/* Limits on hostile files, far above any real one. */
#define NIB_GGUF_META_MAX ((uint64_t)1 << 30) /* bytes of metadata in memory             */
enum {
    NIB_GGUF_KV_MAX = 65536,      /* key/value records of a file                        */
    NIB_GGUF_KEY_MAX = 65535,     /* bytes of a key: the format's own limit             */
    NIB_GGUF_ARR_MAX = 1 << 30,   /* elements of an array: the reference reader's limit */
    NIB_GGUF_ALIGN_MAX = 1 << 20, /* bytes                                              */
    NIB_GGUF_SPLIT_MAX = 65535,   /* files: the count is a u16                          */
    NIB_GGUF_VTYPE_COUNT = NIB_GGUF_F64 + 1,
};

/* Bytes of a value in a file; 0 for strings, arrays and what is no value type. */
size_t nib_gguf_vtype_size(nib_gguf_vtype t);

/* Ordered insertion for the reader: the value's memory comes from the set's arena and is handed
 * over. False and *twice: the key is there already; false alone: no memory. */
nib_arena *nib_gguf_kvs_arena(nib_gguf_kvs *k);
bool nib_gguf_kvs_put_new(nib_gguf_kvs *k, const nib_gguf_kv *kv, bool *twice);

/* Why a tensor type id cannot be read: "removed from the format" and the like, with its name where
 * it has one. */
nib_code nib_gguf_fail_type(int id, nib_err *err);

/* Keys that describe the file's layout, not the model: the writer makes its own. */
bool nib_gguf_is_layout_key(const char *key);

/* Read one file, complete in itself: metadata, and its tensors appended to ts. Errors name it. */
NIB_MUST_USE nib_code nib_gguf_read(nib_gguf_kvs **kvs, nib_tensors *ts, const nib_file *f,
                                    uint32_t file, nib_err *err);

/* Give weights the factors that lie beside them. The list is indexed, and its tensors are in
 * file[]. */
NIB_MUST_USE nib_code nib_gguf_take_factors(nib_tensors *ts, const nib_file *file, nib_err *err);

/* "PREFIX-00002-of-00003.gguf", index from 0; `prefix` is n bytes. NULL: no memory. */
char *nib_gguf_split_path(const char *prefix, size_t n, unsigned index, unsigned count);

#endif
