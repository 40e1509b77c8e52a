/* SPDX-License-Identifier: MIT */
/* formats/gguf_types.c - GGUF's ids of tensor types, and which of our number formats they are.
 * Tests: tests/formats/test_gguf_bad.c. */
#include "formats/gguf_int.h"

enum { UNREAD = -1, REMOVED = -2, RUNTIME = -3 };

/* Index = id in the file. */
static const struct {
    const char *name;
    int type; /* nib_type, or why there is none */
} types[] = {
    {"F32", NIB_F32},        {"F16", NIB_F16},        {"Q4_0", NIB_Q4_0},
    {"Q4_1", NIB_Q4_1},      {"Q4_2", REMOVED},       {"Q4_3", REMOVED},
    {"Q5_0", NIB_Q5_0},      {"Q5_1", NIB_Q5_1},      {"Q8_0", NIB_Q8_0},
    {"Q8_1", RUNTIME},       {"Q2_K", NIB_Q2_K},      {"Q3_K", NIB_Q3_K},
    {"Q4_K", NIB_Q4_K},      {"Q5_K", NIB_Q5_K},      {"Q6_K", NIB_Q6_K},
    {"Q8_K", RUNTIME},       {"IQ2_XXS", UNREAD},     {"IQ2_XS", UNREAD},
    {"IQ3_XXS", UNREAD},     {"IQ1_S", UNREAD},       {"IQ4_NL", NIB_IQ4_NL},
    {"IQ3_S", UNREAD},       {"IQ2_S", UNREAD},       {"IQ4_XS", NIB_IQ4_XS},
    {"I8", NIB_I8},          {"I16", NIB_I16},        {"I32", NIB_I32},
    {"I64", NIB_I64},        {"F64", NIB_F64},        {"IQ1_M", UNREAD},
    {"BF16", NIB_BF16},      {"Q4_0_4_4", REMOVED},   {"Q4_0_4_8", REMOVED},
    {"Q4_0_8_8", REMOVED},   {"TQ1_0", UNREAD},       {"TQ2_0", UNREAD},
    {"IQ4_NL_4_4", REMOVED}, {"IQ4_NL_4_8", REMOVED}, {"IQ4_NL_8_8", REMOVED},
    {"MXFP4", UNREAD},       {"NVFP4", UNREAD},       {"Q1_0", UNREAD},
    {"Q2_0", UNREAD},
};
enum { N_TYPES = sizeof types / sizeof *types };

int nib_gguf_type_id(nib_type t)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == (int)t) return i;
    return -1;
}

bool nib_gguf_type_from_id(int id, nib_type *t)
{
    if (id < 0 || id >= N_TYPES || types[id].type < 0) return false;
    *t = (nib_type)types[id].type;
    return true;
}

nib_code nib_gguf_fail_type(int id, nib_err *err)
{
    if (id < 0 || id >= N_TYPES)
        return nib_fail(err, NIB_EFORMAT, "unknown tensor type %d; known ones are 0 to %d", id,
                        N_TYPES - 1);
    const char *why = types[id].type == REMOVED   ? "was removed from the format"
                      : types[id].type == RUNTIME ? "is for computing, not for files"
                                                  : "is not supported by nibble";
    return nib_fail(err, NIB_EFORMAT, "tensor type %d (%s) %s", id, types[id].name, why);
}
