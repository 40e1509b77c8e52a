/* SPDX-License-Identifier: MIT */
/* run/plan/convert.c - see convert.h. Tests: tests/run/test_convert.c. */
#include "run/plan/convert.h"

#include "base/par.h"
#include "formats/packed_config.h"
#include "quant/round.h"
#include "run/plan/carry.h"
#include "run/plan/carry_floats.h"
#include "run/plan/override.h"
#include "run/plan/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64, MIDDLE_BITS = 4, USUAL_GROUP = 128 };

static NIB_PRINTF(2, 3) void say_why(nib_plan_tensor *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->reason, sizeof t->reason, fmt, ap);
    va_end(ap);
}

static bool from_gguf(const nib_plan *p)
{
    return nib_source_get_kind(p->model->src) == NIB_SOURCE_GGUF;
}

static bool is_float(const nib_codec *c)
{
    return c->type == NIB_F32 || c->type == NIB_F16 || c->type == NIB_BF16;
}

/* ---- what it costs to round ---- */

typedef struct {
    const nib_plan *p;
    const nib_plan_tensor *t;
    const nib_codec *to;
    const nib_ctx *ctx;
    nib_buf *memory;       /* [threads][4] */
    double *diff, *weight; /* [chunks] the largest of either */
} trial;

static nib_code try_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    trial *j = arg;
    nib_buf *m = j->memory + 4 * thread;
    const size_t rows = end - begin, cols = (size_t)j->t->cols, n = rows * cols;
    const size_t scratch = nib_encode_scratch(cols);
    float *w = nib_buf_reserve(&m[0], 2 * n, sizeof *w), *v = w + n;
    uint8_t *packed = nib_buf_reserve(&m[1], n / j->to->block, j->to->bytes);
    void *work = scratch ? nib_buf_reserve(&m[2], scratch, 1) : NULL;
    if (!w || !packed || !work) return nib_fail_nomem(err, "weights");
    nib_code rc = nib_weights_read(j->p, j->t, begin, rows, w, &m[3], j->ctx->cpu, err);
    if (rc) return rc;
    j->to->encode(packed, w, NULL, rows, cols, j->ctx->cpu, work);
    j->to->decode(v, packed, n / j->to->block, j->ctx->cpu);
    double diff = 0, weight = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)w[i] - v[i]), a = fabs((double)w[i]);
        if (!(d <= diff)) diff = isfinite(d) ? d : INFINITY;
        if (a > weight) weight = a;
    }
    j->diff[begin / ROWS] = diff;
    j->weight[begin / ROWS] = weight;
    return NIB_OK;
}

/* The largest difference that writing the tensor in another format makes, and its largest weight.
 */
static nib_code try_codec(double *diff, double *weight, const nib_plan *p, const nib_plan_tensor *t,
                          const nib_codec *to, const nib_ctx *ctx, nib_err *err)
{
    const size_t rows = (size_t)t->rows, chunks = (rows + ROWS - 1) / ROWS;
    const size_t n_memory = 4 * (size_t)ctx->threads;
    trial j = {.p = p, .t = t, .to = to, .ctx = ctx};
    j.memory = nib_calloc(n_memory, sizeof *j.memory);
    j.diff = nib_calloc(chunks, sizeof *j.diff);
    j.weight = nib_calloc(chunks, sizeof *j.weight);
    *diff = *weight = 0;
    nib_code rc = j.memory && j.diff && j.weight
                      ? nib_par_for(ctx->threads, rows, ROWS, try_rows, &j, err)
                      : nib_fail_nomem(err, "weights");
    for (size_t i = 0; i < chunks && !rc; i++) {
        if (j.diff[i] > *diff) *diff = j.diff[i];
        if (j.weight[i] > *weight) *weight = j.weight[i];
    }
    for (size_t i = 0; i < n_memory && j.memory; i++) nib_buf_free(&j.memory[i]);
    nib_free(j.memory);
    nib_free(j.diff);
    nib_free(j.weight);
    return rc;
}

/* `to` does not hold the tensor, and why: what rounding it costs, unless the user takes it. */
static nib_code round_or_refuse(const nib_plan *p, nib_plan_tensor *t, const nib_codec *to,
                                const char *why, const nib_ctx *ctx, nib_err *err)
{
    double diff, weight;
    char cost[96] = "";
    t->codec = to;
    t->exact = false;
    say_why(t, "rounded, --requantize");
    if (t->row_from || t->col_from)
        return nib_fail(err, NIB_EINVAL,
                        "tensor '%s' takes part in an order of columns, so its integers have to be "
                        "carried over, and %s does not hold them%s%s; convert to gptq first, and "
                        "that to what you want",
                        t->src->name, to->name, *why ? ": " : "", why);
    if (p->recipe.requantize) return NIB_OK;
    if (to->encode) {
        nib_code rc = try_codec(&diff, &weight, p, t, to, ctx, err);
        if (rc) return rc;
        snprintf(cost, sizeof cost, ": values change by up to %.3g, of weights up to %.3g", diff,
                 weight);
    }
    return nib_fail(err, NIB_EINVAL,
                    "tensor '%s': %s does not hold its values%s%s; --requantize rounds them%s",
                    t->src->name, to->name, *why ? ": " : "", why, cost);
}

/* ---- integers ---- */

/* Is each matrix of the tensor held on the grid? */
static nib_code look(nib_carry_fault *fault, const nib_plan *p, const nib_plan_tensor *t,
                     const nib_grid *to, const uint32_t *columns, const nib_ctx *ctx, nib_err *err)
{
    const size_t n = nib_plan_matrices(t);
    nib_code rc = NIB_OK;
    *fault = (nib_carry_fault){0};
    for (size_t e = 0; e < n && !rc && !fault->why; e++) {
        nib_plan_tensor one;
        nib_plan_matrix(&one, p, t, e);
        const nib_carry k = {p->model->src, one.src, *to, columns, NULL};
        rc = nib_carry_matrix(NULL, NULL, fault, &k, ctx, err);
    }
    return rc;
}

static bool has_ints(const nib_plan *p, const nib_plan_tensor *t)
{
    nib_int_groups g;
    const nib_tensor *src = t->src;
    if (!src) return false;
    if (nib_plan_matrices(t) == 1) return nib_tensor_ints(src, &g);
    if (!src->n_parts) { /* of a GGUF file: slices of one format */
        const nib_param *par = nib_model_param(p->model, t->place.layer, t->place.role);
        return par->expert && nib_tensor_ints(par->expert, &g);
    }
    for (size_t i = 0; i < src->n_parts; i++)
        if (!nib_tensor_ints(&src->part[i], &g)) return false;
    return true;
}

static void carry(nib_plan_tensor *t, const char *why)
{
    t->exact = t->carried = true;
    t->action = NIB_ACTION_STAGE;
    say_why(t, "%s", why);
}

/* Why integers are not held, in words. */
static nib_code explain(char *text, size_t n, const nib_plan_tensor *t,
                        const nib_carry_fault *fault, const nib_grid *to, nib_err *err)
{
    const uint32_t *order;
    nib_arena scratch = {0};
    nib_code rc = nib_carry_order(&order, t->src, &scratch, err);
    nib_arena_free(&scratch);
    if (!rc && order && !t->col_from && fault->why == NIB_HELD_NOT_SCALES)
        snprintf(text, n, "its groups are of columns in order of activation (g_idx)");
    else
        nib_carry_say(text, n, fault, to);
    return rc;
}

/* Try one block format. */
static nib_code try_blocks(bool *held, char *why, size_t n_why, const nib_plan *p,
                           const nib_plan_tensor *t, const nib_codec *c, const nib_ctx *ctx,
                           nib_err *err)
{
    nib_grid to;
    nib_carry_fault fault;
    *held = false;
    if (t->cols % c->block) {
        snprintf(why, n_why, "rows of %llu are no whole blocks", (unsigned long long)t->cols);
        return NIB_OK;
    }
    if (!nib_grid_of_codec(&to, c)) {
        snprintf(why, n_why, "its scales have scales of their own");
        return NIB_OK;
    }
    nib_code rc = look(&fault, p, t, &to, t->col_from, ctx, err);
    *held = !rc && !fault.why;
    return *held || rc ? rc : explain(why, n_why, t, &fault, &to, err);
}

/* The block format with the fewest bits that holds integers. */
static nib_code smallest_blocks(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    static const nib_type types[] = {NIB_Q4_0, NIB_Q5_0, NIB_Q8_0};
    char why[112] = "";
    bool held = false;
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < sizeof types / sizeof *types && !held && !rc; i++) {
        t->codec = nib_codec_get(types[i]);
        rc = try_blocks(&held, why, sizeof why, p, t, t->codec, ctx, err);
    }
    if (rc) return rc;
    if (held) {
        carry(t, "lossless: the same integers");
        return NIB_OK;
    }
    return round_or_refuse(p, t, nib_codec_get(NIB_Q8_0), why, ctx, err);
}

/* ---- floating-point numbers ---- */

/* Every value of the one is a value of the other. */
static bool within(const nib_codec *from, nib_type to)
{
    const nib_type t = from->type;
    if (t == to) return true;
    if (to == NIB_F32) return t != NIB_F64; /* decoding is to f32 */
    return t == NIB_F8_E4M3 || (t == NIB_F8_E5M2 && to == NIB_BF16);
}

static nib_code take_float(nib_plan *p, nib_plan_tensor *t, const nib_codec *to, const char *why,
                           const nib_ctx *ctx, nib_err *err)
{
    double diff = 0, weight;
    t->codec = to;
    t->exact = t->src->times == 0 && !t->src->packed && within(t->src->codec, to->type) &&
               (!t->src->factor || to->type == NIB_F32);
    say_why(t, "%s", why);
    if (t->exact) return NIB_OK;
    nib_code rc = try_codec(&diff, &weight, p, t, to, ctx, err);
    if (rc) return rc;
    t->exact = diff == 0;
    return t->exact ? NIB_OK : round_or_refuse(p, t, to, "", ctx, err);
}

/* The dtype of most of what a model has in plain floats: that of its embedding. */
static const nib_codec *model_dtype(const nib_plan *p)
{
    const nib_tensor *embd = nib_model_param(p->model, 0, NIB_ROLE_TOKEN_EMBD)->weight;
    return embd && is_float(embd->codec) ? embd->codec : nib_codec_get(NIB_F32);
}

/* ---- columns in order of activation ---- */

static nib_plan_tensor *find(const nib_plan *p, nib_place at)
{
    const nib_plan_tensor *t = nib_plan_find(p, at);
    return t ? &p->tensor[t - p->tensor] : NULL;
}

/* Will its integers be carried over whatever order its rows get? */
static bool takes_order(const nib_plan *p, const nib_plan_tensor *t, nib_err *err, nib_code *rc)
{
    const uint32_t *own = NULL;
    const nib_recipe *r = &p->recipe;
    const bool keeps =
        r->format == NIB_FORMAT_DIR && r->layout.kind == NIB_PACKING_GPTQ && !r->in_order;
    nib_arena scratch = {0};
    if (!t || !has_ints(p, t) || nib_plan_matrices(t) > 1 || t->row_from) return false;
    *rc = nib_carry_order(&own, t->src, &scratch, err);
    nib_arena_free(&scratch);
    return !*rc && (keeps || !own);
}

/* Orders that bring the columns of each group of a weight together, and those of the rows of the
 * linears that can take them up, role[n], one for all of these. n 0: there are none. */
typedef struct {
    const uint32_t *columns, *rows;
    nib_role role[2];
    size_t n;
} way_out;

static nib_code find_way_out(way_out *w, nib_plan *p, const nib_plan_tensor *t, nib_err *err)
{
    const nib_hparams *hp = &p->model->hp;
    const nib_steps *s = nib_model_steps(p->model, t->place.layer);
    const nib_role values = nib_steps_values_of(s, t->place.role);
    nib_code rc = NIB_OK;
    *w = (way_out){.n = 0};
    w->n = nib_steps_channels_of(w->role, s, t->place.role);
    if (w->n) {
        rc = nib_carry_order(&w->columns, t->src, &p->memory, err);
        w->rows = w->columns;
    } else if (values) {
        const nib_carry_heads heads = {hp->n_head, hp->n_head_kv, hp->value_dim};
        w->n = 1;
        w->role[0] = values;
        rc = nib_carry_order_in_heads(&w->columns, &w->rows, t->src, &heads, &p->memory, err);
    }
    return rc;
}

static nib_code reorder(nib_plan *p, nib_plan_tensor *t, nib_err *err)
{
    way_out w;
    nib_code rc = find_way_out(&w, p, t, err);
    bool ok = w.columns && nib_plan_matrices(t) == 1;
    nib_place at = t->place;
    for (size_t i = 0; i < w.n && ok && !rc; i++) {
        at.role = w.role[i];
        ok = takes_order(p, find(p, at), err, &rc);
    }
    if (!ok || rc) return rc;
    t->col_from = w.columns;
    for (size_t i = 0; i < w.n; i++) {
        at.role = w.role[i];
        at.bias = false;
        find(p, at)->row_from = w.rows;
        at.bias = true;
        nib_plan_tensor *bias = find(p, at);
        if (!bias) continue;
        bias->row_from = w.rows;
        bias->carried = bias->exact = true;
        bias->action = NIB_ACTION_STAGE;
    }
    return NIB_OK;
}

nib_code nib_convert_reorder(nib_plan *p, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < p->n && !rc; i++) {
        nib_plan_tensor *t = &p->tensor[i];
        if (t->src && t->src->packed && nib_role_is_linear(t->place.role) && !t->place.bias)
            rc = reorder(p, t, err);
    }
    return rc;
}

/* ---- GGUF files ---- */

nib_code nib_convert_begin(nib_plan *p, nib_err *err)
{
    nib_type type = NIB_TYPE_COUNT;
    nib_code rc = p->recipe.type ? nib_writable_type_find(&type, p->recipe.type, err) : NIB_OK;
    const bool floats = type != NIB_TYPE_COUNT && is_float(nib_codec_get(type));
    return rc || floats ? rc : nib_convert_reorder(p, err);
}

/* Blocks of 4-bit floats with powers of two, of whatever container. */
static bool is_mxfp4(const nib_codec *c)
{
    return !strcmp(c->name, nib_codec_get(NIB_MXFP4)->name);
}

/* They are GGUF's own blocks, too: its scale is the smallest power of two with which no value of a
 * block is cut, and has every other's values. t->codec is NULL where one is out of range. */
static nib_code try_mxfp4(const nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    double diff, weight;
    const nib_codec *to = nib_codec_get(NIB_MXFP4);
    t->codec = NULL;
    if (t->cols % to->block) return NIB_OK;
    nib_code rc = try_codec(&diff, &weight, p, t, to, ctx, err);
    if (rc || diff > 0) return rc;
    t->codec = to;
    say_why(t, "as it is");
    return NIB_OK;
}

/* NVFP4's codes and scales are GGUF's own, too, and its global scale a factor beside the weight,
 * which engines have to apply. t->codec is NULL where they do not, or a scale is none of GGUF's. */
static nib_code try_nvfp4(nib_plan *p, nib_plan_tensor *t, const char **why, nib_err *err)
{
    const nib_codec *to = nib_codec_get(NIB_NVFP4);
    const size_t n = nib_plan_matrices(t);
    bool ones = true;
    nib_code rc = NIB_OK;
    float *factor = nib_arena_alloc(&p->memory, n, sizeof *factor, sizeof *factor);
    t->codec = NULL;
    *why = NULL;
    if (!factor) return nib_fail_nomem(err, "a plan");
    if (t->cols % to->block) *why = "its rows are no whole blocks of 64";
    for (size_t i = 0; i < n && !rc && !*why; i++) {
        nib_plan_tensor one;
        nib_plan_matrix(&one, p, t, i);
        rc = nib_floats_pack(NULL, why, p, &one, err);
        if (!rc) rc = nib_floats_factor(&factor[i], p->model->src, one.src, err);
        ones &= !rc && factor[i] == 1;
    }
    if (!rc && !*why && !ones && !nib_gguf_has_factor(p->model->arch, t->place.role))
        *why = "llama.cpp applies no global scale here";
    if (rc || *why) return rc;
    t->codec = to;
    t->factor = ones ? NULL : factor;
    carry(t, "lossless: the same codes and scales");
    return NIB_OK;
}

/* A matrix in the format that the user names. */
static nib_code take_type(nib_plan *p, nib_plan_tensor *t, const nib_codec *to, const nib_ctx *ctx,
                          nib_err *err)
{
    char why[112] = "";
    bool held;
    if (is_float(to)) return take_float(p, t, to, "as asked for", ctx, err);
    if (t->src->codec == to) {
        t->codec = to;
        t->exact = true;
        say_why(t, "as it is");
        return NIB_OK;
    }
    nib_code rc = NIB_OK;
    if (is_mxfp4(t->src->codec) && is_mxfp4(to)) {
        rc = try_mxfp4(p, t, ctx, err);
        if (rc || t->codec) return rc;
    }
    if (to->type == NIB_NVFP4 && nib_floats_in(p, t) == NIB_FLOATS_NVFP4) {
        const char *fault;
        rc = try_nvfp4(p, t, &fault, err);
        return rc || t->codec ? rc : round_or_refuse(p, t, to, fault, ctx, err);
    }
    if (!has_ints(p, t)) return round_or_refuse(p, t, to, "", ctx, err);
    rc = try_blocks(&held, why, sizeof why, p, t, to, ctx, err);
    if (rc) return rc;
    if (!held) return round_or_refuse(p, t, to, why, ctx, err);
    t->codec = to;
    carry(t, "lossless: the same integers");
    return NIB_OK;
}

/* Does the format that the user names speak of this matrix? */
static bool type_applies(const nib_plan_tensor *t, const nib_codec *to)
{
    const bool linear = nib_role_is_linear(t->place.role) && !t->place.bias;
    return is_float(to) || linear || t->src->codec->quantized || t->src->packed;
}

nib_code nib_convert_choose(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    const nib_codec *from = t->src ? t->src->codec : nib_codec_get(NIB_F32);
    const nib_codec *to = p->recipe.type ? nib_codec_find(p->recipe.type) : NULL;
    const int n_dims = t->src && t->rows > 1 ? 2 : 1;
    t->exact = true;
    if (!t->src || !nib_file_type_quantizable(t->name, n_dims)) {
        const char *why = !t->src        ? "rotary frequencies"
                          : from_gguf(p) ? "as it is"
                                         : "norms and biases";
        t->codec = from_gguf(p) ? from : nib_codec_get(NIB_F32);
        say_why(t, "%s", why);
        return t->src && t->codec->type == NIB_F32 ? take_float(p, t, t->codec, why, ctx, err)
                                                   : NIB_OK;
    }
    if (to && type_applies(t, to)) return take_type(p, t, to, ctx, err);
    if (t->src->times != 0) /* products are in no narrow dtype */
        return take_float(p, t, nib_codec_get(NIB_F32), "scaled", ctx, err);
    if (from_gguf(p) || is_float(from)) {
        t->codec = from;
        say_why(t, "as it is");
        return NIB_OK;
    }
    if (has_ints(p, t)) return smallest_blocks(p, t, ctx, err);
    if (is_mxfp4(from)) {
        const nib_code rc = try_mxfp4(p, t, ctx, err);
        if (rc || t->codec) return rc;
    }
    const char *why = "GGUF has no such dtype";
    if (nib_floats_in(p, t) == NIB_FLOATS_NVFP4) {
        const nib_code rc = try_nvfp4(p, t, &why, err);
        if (rc || t->codec) return rc;
    }
    return take_float(p, t, nib_codec_get(from->type == NIB_F8_E4M3 ? NIB_BF16 : NIB_F32), why, ctx,
                      err);
}

/* The file type whose base most weights have, among those that are no vectors. */
static const nib_file_type *common_type(const nib_plan *p)
{
    uint64_t weights[NIB_TYPE_COUNT] = {0};
    const nib_file_type *best = NULL;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (nib_role_is_linear(t->place.role) && !t->place.bias)
            weights[t->codec->type] += t->rows * t->cols;
    }
    for (size_t i = 0; i < nib_file_type_count(); i++) {
        const nib_file_type *f = nib_file_type_at(i);
        if (!best || weights[f->base] > weights[best->base]) best = f;
    }
    return best;
}

void nib_convert_label(nib_plan *p)
{
    uint64_t id;
    bool same = from_gguf(p);
    for (size_t i = 0; i < p->n && same; i++)
        same = !p->tensor[i].src || p->tensor[i].src->codec == p->tensor[i].codec;
    p->file_type = common_type(p);
    if (same && nib_gguf_get_u64(nib_source_kvs(p->model->src), "general.file_type", &id))
        for (size_t i = 0; i < nib_file_type_count(); i++)
            if (nib_file_type_at(i)->id == id) p->file_type = nib_file_type_at(i);
    p->label = p->file_type->name;
}

/* ---- folders ---- */

/* How the source has a weight, in the words of folders; false: not as integers in groups. */
static bool natural(nib_packing *f, const nib_plan *p, const nib_plan_tensor *t)
{
    nib_int_groups g;
    if (!has_ints(p, t) || !nib_tensor_ints(t->src, &g)) return false;
    if (g.packing) {
        *f = *g.packing;
        return true;
    }
    *f = (nib_packing){.bits = t->src->codec->n_codes <= 16 ? 4 : 8,
                       .group = g.group,
                       .sym = true,
                       .scale_type = t->src->codec->sc_max == 1 ? NIB_F16 : NIB_F32};
    return true;
}

/* The same in a folder of this kind. */
static void adapt(nib_packing *f, const nib_recipe *r)
{
    const nib_packing from = *f;
    const nib_packing_kind kind = r->layout.kind;
    const unsigned bits = from.bits ? from.bits - 1 : 0;
    f->kind = kind;
    f->v2 = r->layout.v2;
    const bool int8 = kind == NIB_PACKING_CT_INT; /* then the source is, too */
    const bool rounds = int8 || (kind == NIB_PACKING_CT_PACKED && from.act_float);
    f->act = rounds ? from.act : NIB_ACT_NONE;
    f->act_sym = rounds && from.act_sym;
    f->act_float = rounds && from.act_float;
    f->per_tensor = int8 && from.per_tensor;
    f->desc_act = from.desc_act && kind == NIB_PACKING_GPTQ && !r->in_order;
    f->bits = nib_packing_next_bits(kind, bits) ? nib_packing_next_bits(kind, bits) : from.bits;
    if (r->bits_given) f->bits = r->layout.bits;
    if (r->group_given) f->group = r->layout.group;
    if (r->sym_given) f->sym = r->layout.sym;
    if (kind == NIB_PACKING_AWQ || kind == NIB_PACKING_HQQ) f->sym = false;
    if (kind != NIB_PACKING_CT_PACKED && !int8) f->scale_type = NIB_F16;
}

/* Linear weights of the blocks that are quantized in the source. */
static bool any_quantized(const nib_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->src && nib_role_is_linear(t->place.role) && !t->place.bias &&
            (t->src->packed || t->src->codec->quantized))
            return true;
    }
    return false;
}

/* Integers whose inputs engines round to 8 bits, all of them, stay what they are, unless the user
 * asks for other groups. */
static bool stays_int8(const nib_plan *p)
{
    const nib_recipe *r = &p->recipe;
    bool any = false;
    if (r->layout.kind != NIB_PACKING_CT_PACKED) return false;
    if (r->bits_given || r->group_given || r->sym_given) return false;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!t->src || !nib_role_is_linear(t->place.role) || t->place.bias) continue;
        if (!t->src->packed && !t->src->codec->quantized) continue;
        const nib_act_quant *act = nib_tensor_act(t->src);
        if (!act || act->number != NIB_ACT_INT8) return false;
        any = true;
    }
    return any;
}

/* Weights in 4-bit floats with powers of two, all of them, stay these in compressed-tensors, unless
 * the user asks for integers. */
static bool stays_mxfp4(nib_packing *f, const nib_plan *p)
{
    const nib_recipe *r = &p->recipe;
    bool any = false;
    if (r->layout.kind != NIB_PACKING_CT_PACKED) return false;
    if (r->bits_given || r->group_given || r->sym_given) return false;
    *f = (nib_packing){.kind = NIB_PACKING_CT_MXFP4,
                       .bits = 4,
                       .group = nib_codec_get(NIB_MXFP4)->block,
                       .sym = true,
                       .scale_type = NIB_U8,
                       .act_sym = true};
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (!t->src || !nib_role_is_linear(t->place.role) || t->place.bias) continue;
        if (!t->src->packed && !t->src->codec->quantized) continue;
        if (!is_mxfp4(t->src->codec)) return false;
        const nib_act_quant *act = nib_tensor_act(t->src);
        f->act = act ? act->scheme : NIB_ACT_NONE;
        any = true;
    }
    return any;
}

/* Weights in small floats, all of them in one format, stay these where the folder has it, unless
 * the user asks for integers. */
static bool stays_floats(nib_packing *f, const nib_plan *p)
{
    const nib_recipe *r = &p->recipe;
    bool any = false;
    if (r->bits_given || r->group_given || r->sym_given) return false;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        nib_packing one;
        if (!t->src || !nib_role_is_linear(t->place.role) || t->place.bias) continue;
        if (!t->src->packed && !t->src->codec->quantized) continue;
        if (!nib_floats_layout(&one, t->src, r->layout.kind)) return false;
        if (any && !nib_packing_same(&one, f)) return false;
        *f = one;
        any = true;
    }
    return any;
}

/* The packing of most weights; of those that come up, the first few count. */
static nib_packing common_packing(const nib_plan *p)
{
    enum { KINDS = 16 };
    nib_packing kind[KINDS] = {{.bits = MIDDLE_BITS, .group = USUAL_GROUP, .sym = true}};
    uint64_t weights[KINDS] = {0};
    size_t n = 1, best = 0;
    adapt(&kind[0], &p->recipe);
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        size_t k = 0;
        nib_packing f;
        if (!nib_role_is_linear(t->place.role) || t->place.bias || !natural(&f, p, t)) continue;
        adapt(&f, &p->recipe);
        while (k < n && !nib_packing_same(&f, &kind[k])) k++;
        if (k == KINDS) continue;
        if (k == n) kind[n++] = f;
        weights[k] += t->rows * t->cols;
        if (weights[k] > weights[best]) best = k;
    }
    return kind[best];
}

nib_code nib_convert_layout(nib_plan *p, nib_err *err)
{
    if (!any_quantized(p) && !p->recipe.requantize)
        return nib_fail(err, NIB_EINVAL,
                        "%s is not quantized, so there are no integers to carry over: use 'nibble "
                        "quantize', or --requantize to round to nearest",
                        nib_source_path(p->model->src));
    nib_packing floats;
    if (stays_mxfp4(&floats, p) || stays_floats(&floats, p)) {
        p->recipe.layout = floats;
        return NIB_OK;
    }
    if (nib_packing_is_floats(p->recipe.layout.kind))
        return nib_fail(
            err, NIB_EINVAL,
            "--format fp8 takes 8-bit floats (e4m3) over, if all weights have them with "
            "scales of one kind and inputs that it can say: %s has other ones; use "
            "'nibble quantize'",
            nib_source_path(p->model->src));
    if (stays_int8(p)) p->recipe.layout.kind = NIB_PACKING_CT_INT;
    p->recipe.layout = common_packing(p);
    return NIB_OK;
}

nib_code nib_convert_packing(nib_packing *f, bool *packed, const nib_plan *p, nib_plan_tensor *t,
                             nib_err *err)
{
    const char *uniform = nib_packing_uniform(p->recipe.layout.kind);
    const bool quantized = t->src->packed || t->src->codec->quantized;
    *packed = quantized || !any_quantized(p);
    *f = p->recipe.layout;
    if (!*packed || (nib_packing_is_floats(f->kind) && nib_floats_layout(f, t->src, f->kind)))
        return NIB_OK; /* scales keep their dtype */
    if (!natural(f, p, t)) return NIB_OK;
    adapt(f, &p->recipe);
    if (!uniform || nib_packing_same(f, &p->recipe.layout)) return NIB_OK;
    return nib_fail(err, NIB_EINVAL, "tensor '%s' in %s: %s; choose --bits and --group-size",
                    t->src->name, t->src->codec->name, uniform);
}

/* Does rounding change no value? Of formats whose rows have nothing in common. */
static nib_code changes_nothing(bool *so, const nib_plan *p, const nib_plan_tensor *t,
                                const nib_ctx *ctx, nib_err *err)
{
    const size_t cols = (size_t)t->cols;
    nib_buf raw = {0};
    float *w = nib_alloc(2 * ROWS, cols * sizeof *w), *v = w + ROWS * cols;
    nib_code rc = w ? NIB_OK : nib_fail_nomem(err, "weights");
    *so = true;
    for (uint64_t row = 0; row < t->rows && *so && !rc; row += ROWS) {
        const size_t n = t->rows - row < ROWS ? (size_t)(t->rows - row) : ROWS;
        rc = nib_weights_read(p, t, row, n, w, &raw, ctx->cpu, err);
        if (!rc) rc = nib_round_rows(t->codec, w, NULL, n, cols, v, NULL, NULL, ctx, err);
        for (size_t i = 0; i < n * cols && *so && !rc; i++) *so = w[i] == v[i];
    }
    nib_buf_free(&raw);
    nib_free(w);
    return rc;
}

/* Small floats in the folder's format of them. */
static nib_code convert_floats(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    const char *why;
    nib_code rc = nib_floats_pack(NULL, &why, p, t, err);
    if (!rc && why) return round_or_refuse(p, t, t->codec, why, ctx, err);
    float *factor = nib_arena_alloc(&p->memory, 1, sizeof *factor, sizeof *factor);
    if (!rc && !factor) rc = nib_fail_nomem(err, "a plan");
    if (!rc) rc = nib_floats_factor(factor, p->model->src, t->src, err);
    t->factor = factor;
    carry(t, "lossless: the same codes and scales");
    return rc;
}

nib_code nib_convert_packed(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    nib_carry_fault fault = {0};

    char why[112] = "";
    const nib_grid to = nib_carry_grid_of(&t->layout);
    if (t->layout.format.act == NIB_ACT_TENSOR) t->range = nib_tensor_act(t->src)->range;
    nib_code rc = NIB_OK;
    if (nib_packing_is_floats(t->layout.format.kind) && nib_floats_of(t->src))
        return convert_floats(p, t, ctx, err);
    if (t->layout.format.kind == NIB_PACKING_CT_MXFP4) {
        rc = changes_nothing(&t->exact, p, t, ctx, err);
        say_why(t, "lossless: the same values");
        if (rc || t->exact) return rc;
    }
    if (!has_ints(p, t)) return round_or_refuse(p, t, t->codec, "", ctx, err);
    if (t->layout.format.desc_act && !t->col_from)
        rc = nib_carry_order(&t->outer, t->src, &p->memory, err);
    if (!rc) rc = look(&fault, p, t, &to, t->outer ? t->outer : t->col_from, ctx, err);
    if (rc) return rc;
    if (!fault.why) {
        carry(t, "lossless: the same integers");
        return NIB_OK;
    }
    t->outer = NULL;
    if ((rc = explain(why, sizeof why, t, &fault, &to, err))) return rc;
    return round_or_refuse(p, t, t->codec, why, ctx, err);
}

nib_code nib_convert_plain(nib_plan *p, nib_plan_tensor *t, const nib_ctx *ctx, nib_err *err)
{
    const nib_codec *from = t->src->codec, *narrow = model_dtype(p);
    const nib_codec *to = p->recipe.type && p->recipe.format == NIB_FORMAT_PLAIN
                              ? nib_codec_find(p->recipe.type)
                              : NULL;
    double diff = 1, weight;
    nib_code rc = NIB_OK;
    if (to) return take_float(p, t, to, "as asked for", ctx, err);
    if (!from_gguf(p) && !t->src->packed && !from->quantized) {
        t->codec = from;
        t->exact = true;
        say_why(t, "as it is");
        return NIB_OK;
    }
    /* vectors that GGUF widened are made as narrow as the model again */
    if (from_gguf(p) && from->type == NIB_F32 && narrow->type != NIB_F32)
        rc = try_codec(&diff, &weight, p, t, narrow, ctx, err);
    if (rc) return rc;
    const bool float_source = is_float(from) && from->type != NIB_F32;
    return take_float(p, t,
                      diff == 0      ? narrow
                      : float_source ? from
                                     : nib_codec_get(NIB_F32),
                      from->quantized || t->src->packed ? "dequantized" : "as it is", ctx, err);
}
