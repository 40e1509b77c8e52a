/* SPDX-License-Identifier: MIT */
/* Bytes and values of the reference, bit for bit, on every kernel path.
 *
 * Files: tests/golden/gguf and gguf_edge (see their READMEs). Check values: CRC-32 of what ggml
 * makes of a generated input. */
#include "cpus.h"

#include "base/mem.h"
#include "formats/source.h"
#include "quant/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <zlib.h>

enum { ROWS = 12, COLS = 1024, CRC_ROWS = 8, CRC_COLS = 512, EDGE_ROWS = 20, EDGE_COLS = 512 };

static const char *golden_dir, *edge_dir;

typedef struct {
    nib_type type;
    unsigned cpu;
    uint32_t crc, crc_imp; /* of the generated input; without and with importances. Without, 0 is
                              what the reference refuses to do */
} golden_case;

/* ---- vectors ---- */

static void *read_tensor(const nib_source *s, const char *name, size_t *bytes)
{
    const nib_tensor *t = nib_source_find(s, name);
    nib_err err = {0};
    assert_non_null(t);
    void *p = nib_alloc((size_t)t->bytes, 1);
    assert_non_null(p);
    if (nib_source_read(s, t, 0, p, (size_t)t->bytes, &err)) fail_msg("%s", err.msg);
    *bytes = (size_t)t->bytes;
    return p;
}

static void expect_equal(const char *what, const uint8_t *got, const uint8_t *want, size_t n,
                         size_t unit)
{
    size_t wrong = 0, first = n;
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i]) {
            wrong++;
            if (first == n) first = i;
        }
    if (wrong)
        fail_msg("%s: %zu of %zu bytes differ, first in item %zu at byte %zu: %02x, not %02x", what,
                 wrong, n, first / unit, first % unit, got[first], want[first]);
}

/* Encode src and compare, then decode the reference's bytes and compare with its values. */
static void check_vector(const float *src, size_t rows, size_t cols, const nib_source *s,
                         const nib_codec *c, unsigned cpu, const char *bytes, const char *deq,
                         const float *imp)
{
    size_t n_bytes, n_deq;
    if (!nib_source_find(s, bytes)) return; /* the reference refuses to */
    uint8_t *want = read_tensor(s, bytes, &n_bytes), *got = nib_alloc(n_bytes, 1);
    float *decoded = nib_alloc(rows * cols, sizeof *decoded);
    void *scratch = nib_alloc(nib_encode_scratch(cols), 1);
    assert_int_equal(n_bytes, rows * cols / c->block * c->bytes);
    assert_int_equal(c->encode(got, src, imp, rows, cols, cpu, scratch), 0);
    expect_equal(bytes, got, want, n_bytes, c->bytes);
    assert_true(c->valid(want, rows * cols / c->block));
    if (deq) {
        uint8_t *values = read_tensor(s, deq, &n_deq);
        assert_int_equal(n_deq, rows * cols * sizeof *decoded);
        c->decode(decoded, want, rows * cols / c->block, cpu);
        expect_equal(deq, (uint8_t *)decoded, values, n_deq, 4);
        nib_free(values);
    }
    nib_free(want), nib_free(got), nib_free(decoded), nib_free(scratch);
}

static nib_source *open_golden(const char *dir, const char *name)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/%s.safetensors", dir, name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    return s;
}

static void vectors(void **state)
{
    const golden_case *g = *state;
    if (test_cpu_missing(g->cpu)) skip();
    const nib_codec *c = nib_codec_get(g->type);
    nib_source *s = open_golden(golden_dir, c->name);
    size_t n, n_src;
    float *imp = read_tensor(s, "imatrix", &n), *src = read_tensor(s, "src", &n_src);
    assert_int_equal(n, COLS * 4);
    assert_int_equal(n_src, ROWS * COLS * 4);
    check_vector(src, ROWS, COLS, s, c, g->cpu, "bytes", "deq", NULL);
    check_vector(src, ROWS, COLS, s, c, g->cpu, "bytes_imatrix", "deq_imatrix", imp);
    nib_free(imp), nib_free(src);
    nib_source_close(s);
}

/* Awkward rows, of the formats whose files are there. Not with importances of zero where they
 * count: those are not the reference's (see ggml_block.c). */
static void edges(void **state)
{
    const golden_case *g = *state;
    const nib_codec *c = nib_codec_get(g->type);
    if (test_cpu_missing(g->cpu)) skip();
    nib_source *in = open_golden(edge_dir, "inputs"), *s = open_golden(edge_dir, c->name);
    size_t n;
    float *src = read_tensor(in, "src", &n), *imp = read_tensor(in, "imatrix", &n);
    float *ones = read_tensor(in, "imatrix_ones", &n),
          *zeros = read_tensor(in, "imatrix_zeros", &n);
    assert_int_equal(n, EDGE_COLS * 4);
#define CHECK(bytes, deq, imp)                                                                     \
    check_vector(src, EDGE_ROWS, EDGE_COLS, s, c, g->cpu, bytes, deq, imp)
    CHECK("bytes", "deq", NULL);
    CHECK("bytes_imatrix", "deq_imatrix", imp);
    CHECK("bytes_imatrix_ones", NULL, ones);
    if (!c->uses_importance) CHECK("bytes_imatrix_zeros", NULL, zeros);
#undef CHECK
    nib_free(src), nib_free(imp), nib_free(ones), nib_free(zeros);
    nib_source_close(in), nib_source_close(s);
}

/* ---- check values ---- */

static void generate(float *x)
{
    uint32_t s = 12345;
    for (size_t i = 0; i < CRC_ROWS * CRC_COLS; i++) {
        s = 1664525u * s + 1013904223u;
        float u = ((float)(s >> 8) - 8388608.0f) / 8388608.0f;
        x[i] = u * u * u;
    }
    for (size_t j = 0; j < CRC_COLS; j++) {
        x[5 * CRC_COLS + j] = fabsf(x[5 * CRC_COLS + j]);
        x[6 * CRC_COLS + j] = 0;
        x[7 * CRC_COLS + j] = j < 256 ? -0.5f : 0.25f;
    }
    x[4 * CRC_COLS + 100] = 20;
}

static uint32_t crc_of(const void *p, size_t n)
{
    return (uint32_t)crc32(0, p, (uInt)n);
}

static void check_values(void **state)
{
    static float x[CRC_ROWS * CRC_COLS], imp[CRC_COLS], scratch[CRC_COLS];
    static uint8_t out[CRC_ROWS * CRC_COLS * 2];
    const golden_case *g = *state;
    if (test_cpu_missing(g->cpu)) skip();
    const nib_codec *c = nib_codec_get(g->type);
    generate(x);
    for (size_t j = 0; j < CRC_COLS; j++) imp[j] = (float)(1 + 7 * j % 11) / 4;
    assert_int_equal(crc_of(x, sizeof x), 0xedf9c384);
    assert_int_equal(crc_of(imp, sizeof imp), 0xd4b49f08);
    size_t n = sizeof x / sizeof *x / c->block * c->bytes;
    c->encode(out, x, NULL, CRC_ROWS, CRC_COLS, g->cpu, scratch);
    if (g->crc) assert_int_equal(crc_of(out, n), g->crc);
    c->encode(out, x, imp, CRC_ROWS, CRC_COLS, g->cpu, scratch);
    assert_int_equal(crc_of(out, n), g->crc_imp);
}

/* ---- every type on every path ---- */

static const golden_case types[] = {
    {NIB_F16, 0, 0x09a30205, 0x09a30205},    {NIB_BF16, 0, 0x4bd1d17f, 0x4bd1d17f},
    {NIB_Q8_0, 0, 0xefaca6c0, 0xefaca6c0},   {NIB_Q4_0, 0, 0x70d97e12, 0x07de2f6f},
    {NIB_Q4_1, 0, 0xdf3721bc, 0x9414df9f},   {NIB_Q5_0, 0, 0x0e54be3a, 0xa0ed9566},
    {NIB_Q5_1, 0, 0xad693104, 0x03a5a306},   {NIB_Q2_K, 0, 0xf706165d, 0xe1a1e9d4},
    {NIB_Q3_K, 0, 0x5084a073, 0x5b96bbcf},   {NIB_Q4_K, 0, 0x39fc8b04, 0xf7c3161d},
    {NIB_Q5_K, 0, 0xc59532fd, 0xd9258c83},   {NIB_Q6_K, 0, 0x175d41be, 0x44f63c04},
    {NIB_IQ4_NL, 0, 0x3b17e4d5, 0xd6f3ddc0}, {NIB_IQ4_XS, 0, 0xfd98a448, 0x080aeea5},
    {NIB_IQ2_XXS, 0, 0, 0x98d02a2b},         {NIB_IQ2_XS, 0, 0, 0x7a1d80c5},
    {NIB_IQ2_S, 0, 0x18e5fc95, 0x6e2ad9de},  {NIB_IQ3_XXS, 0, 0x5e448bd5, 0xf6cd06c8},
    {NIB_IQ3_S, 0, 0x4d8b6469, 0xa27da9ef},  {NIB_IQ1_S, 0, 0, 0x4ea18c28},
    {NIB_IQ1_M, 0, 0x0bda9e9f, 0x77346368},  {NIB_MXFP4, 0, 0xffb837f2, 0xffb837f2},
    {NIB_NVFP4, 0, 0xb1abd2c5, 0xb1abd2c5},  {NIB_TQ1_0, 0, 0xf12a515b, 0xf12a515b},
    {NIB_TQ2_0, 0, 0xcbfa052e, 0xcbfa052e},  {NIB_Q1_0, 0, 0xa08f0021, 0xa08f0021},
    {NIB_Q2_0, 0, 0x14cffbfe, 0x14cffbfe},
};

static bool has_edges(nib_type t)
{
    return t >= NIB_IQ3_S && t <= NIB_Q1_0;
}

int main(int argc, char **argv)
{
    enum { TYPES = sizeof types / sizeof *types, N = TYPES * TEST_CPUS };
    static golden_case cases[N];
    static char names[3 * N][48];
    static struct CMUnitTest t[3 * N];
    size_t n = 0;
    if (argc < 3) return 1;
    golden_dir = argv[1], edge_dir = argv[2];
    for (size_t i = 0; i < N; i++) {
        static const struct {
            const char *what;
            void (*run)(void **);
        } kinds[] = {{"vectors", vectors}, {"check values", check_values}, {"edges", edges}};
        cases[i] = types[i / TEST_CPUS];
        cases[i].cpu = test_cpus[i % TEST_CPUS];
        for (int k = 0; k < (has_edges(cases[i].type) ? 3 : 2); k++, n++) {
            snprintf(names[n], sizeof *names, "%s %s, %s", nib_codec_get(cases[i].type)->name,
                     kinds[k].what, nib_cpu_name(cases[i].cpu));
            t[n] = (struct CMUnitTest){names[n], kinds[k].run, NULL, NULL, &cases[i]};
        }
    }
    return _cmocka_run_group_tests("codec-golden", t, n, NULL, NULL);
}
