/* SPDX-License-Identifier: MIT */
/* infer/kv_kivi.h - keys by channel and values by token, in groups of 32 (KIVI, Liu et al. 2024,
 * arXiv 2402.02750).
 *
 * A group has a scale s = (max - min) / (2^bits - 1) and its minimum, both in F16, and codes
 * rint((x - min) / s), which stand for code s + min. Of values a group is 32 neighbours in a head,
 * of keys 32 tokens that follow each other, in one channel: channels of keys have outliers. The
 * youngest NIB_KIVI_RECENT tokens stay as they are (nib_kv_exact_from()).
 *
 * bits: 2, 4 or 8. dim: of a head; NIB_KIVI_GROUP divides it. What is not finite makes its group
 * NaN. */
#ifndef NIB_INFER_KV_KIVI_H
#define NIB_INFER_KV_KIVI_H

#include <stddef.h>
#include <stdint.h>

enum { NIB_KIVI_GROUP = 32, NIB_KIVI_RECENT = 128 }; /* as in the paper */

/* Bytes of a head of one token; its keys of NIB_KIVI_GROUP tokens take as many times that. */
size_t nib_kivi_head_bytes(unsigned bits, size_t dim);

/* Values x[dim] of one head. */
void nib_kivi_encode(unsigned bits, uint8_t *to, const float *x, size_t dim);
void nib_kivi_decode(unsigned bits, float *to, const uint8_t *from, size_t dim);

/* Keys of one head of NIB_KIVI_GROUP tokens, token[i][dim] each. */
void nib_kivi_encode_keys(unsigned bits, uint8_t *to, const float *const *token, size_t dim);
/* Those of n of these tokens, from `first` on, to to[n][dim]. */
void nib_kivi_decode_keys(unsigned bits, float *to, const uint8_t *from, size_t first, size_t n,
                          size_t dim);

#endif
