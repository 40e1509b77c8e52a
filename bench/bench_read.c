/* SPDX-License-Identifier: MIT */
/* bench/bench_read.c - mapping a weight file against reading it into reused buffers.
 *
 *   bench_read [FILE]
 *
 * Without FILE a temporary one of 1 GiB is made in the current folder and removed again. The file
 * is in the page cache for all ways. Every way hands each piece to the same consumer, which adds
 * up its words, as decoding would touch them. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/par.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PIECE = 1 << 20, REPEAT = 5, MAX_THREADS = 2 };
#define MADE_BYTES ((size_t)1 << 30)

typedef struct {
    const nib_file *file;
    const uint8_t *map; /* NULL: read */
    void *buffer[MAX_THREADS];
    uint64_t sum[MAX_THREADS];
} job;

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static nib_code consume(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    for (size_t i = begin; i < end; i++) {
        const void *p = j->map ? j->map + i * PIECE : j->buffer[thread];
        nib_code rc =
            j->map ? NIB_OK : nib_file_read(j->file, i * PIECE, j->buffer[thread], PIECE, err);
        if (rc) return rc;
        uint64_t sum = 0, word;
        for (size_t k = 0; k < PIECE; k += 8) {
            memcpy(&word, (const uint8_t *)p + k, 8);
            sum += word;
        }
        j->sum[thread] += sum;
    }
    return NIB_OK;
}

typedef struct {
    double wall, cpu;
} timing;

static void run(timing *t, job *j, int threads)
{
    nib_err err;
    double wall = nib_now(), cpu = cpu_seconds();
    if (nib_par_for(threads, (size_t)(j->file->size / PIECE), 1, consume, j, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    wall = nib_now() - wall;
    cpu = cpu_seconds() - cpu;
    if (t->wall == 0 || wall < t->wall) t->wall = wall;
    if (t->cpu == 0 || cpu < t->cpu) t->cpu = cpu;
}

static void show(const char *what, int threads, const timing *t, uint64_t bytes)
{
    double gb = (double)bytes / 1e9;
    printf("%-44s %d  %6.2f GB/s  %6.3f s of CPU per GB\n", what, threads, gb / t->wall,
           t->cpu / gb);
}

static void bench(job *j, int threads)
{
    timing read = {0}, first = {0}, again = {0}, populated = {0};
    size_t n = (size_t)j->file->size;
    for (int i = 0; i < REPEAT; i++) {
        run(&read, j, threads);
        void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, j->file->fd, 0);
        if (map == MAP_FAILED) exit(1);
        j->map = map;
        run(&first, j, threads);
        run(&again, j, threads);
        munmap(map, n);
        double wall = nib_now(), cpu = cpu_seconds();
        map = mmap(NULL, n, PROT_READ, MAP_SHARED, j->file->fd, 0);
        posix_madvise(map, n, POSIX_MADV_SEQUENTIAL);
        posix_madvise(map, n, POSIX_MADV_WILLNEED);
        j->map = map;
        timing t = {0};
        run(&t, j, threads);
        munmap(map, n);
        t = (timing){nib_now() - wall, cpu_seconds() - cpu};
        if (i == 0 || t.wall < populated.wall) populated = t;
        j->map = NULL;
    }
    show("read into one reused buffer of 1 MiB", threads, &read, n);
    show("map, first pass", threads, &first, n);
    show("map, advised (map, pass, unmap)", threads, &populated, n);
    show("map, later passes over the same mapping", threads, &again, n);
}

static void make_file(const char *path)
{
    nib_out *o;
    nib_err err;
    nib_code rc = nib_out_open(&o, path, true, &err);
    uint8_t *fill = nib_alloc(PIECE, 1);
    memset(fill, 0x5A, PIECE);
    for (size_t n = 0; n < MADE_BYTES && !rc; n += PIECE) rc = nib_out_write(o, fill, PIECE, &err);
    if (!rc) rc = nib_out_commit(o, &err);
    nib_free(fill);
    if (!rc) return;
    fprintf(stderr, "%s\n", err.msg);
    exit(1);
}

int main(int argc, char **argv)
{
    static const char made[] = "bench_read.tmp";
    const char *path = argc > 1 ? argv[1] : made;
    nib_file f;
    nib_err err;
    if (argc < 2) make_file(made);
    if (nib_file_open(&f, path, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    job j = {.file = &f};
    for (int i = 0; i < MAX_THREADS; i++) j.buffer[i] = nib_alloc(PIECE, 1);
    timing warm = {0};
    run(&warm, &j, 1);
    for (int threads = 1; threads <= MAX_THREADS; threads++) bench(&j, threads);
    for (int i = 0; i < MAX_THREADS; i++) nib_free(j.buffer[i]);
    nib_file_close(&f);
    if (argc < 2) unlink(made);
    return 0;
}
