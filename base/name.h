/* SPDX-License-Identifier: MIT */
/* base/name.h - names that people type: the same but for spelling, and the nearest of several. */
#ifndef NIB_BASE_NAME_H
#define NIB_BASE_NAME_H

#include <stdbool.h>
#include <stddef.h>

enum { NIB_NAME_MAX = 63 }; /* bytes; nothing is near to a longer word */

/* Are they alike but for case and '-', '_' and spaces? "Q4_K_M" is "q4km", "desc_act" "desc-act".
 */
bool nib_name_same(const char *a, const char *b);
/* The first n bytes of a. */
bool nib_name_same_n(const char *a, size_t n, const char *b);

/* The nearest of the names to what was typed, by the same measure: an edit or two away, or one that
 * begins with it. `name(i)` is NULL at the end. NULL when none is near. */
const char *nib_name_nearest(const char *typed, const char *(*name)(const void *arg, size_t i),
                             const void *arg);
/* `name` for an array of names with NULL at its end. */
const char *nib_name_at(const void *names, size_t i);

#endif
