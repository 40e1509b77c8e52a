/* SPDX-License-Identifier: MIT */
/* report/comparison.c - see comparison.h. Tests: tests/cases/commands. */
#include "report/comparison.h"

#include <math.h>

double nib_report_speed(const nib_report_text *t, size_t model)
{
    const double seconds = t->line[model].seconds;
    return seconds > 0 ? (double)(t->r.n_chunks * t->r.n_ctx) / seconds : 0;
}

double nib_report_increase(const nib_compare_line *l)
{
    return 100 * expm1(l->change);
}
