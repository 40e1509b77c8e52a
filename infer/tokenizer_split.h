/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_split.h - cutting text into words: a list of steps, as tokenizer.json's
 * "pre_tokenizer" has them. Each step works on the pieces that the ones before it left.
 *
 * Its components come down to four kinds of step: ByteLevel is a space in front, a Split by GPT-2's
 * expression and bytes; Digits, Punctuation and the white space ones are Splits. */
#ifndef NIB_INFER_TOKENIZER_SPLIT_H
#define NIB_INFER_TOKENIZER_SPLIT_H

#include "base/json.h"
#include "infer/tokenizer_regex.h"
#include "infer/tokenizer_text.h"

enum { NIB_SPLIT_STEPS_MAX = 24 };

typedef enum {
    NIB_SPLIT_AT,       /* at the matches of an expression                                      */
    NIB_SPLIT_SPACE,    /* a space in front of what has none                                    */
    NIB_SPLIT_BYTES,    /* from here on bytes are the characters (tokenizer_alphabet.h)         */
    NIB_SPLIT_METASPACE /* spaces become `content`, one more of it in front                     */
} nib_split_kind;

/* What becomes of matches and of the gaps between them. */
typedef enum {
    NIB_BEHAVIOR_ISOLATED, /* all are pieces                                                    */
    NIB_BEHAVIOR_REMOVED,  /* matches go                                                        */
    NIB_BEHAVIOR_CONTIGUOUS,
    NIB_BEHAVIOR_WITH_PREVIOUS,
    NIB_BEHAVIOR_WITH_NEXT,
} nib_behavior;

typedef enum { NIB_PREPEND_ALWAYS, NIB_PREPEND_FIRST, NIB_PREPEND_NEVER } nib_prepend;

typedef struct {
    nib_split_kind kind;
    char *pattern; /* AT; owned */
    nib_dialect dialect;
    nib_behavior behavior;
    bool invert;   /* matches and gaps change places */
    char *content; /* METASPACE; owned */
    nib_prepend prepend;
    bool split;             /* METASPACE: and cut before each `content` */
    nib_splitter_regex *at; /* compiled; NULL: no cutting */
} nib_split_step;

typedef struct {
    nib_split_step *step;
    size_t n;
} nib_splitter;

/* Append the steps of tokenizer.json's "pre_tokenizer" (NULL, null: none). NIB_EFORMAT names what
 * is not known. */
NIB_MUST_USE nib_code nib_splitter_read(nib_splitter *s, const nib_json *j, nib_err *err);
/* Category P and the rest of ASCII's punctuation, as an expression. */
extern const char NIB_SPLIT_PUNCTUATION[];
/* One Split that isolates its matches; a space in front; bytes from here on. */
NIB_MUST_USE nib_code nib_splitter_add_regex(nib_splitter *s, nib_dialect dialect,
                                             const char *pattern, nib_err *err);
NIB_MUST_USE nib_code nib_splitter_add_space(nib_splitter *s, nib_err *err);
NIB_MUST_USE nib_code nib_splitter_add_bytes(nib_splitter *s, nib_err *err);
/* What in it only nibble can say; NULL: nothing. */
const char *nib_splitter_own(const nib_splitter *s);
/* As the member "pre_tokenizer" of an object; false: no memory. */
NIB_MUST_USE bool nib_splitter_write(nib_json *parent, const nib_splitter *s);
void nib_splitter_fini(nib_splitter *s);

bool nib_splitter_has(const nib_splitter *s, nib_split_kind kind);

/* What one caller needs while splitting, reused from text to text. */
typedef struct {
    nib_regex_run *regex;
    nib_text text[NIB_SPLIT_STEPS_MAX + 1]; /* what steps rewrite */
} nib_split_run;
NIB_MUST_USE nib_code nib_split_run_init(nib_split_run *r, nib_err *err);
void nib_split_run_fini(nib_split_run *r);

typedef nib_code nib_piece_fn(void *arg, const char *piece, size_t n, nib_err *err);

/* Call fn for each piece of text[n], valid UTF-8, in order. first: it begins where the whole input
 * does; begins: where a stretch between added tokens does. */
NIB_MUST_USE nib_code nib_split(const nib_splitter *s, nib_split_run *r, bool first, bool begins,
                                const char *text, size_t n, nib_piece_fn *fn, void *arg,
                                nib_err *err);

#endif
