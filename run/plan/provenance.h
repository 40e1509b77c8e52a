/* SPDX-License-Identifier: MIT */
/* run/plan/provenance.h - what an output was made from and how: the recipe in words, and the files
 * that were read with their checksums. Goes into the output (run/write/manifest.h). No paths, dates
 * or numbers of threads: the same input gives the same bytes wherever it lies. */
#ifndef NIB_RUN_PLAN_PROVENANCE_H
#define NIB_RUN_PLAN_PROVENANCE_H

#include "base/arena.h"
#include "base/ctx.h"
#include "base/json.h"
#include "base/sha256.h"
#include "formats/gguf.h"
#include "formats/source.h"

#define NIB_KEY_RECIPE "nibble.recipe" /* of a GGUF file: the recipe as JSON */

typedef struct {
    const char *path; /* where nib_provenance_read() finds it; NULL: it does not            */
    const char *name; /* without its folder; "" of a GGUF file, which may be called anything */
    bool known;       /* its checksum */
    nib_sha256 so_far;
    uint64_t bytes; /* of the file */
    uint8_t sha256[NIB_SHA256_BYTES];
} nib_input_file;

/* Start with {0}. */
typedef struct nib_provenance {
    nib_json *recipe;                    /* owned                                              */
    const char *base_model;              /* "ORG/NAME" as the Hub has it, borrowed; NULL       */
    nib_input_file *source;              /* [n_sources] the model's files                      */
    nib_input_file *other;               /* [n_others] texts, importances, ranges              */
    size_t n_sources, n_others, n_texts; /* the first n_texts of the others are texts */
    nib_arena memory;
    struct nib_provenance *seen; /* borrowed, from nib_provenance_begin() on */
} nib_provenance;

/* List the model's files. */
NIB_MUST_USE nib_code nib_provenance_source(nib_provenance *p, const nib_source *s, nib_err *err);
/* List another file: texts first, which may be pipes and are not read again. */
NIB_MUST_USE nib_code nib_provenance_add_text(nib_provenance *p, const char *path, nib_err *err);
NIB_MUST_USE nib_code nib_provenance_add(nib_provenance *p, const char *path, nib_err *err);
/* The texts' checksums, [n][NIB_SHA256_BYTES]: of what was read of them, unpacked. */
void nib_provenance_texts(nib_provenance *p, const uint8_t *sha256, size_t n);
/* Begin with the checksums of all other files. seen: files whose checksums are known already, {0}
 * at first. NULL: none. */
NIB_MUST_USE nib_code nib_provenance_begin(nib_provenance *p, nib_provenance *seen, nib_err *err);
/* Read file i of all n_sources + n_others up to this share of it, from 0 to 1, between other work;
 * each file by one thread at a time. */
NIB_MUST_USE nib_code nib_provenance_read(nib_provenance *p, size_t i, double share, nib_err *err);
/* Read what is left, several files at a time. What was read is added to the `other` of `seen`. */
NIB_MUST_USE nib_code nib_provenance_end(nib_provenance *p, const nib_ctx *ctx, nib_err *err);
void nib_provenance_free(nib_provenance *p);

/* As metadata of a GGUF file: the keys have the same sizes before and after nib_provenance_end().
 * False: no memory. */
bool nib_provenance_to_gguf(const nib_provenance *p, nib_gguf_kvs *k);
/* As members of a JSON object. */
bool nib_provenance_to_json(const nib_provenance *p, nib_json *to);

#endif
