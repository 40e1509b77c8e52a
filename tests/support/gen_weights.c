/* SPDX-License-Identifier: MIT */
/* Random weights, streamed to safetensors files a million values at a time.
 *
 * A linear weight has standard deviation 1/sqrt(inputs), so that each layer keeps the size of what
 * it is given; the matrix that makes the logits gives them a spread of about 3/4. */
#include "tests/support/gen.h"

#include "base/file.h"
#include "base/half.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/par.h"
#include "formats/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 1 << 20, SLICE = 1 << 14, NAME_MAX_BYTES = 96, PER_LAYER_MAX = 16, GLOBAL = 3 };

typedef struct {
    char name[NAME_MAX_BYTES];
    uint32_t rows, cols; /* rows 0: a vector of cols */
    float mean, std;
} tensor;

typedef struct {
    tensor *t;
    size_t n;
    const gen_spec *spec;
} tensor_list;

/* ---- numbers ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Number i of a stream is a hash of its position (SplitMix64), so any slice can be made by itself.
 * Four 16-bit uniforms are summed: mean 131070, variance 4 * (2^32 - 1) / 12. */
void gen_fill(float *dst, size_t n, uint64_t stream, uint64_t first, float mean, float std)
{
    const uint64_t start = mix(stream);
    const float unit = 1.0f / 37837.22f, scale = std * unit;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = mix(start + (first + i + 1) * 0x9E3779B97F4A7C15u);
        int32_t sum = (int32_t)(z & 0xFFFF) + (int32_t)(z >> 16 & 0xFFFF) +
                      (int32_t)(z >> 32 & 0xFFFF) + (int32_t)(z >> 48);
        dst[i] = mean + (float)(sum - 131070) * scale;
    }
}

/* ---- which tensors ---- */

static void add(tensor_list *l, uint32_t rows, uint32_t cols, float mean, float std,
                const char *name)
{
    tensor *t = &l->t[l->n++];
    *t = (tensor){.rows = rows, .cols = cols, .mean = mean, .std = std};
    snprintf(t->name, sizeof t->name, "%s", name);
}

static void add_norm(tensor_list *l, uint32_t n, const char *name)
{
    add(l, 0, n, l->spec->family->gemma ? 0.0f : 1.0f, 0.1f, name);
}

static float usual_std(uint32_t in)
{
    return 1.0f / sqrtf((float)in);
}

static void add_linear(tensor_list *l, uint32_t out, uint32_t in, bool bias, const char *prefix)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(l, out, in, 0.0f, usual_std(in), name);
    if (!bias) return;
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(l, 0, out, 0.0f, 0.5f, name);
}

static const char *in_layer(char *buf, uint32_t layer, const char *part)
{
    snprintf(buf, NAME_MAX_BYTES - 16, "model.layers.%u.%s", layer, part);
    return buf;
}

/* Scores are spread wide, so that few tokens are on the edge between two experts. */
static void add_experts(tensor_list *l, uint32_t i)
{
    const gen_spec *s = l->spec;
    char b[NAME_MAX_BYTES], part[48];
    add(l, s->experts, s->hidden, 0.0f, 3 * usual_std(s->hidden),
        in_layer(b, i, "mlp.gate.weight"));
    for (uint32_t e = 0; e < s->experts; e++) {
        snprintf(part, sizeof part, "mlp.experts.%u.gate_proj", e);
        add_linear(l, s->ff, s->hidden, false, in_layer(b, i, part));
        snprintf(part, sizeof part, "mlp.experts.%u.up_proj", e);
        add_linear(l, s->ff, s->hidden, false, in_layer(b, i, part));
        snprintf(part, sizeof part, "mlp.experts.%u.down_proj", e);
        add_linear(l, s->hidden, s->ff, false, in_layer(b, i, part));
    }
}

static void add_layer(tensor_list *l, uint32_t i)
{
    const gen_spec *s = l->spec;
    const gen_family *f = s->family;
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    char b[NAME_MAX_BYTES];
    add_norm(l, s->hidden, in_layer(b, i, "input_layernorm.weight"));
    add_linear(l, q, s->hidden, f->qkv_bias, in_layer(b, i, "self_attn.q_proj"));
    add_linear(l, kv, s->hidden, f->qkv_bias, in_layer(b, i, "self_attn.k_proj"));
    add_linear(l, kv, s->hidden, f->qkv_bias, in_layer(b, i, "self_attn.v_proj"));
    add_linear(l, s->hidden, q, false, in_layer(b, i, "self_attn.o_proj"));
    if (f->qk_norm) {
        add_norm(l, s->head_dim, in_layer(b, i, "self_attn.q_norm.weight"));
        add_norm(l, s->head_dim, in_layer(b, i, "self_attn.k_norm.weight"));
    }
    add_norm(l, s->hidden, in_layer(b, i, "post_attention_layernorm.weight"));
    if (f->gemma) {
        add_norm(l, s->hidden, in_layer(b, i, "pre_feedforward_layernorm.weight"));
        add_norm(l, s->hidden, in_layer(b, i, "post_feedforward_layernorm.weight"));
    }
    if (f->moe) {
        add_experts(l, i);
        return;
    }
    add_linear(l, s->ff, s->hidden, false, in_layer(b, i, "mlp.gate_proj"));
    add_linear(l, s->ff, s->hidden, false, in_layer(b, i, "mlp.up_proj"));
    add_linear(l, s->hidden, s->ff, false, in_layer(b, i, "mlp.down_proj"));
}

static nib_code list_tensors(tensor_list *l, const gen_spec *s, nib_err *err)
{
    *l = (tensor_list){.spec = s};
    l->t = nib_alloc((size_t)s->layers * (PER_LAYER_MAX + 3 * (size_t)s->experts) + GLOBAL,
                     sizeof *l->t);
    if (!l->t) return nib_fail_nomem(err, "the list of tensors");
    const float vocab_std = 0.75f * usual_std(s->hidden);
    add(l, s->vocab, s->hidden, 0.0f, vocab_std, "model.embed_tokens.weight");
    for (uint32_t i = 0; i < s->layers; i++) add_layer(l, i);
    add_norm(l, s->hidden, "model.norm.weight");
    if (!s->tied) add(l, s->vocab, s->hidden, 0.0f, vocab_std, "lm_head.weight");
    return NIB_OK;
}

static uint64_t elems(const tensor *t)
{
    return (uint64_t)(t->rows ? t->rows : 1) * t->cols;
}

static uint32_t elem_bytes(const gen_spec *s)
{
    return s->dtype == NIB_F32 ? 4 : 2;
}

/* ---- files ---- */

typedef struct {
    const gen_spec *spec;
    const tensor *t;
    uint64_t stream, first; /* of this batch */
    float *values;
    uint8_t *bytes;
} batch;

static nib_code make_slice(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const batch *b = arg;
    gen_fill(b->values + begin, end - begin, b->stream, b->first + begin, b->t->mean, b->t->std);
    for (size_t i = begin; i < end; i++) {
        if (b->spec->dtype == NIB_F32) {
            memcpy(b->bytes + 4 * i, &b->values[i], 4);
        } else {
            uint16_t h = b->spec->dtype == NIB_BF16 ? nib_f32_to_bf16(b->values[i])
                                                    : nib_f32_to_f16(b->values[i]);
            memcpy(b->bytes + 2 * i, &h, 2);
        }
    }
    return NIB_OK;
}

static nib_code write_tensor(nib_st_writer *w, size_t index, batch *b, const nib_ctx *ctx,
                             nib_err *err)
{
    uint64_t n = elems(b->t);
    for (uint64_t at = 0; at < n; at += BATCH) {
        size_t m = n - at < BATCH ? (size_t)(n - at) : BATCH;
        b->first = at;
        nib_code rc = nib_par_for(ctx->threads, m, SLICE, make_slice, b, err);
        if (!rc) rc = nib_st_write(w, index, b->bytes, m * elem_bytes(b->spec), err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static void file_name(char *buf, size_t n, uint32_t file, uint32_t n_files)
{
    if (n_files == 1)
        snprintf(buf, n, "model.safetensors");
    else
        snprintf(buf, n, "model-%05u-of-%05u.safetensors", file + 1, n_files);
}

/* Tensors of file `file` end before this one: an equal share of their number. */
static size_t file_end(const tensor_list *l, uint32_t file)
{
    return l->n * (file + 1) / l->spec->shards;
}

/* Tensors [from, to) as the writer wants them: all of one type, in the model's order. */
static nib_st_tensor *describe(const tensor_list *l, size_t from, size_t to)
{
    nib_st_tensor *st = nib_calloc(to - from, sizeof *st);
    for (size_t i = from; st && i < to; i++) {
        const tensor *t = &l->t[i];
        nib_st_tensor *d = &st[i - from];
        *d = (nib_st_tensor){.name = t->name, .type = l->spec->dtype, .shape = {t->cols}};
        d->n_dims = 1;
        if (!t->rows) continue;
        d->n_dims = 2;
        d->shape[0] = t->rows;
        d->shape[1] = t->cols;
    }
    return st;
}

static nib_code write_file(const tensor_list *l, const char *dir, uint32_t file, batch *b,
                           const nib_ctx *ctx, nib_err *err)
{
    size_t from = file ? file_end(l, file - 1) : 0, to = file_end(l, file);
    char name[64];
    file_name(name, sizeof name, file, l->spec->shards);
    nib_st_writer *w = NULL;
    nib_code rc = NIB_OK;
    char *path = nib_path_join(dir, name);
    nib_st_tensor *st = describe(l, from, to);
    if (!path || !st) {
        rc = nib_fail_nomem(err, "the list of tensors");
        goto done;
    }
    if ((rc = nib_st_begin(&w, path, st, to - from, true, err))) goto done;
    for (size_t i = from; i < to; i++) {
        b->t = &l->t[i];
        b->stream = mix(l->spec->seed) + i;
        if ((rc = write_tensor(w, i - from, b, ctx, err))) goto done;
    }
    rc = nib_st_end(w, err);
    w = NULL;
done:
    nib_st_abort(w);
    nib_free(st);
    nib_free(path);
    return rc;
}

static nib_code write_index(const tensor_list *l, const char *dir, nib_err *err)
{
    nib_code rc;
    char *text = NULL, name[64];
    uint64_t bytes = 0;
    for (size_t i = 0; i < l->n; i++) bytes += elems(&l->t[i]) * elem_bytes(l->spec);
    nib_json *j = nib_json_new_object();
    nib_json *meta = j ? nib_json_add_object(j, "metadata") : NULL;
    nib_json *map = meta ? nib_json_add_object(j, "weight_map") : NULL;
    bool ok = map && nib_json_add_num(meta, "total_size", (double)bytes);
    uint32_t file = 0;
    for (size_t i = 0; ok && i < l->n; i++) {
        while (i >= file_end(l, file)) file++;
        file_name(name, sizeof name, file, l->spec->shards);
        ok = nib_json_add_str(map, l->t[i].name, name);
    }
    rc = ok && (text = nib_json_print(j, true))
             ? gen_text_write(dir, "model.safetensors.index.json", text, strlen(text), err)
             : nib_fail_nomem(err, "the index");
    nib_free(text);
    nib_json_free(j);
    return rc;
}

nib_code gen_weights_write(const gen_spec *s, const char *dir, const nib_ctx *ctx, nib_err *err)
{
    tensor_list l = {0};
    batch b = {.spec = s};
    nib_code rc = list_tensors(&l, s, err);
    if (rc) return rc;
    b.values = nib_alloc(BATCH, sizeof *b.values);
    b.bytes = nib_alloc(BATCH, elem_bytes(s));
    if (!b.values || !b.bytes) rc = nib_fail_nomem(err, "work memory");
    for (uint32_t i = 0; !rc && i < s->shards; i++) rc = write_file(&l, dir, i, &b, ctx, err);
    if (!rc && s->shards > 1) rc = write_index(&l, dir, err);
    nib_free(b.values);
    nib_free(b.bytes);
    nib_free(l.t);
    return rc;
}
