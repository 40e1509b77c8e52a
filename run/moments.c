/* SPDX-License-Identifier: MIT */
/* run/moments.c - see moments.h. */
#include "run/moments.h"

#include "calib/observe.h"

#include <string.h>

static nib_code new_input(nib_moments *m, const nib_role *roles, size_t n_roles, size_t cols,
                          nib_err *err)
{
    if (m->n == NIB_INPUTS_MAX)
        return nib_fail(err, NIB_EINVAL, "more than %d inputs of linear layers in a block",
                        NIB_INPUTS_MAX);
    nib_moments_input *in = &m->input[m->n];
    float *h = nib_buf_reserve(&in->h, cols, cols * sizeof *h);
    if (!h) return nib_fail_nomem(err, "second moments");
    memset(h, 0, cols * cols * sizeof *h);
    memcpy(in->role, roles, n_roles * sizeof *roles);
    in->n_roles = n_roles;
    in->cols = cols;
    m->n++;
    return NIB_OK;
}

static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    nib_moments *m = arg;
    (void)layer;
    size_t i = 0;
    while (i < m->n && m->input[i].role[0] != roles[0]) i++;
    nib_code rc = i == m->n ? new_input(m, roles, n_roles, cols, err) : NIB_OK;
    if (rc || (m->only >= 0 && (size_t)m->only != i)) return rc;
    return nib_observe_moments(m->input[i].h.p, x, rows, cols, m->ctx, err);
}

void nib_moments_start(nib_moments *m, int only)
{
    if (only <= 0) m->n = 0;
    m->only = only;
}

nib_observer nib_moments_observer(nib_moments *m)
{
    return (nib_observer){on_input, m};
}

void nib_moments_free(nib_moments *m)
{
    for (size_t i = 0; i < NIB_INPUTS_MAX; i++) nib_buf_free(&m->input[i].h);
}
