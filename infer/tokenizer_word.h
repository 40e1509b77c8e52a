/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_word.h - inside the tokenizer: the vocabulary, and the models that turn a word
 * into its tokens. */
#ifndef NIB_INFER_TOKENIZER_WORD_H
#define NIB_INFER_TOKENIZER_WORD_H

#include "base/mem.h"
#include "formats/gguf.h"
#include "infer/tokenizer.h"
#include "infer/tokenizer_bpe.h"

#include <math.h>

/* More than any model has; ids at or above it are refused. Longest token of which pairs are made.
 */
enum { NIB_VOCAB_MAX = 1 << 24, NIB_TOKEN_LEN_MAX = 4096 };

/* GGUF's token types; SentencePiece's are the same numbers. */
enum {
    NIB_TOKEN_UNDEFINED,
    NIB_TOKEN_NORMAL,
    NIB_TOKEN_UNKNOWN,
    NIB_TOKEN_CONTROL,
    NIB_TOKEN_USER, /* an added token that is not special */
    NIB_TOKEN_UNUSED,
    NIB_TOKEN_BYTE,
};

/* ---- vocabulary ---- */

/* From byte strings to indices into an array of them; open addressing. */
typedef struct {
    const nib_str *key; /* borrowed */
    uint32_t *slot;     /* index + 1; 0 = empty */
    size_t mask;
} nib_strmap;

typedef struct {
    size_t n;
    nib_str *text; /* [n] as stored: normal tokens in the byte alphabet, where there is one */
    nib_str *raw;  /* [n] the bytes the token stands for; without an alphabet the text      */
    uint8_t *type; /* [n] NIB_TOKEN_*                                                       */
    char *blob;    /* holds all text and raw                                                */
    nib_strmap by_text;
    nib_strmap by_raw; /* normal tokens only */
} nib_vocab;

/* Copy the tokens. One without a string (p NULL) becomes "[PADid]", unused. alphabet: normal tokens
 * are in the byte alphabet. Equal strings are an error. */
NIB_MUST_USE nib_code nib_vocab_build(nib_vocab *v, const nib_str *text, const uint8_t *type,
                                      size_t n, bool alphabet, nib_err *err);
void nib_vocab_fini(nib_vocab *v);
int32_t nib_vocab_find(const nib_vocab *v, const char *text, size_t n); /* -1: none */
int32_t nib_vocab_find_raw(const nib_vocab *v, const char *raw, size_t n);
/* A token that text can be made of: neither control nor unknown nor a byte. -1: none. */
int32_t nib_vocab_find_piece(const nib_vocab *v, const char *text, size_t n);
/* The tokens <0x00> to <0xFF>, -1 where there is none. */
void nib_vocab_bytes(const nib_vocab *v, int32_t byte_id[256]);
/* How much of a string a message shows. */
int nib_shown(nib_str s);

/* ---- words ---- */

/* Work memory of one caller. */
typedef struct nib_word_work {
    nib_bpe_work bpe;
    struct nib_word_cache *cache;
    size_t cache_mask;
    nib_buf score, piece; /* of Unigram's search */
} nib_word_work;
/* For texts of about n bytes. */
NIB_MUST_USE nib_code nib_word_work_init(nib_word_work *w, size_t n, nib_err *err);
void nib_word_work_fini(nib_word_work *w);

typedef struct nib_word_model nib_word_model;
struct nib_word_model {
    const char *json; /* tokenizer.json's model.type     */
    const char *gguf; /* tokenizer.ggml.model; NULL: none */
    /* Append the tokens of word[n], n > 0. */
    nib_code (*encode)(const nib_word_model *m, nib_word_work *w, const char *word, size_t n,
                       nib_ids *out, nib_err *err);
    /* The keys of the model's own: merges, scores. */
    nib_code (*save_gguf)(const nib_word_model *m, nib_gguf_kvs *kvs, size_t n_vocab, nib_err *err);
    /* The members of tokenizer.json's "model" behind its type; n_vocab: tokens that are the model's
     * own, the rest are added ones that follow. */
    nib_code (*save_json)(const nib_word_model *m, nib_json *model, size_t n_vocab, nib_err *err);
    void (*free)(nib_word_model *m);
    const nib_vocab *vocab; /* borrowed */
};

/* The same, but words of a few bytes that were met before are remembered. */
NIB_MUST_USE nib_code nib_word_encode(const nib_word_model *m, nib_word_work *w, const char *word,
                                      size_t n, nib_ids *out, nib_err *err);

/* ---- merges, of both kinds of BPE ---- */

/* A merge by its two parts, rank being how many there are; the result must be a token too. */
NIB_MUST_USE nib_code nib_merges_add(const nib_vocab *v, nib_bpe *b, nib_str left, nib_str right,
                                     nib_err *err);
/* All pairs of pieces that make one: merges ranked by rank[id] of the result. Pieces are what
 * `find` knows; their texts are text[n]. by_char: parts begin where characters do. */
typedef int32_t nib_find_fn(const nib_vocab *v, const char *text, size_t n);
NIB_MUST_USE nib_code nib_merges_from_ranks(const nib_vocab *v, nib_bpe *b, const nib_str *text,
                                            nib_find_fn *find, const uint32_t *rank, bool by_char,
                                            nib_err *err);
/* The merges in the order of their ranks; those of one rank as Hugging Face lists them: the longest
 * left part first (by_length) or the lowest ids. The caller frees the array; NULL: no memory. */
const nib_bpe_merge **nib_merges_in_order(const nib_vocab *v, const nib_bpe *b, bool by_length);
NIB_MUST_USE nib_code nib_merges_to_gguf(const nib_vocab *v, const nib_bpe_merge *const *merge,
                                         size_t n, nib_gguf_kvs *kvs, nib_err *err);
NIB_MUST_USE nib_code nib_merges_to_json(const nib_vocab *v, const nib_bpe_merge *const *merge,
                                         size_t n, nib_json *model, nib_err *err);
/* {"token": id, ...} as the member "vocab". */
NIB_MUST_USE nib_code nib_vocab_to_json(const nib_vocab *v, size_t n, nib_json *model,
                                        nib_err *err);

/* ---- the models ---- */

/* Byte-level BPE: a word's symbols are its bytes. Bytes without a token are dropped. Takes the
 * merges. ignore_merges: a word that is a token is that token, whatever the merges say. */
NIB_MUST_USE nib_code nib_word_bytes_new(nib_word_model **out, const nib_vocab *v, nib_bpe *merges,
                                         bool ignore_merges, nib_err *err);
bool nib_word_bytes_ignores_merges(const nib_word_model *m);
/* First normal token that is not what its own bytes merge to; n: none. */
NIB_MUST_USE nib_code nib_word_bytes_check(const nib_word_model *m, size_t *id, nib_err *err);
/* First byte that has no token; 256: none. */
unsigned nib_word_bytes_missing(const nib_word_model *m);

/* BPE on characters, SentencePiece's: those without a token become the tokens of their bytes
 * (<0xE2>), where all of these are there, else the unknown one (-1: nothing). Takes the merges.
 * score[n]: copied; NULL: to be made of the ranks where scores are asked for. */
typedef struct {
    int32_t unk;
    bool fuse_unk, byte_fallback, ignore_merges;
    bool by_score; /* the merges were made of the scores */
} nib_word_chars_opts;
NIB_MUST_USE nib_code nib_word_chars_new(nib_word_model **out, const nib_vocab *v, nib_bpe *merges,
                                         const nib_word_chars_opts *opts, const float *score,
                                         nib_err *err);
/* The merges that scores mean: the best piece first, equal ones together. */
NIB_MUST_USE nib_code nib_merges_from_scores(const nib_vocab *v, nib_bpe *b, const float *score,
                                             nib_err *err);
/* Scores that another file has; copied. */
NIB_MUST_USE nib_code nib_word_chars_set_scores(nib_word_model *m, const float *score,
                                                nib_err *err);

/* The score of an added token that the model does not have: it comes out of no word. */
#define NIB_NO_PIECE ((double)-INFINITY)

/* Unigram: the pieces whose scores sum up to most. unk -1: none. all: any token may be a piece, as
 * in tokenizer.json; else those that are normal or the user's (which count 0). */
NIB_MUST_USE nib_code nib_word_unigram_new(nib_word_model **out, const nib_vocab *v,
                                           const double *score, int32_t unk, bool byte_fallback,
                                           bool all, nib_err *err);

/* WordPiece: the longest piece first; what goes on begins with `prefix` (copied); a word that does
 * not come out, or has more than max_chars characters, is unknown. score[vocabulary]: only which
 * tokens are NIB_NO_PIECE counts. */
NIB_MUST_USE nib_code nib_word_wordpiece_new(nib_word_model **out, const nib_vocab *v,
                                             const double *score, int32_t unk, const char *prefix,
                                             size_t max_chars, nib_err *err);

#endif
