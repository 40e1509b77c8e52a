/* SPDX-License-Identifier: MIT */
/* report/layer_errors.c - see layer_errors.h. Partial sums are combined in the order of the rows,
 * so that the figures do not depend on threads. */
#include "report/layer_errors.h"

#include "base/par.h"

#include <math.h>

enum { ROWS = 16 }; /* of a chunk */

/* One matrix of both models. */
typedef struct {
    const nib_model *base, *other;
    nib_place place;
    const nib_tensor *a, *b;
    uint64_t rows, cols;
} pair;

typedef struct {
    double square, difference; /* sums of w^2 and (w' - w)^2                  */
    double largest;            /* |w| or |w'|                                 */
    double worst;              /* sum of (w' - w)^2 of the block that moved most, ... */
    uint64_t row, col;         /* ... and where it begins                     */
} sums;

typedef struct {
    const pair *p;
    sums *chunk;  /* [chunks] */
    float **work; /* [threads] 2 * ROWS rows */
    nib_buf *raw; /* [threads] */
    unsigned cpu;
    double span;              /* of the histograms, or 0: sums are taken */
    uint32_t *before, *after; /* [chunks][NIB_WEIGHT_BINS] */
} pass;

/* Row of the base that row r of the other model is; UINT64_MAX: not known. */
static uint64_t base_row(const pair *p, uint64_t r)
{
    const nib_hparams *hp = &p->base->hp;
    const nib_model *a = p->base, *b = p->other;
    if (p->place.role < NIB_ROLE_FIRST_BLOCK) return r;
    if (a->rope_interleaved != b->rope_interleaved &&
        nib_steps_output(nib_model_steps(a, p->place.layer), p->place.role).turned)
        return b->rope_interleaved ? nib_rope_source_row(r, hp->head_dim)
                                   : nib_rope_paired_row(r, hp->head_dim);
    if (p->place.role == NIB_ROLE_ATTN_QKV && hp->n_head_kv > 1 && a->qkv_by_head != b->qkv_by_head)
        return a->qkv_by_head ? nib_joint_source_row(r, hp->head_dim, hp->n_head, hp->n_head_kv)
                              : UINT64_MAX;
    return r;
}

/* Rows [row, row + n) of both models, the base's where the other has them. */
static nib_code read_rows(const pass *s, uint64_t row, size_t n, int thread, float **a, float **b,
                          nib_err *err)
{
    const pair *p = s->p;
    *a = s->work[thread];
    *b = *a + ROWS * p->cols;
    nib_buf *raw = &s->raw[thread];
    nib_code rc = nib_source_read_rows(p->other->src, p->b, row, n, *b, raw, s->cpu, err);
    for (size_t i = 0; i < n && !rc;) {
        size_t k = 1; /* rows that follow each other in both */
        const uint64_t from = base_row(p, row + i);
        while (i + k < n && base_row(p, row + i + k) == from + k) k++;
        rc = nib_source_read_rows(p->base->src, p->a, from, k, *a + i * p->cols, raw, s->cpu, err);
        i += k;
    }
    return rc;
}

static void add_block(sums *to, const float *a, const float *b, size_t n, uint64_t row,
                      uint64_t col)
{
    double moved = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = (double)a[i], d = (double)b[i] - w;
        to->square += w * w;
        moved += d * d;
        to->largest = fmax(to->largest, fmax(fabs(w), fabs((double)b[i])));
    }
    to->difference += moved;
    if (moved > to->worst) to->worst = moved, to->row = row, to->col = col;
}

static void count(uint32_t *bins, const float *w, size_t n, double span)
{
    for (size_t i = 0; i < n; i++) {
        double at = ((double)w[i] / span + 1) / 2 * NIB_WEIGHT_BINS;
        if (!(at >= 0)) at = 0;
        bins[at < NIB_WEIGHT_BINS ? (size_t)at : NIB_WEIGHT_BINS - 1]++;
    }
}

static nib_code measure_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    pass *s = arg;
    float *a, *b;
    const size_t cols = (size_t)s->p->cols, chunk = begin / ROWS, n = (end - begin) * cols;
    nib_code rc = read_rows(s, begin, end - begin, thread, &a, &b, err);
    if (rc) return rc;
    if (s->span > 0) {
        count(s->before + chunk * NIB_WEIGHT_BINS, a, n, s->span);
        count(s->after + chunk * NIB_WEIGHT_BINS, b, n, s->span);
        return NIB_OK;
    }
    for (size_t r = 0; r < end - begin; r++)
        for (size_t c = 0; c < cols; c += NIB_WEIGHT_SAMPLE) {
            const size_t at = r * cols + c;
            add_block(&s->chunk[chunk], a + at, b + at,
                      cols - c < NIB_WEIGHT_SAMPLE ? cols - c : NIB_WEIGHT_SAMPLE, begin + r, c);
        }
    return NIB_OK;
}

static void close_pass(pass *s, int threads)
{
    for (int t = 0; t < threads; t++) {
        if (s->work) nib_free(s->work[t]);
        if (s->raw) nib_buf_free(&s->raw[t]);
    }
    nib_free(s->work);
    nib_free(s->raw);
    nib_free(s->chunk);
    nib_free(s->before);
    nib_free(s->after);
}

static nib_code run_pass(pass *s, const pair *p, double span, const nib_ctx *ctx, nib_err *err)
{
    const size_t chunks = (size_t)((p->rows + ROWS - 1) / ROWS);
    *s = (pass){.p = p, .cpu = ctx->cpu, .span = span};
    s->chunk = nib_calloc(chunks, sizeof *s->chunk);
    s->before = nib_calloc(chunks, NIB_WEIGHT_BINS * sizeof *s->before);
    s->after = nib_calloc(chunks, NIB_WEIGHT_BINS * sizeof *s->after);
    s->work = nib_calloc((size_t)ctx->threads, sizeof *s->work);
    s->raw = nib_calloc((size_t)ctx->threads, sizeof *s->raw);
    if (!s->chunk || !s->before || !s->after || !s->work || !s->raw)
        return nib_fail_nomem(err, "rows of weights");
    for (int t = 0; t < ctx->threads; t++) {
        s->work[t] = nib_alloc(2 * ROWS, (size_t)p->cols * sizeof **s->work);
        if (!s->work[t]) return nib_fail_nomem(err, "rows of weights");
    }
    return nib_par_for(ctx->threads, (size_t)p->rows, ROWS, measure_rows, s, err);
}

/* Sums over the whole matrix. */
static nib_code measure(sums *out, const pair *p, const nib_ctx *ctx, nib_err *err)
{
    pass s;
    *out = (sums){0};
    nib_code rc = run_pass(&s, p, 0, ctx, err);
    for (size_t i = 0; i < (p->rows + ROWS - 1) / ROWS && !rc; i++) {
        out->square += s.chunk[i].square;
        out->difference += s.chunk[i].difference;
        out->largest = fmax(out->largest, s.chunk[i].largest);
        if (s.chunk[i].worst > out->worst) {
            out->worst = s.chunk[i].worst;
            out->row = s.chunk[i].row;
            out->col = s.chunk[i].col;
        }
    }
    close_pass(&s, ctx->threads);
    return rc;
}

static double relative(const sums *s)
{
    return s->square > 0 ? sqrt(s->difference / s->square) : s->difference > 0 ? INFINITY : 0;
}

/* Histograms, and the block that moved most. */
static nib_code draw(nib_weight_picture *w, const pair *p, const sums *m, const nib_ctx *ctx,
                     nib_err *err)
{
    pass s;
    float *a, *b;
    *w = (nib_weight_picture){
        .place = p->place, .error = relative(m), .span = m->largest, .row = m->row, .col = m->col};
    nib_code rc = run_pass(&s, p, m->largest, ctx, err);
    for (size_t i = 0; i < (p->rows + ROWS - 1) / ROWS && !rc; i++)
        for (size_t k = 0; k < NIB_WEIGHT_BINS; k++) {
            w->before[k] += s.before[i * NIB_WEIGHT_BINS + k];
            w->after[k] += s.after[i * NIB_WEIGHT_BINS + k];
        }
    for (size_t k = 0; k < NIB_WEIGHT_BINS; k++) {
        w->before[k] /= (double)(p->rows * p->cols);
        w->after[k] /= (double)(p->rows * p->cols);
    }
    if (!rc) rc = read_rows(&s, m->row, 1, 0, &a, &b, err);
    if (!rc) {
        const size_t left = (size_t)(p->cols - m->col);
        w->n = left < NIB_WEIGHT_SAMPLE ? left : NIB_WEIGHT_SAMPLE;
        for (size_t i = 0; i < w->n; i++) {
            w->block_before[i] = a[m->col + i];
            w->block_after[i] = b[m->col + i];
        }
    }
    close_pass(&s, ctx->threads);
    return rc;
}

/* The matrix of a place in both models; false: one has none, or they are of different shapes. */
static bool find(pair *p, const nib_model *base, const nib_model *other, nib_place at)
{
    *p = (pair){.base = base,
                .other = other,
                .place = at,
                .a = nib_model_tensor(base, at),
                .b = nib_model_tensor(other, at)};
    if (!p->a || !p->b || !nib_tensor_readable(p->a) || !nib_tensor_readable(p->b)) return false;
    p->rows = nib_tensor_rows(p->b);
    p->cols = nib_tensor_cols(p->b);
    return p->rows && p->cols && nib_tensor_rows(p->a) == p->rows &&
           nib_tensor_cols(p->a) == p->cols && base_row(p, 0) != UINT64_MAX;
}

static nib_place place_of(uint32_t layer, nib_role role)
{
    return (nib_place){
        .layer = layer, .role = role, .expert = nib_role_is_expert(role) ? NIB_EXPERTS_ALL : 0};
}

bool nib_layer_errors_possible(const nib_model *base, const nib_model *other, const char **why)
{
    *why = NULL;
    if (base->arch != other->arch)
        *why = "it is of another architecture than the base";
    else if (base->hp.n_layer != other->hp.n_layer || base->hp.n_embd != other->hp.n_embd)
        *why = "it has other blocks than the base";
    return !*why;
}

static void list_roles(nib_layer_errors *e, const nib_model *base, const nib_model *other)
{
    for (int r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++) {
        bool there = false;
        pair p;
        for (uint32_t layer = 0; layer < e->n_layer && !there; layer++)
            there = nib_role_is_linear((nib_role)r) &&
                    find(&p, base, other, place_of(layer, (nib_role)r));
        if (there) e->role[e->n_roles++] = (nib_role)r;
    }
}

/* The error of one place into *to, and whether it is the largest so far. */
static nib_code measure_place(nib_layer_errors *e, double *to, pair *worst, sums *worst_sums,
                              const nib_model *base, const nib_model *other, nib_place at,
                              const nib_ctx *ctx, nib_err *err)
{
    pair p;
    sums s;
    *to = NAN;
    if (!find(&p, base, other, at)) return NIB_OK;
    nib_code rc = measure(&s, &p, ctx, err);
    if (rc) return rc;
    *to = relative(&s);
    if (at.role < NIB_ROLE_FIRST_BLOCK || !(*to > 0)) return NIB_OK;
    if (!(e->least > 0) || *to < e->least) e->least = *to;
    if (*to > e->most) {
        e->most = *to;
        *worst = p;
        *worst_sums = s;
    }
    return NIB_OK;
}

nib_code nib_layer_errors_measure(nib_layer_errors *e, const nib_model *base,
                                  const nib_model *other, const nib_ctx *ctx, nib_err *err)
{
    const char *why;
    pair worst = {0};
    sums worst_sums = {0};
    *e = (nib_layer_errors){.n_layer = base->hp.n_layer};
    if (!nib_layer_errors_possible(base, other, &why))
        return nib_fail(err, NIB_EINVAL, "weights cannot be compared: %s", why);
    list_roles(e, base, other);
    e->error = nib_alloc(e->n_layer, e->n_roles * sizeof *e->error);
    nib_code rc = e->error ? NIB_OK : nib_fail_nomem(err, "the layers' errors");
    for (uint32_t l = 0; l < e->n_layer && !rc; l++)
        for (size_t r = 0; r < e->n_roles && !rc; r++)
            rc = measure_place(e, &e->error[l * e->n_roles + r], &worst, &worst_sums, base, other,
                               place_of(l, e->role[r]), ctx, err);
    if (!rc)
        rc = measure_place(e, &e->embd, &worst, &worst_sums, base, other,
                           place_of(0, NIB_ROLE_TOKEN_EMBD), ctx, err);
    if (!rc)
        rc = measure_place(e, &e->output, &worst, &worst_sums, base, other,
                           place_of(0, NIB_ROLE_OUTPUT), ctx, err);
    if (!rc && worst.a) rc = draw(&e->worst, &worst, &worst_sums, ctx, err);
    if (rc) nib_layer_errors_free(e);
    return rc;
}

void nib_layer_errors_free(nib_layer_errors *e)
{
    nib_free(e->error);
    *e = (nib_layer_errors){0};
}
