/* SPDX-License-Identifier: MIT */
/* infer/bpe.h - byte-pair merging of one word into token ids.
 *
 * A word is a run of bytes; each byte is a token. Of all adjacent pairs that have a merge, the one
 * of lowest rank (the leftmost of equals) is replaced by its result, until no pair has one.
 * Knows ids and ranks only: what tokens look like is tokenizer_vocab.c's business, where words
 * begin and end is pretok.c's. */
#ifndef NIB_INFER_BPE_H
#define NIB_INFER_BPE_H

#include "base/err.h"
#include "base/mem.h"

typedef struct {
    int32_t left, right, result; /* left = -1: an empty slot */
    uint32_t rank;
} nib_bpe_merge;

typedef struct {
    int32_t byte_id[256]; /* token of each byte; -1: the vocabulary has none, the byte is dropped */
    nib_bpe_merge *slot;  /* hashed by (left, right), linear probing, at most 2/3 full */
    size_t mask;          /* slots - 1, a power of two minus one */
    uint32_t n;           /* merges so far = rank of the next */
} nib_bpe;

/* Room for n_merges; byte_id is the caller's to fill. */
NIB_MUST_USE nib_code nib_bpe_init(nib_bpe *b, size_t n_merges, nib_err *err);
void nib_bpe_fini(nib_bpe *b); /* accepts a zeroed one */
/* The next merge in order of rank; the caller has checked the ids. False: the pair is there
 * already. */
NIB_MUST_USE bool nib_bpe_add(nib_bpe *b, int32_t left, int32_t right, int32_t result);

/* Work memory of one caller, reused from word to word. Start with {0}. */
typedef struct {
    int32_t *id;           /* [cap] symbols; the result is here */
    uint32_t *rank;        /* [cap] of the pair that starts at a symbol */
    uint32_t *next, *prev; /* [cap] neighbours still alive, long words only */
    uint64_t *heap;        /* [2 * cap] */
    size_t cap;
} nib_bpe_work;
void nib_bpe_work_fini(nib_bpe_work *w);

/* Ids of word[n] into w->id[0 .. *n_ids). Time is n log n in the length of the word. */
NIB_MUST_USE nib_code nib_bpe_encode(const nib_bpe *b, nib_bpe_work *w, const char *word, size_t n,
                                     size_t *n_ids, nib_err *err);

#endif
