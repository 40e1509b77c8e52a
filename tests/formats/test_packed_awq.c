/* SPDX-License-Identifier: MIT */
/* Do we pack AWQ tensors as AutoAWQ does, and read them back? See tests/golden/awq_pack. */
#include "base/half.h"
#include "tests/formats/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const struct {
    const char *file;
    unsigned group;
} vectors[] = {{"g128_256x64", 128}, {"g32_64x96", 32}, {"g64_128x32", 64}};

static nib_packed_parts layout_of(const nib_source *s, unsigned group)
{
    nib_err err;
    nib_packed_parts l;
    const nib_tensor *codes = nib_source_find(s, "codes");
    const nib_packing f = {
        .kind = NIB_PACKING_AWQ, .bits = 4, .group = group, .scale_type = NIB_F16};
    if (nib_packing_make(&l, &f, codes->shape[0], codes->shape[1], &err)) fail_msg("%s", err.msg);
    return l;
}

/* zeros and scales are [groups][out] in the file. */
static nib_block_param *params_of(const nib_source *s, const nib_packed_parts *l)
{
    uint8_t *zeros = bytes_of(s, "zeros");
    uint16_t *scales = bytes_of(s, "scales");
    nib_block_param *p = nib_calloc((size_t)(l->out * l->groups), sizeof *p);
    for (size_t r = 0; r < l->out; r++)
        for (size_t g = 0; g < l->groups; g++) {
            p[r * l->groups + g].d = nib_f16_to_f32(scales[g * l->out + r]);
            p[r * l->groups + g].zero = zeros[g * l->out + r];
        }
    nib_free(zeros);
    nib_free(scales);
    return p;
}

static void packs_as_the_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        nib_err err = {0};
        nib_buf work = {0};
        nib_source *s = open_golden("awq_pack", vectors[i].file);
        nib_packed_parts l = layout_of(s, vectors[i].group);
        uint8_t *code = bytes_of(s, "codes"), *packed = nib_alloc((size_t)l.bytes, 1);
        float *weight = bytes_of(s, "weight"),
              *got = nib_alloc((size_t)(l.out * l.in), sizeof *got);
        nib_block_param *param = params_of(s, &l);
        const nib_packing_values v = {.code = code, .param = param};
        if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
        expect_part(s, &l, packed, NIB_PART_CODES, "qweight");
        expect_part(s, &l, packed, NIB_PART_ZEROS, "qzeros");
        expect_part(s, &l, packed, NIB_PART_SCALES, "scales");
        assert_int_equal(nib_packing_unpack(got, &l, packed, &work, &err), NIB_OK);
        assert_memory_equal(got, weight, (size_t)(l.out * l.in) * sizeof *got);
        void *all[] = {code, packed, weight, got, param};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) nib_free(all[k]);
        nib_buf_free(&work);
        nib_source_close(s);
    }
}

static void refuse(nib_packing f, uint64_t out, uint64_t in, const char *part)
{
    nib_err err;
    nib_packed_parts l;
    f.kind = NIB_PACKING_AWQ;
    assert_int_equal(nib_packing_make(&l, &f, out, in, &err), NIB_EINVAL);
    if (!strstr(err.msg, part)) fail_msg("%s", err.msg);
}

static void refuses_what_it_cannot_hold(void **state)
{
    (void)state;
    refuse((nib_packing){.bits = 3, .group = 32}, 32, 32, "AWQ folders hold 4");
    refuse((nib_packing){.bits = 4, .group = 32, .sym = true}, 32, 32, "no symmetric form");
    refuse((nib_packing){.bits = 4, .group = 32, .desc_act = true}, 32, 32, "reordered");
    refuse((nib_packing){.bits = 4, .group = 32}, 40, 32, "[40, 32]");
    refuse((nib_packing){.bits = 4, .group = 32}, 32, 48, "[32, 48]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packs_as_the_original),
                                       cmocka_unit_test(refuses_what_it_cannot_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
