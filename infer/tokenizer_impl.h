/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_impl.h - inside the tokenizer; for tokenizer*.c only.
 *
 *   tokenizer_vocab.c   tokens, their bytes, and finding them
 *   tokenizer_added.c   cutting out added ones
 *   tokenizer_hf.c      from a Hugging Face folder
 *   tokenizer_gguf.c    from and to GGUF
 *   tokenizer_to_hf.c   to the files of a Hugging Face folder
 *   tokenizer.c         encoding, decoding, questions */
#ifndef NIB_INFER_TOKENIZER_IMPL_H
#define NIB_INFER_TOKENIZER_IMPL_H

#include "infer/bpe.h"
#include "infer/pretok.h"
#include "infer/tokenizer.h"
#include "infer/tokenizer_text.h"

/* More than any model has; ids at or above it are refused. */
enum { NIB_VOCAB_MAX = 1 << 24 };

/* GGUF's token types. */
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
    nib_str *text; /* [n] as stored: normal tokens in the byte alphabet */
    nib_str *raw;  /* [n] the bytes the token stands for                */
    uint8_t *type; /* [n] NIB_TOKEN_*                                   */
    char *blob;    /* holds all text and raw                            */
    nib_strmap by_text;
    nib_strmap by_raw; /* normal tokens only */
} nib_vocab;

/* Copy the tokens. One without a string (p NULL) becomes "[PADid]", unused. Equal strings are an
 * error. */
NIB_MUST_USE nib_code nib_vocab_build(nib_vocab *v, const nib_str *text, const uint8_t *type,
                                      size_t n, nib_err *err);
void nib_vocab_fini(nib_vocab *v);
int32_t nib_vocab_find(const nib_vocab *v, const char *text, size_t n); /* -1: none */
int32_t nib_vocab_find_raw(const nib_vocab *v, const char *raw, size_t n);
/* The token of each single byte, -1 where there is none. */
void nib_vocab_bytes(const nib_vocab *v, int32_t byte_id[256]);
/* A merge by its two parts; the result must be a token too. */
NIB_MUST_USE nib_code nib_vocab_add_merge(const nib_vocab *v, nib_bpe *b, nib_str left,
                                          nib_str right, nib_err *err);

/* ---- added tokens ---- */

typedef struct {
    nib_str text; /* as it stands in text; borrowed from the vocabulary or from `own` */
    int32_t id;
    bool control;                     /* only where special tokens are parsed */
    bool lstrip, rstrip, single_word; /* takes the white space beside it; must stand alone */
} nib_added;

typedef struct {
    nib_added *t; /* sorted by text once built */
    size_t n, cap;
    uint8_t first[256]; /* by first byte: 1 = a plain one begins so, 2 = a control one */
} nib_added_set;

/* Add one; a.text is borrowed. To be sorted before it is used. */
NIB_MUST_USE nib_code nib_added_push(nib_added_set *s, nib_added a, nib_err *err);
void nib_added_sort(nib_added_set *s);
void nib_added_fini(nib_added_set *s);

/* A stretch of text between added tokens, or one of those. */
typedef nib_code nib_stretch_fn(void *arg, const char *p, size_t n, nib_err *err);
typedef nib_code nib_token_fn(void *arg, int32_t id, nib_err *err);
/* Cut text[n] at the added tokens, leftmost first, the longest of those that begin together. */
NIB_MUST_USE nib_code nib_added_cut(const nib_added_set *s, bool control, const char *text,
                                    size_t n, nib_stretch_fn *stretch, nib_token_fn *token,
                                    void *arg, nib_err *err);

/* ---- the whole ---- */

enum { NIB_BOS, NIB_EOS, NIB_UNK, NIB_SEP, NIB_PAD, NIB_CLS, NIB_MASK, NIB_N_SPECIAL };

typedef struct {
    char *name; /* "default" is the one without a name */
    char *text;
} nib_template;

struct nib_tokenizer {
    nib_vocab vocab;
    nib_bpe bpe;
    nib_pretok *pre;
    nib_added_set added;      /* found in the text as it is */
    nib_added_set added_norm; /* found in the normalized text */
    nib_text norm_text;       /* normalized spellings of the latter */
    bool nfc, ignore_merges, prefix_space;
    bool add_bos, add_eos;
    int32_t special[NIB_N_SPECIAL]; /* -1: none */
    nib_template *tmpl;
    size_t n_tmpl;
};

/* Fill in an empty tokenizer from the JSON files of a folder, or the keys of a GGUF file.
 * NIB_EFORMAT says which part is missing, broken or of a kind that is not supported. On failure the
 * caller closes it. */
NIB_MUST_USE nib_code nib_tokenizer_from_hf(nib_tokenizer *t, const nib_source *src, nib_err *err);
NIB_MUST_USE nib_code nib_tokenizer_from_gguf(nib_tokenizer *t, const nib_gguf_kvs *kvs,
                                              nib_err *err);
/* Copies both; the default template goes by the name "default". */
NIB_MUST_USE nib_code nib_tokenizer_add_template(nib_tokenizer *t, nib_str name, nib_str text,
                                                 nib_err *err);

#endif
