/* SPDX-License-Identifier: MIT */
/* bench/bench_machine.c - what this machine can do at best: the numbers others are held against. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/start.h"

#include <stdio.h>
#include <string.h>

enum {
    GEMM = 1024, /* m, n, k of the matrix product; one product per thread */
    REPEAT = 5,  /* the best of these counts */
    READ_MIB = 256,
};

typedef struct {
    float *a, *b, *c; /* per thread */
    const uint64_t *mem;
    uint64_t *sum; /* per chunk */
} work;

static nib_code multiply(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread;
    (void)err;
    work *w = arg;
    for (size_t i = begin; i < end; i++) {
        size_t at = i * GEMM * GEMM;
        nib_gemm_nt(GEMM, GEMM, GEMM, w->a + at, GEMM, w->b + at, GEMM, w->c + at, GEMM, 0);
    }
    return NIB_OK;
}

/* Sum of 64-bit words, 1 MiB a chunk. */
static nib_code read_memory(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread;
    (void)err;
    work *w = arg;
    const size_t words = (1 << 20) / sizeof *w->mem;
    for (size_t i = begin; i < end; i++) {
        uint64_t sum = 0;
        for (size_t j = 0; j < words; j++) sum += w->mem[i * words + j];
        w->sum[i] = sum;
    }
    return NIB_OK;
}

/* Best time of some runs, in seconds; negative when one fails. */
static double best_time(int threads, size_t n, nib_par_fn *fn, work *w)
{
    double best = -1;
    nib_err err;
    for (int i = 0; i < REPEAT; i++) {
        double from = nib_now();
        if (nib_par_for(threads, n, 1, fn, w, &err)) return -1;
        double t = nib_now() - from;
        if (best < 0 || t < best) best = t;
    }
    return best;
}

static void print_processor(void)
{
    char line[512] = "";
    FILE *f = fopen("/proc/cpuinfo", "r");
    const char *name = NULL;
    while (f && !name && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && (name = strchr(line, ':'))) name += 2;
    if (f) fclose(f);
    printf("processor    %s", name ? name : "unknown\n");
}

int main(int argc, char **argv)
{
    nib_start(argv, false);
    (void)argc;
    int threads = nib_par_cores();
    size_t n = (size_t)threads * GEMM * GEMM, bytes = (size_t)READ_MIB << 20;
    work w = {.a = nib_calloc(n, 4), .b = nib_calloc(n, 4), .c = nib_calloc(n, 4)};
    uint64_t *mem = nib_alloc(bytes, 1);
    w.sum = nib_calloc(READ_MIB, sizeof *w.sum);
    if (!w.a || !w.b || !w.c || !mem || !w.sum) return 1;
    memset(mem, 1, bytes); /* a page that was never written is not read from memory */
    w.mem = mem;

    nib_linalg_init();
    print_processor();
    printf("threads      %d\n", threads);
    printf("our kernels  %s\n", nib_cpu_name(nib_cpu_detect()));
    printf("BLAS kernel  %s\n", nib_linalg_kernel());
    double flop = 2.0 * GEMM * GEMM * GEMM * threads;
    printf("sgemm peak   %.0f GFLOP/s\n",
           flop / best_time(threads, (size_t)threads, multiply, &w) / 1e9);
    printf("memory read  %.1f GB/s\n",
           (double)bytes / best_time(threads, READ_MIB, read_memory, &w) / 1e9);
    nib_free(w.a);
    nib_free(w.b);
    nib_free(w.c);
    nib_free(w.sum);
    nib_free(mem);
    return 0;
}
