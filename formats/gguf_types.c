/* SPDX-License-Identifier: MIT */
/* formats/gguf_types.c - GGUF's ids of tensor types, and which of our number formats they are.
 * Tests: tests/formats/test_gguf_bad.c. */
#include "formats/gguf_int.h"

enum { REMOVED = -1, RUNTIME = -2 };

/* Index = id in the file. */
static const struct {
    const char *name;
    int type; /* nib_type, or why there is none */
} types[] = {
    {"F32", NIB_F32},         {"F16", NIB_F16},         {"Q4_0", NIB_Q4_0},
    {"Q4_1", NIB_Q4_1},       {"Q4_2", REMOVED},        {"Q4_3", REMOVED},
    {"Q5_0", NIB_Q5_0},       {"Q5_1", NIB_Q5_1},       {"Q8_0", NIB_Q8_0},
    {"Q8_1", RUNTIME},        {"Q2_K", NIB_Q2_K},       {"Q3_K", NIB_Q3_K},
    {"Q4_K", NIB_Q4_K},       {"Q5_K", NIB_Q5_K},       {"Q6_K", NIB_Q6_K},
    {"Q8_K", RUNTIME},        {"IQ2_XXS", NIB_IQ2_XXS}, {"IQ2_XS", NIB_IQ2_XS},
    {"IQ3_XXS", NIB_IQ3_XXS}, {"IQ1_S", NIB_IQ1_S},     {"IQ4_NL", NIB_IQ4_NL},
    {"IQ3_S", NIB_IQ3_S},     {"IQ2_S", NIB_IQ2_S},     {"IQ4_XS", NIB_IQ4_XS},
    {"I8", NIB_I8},           {"I16", NIB_I16},         {"I32", NIB_I32},
    {"I64", NIB_I64},         {"F64", NIB_F64},         {"IQ1_M", NIB_IQ1_M},
    {"BF16", NIB_BF16},       {"Q4_0_4_4", REMOVED},    {"Q4_0_4_8", REMOVED},
    {"Q4_0_8_8", REMOVED},    {"TQ1_0", NIB_TQ1_0},     {"TQ2_0", NIB_TQ2_0},
    {"IQ4_NL_4_4", REMOVED},  {"IQ4_NL_4_8", REMOVED},  {"IQ4_NL_8_8", REMOVED},
    {"MXFP4", NIB_MXFP4},     {"NVFP4", NIB_NVFP4},     {"Q1_0", NIB_Q1_0},
    {"Q2_0", NIB_Q2_0},
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
    const char *why = types[id].type == REMOVED ? "was removed from the format"
                                                : "is for computing, not for files";
    return nib_fail(err, NIB_EFORMAT, "tensor type %d (%s) %s", id, types[id].name, why);
}
