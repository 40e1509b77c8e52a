/* SPDX-License-Identifier: MIT */
/* File types and mix rules against tables written by hand from llama-quantize's rules. */
#include "run/plan/file_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A cell of a table says the format of each layer: "q4_k" all, "q5_k:2,q4_k" the first two and the
 * rest, "q6_k*q4_k" the layers that get more bits and the rest. */
typedef struct {
    const char *type, *q, *k, *v, *o, *gate, *down, *embd, *out;
} row;

typedef struct {
    const char *arch;
    uint32_t layers, heads, kv_heads, embd, ff;
    bool tied, imatrix;
    uint32_t experts;
    const char *more; /* the layers that get more bits, written out: "1" or "." for each */
} shape;

static void cell(char *out, size_t n, const char *text, const shape *s, uint32_t layer)
{
    unsigned first;
    char a[16], b[16];
    if (sscanf(text, "%15[^:]:%u,%15s", a, &first, b) == 3)
        snprintf(out, n, "%s", layer < first ? a : b);
    else if (sscanf(text, "%15[^*]*%15s", a, b) == 2)
        snprintf(out, n, "%s", s->more[layer] == '1' ? a : b);
    else
        snprintf(out, n, "%s", text);
}

static nib_file_type_mix mix_of(const shape *s, const char *type)
{
    nib_err err = {0};
    nib_file_type_mix m = {.arch = s->arch,
                           .n_layer = s->layers,
                           .n_head = s->heads,
                           .n_head_kv = s->kv_heads,
                           .n_expert = s->experts,
                           .has_output = !s->tied,
                           .has_importance = s->imatrix,
                           .n_attn_v = s->layers};
    assert_int_equal(nib_file_type_find(&m.file_type, type, &err), NIB_OK);
    return m;
}

static void expect(nib_file_type_mix *m, const shape *s, const char *name, uint32_t layer,
                   uint64_t cols, const char *text)
{
    char full[64], want[16];
    const char *why = NULL;
    if (strstr(name, ".weight"))
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%u.%s.weight", layer, name);
    cell(want, sizeof want, text, s, layer);
    const nib_codec *got = nib_codec_get(nib_file_type_choose(m, full, cols, &why));
    if (strcmp(got->name, want))
        fail_msg("%s, %s: is %s, should be %s", m->file_type->name, full, got->name, want);
    assert_non_null(why);
}

/* Asks in the order of the file: outside the blocks, then block by block by name. */
static void check_row(const shape *s, const row *r)
{
    nib_file_type_mix m = mix_of(s, r->type);
    if (!s->tied) expect(&m, s, "output.weight", 0, s->embd, r->out);
    expect(&m, s, "token_embd.weight", 0, s->embd, r->embd);
    for (uint32_t i = 0; i < s->layers; i++) {
        expect(&m, s, "attn_k", i, s->embd, r->k);
        expect(&m, s, "attn_output", i, s->embd, r->o);
        expect(&m, s, "attn_q", i, s->embd, r->q);
        expect(&m, s, "attn_v", i, s->embd, r->v);
        expect(&m, s, "ffn_down", i, s->ff, r->down);
        expect(&m, s, "ffn_gate", i, s->embd, r->gate);
        expect(&m, s, "ffn_up", i, s->embd, r->gate);
    }
}

/* 32 layers, as many kv heads as heads: Llama-2-7B. n//8 = 4, n//16 = 2. */
static void dense_32_layers(void **state)
{
    (void)state;
    static const shape s = {"llama", 32,    32,    32, 4096,
                            11008,   false, false, 0,  "1111..1..1..1..1..1..1..1..11111"};
    static const row rows[] = {
        {"f16", "f16", "f16", "f16", "f16", "f16", "f16", "f16", "f16"},
        {"Q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0"},
        {"q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q6_k"},
        {"q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q6_k"},
        {"q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q6_k"},
        {"q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q6_k"},
        {"q2_k", "q2_k", "q2_k", "q3_k", "q3_k", "q2_k", "q3_k", "q2_k", "q6_k"},
        {"q2_k_s", "q2_k", "q2_k", "q2_k", "q2_k", "q2_k", "q4_k:4,q2_k", "q2_k", "q6_k"},
        {"q3_k_s", "q3_k", "q3_k", "q3_k", "q3_k", "q3_k", "q3_k", "q3_k", "q6_k"},
        {"Q3_K", "q3_k", "q3_k", "q5_k:2,q4_k", "q4_k", "q3_k", "q5_k:2,q4_k", "q3_k", "q6_k"},
        {"q3_k_m", "q3_k", "q3_k", "q5_k:2,q4_k", "q4_k", "q3_k", "q5_k:2,q4_k", "q3_k", "q6_k"},
        {"q3_k_l", "q3_k", "q3_k", "q5_k", "q5_k", "q3_k", "q5_k", "q3_k", "q6_k"},
        {"q4_k_s", "q4_k", "q4_k", "q5_k:4,q4_k", "q4_k", "q4_k", "q5_k:4,q4_k", "q4_k", "q6_k"},
        {"Q4_K_M", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q6_k"},
        {"q4_k", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q6_k"},
        {"q5_k_s", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q6_k"},
        {"q5_k_m", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q6_k"},
        {"q5_k", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q6_k"},
        {"q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k"},
        {"iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "q5_k:4,iq4_nl", "iq4_nl",
         "q6_k"},
        {"iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "q5_k:4,iq4_xs", "iq4_xs",
         "q6_k"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check_row(&s, &rows[i]);
}

/* With importances the legacy types raise the first down projections, IQ4 no longer does. */
static void importance_changes_down(void **state)
{
    (void)state;
    static const shape s = {"llama", 32, 32, 32, 4096, 11008, false, true, 0, NULL};
    static const row rows[] = {
        {"q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_1:4,q4_0", "q4_0", "q6_k"},
        {"q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_1:4,q5_0", "q5_0", "q6_k"},
        {"q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q4_1", "q6_k"},
        {"iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "q6_k"},
        {"iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "iq4_nl", "q6_k"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check_row(&s, &rows[i]);
}

/* Qwen3-0.6B: 28 layers, tied. n//8 = 3, 7n//8 = 24, n//16 = 1. */
static void tied_28_layers(void **state)
{
    (void)state;
    static const shape s = {"qwen3", 28,   16,    8, 1024,
                            3072,    true, false, 0, "111..1..1..1..1..1..1..11111"};
    static const row rows[] = {
        {"q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", ""},
        {"q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q6_k", ""},
        {"q2_k", "q2_k", "q2_k", "q3_k", "q3_k", "q2_k", "q3_k", "q6_k", ""},
        {"q3_k_m", "q3_k", "q3_k", "q5_k:2,q4_k", "q4_k", "q3_k", "q5_k:1,q4_k", "q6_k", ""},
        {"q4_k_s", "q4_k", "q4_k", "q5_k:4,q4_k", "q4_k", "q4_k", "q5_k:3,q4_k", "q6_k", ""},
        {"q4_k_m", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q4_k", "q6_k*q4_k", "q6_k", ""},
        {"q5_k_m", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q5_k", "q6_k*q5_k", "q6_k", ""},
        {"iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "iq4_xs", "q5_k:3,iq4_xs", "q6_k", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check_row(&s, &rows[i]);
}

/* Llama-3.1-70B: 80 layers, 8 heads share a value projection. n//8 = 10, n//16 = 5. */
static void llama_70b(void **state)
{
    (void)state;
    static const shape s = {"llama",
                            80,
                            64,
                            8,
                            8192,
                            28672,
                            false,
                            false,
                            0,
                            "1111111111"
                            "..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1..1"
                            "1111111111"};
    static const row rows[] = {
        {"q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0"},
        {"q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q6_k"},
        {"q2_k", "q2_k", "q2_k", "q5_k", "q3_k", "q2_k", "q3_k", "q2_k", "q6_k"},
        {"q2_k_s", "q2_k", "q2_k", "q5_k", "q2_k", "q2_k", "q4_k:10,q2_k", "q2_k", "q6_k"},
        {"q3_k_s", "q3_k", "q3_k", "q5_k", "q3_k", "q3_k", "q3_k", "q3_k", "q6_k"},
        {"q3_k_m", "q3_k", "q3_k", "q5_k", "q4_k", "q3_k", "q5_k:5,q4_k", "q3_k", "q6_k"},
        {"q3_k_l", "q3_k", "q3_k", "q5_k", "q5_k", "q3_k", "q5_k", "q3_k", "q6_k"},
        {"q4_k_s", "q4_k", "q4_k", "q5_k", "q4_k", "q4_k", "q5_k:10,q4_k", "q4_k", "q6_k"},
        {"q4_k_m", "q4_k", "q4_k", "q6_k*q5_k", "q4_k", "q4_k", "q6_k*q4_k", "q4_k", "q6_k"},
        {"q5_k_s", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q5_k", "q6_k"},
        {"q5_k_m", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q6_k"},
        {"q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k"},
        {"iq4_nl", "iq4_nl", "iq4_nl", "q5_k", "iq4_nl", "iq4_nl", "q5_k:10,iq4_nl", "iq4_nl",
         "q6_k"},
        {"iq4_xs", "iq4_xs", "iq4_xs", "q5_k", "iq4_xs", "iq4_xs", "q5_k:10,iq4_xs", "iq4_xs",
         "q6_k"},
    };
    assert_int_equal(strlen(s.more), 80);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check_row(&s, &rows[i]);
}

/* Mixtral: 8 experts; down projections are counted by the layer in their name. */
static void eight_experts(void **state)
{
    (void)state;
    static const shape s = {"llama", 32,    32,    8, 4096,
                            14336,   false, false, 8, "1111..1..1..1..1..1..1..1..11111"};
    static const row rows[] = {
        {"q4_0", "q4_0", "q8_0", "q8_0", "q4_0", "q4_0", "q4_0", "q4_0", "q6_k"},
        {"q2_k", "q2_k", "q8_0", "q8_0", "q5_k", "q2_k", "q3_k", "q2_k", "q6_k"},
        {"q3_k_l", "q3_k", "q8_0", "q8_0", "q3_k", "q3_k", "q5_k", "q3_k", "q6_k"},
        {"q4_k_m", "q4_k", "q8_0", "q8_0", "q5_k", "q4_k", "q6_k*q4_k", "q4_k", "q6_k"},
        {"q5_k_m", "q5_k", "q8_0", "q8_0", "q5_k", "q5_k", "q6_k*q5_k", "q5_k", "q6_k"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check_row(&s, &rows[i]);

    nib_file_type_mix m = mix_of(&s, "q4_k_m");
    expect(&m, &s, "ffn_down_exps", 31, s.ff, "q6_k");
    expect(&m, &s, "ffn_down_exps", 5, s.ff, "q4_k"); /* the counter stands at 1 */
}

/* Rows that no super-block divides: Qwen2-0.5B has 896, SmolLM-135M 576. */
static void stand_ins(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        uint64_t cols;
        const char *fit; /* NULL: none */
    } rows[] = {
        {"q4_k", 4864, "q4_k"},   {"q4_k", 896, "q5_0"},  {"q5_k", 896, "q5_1"},
        {"q6_k", 576, "q8_0"},    {"q2_k", 576, "q4_0"},  {"q3_k", 576, "q4_0"},
        {"iq4_xs", 96, "iq4_nl"}, {"q4_k", 80, "f16"},    {"iq4_xs", 80, "f16"},
        {"q6_k", 100, "f16"},     {"q4_0", 96, "q4_0"},   {"q4_0", 80, "f16"},
        {"q8_0", 80, "f16"},      {"iq4_nl", 100, "f16"}, {"bf16", 7, "bf16"},
        {"q5_1", 896, "q5_1"},    {"q6_k", 1024, "q6_k"}, {"q4_1", 33, "f16"},
        {"iq2_s", 576, "iq4_nl"}, {"tq1_0", 96, "q4_0"},  {"q2_0", 96, "q4_0"},
        {"q1_0", 96, NULL},       {"nvfp4", 96, NULL},    {"mxfp4", 80, "f16"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const nib_codec *c = nib_codec_find(rows[i].type);
        assert_non_null(c);
        nib_type got = nib_file_type_fit(c->type, rows[i].cols);
        if (!rows[i].fit)
            assert_int_equal(got, NIB_TYPE_COUNT);
        else
            assert_string_equal(nib_codec_get(got)->name, rows[i].fit);
    }
    /* An output matrix that the base format does not divide is q8_0 by rule, not by stand-in. */
    static const shape qwen2 = {"qwen2", 24, 14, 2, 896, 4864, true, false, 0, NULL};
    nib_file_type_mix m = mix_of(&qwen2, "q4_k_m");
    expect(&m, &qwen2, "token_embd.weight", 0, 896, "q8_0");
    m = mix_of(&qwen2, "q4_0");
    expect(&m, &qwen2, "token_embd.weight", 0, 896, "q6_k");
}

static void what_is_quantized(void **state)
{
    (void)state;
    assert_true(nib_file_type_quantizable("blk.0.attn_q.weight", 2));
    assert_true(nib_file_type_quantizable("token_embd.weight", 2));
    assert_true(nib_file_type_quantizable("blk.1.ffn_up_exps.weight", 3));
    assert_false(nib_file_type_quantizable("blk.0.attn_q.bias", 1));
    assert_false(nib_file_type_quantizable("blk.0.attn_q.bias", 2));
    assert_false(nib_file_type_quantizable("output_norm.weight", 1));
    assert_false(nib_file_type_quantizable("blk.0.attn_q_norm.weight", 2));
    assert_false(nib_file_type_quantizable("blk.0.ffn_gate_inp.weight", 2));
    assert_false(nib_file_type_quantizable("position_embd.weight", 2));
    assert_false(nib_file_type_quantizable("rope_freqs.weight", 1));
}

static void needing_importance(void **state)
{
    (void)state;
    static const shape s = {"llama", 32, 32, 32, 4096, 11008, false, false, 0, NULL};
    nib_file_type_mix m = mix_of(&s, "q2_k_s");
    assert_true(nib_file_type_needs_importance(&m, "blk.0.attn_q.weight", NIB_Q2_K));
    assert_false(nib_file_type_needs_importance(&m, "blk.0.ffn_down.weight", NIB_Q4_K));
    assert_false(nib_file_type_needs_importance(&m, "token_embd.weight", NIB_Q2_K));
    assert_true(nib_file_type_needs_importance(&m, "blk.0.attn_q.weight", NIB_IQ1_M));
    assert_false(nib_file_type_needs_importance(&m, "blk.0.attn_q.weight", NIB_IQ3_S));
    assert_false(nib_file_type_needs_importance(&m, "output.weight", NIB_IQ2_S));
    m = mix_of(&s, "q2_k");
    assert_false(nib_file_type_needs_importance(&m, "blk.0.attn_q.weight", NIB_Q2_K));
}

/* Numbers of general.file_type. */
static void ids_and_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t id;
    } ids[] = {{"f32", 0},     {"F16", 1},        {"q4_0", 2},    {"q4_1", 3},    {"q8_0", 7},
               {"q5_0", 8},    {"q5_1", 9},       {"q2_k", 10},   {"q3_k_s", 11}, {"q3_k_m", 12},
               {"Q3_k", 12},   {"q3_k_l", 13},    {"q4_k_s", 14}, {"q4_k_m", 15}, {"q4_K", 15},
               {"q5_k_s", 16}, {"q5_k_m", 17},    {"q5_k", 17},   {"q6_k", 18},   {"q2_k_s", 21},
               {"iq4_nl", 25}, {"iq4_xs", 30},    {"BF16", 32},   {"iq1_s", 24},  {"iq3_m", 27},
               {"tq2_0", 37},  {"mxfp4_moe", 38}, {"nvfp4", 39},  {"q2_0", 41}};
    nib_err err = {0};
    const nib_file_type *t;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        assert_int_equal(nib_file_type_find(&t, ids[i].name, &err), NIB_OK);
        assert_int_equal(t->id, ids[i].id);
    }
    assert_int_equal(nib_file_type_find(&t, "q9", &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "unknown file type 'q9'; known: f32"));
    assert_non_null(strstr(err.msg, "tq1_0")); /* the whole list */
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_32_layers),   cmocka_unit_test(importance_changes_down),
        cmocka_unit_test(tied_28_layers),    cmocka_unit_test(llama_70b),
        cmocka_unit_test(eight_experts),     cmocka_unit_test(stand_ins),
        cmocka_unit_test(what_is_quantized), cmocka_unit_test(needing_importance),
        cmocka_unit_test(ids_and_names),
    };
    return cmocka_run_group_tests_name("mix", tests, NULL, NULL);
}
