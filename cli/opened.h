/* SPDX-License-Identifier: MIT */
/* cli/opened.h - a model and its tokenizer, as commands that run models need them. */
#ifndef NIB_CLI_OPENED_H
#define NIB_CLI_OPENED_H

#include "infer/model.h"
#include "infer/tokenizer.h"

typedef struct {
    nib_source *src;
    nib_model model;
    nib_tokenizer *tok;
} nib_opened;

/* On failure *o holds what was opened until then; close it in either case. */
NIB_MUST_USE nib_code nib_opened_open(nib_opened *o, const char *path, nib_err *err);
void nib_opened_close(nib_opened *o); /* accepts {0} */

#endif
