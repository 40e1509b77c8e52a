/* SPDX-License-Identifier: MIT */
/* run/plan/weights.c - see weights.h. */
#include "run/plan/weights.h"

#include <math.h>

nib_code nib_weights_check(const nib_plan_tensor *t, const float *w, uint64_t row, uint64_t n,
                           unsigned cpu, nib_err *err)
{
    const size_t all = (size_t)(n * t->cols), at = nib_find_nonfinite(w, all, cpu);
    if (at == all) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "tensor '%s': row %llu, column %llu is %s", t->src->name,
                    (unsigned long long)(row + at / t->cols), (unsigned long long)(at % t->cols),
                    isnan(w[at]) ? "NaN" : "infinite");
}

nib_code nib_weights_read(const nib_plan *p, const nib_plan_tensor *t, uint64_t row, uint64_t n,
                          float *w, nib_buf *raw, unsigned cpu, nib_err *err)
{
    nib_code rc = nib_source_read_rows(p->model->src, t->src, row, n, w, raw, cpu, err);
    return rc ? rc : nib_weights_check(t, w, row, n, cpu, err);
}
