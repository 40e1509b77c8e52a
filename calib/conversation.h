/* SPDX-License-Identifier: MIT */
/* calib/conversation.h - conversations as data sets have them, for a chat template.
 *
 * A document is a JSON object with "messages", or "conversations", in OpenAI's form ("role" and
 * "content", and whatever else the template may look at) or ShareGPT's ("from" and "value", and for
 * the whole "system"): human, gpt and the like become user and assistant. "tools" (a list, or that
 * as JSON in a string), "documents" and "chat_template_kwargs" (an object of further variables) are
 * the template's too; other members are none of its business. */
#ifndef NIB_CALIB_CONVERSATION_H
#define NIB_CALIB_CONVERSATION_H

#include "infer/chat.h"

typedef struct {
    nib_chat_input input;       /* borrowed from the document, or from what follows */
    nib_json *messages, *tools; /* made of it; NULL: not needed                     */
} nib_conversation;

/* NIB_EFORMAT says which message or member is not as above. Free it in either case. */
NIB_MUST_USE nib_code nib_conversation_read(nib_conversation *c, const nib_json *doc, nib_err *err);
void nib_conversation_free(nib_conversation *c);

#endif
