/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_decode.h - from the texts of tokens to text: a list of steps over the list of
 * tokens, as tokenizer.json's "decoder" has them. */
#ifndef NIB_INFER_TOKENIZER_DECODE_H
#define NIB_INFER_TOKENIZER_DECODE_H

#include "base/json.h"
#include "formats/gguf.h"
#include "infer/tokenizer_regex.h"
#include "infer/tokenizer_text.h"

typedef enum {
    NIB_DECODE_BYTE_LEVEL, /* tokens as bytes; comes first: the caller gives those               */
    NIB_DECODE_REPLACE,    /* in each token                                                      */
    NIB_DECODE_BYTE_FALLBACK, /* <0xE2> is the byte                                             */
    NIB_DECODE_FUSE,
    NIB_DECODE_STRIP, /* `content` off the ends of each token                                    */
    NIB_DECODE_METASPACE,
    NIB_DECODE_WORDPIECE, /* a space before what does not begin with `content`                   */
    NIB_DECODE_SPACES,    /* a space between tokens: what no decoder means                       */
} nib_decode_kind;

typedef struct {
    nib_decode_kind kind;
    char *pattern, *content; /* owned */
    bool literal;
    nib_splitter_regex *find;
    size_t start, stop; /* STRIP: how often at the left, the right      */
    bool prefixed;      /* METASPACE: the first one is not the text's   */
    bool clean_up;      /* WORDPIECE: no space before punctuation       */
} nib_decode_step;

typedef struct {
    nib_decode_step *step;
    size_t n;
} nib_decoder;

/* Append the steps of tokenizer.json's "decoder" (NULL, null: none). */
NIB_MUST_USE nib_code nib_decoder_read(nib_decoder *d, const nib_json *j, nib_err *err);
NIB_MUST_USE nib_code nib_decoder_add(nib_decoder *d, nib_decode_kind kind, nib_err *err);
/* As the member "decoder" of an object; false: no memory. */
NIB_MUST_USE bool nib_decoder_write(nib_json *parent, const nib_decoder *d);
void nib_decoder_fini(nib_decoder *d);
/* Are the tokens' bytes wanted, not their texts? */
bool nib_decoder_wants_bytes(const nib_decoder *d);

/* The text of n tokens, appended to *to. whole: as a text; else each as it would stand in the midst
 * of one. Bytes that are not UTF-8 stay as they are (Hugging Face has U+FFFD in their place). */
NIB_MUST_USE nib_code nib_decode(const nib_decoder *d, const nib_str *token, size_t n, bool whole,
                                 nib_text *to, nib_err *err);

#endif
