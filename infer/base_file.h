/* SPDX-License-Identifier: MIT */
/* infer/base_file.h - what a model predicts over a text, kept on disk, for others to be compared
 * with it without running it again.
 *
 * Two forms, told apart by their first 8 bytes. Numbers are little-endian.
 *
 * "_logits_", llama.cpp's (--kl-divergence-base): i32 n_ctx, n_vocab, n_chunk; i32 tokens
 * [n_chunk][n_ctx], before BOS is put in; for each scored position of protocol llama.cpp u16 words:
 * f32 scale, f32 least, n_vocab codes, one more if n_vocab is odd. log p = scale * code + least;
 * what is less likely than the likeliest token by e^16 or more has code 0. 2 bytes for each
 * token of the vocabulary.
 *
 * "nibbleKL", the likeliest tokens: u32 version 1, protocol, n_ctx, n_vocab, n_chunks, top; i32
 * tokens as above; for each scored position f32 log-probability of the next token, f32 probability
 * of all tokens together that are not listed, u32 token [top] from the likeliest on, f32
 * log-probability [top]. */
#ifndef NIB_INFER_BASE_FILE_H
#define NIB_INFER_BASE_FILE_H

#include "base/file.h"
#include "base/mem.h"
#include "infer/chunks.h"
#include "infer/loss.h"

enum { NIB_BASE_TOP_MAX = 4096 };

typedef struct {
    nib_file file;
    nib_ppl_protocol protocol;
    size_t n_ctx, n_vocab, n_chunks;
    size_t per_chunk; /* scored positions of a chunk */
    size_t top;       /* tokens of a record; 0: all, llama.cpp's form */
    int32_t *id;      /* [n_chunks * n_ctx], below n_vocab; owned */
    uint64_t records; /* where they begin */
    size_t record;    /* bytes of one */
} nib_base_file;

/* Is there a file that begins as one of them does? */
bool nib_base_file_is(const char *path);
/* Size and tokens are checked; records when they are read. On failure *f is closed. */
NIB_MUST_USE nib_code nib_base_file_open(nib_base_file *f, const char *path, nib_err *err);
void nib_base_file_close(nib_base_file *f); /* accepts {0} */

/* Values of a record, as the room below counts them. */
size_t nib_base_file_width(const nib_base_file *f);
/* The n predictions from scored position `first` of the file on. They point into logit[n][width]
 * and id[n][width], the caller's; id is not used where all tokens are there. target[n]: the next
 * tokens. `raw` is reused work memory. */
NIB_MUST_USE nib_code nib_base_file_read(const nib_base_file *f, size_t first, size_t n,
                                         const int32_t *target, float *logit, int32_t *id,
                                         nib_prediction *p, nib_buf *raw, nib_err *err);

/* A file being written; it appears when it is whole. Start with {0}. */
typedef struct {
    nib_out *out; /* NULL: none is written */
    size_t top, n_vocab;
    nib_buf record, order;
} nib_base_writer;

/* top: tokens of a record, at most NIB_BASE_TOP_MAX; 0: all, llama.cpp's form. NIB_EIO when the
 * file exists and !force. */
NIB_MUST_USE nib_code nib_base_writer_open(nib_base_writer *w, const char *path, bool force,
                                           size_t top, nib_err *err);
/* What stands in front of the records. NIB_EINVAL where the form does not hold the protocol, or
 * top is more than the vocabulary. */
NIB_MUST_USE nib_code nib_base_writer_begin(nib_base_writer *w, const nib_chunks *c, size_t n_vocab,
                                            nib_err *err);
/* The record of the next scored position. */
NIB_MUST_USE nib_code nib_base_writer_add(nib_base_writer *w, const nib_ops *ops,
                                          const float *logits, int32_t target, nib_err *err);
/* Whole and in its place; frees. */
NIB_MUST_USE nib_code nib_base_writer_commit(nib_base_writer *w, nib_err *err);
/* Leave no file; accepts {0}, and what was committed. */
void nib_base_writer_abort(nib_base_writer *w);

#endif
