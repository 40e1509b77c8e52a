/* SPDX-License-Identifier: MIT */
/* tests/run/w8a8.h - formats of 8-bit weights whose inputs engines round too, symmetric. */
#ifndef NIB_TESTS_RUN_W8A8_H
#define NIB_TESTS_RUN_W8A8_H

#include "formats/packed_format.h"

/* Scales by row and by token. */
static const nib_packing W8A8 = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN, .act_sym = true};
/* One for a whole weight. */
static const nib_packing W8A8_TENSOR = {.kind = NIB_PACKING_CT_INT,
                                        .bits = 8,
                                        .per_tensor = true,
                                        .sym = true,
                                        .act = NIB_ACT_TOKEN,
                                        .act_sym = true};
/* Inputs by a measured range, with a zero point. */
static const nib_packing W8A8_STATIC = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR};

#endif
