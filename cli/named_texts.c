/* SPDX-License-Identifier: MIT */
/* cli/named_texts.c - see named_texts.h. Tests: tests/cases/commands. */
#include "cli/named_texts.h"

#include "base/file.h"

#include <string.h>

static nib_code parse(nib_named_text *t, nib_arena *keep, const char *arg, nib_err *err)
{
    const char *sign = strchr(arg, '=');
    *t = (nib_named_text){.name = arg, .path = arg};
    if (!sign || nib_file_exists(arg)) return NIB_OK;
    if (sign == arg || !sign[1])
        return nib_fail(err, NIB_EINVAL, "--text: '%s' should be FILE or NAME=FILE", arg);
    t->name = nib_arena_str(keep, arg, (size_t)(sign - arg));
    t->path = sign + 1;
    t->named = true;
    return t->name ? NIB_OK : nib_fail_nomem(err, "a text's name");
}

nib_code nib_named_texts(nib_named_text *text, nib_arena *keep, const nib_opt_list *list,
                         nib_err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        nib_code rc = parse(&text[i], keep, list->v[i], err);
        if (rc) return rc;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(text[k].name, text[i].name))
                return nib_fail(err, NIB_EINVAL, "--text: two texts are named '%s'", text[i].name);
    }
    return NIB_OK;
}
