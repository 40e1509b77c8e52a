/* SPDX-License-Identifier: MIT */
/* Merging: against a version that follows the definition word for word. */
#include "infer/tokenizer_bpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { N_MERGES = 300, WORD_MAX = 700 };

typedef struct {
    int32_t left, right;
} pair;

static uint32_t state = 1;
static uint32_t rnd(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* Merge k makes token 256 + k; bytes are tokens of their own value. */
static nib_bpe make(pair *m, size_t n)
{
    nib_err err;
    nib_bpe b;
    assert_int_equal(nib_bpe_init(&b, n, &err), NIB_OK);
    for (size_t k = 0; k < n; k++)
        assert_true(nib_bpe_add(&b, m[k].left, m[k].right, 256 + (int32_t)k, (uint32_t)k));
    return b;
}

/* Tokens of a word of bytes, in w->id; how many. */
static size_t merge(const nib_bpe *b, nib_bpe_work *w, const char *word, size_t n)
{
    nib_err err;
    assert_int_equal(nib_bpe_reserve(w, n, &err), NIB_OK);
    for (size_t i = 0; i < n; i++) w->id[i] = (unsigned char)word[i];
    return nib_bpe_merge_all(b, w, n);
}

/* The definition: again and again, the first place of the lowest merge that applies anywhere. */
static size_t by_definition(const pair *m, size_t n_merges, int32_t *id, size_t n)
{
    for (size_t k = 0; k < n_merges; k++) {
        for (size_t i = 0; i + 1 < n; i++) {
            if (id[i] != m[k].left || id[i + 1] != m[k].right) continue;
            id[i] = 256 + (int32_t)k;
            memmove(id + i + 1, id + i + 2, (n - i - 2) * sizeof *id);
            n--;
            k = (size_t)-1; /* from the lowest rank again */
            break;
        }
    }
    return n;
}

static void any_word_merges_as_defined(void **unused)
{
    (void)unused;
    for (int round = 0; round < 20; round++) {
        pair m[N_MERGES];
        size_t n = 0;
        while (n < N_MERGES) { /* parts are letters or earlier results, no pair twice */
            pair p = {(int32_t)(rnd(3) ? 'a' + rnd(3)
                                : n    ? 256 + rnd((uint32_t)n)
                                       : 'a'),
                      (int32_t)(rnd(3) ? 'a' + rnd(3)
                                : n    ? 256 + rnd((uint32_t)n)
                                       : 'a')};
            bool known = false;
            for (size_t i = 0; i < n; i++)
                known = known || (m[i].left == p.left && m[i].right == p.right);
            if (!known) m[n++] = p;
        }
        nib_bpe b = make(m, n);
        nib_bpe_work w = {0};
        static const size_t sizes[] = {0, 1, 2, 3, 7, 46, 47, 48, 49, 50, 51, 100, WORD_MAX};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            char word[WORD_MAX];
            int32_t want[WORD_MAX];
            size_t got;
            for (size_t i = 0; i < sizes[s]; i++) want[i] = word[i] = (char)('a' + rnd(3));
            size_t k = by_definition(m, n, want, sizes[s]);
            got = merge(&b, &w, word, sizes[s]);
            assert_int_equal(got, k);
            if (k) assert_memory_equal(w.id, want, k * sizeof *want);
        }
        nib_bpe_work_fini(&w);
        nib_bpe_fini(&b);
    }
}

static void equal_ranks_go_from_the_left(void **unused)
{
    (void)unused;
    pair m[] = {{'a', 'a'}};
    nib_bpe b = make(m, 1);
    nib_bpe_work w = {0};
    size_t n;
    n = merge(&b, &w, "aaa", 3);
    assert_int_equal(n, 2);
    assert_int_equal(w.id[0], 256);
    assert_int_equal(w.id[1], 'a');
    nib_bpe_work_fini(&w);
    nib_bpe_fini(&b);
}

static void a_pair_has_one_rank(void **unused)
{
    (void)unused;
    pair m[] = {{'a', 'b'}};
    nib_bpe b = make(m, 1);
    assert_false(nib_bpe_add(&b, 'a', 'b', 257, 1));
    assert_true(nib_bpe_add(&b, 'b', 'a', 257, 1));
    nib_bpe_fini(&b);
}

/* Quadratic time would take hours here; the bound is loose for slow machines. */
static void a_megabyte_without_a_space_is_no_problem(void **unused)
{
    (void)unused;
    enum { N = 1 << 20 };
    pair m[20] = {{'a', 'a'}};
    for (int k = 1; k < 20; k++) m[k] = (pair){255 + k, 255 + k};
    nib_bpe b = make(m, 20);
    nib_bpe_work w = {0};
    size_t n;
    char *word = nib_alloc(N, 1);
    assert_non_null(word);
    memset(word, 'a', N);
    clock_t start = clock();
    n = merge(&b, &w, word, N);
    assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
    assert_int_equal(n, 1);
    assert_int_equal(w.id[0], 256 + 19);
    nib_free(word);
    nib_bpe_work_fini(&w);
    nib_bpe_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_word_merges_as_defined),
        cmocka_unit_test(equal_ranks_go_from_the_left),
        cmocka_unit_test(a_pair_has_one_rank),
        cmocka_unit_test(a_megabyte_without_a_space_is_no_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
