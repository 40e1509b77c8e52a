/* SPDX-License-Identifier: MIT */
/* Do we round and pack as compressed-tensors does? See tests/golden/ct_pack and ct_quant. */
#include "base/half.h"
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

static nib_packed_parts make(nib_packing f, uint64_t out, uint64_t in)
{
    nib_err err;
    nib_packed_parts l;
    if (nib_packing_make(&l, &f, out, in, &err)) fail_msg("%s", err.msg);
    return l;
}

/* Signed codes to ours, which count from 0. */
static uint8_t *shifted(const int8_t *q, size_t n, unsigned bits)
{
    uint8_t *code = nib_alloc(n, 1);
    for (size_t i = 0; i < n; i++) code[i] = (uint8_t)(q[i] + (1 << (bits - 1)));
    return code;
}

/* Pack codes, with zero points or symmetric, scales of 1; the caller frees it. */
static uint8_t *pack(const nib_packed_parts *l, const uint8_t *code, const uint8_t *zero)
{
    nib_err err;
    uint8_t *packed = nib_alloc((size_t)l->bytes, 1);
    nib_block_param *param = nib_calloc((size_t)(l->out * l->groups), sizeof *param);
    for (size_t i = 0; i < l->out * l->groups; i++) {
        param[i].d = 1;
        param[i].zero = (float)(zero ? zero[i] : 1 << (l->format.bits - 1));
    }
    const nib_packing_values v = {.code = code, .param = param};
    if (nib_packing_pack(packed, l, &v, &err)) fail_msg("%s", err.msg);
    nib_free(param);
    return packed;
}

static void check_codes(const nib_source *s, unsigned bits, const char *values, const char *packed)
{
    const nib_tensor *t = nib_source_find(s, values);
    int8_t *q = bytes_of(s, values);
    uint8_t *code = shifted(q, (size_t)t->bytes, bits);
    nib_packed_parts l =
        make((nib_packing){.kind = NIB_PACKING_CT_PACKED, .bits = bits, .sym = true}, t->shape[0],
             t->shape[1]);
    uint8_t *got = pack(&l, code, NULL);
    expect_part(s, &l, got, NIB_PART_CODES, packed);
    nib_free(q);
    nib_free(code);
    nib_free(got);
}

static void check_zeros(const nib_source *s, unsigned bits)
{
    const nib_tensor *t = nib_source_find(s, "zero_point.values");
    int8_t *z = bytes_of(s, "zero_point.values");
    uint8_t *zero = shifted(z, (size_t)t->bytes, bits);
    nib_packed_parts l =
        make((nib_packing){.kind = NIB_PACKING_CT_PACKED, .bits = bits, .group = 8}, t->shape[0],
             t->shape[1] * 8);
    uint8_t *code = nib_calloc((size_t)(l.out * l.in), 1), *got = pack(&l, code, zero);
    expect_part(s, &l, got, NIB_PART_ZEROS, "zero_point.packed");
    nib_free(z);
    nib_free(zero);
    nib_free(code);
    nib_free(got);
}

static void packs_as_the_original(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= 8; bits++) {
        char name[8];
        snprintf(name, sizeof name, "b%u", bits);
        nib_source *s = open_golden("ct_pack", name);
        check_codes(s, bits, "aligned.values", "aligned.weight_packed");
        check_codes(s, bits, "ragged.values", "ragged.weight_packed");
        check_zeros(s, bits);
        nib_source_close(s);
    }
}

/* ---- rounding ---- */

typedef struct {
    const char *file;
    nib_packing f;
} rounded;

static const rounded files[] = {
    {"int4_asym_group32_f32", {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 32}},
    {"int4_sym_group32_f32", {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 32, .sym = true}},
    {"int4_sym_group64_bf16", {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 64, .sym = true}},
    {"int4_sym_group64_bf16",
     {.kind = NIB_PACKING_CT_INT, .bits = 4, .group = 64, .sym = true, .act = NIB_ACT_TOKEN}},
    {"int8_sym_channel_bf16",
     {.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN}},
    {"int8_sym_channel_f32",
     {.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN}},
    {"int8_sym_tensor_f32",
     {.kind = NIB_PACKING_CT_INT,
      .bits = 8,
      .per_tensor = true,
      .sym = true,
      .act = NIB_ACT_TOKEN}},
};

/* Round to nearest as the layout's number format has it. */
static void round_all(const nib_packed_parts *l, const float *w, uint8_t *code,
                      nib_block_param *param)
{
    nib_err err;
    const nib_ctx ctx = {.threads = 1};
    const nib_int_codec ic = nib_packing_codec(l);
    float *value = nib_alloc((size_t)(l->out * l->in), sizeof *value);
    if (nib_round_rows(&ic.codec, w, NULL, (size_t)l->out, (size_t)l->in, value, code, param, &ctx,
                       &err))
        fail_msg("%s", err.msg);
    nib_free(value);
}

/* We take the nearer of two codes; they round the quotient to the weight's dtype first, and where
 * that falls on the middle take the even one. */
static bool is_tie(float quotient)
{
    return quotient - floorf(quotient) == 0.5f;
}

static void check_rounded(const rounded *x)
{
    nib_err err;
    nib_buf raw = {0};
    nib_source *s = open_golden("ct_quant", x->file);
    const nib_tensor *t = nib_source_find(s, "weight");
    const size_t n = (size_t)(t->shape[0] * t->shape[1]);
    nib_packing f = x->f;
    f.scale_type = nib_packing_scale_type(f.kind, t->codec->type);
    const nib_packed_parts l = make(f, t->shape[0], t->shape[1]);
    float *w = nib_alloc(n, sizeof *w);
    assert_int_equal(nib_source_read_rows(s, t, 0, t->shape[0], w, &raw, 0, &err), NIB_OK);
    int8_t *q = bytes_of(s, "q");
    uint8_t *theirs = shifted(q, n, f.bits), *ours = nib_alloc(n, 1),
            *packed = nib_alloc((size_t)l.bytes, 1);
    nib_block_param *param = nib_calloc((size_t)(l.out * l.groups), sizeof *param);
    round_all(&l, w, ours, param);
    for (size_t i = 0; i < n; i++) {
        const float scale = param[i / l.group].d;
        if (ours[i] == theirs[i]) continue;
        if (abs(ours[i] - theirs[i]) > 1 || !is_tie(nib_scale_stored(t->codec->type, w[i] / scale)))
            fail_msg("%s: code %zu is %d, theirs is %d", x->file, i, ours[i], theirs[i]);
    }
    const nib_packing_values v = {.code = theirs, .param = param};
    if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
    expect_part(s, &l, packed, NIB_PART_SCALES, "weight_scale");
    expect_part(s, &l, packed, NIB_PART_CODES,
                f.kind == NIB_PACKING_CT_INT ? "q" : "weight_packed");
    if (f.kind != NIB_PACKING_CT_INT) expect_part(s, &l, packed, NIB_PART_SHAPE, "weight_shape");
    if (!f.sym) expect_part(s, &l, packed, NIB_PART_ZEROS, "weight_zero_point");
    void *all[] = {w, q, theirs, ours, packed, param};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) nib_free(all[k]);
    nib_buf_free(&raw);
    nib_source_close(s);
}

static void rounds_as_the_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) check_rounded(&files[i]);
}

static void refuse(nib_packing f, uint64_t in, const char *part)
{
    nib_err err;
    nib_packed_parts l;
    assert_int_equal(nib_packing_make(&l, &f, 32, in, &err), NIB_EINVAL);
    if (!strstr(err.msg, part)) fail_msg("%s", err.msg);
}

static void refuses_what_it_cannot_hold(void **state)
{
    (void)state;
    const nib_packing packed = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 32, .sym = true};
    const nib_packing ints = {
        .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN};
    nib_packing f = packed;
    f.bits = 9;
    refuse(f, 64, "1 to 8 bits");
    refuse(packed, 48, "whole groups");
    f = packed, f.group = 0, f.desc_act = true;
    refuse(f, 64, "order of columns");
    f = ints, f.sym = false;
    refuse(f, 64, "symmetric");
    f = ints, f.bits = 4, f.group = 32;
    refuse(f, 48, "whole groups");
    f = ints, f.act = NIB_ACT_NONE;
    refuse(f, 64, "pack-quantized");
    f = packed, f.group = 0, f.per_tensor = true;
    refuse(f, 64, "one scale for a whole weight in int-quantized only");
}

static void rows_with_their_own_scale_are_refused(void **state)
{
    (void)state;
    static uint8_t code[64], packed[256];
    nib_err err;
    nib_block_param param[2] = {{.d = 1, .zero = 128}, {.d = 1, .zero = 128}};
    const nib_packing_values v = {.code = code, .param = param};
    const nib_packed_parts l = make((nib_packing){.kind = NIB_PACKING_CT_INT,
                                                  .bits = 8,
                                                  .per_tensor = true,
                                                  .sym = true,
                                                  .scale_type = NIB_F32,
                                                  .act = NIB_ACT_TOKEN},
                                    2, 32);
    assert_int_equal(l.bytes, 64 + 4);
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_OK);
    param[1].d = 2;
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_EINVAL);
    param[1] = (nib_block_param){.d = 1, .zero = 127};
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_ENUMERIC);
}

/* A byte has room for codes that 4 bits have not. */
static void codes_of_fewer_bits_are_within_them(void **state)
{
    (void)state;
    static uint8_t code[64], packed[256];
    float w[64];
    nib_err err;
    nib_buf work = {0};
    nib_block_param param[4];
    for (size_t i = 0; i < 4; i++) param[i] = (nib_block_param){.d = 1, .zero = 8};
    for (size_t i = 0; i < sizeof code; i++) code[i] = (uint8_t)(i & 15);
    const nib_packing_values v = {.code = code, .param = param};
    const nib_packed_parts l = make((nib_packing){.kind = NIB_PACKING_CT_INT,
                                                  .bits = 4,
                                                  .group = 16,
                                                  .sym = true,
                                                  .scale_type = NIB_F32,
                                                  .act = NIB_ACT_TOKEN},
                                    2, 32);
    assert_int_equal(l.bytes, 64 + 4 * 4);
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_OK);
    assert_int_equal((int8_t)packed[0], -8);
    assert_int_equal(nib_packing_unpack(w, &l, packed, &work, &err), NIB_OK);
    for (int i = 0; i < 64; i++) assert_true(w[i] == (float)((i & 15) - 8));
    const int bad[] = {-9, 8, 127, -128};
    for (size_t i = 0; i < 4; i++) {
        packed[40] = (uint8_t)bad[i];
        assert_int_equal(nib_packing_unpack(w, &l, packed, &work, &err), NIB_EFORMAT);
        if (!strstr(err.msg, "row 1 ")) fail_msg("%s", err.msg);
    }
    nib_buf_free(&work);
}

static void refuses_bad_ranges(void **state)
{
    (void)state;
    static const nib_act_range bad[] = {{0, 0}, {-1, 0}, {INFINITY, 0}, {1, 128}, {1, -129}};
    static uint8_t code[64], packed[256];
    nib_err err;
    nib_packed_parts l = make((nib_packing){.kind = NIB_PACKING_CT_INT,
                                            .bits = 8,
                                            .sym = true,
                                            .scale_type = NIB_BF16,
                                            .act = NIB_ACT_TENSOR},
                              2, 32);
    const nib_block_param param[2] = {{.d = 1, .zero = 128}, {.d = 1, .zero = 128}};
    nib_packing_values v = {.code = code, .param = param, .act = {0.1f, -3}};
    assert_true(l.bytes <= sizeof packed);
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        v.act = bad[i];
        assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_ENUMERIC);
    }
    l.format.act_sym = true;
    v.act = (nib_act_range){1, 1};
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_ENUMERIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_as_the_original),
        cmocka_unit_test(rounds_as_the_original),
        cmocka_unit_test(refuses_what_it_cannot_hold),
        cmocka_unit_test(rows_with_their_own_scale_are_refused),
        cmocka_unit_test(codes_of_fewer_bits_are_within_them),
        cmocka_unit_test(refuses_bad_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
