/* SPDX-License-Identifier: MIT */
/* cli/compare_print.h - what compare says: tables for people, JSON for programs. */
#ifndef NIB_CLI_COMPARE_PRINT_H
#define NIB_CLI_COMPARE_PRINT_H

#include "report/comparison.h"

void nib_print_comparison(const nib_comparison *c);
/* As members of an object; false: no memory. */
bool nib_comparison_to_json(nib_json *to, const nib_comparison *c);

#endif
