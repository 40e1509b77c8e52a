/* SPDX-License-Identifier: MIT */
/* base/mem.c - see mem.h. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ALIGN = 64, SMALL = 1024 };

static atomic_long fail_at; /* test hook; 0 = off */

static bool should_fail(void)
{
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) == 0) return false;
    return atomic_fetch_sub(&fail_at, 1) == 1;
}

void nib_mem_fail_at(long n)
{
    atomic_store(&fail_at, n);
}

void *nib_alloc(size_t n, size_t size)
{
    size_t bytes, padded;
    if (!nib_mul(n, size, &bytes) || !nib_add(bytes, ALIGN - 1, &padded)) return NULL;
    if (should_fail()) return NULL;
    if (bytes < SMALL) return malloc(bytes ? bytes : 1);
    return aligned_alloc(ALIGN, padded / ALIGN * ALIGN);
}

void *nib_calloc(size_t n, size_t size)
{
    void *p = nib_alloc(n, size);
    if (p) memset(p, 0, n * size);
    return p;
}

void *nib_grow(void *p, size_t old, size_t n, size_t size)
{
    void *q = nib_alloc(n, size);
    if (!q) return NULL;
    if (p) memcpy(q, p, (old < n ? old : n) * size);
    nib_free(p);
    return q;
}

char *nib_strndup(const char *s, size_t n)
{
    size_t bytes;
    if (!nib_add(n, 1, &bytes)) return NULL;
    char *p = nib_alloc(bytes, 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *nib_strdup(const char *s)
{
    return nib_strndup(s, strlen(s));
}

void nib_free(void *p)
{
    free(p);
}

void *nib_buf_reserve(nib_buf *b, size_t n, size_t size)
{
    size_t bytes;
    if (!nib_mul(n, size, &bytes)) return NULL;
    if (bytes <= b->cap && b->p) return b->p;
    void *p = nib_alloc(bytes, 1);
    if (!p) return NULL;
    nib_free(b->p);
    b->p = p;
    b->cap = bytes;
    return p;
}

void nib_buf_free(nib_buf *b)
{
    nib_free(b->p);
    *b = (nib_buf){0};
}

uint64_t nib_mem_total(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

size_t nib_mem_peak(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return 0;
    return (size_t)u.ru_maxrss * 1024;
}
