/* SPDX-License-Identifier: MIT */
/* calib/fingerprint.h - is a file on disk of the same model, text and options as this run? */
#ifndef NIB_CALIB_FINGERPRINT_H
#define NIB_CALIB_FINGERPRINT_H

#include "base/json.h"
#include "infer/model.h"

#define NIB_HASH_START 0xCBF29CE484222325u /* of no bytes */

/* Go on from h (FNV-1a, 64 bits) with n more bytes. */
uint64_t nib_hash(uint64_t h, const void *data, size_t n);

/* In files it is 16 hexadecimal digits. Adding: false when memory is short; getting: when it is
 * something else. */
enum { NIB_HASH_DIGITS = 16 };
void nib_hash_text(char text[NIB_HASH_DIGITS + 1], uint64_t h);
NIB_MUST_USE bool nib_hash_add(nib_json *to, const char *key, uint64_t h);
NIB_MUST_USE bool nib_hash_get(uint64_t *h, const nib_json *from, const char *key);

/* Of the model's tensors: names, formats, shapes and the first bytes of each. */
NIB_MUST_USE nib_code nib_model_fingerprint(uint64_t *out, const nib_model *m, nib_err *err);

#endif
