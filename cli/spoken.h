/* SPDX-License-Identifier: MIT */
/* cli/spoken.h - what a model says, on standard output while it says it. */
#ifndef NIB_CLI_SPOKEN_H
#define NIB_CLI_SPOKEN_H

#include "infer/tokenizer.h"
#include "infer/tokenizer_text.h"

/* Start with the tokenizer and where to; `all` is nib_free'd at the end. */
typedef struct {
    const nib_tokenizer *tok;
    bool print;
    nib_text all; /* the text so far */
    size_t shown; /* bytes of it     */
} nib_spoken;

/* A nib_token_sink's function; arg is a nib_spoken. Control tokens have no text. A character is
 * printed when its last byte is there; a byte that belongs to none as U+FFFD; control characters,
 * which a terminal would obey, as spaces, but for tabs and ends of lines. */
nib_code nib_spoken_token(void *arg, int32_t id, nib_err *err);
/* Print what is left. */
void nib_spoken_end(nib_spoken *s);

#endif
