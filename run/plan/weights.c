/* SPDX-License-Identifier: MIT */
/* run/plan/weights.c - see weights.h. Tests: tests/run/test_write_gguf.c. */
#include "run/plan/weights.h"

#include <math.h>

/* n weights from number `first` of the tensor on. */
static nib_code check(const nib_plan_tensor *t, const float *w, uint64_t first, size_t n,
                      unsigned cpu, nib_err *err)
{
    const size_t at = nib_find_nonfinite(w, n, cpu);
    if (at == n) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "tensor '%s': row %llu, column %llu is %s", t->src->name,
                    (unsigned long long)((first + at) / t->cols),
                    (unsigned long long)((first + at) % t->cols),
                    isnan(w[at]) ? "NaN" : "infinite");
}

nib_code nib_weights_check_stored(const nib_plan_tensor *t, const void *data, uint64_t first,
                                  size_t n, nib_buf *w, unsigned cpu, nib_err *err)
{
    const nib_codec *c = t->codec;
    const uint64_t weight = first * c->block;
    if (!c->valid || c->valid(data, n)) return NIB_OK;
    float *x = nib_buf_reserve(w, n, c->block * sizeof *x);
    if (!x) return nib_fail_nomem(err, "weights");
    c->decode(x, data, n, cpu);
    nib_code rc = check(t, x, weight, n * c->block, cpu, err);
    if (rc) return rc;
    return nib_fail(err, NIB_ENUMERIC, "tensor '%s': a block in rows %llu to %llu is damaged",
                    t->src->name, (unsigned long long)(weight / t->cols),
                    (unsigned long long)((weight + n * c->block - 1) / t->cols));
}

nib_code nib_weights_read(const nib_plan *p, const nib_plan_tensor *t, uint64_t row, uint64_t n,
                          float *w, nib_buf *raw, unsigned cpu, nib_err *err)
{
    nib_code rc = nib_source_read_rows(p->model->src, t->src, row, n, w, raw, cpu, err);
    return rc ? rc : check(t, w, row * t->cols, (size_t)(n * t->cols), cpu, err);
}
