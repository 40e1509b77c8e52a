/* SPDX-License-Identifier: MIT */
/* bench/bench_codec.c - speed of every codec on one core, beside what memory gives.
 *
 *   bench_codec [c|avx2|avx512|native [NAME...]]
 *
 * Million weights per second of processor time, the best of some runs over reused buffers that no
 * cache holds; GB/s counts bytes read and written. */
#include "base/cpu.h"
#include "base/mem.h"
#include "quant/codec.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    ROWS = 4096,
    COLS = 2048,
    RUNS = 5,
    PIECE = 64, /* rows at a time, as a quantization run has them */
};

typedef struct {
    float *w, *imp, *back;
    uint8_t *packed;
    void *scratch;
} buffers;

typedef enum { ENCODE, ENCODE_IMP, DECODE, COPY } task;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Sums of uniform numbers: near enough to normal. */
static void fill(buffers *b)
{
    uint32_t s = 1;
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        float x = 0;
        for (int k = 0; k < 4; k++) {
            s = 1664525u * s + 1013904223u;
            x += (float)(s >> 8) / 8388608.0f - 1;
        }
        b->w[i] = x * 0.02f;
    }
    for (size_t j = 0; j < COLS; j++) b->imp[j] = (float)(1 + 7 * j % 11) / 4;
    memset(b->packed, 0, (size_t)ROWS * COLS * 4);
    memset(b->back, 0, (size_t)ROWS * COLS * 4);
}

static void run(task t, const nib_codec *c, buffers *b, unsigned cpu)
{
    size_t bytes = COLS / c->block * c->bytes;
    for (size_t r = 0; r < ROWS; r += PIECE) {
        float *w = b->w + r * COLS, *back = b->back + r * COLS;
        uint8_t *packed = b->packed + r * bytes;
        if (t == COPY)
            memcpy(back, w, (size_t)PIECE * COLS * 4);
        else if (t == DECODE)
            c->decode(back, packed, (size_t)PIECE * COLS / c->block, cpu);
        else
            c->encode(packed, w, t == ENCODE_IMP ? b->imp : NULL, PIECE, COLS, cpu, b->scratch);
    }
}

/* Seconds of the best run. */
static double best(task t, const nib_codec *c, buffers *b, unsigned cpu)
{
    double least = 0;
    for (int i = 0; i < RUNS; i++) {
        double from = cpu_seconds();
        run(t, c, b, cpu);
        double took = cpu_seconds() - from;
        if (i == 0 || took < least) least = took;
    }
    return least;
}

static void print_rate(double seconds, const nib_codec *c)
{
    double n = (double)ROWS * COLS, bytes = n * 4 + n / c->block * c->bytes;
    printf("  %7.0f %6.2f", n / seconds / 1e6, bytes / seconds / 1e9);
}

static void bench(const nib_codec *c, buffers *b, unsigned cpu)
{
    printf("%-8s", c->name);
    print_rate(best(ENCODE, c, b, cpu), c);
    if (c->uses_importance)
        print_rate(best(ENCODE_IMP, c, b, cpu), c);
    else
        printf("  %7s %6s", "-", "-");
    print_rate(best(DECODE, c, b, cpu), c);
    printf("\n");
    fflush(stdout);
}

static int wanted(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (!strcmp(name, argv[i])) return 1;
    return argc <= 2;
}

int main(int argc, char **argv)
{
    const size_t n = (size_t)ROWS * COLS;
    unsigned cpu;
    nib_err err;
    if (nib_cpu_parse(&cpu, argc > 1 ? argv[1] : "native", &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    buffers b = {nib_alloc(n, 4), nib_alloc(COLS, 4), nib_alloc(n, 4), nib_alloc(n, 4),
                 nib_alloc(nib_encode_scratch(COLS), 1)};
    if (!b.w || !b.imp || !b.back || !b.packed || !b.scratch) return 1;
    fill(&b);
    printf("kernels %s, one core; memory copy %.1f GB/s read and written\n", nib_cpu_name(cpu),
           (double)n * 8 / best(COPY, nib_codec_get(NIB_F32), &b, cpu) / 1e9);
    printf("%-8s  %14s  %14s  %14s\n", "M/s GB/s", "encode", "with importance", "decode");
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        if (c->encode && wanted(c->name, argc, argv)) bench(c, &b, cpu);
    }
    nib_free(b.w), nib_free(b.imp), nib_free(b.back), nib_free(b.packed), nib_free(b.scratch);
    return 0;
}
