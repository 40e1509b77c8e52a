/* SPDX-License-Identifier: MIT */
/* infer/compare.c - see compare.h. Sums over positions are taken in f64 in order of the text, so
 * that the figures do not depend on threads. */
#include "infer/compare.h"

#include "base/mem.h"
#include "infer/loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 32 }; /* rows whose logits are held at once */

typedef struct {
    nib_graph *graph;
    float *x;  /* [batch * n_ctx][n_embd]     */
    float *kl; /* [all scored]; NULL: the base */
    double nll, nll2, change, change2, kl_sum, kl2, dp2;
    size_t same;
} stream;

typedef struct {
    const nib_compared *m;
    stream *s;
    size_t n;
    nib_chunks chunks;
    const nib_ops *ops;
    size_t scored; /* so far */
    float *logits; /* [GROUP][n_vocab] of the base */
    /* Of the group and model at work. */
    bool base;
    const int32_t *target;
    double base_nll[GROUP], nll[GROUP], kl[GROUP];
    bool same[GROUP];
} run;

static void on_logits(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    run *p = arg;
    float *kept = p->logits + row * n_vocab;
    p->nll[row] = nib_loss_token(p->ops, logits, n_vocab, p->target[row]);
    if (p->base) {
        memcpy(kept, logits, n_vocab * sizeof *kept);
        p->base_nll[row] = p->nll[row];
        return;
    }
    p->kl[row] = nib_loss_kl(p->ops, kept, logits, n_vocab, &p->same[row]);
}

static nib_code add(run *p, size_t model, size_t n, nib_err *err)
{
    stream *s = &p->s[model];
    for (size_t i = 0; i < n; i++) {
        const double kl = s->kl ? p->kl[i] : 0;
        if (!isfinite(p->nll[i]) || !isfinite(kl))
            return nib_fail(err, NIB_ENUMERIC,
                            "%s: the output at scored token %zu is not finite (loss %g, divergence "
                            "%g)",
                            p->m[model].name, p->scored + i, p->nll[i], kl);
        s->nll += p->nll[i];
        s->nll2 += p->nll[i] * p->nll[i];
        if (!s->kl) continue;
        const double change = p->nll[i] - p->base_nll[i];
        s->change += change;
        s->change2 += change * change;
        s->kl[p->scored + i] = (float)kl;
        s->kl_sum += kl;
        s->kl2 += kl * kl;
        const double dp = exp(-p->nll[i]) - exp(-p->base_nll[i]);
        s->dp2 += dp * dp;
        s->same += p->same[i];
    }
    return NIB_OK;
}

/* The logits of n scored rows from the at-th of the batch on, in every model. */
static nib_code compare_group(run *p, size_t at, size_t n, nib_err *err)
{
    nib_code rc = NIB_OK;
    p->target = p->chunks.target + at;
    for (size_t i = 0; i < p->n && !rc; i++) {
        p->base = i == 0;
        rc = nib_graph_logits(p->s[i].graph, p->s[i].x, p->chunks.row + at, n, on_logits, p, NULL,
                              err);
        if (!rc) rc = add(p, i, n, err);
    }
    p->scored += n;
    return rc;
}

static nib_code run_batch(run *p, size_t chunk, size_t n, nib_err *err)
{
    const size_t scored = n * p->chunks.per_chunk;
    nib_code rc = nib_chunks_fill(&p->chunks, chunk, n, p->m[0].model->hp.n_vocab, err);
    for (size_t i = 0; i < p->n && !rc; i++) {
        rc = nib_chunks_run(&p->chunks, p->s[i].graph, n, p->s[i].x, err);
        if (rc) nib_wrap(err, "%s", p->m[i].name);
    }
    for (size_t at = 0; at < scored && !rc; at += GROUP)
        rc = compare_group(p, at, scored - at < GROUP ? scored - at : GROUP, err);
    return rc;
}

/* ---- before and after ---- */

/* The text must mean the same to every model. */
static nib_code check_model(const run *p, const nib_compared *m, const char *text, size_t n_text,
                            const nib_ppl_opts *opts, nib_err *err)
{
    const nib_hparams *base = &p->m[0].model->hp;
    nib_chunks own;
    if (m->model->hp.n_vocab != base->n_vocab)
        return nib_fail(err, NIB_EINVAL, "%s: a vocabulary of %u, but %s has %u", m->name,
                        m->model->hp.n_vocab, p->m[0].name, base->n_vocab);
    nib_code rc = nib_chunks_open(&own, base, m->tok, text, n_text, opts, NULL, err);
    if (rc) return nib_wrap(err, "%s", m->name);
    const size_t used = p->chunks.n_chunks * p->chunks.n_ctx;
    if (own.bos != p->chunks.bos || own.n_chunks != p->chunks.n_chunks ||
        memcmp(own.ids.id, p->chunks.ids.id, used * sizeof *own.ids.id) != 0)
        rc =
            nib_fail(err, NIB_EINVAL, "%s: its tokenizer splits the text otherwise than that of %s",
                     m->name, p->m[0].name);
    nib_chunks_free(&own);
    return rc;
}

static nib_code set_up(run *p, const nib_ctx *ctx, nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    p->logits = nib_alloc(GROUP, p->m[0].model->hp.n_vocab * sizeof *p->logits);
    if (!p->logits) return nib_fail_nomem(err, "logits");
    for (size_t i = 0; i < p->n; i++) {
        stream *s = &p->s[i];
        s->x = nib_alloc(c->batch * c->n_ctx, p->m[i].model->hp.n_embd * sizeof *s->x);
        if (i) s->kl = nib_alloc(c->n_chunks, c->per_chunk * sizeof *s->kl);
        if (!s->x || (i && !s->kl)) return nib_fail_nomem(err, "a batch of the text");
        nib_code rc = nib_graph_new(&s->graph, p->m[i].model, ctx, c->batch, c->n_ctx, false, err);
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

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(const float *sorted, size_t n, double f)
{
    const double at = f * (double)(n - 1);
    const size_t i = (size_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * ((double)sorted[i + 1] - sorted[i]);
}

/* Standard error of the mean of n values whose squares have the mean `square`. */
static double mean_error(double mean, double square, double n)
{
    const double variance = square - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
}

static void summarize(stream *s, size_t n_scored, nib_compare_line *l)
{
    const double n = (double)n_scored;
    *l = (nib_compare_line){.nll = s->nll / n, .same_top = 1};
    l->ppl = exp(l->nll);
    l->ppl_error = l->ppl * mean_error(l->nll, s->nll2 / n, n);
    if (!s->kl) return;
    qsort(s->kl, n_scored, sizeof *s->kl, by_value);
    l->change = s->change / n;
    l->change_error = mean_error(l->change, s->change2 / n, n);
    l->kl = s->kl_sum / n;
    l->kl_error = mean_error(l->kl, s->kl2 / n, n);
    l->kl_max = s->kl[n_scored - 1];
    l->kl_999 = percentile(s->kl, n_scored, 0.999);
    l->kl_99 = percentile(s->kl, n_scored, 0.99);
    l->kl_90 = percentile(s->kl, n_scored, 0.9);
    l->rms_dp = sqrt(s->dp2 / n);
    l->kl_median = percentile(s->kl, n_scored, 0.5);
    l->same_top = (double)s->same / n;
    l->same_top_error = mean_error(l->same_top, l->same_top, n);
}

static void tear_down(run *p)
{
    for (size_t i = 0; i < p->n && p->s; i++) {
        nib_graph_free(p->s[i].graph);
        nib_free(p->s[i].x);
        nib_free(p->s[i].kl);
    }
    nib_free(p->s);
    nib_free(p->logits);
    nib_chunks_free(&p->chunks);
}

nib_code nib_compare_run(nib_compare_result *r, nib_compare_line *line, const nib_compared *m,
                         size_t n, const char *text, size_t n_text, const nib_ppl_opts *opts,
                         const nib_ctx *ctx, nib_err *err)
{
    const double started = nib_now();
    run p = {.m = m, .n = n, .s = nib_calloc(n, sizeof *p.s), .ops = nib_ops_get(ctx->cpu)};
    nib_code rc = p.s ? NIB_OK : nib_fail_nomem(err, "the models' list");
    if (!rc)
        rc = nib_chunks_open(&p.chunks, &m[0].model->hp, m[0].tok, text, n_text, opts, ctx->log,
                             err);
    for (size_t i = 1; i < n && !rc; i++) rc = check_model(&p, &m[i], text, n_text, opts, err);
    if (!rc) rc = set_up(&p, ctx, err);
    if (!rc) rc = run_all(&p, ctx->log, err);
    for (size_t i = 0; i < n && !rc; i++) summarize(&p.s[i], p.scored, &line[i]);
    *r = (nib_compare_result){.protocol = p.chunks.protocol,
                              .n_ctx = p.chunks.n_ctx,
                              .n_tokens = p.chunks.n_tokens,
                              .n_chunks = p.chunks.n_chunks,
                              .n_scored = p.scored,
                              .seconds = nib_now() - started};
    tear_down(&p);
    return rc;
}
