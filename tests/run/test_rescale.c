/* SPDX-License-Identifier: MIT */
/* Rescaling a model's channels before it is rounded: the rescaled model is the original one, every
 * architecture and container can do it, and a table that is wrong is found out. */
#include "base/linalg.h"
#include "tests/run/solving.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Few, because every scale that is tried costs a pass over them. */
enum { FEW = 8 };

/* Returns how many inputs were rescaled. */
static size_t run_ok(const char *out, variation v)
{
    nib_err err = {0};
    nib_solve_report report = {0};
    v.windows = FEW;
    if (solve(out, &v, &report, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < report.n_rescaled; i++) {
        const nib_rescale_line *l = &report.rescaled[i];
        assert_true(l->scaled <= l->unscaled);
        assert_true(l->chosen == -1 || (l->chosen >= 0 && l->chosen <= 1));
    }
    const size_t n = report.n_rescaled;
    nib_solve_report_free(&report);
    return n;
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

/* Scales of block 1 can be read off the norm. Q8_0 is near enough to see them in the weights, too:
 * a weight that is divided by them again is the original's within the rounding, half a step of
 * 1/127 of the largest of its block of 32, rescaled. */
static void check_reader(const char *model, const char *out, nib_role norm_role, nib_role role)
{
    enum { HEAD_DIM = 64 };
    size_t one, rows, cols;
    float *norm0 = read_weight(model, 1, norm_role, &one, &cols);
    float *norm = read_weight(out, 1, norm_role, &one, &cols);
    float *w0 = read_weight(model, 1, role, &rows, &cols);
    float *w = read_weight(out, 1, role, &rows, &cols);
    double moved = 0;
    for (size_t j = 0; j < cols; j++) moved += fabs(log((double)norm0[j] / norm[j]));
    assert_true(moved / (double)cols > 0.05);
    for (size_t at = 0; at < rows * cols; at += 32) {
        const size_t row = at / cols, /* GGUF has the rows of q in another order */
            row0 = role == NIB_ROLE_ATTN_Q ? (size_t)nib_rope_source_row(row, HEAD_DIM) : row;
        const float *from = w0 + row0 * cols + at % cols;
        float most = 0;
        for (size_t i = 0; i < 32; i++) most = fmaxf(most, fabsf(w[at + i]));
        for (size_t i = 0; i < 32; i++) {
            const float s = norm0[(at + i) % cols] / norm[(at + i) % cols];
            /* The block's scale is an f16: it may be off by 2^-11, 127 steps of it by 0.062. */
            assert_true(fabsf(w[at + i] - from[i] * s) <= 0.57f * most / 126);
        }
    }
    nib_free(norm0), nib_free(norm), nib_free(w0), nib_free(w);
}

/* Its scales are never 1. */
static const variation smooth = {
    .type = "q8_0", .rtn = true, .transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = 0.5};

static void norm_and_readers_agree(void **state)
{
    (void)state;
    const char *out = scratch("scaled.gguf");
    assert_int_equal(run_ok(out, smooth), 16);
    /* Of the readers those whose own rows no scaling divides. */
    check_reader(tiny_llama(), out, NIB_ROLE_ATTN_NORM, NIB_ROLE_ATTN_Q);
    check_reader(tiny_llama(), out, NIB_ROLE_FFN_NORM, NIB_ROLE_FFN_GATE);
}

/* Behind a gate that is shut ffn_down sees only zeros, so no scale of its input means anything, and
 * the rows of ffn_up are divided by none. */
static void dead_channels_are_left_alone(void **state)
{
    (void)state;
    char model[200];
    variation v = smooth;
    snprintf(model, sizeof model, "%s",
             spoiled_model("shut", "model.layers.1.mlp.gate_proj.weight", 0));
    v.model = model;
    run_ok(scratch("shut.gguf"), v);
    check_reader(model, scratch("shut.gguf"), NIB_ROLE_FFN_NORM, NIB_ROLE_FFN_UP);
}

/* ---- architectures, containers, methods ---- */

static void every_architecture(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama3", "mistral", "qwen2",
                                        "qwen3", "gemma2", "gemma3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *out = scratch("arch.gguf");
        variation v = {.model = random_model(names[i], gen_family_find(names[i]), 64, 2, NIB_BF16),
                       .type = "q4_0",
                       .pure = true,
                       .rtn = true,
                       .transform = NIB_TRANSFORM_AWQ};
        /* Qwen2's attn_v has a bias, which GGUF holds in f32, so it is rescaled as well. */
        if (run_ok(out, v) != 8) fail_msg("%s: not all inputs were rescaled", names[i]);
        v.rtn = false;
        run_ok(out, v);
        v.transform = NIB_TRANSFORM_SMOOTHQUANT;
        v.alpha = 0.5;
        assert_int_equal(run_ok(out, v), 8);
        v.alpha = -1;
        run_ok(out, v);
    }
}

static void a_gguf_is_as_good(void **state)
{
    (void)state;
    const nib_recipe plain = {.out = scratch("plain.gguf"), .type = "bf16"};
    quantize_ok(tiny_llama(), &plain, NULL);
    const variation v = {
        .model = plain.out, .type = "q4_k_m", .rtn = true, .transform = NIB_TRANSFORM_AWQ};
    assert_int_equal(run_ok(scratch("from-gguf.gguf"), v), 16);
}

/* A norm in the folder's BF16 takes up scales that are then exact; a bias in BF16 would not. */
static void folders(void **state)
{
    (void)state;
    static const nib_packing group = {
        .kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64, .sym = true};
    variation v = {.folder = &group, .rtn = true, .transform = NIB_TRANSFORM_AWQ};
    assert_int_equal(run_ok(scratch("awq-dir"), v), 16);
    v.rtn = false;
    assert_int_equal(run_ok(scratch("awq-dir"), v), 16);
    v.model = random_model("biased", gen_family_find("qwen2"), 64, 2, NIB_BF16);
    assert_int_equal(run_ok(scratch("awq-dir"), v), 6);
    /* Norms that are stored as differences from 1. */
    v.model = random_model("sandwich", gen_family_find("gemma3"), 64, 2, NIB_BF16);
    assert_int_equal(run_ok(scratch("awq-dir"), v), 8);
}

/* One weight of an input is left as it is, so the input is, and its norm is written as it was. */
static void a_scaling_needs_all_its_weights(void **state)
{
    (void)state;
    const variation v = {.type = "q4_0",
                         .rtn = true,
                         .transform = NIB_TRANSFORM_AWQ,
                         .override = "blk\\.1\\.ffn_up:skip=true"};
    /* ffn_up of block 1 is a reader of one scaling and the producer of another. */
    assert_int_equal(run_ok(scratch("skip.gguf"), v), 14);
    size_t one, cols;
    float *before = read_weight(tiny_llama(), 1, NIB_ROLE_FFN_NORM, &one, &cols);
    float *after = read_weight(scratch("skip.gguf"), 1, NIB_ROLE_FFN_NORM, &one, &cols);
    assert_memory_equal(before, after, cols * sizeof *before);
    nib_free(before), nib_free(after);
}

/* ---- the same bytes ---- */

static void same_bytes(void **state)
{
    (void)state;
    variation v = {.transform = NIB_TRANSFORM_AWQ, .windows = FEW};
    run_ok(scratch("two.gguf"), v);
    v.threads = 1;
    run_ok(scratch("one.gguf"), v);
    assert_true(same_files(scratch("two.gguf"), scratch("one.gguf")));
    kill_after("killed.gguf", 2, v);
    v.resume = true;
    assert_true(run_ok(scratch("killed.gguf"), v) <= 8);
    assert_true(same_files(scratch("two.gguf"), scratch("killed.gguf")));
}

/* ---- refusals ---- */

/* A block that uses a norm twice: what divides it for one of its readers changes the other. */
static void a_wrong_block_is_found(void **state)
{
    nib_arch twice = *nib_arch_at(0); /* llama */
    nib_step step[NIB_STEPS_MAX];
    memcpy(step, twice.block.step, twice.block.n * sizeof *step);
    twice.block.step = step;
    assert_int_equal(step[0].weight, NIB_ROLE_ATTN_NORM);
    step[0].weight = NIB_ROLE_FFN_NORM;
    /* SmoothQuant, since AWQ's search would see that no scales are best. */
    variation v = {
        .rtn = true, .transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = 0.5, .arch = &twice};
    (void)state;
    solve_fails(scratch("refused.gguf"), &v, NIB_ENUMERIC,
                "rescaling the input of 'blk.0.attn_q.weight' changes the block's output");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_and_readers_agree),
        cmocka_unit_test(dead_channels_are_left_alone),
        cmocka_unit_test(every_architecture),
        cmocka_unit_test(a_gguf_is_as_good),
        cmocka_unit_test(folders),
        cmocka_unit_test(a_scaling_needs_all_its_weights),
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(a_wrong_block_is_found),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_rescale", tests, scratch_make, scratch_remove);
}
