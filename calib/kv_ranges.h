/* SPDX-License-Identifier: MIT */
/* calib/kv_ranges.h - the largest magnitudes of keys, as they enter a cache (after their rotation
 * by position), and of values: measured, kept in a JSON file.
 *
 *     {"format": "nibble key/value ranges", "version": 1,
 *      "model": "0123456789abcdef",                           nib_model_fingerprint()
 *      "windows": {"count": 62, "tokens": 512, "fingerprint": "0123456789abcdef"},
 *      "strategy": "tensor",                                  or "head"
 *      "layers": [{"keys": [12.1], "values": [3.4]}, ...]}    one number, or one for each head */
#ifndef NIB_CALIB_KV_RANGES_H
#define NIB_CALIB_KV_RANGES_H

#include "calib/measured_on.h"

typedef struct {
    nib_measured_on on;
    bool per_head;
    size_t n_layer, n; /* n: numbers for each layer, 1 or its heads */
    float *of[2];      /* [n_layer][n] of keys, of values; owned    */
} nib_kv_ranges;

void nib_kv_ranges_free(nib_kv_ranges *r); /* accepts {0} */

/* In one run of the model. NIB_EINVAL: it has layers without keys. NIB_ENUMERIC: they are not
 * finite. On failure *r is empty. */
NIB_MUST_USE nib_code nib_kv_ranges_measure(nib_kv_ranges *r, const nib_model *m,
                                            const nib_windows *w, bool per_head, const nib_ctx *ctx,
                                            nib_err *err);
NIB_MUST_USE nib_code nib_kv_ranges_save(const nib_kv_ranges *r, const char *path, bool force,
                                         nib_err *err);
/* A file that was measured on model m: another one's is refused by the fingerprint. Errors name the
 * file and the key. On failure *r is empty. */
NIB_MUST_USE nib_code nib_kv_ranges_load(nib_kv_ranges *r, const char *path, const nib_model *m,
                                         nib_err *err);

#endif
