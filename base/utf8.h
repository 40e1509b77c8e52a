/* SPDX-License-Identifier: MIT */
/* base/utf8.h - is it UTF-8? Knows nothing of characters beyond that. */
#ifndef NIB_BASE_UTF8_H
#define NIB_BASE_UTF8_H

#include <stddef.h>

/* Index of the first byte that does not belong to well-formed UTF-8 (no overlong forms, no
 * surrogates, at most U+10FFFF), or n. */
size_t nib_utf8_bad(const char *s, size_t n);

#endif
