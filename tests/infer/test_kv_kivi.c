/* SPDX-License-Identifier: MIT */
/* KIVI's keys and values: codes of the definition (the argument is tests/golden/kv_cache), who sees
 * what, in whatever batches the tokens came, and what is taken back and copied. */
#include "base/cpu.h"
#include "base/half.h"
#include "formats/source.h"
#include "infer/attn.h"
#include "infer/decoder.h"
#include "infer/kv_kivi.h"
#include "tests/infer/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { G = NIB_KIVI_GROUP, R = NIB_KIVI_RECENT };
static const unsigned all_bits[] = {2, 4, 8};
static const char *const names[] = {"kivi2", "kivi4", "kivi8"};

static const char *golden;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static float noise(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(*s >> 8) / (1 << 23) - 1;
}

static float half(float x)
{
    return nib_f16_to_f32(nib_f32_to_f16(x));
}

/* ---- codes ---- */

static void *contents(const nib_source *s, const char *name, size_t bytes)
{
    nib_err err;
    const nib_tensor *t = nib_source_find(s, name);
    if (!t) fail_msg("no %s", name);
    assert_int_equal(t->bytes, bytes);
    void *p = malloc(bytes);
    assert_non_null(p);
    must(nib_source_read(s, t, 0, p, bytes, &err), &err);
    return p;
}

/* Keys of 64 tokens, 2 heads of 128 channels, 2 bits: every code, scale and minimum. */
static void keys_are_the_definitions(void **state)
{
    (void)state;
    enum { TOKENS = 64, HEADS = 2, DIM = 128, ROW = HEADS * DIM };
    nib_err err;
    nib_source *s;
    char path[256];
    snprintf(path, sizeof path, "%s/fp8_int8_kivi.safetensors", golden);
    must(nib_source_open(&s, path, &err), &err);
    float *x = contents(s, "kivi.K", TOKENS * ROW * sizeof *x);
    float *scale = contents(s, "kivi.K.scale", TOKENS / G * ROW * sizeof *scale);
    float *min = contents(s, "kivi.K.min", TOKENS / G * ROW * sizeof *min);
    uint8_t *code = contents(s, "kivi.K.codes", TOKENS * ROW);
    for (size_t at = 0; at < TOKENS; at += G)
        for (size_t h = 0; h < HEADS; h++) {
            const float *token[G];
            uint8_t bytes[G * 48];
            float got[G * DIM];
            assert_int_equal(nib_kivi_head_bytes(2, DIM), 48);
            for (size_t i = 0; i < G; i++) token[i] = x + (at + i) * ROW + h * DIM;
            nib_kivi_encode_keys(2, bytes, token, DIM);
            nib_kivi_decode_keys(2, got, bytes, 0, G, DIM);
            for (size_t i = 0; i < G * DIM; i++) {
                const size_t c = h * DIM + i % DIM, p = at / G * ROW + c;
                const float want =
                    (float)code[(at + i / DIM) * ROW + c] * half(scale[p]) + half(min[p]);
                if (got[i] != want)
                    fail_msg("token %zu, channel %zu: %.8g, not %.8g", at + i / DIM, c,
                             (double)got[i], (double)want);
            }
        }
    free(x), free(scale), free(min), free(code);
    nib_source_close(s);
}

/* What x[n], `step` apart, becomes: the definition, in doubles but for what is kept in F16. */
static void by_definition(unsigned bits, float *to, const float *x, size_t step)
{
    const float top = (float)((1 << bits) - 1);
    float lo = x[0], hi = x[0];
    for (size_t i = 1; i < G; i++) lo = fminf(lo, x[i * step]), hi = fmaxf(hi, x[i * step]);
    const float s = (hi - lo) / top;
    for (size_t i = 0; i < G; i++)
        to[i * step] = rintf((x[i * step] - lo) / s) * half(s) + half(lo);
}

/* Values, and keys, of all widths of codes; a part of the tokens of a group. */
static void all_widths(void **state)
{
    (void)state;
    enum { DIM = 96 };
    uint32_t seed = 3;
    for (size_t b = 0; b < 3; b++)
        for (int turn = 0; turn < 50; turn++) {
            const unsigned bits = all_bits[b];
            static float x[G * DIM], want[G * DIM], got[G * DIM];
            uint8_t bytes[G * 108];
            const float *token[G];
            const size_t head = nib_kivi_head_bytes(bits, DIM);
            assert_int_equal(head, DIM * bits / 8 + 4 * DIM / G);
            for (size_t i = 0; i < G * DIM; i++)
                x[i] = noise(&seed) * (float)(turn + 1) + (float)(i % 7);
            for (size_t i = 0; i < G; i++) {
                token[i] = x + i * DIM;
                for (size_t c = 0; c < DIM; c += G)
                    by_definition(bits, want + i * DIM + c, token[i] + c, 1);
                nib_kivi_encode(bits, bytes, token[i], DIM);
                nib_kivi_decode(bits, got + i * DIM, bytes, DIM);
            }
            assert_memory_equal(got, want, sizeof got);
            for (size_t c = 0; c < DIM; c++) by_definition(bits, want + c, x + c, DIM);
            nib_kivi_encode_keys(bits, bytes, token, DIM);
            for (size_t i = 0; i < G; i += 8)
                nib_kivi_decode_keys(bits, got + i * DIM, bytes, i, 8, DIM);
            assert_memory_equal(got, want, sizeof got);
        }
}

/* A group of one value is that value, in F16; what is not finite spoils its group alone. */
static void groups_that_are_flat_or_not_finite(void **state)
{
    (void)state;
    float x[2 * G], back[2 * G];
    uint8_t bytes[G * 72];
    const float *token[G];
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < 2 * G; i++) x[i] = i < G ? 0.25f : 0;
        if (k) x[5] = k == 1 ? INFINITY : NAN;
        nib_kivi_encode(4, bytes, x, 2 * G);
        nib_kivi_decode(4, back, bytes, 2 * G);
        for (size_t i = 0; i < G; i++) assert_true(k ? isnan(back[i]) : back[i] == 0.25f);
        for (size_t i = G; i < 2 * G; i++) assert_true(back[i] == 0);
        for (size_t i = 0; i < G; i++) token[i] = x;
        nib_kivi_encode_keys(4, bytes, token, 2 * G);
        nib_kivi_decode_keys(4, back, bytes, 9, 1, 2 * G);
        for (size_t i = 0; i < 2 * G; i++)
            assert_true(k && i == 5 ? isnan(back[i]) : back[i] == x[i]);
    }
}

/* ---- who sees what ---- */

enum { D = 64, H = 4, KV = 2, KEYS = 400, SEQ = 2, ROW = KV * D };

/* Keys and values [SEQ][KEYS][KV][D], as they were and as they are kept. */
static float k[SEQ * KEYS * ROW], v[SEQ * KEYS * ROW], kept_k[SEQ * KEYS * ROW],
    kept_v[SEQ * KEYS * ROW], q[SEQ * KEYS * H * D];

static void make_history(unsigned bits)
{
    uint32_t seed = 5;
    for (size_t i = 0; i < SEQ * KEYS * ROW; i++) k[i] = noise(&seed), v[i] = noise(&seed);
    for (size_t i = 0; i < SEQ * KEYS * H * D; i++) q[i] = noise(&seed);
    for (size_t i = 0; i < SEQ * KEYS * ROW; i += G) by_definition(bits, kept_v + i, v + i, 1);
    for (size_t s = 0; s < SEQ; s++)
        for (size_t p = 0; p + G <= KEYS; p += G)
            for (size_t c = 0; c < ROW; c++) {
                const size_t at = (s * KEYS + p) * ROW + c;
                by_definition(bits, kept_k + at, k + at, ROW);
            }
}

static bool kivi[2]; /* keys, values are KIVI's; else f32 */

/* The query at position t: of keys those before floor(t / R) R are kept, of values those before
 * t - R; all are seen, or the last `window`. */
static void plain(double *out, size_t s, size_t t, size_t head, size_t window)
{
    double sum = 0;
    const float *x = q + ((s * KEYS + t) * H + head) * D;
    memset(out, 0, D * sizeof *out);
    for (size_t p = window && t + 1 > window ? t + 1 - window : 0; p <= t; p++) {
        const size_t at = ((s * KEYS + p) * KV + head / (H / KV)) * D;
        const float *key = kivi[0] && p < t / R * R ? kept_k + at : k + at,
                    *value = kivi[1] && p + R < t ? kept_v + at : v + at;
        double score = 0;
        for (size_t i = 0; i < D; i++) score += (double)x[i] * (double)key[i];
        sum += score = exp(0.3 * score);
        for (size_t i = 0; i < D; i++) out[i] += score * (double)value[i];
    }
    for (size_t i = 0; i < D; i++) out[i] /= sum;
}

static nib_kv_cache new_cache(const char *name, size_t n_layer)
{
    nib_err err;
    nib_kv_cache c;
    nib_kv_choice how = {0};
    for (int of = 0; of < 2; of++)
        if (kivi[of]) how.of[of].format = nib_kv_find(name);
    must(nib_kv_cache_new(&c, &how, n_layer, SEQ, KEYS, KV, D, D, &err), &err);
    return c;
}

/* Tokens pos .. pos + n - 1 of both sequences, to out[SEQ][KEYS][H][D]. */
static void attend(nib_kv_cache *c, size_t pos, size_t n, bool by_token, size_t window, float *out)
{
    static float of[4][SEQ * KEYS * H * D];
    nib_err err;
    nib_buf scratch[2] = {{0}};
    for (size_t s = 0; s < SEQ; s++) {
        memcpy(of[0] + s * n * ROW, k + (s * KEYS + pos) * ROW, n * ROW * sizeof *k);
        memcpy(of[1] + s * n * ROW, v + (s * KEYS + pos) * ROW, n * ROW * sizeof *k);
        memcpy(of[2] + s * n * H * D, q + (s * KEYS + pos) * H * D, n * H * D * sizeof *k);
    }
    nib_attn a = {.n_seq = SEQ,
                  .n_tok = n,
                  .pos = pos,
                  .window = window,
                  .by_token = by_token,
                  .n_head = H,
                  .n_head_kv = KV,
                  .head_dim = D,
                  .value_dim = D,
                  .scale = 0.3f,
                  .q = of[2],
                  .out = of[3],
                  .cache = c,
                  .layer = 1,
                  .ops = nib_ops_get(nib_cpu_detect()),
                  .cpu = nib_cpu_detect(),
                  .threads = 2,
                  .scratch = scratch};
    nib_kv_put(c, 1, SEQ, pos, n, of[0], of[1]);
    must(nib_attention(&a, &err), &err);
    nib_kv_settle(c, 1, SEQ);
    for (int i = 0; i < 2; i++)
        memset(of[i], 0xFF, SEQ * n * ROW * sizeof *k); /* no longer the caller's */
    for (size_t s = 0; s < SEQ; s++)
        memcpy(out + (s * KEYS + pos) * H * D, of[3] + s * n * H * D, n * H * D * sizeof *out);
    for (int i = 0; i < 2; i++) nib_buf_free(&scratch[i]);
}

/* Scores are below 0.3 * 64, so that f32 leaves them and the shares an error of some 5e-6. */
static void check(const char *name, const float *out, size_t window)
{
    for (size_t t = 0; t < KEYS; t += 1 + 4 * (t % 3))
        for (size_t s = 0; s < SEQ; s++)
            for (size_t head = 0; head < H; head++) {
                double want[D];
                const float *got = out + ((s * KEYS + t) * H + head) * D;
                plain(want, s, t, head, window);
                for (size_t i = 0; i < D; i++)
                    if (!(fabs((double)got[i] - want[i]) < 1e-5))
                        fail_msg("%s, token %zu of %zu: %.7g, not %.7g", name, t, s, (double)got[i],
                                 want[i]);
            }
}

/* All at once, in batches of many sizes that lie anyhow, and in small ones, which give the same
 * bits whatever their size; both sides of a cache, or one. */
static void who_sees_what(void **state)
{
    (void)state;
    static const size_t large[] = {70, 129, 17, 300, 1}, small[] = {3, 16, 1, 7};
    static float out[2][SEQ * KEYS * H * D];
    for (size_t b = 0; b < 3; b++)
        for (size_t window = 0; window <= (b == 1 ? 400 : 0); window += 200) {
            kivi[0] = b != 2, kivi[1] = b != 1 || window == 200;
            make_history(all_bits[b]);
            nib_kv_cache c = new_cache(names[b], 2);
            attend(&c, 0, KEYS, false, window, out[0]);
            check(names[b], out[0], window);
            for (size_t t = 0, n, i = 0; t < KEYS; t += n, i++) {
                n = large[i % 5] < KEYS - t ? large[i % 5] : KEYS - t;
                attend(&c, t, n, false, window, out[0]);
            }
            check(names[b], out[0], window);
            for (size_t t = 0, n, i = 0; t < KEYS; t += n, i++) {
                n = small[i % 4] < KEYS - t ? small[i % 4] : KEYS - t;
                attend(&c, t, n, true, window, out[0]);
            }
            check(names[b], out[0], window);
            for (size_t t = 0; t < KEYS; t++) attend(&c, t, 1, true, window, out[1]);
            assert_memory_equal(out[0], out[1], sizeof out[0]);
            nib_kv_cache_free(&c);
        }
}

/* Codes of 2, 4 or 8 bits and 32 for each 32 of them; 144 tokens in f32 beside. */
static void memory_is_what_the_format_says(void **state)
{
    (void)state;
    nib_err err;
    kivi[0] = kivi[1] = true;
    for (size_t b = 0; b < 3; b++) {
        nib_kv_cache c = new_cache(names[b], 3);
        assert_int_equal(nib_kv_cache_bytes(&c),
                         3 * SEQ * 2 * ROW * (KEYS * (all_bits[b] + 1) / 8.0 + 144 * 4));
        nib_kv_cache_free(&c);
        const nib_kv_choice how = nib_kv_both(nib_kv_find(names[b]), false);
        assert_int_equal(nib_kv_cache_new(&c, &how, 2, 3, 10, 2, 80, 80, &err), NIB_EINVAL);
        assert_non_null(strstr(err.msg, "blocks of 32 values, which heads of 80 are not made of"));
        assert_non_null(strstr(err.msg, names[b]));
    }
}

/* ---- models ---- */

enum { TOKENS = 300, VOCAB = 257 };
static int32_t id[TOKENS];
static float one[TOKENS * VOCAB], other[TOKENS * VOCAB];

static void open_model(tiny *t, const char *family)
{
    tiny_make_wide(t, family);
    tiny_open(t);
    for (int i = 0; i < TOKENS; i++) id[i] = (i * i * 31 + 7) % VOCAB;
}

static nib_decoder *decoder(const tiny *t, const char *name, size_t n_seq, int threads)
{
    nib_err err;
    nib_decoder *d;
    const nib_ctx ctx = tiny_ctx(threads);
    const nib_kv_choice how = nib_kv_both(nib_kv_find(name), false);
    must(nib_decoder_new(&d, &t->model, &ctx, n_seq, TOKENS, &how, NULL, &err), &err);
    return d;
}

static void feed(nib_decoder *d, const int32_t *ids, size_t n_seq, size_t n, float *logits)
{
    nib_err err;
    const float *now;
    must(nib_decoder_feed(d, ids, n_seq, n, n, &now, &err), &err);
    memcpy(logits, now, n_seq * n * VOCAB * sizeof *logits);
}

static void one_by_one(const tiny *t, const char *name, float *logits)
{
    nib_decoder *d = decoder(t, name, 1, 1);
    for (size_t i = 0; i < TOKENS; i++) feed(d, id + i, 1, 1, logits + i * VOCAB);
    nib_decoder_free(d);
}

/* Batches of 1 to 16 tokens, of which some are wrong and are taken back, over both changes of
 * keys. */
static void with_a_draft(const tiny *t, const char *name, float *logits)
{
    static const size_t size[] = {16, 5, 11, 1, 16, 16, 2};
    nib_decoder *d = decoder(t, name, 1, 2);
    for (size_t at = 0, i = 0; at < TOKENS; i++) {
        const size_t left = TOKENS - at, n = size[i % 7] < left ? size[i % 7] : left;
        const size_t good = i % 3 == 2 ? n : 1 + i % n;
        int32_t draft[16];
        float all[16 * VOCAB];
        for (size_t j = 0; j < n; j++)
            draft[j] = j < good ? id[at + j] : (int32_t)(3 * j + i) % 250;
        feed(d, draft, 1, n, all);
        memcpy(logits + at * VOCAB, all, good * VOCAB * sizeof *all);
        at += good;
        nib_decoder_set_length(d, at);
    }
    nib_decoder_free(d);
}

static void take(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

/* As perplexity does it. */
static void whole_window(const tiny *t, const char *name, float *logits)
{
    nib_err err;
    nib_graph *g;
    const nib_ctx ctx = tiny_ctx(2);
    const nib_kv_choice how = nib_kv_both(nib_kv_find(name), false);
    size_t row[TOKENS];
    static float x[TOKENS * 96];
    for (size_t i = 0; i < TOKENS; i++) row[i] = i;
    must(nib_graph_new(&g, &t->model, &ctx, 1, TOKENS, false, &err), &err);
    must(nib_graph_keep(g, &how, &err), &err);
    must(nib_graph_embed(g, id, TOKENS, x, &err), &err);
    for (uint32_t l = 0; l < 2; l++) must(nib_graph_block(g, l, x, 1, TOKENS, 0, NULL, &err), &err);
    must(nib_graph_logits(g, x, row, TOKENS, take, logits, NULL, &err), &err);
    nib_graph_free(g);
}

static double furthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* A token's logits are the same bits in whatever small batch it came, with what was taken back
 * before it, and those of the whole window but for the order of sums (the bound is that of
 * test_arch_decode.c). Up to the first change they are those of a cache in f32, after it not. */
static void same_in_all_batches(void **state)
{
    (void)state;
    static const char *const family[] = {"qwen3", "gemma3"};
    static float plain_f32[TOKENS * VOCAB];
    for (size_t f = 0; f < 2; f++) {
        tiny t;
        open_model(&t, family[f]);
        one_by_one(&t, "f32", plain_f32);
        for (size_t b = 0; b < 3; b++) {
            one_by_one(&t, names[b], one);
            with_a_draft(&t, names[b], other);
            for (size_t i = 0; i < TOKENS; i++)
                if (memcmp(one + i * VOCAB, other + i * VOCAB, VOCAB * sizeof *one) != 0)
                    fail_msg("%s, %s: token %zu", family[f], names[b], i);
            whole_window(&t, names[b], other);
            const double apart = furthest(one, other, TOKENS * VOCAB);
            if (!(apart < 2e-3)) fail_msg("%s, %s: %g", family[f], names[b], apart);
            assert_memory_equal(one, plain_f32, R * VOCAB * sizeof *one);
            const double costs =
                furthest(one + R * VOCAB, plain_f32 + R * VOCAB, (TOKENS - R) * VOCAB);
            assert_true(costs > (b == 0 ? 0.1 : b == 1 ? 0.02 : 0.001));
        }
        tiny_drop(&t);
    }
}

/* A beam that takes another's place goes on as that one does. */
static void a_copy_goes_on_alike(void **state)
{
    (void)state;
    enum { LENGTH = 150 };
    tiny t;
    nib_err err;
    const float *none;
    int32_t ids[2 * LENGTH];
    float logits[2 * VOCAB];
    open_model(&t, "qwen3");
    nib_decoder *d = decoder(&t, "kivi2", 2, 1);
    for (int i = 0; i < LENGTH; i++) {
        ids[0] = id[i], ids[1] = (id[i] + 100) % VOCAB;
        must(nib_decoder_feed(d, ids, 2, 1, 0, &none, &err), &err);
    }
    ids[0] = ids[1] = id[LENGTH];
    feed(d, ids, 2, 1, logits);
    assert_true(furthest(logits, logits + VOCAB, VOCAB) > 0.01);
    nib_decoder_set_length(d, LENGTH);
    nib_graph_copy_sequence(nib_decoder_graph(d), 1, 0, LENGTH);
    for (int i = LENGTH; i < TOKENS; i++) {
        ids[0] = ids[1] = id[i];
        feed(d, ids, 2, 1, logits);
        assert_memory_equal(logits, logits + VOCAB, VOCAB * sizeof *logits);
    }
    nib_decoder_free(d);
    tiny_drop(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_the_definitions),
        cmocka_unit_test(all_widths),
        cmocka_unit_test(groups_that_are_flat_or_not_finite),
        cmocka_unit_test(who_sees_what),
        cmocka_unit_test(memory_is_what_the_format_says),
        cmocka_unit_test(same_in_all_batches),
        cmocka_unit_test(a_copy_goes_on_alike),
    };
    if (argc != 2) return 1;
    golden = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
