/* SPDX-License-Identifier: MIT */
/* Do we pack GPTQ tensors as the original does, and read them back? See tests/golden/gptq_pack. */
#include "tests/formats/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct {
    const char *file;
    unsigned bits, group;
} vectors[] = {
    {"b2_g64_128x32", 2, 64},   {"b3_g32_96x32_act", 3, 32},  {"b3_g64_128x64", 3, 64},
    {"b4_g128_256x64", 4, 128}, {"b4_g32_128x96_act", 4, 32}, {"b8_g32_96x64_act", 8, 32},
    {"b8_gall_64x32", 8, 0},
};

/* Columns in the order of their groups, and inside a group as they lie. */
static uint32_t *outer_of(const int32_t *g_idx, size_t n)
{
    uint32_t *outer = nib_alloc(n, sizeof *outer);
    size_t at = 0;
    for (int32_t g = 0; at < n; g++)
        for (size_t i = 0; i < n; i++)
            if (g_idx[i] == g) outer[at++] = (uint32_t)i;
    return outer;
}

static void check_version(const nib_source *s, size_t i, bool v2)
{
    nib_err err = {0};
    const nib_tensor *codes = nib_source_find(s, "codes");
    const uint64_t out = codes->shape[0], in = codes->shape[1];
    nib_packing f = {.scale_type = NIB_F16,
                     .bits = vectors[i].bits,
                     .group = vectors[i].group,
                     .desc_act = true,
                     .v2 = v2};
    nib_packed_parts l;
    nib_buf work = {0};
    assert_int_equal(nib_packing_make(&l, &f, out, in, &err), NIB_OK);
    uint8_t *code = bytes_of(s, "codes"), *zeros = bytes_of(s, "zeros");
    float *scale = bytes_of(s, "scale_in"), *weight = bytes_of(s, "weight");
    int32_t *g_idx = bytes_of(s, "g_idx");
    uint32_t *outer = outer_of(g_idx, (size_t)in);
    size_t params = (size_t)(out * l.groups);
    nib_block_param *param = nib_calloc(params, sizeof *param);
    for (size_t k = 0; k < params; k++) param[k].d = scale[k], param[k].zero = zeros[k];
    uint8_t *packed = nib_alloc((size_t)l.bytes, 1);
    float *got = nib_alloc((size_t)(out * in), sizeof *got);
    if (nib_packing_pack(packed, &l,
                         &(nib_packing_values){.code = code, .param = param, .outer = outer}, &err))
        fail_msg("%s", err.msg);
    expect_part(s, &l, packed, NIB_PART_CODES, "v1.qweight");
    expect_part(s, &l, packed, NIB_PART_ZEROS, v2 ? "v2.qzeros" : "v1.qzeros");
    expect_part(s, &l, packed, NIB_PART_SCALES, "scales");
    expect_part(s, &l, packed, NIB_PART_G_IDX, "g_idx");
    assert_int_equal(nib_packing_unpack(got, &l, packed, &work, &err), NIB_OK);
    assert_memory_equal(got, weight, (size_t)(out * in) * sizeof *got);
    void *all[] = {code, zeros, scale, weight, g_idx, outer, param, packed, got};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) nib_free(all[k]);
    nib_buf_free(&work);
}

static void packs_as_the_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        nib_source *s = open_golden("gptq_pack", vectors[i].file);
        check_version(s, i, false);
        check_version(s, i, true);
        nib_source_close(s);
    }
}

static void refuses_what_it_cannot_hold(void **state)
{
    (void)state;
    nib_err err;
    nib_packed_parts l;
    nib_packing f = {.scale_type = NIB_F16, .bits = 5, .group = 32};
    assert_int_equal(nib_packing_make(&l, &f, 32, 32, &err), NIB_EINVAL);
    f.bits = 4;
    assert_int_equal(nib_packing_make(&l, &f, 32, 48, &err), NIB_EINVAL);
    assert_int_equal(nib_packing_make(&l, &f, 40, 32, &err), NIB_EINVAL);
    assert_int_equal(nib_packing_make(&l, &f, 32, 32, &err), NIB_OK);
    static uint8_t code[32 * 32], packed[4096];
    static nib_block_param param[32];
    const nib_packing_values v = {.code = code, .param = param};
    assert_true(l.bytes <= sizeof packed);
    for (int i = 0; i < 32; i++) param[i] = (nib_block_param){.d = 1, .zero = 8};
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_OK);
    param[7].zero = 0;
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_ENUMERIC);
    l.format.v2 = true;
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_OK);
    param[7].d = 1e6f;
    assert_int_equal(nib_packing_pack(packed, &l, &v, &err), NIB_ENUMERIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packs_as_the_original),
                                       cmocka_unit_test(refuses_what_it_cannot_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
