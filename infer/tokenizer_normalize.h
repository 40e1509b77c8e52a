/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_normalize.h - what is done to text before it is split: a list of steps, each one
 * a component of tokenizer.json's "normalizer". */
#ifndef NIB_INFER_TOKENIZER_NORMALIZE_H
#define NIB_INFER_TOKENIZER_NORMALIZE_H

#include "base/json.h"
#include "infer/tokenizer_charsmap.h"
#include "infer/tokenizer_regex.h"

typedef enum {
    NIB_NORM_FORM,          /* one of the Unicode forms                                          */
    NIB_NORM_PREPEND,       /* `content` in front                                                */
    NIB_NORM_REPLACE,       /* every match of `pattern` by `content`                             */
    NIB_NORM_STRIP,         /* white space off the left, the right                               */
    NIB_NORM_STRIP_ACCENTS, /* marks away                                                        */
    NIB_NORM_LOWERCASE,
    NIB_NORM_NMT,     /* control characters away, other white space becomes a space              */
    NIB_NORM_BERT,    /* BERT's cleaning                                                         */
    NIB_NORM_CHARSMAP /* SentencePiece's table                                                   */
} nib_norm_kind;

typedef struct {
    nib_norm_kind kind;
    nib_normal_form form;
    char *content;            /* owned                                */
    char *pattern;            /* owned                                */
    bool literal;             /* the pattern is no expression         */
    nib_splitter_regex *find; /* the same, compiled                   */
    bool left, right;
    bool clean, chinese, accents, lower; /* of NIB_NORM_BERT */
    bool by_grapheme;                    /* of NIB_NORM_CHARSMAP, see there */
    nib_charsmap map;
} nib_norm_step;

typedef struct {
    nib_norm_step *step;
    size_t n, cap;
} nib_normalizer;

/* Append the steps of tokenizer.json's "normalizer" (NULL, null: none). A charsmap that is not in
 * the description is taken from `map` (n bytes, NULL: none). NIB_EFORMAT names a kind that is not
 * known. */
NIB_MUST_USE nib_code nib_normalizer_read(nib_normalizer *z, const nib_json *j, const void *map,
                                          size_t n, nib_err *err);
/* The same from text[n], JSON. */
NIB_MUST_USE nib_code nib_normalizer_parse(nib_normalizer *z, const char *text, size_t n_text,
                                           const void *map, size_t n, nib_err *err);
/* As the member "normalizer" of an object. foreign: as others read it, with the table of a
 * charsmap; else without, and with what only nibble says of it. False: no memory. */
NIB_MUST_USE bool nib_normalizer_write(nib_json *parent, const nib_normalizer *z, bool foreign);
void nib_normalizer_fini(nib_normalizer *z);

/* Is it nothing but this one form? */
bool nib_normalizer_is_form(const nib_normalizer *z, nib_normal_form form);

/* text[n], valid UTF-8, normalized into *to, whose contents are replaced; `other` is work memory.
 * begins: the text is the beginning of a stretch, where something may be put in front. */
NIB_MUST_USE nib_code nib_normalize(const nib_normalizer *z, nib_regex_run *run, bool begins,
                                    const char *text, size_t n, nib_text *to, nib_text *other,
                                    nib_err *err);

#endif
