/* SPDX-License-Identifier: MIT */
/* infer/names.c - tensor names as a table: the one place that knows both spellings. Names that one
 * architecture alone has in checkpoints are in its row in arch.c.
 * Tests: tests/infer/test_model.c. */
#include "infer/model.h"

#include <stdio.h>
#include <string.h>

/* Stems of tensor names: ".weight" or ".bias" follows, a block's prefix goes before. A stem that
 * ends in '$' is the whole name. */
static const struct {
    const char *gguf, *hf; /* hf NULL: no such tensor there */
    bool linear;           /* of a block */
    bool bias;             /* may have one */
} roles[NIB_ROLE_COUNT] = {
    [NIB_ROLE_TOKEN_EMBD] = {"token_embd", "model.embed_tokens", false, false},
    [NIB_ROLE_POS_EMBD] = {"position_embd", NULL, false, false},
    [NIB_ROLE_EMBD_NORM] = {"token_embd_norm", NULL, false, true},
    [NIB_ROLE_EMBD_IN] = {"embd_in", NULL, false, false},
    [NIB_ROLE_EMBD_OUT] = {"embd_out", NULL, false, false},
    [NIB_ROLE_OUTPUT_NORM] = {"output_norm", "model.norm", false, true},
    [NIB_ROLE_OUTPUT] = {"output", "lm_head", false, true},
    [NIB_ROLE_ROPE_FREQS] = {"rope_freqs", NULL, false, false},
    [NIB_ROLE_ROPE_LONG] = {"rope_factors_long", NULL, false, false},
    [NIB_ROLE_ROPE_SHORT] = {"rope_factors_short", NULL, false, false},
    [NIB_ROLE_ATTN_NORM] = {"attn_norm", "input_layernorm", false, true},
    [NIB_ROLE_ATTN_NORM_2] = {"attn_norm_2", NULL, false, true},
    [NIB_ROLE_ATTN_Q] = {"attn_q", "self_attn.q_proj", true, true},
    [NIB_ROLE_ATTN_K] = {"attn_k", "self_attn.k_proj", true, true},
    [NIB_ROLE_ATTN_V] = {"attn_v", "self_attn.v_proj", true, true},
    [NIB_ROLE_ATTN_QKV] = {"attn_qkv", "self_attn.qkv_proj", true, true},
    [NIB_ROLE_ATTN_GATE] = {"attn_gate", "linear_attn.in_proj_z", true, false},
    [NIB_ROLE_SSM_IN] = {"ssm_in", "linear_attn.in_proj_qkvz", true, false},
    [NIB_ROLE_SSM_BA] = {"ssm_ba", "linear_attn.in_proj_ba", false, false},
    [NIB_ROLE_SSM_BETA] = {"ssm_beta", "linear_attn.in_proj_b", false, false},
    [NIB_ROLE_SSM_ALPHA] = {"ssm_alpha", "linear_attn.in_proj_a", false, false},
    [NIB_ROLE_SSM_CONV] = {"ssm_conv1d", "linear_attn.conv1d", false, false},
    [NIB_ROLE_SSM_DT] = {"ssm_dt.bias$", "linear_attn.dt_bias$", false, false},
    [NIB_ROLE_SSM_A] = {"ssm_a$", "linear_attn.A_log$", false, false},
    [NIB_ROLE_SSM_NORM] = {"ssm_norm", "linear_attn.norm", false, false},
    [NIB_ROLE_SSM_OUT] = {"ssm_out", "linear_attn.out_proj", true, false},
    [NIB_ROLE_ATTN_Q_A] = {"attn_q_a", "self_attn.q_a_proj", true, true},
    [NIB_ROLE_ATTN_Q_A_NORM] = {"attn_q_a_norm", "self_attn.q_a_layernorm", false, false},
    [NIB_ROLE_ATTN_Q_B] = {"attn_q_b", "self_attn.q_b_proj", true, false},
    [NIB_ROLE_ATTN_KV_A] = {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", true, true},
    [NIB_ROLE_ATTN_KV_A_NORM] = {"attn_kv_a_norm", "self_attn.kv_a_layernorm", false, false},
    [NIB_ROLE_ATTN_KV_B] = {"attn_kv_b", "self_attn.kv_b_proj", true, false},
    [NIB_ROLE_ATTN_K_B] = {"attn_k_b", NULL, false, false},
    [NIB_ROLE_ATTN_V_B] = {"attn_v_b", NULL, false, false},
    [NIB_ROLE_ATTN_Q_NORM] = {"attn_q_norm", "self_attn.q_norm", false, true},
    [NIB_ROLE_ATTN_K_NORM] = {"attn_k_norm", "self_attn.k_norm", false, true},
    [NIB_ROLE_ATTN_SINKS] = {"attn_sinks", "self_attn.sinks$", false, false},
    [NIB_ROLE_ATTN_OUTPUT] = {"attn_output", "self_attn.o_proj", true, true},
    [NIB_ROLE_ATTN_POST_NORM] = {"post_attention_norm", NULL, false, false},
    [NIB_ROLE_FFN_NORM] = {"ffn_norm", "post_attention_layernorm", false, true},
    [NIB_ROLE_FFN_GATE] = {"ffn_gate", "mlp.gate_proj", true, true},
    [NIB_ROLE_FFN_UP] = {"ffn_up", "mlp.up_proj", true, true},
    [NIB_ROLE_FFN_DOWN] = {"ffn_down", "mlp.down_proj", true, true},
    [NIB_ROLE_FFN_POST_NORM] = {"post_ffw_norm", NULL, false, false},
    [NIB_ROLE_FFN_ROUTER] = {"ffn_gate_inp", "mlp.gate", false, true},
    [NIB_ROLE_FFN_ROUTER_BIAS] = {"exp_probs_b.bias$", "mlp.gate.e_score_correction_bias$", false,
                                  false},
    [NIB_ROLE_FFN_SHARED_GATE] = {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", false, false},
    [NIB_ROLE_FFN_GATE_SHEXP] = {"ffn_gate_shexp", "mlp.shared_expert.gate_proj", true, true},
    [NIB_ROLE_FFN_UP_SHEXP] = {"ffn_up_shexp", "mlp.shared_expert.up_proj", true, true},
    [NIB_ROLE_FFN_DOWN_SHEXP] = {"ffn_down_shexp", "mlp.shared_expert.down_proj", true, true},
    [NIB_ROLE_FFN_GATE_EXPS] = {"ffn_gate_exps", "mlp.experts.#.gate_proj", true, true},
    [NIB_ROLE_FFN_UP_EXPS] = {"ffn_up_exps", "mlp.experts.#.up_proj", true, true},
    [NIB_ROLE_FFN_DOWN_EXPS] = {"ffn_down_exps", "mlp.experts.#.down_proj", true, true},
};

const char *nib_role_name(nib_role r)
{
    return roles[r].gguf;
}

bool nib_role_is_linear(nib_role r)
{
    return roles[r].linear;
}

/* '#' in a stem stands for the number of an expert, or '*' for all of them. */
static void place_name(nib_place p, const char *prefix, const char *stem, char *buf, size_t n)
{
    char layer[64] = "", expert[16] = "*";
    const size_t head = strcspn(stem, "#$");
    if (p.role >= NIB_ROLE_FIRST_BLOCK) snprintf(layer, sizeof layer, "%s.%u.", prefix, p.layer);
    if (p.expert != NIB_EXPERTS_ALL) snprintf(expert, sizeof expert, "%u", p.expert);
    if (stem[head] == '$')
        snprintf(buf, n, "%s%.*s", layer, (int)head, stem);
    else
        snprintf(buf, n, "%s%.*s%s%s.%s", layer, (int)head, stem, stem[head] ? expert : "",
                 stem[head] ? stem + head + 1 : "", p.bias ? "bias" : "weight");
}

void nib_place_gguf_name(nib_place p, char *buf, size_t n)
{
    place_name(p, "blk", roles[p.role].gguf, buf, n);
}

/* The i-th stem of a role, of those that checkpoints have; NULL: no more. */
static const char *hf_stem(const nib_arch *a, nib_role r, size_t i)
{
    size_t n = 0;
    for (size_t k = 0; k < a->n_hf_stems; k++)
        if (a->hf_stems[k].role == r && n++ == i) return a->hf_stems[k].stem;
    return n || i ? NULL : roles[r].hf;
}

static const char *hf_blocks(const nib_arch *a)
{
    return a->hf_blocks ? a->hf_blocks : "model.layers";
}

bool nib_role_is_numbered(const nib_arch *hf, nib_role r)
{
    const char *stem = hf_stem(hf, r, 0);
    return stem && strchr(stem, '#');
}

void nib_place_hf_name(const nib_arch *a, nib_place p, char *buf, size_t n)
{
    const char *stem = hf_stem(a, p.role, 0);
    place_name(p, hf_blocks(a), stem ? stem : roles[p.role].gguf, buf, n);
}

/* A number without sign or leading zeros, and what follows it; NULL when there is none. */
static const char *parse_number(const char *s, uint32_t *number)
{
    uint32_t v = 0;
    if (s[0] == '0' && s[1] >= '0' && s[1] <= '9') return NULL;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (p - s >= 9) return NULL;
        v = v * 10 + (uint32_t)(*p - '0');
    }
    if (p == s) return NULL;
    *number = v;
    return p;
}

/* Is name[0 .. n) the stem, with a number or '*' in the place of '#'? Or all of the name, where the
 * stem says so. */
static bool matches(const char *stem, const char *name, size_t n, uint32_t *expert)
{
    const size_t head = strcspn(stem, "#$");
    const char *end = name + n, *rest = name + head;
    if (stem[head] == '$') return strlen(name) == head && !strncmp(stem, name, head);
    if (n < head || strncmp(stem, name, head)) return false;
    if (!stem[head]) return n == head;
    if (*rest == '*')
        *expert = NIB_EXPERTS_ALL, rest++;
    else
        rest = parse_number(rest, expert);
    if (!rest || rest > end) return false;
    return strlen(stem + head + 1) == (size_t)(end - rest) &&
           !strncmp(stem + head + 1, rest, (size_t)(end - rest));
}

/* ".weight" or ".bias" at the end: the length of what stands before it; 0: neither. */
static size_t without_end(const char *name, bool *bias)
{
    const char *dot = strrchr(name, '.');
    if (!dot) return 0;
    *bias = !strcmp(dot, ".bias");
    return *bias || !strcmp(dot, ".weight") ? (size_t)(dot - name) : 0;
}

/* What follows "PREFIX.N." of a block's tensor; NULL: it is none. */
static const char *in_block(const char *name, const char *prefix, uint32_t *layer)
{
    const size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) || name[n] != '.') return NULL;
    name = parse_number(name + n + 1, layer);
    return name && *name == '.' ? name + 1 : NULL;
}

/* The name as most models have it, where this one's has another first part. */
static const char *usual_name(const nib_arch *a, const char *name, char *buf, size_t size)
{
    for (size_t i = 0; i < sizeof a->hf_prefix / sizeof *a->hf_prefix; i++) {
        const size_t n = a->hf_prefix[i][0] ? strlen(a->hf_prefix[i][0]) : 0;
        if (!n || strncmp(name, a->hf_prefix[i][0], n)) continue;
        snprintf(buf, size, "%s%s", a->hf_prefix[i][1], name + n);
        return buf;
    }
    return name;
}

uint32_t nib_block_of_name(const char *name, const nib_arch *hf)
{
    uint32_t layer;
    char usual[256];
    if (hf) name = usual_name(hf, name, usual, sizeof usual);
    return in_block(name, hf ? hf_blocks(hf) : "blk", &layer) ? layer : UINT32_MAX;
}

const nib_fused *nib_place_fused(const nib_arch *a, const char *name, nib_place *first)
{
    uint32_t layer;
    bool bias = false;
    char usual[256];
    name = in_block(usual_name(a, name, usual, sizeof usual), hf_blocks(a), &layer);
    if (!name) return NULL;
    size_t n = without_end(name, &bias);
    if (!n) n = strlen(name);
    for (size_t i = 0; i < a->n_fused && !bias; i++) {
        const nib_fused *f = &a->fused[i];
        if (strlen(f->stem) != n || strncmp(f->stem, name, n)) continue;
        *first = (nib_place){.layer = layer, .role = f->role[0], .bias = f->bias};
        if (nib_role_is_expert(f->role[0])) first->expert = NIB_EXPERTS_ALL;
        return f;
    }
    return NULL;
}

/* Does the name, whose end begins at n, fit one of the role's stems? *whole: with its end. */
static bool fits(const nib_arch *hf, const char *name, size_t n, nib_place *p, bool *whole)
{
    const char *stem = hf ? hf_stem(hf, p->role, 0) : roles[p->role].gguf;
    for (size_t i = 1; stem; i++) {
        *whole = strchr(stem, '$') != NULL;
        if ((n || *whole) && matches(stem, name, n, &p->expert)) return true;
        stem = hf ? hf_stem(hf, p->role, i) : NULL;
    }
    return false;
}

bool nib_place_parse(const char *name, const nib_arch *hf, nib_place *out)
{
    nib_role first = NIB_ROLE_FIRST, end = NIB_ROLE_FIRST_BLOCK;
    nib_place p = {0};
    char usual[256];
    if (hf) name = usual_name(hf, name, usual, sizeof usual);
    const char *inside = in_block(name, hf ? hf_blocks(hf) : "blk", &p.layer);
    if (inside) name = inside, first = NIB_ROLE_FIRST_BLOCK, end = NIB_ROLE_COUNT;
    const size_t n = without_end(name, &p.bias);
    for (p.role = first; p.role < end; p.role++) {
        p.expert = nib_role_is_expert(p.role) ? NIB_EXPERTS_ALL : 0;
        bool whole;
        if (!fits(hf, name, n, &p, &whole)) continue;
        if (whole) p.bias = false;
        if (p.bias && !roles[p.role].bias) return false;
        *out = p;
        return true;
    }
    return false;
}
