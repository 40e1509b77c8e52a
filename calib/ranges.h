/* SPDX-License-Identifier: MIT */
/* calib/ranges.h - ranges of the activations that the linear weights of a model's blocks read:
 * measured (input_ranges.h), kept in a JSON file, looked up by layer and role.
 *
 *     {"format": "nibble activation ranges", "version": 1,
 *      "model": "0123456789abcdef",                           nib_model_fingerprint()
 *      "windows": {"count": 62, "tokens": 512, "fingerprint": "0123456789abcdef"},
 *      "method": "percentile", "percentile": 99.99,           the latter for that method alone
 *      "inputs": [
 *        {"layer": 0,
 *         "weights": [{"hf": "model.layers.0.mlp.gate_proj.weight",
 *                      "gguf": "blk.0.ffn_gate.weight"}, ...],          all that read this input
 *         "values": 16252928, "batches": 62,                            what was seen; a window
 *         "min": -3.1, "max": 4.2, "amax": 4.2,                         is a batch
 *         "threshold": 3.9,                                             nib_range's amax
 *         "symmetric": {"scale": 0.0307},
 *         "asymmetric": {"lo": -3.1, "hi": 3.9, "scale": 0.0274, "zero_point": -15}}, ...]}
 *
 * Inputs are in the order of the layers; numbers are f32 values with all their digits. */
#ifndef NIB_CALIB_RANGES_H
#define NIB_CALIB_RANGES_H

#include "calib/measured_on.h"
#include "quant/range.h"

typedef struct {
    uint32_t layer;
    nib_role role[NIB_READERS_MAX]; /* of the weights that read it */
    size_t n_roles;
    uint64_t values, batches;
    float min, max; /* extremes that were seen */
    nib_range range;
} nib_input_range;

typedef struct {
    const nib_arch *arch; /* whose names the file has */
    nib_measured_on on;
    nib_range_method method;
    double percentile;
    nib_input_range *input; /* [n] owned, by layer */
    size_t n;
} nib_ranges;

NIB_MUST_USE nib_code nib_ranges_save(const nib_ranges *r, const char *path, bool force,
                                      nib_err *err);

/* Read a file that was measured on model m: another one's is refused by the fingerprint, and every
 * matrix of every block has its range. Errors name the file and the key. On failure *r is empty. */
NIB_MUST_USE nib_code nib_ranges_load(nib_ranges *r, const char *path, const nib_model *m,
                                      nib_err *err);

/* What the weight of that role reads; NULL when there is none. Borrowed. */
const nib_range *nib_ranges_find(const nib_ranges *r, uint32_t layer, nib_role role);

void nib_ranges_free(nib_ranges *r); /* accepts {0} */

#endif
