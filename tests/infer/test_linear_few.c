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
    nib_err err;
    nib_linear l;
    const nib_ctx ctx = tiny_ctx(2);
    must(nib_linear_init(&l, src, &ctx, &err), &err);
    l.few = true;
    l.resident.most = most;
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < nib_source_count(src); i++)
            if (nib_tensor_rows(nib_source_at(src, i)) > 1)
                check(&l, src, nib_source_at(src, i), turn);
    *kept = l.resident.bytes;
    nib_linear_fini(&l);
}

static void in_memory_or_not(void **state)
{
    (void)state;
    tiny t;
    uint64_t all, some, none;
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    check_model(t.src, 0, &all);
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
    tiny_make(&t, "llama");
    tiny_open(&t);
    const nib_tensor *w = nib_source_find(t.src, "model.embed_tokens.weight");
    nib_tensor *view = calloc(MANY, sizeof *view);
    assert_non_null(view);
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < MANY; i++) {
            const uint8_t *bytes;
            uint8_t want[512];
            if (!turn) view[i] = nib_tensor_slice(w, i % 257, 1, "a row");
            if (!turn && i % 10 == 0) view[i].plus = 1;
            must(nib_resident_get(&r, t.src, &view[i], 2, &bytes, &err), &err);
            if (i % 10 == 0) {
                assert_null(bytes);
                continue;
            }
            must(nib_source_read(t.src, &view[i], 0, want, (size_t)view[i].bytes, &err), &err);
            assert_memory_equal(bytes, want, view[i].bytes);
        }
    assert_int_equal(r.bytes, 900 * view[1].bytes);
    nib_resident_free(&r);
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
