/* SPDX-License-Identifier: MIT */
/* run/write/write_gguf.c - see write_gguf.h. */
#include "run/write/write_gguf.h"

#include "base/par.h"
#include "run/plan/memory.h"
#include "run/plan/provenance.h"
#include "run/plan/weights.h"
#include "run/write/manifest.h"
#include "run/write/measure.h"

#include <string.h>

/* Rows [row, row + rows) of a tensor. */
typedef struct {
    size_t tensor;
    uint64_t row, rows;
    uint64_t offset, bytes; /* in the batch's output */
    size_t zero_blocks, zero_rows;
    nib_difference change; /* of what is encoded */
} piece;

typedef struct {
    piece *p;
    size_t n, cap;
    uint8_t *out;
    uint64_t bytes;
} batch;

/* Work memory of one thread. */
typedef struct {
    nib_buf raw, weights, ordered, scratch, values;
} work;

typedef struct {
    const nib_plan *plan;
    const nib_solved_file *solved;
    const nib_ctx *ctx;
    const nib_sink *sink;
    work *work; /* [threads] */
    batch batch[2], *now, *before;
    size_t tensor; /* the first piece of the next batch */
    uint64_t row;
    size_t zero_blocks, zero_rows;
    nib_difference *change; /* [n] of the plan's tensors */
    size_t n_inputs;        /* files whose checksums are computed in passing */
    double share;           /* of the output that this batch ends with       */
    nib_progress progress;
} job;

/* ---- pieces and batches ---- */

static uint64_t row_bytes(const nib_plan_tensor *t)
{
    return t->bytes / t->rows;
}

static bool add_piece(batch *b, piece p)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 256;
        piece *grown = nib_grow(b->p, b->cap, cap, sizeof *grown);
        if (!grown) return false;
        b->p = grown;
        b->cap = cap;
    }
    b->p[b->n++] = p;
    return true;
}

/* The next pieces of the plan, as many as fit; an empty batch at the end. */
static nib_code fill_batch(job *j, uint64_t room, nib_err *err)
{
    batch *b = j->now;
    b->n = 0;
    b->bytes = 0;
    while (j->tensor < j->plan->n) {
        const nib_plan_tensor *t = &j->plan->tensor[j->tensor];
        const uint64_t each = t->rows / nib_plan_matrices(t), left = each - j->row % each;
        uint64_t rows = nib_piece_rows(t);
        if (rows > left) rows = left;
        uint64_t bytes = rows * row_bytes(t);
        if (bytes > room - b->bytes) break;
        if (!add_piece(b, (piece){.tensor = j->tensor,
                                  .row = j->row,
                                  .rows = rows,
                                  .offset = b->bytes,
                                  .bytes = bytes}))
            return nib_fail_nomem(err, "the list of pieces");
        b->bytes += bytes;
        j->row += rows;
        if (j->row < t->rows) continue;
        j->tensor++;
        j->row = 0;
    }
    return NIB_OK;
}

/* ---- one piece ---- */

/* What the user knows the tensor by. */
static const char *source_name(const nib_plan_tensor *t)
{
    return t->src ? t->src->name : t->name;
}

/* Put rows [first, first + n) into the output's order; src: those that lie there in the source's,
 * of whole heads. A vector's elements are its rows. */
static void order_rows(const nib_row_order *o, float *dst, const float *src, uint64_t first,
                       uint64_t n, uint64_t width)
{
    for (uint64_t r = 0; r < n; r++) {
        const uint64_t from = nib_row_order_source(o, first + r) - first;
        memcpy(dst + r * width, src + from * width, (size_t)width * sizeof *dst);
    }
}

/* Rows of a joint projection come from far apart, head by head. */
static nib_code load_heads(const job *j, const piece *p, work *w, float *x, nib_err *err)
{
    const nib_plan_tensor *t = &j->plan->tensor[p->tensor];
    nib_code rc = NIB_OK;
    for (uint64_t r = 0; r < p->rows && !rc; r += t->order.head)
        rc = nib_weights_read(j->plan, t, nib_row_order_source(&t->order, p->row + r),
                              t->order.head, x + r * t->cols, &w->raw, j->ctx->cpu, err);
    return rc;
}

/* Weights of a piece in the output's order; borrowed from `w` or the plan. */
static nib_code load_weights(const job *j, const piece *p, work *w, const float **out, nib_err *err)
{
    const nib_plan_tensor *t = &j->plan->tensor[p->tensor];
    if (t->action == NIB_ACTION_GENERATE) {
        *out = t->values;
        return NIB_OK;
    }
    size_t n = (size_t)(p->rows * t->cols);
    float *x = nib_buf_reserve(&w->weights, n, sizeof *x);
    if (!x) return nib_fail_nomem(err, "weights");
    const bool vector = t->rows == 1, far = t->order.n_head && !vector;
    *out = x;
    if (far) return load_heads(j, p, w, x, err);
    nib_code rc = nib_weights_read(j->plan, t, p->row, p->rows, x, &w->raw, j->ctx->cpu, err);
    if (rc || !t->order.head) return rc;
    float *ordered = nib_buf_reserve(&w->ordered, n, sizeof *ordered);
    if (!ordered) return nib_fail_nomem(err, "weights");
    if (vector)
        order_rows(&t->order, ordered, x, 0, t->cols, 1);
    else
        order_rows(&t->order, ordered, x, p->row, p->rows, t->cols);
    *out = ordered;
    return NIB_OK;
}

/* Does the format hold a row x, which became these bytes? */
static bool row_fits(const nib_plan_tensor *t, const float *x, const uint8_t *packed)
{
    nib_err err;
    return t->codec->valid(packed, (size_t)(t->cols / t->codec->block)) &&
           !nib_codec_check(t->codec, x, (size_t)t->cols, &err);
}

/* The format's scales are 16-bit floats, or 8-bit ones: say which row is too large for them. */
static nib_code check_encoded(const nib_plan_tensor *t, const float *x, const uint8_t *packed,
                              uint64_t row, uint64_t rows, nib_err *err)
{
    const nib_codec *c = t->codec;
    uint64_t r = 0;
    if (!c->valid) return NIB_OK;
    while (r < rows && row_fits(t, x + r * t->cols, packed + r * row_bytes(t))) r++;
    if (r == rows) return NIB_OK;
    return nib_fail(err, NIB_ENUMERIC, "tensor '%s': row %llu holds values too large for %s",
                    source_name(t), (unsigned long long)(row + r), c->name);
}

/* Rows with weights that are exactly 0, where the format has no 0. */
static size_t lost_zeros(const nib_codec *c, const float *x, uint64_t rows, uint64_t cols)
{
    size_t n = 0;
    if (nib_codec_has_zero(c)) return 0;
    for (const float *end; rows--; x = end) {
        end = x + cols;
        const float *at = x;
        while (at < end && *at != 0) at++;
        n += at < end;
    }
    return n;
}

static nib_code encode_piece(const job *j, piece *p, work *w, uint8_t *dst, nib_err *err)
{
    const nib_plan_tensor *t = &j->plan->tensor[p->tensor];
    size_t room = nib_encode_scratch((size_t)t->cols);
    void *scratch = room ? nib_buf_reserve(&w->scratch, room, 1) : NULL;
    if (!scratch) return nib_fail_nomem(err, "encoding");
    const float *x = NULL;
    nib_code rc = load_weights(j, p, w, &x, err);
    if (rc) return rc;
    const float *importance = t->importance;
    if (importance) importance += p->row / (t->rows / nib_plan_matrices(t)) * t->cols;
    p->zero_blocks = t->codec->encode(dst, x, importance, (size_t)p->rows, (size_t)t->cols,
                                      j->ctx->cpu, scratch);
    p->zero_rows = lost_zeros(t->codec, x, p->rows, t->cols);
    if (t->src) {
        const size_t n = (size_t)(p->rows * t->cols);
        float *now = nib_buf_reserve(&w->values, n, sizeof *now);
        if (!now) return nib_fail_nomem(err, "weights");
        t->codec->decode(now, dst, n / t->codec->block, j->ctx->cpu);
        nib_difference_add(&p->change, x, now, n);
    }
    return check_encoded(t, x, dst, p->row, p->rows, err);
}

static nib_code copy_piece(const job *j, const piece *p, work *w, uint8_t *dst, nib_err *err)
{
    const nib_plan_tensor *t = &j->plan->tensor[p->tensor];
    const uint64_t at = p->row * row_bytes(t);
    nib_code rc = nib_source_read(j->plan->model->src, t->src, at, dst, (size_t)p->bytes, err);
    return rc ? rc
              : nib_weights_check_stored(t, dst, at / t->codec->bytes,
                                         (size_t)(p->bytes / t->codec->bytes), &w->weights,
                                         j->ctx->cpu, err);
}

static nib_code make_piece(const job *j, piece *p, work *w, uint8_t *dst, nib_err *err)
{
    const nib_plan_tensor *t = &j->plan->tensor[p->tensor];
    switch (t->action) {
    case NIB_ACTION_STAGE:
        return nib_solved_file_read(j->solved, t->solved_at + p->row * row_bytes(t), dst,
                                    (size_t)p->bytes, err);
    case NIB_ACTION_COPY: return copy_piece(j, p, w, dst, err);
    default: return encode_piece(j, p, w, dst, err);
    }
}

/* ---- the stream ---- */

/* Pieces of one tensor lie one after the other: one write for each run of them. */
static nib_code write_batch(const job *j, const batch *b, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0, k; i < b->n && !rc; i = k) {
        uint64_t bytes = 0;
        for (k = i; k < b->n && b->p[k].tensor == b->p[i].tensor; k++) bytes += b->p[k].bytes;
        rc = j->sink->write(j->sink->arg, b->p[i].tensor, b->out + b->p[i].offset, (size_t)bytes,
                            err);
    }
    return rc;
}

/* Task 0 writes the batch before, the next ones read a share of the input files for their
 * checksums, the others make a piece each. */
static nib_code run_tasks(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    nib_code rc = NIB_OK;
    for (size_t i = begin; i < end && !rc; i++) {
        if (i == 0) {
            rc = write_batch(j, j->before, err);
        } else if (i <= j->n_inputs) {
            rc = nib_provenance_read(j->plan->recipe.provenance, i - 1, j->share, err);
        } else {
            piece *p = &j->now->p[i - 1 - j->n_inputs];
            rc = make_piece(j, p, &j->work[thread], j->now->out + p->offset, err);
        }
    }
    return rc;
}

static nib_code stream(job *j, nib_err *err)
{
    nib_code rc = NIB_OK;
    uint64_t room = nib_batch_bytes(j->plan), done = 0;
    for (int i = 0; i < 2; i++)
        if (!(j->batch[i].out = nib_alloc((size_t)room, 1))) return nib_fail_nomem(err, "output");
    j->now = &j->batch[0];
    j->before = &j->batch[1];
    do {
        if ((rc = fill_batch(j, room, err))) break;
        done += j->now->bytes;
        j->share = (double)done / (double)j->plan->bytes;
        const size_t tasks = 1 + j->n_inputs + j->now->n;
        if ((rc = nib_par_for(j->ctx->threads, tasks, 1, run_tasks, j, err))) break;
        for (size_t i = 0; i < j->now->n; i++) {
            const piece *p = &j->now->p[i];
            j->zero_blocks += p->zero_blocks;
            j->zero_rows += p->zero_rows;
            nib_difference_join(&j->change[p->tensor], &p->change);
        }
        nib_progress_at(&j->progress, (double)done / 1e6);
        batch *b = j->now;
        j->now = j->before;
        j->before = b;
    } while (j->before->n);
    return rc;
}

static void job_free(job *j)
{
    for (int i = 0; i < 2; i++) {
        nib_free(j->batch[i].out);
        nib_free(j->batch[i].p);
    }
    for (int i = 0; j->work && i < j->ctx->threads; i++) {
        work *w = &j->work[i];
        nib_buf_free(&w->raw);
        nib_buf_free(&w->weights);
        nib_buf_free(&w->ordered);
        nib_buf_free(&w->scratch);
        nib_buf_free(&w->values);
    }
    nib_free(j->change);
    nib_free(j->work);
}

/* The file that was written says what the plan said. */
static nib_code verify(const nib_plan *p, nib_err *err)
{
    nib_source *s = NULL;
    nib_code rc = nib_source_open(&s, p->layout.file_path[0], err);
    if (rc) return rc;
    if (nib_source_count(s) != p->n)
        rc = nib_fail(err, NIB_EFORMAT, "%s: %zu tensors were written, %zu are in the file",
                      p->layout.file_path[0], p->n, nib_source_count(s));
    for (size_t i = 0; i < p->n && !rc; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        const nib_tensor *f = nib_source_find(s, t->name);
        if (!f || f->codec->type != t->codec->type || f->bytes != t->bytes ||
            nib_tensor_cols(f) != t->cols)
            rc = nib_fail(err, NIB_EFORMAT, "%s: tensor '%s' is not as it was written",
                          p->layout.file_path[0], t->name);
    }
    nib_source_close(s);
    return rc;
}

nib_code nib_quantize_stream(nib_quantize_result *r, const nib_plan *p,
                             const nib_solved_file *solved, const nib_sink *sink,
                             const nib_ctx *ctx, nib_err *err)
{
    job j = {.plan = p, .solved = solved, .ctx = ctx, .sink = sink};
    nib_code rc = NIB_OK;
    const nib_provenance *from = p->recipe.provenance;
    if (from) j.n_inputs = from->n_sources + from->n_others;
    j.work = nib_calloc((size_t)ctx->threads, sizeof *j.work);
    j.change = nib_calloc(p->n, sizeof *j.change);
    if (!j.work || !j.change) {
        job_free(&j);
        return nib_fail_nomem(err, "work memory");
    }
    nib_progress_begin(&j.progress, ctx->log, "quantizing", "MB", (double)p->bytes / 1e6);
    rc = stream(&j, err);
    nib_progress_end(&j.progress);
    r->zero_importance_blocks += j.zero_blocks;
    r->rows_without_zero += j.zero_rows;
    for (size_t i = 0; i < p->n && !rc; i++)
        if (p->tensor[i].action == NIB_ACTION_ENCODE)
            p->error[i] = (float)nib_difference_error(&j.change[i]);
    job_free(&j);
    return rc;
}

/* A file whose tensors are hashed on their way. */
typedef struct {
    const nib_plan *p;
    nib_gguf_writer *w;
    nib_sha256 hash; /* of the tensor whose turn it is */
    uint64_t done;   /* bytes of it                    */
    uint8_t *sha256; /* [n][NIB_SHA256_BYTES] */
} hashed;

static nib_code write_hashed(void *arg, size_t tensor, const void *data, size_t n, nib_err *err)
{
    hashed *h = arg;
    if (!h->done) nib_sha256_begin(&h->hash);
    nib_sha256_add(&h->hash, data, n);
    h->done += n;
    if (h->done == h->p->tensor[tensor].bytes) {
        nib_sha256_end(&h->hash, h->sha256 + tensor * NIB_SHA256_BYTES);
        h->done = 0;
    }
    return nib_gguf_write(h->w, tensor, data, n, err);
}

static nib_code write_tensors(nib_quantize_result *r, nib_gguf_writer *w, const nib_plan *p,
                              const nib_solved_file *solved, const nib_ctx *ctx, nib_err *err)
{
    hashed h = {.p = p, .w = w, .sha256 = nib_calloc(p->n, NIB_SHA256_BYTES)};
    const nib_sink sink = {write_hashed, &h};
    nib_code rc = h.sha256 ? nib_quantize_stream(r, p, solved, &sink, ctx, err)
                           : nib_fail_nomem(err, "checksums");
    if (!rc) rc = nib_manifest_fill(p, h.sha256, ctx, err);
    nib_free(h.sha256);
    return rc ? rc : nib_gguf_seal(w, p->kvs, err);
}

nib_code nib_write_gguf(nib_quantize_result *r, const nib_plan *p, const nib_solved_file *solved,
                        const nib_ctx *ctx, nib_err *err)
{
    double started = nib_now();
    nib_gguf_writer *w;
    *r = (nib_quantize_result){0};
    nib_code rc = nib_gguf_begin(&w, p->recipe.out, p->kvs, p->record, p->n, p->recipe.split_max,
                                 p->recipe.force, err);
    if (rc) return rc;
    rc = write_tensors(r, w, p, solved, ctx, err);
    if (rc)
        nib_gguf_abort(w);
    else
        rc = nib_gguf_end(w, err);
    if (!rc) rc = verify(p, err);
    r->seconds = nib_now() - started;
    return rc;
}
