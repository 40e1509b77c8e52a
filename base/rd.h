/* SPDX-License-Identifier: MIT */
/* base/rd.h - bounded little-endian reader with a sticky flag.
 *
 * Past the end it yields zero and stays bad: read a record, check `bad` once. Bytes are assembled,
 * not cast, so alignment and the machine's byte order never matter. */
#ifndef NIB_BASE_RD_H
#define NIB_BASE_RD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *p, *end;
    bool bad;
} nib_rd;

static inline size_t nib_rd_left(const nib_rd *r)
{
    return (size_t)(r->end - r->p);
}

/* The next n bytes, borrowed from the reader's memory; NULL and bad when they are not there. */
static inline const uint8_t *nib_rd_bytes(nib_rd *r, uint64_t n)
{
    if (r->bad || n > nib_rd_left(r)) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}

static inline uint64_t nib_rd_uint(nib_rd *r, unsigned bytes)
{
    const uint8_t *p = nib_rd_bytes(r, bytes);
    uint64_t v = 0;
    if (!p) return 0;
    for (unsigned i = bytes; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static inline uint8_t nib_rd_u8(nib_rd *r)
{
    return (uint8_t)nib_rd_uint(r, 1);
}
static inline uint16_t nib_rd_u16(nib_rd *r)
{
    return (uint16_t)nib_rd_uint(r, 2);
}
static inline uint32_t nib_rd_u32(nib_rd *r)
{
    return (uint32_t)nib_rd_uint(r, 4);
}
static inline uint64_t nib_rd_u64(nib_rd *r)
{
    return nib_rd_uint(r, 8);
}
static inline int32_t nib_rd_i32(nib_rd *r)
{
    return (int32_t)nib_rd_u32(r);
}

static inline float nib_rd_f32(nib_rd *r)
{
    uint32_t u = nib_rd_u32(r);
    float x;
    memcpy(&x, &u, 4);
    return x;
}

#endif
