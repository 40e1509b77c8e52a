/* SPDX-License-Identifier: MIT */
/* Beam search on small models: against trying every text, and against greedy decoding. */
#include "infer/beam.h"
#include "infer/stop_ids.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PROMPT = 4, VOCAB = 257 };

static const nib_kv_choice f32 = {0};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static nib_decoder *decoder(const tiny *t, size_t n_seq, size_t n_ctx, int threads)
{
    nib_err err;
    nib_decoder *d;
    const nib_ctx ctx = tiny_ctx(threads);
    must(nib_decoder_new(&d, &t->model, &ctx, n_seq, n_ctx, &f32, NULL, &err), &err);
    return d;
}

static nib_generated search(const tiny *t, const int32_t *prompt, size_t beams, size_t most,
                            const nib_ids *stop, int threads)
{
    nib_err err;
    nib_generated out;
    const nib_generation how = {
        .sampling = NIB_SAMPLING_DEFAULT, .most = most, .stop = stop, .beams = beams};
    nib_decoder *d = decoder(t, beams, PROMPT + most, threads);
    must(nib_beam_search(&out, d, prompt, PROMPT, &how, &err), &err);
    nib_decoder_free(d);
    return out;
}

static double total(const nib_generated *g)
{
    double sum = g->ended_by >= 0 ? g->logprob_end : 0;
    for (size_t i = 0; i < g->n; i++) sum += g->logprob[i];
    return sum;
}

/* log-probabilities of what may follow. */
static void follow(nib_decoder *d, const float *logits, double p[VOCAB])
{
    double most = -INFINITY, sum = 0;
    (void)d;
    for (int i = 0; i < VOCAB; i++) most = fmax(most, (double)logits[i]);
    for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[i] - most);
    for (int i = 0; i < VOCAB; i++) p[i] = (double)logits[i] - most - log(sum);
}

/* Two tokens and 16 beams, where the best text's first token is among the 16 likeliest: the best of
 * all 257 * 257. The best first tokens are tried with everything that may follow. */
static void finds_the_best_of_two(void **state)
{
    (void)state;
    const nib_ids none = {0};
    tiny t;
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    for (int turn = 0; turn < 5; turn++) {
        const int32_t prompt[PROMPT] = {turn, 60 + turn, 30, 9 * turn};
        nib_err err;
        nib_decoder *d = decoder(&t, 1, PROMPT + 2, 1);
        const float *logits;
        double first[VOCAB], second[VOCAB], best = -INFINITY;
        int32_t best_id[2] = {0};
        must(nib_decoder_prompt(d, prompt, PROMPT, &logits, &err), &err);
        follow(d, logits, first);
        for (int32_t a = 0; a < VOCAB; a++) {
            nib_decoder_set_length(d, PROMPT);
            must(nib_decoder_feed(d, &a, 1, 1, 1, &logits, &err), &err);
            follow(d, logits, second);
            for (int32_t b = 0; b < VOCAB; b++)
                if (first[a] + second[b] > best)
                    best = first[a] + second[b], best_id[0] = a, best_id[1] = b;
        }
        int better = 0;
        for (int i = 0; i < VOCAB; i++) better += first[i] > first[best_id[0]];
        assert_true(better < 16);
        nib_generated out = search(&t, prompt, 16, 2, &none, 2);
        assert_int_equal(out.n, 2);
        assert_memory_equal(out.id, best_id, sizeof best_id);
        assert_true(fabs(total(&out) - best) < 1e-5);
        nib_generated_free(&out);
        nib_decoder_free(d);
    }
    tiny_drop(&t);
}

/* Of the demonstration model (NIB_TINY), whose greedy texts other beams lose. */
static void is_no_worse_than_greedy(void **state)
{
    (void)state;
    enum { MOST = 12 };
    const nib_ids none = {0};
    int better = 0;
    tiny t = {0};
    nib_err err;
    must(nib_source_open(&t.src, getenv("NIB_TINY"), &err), &err);
    must(nib_model_open(&t.model, t.src, &err), &err);
    for (int turn = 0; turn < 20; turn++) {
        const int32_t prompt[PROMPT] = {2046, 300 + 70 * turn, 30 + turn, 280};
        nib_generated greedy;
        const nib_generation how = {.sampling = NIB_SAMPLING_DEFAULT, .most = MOST, .stop = &none};
        nib_decoder *d = decoder(&t, 1, PROMPT + MOST, 1);
        must(nib_generate(&greedy, d, prompt, PROMPT, &how, NULL, &err), &err);
        nib_generated out = search(&t, prompt, 8, MOST, &none, 1);
        assert_int_equal(out.n, MOST);
        if (!(total(&out) >= total(&greedy) - 1e-5))
            fail_msg("%.6f, greedily %.6f", total(&out), total(&greedy));
        nib_generated_free(&out);
        out = search(&t, prompt, 2, MOST, &none, 1);
        assert_true(total(&out) >= total(&greedy) - 1e-5);
        better += total(&out) > total(&greedy) + 1e-3;
        nib_decoder_free(d);
        nib_generated_free(&greedy);
        nib_generated_free(&out);
    }
    assert_true(better > 5);
    nib_model_close(&t.model);
    nib_source_close(t.src);
}

/* The log-probabilities that come with a text are those that the model gives it, so the copies of
 * caches went where they belong. */
static void the_cache_goes_with_the_beam(void **state)
{
    (void)state;
    enum { MOST = 20 };
    const int32_t prompt[PROMPT] = {1, 2, 3, 4};
    const nib_ids none = {0};
    nib_err err;
    tiny t;
    tiny_make(&t, "qwen2");
    tiny_open(&t);
    nib_generated out = search(&t, prompt, 5, MOST, &none, 2),
                  again = search(&t, prompt, 5, MOST, &none, 1);
    assert_memory_equal(out.id, again.id, MOST * sizeof *out.id);
    nib_decoder *d = decoder(&t, 1, PROMPT + MOST, 1);
    const float *logits;
    double p[VOCAB];
    must(nib_decoder_prompt(d, prompt, PROMPT, &logits, &err), &err);
    for (size_t i = 0; i < MOST; i++) {
        follow(d, logits, p);
        if (!(fabs(p[out.id[i]] - out.logprob[i]) < 1e-5))
            fail_msg("token %zu: %.7f, not %.7f", i, out.logprob[i], p[out.id[i]]);
        must(nib_decoder_feed(d, &out.id[i], 1, 1, 1, &logits, &err), &err);
    }
    nib_decoder_free(d);
    nib_generated_free(&out);
    nib_generated_free(&again);
    tiny_drop(&t);
}

/* Texts that end are scored by their mean: the result's is no worse than that of any text that is
 * cut off by the first of its tokens that is a stop. */
static void ends_at_a_stop(void **state)
{
    (void)state;
    const int32_t prompt[PROMPT] = {1, 2, 3, 4};
    int32_t ids[40];
    for (int i = 0; i < 40; i++) ids[i] = 6 * i;
    const nib_ids stop = {.id = ids, .n = 40};
    tiny t;
    tiny_make(&t, "llama");
    tiny_open(&t);
    nib_generated out = search(&t, prompt, 4, 30, &stop, 1);
    assert_true(out.ended_by >= 0 && nib_ids_hold(&stop, out.ended_by));
    for (size_t i = 0; i < out.n; i++) assert_false(nib_ids_hold(&stop, out.id[i]));
    assert_true(out.n < 30);
    nib_generated_free(&out);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_best_of_two),
        cmocka_unit_test(is_no_worse_than_greedy),
        cmocka_unit_test(the_cache_goes_with_the_beam),
        cmocka_unit_test(ends_at_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
