/* SPDX-License-Identifier: MIT */
/* infer/model.c - which tensor of a source plays which role, with every shape checked. */
#include "infer/model.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BUF = 128 };

static bool is_gguf(const nib_model *m)
{
    return nib_source_get_kind(m->src) == NIB_SOURCE_GGUF;
}

static nib_param *param(nib_model *m, nib_place p)
{
    return p.role < NIB_ROLE_FIRST_BLOCK ? &m->global[p.role]
                                         : &m->block[(size_t)p.layer * NIB_ROLE_COUNT + p.role];
}

bool nib_model_place(const nib_model *m, const nib_tensor *t, nib_place *out)
{
    nib_place p;
    *out = (nib_place){0};
    if (!nib_place_parse(t->name, is_gguf(m) ? NULL : m->arch, &p) &&
        (is_gguf(m) || !nib_place_fused(m->arch, t->name, &p)))
        return false;
    if (p.role >= NIB_ROLE_FIRST_BLOCK &&
        (p.layer >= m->hp.n_layer || !nib_steps_find(nib_model_steps(m, p.layer), p.role)))
        return false;
    if (p.expert != NIB_EXPERTS_ALL && p.expert && p.expert >= m->hp.n_expert) return false;
    *out = p;
    return true;
}

static bool ends_in_one(const char *name, const char *const *ends)
{
    for (; *ends; ends++)
        if (nib_ends_with(name, *ends)) return true;
    return false;
}

/* Buffers that some checkpoints carry and nobody reads: tables of the rotation, causal masks. */
static bool harmless(const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.masked_bias",
                                       ".attention.bias", NULL};
    return ends_in_one(name, ends);
}

/* Scales for engines whose key/value cache has 8 bits, as compressed-tensors, ModelOpt and older
 * tools name them; they change no weight. */
static bool is_cache_scale(const char *name)
{
    static const char *const ends[] = {"self_attn.k_scale",
                                       "self_attn.v_scale",
                                       "self_attn.q_scale",
                                       "self_attn.kv_scale",
                                       "self_attn.k_proj.k_scale",
                                       "self_attn.v_proj.v_scale",
                                       "self_attn.k_proj.output_scale",
                                       "self_attn.v_proj.output_scale",
                                       "self_attn.q_proj.output_scale",
                                       NULL};
    return ends_in_one(name, ends);
}

const nib_steps *nib_model_steps(const nib_model *m, uint32_t layer)
{
    const bool dense = m->arch->experts && nib_layer_is_dense(&m->hp, layer);
    return dense ? &m->arch->dense_block : &m->arch->block;
}

void nib_model_widths(size_t width[NIB_REG_COUNT], const nib_hparams *hp)
{
    width[NIB_REG_X] = width[NIB_REG_H] = width[NIB_REG_Y] = hp->n_embd;
    width[NIB_REG_Q] = (size_t)hp->n_head * hp->head_dim;
    width[NIB_REG_K] = width[NIB_REG_V] = (size_t)hp->n_head_kv * hp->head_dim;
    width[NIB_REG_G] = width[NIB_REG_U] = hp->n_ff;
    width[NIB_REG_EY] = hp->n_embd;
    width[NIB_REG_EG] = width[NIB_REG_EU] = hp->n_ff_expert;
    width[NIB_REG_R] = hp->n_expert;
}

/* Rows and columns of the weight at a place; vectors have one row. */
static void weight_shape(const nib_model *m, nib_place p, uint64_t *rows, uint64_t *cols)
{
    const nib_hparams *hp = &m->hp;
    size_t width[NIB_REG_COUNT];
    *rows = 1;
    *cols = hp->n_embd;
    if (p.role == NIB_ROLE_TOKEN_EMBD || p.role == NIB_ROLE_OUTPUT) *rows = hp->n_vocab;
    if (p.role == NIB_ROLE_ROPE_FREQS) *cols = hp->head_dim / 2;
    if (p.role < NIB_ROLE_FIRST_BLOCK) return;
    const nib_step *s = nib_steps_find(nib_model_steps(m, p.layer), p.role);
    nib_model_widths(width, hp);
    if (s->op == NIB_OP_LINEAR) *rows = width[s->to];
    *cols = s->op == NIB_OP_HEAD_NORM ? hp->head_dim : width[s->a];
}

/* `rows`: of a weight with those that are fused with it; of stacks, of one expert. */
static nib_code check_shape(const nib_model *m, const nib_tensor *t, nib_place p, uint64_t rows,
                            uint64_t cols, nib_err *err)
{
    char shape[96];
    const uint64_t n = m->hp.n_expert;
    nib_tensor_shape_str(t, shape, sizeof shape);
    if (p.role >= NIB_ROLE_FIRST_BLOCK && p.expert == NIB_EXPERTS_ALL) {
        if (t->n_dims == 3 && t->shape[0] == n && t->shape[1] == rows && t->shape[2] == cols &&
            !t->packed)
            return NIB_OK;
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu, %llu, %llu]",
                        t->name, shape, (unsigned long long)n, (unsigned long long)rows,
                        (unsigned long long)cols);
    }
    if (nib_tensor_rows(t) != rows || nib_tensor_cols(t) != cols) {
        if (rows == 1)
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu]", t->name,
                            shape, (unsigned long long)cols);
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': shape is %s, expected [%llu, %llu]",
                        t->name, shape, (unsigned long long)rows, (unsigned long long)cols);
    }
    return NIB_OK;
}

static nib_code check_tensor(const nib_model *m, const nib_tensor *t, nib_place p,
                             const nib_fused *f, nib_err *err)
{
    uint64_t rows, cols;
    weight_shape(m, p, &rows, &cols);
    for (size_t i = 1; f && i < f->n; i++) {
        uint64_t more;
        nib_place with = p;
        with.role = f->role[i];
        weight_shape(m, with, &more, &cols);
        rows += more;
    }
    if (p.bias) cols = rows, rows = 1;
    nib_code rc = check_shape(m, t, p, rows, cols, err);
    if (rc) return rc;
    if (!nib_tensor_readable(t))
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': type %s cannot hold weights", t->name,
                        t->codec->name);
    return NIB_OK;
}

/* Prefixes of names that tools leave, and what to do about them. */
static const struct {
    const char *prefix, *what;
} prefixes[] = {
    {"base_model.model.", ", as PEFT saves it: merge the adapter and save the model"},
    {"_orig_mod.", ", as torch.compile leaves it: save the model inside"},
    {"module.", ", as DataParallel leaves it: save the model inside"},
    {"language_model.", ", as models of images and text have it: save the part for text alone"},
};

static bool parses(const nib_model *m, const char *name)
{
    nib_place p;
    return nib_place_parse(name, is_gguf(m) ? NULL : m->arch, &p);
}

/* "; without 'X.' before it ...": of a name that a prefix keeps from its place; "" of others. */
static void explain_prefix(char *text, size_t size, const nib_model *m, const char *name)
{
    char longer[NAME_BUF];
    *text = 0;
    if (snprintf(longer, sizeof longer, "model.%s", name) < NAME_BUF && parses(m, longer))
        snprintf(text, size,
                 "; with 'model.' before it it would have one: the tensors were saved "
                 "without the model's head");
    for (const char *dot = strchr(name, '.'); dot && !*text; dot = strchr(dot + 1, '.')) {
        const char *what = "";
        if (!parses(m, dot + 1)) continue;
        const int n = (int)(dot + 1 - name);
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (!strncmp(name, prefixes[i].prefix, strlen(prefixes[i].prefix)))
                what = prefixes[i].what;
        snprintf(text, size, "; without '%.*s' before it it would have one%s", n, name, what);
    }
}

static nib_code missing(const nib_model *m, nib_place p, nib_err *err)
{
    char name[NAME_BUF];
    if (is_gguf(m))
        nib_place_gguf_name(p, name, sizeof name);
    else
        nib_place_hf_name(m->arch, p, name, sizeof name);
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const char *other = nib_source_at(m->src, i)->name;
        const size_t prefix = nib_stem(other, name);
        if (prefix && other[prefix - 1] == '.')
            return nib_fail(err, NIB_EFORMAT, "tensor '%s' is missing, but '%s' is there", name,
                            other);
    }
    return nib_fail(err, NIB_EFORMAT, "tensor '%s' is missing", name);
}

static bool is_norm(const nib_model *m, nib_place p)
{
    if (p.role < NIB_ROLE_FIRST_BLOCK) return p.role == NIB_ROLE_OUTPUT_NORM;
    const nib_step *s = nib_steps_find(nib_model_steps(m, p.layer), p.role);
    return s->op == NIB_OP_NORM || s->op == NIB_OP_HEAD_NORM;
}

/* The tensor as a difference from 1. */
static const nib_tensor *plus_one(nib_model *m, const nib_tensor *t)
{
    nib_tensor *view = nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!view) return NULL;
    *view = *t;
    view->plus = 1;
    return view;
}

static nib_code add_placed(nib_model *m, nib_place p, const nib_tensor *t, nib_err *err)
{
    if (m->n_placed == m->room) {
        const size_t room = m->room ? 2 * m->room : 512;
        nib_placed *grown = nib_grow(m->placed, m->n_placed, room, sizeof *grown);
        if (!grown) return nib_fail_nomem(err, "tensor table");
        m->placed = grown;
        m->room = room;
    }
    m->placed[m->n_placed++] = (nib_placed){p, t};
    return NIB_OK;
}

/* Room for each expert's part of the weight at a place. */
static nib_tensor *experts_of(nib_model *m, nib_param *par)
{
    const size_t n = m->hp.n_expert;
    if (!par->expert &&
        (par->expert = nib_arena_alloc(&m->memory, n, sizeof *par->expert, _Alignof(nib_tensor))))
        memset(par->expert, 0, n * sizeof *par->expert);
    return par->expert;
}

/* Rows [row, row + rows) of t are the weight of one place; it gets the name that it would have by
 * itself. */
static nib_code place_slice(nib_model *m, const nib_tensor *t, nib_place p, uint64_t row,
                            uint64_t rows, nib_err *err)
{
    char name[NAME_BUF];
    nib_param *par = param(m, p);
    nib_place_hf_name(m->arch, p, name, sizeof name);
    const char *copy = is_gguf(m) ? t->name : nib_arena_str(&m->memory, name, strlen(name));
    nib_tensor *view = nib_role_is_expert(p.role)
                           ? experts_of(m, par)
                           : nib_arena_alloc(&m->memory, 1, sizeof *view, _Alignof(nib_tensor));
    if (!copy || !view) return nib_fail_nomem(err, "tensor table");
    if (nib_role_is_expert(p.role))
        view += p.expert;
    else
        par->weight = view;
    *view = nib_tensor_slice(t, row, rows, copy);
    return add_placed(m, p, view, err);
}

/* The parts of a stack of experts, or of a fused tensor, or both. */
static nib_code place_parts(nib_model *m, const nib_tensor *t, nib_place p, const nib_fused *f,
                            nib_err *err)
{
    const nib_role alone[] = {p.role}, *role = f ? f->role : alone;
    const size_t n = f ? f->n : 1;
    const bool experts = p.expert == NIB_EXPERTS_ALL;
    nib_code rc = NIB_OK;
    uint64_t row = 0;
    if (n == 1) param(m, p)->weight = t;
    for (uint32_t e = 0; e < (experts ? m->hp.n_expert : 1) && !rc; e++)
        for (size_t i = 0; i < n && !rc; i++) {
            uint64_t rows, cols;
            const nib_place one = {.layer = p.layer, .role = role[i], .expert = e};
            weight_shape(m, one, &rows, &cols);
            rc = place_slice(m, t, one, row, rows, err);
            row += rows;
        }
    return rc;
}

static nib_code place_whole(nib_model *m, const nib_tensor *t, nib_place p, nib_err *err)
{
    nib_param *par = param(m, p);
    if (is_norm(m, p) && m->arch->norm_plus_one && !is_gguf(m) && !(t = plus_one(m, t)))
        return nib_fail_nomem(err, "tensor table");
    if (p.bias) {
        par->bias = t;
    } else if (nib_role_is_expert(p.role)) {
        if (!experts_of(m, par)) return nib_fail_nomem(err, "tensor table");
        par->expert[p.expert] = *t;
        t = &par->expert[p.expert];
    } else {
        par->weight = t;
    }
    return add_placed(m, p, t, err);
}

/* Where each expert's weight is a tensor of its own: all of them as one. */
static nib_code stack_experts(nib_model *m, nib_err *err)
{
    nib_place p = {.expert = NIB_EXPERTS_ALL};
    char name[NAME_BUF];
    for (p.layer = 0; p.layer < m->hp.n_layer && m->hp.n_expert; p.layer++)
        for (p.role = NIB_ROLE_FIRST_EXPERT; p.role < NIB_ROLE_COUNT; p.role++) {
            nib_param *par = param(m, p);
            nib_place one = p;
            if (par->weight || !par->expert) continue;
            for (one.expert = 0; one.expert < m->hp.n_expert; one.expert++)
                if (!par->expert[one.expert].name) return missing(m, one, err);
            nib_tensor *t = nib_arena_alloc(&m->memory, 1, sizeof *t, _Alignof(nib_tensor));
            nib_place_hf_name(m->arch, p, name, sizeof name);
            const char *copy = nib_arena_str(&m->memory, name, strlen(name));
            if (!t || !copy) return nib_fail_nomem(err, "tensor table");
            const nib_tensor *first = par->expert;
            *t = (nib_tensor){
                .name = copy,
                .codec = first->codec,
                .n_dims = 3,
                .shape = {m->hp.n_expert, nib_tensor_rows(first), nib_tensor_cols(first)},
                .bytes = first->bytes * m->hp.n_expert,
                .part = first,
                .n_parts = m->hp.n_expert};
            par->weight = t;
        }
    return NIB_OK;
}

/* Give every tensor of the source its place. */
static nib_code place_all(nib_model *m, nib_err *err)
{
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const nib_tensor *t = nib_source_at(m->src, i);
        nib_place p;
        if (!nib_model_place(m, t, &p)) {
            char hint[256];
            m->has_cache_scales |= is_cache_scale(t->name);
            if (harmless(t->name) || is_cache_scale(t->name)) continue;
            explain_prefix(hint, sizeof hint, m, t->name);
            return nib_fail(err, NIB_EFORMAT,
                            "tensor '%s' has no place in architecture '%s' with %u blocks%s",
                            t->name, m->arch->name, m->hp.n_layer, hint);
        }
        const nib_fused *f = is_gguf(m) ? NULL : nib_place_fused(m->arch, t->name, &p);
        nib_code rc = check_tensor(m, t, p, f, err);
        if (!rc)
            rc = f || p.expert == NIB_EXPERTS_ALL ? place_parts(m, t, p, f, err)
                                                  : place_whole(m, t, p, err);
        if (rc) return rc;
    }
    return stack_experts(m, err);
}

/* One of the two matrices of the vocabulary is missing while the other is there: the key that ties
 * them is what is to be looked at. */
static nib_code missing_twin(const nib_model *m, nib_role role, nib_err *err)
{
    const bool output = role == NIB_ROLE_OUTPUT;
    char name[NAME_BUF], other[NAME_BUF];
    nib_place_hf_name(m->arch, (nib_place){.role = role}, name, sizeof name);
    nib_place_hf_name(m->arch, (nib_place){.role = output ? NIB_ROLE_TOKEN_EMBD : NIB_ROLE_OUTPUT},
                      other, sizeof other);
    if (output)
        return nib_fail(
            err, NIB_EFORMAT,
            "tensor '%s' is missing, and config.json does not say "
            "'tie_word_embeddings': true: if the embedding, '%s', is to serve as output "
            "matrix, add that key",
            name, other);
    return nib_fail(err, NIB_EFORMAT,
                    "tensor '%s' is missing, while '%s' is there: where both are one and the same "
                    "('tie_word_embeddings': true, which config.json %s), store it under the "
                    "embedding's name",
                    name, other, m->hp.tied ? "says" : "does not say");
}

static bool required(const nib_model *m, nib_place p)
{
    if (p.role == NIB_ROLE_ROPE_FREQS || (p.role < NIB_ROLE_FIRST_BLOCK && p.bias)) return false;
    if (p.role == NIB_ROLE_OUTPUT) return !m->hp.tied;
    if (p.role < NIB_ROLE_FIRST_BLOCK) return true;
    const nib_step *s = nib_steps_find(nib_model_steps(m, p.layer), p.role);
    if (!s) return false;
    return !p.bias || s->flags & NIB_STEP_BIAS;
}

static bool has_twin(const nib_model *m, nib_role role)
{
    return m->global[role == NIB_ROLE_OUTPUT ? NIB_ROLE_TOKEN_EMBD : NIB_ROLE_OUTPUT].weight;
}

static nib_code check_complete(nib_model *m, nib_err *err)
{
    nib_place p = {.layer = 0};
    for (p.role = NIB_ROLE_FIRST; p.role < NIB_ROLE_COUNT; p.role++) {
        uint32_t layers = p.role < NIB_ROLE_FIRST_BLOCK ? 1 : m->hp.n_layer;
        for (p.layer = 0; p.layer < layers; p.layer++) {
            const nib_param *par = param(m, p);
            p.expert = nib_role_is_expert(p.role) ? NIB_EXPERTS_ALL : 0;
            p.bias = true;
            if (!par->bias && required(m, p)) return missing(m, p, err);
            p.bias = false;
            if (par->weight || !required(m, p)) continue;
            const bool twin = p.role == NIB_ROLE_OUTPUT || p.role == NIB_ROLE_TOKEN_EMBD;
            if (twin && !is_gguf(m) && has_twin(m, p.role)) return missing_twin(m, p.role, err);
            return missing(m, p, err);
        }
    }
    return NIB_OK;
}

/* Llama 3's divisors: long wavelengths (rarely rotated pairs) are stretched by the factor, short
 * ones left alone, those between blended. */
void nib_llama3_factors(const nib_hparams *hp, float *out)
{
    const double pi = 3.14159265358979323846, orig = hp->llama3.n_ctx_orig;
    const double factor = hp->llama3.factor, low = hp->llama3.low_freq, high = hp->llama3.high_freq;
    for (uint32_t i = 0; i < hp->head_dim / 2; i++) {
        double wavelength = 2 * pi * pow(hp->rope_base, 2.0 * i / hp->head_dim);
        double smooth = (orig / wavelength - low) / (high - low);
        if (wavelength < orig / high)
            out[i] = 1;
        else if (wavelength > orig / low)
            out[i] = (float)factor;
        else
            out[i] = (float)(1 / ((1 - smooth) / factor + smooth));
    }
}

static nib_code read_factors(const nib_model *m, const nib_tensor *t, nib_err *err)
{
    nib_buf raw = {0};
    nib_code rc = nib_source_read_rows(m->src, t, 0, 1, m->rope_factors, &raw, 0, err);
    nib_buf_free(&raw);
    if (rc) return rc;
    for (uint32_t i = 0; i < m->hp.head_dim / 2; i++)
        if (!(m->rope_factors[i] > 0) || !isfinite(m->rope_factors[i]))
            return nib_fail(err, NIB_EFORMAT, "tensor '%s': value %u is %g, should be above 0",
                            t->name, i, (double)m->rope_factors[i]);
    return NIB_OK;
}

static nib_code set_factors(nib_model *m, nib_err *err)
{
    const nib_tensor *t = m->global[NIB_ROLE_ROPE_FREQS].weight;
    if (!t && m->hp.rope_scaling != NIB_ROPE_LLAMA3) return NIB_OK;
    m->rope_factors = nib_alloc(m->hp.head_dim / 2, sizeof *m->rope_factors);
    if (!m->rope_factors) return nib_fail_nomem(err, "rope factors");
    if (t) return read_factors(m, t, err);
    nib_llama3_factors(&m->hp, m->rope_factors);
    return NIB_OK;
}

/* A GGUF states the vocabulary's size and tying by its tensors alone. */
static nib_code vocab_from_tensors(nib_model *m, nib_err *err)
{
    const nib_tensor *t = nib_source_find(m->src, "token_embd.weight");
    if (!t) return missing(m, (nib_place){.role = NIB_ROLE_TOKEN_EMBD}, err);
    uint64_t rows = nib_tensor_rows(t);
    if (rows < 1 || rows > NIB_WIDTH_MAX)
        return nib_fail(err, NIB_EFORMAT, "tensor '%s': %llu rows, should be from 1 to %d", t->name,
                        (unsigned long long)rows, NIB_WIDTH_MAX);
    m->hp.n_vocab = (uint32_t)rows;
    m->hp.tied = true;
    return NIB_OK;
}

/* Do two matrices of the same shape hold different values? */
static nib_code compare_values(bool *differ, const nib_model *m, const nib_tensor *a,
                               const nib_tensor *b, nib_err *err)
{
    enum { ROWS = 64 };
    const uint64_t rows = nib_tensor_rows(a), cols = nib_tensor_cols(a);
    nib_buf raw = {0};
    float *x = nib_alloc(2 * ROWS * (size_t)cols, sizeof *x), *y = x + ROWS * cols;
    nib_code rc = x ? NIB_OK : nib_fail_nomem(err, "rows of the output matrix");
    *differ = false;
    for (uint64_t r = 0; r < rows && !rc && !*differ; r += ROWS) {
        const uint64_t n = rows - r < ROWS ? rows - r : ROWS;
        rc = nib_source_read_rows(m->src, a, r, n, x, &raw, 0, err);
        if (!rc) rc = nib_source_read_rows(m->src, b, r, n, y, &raw, 0, err);
        *differ = !rc && memcmp(x, y, (size_t)(n * cols) * sizeof *x);
    }
    nib_buf_free(&raw);
    nib_free(x);
    return rc;
}

/* A configuration may say that the embedding serves as output matrix while there is one. */
static nib_code check_tied(nib_model *m, nib_err *err)
{
    const nib_tensor *output = m->global[NIB_ROLE_OUTPUT].weight;
    const bool said = m->hp.tied;
    m->hp.tied = !output;
    if (is_gguf(m) || !said || !output) return NIB_OK;
    return compare_values(&m->head_differs, m, output, m->global[NIB_ROLE_TOKEN_EMBD].weight, err);
}

static nib_code open_model(nib_model *m, nib_err *err)
{
    nib_code rc;
    if (is_gguf(m) && (rc = vocab_from_tensors(m, err))) return rc;
    /* Every block has tensors of its own: a count without them is a lie, and not worth memory. */
    if (m->hp.n_layer > nib_source_count(m->src))
        return nib_fail(err, NIB_EFORMAT, "%u blocks, but only %zu tensors", m->hp.n_layer,
                        nib_source_count(m->src));
    m->block = nib_calloc((size_t)m->hp.n_layer * NIB_ROLE_COUNT, sizeof *m->block);
    if (!m->block) return nib_fail_nomem(err, "tensor table");
    if ((rc = place_all(m, err))) return rc;
    if ((rc = check_complete(m, err))) return rc;
    if ((rc = check_tied(m, err))) return rc;
    return set_factors(m, err);
}

/* Why the tensors are not as they should be, where the folder tells. */
static void name_method(const nib_source *src, nib_err *err)
{
    const char *method = nib_source_unknown_method(src);
    if (method)
        nib_wrap(err,
                 "quantized by '%.60s', which nibble does not read (it reads gptq, awq, "
                 "compressed-tensors and GGUF): start from the original model",
                 method);
}

nib_code nib_model_open(nib_model *m, const nib_source *src, nib_err *err)
{
    *m = (nib_model){.src = src};
    nib_code rc = nib_config_read(&m->hp, &m->arch, src, err);
    if (rc) return rc;
    m->rope_interleaved = is_gguf(m) && m->arch->rope_interleaved;
    if ((rc = open_model(m, err))) {
        nib_model_close(m);
        name_method(src, err);
        return nib_wrap(err, "%s", nib_source_path(src));
    }
    return NIB_OK;
}

void nib_model_close(nib_model *m)
{
    nib_free(m->block);
    nib_free(m->placed);
    nib_arena_free(&m->memory);
    nib_free(m->rope_factors);
    *m = (nib_model){0};
}

const char *nib_model_activations(const nib_model *m)
{
    static const char *const words[] = {"f32", "int8 per token", "int8 per tensor",
                                        "int8 per token and tensor"};
    unsigned seen = 0;
    for (size_t i = 0; i < nib_source_count(m->src); i++) {
        const nib_act_quant *a = nib_tensor_act(nib_source_at(m->src, i));
        if (a) seen |= a->scheme == NIB_ACT_TOKEN ? 1 : 2;
    }
    return words[seen];
}
