/* SPDX-License-Identifier: MIT */
/* base/str.h - ends of strings. */
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

#endif
