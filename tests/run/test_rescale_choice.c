/* SPDX-License-Identifier: MIT */
/* Which scales rescaling chooses, and what is made of the weights under them, against the errors of
 * one branch of a block computed for each choice by itself. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "quant/awq.h"
#include "quant/round.h"
#include "quant/smooth.h"
#include "tests/run/solving.h"
#include "tests/run/w8a8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* One of eight windows is held out. */
enum { FEW = 8, ROWS = 7 * N_CTX, WIDEST = 128, INPUTS = 4, CHOICES = 21 };

static const nib_packing GROUPS = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 32, .sym = true};

/* The original block and what its linear layers read, in their order. */
static struct {
    opened source;
    nib_graph *graph;
    nib_inputs inputs;
    size_t cols[INPUTS], embd;
    float x[INPUTS][ROWS * WIDEST], h[INPUTS][WIDEST * WIDEST];

} block;

static char model[200]; /* its path */
static nib_ctx two = {.threads = 2};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* ---- the block ---- */

static nib_code on_input(void *arg, const nib_linear_input *in, nib_err *err)
{
    const float *x = in->x;
    const size_t rows = in->rows, cols = in->cols;
    (void)arg, (void)err;
    for (size_t i = 0; i < INPUTS; i++) {
        if (block.inputs.input[i].reader[0] != in->role[0]) continue;
        assert_true(rows == ROWS && cols <= WIDEST);
        block.cols[i] = cols;
        memcpy(block.x[i], x, rows * cols * sizeof *x);
    }
    return NIB_OK;
}

static int open_block(void **state)
{
    static float x[ROWS * WIDEST];
    nib_windows w = {0};
    nib_err err = {0};
    nib_linalg_init();
    two.cpu = nib_cpu_detect();
    if (scratch_make(state)) return -1;
    snprintf(model, sizeof model, "%s",
             random_model("model", gen_family_find("qwen3"), 64, 1, NIB_BF16));
    open_model(&block.source, model);
    nib_steps_inputs(&block.inputs, nib_model_steps(&block.source.model, 0));
    block.embd = block.source.model.hp.n_embd;
    assert_int_equal(block.inputs.n, INPUTS);
    pick_windows(&w, &block.source, "calibration.txt", FEW);
    must(nib_graph_new(&block.graph, &block.source.model, &two, FEW, N_CTX, false, &err), &err);
    must(nib_graph_embed(block.graph, w.id, ROWS, x, &err), &err);
    must(nib_graph_block(block.graph, 0, x, ROWS / N_CTX, N_CTX, 0,
                         &(nib_observer){.linear_input = on_input}, &err),
         &err);
    nib_windows_free(&w);
    for (size_t i = 0; i < INPUTS; i++) {
        const size_t n = block.cols[i];
        nib_gemm_tn(n, n, ROWS, block.x[i], n, block.x[i], n, block.h[i], n, 0);
    }
    return 0;
}

static int close_block(void **state)
{
    nib_graph_free(block.graph);
    close_model(&block.source);
    return scratch_remove(state);
}

static float *weight(const opened *o, nib_role r, size_t *rows)
{
    const nib_tensor *t = nib_model_param(&o->model, 0, r)->weight;
    if (rows) *rows = (size_t)nib_tensor_rows(t);
    return tensor_values(o->src, t);
}

/* ---- scales ---- */

/* Channels of the attention's output that come from one of attn_v: two heads of queries share each
 * head of values. They get the largest, or the mean. */
static void join(float *x, size_t i, bool largest)
{
    const size_t dim = block.source.model.hp.head_dim;
    if (block.inputs.input[i].producer != NIB_ROLE_ATTN_V) return;
    for (size_t j = 0; j < block.cols[i]; j++)
        if (j / dim % 2 == 0) {
            const float a = x[j], b = x[j + dim];
            x[j] = x[j + dim] = largest ? fmaxf(a, b) : (a + b) / 2;
        }
}

/* Choice k of input i, -1: none, with ratios or alphas of k / 20. */
static void scales_of(float *s, size_t i, int k, nib_transform t)
{
    const nib_input *sc = &block.inputs.input[i];
    const size_t n = block.cols[i];
    const bool awq = t == NIB_TRANSFORM_AWQ;
    float x[WIDEST] = {0}, w[WIDEST] = {0}, *v[3] = {0};
    nib_awq_linear l[3];
    for (size_t at = 0; at < ROWS * n; at++) {
        const float a = fabsf(block.x[i][at]);
        x[at % n] = awq ? x[at % n] + a / ROWS : fmaxf(x[at % n], a);
    }
    for (size_t r = 0; r < sc->n_readers; r++) {
        v[r] = weight(&block.source, sc->reader[r], &l[r].rows);
        l[r].w = v[r], l[r].group = 32;
        for (size_t at = 0; at < l[r].rows * n; at++) w[at % n] = fmaxf(w[at % n], fabsf(v[r][at]));
    }
    if (awq) nib_awq_weight_mean(w, l, sc->n_readers, n);
    join(x, i, !awq), join(w, i, !awq);
    if (awq && k >= 0) nib_awq_scales(s, x, w, n, k / 20.0);
    if (!awq && k >= 0) nib_smooth_scales(s, x, w, n, k / 20.0);
    for (size_t j = 0; j < n && k < 0; j++) s[j] = 1;
    for (size_t r = 0; r < sc->n_readers; r++) nib_free(v[r]);
}

/* ---- errors ---- */

/* w[rows][cols of input i], rescaled, becomes what it is rounded to. */
static void round_weight(float *w, size_t rows, size_t i, const float *s, const nib_codec *c)
{
    nib_err err = {0};
    float imp[WIDEST];
    const size_t n = block.cols[i];
    for (size_t j = 0; j < n; j++) imp[j] = block.h[i][j * n + j] / (s[j] * s[j]);
    must(nib_round_rows(c, w, imp, rows, n, w, NULL, NULL, &two, &err), &err);
}

static nib_int_codec codec_of(const nib_packing *f, size_t rows, size_t cols)
{
    nib_packed_parts l;
    nib_err err = {0};
    nib_packing own = *f;
    own.scale_type = nib_packing_scale_type(f->kind, NIB_BF16);
    must(nib_packing_make(&l, &own, rows, cols, &err), &err);
    return nib_packing_codec(&l);
}

/* The 8-bit grid that holds x[n] and 0: value = (code - zero) * step. */
static void grid_of(const float *x, size_t n, bool sym, float *step, float *zero)
{
    float lo = 0, hi = 0;
    for (size_t i = 0; i < n; i++) lo = fminf(lo, x[i]), hi = fmaxf(hi, x[i]);
    *step = sym ? fmaxf(-lo, hi) / 127 : (hi - lo) / 255;
    *zero = sym ? 0 : rintf(-128 - lo / *step);
}

/* Inputs as W8A8 has them: each token on a grid of its own, or all on one. */
static void round_inputs(float *x, size_t n, const nib_packing *f)
{
    const size_t all = ROWS * n, part = f->act == NIB_ACT_TOKEN ? n : all;
    for (size_t at = 0; at < all; at += part) {
        float step, zero;
        grid_of(x + at, part, f->act_sym, &step, &zero);
        for (size_t j = at; j < at + part && step > 0; j++)
            x[j] = (fmaxf(fminf(rintf(x[j] / step) + zero, 127), -128) - zero) * step;
    }
}

/* Mean squared difference that rounding makes to what the branch adds, under these scales. */
static double error_under(const float *s, size_t i, const nib_packing *f)
{
    static float x[ROWS * WIDEST], y[ROWS * WIDEST], want[ROWS * WIDEST];
    const nib_input *sc = &block.inputs.input[i];
    const size_t n = block.cols[i], n_seq = ROWS / N_CTX;
    nib_err err = {0};
    float *w[3] = {0};
    double sum = 0;
    must(nib_graph_branch(block.graph, 0, sc->reader[0], block.x[i], n_seq, N_CTX, want, &err),
         &err);
    for (size_t at = 0; at < ROWS * n; at++) x[at] = block.x[i][at] / s[at % n];
    if (f) round_inputs(x, n, f);
    for (size_t r = 0; r < sc->n_readers; r++) {
        size_t rows;
        w[r] = weight(&block.source, sc->reader[r], &rows);
        for (size_t at = 0; at < rows * n; at++) w[r][at] *= s[at % n];
        const nib_int_codec c = f ? codec_of(f, rows, n) : (nib_int_codec){0};
        round_weight(w[r], rows, i, s, f ? &c.codec : nib_codec_get(NIB_Q4_0));
        nib_graph_replace(block.graph, sc->reader[r], w[r]);
    }
    must(nib_graph_branch(block.graph, 0, sc->reader[0], x, n_seq, N_CTX, y, &err), &err);
    for (size_t r = 0; r < sc->n_readers; r++) {
        nib_graph_replace(block.graph, sc->reader[r], NULL);
        nib_free(w[r]);
    }
    for (size_t at = 0; at < ROWS * block.embd; at++)
        sum += ((double)y[at] - want[at]) * ((double)y[at] - want[at]);
    return sum / (double)(ROWS * block.embd);
}

/* ---- tests ---- */

/* The block's model as v has it written, opened. */
static void run_solver(opened *out, variation v, nib_solve_report *report)
{
    char path[200];
    nib_err err = {0};
    snprintf(path, sizeof path, "%s", scratch(v.folder ? "out" : "out.gguf"));
    v.model = model, v.windows = FEW;
    must(solve(path, &v, report, &err), &err);
    assert_int_equal(report->n_rescaled, INPUTS);
    open_model(out, path);
}

static bool near(double a, double b, double within)
{
    return fabs(a - b) <= within * fabs(b);
}

/* A static range is that of the divided inputs; its scale is stored in bf16. */
static void check_range(const opened *out, size_t i, const float *s)
{
    static float x[ROWS * WIDEST];
    float step, zero;
    const size_t n = block.cols[i];
    const nib_tensor *t = nib_model_param(&out->model, 0, block.inputs.input[i].reader[0])->weight;
    const nib_act_quant *act = nib_tensor_act(t);
    for (size_t at = 0; at < ROWS * n; at++) x[at] = block.x[i][at] / s[at % n];
    grid_of(x, ROWS * n, act->sym, &step, &zero);
    if (!near(act->range.scale, step, 0x1p-8) || fabsf((float)act->range.zero - zero) > 1)
        fail_msg("input %zu: scale %g, zero point %d, not %g, %g", i, (double)act->range.scale,
                 (int)act->range.zero, (double)step, (double)zero);
}

/* A norm that took up scales is divided by them; it is stored in bf16 at worst. */
static void check_norm(const opened *out, size_t i, const float *s)
{
    const nib_role r = block.inputs.input[i].producer;
    if (r != NIB_ROLE_ATTN_NORM && r != NIB_ROLE_FFN_NORM) return;
    float *before = weight(&block.source, r, NULL), *after = weight(out, r, NULL);
    for (size_t j = 0; j < block.cols[i]; j++)
        if (!near((double)before[j] / after[j], s[j], 0x1p-8))
            fail_msg("input %zu, channel %zu: divided by %g, not %g", i, j,
                     (double)before[j] / after[j], (double)s[j]);
    nib_free(before), nib_free(after);
}

/* Sums of f32 in another order. Where inputs are rounded, the last bits of what is behind a
 * rescaled norm decide for a few of N = 28672 values or more to which of two codes they go. Such a
 * value is half a step off either way. What changes is its product with the errors of its row, n
 * values of 1 / sqrt(12) step each: up to 2 sqrt(n / 12) of the N / 12 steps squared that all
 * rounding makes, with n = 64 a share of 0.0019, of either sign. */
static void check_choice(const nib_rescale_line *l, const opened *out, size_t i, const variation *v)
{
    float s[WIDEST], chosen[WIDEST];
    const double within = v->folder ? 5e-3 : 1e-5;
    double least = INFINITY, reported = 0;
    const int last = v->transform == NIB_TRANSFORM_AWQ ? CHOICES - 2 : CHOICES - 1;
    for (int k = -1; k <= last; k++) {
        scales_of(s, i, k, v->transform);
        const double e = error_under(s, i, v->folder);
        if (k < 0 && !near(l->unscaled, e, within))
            fail_msg("input %zu: error %g, is %g", i, l->unscaled, e);
        if (fabs(l->chosen - (k < 0 ? -1 : k / 20.0)) < 1e-9)
            reported = e, memcpy(chosen, s, sizeof s);
        least = fmin(least, e);
    }
    if (!near(l->scaled, reported, within) || !near(l->scaled, least, within))
        fail_msg("input %zu: %g gives %g, is %g, the least %g", i, l->chosen, l->scaled, reported,
                 least);
    check_norm(out, i, chosen);
    if (v->folder && v->folder->act == NIB_ACT_TENSOR) check_range(out, i, chosen);
}

static void the_least_error_is_chosen(void **state)
{
    (void)state;
    static const variation ways[] = {
        {.transform = NIB_TRANSFORM_AWQ, .type = "q4_0", .pure = true, .rtn = true},
        {.transform = NIB_TRANSFORM_SMOOTHQUANT,
         .alpha = -1,
         .type = "q4_0",
         .pure = true,
         .rtn = true},
        {.transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = -1, .folder = &W8A8, .rtn = true},
        {.transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = -1, .folder = &W8A8_STATIC, .rtn = true}};
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        nib_solve_report report = {0};
        opened written;
        run_solver(&written, ways[k], &report);
        for (size_t i = 0; i < INPUTS; i++)
            check_choice(&report.rescaled[i], &written, i, &ways[k]);
        close_model(&written);
        nib_solve_report_free(&report);
    }
}

/* w[rows][cols of input i] by the scales s that the norm took up, and clipped where it is to be,
 * rounded. */
static void make_weight(float *w, size_t rows, size_t i, const float *s, const nib_codec *c,
                        bool clip)
{
    static float limit[WIDEST * WIDEST], h[WIDEST * WIDEST];
    const size_t n = block.cols[i];
    nib_err err = {0};
    for (size_t at = 0; at < rows * n; at++) w[at] *= s[at % n];
    for (size_t at = 0; at < n * n; at++) h[at] = block.h[i][at] / (s[at / n] * s[at % n]);
    if (clip) {
        must(nib_awq_clip(limit, w, rows, n, c, h, &two, &err), &err);
        nib_awq_clamp(w, limit, rows, n, c->block);
    }
    round_weight(w, rows, i, s, c);
}

static double share_of_equal(const opened *out, nib_role r, size_t i, const nib_packing *f,
                             bool clip)
{
    size_t rows, one, same = 0;
    const nib_role norm = block.inputs.input[i].producer;
    float *before = weight(&block.source, norm, &one), *after = weight(out, norm, &one),
          *w = weight(&block.source, r, &rows), *got = weight(out, r, &rows);
    const size_t n = block.cols[i];
    const nib_int_codec c = f ? codec_of(f, rows, n) : (nib_int_codec){0};
    for (size_t j = 0; j < n; j++) before[j] /= after[j];
    make_weight(w, rows, i, before, f ? &c.codec : nib_codec_get(NIB_Q4_0), clip);
    for (size_t at = 0; at < rows * n; at++) same += near(got[at], w[at], 1e-6);
    nib_free(before), nib_free(after), nib_free(w), nib_free(got);
    return (double)same / (double)(rows * n);
}

/* AWQ's own pairs of layers: weights are clipped in folders, but not queries and keys; blocks of
 * GGUF, whose own search cuts off what it must, are not. */
static void weights_are_clipped_and_rounded(void **state)
{
    (void)state;
    static const variation ways[] = {
        {.transform = NIB_TRANSFORM_AWQ, .type = "q4_0", .pure = true, .rtn = true},
        {.transform = NIB_TRANSFORM_AWQ, .folder = &GROUPS, .rtn = true}};
    static const nib_role plain[] = {NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K};
    for (size_t k = 0; k < 2; k++) {
        const nib_packing *f = ways[k].folder;
        nib_solve_report report = {0};
        opened written;
        run_solver(&written, ways[k], &report);
        nib_solve_report_free(&report);
        for (size_t r = 0; r < 2; r++)
            assert_true(share_of_equal(&written, plain[r], 0, f, false) > 0.99);
        const double gate = share_of_equal(&written, NIB_ROLE_FFN_GATE, 2, f, f),
                     other = share_of_equal(&written, NIB_ROLE_FFN_GATE, 2, f, !f);
        if (!(gate > 0.99 && other < 0.9))
            fail_msg("%g of the values are as they should be, %g as they should not", gate, other);
        close_model(&written);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_error_is_chosen),
        cmocka_unit_test(weights_are_clipped_and_rounded),
    };
    return cmocka_run_group_tests_name("run_rescale_choice", tests, open_block, close_block);
}
