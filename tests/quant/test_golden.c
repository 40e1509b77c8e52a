/* SPDX-License-Identifier: MIT */
/* Bytes and values of the reference, bit for bit, on every kernel path.
 *
 * Files: tests/golden/gguf (see its README). Check values: CRC-32 of what ggml makes of a generated
 * input. */
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

enum { ROWS = 12, COLS = 1024, CRC_ROWS = 8, CRC_COLS = 512 };

static const char *golden_dir;

typedef struct {
    nib_type type;
    unsigned cpu;
    uint32_t crc, crc_imp; /* of the generated input; without and with importances */
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

/* Encode src and compare, then decode the reference's bytes and compare. */
static void check_vector(const nib_source *s, const nib_codec *c, unsigned cpu, const char *bytes,
                         const char *deq, const float *imp)
{
    size_t n_src, n_bytes, n_deq;
    float *src = read_tensor(s, "src", &n_src);
    uint8_t *want = read_tensor(s, bytes, &n_bytes);
    uint8_t *values = read_tensor(s, deq, &n_deq);
    uint8_t *got = nib_alloc(n_bytes, 1);
    float *decoded = nib_alloc(n_deq, 1);
    void *scratch = nib_alloc(nib_encode_scratch(COLS), 1);
    assert_int_equal(n_src, ROWS * COLS * 4);
    assert_int_equal(n_bytes, ROWS * COLS / c->block * c->bytes);
    assert_int_equal(c->encode(got, src, imp, ROWS, COLS, cpu, scratch), 0);
    expect_equal(bytes, got, want, n_bytes, c->bytes);
    c->decode(decoded, want, ROWS * COLS / c->block, cpu);
    expect_equal(deq, (uint8_t *)decoded, values, n_deq, 4);
    assert_true(c->valid(want, ROWS * COLS / c->block));
    nib_free(src), nib_free(want), nib_free(values);
    nib_free(got), nib_free(decoded), nib_free(scratch);
}

static void vectors(void **state)
{
    const golden_case *g = *state;
    if (test_cpu_missing(g->cpu)) skip();
    const nib_codec *c = nib_codec_get(g->type);
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/%s.safetensors", golden_dir, c->name);
    if (nib_source_open(&s, path, &err)) fail_msg("%s", err.msg);
    size_t n;
    float *imp = read_tensor(s, "imatrix", &n);
    assert_int_equal(n, COLS * 4);
    check_vector(s, c, g->cpu, "bytes", "deq", NULL);
    check_vector(s, c, g->cpu, "bytes_imatrix", "deq_imatrix", imp);
    nib_free(imp);
    nib_source_close(s);
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
    assert_int_equal(crc_of(out, n), g->crc);
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
};

int main(int argc, char **argv)
{
    enum { TYPES = sizeof types / sizeof *types, N = TYPES * TEST_CPUS };
    static golden_case cases[N];
    static char names[2 * N][48];
    static struct CMUnitTest t[2 * N];
    if (argc < 2) return 1;
    golden_dir = argv[1];
    for (size_t i = 0; i < N; i++) {
        cases[i] = types[i / TEST_CPUS];
        cases[i].cpu = test_cpus[i % TEST_CPUS];
        const char *type = nib_codec_get(cases[i].type)->name, *cpu = nib_cpu_name(cases[i].cpu);
        snprintf(names[2 * i], sizeof *names, "%s vectors, %s", type, cpu);
        snprintf(names[2 * i + 1], sizeof *names, "%s check values, %s", type, cpu);
        t[2 * i] = (struct CMUnitTest){names[2 * i], vectors, NULL, NULL, &cases[i]};
        t[2 * i + 1] = (struct CMUnitTest){names[2 * i + 1], check_values, NULL, NULL, &cases[i]};
    }
    return _cmocka_run_group_tests("codec-golden", t, 2 * N, NULL, NULL);
}
