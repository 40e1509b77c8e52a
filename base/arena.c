/* SPDX-License-Identifier: MIT */
/* base/arena.c - see arena.h. */
#include "base/arena.h"
#include "base/mem.h"

#include <string.h>

/* Blocks double from the first size to the largest, so that a small arena stays small. */
enum { BLOCK_FIRST = 4096, BLOCK_LARGEST = 1 << 20 };

struct nib_arena_block {
    nib_arena_block *next;
    size_t used, size; /* of data */
    _Alignas(16) unsigned char data[];
};

static nib_arena_block *new_block(size_t size)
{
    size_t bytes;
    if (!nib_add(size, sizeof(nib_arena_block), &bytes)) return NULL;
    nib_arena_block *b = nib_alloc(bytes, 1);
    if (b) *b = (nib_arena_block){.size = size};
    return b;
}

/* A piece of its own block, put behind the head so that the head's free room is not lost. */
static void *alloc_large(nib_arena *a, size_t bytes)
{
    nib_arena_block *b = new_block(bytes);
    if (!b) return NULL;
    b->used = bytes;
    if (a->head) {
        b->next = a->head->next;
        a->head->next = b;
    } else {
        a->head = b;
    }
    return b->data;
}

static void *alloc_from(nib_arena_block *b, size_t bytes, size_t align)
{
    if (!b) return NULL;
    size_t at = (b->used + align - 1) & ~(align - 1);
    if (at > b->size || bytes > b->size - at) return NULL;
    b->used = at + bytes;
    return b->data + at;
}

void *nib_arena_alloc(nib_arena *a, size_t n, size_t size, size_t align)
{
    size_t bytes;
    if (!nib_mul(n, size, &bytes)) return NULL;
    void *p = alloc_from(a->head, bytes, align);
    if (!p && bytes > BLOCK_LARGEST / 4) {
        p = alloc_large(a, bytes);
    } else if (!p) {
        size_t want = a->head ? a->head->size * 2 : BLOCK_FIRST;
        if (want > BLOCK_LARGEST) want = BLOCK_LARGEST;
        while (want < bytes) want *= 2;
        nib_arena_block *b = new_block(want);
        if (!b) return NULL;
        b->next = a->head;
        a->head = b;
        p = alloc_from(b, bytes, align);
    }
    if (p) a->total += bytes;
    return p;
}

char *nib_arena_str(nib_arena *a, const char *s, size_t n)
{
    size_t bytes;
    char *p = nib_add(n, 1, &bytes) ? nib_arena_alloc(a, bytes, 1, 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void nib_arena_free(nib_arena *a)
{
    for (nib_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        nib_free(b);
    }
    *a = (nib_arena){0};
}
