/* SPDX-License-Identifier: MIT */
/* What is generated: greedily what the whole window finds likeliest; with a draft the same, and at
 * random distributed as without it. */
#include "infer/generate.h"
#include "infer/loss.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PROMPT = 5 };
static const int32_t prompt[PROMPT] = {3, 50, 7, 120, 33};

static const nib_kv_choice f32 = {0};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* A small model whose weights are another seed's, opened. */
static void make(tiny *t, uint64_t seed)
{
    const gen_spec spec = {.family = gen_family_find("qwen3"),
                           .layers = 2,
                           .hidden = 64,
                           .ff = 96,
                           .heads = 4,
                           .kv_heads = 2,
                           .head_dim = 16,
                           .vocab = 257,
                           .dtype = NIB_BF16,
                           .shards = 1,
                           .seed = seed};
    tiny_make_spec(t, spec);
    tiny_open(t);
}

static nib_decoder *decoder(const tiny *t, size_t n_ctx, int threads)
{
    nib_err err;
    nib_decoder *d;
    const nib_ctx ctx = tiny_ctx(threads);
    must(nib_decoder_new(&d, &t->model, &ctx, 1, n_ctx, &f32, NULL, &err), &err);
    return d;
}

static nib_generated generate(const tiny *t, const tiny *draft, nib_generation how, int threads)
{
    nib_err err;
    nib_generated out;
    static const nib_ids none = {0};
    nib_decoder *d = decoder(t, PROMPT + how.most, threads);
    if (draft) how.draft = decoder(draft, PROMPT + how.most, threads);
    if (!how.stop) how.stop = &none;
    must(nib_generate(&out, d, prompt, PROMPT, &how, NULL, &err), &err);
    nib_decoder_free(d);
    nib_decoder_free(how.draft);
    return out;
}

typedef struct {
    int32_t best, *id;
    double logprob;
} likeliest;

static void look(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    likeliest *l = arg;
    (void)row;
    l->best = 0;
    for (size_t i = 1; i < n_vocab; i++)
        if (logits[i] > logits[l->best]) l->best = (int32_t)i;
    l->logprob = -nib_loss_token(nib_ops_get(0), logits, n_vocab, l->best);
}

/* Greedy decoding the slow way: the whole text from the start for every token. */
static void greedy_is_the_likeliest(void **state)
{
    (void)state;
    enum { MOST = 30 };
    tiny t;
    make(&t, 7);
    const nib_generation how = {.sampling = NIB_SAMPLING_DEFAULT, .most = MOST};
    nib_generated out = generate(&t, NULL, how, 2);
    assert_int_equal(out.n, MOST);
    assert_int_equal(out.ended_by, -1);
    int32_t id[PROMPT + MOST];
    memcpy(id, prompt, sizeof prompt);
    float *x = malloc((PROMPT + MOST) * t.model.hp.n_embd * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < MOST; i++) {
        nib_err err;
        nib_graph *g;
        const nib_ctx ctx = tiny_ctx(1);
        const size_t n = PROMPT + i, last = n - 1;
        likeliest l;
        must(nib_graph_new(&g, &t.model, &ctx, 1, n, false, &err), &err);
        must(nib_graph_embed(g, id, n, x, &err), &err);
        for (uint32_t b = 0; b < t.model.hp.n_layer; b++)
            must(nib_graph_block(g, b, x, 1, n, 0, NULL, &err), &err);
        must(nib_graph_logits(g, x, &last, 1, look, &l, NULL, &err), &err);
        nib_graph_free(g);
        assert_int_equal(out.id[i], l.best);
        assert_true(fabs(out.logprob[i] - l.logprob) < 1e-4);
        id[n] = l.best;
    }
    free(x);
    nib_generated_free(&out);
    tiny_drop(&t);
}

static void same_text(const nib_generated *a, const nib_generated *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->ended_by, b->ended_by);
    assert_memory_equal(a->id, b->id, a->n * sizeof *a->id);
    assert_memory_equal(a->logprob, b->logprob, a->n * sizeof *a->logprob);
}

static void a_draft_changes_nothing_greedily(void **state)
{
    (void)state;
    tiny t, other;
    make(&t, 7);
    make(&other, 8);
    nib_generation how = {.sampling = NIB_SAMPLING_DEFAULT, .most = 40};
    nib_generated alone = generate(&t, NULL, how, 1);
    for (how.n_draft = 1; how.n_draft <= NIB_DRAFT_MAX; how.n_draft += 7) {
        nib_generated itself = generate(&t, &t, how, 2), with = generate(&t, &other, how, 2);
        same_text(&alone, &itself);
        same_text(&alone, &with);
        assert_int_equal(itself.n_accepted, itself.n_proposed);
        /* Of the 39 after the first one, each round's last is the model's own. */
        assert_int_equal(itself.n_proposed, 39 - (39 + how.n_draft) / (how.n_draft + 1));
        assert_true(with.n_accepted < with.n_proposed);
        nib_generated_free(&itself);
        nib_generated_free(&with);
    }
    nib_generated_free(&alone);
    tiny_drop(&t);
    tiny_drop(&other);
}

static void penalties_hold_with_a_draft(void **state)
{
    (void)state;
    tiny t, other;
    make(&t, 7);
    make(&other, 8);
    nib_generation how = {
        .sampling = {.top_p = 1, .repetition_penalty = 1.3, .presence_penalty = 1},
        .most = 30,
        .n_draft = 4};
    nib_generated alone = generate(&t, NULL, how, 1), itself = generate(&t, &t, how, 1),
                  with = generate(&t, &other, how, 2);
    same_text(&alone, &itself);
    same_text(&alone, &with);
    assert_int_equal(itself.n_accepted, itself.n_proposed);
    nib_generated_free(&alone);
    nib_generated_free(&itself);
    nib_generated_free(&with);
    tiny_drop(&t);
    tiny_drop(&other);
}

static void threads_and_seed(void **state)
{
    (void)state;
    tiny t;
    make(&t, 7);
    nib_generation how = {
        .sampling = {.temperature = 1, .top_p = 0.9, .repetition_penalty = 1, .seed = 5},
        .most = 20};
    nib_generated one = generate(&t, NULL, how, 1), many = generate(&t, NULL, how, 5);
    same_text(&one, &many);
    how.sampling.seed = 6;
    nib_generated other = generate(&t, NULL, how, 1);
    assert_memory_not_equal(one.id, other.id, 20 * sizeof *one.id);
    nib_generated_free(&one);
    nib_generated_free(&many);
    nib_generated_free(&other);
    tiny_drop(&t);
}

/* ---- the distribution ---- */

/* Draws are from the K likeliest, LENGTH times: K^LENGTH texts. */
enum { K = 3, LENGTH = 3, TEXTS = 27, RUNS = 3000 };

static const nib_sampling some = {
    .temperature = 1.5, .top_k = K, .top_p = 1, .repetition_penalty = 1};

typedef struct {
    int32_t id[LENGTH];
    double p;
} text;

/* All texts with their probabilities, by the rule of chains. */
static void all_texts(const tiny *t, text texts[TEXTS])
{
    nib_err err;
    nib_decoder *d = decoder(t, PROMPT + LENGTH, 1);
    nib_sampler *s;
    must(nib_sampler_new(&s, &some, t->model.hp.n_vocab, &err), &err);
    for (int i = 0; i < TEXTS; i++) {
        static const int step[LENGTH] = {1, K, K * K};
        const float *logits;
        nib_decoder_set_length(d, 0);
        must(nib_decoder_prompt(d, prompt, PROMPT, &logits, &err), &err);
        texts[i].p = 1;
        for (int k = 0; k < LENGTH; k++) {
            nib_distribution dist;
            must(nib_sampler_distribution(s, logits, &dist, &err), &err);
            assert_int_equal(dist.n, K);
            texts[i].id[k] = dist.of[i / step[k] % K].id;
            texts[i].p *= dist.of[i / step[k] % K].p;
            must(nib_decoder_feed(d, &texts[i].id[k], 1, 1, 1, &logits, &err), &err);
        }
    }
    nib_sampler_free(s);
    nib_decoder_free(d);
}

/* The most that chi-square is with probability 1 - 1e-4 for 26 degrees of freedom. */
static const double CHI_26 = 61.7;

static void check_distribution(const tiny *t, const tiny *draft, size_t *kept, size_t *proposed)
{
    text texts[TEXTS];
    int count[TEXTS] = {0};
    static const nib_ids none = {0};
    nib_err err;
    all_texts(t, texts);
    nib_decoder *d = decoder(t, PROMPT + LENGTH, 1),
                *small = draft ? decoder(draft, PROMPT + LENGTH, 1) : NULL;
    *kept = *proposed = 0;
    for (uint64_t i = 0; i < RUNS; i++) {
        nib_generated out;
        nib_generation how = {
            .sampling = some, .most = LENGTH, .stop = &none, .draft = small, .n_draft = 2};
        how.sampling.seed = i;
        nib_decoder_set_length(d, 0);
        if (small) nib_decoder_set_length(small, 0);
        must(nib_generate(&out, d, prompt, PROMPT, &how, NULL, &err), &err);
        int at = 0;
        while (at < TEXTS && memcmp(texts[at].id, out.id, sizeof texts[at].id)) at++;
        assert_true(at < TEXTS);
        count[at]++;
        *kept += out.n_accepted;
        *proposed += out.n_proposed;
        nib_generated_free(&out);
    }
    double chi = 0;
    for (int i = 0; i < TEXTS; i++) {
        const double e = texts[i].p * RUNS;
        assert_true(e > 5);
        chi += (count[i] - e) * (count[i] - e) / e;
    }
    if (chi > CHI_26) fail_msg("chi-square %.1f of %d texts", chi, TEXTS);
    nib_decoder_free(d);
    nib_decoder_free(small);
}

static void a_draft_keeps_the_distribution(void **state)
{
    (void)state;
    tiny t, near, far;
    size_t kept, proposed;
    make(&t, 7);
    make(&far, 8);
    make(&near, 7);
    near.model.hp.logit_divisor = 2; /* the same order, other probabilities */
    check_distribution(&t, NULL, &kept, &proposed);
    assert_int_equal(proposed, 0);
    check_distribution(&t, &near, &kept, &proposed);
    assert_true(kept > proposed / 2 && kept < proposed);
    check_distribution(&t, &far, &kept, &proposed);
    assert_true(kept < proposed / 2);
    tiny_drop(&t);
    tiny_drop(&near);
    tiny_drop(&far);
}

/* ---- the end ---- */

static void stops_at_a_token(void **state)
{
    (void)state;
    tiny t;
    make(&t, 7);
    nib_generation how = {.sampling = NIB_SAMPLING_DEFAULT, .most = 30, .n_draft = 4};
    nib_generated all = generate(&t, NULL, how, 1);
    int32_t id = all.id[12];
    size_t first = 0;
    while (all.id[first] != id) first++;
    const nib_ids stop = {.id = &id, .n = 1};
    how.stop = &stop;
    for (int draft = 0; draft < 2; draft++) {
        nib_generated out = generate(&t, draft ? &t : NULL, how, 1);
        assert_int_equal(out.n, first);
        assert_int_equal(out.ended_by, id);
        assert_true(out.logprob_end == all.logprob[first]);
        nib_generated_free(&out);
    }
    nib_generated_free(&all);
    tiny_drop(&t);
}

static nib_code refuse(void *arg, int32_t id, nib_err *err)
{
    size_t *n = arg;
    (void)id;
    return ++*n == 3 ? nib_fail(err, NIB_EIO, "no more") : NIB_OK;
}

static void who_listens_may_end_it(void **state)
{
    (void)state;
    tiny t;
    nib_err err;
    nib_generated out;
    size_t n = 0;
    const nib_ids none = {0};
    const nib_token_sink sink = {refuse, &n};
    const nib_generation how = {.sampling = NIB_SAMPLING_DEFAULT, .most = 9, .stop = &none};
    make(&t, 7);
    nib_decoder *d = decoder(&t, PROMPT + 9, 1);
    assert_int_equal(nib_generate(&out, d, prompt, PROMPT, &how, &sink, &err), NIB_EIO);
    assert_int_equal(n, 3);
    nib_generated_free(&out);
    nib_decoder_free(d);
    tiny_drop(&t);
}

/* Each allocation failing once: an error, no crash, no leak. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    tiny t;
    make(&t, 7);
    nib_code rc = NIB_ENOMEM;
    for (long n = 1; rc && n < 200; n++) {
        nib_err err;
        nib_decoder *d = NULL, *small = NULL;
        nib_generated out = {0};
        const nib_ids none = {0};
        const nib_ctx ctx = tiny_ctx(1);
        nib_generation how = {.sampling = {.top_p = 1, .repetition_penalty = 1},
                              .most = 4,
                              .stop = &none,
                              .n_draft = 2};
        nib_mem_fail_at(n);
        rc = nib_decoder_new(&d, &t.model, &ctx, 1, PROMPT + 4, &f32, NULL, &err);
        if (!rc) rc = nib_decoder_new(&small, &t.model, &ctx, 1, PROMPT + 4, &f32, NULL, &err);
        how.draft = small;
        if (!rc) rc = nib_generate(&out, d, prompt, PROMPT, &how, NULL, &err);
        nib_mem_fail_at(0);
        nib_generated_free(&out);
        nib_decoder_free(d);
        nib_decoder_free(small);
        assert_true(rc == NIB_OK || rc == NIB_ENOMEM);
        assert_true(n > 20 || rc == NIB_ENOMEM);
    }
    assert_int_equal(rc, NIB_OK);
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_is_the_likeliest),
        cmocka_unit_test(a_draft_changes_nothing_greedily),
        cmocka_unit_test(penalties_hold_with_a_draft),
        cmocka_unit_test(threads_and_seed),
        cmocka_unit_test(a_draft_keeps_the_distribution),
        cmocka_unit_test(stops_at_a_token),
        cmocka_unit_test(who_listens_may_end_it),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
