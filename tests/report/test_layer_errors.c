/* SPDX-License-Identifier: MIT */
/* Errors of weights beside the same sums taken plainly over whole matrices; rows that folders and
 * GGUF have in different orders are set beside each other. */
#include "report/layer_errors.h"

#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct {
    tiny base, other;
    nib_source *gguf_src[2];
    nib_model gguf[2]; /* of both */
} t;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static int set_up(void **state)
{
    (void)state;
    nib_err err;
    char path[128];
    tiny_make(&t.base, "llama");
    tiny_open(&t.base);
    gen_spec spec = t.base.spec;
    spec.seed = 8;
    tiny_make_spec(&t.other, spec);
    tiny_open(&t.other);
    for (int i = 0; i < 2; i++) {
        const tiny *of = i ? &t.other : &t.base;
        snprintf(path, sizeof path, "%s/as.gguf", of->dir);
        tiny_write_gguf(of, path);
        must(nib_source_open(&t.gguf_src[i], path, &err), &err);
        must(nib_model_open(&t.gguf[i], t.gguf_src[i], &err), &err);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        nib_model_close(&t.gguf[i]);
        nib_source_close(t.gguf_src[i]);
    }
    tiny_drop(&t.base);
    tiny_drop(&t.other);
    return 0;
}

static float *whole(const nib_model *m, uint32_t layer, nib_role role, size_t *n)
{
    nib_err err;
    nib_buf raw = {0};
    const nib_tensor *w = nib_model_tensor(m, (nib_place){.layer = layer, .role = role});
    assert_non_null(w);
    *n = (size_t)nib_tensor_elems(w);
    float *x = nib_alloc(*n, sizeof *x);
    assert_non_null(x);
    must(nib_source_read_rows(m->src, w, 0, nib_tensor_rows(w), x, &raw, 0, &err), &err);
    nib_buf_free(&raw);
    return x;
}

static double plain_error(uint32_t layer, nib_role role)
{
    size_t n;
    double square = 0, difference = 0;
    float *a = whole(&t.base.model, layer, role, &n), *b = whole(&t.other.model, layer, role, &n);
    for (size_t i = 0; i < n; i++) {
        square += (double)a[i] * (double)a[i];
        difference += ((double)b[i] - (double)a[i]) * ((double)b[i] - (double)a[i]);
    }
    nib_free(a);
    nib_free(b);
    return sqrt(difference / square);
}

static void measured(nib_layer_errors *e, const nib_model *base, const nib_model *other,
                     int threads)
{
    nib_err err;
    const nib_ctx ctx = tiny_ctx(threads);
    must(nib_layer_errors_measure(e, base, other, &ctx, &err), &err);
    assert_int_equal(e->n_layer, 2);
    assert_int_equal(e->n_roles, 7);
}

static void sums(void **state)
{
    (void)state;
    nib_layer_errors e;
    measured(&e, &t.base.model, &t.other.model, 2);
    double most = 0;
    for (uint32_t l = 0; l < 2; l++)
        for (size_t r = 0; r < 7; r++) {
            const double want = plain_error(l, e.role[r]);
            assert_true(want > 0.5); /* two random matrices */
            assert_true(fabs(e.error[l * 7 + r] / want - 1) < 1e-9);
            most = fmax(most, want);
        }
    assert_true(fabs(e.most / most - 1) < 1e-9 && e.least <= e.most);
    assert_true(fabs(e.embd / plain_error(0, NIB_ROLE_TOKEN_EMBD) - 1) < 1e-9);
    nib_layer_errors_free(&e);
}

/* q and k lie otherwise in the file than in the folder, which is no error. */
static void orders(void **state)
{
    (void)state;
    nib_layer_errors e, f;
    measured(&e, &t.base.model, &t.other.model, 1);
    const nib_model *const pair[][2] = {
        {&t.base.model, &t.gguf[1]}, {&t.gguf[0], &t.other.model}, {&t.gguf[0], &t.gguf[1]}};
    for (size_t i = 0; i < 3; i++) {
        measured(&f, pair[i][0], pair[i][1], 2);
        for (size_t k = 0; k < 14; k++) assert_true(fabs(f.error[k] / e.error[k] - 1) < 1e-9);
        nib_layer_errors_free(&f);
    }
    nib_layer_errors_free(&e);
    measured(&f, &t.base.model, &t.gguf[0], 2); /* the same weights */
    for (size_t k = 0; k < 14; k++) assert_true(f.error[k] == 0);
    assert_true(f.most == 0 && f.embd == 0);
    nib_layer_errors_free(&f);
}

/* The picture of the worst matrix: shares of all its weights, and the block that moved most. */
static void picture(void **state)
{
    (void)state;
    nib_layer_errors e;
    size_t n;
    measured(&e, &t.base.model, &t.other.model, 2);
    const nib_weight_picture *w = &e.worst;
    const nib_place p = w->place;
    assert_true(w->error == e.most);
    float *a = whole(&t.base.model, p.layer, p.role, &n);
    float *b = whole(&t.other.model, p.layer, p.role, &n);
    const size_t cols = (size_t)nib_tensor_cols(nib_model_tensor(&t.base.model, p));
    double before = 0, after = 0, worst = 0, largest = 0, middle = 0;
    size_t at = 0, positive = 0;
    for (size_t i = 0; i < NIB_WEIGHT_BINS; i++) {
        before += w->before[i];
        after += w->after[i];
        if (i >= NIB_WEIGHT_BINS / 2) middle += w->after[i];
    }
    for (size_t r = 0; r < n; r += cols)
        for (size_t c = 0; c < cols; c += NIB_WEIGHT_SAMPLE) {
            double moved = 0;
            for (size_t i = r + c; i < r + cols && i < r + c + NIB_WEIGHT_SAMPLE; i++) {
                moved += ((double)b[i] - (double)a[i]) * ((double)b[i] - (double)a[i]);
                largest = fmax(largest, fmax(fabs((double)a[i]), fabs((double)b[i])));
                positive += b[i] >= 0;
            }
            if (moved > worst) worst = moved, at = r + c;
        }
    assert_true(fabs(before - 1) < 1e-9 && fabs(after - 1) < 1e-9);
    assert_true(fabs(middle - (double)positive / (double)n) < 1e-9);
    assert_true(w->span == largest);
    assert_int_equal(w->row * cols + w->col, at);
    assert_true(w->n > 0);
    for (size_t i = 0; i < w->n; i++)
        assert_true(w->block_before[i] == a[at + i] && w->block_after[i] == b[at + i]);
    nib_free(a);
    nib_free(b);
    nib_layer_errors_free(&e);
}

static void others(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_layer_errors e;
    const char *why;
    const nib_ctx ctx = tiny_ctx(1);
    tiny qwen;
    tiny_make(&qwen, "qwen3");
    tiny_open(&qwen);
    assert_false(nib_layer_errors_possible(&t.base.model, &qwen.model, &why));
    assert_non_null(strstr(why, "architecture"));
    assert_int_equal(nib_layer_errors_measure(&e, &t.base.model, &qwen.model, &ctx, &err),
                     NIB_EINVAL);
    tiny_drop(&qwen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums), cmocka_unit_test(orders),
                                       cmocka_unit_test(picture), cmocka_unit_test(others)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
