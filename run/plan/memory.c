/* SPDX-License-Identifier: MIT */
/* run/plan/memory.c - what solving a plan will keep in memory and on the disk, from the model's
 * shapes alone.
 *
 * Roles that are not solved are counted as if they were. tests/e2e/memory.sh holds the sum against
 * what runs really take. */
#include "run/plan/memory.h"

#include "calib/block_pass.h"

/* A piece fits a core's cache as f32. A batch is large enough that starting threads and uneven
 * pieces cost nothing, and small enough to be written before the next one is encoded. */
enum { PIECE_WEIGHTS = 1 << 18, BATCH_BYTES = 16 << 20 };

enum {
    BLAS_BYTES = 16 << 20,   /* each thread's copies of parts of a product, about   */
    SLAB_WEIGHTS = 8 << 20,  /* decoded at a time where the source's weights serve  */
    PER_SOLVER_ELEMENT = 12, /* moments in f32 and their factor in f64              */
    PER_WEIGHT = 7,          /* of one matrix: as stored, codes, parameters, packed */
};

/* Rows of a piece: whole heads where rows change places, and of one matrix alone. */
uint64_t nib_piece_rows(const nib_plan_tensor *t)
{
    const uint64_t each = t->rows / nib_plan_matrices(t);
    uint64_t rows = PIECE_WEIGHTS / t->cols, head = t->rope_head;
    if (rows > each) rows = each;
    if (t->rows == 1) return 1;
    if (head) rows = rows / head * head;
    if (rows < head) rows = head;
    return rows ? rows : 1;
}

static uint64_t row_bytes(const nib_plan_tensor *t)
{
    return t->bytes / t->rows;
}

/* Most bytes that a batch of the plan can take. */
uint64_t nib_batch_bytes(const nib_plan *p)
{
    uint64_t most = p->bytes < BATCH_BYTES ? p->bytes : BATCH_BYTES;
    for (size_t i = 0; i < p->n; i++) {
        uint64_t one = nib_piece_rows(&p->tensor[i]) * row_bytes(&p->tensor[i]);
        if (one > most) most = one;
    }
    return most;
}

uint64_t nib_quantize_memory(const nib_plan *p, int threads)
{
    uint64_t thread = 0;
    for (size_t i = 0; i < p->n; i++) {
        const nib_plan_tensor *t = &p->tensor[i];
        if (t->action == NIB_ACTION_COPY || !t->src) continue;
        uint64_t weights = nib_piece_rows(t) * t->cols;
        uint64_t one = weights * (t->rope_head ? 2 : 1) * sizeof(float) +
                       nib_tensor_rows_memory(t->src, nib_piece_rows(t)) +
                       nib_encode_scratch((size_t)t->cols);
        if (one > thread) thread = one;
    }
    return 2 * nib_batch_bytes(p) + (uint64_t)threads * thread;
}

/* Weights and source as f32, codes, and the packed form, of one tensor at a time. */
uint64_t nib_rounding_memory(const nib_plan *p)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < p->n; i++) {
        const uint64_t weights = p->tensor[i].rows * p->tensor[i].cols;
        if (p->tensor[i].action == NIB_ACTION_STAGE && weights > largest) largest = weights;
    }
    return largest * 10;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Elements that rescaling keeps: activations of one batch (run/solve/rescale_int.h) and the weights
 * on trial that read one input. */
static uint64_t rescaling(const nib_hparams *hp, uint64_t widest, size_t n_ctx)
{
    const uint64_t embd = hp->n_embd, heads = (uint64_t)hp->n_head + 2 * hp->n_head_kv;
    return nib_runner_rows(n_ctx) * 2 * (embd + widest) + n_ctx * embd +
           embd * larger(heads * hp->head_dim, 2 * (uint64_t)hp->n_ff);
}

/* Rounded inputs of one linear layer: f32, and 16-bit codes. */
static uint64_t rounding(const nib_plan *p, uint64_t widest, size_t n_ctx)
{
    return p->recipe.layout.act ? nib_runner_rows(n_ctx) * widest * 3 / 2 : 0;
}

uint64_t nib_solve_memory(const nib_plan *p, size_t windows, size_t n_ctx,
                          const nib_solve_opts *opts, int threads)
{
    const nib_hparams *hp = &p->model->hp;
    const uint64_t embd = hp->n_embd, ff = hp->n_ff, q = (uint64_t)hp->n_head * hp->head_dim,
                   kv = (uint64_t)hp->n_head_kv * hp->head_dim;
    const uint64_t widest = larger(embd, larger(q, ff)), matrix = embd * larger(q, ff);
    const uint64_t weights = 2 * embd * q + 2 * embd * kv + 3 * embd * ff,
                   moments = 2 * embd * embd + q * q + ff * ff,
                   drift = nib_solve_drift(p, opts) > 0,
                   inputs = drift * nib_runner_rows(n_ctx) * (2 * embd + q + ff),
                   batch = nib_runner_rows(n_ctx) * (2 * embd + larger(q + 2 * kv, 2 * ff)),
                   held = smaller(opts->held_out, windows / 8),
                   kept = (windows + (drift ? windows : held)) * n_ctx * embd,
                   run = opts->stats ? 0
                                     : sizeof(float) * (batch + inputs) +
                                           smaller(sizeof(float) * kept, opts->memory);
    const uint64_t trials = p->recipe.transform ? rescaling(hp, widest, n_ctx) : 0,
                   rounded = rounding(p, widest, n_ctx);
    return sizeof(float) * (weights + (1 + drift) * moments + trials + rounded +
                            smaller(matrix, SLAB_WEIGHTS)) +
           run + PER_SOLVER_ELEMENT * widest * widest + PER_WEIGHT * matrix +
           (uint64_t)threads * BLAS_BYTES;
}

/* As set_up() in run/solve/solve.c has its streams: each is in memory or in a file as a whole. */
uint64_t nib_solve_spilled(const nib_plan *p, size_t windows, size_t n_ctx,
                           const nib_solve_opts *opts)
{
    const uint64_t window = (uint64_t)n_ctx * p->model->hp.n_embd * sizeof(float),
                   held = smaller(opts->held_out, windows / 8);
    const uint64_t streams[] = {windows, held, nib_solve_drift(p, opts) > 0 ? windows - held : 0};
    uint64_t left = opts->memory, spilled = 0;
    if (opts->stats) return 0;
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        const uint64_t bytes = streams[i] * window;
        if (bytes > left)
            spilled += bytes;
        else
            left -= bytes;
    }
    return spilled;
}
