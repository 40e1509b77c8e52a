/* SPDX-License-Identifier: MIT */
/* Solving a model against the same steps taken one after the other, each input of each block with
 * passes of its own through the original block and through the one at hand. Sums, factor and
 * rounding are the library's, tested elsewhere; here it is about what is given to them, and when.
 * So the weights must be the same to the bit. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "calib/accumulate.h"
#include "quant/retarget.h"
#include "quant/smooth.h"
#include "calib/block_pass.h"
#include "tests/run/solving.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* 92 windows to calibrate on, which run in two batches; 8 are held out. */
enum { ALL = 100, CALIB = 92, LAYERS = 2, INPUTS = 4, READERS = 3, WIDEST = 128 };

static const nib_role READER[INPUTS][READERS] = {
    {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V},
    {NIB_ROLE_ATTN_OUTPUT},
    {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP},
    {NIB_ROLE_FFN_DOWN}};
static const size_t N_READERS[INPUTS] = {3, 1, 2, 1};
/* What takes up its scales. */
static const nib_role PRODUCER[INPUTS] = {NIB_ROLE_ATTN_NORM, NIB_ROLE_ATTN_V, NIB_ROLE_FFN_NORM,
                                          NIB_ROLE_FFN_UP};

#define ALPHA 0.7 /* of SmoothQuant */
static nib_ctx two = {.threads = 2};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* ---- passes ---- */

/* The windows on their way: x sees the blocks that were solved, y those of the source. */
static struct {
    opened source;
    nib_windows windows;
    nib_graph *graph;
    float *x, *y, *work; /* [ALL * N_CTX][n_embd] */
    float *w[NIB_ROLE_COUNT];
    size_t embd, batch; /* batch: windows */
} run;

typedef struct {
    nib_role role;
    float *to;
    size_t cols;
} catcher;

static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    catcher *c = arg;
    (void)err;
    if (in->role[0] != c->role) return NIB_OK;
    memcpy(c->to, x, rows * cols * sizeof *x);
    c->cols = cols;
    return NIB_OK;
}

/* Windows [first, end) of x through a block of the run's own weights, or of the source's. Returns
 * the columns of what `role` reads, which goes to `input`. */
static size_t pass(float *x, uint32_t layer, bool own, size_t first, size_t end, nib_role role,
                   float *input)
{
    nib_err err = {0};
    catcher c = {.role = role, .to = input};
    const nib_observer obs = {.linear_input = on_input, .arg = &c};
    for (int r = 0; r < NIB_ROLE_COUNT; r++)
        nib_graph_replace(run.graph, (nib_role)r, own ? run.w[r] : NULL);
    must(nib_graph_block(run.graph, layer, x + first * N_CTX * run.embd, end - first, N_CTX, 0,
                         input ? &obs : NULL, &err),
         &err);
    return c.cols;
}

/* The first n windows move on, in the batches that the solver has: sums may end in other bits where
 * there are more rows. */
static void move(float *x, uint32_t layer, bool own, size_t n)
{
    for (size_t i = 0; i < n; i += run.batch)
        pass(x, layer, own, i, n - i < run.batch ? n : i + run.batch, NIB_ROLE_ATTN_Q, NULL);
}

/* ---- one input ---- */

/* scale: what its channels have been divided by. */
typedef struct {
    float h[WIDEST * WIDEST], d[WIDEST * WIDEST], most[WIDEST], scale[WIDEST];
    size_t cols;
} sums;

/* What is known of input i while the block is as it is. The original's channels were not divided.
 */
static void look(sums *s, uint32_t layer, size_t i)
{
    static float seen[CALIB * N_CTX * WIDEST], original[CALIB * N_CTX * WIDEST];
    const size_t bytes = CALIB * N_CTX * run.embd * sizeof(float);
    nib_err err = {0};
    memset(s->h, 0, sizeof s->h), memset(s->d, 0, sizeof s->d), memset(s->most, 0, sizeof s->most);
    for (size_t k = 0; k < CALIB; k += run.batch) {
        const size_t end = CALIB - k < run.batch ? CALIB : k + run.batch, rows = (end - k) * N_CTX;
        memcpy(run.work, run.y, bytes);
        pass(run.work, layer, false, k, end, READER[i][0], original);
        memcpy(run.work, run.x, bytes);
        const size_t n = s->cols = pass(run.work, layer, true, k, end, READER[i][0], seen);
        assert_true(n > 0 && n <= WIDEST);
        for (size_t at = 0; at < rows * n; at++) {
            s->most[at % n] = fmaxf(s->most[at % n], fabsf(seen[at]));
            original[at] /= s->scale[at % n];
        }
        must(nib_accumulate_drift(s->d, original, seen, rows, n, &two, &err), &err);
        must(nib_accumulate_hessian(s->h, seen, rows, n, &two, &err), &err);
    }
}

static size_t rows_of(uint32_t layer, nib_role r)
{
    return (size_t)nib_tensor_rows(nib_model_param(&run.source.model, layer, r)->weight);
}

/* ---- SmoothQuant ---- */

/* Channels of the attention's output that are one of the values: a head of keys and values serves
 * `shared` heads of queries. */
static size_t producer_channel(size_t i, size_t j)
{
    const nib_hparams *hp = &run.source.model.hp;
    const size_t dim = hp->head_dim, shared = hp->n_head / hp->n_head_kv;
    return PRODUCER[i] == NIB_ROLE_ATTN_V ? j / (dim * shared) * dim + j % dim : j;
}

/* Channels that share one of the producer's get the largest of theirs. */
static void join(float *most, size_t i, size_t cols)
{
    float largest[WIDEST] = {0};
    for (size_t j = 0; j < cols; j++) {
        float *to = &largest[producer_channel(i, j)];
        *to = fmaxf(*to, most[j]);
    }
    for (size_t j = 0; j < cols; j++) most[j] = largest[producer_channel(i, j)];
}

/* From the largest of each channel and of the weights that read it. */
static void choose_scales(sums *s, uint32_t layer, size_t i)
{
    float weights[WIDEST] = {0};
    for (size_t k = 0; k < N_READERS[i]; k++) {
        const float *w = run.w[READER[i][k]];
        for (size_t at = 0; at < rows_of(layer, READER[i][k]) * s->cols; at++)
            weights[at % s->cols] = fmaxf(weights[at % s->cols], fabsf(w[at]));
    }
    join(s->most, i, s->cols);
    join(weights, i, s->cols);
    nib_smooth_scales(s->scale, s->most, weights, s->cols, ALPHA);
}

static void divide_producer(sums *s, uint32_t layer, size_t i)
{
    float *w = run.w[PRODUCER[i]], by[WIDEST] = {0};
    const size_t rows = rows_of(layer, PRODUCER[i]);
    for (size_t j = 0; j < s->cols; j++) by[producer_channel(i, j)] = s->scale[j];
    for (size_t j = 0; rows == 1 && j < s->cols; j++) { /* a norm, whose rounding counts */
        const float before = w[j];
        w[j] /= by[j];
        s->scale[j] = before / w[j];
    }
    for (size_t at = 0; rows > 1 && at < rows * run.embd; at++) w[at] /= by[at / run.embd];
}

static void rescale(sums *s, uint32_t layer, size_t i)
{
    const size_t n = s->cols;
    choose_scales(s, layer, i);
    divide_producer(s, layer, i);
    for (size_t k = 0; k < N_READERS[i]; k++)
        for (size_t at = 0; at < rows_of(layer, READER[i][k]) * n; at++)
            run.w[READER[i][k]][at] *= s->scale[at % n];
    for (size_t at = 0; at < n * n; at++) {
        s->h[at] /= s->scale[at / n] * s->scale[at % n];
        s->d[at] /= s->scale[at / n] * s->scale[at % n];
    }
}

/* ---- solving ---- */

/* The weights that read it become what is written of them. */
static void solve_readers(const sums *s, uint32_t layer, size_t i, double drift)
{
    static uint8_t code[WIDEST * WIDEST], packed[WIDEST];
    static nib_block_param param[WIDEST * WIDEST / 32];
    const nib_codec *c = nib_codec_get(NIB_Q4_0);
    nib_gptq_opts opts = nib_gptq_defaults();
    nib_gptq *g;
    nib_err err = {0};
    opts.sweeps = 1;
    must(nib_gptq_new(&g, &opts, &two, &err), &err);
    must(nib_gptq_prepare(g, s->h, s->cols, (size_t)CALIB * N_CTX, 1, &err), &err);
    const double t = (double)CALIB * N_CTX / (double)s->cols; /* few tokens: a smaller step */
    drift *= t * t / (t * t + 32 * 32);
    for (size_t k = 0; k < N_READERS[i]; k++) {
        float *w = run.w[READER[i][k]];
        const size_t rows = rows_of(layer, READER[i][k]);
        if (drift > 0) must(nib_retarget(w, rows, s->d, drift, g, &two, &err), &err);
        must(nib_gptq_solve(g, c, w, rows, code, param, NULL, &err), &err);
        for (size_t b = 0; b < rows * s->cols / c->block; b++) {
            c->pack(packed, &param[b], code + b * c->block);
            c->decode(w + b * c->block, packed, 1, 0);
        }
    }
    nib_gptq_free(g);
}

/* ---- the whole ---- */

static void begin(const char *model)
{
    nib_err err = {0};
    open_model(&run.source, model);
    pick_windows(&run.windows, &run.source, "calibration.txt", ALL);
    run.embd = run.source.model.hp.n_embd;
    run.batch = nib_runner_rows(N_CTX) / N_CTX;
    assert_true(run.batch < CALIB);
    must(nib_graph_new(&run.graph, &run.source.model, &two, run.batch, N_CTX, false, &err), &err);
    const size_t n = ALL * N_CTX;
    run.x = nib_alloc(n * run.embd, sizeof *run.x), run.y = nib_alloc(n * run.embd, sizeof *run.y);
    run.work = nib_alloc(n * run.embd, sizeof *run.work);
    must(nib_graph_embed(run.graph, run.windows.id, n, run.x, &err), &err);
    memcpy(run.y, run.x, n * run.embd * sizeof *run.x);
}

static void end(void)
{
    nib_graph_free(run.graph);
    nib_free(run.x), nib_free(run.y), nib_free(run.work);
    nib_windows_free(&run.windows);
    close_model(&run.source);
}

/* Roles of the block that are solved or take up scales. */
static bool held(nib_role r)
{
    for (size_t i = 0; i < INPUTS; i++) {
        if (r == PRODUCER[i]) return true;
        for (size_t k = 0; k < N_READERS[i]; k++)
            if (r == READER[i][k]) return true;
    }
    return false;
}

static void read_block(uint32_t layer)
{
    for (nib_role r = 0; r < NIB_ROLE_COUNT; r++)
        run.w[r] = held(r) ? tensor_values(run.source.src,
                                           nib_model_param(&run.source.model, layer, r)->weight)
                           : NULL;
}

static void drop_block(void)
{
    for (int r = 0; r < NIB_ROLE_COUNT; r++) nib_free(run.w[r]);
}

/* The block's weights are those of the file. */
static void compare_block(const opened *solved, uint32_t layer)
{
    for (nib_role r = 0; r < NIB_ROLE_COUNT; r++) {
        if (!run.w[r]) continue;
        const nib_tensor *t = nib_model_param(&solved->model, layer, r)->weight;
        float *w = tensor_values(solved->src, t);
        const size_t n = (size_t)nib_tensor_elems(t);
        size_t same = 0;
        for (size_t at = 0; at < n; at++) same += w[at] == run.w[r][at];
        if (same < n) fail_msg("%s: %zu of %zu values are the same", t->name, same, n);
        nib_free(w);
    }
}

static void block_by_hand(const variation *v, uint32_t layer)
{
    static sums s[INPUTS];
    const double drift = v->no_drift || v->no_propagate ? 0 : nib_solve_defaults().drift;
    for (size_t i = 0; i < INPUTS; i++) {
        for (size_t j = 0; j < WIDEST; j++) s[i].scale[j] = 1;
        look(&s[i], layer, i);
    }
    for (size_t i = 0; i < INPUTS && v->transform; i++) rescale(&s[i], layer, i);
    for (size_t i = 0; i < INPUTS; i++) {
        if (i && v->true_sequential) look(&s[i], layer, i);
        solve_readers(&s[i], layer, i, drift);
    }
}

static void same_as_step_by_step(void **state)
{
    (void)state;
    static const variation ways[] = {
        {0},
        {.no_drift = true},
        {.no_propagate = true},
        {.true_sequential = true},
        {.true_sequential = true, .no_drift = true},
        {.transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = ALPHA},
        {.transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = ALPHA, .true_sequential = true}};
    char model[200];
    snprintf(model, sizeof model, "%s",
             random_model("model", gen_family_find("qwen3"), 64, LAYERS, NIB_BF16));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        variation v = ways[i];
        opened solved;
        v.model = model, v.windows = ALL, v.type = "q4_0", v.pure = true;
        solve_ok(scratch("solved.gguf"), &v);
        open_model(&solved, scratch("solved.gguf"));
        begin(model);
        for (uint32_t layer = 0; layer < LAYERS; layer++) {
            read_block(layer);
            block_by_hand(&v, layer);
            compare_block(&solved, layer);
            move(run.x, layer, !v.no_propagate, v.no_propagate ? CALIB : ALL);
            move(run.y, layer, false, CALIB);
            drop_block();
        }
        end();
        close_model(&solved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_step_by_step)};
    nib_linalg_init();
    two.cpu = nib_cpu_detect();
    return cmocka_run_group_tests_name("run_steps", tests, scratch_make, scratch_remove);
}
