/* SPDX-License-Identifier: MIT */
/* cli/nearest.c - see nearest.h. */
#include "cli/nearest.h"

#include <stdbool.h>
#include <string.h>

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

const char *nib_nearest(const char *typed, const char *(*name)(const void *arg, size_t i),
                        const void *arg)
{
    size_t n = strlen(typed),
           best = n < 5 ? 2 : 3; /* one edit in a short name, two in a long one */
    const char *found = NULL, *s;
    if (n > NIB_NAME_MAX) return NULL;
    for (size_t i = 0; (s = name(arg, i)); i++) {
        bool begins = n >= 2 && !strncmp(s, typed, n);
        size_t d = begins ? 1 : strlen(s) <= NIB_NAME_MAX ? edits(typed, s) : best;
        if (d < best) {
            best = d;
            found = s;
        }
    }
    return found;
}
