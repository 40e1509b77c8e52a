/* SPDX-License-Identifier: MIT */
/* Folders of small floats: bytes and values as compressed-tensors' formulas give them
 * (tests/golden/fp8, fp8_block, nvfp4, mxfp4, mxfp8), and what searched scales gain. */
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

#define E4M3 .bits = 8, .sym = true, .code_type = NIB_F8_E4M3, .scale_type = NIB_F32
#define E2M1 .bits = 4, .sym = true
#define MXFP8 .bits = 8, .sym = true, .code_type = NIB_F8_E4M3, .group = 32, .scale_type = NIB_U8

/* A weight, and the parts that it should become. */
typedef struct {
    const char *set, *file, *weight;
    nib_packing f;
    const char *codes, *scales, *global, *values;
} vector;

static const vector vectors[] = {
    {"fp8",
     "weights",
     "W",
     {.kind = NIB_PACKING_FP8, E4M3, .rows = 64, .group = 64},
     "block.weight",
     "block.weight_scale_inv",
     NULL,
     NULL},
    {"fp8",
     "weights",
     "W",
     {.kind = NIB_PACKING_FBGEMM, E4M3},
     "channel.weight",
     "channel.weight_scale",
     NULL,
     NULL},
    {"fp8",
     "weights",
     "W",
     {.kind = NIB_PACKING_CT_FP8, E4M3},
     "channel.weight",
     "channel.weight_scale",
     NULL,
     NULL},
    {"fp8",
     "weights",
     "W",
     {.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true},
     "tensor.weight",
     "tensor.weight_scale",
     NULL,
     NULL},
    {"fp8_block",
     "b128",
     "W",
     {.kind = NIB_PACKING_CT_FP8, E4M3, .rows = 128, .group = 128},
     "block.weight",
     "block.weight_scale",
     NULL,
     NULL},
    {"nvfp4",
     "f32",
     "weight",
     {.kind = NIB_PACKING_CT_NVFP4, E2M1, .group = 16, .scale_type = NIB_F8_E4M3},
     "weight_packed",
     "weight_scale",
     "weight_global_scale",
     "dequant"},
    {"mxfp4",
     "quant",
     "weight",
     {.kind = NIB_PACKING_CT_MXFP4, E2M1, .group = 32, .scale_type = NIB_U8},
     "weight_packed",
     "weight_scale",
     NULL,
     "dequant"},
    {"mxfp4",
     "quant",
     "weight",
     {.kind = NIB_PACKING_CT_MXFP8, MXFP8},
     "mxfp8.weight",
     "mxfp8.weight_scale",
     NULL,
     "mxfp8.dequant"},
    {"mxfp8",
     "f32",
     "weight",
     {.kind = NIB_PACKING_CT_MXFP8, MXFP8},
     "codes",
     "scales",
     NULL,
     "dequant"},
};
enum { N = sizeof vectors / sizeof *vectors };

static float *values_of(const nib_source *s, const nib_tensor *t)
{
    float *x = nib_alloc((size_t)nib_tensor_elems(t), sizeof *x);
    nib_buf raw = {0};
    nib_err err = {0};
    if (nib_source_read_rows(s, t, 0, nib_tensor_rows(t), x, &raw, 0, &err))
        fail_msg("%s", err.msg);
    nib_buf_free(&raw);
    return x;
}

/* One weight on its way. */
typedef struct {
    nib_packed_parts l;
    size_t n;
    float *w, *value, *back;
    uint8_t *code, *packed;
    nib_block_param *param;
} layer;

static layer round_layer(const nib_source *s, const vector *v, nib_int_scales scales,
                         const float *imp)
{
    nib_err err = {0};
    nib_buf work = {0};
    layer y = {.n = 0};
    const nib_ctx ctx = {.threads = 2, .cpu = 0};
    const nib_tensor *t = nib_source_find(s, v->weight);
    if (nib_packing_make(&y.l, &v->f, t->shape[0], t->shape[1], &err)) fail_msg("%s", err.msg);
    nib_int_codec c = nib_packing_codec(&y.l);
    c.scales = scales;
    y.n = (size_t)nib_tensor_elems(t);
    y.w = values_of(s, t);
    y.value = nib_alloc(y.n, sizeof *y.value), y.back = nib_alloc(y.n, sizeof *y.back);
    y.code = nib_alloc(y.n, 1), y.packed = nib_alloc((size_t)y.l.bytes, 1);
    y.param = nib_calloc(y.n / c.codec.block, sizeof *y.param);
    if (nib_round_rows(&c.codec, y.w, imp, t->shape[0], t->shape[1], y.value, y.code, y.param, &ctx,
                       &err))
        fail_msg("%s", err.msg);
    const nib_packing_values values = {.code = y.code, .param = y.param};
    if (nib_packing_pack(y.packed, &y.l, &values, &err)) fail_msg("%s", err.msg);
    if (nib_packing_unpack(y.back, &y.l, y.packed, &work, &err)) fail_msg("%s", err.msg);
    nib_buf_free(&work);
    return y;
}

static void free_layer(layer *y)
{
    nib_free(y->w), nib_free(y->value), nib_free(y->back);
    nib_free(y->code), nib_free(y->packed), nib_free(y->param);
}

/* From the largest magnitude, bit for bit. */
static void packs_as_the_formulas(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++) {
        const vector *v = &vectors[i];
        nib_source *s = open_golden(v->set, v->file);
        layer y = round_layer(s, v, NIB_SCALES_RANGE, NULL);
        expect_part(s, &y.l, y.packed, NIB_PART_CODES, v->codes);
        expect_part(s, &y.l, y.packed, NIB_PART_SCALES, v->scales);
        if (v->global) expect_part(s, &y.l, y.packed, NIB_PART_GLOBAL, v->global);
        assert_memory_equal(y.back, y.value, y.n * sizeof *y.back);
        if (v->values) {
            float *want = bytes_of(s, v->values);
            for (size_t k = 0; k < y.n; k++) /* zeros of either sign */
                if (y.back[k] != want[k]) fail_msg("%s: weight %zu", v->set, k);
            nib_free(want);
        }
        free_layer(&y);
        nib_source_close(s);
    }
}

/* What others packed. */
static void reads_bf16_scales(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_buf work = {0};
    nib_packed_parts l;
    nib_source *s = open_golden("nvfp4", "bf16");
    static const char *const names[] = {"weight_packed", "weight_scale", "weight_global_scale"};
    if (nib_packing_make(&l, &vectors[5].f, 24, 128, &err)) fail_msg("%s", err.msg);
    uint8_t *packed = nib_alloc((size_t)l.bytes, 1);
    assert_int_equal(l.n_parts, 3);
    for (size_t i = 0; i < 3; i++) {
        void *part = bytes_of(s, names[i]);
        memcpy(packed + l.part[i].at, part, (size_t)l.part[i].bytes);
        nib_free(part);
    }
    float *want = bytes_of(s, "dequant"), got[24 * 128];
    if (nib_packing_unpack(got, &l, packed, &work, &err)) fail_msg("%s", err.msg);
    for (size_t k = 0; k < 24 * 128; k++) assert_true(got[k] == want[k]);
    nib_free(want), nib_free(packed);
    nib_buf_free(&work);
    nib_source_close(s);
}

static double error_of(const layer *y, const float *imp)
{
    double sum = 0;
    for (size_t k = 0; k < y->n; k++)
        sum += (imp ? imp[k % y->l.in] : 1) * ((double)y->w[k] - y->value[k]) *
               ((double)y->w[k] - y->value[k]);
    return sum;
}

/* The search minimizes just this; a scale of a whole matrix stays. With half or twice a power of
 * two E4M3 has the same steps but at its ends, and the largest weight is cut or not: nothing to
 * gain. */
static void searched_scales_gain(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++) {
        const vector *v = &vectors[i];
        float imp[300];
        for (size_t k = 0; k < 300; k++) imp[k] = k % 7 == 3 ? 50 : 1;
        nib_source *s = open_golden(v->set, v->file);
        layer range = round_layer(s, v, NIB_SCALES_RANGE, imp),
              even = round_layer(s, v, NIB_SCALES_SQUARE, NULL),
              weighed = round_layer(s, v, NIB_SCALES_SQUARE, imp);
        const double from = error_of(&range, NULL), to = error_of(&even, NULL),
                     from_imp = error_of(&even, imp), to_imp = error_of(&weighed, imp);
        print_message("# %s %zu: %g to %g; weighed %g to %g\n", v->set, i, from, to, from_imp,
                      to_imp);
        if (v->f.per_tensor || v->f.kind == NIB_PACKING_CT_MXFP8)
            assert_true(to == from && to_imp == from_imp);
        else if (!(to < 0.97 * from && to_imp < 0.99 * from_imp))
            fail_msg("%s %zu: %g to %g; weighed %g to %g", v->set, i, from, to, from_imp, to_imp);
        assert_memory_equal(weighed.back, weighed.value, weighed.n * sizeof *weighed.back);
        free_layer(&range), free_layer(&even), free_layer(&weighed);
        nib_source_close(s);
    }
}

/* A tile whose rows have scales of their own, as a wrong solver would make them, is not written. */
static void tiles_have_one_scale(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_source *s = open_golden("fp8", "weights");
    layer y = round_layer(s, &vectors[0], NIB_SCALES_RANGE, NULL);
    const nib_packing_values v = {.code = y.code, .param = y.param};
    y.param[(96 * 160 / 32) - 1].d *= 2;
    assert_int_equal(nib_packing_pack(y.packed, &y.l, &v, &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "row 95 has the scale"));
    free_layer(&y);
    nib_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_as_the_formulas),
        cmocka_unit_test(reads_bf16_scales),
        cmocka_unit_test(searched_scales_gain),
        cmocka_unit_test(tiles_have_one_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
