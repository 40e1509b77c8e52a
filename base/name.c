/* SPDX-License-Identifier: MIT */
/* base/name.c - see name.h. */
#include "base/name.h"

#include <ctype.h>
#include <string.h>

/* The n bytes of a name in lower case, without what does not count; n at most NIB_NAME_MAX. */
static size_t fold(char folded[NIB_NAME_MAX + 1], const char *name, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (!strchr("-_ ", name[i])) folded[k++] = (char)tolower((unsigned char)name[i]);
    folded[k] = 0;
    return k;
}

bool nib_name_same_n(const char *a, size_t n, const char *b)
{
    char x[NIB_NAME_MAX + 1], y[NIB_NAME_MAX + 1];
    const size_t m = strlen(b);
    if (n > NIB_NAME_MAX || m > NIB_NAME_MAX) return n == m && !memcmp(a, b, n);
    return fold(x, a, n) == fold(y, b, m) && !strcmp(x, y);
}

bool nib_name_same(const char *a, const char *b)
{
    return nib_name_same_n(a, strlen(a), b);
}

/* Edits (insert, delete, replace) from a to b; one row of the classic table at a time. */
static size_t edits(const char *a, const char *b)
{
    size_t row[NIB_NAME_MAX + 1], n = strlen(b);
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

const char *nib_name_nearest(const char *typed, const char *(*name)(const void *arg, size_t i),
                             const void *arg)
{
    char x[NIB_NAME_MAX + 1], y[NIB_NAME_MAX + 1];
    if (strlen(typed) > NIB_NAME_MAX) return NULL;
    const size_t n = fold(x, typed, strlen(typed));
    size_t best = n < 5 ? 2 : 3; /* one edit in a short name, two in a long one */
    const char *found = NULL, *s;
    for (size_t i = 0; (s = name(arg, i)); i++) {
        if (strlen(s) > NIB_NAME_MAX) continue;
        fold(y, s, strlen(s));
        const bool begins = n >= 2 && !strncmp(y, x, n);
        const size_t d = begins ? 1 : edits(x, y);
        if (d < best) {
            best = d;
            found = s;
        }
    }
    return found;
}

const char *nib_name_at(const void *names, size_t i)
{
    return ((const char *const *)names)[i];
}
