/* SPDX-License-Identifier: MIT */
/* run/plan/file_type.c - see file_type.h. The rules of llama-quantize; mxfp4 and nvfp4 for all
 * matrices are ours, as it has them for experts or not at all. */
#include "run/plan/file_type.h"

#include "base/name.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- file types ---- */

enum { /* values of general.file_type */
       FT_F32 = 0,
       FT_F16 = 1,
       FT_Q4_0 = 2,
       FT_Q4_1 = 3,
       FT_Q8_0 = 7,
       FT_Q5_0 = 8,
       FT_Q5_1 = 9,
       FT_Q2_K = 10,
       FT_Q3_K_S = 11,
       FT_Q3_K_M = 12,
       FT_Q3_K_L = 13,
       FT_Q4_K_S = 14,
       FT_Q4_K_M = 15,
       FT_Q5_K_S = 16,
       FT_Q5_K_M = 17,
       FT_Q6_K = 18,
       FT_IQ2_XXS = 19,
       FT_IQ2_XS = 20,
       FT_Q2_K_S = 21,
       FT_IQ3_XS = 22,
       FT_IQ3_XXS = 23,
       FT_IQ1_S = 24,
       FT_IQ4_NL = 25,
       FT_IQ3_S = 26,
       FT_IQ3_M = 27,
       FT_IQ2_S = 28,
       FT_IQ2_M = 29,
       FT_IQ4_XS = 30,
       FT_IQ1_M = 31,
       FT_BF16 = 32,
       FT_TQ1_0 = 36,
       FT_TQ2_0 = 37,
       FT_MXFP4 = 38,
       FT_NVFP4 = 39,
       FT_Q1_0 = 40,
       FT_Q2_0 = 41,
};

static const nib_file_type file_types[] = {
    {"f32", NULL, FT_F32, NIB_F32, false},
    {"f16", NULL, FT_F16, NIB_F16, false},
    {"bf16", NULL, FT_BF16, NIB_BF16, false},
    {"q8_0", NULL, FT_Q8_0, NIB_Q8_0, false},
    {"q6_k", NULL, FT_Q6_K, NIB_Q6_K, false},
    {"q5_k_m", "q5_k", FT_Q5_K_M, NIB_Q5_K, false},
    {"q5_k_s", NULL, FT_Q5_K_S, NIB_Q5_K, false},
    {"q5_1", NULL, FT_Q5_1, NIB_Q5_1, false},
    {"q5_0", NULL, FT_Q5_0, NIB_Q5_0, false},
    {"q4_k_m", "q4_k", FT_Q4_K_M, NIB_Q4_K, false},
    {"q4_k_s", NULL, FT_Q4_K_S, NIB_Q4_K, false},
    {"q4_1", NULL, FT_Q4_1, NIB_Q4_1, false},
    {"q4_0", NULL, FT_Q4_0, NIB_Q4_0, false},
    {"iq4_nl", NULL, FT_IQ4_NL, NIB_IQ4_NL, false},
    {"iq4_xs", NULL, FT_IQ4_XS, NIB_IQ4_XS, false},
    {"nvfp4", NULL, FT_NVFP4, NIB_NVFP4, false},
    {"mxfp4", NULL, FT_MXFP4, NIB_MXFP4, false},
    {"mxfp4_moe", NULL, FT_MXFP4, NIB_MXFP4, true},
    {"q3_k_l", NULL, FT_Q3_K_L, NIB_Q3_K, false},
    {"q3_k_m", "q3_k", FT_Q3_K_M, NIB_Q3_K, false},
    {"q3_k_s", NULL, FT_Q3_K_S, NIB_Q3_K, false},
    {"iq3_m", NULL, FT_IQ3_M, NIB_IQ3_S, false},
    {"iq3_s", NULL, FT_IQ3_S, NIB_IQ3_S, false},
    {"iq3_xs", NULL, FT_IQ3_XS, NIB_IQ3_S, false},
    {"iq3_xxs", NULL, FT_IQ3_XXS, NIB_IQ3_XXS, false},
    {"q2_k", NULL, FT_Q2_K, NIB_Q2_K, false},
    {"q2_k_s", NULL, FT_Q2_K_S, NIB_Q2_K, false},
    {"iq2_m", NULL, FT_IQ2_M, NIB_IQ2_S, false},
    {"iq2_s", NULL, FT_IQ2_S, NIB_IQ2_XS, false},
    {"iq2_xs", NULL, FT_IQ2_XS, NIB_IQ2_XS, false},
    {"iq2_xxs", NULL, FT_IQ2_XXS, NIB_IQ2_XXS, false},
    {"iq1_m", NULL, FT_IQ1_M, NIB_IQ1_M, false},
    {"iq1_s", NULL, FT_IQ1_S, NIB_IQ1_S, false},
    {"q2_0", NULL, FT_Q2_0, NIB_Q2_0, false},
    {"q1_0", NULL, FT_Q1_0, NIB_Q1_0, false},
    {"tq2_0", NULL, FT_TQ2_0, NIB_TQ2_0, false},
    {"tq1_0", NULL, FT_TQ1_0, NIB_TQ1_0, false},
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

size_t nib_file_type_count(void)
{
    return COUNT(file_types);
}

const nib_file_type *nib_file_type_at(size_t i)
{
    return &file_types[i];
}

static void list_known(char *buf, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < COUNT(file_types) && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%s", i ? ", " : "", file_types[i].name);
}

static const char *file_type_name(const void *arg, size_t i)
{
    (void)arg;
    return i < COUNT(file_types) ? file_types[i].name : NULL;
}

static bool is_number(const char *name, uint32_t id)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%u", (unsigned)id);
    return !strcmp(name, digits);
}

nib_code nib_file_type_find(const nib_file_type **out, const char *name, nib_err *err)
{
    char known[512];
    *out = NULL;
    for (size_t i = 0; i < COUNT(file_types); i++) {
        const nib_file_type *t = &file_types[i];
        if (!nib_name_same(name, t->name) && !(t->alias && nib_name_same(name, t->alias))) continue;
        *out = t;
        return NIB_OK;
    }
    list_known(known, sizeof known);
    for (size_t i = 0; i < COUNT(file_types); i++)
        if (is_number(name, file_types[i].id))
            return nib_fail(err, NIB_EINVAL,
                            "file type '%s' is the number that %s has in llama-quantize: give its "
                            "name",
                            name, file_types[i].name);
    const char *near = nib_name_nearest(name, file_type_name, NULL);
    if (near)
        return nib_fail(err, NIB_EINVAL, "unknown file type '%s'; did you mean '%s'? known: %s",
                        name, near, known);
    return nib_fail(err, NIB_EINVAL, "unknown file type '%s'; known: %s", name, known);
}

/* ---- names ---- */

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

bool nib_file_type_counts_as_v(const char *name)
{
    return has(name, "attn_qkv.weight") || has(name, "attn_kv_b.weight") ||
           has(name, "attn_v.weight");
}

bool nib_file_type_is_embedding(const char *name)
{
    return !strcmp(name, "token_embd.weight") || !strcmp(name, "per_layer_token_embd.weight");
}

bool nib_file_type_is_output(const nib_file_type_mix *m, const char *name)
{
    return !strcmp(name, "output.weight") || (!m->has_output && nib_file_type_is_embedding(name));
}

bool nib_file_type_quantizable(const char *name, int n_dims)
{
    static const char *const keep[] = {
        "_norm.weight",
        "ffn_gate_inp.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "attn_rel_b.weight",
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
    };
    if (n_dims < 2 || !nib_ends_with(name, "weight")) return false;
    if (!strcmp(name, "position_embd.weight") || !strcmp(name, "token_types.weight")) return false;
    for (size_t i = 0; i < COUNT(keep); i++)
        if (has(name, keep[i])) return false;
    return true;
}

/* ---- rules ---- */

typedef struct {
    nib_type type;
    const char *why;
} choice;

/* The layers that get more bits: the first and last eighth, and every third between. */
static bool more_bits(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool is_70b(const nib_file_type_mix *m)
{
    if (!strcmp(m->arch, "llama"))
        return m->n_layer == 80 && m->n_head != m->n_head_kv && m->n_expert != 8;
    if (!strcmp(m->arch, "jais2")) return m->n_layer == 68;
    return m->n_layer == 80 &&
           (!strcmp(m->arch, "qwen2") || !strcmp(m->arch, "deci") || !strcmp(m->arch, "olmo"));
}

static bool is_falcon(const nib_file_type_mix *m)
{
    return !strcmp(m->arch, "falcon");
}

static choice base_of(const nib_file_type_mix *m)
{
    return (choice){m->file_type->base, "base type"};
}

/* Those below 2.6 bits. */
static bool is_low(const nib_file_type_mix *m)
{
    switch (m->file_type->id) {
    case FT_IQ1_S:
    case FT_IQ1_M:
    case FT_IQ2_XXS:
    case FT_IQ2_XS:
    case FT_IQ2_S:
    case FT_IQ2_M: return true;
    default: return false;
    }
}

/* Of the low ones the larger two, whose better matrices are iq3_s and not q2_k. */
static bool is_iq2_s_or_m(const nib_file_type_mix *m)
{
    return m->file_type->id == FT_IQ2_S || m->file_type->id == FT_IQ2_M;
}

static choice choose_embedding(const nib_file_type_mix *m)
{
    static const char why[] = "embedding";
    const uint32_t ft = m->file_type->id;
    if (is_iq2_s_or_m(m) || ft == FT_IQ3_XXS) return (choice){NIB_IQ3_S, why};
    if (is_low(m)) return (choice){NIB_Q2_K, why};
    if (ft == FT_TQ1_0 || ft == FT_TQ2_0 || ft == FT_Q2_0) return (choice){NIB_Q4_K, why};
    return base_of(m);
}

static choice choose_output(const nib_file_type_mix *m, uint64_t cols)
{
    nib_type base = m->file_type->base;
    const char *why = m->has_output ? "output matrix" : "output matrix (tied embedding)";
    if (is_falcon(m) || cols % nib_codec_get(base)->block) return (choice){NIB_Q8_0, why};
    if (is_low(m) || m->file_type->id == FT_IQ3_XXS) return (choice){NIB_Q5_K, why};
    return (choice){base == NIB_Q8_0 ? NIB_Q8_0 : NIB_Q6_K, why};
}

static choice choose_v_by_type(const nib_file_type_mix *m, uint32_t i)
{
    static const char grouped[] = "attn_v shared by 4 or more heads";
    static const char more[] = "attn_v of a layer that gets more bits";
    bool gqa4 = m->n_head_kv && m->n_head / m->n_head_kv >= 4;
    switch (m->file_type->id) {
    case FT_Q2_K: return gqa4 ? (choice){NIB_Q4_K, grouped} : (choice){NIB_Q3_K, "attn_v"};
    case FT_Q2_K_S:
        if (gqa4) return (choice){NIB_Q4_K, grouped};
        break;
    case FT_Q3_K_M:
        return i < 2 ? (choice){NIB_Q5_K, "attn_v, one of the first two"}
                     : (choice){NIB_Q4_K, "attn_v"};
    case FT_Q3_K_L: return (choice){NIB_Q5_K, "attn_v"};
    case FT_Q4_K_S:
        if (i < 4) return (choice){NIB_Q5_K, "attn_v, one of the first four"};
        break;
    case FT_Q4_K_M:
    case FT_Q5_K_M:
        if (more_bits(i, m->n_attn_v)) return (choice){NIB_Q6_K, more};
        break;
    case FT_IQ4_NL:
    case FT_IQ4_XS:
        if (gqa4) return (choice){NIB_Q5_K, grouped};
        break;
    case FT_IQ3_XXS:
        if (gqa4) return (choice){NIB_Q4_K, grouped};
        if (!m->has_importance) return (choice){NIB_IQ3_S, "attn_v without importances"};
        break;
    case FT_IQ3_XS:
    case FT_IQ3_S:
        if (gqa4) return (choice){NIB_Q4_K, grouped};
        break;
    case FT_IQ3_M: return (choice){NIB_Q4_K, "attn_v"};
    }
    return base_of(m);
}

/* In files below 2.6 bits. */
static choice choose_v_low(const nib_file_type_mix *m)
{
    const bool gqa4 = m->n_head_kv && m->n_head / m->n_head_kv >= 4;
    if (gqa4 || m->n_expert >= 4)
        return (choice){NIB_Q4_K, "attn_v shared by 4 or more heads or experts"};
    return (choice){is_iq2_s_or_m(m) ? NIB_IQ3_S : NIB_Q2_K, "attn_v"};
}

static choice choose_v(nib_file_type_mix *m)
{
    if (is_low(m)) return choose_v_low(m);
    choice c = choose_v_by_type(m, m->i_attn_v++);
    if (is_70b(m) && (c.type == NIB_Q3_K || c.type == NIB_Q4_K))
        c = (choice){NIB_Q5_K, "attn_v of a 70B model"};
    if (m->n_expert == 8) c = (choice){NIB_Q8_0, "attn_v of a model with 8 experts"};
    return c;
}

/* With experts, files may hold a layer's parts in any number; its own number counts then. */
static uint32_t ffn_index(const nib_file_type_mix *m, uint32_t *counter, const char *name)
{
    uint32_t i = (*counter)++;
    if (m->n_expert > 1 && !strncmp(name, "blk.", 4)) i = (uint32_t)strtoul(name + 4, NULL, 10);
    return i;
}

static choice choose_down_falcon(const nib_file_type_mix *m, uint32_t i)
{
    uint32_t n = m->n_layer;
    switch (m->file_type->id) {
    case FT_Q3_K_M:
        if (i < n / 16) return (choice){NIB_Q5_K, "ffn_down, first sixteenth"};
        return (choice){more_bits(i, n) ? NIB_Q4_K : NIB_Q3_K, "ffn_down"};
    case FT_Q3_K_L: return (choice){NIB_Q4_K, "ffn_down"};
    case FT_Q4_K_M:
        if (i < n / 16) return (choice){NIB_Q6_K, "ffn_down, first sixteenth"};
        return (choice){more_bits(i, n) ? NIB_Q5_K : NIB_Q4_K, "ffn_down"};
    }
    return base_of(m);
}

static choice choose_down(nib_file_type_mix *m, const char *name)
{
    static const char first[] = "ffn_down, first eighth of the layers";
    const uint32_t nth = m->i_ffn_down, n = m->n_layer, ft = m->file_type->id;
    const uint32_t i = ffn_index(m, &m->i_ffn_down, name);
    bool early = i < n / 8;
    if (is_low(m)) {
        if (nth >= n / 8) return base_of(m);
        return (choice){is_iq2_s_or_m(m) ? NIB_IQ3_S : NIB_Q2_K, first};
    }
    if (is_falcon(m) && (ft == FT_Q3_K_M || ft == FT_Q3_K_L || ft == FT_Q4_K_M || ft == FT_Q4_K_S))
        return choose_down_falcon(m, i);
    switch (ft) {
    case FT_Q2_K: return (choice){NIB_Q3_K, "ffn_down"};
    case FT_Q2_K_S:
        if (early) return (choice){NIB_Q4_K, first};
        break;
    case FT_Q3_K_M:
        return i < n / 16 ? (choice){NIB_Q5_K, "ffn_down, first sixteenth of the layers"}
                          : (choice){NIB_Q4_K, "ffn_down"};
    case FT_Q3_K_L: return (choice){NIB_Q5_K, "ffn_down"};
    case FT_Q4_K_S:
        if (early) return (choice){NIB_Q5_K, first};
        break;
    case FT_Q4_K_M:
    case FT_Q5_K_M:
        if (more_bits(i, n)) return (choice){NIB_Q6_K, "ffn_down of a layer that gets more bits"};
        break;
    case FT_IQ3_XXS:
        if (m->has_importance) break;
        return early ? (choice){NIB_Q4_K, first} : (choice){NIB_Q3_K, "ffn_down"};
    case FT_IQ3_M:
        if (early || (m->n_expert == 8 && more_bits(i, n))) return (choice){NIB_Q4_K, first};
        break;
    case FT_IQ4_NL:
    case FT_IQ4_XS:
        if (early && !m->has_importance) return (choice){NIB_Q5_K, first};
        break;
    case FT_Q4_0:
    case FT_Q5_0:
        if (early && m->has_importance) return (choice){ft == FT_Q4_0 ? NIB_Q4_1 : NIB_Q5_1, first};
        break;
    }
    return base_of(m);
}

/* In files below 2.6 bits. */
static choice choose_attn_output_low(const nib_file_type_mix *m)
{
    const uint32_t ft = m->file_type->id;
    if (m->n_expert == 8) return (choice){NIB_Q5_K, "attn_output of a model with 8 experts"};
    if (ft == FT_IQ1_S || ft == FT_IQ1_M) return (choice){NIB_IQ2_XXS, "attn_output"};
    return is_iq2_s_or_m(m) ? (choice){NIB_IQ3_S, "attn_output"} : base_of(m);
}

static choice choose_attn_output(const nib_file_type_mix *m)
{
    uint32_t ft = m->file_type->id;
    if (is_low(m)) return choose_attn_output_low(m);
    if (is_falcon(m)) return ft == FT_Q3_K_L ? (choice){NIB_Q4_K, "attn_output"} : base_of(m);
    if (m->n_expert == 8) {
        static const uint32_t raised[] = {FT_Q2_K,   FT_Q3_K_S, FT_Q3_K_M, FT_Q4_K_S,
                                          FT_Q4_K_M, FT_IQ4_NL, FT_IQ4_XS, FT_IQ3_XXS,
                                          FT_IQ3_XS, FT_IQ3_S,  FT_IQ3_M};
        for (size_t i = 0; i < COUNT(raised); i++)
            if (ft == raised[i]) return (choice){NIB_Q5_K, "attn_output of a model with 8 experts"};
        return base_of(m);
    }
    switch (ft) {
    case FT_Q2_K: return (choice){NIB_Q3_K, "attn_output"};
    case FT_Q3_K_M: return (choice){NIB_Q4_K, "attn_output"};
    case FT_Q3_K_L: return (choice){NIB_Q5_K, "attn_output"};
    case FT_IQ3_XXS: return (choice){NIB_IQ3_S, "attn_output"};
    case FT_IQ3_M: return (choice){NIB_Q4_K, "attn_output"};
    }
    return base_of(m);
}

/* Keys and queries; keys of a model with 8 experts are cheap. */
static choice choose_qk(const nib_file_type_mix *m, bool key)
{
    static const char experts[] = "attn_k of a model with 8 experts";
    const char *why = key ? "attn_k" : "attn_q";
    if (key && m->n_expert == 8) return (choice){is_low(m) ? NIB_Q4_K : NIB_Q8_0, experts};
    if (m->file_type->id == FT_IQ3_XS) return (choice){NIB_IQ3_XXS, why};
    if (m->file_type->id == FT_IQ3_XXS) return (choice){NIB_IQ2_S, why};
    return base_of(m);
}

static choice choose_gate_up(nib_file_type_mix *m, uint32_t *counter, const char *name)
{
    const uint32_t i = ffn_index(m, counter, name), n = m->n_layer;
    if (m->file_type->id == FT_IQ3_XS && i >= n / 8 && i < 7 * n / 8)
        return (choice){NIB_IQ3_XXS, "ffn_gate and ffn_up, layers in the middle"};
    return base_of(m);
}

/* Experts alone are 4-bit floats, whose models were trained with them. */
static choice choose_experts_only(const nib_file_type_mix *m, const char *name)
{
    if (has(name, "_exps.")) return base_of(m);
    return (choice){NIB_Q8_0, "no experts"};
}

/* The first category that fits the name decides. */
static choice choose(nib_file_type_mix *m, const char *name, uint64_t cols)
{
    if (!nib_codec_get(m->file_type->base)->quantized) return base_of(m);
    if (m->file_type->experts_only) return choose_experts_only(m, name);
    if (nib_file_type_is_output(m, name)) return choose_output(m, cols);
    if (nib_file_type_is_embedding(name)) return choose_embedding(m);
    if (nib_file_type_counts_as_v(name)) return choose_v(m);
    if (has(name, "attn_k.weight")) return choose_qk(m, true);
    if (has(name, "attn_q.weight")) return choose_qk(m, false);
    if (has(name, "attn_output.weight")) return choose_attn_output(m);
    if (has(name, "ffn_up")) return choose_gate_up(m, &m->i_ffn_up, name);
    if (has(name, "ffn_gate")) return choose_gate_up(m, &m->i_ffn_gate, name);
    if (has(name, "ffn_down")) return choose_down(m, name);
    return base_of(m);
}

nib_type nib_file_type_choose(nib_file_type_mix *m, const char *name, uint64_t cols,
                              const char **why)
{
    choice c = choose(m, name, cols);
    *why = c.why;
    return c.type;
}

nib_type nib_file_type_fit(nib_type type, uint64_t cols)
{
    nib_type next = type;
    if (cols % nib_codec_get(type)->block == 0) return type;
    switch (type) {
    case NIB_IQ1_S:
    case NIB_IQ1_M:
    case NIB_IQ2_XXS:
    case NIB_IQ2_XS:
    case NIB_IQ2_S:
    case NIB_IQ3_XXS:
    case NIB_IQ3_S:
    case NIB_IQ4_XS: next = NIB_IQ4_NL; break;
    case NIB_Q2_K:
    case NIB_Q3_K:
    case NIB_TQ1_0:
    case NIB_TQ2_0:
    case NIB_Q2_0: next = NIB_Q4_0; break;
    case NIB_Q4_K: next = NIB_Q5_0; break;
    case NIB_Q5_K: next = NIB_Q5_1; break;
    case NIB_Q6_K: next = NIB_Q8_0; break;
    default:
        if (nib_codec_get(type)->block != 32) return NIB_TYPE_COUNT;
    }
    return cols % nib_codec_get(next)->block ? NIB_F16 : next;
}

nib_type nib_file_type_higher(nib_type type)
{
    static const nib_type next[NIB_TYPE_COUNT] = {
        [NIB_Q2_K] = NIB_Q3_K,      [NIB_Q3_K] = NIB_Q4_K,     [NIB_Q4_K] = NIB_Q5_K,
        [NIB_Q5_K] = NIB_Q6_K,      [NIB_Q6_K] = NIB_Q8_0,     [NIB_Q4_0] = NIB_Q5_0,
        [NIB_Q4_1] = NIB_Q5_1,      [NIB_Q5_0] = NIB_Q8_0,     [NIB_Q5_1] = NIB_Q8_0,
        [NIB_IQ4_NL] = NIB_Q5_0,    [NIB_IQ4_XS] = NIB_Q5_K,   [NIB_IQ3_S] = NIB_IQ4_XS,
        [NIB_IQ3_XXS] = NIB_IQ3_S,  [NIB_IQ2_S] = NIB_IQ3_XXS, [NIB_IQ2_XS] = NIB_IQ2_S,
        [NIB_IQ2_XXS] = NIB_IQ2_XS, [NIB_IQ1_M] = NIB_IQ2_XXS, [NIB_IQ1_S] = NIB_IQ1_M,
        [NIB_TQ1_0] = NIB_Q2_K,     [NIB_TQ2_0] = NIB_Q2_K,    [NIB_Q1_0] = NIB_Q2_0,
        [NIB_Q2_0] = NIB_Q4_0,      [NIB_MXFP4] = NIB_Q5_0,    [NIB_NVFP4] = NIB_Q5_0,
    };
    return next[type] ? next[type] : type;
}

bool nib_file_type_needs_importance(const nib_file_type_mix *m, const char *name, nib_type type)
{
    if (nib_file_type_is_embedding(name) || !strcmp(name, "output.weight")) return false;
    switch (type) {
    case NIB_IQ1_S:
    case NIB_IQ1_M:
    case NIB_IQ2_XXS:
    case NIB_IQ2_XS:
    case NIB_IQ2_S:
    case NIB_IQ3_XXS: return true;
    case NIB_Q2_K: return m->file_type->id == FT_Q2_K_S;
    default: return false;
    }
}
