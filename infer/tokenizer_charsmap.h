/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_charsmap.h - SentencePiece's precompiled table of replacements.
 *
 * Layout: the size of a trie in bytes (u32), the trie (an array of u32, a double array as
 * Darts-clone makes it), then strings that end in NUL. All of it little-endian. */
#ifndef NIB_INFER_TOKENIZER_CHARSMAP_H
#define NIB_INFER_TOKENIZER_CHARSMAP_H

#include "infer/tokenizer_text.h"

typedef struct {
    unsigned char *data; /* [n] the table as it is, owned; a NUL follows */
    size_t n, n_units;
} nib_charsmap;

/* From the bytes of the table. NIB_EFORMAT says what is wrong with it. */
NIB_MUST_USE nib_code nib_charsmap_init(nib_charsmap *m, const void *data, size_t n, nib_err *err);
void nib_charsmap_fini(nib_charsmap *m); /* accepts a zeroed one */

/* Append text[n], valid UTF-8, with replacements. by_grapheme: as Hugging Face looks them up, whole
 * for grapheme clusters of less than six bytes, else by characters, and always the shortest that
 * fits; else as SentencePiece does, the longest that fits at each place. */
NIB_MUST_USE nib_code nib_charsmap_add(const nib_charsmap *m, nib_text *t, bool by_grapheme,
                                       const char *text, size_t n, nib_err *err);

#endif
