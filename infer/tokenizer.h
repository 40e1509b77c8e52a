/* SPDX-License-Identifier: MIT */
/* infer/tokenizer.h - text <-> token ids: byte-level BPE, SentencePiece's BPE, Unigram, WordPiece.
 *
 * Built from a Hugging Face folder (tokenizer.json; where there is none, tokenizer.model,
 * tekken.json or tiktoken's ranks), or from GGUF metadata alone; both give the same ids. What is
 * done to a text is a list of steps, as tokenizer.json describes it. Text may hold any bytes: what
 * is not UTF-8 passes through as bytes where the vocabulary has them all. A tokenizer does not
 * change after opening and may be shared by threads. */
#ifndef NIB_INFER_TOKENIZER_H
#define NIB_INFER_TOKENIZER_H

#include "formats/gguf.h"
#include "formats/source.h"

typedef struct nib_tokenizer nib_tokenizer;

/* From an opened source. NIB_EFORMAT with the reason when it has none or of an unknown kind. */
NIB_MUST_USE nib_code nib_tokenizer_open(nib_tokenizer **out, const nib_source *src, nib_err *err);
void nib_tokenizer_close(nib_tokenizer *t); /* accepts NULL */

/* A growing list of ids. Start with {0}; free with nib_ids_free. */
typedef struct {
    int32_t *id;
    size_t n, cap;
} nib_ids;
void nib_ids_free(nib_ids *v);

enum {
    NIB_TOK_ADD_SPECIAL = 1,   /* BOS/EOS as the model's post-processor adds them            */
    NIB_TOK_PARSE_SPECIAL = 2, /* text that spells a special token becomes that token; without
                                  it only added tokens that are not special do               */
};

/* Append the ids of text[n] to *out. */
NIB_MUST_USE nib_code nib_tokenizer_encode(const nib_tokenizer *t, const char *text, size_t n,
                                           unsigned flags, nib_ids *out, nib_err *err);
/* Bytes of the ids; *text is the caller's (nib_free) and NUL-terminated. skip_special leaves
 * control tokens out. An id outside the vocabulary is an error. */
NIB_MUST_USE nib_code nib_tokenizer_decode(const nib_tokenizer *t, const int32_t *id, size_t n,
                                           bool skip_special, char **text, size_t *n_text,
                                           nib_err *err);

/* Bytes of one token as it stands in the midst of a text. */
NIB_MUST_USE nib_code nib_tokenizer_piece(const nib_tokenizer *t, int32_t id, char **text,
                                          size_t *n_text, nib_err *err);

size_t nib_tokenizer_n_vocab(const nib_tokenizer *t);
/* The token as it is stored in the vocabulary (byte alphabet); borrowed. */
nib_str nib_tokenizer_token(const nib_tokenizer *t, int32_t id);

/* Is it a token of a text, neither a control token nor an unused one? */
bool nib_tokenizer_shows(const nib_tokenizer *t, int32_t id);

/* -1 where the model has none. */
int32_t nib_tokenizer_bos(const nib_tokenizer *t);
int32_t nib_tokenizer_eos(const nib_tokenizer *t);
bool nib_tokenizer_adds_bos(const nib_tokenizer *t);
bool nib_tokenizer_adds_eos(const nib_tokenizer *t);
/* The chat template of that name, "default" being the one without a name; borrowed, NULL: none. */
const char *nib_tokenizer_template(const nib_tokenizer *t, const char *name);
/* GGUF's name of the pre-tokenizer: "llama-bpe"; "" where it has none. */
const char *nib_tokenizer_pre(const nib_tokenizer *t);

/* All tokenizer.* keys of a GGUF file, chat template included. The token list is padded with unused
 * tokens up to n_vocab (rows of the embedding). pre: the name to write for the pre-tokenizer of a
 * byte-level one; NULL: the one that fits, NIB_EFORMAT where none does. */
NIB_MUST_USE nib_code nib_tokenizer_to_gguf(const nib_tokenizer *t, size_t n_vocab, const char *pre,
                                            nib_gguf_kvs *kvs, nib_err *err);

/* The members of a tokenizer.json and a tokenizer_config.json, chat template included, into two
 * empty objects. n_ctx: the longest text that the model was trained on. NIB_EFORMAT names what the
 * files cannot say. */
NIB_MUST_USE nib_code nib_tokenizer_to_hf(const nib_tokenizer *t, size_t n_ctx, nib_json *tokenizer,
                                          nib_json *config, nib_err *err);
/* "bos_token", "eos_token", "pad_token" and the like, as far as there are such: their texts; false:
 * no memory. */
NIB_MUST_USE bool nib_tokenizer_add_specials(nib_json *to, const nib_tokenizer *t);
/* "bos_token_id", "eos_token_id", "pad_token_id", as far as there are such, as config.json and
 * generation_config.json have them; false: no memory. */
NIB_MUST_USE bool nib_tokenizer_add_ids(nib_json *to, const nib_tokenizer *t);

#endif
