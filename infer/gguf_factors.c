/* SPDX-License-Identifier: MIT */
/* infer/gguf_factors.c - where llama.cpp multiplies by factors of whole weights
 * (formats/gguf_factor.c). It loads those of these roles with every architecture, since spring
 * 2026, but each one's graph has to apply them, and most do not: they compute without, and say
 * nothing. A file with factors of other roles it does not load. Tests: tests/interop/llamacpp.sh,
 * tests/run/test_convert.c. */
#include "infer/model.h"

#include <string.h>

/* Of these it applies all, as of v0.5.0: found by weights that were divided by their factors. Of
 * qwen2, gpt2 and the like it applies those of attention alone. */
static const char *const applied[] = {"llama",  "mistral3",  "qwen3",  "qwen3moe",
                                      "qwen35", "qwen35moe", "cohere2"};

bool nib_gguf_has_factor(const nib_arch *a, nib_role r)
{
    switch (r) {
    case NIB_ROLE_ATTN_Q:
    case NIB_ROLE_ATTN_K:
    case NIB_ROLE_ATTN_V:
    case NIB_ROLE_ATTN_QKV:
    case NIB_ROLE_ATTN_GATE:
    case NIB_ROLE_ATTN_OUTPUT:
    case NIB_ROLE_SSM_OUT:
    case NIB_ROLE_SSM_ALPHA:
    case NIB_ROLE_SSM_BETA:
    case NIB_ROLE_FFN_GATE:
    case NIB_ROLE_FFN_UP:
    case NIB_ROLE_FFN_DOWN:
    case NIB_ROLE_FFN_GATE_SHEXP:
    case NIB_ROLE_FFN_UP_SHEXP:
    case NIB_ROLE_FFN_DOWN_SHEXP:
    case NIB_ROLE_FFN_GATE_EXPS:
    case NIB_ROLE_FFN_UP_EXPS:
    case NIB_ROLE_FFN_DOWN_EXPS: break;
    default: return false;
    }
    for (size_t i = 0; i < sizeof applied / sizeof *applied; i++)
        if (!strcmp(a->name, applied[i])) return true;
    return false;
}
