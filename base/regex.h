/* SPDX-License-Identifier: MIT */
/* base/regex.h - Perl's regular expressions (PCRE2) for names, which are short.
 *
 * Patterns may come from files: their length and the steps that a search may take are bounded, so
 * one that was made to take forever is an error instead. */
#ifndef NIB_BASE_REGEX_H
#define NIB_BASE_REGEX_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    NIB_REGEX_LENGTH_MAX = 4096,
    NIB_REGEX_STEPS_MAX = 1000000, /* some milliseconds */
};

typedef struct nib_regex nib_regex;

/* From the first n bytes of `pattern`. NIB_EINVAL says what is wrong with it, and where. */
NIB_MUST_USE nib_code nib_regex_new(nib_regex **out, const char *pattern, size_t n, nib_err *err);
void nib_regex_free(nib_regex *r); /* accepts NULL */

/* Is it found in the text: anywhere, or, with at_start, from the first letter on? NIB_EINVAL: that
 * takes more than NIB_REGEX_STEPS_MAX steps. One search at a time with one object. */
NIB_MUST_USE nib_code nib_regex_find(const nib_regex *r, const char *text, bool at_start,
                                     bool *found, nib_err *err);

#endif
