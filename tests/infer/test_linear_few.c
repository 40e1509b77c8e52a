/* SPDX-License-Identifier: MIT */
/* Linear layers for few rows: weights of every kind, in memory or read each time, against products
 * with the decoded weight in f64. */
#include "infer/linear.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 5 };

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void check(nib_linear *l, const nib_source *src, const nib_tensor *t, bool add)
{
    nib_err err;
    nib_buf raw = {0};
    const size_t in = (size_t)nib_tensor_cols(t), out = (size_t)nib_tensor_rows(t);
    float *w = malloc(in * out * sizeof *w), *x = malloc(ROWS * in * sizeof *x),
          *y = malloc(ROWS * out * sizeof *y), *bias = malloc(out * sizeof *bias);
    assert_true(w && x && y && bias);
    must(nib_source_read_rows(src, t, 0, out, w, &raw, 0, &err), &err);
    gen_fill(x, ROWS * in, 3, 0, 0, 1);
    gen_fill(bias, out, 4, 0, 0, 1);
    for (size_t i = 0; i < ROWS * out; i++) y[i] = (float)(i % 7);
    must(nib_linear_apply(l, t, NULL, bias, x, ROWS, y, add, &err), &err);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t o = 0; o < out; o++) {
            double want = (double)bias[o] + (add ? (double)((r * out + o) % 7) : 0), size = 10;
            for (size_t i = 0; i < in; i++) {
                want += (double)w[o * in + i] * (double)x[r * in + i];
                size += fabs((double)w[o * in + i] * (double)x[r * in + i]);
            }
            if (!(fabs(want - (double)y[r * out + o]) <= 1e-6 * size))
                fail_msg("%s [%zu][%zu]: %.8g, expected %.8g", t->name, r, o,
                         (double)y[r * out + o], want);
        }
    nib_buf_free(&raw);
    free(w), free(x), free(y), free(bias);
}

/* The matrices of a small model, twice: the second time they are in memory, if there is room. */
static void check_model(const nib_source *src, uint64_t most, uint64_t *kept)
{
    uint64_t left = most;
    nib_err err;
    nib_linear l;
    const nib_ctx ctx = tiny_ctx(2);
    must(nib_linear_init(&l, src, &ctx, &err), &err);
    l.few = true;
    l.resident.left = &left;
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < nib_source_count(src); i++)
            if (nib_tensor_rows(nib_source_at(src, i)) > 1)
                check(&l, src, nib_source_at(src, i), turn);
    *kept = l.resident.bytes;
    assert_int_equal(left, most - *kept);
    nib_linear_fini(&l);
}

static void in_memory_or_not(void **state)
{
    (void)state;
    tiny t;
    uint64_t all, some, none;
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    check_model(t.src, UINT64_MAX, &all);
    check_model(t.src, all / 2, &some);
    check_model(t.src, 1, &none);
    assert_true(all > 50000);
    assert_true(some > 0 && some <= all / 2);
    assert_int_equal(none, 0);
    tiny_drop(&t);
}

/* More tensors than the table begins with, and views that hold other values than the file. */
static void many_and_views(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    nib_err err;
    tiny t;
    nib_resident r = {0};
    nib_buf raw = {0};
    const nib_ctx ctx = tiny_ctx(2);
    tiny_make(&t, "llama");
    tiny_open(&t);
    const nib_tensor *w = nib_source_find(t.src, "model.embed_tokens.weight");
    const size_t cols = (size_t)nib_tensor_cols(w);
    nib_tensor *view = calloc(MANY, sizeof *view);
    assert_non_null(view);
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < MANY; i++) {
            nib_kept kept;
            uint8_t want[512];
            float x[128];
            if (!turn) view[i] = nib_tensor_slice(w, i % 257, 1, "a row");
            if (!turn && i % 10 == 0) view[i].plus = 1;
            if (!turn && i % 10 == 1) view[i] = nib_tensor_rows_of(w, i % 100, 2, 3, "two rows");
            must(nib_resident_get(&r, t.src, &view[i], &ctx, &kept, &err), &err);
            assert_non_null(kept.rows);
            if (i % 10 == 0) { /* decoded */
                assert_int_equal(kept.codec->type, NIB_F32);
                must(nib_source_read_rows(t.src, &view[i], 0, 1, x, &raw, 0, &err), &err);
                assert_memory_equal(kept.rows, x, cols * sizeof *x);
                continue;
            }
            const size_t n = i % 10 == 1 ? 2 : 1, row = (size_t)w->bytes / 257;
            assert_ptr_equal(kept.codec, w->codec);
            for (size_t k = 0; k < n; k++)
                must(nib_source_read(t.src, w, (i % (n == 2 ? 100 : 257) + 3 * k) * row,
                                     want + k * row, row, &err),
                     &err);
            assert_memory_equal(kept.rows, want, n * row);
        }
    assert_int_equal(r.bytes, (800 + 2 * 100) * (w->bytes / 257) + 100 * cols * sizeof(float));
    nib_resident_free(&r);
    nib_buf_free(&raw);
    free(view);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory_or_not),
        cmocka_unit_test(many_and_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
