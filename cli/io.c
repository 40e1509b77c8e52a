/* SPDX-License-Identifier: MIT */
/* cli/io.c - see io.h. Tests: tests/cases/commands. */
#include "cli/io.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>

void nib_print_text(const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        k = nib_control(s + i, n - i);
        putchar(k ? ' ' : s[i]);
    }
}

nib_code nib_print_json(nib_json *root, bool built, nib_err *err)
{
    char *text = root && built ? nib_json_print(root, true) : NULL;
    if (text) puts(text);
    bool printed = text;
    nib_free(text);
    nib_json_free(root);
    return printed ? NIB_OK : nib_fail_nomem(err, "JSON output");
}
