/* SPDX-License-Identifier: MIT */
/* run/plan/memory.c - what solving a plan will keep in memory and on the disk, from the model's
 * shapes alone.
 *
 * Roles that are not solved are counted as if they were. tests/e2e/memory.sh holds the sum against
 * what runs really take.
 * Tests: tests/run/test_target.c, tests/run/test_job.c, tests/e2e/memory.sh. */
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
    uint64_t rows = PIECE_WEIGHTS / t->cols, head = t->order.head;
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
        uint64_t one = weights * (t->order.head ? 3 : 2) * sizeof(float) +
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

/* Elements of what solving a block has in memory, by its steps. Of experts one is there at a time.
 */
typedef struct {
    uint64_t weights, moments;
    uint64_t inputs; /* of a row, of all moments        */
    uint64_t batch;  /* of a row: residual and work     */
    uint64_t widest; /* input                           */
    uint64_t matrix; /* the largest weight              */
    uint64_t trial;  /* weights that read one input     */
} block_size;

static void measure_input(block_size *b, const nib_input *in, const nib_steps *s, size_t cols,
                          const size_t width[NIB_REG_COUNT])
{
    uint64_t together = 0;
    bool dense = false, expert = false;
    for (size_t i = 0; i < in->n_readers; i++) {
        const nib_role r = in->reader[i];
        const uint64_t weight = (uint64_t)width[nib_steps_find(s, r)->to] * cols;
        if (!nib_role_is_linear(r)) continue;
        dense |= !nib_role_is_expert(r);
        expert |= nib_role_is_expert(r);
        b->weights += weight;
        b->matrix = larger(b->matrix, weight);
        if (!nib_role_is_expert(r)) together += weight;
    }
    b->moments += (uint64_t)(dense + expert) * cols * cols;
    b->inputs += dense ? cols : 0;
    b->widest = larger(b->widest, cols);
    b->trial = larger(b->trial, together);
}

static block_size measure_block(const nib_model *m, uint32_t layer)
{
    block_size b = {.weights = 0};
    nib_inputs inputs;
    size_t width[NIB_REG_COUNT], at[NIB_STEPS_MAX];
    const nib_steps *s = nib_model_steps(m, layer);
    nib_model_widths(width, &m->hp);
    nib_steps_inputs(&inputs, s);
    for (size_t i = 0; i < inputs.n; i++) {
        const nib_input *in = &inputs.input[i];
        measure_input(&b, in, s, width[s->step[in->first].a], width);
    }
    b.batch = nib_steps_layout(at, s, width) + m->hp.n_embd;
    return b;
}

/* The largest of each over all blocks. */
static block_size measure_blocks(const nib_model *m)
{
    block_size all = {.weights = 0};
    for (uint32_t layer = 0; layer < m->hp.n_layer; layer++) {
        const block_size b = measure_block(m, layer);
        all.weights = larger(all.weights, b.weights);
        all.moments = larger(all.moments, b.moments);
        all.inputs = larger(all.inputs, b.inputs);
        all.batch = larger(all.batch, b.batch);
        all.widest = larger(all.widest, b.widest);
        all.matrix = larger(all.matrix, b.matrix);
        all.trial = larger(all.trial, b.trial);
    }
    return all;
}

/* Windows of activations that are kept between blocks, as set_up_windows() in run/solve/solve.c has
 * them: each stream is in memory or in a file as a whole. */
enum { STREAMS = 4 };

static void list_streams(uint64_t n[STREAMS], const nib_plan *p, size_t windows,
                         const nib_solve_opts *opts)
{
    const uint64_t held = smaller(opts->held_out, windows / 8);
    n[0] = opts->propagate ? windows : held;
    n[1] = held;
    n[2] = !opts->propagate || nib_solve_drift(p, opts) > 0 ? windows - held : 0;
    n[3] = p->model->hp.n_expert ? windows - held : 0;
}

uint64_t nib_solve_memory(const nib_plan *p, size_t windows, size_t n_ctx,
                          const nib_solve_opts *opts, int threads)
{
    const block_size b = measure_blocks(p->model);
    const uint64_t rows = nib_runner_rows(n_ctx), embd = p->model->hp.n_embd,
                   drift = nib_solve_drift(p, opts) > 0;
    uint64_t n[STREAMS], kept = 0, run = 0, trials = 0, rounded = 0;
    list_streams(n, p, windows, opts);
    for (int i = 0; i < STREAMS; i++) kept += n[i] * n_ctx * embd * sizeof(float);
    if (!opts->stats)
        run = sizeof(float) * rows * (b.batch + drift * b.inputs) + smaller(kept, opts->memory);
    if (p->recipe.transform) /* what goes through a block, in twice, and weights on trial */
        trials = rows * 2 * (embd + b.widest) + n_ctx * embd + b.trial;
    if (opts->all_experts) /* which rows each of them read, in lists that grow by half */
        run += 2 * sizeof(uint32_t) * n[3] * n_ctx * p->model->hp.n_expert;
    if (p->recipe.layout.act) rounded = rows * b.widest * 3 / 2; /* f32, and codes of 16 bits */
    return sizeof(float) * (b.weights + (1 + drift) * b.moments + trials + rounded +
                            smaller(b.matrix, SLAB_WEIGHTS)) +
           run + PER_SOLVER_ELEMENT * b.widest * b.widest + PER_WEIGHT * b.matrix +
           (uint64_t)threads * BLAS_BYTES;
}

uint64_t nib_solve_memory_beside(const nib_plan *p, size_t windows, size_t n_ctx,
                                 const nib_solve_opts *opts)
{
    const block_size b = measure_blocks(p->model);
    const uint64_t rows = nib_runner_rows(n_ctx), embd = p->model->hp.n_embd,
                   drift = nib_solve_drift(p, opts) > 0;
    uint64_t n[STREAMS], own = 0;
    list_streams(n, p, windows, opts);
    if (opts->propagate)
        own = (1 + drift) * b.moments + drift * rows * b.inputs + (n[3] ? n[3] * n_ctx * embd : 0);
    else if (p->recipe.transform)
        own = b.moments; /* which its rescaling changes */
    return sizeof(float) * (own + n[0] * n_ctx * embd);
}

uint64_t nib_solve_spilled(const nib_plan *p, size_t windows, size_t n_ctx,
                           const nib_solve_opts *opts)
{
    uint64_t n[STREAMS], left = opts->memory, spilled = 0;
    if (opts->stats) return 0;
    list_streams(n, p, windows, opts);
    for (int i = 0; i < STREAMS; i++) {
        const uint64_t bytes = n[i] * n_ctx * p->model->hp.n_embd * sizeof(float);
        if (bytes > left)
            spilled += bytes;
        else
            left -= bytes;
    }
    return spilled;
}
