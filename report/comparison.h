/* SPDX-License-Identifier: MIT */
/* report/comparison.h - a comparison of models as reports have it: plain data, borrowed. */
#ifndef NIB_REPORT_COMPARISON_H
#define NIB_REPORT_COMPARISON_H

#include "infer/compare.h"

typedef struct {
    const char *name;        /* as the user gave it                                         */
    const char *quoted;      /* the same, quoted for a shell                                */
    char *made;              /* nib_made_by(), or NULL                                      */
    const char *activations; /* nib_model_activations(); "f32" of a base file               */
    const nib_model *model;  /* NULL: a base file, and so the next                          */
    const nib_tokenizer *tok;
    uint64_t bytes; /* of all tensors; 0 of a base file      */
    double bits;    /* per weight                            */
} nib_report_model;

typedef struct {
    const char *name, *path; /* path NULL: the tokens of a base file      */
    nib_compare_result r;
    nib_compare_line *line; /* [n_models], then the noise floor, if asked for */
    char **beyond; /* [n_models] the limits that are not kept, "" none; NULL: there are no limits */
} nib_report_text;

typedef struct {
    const nib_report_model *model; /* [n_models] the first is the base   */
    size_t n_models;
    const nib_report_text *text; /* [n_texts] */
    size_t n_texts;
    bool floor; /* each text has the base beside itself, rounded to BF16 */
} nib_comparison;

/* Tokens per second of a model's forward passes over a text; 0 of a base file. */
double nib_report_speed(const nib_report_text *t, size_t model);
/* How many percent the perplexity of a line is above the base's. */
double nib_report_increase(const nib_compare_line *l);

#endif
