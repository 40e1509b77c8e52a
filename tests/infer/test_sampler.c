/* SPDX-License-Identifier: MIT */
/* The sampler: 10,000 draws with each filter against the distribution that its definition gives,
 * computed here the long way round; and what is exact. */
#include "infer/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 40, DRAWS = 10000 };

static float logits[VOCAB];
static const int32_t prompt[] = {3, 7, 7, 12}, output[] = {5, 12, 5};

/* From 3.9 down to about -4, mixed up; tokens 20 and 21 are equal. */
static void fill(void)
{
    for (int i = 0; i < VOCAB; i++) logits[i * 17 % VOCAB] = 4 - 0.2f * (float)i;
    logits[21] = logits[20];
}

static nib_sampler *make(const nib_sampling *how)
{
    nib_err err;
    nib_sampler *s;
    if (nib_sampler_new(&s, how, VOCAB, &err)) fail_msg("%s", err.msg);
    nib_sampler_saw_prompt(s, prompt, sizeof prompt / sizeof *prompt);
    for (size_t i = 0; i < sizeof output / sizeof *output; i++) nib_sampler_saw(s, output[i]);
    return s;
}

/* ---- the definition ---- */

static int holds(const int32_t *id, size_t n, int32_t x)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] == x) return 1;
    return 0;
}

static void normalize(double *p)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) sum += p[i];
    for (int i = 0; i < VOCAB; i++) p[i] /= sum;
}

/* Place of token i when they are sorted, the most likely first. */
static int rank(const double *p, int i)
{
    int r = 0;
    for (int k = 0; k < VOCAB; k++) r += p[k] > p[i] || (p[k] == p[i] && k < i);
    return r;
}

static void expected(double p[VOCAB], const nib_sampling *how)
{
    double by_rank[VOCAB], kept[VOCAB], best = 0;
    int at[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        double l = (double)logits[i];
        const int out = holds(output, 3, i), in = holds(prompt, 4, i);
        if (in || out) l = l > 0 ? l / how->repetition_penalty : l * how->repetition_penalty;
        if (out) l -= how->presence_penalty;
        p[i] = exp(l / how->temperature);
    }
    normalize(p);
    for (int i = 0; i < VOCAB; i++)
        kept[i] = !how->top_k || rank(p, i) < (int)how->top_k ? p[i] : 0;
    memcpy(p, kept, sizeof kept);
    normalize(p);
    for (int i = 0; i < VOCAB; i++) at[rank(p, i)] = i, by_rank[rank(p, i)] = p[i];
    double before = 0;
    for (int r = 0; r < VOCAB; before += by_rank[r], r++)
        if (how->top_p < 1 && before >= how->top_p) p[at[r]] = 0;
    normalize(p);
    for (int i = 0; i < VOCAB; i++) best = p[i] > best ? p[i] : best;
    for (int i = 0; i < VOCAB; i++)
        if (p[i] < how->min_p * best) p[i] = 0;
    normalize(p);
}

/* ---- draws ---- */

/* Above this the statistic is with probability 1e-4, for `free` degrees of freedom (Wilson and
 * Hilferty 1931). Seeds are fixed: the test gives the same result every time. */
static double chi_square_bound(double free)
{
    const double t = 1 - 2 / (9 * free) + 3.719 * sqrt(2 / (9 * free));
    return free * t * t * t;
}

static void check_draws(nib_sampling how)
{
    double p[VOCAB], chi = 0, small = 0;
    int count[VOCAB] = {0}, small_count = 0, cells = 0;
    nib_err err;
    nib_distribution d;
    nib_sampler *s = make(&how);
    expected(p, &how);
    for (int i = 0; i < DRAWS; i++) {
        if (nib_sampler_distribution(s, logits, &d, &err)) fail_msg("%s", err.msg);
        count[nib_sampler_draw(s, &d)]++;
    }
    double sum = 0;
    for (size_t i = 0; i < d.n; i++) {
        sum += d.of[i].p;
        if (fabs(d.of[i].p - p[d.of[i].id]) > 1e-6)
            fail_msg("token %d has probability %.9g, not %.9g", d.of[i].id, d.of[i].p,
                     p[d.of[i].id]);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    for (int i = 0; i < VOCAB; i++) { /* cells of less than 5 are one */
        const double e = p[i] * DRAWS;
        if (p[i] == 0) assert_int_equal(count[i], 0);
        if (e < 5) {
            small += e, small_count += count[i];
            continue;
        }
        chi += (count[i] - e) * (count[i] - e) / e;
        cells++;
    }
    if (small >= 1) chi += (small_count - small) * (small_count - small) / small, cells++;
    assert_true(cells > 1);
    if (chi > chi_square_bound(cells - 1)) fail_msg("chi-square %.1f of %d cells", chi, cells);
    nib_sampler_free(s);
}

#define PLAIN .temperature = 1, .top_p = 1, .repetition_penalty = 1

static void draws_follow_the_definition(void **state)
{
    (void)state;
    fill();
    check_draws((nib_sampling){PLAIN, .seed = 1});
    check_draws((nib_sampling){.temperature = 0.6, .top_p = 1, .repetition_penalty = 1, .seed = 2});
    check_draws((nib_sampling){.temperature = 3, .top_p = 1, .repetition_penalty = 1, .seed = 3});
    check_draws((nib_sampling){PLAIN, .top_k = 5, .seed = 4});
    check_draws((nib_sampling){.temperature = 1, .top_p = 0.7, .repetition_penalty = 1, .seed = 5});
    check_draws((nib_sampling){PLAIN, .min_p = 0.2, .seed = 6});
    check_draws((nib_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1.5, .seed = 7});
    check_draws((nib_sampling){PLAIN, .presence_penalty = 1.2, .seed = 8});
    check_draws((nib_sampling){.temperature = 1.5,
                               .top_k = 20,
                               .top_p = 0.9,
                               .min_p = 0.1,
                               .repetition_penalty = 1.2,
                               .presence_penalty = 0.5,
                               .seed = 9});
}

/* top-p goes by what top-k left: of two tokens with 0.6 and 0.4 of it, the first alone has 0.55. */
static void filters_go_in_order(void **state)
{
    (void)state;
    const float l[4] = {logf(0.3f), logf(0.2f), logf(0.25f), logf(0.25f)};
    const nib_sampling how = {.temperature = 1, .top_k = 2, .top_p = 0.54, .repetition_penalty = 1};
    nib_err err;
    nib_sampler *s;
    nib_distribution d;
    assert_int_equal(nib_sampler_new(&s, &how, 4, &err), NIB_OK);
    assert_int_equal(nib_sampler_distribution(s, l, &d, &err), NIB_OK);
    assert_int_equal(d.n, 1); /* 0.3 / 0.55 = 0.545; of all it would have been 0.3 */
    assert_int_equal(d.of[0].id, 0);
    nib_sampler_free(s);
}

/* Of equals, top-k takes the lower id. */
static void ties_go_to_the_lower_id(void **state)
{
    (void)state;
    const float l[5] = {0, 1, 2, 2, 2};
    const nib_sampling how = {.temperature = 1, .top_k = 2, .top_p = 1, .repetition_penalty = 1};
    const nib_sampling greedy = NIB_SAMPLING_DEFAULT;
    nib_err err;
    nib_sampler *s;
    nib_distribution d;
    assert_int_equal(nib_sampler_new(&s, &how, 5, &err), NIB_OK);
    assert_int_equal(nib_sampler_distribution(s, l, &d, &err), NIB_OK);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.of[0].id, 2);
    assert_int_equal(d.of[1].id, 3);
    nib_sampler_free(s);
    assert_int_equal(nib_sampler_new(&s, &greedy, 5, &err), NIB_OK);
    assert_int_equal(nib_sampler_distribution(s, l, &d, &err), NIB_OK);
    assert_int_equal(nib_sampler_draw(s, &d), 2);
    nib_sampler_free(s);
}

static void greedy_is_the_largest(void **state)
{
    (void)state;
    nib_err err;
    const nib_sampling how = NIB_SAMPLING_DEFAULT;
    nib_sampler *s = make(&how);
    uint32_t seed = 5;
    for (int turn = 0; turn < 1000; turn++) {
        int best = 0;
        nib_distribution d;
        for (int i = 0; i < VOCAB; i++) {
            seed = seed * 1664525u + 1013904223u;
            logits[i] = (float)(seed >> 8) * 1e-6f;
            if (logits[i] > logits[best]) best = i;
        }
        assert_int_equal(nib_sampler_distribution(s, logits, &d, &err), NIB_OK);
        assert_int_equal(d.n, 1);
        assert_int_equal(nib_sampler_draw(s, &d), best);
    }
    nib_sampler_free(s);
}

/* A token that was taken back is as if it had never been. */
static void penalties_can_be_taken_back(void **state)
{
    (void)state;
    const nib_sampling how = {.top_p = 1, .repetition_penalty = 1, .presence_penalty = 10};
    const float l[3] = {1, 2, 3};
    nib_err err;
    nib_sampler *s;
    nib_distribution d;
    assert_int_equal(nib_sampler_new(&s, &how, 3, &err), NIB_OK);
    nib_sampler_saw(s, 2);
    nib_sampler_saw(s, 2);
    for (int left = 2; left >= 0; left--) {
        assert_int_equal(nib_sampler_distribution(s, l, &d, &err), NIB_OK);
        assert_int_equal(d.of[0].id, left ? 1 : 2);
        nib_sampler_forget(s, 2);
    }
    nib_sampler_saw(s, -1); /* no token of the vocabulary */
    nib_sampler_saw(s, 3);
    nib_sampler_free(s);
}

/* xoshiro256** as its authors wrote it down, its state from splitmix64 with seed 0, whose first
 * numbers are E220A8397B1DCDAF ... (Steele, Lea and Flood 2014). */
static void random_numbers_are_the_published_ones(void **state)
{
    (void)state;
    const nib_sampling how = NIB_SAMPLING_DEFAULT;
    nib_err err;
    nib_sampler *s;
    uint64_t x[4] = {0xE220A8397B1DCDAFu, 0x6E789E6AA1B965F4u, 0x06C45D188009454Fu,
                     0xF88BB8A8724C81ECu};
    assert_int_equal(nib_sampler_new(&s, &how, 3, &err), NIB_OK);
    for (int i = 0; i < 100; i++) {
        const uint64_t five = x[1] * 5, r = (five << 7 | five >> 57) * 9, t = x[1] << 17;
        x[2] ^= x[0], x[3] ^= x[1], x[1] ^= x[2], x[0] ^= x[3], x[2] ^= t;
        x[3] = x[3] << 45 | x[3] >> 19;
        assert_true(nib_sampler_uniform(s) == (double)(r >> 11) / 9007199254740992.0);
    }
    nib_sampler_free(s);
}

static void what_is_not_finite_is_an_error(void **state)
{
    (void)state;
    const nib_sampling how = {PLAIN};
    nib_err err;
    nib_sampler *s;
    nib_distribution d;
    const float nan_[3] = {0, NAN, 1}, inf[3] = {0, 1, INFINITY}, some[3] = {-INFINITY, 1, 1},
                none[3] = {-INFINITY, -INFINITY, -INFINITY};
    assert_int_equal(nib_sampler_new(&s, &how, 3, &err), NIB_OK);
    assert_int_equal(nib_sampler_distribution(s, nan_, &d, &err), NIB_ENUMERIC);
    assert_int_equal(nib_sampler_distribution(s, inf, &d, &err), NIB_ENUMERIC);
    assert_int_equal(nib_sampler_distribution(s, none, &d, &err), NIB_ENUMERIC);
    assert_int_equal(nib_sampler_distribution(s, some, &d, &err), NIB_OK);
    for (int i = 0; i < 100; i++) assert_int_not_equal(nib_sampler_draw(s, &d), 0);
    nib_sampler_free(s);
}

static void options_are_checked(void **state)
{
    (void)state;
    const nib_sampling bad[] = {{.temperature = -1, .top_p = 1, .repetition_penalty = 1},
                                {.temperature = NAN, .top_p = 1, .repetition_penalty = 1},
                                {.top_p = 0, .repetition_penalty = 1},
                                {.top_p = 1.1, .repetition_penalty = 1},
                                {.top_p = 1, .min_p = 2, .repetition_penalty = 1},
                                {.top_p = 1, .repetition_penalty = 0},
                                {.top_p = 1, .repetition_penalty = 1, .presence_penalty = NAN}};
    nib_err err;
    nib_sampler *s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(nib_sampler_new(&s, &bad[i], 3, &err), NIB_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_definition),
        cmocka_unit_test(filters_go_in_order),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(greedy_is_the_largest),
        cmocka_unit_test(penalties_can_be_taken_back),
        cmocka_unit_test(random_numbers_are_the_published_ones),
        cmocka_unit_test(what_is_not_finite_is_an_error),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
