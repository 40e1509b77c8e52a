/* SPDX-License-Identifier: MIT */
/* bench/bench_forward.c - speed of the forward pass beside the machine's matrix products.
 *
 *   bench_forward [MODEL [SEQUENCES [CONTEXT]]]
 *
 * Without a model, one in the shape of Qwen3-0.6B (random weights, BF16) is made in a temporary
 * folder and removed. Every run is a batch of whole sequences with the logits of each second half,
 * as perplexity runs it. Useful operations are counted: two per weight and token, and attention up
 * to the diagonal. The peak is BLAS's on large matrices, one product per thread, measured in turns
 * with the pass. On a busy machine compare by processor time, with
 * OMP_WAIT_POLICY=passive so that waiting is not counted. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/start.h"
#include "infer/graph.h"
#include "infer/ops.h"
#include "tests/support/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PEAK = 2048, REPEAT = 3 };

/* Processor seconds of all threads. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Operations per second, and per processor second. */
typedef struct {
    double wall, cpu;
} rate;

static void keep_best(rate *best, double ops, double wall, double cpu)
{
    if (ops / wall > best->wall) best->wall = ops / wall;
    if (ops / cpu > best->cpu) best->cpu = ops / cpu;
}

/* ---- peak ---- */

typedef struct {
    float *a, *b, *c;
} matrices;

static nib_code multiply(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const matrices *m = arg;
    (void)end, (void)thread, (void)err;
    nib_gemm_nt(PEAK, PEAK, PEAK, m->a, PEAK, m->b, PEAK, m->c + begin * PEAK * PEAK, PEAK, 0);
    return NIB_OK;
}

static void measure_peak(rate *best, int threads)
{
    const size_t n = (size_t)PEAK * PEAK;
    matrices m = {nib_alloc(n, 4), nib_alloc(n, 4), nib_alloc(n * (size_t)threads, 4)};
    nib_err err;
    if (m.a && m.b && m.c) {
        gen_fill(m.a, n, 1, 0, 0, 1);
        gen_fill(m.b, n, 2, 0, 0, 1);
        memset(m.c, 0, n * (size_t)threads * 4);
        for (int i = 0; i < REPEAT; i++) {
            double wall = nib_now(), cpu = cpu_seconds();
            if (nib_par_for(threads, (size_t)threads, 1, multiply, &m, &err)) break;
            keep_best(best, 2.0 * PEAK * (double)n * threads, nib_now() - wall,
                      cpu_seconds() - cpu);
        }
    }
    nib_free(m.a);
    nib_free(m.b);
    nib_free(m.c);
}

/* ---- model ---- */

static void remove_model(const char *dir)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = nib_path_join(dir, names[i]);
        if (path) unlink(path);
        nib_free(path);
    }
    rmdir(dir);
}

static nib_code make_model(char *dir, const nib_ctx *ctx, nib_err *err)
{
    if (!mkdtemp(dir)) return nib_fail(err, NIB_EIO, "%s: cannot be made", dir);
    gen_spec spec = {
        .family = gen_family_find("qwen3"),
        .layers = 28,
        .hidden = 1024,
        .ff = 3072,
        .heads = 16,
        .kv_heads = 8,
        .head_dim = 128,
        .vocab = 151936,
        .tied = true,
        .dtype = NIB_BF16,
        .shards = 1,
        .seed = 1,
    };
    nib_code rc = gen_config_write(&spec, dir, err);
    return rc ? rc : gen_weights_write(&spec, dir, ctx, err);
}

/* ---- forward pass ---- */

typedef struct {
    const nib_model *m;
    nib_graph *g;
    size_t n_seq, n_tok, n_rows;
    int32_t *ids;
    float *x;
    size_t *row;
    const nib_ops *ops;
    double *loss; /* [n_rows] */
    rate blocks, logits, all, peak;
} pass;

static void score(void *arg, size_t row, const float *logits, size_t n_vocab)
{
    pass *p = arg;
    p->loss[row] = p->ops->sum_exp(logits, n_vocab, p->ops->max(logits, n_vocab));
}

static double block_ops(const pass *p)
{
    const nib_hparams *hp = &p->m->hp;
    const double q = (double)hp->n_head * hp->head_dim, kv = (double)hp->n_head_kv * hp->head_dim;
    const double rows = (double)(p->n_seq * p->n_tok);
    const double weights = 2 * hp->n_embd * q + 2 * hp->n_embd * kv + 3.0 * hp->n_embd * hp->n_ff;
    const double attention = 2 * q * rows * ((double)p->n_tok + 1) / 2;
    return 2 * hp->n_layer * (weights * rows + attention);
}

static double logits_ops(const pass *p)
{
    return 2.0 * p->m->hp.n_embd * p->m->hp.n_vocab * (double)p->n_rows;
}

static nib_code forward(pass *p, nib_err *err)
{
    nib_code rc;
    double wall0 = nib_now(), cpu0 = cpu_seconds();
    if ((rc = nib_graph_embed(p->g, p->ids, p->n_seq * p->n_tok, p->x, err))) return rc;
    double wall1 = nib_now(), cpu1 = cpu_seconds();
    for (uint32_t i = 0; i < p->m->hp.n_layer; i++)
        if ((rc = nib_graph_block(p->g, i, p->x, p->n_seq, p->n_tok, 0, NULL, err))) return rc;
    double wall2 = nib_now(), cpu2 = cpu_seconds();
    if ((rc = nib_graph_logits(p->g, p->x, p->row, p->n_rows, score, p, NULL, err))) return rc;
    double wall3 = nib_now(), cpu3 = cpu_seconds();
    keep_best(&p->blocks, block_ops(p), wall2 - wall1, cpu2 - cpu1);
    keep_best(&p->logits, logits_ops(p), wall3 - wall2, cpu3 - cpu2);
    keep_best(&p->all, block_ops(p) + logits_ops(p), wall3 - wall0, cpu3 - cpu0);
    return NIB_OK;
}

static void print_line(const char *name, rate r, rate peak)
{
    printf("  %-8s %7.1f GFLOP/s, %3.0f %% of the peak; by processor time %3.0f %%\n", name,
           r.wall / 1e9, 100 * r.wall / peak.wall, 100 * r.cpu / peak.cpu);
}

static void print(const pass *p, const nib_ctx *ctx)
{
    const double ops = block_ops(p) + logits_ops(p);
    printf("%s, %d threads, BLAS kernel %s: sgemm peak %.1f GFLOP/s, %.1f per processor second\n",
           nib_cpu_name(ctx->cpu), ctx->threads, nib_linalg_kernel(), p->peak.wall / 1e9,
           p->peak.cpu / 1e9);
    printf("%zu sequences of %zu tokens, %zu rows of logits: %.0f tokens/s\n", p->n_seq, p->n_tok,
           p->n_rows, (double)(p->n_seq * p->n_tok) / (ops / p->all.wall));
    print_line("blocks", p->blocks, p->peak);
    print_line("logits", p->logits, p->peak);
    print_line("all", p->all, p->peak);
    printf("  peak memory %.0f MiB\n", (double)nib_mem_peak() / (1 << 20));
}

static nib_code run(const nib_model *m, size_t n_seq, size_t n_tok, const nib_ctx *ctx,
                    nib_err *err)
{
    const size_t rows = n_seq * n_tok, half = n_tok / 2;
    pass p = {.m = m, .n_seq = n_seq, .n_tok = n_tok, .n_rows = n_seq * half};
    nib_code rc = NIB_OK;
    p.ops = nib_ops_get(ctx->cpu);
    p.ids = nib_alloc(rows, sizeof *p.ids);
    p.x = nib_alloc(rows, m->hp.n_embd * sizeof *p.x);
    p.row = nib_alloc(p.n_rows, sizeof *p.row);
    p.loss = nib_alloc(p.n_rows, sizeof *p.loss);
    if (!p.ids || !p.x || !p.row || !p.loss) {
        rc = nib_fail_nomem(err, "batch");
        goto done;
    }
    for (size_t i = 0; i < rows; i++) p.ids[i] = (int32_t)(i * 7919 % m->hp.n_vocab);
    for (size_t i = 0; i < p.n_rows; i++) p.row[i] = i / half * n_tok + half + i % half;
    if ((rc = nib_graph_new(&p.g, m, ctx, n_seq, n_tok, false, err))) goto done;
    for (int i = 0; i < REPEAT; i++) {
        measure_peak(&p.peak, ctx->threads);
        if ((rc = forward(&p, err))) goto done;
    }
    print(&p, ctx);
done:
    nib_graph_free(p.g);
    nib_free(p.ids);
    nib_free(p.x);
    nib_free(p.row);
    nib_free(p.loss);
    return rc;
}

int main(int argc, char **argv)
{
    nib_start(argv, false);
    nib_ctx ctx = {.threads = nib_par_cores(), .cpu = nib_cpu_detect()};
    nib_source *src = NULL;
    nib_model m = {0};
    nib_err err = {0};
    nib_code rc = NIB_OK;
    char made[] = "/tmp/bench-forward-XXXXXX";
    const char *path = argc > 1 ? argv[1] : made;
    const size_t n_seq = argc > 2 ? strtoul(argv[2], NULL, 10) : 4;
    const size_t n_tok = argc > 3 ? strtoul(argv[3], NULL, 10) : 512;

    nib_linalg_init();
    if (path == made) rc = make_model(made, &ctx, &err);
    if (!rc) rc = nib_source_open(&src, path, &err);
    if (!rc) rc = nib_model_open(&m, src, &err);
    if (!rc) rc = run(&m, n_seq, n_tok, &ctx, &err);
    nib_model_close(&m);
    nib_source_close(src);
    if (path == made) remove_model(made);
    if (rc) fprintf(stderr, "bench_forward: %s\n", err.msg);
    return rc ? 1 : 0;
}
