/* SPDX-License-Identifier: MIT */
/* run/write/manifest.h - what was written, for whoever wants to know later whether it still is so.
 *
 * A folder has a file, nibble.json: version, provenance, the error of each weight, the SHA-256 of
 * each tensor and of every file, and in its last line that of its own text with that digest as
 * zeros. A GGUF file has the same in metadata of fixed size, which is filled in when the tensors
 * are written: nibble.tensors.sha256 (of each tensor's bytes, in the order of the file),
 * nibble.tensors.error, and in nibble.heads.sha256, for each file of the model, the digest of all
 * in front of its tensors, taken while that key itself is zeros. */
#ifndef NIB_RUN_WRITE_MANIFEST_H
#define NIB_RUN_WRITE_MANIFEST_H

#include "formats/safetensors.h"
#include "run/plan/plan.h"

#define NIB_MANIFEST_FILE "nibble.json"
#define NIB_MANIFEST_DIGEST "\"sha256\":\t\"" /* what stands before a manifest's own digest */
#define NIB_MANIFEST_MAX (1 << 30)            /* bytes of that file */
#define NIB_KEY_VERSION "nibble.version"
#define NIB_KEY_TENSORS "nibble.tensors.sha256"
#define NIB_KEY_ERRORS "nibble.tensors.error"

/* The recipe that an opened model was made by, as its manifest has it; NULL: it has none. The
 * caller frees it. A manifest that is no JSON is an error. */
NIB_MUST_USE nib_code nib_manifest_recipe(nib_json **out, const nib_source *s, nib_err *err);

/* ---- GGUF: the values of the keys, once they are known ---- */

/* Room for them, by the plan's number of tensors; false: no memory. */
bool nib_manifest_reserve(nib_gguf_kvs *k, const nib_plan *p);
/* Checksums of the inputs, of which the rest is read, sha256[n][NIB_SHA256_BYTES] of the plan's
 * tensors, and their errors. */
NIB_MUST_USE nib_code nib_manifest_fill(const nib_plan *p, const uint8_t *sha256,
                                        const nib_ctx *ctx, nib_err *err);

/* ---- folders ---- */

typedef struct {
    nib_json *root, *tensors, *files;
    bool ok; /* memory was enough so far */
} nib_manifest;

nib_manifest nib_manifest_new(void);
/* A file of tensors that `w` has written, the first n of t[]. */
void nib_manifest_add(nib_manifest *m, const char *name, nib_st_writer *w, const nib_st_tensor *t,
                      size_t n);
/* Look at what else is in the folder and write the manifest there. Frees m in every case. */
NIB_MUST_USE nib_code nib_manifest_save(nib_manifest *m, const char *dir, const nib_plan *p,
                                        const nib_ctx *ctx, nib_err *err);
void nib_manifest_free(nib_manifest *m); /* without writing it */

#endif
