/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_gguf.h - inside the tokenizer: what GGUF's keys say of the steps.
 *
 * GGUF has few words: the name of a splitter, a space in front or not. What they mean is written
 * down once, as descriptions in tokenizer.json's notation, for reading and for writing. What a
 * model does beyond them, keys of nibble's own say, in the same notation: other programs pass them
 * over. */
#ifndef NIB_INFER_TOKENIZER_GGUF_H
#define NIB_INFER_TOKENIZER_GGUF_H

#include "infer/tokenizer_impl.h"

#define NIB_KEY_NORMALIZER "nibble.tokenizer.normalizer" /* or "nfc", "none" */
#define NIB_KEY_PRE "nibble.tokenizer.pre_tokenizer"
#define NIB_KEY_DECODER "nibble.tokenizer.decoder"
/* Tokens that are cut out of text otherwise than their types and texts say: objects with "id", and
 * as in tokenizer.json "content" and the rest, or "added": false. */
#define NIB_KEY_ADDED "nibble.tokenizer.added_tokens"
/* Ids around a text, where they are not BOS and EOS alone. */
#define NIB_KEY_FRONT "nibble.tokenizer.front"
#define NIB_KEY_BACK "nibble.tokenizer.back"

extern const char *const nib_gguf_special_key[NIB_N_SPECIAL];

typedef enum { NIB_WORDS_GPT2, NIB_WORDS_LLAMA, NIB_WORDS_T5 } nib_gguf_model;

typedef struct {
    nib_gguf_model model;
    const nib_pre_rule *rule; /* GPT2 */
    bool nfc;                 /* GPT2 */
    bool space_prefix, suffix, remove_spaces;
    const void *map; /* [n_map] charsmap of T5; NULL: none */
    size_t n_map;
} nib_gguf_words;

/* The steps that these mean, appended. */
NIB_MUST_USE nib_code nib_gguf_normalizer(nib_normalizer *z, const nib_gguf_words *w, nib_err *err);
NIB_MUST_USE nib_code nib_gguf_splitter(nib_splitter *s, const nib_gguf_words *w, nib_err *err);
NIB_MUST_USE nib_code nib_gguf_decoder(nib_decoder *d, const nib_gguf_words *w, nib_err *err);

#endif
