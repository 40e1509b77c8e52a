/* SPDX-License-Identifier: MIT */
/* Texts to windows: chosen by seed, in proportion, each a run of the text's tokens behind a BOS. */
#include "base/mem.h"
#include "calib/text.h"
#include "tests/calib/tmp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static nib_source *src;
static nib_tokenizer *tok;
static char path[3][128];
static nib_ids all[3]; /* tokens of the whole texts, BOS in front */

enum { CTX = 32 };

/* Three texts of numbered sentences, of about 600, 300 and 100 sentences. */
static int open_all(void **state)
{
    nib_err err = {0};
    static char text[64 * 1024];
    static const int sentences[3] = {600, 300, 100};
    if (tmp_make(state)) return -1;
    if (nib_source_open(&src, getenv("NIB_TINY"), &err) || nib_tokenizer_open(&tok, src, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    for (int t = 0; t < 3; t++) {
        size_t n = 0;
        for (int i = 0; i < sentences[t]; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "Text %d holds sentence %d, truly.\n",
                                  t, i);
        char name[16];
        snprintf(name, sizeof name, "t%d.txt", t);
        snprintf(path[t], sizeof path[t], "%s", tmp_write(name, text, n));
        if (nib_tokenizer_encode(tok, text, n - 1, NIB_TOK_ADD_SPECIAL, &all[t], &err)) return -1;
    }
    return 0;
}

static int close_all(void **state)
{
    for (int t = 0; t < 3; t++) nib_ids_free(&all[t]);
    nib_tokenizer_close(tok);
    nib_source_close(src);
    return tmp_remove(state);
}

static nib_windows pick(const nib_text_spec *texts, size_t n, size_t most, uint64_t seed)
{
    nib_windows w;
    nib_err err = {0};
    if (nib_windows_pick(&w, texts, n, tok, false, CTX, most, seed, &err)) fail_msg("%s", err.msg);
    return w;
}

/* Which window of which text this is: t * 10000 + index; -1 when it is none. The first token is
 * compared with BOS. */
static int identify(const int32_t *id)
{
    for (int t = 0; t < 3; t++)
        for (size_t i = 0; (i + 1) * CTX <= all[t].n; i++)
            if (!memcmp(id + 1, all[t].id + i * CTX + 1, (CTX - 1) * sizeof *id))
                return id[0] == nib_tokenizer_bos(tok) ? t * 10000 + (int)i : -1;
    return -1;
}

static void all_windows_in_order(void **state)
{
    (void)state;
    nib_windows w = pick(&(nib_text_spec){path[2], 0}, 1, 100000, 1);
    assert_true(nib_tokenizer_adds_bos(tok));
    assert_int_equal(w.n_tokens, all[2].n);
    assert_int_equal(w.n, all[2].n / CTX);
    assert_int_equal(w.n_available, w.n);
    for (size_t i = 0; i < w.n; i++) assert_int_equal(identify(w.id + i * CTX), 20000 + (int)i);
    nib_windows_free(&w);
}

static void a_seed_decides(void **state)
{
    (void)state;
    nib_text_spec texts[] = {{path[0], 0}, {path[1], 0}};
    nib_windows a = pick(texts, 2, 40, 7), b = pick(texts, 2, 40, 7), c = pick(texts, 2, 40, 8);
    assert_int_equal(a.n, 40);
    assert_memory_equal(a.id, b.id, 40 * CTX * sizeof *a.id);
    assert_memory_not_equal(a.id, c.id, 40 * CTX * sizeof *a.id);
    int last = -1;
    for (size_t i = 0; i < a.n; i++) { /* real windows, none twice, in order */
        int at = identify(a.id + i * CTX);
        assert_true(at > last);
        last = at;
    }
    nib_windows_free(&a);
    nib_windows_free(&b);
    nib_windows_free(&c);
}

/* Over many seeds every window is chosen about equally often. */
static void choice_is_even(void **state)
{
    (void)state;
    enum { SEEDS = 60, MOST = 400 };
    static int hits[MOST];
    nib_text_spec text = {path[1], 0};
    size_t n = all[1].n / CTX, take = n / 4;
    assert_true(n <= MOST && take >= 10);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        nib_windows w = pick(&text, 1, take, seed);
        for (size_t i = 0; i < w.n; i++) hits[identify(w.id + i * CTX) - 10000]++;
        nib_windows_free(&w);
    }
    /* Binomial: mean 15, standard deviation 3.4; five of those is a broken generator. */
    for (size_t i = 0; i < n; i++) assert_true(abs(hits[i] - SEEDS / 4) < 17);
    double first = 0, second = 0;
    for (size_t i = 0; i < n; i++) *(i < n / 2 ? &first : &second) += hits[i];
    assert_true(fabs(first / (first + second) - (double)(n / 2) / (double)n) < 0.06);
}

static void counts_by_text(const nib_windows *w, size_t count[3])
{
    memset(count, 0, 3 * sizeof *count);
    for (size_t i = 0; i < w->n; i++) {
        int at = identify(w->id + i * CTX);
        assert_true(at >= 0);
        count[at / 10000]++;
    }
}

static void weights_are_kept(void **state)
{
    (void)state;
    size_t got[3];
    nib_text_spec texts[] = {{path[0], 1}, {path[1], 2}, {path[2], 1}};
    nib_windows w = pick(texts, 3, 40, 3);
    counts_by_text(&w, got);
    assert_true(got[0] == 10 && got[1] == 20 && got[2] == 10);
    nib_windows_free(&w);

    w = pick(texts, 3, 41,
             3); /* shares 10.25, 20.5, 10.25: the largest remainder gets the odd one */
    counts_by_text(&w, got);
    assert_true(got[0] == 10 && got[1] == 21 && got[2] == 10);
    nib_windows_free(&w);

    texts[2].weight = 1000; /* the short text is the scarce one: nothing else in its place */
    texts[0].weight = texts[1].weight = 500;
    size_t n = all[2].n / CTX;
    w = pick(texts, 3, 100000, 3);
    counts_by_text(&w, got);
    assert_int_equal(got[2], n);
    assert_true(got[0] + got[1] == n && got[0] - got[1] + 1 <= 2);
    nib_windows_free(&w);

    texts[0].weight = texts[1].weight = texts[2].weight = 0; /* by length */
    w = pick(texts, 3, 60, 3);
    counts_by_text(&w, got);
    for (int t = 0; t < 3; t++)
        assert_true(fabs((double)got[t] - 60.0 * (double)(all[t].n / CTX) / (double)w.n_available) <
                    1);
    assert_int_equal(w.n, 60);
    nib_windows_free(&w);
}

static void refuses(const nib_text_spec *texts, size_t n, size_t n_ctx, nib_code code,
                    const char *part)
{
    nib_windows w;
    nib_err err = {0};
    assert_int_equal(nib_windows_pick(&w, texts, n, tok, false, n_ctx, 10, 0, &err), code);
    assert_null(w.id);
    tmp_expect(err.msg, part);
}

static void impossible_wishes_are_refused(void **state)
{
    (void)state;
    char part[256];
    nib_text_spec texts[] = {{path[0], 1}, {path[1], 0}};
    refuses(texts, 2, CTX, NIB_EINVAL, "1 of 2 texts have a weight");
    texts[1].weight = -1;
    refuses(texts, 2, CTX, NIB_EINVAL, "weight -1");
    texts[1].weight = NAN;
    refuses(texts, 2, CTX, NIB_EINVAL, "weight");
    refuses(texts, 0, CTX, NIB_EINVAL, "no text");
    snprintf(part, sizeof part, "%s: the text has %zu tokens, fewer than one window of %zu",
             path[2], all[2].n, all[2].n + 1);
    refuses(&(nib_text_spec){path[2], 0}, 1, all[2].n + 1, NIB_EINVAL, part);
    refuses(&(nib_text_spec){"/nonexistent/x.txt", 0}, 1, CTX, NIB_EIO, "/nonexistent/x.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_windows_in_order),
        cmocka_unit_test(a_seed_decides),
        cmocka_unit_test(choice_is_even),
        cmocka_unit_test(weights_are_kept),
        cmocka_unit_test(impossible_wishes_are_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
