/* SPDX-License-Identifier: MIT */
/* The harder twin computes what the original does, and is harder: a few channels are far larger. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "infer/graph.h"
#include "tests/support/gen.h"
#include "tests/support/outliers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 24, WIDEST = 512, VOCAB_MAX = 2048 };

typedef struct {
    float *logits;         /* [TOKENS][n_vocab]                                  */
    double square[WIDEST]; /* of the input channels of block 1's gate, then down */
    double inner[WIDEST];
} seen;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy(((seen *)arg)->logits + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static nib_code watch(void *arg, const nib_linear_input *in, nib_err *err)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    seen *s = arg;
    (void)err;
    if (in->layer != 1 || cols > WIDEST) return NIB_OK;
    double *to = in->role[0] == NIB_ROLE_FFN_GATE || in->role[0] == NIB_ROLE_FFN_UP ? s->square
                 : in->role[0] == NIB_ROLE_FFN_DOWN                                 ? s->inner
                                                                                    : NULL;
    for (size_t i = 0; to && i < rows * cols; i++) to[i % cols] += (double)x[i] * x[i];
    return NIB_OK;
}

static void run(seen *s, const char *dir)
{
    nib_err err = {0};
    nib_source *src;
    nib_model m;
    nib_graph *g;
    const nib_ctx ctx = {.threads = 1, .cpu = nib_cpu_detect()};
    const nib_observer obs = {.linear_input = watch, .arg = s};
    int32_t ids[TOKENS];
    size_t rows[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = i * 37 + 11, rows[i] = (size_t)i;
    must(nib_source_open(&src, dir, &err), &err);
    must(nib_model_open(&m, src, &err), &err);
    must(nib_graph_new(&g, &m, &ctx, 1, TOKENS, false, &err), &err);
    float *x = nib_alloc(TOKENS, m.hp.n_embd * sizeof *x);
    s->logits = nib_alloc(TOKENS, m.hp.n_vocab * sizeof *x);
    assert_non_null(x);
    assert_non_null(s->logits);
    must(nib_graph_embed(g, ids, TOKENS, x, &err), &err);
    for (uint32_t l = 0; l < m.hp.n_layer; l++)
        must(nib_graph_block(g, l, x, 1, TOKENS, 0, &obs, &err), &err);
    must(nib_graph_logits(g, x, rows, TOKENS, keep, s, NULL, &err), &err);
    nib_free(x);
    nib_graph_free(g);
    nib_model_close(&m);
    nib_source_close(src);
}

/* Channels whose root mean square grew by `least` or more. */
static size_t grown(const double *before, const double *after, double least)
{
    size_t n = 0;
    for (size_t i = 0; i < WIDEST; i++) n += before[i] > 0 && sqrt(after[i] / before[i]) >= least;
    return n;
}

static void same_function_larger_channels(void **state)
{
    (void)state;
    static seen a, b;
    char dir[] = "/tmp/nib-twin-XXXXXX", cmd[64];
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 1, .cpu = nib_cpu_detect()};
    const gen_outlier_spec spec = {.dtype = NIB_F32, .channels = 4, .seed = 3};
    double diff = 0, size = 0;
    assert_non_null(getenv("NIB_TINY"));
    assert_non_null(mkdtemp(dir));
    must(gen_outliers(&spec, getenv("NIB_TINY"), dir, &ctx, &err), &err);
    run(&a, getenv("NIB_TINY"));
    run(&b, dir);
    for (size_t i = 0; i < (size_t)TOKENS * VOCAB_MAX; i++) {
        diff = fmax(diff, fabs((double)a.logits[i] - b.logits[i]));
        size = fmax(size, fabs((double)a.logits[i]));
    }
    assert_true(size > 1);
    assert_true(diff < 1e-4 * size);
    /* 4 of 256 channels are chosen, and may coincide; none grows by more than 60. */
    assert_in_range(grown(a.square, b.square, 19.9), 2, 4);
    assert_in_range(grown(a.inner, b.inner, 19.9), 4, 8);
    assert_int_equal(grown(a.square, b.square, 60.1) + grown(a.inner, b.inner, 60.1), 0);
    assert_int_equal(grown(a.square, b.square, 1.01), grown(a.square, b.square, 19.9));
    nib_free(a.logits);
    nib_free(b.logits);
    snprintf(cmd, sizeof cmd, "rm -r '%s'", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_function_larger_channels)};
    nib_linalg_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
