/* SPDX-License-Identifier: MIT */
/* cli/compare_print.h - what compare says: tables for people, JSON for programs. */
#ifndef NIB_CLI_COMPARE_PRINT_H
#define NIB_CLI_COMPARE_PRINT_H

#include "cli/kv_opts.h"
#include "report/comparison.h"

/* kv: how all but the base keep keys and values. */
void nib_print_comparison(const nib_comparison *c, const nib_kv_opts *kv);
/* As members of an object; false: no memory. */
bool nib_comparison_to_json(nib_json *to, const nib_comparison *c, const nib_kv_opts *kv);

#endif
