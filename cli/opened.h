/* SPDX-License-Identifier: MIT */
/* cli/opened.h - a model and its tokenizer, as commands that run models need them. */
#ifndef NIB_CLI_OPENED_H
#define NIB_CLI_OPENED_H

#include "base/log.h"
#include "infer/model.h"
#include "infer/tokenizer.h"

typedef struct {
    nib_source *src;
    nib_model model;
    nib_tokenizer *tok;
} nib_opened;

/* Says what is odd about the model, as below. On failure *o holds what was opened until then; close
 * it in either case. */
NIB_MUST_USE nib_code nib_opened_open(nib_opened *o, const char *path, nib_log *log, nib_err *err);
/* Say what the model's files contradict each other in, and how they are read; and which keys are
 * not known. */
void nib_warn_odd_model(const nib_model *m, nib_log *log);
void nib_opened_close(nib_opened *o); /* accepts {0} */

#endif
