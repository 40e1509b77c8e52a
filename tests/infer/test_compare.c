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
#include <stdbool.h>
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
        t.m[i] =
            (nib_compared){.name = i ? "random" : "demo", .model = &t.model[i], .tok = t.tok[i]};
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

/* The k-th likeliest, counted from 0; the lowest of equal ones first. */
static int top(const float *x, int k)
{
    int best = 0;
    bool taken[VOCAB] = {0};
    for (; k >= 0; k--) {
        for (best = 0; taken[best];) best++;
        for (int i = best + 1; i < VOCAB; i++)
            if (!taken[i] && x[i] > x[best]) best = i;
        taken[best] = true;
    }
    return best;
}

static void figures(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_result r;
    nib_compare_line l[2];
    const nib_ctx ctx = tiny_ctx(2);
    double kl[N], change[N], changes = 0, changes2 = 0, sum = 0, max = 0, spread = 0, back = 0;
    double sure_kl = 0;
    int same = 0, sure = 0, sure_same = 0;
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
        same += top(a, 0) == top(b, 0);
        for (int k = 0; k < VOCAB; k++) back += exp(b[k] - zb) * ((b[k] - zb) - (a[k] - za));
        if (exp(a[top(a, 0)] - za) >= 0.9) {
            sure++;
            sure_kl += kl[i];
            sure_same += top(a, 0) == top(b, 0);
        }
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
    assert_true(fabs(l[1].kl_back / (back / N) - 1) < 1e-5);
    assert_int_equal(l[1].sure[4].n, sure);
    if (sure) {
        assert_true(fabs(l[1].sure[4].kl / (sure_kl / sure) - 1) < 1e-5);
        assert_true(fabs(l[1].sure[4].same_top - (double)sure_same / sure) < 1e-12);
    }
    size_t all = 0;
    for (int b = 0; b < NIB_SURE_BINS; b++) all += l[1].sure[b].n;
    assert_int_equal(all, N);
    /* What is said of a token: its context, and who found which likeliest. */
    for (int i = 0; i < N; i++) {
        const float *a = t.logits + (size_t)i * VOCAB, *b = a + (size_t)N * VOCAB;
        assert_int_equal(r.token[0][i].top, top(a, 0));
        assert_int_equal(r.token[1][i].top, top(b, 0));
        assert_int_equal(
            r.id[(size_t)i / r.per_chunk * CTX + r.first + (size_t)i % r.per_chunk + 1],
            t.target[i]);
    }
    nib_compare_free(&r);
}

/* Two models that are near each other, so that several of their likeliest tokens agree: the
 * demonstration model and itself with its residual stream rounded. */
static void tops_and_noise_floor(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_result r;
    nib_compare_line l[2];
    const nib_ctx ctx = tiny_ctx(1);
    nib_compared m[2] = {t.m[0], t.m[0]};
    m[1].bf16 = true;
    must(nib_compare_run(&r, l, m, 2, t.text, TEXT, &how, &ctx, &err), &err);
    /* 8 bits of mantissa: what engines that keep it in BF16 do to a model is little, but there. */
    assert_true(l[1].kl > 1e-7 && l[1].kl < 1e-2);
    assert_true(l[1].same_top > 0.9);
    size_t firsts[NIB_TOPS] = {0};
    for (size_t i = 0; i < N; i++)
        for (int k = 0; k < r.token[1][i].same; k++) firsts[k]++;
    for (int k = 0; k < NIB_TOPS; k++)
        assert_true(fabs(l[1].same_first[k] - (double)firsts[k] / N) < 1e-12);
    assert_true(l[1].same_first[0] == l[1].same_top);
    nib_compare_free(&r);
}

/* b beside a. */
static nib_loss_pair beside(const float *a, const float *b, size_t n)
{
    const nib_ops *ops = nib_ops_get(0);
    const nib_prediction p = nib_prediction_of(ops, a, n), q = nib_prediction_of(ops, b, n);
    return nib_loss_compare(ops, &p, &q);
}

/* Rows whose order is known: the first three likeliest agree, the fourth does not. */
static void same_tops_in_order(void **state)
{
    (void)state;
    const float a[7] = {1, 9, 8, 7, 6, 5, 0}, b[7] = {0, 12, 11, 7, 5, 6, 1};
    const float c[7] = {3, 3, 3, 3, 3, 3, 3};
    const nib_loss_pair d = beside(a, b, 7);
    assert_int_equal(d.same, 3);
    assert_int_equal(d.top, 1);
    assert_true(fabs(d.p_top - exp(12 - log(1 + exp(12.) + exp(11.) + exp(7.) + exp(5.) + exp(6.) +
                                            exp(1.)))) < 1e-6);
    assert_int_equal(beside(a, a, 7).same, NIB_TOPS);
    assert_int_equal(beside(a, c, 7).same, 0); /* 0 first on ties, not 1 */
    /* Fewer tokens than are looked at: all agree. */
    assert_int_equal(beside(a + 1, a + 1, 3).same, NIB_TOPS);
}

/* A base that is a file says what the model said. */
static void base_files(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_compare_line l[2], k[2];
    const nib_ctx ctx = tiny_ctx(2);
    nib_compare_result r;
    /* All tokens in steps of 16 / 65535, the largest K and the rest, every token exactly. */
    const struct {
        size_t top;
        double within;
    } form[] = {{0, 2e-3}, {64, 0}, {VOCAB, 2e-6}};
    for (size_t i = 0; i < sizeof form / sizeof form[0]; i++) {
        char path[64];
        nib_base_file file;
        nib_base_writer save;
        nib_compared m[2] = {t.m[0], t.m[1]};
        snprintf(path, sizeof path, "%s/%zu.kld", t.dir, form[i].top);
        must(nib_base_writer_open(&save, path, false, form[i].top, &err), &err);
        m[0].save = &save;
        must(nib_compare_run(&r, l, m, 2, t.text, TEXT, &how, &ctx, &err), &err);
        must(nib_base_writer_commit(&save, &err), &err);
        nib_compare_free(&r);
        assert_true(nib_base_file_is(path));
        must(nib_base_file_open(&file, path, &err), &err);
        m[0] = (nib_compared){.name = path, .file = &file};
        /* With the text, and with the tokens of the file alone. */
        const nib_ppl_opts any = {0};
        must(nib_compare_run(&r, k, m, 2, t.text, TEXT, &how, &ctx, &err), &err);
        nib_compare_free(&r);
        must(nib_compare_run(&r, k, m, 2, NULL, 0, &any, &ctx, &err), &err);
        nib_compare_free(&r);
        assert_true(fabs(k[0].nll - l[0].nll) < 2e-4);
        assert_true(k[1].nll == l[1].nll && k[1].same_top == l[1].same_top);
        if (form[i].within > 0) {
            assert_true(fabs(k[1].kl / l[1].kl - 1) < form[i].within);
            assert_true(fabs(k[1].kl_back / l[1].kl_back - 1) < 0.02 + form[i].within);
        } else { /* joining tokens never adds to a divergence */
            assert_true(k[1].kl < l[1].kl && k[1].kl > 0.5 * l[1].kl);
            assert_true(k[1].kl_back < l[1].kl_back);
        }
        /* Another text, another context: refused. */
        nib_ppl_opts other = how;
        other.n_ctx = CTX / 2;
        assert_int_equal(nib_compare_run(&r, k, m, 2, t.text, TEXT, &other, &ctx, &err),
                         NIB_EINVAL);
        assert_int_equal(nib_compare_run(&r, k, m, 2, t.text + 9, TEXT, &how, &ctx, &err),
                         NIB_EINVAL);
        nib_base_file_close(&file);
        remove(path);
    }
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
    nib_compare_free(&r);
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
    nib_compare_free(&r);
}

/* KL(a || b) of two outcomes by hand: 0.75 ln 1.5 + 0.25 ln 0.5, and the other way round. */
static void direction(void **state)
{
    (void)state;
    const float a[2] = {(float)log(3.0), 0}, b[2] = {5, 5};
    const nib_loss_pair d = beside(a, b, 2), e = beside(b, a, 2);
    assert_true(fabs(d.kl - 0.130812) < 1e-6 && fabs(e.kl_back - 0.130812) < 1e-6);
    assert_true(d.same == NIB_TOPS); /* a tie goes to the lowest index */
    assert_true(fabs(e.kl - 0.143841) < 1e-6 && fabs(d.kl_back - 0.143841) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures),
        cmocka_unit_test(perplexities_are_those_of_the_other_command),
        cmocka_unit_test(a_model_beside_itself),
        cmocka_unit_test(direction),
        cmocka_unit_test(tops_and_noise_floor),
        cmocka_unit_test(same_tops_in_order),
        cmocka_unit_test(base_files),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
