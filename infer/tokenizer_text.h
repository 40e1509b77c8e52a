/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_text.h - what the tokenizer must know of UTF-8 and Unicode: characters one by
 * one, their classes and their lower case, grapheme clusters, and normalization forms. */
#ifndef NIB_INFER_TOKENIZER_TEXT_H
#define NIB_INFER_TOKENIZER_TEXT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 character at p (n > 0 bytes left) and its code point; 0 when it is not valid:
 * overlong, surrogate, above U+10FFFF or cut short. */
size_t nib_utf8_get(const char *p, size_t n, uint32_t *cp);
/* Bytes of the character that ends at p + n (n > 0); 1 for a stray byte. */
size_t nib_utf8_last(const char *p, size_t n);

bool nib_is_space(uint32_t cp);     /* Unicode's White_Space */
bool nib_is_word(uint32_t cp);      /* letters, marks, digits, connecting punctuation */
bool nib_is_printable(uint32_t cp); /* as Python's isprintable() */
/* One letter in another case, by Unicode's simple mappings; itself where there is none. */
uint32_t nib_to_upper(uint32_t cp);
uint32_t nib_to_lower(uint32_t cp);

bool nib_is_mark(uint32_t cp);             /* category M                                        */
bool nib_is_nonspacing(uint32_t cp);       /* category Mn                                       */
bool nib_is_control(uint32_t cp);          /* Cc, Cf, Cs, Co, Cn but for tab and ends of lines   */
size_t nib_utf8_put(char *p, uint32_t cp); /* p[4]; bytes written */

/* Bytes of the grapheme cluster that text[n], n > 0, valid UTF-8, begins with. */
size_t nib_grapheme(const char *text, size_t n);

/* Text that grows. Start with {0}; p is nib_free'd. */
typedef struct {
    char *p;
    size_t n, cap;
} nib_text;
NIB_MUST_USE nib_code nib_text_add(nib_text *t, const char *p, size_t n, nib_err *err);

/* The bytes that base64 text[n] stands for. NIB_EFORMAT: it is none. */
NIB_MUST_USE nib_code nib_text_add_base64(nib_text *t, const char *text, size_t n, nib_err *err);
/* data[n] as base64. */
NIB_MUST_USE nib_code nib_text_add_as_base64(nib_text *t, const void *data, size_t n, nib_err *err);

typedef enum { NIB_NFC, NIB_NFD, NIB_NFKC, NIB_NFKD } nib_normal_form;
/* Append text[n], valid UTF-8, in a normalization form. Stretches that can be seen to be in it are
 * copied; so most text costs a scan. */
NIB_MUST_USE nib_code nib_text_add_normal(nib_text *t, nib_normal_form form, const char *text,
                                          size_t n, nib_err *err);

#endif
