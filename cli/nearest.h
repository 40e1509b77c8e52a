/* SPDX-License-Identifier: MIT */
/* cli/nearest.h - what a mistyped word may have been meant to be. */
#ifndef NIB_CLI_NEAREST_H
#define NIB_CLI_NEAREST_H

#include <stddef.h>

enum { NIB_NAME_MAX = 63 }; /* bytes; nothing is near to a longer word */

/* The nearest of the names to what was typed: an edit or two away, or one that begins with it.
 * `name(i)` is NULL at the end. NULL when none is near. */
const char *nib_nearest(const char *typed, const char *(*name)(const void *arg, size_t i),
                        const void *arg);

#endif
