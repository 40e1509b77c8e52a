/* SPDX-License-Identifier: MIT */
/* Solving a model block by block: the same file however it comes about (threads, memory, a run that
 * was killed and taken up), a better one than rounding, and refusals that say what is wrong. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "calib/collect_importance.h"
#include "run/solve/divergence.h"
#include "tests/run/solving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* The file that the usual run makes, and how many weights were solved for it; made once. */
static size_t all_weights;
static const char *usual(void)
{
    if (!all_weights) all_weights = solve_ok(scratch("usual.gguf"), &(variation){0});
    return scratch("usual.gguf");
}

/* ---- the same bytes ---- */

static void same_bytes(void **state)
{
    (void)state;
    static const variation same[] = {{.threads = 1}, {.threads = 3}, {.memory = 1}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        solve_ok(scratch("other.gguf"), &same[i]);
        if (!same_files(usual(), scratch("other.gguf"))) fail_msg("variation %zu differs", i);
        assert_int_equal(scratch_count("other"), 1); /* no side file, no activations */
    }
    static const variation differ[] = {
        {.no_propagate = true}, {.true_sequential = true}, {.no_drift = true}};
    for (size_t i = 0; i < sizeof differ / sizeof *differ; i++) {
        solve_ok(scratch("other.gguf"), &differ[i]);
        assert_false(same_files(usual(), scratch("other.gguf")));
    }
    remove(scratch("other.gguf"));
}

/* Renewed inside a block, the drift with them; killed and taken up too. */
static void same_bytes_renewed(void **state)
{
    (void)state;
    enum { FEW = 16 };
    const char *name = "renewed-killed.gguf";
    variation v = {.windows = FEW, .true_sequential = true};
    solve_ok(scratch("renewed.gguf"), &v);
    v.threads = 1;
    solve_ok(scratch("other.gguf"), &v);
    assert_true(same_files(scratch("renewed.gguf"), scratch("other.gguf")));
    kill_after(name, 2, v);
    v.resume = true;
    solve_ok(scratch(name), &v);
    assert_true(same_files(scratch("renewed.gguf"), scratch(name)));
    v = (variation){.windows = FEW, .true_sequential = true, .no_drift = true};
    solve_ok(scratch("other.gguf"), &v);
    assert_false(same_files(scratch("renewed.gguf"), scratch("other.gguf")));
    remove(scratch("other.gguf"));
    remove(scratch(name));
}

/* ---- killed and taken up ---- */

static void killed_and_resumed(void **state)
{
    (void)state;
    const char *name = "killed.gguf";
    usual();
    for (unsigned blocks = 1; blocks <= 2; blocks++) {
        kill_after(name, blocks, (variation){0});
        const size_t per_block = all_weights / 4, done = blocks_done(name);
        assert_int_equal(solve_ok(scratch(name), &(variation){.resume = true}),
                         all_weights - done * per_block);
        assert_true(same_files(usual(), scratch(name)));
        assert_int_equal(scratch_count(name), 1);
        remove(scratch(name));
    }
    kill_after(name, 1, (variation){0}); /* killed twice */
    kill_after(name, 2, (variation){.resume = true});
    assert_true(solve_ok(scratch(name), &(variation){.resume = true}) <= all_weights / 2);
    assert_true(same_files(usual(), scratch(name)));
    remove(scratch(name));
}

/* The original windows of a run that does not propagate have moved on through what was solved. */
static void killed_without_propagation(void **state)
{
    (void)state;
    const char *name = "killed.gguf";
    const variation v = {.no_propagate = true}, resumed = {.no_propagate = true, .resume = true};
    solve_ok(scratch("whole.gguf"), &v);
    kill_after(name, 2, v);
    solve_ok(scratch(name), &resumed);
    assert_true(same_files(scratch("whole.gguf"), scratch(name)));
    remove(scratch("whole.gguf"));
    remove(scratch(name));
}

static void nothing_to_resume(void **state)
{
    (void)state;
    assert_int_equal(solve_ok(scratch("fresh.gguf"), &(variation){.resume = true}),
                     (usual(), all_weights));
    assert_true(same_files(usual(), scratch("fresh.gguf")));
    remove(scratch("fresh.gguf"));
}

static void resume_of_another_run(void **state)
{
    (void)state;
    const char *name = "mixed.gguf", *refusal = "another model, text or recipe";
    kill_after(name, 1, (variation){0});
    const variation other[] = {
        {.type = "q4_k_m", .resume = true},
        {.sweeps = 2, .resume = true},
        {.windows = WINDOWS - 1, .resume = true},
        {.true_sequential = true, .resume = true},
        {.no_drift = true, .resume = true},
        {.override = "3.attn_q:method=rtn", .resume = true},
        {.model = spoiled_model("changed", "model.layers.1.input_layernorm.weight", 0.5f),
         .resume = true},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        solve_fails(scratch(name), &other[i], NIB_EINVAL, refusal);
    /* A refusal costs the unfinished run nothing. */
    assert_true(solve_ok(scratch(name), &(variation){.resume = true}) < (usual(), all_weights));
    assert_true(same_files(usual(), scratch(name)));
    remove(scratch(name));
}

static void write_side(const char *name, const void *data, size_t n)
{
    char path[200];
    snprintf(path, sizeof path, ".%s.nibble-solved", name);
    FILE *f = fopen(scratch(path), "r+b");
    if (!f) f = fopen(scratch(path), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void damaged_side_file(void **state)
{
    (void)state;
    const char *name = "damaged.gguf";
    const variation resume = {.resume = true};
    write_side(name, "nothing that we wrote, but long enough to hold a head of the right size", 71);
    solve_fails(scratch(name), &resume, NIB_EFORMAT, ".damaged.gguf.nibble-solved: ");
    solve_ok(scratch(name), &(variation){0}); /* without --resume it is replaced */
    remove(scratch(name));

    kill_after(name, 1, (variation){0});
    char path[200];
    snprintf(path, sizeof path, ".%s.nibble-solved", name);
    assert_int_equal(truncate(scratch(path), 5000), 0);
    solve_fails(scratch(name), &resume, NIB_EIO, ": ends at offset ");
    solve_ok(scratch(name), &(variation){0});
    remove(scratch(name));
}

/* ---- some weights solved, some rounded ---- */

/* Is a tensor the same in two files of the scratch folder? */
static bool same_tensor(const char *a, const char *b, const char *name)
{
    opened o, p;
    open_model(&o, scratch(a)), open_model(&p, scratch(b));
    const nib_tensor *t = nib_source_find(o.src, name), *u = nib_source_find(p.src, name);
    assert_true(t && u && t->bytes == u->bytes);
    uint8_t *x = tensor_bytes(o.src, t), *y = tensor_bytes(p.src, u);
    bool same = !memcmp(x, y, (size_t)t->bytes);
    nib_free(x), nib_free(y);
    close_model(&o), close_model(&p);
    return same;
}

static void methods_side_by_side(void **state)
{
    (void)state;
    enum { FEW = 16 };
    nib_recipe r = {.out = scratch("rounded.gguf"), .type = "q3_k_m", .force = true};
    quantize_ok(tiny_llama(), &r, NULL);
    solve_ok(scratch("solved.gguf"), &(variation){.windows = FEW});
    variation v = {.windows = FEW, .override = ".:method=rtn"};
    nib_err err = {0};
    nib_solve_report none = {0};
    assert_int_equal(solve(scratch("one.gguf"), &v, &none, &err), NIB_OK);
    assert_int_equal(none.windows, 0); /* with nothing to solve the model does not run */
    assert_true(same_models(scratch("rounded.gguf"), scratch("one.gguf")));
    v = (variation){.windows = FEW, .rtn = true, .override = ".:method=gptq"};
    solve_ok(scratch("one.gguf"), &v);
    assert_true(same_models(scratch("solved.gguf"), scratch("one.gguf")));

    v = (variation){.windows = FEW, .override = "1.ffn_down:method=rtn"};
    assert_int_equal(solve_ok(scratch("one.gguf"), &v), 27);
    assert_true(same_tensor("rounded.gguf", "one.gguf", "blk.1.ffn_down.weight"));
    assert_true(same_tensor("solved.gguf", "one.gguf", "blk.1.ffn_up.weight"));
    kill_after("stopped.gguf", 2, v);
    v.resume = true;
    solve_ok(scratch("stopped.gguf"), &v);
    assert_true(same_files(scratch("one.gguf"), scratch("stopped.gguf")));
    /* What the rounding lost is not the same to later blocks as no loss. */
    solve_ok(scratch("none.gguf"),
             &(variation){.windows = FEW, .override = "1.ffn_down:skip=true"});
    assert_false(same_tensor("one.gguf", "none.gguf", "blk.2.attn_q.weight"));
}

/* Within a block too, where its activations are renewed. */
static void rounded_before_solved(void **state)
{
    (void)state;
    solve_ok(
        scratch("one.gguf"),
        &(variation){.windows = 16, .override = "1.attn_v:method=rtn", .true_sequential = true});
    solve_ok(
        scratch("none.gguf"),
        &(variation){.windows = 16, .override = "1.attn_v:skip=true", .true_sequential = true});
    assert_false(same_tensor("one.gguf", "none.gguf", "blk.1.ffn_up.weight"));
}

/* ---- activations that are not numbers ---- */

static void not_finite_is_named(void **state)
{
    (void)state;
    const char *norm = "model.layers.2.post_attention_layernorm.weight";
    const variation v = {.model = spoiled_model("inf", norm, 1e25f)};
    solve_fails(scratch("inf.gguf"), &v, NIB_ENUMERIC, "solving 'blk.2.ffn_");
    solve_fails(scratch("inf.gguf"), &v, NIB_ENUMERIC, "second moments are not finite (channels ");
    assert_false(nib_file_exists(scratch("inf.gguf")));
}

/* ---- quality ---- */

/* What comes out of the last block of a model. */
static void run_model(nib_activation_store *out, const char *path, const nib_windows *w,
                      const nib_ctx *ctx)
{
    opened o;
    nib_graph *g;
    nib_err err = {0};
    open_model(&o, path);
    const size_t n = w->n * w->n_ctx, cols = o.model.hp.n_embd;
    float *x = nib_alloc(n * cols, sizeof *x);
    nib_code rc = nib_activation_store_new(out, n, cols, UINT64_MAX, "", &err);
    if (!rc) rc = nib_graph_new(&g, &o.model, ctx, w->n, w->n_ctx, false, &err);
    if (!rc) rc = nib_graph_embed(g, w->id, n, x, &err);
    for (uint32_t l = 0; l < o.model.hp.n_layer && !rc; l++)
        rc = nib_graph_block(g, l, x, w->n, w->n_ctx, 0, NULL, &err);
    if (!rc) rc = nib_activation_store_put(out, 0, n, x, &err);
    if (rc) fail_msg("%s", err.msg);
    nib_graph_free(g);
    nib_free(x);
    close_model(&o);
}

static void nearer_than_rounding(void **state)
{
    (void)state;
    enum { N = 128 };
    opened o;
    nib_windows w, held;
    nib_imatrix im;
    nib_graph *g;
    nib_divergence kl[3];
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    const nib_calib_opts calib = nib_calib_defaults();
    open_model(&o, tiny_llama());
    pick_windows(&w, &o, "calibration.txt", N);
    pick_windows(&held, &o, "eval.txt", 32);
    assert_int_equal(nib_collect_importance(&im, &o.model, &w, &calib, &ctx, &err), NIB_OK);
    nib_recipe r = {.out = scratch("rounded.gguf"), .type = "q4_0", .force = true};
    quantize_ok(tiny_llama(), &r, &im);
    solve_ok(scratch("solved.gguf"), &(variation){.type = "q4_0", .windows = N, .sweeps = 4});

    solve_ok(scratch("drifted.gguf"),
             &(variation){.type = "q4_0", .windows = N, .sweeps = 4, .no_drift = true});

    static const char *const names[] = {"rounded.gguf", "solved.gguf", "drifted.gguf"};
    nib_activation_store original, quantized;
    run_model(&original, tiny_llama(), &held, &ctx);
    assert_int_equal(nib_graph_new(&g, &o.model, &ctx, 1, N_CTX, false, &err), NIB_OK);
    for (int i = 0; i < 3; i++) {
        run_model(&quantized, scratch(names[i]), &held, &ctx);
        assert_int_equal(
            nib_divergence_rows(&kl[i], g, &original, &quantized, 0, held.n * N_CTX, &ctx, &err),
            NIB_OK);
        nib_activation_store_free(&quantized);
    }
    if (!(kl[1].kl < 0.85 * kl[0].kl && kl[1].kl > 0))
        fail_msg("divergence %g, with rounding %g", kl[1].kl, kl[0].kl);
    if (!(kl[1].kl < kl[2].kl))
        fail_msg("divergence %g, without making up for drift %g", kl[1].kl, kl[2].kl);
    assert_true(kl[1].same_top > 0.8);
    nib_activation_store_free(&original);
    nib_graph_free(g);
    nib_imatrix_free(&im);
    nib_windows_free(&w), nib_windows_free(&held);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(same_bytes_renewed),
        cmocka_unit_test(methods_side_by_side),
        cmocka_unit_test(rounded_before_solved),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(killed_without_propagation),
        cmocka_unit_test(nothing_to_resume),
        cmocka_unit_test(resume_of_another_run),
        cmocka_unit_test(damaged_side_file),
        cmocka_unit_test(not_finite_is_named),
        cmocka_unit_test(nearer_than_rounding),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_solve", tests, scratch_make, scratch_remove);
}
