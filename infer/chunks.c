/* SPDX-License-Identifier: MIT */
/* infer/chunks.c - see chunks.h. Tests: tests/infer/test_ppl.c. */
#include "infer/chunks.h"

#include "base/half.h"
#include "base/mem.h"
#include "infer/chat.h"

#include <string.h>

enum { BATCH_ROWS = 2048 }; /* tokens that go through the model together: decoding is shared */

static const struct {
    const char *name;
    size_t n_ctx;
    size_t min_chunks; /* of text, before there is a result */
    bool bos;          /* BOS in front of every chunk too, where the model adds one */
    unsigned flags;    /* how the text is tokenized */
    bool second_half;  /* score only the second half of a chunk */
    bool drop_newline; /* one at the end of the text */
} protocols[] = {
    [NIB_PPL_LLAMACPP] = {"llama.cpp", 512, 2, true, 0, true, true},
    [NIB_PPL_WINDOW] = {"window", 2048, 1, false, NIB_TOK_ADD_SPECIAL | NIB_TOK_PARSE_SPECIAL,
                        false, false},
};

const char *nib_ppl_protocol_name(nib_ppl_protocol p)
{
    return protocols[p].name;
}

void nib_chunks_scored(nib_ppl_protocol p, size_t n_ctx, size_t *first, size_t *n)
{
    *first = protocols[p].second_half ? n_ctx / 2 : 0;
    *n = n_ctx - 1 - *first;
}

/* BOS as it is put in front of every chunk; -1: it is not. */
static int32_t bos_of(nib_ppl_protocol p, const nib_tokenizer *tok)
{
    return tok && protocols[p].bos && nib_tokenizer_adds_bos(tok) ? nib_tokenizer_bos(tok) : -1;
}

/* Token list. The llama.cpp protocol has BOS in front even of a model that adds an EOS, which it
 * leaves out. */
static nib_code tokenize(nib_chunks *c, const nib_tokenizer *tok, const char *text, size_t n,
                         bool chat, nib_err *err)
{
    c->bos = bos_of(c->protocol, tok);
    if (protocols[c->protocol].drop_newline && n && text[n - 1] == '\n') n--;
    if (c->bos >= 0) {
        c->ids.id = nib_alloc(1, sizeof *c->ids.id);
        if (!c->ids.id) return nib_fail_nomem(err, "tokens");
        c->ids.id[0] = c->bos;
        c->ids.n = c->ids.cap = 1;
    }
    if (chat) return nib_chat_encode(tok, text, n, &c->ids, err);
    return nib_tokenizer_encode(tok, text, n, protocols[c->protocol].flags, &c->ids, err);
}

static nib_code set_sizes(nib_chunks *c, const nib_ppl_opts *opts, size_t trained, nib_log *log,
                          nib_err *err)
{
    const size_t least = protocols[c->protocol].min_chunks;
    c->n_ctx = opts->n_ctx ? opts->n_ctx : protocols[c->protocol].n_ctx;
    if (!opts->n_ctx && c->n_ctx > trained) c->n_ctx = trained;
    if (c->n_ctx < NIB_CHUNK_MIN)
        return nib_fail(err, NIB_EINVAL, "a context of %zu is too short to score, at least %d",
                        c->n_ctx, NIB_CHUNK_MIN);
    if (c->n_ctx > trained)
        nib_warn(log, "context %zu is longer than the %zu the model was made for", c->n_ctx,
                 trained);
    c->n_tokens = c->ids.n;
    c->n_chunks = c->n_tokens / c->n_ctx;
    if (c->n_chunks < least)
        return nib_fail(err, NIB_EINVAL,
                        "the text is %zu tokens long; protocol %s needs at least %zu (%zu x %zu)",
                        c->n_tokens, nib_ppl_protocol_name(c->protocol), least * c->n_ctx, least,
                        c->n_ctx);
    if (opts->max_chunks && c->n_chunks > opts->max_chunks) c->n_chunks = opts->max_chunks;
    return NIB_OK;
}

/* What follows from the number of chunks and their length. */
static nib_code allocate(nib_chunks *c, nib_err *err)
{
    nib_chunks_scored(c->protocol, c->n_ctx, &c->first, &c->per_chunk);
    c->batch = c->n_ctx < BATCH_ROWS ? BATCH_ROWS / c->n_ctx : 1;
    if (c->batch > c->n_chunks) c->batch = c->n_chunks;
    const size_t scored = c->batch * c->per_chunk;
    c->in = nib_alloc(c->batch * c->n_ctx, sizeof *c->in);
    c->row = nib_alloc(scored, sizeof *c->row);
    c->target = nib_alloc(scored, sizeof *c->target);
    return c->in && c->row && c->target ? NIB_OK : nib_fail_nomem(err, "a batch of the text");
}

nib_code nib_chunks_open(nib_chunks *c, const nib_hparams *hp, const nib_tokenizer *tok,
                         const char *text, size_t n_text, const nib_ppl_opts *opts, nib_log *log,
                         nib_err *err)
{
    *c = (nib_chunks){.protocol = opts->protocol};
    nib_code rc = tokenize(c, tok, text, n_text, opts->chat, err);
    if (!rc) rc = set_sizes(c, opts, hp->n_ctx_train, log, err);
    if (!rc) rc = allocate(c, err);
    if (rc) nib_chunks_free(c);
    return rc;
}

nib_code nib_chunks_take(nib_chunks *c, nib_ppl_protocol protocol, size_t n_ctx, size_t n_chunks,
                         const int32_t *id, const nib_tokenizer *tok, nib_err *err)
{
    const size_t n = n_chunks * n_ctx;
    *c = (nib_chunks){.protocol = protocol,
                      .n_ctx = n_ctx,
                      .n_tokens = n,
                      .n_chunks = n_chunks,
                      .bos = bos_of(protocol, tok)};
    c->ids = (nib_ids){.id = nib_alloc(n, sizeof *id), .n = n, .cap = n};
    nib_code rc = c->ids.id ? allocate(c, err) : nib_fail_nomem(err, "tokens");
    if (rc)
        nib_chunks_free(c);
    else
        memcpy(c->ids.id, id, n * sizeof *id);
    return rc;
}

void nib_chunks_free(nib_chunks *c)
{
    nib_ids_free(&c->ids);
    nib_free(c->in);
    nib_free(c->row);
    nib_free(c->target);
    *c = (nib_chunks){0};
}

nib_code nib_chunks_fill(nib_chunks *c, size_t first, size_t n, uint32_t n_vocab, nib_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t *ids = c->ids.id + (first + i) * c->n_ctx;
        for (size_t t = 0; t < c->n_ctx; t++) c->in[i * c->n_ctx + t] = ids[t];
        if (c->bos >= 0) c->in[i * c->n_ctx] = c->bos;
        for (size_t k = 0; k < c->per_chunk; k++) {
            const int32_t target = ids[c->first + k + 1];
            if (target < 0 || (uint32_t)target >= n_vocab)
                return nib_fail(err, NIB_EINVAL,
                                "token %ld is outside the model's vocabulary of %u", (long)target,
                                n_vocab);
            c->row[i * c->per_chunk + k] = i * c->n_ctx + c->first + k;
            c->target[i * c->per_chunk + k] = target;
        }
    }
    return NIB_OK;
}

/* As it would be after it was stored in BF16. */
static void round_bf16(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = nib_bf16_to_f32(nib_f32_to_bf16(x[i]));
}

nib_code nib_chunks_run(const nib_chunks *c, nib_graph *g, size_t n, bool bf16, float *x,
                        nib_err *err)
{
    const nib_hparams *hp = &nib_graph_model(g)->hp;
    const size_t values = n * c->n_ctx * hp->n_embd;
    nib_code rc = nib_graph_embed(g, c->in, n * c->n_ctx, x, err);
    for (uint32_t layer = 0; layer < hp->n_layer && !rc; layer++) {
        if (bf16) round_bf16(x, values);
        rc = nib_graph_block(g, layer, x, n, c->n_ctx, 0, NULL, err);
    }
    if (bf16 && !rc) round_bf16(x, values);
    return rc;
}
