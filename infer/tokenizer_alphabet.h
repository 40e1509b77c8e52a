/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_alphabet.h - bytes written as printable characters, as byte-level vocabularies
 * have them: 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for themselves, the other 68 are U+0100,
 * U+0101 ... in increasing order (space is U+0120). */
#ifndef NIB_INFER_TOKENIZER_ALPHABET_H
#define NIB_INFER_TOKENIZER_ALPHABET_H

#include <stddef.h>

/* The character of byte b into p[2]; its bytes. */
size_t nib_alphabet_put(char *p, unsigned b);
/* Bytes that text[n] in the alphabet stands for into out[n]; how many. A text with any other
 * character stands for its own bytes, as it does in Hugging Face's decoder. */
size_t nib_alphabet_get(const char *text, size_t n, char *out);

#endif
