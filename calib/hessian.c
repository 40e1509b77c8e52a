/* SPDX-License-Identifier: MIT */
/* calib/hessian.c - see hessian.h. */
#include "calib/hessian.h"

#include "calib/accumulate.h"

#include <string.h>

static void zero(nib_hessian *in)
{
    const size_t cols = in->cols;
    memset(in->h.p, 0, cols * cols * sizeof(float));
    if (in->d.p) memset(in->d.p, 0, cols * cols * sizeof(float));
    memset(in->sum.p, 0, cols * sizeof(double));
    memset(in->most.p, 0, cols * sizeof(float));
    in->rows = 0;
}

nib_code nib_hessians_add(nib_hessians *m, const nib_role *roles, size_t n_roles, size_t cols,
                          nib_hessian **out, nib_err *err)
{
    if (m->n == NIB_INPUTS_MAX)
        return nib_fail(err, NIB_EINVAL, "more than %d inputs of linear layers in a block",
                        NIB_INPUTS_MAX);
    nib_hessian *in = &m->input[m->n];
    float *h = nib_buf_reserve(&in->h, cols, cols * sizeof *h);
    double *sum = nib_buf_reserve(&in->sum, cols, sizeof *sum);
    float *most = nib_buf_reserve(&in->most, cols, sizeof *most);
    float *scale = nib_buf_reserve(&in->scale, cols, sizeof *scale);
    if (!h || !sum || !most || !scale) return nib_fail_nomem(err, "second moments");
    if (m->drift && !nib_buf_reserve(&in->d, cols, cols * sizeof(float)))
        return nib_fail_nomem(err, "second moments");
    memcpy(in->role, roles, n_roles * sizeof *roles);
    in->n_roles = n_roles;
    in->cols = cols;
    for (size_t j = 0; j < cols; j++) scale[j] = 1;
    zero(in);
    m->n++;
    *out = in;
    return NIB_OK;
}

nib_code nib_hessians_copy(nib_hessians *to, const nib_hessians *from, nib_err *err)
{
    nib_code rc = NIB_OK;
    nib_hessians_start(to);
    for (size_t i = 0; i < from->n && !rc; i++) {
        const nib_hessian *x = &from->input[i];
        const size_t cols = x->cols;
        nib_hessian *in;
        if ((rc = nib_hessians_add(to, x->role, x->n_roles, cols, &in, err))) break;
        memcpy(in->h.p, x->h.p, cols * cols * sizeof(float));
        memcpy(in->sum.p, x->sum.p, cols * sizeof(double));
        memcpy(in->most.p, x->most.p, cols * sizeof(float));
        memcpy(in->scale.p, x->scale.p, cols * sizeof(float));
        in->rows = x->rows;
    }
    return rc;
}

/* The input with these roles, a new one if it is met for the first time. */
static nib_code meet(nib_hessians *m, const nib_role *roles, size_t n_roles, size_t cols,
                     nib_hessian **out, nib_err *err)
{
    *out = nib_hessians_find(m, roles[0]);
    return *out ? NIB_OK : nib_hessians_add(m, roles, n_roles, cols, out, err);
}

/* Those of an input's readers that are solved with its moments: no routers, no gates of shared
 * experts; experts have moments of their own. */
static size_t solved_roles(nib_role out[NIB_READERS_MAX], const nib_linear_input *seen)
{
    size_t n = 0;
    for (size_t i = 0; i < seen->n_roles; i++)
        if (nib_role_is_linear(seen->role[i]) && !nib_role_is_expert(seen->role[i]))
            out[n++] = seen->role[i];
    return n;
}

static nib_code on_original(void *arg, const nib_linear_input *seen, nib_err *err)
{
    nib_hessian *in;
    const nib_hessians *m = arg;
    const float *x = seen->x;
    const size_t rows = seen->rows, cols = seen->cols;
    nib_role role[NIB_READERS_MAX];
    const size_t n_roles = solved_roles(role, seen);
    if (!n_roles) return NIB_OK;
    nib_code rc = meet(arg, role, n_roles, cols, &in, err);
    if (rc || (m->only && in != m->only)) return rc;
    float *to = nib_buf_reserve(&in->original, rows, cols * sizeof *to);
    if (!to) return nib_fail_nomem(err, "activations");
    const float *scale = in->scale.p;
    for (size_t at = 0; at < rows * cols; at += cols)
        for (size_t j = 0; j < cols; j++) to[at + j] = x[at + j] / scale[j];
    return NIB_OK;
}

static nib_code on_input(void *arg, const nib_linear_input *seen, nib_err *err)
{
    nib_hessians *m = arg;
    nib_hessian *in;
    const float *x = seen->x;
    const size_t rows = seen->rows, cols = seen->cols;
    nib_role role[NIB_READERS_MAX];
    const size_t n_roles = solved_roles(role, seen);
    if (!n_roles) return NIB_OK;
    nib_code rc = meet(m, role, n_roles, cols, &in, err);
    if (rc || (m->only && in != m->only)) return rc;
    in->rows += rows;
    if (m->drift) rc = nib_accumulate_drift(in->d.p, in->original.p, x, rows, cols, m->ctx, err);
    if (rc) return rc;
    if (m->sizes) rc = nib_accumulate_sizes(in->sum.p, in->most.p, x, rows, cols, m->ctx, err);
    return rc ? rc : nib_accumulate_hessian(in->h.p, x, rows, cols, m->ctx, err);
}

void nib_hessians_start(nib_hessians *m)
{
    m->n = 0;
    m->only = NULL;
}

void nib_hessians_renew(nib_hessians *m, size_t i)
{
    zero(&m->input[i]);
    m->only = &m->input[i];
}

nib_observer nib_hessians_observer(nib_hessians *m)
{
    return (nib_observer){.linear_input = on_input, .arg = m};
}

nib_observer nib_hessians_original_observer(nib_hessians *m)
{
    return (nib_observer){.linear_input = on_original, .arg = m};
}

void nib_hessians_free(nib_hessians *m)
{
    for (size_t i = 0; i < NIB_INPUTS_MAX; i++) {
        nib_buf_free(&m->input[i].h);
        nib_buf_free(&m->input[i].d);
        nib_buf_free(&m->input[i].original);
        nib_buf_free(&m->input[i].sum);
        nib_buf_free(&m->input[i].most);
        nib_buf_free(&m->input[i].scale);
    }
}

nib_hessian *nib_hessians_find(nib_hessians *m, nib_role role)
{
    for (size_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < m->input[i].n_roles; k++)
            if (m->input[i].role[k] == role) return &m->input[i];
    return NULL;
}

void nib_hessian_divide(nib_hessian *in, const float *s)
{
    float *h = in->h.p, *d = in->d.p, *scale = in->scale.p;
    for (size_t i = 0; i < in->cols; i++) {
        for (size_t k = i; k < in->cols; k++) h[i * in->cols + k] /= s[i] * s[k];
        for (size_t k = 0; d && k < in->cols; k++) d[i * in->cols + k] /= s[i] * s[k];
        scale[i] *= s[i];
    }
}
