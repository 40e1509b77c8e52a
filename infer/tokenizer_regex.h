/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_regex.h - the regular expressions of tokenizers, run by PCRE2.
 *
 * They were written for other engines. What PCRE2 would read otherwise is translated: white space,
 * word characters and word boundaries are Unicode's; classes may be intersected (&&) and hold
 * classes; ^ and $ are ends of lines; scripts and the long names of categories. An expression may
 * come from a file: the steps that one search may take are bounded by the length of the text. */
#ifndef NIB_INFER_TOKENIZER_REGEX_H
#define NIB_INFER_TOKENIZER_REGEX_H

#include "base/err.h"

#include <stddef.h>

typedef enum {
    NIB_DIALECT_ONIGURUMA, /* tokenizer.json: a + behind {n,m} repeats, elsewhere it is possessive
                            */
    NIB_DIALECT_TIKTOKEN, /* tiktoken, tekken.json: possessive there too                          */
    NIB_DIALECT_LITERAL,  /* no expression: the text itself                                       */
} nib_dialect;

/* Compiled; does not change, threads may share it. */
typedef struct nib_splitter_regex nib_splitter_regex;

/* From pattern[n], UTF-8. NIB_EFORMAT says what is wrong with it, and prints it. */
NIB_MUST_USE nib_code nib_splitter_regex_new(nib_splitter_regex **out, nib_dialect dialect,
                                             const char *pattern, size_t n, nib_err *err);
void nib_splitter_regex_free(nib_splitter_regex *r); /* accepts NULL */

/* What one caller needs while searching, reused from search to search. */
typedef struct nib_regex_run nib_regex_run;
NIB_MUST_USE nib_code nib_regex_run_new(nib_regex_run **out, nib_err *err);
void nib_regex_run_free(nib_regex_run *r); /* accepts NULL */

/* All matches in text[n], valid UTF-8, one after the other, without empty ones directly behind
 * another. Start with {.r = regex, .run = run, .text = text, .n = n, .last = SIZE_MAX}. */
typedef struct {
    const nib_splitter_regex *r;
    nib_regex_run *run;
    const char *text;
    size_t n, at;
    size_t last; /* end of the match before */
    /* Of groups of digits: a run of them from digits_at on, how many, and where it ends. */
    size_t digits_at, digits, digits_end;
} nib_matches;
/* The next one; *begin = *end = n + 1 when there is none. NIB_EINVAL: it takes too many steps. */
NIB_MUST_USE nib_code nib_matches_next(nib_matches *m, size_t *begin, size_t *end, nib_err *err);

#endif
