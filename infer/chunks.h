/* SPDX-License-Identifier: MIT */
/* infer/chunks.h - a text cut into the chunks of a named protocol, and the positions that count.
 *
 * llama.cpp: the whole text is tokenized (BOS in front if the model adds one); chunks of n_ctx
 * (512); each chunk's first token is replaced by BOS if the model adds one; positions n_ctx/2 ..
 * n_ctx-2 predict their next token; the rest of the text is dropped. window: the whole text is
 * tokenized as a tokenizer's user has it (special tokens added at its ends, and those that the text
 * spells are taken as such) and cut into windows of n_ctx (2048), every position but the last
 * scored. What the scripts behind papers' tables do, GPTQ's first (datautils.py, opt.py). */
#ifndef NIB_INFER_CHUNKS_H
#define NIB_INFER_CHUNKS_H

#include "infer/graph.h"
#include "infer/tokenizer.h"

typedef enum { NIB_PPL_LLAMACPP, NIB_PPL_WINDOW } nib_ppl_protocol;

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx; /* 0 = the protocol's default: 512 or 2048 (or the model's context if shorter) */
    size_t max_chunks; /* 0 = all */
    nib_kv_choice kv;  /* how keys and values are kept; the base of a comparison has them in f32 */
    bool chat;         /* the text is chats as infer/chat.h has them: special tokens are spelled */
} nib_ppl_opts;

enum { NIB_CHUNK_MIN = 4 }; /* tokens of the shortest chunk */

const char *nib_ppl_protocol_name(nib_ppl_protocol p); /* "llama.cpp", "window" */

/* Positions of a chunk of n_ctx tokens that are scored: from *first on, *n of them. */
void nib_chunks_scored(nib_ppl_protocol p, size_t n_ctx, size_t *first, size_t *n);

typedef struct {
    nib_ppl_protocol protocol;
    size_t n_ctx, n_tokens, n_chunks;
    size_t first, per_chunk; /* scored positions of a chunk: from, how many */
    size_t batch;            /* chunks that go through a model together     */
    nib_ids ids;             /* the text                                    */
    int32_t bos;             /* -1: none is put in                          */

    /* The chunks of one batch, from nib_chunks_fill(). */
    int32_t *in;     /* [batch * n_ctx] what the model is given      */
    size_t *row;     /* [batch * per_chunk] scored rows of the batch */
    int32_t *target; /* [batch * per_chunk] their next tokens        */
} nib_chunks;

/* Text shorter than one window (llama.cpp: two chunks) is an error that says how long it is and
 * should be. On failure *c is empty. */
NIB_MUST_USE nib_code nib_chunks_open(nib_chunks *c, const nib_hparams *hp,
                                      const nib_tokenizer *tok, const char *text, size_t n_text,
                                      const nib_ppl_opts *opts, nib_log *log, nib_err *err);
/* Chunks of a text that is tokens already, id[n_chunks * n_ctx], as the protocol would have cut it.
 * BOS is put in as tok's model has it; tok NULL: nowhere. On failure *c is empty. */
NIB_MUST_USE nib_code nib_chunks_take(nib_chunks *c, nib_ppl_protocol protocol, size_t n_ctx,
                                      size_t n_chunks, const int32_t *id, const nib_tokenizer *tok,
                                      nib_err *err);
void nib_chunks_free(nib_chunks *c);

/* Make ready chunks [first, first + n), n at most the batch. A token beyond n_vocab is an error. */
NIB_MUST_USE nib_code nib_chunks_fill(nib_chunks *c, size_t first, size_t n, uint32_t n_vocab,
                                      nib_err *err);
/* Run the n chunks that are ready through all blocks of the graph's model: x[n * n_ctx][n_embd].
 * bf16: x is rounded to BF16 after the embedding and after every block. */
NIB_MUST_USE nib_code nib_chunks_run(const nib_chunks *c, nib_graph *g, size_t n, bool bf16,
                                     float *x, nib_err *err);

#endif
