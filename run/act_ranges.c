/* SPDX-License-Identifier: MIT */
/* run/act_ranges.c - see act_ranges.h. */
#include "run/act_ranges.h"

#include "run/moments.h"

#include <assert.h>
#include <string.h>

void nib_act_ranges_free(nib_act_ranges *a)
{
    for (size_t i = 0; a->input && i < NIB_INPUTS_MAX; i++) nib_hist_free(&a->input[i].hist);
    nib_free(a->input);
    nib_buf_free(&a->work);
    a->input = NULL;
    a->n = 0;
}

static nib_act_input *find(const nib_act_ranges *a, nib_role role)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->input[i].n_roles; k++)
            if (a->input[i].role[k] == role) return &a->input[i];
    return NULL;
}

static nib_code new_input(nib_act_ranges *a, const nib_role *roles, size_t n_roles,
                          nib_act_input **out, nib_err *err)
{
    if (!a->input) a->input = nib_calloc(NIB_INPUTS_MAX, sizeof *a->input);
    if (!a->input) return nib_fail_nomem(err, "ranges of activations");
    assert(a->n < NIB_INPUTS_MAX);
    nib_act_input *in = *out = &a->input[a->n++];
    memcpy(in->role, roles, n_roles * sizeof *roles);
    in->n_roles = n_roles;
    return NIB_OK;
}

static nib_code on_input(void *arg, uint32_t layer, const nib_role *roles, size_t n_roles,
                         const float *x, size_t rows, size_t cols, nib_err *err)
{
    nib_act_ranges *a = arg;
    (void)layer;
    nib_act_input *in = find(a, roles[0]);
    nib_code rc = in ? NIB_OK : new_input(a, roles, n_roles, &in, err);
    for (size_t row = 0; row < rows && !rc; row += a->n_ctx)
        rc = nib_hist_add(&in->hist, x + row * cols, a->n_ctx, cols, &a->work, a->ctx, err);
    return rc;
}

nib_observer nib_act_ranges_observer(nib_act_ranges *a)
{
    return (nib_observer){on_input, a};
}

nib_code nib_act_ranges_find(nib_act_range *out, const nib_act_ranges *a, nib_role role,
                             nib_range_method method, double percentile, bool sym, nib_err *err)
{
    const nib_act_input *in = find(a, role);
    nib_range range;
    assert(in);
    nib_code rc = nib_range_find(&range, &in->hist, method, percentile, err);
    if (rc) return nib_wrap(err, "the range of its input");
    *out = sym ? (nib_act_range){range.scale, 0} : (nib_act_range){range.asym_scale, range.zero};
    return NIB_OK;
}
