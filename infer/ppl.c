/* SPDX-License-Identifier: MIT */
/* infer/ppl.c - perplexity by named protocols; see ppl.h.
 *
 * A token's loss is -log softmax(logits)[token]: the sum over the vocabulary and every sum over
 * tokens is taken in f64, the latter in order of the text, so that the figure does not depend on
 * threads or on how many chunks go together. */
#include "infer/ppl.h"

#include "infer/ops.h"

#include <math.h>

enum { BATCH_ROWS = 2048 }; /* tokens that go through the model together: decoding is shared */

static const struct {
    const char *name;
    size_t n_ctx;
    size_t min_chunks; /* of text, before there is a result */
    bool bos;          /* BOS in front of text and chunks, where the model adds one */
    bool second_half;  /* score only the second half of a chunk */
    bool drop_newline; /* one at the end of the text */
} protocols[] = {
    [NIB_PPL_LLAMACPP] = {"llama.cpp", 512, 2, true, true, true},
    [NIB_PPL_WINDOW] = {"window", 2048, 1, false, false, false},
};

const char *nib_ppl_protocol_name(nib_ppl_protocol p)
{
    return protocols[p].name;
}

typedef struct {
    nib_ppl_result *r;
    const nib_model *m;
    const nib_token_consumer *consumer;
    const nib_ops *ops;
    nib_ids ids;
    int32_t bos;      /* -1: none is put in                      */
    size_t first;     /* first scored position of a chunk        */
    size_t per_chunk; /* scored positions of a chunk             */
    size_t batch;     /* chunks that go together                 */
    size_t scored;    /* so far                                  */
    int32_t *in;      /* [batch * n_ctx] what the model is given */
    float *x;         /* [batch * n_ctx][n_embd]                 */
    size_t *row;      /* [batch * per_chunk] rows of x           */
    int32_t *target;  /* [batch * per_chunk] their next tokens   */
    double *nll;      /* [batch * per_chunk]                     */
    double sum, sum_squares;
} run;

/* Token list, with BOS in front where the protocol and the model say so. */
static nib_code tokenize(run *p, const nib_tokenizer *tok, const char *text, size_t n, nib_err *err)
{
    const bool bos = protocols[p->r->protocol].bos && nib_tokenizer_adds_bos(tok);
    p->bos = bos ? nib_tokenizer_bos(tok) : -1;
    if (protocols[p->r->protocol].drop_newline && n && text[n - 1] == '\n') n--;
    if (p->bos >= 0) {
        p->ids.id = nib_alloc(1, sizeof *p->ids.id);
        if (!p->ids.id) return nib_fail_nomem(err, "tokens");
        p->ids.id[0] = p->bos;
        p->ids.n = p->ids.cap = 1;
    }
    return nib_tokenizer_encode(tok, text, n, 0, &p->ids, err);
}

static nib_code set_sizes(run *p, const nib_ppl_opts *opts, nib_log *log, nib_err *err)
{
    nib_ppl_result *r = p->r;
    const size_t trained = p->m->hp.n_ctx_train, least = protocols[r->protocol].min_chunks;
    r->n_ctx = opts->n_ctx ? opts->n_ctx : protocols[r->protocol].n_ctx;
    if (!opts->n_ctx && r->n_ctx > trained) r->n_ctx = trained;
    if (r->n_ctx < 4)
        return nib_fail(err, NIB_EINVAL, "a context of %zu is too short to score, at least 4",
                        r->n_ctx);
    if (r->n_ctx > trained)
        nib_warn(log, "context %zu is longer than the %zu the model was made for", r->n_ctx,
                 trained);
    r->n_tokens = p->ids.n;
    r->n_chunks = r->n_tokens / r->n_ctx;
    if (r->n_chunks < least)
        return nib_fail(err, NIB_EINVAL,
                        "the text is %zu tokens long; protocol %s needs at least %zu (%zu x %zu)",
                        r->n_tokens, nib_ppl_protocol_name(r->protocol), least * r->n_ctx, least,
                        r->n_ctx);
    if (opts->max_chunks && r->n_chunks > opts->max_chunks) r->n_chunks = opts->max_chunks;
    p->first = protocols[r->protocol].second_half ? r->n_ctx / 2 : 0;
    p->per_chunk = r->n_ctx - 1 - p->first;
    p->batch = r->n_ctx < BATCH_ROWS ? BATCH_ROWS / r->n_ctx : 1;
    if (p->batch > r->n_chunks) p->batch = r->n_chunks;
    return NIB_OK;
}

static nib_code allocate(run *p, nib_err *err)
{
    const size_t rows = p->batch * p->r->n_ctx, scored = p->batch * p->per_chunk;
    p->in = nib_alloc(rows, sizeof *p->in);
    p->x = nib_alloc(rows, p->m->hp.n_embd * sizeof *p->x);
    p->row = nib_alloc(scored, sizeof *p->row);
    p->target = nib_alloc(scored, sizeof *p->target);
    p->nll = nib_alloc(scored, sizeof *p->nll);
    if (!p->in || !p->x || !p->row || !p->target || !p->nll)
        return nib_fail_nomem(err, "a batch of the text");
    return NIB_OK;
}

static void score(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    run *p = arg;
    const int32_t target = p->target[row];
    const float max = p->ops->max(logits, n_vocab);
    const double total = p->ops->sum_exp(logits, n_vocab, max);
    p->nll[row] = log(total) - ((double)logits[target] - (double)max);
    if (p->consumer)
        p->consumer->token(p->consumer->arg, p->scored + row, target, logits, n_vocab, p->nll[row]);
}

/* Tokens, rows to score and their targets of n chunks from `chunk` on. */
static nib_code fill_batch(run *p, size_t chunk, size_t n, nib_err *err)
{
    const size_t n_ctx = p->r->n_ctx;
    for (size_t c = 0; c < n; c++) {
        const int32_t *ids = p->ids.id + (chunk + c) * n_ctx;
        for (size_t t = 0; t < n_ctx; t++) p->in[c * n_ctx + t] = ids[t];
        if (p->bos >= 0) p->in[c * n_ctx] = p->bos;
        for (size_t i = 0; i < p->per_chunk; i++) {
            const int32_t target = ids[p->first + i + 1];
            if (target < 0 || (uint32_t)target >= p->m->hp.n_vocab)
                return nib_fail(err, NIB_EINVAL,
                                "token %ld is outside the model's vocabulary of %u", (long)target,
                                p->m->hp.n_vocab);
            p->row[c * p->per_chunk + i] = c * n_ctx + p->first + i;
            p->target[c * p->per_chunk + i] = target;
        }
    }
    return NIB_OK;
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
    const size_t n_ctx = p->r->n_ctx, scored = n * p->per_chunk;
    nib_code rc;
    if ((rc = fill_batch(p, chunk, n, err))) return rc;
    if ((rc = nib_graph_embed(g, p->in, n * n_ctx, p->x, err))) return rc;
    for (uint32_t layer = 0; layer < p->m->hp.n_layer; layer++)
        if ((rc = nib_graph_block(g, layer, p->x, n, n_ctx, 0, NULL, err))) return rc;
    if ((rc = nib_graph_logits(g, p->x, p->row, scored, score, p, NULL, err))) return rc;
    return add_losses(p, scored, err);
}

static nib_code run_all(run *p, const nib_ctx *ctx, nib_err *err)
{
    nib_graph *g;
    nib_progress bar;
    nib_code rc = nib_graph_new(&g, p->m, ctx, p->batch, p->r->n_ctx, false, err);
    if (rc) return rc;
    const double total = (double)(p->r->n_chunks * p->r->n_ctx);
    nib_progress_begin(&bar, ctx->log, "perplexity", "tokens", total);
    for (size_t chunk = 0; chunk < p->r->n_chunks && !rc; chunk += p->batch) {
        size_t left = p->r->n_chunks - chunk, n = left < p->batch ? left : p->batch;
        rc = run_batch(p, g, chunk, n, err);
        if (rc) break;
        nib_progress_note(&bar, "perplexity %.4f", exp(p->sum / (double)p->scored));
        nib_progress_at(&bar, (double)((chunk + n) * p->r->n_ctx));
    }
    nib_progress_end(&bar);
    nib_graph_free(g);
    return rc;
}

/* Mean loss, its exponential, and the latter's standard error as if losses were independent. */
static void summarize(run *p)
{
    nib_ppl_result *r = p->r;
    const double n = (double)p->scored;
    r->n_scored = p->scored;
    r->nll = p->sum / n;
    r->ppl = exp(r->nll);
    double variance = p->sum_squares / n - r->nll * r->nll;
    r->error = n > 1 && variance > 0 ? r->ppl * sqrt(variance / (n - 1)) : 0;
}

nib_code nib_ppl_run(nib_ppl_result *r, const nib_model *m, const nib_tokenizer *tok,
                     const char *text, size_t n_text, const nib_ppl_opts *opts,
                     const nib_token_consumer *consumer, const nib_ctx *ctx, nib_err *err)
{
    const double started = nib_now();
    *r = (nib_ppl_result){.protocol = opts->protocol};
    run p = {.r = r, .m = m, .consumer = consumer, .ops = nib_ops_get(ctx->cpu)};
    nib_code rc;
    if ((rc = tokenize(&p, tok, text, n_text, err))) goto done;
    if ((rc = set_sizes(&p, opts, ctx->log, err))) goto done;
    if ((rc = allocate(&p, err))) goto done;
    if ((rc = run_all(&p, ctx, err))) goto done;
    summarize(&p);
    r->seconds = nib_now() - started;
done:
    nib_ids_free(&p.ids);
    nib_free(p.in);
    nib_free(p.x);
    nib_free(p.row);
    nib_free(p.target);
    nib_free(p.nll);
    return rc;
}
