/* SPDX-License-Identifier: MIT */
/* infer/ppl.c - perplexity by named protocols; see ppl.h.
 *
 * A token's loss is -log softmax(logits)[token]: the sum over the vocabulary and every sum over
 * tokens is taken in f64, the latter in order of the text, so that the figure does not depend on
 * threads or on how many chunks go together. */
#include "infer/ppl.h"

#include "infer/loss.h"

#include <math.h>

typedef struct {
    const nib_token_consumer *consumer;
    const nib_ops *ops;
    nib_chunks chunks;
    size_t scored; /* so far                      */
    float *x;      /* [batch * n_ctx][n_embd]     */
    double *nll;   /* [batch * chunks.per_chunk]  */
    double sum, sum_squares;
} run;

static void score(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    run *p = arg;
    const int32_t target = p->chunks.target[row];
    p->nll[row] = nib_loss_token(p->ops, logits, n_vocab, target);
    if (p->consumer)
        p->consumer->token(p->consumer->arg, p->scored + row, target, logits, n_vocab, p->nll[row]);
}

static nib_code add_losses(run *p, size_t n, nib_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(p->nll[i]))
            return nib_fail(err, NIB_ENUMERIC,
                            "the loss of scored token %zu is %g: the model's output is not finite",
                            p->scored + i, p->nll[i]);
        p->sum += p->nll[i];
        p->sum_squares += p->nll[i] * p->nll[i];
    }
    p->scored += n;
    return NIB_OK;
}

static nib_code run_batch(run *p, nib_graph *g, size_t chunk, size_t n, nib_err *err)
{
    const size_t scored = n * p->chunks.per_chunk;
    nib_code rc = nib_chunks_fill(&p->chunks, chunk, n, nib_graph_model(g)->hp.n_vocab, err);
    if (!rc) rc = nib_chunks_run(&p->chunks, g, n, false, p->x, err);
    if (!rc) rc = nib_graph_logits(g, p->x, p->chunks.row, scored, score, p, NULL, err);
    return rc ? rc : add_losses(p, scored, err);
}

static nib_code run_all(run *p, const nib_model *m, const nib_kv_choice *kv, const nib_ctx *ctx,
                        nib_err *err)
{
    const nib_chunks *c = &p->chunks;
    nib_graph *g;
    nib_progress bar;
    p->x = nib_alloc(c->batch * c->n_ctx, m->hp.n_embd * sizeof *p->x);
    p->nll = nib_alloc(c->batch * c->per_chunk, sizeof *p->nll);
    if (!p->x || !p->nll) return nib_fail_nomem(err, "a batch of the text");
    nib_code rc = nib_graph_new(&g, m, ctx, c->batch, c->n_ctx, false, err);
    if (!rc && nib_kv_has_format(kv)) rc = nib_graph_keep(g, kv, err);
    if (rc) {
        nib_graph_free(g);
        return rc;
    }
    nib_progress_begin(&bar, ctx->log, "perplexity", "tokens", (double)(c->n_chunks * c->n_ctx));
    for (size_t chunk = 0; chunk < c->n_chunks && !rc; chunk += c->batch) {
        size_t left = c->n_chunks - chunk, n = left < c->batch ? left : c->batch;
        rc = run_batch(p, g, chunk, n, err);
        if (rc) break;
        nib_progress_note(&bar, "perplexity %.4f", exp(p->sum / (double)p->scored));
        nib_progress_at(&bar, (double)((chunk + n) * c->n_ctx));
    }
    nib_progress_end(&bar);
    nib_graph_free(g);
    return rc;
}

/* Mean loss, its exponential, and the latter's standard error as if losses were independent. */
static void summarize(const run *p, nib_ppl_result *r)
{
    const nib_chunks *c = &p->chunks;
    const double n = (double)p->scored, mean = p->sum / n,
                 variance = p->sum_squares / n - mean * mean;
    *r = (nib_ppl_result){.protocol = c->protocol,
                          .n_ctx = c->n_ctx,
                          .n_tokens = c->n_tokens,
                          .n_chunks = c->n_chunks,
                          .n_scored = p->scored,
                          .nll = mean,
                          .ppl = exp(mean)};
    r->error = n > 1 && variance > 0 ? r->ppl * sqrt(variance / (n - 1)) : 0;
}

nib_code nib_ppl_run(nib_ppl_result *r, const nib_model *m, const nib_tokenizer *tok,
                     const char *text, size_t n_text, const nib_ppl_opts *opts,
                     const nib_token_consumer *consumer, const nib_ctx *ctx, nib_err *err)
{
    const double started = nib_now();
    *r = (nib_ppl_result){.protocol = opts->protocol};
    run p = {.consumer = consumer, .ops = nib_ops_get(ctx->cpu)};
    nib_code rc = nib_chunks_open(&p.chunks, &m->hp, tok, text, n_text, opts, ctx->log, err);
    if (!rc) rc = run_all(&p, m, &opts->kv, ctx, err);
    if (!rc) {
        summarize(&p, r);
        r->activations = nib_model_activations(m);
        r->seconds = nib_now() - started;
    }
    nib_chunks_free(&p.chunks);
    nib_free(p.x);
    nib_free(p.nll);
    return rc;
}
