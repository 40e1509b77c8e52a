/* SPDX-License-Identifier: MIT */
/* Models of tests/golden/arch (NIB_GOLDEN), given token by token and in small batches, with a
 * cache: the logits are those of the whole window, and a token's are the same bits in whatever
 * batch it came. The arguments are the names of the folders. */
#include "base/cpu.h"
#include "infer/decoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 48, PROMPT = 20 };

/* The bound of test_arch_golden: both ways compute in f32, in another order; logits are up to some
 * tens. */
static const double BOUND = 2e-3;

static const nib_kv_choice f32 = {0};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static nib_ctx ctx(int threads)
{
    return (nib_ctx){.threads = threads, .cpu = nib_cpu_detect()};
}

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static void whole_window(const nib_model *m, const int32_t *id, float *logits)
{
    nib_err err;
    nib_graph *g;
    const nib_ctx how = ctx(2);
    size_t row[TOKENS];
    float *x = nib_alloc(TOKENS, m->hp.n_embd * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < TOKENS; i++) row[i] = i;
    must(nib_graph_new(&g, m, &how, 1, TOKENS, false, &err), &err);
    must(nib_graph_embed(g, id, TOKENS, x, &err), &err);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        must(nib_graph_block(g, l, x, 1, TOKENS, 0, NULL, &err), &err);
    must(nib_graph_logits(g, x, row, TOKENS, keep, logits, NULL, &err), &err);
    nib_graph_free(g);
    nib_free(x);
}

/* Logits of tokens PROMPT .. TOKENS-1, in batches of these sizes, over and over. */
static void in_batches(const nib_model *m, const int32_t *id, const size_t *size, size_t n_sizes,
                       int threads, float *logits)
{
    nib_err err;
    nib_decoder *d;
    const float *now;
    const nib_ctx how = ctx(threads);
    must(nib_decoder_new(&d, m, &how, 1, TOKENS, &f32, NULL, &err), &err);
    must(nib_decoder_feed(d, id, 1, PROMPT, 0, &now, &err), &err);
    for (size_t i = 0, at = PROMPT; at < TOKENS; i++) {
        const size_t left = TOKENS - at, n = size[i % n_sizes] < left ? size[i % n_sizes] : left;
        must(nib_decoder_feed(d, id + at, 1, n, n, &now, &err), &err);
        memcpy(logits + (at - PROMPT) * m->hp.n_vocab, now, n * m->hp.n_vocab * sizeof *now);
        at += n;
        if (i % 3 == 1 && n > 1) { /* a part is taken back, and given again */
            at -= n / 2;
            nib_decoder_set_length(d, at);
        }
    }
    nib_decoder_free(d);
}

static void decodes(void **state)
{
    nib_err err;
    nib_source *src;
    nib_model m;
    char path[256];
    int32_t id[TOKENS];
    static const size_t single[] = {1}, some[] = {3, 4, 1, 16};
    snprintf(path, sizeof path, "%s/arch/%s", getenv("NIB_GOLDEN"), (const char *)*state);
    must(nib_source_open(&src, path, &err), &err);
    must(nib_model_open(&m, src, &err), &err);
    for (size_t i = 0; i < TOKENS; i++) id[i] = (int32_t)((i * i * 31 + 7 * i + 3) % m.hp.n_vocab);
    const size_t n = (TOKENS - PROMPT) * m.hp.n_vocab;
    float *all = nib_alloc(TOKENS, m.hp.n_vocab * sizeof *all), *a = nib_alloc(n, sizeof *a),
          *b = nib_alloc(n, sizeof *b);
    assert_true(all && a && b);
    whole_window(&m, id, all);
    in_batches(&m, id, single, 1, 1, a);
    in_batches(&m, id, some, 4, 2, b);
    assert_memory_equal(a, b, n * sizeof *a);
    const float *want = all + PROMPT * m.hp.n_vocab;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)want[i]) <= BOUND))
            fail_msg("token %zu: logit %zu is %.7g, expected %.7g", PROMPT + i / m.hp.n_vocab,
                     i % m.hp.n_vocab, (double)a[i], (double)want[i]);
    nib_free(all);
    nib_free(a);
    nib_free(b);
    nib_model_close(&m);
    nib_source_close(src);
}

int main(int argc, char **argv)
{
    enum { FOLDERS_MAX = 200 };
    struct CMUnitTest tests[FOLDERS_MAX];
    size_t n = 0;
    for (int i = 1; i < argc && i <= FOLDERS_MAX; i++)
        tests[n++] = (struct CMUnitTest){argv[i], decodes, NULL, NULL, argv[i]};
    return _cmocka_run_group_tests("arch_decode", tests, n, NULL, NULL);
}
