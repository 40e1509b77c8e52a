/* SPDX-License-Identifier: MIT */
/* cli/quantize_print.h - what quantize says: the plan, and what became of it. */
#ifndef NIB_CLI_QUANTIZE_PRINT_H
#define NIB_CLI_QUANTIZE_PRINT_H

#include "run/write/write_gguf.h"
#include "run/solve/solve.h"

/* Every tensor, sums, and what will be taken of memory and disk. */
void nib_print_plan(const nib_plan *p);
/* Number of tensors by format, bits per weight, files. */
void nib_print_totals(const nib_plan *p);
/* What solving gained. ranges: name of the method that found those of activations, or NULL. */
void nib_print_solved(const nib_solve_report *r, const char *ranges);
/* All of it as JSON; r: NULL where nothing was written; solved: NULL where nothing was solved. */
NIB_MUST_USE nib_code nib_print_result(const nib_plan *p, const nib_quantize_result *r,
                                       const nib_solve_report *solved, nib_err *err);

#endif
