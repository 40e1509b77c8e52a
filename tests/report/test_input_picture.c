/* SPDX-License-Identifier: MIT */
/* The inputs of a layer, beside what an observer of the whole pass writes down. */
#include "report/input_picture.h"

#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 12 };

typedef struct {
    uint32_t layer;
    nib_role role;
    float *x;
    size_t rows, cols;
} seen;

static nib_code see(void *arg, const nib_linear_input *in, nib_err *err)
{
    seen *s = arg;
    (void)err;
    for (size_t i = 0; i < in->n_roles; i++)
        if (in->layer == s->layer && in->role[i] == s->role) {
            s->rows = in->rows;
            s->cols = in->cols;
            s->x = malloc(in->rows * in->cols * sizeof *s->x);
            assert_non_null(s->x);
            memcpy(s->x, in->x, in->rows * in->cols * sizeof *s->x);
        }
    return NIB_OK;
}

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void same_as_seen(void **state)
{
    (void)state;
    tiny t;
    nib_err err;
    nib_graph *g;
    nib_input_picture p;
    const nib_ctx ctx = tiny_ctx(2);
    int32_t id[TOKENS];
    for (int i = 0; i < TOKENS; i++) id[i] = 7 * i + 1;
    tiny_make(&t, "llama");
    tiny_open(&t);
    seen s = {.layer = 1, .role = NIB_ROLE_FFN_DOWN};
    const nib_observer obs = {.linear_input = see, .arg = &s};
    float *x = malloc(TOKENS * t.model.hp.n_embd * sizeof *x);
    assert_non_null(x);
    must(nib_graph_new(&g, &t.model, &ctx, 1, TOKENS, false, &err), &err);
    must(nib_graph_embed(g, id, TOKENS, x, &err), &err);
    for (uint32_t l = 0; l < 2; l++) must(nib_graph_block(g, l, x, 1, TOKENS, 0, &obs, &err), &err);
    nib_graph_free(g);

    must(nib_input_picture_take(&p, &t.model, (nib_place){.layer = 1, .role = NIB_ROLE_FFN_DOWN},
                                id, TOKENS, &ctx, &err),
         &err);
    assert_int_equal(p.rows, TOKENS);
    assert_int_equal(p.cols, t.model.hp.n_ff);
    double span = 0, sum = 0, positive = 0, above = 0;
    size_t widest = 0, half = 0;
    for (size_t i = 0; i < s.rows * s.cols; i++) {
        if (fabs((double)s.x[i]) > span) span = fabs((double)s.x[i]), widest = i % s.cols;
        positive += s.x[i] >= 0;
    }
    for (size_t c = 0; c < s.cols; c++) {
        double largest = 0;
        for (size_t r = 0; r < s.rows; r++)
            largest = fmax(largest, fabs((double)s.x[r * s.cols + c]));
        half += largest <= p.median;
    }
    assert_true(p.span == span);
    assert_int_equal(p.widest, widest);
    assert_true(half >= s.cols / 2 && half <= s.cols / 2 + 1);
    for (size_t b = 0; b < NIB_INPUT_BINS; b++) {
        sum += p.share[b];
        if (b >= NIB_INPUT_BINS / 2) above += p.share[b];
    }
    assert_true(fabs(sum - 1) < 1e-9);
    assert_true(fabs(above - positive / (double)(s.rows * s.cols)) < 1e-9);
    free(x);
    free(s.x);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
