/* SPDX-License-Identifier: MIT */
/* How keys and values are kept: llama.cpp's bytes (the argument is tests/golden/kv_cache), the
 * definition of the others, the rotation, and attention over what is kept. */
#include "base/cpu.h"
#include "base/half.h"
#include "formats/source.h"
#include "infer/attn.h"
#include "infer/kv_cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { DIM = 128, ROWS = 20 };

static const char *golden;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static nib_source *open_golden(const char *name)
{
    nib_err err;
    nib_source *s;
    char path[256];
    snprintf(path, sizeof path, "%s/%s.safetensors", golden, name);
    must(nib_source_open(&s, path, &err), &err);
    return s;
}

static void *contents(const nib_source *s, const char *name, size_t *n)
{
    nib_err err;
    const nib_tensor *t = nib_source_find(s, name);
    if (!t) fail_msg("no %s", name);
    void *p = malloc((size_t)t->bytes);
    assert_non_null(p);
    must(nib_source_read(s, t, 0, p, (size_t)t->bytes, &err), &err);
    *n = (size_t)t->bytes;
    return p;
}

static void bytes_are_llamacpps(void **state)
{
    (void)state;
    static const char *const names[] = {"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"};
    static const char *const of[] = {"K", "K_rotated"};
    nib_source *s = open_golden("llamacpp");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < 2; k++) {
            char name[32];
            size_t n_x, n_want;
            snprintf(name, sizeof name, "%s.%s", names[i], of[k]);
            float *x = contents(s, of[k], &n_x);
            uint8_t *want = contents(s, name, &n_want), got[256];
            const nib_kv_format *f = nib_kv_find(names[i]);
            const size_t each = nib_kv_head_bytes(f, DIM);
            assert_int_equal(n_x, ROWS * DIM * sizeof *x);
            assert_int_equal(n_want, ROWS * each);
            assert_true(f->rotated);
            for (size_t r = 0; r < ROWS; r++) {
                nib_kv_encode(f, got, x + r * DIM, DIM);
                for (size_t b = 0; b < each; b++)
                    if (got[b] != want[r * each + b])
                        fail_msg("%s, head %zu, byte %zu: %02x, not %02x", name, r, b, got[b],
                                 want[r * each + b]);
            }
            free(x);
            free(want);
        }
    nib_source_close(s);
}

static void check_rotated(const nib_source *s, const char *from, const char *to, size_t n)
{
    size_t bytes;
    float *x = contents(s, from, &bytes), *want = contents(s, to, &bytes), most = 0;
    for (size_t i = 0; i < bytes / sizeof *x; i += n) nib_hadamard(x + i, n);
    for (size_t i = 0; i < bytes / sizeof *x; i++) most = fmaxf(most, fabsf(want[i]));
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        assert_true(fabsf(x[i] - want[i]) <= 1e-6f * most);
    free(x);
    free(want);
}

static void rotation_is_llamacpps(void **state)
{
    (void)state;
    nib_source *s = open_golden("llamacpp");
    check_rotated(s, "K", "K_rotated", nib_kv_rotation(0, DIM));
    check_rotated(s, "V", "V_rotated", nib_kv_rotation(1, DIM));
    nib_source_close(s);
    assert_int_equal(nib_kv_rotation(0, 64), 64);
    assert_int_equal(nib_kv_rotation(0, 128), 128);
    assert_int_equal(nib_kv_rotation(0, 192), 64);
    assert_int_equal(nib_kv_rotation(0, 256), 256);
    assert_int_equal(nib_kv_rotation(0, 80), 0);
    assert_int_equal(nib_kv_rotation(0, 32), 0);
    assert_int_equal(nib_kv_rotation(1, 80), 0);
}

static float noise(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(*s >> 8) / (1 << 23) - 1;
}

/* A scale for each head: codes are the nearest that there are. */
static void scales_of_heads(void **state)
{
    (void)state;
    uint32_t seed = 3;
    const nib_kv_format *f[2] = {nib_kv_find("int8"), nib_kv_find("fp8")};
    for (int turn = 0; turn < 200; turn++) {
        float x[96], back[96], most = 0;
        uint8_t bytes[100];
        for (int i = 0; i < 96; i++) x[i] = powf(noise(&seed), 3) * (float)(turn + 1);
        for (int i = 0; i < 96; i++) most = fmaxf(most, fabsf(x[i]));
        for (int k = 0; k < 2; k++) {
            const float scale = most / (k ? 448 : 127);
            float stored;
            assert_int_equal(nib_kv_head_bytes(f[k], 96), 100);
            nib_kv_encode(f[k], bytes, x, 96);
            nib_kv_decode(f[k], back, bytes, 96, 0);
            memcpy(&stored, bytes, 4);
            assert_true(stored == scale);
            for (int i = 0; i < 96; i++) {
                float best = INFINITY;
                for (int code = 0; code < 256; code++) {
                    const float v = k ? nib_f8_e4m3_to_f32((uint8_t)code) : (float)(int8_t)code;
                    if (!isnan(v)) best = fminf(best, fabsf(v - x[i] / scale));
                }
                assert_true(fabsf(back[i] / scale - x[i] / scale) <= best + 1e-4f);
            }
        }
    }
}

/* Divided by a scale that is known before, of all heads or of each: codes saturate. */
static void scales_of_the_checkpoint(void **state)
{
    (void)state;
    static const struct {
        const char *x, *scale, *want;
        size_t heads;
    } of[] = {{"K", "k_scale", "K.fp8", 1},
              {"K", "k_scale_per_head", "K.fp8_per_head", 2},
              {"V", "v_scale", "V.fp8", 1}};
    const nib_kv_format *f = nib_kv_find("fp8-static");
    nib_source *s = open_golden("fp8_int8_kivi");
    assert_int_equal(nib_kv_head_bytes(f, DIM), DIM);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        size_t n;
        float *x = contents(s, of[i].x, &n), *scale = contents(s, of[i].scale, &n);
        assert_int_equal(n, of[i].heads * sizeof *scale);
        uint8_t *want = contents(s, of[i].want, &n), got[DIM];
        assert_int_equal(n, ROWS * DIM);
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t c = 0; c < DIM; c++) x[r * DIM + c] /= scale[r % of[i].heads];
            nib_kv_encode(f, got, x + r * DIM, DIM);
            assert_memory_equal(got, want + r * DIM, DIM);
        }
        free(x), free(scale), free(want);
    }
    nib_source_close(s);
    const float far[2] = {1000, -500};
    float back[2];
    uint8_t bytes[2];
    nib_kv_encode(f, bytes, far, 2);
    nib_kv_decode(f, back, bytes, 2, 0);
    assert_true(back[0] == 448 && back[1] == -448);
}

/* The range in 16 steps, a whole zero point hidden in the scale: by hand, and that codes are the
 * nearest. */
static void int4_of_heads(void **state)
{
    (void)state;
    const nib_kv_format *f = nib_kv_find("int4");
    const float x[4] = {-1, 2, 0.31f, -0.51f}; /* scale 0.2, zero point 5 */
    float back[4], kept;
    uint8_t bytes[8];
    assert_int_equal(nib_kv_head_bytes(f, 4), 6);
    assert_int_equal(nib_kv_head_bytes(f, 5), 0);
    nib_kv_encode(f, bytes, x, 4);
    memcpy(&kept, bytes, 4);
    assert_int_equal(nib_f32_bits(kept) & 15, 5);
    assert_true(fabsf(kept - 0.2f) < 1e-6f);
    assert_int_equal(bytes[4], 0xF0); /* 0 and 15 */
    assert_int_equal(bytes[5], 0x27); /* 6.55 and 2.45 */
    nib_kv_decode(f, back, bytes, 4, 0);
    const float want[4] = {-1, 2, 0.4f, -0.6f};
    for (int i = 0; i < 4; i++) assert_true(fabsf(back[i] - want[i]) < 1e-5f);
    uint32_t seed = 3;
    for (int turn = 0; turn < 200; turn++) {
        float y[96], z[96];
        uint8_t row[52];
        for (int i = 0; i < 96; i++)
            y[i] = noise(&seed) * (float)(turn + 1) + (float)(turn % 3 - 1);
        nib_kv_encode(f, row, y, 96);
        nib_kv_decode(f, z, row, 96, 0);
        memcpy(&kept, row, 4);
        const int zero = nib_f32_bits(kept) & 15;
        for (int i = 0; i < 96; i++) {
            float best = INFINITY;
            for (int code = 0; code < 16; code++)
                best = fminf(best, fabsf((float)(code - zero) - y[i] / kept));
            assert_true(fabsf(z[i] / kept - y[i] / kept) <= best + 1e-4f);
        }
    }
}

/* Ties of E4M3 go to the even code: 17 lies between 16 and 18, 19 between 18 and 20. */
static void ties_of_fp8(void **state)
{
    (void)state;
    const float x[4] = {448, 17, 19, -17};
    float back[4];
    uint8_t bytes[8];
    nib_kv_encode(nib_kv_find("fp8"), bytes, x, 4);
    nib_kv_decode(nib_kv_find("fp8"), back, bytes, 4, 0);
    assert_true(back[0] == 448 && back[1] == 16 && back[2] == 20 && back[3] == -16);
}

static void zeros_and_what_is_not_finite(void **state)
{
    (void)state;
    for (const char *const *name = nib_kv_names; *name; name++) {
        const nib_kv_format *f = nib_kv_find(*name);
        float x[64] = {0}, back[64];
        uint8_t bytes[256];
        nib_kv_encode(f, bytes, x, 64);
        nib_kv_decode(f, back, bytes, 64, 0);
        for (int i = 0; i < 64; i++) assert_true(back[i] == 0);
        for (int k = 0; k < 2; k++) {
            x[40] = k ? INFINITY : NAN;
            nib_kv_encode(f, bytes, x, 64);
            nib_kv_decode(f, back, bytes, 64, nib_cpu_detect());
            assert_true(!isfinite(back[40]));
        }
    }
    assert_null(nib_kv_find("q6_k"));
}

static void memory_is_what_the_format_says(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double bits;
    } wanted[] = {{"f32", 32},   {"f16", 16},  {"q8_0", 8.5}, {"q5_1", 6},
                  {"q5_0", 5.5}, {"q4_1", 5},  {"q4_0", 4.5}, {"iq4_nl", 4.5},
                  {"int8", 8.5}, {"fp8", 8.5}, {"int4", 4.5}, {"fp8-static", 8}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        nib_err err;
        nib_kv_cache c;
        const nib_kv_format *f = nib_kv_find(wanted[i].name);
        const nib_kv_choice how = nib_kv_both(f, true);
        must(nib_kv_cache_new(&c, &how, 2, 3, 10, 3, 64, 64, &err), &err);
        assert_true((double)c.bytes[0] == 192 * wanted[i].bits / 8);
        assert_true((double)c.bytes[1] == 192 * wanted[i].bits / 8);
        assert_ptr_equal(nib_kv_row(&c, 1, 1, 2, 9), c.row[1] + (5 * 10 + 9) * c.bytes[1]);
        nib_kv_cache_free(&c);
        if (nib_codec_get(f->type)->block > 1 && !f->per_head) {
            assert_int_equal(nib_kv_cache_new(&c, &how, 2, 3, 10, 2, 80, 80, &err), NIB_EINVAL);
            assert_non_null(strstr(err.msg, "which heads of 80 are not made of"));
        }
    }
}

/* Attention over a cache is attention over what it decodes to, token by token and in tiles,
 * whatever the positions. Heads of values have value_dim. */
static void check_attention(const nib_kv_choice *how, size_t tokens, size_t value_dim)
{
    enum { D = 64, H = 4, KV = 2, KEYS = 700, SEQ = 2 };
    static float x[2][SEQ * KEYS * KV * D], q[SEQ * 70 * H * D], out[2][SEQ * 70 * H * D];
    const size_t dim[2] = {D, value_dim};
    nib_err err;
    nib_kv_cache c;
    nib_buf scratch[2] = {{0}};
    uint32_t seed = 5;
    must(nib_kv_cache_new(&c, how, 1, SEQ, KEYS, KV, D, value_dim, &err), &err);
    for (size_t i = 0; i < SEQ * KEYS * KV * D; i++) x[0][i] = noise(&seed), x[1][i] = noise(&seed);
    for (size_t i = 0; i < SEQ * tokens * H * D; i++) q[i] = noise(&seed);
    nib_kv_put(&c, 0, SEQ, 0, KEYS, x[0], x[1]);
    for (int of = 0; of < 2; of++) {
        const nib_kv_format *f = how->of[of].format;
        const size_t head = f ? nib_kv_head_bytes(f, dim[of]) : 0;
        for (size_t i = 0; f && i < SEQ * KEYS * KV; i++)
            nib_kv_decode(f, x[of] + i * dim[of], c.row[of] + i * head, dim[of], 0);
    }
    nib_attn a = {.n_seq = SEQ,
                  .n_tok = tokens,
                  .pos = KEYS - tokens,
                  .by_token = tokens == 1,
                  .n_head = H,
                  .n_head_kv = KV,
                  .head_dim = D,
                  .scale = 0.3f,
                  .q = q,
                  .k = x[0],
                  .v = x[1],
                  .value_dim = value_dim,
                  .out = out[0],
                  .kv_tokens = KEYS,
                  .ops = nib_ops_get(nib_cpu_detect()),
                  .cpu = nib_cpu_detect(),
                  .threads = 2,
                  .scratch = scratch};
    must(nib_attention(&a, &err), &err);
    a.out = out[1], a.k = a.v = NULL, a.cache = &c;
    must(nib_attention(&a, &err), &err);
    for (size_t i = 0; i < SEQ * tokens * H * value_dim; i++)
        if (!(fabsf(out[0][i] - out[1][i]) < 1e-5f))
            fail_msg("%s and %s: %.7g, not %.7g",
                     how->of[0].format ? how->of[0].format->name : "f32",
                     how->of[1].format ? how->of[1].format->name : "f32", (double)out[1][i],
                     (double)out[0][i]);
    nib_kv_cache_free(&c);
    for (int i = 0; i < 2; i++) nib_buf_free(&scratch[i]);
}

/* Of KIVI's it is another thing (test_kv_kivi.c). */
static void attention_sees_what_is_kept(void **state)
{
    (void)state;
    for (const char *const *name = nib_kv_names + 1; *name; name++)
        for (size_t tokens = 1; tokens <= 70 && !nib_kv_find(*name)->kivi; tokens += 69) {
            const nib_kv_choice how = nib_kv_both(nib_kv_find(*name), false);
            check_attention(&how, tokens, 64);
        }
}

/* Keys in one format and values in another, of other widths too. */
static void keys_and_values_apart(void **state)
{
    (void)state;
    static const char *const pair[][2] = {
        {"q8_0", "q4_0"}, {"f16", "q4_1"}, {"iq4_nl", "bf16"}, {"q8_0", "f32"},
        {"f32", "q5_0"},  {"int8", "fp8"}, {"int4", "q8_0"},   {"fp8-static", "int8"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        for (size_t tokens = 1; tokens <= 70; tokens += 69)
            for (size_t value_dim = 32; value_dim <= 64; value_dim += 32) {
                nib_kv_choice how = {0};
                for (int of = 0; of < 2; of++)
                    if (strcmp(pair[i][of], "f32")) how.of[of].format = nib_kv_find(pair[i][of]);
                check_attention(&how, tokens, value_dim);
            }
}

/* Each side has the bytes of its own format, and is rotated by its own matrix, where it is. */
static void sides_of_a_cache(void **state)
{
    (void)state;
    nib_kv_cache c;
    nib_err err = {0};
    float x[128] = {1}, y[128] = {1};
    nib_kv_choice how = {{{nib_kv_find("q8_0"), true}, {nib_kv_find("q4_0"), true}}};
    must(nib_kv_cache_new(&c, &how, 2, 3, 4, 2, 128, 64, &err), &err);
    assert_int_equal(nib_kv_cache_bytes(&c), 2 * 3 * 4 * 2 * (128 * 34 / 32 + 64 * 18 / 32));
    nib_kv_rotate(&c, 0, x, 1);
    nib_kv_rotate(&c, 1, y, 2);
    for (int i = 0; i < 128; i++) {
        assert_true(fabsf(x[i] - 1 / sqrtf(128)) < 1e-6f);
        assert_true(i < 64 ? y[i] == 0.125f : y[i] == 0);
    }
    nib_kv_cache_free(&c);
    how.of[1] = (nib_kv_side){NULL, false};
    must(nib_kv_cache_new(&c, &how, 2, 3, 4, 2, 128, 64, &err), &err);
    assert_int_equal(nib_kv_cache_bytes(&c), 2 * 3 * 4 * 2 * (128 * 34 / 32 + 64 * 4));
    memcpy(y, x, sizeof y);
    nib_kv_rotate(&c, 1, y, 2);
    assert_memory_equal(x, y, sizeof x);
    nib_kv_cache_free(&c);
    how = (nib_kv_choice){.of = {{NULL, false}, {nib_kv_find("q4_0"), true}}};
    must(nib_kv_cache_new(&c, &how, 2, 3, 4, 2, 80, 64, &err), &err); /* f32 has no blocks */
    assert_true(!c.how[0].rotate && c.how[1].rotate);
    nib_kv_cache_free(&c);
    assert_int_equal(nib_kv_cache_new(&c, &how, 2, 3, 4, 2, 64, 80, &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "q4_0 has blocks of 32 values, which heads of 80"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_llamacpps),
        cmocka_unit_test(rotation_is_llamacpps),
        cmocka_unit_test(scales_of_heads),
        cmocka_unit_test(scales_of_the_checkpoint),
        cmocka_unit_test(int4_of_heads),
        cmocka_unit_test(ties_of_fp8),
        cmocka_unit_test(zeros_and_what_is_not_finite),
        cmocka_unit_test(memory_is_what_the_format_says),
        cmocka_unit_test(sides_of_a_cache),
        cmocka_unit_test(attention_sees_what_is_kept),
        cmocka_unit_test(keys_and_values_apart),
    };
    if (argc != 2) return 1;
    golden = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
