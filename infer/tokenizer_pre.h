/* SPDX-License-Identifier: MIT */
/* infer/tokenizer_pre.h - GGUF's names of splitters (tokenizer.ggml.pre).
 *
 * GGUF knows splitters of byte-level tokenizers by name alone. What each name stands for is a
 * table; what a tokenizer.json describes is looked up in it in a canonical spelling, since files
 * write one expression in many ways. */
#ifndef NIB_INFER_TOKENIZER_PRE_H
#define NIB_INFER_TOKENIZER_PRE_H

#include "infer/tokenizer_split.h"

enum { NIB_PRE_STEPS_MAX = 8 };

typedef struct {
    const char *names; /* GGUF's names, separated by spaces, the usual one first */
    const char *step[NIB_PRE_STEPS_MAX]; /* expressions in Hugging Face's notation; NULL ends */
    const char *file[NIB_PRE_STEPS_MAX]; /* another list that files of this name have */
    /* What else the name stands for in a GGUF file: */
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    bool add_bos;       /* when no key says it */
    bool nfc;           /* the models of this name normalize their text */
    bool covers;        /* a single step that leaves no gaps: keeping matches = keeping all */
} nib_pre_rule;

extern const nib_pre_rule nib_pre_rules[]; /* ends with a row of NULL names */

/* By one of its names; NIB_EFORMAT lists those that are known. */
NIB_MUST_USE nib_code nib_pre_by_name(const nib_pre_rule **out, const char *name, size_t n,
                                      nib_err *err);
/* The splitter that a rule means. */
NIB_MUST_USE nib_code nib_pre_splitter(nib_splitter *s, const nib_pre_rule *rule, bool prefix_space,
                                       nib_err *err);
/* What a splitter is called; ignore_merges chooses between rules that differ in it alone. *out
 * NULL: it has no name. */
NIB_MUST_USE nib_code nib_pre_of_splitter(const nib_pre_rule **out, const nib_splitter *s,
                                          bool ignore_merges, nib_err *err);
/* Does the rule split in just this way? */
NIB_MUST_USE nib_code nib_pre_is(bool *same, const nib_pre_rule *rule, const nib_splitter *s,
                                 nib_err *err);
/* Its expressions for a message, quoted, into buf[size]. */
void nib_pre_describe(char *buf, size_t size, const nib_splitter *s);

#endif
