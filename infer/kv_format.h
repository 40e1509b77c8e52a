/* SPDX-License-Identifier: MIT */
/* infer/kv_format.h - how keys and values are kept.
 *
 * The formats of llama.cpp's -ctk and -ctv, each row written by the routine that it has for caches:
 * that of the file format, but for q8_0, which rounds halves to even, and iq4_nl, which tries one
 * scale and fits it to the codes, weighed by the squares of the values. Blocks lie along a head.
 * And vLLM's int8_per_token_head, fp8_per_token_head and int4_per_token_head: each head of each
 * token has a scale of its own, the largest magnitude over 127 or 448 (E4M3), or for int4 the range
 * over 15, with the zero point in its last 4 bits. And its fp8, with scales that come along with
 * the checkpoint: E4M3 that saturates at 448. And KIVI's (kv_kivi.h), whose keys are kept in groups
 * of tokens; encode and decode here are of its values.
 *
 * Rotation: where keys are quantized llama.cpp multiplies queries and keys of a head by a
 * Walsh-Hadamard matrix H of the largest power of two from 64 on that divides the head; where
 * values are, values by H of 64, and what attention makes of them by the same again; H is its own
 * inverse, so nothing changes but what rounding costs. Heads that 64 does not divide stay as they
 * are. Of vLLM's int4
 * alone is rotated, by a matrix with random signs; this one is in its place. */
#ifndef NIB_INFER_KV_FORMAT_H
#define NIB_INFER_KV_FORMAT_H

#include "quant/codec.h"

typedef struct nib_kv_format {
    const char *name;
    nib_type type;
    bool
        per_head; /* a scale in f32 and a byte, or half, for each value; else blocks of the codec */
    bool rotated; /* the engine rotates what it keeps so */
    bool scaled;  /* keys and values are divided by scales of the checkpoint first (kv_scales.h) */
    unsigned kivi; /* bits of KIVI's codes; 0: another format */
} nib_kv_format;

/* Names of all, NULL-terminated, "f32" first. */
extern const char *const nib_kv_names[];
/* NULL: unknown. */
const nib_kv_format *nib_kv_find(const char *name);

/* How keys, or values, are kept: NULL is f32. */
typedef struct {
    const nib_kv_format *format;
    bool rotate;
} nib_kv_side;

/* How a cache is kept, {0} in f32. */
typedef struct {
    nib_kv_side of[2]; /* keys, values */
} nib_kv_choice;

/* Both alike. */
static inline nib_kv_choice nib_kv_both(const nib_kv_format *f, bool rotate)
{
    return (nib_kv_choice){{{f, rotate}, {f, rotate}}};
}

/* Does it differ from what attention computes? */
static inline bool nib_kv_has_format(const nib_kv_choice *how)
{
    return how->of[0].format || how->of[1].format;
}

/* Bytes of a head of `dim` values; 0: blocks do not fit into it. */
size_t nib_kv_head_bytes(const nib_kv_format *f, size_t dim);
/* A head to its bytes. */
void nib_kv_encode(const nib_kv_format *f, uint8_t *to, const float *x, size_t dim);
/* And back. */
void nib_kv_decode(const nib_kv_format *f, float *to, const uint8_t *from, size_t dim,
                   unsigned cpu);

/* x[n] = H x[n], n a power of two, H[i][j] = (-1)^(ones in i & j) / sqrt(n). */
void nib_hadamard(float *x, size_t n);
/* Size of the matrix for keys (0) or values (1) of heads of `dim`; 0: none. */
size_t nib_kv_rotation(int of, size_t dim);

#endif
