/* SPDX-License-Identifier: MIT */
/* base/mem.h - checked sizes and allocation.
 *
 * Every allocation goes through here, so that products of sizes are checked and tests can make
 * the n-th allocation fail. Blocks of 1 KiB and more are aligned to 64 bytes (a cache line, a
 * vector register), smaller ones as malloc has them.
 * On virtual machines a first touch of fresh memory is slow: allocate once, reuse. */
#ifndef NIB_BASE_MEM_H
#define NIB_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a*b or a+b; false on overflow, *out is then unspecified. */
static inline bool nib_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool nib_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Room for n items of `size` bytes, contents undefined; NULL when the product overflows or memory
 * is short. n = 0 gives a valid pointer. Free with nib_free(). */
void *nib_alloc(size_t n, size_t size);
/* The same, zeroed. */
void *nib_calloc(size_t n, size_t size);
/* Grow `p` (NULL allowed) from `old` to `n` items; contents kept; NULL leaves `p` as it was. */
void *nib_grow(void *p, size_t old, size_t n, size_t size);
/* Copy of n bytes with a NUL added; NULL when memory is short. */
char *nib_strndup(const char *s, size_t n);
char *nib_strdup(const char *s);
/* Accepts NULL. */
void nib_free(void *p);

/* Work memory that only grows: a buffer that is reused from call to call. Start with {0}. */
typedef struct {
    void *p;
    size_t cap; /* bytes */
} nib_buf;
/* At least n items of `size` bytes; old contents are lost when it grows. NULL: overflow, no memory.
 */
void *nib_buf_reserve(nib_buf *b, size_t n, size_t size);
void nib_buf_free(nib_buf *b);

/* For tests: the n-th allocation from now fails (1 = the next one); 0 turns this off. */
void nib_mem_fail_at(long n);

/* Memory of the machine, in bytes; 0 when the system does not tell. */
uint64_t nib_mem_total(void);
/* Peak resident size of this process so far, in bytes; 0 when the system does not tell. */
size_t nib_mem_peak(void);

#endif
