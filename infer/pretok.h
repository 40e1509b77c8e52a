/* SPDX-License-Identifier: MIT */
/* infer/pretok.h - cutting text into words before byte-pair merging.
 *
 * A splitter is a list of regular expressions. Each one cuts every piece made so far into its
 * matches and the gaps between them; all of them stay pieces. The splitters that models use are a
 * table (pretok_rules.c). A tokenizer.json is matched with it by what its pre-tokenizer says, a
 * GGUF file by the name it gives. */
#ifndef NIB_INFER_PRETOK_H
#define NIB_INFER_PRETOK_H

#include "base/err.h"
#include "base/json.h"

enum { NIB_PRETOK_STEPS_MAX = 8 };

typedef struct {
    const char *names; /* GGUF's names, separated by spaces, the usual one first */
    const char *step[NIB_PRETOK_STEPS_MAX]; /* expressions in Hugging Face's notation; NULL ends */
    /* What else the name stands for in a GGUF file: */
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    bool add_bos;       /* when no key says it */
    bool nfc;           /* the models of this name normalize their text */
    bool covers;        /* a single step that leaves no gaps: keeping matches = keeping all */
} nib_pretok_rule;

extern const nib_pretok_rule nib_pretok_rules[]; /* ends with a row of NULL names */

/* A compiled splitter; does not change, threads may share it. */
typedef struct nib_pretok nib_pretok;

/* From tokenizer.json's "pre_tokenizer" (NULL: there is none). ignore_merges chooses between rules
 * that differ in it alone. NIB_EFORMAT prints a splitter that is not in the table. */
NIB_MUST_USE nib_code nib_pretok_from_json(nib_pretok **out, const nib_json *pre,
                                           bool ignore_merges, nib_err *err);
/* From the n bytes of a GGUF name. */
NIB_MUST_USE nib_code nib_pretok_from_name(nib_pretok **out, const char *name, size_t n,
                                           nib_err *err);
/* As the member "pre_tokenizer" of an object. NIB_EFORMAT: a space in front, which tokenizer.json
 * has for GPT-2's splitter alone. */
NIB_MUST_USE nib_code nib_pretok_to_json(nib_json *parent, const nib_pretok *p, bool prefix_space,
                                         nib_err *err);
void nib_pretok_free(nib_pretok *p); /* accepts NULL */

const nib_pretok_rule *nib_pretok_rule_of(const nib_pretok *p);
/* The name given, or the first of the rule's. */
const char *nib_pretok_name(const nib_pretok *p);
/* Text that does not begin with a space gets one in front. */
bool nib_pretok_prefix_space(const nib_pretok *p);

/* What one caller needs while splitting, reused from text to text. */
typedef struct nib_pretok_run nib_pretok_run;
NIB_MUST_USE nib_code nib_pretok_run_new(nib_pretok_run **out, nib_err *err);
void nib_pretok_run_free(nib_pretok_run *r); /* accepts NULL */

typedef nib_code nib_piece_fn(void *arg, const char *piece, size_t n, nib_err *err);

/* Call fn for each piece of text[n], in order. The text must be valid UTF-8. */
NIB_MUST_USE nib_code nib_pretok_split(const nib_pretok *p, nib_pretok_run *r, const char *text,
                                       size_t n, nib_piece_fn *fn, void *arg, nib_err *err);

#endif
