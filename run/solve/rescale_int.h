/* SPDX-License-Identifier: MIT */
/* run/solve/rescale_int.h - what the files rescale*.c share: rescale.c carries a scaling out, with
 * scales that rescale_choose.c chooses. */
#ifndef NIB_RUN_SOLVE_RESCALE_INT_H
#define NIB_RUN_SOLVE_RESCALE_INT_H

#include "run/solve/rescale.h"

struct nib_rescaler {
    const nib_plan *p;
    nib_rescale_opts opts;
    nib_runner *runner;
    const nib_ctx *ctx;
    nib_rescale_memo *memo; /* NULL: none */
    size_t n_seq;           /* windows that errors are measured on: a batch at most        */
    nib_buf block_in;       /* [n_seq * n_ctx][n_embd] what goes into the block            */
    nib_buf block_out;      /* [n_ctx][n_embd] what the first of them becomes              */
    nib_buf x, scaled_x;    /* [n_seq * n_ctx][cols] input of the linears, and divided     */
    nib_buf y;              /* [n_seq * n_ctx][n_embd] output that is aimed at             */
    nib_buf vectors;        /* those of a nib_rescale_job                                  */
    nib_buf trial[NIB_READERS_MAX]; /* weights on trial                               */
};

/* One scaling of a block at work. */
typedef struct {
    nib_rescaler *r;
    nib_layer_weights *b;
    const nib_input *sc;
    nib_hessian *in;
    size_t cols, rows; /* channels of the input; rows of x                                 */
    size_t width;      /* channels of the producer: cols, but for attn_v with shared heads */
    float *s;          /* [cols] scales, as the readers see them                           */
    float *sp;         /* [width] the same as the producer sees them                       */
    float *x_size;     /* [cols] sizes of the input's channels                             */
    float *w_size;     /* [cols] sizes of the readers' columns                             */
    float *imp;        /* [cols] importances on trial                                      */
    nib_act_quant act; /* how the readers' input is rounded on trial                       */
} nib_rescale_job;

/* Scales for the readers into k->s, by the recipe's transform; channels of the input that are one
 * of the producer's get the same. The line says what was chosen. */
NIB_MUST_USE nib_code nib_rescale_choose(nib_rescale_job *k, nib_rescale_line *line, nib_err *err);

/* The producer's channel that is channel j of the input. */
size_t nib_rescale_producer_channel(const nib_rescale_job *k, size_t j);
/* to[rows][cols] = from times, or divided by, s[cols]; to may be from. */
NIB_MUST_USE nib_code nib_rescale_columns(const nib_rescale_job *k, float *to, const float *from,
                                          const float *s, size_t rows, bool divide, nib_err *err);
/* Run the first n of the windows through the block as it now is; the result is in runner->now. */
NIB_MUST_USE nib_code nib_rescale_run(nib_rescaler *r, const nib_layer_weights *b, size_t n,
                                      const nib_observer *obs, nib_err *err);
/* Sum of the squared differences. */
double nib_rescale_difference(const float *a, const float *b, size_t n);

#endif
