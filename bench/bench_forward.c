/* SPDX-License-Identifier: MIT */
/* bench/bench_forward.c - the forward pass against the matrix product it is made of.
 *
 *   bench_forward [MODEL]
 *
 * Without MODEL, a random one of four blocks in the shape of Qwen3-0.6B is made and removed again.
 * Counted are the multiplications of the linear layers and of causal attention; the peak is
 * OpenBLAS's on a product of 1024 x 1024 x 1024 in each thread, measured in turns with the pass. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/par.h"
#include "infer/graph.h"
#include "tests/support/gen.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEQ = 4, CTX = 512, ROWS = SEQ * CTX, GEMM = 1024, REPEAT = 5 };

typedef struct {
    nib_source *src;
    nib_model model;
    nib_graph *graph;
    float *x;
    int32_t *ids;
    size_t *rows;
    float *a, *b, *c; /* matrices of the peak, one set per thread */
    nib_ctx ctx;
} bench;

static double best(double a, double b)
{
    return a < b ? a : b;
}

static nib_code multiply(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    bench *w = arg;
    for (size_t i = begin; i < end; i++) {
        size_t at = i * GEMM * GEMM;
        nib_gemm_nt(GEMM, GEMM, GEMM, w->a + at, GEMM, w->b + at, GEMM, w->c + at, GEMM, 0);
    }
    return NIB_OK;
}

static void drop_logits(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    (void)arg, (void)row, (void)logits, (void)n_vocab;
}

/* Seconds of the blocks and of the logits of one batch. */
static nib_code forward(bench *w, double *blocks, double *logits, nib_err *err)
{
    double t0 = nib_now();
    nib_code rc = nib_graph_embed(w->graph, w->ids, ROWS, w->x, err);
    for (uint32_t l = 0; !rc && l < w->model.hp.n_layer; l++)
        rc = nib_graph_block(w->graph, l, w->x, SEQ, CTX, 0, NULL, err);
    double t1 = nib_now();
    if (!rc) rc = nib_graph_logits(w->graph, w->x, w->rows, ROWS, drop_logits, NULL, NULL, err);
    *blocks = t1 - t0;
    *logits = nib_now() - t1;
    return rc;
}

/* Floating-point operations of a batch: two per weight and row, and per pair of positions that see
 * each other two products of head_dim for every query head. */
static double block_flop(const nib_hparams *h)
{
    double q = (double)h->n_head * h->head_dim, kv = (double)h->n_head_kv * h->head_dim;
    double weights = h->n_embd * (2 * q + 2 * kv + 3.0 * h->n_ff);
    double pairs = (double)SEQ * CTX * (CTX + 1) / 2;
    return h->n_layer * (2 * weights * ROWS + 4 * q * pairs);
}

static nib_code measure(bench *w, nib_err *err)
{
    double peak = 1e9, blocks = 1e9, logits = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        double t = nib_now(), b, l;
        nib_code rc = nib_par_for(w->ctx.threads, (size_t)w->ctx.threads, 1, multiply, w, err);
        peak = best(peak, nib_now() - t);
        if (!rc) rc = forward(w, &b, &l, err);
        if (rc) return rc;
        blocks = best(blocks, b);
        logits = best(logits, l);
    }
    const nib_hparams *h = &w->model.hp;
    double limit = 2.0 * GEMM * GEMM * GEMM * w->ctx.threads / peak;
    double block_rate = block_flop(h) / blocks;
    double logit_rate = 2.0 * h->n_embd * h->n_vocab * ROWS / logits;
    printf("batch        %d sequences of %d tokens, %u blocks, %d threads\n", SEQ, CTX, h->n_layer,
           w->ctx.threads);
    printf("forward      %.0f tokens/s\n", ROWS / (blocks + logits));
    printf("sgemm peak   %.0f GFLOP/s\n", limit / 1e9);
    printf("blocks       %.0f GFLOP/s, %.0f %% of the peak\n", block_rate / 1e9,
           100 * block_rate / limit);
    printf("logits       %.0f GFLOP/s, %.0f %% of the peak\n", logit_rate / 1e9,
           100 * logit_rate / limit);
    printf("memory       %.0f MB at most\n", (double)nib_mem_peak() / 1e6);
    return NIB_OK;
}

static nib_code open_model(bench *w, const char *path, nib_err *err)
{
    nib_code rc = nib_source_open(&w->src, path, err);
    if (!rc) rc = nib_model_open(&w->model, w->src, err);
    if (!rc) rc = nib_graph_new(&w->graph, &w->model, &w->ctx, SEQ, CTX, false, err);
    if (rc) return rc;
    size_t n = (size_t)w->ctx.threads * GEMM * GEMM;
    w->x = nib_alloc((size_t)ROWS * w->model.hp.n_embd, sizeof *w->x);
    w->ids = nib_alloc(ROWS, sizeof *w->ids);
    w->rows = nib_alloc(ROWS, sizeof *w->rows);
    w->a = nib_calloc(n, sizeof *w->a);
    w->b = nib_calloc(n, sizeof *w->b);
    w->c = nib_calloc(n, sizeof *w->c);
    if (!w->x || !w->ids || !w->rows || !w->a || !w->b || !w->c)
        return nib_fail_nomem(err, "the benchmark");
    gen_fill(w->a, n, 1, 0, 0, 1);
    gen_fill(w->b, n, 2, 0, 0, 1);
    for (size_t i = 0; i < ROWS; i++) {
        w->rows[i] = i;
        w->ids[i] = (int32_t)(i * 7919 % w->model.hp.n_vocab);
    }
    return NIB_OK;
}

static nib_code run(const char *path, nib_err *err)
{
    bench w = {.ctx = {.threads = nib_par_cores(), .cpu = nib_cpu_detect()}};
    nib_code rc = open_model(&w, path, err);
    if (!rc) rc = measure(&w, err);
    nib_graph_free(w.graph);
    nib_model_close(&w.model);
    nib_source_close(w.src);
    nib_free(w.x);
    nib_free(w.ids);
    nib_free(w.rows);
    nib_free(w.a);
    nib_free(w.b);
    nib_free(w.c);
    return rc;
}

static nib_code run_random(nib_err *err)
{
    const gen_spec spec = {.family = gen_family_find("qwen3"),
                           .layers = 4,
                           .hidden = 1024,
                           .ff = 3072,
                           .heads = 16,
                           .kv_heads = 8,
                           .head_dim = 128,
                           .vocab = 16384,
                           .tied = true,
                           .dtype = NIB_BF16,
                           .shards = 1,
                           .seed = 1,
                           .tokenizer = NIB_TINY};
    const nib_ctx ctx = {.threads = nib_par_cores()};
    char dir[] = "/tmp/nibble-bench-XXXXXX", remove[64];
    if (!mkdtemp(dir)) return nib_fail(err, NIB_EIO, "no temporary folder");
    nib_code rc = gen_model(&spec, dir, &ctx, err);
    if (!rc) rc = run(dir, err);
    snprintf(remove, sizeof remove, "rm -r '%s'", dir);
    if (system(remove) && !rc) rc = nib_fail(err, NIB_EIO, "%s is left over", dir);
    return rc;
}

int main(int argc, char **argv)
{
    nib_err err = {0};
    nib_linalg_init();
    if (argc > 1 ? run(argv[1], &err) : run_random(&err)) {
        fprintf(stderr, "bench_forward: %s\n", err.msg);
        return 1;
    }
    return 0;
}
