/* SPDX-License-Identifier: MIT */
/* Folders of solved weights: what is stored stands for the values that readers get, the same bytes
 * however they come about, and runs that are killed. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/half.h"
#include "base/linalg.h"
#include "run/solve/divergence.h"
#include "calib/block_pass.h"
#include "tests/run/solving.h"
#include "tests/run/w8a8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { FEW = 16 };

static const nib_packing INT4 = {.bits = 4, .group = 64, .desc_act = true};

static void remove_folder(const char *name)
{
    char cmd[200];
    snprintf(cmd, sizeof cmd, "rm -r '%s'", scratch(name));
    assert_int_equal(system(cmd), 0);
}

static bool same_folders(const char *a, const char *b)
{
    char cmd[400];
    snprintf(cmd, sizeof cmd, "diff -r '%s' '%s'", scratch(a), scratch(b));
    return system(cmd) == 0;
}

/* ---- what is stored ---- */

/* A tensor of the file itself, whatever the folder makes of it. */
static void *stored(const nib_source *file, const char *stem, const char *part, uint64_t shape[2])
{
    char name[200];
    snprintf(name, sizeof name, "%s.%s", stem, part);
    const nib_tensor *t = nib_source_find(file, name);
    if (!t) fail_msg("no tensor %s", name);
    memcpy(shape, t->shape, 2 * sizeof *shape);
    return tensor_bytes(file, t);
}

/* `bits` bits from bit `at` on of a stream of little-endian words that are `stride` apart, one by
 * one. */
static int field(const uint8_t *words, size_t stride, size_t at, unsigned bits)
{
    int v = 0;
    for (unsigned b = 0; b < bits; b++, at++)
        v |= (words[at / 32 * stride * 4 + at % 32 / 8] >> at % 8 & 1) << b;
    return v;
}

/* Columns belong to their groups as the format says: in order, or as many to each. */
static void check_groups(const nib_packing *f, const int32_t *g_idx, size_t cols)
{
    const size_t group = f->group ? f->group : cols;
    size_t *count = nib_calloc(cols / group, sizeof *count), in_order = 0;
    for (size_t c = 0; c < cols; c++) {
        assert_true(g_idx[c] >= 0 && (size_t)g_idx[c] < cols / group);
        in_order += (size_t)g_idx[c] == c / group;
        count[g_idx[c]]++;
    }
    for (size_t g = 0; g < cols / group; g++) assert_int_equal(count[g], group);
    assert_true(f->desc_act && f->group ? in_order < cols : in_order == cols);
    nib_free(count);
}

/* value = scale * (code - zero), computed from the tensors of the file, is what the folder's reader
 * gives. */
static void check_weight(const nib_source *file, const nib_source *folder, const nib_packing *f,
                         const char *stem)
{
    char name[200];
    uint64_t q[2], z[2], s[2], g[2];
    uint8_t *qweight = stored(file, stem, "qweight", q), *qzeros = stored(file, stem, "qzeros", z);
    uint16_t *scales = stored(file, stem, "scales", s);
    int32_t *g_idx = stored(file, stem, "g_idx", g);
    const size_t rows = (size_t)q[1], cols = (size_t)g[0];
    snprintf(name, sizeof name, "%s.weight", stem);
    const nib_tensor *t = nib_source_find(folder, name);
    assert_true(t && t->shape[0] == rows && t->shape[1] == cols && q[0] * 32 == cols * f->bits);
    assert_true(z[0] == s[0] && z[1] * 32 == rows * f->bits && s[1] == rows);
    check_groups(f, g_idx, cols);
    float *value = tensor_values(folder, t);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            const size_t i = (size_t)g_idx[c];
            int code = field(qweight + r * 4, rows, c * f->bits, f->bits);
            int zero = field(qzeros + i * z[1] * 4, 1, r * f->bits, f->bits) + (f->v2 ? 0 : 1);
            float expected = nib_f16_to_f32(scales[i * rows + r]) * (float)(code - zero);
            if (expected != value[r * cols + c])
                fail_msg("%s [%zu, %zu]: %g, stored %g", name, r, c, (double)value[r * cols + c],
                         (double)expected);
            assert_true(!f->sym || zero == 1 << (f->bits - 1));
        }
    void *all[] = {qweight, qzeros, scales, g_idx, value};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nib_free(all[i]);
}

/* Every packed layer of the folder "stored", which is removed; those whose name holds `part` have
 * the format `own`. Returns how many. */
static size_t check_stored(const nib_packing *f, const char *part, const nib_packing *own)
{
    nib_source *file, *folder;
    nib_err err = {0};
    size_t checked = 0;
    if (nib_source_open(&file, scratch("stored/model.safetensors"), &err) ||
        nib_source_open(&folder, scratch("stored"), &err))
        fail_msg("%s", err.msg);
    for (size_t k = 0; k < nib_source_count(file); k++) {
        char stem[128];
        const char *name = nib_source_at(file, k)->name, *end = strstr(name, ".qweight");
        if (!end) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - name), name);
        check_weight(file, folder, part && strstr(stem, part) ? own : f, stem);
        checked++;
    }
    nib_source_close(file);
    nib_source_close(folder);
    remove_folder("stored");
    return checked;
}

static const char *small_model(void)
{
    return random_model("model", gen_family_find("qwen3"), 256, 1, NIB_BF16);
}

static void stored_values_are_the_values(void **state)
{
    (void)state;
    static const nib_packing formats[] = {
        {.bits = 2, .group = 32},
        {.bits = 2, .group = 64, .sym = true, .v2 = true},
        {.bits = 3, .group = 64, .sym = true},
        {.bits = 3, .group = 128, .desc_act = true, .v2 = true},
        {.bits = 4, .group = 128, .sym = true, .desc_act = true},
        {.bits = 4, .group = 32, .v2 = true},
        {.bits = 8, .group = 0, .sym = true},
        {.bits = 8, .group = 64, .desc_act = true},
    };
    char model[200];
    snprintf(model, sizeof model, "%s", small_model());
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const variation v = {.model = model, .folder = &formats[i], .windows = FEW};
        assert_int_equal(solve_ok(scratch("stored"), &v), 7);
        assert_int_equal(check_stored(&formats[i], NULL, NULL), 7);
    }
}

/* Layers of their own format are solved onto it, and those that are skipped are seen as they are.
 */
static void layers_of_their_own_are_solved_onto_it(void **state)
{
    (void)state;
    static const nib_packing own = {.bits = 3, .group = 32, .desc_act = true};
    char model[200];
    snprintf(model, sizeof model, "%s", small_model());
    variation v = {.model = model,
                   .folder = &INT4,
                   .windows = FEW,
                   .override = "self_attn:bits=3,group-size=32"};
    assert_int_equal(solve_ok(scratch("stored"), &v), 7);
    assert_int_equal(check_stored(&INT4, ".self_attn.", &own), 7);
    v.override = "mlp:skip=true";
    assert_int_equal(solve_ok(scratch("stored"), &v), 4);
    assert_int_equal(check_stored(&INT4, NULL, NULL), 4);
    v.transform = NIB_TRANSFORM_AWQ; /* the norm before them is left alone too */
    assert_int_equal(solve_ok(scratch("stored"), &v), 4);
    assert_int_equal(check_stored(&INT4, NULL, NULL), 4);
}

/* A method of its own: only these are solved, all are packed. */
static void methods_can_be_mixed(void **state)
{
    (void)state;
    static const nib_packing plain = {.bits = 4, .group = 64};
    char model[200];
    snprintf(model, sizeof model, "%s", small_model());
    const variation v = {.model = model,
                         .folder = &plain,
                         .windows = FEW,
                         .rtn = true,
                         .override = "ffn_down:method=gptq"};
    assert_int_equal(solve_ok(scratch("stored"), &v), 1);
    assert_int_equal(check_stored(&plain, NULL, NULL), 7);
}

/* ---- the same bytes ---- */

static const char *usual(void)
{
    if (!nib_file_exists(scratch("usual")))
        solve_ok(scratch("usual"), &(variation){.folder = &INT4});
    return "usual";
}

static void same_bytes(void **state)
{
    (void)state;
    const variation same[] = {{.threads = 1}, {.threads = 3}, {.memory = 1}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        variation v = same[i];
        v.folder = &INT4;
        solve_ok(scratch("other"), &v);
        if (!same_folders(usual(), "other")) fail_msg("variation %zu differs", i);
        assert_int_equal(scratch_count("other"), 1);
        remove_folder("other");
    }
}

/* ---- killed and taken up ---- */

static void killed_and_resumed(void **state)
{
    (void)state;
    const variation first = {.folder = &INT4}, again = {.folder = &INT4, .resume = true};
    kill_after("killed", 1, first);
    kill_after("killed", 2, again);
    assert_true(solve_ok(scratch("killed"), &again) <= 14);
    assert_true(same_folders(usual(), "killed"));
    assert_int_equal(scratch_count("killed"), 1);
    remove_folder("killed");
}

/* What later blocks see are rounded inputs again, by the ranges that are kept. */
static void ranges_are_resumed(void **state)
{
    (void)state;
    const variation whole = {.folder = &W8A8_STATIC},
                    again = {.folder = &W8A8_STATIC, .resume = true};
    solve_ok(scratch("whole"), &whole);
    kill_after("parts", 2, whole);
    assert_true(solve_ok(scratch("parts"), &again) <= 14);
    assert_true(same_folders("whole", "parts"));
    remove_folder("whole");
    remove_folder("parts");
}

static void resume_of_another_run(void **state)
{
    (void)state;
    static const nib_packing others[] = {
        {.bits = 3, .group = 64, .desc_act = true},
        {.bits = 4, .group = 32, .desc_act = true},
        {.bits = 4, .group = 64},
        {.bits = 4, .group = 64, .desc_act = true, .sym = true},
        {.bits = 4, .group = 64, .desc_act = true, .v2 = true},
    };
    const char *refusal = "another model, text or recipe";
    const variation again = {.folder = &INT4, .resume = true};
    kill_after("mixed", 1, (variation){.folder = &INT4});
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        solve_fails(scratch("mixed"), &(variation){.folder = &others[i], .resume = true},
                    NIB_EINVAL, refusal);
    solve_fails(scratch("mixed"), &(variation){.resume = true}, NIB_EINVAL,
                refusal); /* a file, not a folder */
    variation changed = again;
    changed.override = "layers\\.3\\.mlp\\.down:bits=3";
    solve_fails(scratch("mixed"), &changed, NIB_EINVAL, refusal);
    changed.override = "layers\\.3\\.mlp\\.down:skip=true";
    solve_fails(scratch("mixed"), &changed, NIB_EINVAL, refusal);
    changed = again;
    changed.model = spoiled_model("changed", "model.layers.1.input_layernorm.weight", 0.5f);
    solve_fails(scratch("mixed"), &changed, NIB_EINVAL, refusal);
    assert_true(solve_ok(scratch("mixed"), &again) < 28); /* the refusals cost nothing */
    assert_true(same_folders(usual(), "mixed"));
    remove_folder("mixed");
}

/* ---- rounded inputs ---- */

/* The activations of the last n of the windows behind all blocks of a model. */
static void run_through(nib_block_pass *x, nib_runner *r, const opened *o, const nib_windows *w,
                        size_t n, const nib_ctx *ctx)
{
    nib_err err = {0};
    nib_code rc = nib_runner_new(r, &o->model, w, ctx, &err);
    if (!rc) rc = nib_block_pass_open(x, r, w->n - n, n, UINT64_MAX, NULL, &err);
    for (uint32_t layer = 0; layer < o->model.hp.n_layer && !rc; layer++)
        rc = nib_block_pass_run(x, r, layer, 0, n, true, NULL, &err);
    if (rc) fail_msg("%s", err.msg);
}

/* How far the folder at `path` is from the model that it comes from. */
static nib_divergence measure_folder(const char *path, size_t held_out)
{
    opened o, q;
    nib_windows w = {0};
    nib_runner runner[2];
    nib_block_pass x[2];
    nib_divergence kl;
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    open_model(&o, tiny_llama());
    open_model(&q, path);
    pick_windows(&w, &o, "calibration.txt", WINDOWS);
    run_through(&x[0], &runner[0], &o, &w, held_out, &ctx);
    run_through(&x[1], &runner[1], &q, &w, held_out, &ctx);
    if (nib_divergence_rows(&kl, runner[0].graph, &x[0].rows, &x[1].rows, 0, held_out * N_CTX, &ctx,
                            &err))
        fail_msg("%s", err.msg);
    for (int i = 0; i < 2; i++) {
        nib_block_pass_close(&x[i]);
        nib_runner_free(&runner[i]);
    }
    nib_windows_free(&w);
    close_model(&q);
    close_model(&o);
    return kl;
}

/* The divergence that a run reports is that of the folder it wrote. The folder's products are exact
 * in integers, the run's are sums of the same terms in f32. The last bits of a sum decide for a few
 * activations to which of two codes they go, and one that goes the other way moves all that follow
 * it: a token is then rounded anew. Were that so for all of them, the two figures would still share
 * their positions, which make most of the standard error; so they are within one of it. Inputs that
 * are not rounded at all have less than a tenth of the divergence. */
static void reported_divergence_is_of_the_folder(void **state)
{
    (void)state;
    const variation runs[] = {
        {.folder = &W8A8},
        {.folder = &W8A8_TENSOR},
        {.folder = &W8A8_STATIC},
        {.folder = &W8A8_STATIC, .rtn = true},
        {.folder = &W8A8, .transform = NIB_TRANSFORM_SMOOTHQUANT, .alpha = 0.5}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        nib_err err = {0};
        nib_solve_report report = {0};
        if (solve(scratch("inputs"), &runs[i], &report, &err)) fail_msg("%s", err.msg);
        const nib_divergence kl = measure_folder(scratch("inputs"), report.held_out);
        print_message("# %zu: %g reported, the folder has %g +/- %g\n", i, report.kl.kl, kl.kl,
                      kl.error);
        assert_true(fabs(kl.kl - report.kl.kl) < kl.error);
        nib_solve_report_free(&report);
        remove_folder("inputs");
    }
}

/* ---- activations that are not numbers ---- */

static void not_finite_is_named(void **state)
{
    (void)state;
    const char *norm = "model.layers.2.post_attention_layernorm.weight";
    const variation v = {.folder = &INT4, .model = spoiled_model("inf", norm, 1e25f)};
    solve_fails(scratch("not-finite"), &v, NIB_ENUMERIC, "solving 'model.layers.2.mlp.");
    assert_false(nib_file_exists(scratch("not-finite")));
}

static void inputs_without_a_range_are_named(void **state)
{
    (void)state;
    const char *norm = "model.layers.1.post_attention_layernorm.weight";
    const variation v = {
        .folder = &W8A8_STATIC, .rtn = true, .model = spoiled_model("zero", norm, 0)};
    solve_fails(scratch("zero-input"), &v, NIB_ENUMERIC,
                "the input of 'blk.1.ffn_gate.weight' on this text: only zeros were observed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_values_are_the_values),
        cmocka_unit_test(layers_of_their_own_are_solved_onto_it),
        cmocka_unit_test(methods_can_be_mixed),
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(ranges_are_resumed),
        cmocka_unit_test(resume_of_another_run),
        cmocka_unit_test(reported_divergence_is_of_the_folder),
        cmocka_unit_test(not_finite_is_named),
        cmocka_unit_test(inputs_without_a_range_are_named),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_solve_dir", tests, scratch_make, scratch_remove);
}
