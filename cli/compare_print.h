/* SPDX-License-Identifier: MIT */
/* cli/compare_print.h - what compare says: tables for people, JSON for programs. */
#ifndef NIB_CLI_COMPARE_PRINT_H
#define NIB_CLI_COMPARE_PRINT_H

#include "report/comparison.h"

void nib_print_comparison(const nib_comparison *c);
NIB_MUST_USE nib_code nib_print_comparison_json(const nib_comparison *c, nib_err *err);

#endif
