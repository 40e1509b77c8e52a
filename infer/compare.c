/* SPDX-License-Identifier: MIT */
/* infer/compare.c - see compare.h. */
#include "infer/compare.h"

#include "base/par.h"

#include <math.h>
#include <string.h>

enum { GROUP = 32 }; /* rows whose logits are held at once */

typedef struct {
    nib_graph *graph;
    float *x;                 /* [batch * n_ctx][n_embd] */
    nib_compare_token *token; /* [all scored]            */
    double seconds;
} stream;

typedef struct {
    const nib_compared *m;
    stream *s;
    size_t n;
    nib_ppl_opts opts;
    nib_chunks chunks;
    uint32_t n_vocab;
    const nib_ops *ops;
    int threads;
    size_t scored;               /* so far                                                      */
    float *logits, *base;        /* [GROUP][n_vocab] of the model at work, of the base          */
    int32_t *base_id;            /* [GROUP][width] of a base file                               */
    nib_prediction ref[GROUP];   /* what the base predicts: points into the last two            */
    nib_prediction other[GROUP]; /* the same of the model at work */
    nib_buf raw;
    size_t model;          /* at work      */
    const int32_t *target; /* of the group */
    nib_compare_token *token, *base_token;
} run;

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

static nib_code run_logits(run *p, size_t model, size_t at, size_t n, float *to, nib_err *err)
{
    stream *s = &p->s[model];
    const double started = nib_now();
    if (p->m[model].file)
        return nib_base_file_read(p->m[model].file, p->scored, n, p->target, to, NULL, p->other,
                                  &p->raw, err);
    nib_code rc = nib_graph_logits(s->graph, s->x, p->chunks.row + at, n, keep, to, NULL, err);
    s->seconds += nib_now() - started;
    return rc;
}

/* What the rows of logits say; predictions from a file are there already. */
static void predict(run *p, size_t model, nib_prediction *to, const float *rows, size_t i)
{
    const float *logits = rows + i * p->n_vocab;
    if (p->m[model].file) return;
    to[i] = nib_prediction_of(p->ops, logits, p->n_vocab);
    to[i].nll = to[i].log_sum - (double)logits[p->target[i]];
}

static nib_code note_base(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    run *p = arg;
    (void)thread;
    (void)err;
    for (size_t i = begin; i < end; i++) {
        predict(p, 0, p->ref, p->base, i);
        p->token[i] = (nib_compare_token){.nll = p->ref[i].nll, .same = NIB_TOPS};
    }
    return NIB_OK;
}

static nib_code note_other(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    run *p = arg;
    (void)thread;
    (void)err;
    for (size_t i = begin; i < end; i++) {
        predict(p, p->model, p->other, p->logits, i);
        const nib_loss_pair d = nib_loss_compare(p->ops, &p->ref[i], &p->other[i]);
        p->token[i] = (nib_compare_token){.nll = p->other[i].nll,
                                          .kl = d.kl,
                                          .kl_back = d.kl_back,
                                          .p_top = d.p_top,
                                          .top = d.top,
                                          .same = d.same};
        p->base_token[i].top = d.ref_top;
        p->base_token[i].p_top = d.p_ref_top;
    }
    return NIB_OK;
}

static nib_code check_finite(const run *p, size_t model, size_t n, nib_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const nib_compare_token *t = &p->token[i];
        if (!isfinite(t->nll) || !isfinite(t->kl) || !isfinite(t->kl_back))
            return nib_fail(err, NIB_ENUMERIC,
                            "%s: the output at scored token %zu is not finite (loss %g, divergence "
                            "%g)",
                            p->m[model].name, p->scored + i, t->nll, t->kl);
    }
    return NIB_OK;
}

static nib_code save_group(run *p, size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t i = 0; i < n && !rc; i++)
        rc = nib_base_writer_add(p->m[0].save, p->ops, p->base + i * p->n_vocab, p->target[i], err);
    return rc;
}

/* What the base predicts at the n positions of the group. */
static nib_code base_group(run *p, size_t at, size_t n, nib_err *err)
{
    nib_code rc = p->m[0].file ? nib_base_file_read(p->m[0].file, p->scored, n, p->target, p->base,
                                                    p->base_id, p->ref, &p->raw, err)
                               : run_logits(p, 0, at, n, p->base, err);
    if (!rc) rc = nib_par_for(p->threads, n, 1, note_base, p, err);
    if (!rc) rc = check_finite(p, 0, n, err);
    if (!rc && p->m[0].save) rc = save_group(p, n, err);
    return rc;
}

/* The logits of n scored rows from the at-th of the batch on, in every model. */
static nib_code compare_group(run *p, size_t at, size_t n, nib_err *err)
{
    p->target = p->chunks.target + at;
    p->token = p->base_token = p->s[0].token + p->scored;
    nib_code rc = base_group(p, at, n, err);
    for (size_t i = 1; i < p->n && !rc; i++) {
        p->token = p->s[i].token + p->scored;
        p->model = i;
        rc = run_logits(p, i, at, n, p->logits, err);
        if (!rc) rc = nib_par_for(p->threads, n, 1, note_other, p, err);
        if (!rc) rc = check_finite(p, i, n, err);
    }
    p->scored += n;
    return rc;
}

static nib_code run_batch(run *p, size_t chunk, size_t n, nib_err *err)
{
    const size_t scored = n * p->chunks.per_chunk;
    nib_code rc = nib_chunks_fill(&p->chunks, chunk, n, p->n_vocab, err);
    for (size_t i = 0; i < p->n && !rc; i++) {
        const double started = nib_now();
        if (p->m[i].file) continue;
        rc = nib_chunks_run(&p->chunks, p->s[i].graph, n, p->m[i].bf16, p->s[i].x, err);
        if (rc) nib_wrap(err, "%s", p->m[i].name);
        p->s[i].seconds += nib_now() - started;
    }
    for (size_t at = 0; at < scored && !rc; at += GROUP)
        rc = compare_group(p, at, scored - at < GROUP ? scored - at : GROUP, err);
    return rc;
}

/* ---- before and after ---- */

/* The first that has a tokenizer; NULL: none has. */
static const nib_tokenizer *first_tokenizer(const run *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->m[i].tok) return p->m[i].tok;
    return NULL;
}

/* A file beside the base must be of the same positions, with all tokens. */
static nib_code check_file(const run *p, const nib_compared *m, nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    const nib_base_file *f = m->file;
    if (f->top)
        return nib_fail(err, NIB_EINVAL,
                        "%s: it has the %zu likeliest tokens of each position alone, and so can be "
                        "the base, but not compared with one",
                        m->name, f->top);
    if (f->n_vocab != p->n_vocab || f->protocol != c->protocol || f->n_ctx != c->n_ctx ||
        f->n_chunks < c->n_chunks ||
        memcmp(f->id, c->ids.id, c->n_chunks * c->n_ctx * sizeof *f->id) != 0)
        return nib_fail(err, NIB_EINVAL, "%s: made of another text than %s, or in other chunks",
                        m->name, p->m[0].name);
    return NIB_OK;
}

/* The text must mean the same to every model. */
static nib_code check_model(const run *p, const nib_compared *m, const char *text, size_t n_text,
                            nib_err *err)
{
    nib_chunks own = {0};
    const nib_chunks *c = &p->chunks;
    if (m->file) return check_file(p, m, err);
    if (m->model->hp.n_vocab != p->n_vocab)
        return nib_fail(err, NIB_EINVAL, "%s: a vocabulary of %u, but %s has %u", m->name,
                        m->model->hp.n_vocab, p->m[0].name, p->n_vocab);
    nib_code rc =
        text ? nib_chunks_open(&own, &m->model->hp, m->tok, text, n_text, &p->opts, NULL, err)
             : nib_chunks_take(&own, c->protocol, c->n_ctx, c->n_chunks, c->ids.id, m->tok, err);
    if (rc) return nib_wrap(err, "%s", m->name);
    const size_t used = c->n_chunks * c->n_ctx;
    if (own.bos != c->bos || own.n_chunks != c->n_chunks ||
        memcmp(own.ids.id, c->ids.id, used * sizeof *own.ids.id) != 0)
        rc = p->m[0].file
                 ? nib_fail(err, NIB_EINVAL,
                            "%s: the text is not the one that %s was made of, or its tokenizer "
                            "splits it otherwise",
                            m->name, p->m[0].name)
                 : nib_fail(err, NIB_EINVAL,
                            "%s: its tokenizer splits the text otherwise than that of %s", m->name,
                            p->m[0].name);
    nib_chunks_free(&own);
    return rc;
}

/* The chunks of a base file, of which opts may ask for fewer, but not for others. */
static nib_code take_chunks(run *p, const nib_base_file *f, nib_err *err)
{
    nib_ppl_opts *o = &p->opts;
    if (o->protocol != f->protocol || (o->n_ctx && o->n_ctx != f->n_ctx))
        return nib_fail(err, NIB_EINVAL,
                        "%s: made with protocol %s and a context of %zu; --protocol and --ctx ask "
                        "for others",
                        p->m[0].name, nib_ppl_protocol_name(f->protocol), f->n_ctx);
    o->n_ctx = f->n_ctx;
    if (!o->max_chunks || o->max_chunks > f->n_chunks) o->max_chunks = f->n_chunks;
    return nib_chunks_take(&p->chunks, f->protocol, f->n_ctx, o->max_chunks, f->id,
                           first_tokenizer(p), err);
}

static nib_code open_chunks(run *p, const char *text, size_t n_text, nib_log *log, nib_err *err)
{
    const nib_base_file *f = p->m[0].file;
    p->n_vocab = f ? (uint32_t)f->n_vocab : p->m[0].model->hp.n_vocab;
    nib_code rc = f ? take_chunks(p, f, err)
                    : nib_chunks_open(&p->chunks, &p->m[0].model->hp, p->m[0].tok, text, n_text,
                                      &p->opts, log, err);
    for (size_t i = 1; i < p->n && !rc; i++) rc = check_model(p, &p->m[i], text, n_text, err);
    if (!rc && p->m[0].save) rc = nib_base_writer_begin(p->m[0].save, &p->chunks, p->n_vocab, err);
    return rc;
}

static nib_code set_up(run *p, const nib_ctx *ctx, nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    const nib_base_file *f = p->m[0].file;
    p->logits = nib_alloc(GROUP, p->n_vocab * sizeof *p->logits);
    p->base = nib_alloc(GROUP, p->n_vocab * sizeof *p->base);
    p->base_id = nib_alloc(GROUP, (f ? f->top : 0) * sizeof *p->base_id);
    if (!p->logits || !p->base || !p->base_id) return nib_fail_nomem(err, "logits");
    for (size_t i = 0; i < p->n; i++) {
        stream *s = &p->s[i];
        s->token = nib_alloc(c->n_chunks, c->per_chunk * sizeof *s->token);
        if (!s->token) return nib_fail_nomem(err, "what is noted of each token");
        if (p->m[i].file) continue;
        s->x = nib_alloc(c->batch * c->n_ctx, p->m[i].model->hp.n_embd * sizeof *s->x);
        if (!s->x) return nib_fail_nomem(err, "a batch of the text");
        nib_code rc = nib_graph_new(&s->graph, p->m[i].model, ctx, c->batch, c->n_ctx, false, err);
        if (!rc && i && !p->m[i].bf16 && nib_kv_has_format(&p->opts.kv))
            rc = nib_graph_keep(s->graph, &p->opts.kv, err);
        if (rc) return rc;
    }
    return NIB_OK;
}

static nib_code run_all(run *p, nib_log *log, nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    nib_code rc = NIB_OK;
    nib_progress bar;
    nib_progress_begin(&bar, log, "comparing", "tokens", (double)(c->n_chunks * c->n_ctx));
    for (size_t chunk = 0; chunk < c->n_chunks && !rc; chunk += c->batch) {
        size_t left = c->n_chunks - chunk, n = left < c->batch ? left : c->batch;
        rc = run_batch(p, chunk, n, err);
        nib_progress_at(&bar, (double)((chunk + n) * c->n_ctx));
    }
    nib_progress_end(&bar);
    return rc;
}

/* The lines, and what the result takes over. */
static nib_code conclude(run *p, nib_compare_result *r, nib_compare_line *line, nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    nib_code rc = NIB_OK;
    *r = (nib_compare_result){.protocol = c->protocol,
                              .n_ctx = c->n_ctx,
                              .n_tokens = c->n_tokens,
                              .n_chunks = c->n_chunks,
                              .n_scored = p->scored,
                              .first = c->first,
                              .per_chunk = c->per_chunk,
                              .n = p->n,
                              .token = nib_calloc(p->n, sizeof *r->token)};
    if (!r->token) return nib_fail_nomem(err, "a result");
    for (size_t i = 0; i < p->n && !rc; i++) {
        rc = nib_compare_summarize(&line[i], p->s[i].token, p->s[0].token, p->scored, err);
        line[i].seconds = p->s[i].seconds;
    }
    if (rc) return rc;
    for (size_t i = 0; i < p->n; i++) r->token[i] = p->s[i].token, p->s[i].token = NULL;
    r->id = p->chunks.ids.id;
    p->chunks.ids = (nib_ids){0};
    return NIB_OK;
}

void nib_compare_free(nib_compare_result *r)
{
    for (size_t i = 0; i < r->n && r->token; i++) nib_free(r->token[i]);
    nib_free(r->token);
    nib_free(r->id);
    *r = (nib_compare_result){0};
}

static void tear_down(run *p)
{
    for (size_t i = 0; i < p->n && p->s; i++) {
        nib_graph_free(p->s[i].graph);
        nib_free(p->s[i].x);
        nib_free(p->s[i].token);
    }
    nib_free(p->s);
    nib_free(p->logits);
    nib_free(p->base);
    nib_free(p->base_id);
    nib_buf_free(&p->raw);
    nib_chunks_free(&p->chunks);
}

nib_code nib_compare_run(nib_compare_result *r, nib_compare_line *line, const nib_compared *m,
                         size_t n, const char *text, size_t n_text, const nib_ppl_opts *opts,
                         const nib_ctx *ctx, nib_err *err)
{
    const double started = nib_now();
    run p = {.m = m,
             .n = n,
             .s = nib_calloc(n, sizeof *p.s),
             .opts = *opts,
             .ops = nib_ops_get(ctx->cpu),
             .threads = ctx->threads};
    *r = (nib_compare_result){0};
    nib_code rc = p.s ? NIB_OK : nib_fail_nomem(err, "the models' list");
    if (!rc) rc = open_chunks(&p, text, n_text, ctx->log, err);
    if (!rc) rc = set_up(&p, ctx, err);
    if (!rc) rc = run_all(&p, ctx->log, err);
    if (!rc) rc = conclude(&p, r, line, err);
    if (rc) nib_compare_free(r);
    r->seconds = nib_now() - started;
    tear_down(&p);
    return rc;
}
