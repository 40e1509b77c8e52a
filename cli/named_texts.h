/* SPDX-License-Identifier: MIT */
/* cli/named_texts.h - texts with names on the command line: --text NAME=FILE. */
#ifndef NIB_CLI_NAMED_TEXTS_H
#define NIB_CLI_NAMED_TEXTS_H

#include "base/arena.h"
#include "cli/opts.h"

#include <stdbool.h>

typedef struct {
    const char *name; /* the path, where the user gave none */
    const char *path;
    bool named;
} nib_named_text;

/* One for each argument of the list, in its order, into text[list->n]. "NAME=FILE" is FILE, unless
 * there is a file of that whole name. Two of one name are an error. */
NIB_MUST_USE nib_code nib_named_texts(nib_named_text *text, nib_arena *keep,
                                      const nib_opt_list *list, nib_err *err);

#endif
