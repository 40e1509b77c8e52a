/* SPDX-License-Identifier: MIT */
/* infer/linear_few.c - see linear_few.h. Each thread takes some rows of the weight, which all rows
 * of x meet. */
#include "infer/linear_few.h"

#include "base/par.h"
#include "quant/dot.h"

enum { TASK_WEIGHTS = 1 << 15, DECODE_ROWS = 8 };

typedef struct {
    nib_linear *l;
    const nib_tensor *w;
    nib_kept kept; /* nothing: rows are read and decoded */
    const float *bias;
    nib_dot_in in;
    float *y;
    size_t out;
    bool add;
} product;

/* Outputs [begin, end) of all rows of x into to[row][end - begin]. */
static nib_code multiply(const product *p, float *to, size_t begin, size_t end, int thread,
                         nib_err *err)
{
    const size_t n = end - begin, cols = p->in.cols;
    const unsigned cpu = p->l->ctx.cpu;
    size_t row_bytes;
    if (p->kept.grouped) {
        nib_grouped_dot(p->kept.grouped, to, n, begin, n, &p->in, cpu);
        return NIB_OK;
    }
    if (p->kept.rows && nib_codec_row_bytes(p->kept.codec, cols, &row_bytes)) {
        nib_dot(p->kept.codec, to, n, p->kept.rows + begin * row_bytes, n, &p->in, cpu);
        return NIB_OK;
    }
    float *w = nib_buf_reserve(&p->l->thread[thread].panel, DECODE_ROWS, cols * sizeof *w);
    if (!w) return nib_fail_nomem(err, "decoded weights");
    nib_code rc = NIB_OK;
    for (size_t at = 0; at < n && !rc; at += DECODE_ROWS) {
        const size_t now = n - at < DECODE_ROWS ? n - at : DECODE_ROWS;
        rc = nib_source_read_rows(p->l->src, p->w, begin + at, now, w, &p->l->thread[thread].raw,
                                  cpu, err);
        if (!rc) nib_dot(nib_codec_get(NIB_F32), to + at, n, (const uint8_t *)w, now, &p->in, cpu);
    }
    return rc;
}

static nib_code task(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const product *p = arg;
    const size_t n = end - begin;
    float *sum = nib_buf_reserve(&p->l->thread[thread].code, p->in.n, n * sizeof *sum);
    if (!sum) return nib_fail_nomem(err, "products");
    nib_code rc = multiply(p, sum, begin, end, thread, err);
    for (size_t r = 0; r < p->in.n && !rc; r++) {
        float *y = p->y + r * p->out + begin;
        const float *s = sum + r * n;
        for (size_t o = 0; o < n; o++) {
            const float v = p->bias ? s[o] + p->bias[begin + o] : s[o];
            y[o] = p->add ? y[o] + v : v;
        }
    }
    return rc;
}

/* x with the sums that kernels want, in the order of the weight's columns. */
static nib_code prepare(product *p, const float *x, size_t rows, nib_err *err)
{
    nib_linear *l = p->l;
    const nib_grouped *g = p->kept.grouped;
    const size_t cols = (size_t)nib_tensor_cols(p->w), step = g ? nib_grouped_step(g) : cols,
                 n_sums = g ? nib_grouped_groups(g) : nib_dot_n_sums(cols);
    float *sum = nib_buf_reserve(&l->scale, rows, n_sums * sizeof *sum);
    float *ordered = g ? nib_buf_reserve(&l->ordered, rows, step * sizeof *ordered) : NULL;
    if (!sum || (g && !ordered)) return nib_fail_nomem(err, "sums of activations");
    for (size_t r = 0; r < rows; r++, x += cols) {
        if (g)
            nib_grouped_order(ordered + r * step, sum + r * n_sums, g, x);
        else
            nib_dot_sums(sum + r * n_sums, x, cols);
    }
    p->in = (nib_dot_in){.x = g ? ordered : x - rows * cols,
                         .sum = sum,
                         .n = rows,
                         .cols = step,
                         .step = step,
                         .sum_step = n_sums};
    return NIB_OK;
}

nib_code nib_linear_few(nib_linear *l, const nib_tensor *w, const float *bias, const float *x,
                        size_t rows, float *y, bool add, nib_err *err)
{
    const size_t cols = (size_t)nib_tensor_cols(w);
    product p = {
        .l = l, .w = w, .bias = bias, .y = y, .out = (size_t)nib_tensor_rows(w), .add = add};
    nib_code rc = nib_resident_get(&l->resident, l->src, w, &l->ctx, &p.kept, err);
    if (!rc) rc = prepare(&p, x, rows, err);
    if (rc) return rc;
    const size_t each = cols < TASK_WEIGHTS / 4 ? TASK_WEIGHTS / cols : 4;
    return nib_par_for(l->ctx.threads, p.out, each, task, &p, err);
}
