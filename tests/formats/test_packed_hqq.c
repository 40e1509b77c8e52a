/* SPDX-License-Identifier: MIT */
/* HQQ folders: what the library stored is read, and packed to the same bytes (tests/golden/hqq);
 * what is wrong with damaged ones. */
#include "base/half.h"
#include "formats/packed_format.h"
#include "tests/formats/golden.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const struct {
    const char *name, *codec;
    unsigned bits;
    size_t group;
    bool across;
} states[] = {{"state_b4_g64_axis1", "int4-g64", 4, 64, false},
              {"state_b3_g64_axis1", "int3-g64", 3, 64, false},
              {"state_b8_g128_axis1", "int8-g128", 8, 128, false},
              {"state_b2_g16_axis0", "int2-g16", 2, 16, true},
              {"state_b1_g64_axis1", "int1-g64", 1, 64, false},
              {"state_b5_g64_axis1", "int5-g64", 5, 64, false},
              {"state_b6_g32_axis1", "int6-g32", 6, 32, false}};
enum { STATES = sizeof states / sizeof *states, OUT = 48, IN = 128, N = OUT * IN };

static nib_source *open_state(size_t i)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/hqq/%s", getenv("NIB_GOLDEN"), states[i].name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

/* In pieces of some rows. */
static void read_weight(const nib_source *s, uint64_t at_once, float *x)
{
    nib_buf raw = {0};
    nib_err err = {0};
    const nib_tensor *t = nib_source_find(s, "P.weight");
    for (uint64_t r = 0; r < OUT; r += at_once) {
        const uint64_t n = OUT - r < at_once ? OUT - r : at_once;
        if (nib_source_read_rows(s, t, r, n, x + r * IN, &raw, 0, &err)) fail_msg("%s", err.msg);
    }
    nib_buf_free(&raw);
}

/* The library computes in f16: its difference and its product are off by half an ulp each. */
static void reads_what_the_library_stores(void **state)
{
    (void)state;
    static float x[N], first[N];
    for (size_t i = 0; i < STATES; i++) {
        nib_source *s = open_state(i);
        const nib_tensor *t = nib_source_find(s, "P.weight");
        assert_non_null(t);
        assert_string_equal(t->codec->name, states[i].codec);
        assert_int_equal(nib_tensor_rows(t), OUT);
        assert_int_equal(nib_tensor_cols(t), IN);
        assert_null(nib_source_find(s, "P.W_q"));
        assert_null(nib_source_find(s, "P.compute_dtype"));
        float *want = bytes_of(s, "dequant");
        read_weight(s, OUT, first);
        for (size_t k = 0; k < N; k++)
            if (!(fabsf(first[k] - want[k]) <= fabsf(first[k]) * 0x1.01p-10f + 0x1p-24f))
                fail_msg("%s: weight %zu is %.9g, not %.9g", states[i].name, k, (double)first[k],
                         (double)want[k]);
        for (uint64_t n = 1; n < OUT; n += 6) {
            read_weight(s, n, x);
            assert_memory_equal(x, first, sizeof x);
        }
        nib_int_groups g;
        assert_false(nib_tensor_ints(t, &g));
        nib_free(want);
        nib_source_close(s);
    }
}

static nib_packed_parts layout(unsigned bits, size_t group, size_t out, size_t in, nib_type scales)
{
    nib_packed_parts l;
    nib_err err = {0};
    const nib_packing f = {
        .kind = NIB_PACKING_HQQ, .bits = bits, .group = group, .scale_type = scales};
    if (nib_packing_make(&l, &f, out, in, &err)) fail_msg("%s", err.msg);
    return l;
}

/* Codes and numbers of a stored layer, out of its values, and all its tensors again. */
static void packs_what_the_library_stores(void **state)
{
    (void)state;
    static const char *const names[] = {"W_q",
                                        "scale",
                                        "zero",
                                        "nbits",
                                        "group_size",
                                        "shape",
                                        "axis",
                                        "packing",
                                        "unpack_view_dtype",
                                        "view_as_float",
                                        "quant_scale",
                                        "quant_zero",
                                        "compute_dtype",
                                        "offload_meta",
                                        "encoded_state_dict",
                                        "stores_quant_config",
                                        "channel_wise",
                                        "optimize",
                                        "round_zero"};
    static float x[N];
    static uint8_t code[N];
    static nib_block_param p[N / 32];
    for (size_t i = 0; i < STATES; i++) {
        const size_t group = states[i].group;
        if (states[i].across || states[i].bits == 8)
            continue; /* its round_zero is not by its bits */
        char path[64];
        nib_err err = {0};
        nib_source *s = open_state(i);
        snprintf(path, sizeof path, "hqq/%s", states[i].name);
        nib_source *raw = open_golden(path, "model");
        uint16_t *scale = bytes_of(raw, "P.scale"), *zero = bytes_of(raw, "P.zero");
        read_weight(s, OUT, x);
        for (size_t k = 0; k < N; k++) {
            nib_block_param *g = &p[k / group];
            *g = (nib_block_param){.d = nib_f16_to_f32(scale[k / group]),
                                   .zero = nib_f16_to_f32(zero[k / group])};
            code[k] = (uint8_t)rintf(x[k] / g->d + g->zero);
        }
        const nib_packed_parts l = layout(states[i].bits, group, OUT, IN, NIB_F16);
        uint8_t *packed = nib_alloc((size_t)l.bytes, 1);
        const nib_packing_values v = {.code = code, .param = p};
        if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
        assert_int_equal(l.n_parts, sizeof names / sizeof *names);
        for (size_t k = 0; k < l.n_parts; k++) {
            char name[64];
            snprintf(name, sizeof name, "P.%s", names[k]);
            assert_string_equal(l.part[k].suffix, name + 1);
            expect_part(raw, &l, packed, l.part[k].role, name);
            assert_int_equal(nib_source_find(raw, name)->n_dims, l.part[k].n_dims);
            assert_int_equal(nib_source_find(raw, name)->codec->type, l.part[k].type);
        }
        nib_free(packed), nib_free(scale), nib_free(zero);
        nib_source_close(s), nib_source_close(raw);
    }
}

static void packs_codes_as_the_original(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned bits;
        size_t group, out, in;
    } vectors[] = {{"b2_g16_axis1_32x128", 2, 16, 32, 128},
                   {"b3_g64_axis1_40x128", 3, 64, 40, 128},
                   {"b4_g64_axis1_64x256", 4, 64, 64, 256},
                   {"b8_g64_axis1_32x128", 8, 64, 32, 128}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const size_t n = vectors[i].out * vectors[i].in, groups = n / vectors[i].group;
        nib_err err = {0};
        nib_buf work = {0};
        nib_source *s = open_golden("hqq", vectors[i].name);
        uint8_t *code = bytes_of(s, "W_q_unpacked");
        float *scale = bytes_of(s, "scale"), *zero = bytes_of(s, "zero"),
              *want = bytes_of(s, "dequant"), *got = nib_alloc(n, sizeof *got);
        nib_block_param *p = nib_calloc(groups, sizeof *p);
        for (size_t g = 0; g < groups; g++) p[g].d = scale[g], p[g].zero = zero[g];
        const nib_packed_parts l =
            layout(vectors[i].bits, vectors[i].group, vectors[i].out, vectors[i].in, NIB_F32);
        uint8_t *packed = nib_alloc((size_t)l.bytes, 1);
        const nib_packing_values v = {.code = code, .param = p};
        if (nib_packing_pack(packed, &l, &v, &err)) fail_msg("%s", err.msg);
        expect_part(s, &l, packed, NIB_PART_CODES, "W_q_packed");
        expect_part(s, &l, packed, NIB_PART_SCALES, "scale");
        expect_part(s, &l, packed, NIB_PART_ZEROS, "zero");
        if (nib_packing_unpack(got, &l, packed, &work, &err)) fail_msg("%s", err.msg);
        assert_memory_equal(got, want, n * sizeof *got);
        void *all[] = {code, scale, zero, want, got, p, packed};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) nib_free(all[k]);
        nib_buf_free(&work);
        nib_source_close(s);
    }
}

static void shapes_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        nib_packing f;
        uint64_t out, in;
        const char *part;
    } bad[] = {{{.bits = 7, .group = 64}, 32, 64, "7 bits"},
               {{.bits = 4, .group = 48}, 32, 64, "group size"},
               {{.bits = 4, .group = 64}, 33, 64, "no multiple of 2"},
               {{.bits = 2, .group = 64}, 34, 64, "no multiple of 4"},
               {{.bits = 4, .group = 64, .desc_act = true}, 32, 64, "reordered"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nib_packed_parts l;
        nib_err err = {0};
        nib_packing f = bad[i].f;
        f.kind = NIB_PACKING_HQQ, f.scale_type = NIB_F16;
        assert_int_equal(nib_packing_make(&l, &f, bad[i].out, bad[i].in, &err), NIB_EINVAL);
        assert_non_null(strstr(err.msg, bad[i].part));
    }
}

/* ---- damaged folders ---- */

static char folder[] = "/tmp/nibble-hqq-XXXXXX";

static void path_in(char *buf, size_t n, const char *name)
{
    snprintf(buf, n, "%s/%s", folder, name);
}

static void copy_file(const char *name)
{
    static char data[1 << 17];
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/hqq/state_b4_g64_axis1/%s", getenv("NIB_GOLDEN"), name);
    path_in(to, sizeof to, name);
    FILE *f = fopen(from, "rb"), *g = fopen(to, "wb");
    assert_true(f && g);
    const size_t n = fread(data, 1, sizeof data, f);
    assert_true(n < sizeof data && fwrite(data, 1, n, g) == n);
    fclose(f), fclose(g);
}

static void refused(const char *part)
{
    nib_source *s = NULL;
    nib_err err = {0};
    if (!nib_source_open(&s, folder, &err)) fail_msg("opens, but should say '%s'", part);
    if (!strstr(err.msg, part)) fail_msg("says '%s', should say '%s'", err.msg, part);
    assert_int_equal(err.code, NIB_EFORMAT);
}

/* Other bytes for a tensor; NULL: another name for it. */
static void damage(const char *tensor, const void *bytes, size_t n)
{
    char path[512], quoted[64];
    static char data[1 << 17];
    copy_file("config.json");
    copy_file("model.safetensors");
    path_in(path, sizeof path, "model.safetensors");
    nib_source *s = open_golden("hqq/state_b4_g64_axis1", "model");
    const int fd = open(path, O_RDWR);
    const ssize_t size = pread(fd, data, sizeof data - 1, 0);
    assert_true(size > 0);
    if (bytes) {
        const nib_tensor *t = nib_source_find(s, tensor);
        assert_int_equal(pwrite(fd, bytes, n, (off_t)t->offset), n);
    } else {
        snprintf(quoted, sizeof quoted, "\"%s\"", tensor);
        char *at = strstr(data + 8, quoted);
        assert_non_null(at);
        assert_int_equal(pwrite(fd, "\"Q", 2, at - data), 2);
    }
    close(fd);
    nib_source_close(s);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    static const int64_t no_rows[2] = {0, 128}, other[2] = {48, 64};
    const int32_t seven = 7, three = 3, two = 2, none = 0;
    const uint8_t yes = 1;
    assert_non_null(mkdtemp(folder));
    damage("P.nbits", &seven, 4), refused("'nbits' should be 1 to 6, or 8");
    damage("P.nbits", &three, 4), refused("'packing' should be 3bit_32");
    damage("P.packing", "2bit_u8", 7), refused("'packing' should be 4bit_u8");
    damage("P.group_size", &none, 4), refused("'group_size'");
    damage("P.group_size", &seven, 4), refused("no multiple of the group size");
    damage("P.axis", &two, 4), refused("'axis' should be 0 or 1");
    damage("P.axis", &none, 4), refused("tensor 'P.W_q': shape");
    damage("P.shape", no_rows, 16), refused("'shape'");
    damage("P.shape", other, 16), refused("tensor 'P.W_q': shape");
    damage("P.view_as_float", &yes, 1), refused("'view_as_float'");
    damage("P.quant_scale", &yes, 1), refused("'quant_scale'");
    damage("P.quant_zero", &yes, 1), refused("'quant_zero'");
    damage("P.nbits", NULL, 0), refused("'nbits' is missing");
    damage("P.shape", NULL, 0), refused("'shape' is missing");
    damage("P.zero", NULL, 0), refused("tensor 'P.zero' is missing");
    damage("P.W_q", NULL, 0), refused("is missing");
    nib_source *s;
    nib_err err = {0};
    damage("P.compute_dtype", "torch.bfloat", 12); /* what nobody needs */
    if (nib_source_open(&s, folder, &err)) fail_msg("%s", err.msg);
    nib_source_close(s);
    char path[512];
    path_in(path, sizeof path, "config.json"), remove(path);
    path_in(path, sizeof path, "model.safetensors"), remove(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_the_library_stores),
        cmocka_unit_test(packs_what_the_library_stores),
        cmocka_unit_test(packs_codes_as_the_original),
        cmocka_unit_test(shapes_that_do_not_fit),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
