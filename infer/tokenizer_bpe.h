/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_bpe.h - byte-pair merging of one word into token ids.
 *
 * A word is a run of symbols, each one a token: bytes or characters. Of all adjacent pairs that
 * have a merge, the one of lowest rank (the leftmost of equals) is replaced by its result, until no
 * pair has one. Ranks are those of a list of merges, all different; or the merges are all pairs
 * that make a token, ranked by that token's own place or score, as SentencePiece and tiktoken have
 * it. Knows ids and ranks only: what tokens look like is tokenizer_vocab.c's business. */
#ifndef NIB_INFER_TOKENIZER_BPE_H
#define NIB_INFER_TOKENIZER_BPE_H

#include "base/err.h"
#include "base/mem.h"

typedef struct {
    int32_t left, right, result; /* left = -1: an empty slot */
    uint32_t rank;
} nib_bpe_merge;

typedef struct {
    nib_bpe_merge *slot; /* hashed by (left, right), linear probing, at most 2/3 full */
    size_t mask;         /* slots - 1, a power of two minus one */
    uint32_t n;          /* merges so far */
    uint64_t *edge; /* [NIB_BPE_EDGE_WORDS] bits of pairs of symbols that a merge can go across,
                       hashed; NULL: not known, any */
} nib_bpe;

enum { NIB_BPE_EDGE_WORDS = 1 << 14 };

/* Room for n_merges. */
NIB_MUST_USE nib_code nib_bpe_init(nib_bpe *b, size_t n_merges, nib_err *err);
void nib_bpe_fini(nib_bpe *b); /* accepts a zeroed one */
/* A merge; the caller has checked the ids. False: the pair is there already. */
NIB_MUST_USE bool nib_bpe_add(nib_bpe *b, int32_t left, int32_t right, int32_t result,
                              uint32_t rank);
/* NULL: none. */
const nib_bpe_merge *nib_bpe_find(const nib_bpe *b, int32_t left, int32_t right);

/* Between which symbols can a merge go across? Of a token the first and the last symbol; -1: not
 * known, then nothing is known of the edges. Words may be cut where none can. */
typedef void nib_bpe_ends_fn(const void *arg, int32_t id, int32_t *first, int32_t *last);
NIB_MUST_USE nib_code nib_bpe_find_edges(nib_bpe *b, nib_bpe_ends_fn *ends, const void *arg,
                                         nib_err *err);
static inline size_t nib_bpe_edge_bit(int32_t left, int32_t right)
{
    const uint64_t h =
        ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 44); /* 20 bits */
}
static inline bool nib_bpe_may_join(const nib_bpe *b, int32_t left, int32_t right)
{
    const size_t bit = nib_bpe_edge_bit(left, right);
    return !b->edge || (b->edge[bit >> 6] >> (bit & 63) & 1);
}

/* Work memory of one caller, reused from word to word. Start with {0}. */
typedef struct {
    int32_t *id;           /* [cap] symbols; the result is here */
    uint32_t *rank;        /* [cap] of the pair that starts at a symbol */
    uint32_t *next, *prev; /* [cap] neighbours still alive, long words only */
    uint64_t *heap;        /* [2 * cap] */
    size_t cap;
} nib_bpe_work;
void nib_bpe_work_fini(nib_bpe_work *w);

/* Room for n symbols in w->id, which the caller fills. */
NIB_MUST_USE nib_code nib_bpe_reserve(nib_bpe_work *w, size_t n, nib_err *err);
/* Merge the n symbols in w->id; the tokens stand there afterwards, this many. Time is n log n. */
size_t nib_bpe_merge_all(const nib_bpe *b, nib_bpe_work *w, size_t n);

#endif
