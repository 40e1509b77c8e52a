/* SPDX-License-Identifier: MIT */
/* NVFP4 in GGUF files: what other methods than plain rounding make has a factor beside each weight
 * that llama.cpp multiplies by. */
#include "run/job.h"
#include "tests/run/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static nib_code make_file(const char *model, const char *out, nib_recipe r, nib_err *err)
{
    nib_log log = {0};
    const nib_ctx ctx = {.threads = 2, .log = &log};
    char text[4096];
    snprintf(text, sizeof text, "%s/../calibration.txt", tiny_llama());
    nib_text_spec sample = {.path = text, .weight = 1};
    nib_job job;
    nib_job_opts opts = {.model = model, .recipe = r, .solve = nib_solve_defaults()};
    opts.recipe.out = scratch(out);
    opts.text = (nib_sample){.text = &sample, .n_texts = 1, .n_ctx = 64, .samples = 8};
    nib_code rc = nib_job_open(&job, &opts, &ctx, err);
    if (!rc) rc = nib_job_plan(&job, &ctx, err);
    if (!rc) rc = nib_job_run(&job, &ctx, err);
    nib_job_close(&job);
    return rc;
}

static void make_ok(const char *model, const char *out, nib_recipe r)
{
    nib_err err = {0};
    if (make_file(model, out, r, &err)) fail_msg("%s", err.msg);
}

/* Root of the mean squared error of a weight of the file, of what it is in the model. */
static double error_in(const opened *o, const opened *from, const char *gguf, const char *hf)
{
    const nib_tensor *t = nib_source_find(o->src, gguf), *u = nib_source_find(from->src, hf);
    const size_t n = (size_t)nib_tensor_elems(t);
    double error = 0, all = 0;
    float *x = tensor_values(o->src, t), *y = tensor_values(from->src, u);
    for (size_t i = 0; i < n; i++) {
        error += pow((double)x[i] - (double)y[i], 2);
        all += pow((double)y[i], 2);
    }
    nib_free(x);
    nib_free(y);
    return sqrt(error / all);
}

static bool is_power_of_two(float f)
{
    int e;
    return f > 0 && frexpf(f, &e) == 0.5f;
}

static size_t count_factors(const opened *o)
{
    size_t n = 0;
    for (size_t i = 0; i < nib_source_count(o->src); i++) {
        const nib_tensor *t = nib_source_at(o->src, i);
        if (!t->is_factor) continue;
        float *f = tensor_values(o->src, t);
        assert_true(is_power_of_two(*f) && *f < 1);
        nib_free(f);
        n++;
    }
    return n;
}

/* Plain rounding has the reference's bytes. Readers multiply by the factors: values are the
 * model's.
 */
static void methods_have_them(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        nib_method method;
        nib_transform transform;
    } made[] = {{"hqq.gguf", NIB_METHOD_HQQ, NIB_TRANSFORM_NONE},
                {"gptq.gguf", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE},
                {"awq.gguf", NIB_METHOD_RTN, NIB_TRANSFORM_AWQ}};
    opened plain, from;
    char model[4096];
    snprintf(model, sizeof model, "%s",
             random_model("llama", gen_family_find("llama"), 128, 1, NIB_F32));
    make_ok(model, "plain.gguf", (nib_recipe){.type = "nvfp4"});
    open_model(&plain, scratch("plain.gguf"));
    open_model(&from, model);
    assert_int_equal(count_factors(&plain), 0);
    const char *gguf = "blk.0.ffn_down.weight", *hf = "model.layers.0.mlp.down_proj.weight";
    const double without = error_in(&plain, &from, gguf, hf);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        opened o;
        make_ok(model, made[i].name,
                (nib_recipe){
                    .type = "nvfp4", .method = made[i].method, .transform = made[i].transform});
        open_model(&o, scratch(made[i].name));
        assert_int_equal(count_factors(&o), 7);
        if (!made[i].transform) assert_true(error_in(&o, &from, gguf, hf) < 1.5 * without);
        close_model(&o);
    }
    close_model(&plain);
    close_model(&from);
}

/* Of Gemma, llama.cpp loads the factors and does not multiply by them. */
static void not_where_engines_ignore_them(void **state)
{
    (void)state;
    opened o;
    const char *model = random_model("gemma", gen_family_find("gemma3"), 128, 1, NIB_F32);
    make_ok(model, "gemma.gguf", (nib_recipe){.type = "nvfp4", .method = NIB_METHOD_HQQ});
    open_model(&o, scratch("gemma.gguf"));
    assert_int_equal(count_factors(&o), 0);
    close_model(&o);
}

/* All experts of a stack have the same. */
static void experts(void **state)
{
    (void)state;
    opened o;
    const char *model = random_model("moe", gen_family_find("qwen3moe"), 128, 1, NIB_F32);
    make_ok(model, "moe.gguf", (nib_recipe){.type = "nvfp4", .method = NIB_METHOD_HQQ});
    open_model(&o, scratch("moe.gguf"));
    const nib_tensor *f = nib_source_find(o.src, "blk.0.ffn_down_exps.scale");
    assert_non_null(f);
    assert_int_equal(nib_tensor_elems(f), o.model.hp.n_expert);
    float *v = tensor_values(o.src, f);
    for (size_t i = 0; i < o.model.hp.n_expert; i++)
        assert_true(v[i] == v[0] && is_power_of_two(v[i]));
    nib_free(v);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_have_them),
        cmocka_unit_test(not_where_engines_ignore_them),
        cmocka_unit_test(experts),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
