/* SPDX-License-Identifier: MIT */
/* infer/finite.c - see finite.h. Tests: tests/run/test_solve.c, tests/cases/inputs. */
#include "infer/finite.h"

#include "base/mem.h"
#include "quant/codec.h"

#include <math.h>

enum { PIECE = 1 << 20 }; /* weights that are read at a time, or one row */

/* Index of the tensor's first weight that is not finite; its size when there is none, or when it
 * cannot be read. */
static uint64_t first_bad(const nib_source *src, const nib_tensor *t, nib_buf *values, nib_buf *raw,
                          const nib_ctx *ctx)
{
    const uint64_t rows = nib_tensor_rows(t), cols = nib_tensor_cols(t);
    const uint64_t each = cols < PIECE ? PIECE / cols : 1;
    nib_err unread;
    for (uint64_t r = 0; r < rows; r += each) {
        const uint64_t n = rows - r < each ? rows - r : each;
        float *x = nib_buf_reserve(values, (size_t)(n * cols), sizeof *x);
        if (!x || nib_source_read_rows(src, t, r, n, x, raw, ctx->cpu, &unread)) break;
        const size_t at = nib_find_nonfinite(x, (size_t)(n * cols), ctx->cpu);
        if (at < n * cols) return r * cols + at;
    }
    return rows * cols;
}

bool nib_blame_weights(const nib_model *m, const nib_ctx *ctx, nib_err *err)
{
    nib_buf values = {0}, raw = {0};
    bool found = false;
    for (size_t i = 0; i < nib_source_count(m->src) && !found; i++) {
        const nib_tensor *t = nib_source_at(m->src, i);
        nib_place p;
        if (!nib_model_place(m, t, &p) || !nib_tensor_readable(t)) continue;
        const uint64_t cols = nib_tensor_cols(t), at = first_bad(m->src, t, &values, &raw, ctx);
        if (at == nib_tensor_rows(t) * cols) continue;
        found = true;
        nib_fail(err, NIB_ENUMERIC,
                 "%s: tensor '%s': row %llu, column %llu is NaN or infinite, and so is what the "
                 "model computes",
                 nib_source_path(m->src), t->name, (unsigned long long)(at / cols),
                 (unsigned long long)(at % cols));
    }
    nib_buf_free(&values);
    nib_buf_free(&raw);
    return found;
}
