/* SPDX-License-Identifier: MIT */
/* Every kernel path against plain C, bit for bit: odd numbers of rows and blocks, odd addresses,
 * awkward values. */
#include "blocks.h"
#include "cpus.h"

#include "base/half.h"
#include "base/mem.h"
#include "quant/codec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_ROWS = 35, MAX_COLS = 5 * 256, GUARD = 64, MARK = 0xA5 };

typedef struct {
    float *w, *imp, *back[2];
    uint8_t *out[2]; /* at odd addresses */
    void *scratch;
} work;

static work make_work(void)
{
    const size_t n = MAX_ROWS * MAX_COLS;
    work k = {
        .w = nib_alloc(n, 4), .imp = nib_alloc(MAX_COLS, 4), .scratch = nib_alloc(MAX_COLS, 4)};
    assert_true(k.w && k.imp && k.scratch);
    for (int i = 0; i < 2; i++) {
        k.back[i] = nib_alloc(n + GUARD, 4);
        k.out[i] = nib_alloc(n * 4 + GUARD + 1, 1);
        assert_true(k.back[i] && k.out[i]);
        k.out[i] += i; /* plain C at an even address, the other at an odd one */
    }
    return k;
}

static void free_work(work *k)
{
    nib_free(k->w), nib_free(k->imp), nib_free(k->scratch);
    for (int i = 0; i < 2; i++) nib_free(k->back[i]), nib_free(k->out[i] - i);
}

/* Each block of another kind, so that lanes differ. */
static void fill_rows(work *k, const nib_codec *c, size_t rows, size_t cols, uint32_t *seed)
{
    size_t unit = c->block == 1 ? 32 : c->block;
    for (size_t at = 0; at < rows * cols; at += unit) {
        size_t left = rows * cols - at;
        noise(seed);
        fill_block(k->w + at, left < unit ? left : unit, (block_kind)((*seed >> 10) % BLOCK_KINDS),
                   seed);
    }
    fill_importance(k->imp, cols, seed);
}

static void compare(work *k, const nib_codec *c, size_t rows, size_t cols, bool weighted,
                    unsigned cpu)
{
    size_t blocks = rows * (cols / c->block), bytes = blocks * c->bytes;
    for (int i = 0; i < 2; i++) {
        memset(k->out[i], MARK, bytes + GUARD);
        c->encode(k->out[i], k->w, weighted ? k->imp : NULL, rows, cols, i ? cpu : 0, k->scratch);
        memset(k->back[i], MARK, rows * cols * 4 + GUARD);
        c->decode(k->back[i], k->out[i], blocks, i ? cpu : 0);
    }
    for (size_t b = 0; b < blocks; b++)
        if (memcmp(k->out[0] + b * c->bytes, k->out[1] + b * c->bytes, c->bytes))
            fail_msg("%s, %s: block %zu of %zu x %zu differs", c->name, nib_cpu_name(cpu), b, rows,
                     cols);
    assert_memory_equal(k->out[0], k->out[1], bytes + GUARD);
    assert_memory_equal(k->back[0], k->back[1], rows * cols * 4 + GUARD);
    for (size_t i = 0; i < GUARD; i++) assert_int_equal(k->out[1][bytes + i], MARK);
}

static void codecs_agree(void **state)
{
    unsigned cpu = *(const unsigned *)*state;
    if (test_cpu_missing(cpu)) skip();
    work k = make_work();
    uint32_t seed = 11;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (!c->encode) continue;
        for (size_t rows = 1; rows <= MAX_ROWS; rows += rows < 3 ? 1 : 7)
            for (size_t n = 1; n <= 5; n += 2) {
                size_t cols = c->block == 1 ? 37 * n : n * c->block;
                fill_rows(&k, c, rows, cols, &seed);
                compare(&k, c, rows, cols, false, cpu);
                compare(&k, c, rows, cols, true, cpu);
            }
    }
    free_work(&k);
}

/* Every pattern of 16 bits as f16 and bf16, and back; all bytes as 8-bit floats. */
static void small_floats_agree(void **state)
{
    unsigned cpu = *(const unsigned *)*state;
    if (test_cpu_missing(cpu)) skip();
    static uint16_t all[65536], back[65536];
    static float plain[65536], fast[65536];
    for (size_t i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (c->quantized || !c->decode) continue;
        size_t n = sizeof all / (c->bytes < 2 ? 2 : c->bytes);
        c->decode(plain, (uint8_t *)all, n, 0);
        c->decode(fast, (uint8_t *)all, n, cpu);
        assert_memory_equal(plain, fast, n * 4);
        if (c->bytes != 2) continue;
        c->encode((uint8_t *)back, fast, NULL, 1, n, cpu, NULL);
        for (size_t i = 0; i < n; i++)
            if (fast[i] == fast[i]) assert_int_equal(back[i], all[i]);
    }
}

/* f32 of all exponents, NaN and infinity among them, to 16 bits. */
static void halves_are_those_of_base(void **state)
{
    unsigned cpu = *(const unsigned *)*state;
    if (test_cpu_missing(cpu)) skip();
    enum { N = 100003 };
    static float x[N];
    static uint16_t h[N];
    uint32_t s = 1;
    for (size_t i = 0; i < N; i++) {
        s = 1664525u * s + 1013904223u;
        x[i] = nib_f32_from_bits(s);
    }
    nib_codec_get(NIB_F16)->encode((uint8_t *)h, x, NULL, 1, N, cpu, NULL);
    for (size_t i = 0; i < N; i++) assert_int_equal(h[i], nib_f32_to_f16(x[i]));
    nib_codec_get(NIB_BF16)->encode((uint8_t *)h, x, NULL, 1, N, cpu, NULL);
    for (size_t i = 0; i < N; i++) assert_int_equal(h[i], nib_f32_to_bf16(x[i]));
}

static void first_nonfinite_is_found(void **state)
{
    unsigned cpu = *(const unsigned *)*state;
    if (test_cpu_missing(cpu)) skip();
    static const float bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    float x[300];
    for (size_t i = 0; i < 300; i++) x[i] = i % 2 ? 3.4e38f : -1e-42f;
    for (size_t n = 0; n < 300; n += n < 140 ? 1 : 31) {
        assert_int_equal(nib_find_nonfinite(x, n, cpu), n);
        for (size_t at = 0; at < n; at += 3) {
            float kept = x[at], last = x[n - 1];
            x[n - 1] = NAN; /* a later one does not hide it */
            x[at] = bad[at % 4];
            assert_int_equal(nib_find_nonfinite(x, n, cpu), at);
            x[n - 1] = last;
            x[at] = kept;
        }
    }
}

int main(void)
{
    enum { N = 4 * TEST_CPUS };
    static const struct {
        const char *name;
        CMUnitTestFunction fn;
    } kind[] = {{"codecs agree", codecs_agree},
                {"small floats agree", small_floats_agree},
                {"halves are those of base", halves_are_those_of_base},
                {"first nonfinite is found", first_nonfinite_is_found}};
    static char names[N][64];
    static struct CMUnitTest t[N];
    for (size_t i = 0; i < N; i++) {
        const unsigned *cpu = &test_cpus[i / 4];
        snprintf(names[i], sizeof *names, "%s, %s", kind[i % 4].name, nib_cpu_name(*cpu));
        t[i] = (struct CMUnitTest){names[i], kind[i % 4].fn, NULL, NULL, (void *)(uintptr_t)cpu};
    }
    return _cmocka_run_group_tests("kernels", t, N, NULL, NULL);
}
