/* SPDX-License-Identifier: MIT */
/* infer/linear_int8.c - see linear_int8.h. The input is rounded once; then each thread takes panels
 * of outputs, whose codes it reads and multiplies with all rows. */
#include "infer/linear_int8.h"

#include "base/par.h"
#include "infer/int8.h"

#include <math.h>

enum {
    ROUND_ROWS = 8,    /* rows of x that a thread rounds at a time    */
    PRODUCT_ROWS = 48, /* rows of x whose sums are kept on the stack  */
    OUTS = NIB_INT8_OUTS,
};

typedef struct {
    nib_linear *l;
    const nib_tensor *w;
    const nib_act_quant *act;
    const nib_int8 *kern;
    const float *bias, *x;
    float *y;
    size_t rows, in, out, stride;
    int16_t *code; /* [rows][stride], less zero points */
    float *scale;  /* [rows]                           */
    bool add;
} product;

/* The range of codes of one token, whose values are from lo to hi. Zeros may have any scale. */
static nib_act_range token_range(const nib_act_quant *act, float lo, float hi)
{
    nib_act_range r = {.scale = act->sym ? fmaxf(-lo, hi) / 127 : (hi - lo) / 255};
    if (r.scale == 0) r.scale = 1;
    if (!act->sym) r.zero = (int32_t)rintf(-128 - lo / r.scale);
    return r;
}

static nib_code round_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++) {
        const float *x = p->x + i * p->in;
        nib_act_range r = p->act->range;
        float lo, hi;
        if (!p->kern->range(&lo, &hi, x, p->in))
            r = (nib_act_range){.scale = NAN};
        else if (p->act->scheme == NIB_ACT_TOKEN)
            r = token_range(p->act, lo, hi);
        p->kern->round(p->code + i * p->stride, x, p->in, r.scale, r.zero);
        p->scale[i] = r.scale;
    }
    return NIB_OK;
}

/* n outputs of row r, from `first` on, from their sums. */
static void scale_sums(const product *p, const int32_t *sum, const float *w_scale, size_t r,
                       size_t first, size_t n)
{
    const float x_scale = p->scale[r], *bias = p->bias ? p->bias + first : NULL;
    float *y = p->y + r * p->out + first;
    for (size_t o = 0; o < n; o++) {
        float v = (float)sum[o] * w_scale[o] * x_scale;
        if (bias) v += bias[o];
        y[o] = p->add ? y[o] + v : v;
    }
}

/* Outputs [begin, end), one panel, of all rows. */
static nib_code multiply(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    const size_t n = end - begin;
    float w_scale[OUTS];
    int32_t sum[PRODUCT_ROWS * OUTS];
    int16_t *panel = nib_buf_reserve(&p->l->thread[thread].panel, p->stride, OUTS * sizeof *panel);
    int8_t *code = nib_buf_reserve(&p->l->thread[thread].code, p->in, OUTS);
    if (!panel || !code) return nib_fail_nomem(err, "codes of weights");
    nib_code rc = nib_source_read_codes(p->l->src, p->w, begin, n, code, w_scale,
                                        &p->l->thread[thread].raw, err);
    if (rc) return rc;
    p->kern->pack(panel, code, n, p->in);
    for (size_t r = 0; r < p->rows; r += PRODUCT_ROWS) {
        const size_t k = p->rows - r < PRODUCT_ROWS ? p->rows - r : PRODUCT_ROWS;
        p->kern->product(sum, p->code + r * p->stride, k, panel, p->stride);
        for (size_t i = 0; i < k; i++) scale_sums(p, sum + i * OUTS, w_scale, r + i, begin, n);
    }
    return NIB_OK;
}

/* Room for the codes of x; then they are found. */
static nib_code round_input(product *p, nib_err *err)
{
    nib_linear *l = p->l;
    p->code = nib_buf_reserve(&l->code, p->rows, p->stride * sizeof *p->code);
    p->scale = nib_buf_reserve(&l->scale, p->rows, sizeof *p->scale);
    if (!p->code || !p->scale) return nib_fail_nomem(err, "rounded activations");
    return nib_par_for(l->ctx.threads, p->rows, ROUND_ROWS, round_rows, p, err);
}

/* Codes of rows to the values they stand for, in y. */
static nib_code scale_codes(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < p->in; j++)
            p->y[i * p->in + j] = (float)p->code[i * p->stride + j] * p->scale[i];
    return NIB_OK;
}

static nib_code round_floats(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    (void)thread, (void)err;
    for (size_t i = begin; i < end; i++)
        nib_act_round(p->act, p->x + i * p->in, p->y + i * p->in, p->in);
    return NIB_OK;
}

nib_code nib_linear_round(nib_linear *l, const nib_act_quant *act, const float *x, size_t rows,
                          size_t in, const float **rounded, nib_err *err)
{
    product p = {.l = l,
                 .act = act,
                 .kern = nib_int8_get(l->ctx.cpu),
                 .x = x,
                 .y = nib_buf_reserve(&l->rounded, rows, in * sizeof *p.y),
                 .rows = rows,
                 .in = in,
                 .stride = nib_int8_stride(in)};
    if (!p.y) return nib_fail_nomem(err, "rounded activations");
    *rounded = p.y;
    if (act->number != NIB_ACT_INT8)
        return nib_par_for(l->ctx.threads, rows, ROUND_ROWS, round_floats, &p, err);
    nib_code rc = round_input(&p, err);
    return rc ? rc : nib_par_for(l->ctx.threads, rows, ROUND_ROWS, scale_codes, &p, err);
}

nib_code nib_linear_int8(nib_linear *l, const nib_tensor *w, const float *bias, const float *x,
                         size_t rows, float *y, bool add, nib_err *err)
{
    const size_t in = (size_t)nib_tensor_cols(w);
    product p = {.l = l,
                 .w = w,
                 .act = nib_tensor_act(w),
                 .kern = nib_int8_get(l->ctx.cpu),
                 .bias = bias,
                 .x = x,
                 .y = y,
                 .rows = rows,
                 .in = in,
                 .out = (size_t)nib_tensor_rows(w),
                 .stride = nib_int8_stride(in),
                 .add = add};
    if (in > NIB_INT8_MAX_COLS)
        return nib_fail(err, NIB_EFORMAT, "%zu columns; sums of 8-bit integers hold at most %d", in,
                        NIB_INT8_MAX_COLS);
    nib_code rc = round_input(&p, err);
    return rc ? rc : nib_par_for(l->ctx.threads, p.out, OUTS, multiply, &p, err);
}
