/* SPDX-License-Identifier: MIT */
/* infer/kv_scales.h - scales of a key/value cache that a checkpoint brings along: those of
 * compressed-tensors' kv_cache_scheme, by which keys and values are divided before they are rounded
 * to E4M3.
 *
 *   model.layers.N.self_attn.k_scale, .v_scale   [1], or one for each head [n_head_kv, 1, 1] */
#ifndef NIB_INFER_KV_SCALES_H
#define NIB_INFER_KV_SCALES_H

#include "infer/model.h"

/* The largest magnitude has this code. */
#define NIB_KV_E4M3_MAX 448.0f

typedef struct {
    float *of[2]; /* [n_layer][n_head] of keys, of values; owned */
    size_t n_layer, n_head;
} nib_kv_scales;

void nib_kv_scales_free(nib_kv_scales *s); /* accepts {0} */

/* All of the model's, from the tensors of its source. NIB_EINVAL: it has none. NIB_EFORMAT names one
 * that is missing, or is no positive number for each head or all. On failure *s is empty. */
NIB_MUST_USE nib_code nib_kv_scales_read(nib_kv_scales *s, const nib_model *m, nib_err *err);

/* The tensor's name in a folder, of keys (0) or values (1); false: it does not fit, or layers of
 * this model have no keys of their own. */
NIB_MUST_USE bool nib_kv_scale_name(char *buf, size_t n, const nib_model *m, uint32_t layer,
                                    int of);

#endif
