/* SPDX-License-Identifier: MIT */
/* cli/opened.c - see opened.h. */
#include "cli/opened.h"

nib_code nib_opened_open(nib_opened *o, const char *path, nib_err *err)
{
    *o = (nib_opened){0};
    nib_code rc = nib_source_open(&o->src, path, err);
    if (!rc) rc = nib_model_open(&o->model, o->src, err);
    return rc ? rc : nib_tokenizer_open(&o->tok, o->src, err);
}

void nib_opened_close(nib_opened *o)
{
    nib_tokenizer_close(o->tok);
    nib_model_close(&o->model);
    nib_source_close(o->src);
    *o = (nib_opened){0};
}
