/* SPDX-License-Identifier: MIT */
/* One weight in many containers (tests/golden/lossless): from the integers of any of them to the
 * bytes of every other that holds them, and not into those that do not. */
#include "quant/regrid.h"
#include "tests/formats/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct {
    const char *file;
    unsigned bits, group;
    bool sym;
    const char *blocks[5]; /* that hold it */
    const char *not_held;  /* that do not; NULL */
} vector;

static const vector vectors[] = {
    {"asym2_g64", 2, 64, false, {"q4_0", "q5_0", "q8_0"}, NULL},
    {"asym3_g32", 3, 32, false, {"q4_0", "q5_0", "q8_0"}, NULL},
    {"asym4_g32", 4, 32, false, {"q5_0", "q8_0"}, "q4_1"},
    {"asym4_g64", 4, 64, false, {"q5_0", "q8_0"}, "q4_0"},
    {"sym4_g32", 4, 32, true, {"q4_0", "q5_0", "q8_0", "q4_1"}, NULL},
    {"sym4_g64", 4, 64, true, {"q4_0", "q5_0", "q8_0", "q4_1"}, NULL},
    {"sym8_g64", 8, 64, true, {"q8_0"}, "q5_0"},
};

/* The weight as integers. */
typedef struct {
    size_t rows, cols, groups;
    uint8_t *code;
    float *scale;
    int32_t *zero;
    uint32_t *group_of;
} ints;

static ints ints_new(size_t rows, size_t cols, size_t group)
{
    ints x = {rows, cols, cols / group, NULL, NULL, NULL, NULL};
    x.code = nib_alloc(rows * cols, 1);
    x.scale = nib_alloc(rows * x.groups, sizeof *x.scale);
    x.zero = nib_alloc(rows * x.groups, sizeof *x.zero);
    x.group_of = nib_alloc(cols, sizeof *x.group_of);
    for (size_t c = 0; c < cols; c++) x.group_of[c] = (uint32_t)(c / group);
    return x;
}

static void ints_free(ints *x)
{
    nib_free(x->code);
    nib_free(x->scale);
    nib_free(x->zero);
    nib_free(x->group_of);
}

static ints ints_of(const nib_source *s, const vector *v)
{
    const nib_tensor *t = nib_source_find(s, "u");
    ints x = ints_new((size_t)t->shape[0], (size_t)t->shape[1], v->group);
    int32_t *u = bytes_of(s, "u");
    uint8_t *scale = bytes_of(s, "s");
    nib_free(x.zero);
    x.zero = bytes_of(s, "z");
    for (size_t i = 0; i < x.rows * x.cols; i++) x.code[i] = (uint8_t)u[i];
    nib_codec_get(NIB_F16)->decode(x.scale, scale, x.rows * x.groups, 0);
    nib_free(scale);
    nib_free(u);
    return x;
}

static nib_grid_row row_of(const ints *x, size_t r)
{
    return (nib_grid_row){x->cols,
                          x->code + r * x->cols,
                          x->scale + r * x->groups,
                          x->zero + r * x->groups,
                          x->group_of,
                          NULL};
}

/* Codes and parameters on another grid; false: a row is not held. */
static bool regrid(uint8_t *code, nib_block_param *param, const nib_grid *to, const ints *x)
{
    for (size_t r = 0; r < x->rows; r++) {
        const nib_grid_row row = row_of(x, r);
        size_t at = x->cols;
        if (!nib_regrid_row(code + r * x->cols, param + r * (x->cols / to->group), to, &row, &at))
            continue;
        assert_true(at < x->cols);
        return false;
    }
    return true;
}

/* Rows in a block format; NULL: it does not hold them. */
static uint8_t *to_blocks(const nib_codec *c, const ints *x)
{
    nib_grid to;
    const size_t n = x->rows * x->cols;
    uint8_t *code = nib_alloc(n, 1), *packed = nib_alloc(n / c->block, c->bytes);
    nib_block_param *param = nib_alloc(n / c->block, sizeof *param);
    assert_true(nib_grid_of_codec(&to, c));
    const bool held = regrid(code, param, &to, x);
    for (size_t b = 0; b < n / c->block && held; b++)
        c->pack(packed + b * c->bytes, &param[b], code + b * c->block);
    nib_free(code);
    nib_free(param);
    if (held) return packed;
    nib_free(packed);
    return NULL;
}

static ints from_blocks(const nib_codec *c, const uint8_t *packed, size_t rows, size_t cols)
{
    ints x = ints_new(rows, cols, c->block);
    for (size_t b = 0; b < rows * cols / c->block; b++) {
        nib_block_param p;
        c->unpack(&p, x.code + b * c->block, packed + b * c->bytes);
        x.scale[b] = p.d;
        x.zero[b] = -c->level0;
    }
    return x;
}

static void into_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const vector *v = &vectors[i];
        nib_source *s = open_golden("lossless", v->file);
        ints x = ints_of(s, v);
        float *w = bytes_of(s, "W"), *got = nib_alloc(x.rows * x.cols, sizeof *got);
        for (size_t k = 0; k < 5 && v->blocks[k]; k++) {
            const nib_codec *c = nib_codec_find(v->blocks[k]);
            uint8_t *packed = to_blocks(c, &x), *want = bytes_of(s, v->blocks[k]);
            const size_t blocks = x.rows * x.cols / c->block;
            if (!packed) fail_msg("%s does not go into %s", v->file, c->name);
            assert_memory_equal(packed, want, blocks * c->bytes);
            c->decode(got, packed, blocks, 0);
            for (size_t j = 0; j < x.rows * x.cols; j++) assert_true(got[j] == w[j]);
            nib_free(packed);
            nib_free(want);
        }
        if (v->not_held) assert_null(to_blocks(nib_codec_find(v->not_held), &x));
        nib_free(w);
        nib_free(got);
        ints_free(&x);
        nib_source_close(s);
    }
}

/* Onto the grid of a packed layer, whose bytes must be those of the set. */
static void expect_packed(const nib_source *s, const vector *v, const ints *x, nib_packing f,
                          const char *const part[NIB_PART_ROLES])
{
    nib_packed_parts l;
    nib_err err = {0};
    f.bits = v->bits, f.group = v->group, f.sym = v->sym && f.kind != NIB_PACKING_AWQ;
    f.scale_type = NIB_F16;
    assert_int_equal(nib_packing_make(&l, &f, x->rows, x->cols, &err), NIB_OK);
    const int32_t last = (1 << v->bits) - 1, middle = 1 << (v->bits - 1);
    const int32_t low = f.kind == NIB_PACKING_GPTQ && !f.v2;
    const nib_grid to = {.n_codes = last + 1,
                         .zero_low = f.sym ? middle : low,
                         .zero_high = f.sym ? middle : last,
                         .group = v->group,
                         .scale_type = NIB_F16};
    uint8_t *code = nib_alloc(x->rows * x->cols, 1), *packed = nib_alloc((size_t)l.bytes, 1);
    nib_block_param *param = nib_alloc(x->rows * x->cols / v->group, sizeof *param);
    if (!regrid(code, param, &to, x)) fail_msg("%s is not held", v->file);
    if (nib_packing_pack(packed, &l, &(nib_packing_values){.code = code, .param = param}, &err))
        fail_msg("%s: %s", v->file, err.msg);
    for (int role = 0; role < NIB_PART_ROLES; role++)
        if (part[role]) expect_part(s, &l, packed, (nib_part_role)role, part[role]);
    nib_free(code);
    nib_free(packed);
    nib_free(param);
}

static void expect_folders(const nib_source *s, const vector *v, const ints *x)
{
    static const char
        *const v1[NIB_PART_ROLES] = {[NIB_PART_CODES] = "gptq.qweight",
                                     [NIB_PART_SCALES] = "gptq.scales",
                                     [NIB_PART_ZEROS] = "gptq.qzeros",
                                     [NIB_PART_G_IDX] = "gptq.g_idx"},
               *const v2[NIB_PART_ROLES] =
                   {[NIB_PART_CODES] = "gptq.qweight", [NIB_PART_ZEROS] = "gptq_v2.qzeros"},
               *const awq[NIB_PART_ROLES] = {[NIB_PART_CODES] = "awq.qweight",
                                             [NIB_PART_SCALES] = "awq.scales",
                                             [NIB_PART_ZEROS] = "awq.qzeros"},
               *const sym[NIB_PART_ROLES] = {[NIB_PART_CODES] = "ct.weight_packed",
                                             [NIB_PART_SCALES] = "ct.weight_scale",
                                             [NIB_PART_SHAPE] = "ct.weight_shape"},
               *const asym[NIB_PART_ROLES] = {[NIB_PART_CODES] = "ct.weight_packed",
                                              [NIB_PART_SCALES] = "ct.weight_scale",
                                              [NIB_PART_ZEROS] = "ct.weight_zero_point"};
    expect_packed(s, v, x, (nib_packing){.kind = NIB_PACKING_GPTQ}, v1);
    expect_packed(s, v, x, (nib_packing){.kind = NIB_PACKING_GPTQ, .v2 = true}, v2);
    if (v->bits == 4) expect_packed(s, v, x, (nib_packing){.kind = NIB_PACKING_AWQ}, awq);
    if (v->bits >= 4)
        expect_packed(s, v, x, (nib_packing){.kind = NIB_PACKING_CT_PACKED}, v->sym ? sym : asym);
}

static void into_folders(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        nib_source *s = open_golden("lossless", vectors[i].file);
        ints x = ints_of(s, &vectors[i]);
        expect_folders(s, &vectors[i], &x);
        ints_free(&x);
        nib_source_close(s);
    }
}

/* From the blocks of GGUF, whose groups are smaller, to the folders' symmetric groups. */
static void back_into_folders(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const vector *v = &vectors[i];
        if (!v->sym) continue;
        nib_source *s = open_golden("lossless", v->file);
        const nib_tensor *t = nib_source_find(s, "u");
        for (size_t k = 0; k < 5 && v->blocks[k]; k++) {
            if (!strcmp(v->blocks[k], "q4_1")) continue; /* has a minimum */
            uint8_t *packed = bytes_of(s, v->blocks[k]);
            ints x = from_blocks(nib_codec_find(v->blocks[k]), packed, (size_t)t->shape[0],
                                 (size_t)t->shape[1]);
            expect_folders(s, v, &x);
            ints_free(&x);
            nib_free(packed);
        }
        nib_source_close(s);
    }
}

/* ---- what is not held, and why ---- */

static nib_held try_row(const nib_grid *to, const uint8_t code[4], const float scale[2],
                        const int32_t zero[2], nib_block_param param[2], uint8_t out[4])
{
    static const uint32_t group_of[4] = {0, 0, 1, 1};
    size_t at;
    const nib_grid_row row = {4, code, scale, zero, group_of, NULL};
    return nib_regrid_row(out, param, to, &row, &at);
}

static void says_why_not(void **state)
{
    (void)state;
    uint8_t out[4];
    nib_block_param param[4];
    const uint8_t code[4] = {0, 15, 3, 4};
    nib_grid to = {
        .n_codes = 16, .zero_low = 1, .zero_high = 15, .group = 2, .scale_type = NIB_F16};
    const float scale[2] = {0.5f, 0.25f}, fine[2] = {0.1f, 0.25f}, large[2] = {1e6f, 1};
    assert_int_equal(try_row(&to, code, scale, (int32_t[]){7, 9}, param, out), NIB_HELD);
    assert_true(param[0].zero == 7 && param[1].zero == 9 && out[1] == 15);
    /* all codes taken, and a zero point that cannot be stored */
    assert_int_equal(try_row(&to, code, scale, (int32_t[]){0, 9}, param, out), NIB_HELD_NOT_LEVELS);
    /* a group with room moves to the middle */
    assert_int_equal(try_row(&to, code, scale, (int32_t[]){7, 0}, param, out), NIB_HELD);
    assert_true(param[1].zero == 8 && out[2] == 11 && out[3] == 12);
    assert_int_equal(try_row(&to, code, fine, (int32_t[]){7, 9}, param, out), NIB_HELD_NOT_SCALE);
    assert_int_equal(try_row(&to, code, large, (int32_t[]){7, 9}, param, out), NIB_HELD_NOT_SCALE);
    to.scale_type = NIB_F32;
    assert_int_equal(try_row(&to, code, fine, (int32_t[]){7, 9}, param, out), NIB_HELD);
    to.group = 4;
    assert_int_equal(try_row(&to, code, fine, (int32_t[]){7, 9}, param, out), NIB_HELD_NOT_SCALES);
}

/* Columns that are gathered from elsewhere. */
static void columns_move(void **state)
{
    (void)state;
    uint8_t out[4];
    nib_block_param param[2];
    const uint8_t code[4] = {1, 2, 3, 4};
    const float scale[2] = {0.5f, 0.25f};
    const int32_t zero[2] = {8, 8};
    const uint32_t group_of[4] = {1, 0, 1, 0}, from[4] = {1, 3, 0, 2};
    nib_grid_row row = {4, code, scale, zero, group_of, from};
    const nib_grid to = {
        .n_codes = 16, .zero_low = 8, .zero_high = 8, .group = 2, .scale_type = NIB_F16};
    assert_int_equal(nib_regrid_row(out, param, &to, &row, NULL), NIB_HELD);
    assert_true(param[0].d == 0.5f && param[1].d == 0.25f);
    assert_memory_equal(out, ((uint8_t[]){2, 4, 1, 3}), 4);
    row.from = NULL;
    assert_int_equal(nib_regrid_row(out, param, &to, &row, NULL), NIB_HELD_NOT_SCALES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(into_blocks),       cmocka_unit_test(into_folders),
        cmocka_unit_test(back_into_folders), cmocka_unit_test(says_why_not),
        cmocka_unit_test(columns_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
