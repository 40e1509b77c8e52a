/* SPDX-License-Identifier: MIT */
/* bench/bench_codec.c - speed of every codec on one core, beside what memory and the reference
 * give.
 *
 *   bench_codec [c|avx2|avx512|native [NAME...]]
 *
 * Million weights per second of processor time, the best of some runs over reused buffers that no
 * cache holds; GB/s counts bytes read and written. NIB_BENCH_GGML names llama.cpp's
 * libggml-base.so: then "times" is how many times as fast as its row functions this is, on the same
 * weights and one core, and the bytes that both encode are compared. */
#include "base/cpu.h"
#include "base/mem.h"
#include "formats/gguf.h"
#include "quant/codec.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
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
    uint8_t *packed, *theirs; /* what the reference makes, codes or weights */
    void *scratch;
} buffers;

typedef enum { ENCODE, ENCODE_IMP, DECODE, COPY } task;

/* The reference's functions of a type; NULL: it has none, or there is no reference. */
typedef struct {
    size_t (*encode)(const float *src, void *dst, int64_t rows, int64_t cols, const float *imp);
    void (*decode)(const void *src, float *dst, int64_t n);
    bool needs_imp; /* its encode stops the program without importances */
} reference;

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
    memset(b->theirs, 0, (size_t)ROWS * COLS * 4);
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

/* ---- the reference ---- */

/* A library's symbol as a function, which ISO C has no cast for. */
#define FIND(fn, library, name) (*(void **)&(fn) = dlsym(library, name))

static void *open_reference(void)
{
    const char *file = getenv("NIB_BENCH_GGML");
    void *library = file && *file ? dlopen(file, RTLD_NOW) : NULL;
    if (file && *file && !library) fprintf(stderr, "%s\n", dlerror());
    return library;
}

static reference find_reference(void *library, const nib_codec *c)
{
    reference r = {0};
    void (*init)(int type);
    bool (*needs_imp)(int type);
    char name[32], symbol[64];
    const int id = nib_gguf_type_id(c->type);
    if (!library || id < 0 || c->block == 1) return r;
    snprintf(name, sizeof name, "%s", c->name);
    size_t n = strlen(name); /* "q4_k" has a capital there */
    if (name[n - 1] == 'k') name[n - 1] = 'K';
    snprintf(symbol, sizeof symbol, "quantize_%s", name);
    FIND(r.encode, library, symbol);
    snprintf(symbol, sizeof symbol, "dequantize_row_%s", name);
    FIND(r.decode, library, symbol);
    if (FIND(init, library, "ggml_quantize_init")) init(id); /* tables of codebooks */
    r.needs_imp = FIND(needs_imp, library, "ggml_quantize_requires_imatrix") && needs_imp(id);
    return r;
}

static bool has(const reference *r, task t)
{
    return t == DECODE ? r->decode != NULL : r->encode && (t == ENCODE_IMP || !r->needs_imp);
}

/* Seconds of the reference's best run, or what it would take for everything, going by as many rows
 * as half a second has time for: some of its searches take minutes. After ours did the same:
 * *differ gets how many pieces came out otherwise. */
static double reference_seconds(task t, const nib_codec *c, const reference *ref, buffers *b,
                                size_t *differ)
{
    const size_t bytes = COLS / c->block * c->bytes;
    const size_t out = PIECE * (t == DECODE ? COLS * sizeof(float) : bytes);
    double least = 0, all = 0;
    for (int i = 0; i < RUNS && all < 0.5; i++) {
        double took = 0;
        size_t r = 0;
        for (*differ = 0; r < ROWS && (r == 0 || all + took < 0.5); r += PIECE) {
            const uint8_t *packed = b->packed + r * bytes;
            const void *ours = t == DECODE ? (const void *)(b->back + r * COLS) : packed;
            uint8_t *theirs = b->theirs + r / PIECE * out;
            const double from = cpu_seconds();
            if (t == DECODE)
                ref->decode(packed, (float *)theirs, PIECE * COLS);
            else
                ref->encode(b->w + r * COLS, theirs, PIECE, COLS, t == ENCODE_IMP ? b->imp : NULL);
            took += cpu_seconds() - from;
            *differ += memcmp(theirs, ours, out) != 0;
        }
        took *= ROWS / (double)r;
        if (i == 0 || took < least) least = took;
        all += took * (double)r / ROWS;
    }
    return least;
}

/* ---- a line for each codec ---- */

static void bench_task(task t, const nib_codec *c, const reference *ref, buffers *b, unsigned cpu,
                       size_t *differ)
{
    if (t == ENCODE_IMP && !c->uses_importance) {
        printf("  %7s %6s %6s", "-", "-", "-");
        return;
    }
    const double n = (double)ROWS * COLS, bytes = n * 4 + n / c->block * c->bytes;
    const double took = best(t, c, b, cpu);
    printf("  %7.0f %6.2f", n / took / 1e6, bytes / took / 1e9);
    size_t other = 0;
    if (has(ref, t))
        printf(" %6.1f", reference_seconds(t, c, ref, b, &other) / took);
    else
        printf(" %6s", "-");
    *differ += other;
}

static void bench(const nib_codec *c, const reference *ref, buffers *b, unsigned cpu)
{
    size_t differ = 0;
    printf("%-8s", c->name);
    for (task t = ENCODE; t <= DECODE; t++) bench_task(t, c, ref, b, cpu, &differ);
    printf("  %s\n", !ref->encode ? "-" : differ ? "differ" : "same");
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
    buffers b = {nib_alloc(n, 4), nib_alloc(COLS, 4), nib_alloc(n, 4),
                 nib_alloc(n, 4), nib_alloc(n, 4),    nib_alloc(nib_encode_scratch(COLS), 1)};
    if (!b.w || !b.imp || !b.back || !b.packed || !b.theirs || !b.scratch) return 1;
    fill(&b);
    printf("kernels %s, one core; memory copy %.1f GB/s read and written\n", nib_cpu_name(cpu),
           (double)n * 8 / best(COPY, nib_codec_get(NIB_F32), &b, cpu) / 1e9);
    printf("%-8s  %21s  %21s  %21s  %s\n", "", "encode", "with importance", "decode", "bytes and");
    printf("%-8s", "");
    for (int i = 0; i < 3; i++) printf("  %7s %6s %6s", "M/s", "GB/s", "times");
    printf("  values\n");
    void *library = open_reference();
    for (int t = 0; t < NIB_TYPE_COUNT; t++) {
        const nib_codec *c = nib_codec_get((nib_type)t);
        const reference ref = find_reference(library, c);
        if (c->encode && wanted(c->name, argc, argv)) bench(c, &ref, &b, cpu);
    }
    nib_free(b.w), nib_free(b.imp), nib_free(b.back), nib_free(b.packed), nib_free(b.theirs);
    nib_free(b.scratch);
    return 0;
}
