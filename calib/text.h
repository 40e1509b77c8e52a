/* SPDX-License-Identifier: MIT */
/* calib/text.h - sample text: files in, windows of tokens out. The one reader of texts that all
 * commands have.
 *
 * A file whose name ends in .jsonl or .json, before a .gz if any, holds JSON documents: one object
 * a line (empty lines are skipped), or one array of objects. An object's document is its "text", or
 * its "messages" or "conversations", rendered plainly, a line "role: content" for each, or its
 * "content", or its "prompt" with the "completion" behind it: the first that is there, in this
 * order. Documents are joined by an empty line. Any other file is plain text, taken as it is. Each
 * may be gzip-compressed, which is found from the contents, and be a pipe as well as a file. A text
 * must hold no NUL byte and at most NIB_TEXT_MAX_BYTES.
 *
 * With a chat template every file is JSON whatever its name, and each document a conversation
 * (calib/conversation.h) that is rendered by the template. Nothing stands between them, since each
 * begins and ends as the template has it; infer/chat.h turns them into tokens. */
#ifndef NIB_CALIB_TEXT_H
#define NIB_CALIB_TEXT_H

#include "infer/chat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NIB_TEXT_MAX_BYTES ((size_t)1 << 30) /* of one file, decompressed */

#define NIB_TEXT_STDIN "-" /* the path that is standard input */

/* The file's text; *text is the caller's (nib_free) and NUL-terminated. chat: the tokenizer whose
 * chat template renders it; NULL: documents are taken plainly. Errors name the file, and the line
 * or document for JSON; what is no text (a model, another compression, UTF-16) is refused by name.
 */
NIB_MUST_USE nib_code nib_text_read(char **text, size_t *n, const char *path,
                                    const nib_tokenizer *chat, nib_err *err);
/* The file's bytes, unpacked and no more. */
NIB_MUST_USE nib_code nib_text_bytes(char **text, size_t *n, const char *path, nib_err *err);

typedef struct {
    const char *path;
    double weight; /* share of the windows, relative to the other texts'; 0 = by length, then all
                      texts' weights must be 0 */
} nib_text_spec;

/* Windows of n_ctx tokens each, ready for the model. */
typedef struct {
    int32_t *id; /* [n][n_ctx], owned */
    size_t n, n_ctx;
    size_t n_available; /* windows that the texts hold in all */
    size_t n_tokens;    /* tokens that the texts hold in all  */
    uint8_t
        *sha256; /* [n_texts][NIB_SHA256_BYTES] of each text, unpacked, as it is tokenized; owned */
    size_t n_texts;
} nib_windows;

/* Cut each text's tokens (chat: by the model's chat template), without the line breaks at its end,
 * into windows (as perplexity does: BOS before the text and in the first place of every window if
 * the model adds one; what remains at the end is dropped) and choose `most` of them, fewer where
 * the texts are short (w->n says): from each text its share, at random by `seed`, in the order of
 * the text. Proportions hold: where one text has too few windows for its weight, all give less. A
 * text shorter than one window is an error, and one without text. */
NIB_MUST_USE nib_code nib_windows_pick(nib_windows *w, const nib_text_spec *texts, size_t n_texts,
                                       const nib_tokenizer *tok, bool chat, size_t n_ctx,
                                       size_t most, uint64_t seed, nib_err *err);
void nib_windows_free(nib_windows *w);

#endif
