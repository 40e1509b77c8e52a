/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_impl.h - inside the tokenizer; for tokenizer*.c only.
 *
 *   tokenizer.c             the way of a text; questions
 *   tokenizer_vocab.c       tokens, their bytes, and finding them
 *   tokenizer_added.c       cutting out added ones
 *   tokenizer_normalize.c   steps before splitting       tokenizer_charsmap.c, tokenizer_text.c
 *   tokenizer_split.c       steps that cut into words    tokenizer_regex.c, tokenizer_alphabet.c
 *   tokenizer_word.h        words into tokens            tokenizer_word_*.c, tokenizer_bpe.c
 *   tokenizer_decode.c      steps back to text
 *   tokenizer_pre.c         GGUF's names of splitters
 *   tokenizer_hf*.c         from a folder: tokenizer.json; tokenizer_spm.c: tokenizer.model;
 *                           tokenizer_ranks.c: tekken.json and tiktoken's files
 *   tokenizer_gguf.c        from GGUF                    tokenizer_to_gguf.c, tokenizer_to_hf.c */
#ifndef NIB_INFER_TOKENIZER_IMPL_H
#define NIB_INFER_TOKENIZER_IMPL_H

#include "infer/tokenizer.h"
#include "infer/tokenizer_decode.h"
#include "infer/tokenizer_normalize.h"
#include "infer/tokenizer_pre.h"
#include "infer/tokenizer_split.h"
#include "infer/tokenizer_text.h"
#include "infer/tokenizer_word.h"

/* ---- ids ---- */

NIB_MUST_USE nib_code nib_ids_add(nib_ids *v, const int32_t *id, size_t n, nib_err *err);

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

/* A stretch of text between added tokens, or one of those. `first`: it begins where the text does.
 */
typedef nib_code nib_stretch_fn(void *arg, const char *p, size_t n, bool first, nib_err *err);
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
    nib_added_set added;      /* found in the text as it is */
    nib_added_set added_norm; /* found in the normalized text */
    nib_text norm_text;       /* normalized spellings of the latter, each with a NUL after it */
    nib_str *shown;           /* [vocabulary] these, by id, as they are decoded; n 0: as it is    */
    nib_normalizer normalizer;
    nib_splitter splitter;
    nib_word_model *model;
    nib_decoder decoder;
    const nib_pre_rule *rule;       /* of splitter, byte-level ones; NULL: it has no name         */
    char *pre;                      /* that a GGUF file gave; NULL: the rule's first              */
    nib_ids front, back;            /* what goes around a text                                    */
    int32_t special[NIB_N_SPECIAL]; /* -1: none */
    nib_template *tmpl;
    size_t n_tmpl;
};

/* Fill in an empty tokenizer from the files of a folder, or the keys of a GGUF file. NIB_EFORMAT
 * says which part is missing, broken or of a kind that is not supported. On failure the caller
 * closes it. */
NIB_MUST_USE nib_code nib_tokenizer_from_hf(nib_tokenizer *t, const nib_source *src, nib_err *err);
NIB_MUST_USE nib_code nib_tokenizer_from_gguf(nib_tokenizer *t, const nib_gguf_kvs *kvs,
                                              nib_err *err);
/* Copies both; the default template goes by the name "default". */
NIB_MUST_USE nib_code nib_tokenizer_add_template(nib_tokenizer *t, nib_str name, nib_str text,
                                                 nib_err *err);
/* Take up the parts of added tokens: a normalized spelling of text (borrowed by nobody) where it is
 * looked for in normalized text. To be called for all of them with the same `normalized`, then
 * sorted. */
typedef struct {
    int32_t id;
    nib_str text; /* borrowed while this runs */
    bool control, normalized, lstrip, rstrip, single_word;
    bool spelled; /* text is in normalized form: SentencePiece's user-defined pieces */
} nib_added_token;
NIB_MUST_USE nib_code nib_tokenizer_set_added(nib_tokenizer *t, const nib_added_token *a, size_t n,
                                              nib_err *err);

#endif
