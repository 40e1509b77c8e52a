/* SPDX-License-Identifier: MIT */
/* Branches of a block by themselves, and weights that stand in for the source's. */
#include "base/linalg.h"
#include "base/mem.h"
#include "infer/graph.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SEQ = 2, TOK = 9, ROWS = SEQ * TOK };

static const nib_role FIRST[] = {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_FFN_GATE,
                                 NIB_ROLE_FFN_DOWN};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* Every input of linears, kept. */
typedef struct {
    float *x[NIB_ROLE_COUNT];
} kept;

static nib_code keep(void *arg, const nib_linear_input *in, nib_err *err)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    kept *k = arg;
    (void)err;
    assert_int_equal(rows, ROWS);
    k->x[in->role[0]] = malloc(rows * cols * sizeof *x);
    memcpy(k->x[in->role[0]], x, rows * cols * sizeof *x);
    return NIB_OK;
}

static void random_input(float *x, size_t n)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
}

/* What a block adds is the sum of its two branches; the later input of a branch gives the same. */
static void branches_add_up(void **state)
{
    tiny t;
    kept k = {0};
    nib_err err = {0};
    nib_graph *g;
    const nib_ctx ctx = tiny_ctx(2);
    tiny_make(&t, *state);
    tiny_open(&t);
    t.model.hp.window = 3; /* of the second block */
    t.model.hp.sliding[0] = 2;
    const size_t width = t.model.hp.n_embd, n = ROWS * width;
    float *in = malloc(n * sizeof *in), *out = malloc(n * sizeof *out), *y[4];
    random_input(in, n);
    memcpy(out, in, n * sizeof *in);
    must(nib_graph_new(&g, &t.model, &ctx, SEQ, TOK, false, &err), &err);
    must(nib_graph_block(g, 1, out, SEQ, TOK, 0, &(nib_observer){.linear_input = keep, .arg = &k},
                         &err),
         &err);
    for (int i = 0; i < 4; i++) {
        y[i] = malloc(n * sizeof **y);
        must(nib_graph_branch(g, 1, FIRST[i], k.x[FIRST[i]], SEQ, TOK, y[i], &err), &err);
    }
    assert_memory_equal(y[0], y[1], n * sizeof **y);
    assert_memory_equal(y[2], y[3], n * sizeof **y);
    /* Two additions in another order: an f32 rounding of each, of values below 8 here. */
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(in[i] + y[0][i] + y[2][i] - out[i]) <= 3 * 4 * 0x1p-23f);
    for (int i = 0; i < 4; i++) free(y[i]), free(k.x[FIRST[i]]);
    free(in), free(out);
    nib_graph_free(g);
    tiny_drop(&t);
}

static float *read_weight(const tiny *t, uint32_t layer, nib_role r, size_t *rows, size_t *cols)
{
    const nib_tensor *w = nib_model_param(&t->model, layer, r)->weight;
    nib_buf raw = {0};
    nib_err err = {0};
    *rows = (size_t)nib_tensor_rows(w), *cols = (size_t)nib_tensor_cols(w);
    float *v = malloc(*rows * *cols * sizeof *v);
    must(nib_source_read_rows(t->src, w, 0, *rows, v, &raw, 0, &err), &err);
    nib_buf_free(&raw);
    return v;
}

/* A norm divided by powers of two, and the weights that read it multiplied by them, give the same
 * bits; each alone gives others. So do a value projection with its bias, and the output matrix. */
static void stand_ins_are_used(void **state)
{
    tiny t;
    nib_err err = {0};
    nib_graph *g;
    const nib_ctx ctx = tiny_ctx(2);
    tiny_make(&t, *state);
    tiny_open(&t);
    const size_t width = t.model.hp.n_embd, n = ROWS * width;
    float *in = malloc(n * sizeof *in), *want = malloc(n * sizeof *in),
          *got = malloc(n * sizeof *in);
    random_input(in, n);
    must(nib_graph_new(&g, &t.model, &ctx, SEQ, TOK, false, &err), &err);
    memcpy(want, in, n * sizeof *in);
    must(nib_graph_block(g, 0, want, SEQ, TOK, 0, NULL, &err), &err);

    static const nib_role norm_first[] = {NIB_ROLE_FFN_NORM, NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP};
    float *w[3];
    for (int i = 0; i < 3; i++) {
        size_t rows, cols;
        w[i] = read_weight(&t, 0, norm_first[i], &rows, &cols);
        for (size_t k = 0; k < rows * cols; k++)
            w[i][k] = ldexpf(w[i][k], (int)(k % cols % 5) * (i ? 1 : -1));
        nib_graph_replace(g, norm_first[i], w[i]);
        memcpy(got, in, n * sizeof *in);
        must(nib_graph_block(g, 0, got, SEQ, TOK, 0, NULL, &err), &err);
        if ((memcmp(got, want, n * sizeof *in) == 0) != (i == 2))
            fail_msg("after %d replacements", i + 1);
    }
    for (int i = 0; i < 3; i++) nib_graph_replace(g, norm_first[i], NULL), free(w[i]);
    memcpy(got, in, n * sizeof *in);
    must(nib_graph_block(g, 0, got, SEQ, TOK, 0, NULL, &err), &err);
    assert_memory_equal(got, want, n * sizeof *in);

    /* A bias of the caller's. */
    float *bias = calloc(width, sizeof *bias);
    bias[1] = 1;
    nib_graph_replace_bias(g, NIB_ROLE_ATTN_OUTPUT, bias);
    must(nib_graph_block(g, 0, in, SEQ, TOK, 0, NULL, &err), &err);
    assert_true(memcmp(in, want, n * sizeof *in) != 0);
    free(bias), free(in), free(want), free(got);
    nib_graph_free(g);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(branches_add_up, "llama"),
        cmocka_unit_test_prestate(branches_add_up, "qwen2"),
        cmocka_unit_test_prestate(branches_add_up, "qwen3"),
        cmocka_unit_test_prestate(stand_ins_are_used, "llama"),
        cmocka_unit_test_prestate(stand_ins_are_used, "qwen2"),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("infer_branch", tests, NULL, NULL);
}
