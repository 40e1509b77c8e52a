/* SPDX-License-Identifier: MIT */
/* cli/compare.h - the command 'compare', for another that ends with it. */
#ifndef NIB_CLI_COMPARE_H
#define NIB_CLI_COMPARE_H

#include "base/json.h"
#include "cli/opts.h"

/* Run it on these models, with the options that its rows have set; returns the exit status. into:
 * what --json prints becomes members of this object and nothing is printed; NULL: it is printed. */
int nib_compare_models(const nib_opt_list *models, nib_json *into, const nib_ctx *ctx);

#endif
