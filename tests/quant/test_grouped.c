/* SPDX-License-Identifier: MIT */
/* Codes in groups times vectors, against sums in f64 of scale * (code - zero). */
#include "quant/grouped.h"
#include "base/mem.h"
#include "tests/quant/blocks.h"
#include "tests/quant/cpus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { COLS_MAX = 700, ROWS = 5, VECTORS = 7, GROUPS_MAX = 64 };

static struct {
    uint8_t code[ROWS * COLS_MAX];
    float scale[ROWS * GROUPS_MAX], x[VECTORS * COLS_MAX], level[256];
    int32_t zero[ROWS * GROUPS_MAX];
    uint32_t g_idx[COLS_MAX];
    float *ordered, sum[VECTORS * GROUPS_MAX];
    float y[VECTORS * ROWS];
} m;

static uint32_t next(uint32_t *state)
{
    return (*state = 1664525u * *state + 1013904223u) >> 8;
}

static size_t group_of(const nib_grouped_shape *s, size_t c)
{
    return s->g_idx ? s->g_idx[c] : c / s->group;
}

/* What the header says, and the sum of what is added up: codes less the middle one and zero points
 * less the middle one are each larger than their difference. */
static double expected(const nib_grouped_shape *s, size_t r, size_t i, double *size)
{
    double want = 0;
    for (size_t c = 0; c < s->cols; c++) {
        const size_t g = group_of(s, c);
        const double x = (double)m.x[i * s->cols + c], scale = (double)m.scale[r * s->groups + g];
        const uint8_t code = m.code[r * s->cols + c];
        const double level = s->level ? (double)s->level[code] : code - m.zero[r * s->groups + g];
        want += scale * level * x;
        *size += fabs(scale * (s->level ? level : 1 << s->bits) * x);
    }
    return want;
}

static void multiply(const nib_grouped *w, const nib_grouped_shape *s, float *y, size_t first,
                     size_t n, unsigned cpu)
{
    const size_t step = nib_grouped_step(w);
    const nib_dot_in in = {.x = m.ordered + first * step,
                           .sum = m.sum + first * s->groups,
                           .n = n,
                           .cols = step,
                           .step = step,
                           .sum_step = s->groups};
    memset(y, 0xFF, n * ROWS * sizeof *y);
    nib_grouped_dot(w, y, ROWS, 0, 2, &in, cpu); /* some rows, then the others */
    nib_grouped_dot(w, y + 2, ROWS, 2, ROWS - 2, &in, cpu);
}

static void check_products(const nib_grouped *w, const nib_grouped_shape *s, unsigned cpu)
{
    multiply(w, s, m.y, 0, VECTORS, cpu);
    for (size_t i = 0; i < VECTORS; i++)
        for (size_t r = 0; r < ROWS; r++) {
            double size = 0;
            const double want = expected(s, r, i, &size), got = (double)m.y[i * ROWS + r];
            /* 8 lanes, each term's sum rounded cols / 8 times at most */
            if (!(fabs(got - want) <= 4 * COLS_MAX / 8 * 0x1p-24 * size))
                fail_msg("%u bits, %zu columns, groups of %zu, mask %u, row %zu: %.9g, not %.9g",
                         s->bits, s->cols, s->group, cpu, r, got, want);
        }
    for (size_t n = 1; n < 4; n++) /* the same bits in whatever company */
        for (size_t i = 0; i + n <= VECTORS; i++) {
            float y[3 * ROWS];
            multiply(w, s, y, i, n, cpu);
            assert_memory_equal(y, m.y + i * ROWS, n * ROWS * sizeof *y);
        }
}

/* Everything at random; `middle`: zero points as symmetric formats have them. */
static void check(nib_grouped_shape s, bool middle)
{
    uint32_t state = 11 + (uint32_t)s.cols;
    nib_err err;
    nib_grouped *w;
    for (size_t i = 0; i < ROWS * s.cols; i++)
        m.code[i] = (uint8_t)(next(&state) & ((1u << s.bits) - 1));
    for (size_t i = 0; i < ROWS * s.groups; i++) {
        m.scale[i] = noise(&state);
        m.zero[i] = middle ? 1 << (s.bits - 1) : (int32_t)(next(&state) % (1u << s.bits));
    }
    fill_block(m.x, VECTORS * s.cols, BLOCK_HEAVY, &state);
    assert_int_equal(nib_grouped_new(&w, &s, &err), NIB_OK);
    for (size_t r = 0; r < ROWS; r++)
        nib_grouped_set(w, r, m.code + r * s.cols, m.scale + r * s.groups, m.zero + r * s.groups);
    nib_grouped_done(w);
    const size_t step = nib_grouped_step(w);
    m.ordered = nib_alloc(VECTORS, step * sizeof *m.ordered);
    assert_non_null(m.ordered);
    for (size_t i = 0; i < VECTORS; i++)
        nib_grouped_order(m.ordered + i * step, m.sum + i * s.groups, w, m.x + i * s.cols);
    for (size_t k = 0; k < TEST_CPUS; k++)
        if (!test_cpu_missing(test_cpus[k])) check_products(w, &s, test_cpus[k]);
    nib_free(m.ordered);
    nib_grouped_free(w);
}

static nib_grouped_shape shape(unsigned bits, size_t cols, size_t group)
{
    return (nib_grouped_shape){.rows = ROWS,
                               .cols = cols,
                               .groups = (cols + group - 1) / group,
                               .bits = bits,
                               .group = group};
}

static void integers(void **state)
{
    (void)state;
    static const unsigned bits[] = {2, 3, 4, 5, 8};
    static const size_t size[][2] = {{512, 128}, {512, 32}, {640, 640}, {576, 64}, {300, 48},
                                     {70, 20},   {33, 33},  {7, 7},     {200, 64}};
    for (size_t b = 0; b < sizeof bits / sizeof *bits; b++)
        for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
            check(shape(bits[b], size[i][0], size[i][1]), false);
            check(shape(bits[b], size[i][0], size[i][1]), true);
        }
}

/* Groups of columns anywhere, of any number, one of them empty. */
static void groups_that_lie_apart(void **state)
{
    (void)state;
    uint32_t r = 5;
    for (size_t c = 0; c < COLS_MAX; c++)
        if ((m.g_idx[c] = next(&r) % 9) == 4) m.g_idx[c] = 0;
    for (unsigned bits = 4; bits <= 8; bits += 4) {
        nib_grouped_shape s = shape(bits, 600, 80);
        s.groups = 9;
        s.g_idx = m.g_idx;
        check(s, false);
    }
}

static void levels(void **state)
{
    (void)state;
    uint32_t r = 6;
    for (size_t i = 0; i < 256; i++) m.level[i] = noise(&r);
    for (unsigned bits = 4; bits <= 8; bits += 4)
        for (size_t group = 16; group <= 128; group *= 2) {
            nib_grouped_shape s = shape(bits, 640, group);
            s.level = m.level;
            check(s, false);
        }
}

static void sizes(void **state)
{
    (void)state;
    const nib_grouped_shape s = shape(4, 512, 128);
    /* codes, scales and zero points of a row; where columns go, where groups end */
    assert_int_equal(nib_grouped_bytes(&s), ROWS * (512 / 2 + 4 * 8) + (512 + 4) * 4);
    const nib_grouped_shape huge = {
        .rows = SIZE_MAX / 2, .cols = 64, .groups = 2, .bits = 4, .group = 32};
    assert_true(nib_grouped_bytes(&huge) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(groups_that_lie_apart),
        cmocka_unit_test(levels),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
