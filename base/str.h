/* SPDX-License-Identifier: MIT */
/* base/str.h - ends of strings, and what must not reach a terminal. */
#ifndef NIB_BASE_STR_H
#define NIB_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline bool nib_ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* Length of what stands before `end`; 0 when s does not end with it. */
static inline size_t nib_stem(const char *s, const char *end)
{
    return nib_ends_with(s, end) ? strlen(s) - strlen(end) : 0;
}

/* Bytes of the control character that the n > 0 bytes at s begin with, of ASCII or of ISO 6429's
 * second set (U+0080 to U+009F in UTF-8), which terminals obey too; 0 when they begin with none. */
static inline size_t nib_control(const char *s, size_t n)
{
    const unsigned char c = (unsigned char)s[0];
    if (c < 0x20 || c == 0x7F) return 1;
    return c == 0xC2 && n > 1 && ((unsigned char)s[1] & 0xE0) == 0x80 ? 2 : 0;
}

/* Spaces in place of control characters: one line, and nothing that a terminal obeys. */
static inline void nib_one_line(char *s)
{
    for (size_t n = strlen(s), k; n; s += k, n -= k)
        if ((k = nib_control(s, n)))
            memset(s, ' ', k);
        else
            k = 1;
}

#endif
