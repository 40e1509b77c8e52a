/* SPDX-License-Identifier: MIT */
/* calib/fingerprint.h - is a file on disk of the same model, text and options as this run? */
#ifndef NIB_CALIB_FINGERPRINT_H
#define NIB_CALIB_FINGERPRINT_H

#include "infer/model.h"

#define NIB_HASH_START 0xCBF29CE484222325u /* of no bytes */

/* Go on from h (FNV-1a, 64 bits) with n more bytes. */
uint64_t nib_hash(uint64_t h, const void *data, size_t n);

/* Of the model's tensors: names, formats, shapes and the first bytes of each. */
NIB_MUST_USE nib_code nib_model_fingerprint(uint64_t *out, const nib_model *m, nib_err *err);

#endif
