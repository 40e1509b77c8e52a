/* SPDX-License-Identifier: MIT */
/* bitsandbytes folders: values bit for bit (tests/golden/bnb_folder), and what is wrong with
 * damaged ones. */
#include "base/json.h"
#include "formats/packed_format.h"
#include "quant/round.h"
#include "tests/formats/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static nib_source *open_folder(const char *name)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/bnb_folder/%s", getenv("NIB_GOLDEN"), name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

/* In pieces of some rows, which begin inside blocks. */
static float *rows_of(const nib_source *s, const nib_tensor *t, uint64_t at_once)
{
    const uint64_t rows = nib_tensor_rows(t), cols = nib_tensor_cols(t);
    float *x = nib_alloc((size_t)(rows * cols), sizeof *x);
    nib_buf raw = {0};
    nib_err err = {0};
    for (uint64_t r = 0; r < rows; r += at_once) {
        const uint64_t n = rows - r < at_once ? rows - r : at_once;
        if (nib_source_read_rows(s, t, r, n, x + r * cols, &raw, 0, &err)) fail_msg("%s", err.msg);
    }
    nib_buf_free(&raw);
    return x;
}

static void four_bits(void **state)
{
    (void)state;
    static const struct {
        const char *name, *codec;
        uint64_t rows, cols;
    } layers[] = {{"model.layers.0.self_attn.q_proj.weight", "nf4-g64", 48, 80},
                  {"model.layers.0.mlp.gate_proj.weight", "nf4-g64", 33, 45},
                  {"model.layers.0.mlp.up_proj.weight", "fp4-g64", 40, 64},
                  {"model.layers.0.mlp.down_proj.weight", "nf4-g32", 16, 256}};
    nib_source *s = open_folder("nf4"), *expected = open_golden("bnb_folder", "expected");
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        char name[128];
        snprintf(name, sizeof name, "dequant_f32.%s", layers[i].name);
        const nib_tensor *t = nib_source_find(s, layers[i].name);
        assert_non_null(t);
        assert_string_equal(t->codec->name, layers[i].codec);
        assert_int_equal(nib_tensor_rows(t), layers[i].rows);
        assert_int_equal(nib_tensor_cols(t), layers[i].cols);
        float *want = bytes_of(expected, name);
        for (uint64_t n = 1; n <= layers[i].rows; n += 6) {
            float *got = rows_of(s, t, n);
            for (size_t k = 0; k < layers[i].rows * layers[i].cols; k++)
                if (got[k] != want[k])
                    fail_msg("%s: weight %zu is %.9g, not %.9g", layers[i].name, k, got[k],
                             want[k]);
            nib_free(got);
        }
        nib_free(want);
        nib_int_groups g;
        assert_false(nib_tensor_ints(t, &g));
    }
    assert_non_null(nib_source_find(s, "model.norm.weight"));
    assert_null(nib_source_find(s, "model.layers.0.mlp.down_proj.weight.absmax"));
    nib_source_close(s), nib_source_close(expected);
}

static void eight_bits(void **state)
{
    (void)state;
    nib_source *s = open_folder("int8"), *raw = open_golden("bnb_folder/int8", "model");
    const nib_tensor *t = nib_source_find(s, "q.weight");
    assert_non_null(t);
    float *got = rows_of(s, t, 7), *largest = bytes_of(raw, "q.SCB");
    int8_t *code = bytes_of(raw, "q.weight");
    for (size_t r = 0; r < 24; r++)
        for (size_t k = 0; k < 64; k++)
            assert_true(got[r * 64 + k] ==
                        (float)code[r * 64 + k] * largest[r] * 0.007874015718698502f);
    nib_free(got), nib_free(largest), nib_free(code);
    nib_source_close(s), nib_source_close(raw);
}

/* Of FP4's two zeros the library takes the other one for weights just above 0. */
static uint8_t one_zero(uint8_t codes, bool fp4)
{
    if (fp4 && codes >> 4 == 8) codes &= 15;
    return fp4 && (codes & 15) == 8 ? codes & 0xF0 : codes;
}

/* What bitsandbytes makes of weights to nearest, and what we make of them: the same scales, and
 * codes that are as near; the library takes the lower one of two that are. */
static void packs_as_the_original(void **state)
{
    (void)state;
    static const struct {
        const char *file, *state_text;
        uint64_t rows, cols, group;
    } vectors[] = {
        {"nf4_b64_64x128_float32", "weight.quant_state.bitsandbytes__nf4", 64, 128, 64},
        {"nf4_b128_16x256_float16", "weight.quant_state.bitsandbytes__nf4", 16, 256, 128},
        {"fp4_b64_32x128_float32", "weight.quant_state.bitsandbytes__fp4", 32, 128, 64}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        nib_err err = {0};
        nib_buf work = {0};
        nib_packed_parts l;
        nib_source *s = open_golden("bnb", vectors[i].file);
        const uint64_t rows = vectors[i].rows, cols = vectors[i].cols, n = rows * cols;
        const nib_tensor *original = nib_source_find(s, "input");
        const nib_packing f = {.kind = NIB_PACKING_BNB4,
                               .bits = 4,
                               .group = vectors[i].group,
                               .sym = true,
                               .fp4 = i == 2,
                               .scale_type = original->codec->type};
        if (nib_packing_make(&l, &f, rows, cols, &err)) fail_msg("%s", err.msg);
        const nib_int_codec c = nib_packing_codec(&l);
        float *w = rows_of(s, original, rows), *value = nib_alloc(n, sizeof *value);
        uint8_t *code = nib_alloc(n, 1), *packed = nib_alloc((size_t)l.bytes, 1);
        nib_block_param *p = nib_calloc(n / f.group, sizeof *p);
        for (uint64_t b = 0; b < n / f.group; b++) {
            c.codec.fit(&c.codec, &p[b], &(nib_fit_in){.w = w + b * f.group}, 1, 0);
            for (uint64_t k = 0; k < f.group; k += 64)
                nib_codec_round(&c.codec, &p[b], k, 64, w + b * f.group + k, code + b * f.group + k,
                                value + b * f.group + k);
        }
        const nib_packing_values v = {.code = code, .param = p};
        if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
        expect_part(s, &l, packed, NIB_PART_SCALES, "weight.absmax");
        expect_part(s, &l, packed, NIB_PART_MAP, "weight.quant_map");
        expect_part(s, &l, packed, i == 2 ? NIB_PART_STATE_FP4 : NIB_PART_STATE_NF4,
                    vectors[i].state_text);
        uint8_t *want = bytes_of(s, "weight");
        size_t differ = 0;
        for (uint64_t k = 0; k < n / 2; k++)
            differ += one_zero(packed[k], f.fp4) != one_zero(want[k], f.fp4);
        if (differ > n / 1000) fail_msg("%s: %zu bytes differ", vectors[i].file, differ);
        float *back = nib_alloc(n, sizeof *back);
        if (nib_packing_unpack(back, &l, packed, &work, &err)) fail_msg("%s", err.msg);
        assert_memory_equal(back, value, n * sizeof *back);
        nib_free(w), nib_free(value), nib_free(code), nib_free(packed), nib_free(p);
        nib_free(want), nib_free(back);
        nib_buf_free(&work);
        nib_source_close(s);
    }
}

/* Codes, nested scales and texts as the library makes them of the same absmax; the nested codes are
 * chosen in it from a mean that is summed in F32, ours in F64, so that one may be a step away. */
static void nests_as_the_original(void **state)
{
    (void)state;
    enum { ROWS = 96, COLS = 256, SIZE = ROWS * COLS, BLOCKS = SIZE / 64 };
    nib_err err = {0};
    nib_buf work = {0};
    nib_packed_parts l;
    nib_source *s = open_golden("bnb", "nf4_b64_dq_96x256_bfloat16");
    const nib_ctx ctx = {.threads = 1};
    const nib_packing f = {.kind = NIB_PACKING_BNB4,
                           .bits = 4,
                           .group = 64,
                           .sym = true,
                           .nested = true,
                           .scale_type = NIB_BF16};
    if (nib_packing_make(&l, &f, ROWS, COLS, &err)) fail_msg("%s", err.msg);
    nib_int_codec c = nib_packing_codec(&l);
    float *w = rows_of(s, nib_source_find(s, "input"), ROWS);
    float *value = nib_alloc(SIZE, sizeof *value), *back = nib_alloc(SIZE, sizeof *back);
    uint8_t *code = nib_alloc(SIZE, 1), *packed = nib_alloc((size_t)l.bytes, 1);
    nib_block_param *p = nib_calloc(BLOCKS, sizeof *p);
    if (nib_round_rows(&c.codec, w, NULL, ROWS, COLS, value, code, p, &ctx, &err))
        fail_msg("%s", err.msg);
    const nib_packing_values v = {.code = code, .param = p};
    if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
    expect_part(s, &l, packed, NIB_PART_NESTED_MAP, "weight.nested_quant_map");
    expect_part(s, &l, packed, NIB_PART_MAP, "weight.quant_map");
    uint8_t *want = bytes_of(s, "weight.absmax"), *codes = bytes_of(s, "weight");
    float *nested = bytes_of(s, "weight.nested_absmax");
    const uint8_t *got = packed + l.part[1].at;
    size_t steps = 0, differ = 0;
    for (size_t b = 0; b < BLOCKS; b++) {
        assert_true(abs(got[b] - want[b]) <= 1);
        steps += got[b] != want[b];
    }
    assert_true(steps <= 1 + BLOCKS / 50);
    for (size_t k = 0; k < (BLOCKS + 255) / 256; k++) {
        float x;
        memcpy(&x, packed + l.part[3].at + 4 * k, 4);
        assert_true(fabsf(x / nested[k] - 1) < 1e-6f);
    }
    /* The library takes codes under the scale before it is nested. */
    for (size_t k = 0; k < SIZE / 2; k++) differ += packed[k] != codes[k];
    assert_true(differ < SIZE / 2 / 25);
    if (nib_packing_unpack(back, &l, packed, &work, &err)) fail_msg("%s", err.msg);
    assert_memory_equal(back, value, SIZE * sizeof *back);
    nib_free(w), nib_free(value), nib_free(back), nib_free(code), nib_free(packed), nib_free(p);
    nib_free(want), nib_free(codes), nib_free(nested);
    nib_buf_free(&work);
    nib_source_close(s);
}

static void texts_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [2, 64]}", "'quant_type'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 0, \"shape\": [2, 64]}", "'blocksize'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [2]}", "'shape'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [2, 99999999999]}", "'shape'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [2, 64], \"nested_blocksize\": "
         "64}",
         "'nested_blocksize'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [2, 64], \"nested_blocksize\": "
         "256, "
         "\"nested_dtype\": \"float16\"}",
         "'nested_dtype'"},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [2, 64], \"nested_blocksize\": "
         "256, "
         "\"nested_dtype\": \"float32\", \"nested_offset\": 1e99}",
         "'nested_offset'"},
        {"{\"quant_type\"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nib_packing f = {.kind = NIB_PACKING_BNB4, .bits = 4};
        nib_err err = {0};
        uint64_t out, in;
        assert_int_not_equal(
            nib_packing_state(&f, &out, &in, cases[i].text, strlen(cases[i].text), &err), NIB_OK);
        if (!strstr(err.msg, cases[i].part)) fail_msg("%s", err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_as_the_original),
        cmocka_unit_test(nests_as_the_original),
        cmocka_unit_test(four_bits),
        cmocka_unit_test(eight_bits),
        cmocka_unit_test(texts_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
