/* SPDX-License-Identifier: MIT */
/* report/sections.h - the parts of the page (report.h), each from plain data into a stream. */
#ifndef NIB_REPORT_SECTIONS_H
#define NIB_REPORT_SECTIONS_H

#include "report/comparison.h"
#include "report/input_picture.h"
#include "report/layer_errors.h"

#include <stdio.h>

/* A model's letter and name, as every section shows it. */
void nib_report_name(FILE *f, const nib_comparison *c, size_t model);

/* Verdicts, and a table of all figures for each text. */
void nib_report_summary(FILE *f, const nib_comparison *c);
/* Divergence against size, with the Pareto front. */
void nib_report_front(FILE *f, const nib_comparison *c);
/* Divergence over tokens: histograms, and by how sure the base is. */
void nib_report_spread(FILE *f, const nib_comparison *c);
/* The tokens with the largest divergence, in their context. */
NIB_MUST_USE nib_code nib_report_tokens(FILE *f, const nib_comparison *c, nib_err *err);
/* Errors of weights by block and role; e[n_models], empty (no roles) where there are none, why[m]
 * says then why; in[n_models], what the base reads at the worst one's place. */
void nib_report_layers(FILE *f, const nib_comparison *c, const nib_layer_errors *e,
                       const nib_input_picture *in, const char *const *why);
/* Versions and commands. */
void nib_report_made(FILE *f, const nib_comparison *c, const char *options);

#endif
