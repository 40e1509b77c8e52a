/* SPDX-License-Identifier: MIT */
/* tests/formats/golden.h - vectors of tests/golden (NIB_GOLDEN) for layouts. */
#ifndef NIB_TESTS_FORMATS_GOLDEN_H
#define NIB_TESTS_FORMATS_GOLDEN_H

#include "formats/source.h"

/* The file NAME.safetensors of a set; the caller closes it. */
nib_source *open_golden(const char *set, const char *name);
/* A tensor's bytes, the caller's; fails when there is none. */
void *bytes_of(const nib_source *s, const char *name);
/* The part of a packed layer has exactly the tensor's bytes. */
void expect_part(const nib_source *s, const nib_packed_parts *l, const uint8_t *packed,
                 nib_part_role role, const char *name);

#endif
