/* SPDX-License-Identifier: MIT */
/* formats/carried.h - what lies in a model's folder beside configuration and weights and is copied
 * as it is where a folder is made from it: tokenizer, generation configuration, chat template,
 * texts.
 */
#ifndef NIB_FORMATS_CARRIED_H
#define NIB_FORMATS_CARRIED_H

#include "formats/source.h"

/* From the source's folder into the folder `to`. */
NIB_MUST_USE nib_code nib_carried_copy(const char *to, const nib_source *s, nib_err *err);
/* What they take on the disk. */
NIB_MUST_USE nib_code nib_carried_bytes(uint64_t *bytes, const nib_source *s, nib_err *err);

#endif
