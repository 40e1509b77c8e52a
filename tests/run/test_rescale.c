/* SPDX-License-Identifier: MIT */
/* Rescaling a model's channels before it is rounded: the rescaled model is the original one, every
 * architecture and container can do it, and a table that is wrong is found out. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "run/dir.h"
#include "run/solve.h"
#include "tests/run/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N_CTX = 32, WINDOWS = 16 };

typedef struct {
    const char *model;    /* NULL: the demonstration model                        */
    const nib_arch *arch; /* NULL: the model's own                             */
    nib_recipe recipe;
    double alpha;
    int threads; /* 0: 2 */
    bool resume;
} variation;

/* Random tokens, always the same: models without a tokenizer of their own will do. */
static void make_windows(nib_windows *w, const nib_model *m)
{
    uint32_t seed = 1;
    *w = (nib_windows){nib_alloc(WINDOWS * N_CTX, sizeof *w->id), WINDOWS, N_CTX, WINDOWS, 0};
    for (size_t i = 0; i < WINDOWS * N_CTX; i++) {
        seed = seed * 1664525u + 1013904223u;
        w->id[i] = (int32_t)((seed >> 8) % m->hp.n_vocab);
    }
}

static nib_code carry_out(const nib_plan *p, nib_side *side, const nib_ctx *ctx, nib_err *err)
{
    nib_quantize_result result;
    const nib_layout_note note = {.damp = 0.01};
    return p->recipe.format == NIB_FORMAT_GGUF ? nib_quantize_run(&result, p, side, ctx, err)
                                               : nib_dir_write(&result, p, side, &note, ctx, err);
}

static nib_code run(const variation *v, nib_solve_report *report, nib_err *err)
{
    opened o;
    nib_plan plan;
    nib_windows w;
    nib_side side = {.fd = -1};
    nib_recipe recipe = v->recipe;
    const nib_ctx ctx = {.threads = v->threads ? v->threads : 2, .cpu = nib_cpu_detect()};
    nib_solve_opts opts = nib_solve_defaults();
    uint64_t fingerprint;
    recipe.force = true;
    opts.gptq.sweeps = 1;
    opts.rescale.alpha = v->alpha;
    *report = (nib_solve_report){0};
    open_model(&o, v->model ? v->model : tiny_llama());
    if (v->arch) o.model.arch = v->arch;
    make_windows(&w, &o.model);
    nib_code rc = nib_plan_make(&plan, &recipe, &o.model, NULL, &ctx, err);
    if (!rc) rc = nib_solve_fingerprint(&fingerprint, &plan, &w, &opts, err);
    if (!rc) rc = nib_side_open(&side, recipe.out, fingerprint, v->resume, err);
    if (!rc) rc = nib_solve_run(report, &side, &plan, &w, &opts, &ctx, err);
    if (!rc) rc = carry_out(&plan, &side, &ctx, err);
    nib_side_close(&side, true);
    nib_plan_free(&plan);
    nib_windows_free(&w);
    close_model(&o);
    return rc;
}

/* Returns how many inputs were rescaled. */
static size_t run_ok(const variation *v)
{
    nib_err err = {0};
    nib_solve_report report;
    if (run(v, &report, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < report.n_rescaled; i++) {
        const nib_rescale_line *l = &report.rescaled[i];
        assert_true(l->scaled <= l->unscaled);
        assert_true(l->chosen == -1 || (l->chosen >= 0 && l->chosen <= 1));
    }
    const size_t n = report.n_rescaled;
    nib_solve_report_free(&report);
    return n;
}

static variation awq(const char *out, const char *type)
{
    return (variation){
        .recipe = {.out = scratch(out), .type = type, .transform = NIB_TRANSFORM_AWQ}};
}

/* ---- the model stays the same ---- */

/* One tensor of a model. */
static float *read_weight(const char *path, uint32_t layer, nib_role role, size_t *rows,
                          size_t *cols)
{
    opened o;
    open_model(&o, path);
    const nib_tensor *t = nib_model_param(&o.model, layer, role)->weight;
    float *x = tensor_values(o.src, t);
    *rows = (size_t)nib_tensor_rows(t), *cols = (size_t)nib_tensor_cols(t);
    close_model(&o);
    return x;
}

/* Scales can be read off the norm. Q8_0 is near enough to see them in the weights, too: a weight
 * that is divided by them again is the original's within the rounding, half a step of 1/127 of the
 * largest of its block of 32, rescaled. */
static void norm_and_readers_agree(void **state)
{
    (void)state;
    const nib_role pairs[][2] = {{NIB_ROLE_ATTN_NORM, NIB_ROLE_ATTN_V},
                                 {NIB_ROLE_FFN_NORM, NIB_ROLE_FFN_GATE},
                                 {NIB_ROLE_FFN_NORM, NIB_ROLE_FFN_UP}};
    variation v = awq("scaled.gguf", "q8_0");
    v.recipe.transform = NIB_TRANSFORM_SMOOTHQUANT; /* these are never 1; up and o are left alone */
    v.alpha = 0.5;
    assert_int_equal(run_ok(&v), 8);
    for (size_t k = 0; k < 3; k++) {
        size_t one, rows, cols;
        float *norm0 = read_weight(tiny_llama(), 1, pairs[k][0], &one, &cols);
        float *norm = read_weight(v.recipe.out, 1, pairs[k][0], &one, &cols);
        float *w0 = read_weight(tiny_llama(), 1, pairs[k][1], &rows, &cols);
        float *w = read_weight(v.recipe.out, 1, pairs[k][1], &rows, &cols);
        double moved = 0;
        for (size_t j = 0; j < cols; j++) moved += fabs(log((double)norm0[j] / norm[j]));
        assert_true(moved / (double)cols > 0.05);
        for (size_t at = 0; at < rows * cols; at += 32) {
            float most = 0;
            for (size_t i = 0; i < 32; i++) most = fmaxf(most, fabsf(w[at + i]));
            for (size_t i = 0; i < 32; i++) {
                const float s = norm0[(at + i) % cols] / norm[(at + i) % cols];
                /* The block's scale is an f16: it may be off by 2^-11, 127 steps of it by 0.062. */
                assert_true(fabsf(w[at + i] - w0[at + i] * s) <= 0.57f * most / 126);
            }
        }
        nib_free(norm0), nib_free(norm), nib_free(w0), nib_free(w);
    }
}

/* ---- architectures, containers, methods ---- */

static void every_architecture(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama3", "mistral", "qwen2", "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *model = random_model(names[i], gen_family_find(names[i]), 64, 2, NIB_BF16);
        variation v = awq("arch.gguf", "q4_0");
        v.model = model;
        v.recipe.pure = true;
        /* Qwen2's attn_v has a bias, which GGUF holds in f32, so it is rescaled as well. */
        if (run_ok(&v) != 8) fail_msg("%s: not all inputs were rescaled", names[i]);
        v.recipe.method = NIB_METHOD_GPTQ;
        run_ok(&v);
        v.recipe.transform = NIB_TRANSFORM_SMOOTHQUANT;
        v.alpha = 0.5;
        assert_int_equal(run_ok(&v), 4);
        v.alpha = -1;
        run_ok(&v);
    }
}

static void a_gguf_is_as_good(void **state)
{
    (void)state;
    nib_recipe plain = {.out = scratch("plain.gguf"), .type = "bf16"};
    quantize_ok(tiny_llama(), &plain, NULL);
    variation v = awq("from-folder.gguf", "q4_k_m");
    assert_int_equal(run_ok(&v), 16);
    variation again = awq("from-gguf.gguf", "q4_k_m");
    again.model = plain.out;
    assert_int_equal(run_ok(&again), 16);
}

static void folders(void **state)
{
    (void)state;
    variation v = {
        .recipe = {.format = NIB_FORMAT_DIR,
                   .layout = {.kind = NIB_LAYOUT_GPTQ, .bits = 4, .group = 64, .sym = true},
                   .out = scratch("awq-dir"),
                   .transform = NIB_TRANSFORM_AWQ}};
    assert_int_equal(run_ok(&v), 16);
    v.recipe.method = NIB_METHOD_GPTQ;
    assert_int_equal(run_ok(&v), 16);
}

static void same_bytes_by_any_threads(void **state)
{
    (void)state;
    variation v = awq("two.gguf", "q3_k_m");
    v.recipe.method = NIB_METHOD_GPTQ;
    run_ok(&v);
    variation w = v;
    w.recipe.out = scratch("one.gguf");
    w.threads = 1;
    run_ok(&w);
    assert_true(same_files(v.recipe.out, w.recipe.out));
}

/* ---- refusals ---- */

/* An architecture with one scaling replaced. */
static nib_arch with_scaling(const nib_scaling *sc, size_t n)
{
    nib_arch a = *nib_arch_at(0); /* llama */
    a.scaling = sc;
    a.n_scalings = n;
    return a;
}

static void fails(const variation *v, nib_code code, const char *part)
{
    nib_err err = {0};
    nib_solve_report report;
    if (run(v, &report, &err) != code) fail_msg("code %d: %s", err.code, err.msg);
    expect_text(err.msg, part);
    assert_null(report.rescaled);
    assert_int_equal(scratch_count("refused"), 0);
}

static void a_wrong_table_is_found(void **state)
{
    (void)state;
    /* ffn_up reads that norm, too. */
    static const nib_scaling forgotten = {NIB_ROLE_FFN_NORM, {NIB_ROLE_FFN_GATE}, 1};
    /* They read another norm. */
    static const nib_scaling crossed = {
        NIB_ROLE_ATTN_NORM, {NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP}, 2};
    /* SmoothQuant, since AWQ's search would see that no scales are best. */
    variation v = {.alpha = 0.5,
                   .recipe = {.out = scratch("refused.gguf"),
                              .type = "q4_k_m",
                              .transform = NIB_TRANSFORM_SMOOTHQUANT}};
    const nib_arch a = with_scaling(&forgotten, 1), b = with_scaling(&crossed, 1),
                   none = with_scaling(NULL, 0);
    const char *found = "rescaling the input of 'blk.0.ffn_gate.weight' changes the block's output";
    v.arch = &a;
    fails(&v, NIB_ENUMERIC, found);
    v.arch = &b;
    fails(&v, NIB_ENUMERIC, found);
    v.arch = &none;
    fails(&v, NIB_EINVAL, "architecture 'llama'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_and_readers_agree),    cmocka_unit_test(every_architecture),
        cmocka_unit_test(a_gguf_is_as_good),         cmocka_unit_test(folders),
        cmocka_unit_test(same_bytes_by_any_threads), cmocka_unit_test(a_wrong_table_is_found),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_rescale", tests, scratch_make, scratch_remove);
}
