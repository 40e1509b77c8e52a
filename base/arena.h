/* SPDX-License-Identifier: MIT */
/* base/arena.h - many small pieces of memory that live and die together.
 *
 * Pieces come out of growing blocks and are never freed singly. For strings and tables read from
 * files, where one allocation each would cost more than the reading. */
#ifndef NIB_BASE_ARENA_H
#define NIB_BASE_ARENA_H

#include <stddef.h>

typedef struct nib_arena_block nib_arena_block;

/* Start with {0}. */
typedef struct {
    nib_arena_block *head; /* the block pieces come from; older ones behind it */
    size_t total;          /* bytes handed out so far                          */
} nib_arena;

/* Room for n items of `size` bytes at a multiple of `align` (a power of two, at most 16); contents
 * undefined. NULL when the product overflows or memory is short. */
void *nib_arena_alloc(nib_arena *a, size_t n, size_t size, size_t align);
/* Copy of s[n] with a NUL after it; s may be NULL when n is 0. */
char *nib_arena_str(nib_arena *a, const char *s, size_t n);
void nib_arena_free(nib_arena *a);

#endif
