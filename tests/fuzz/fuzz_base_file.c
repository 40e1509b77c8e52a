/* SPDX-License-Identifier: MIT */
/* Any bytes as a file of what a base model predicts: refused with a message, or every record of it
 * is read as probabilities, or refused with one. */
#define _GNU_SOURCE
#include "infer/base_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VOCAB_MAX = 1 << 16, RECORDS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_all(const nib_base_file *f)
{
    nib_err err = {0};
    nib_buf raw = {0};
    nib_prediction p;
    const int32_t target = 0;
    const size_t width = nib_base_file_width(f), records = f->n_chunks * f->per_chunk;
    float *logit = malloc(width * sizeof *logit);
    int32_t *id = malloc(width * sizeof *id);
    if (!logit || !id) abort();
    for (size_t i = 0; i < records && i < RECORDS_MAX; i++) {
        const nib_code rc = nib_base_file_read(f, i, 1, &target, logit, id, &p, &raw, &err);
        if (rc ? !err.msg[0] : !isfinite(p.nll) || p.n != width) abort();
        for (size_t k = 0; k < width && !rc; k++)
            if (!(p.logit[k] < 1) || (p.id && (size_t)p.id[k] >= f->n_vocab)) abort();
    }
    free(logit);
    free(id);
    nib_buf_free(&raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[32];
    nib_base_file f;
    nib_err err = {0};
    const int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const nib_code rc = nib_base_file_open(&f, path, &err);
    close(fd);
    if (rc && (!err.msg[0] || err.code != rc)) abort();
    if (rc) return 0;
    if (f.n_vocab <= VOCAB_MAX) read_all(&f);
    nib_base_file_close(&f);
    return 0;
}
