/* SPDX-License-Identifier: MIT */
/* cli/io.h - text and JSON out: what several commands share. */
#ifndef NIB_CLI_IO_H
#define NIB_CLI_IO_H

#include "base/err.h"
#include "base/json.h"

#include <stddef.h>

/* Print the first n bytes of s, a text from a file: control characters, which a terminal would
 * obey, as spaces. */
void nib_print_text(const char *s, size_t n);

/* Print indented JSON on standard output and free it. `built`: every addition worked; false, or a
 * NULL root, is the error "out of memory". */
NIB_MUST_USE nib_code nib_print_json(nib_json *root, bool built, nib_err *err);

#endif
