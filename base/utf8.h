/* SPDX-License-Identifier: MIT */
/* base/utf8.h - is it UTF-8, and making it so. Knows nothing of characters beyond that. */
#ifndef NIB_BASE_UTF8_H
#define NIB_BASE_UTF8_H

#include <stddef.h>

/* Index of the first byte that does not belong to well-formed UTF-8 (no overlong forms, no
 * surrogates, at most U+10FFFF), or n. */
size_t nib_utf8_bad(const char *s, size_t n);

/* Bytes of s[n] that can be shown before more of the text is there: all, or all but a character
 * that may go on with what comes. */
size_t nib_utf8_whole(const char *s, size_t n);

/* A copy with U+FFFD in place of each byte that nib_utf8_bad() finds: names of files may hold any
 * bytes, JSON and metadata only text. The caller frees it; NULL when memory is short. */
char *nib_utf8_replace(const char *s);

#endif
