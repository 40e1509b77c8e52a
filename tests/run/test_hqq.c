/* SPDX-License-Identifier: MIT */
/* Jobs of method hqq: GGUF files, packed folders and HQQ's own, without sample text. */
#include "run/job.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const nib_packing HQQ4 = {.kind = NIB_PACKING_HQQ, .bits = 4, .group = 64};

static nib_code run_job(const char *model, nib_recipe r, int threads, nib_err *err)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = threads, .log = &log};
    nib_job job;
    nib_job_opts opts = {.model = model, .recipe = r, .solve = nib_solve_defaults()};
    nib_code rc = nib_job_open(&job, &opts, &ctx, err);
    if (!rc) rc = nib_job_plan(&job, &ctx, err);
    if (!rc) {
        assert_int_equal(job.plan.n_solved, 0);
        rc = nib_job_run(&job, &ctx, err);
    }
    nib_job_close(&job);
    return rc;
}

static void write_ok(const char *model, nib_recipe r, int threads)
{
    nib_err err = {0};
    if (run_job(model, r, threads, &err)) fail_msg("%s", err.msg);
}

/* Mean of |w - q|^0.7 over the linear weights of the blocks: of 28 in the demonstration model. */
static double error_of(const char *model, const char *path)
{
    opened a, b;
    double sum = 0;
    size_t n = 0;
    open_model(&a, model), open_model(&b, path);
    for (uint32_t layer = 0; layer < a.model.hp.n_layer; layer++)
        for (nib_role r = 0; r < NIB_ROLE_COUNT; r++) {
            const nib_place at = {.layer = layer, .role = r};
            if (!nib_role_is_linear(r)) continue;
            const nib_tensor *s = nib_model_tensor(&a.model, at),
                             *t = nib_model_tensor(&b.model, at);
            if (!s || !t) continue;
            float *x = tensor_values(a.src, s), *y = tensor_values(b.src, t);
            const size_t k = (size_t)nib_tensor_elems(s);
            for (size_t i = 0; i < k; i++) sum += pow(fabs((double)x[i] - y[i]), 0.7);
            n += k;
            nib_free(x), nib_free(y);
        }
    close_model(&a), close_model(&b);
    assert_true(n > 0);
    return sum / (double)n;
}

static double error_by(nib_method method, nib_recipe r)
{
    char name[32];
    snprintf(name, sizeof name, "e%d%s", (int)method, r.format ? "" : ".gguf");
    r.method = method;
    r.out = scratch(name);
    r.force = true;
    write_ok(tiny_llama(), r, 2);
    return error_of(tiny_llama(), scratch(name));
}

/* The aim of the fit comes nearer than under the extremes of the groups. */
static void comes_nearer_than_the_range(void **state)
{
    (void)state;
    static const nib_recipe formats[] = {
        {.format = NIB_FORMAT_DIR, .layout = {.kind = NIB_PACKING_HQQ, .bits = 4, .group = 64}},
        {.format = NIB_FORMAT_DIR, .layout = {.kind = NIB_PACKING_HQQ, .bits = 2, .group = 64}},
        {.format = NIB_FORMAT_DIR, .layout = {.kind = NIB_PACKING_GPTQ, .bits = 3, .group = 64}},
        {.format = NIB_FORMAT_DIR,
         .layout = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 128, .sym = true}},
        {.type = "q4_1", .pure = true},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const double range = error_by(NIB_METHOD_RTN, formats[i]),
                     fitted = error_by(NIB_METHOD_HQQ, formats[i]);
        if (!(fitted < range)) fail_msg("format %zu: error %g, of the range %g", i, fitted, range);
    }
}

/* From what the search for scales found, where it searches. */
static void starts_from_the_scales(void **state)
{
    (void)state;
    nib_recipe r = {.format = NIB_FORMAT_DIR, .layout = HQQ4, .scales = NIB_SCALES_RANGE};
    const double range = error_by(NIB_METHOD_HQQ, r);
    r.scales = NIB_SCALES_SQUARE;
    assert_true(error_by(NIB_METHOD_HQQ, r) != range);
}

static void same_for_any_number_of_threads(void **state)
{
    (void)state;
    write_ok(tiny_llama(),
             (nib_recipe){.type = "q2_k", .method = NIB_METHOD_HQQ, .out = scratch("one.gguf")}, 1);
    write_ok(tiny_llama(),
             (nib_recipe){.type = "q2_k", .method = NIB_METHOD_HQQ, .out = scratch("two.gguf")}, 2);
    assert_true(same_files(scratch("one.gguf"), scratch("two.gguf")));
}

/* An expert's weights are fitted apart, so that a file and a folder of the same format agree. */
static void experts_one_by_one(void **state)
{
    (void)state;
    const char *model = random_model("moe", gen_family_find("qwen3moe"), 64, 2, NIB_BF16);
    char path[256];
    snprintf(path, sizeof path, "%s", model);
    write_ok(
        path,
        (nib_recipe){
            .type = "q4_1", .pure = true, .method = NIB_METHOD_HQQ, .out = scratch("moe.gguf")},
        2);
    write_ok(path, (nib_recipe){.type = "q4_1", .pure = true, .out = scratch("moe-rtn.gguf")}, 2);
    assert_true(error_of(path, scratch("moe.gguf")) < error_of(path, scratch("moe-rtn.gguf")));
}

/* Written from a packed folder, too, and read as what it says. */
static void its_own_folder(void **state)
{
    (void)state;
    nib_err err = {0};
    opened o;
    write_folder_ok("h", (nib_recipe){.layout = HQQ4, .method = NIB_METHOD_HQQ}, 2);
    open_model(&o, scratch("h"));
    const nib_tensor *t =
        nib_model_tensor(&o.model, (nib_place){.layer = 0, .role = NIB_ROLE_FFN_DOWN});
    assert_string_equal(t->codec->name, "int4-g64");
    close_model(&o);
    const nib_packing whole = {.kind = NIB_PACKING_CT_INT,
                               .bits = 8,
                               .per_tensor = true,
                               .sym = true,
                               .act = NIB_ACT_TOKEN,
                               .act_sym = true};
    assert_int_equal(
        write_folder("w", (nib_recipe){.layout = whole, .method = NIB_METHOD_HQQ}, 2, &err),
        NIB_EINVAL);
    expect_text(err.msg, "one scale for all");
    patch("h/config.json", "\"nbits\"", "\"mbits\""); /* layers say it themselves */
    open_model(&o, scratch("h"));
    close_model(&o);
    patch_tensor("h", "model.layers.0.mlp.down_proj.axis", &(int32_t){2}, 4);
    refuse_folder("h", "'axis' should be 0 or 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_nearer_than_the_range),
        cmocka_unit_test(starts_from_the_scales),
        cmocka_unit_test(same_for_any_number_of_threads),
        cmocka_unit_test(experts_one_by_one),
        cmocka_unit_test(its_own_folder),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
