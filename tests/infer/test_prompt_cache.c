/* SPDX-License-Identifier: MIT */
/* A prompt's keys and values in a file: what comes back is what was there, another model's and
 * damaged files are refused, every byte of them. */
#include "base/file.h"
#include "infer/kv_cache.h"
#include "infer/prompt_cache.h"
#include "tests/infer/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 40, VOCAB = 257, MODEL = 77 };
static int32_t id[TOKENS];

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void fill(void)
{
    for (int i = 0; i < TOKENS; i++) id[i] = (i * i * 31 + 7) % VOCAB;
}

static nib_kv_choice kind; /* f32 at first */

static nib_decoder *decoder(const tiny *t, size_t n_ctx)
{
    nib_err err;
    nib_decoder *d;
    const nib_ctx ctx = tiny_ctx(1);
    must(nib_decoder_new(&d, &t->model, &ctx, 1, n_ctx, &kind, NULL, &err), &err);
    return d;
}

static const char *path(const tiny *t)
{
    static char p[128];
    snprintf(p, sizeof p, "%s/prompt.kv", t->dir);
    return p;
}

/* The first n tokens of a prompt go into the file. */
static void save(const tiny *t, size_t n)
{
    nib_err err;
    const float *logits;
    nib_decoder *d = decoder(t, TOKENS);
    must(nib_decoder_prompt(d, id, n, &logits, &err), &err);
    must(nib_prompt_cache_save(d, path(t), MODEL, id, n, &err), &err);
    nib_decoder_free(d);
}

/* Logits after n tokens, the file serving for as many as it can. */
static void run(const tiny *t, const int32_t *text, size_t n, bool file, size_t held, float *logits)
{
    nib_err err;
    size_t got = 0;
    const float *now;
    nib_decoder *d = decoder(t, TOKENS);
    if (file) must(nib_prompt_cache_load(d, path(t), MODEL, text, n, &got, &err), &err);
    assert_int_equal(got, held);
    assert_int_equal(nib_decoder_length(d), held < n ? held : n - 1);
    must(nib_decoder_prompt(d, text, n, &now, &err), &err);
    memcpy(logits, now, VOCAB * sizeof *logits);
    nib_decoder_free(d);
}

static void comes_back(void **state)
{
    (void)state;
    tiny t;
    float a[VOCAB], b[VOCAB];
    fill();
    tiny_make(&t, "qwen3");
    tiny_open(&t);
    run(&t, id, 30, false, 0, a);
    run(&t, id, 30, true, 0, b); /* there is no file yet */
    save(&t, 30);
    run(&t, id, 30, true, 30, b);
    assert_memory_equal(a, b, sizeof a); /* the same prompt: the same bits */
    int32_t other[TOKENS];
    memcpy(other, id, sizeof id);
    other[12]++;
    for (size_t n = 5; n <= TOKENS; n += 5) { /* prompts that are shorter, longer, others */
        run(&t, id, n, false, 0, a);
        run(&t, id, n, true, n < 30 ? n : 30, b);
        for (int i = 0; i < VOCAB; i++) assert_true(a[i] - b[i] < 1e-5f && b[i] - a[i] < 1e-5f);
        run(&t, other, n, false, 0, a);
        run(&t, other, n, true, n < 12 ? n : 12, b);
        for (int i = 0; i < VOCAB; i++) assert_true(a[i] - b[i] < 1e-5f && b[i] - a[i] < 1e-5f);
    }
    tiny_drop(&t);
}

static void expect(const tiny *t, uint64_t model, size_t n_ctx, const char *says)
{
    nib_err err;
    size_t held;
    nib_decoder *d = decoder(t, n_ctx);
    assert_int_equal(nib_prompt_cache_load(d, path(t), model, id, n_ctx - 1, &held, &err),
                     NIB_EFORMAT);
    if (!strstr(err.msg, says)) fail_msg("'%s', not '%s'", err.msg, says);
    assert_int_equal(nib_decoder_length(d), 0);
    nib_decoder_free(d);
}

static void others_are_refused(void **state)
{
    (void)state;
    tiny t;
    nib_err err;
    size_t held;
    fill();
    tiny_make(&t, "llama");
    tiny_open(&t);
    save(&t, 30);
    expect(&t, MODEL + 1, TOKENS, "is of another model");
    nib_decoder *d = decoder(&t, 10); /* shorter than what the file holds */
    must(nib_prompt_cache_load(d, path(&t), MODEL, id, 9, &held, &err), &err);
    assert_int_equal(held, 9);
    assert_int_equal(nib_decoder_length(d), 8);
    nib_decoder_free(d);
    t.model.hp.rope_base *= 2;
    expect(&t, MODEL, TOKENS, "is of another model, or of another kind");
    must(nib_file_save(path(&t), "text", 4, true, &err), &err);
    expect(&t, MODEL, TOKENS, "is no prompt cache");
    tiny_drop(&t);
}

enum { LONG = 330 };

/* n tokens go into a file, and a prompt that has all but the last `back` of them goes on from it,
 * token by token, as the decoder does that read them and took these back. */
static void go_on(const tiny *t, size_t n, size_t back)
{
    int32_t text[LONG], first[LONG];
    const bool goes = n <= NIB_KV_RECENT || back <= NIB_KV_BACK;
    const size_t common = n - back, length = goes ? common : 0;
    const float *logits[2];
    size_t held;
    nib_err err;
    nib_decoder *d[2] = {decoder(t, LONG), decoder(t, LONG)};
    for (int i = 0; i < LONG; i++) text[i] = first[i] = (i * i * 31 + 7) % VOCAB;
    if (back) first[common] = (first[common] + 1) % VOCAB;
    must(nib_decoder_prompt(d[0], first, n, &logits[0], &err), &err);
    must(nib_prompt_cache_save(d[0], path(t), MODEL, first, n, &err), &err);
    must(nib_prompt_cache_load(d[1], path(t), MODEL, text, LONG, &held, &err), &err);
    assert_int_equal(held, common);
    assert_int_equal(nib_decoder_length(d[1]), length);
    nib_decoder_set_length(d[0], common);
    for (size_t at = common; at < LONG && back <= NIB_KV_BACK; at++) {
        for (int i = 0; i < 2; i++)
            must(nib_decoder_feed(d[i], text + at, 1, 1, 1, &logits[i], &err), &err);
        if (memcmp(logits[0], logits[1], VOCAB * sizeof(float)) != 0)
            fail_msg("%zu of %zu tokens, then token %zu", common, n, at);
    }
    for (int i = 0; i < 2; i++) nib_decoder_free(d[i]);
}

/* Formats whose youngest tokens stay as they were until others follow, on both sides or on one. */
static void kivi_comes_back(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"kivi4", "kivi2"}, {"kivi2", "q8_0"}, {"f32", "kivi4"}};
    static const size_t saved[] = {20, 130, 144, 145, 256, 271, 300}, back[] = {0, 1, 16, 17};
    tiny t;
    tiny_make_wide(&t, "qwen3");
    tiny_open(&t);
    for (size_t k = 0; k < 3; k++)
        for (size_t s = 0; s < sizeof saved / sizeof *saved; s++)
            for (size_t b = 0; b < sizeof back / sizeof *back; b++) {
                for (int of = 0; of < 2; of++)
                    kind.of[of] = (nib_kv_side){nib_kv_find(kinds[k][of]), false};
                go_on(&t, saved[s], back[b]);
            }
    kind = (nib_kv_choice){0};
    tiny_drop(&t);
}

/* Every byte of the head and the tokens, and many of the rest; every length. */
static void find_damage(const tiny *t, size_t n_saved)
{
    nib_err err;
    size_t n, held;
    char *data;
    save(t, n_saved);
    must(nib_file_slurp(&data, &n, path(t), 1 << 24, &err), &err);
    nib_decoder *d = decoder(t, TOKENS);
    for (size_t i = 0; i < n; i += i < 100 ? 1 : 97) {
        data[i] ^= 0x41;
        must(nib_file_save(path(t), data, n, true, &err), &err);
        data[i] ^= 0x41;
        if (nib_prompt_cache_load(d, path(t), MODEL, id, 20, &held, &err) != NIB_EFORMAT)
            fail_msg("byte %zu may be anything", i);
        assert_int_equal(nib_decoder_length(d), 0);
    }
    for (size_t i = 0; i < n; i += i < 100 ? 1 : 997) {
        must(nib_file_save(path(t), data, i, true, &err), &err);
        assert_int_equal(nib_prompt_cache_load(d, path(t), MODEL, id, 20, &held, &err),
                         NIB_EFORMAT);
    }
    must(nib_file_save(path(t), data, n, true, &err), &err);
    must(nib_prompt_cache_load(d, path(t), MODEL, id, 20, &held, &err), &err);
    nib_decoder_free(d);
    nib_free(data);
}

static void damage_is_found(void **state)
{
    (void)state;
    tiny t;
    fill();
    tiny_make_wide(&t, "llama");
    tiny_open(&t);
    find_damage(&t, 6);
    kind = nib_kv_both(nib_kv_find("kivi2"), false);
    find_damage(&t, 34);
    kind = (nib_kv_choice){0};
    tiny_drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(kivi_comes_back),
        cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
