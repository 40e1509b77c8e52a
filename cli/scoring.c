/* SPDX-License-Identifier: MIT */
/* cli/scoring.c - see scoring.h. Tests: tests/cases/commands. */
#include "cli/scoring.h"

#include "calib/text.h"

#include <string.h>

const char *const nib_scoring_protocols[] = {"llama.cpp", "window", NULL};

nib_code nib_scoring_read(char **text, size_t *n, const nib_scoring *o, const nib_tokenizer *tok,
                          nib_err *err)
{
    return nib_text_read(text, n, o->text, o->chat ? tok : NULL, err);
}

nib_ppl_opts nib_scoring_how(const nib_scoring *o)
{
    nib_ppl_opts how = {.n_ctx = o->ctx, .max_chunks = o->chunks, .chat = o->chat, .kv = nib_kv_how(&o->kv)};
    while (strcmp(nib_ppl_protocol_name(how.protocol), o->protocol) != 0) how.protocol++;
    return how;
}
