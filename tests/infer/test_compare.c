/* SPDX-License-Identifier: MIT */
/* Comparing models: every figure recomputed here from the logits that perplexity's consumer sees,
 * with the C library's exp and log, for the demonstration model and a random one of its shape. */
#include "infer/compare.h"

#include "base/file.h"
#include "base/mem.h"
#include "infer/loss.h"
#include "infer/ppl.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CTX = 48, CHUNKS = 3, N = CHUNKS * (CTX / 2 - 1), VOCAB = 2048 };

static struct {
    char dir[32];
    nib_source *src[2];
    nib_model model[2];
    nib_tokenizer *tok[2];
    nib_compared m[2];
    char *text;
    float *logits; /* [2][N][VOCAB] */
    int32_t target[N];
} t = {.dir = "/tmp/nib-compare-XXXXXX"};

static const nib_ppl_opts how = {.n_ctx = CTX, .max_chunks = CHUNKS};
enum { TEXT = 1200 };

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void keep(void *arg, size_t index, int32_t target, const float *logits, size_t n_vocab,
                 double nll)
{
    (void)nll;
    t.target[index] = target;
    memcpy((float *)arg + index * VOCAB, logits, n_vocab * sizeof *logits);
}

static int open_models(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_ppl_result r;
    const nib_ctx ctx = tiny_ctx(2);
    const char *demo = getenv("NIB_TINY");
    char path[512];
    size_t n;
    assert_non_null(demo);
    assert_non_null(mkdtemp(t.dir));
    const gen_spec spec = {.family = gen_family_find("llama"),
                           .layers = 1,
                           .hidden = 64,
                           .ff = 96,
                           .heads = 2,
                           .kv_heads = 1,
                           .head_dim = 32,
                           .vocab = VOCAB,
                           .dtype = NIB_BF16,
                           .shards = 1,
                           .seed = 5,
                           .tokenizer = demo};
    must(gen_model(&spec, t.dir, &ctx, &err), &err);
    snprintf(path, sizeof path, "%s/../eval.txt", demo);
    must(nib_file_slurp(&t.text, &n, path, 1 << 24, &err), &err);
    t.logits = nib_alloc(2 * N, VOCAB * sizeof *t.logits);
    for (int i = 0; i < 2; i++) {
        must(nib_source_open(&t.src[i], i ? t.dir : demo, &err), &err);
        must(nib_model_open(&t.model[i], t.src[i], &err), &err);
        /* The generated tokenizer is of another family: both models get the demonstration's. */
        must(nib_tokenizer_open(&t.tok[i], t.src[0], &err), &err);
        t.m[i] = (nib_compared){i ? "random" : "demo", &t.model[i], t.tok[i]};
        const nib_token_consumer see = {keep, t.logits + (size_t)i * N * VOCAB};
        must(nib_ppl_run(&r, &t.model[i], t.tok[i], t.text, TEXT, &how, &see, &ctx, &err), &err);
        assert_int_equal(r.n_scored, N);
    }
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    char cmd[64];
    for (int i = 0; i < 2; i++) {
        nib_tokenizer_close(t.tok[i]);
        nib_model_close(&t.model[i]);
        nib_source_close(t.src[i]);
    }
    nib_free(t.text);
    nib_free(t.logits);
    snprintf(cmd, sizeof cmd, "rm -r '%s'", t.dir);
    return system(cmd);
}

static double log_sum(const float *x)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) sum += exp((double)x[i]);
    return log(sum);
}

static int top(const float *x)
{
    int best = 0;
    for (int i = 1; i < VOCAB; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static void figures(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_result r;
    nib_compare_line l[2];
    const nib_ctx ctx = tiny_ctx(2);
    double kl[N], change[N], changes = 0, changes2 = 0, sum = 0, max = 0, spread = 0;
    int same = 0;
    for (int i = 0; i < N; i++) {
        const float *a = t.logits + (size_t)i * VOCAB, *b = a + (size_t)N * VOCAB;
        const double za = log_sum(a), zb = log_sum(b);
        kl[i] = 0;
        for (int k = 0; k < VOCAB; k++) kl[i] += exp(a[k] - za) * ((a[k] - za) - (b[k] - zb));
        change[i] = (zb - b[t.target[i]]) - (za - a[t.target[i]]);
        changes += change[i];
        changes2 += change[i] * change[i];
        sum += kl[i];
        max = fmax(max, kl[i]);
        same += top(a) == top(b);
    }
    for (int i = 0; i < N; i++) spread += (kl[i] - sum / N) * (kl[i] - sum / N);
    must(nib_compare_run(&r, l, t.m, 2, t.text, TEXT, &how, &ctx, &err), &err);
    assert_int_equal(r.n_scored, N);
    assert_true(sum / N > 1); /* the random model knows nothing */
    assert_true(fabs(l[1].kl / (sum / N) - 1) < 1e-5);
    assert_true(fabs(l[1].kl_error / sqrt(spread / N / (N - 1)) - 1) < 1e-4);
    assert_true(fabs(l[1].kl_max / max - 1) < 1e-5);
    assert_true(fabs(l[1].change - changes / N) < 1e-5);
    changes2 = changes2 / N - changes / N * (changes / N);
    assert_true(fabs(l[1].change_error / sqrt(changes2 / (N - 1)) - 1) < 1e-4);
    assert_true(l[1].kl_median < l[1].kl_99 && l[1].kl_99 < l[1].kl_999 &&
                l[1].kl_999 < l[1].kl_max);
    assert_true(fabs(l[1].same_top - (double)same / N) < 1e-12);
    assert_true(l[0].kl == 0 && l[0].same_top == 1);
}

static void perplexities_are_those_of_the_other_command(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_result r;
    nib_ppl_result p;
    nib_compare_line l[2];
    const nib_ctx ctx = tiny_ctx(1);
    must(nib_compare_run(&r, l, t.m, 2, t.text, TEXT, &how, &ctx, &err), &err);
    for (int i = 0; i < 2; i++) {
        must(nib_ppl_run(&p, &t.model[i], t.tok[i], t.text, TEXT, &how, NULL, &ctx, &err), &err);
        /* Rows go through the output matrix in other groups. */
        assert_true(fabs(l[i].ppl / p.ppl - 1) < 1e-6);
        assert_true(fabs(l[i].ppl_error / p.error - 1) < 1e-6);
    }
}

static void a_model_beside_itself(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_result r;
    nib_compare_line l[3];
    const nib_ctx ctx = tiny_ctx(1);
    const nib_compared m[3] = {t.m[0], t.m[1], t.m[0]};
    must(nib_compare_run(&r, l, m, 3, t.text, TEXT, &how, &ctx, &err), &err);
    assert_true(l[2].kl == 0 && l[2].kl_max == 0 && l[2].same_top == 1);
    assert_true(l[1].kl > 1);
}

/* KL(a || b) of two outcomes by hand: 0.75 ln 1.5 + 0.25 ln 0.5, and the other way round. */
static void direction(void **state)
{
    (void)state;
    const nib_ops *ops = nib_ops_get(0);
    const float a[2] = {(float)log(3.0), 0}, b[2] = {5, 5};
    bool same;
    assert_true(fabs(nib_loss_kl(ops, a, b, 2, &same) - 0.130812) < 1e-6);
    assert_true(same); /* a tie goes to the lowest index */
    assert_true(fabs(nib_loss_kl(ops, b, a, 2, &same) - 0.143841) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures),
        cmocka_unit_test(perplexities_are_those_of_the_other_command),
        cmocka_unit_test(a_model_beside_itself),
        cmocka_unit_test(direction),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
