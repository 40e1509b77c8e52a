/* SPDX-License-Identifier: MIT */
/* infer/chat.h - conversations as the text that a model was trained on, by its own chat template:
 * chat_template.jinja or what tokenizer_config.json or GGUF metadata have in its place
 * (infer/tokenizer_hf.c, infer/jinja.h). */
#ifndef NIB_INFER_CHAT_H
#define NIB_INFER_CHAT_H

#include "infer/jinja.h"
#include "infer/tokenizer.h"

typedef struct nib_chat nib_chat;

/* The model's templates, parsed. NIB_EFORMAT: it has none, or one that is not understood. Does not
 * change afterwards; keeps nothing of `tok`. */
NIB_MUST_USE nib_code nib_chat_open(nib_chat **out, const nib_tokenizer *tok, nib_err *err);
void nib_chat_close(nib_chat *c); /* accepts NULL */

/* What there is to say, borrowed. */
typedef struct {
    const nib_json *messages;   /* [{"role": ..., "content": ...}, ...]              */
    const nib_json *tools;      /* schemas of functions; NULL: none                  */
    const nib_json *documents;  /* to answer from; NULL: none                        */
    const nib_json *more;       /* an object: further variables; NULL: none          */
    bool add_generation_prompt; /* end with the beginning of the assistant's message */
} nib_chat_input;

enum { NIB_CHAT_MORE_MAX = 16 };

/* Append the text. As in Transformers the template "tool_use", if there is one, serves when there
 * are tools. Variables: those above, and bos_token, eos_token and the like, where the model has
 * them. */
NIB_MUST_USE nib_code nib_chat_render(const nib_chat *c, const nib_chat_input *in, nib_text *out,
                                      nib_err *err);

/* Append the ids of such a text: special tokens are those that it spells, none is added. A BOS that
 * ids->id ends with and one that the text begins with are one. */
NIB_MUST_USE nib_code nib_chat_encode(const nib_tokenizer *tok, const char *text, size_t n,
                                      nib_ids *ids, nib_err *err);

#endif
