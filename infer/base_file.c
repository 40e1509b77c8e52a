/* SPDX-License-Identifier: MIT */
/* infer/base_file.c - see base_file.h. */
#include "infer/base_file.h"

#include "base/half.h"
#include "base/rd.h"

#include <stdlib.h>
#include <string.h>

static const char FULL[] = "_logits_", TOP[] = "nibbleKL";

enum {
    MAGIC = 8,
    FULL_HEAD = MAGIC + 3 * 4,
    TOP_HEAD = MAGIC + 6 * 4,
    TOP_VERSION = 1,
    CTX_MAX = 1 << 20,
};
static const float SPAN = 16; /* nats below the likeliest token that llama.cpp's form holds */
/* How far what rounding leaves may be from what it should be, before a record is called damaged: a
 * log-probability above 0, and probabilities that do not add up to 1. */
static const float LOG_ABOVE = 0.01f, SUM_OFF = 0.01f;

/* ---- reading ---- */

static bool has_magic(const char *head, const char *magic)
{
    return memcmp(head, magic, MAGIC) == 0;
}

bool nib_base_file_is(const char *path)
{
    char head[MAGIC];
    nib_err err;
    return !nib_file_is_dir(path) && nib_file_exists(path) &&
           !nib_file_head(head, sizeof head, path, &err) &&
           (has_magic(head, FULL) || has_magic(head, TOP));
}

static size_t record_bytes(size_t top, size_t n_vocab)
{
    return top ? 8 + 8 * top : 2 * (n_vocab + n_vocab % 2) + 8;
}

/* The numbers in front of the tokens; *size of them in bytes. */
static nib_code read_head(nib_base_file *f, uint64_t *size, nib_err *err)
{
    uint8_t head[TOP_HEAD];
    nib_code rc = nib_file_read(&f->file, 0, head, FULL_HEAD, err);
    const bool full = !rc && has_magic((const char *)head, FULL);
    if (!rc && !full && !has_magic((const char *)head, TOP))
        return nib_fail(err, NIB_EFORMAT, "neither llama.cpp's base file nor nibble's");
    if (!rc && !full) rc = nib_file_read(&f->file, 0, head, TOP_HEAD, err);
    if (rc) return rc;
    nib_rd r = {head + MAGIC, head + (full ? FULL_HEAD : TOP_HEAD), false};
    *size = full ? FULL_HEAD : TOP_HEAD;
    f->protocol = NIB_PPL_LLAMACPP;
    if (!full) {
        const uint32_t version = nib_rd_u32(&r), protocol = nib_rd_u32(&r);
        if (version != TOP_VERSION)
            return nib_fail(err, NIB_EFORMAT, "version %u, but only %d is known", version,
                            TOP_VERSION);
        if (protocol > NIB_PPL_WINDOW)
            return nib_fail(err, NIB_EFORMAT, "protocol %u is not known", protocol);
        f->protocol = protocol;
    }
    const uint32_t n_ctx = nib_rd_u32(&r), n_vocab = nib_rd_u32(&r), n_chunks = nib_rd_u32(&r);
    f->top = full ? 0 : nib_rd_u32(&r);
    if (n_ctx < NIB_CHUNK_MIN || n_ctx > CTX_MAX)
        return nib_fail(err, NIB_EFORMAT, "a context of %u, not %d to %d", n_ctx, NIB_CHUNK_MIN,
                        CTX_MAX);
    if (n_vocab < 2 || n_vocab > NIB_WIDTH_MAX)
        return nib_fail(err, NIB_EFORMAT, "a vocabulary of %u, not 2 to %d", n_vocab,
                        NIB_WIDTH_MAX);
    if (n_chunks < 1 || n_chunks > INT32_MAX)
        return nib_fail(err, NIB_EFORMAT, "%u chunks, not 1 to %d", n_chunks, INT32_MAX);
    if (!full && (f->top < NIB_TOPS || f->top > NIB_BASE_TOP_MAX || f->top > n_vocab))
        return nib_fail(err, NIB_EFORMAT,
                        "%zu tokens for each position, not %d to %d and the vocabulary of %u",
                        f->top, NIB_TOPS, NIB_BASE_TOP_MAX, n_vocab);
    f->n_ctx = n_ctx, f->n_vocab = n_vocab, f->n_chunks = n_chunks;
    return NIB_OK;
}

static nib_code read_tokens(nib_base_file *f, uint64_t at, nib_err *err)
{
    const size_t n = f->n_chunks * f->n_ctx; /* the file is as long as that */
    f->id = nib_alloc(n, sizeof *f->id);
    uint8_t *raw = nib_alloc(f->n_ctx, 4);
    nib_code rc = f->id && raw ? NIB_OK : nib_fail_nomem(err, "tokens");
    for (size_t i = 0; i < n && !rc; i += f->n_ctx) {
        rc = nib_file_read(&f->file, at + 4 * i, raw, 4 * f->n_ctx, err);
        nib_rd r = {raw, raw + 4 * f->n_ctx, false};
        for (size_t k = i; k < i + f->n_ctx && !rc; k++) {
            f->id[k] = nib_rd_i32(&r);
            if (f->id[k] < 0 || (size_t)f->id[k] >= f->n_vocab)
                rc = nib_fail(err, NIB_EFORMAT, "token %zu is %d, but the vocabulary has %zu", k,
                              f->id[k], f->n_vocab);
        }
    }
    nib_free(raw);
    return rc;
}

static nib_code open_checked(nib_base_file *f, nib_err *err)
{
    uint64_t head = 0, tokens, records;
    size_t first;
    nib_code rc = read_head(f, &head, err);
    if (rc) return rc;
    nib_chunks_scored(f->protocol, f->n_ctx, &first, &f->per_chunk);
    f->record = record_bytes(f->top, f->n_vocab);
    tokens = (uint64_t)f->n_chunks * f->n_ctx * 4; /* below 2^53: so are the next sums */
    f->records = head + tokens;
    if (__builtin_mul_overflow((uint64_t)f->n_chunks * f->per_chunk, f->record, &records) ||
        __builtin_add_overflow(records, f->records, &records) || records != f->file.size)
        return nib_fail(err, NIB_EFORMAT,
                        "%llu bytes, which is not what %zu chunks of %zu tokens with a vocabulary "
                        "of %zu take",
                        (unsigned long long)f->file.size, f->n_chunks, f->n_ctx, f->n_vocab);
    return read_tokens(f, head, err);
}

nib_code nib_base_file_open(nib_base_file *f, const char *path, nib_err *err)
{
    *f = (nib_base_file){.file.fd = -1};
    nib_code rc = nib_file_open(&f->file, path, err);
    if (rc) return rc;
    if ((rc = open_checked(f, err))) {
        nib_wrap(err, "%s", path);
        nib_base_file_close(f);
    }
    return rc;
}

void nib_base_file_close(nib_base_file *f)
{
    if (!f->file.path) return;
    nib_file_close(&f->file);
    nib_free(f->id);
    *f = (nib_base_file){.file.fd = -1};
}

size_t nib_base_file_width(const nib_base_file *f)
{
    return f->top ? f->top : f->n_vocab;
}

static nib_code read_full(const nib_base_file *f, nib_rd *r, int32_t target, float *logit,
                          nib_prediction *p, nib_err *err)
{
    const float scale = nib_rd_f32(r), least = nib_rd_f32(r), most = least + 65535 * scale;
    if (!(scale >= 0) || !isfinite(least) || !(most <= LOG_ABOVE))
        return nib_fail(err, NIB_EFORMAT, "log-probabilities from %g in steps of %g", (double)least,
                        (double)scale);
    for (size_t i = 0; i < f->n_vocab; i++) logit[i] = scale * (float)nib_rd_u16(r) + least;
    *p = (nib_prediction){
        .logit = logit, .n = f->n_vocab, .least = -(double)SPAN, .nll = -(double)logit[target]};
    return NIB_OK;
}

static nib_code read_top(const nib_base_file *f, nib_rd *r, float *logit, int32_t *id,
                         nib_prediction *p, nib_err *err)
{
    const float log_p = nib_rd_f32(r), rest = nib_rd_f32(r);
    double sum = (double)rest;
    for (size_t i = 0; i < f->top; i++) {
        id[i] = nib_rd_i32(r);
        if (id[i] < 0 || (size_t)id[i] >= f->n_vocab)
            return nib_fail(err, NIB_EFORMAT, "token %d, but the vocabulary has %zu", id[i],
                            f->n_vocab);
    }
    for (size_t i = 0; i < f->top; i++) {
        logit[i] = nib_rd_f32(r);
        if (!(logit[i] <= LOG_ABOVE) || !isfinite(logit[i]) || (i && logit[i] > logit[i - 1]))
            return nib_fail(err, NIB_EFORMAT, "log-probability %g at place %zu", (double)logit[i],
                            i);
        sum += exp((double)logit[i]);
    }
    if (!(rest >= 0) || !(log_p <= LOG_ABOVE) || !isfinite(log_p) || !(fabs(sum - 1) <= SUM_OFF))
        return nib_fail(err, NIB_EFORMAT,
                        "probabilities add up to %g, of which the rest is %g; the next token has "
                        "log-probability %g",
                        sum, (double)rest, (double)log_p);
    *p = (nib_prediction){.logit = logit,
                          .id = id,
                          .n = f->top,
                          .rest = (double)rest,
                          .least = -INFINITY,
                          .nll = -(double)log_p};
    return NIB_OK;
}

nib_code nib_base_file_read(const nib_base_file *f, size_t first, size_t n, const int32_t *target,
                            float *logit, int32_t *id, nib_prediction *p, nib_buf *raw,
                            nib_err *err)
{
    const size_t width = nib_base_file_width(f);
    uint8_t *data = nib_buf_reserve(raw, n, f->record);
    if (!data) return nib_fail_nomem(err, "records of a base file");
    nib_code rc =
        nib_file_read(&f->file, f->records + (uint64_t)first * f->record, data, n * f->record, err);
    for (size_t i = 0; i < n && !rc; i++) {
        nib_rd r = {data + i * f->record, data + (i + 1) * f->record, false};
        rc = f->top ? read_top(f, &r, logit + i * width, id + i * width, &p[i], err)
                    : read_full(f, &r, target[i], logit + i * width, &p[i], err);
        if (rc) nib_wrap(err, "%s: record %zu", f->file.path, first + i);
    }
    return rc;
}

/* ---- writing ---- */

static uint8_t *put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) *to++ = (uint8_t)(v >> 8 * i);
    return to;
}

static uint8_t *put_f32(uint8_t *to, float v)
{
    return put_u32(to, nib_f32_bits(v));
}

nib_code nib_base_writer_open(nib_base_writer *w, const char *path, bool force, size_t top,
                              nib_err *err)
{
    *w = (nib_base_writer){.top = top};
    return nib_out_open(&w->out, path, force, err);
}

nib_code nib_base_writer_begin(nib_base_writer *w, const nib_chunks *c, size_t n_vocab,
                               nib_err *err)
{
    uint8_t head[TOP_HEAD], *to = head + MAGIC;
    w->n_vocab = n_vocab;
    if (!w->top && c->protocol != NIB_PPL_LLAMACPP)
        return nib_fail(err, NIB_EINVAL,
                        "llama.cpp's base file holds the positions of protocol llama.cpp, not of "
                        "%s; one of the likeliest tokens does",
                        nib_ppl_protocol_name(c->protocol));
    if (w->top && (w->top < NIB_TOPS || w->top > n_vocab))
        return nib_fail(err, NIB_EINVAL,
                        "the %zu likeliest tokens: should be %d to %zu, the vocabulary", w->top,
                        NIB_TOPS, n_vocab);
    memcpy(head, w->top ? TOP : FULL, MAGIC);
    if (w->top) to = put_u32(put_u32(to, TOP_VERSION), (uint32_t)c->protocol);
    to =
        put_u32(put_u32(put_u32(to, (uint32_t)c->n_ctx), (uint32_t)n_vocab), (uint32_t)c->n_chunks);
    if (w->top) to = put_u32(to, (uint32_t)w->top);
    nib_code rc = nib_out_write(w->out, head, (size_t)(to - head), err);
    for (size_t i = 0; i < c->n_chunks * c->n_ctx && !rc; i++) {
        uint8_t token[4];
        put_u32(token, (uint32_t)c->ids.id[i]);
        rc = nib_out_write(w->out, token, sizeof token, err);
    }
    if (!rc && !nib_buf_reserve(&w->record, record_bytes(w->top, n_vocab), 1))
        rc = nib_fail_nomem(err, "a record");
    return rc;
}

/* As llama.cpp computes it, in f32. */
static void encode_full(uint8_t *to, const nib_ops *ops, const float *logits, size_t n)
{
    const float max = ops->max(logits, n), log_sum = (float)log(ops->sum_exp(logits, n, max));
    float min = logits[0];
    for (size_t i = 1; i < n; i++)
        if (logits[i] < min) min = logits[i];
    if (min < max - SPAN) min = max - SPAN;
    const float scale = (max - min) / 65535, inverse = scale > 0 ? 1 / scale : 0;
    to = put_f32(put_f32(to, scale), min - max - log_sum);
    for (size_t i = 0; i < n + n % 2; i++) {
        const float above = i < n ? logits[i] - min : 0;
        int32_t code = above > 0 ? nib_round_even(above * inverse) : 0;
        if (code > 65535) code = 65535;
        *to++ = (uint8_t)code;
        *to++ = (uint8_t)(code >> 8);
    }
}

typedef struct {
    float logit;
    int32_t id;
} candidate;

/* From the likeliest on, the lowest token first where they are equal. */
static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : (x->id > y->id) - (x->id < y->id);
}

/* Move the k first of by_logit() to the front, in any order: quickselect. */
static void select_first(candidate *c, size_t n, size_t k)
{
    for (size_t lo = 0, hi = n; hi - lo > 1;) {
        const candidate pivot = c[lo + (hi - lo - 1) / 2];
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (by_logit(&c[i], &pivot) < 0) i++;
            while (by_logit(&c[j], &pivot) > 0) j--;
            if (i >= j) break;
            const candidate t = c[i];
            c[i++] = c[j], c[j--] = t;
        }
        if (k <= j + 1)
            hi = j + 1;
        else
            lo = j + 1;
        if (k == lo || k == hi) return;
    }
}

static nib_code encode_top(nib_base_writer *w, uint8_t *to, const nib_ops *ops, const float *logits,
                           int32_t target, nib_err *err)
{
    const nib_prediction own = nib_prediction_of(ops, logits, w->n_vocab);
    candidate *c = nib_buf_reserve(&w->order, w->n_vocab, sizeof *c);
    double rest = 1;
    if (!c) return nib_fail_nomem(err, "the likeliest tokens");
    for (size_t i = 0; i < w->n_vocab; i++) c[i] = (candidate){logits[i], (int32_t)i};
    select_first(c, w->n_vocab, w->top);
    qsort(c, w->top, sizeof *c, by_logit);
    for (size_t i = 0; i < w->top; i++) rest -= exp((double)c[i].logit - own.log_sum);
    to = put_f32(to, (float)((double)logits[target] - own.log_sum));
    to = put_f32(to, (float)(w->top < w->n_vocab ? fmax(rest, 0) : 0));
    for (size_t i = 0; i < w->top; i++) to = put_u32(to, (uint32_t)c[i].id);
    for (size_t i = 0; i < w->top; i++) to = put_f32(to, (float)((double)c[i].logit - own.log_sum));
    return NIB_OK;
}

nib_code nib_base_writer_add(nib_base_writer *w, const nib_ops *ops, const float *logits,
                             int32_t target, nib_err *err)
{
    nib_code rc = NIB_OK;
    if (w->top)
        rc = encode_top(w, w->record.p, ops, logits, target, err);
    else
        encode_full(w->record.p, ops, logits, w->n_vocab);
    return rc ? rc : nib_out_write(w->out, w->record.p, record_bytes(w->top, w->n_vocab), err);
}

static void free_memory(nib_base_writer *w)
{
    nib_buf_free(&w->record);
    nib_buf_free(&w->order);
    *w = (nib_base_writer){0};
}

nib_code nib_base_writer_commit(nib_base_writer *w, nib_err *err)
{
    nib_code rc = nib_out_commit(w->out, err);
    free_memory(w);
    return rc;
}

void nib_base_writer_abort(nib_base_writer *w)
{
    nib_out_abort(w->out);
    free_memory(w);
}
