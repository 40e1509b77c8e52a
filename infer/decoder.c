/* SPDX-License-Identifier: MIT */
/* infer/decoder.c - see decoder.h. Tests: tests/run/test_arch_decode.c. */
#include "infer/decoder.h"

#include "infer/kv_cache.h"

#include <assert.h>
#include <string.h>

enum { BATCH = 512 }; /* tokens of a prompt that go together */

struct nib_decoder {
    nib_graph *g;
    const nib_model *m;
    const nib_ops *ops;
    size_t n_ctx, n;
    float *x;      /* [batch][n_embd]          */
    float *logits; /* [NIB_FEW_ROWS][n_vocab]  */
};

/* The cache comes first: what it leaves is for weights, which can also be read each time. */
static nib_code take_cache(const nib_decoder *d, uint64_t *memory, nib_err *err)
{
    const uint64_t cache = nib_graph_cache_bytes(d->g);
    if (!memory) return NIB_OK;
    if (cache > *memory)
        return nib_fail(err, NIB_EINVAL,
                        "keys and values of %zu tokens take %.1f MB, and there are %.1f MB of "
                        "memory for them: fewer tokens or a format of fewer bits take less",
                        d->n_ctx, (double)cache / 1e6, (double)*memory / 1e6);
    *memory -= cache;
    return NIB_OK;
}

nib_code nib_decoder_new(nib_decoder **out, const nib_model *m, const nib_ctx *ctx, size_t n_seq,
                         size_t n_ctx, const nib_kv_choice *kv, uint64_t *memory, nib_err *err)
{
    const size_t batch = n_ctx < BATCH ? n_ctx : BATCH;
    *out = NULL;
    nib_decoder *d = nib_calloc(1, sizeof *d);
    if (!d) return nib_fail_nomem(err, "a decoder");
    d->m = m;
    d->ops = nib_ops_get(ctx->cpu);
    d->n_ctx = n_ctx;
    d->x = nib_alloc(batch < NIB_FEW_ROWS ? NIB_FEW_ROWS : batch, m->hp.n_embd * sizeof *d->x);
    d->logits = nib_alloc(NIB_FEW_ROWS, m->hp.n_vocab * sizeof *d->logits);
    nib_code rc = d->x && d->logits ? NIB_OK : nib_fail_nomem(err, "a batch of tokens");
    if (!rc) rc = nib_graph_new(&d->g, m, ctx, n_seq, n_ctx, false, err);
    if (!rc) rc = nib_graph_keep(d->g, kv, err);
    if (!rc) rc = take_cache(d, memory, err);
    if (rc) {
        nib_decoder_free(d);
        return rc;
    }
    nib_graph_few(d->g, memory);
    *out = d;
    return NIB_OK;
}

void nib_decoder_free(nib_decoder *d)
{
    if (!d) return;
    nib_graph_free(d->g);
    nib_free(d->x);
    nib_free(d->logits);
    nib_free(d);
}

const nib_model *nib_decoder_model(const nib_decoder *d)
{
    return d->m;
}

nib_graph *nib_decoder_graph(nib_decoder *d)
{
    return d->g;
}

const nib_ops *nib_decoder_ops(const nib_decoder *d)
{
    return d->ops;
}

size_t nib_decoder_length(const nib_decoder *d)
{
    return d->n;
}

void nib_decoder_set_length(nib_decoder *d, size_t n)
{
    _Static_assert((int)NIB_KV_BACK >= (int)NIB_FEW_ROWS, "what the cache can take back");
    d->n = n;
}

static void keep(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    memcpy((float *)arg + row * n_vocab, logits, n_vocab * sizeof *logits);
}

/* One batch. */
static nib_code step(nib_decoder *d, const int32_t *id, size_t n_seq, size_t n_tok, size_t wanted,
                     nib_err *err)
{
    size_t row[NIB_FEW_ROWS];
    nib_code rc = nib_graph_embed(d->g, id, n_seq * n_tok, d->x, err);
    for (uint32_t l = 0; l < d->m->hp.n_layer && !rc; l++)
        rc = nib_graph_block(d->g, l, d->x, n_seq, n_tok, d->n, NULL, err);
    if (rc) return rc;
    d->n += n_tok;
    if (!wanted) return NIB_OK;
    for (size_t i = 0; i < n_seq * wanted; i++)
        row[i] = i / wanted * n_tok + n_tok - wanted + i % wanted;
    return nib_graph_logits(d->g, d->x, row, n_seq * wanted, keep, d->logits, NULL, err);
}

nib_code nib_decoder_feed(nib_decoder *d, const int32_t *id, size_t n_seq, size_t n_tok,
                          size_t wanted, const float **logits, nib_err *err)
{
    assert(n_tok && n_tok <= d->n_ctx - d->n && wanted <= n_tok);
    assert(n_seq * wanted <= NIB_FEW_ROWS && (n_seq == 1 || n_seq * n_tok <= NIB_FEW_ROWS));
    nib_code rc = NIB_OK;
    for (size_t at = 0, now; at < n_tok && !rc; at += now) {
        now = n_tok - at < BATCH ? n_tok - at : BATCH;
        if (at + now < n_tok && at + now > n_tok - wanted) now = n_tok - wanted - at;
        rc = step(d, id + at, n_seq, now, at + now == n_tok ? wanted : 0, err);
    }
    *logits = wanted ? d->logits : NULL;
    return rc;
}

nib_code nib_decoder_prompt(nib_decoder *d, const int32_t *id, size_t n, const float **logits,
                            nib_err *err)
{
    const size_t before = n - 1 - d->n;
    assert(d->n < n);
    nib_code rc = NIB_OK;
    if (before) rc = nib_decoder_feed(d, id + d->n, 1, before, 0, logits, err);
    return rc ? rc : nib_decoder_feed(d, id + n - 1, 1, 1, 1, logits, err);
}
