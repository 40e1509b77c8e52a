/* SPDX-License-Identifier: MIT */
/* calib/expert_inputs.c - see expert_inputs.h. Tests: tests/e2e/experts.sh. */
#include "calib/expert_inputs.h"

#include <string.h>

nib_code nib_expert_inputs_new(nib_expert_inputs *e, const nib_hparams *hp, size_t rows,
                               uint64_t limit, const char *beside, nib_err *err)
{
    *e = (nib_expert_inputs){.n_expert = hp->n_expert};
    e->of = nib_calloc(hp->n_expert, sizeof *e->of);
    if (!e->of) return nib_fail_nomem(err, "inputs of experts");
    return nib_activation_store_new(&e->x, rows, hp->n_embd, limit, beside, err);
}

void nib_expert_inputs_free(nib_expert_inputs *e)
{
    for (size_t i = 0; i < e->n_expert && e->of; i++) {
        nib_buf_free(&e->of[i].row);
        nib_buf_free(&e->of[i].scale);
    }
    nib_free(e->of);
    if (e->x.cols) nib_activation_store_free(&e->x);
    *e = (nib_expert_inputs){.n_expert = 0};
}

void nib_expert_inputs_start(nib_expert_inputs *e)
{
    e->before = e->rows = 0;
    for (size_t i = 0; i < e->n_expert; i++) e->of[i].n = 0;
}

/* Room for `more` numbers of 4 bytes behind n; NULL: no memory. */
static void *extend(nib_buf *b, size_t n, size_t more)
{
    const size_t room = 2 * (n + more), each = sizeof(uint32_t);
    if ((n + more) * each <= b->cap) return b->p;
    void *grown = nib_grow(b->p, n, room, each);
    if (grown) *b = (nib_buf){.p = grown, .cap = room * each};
    return grown;
}

static nib_code add_rows(nib_expert_inputs *e, const nib_linear_input *in, nib_err *err)
{
    const size_t n = e->of[in->expert].n;
    uint32_t *row = extend(&e->of[in->expert].row, n, in->rows);
    float *scale = in->scale ? extend(&e->of[in->expert].scale, n, in->rows) : NULL;
    if (!row || (in->scale && !scale)) return nib_fail_nomem(err, "inputs of experts");
    for (size_t i = 0; i < in->rows; i++) row[n + i] = (uint32_t)e->before + in->token[i];
    if (scale) memcpy(scale + n, in->scale, in->rows * sizeof *scale);
    e->of[in->expert].n = n + in->rows;
    return NIB_OK;
}

static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    nib_expert_inputs *e = arg;
    if (in->role[0] == NIB_ROLE_FFN_ROUTER) {
        e->before = e->rows;
        e->rows += in->rows;
        return nib_activation_store_put(&e->x, e->before, in->rows, in->x, err);
    }
    return in->role[0] == NIB_ROLE_FFN_GATE_EXPS ? add_rows(e, in, err) : NIB_OK;
}

nib_observer nib_expert_inputs_observer(nib_expert_inputs *e)
{
    return (nib_observer){on_input, e, e->all_experts};
}

nib_code nib_expert_inputs_get(const nib_expert_inputs *e, uint32_t expert, size_t first, size_t n,
                               float *x, nib_err *err)
{
    const uint32_t *row = (const uint32_t *)e->of[expert].row.p + first;
    nib_code rc = NIB_OK;
    for (size_t i = 0, k; i < n && !rc; i = k) {
        for (k = i + 1; k < n && row[k] == row[i] + (k - i);) k++;
        rc = nib_activation_store_get(&e->x, row[i], k - i, x + i * e->x.cols, err);
    }
    const float *scale = e->of[expert].scale.p;
    for (size_t i = 0; i < n * e->x.cols && scale && !rc; i++) x[i] *= scale[first + i / e->x.cols];
    return rc;
}
