/* SPDX-License-Identifier: MIT */
/* A job from its recipe to what is written: what it needs, what it says, what it leaves behind.
 * What solving does in one is tests/run/test_solve.c's. */
#include "run/job.h"
#include "base/cpu.h"
#include "base/linalg.h"
#include "tests/run/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const nib_packing W8A8_MEASURED = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR, .act_sym = true};

static nib_job_opts opts_for(const char *out, nib_method method)
{
    return (nib_job_opts){.model = tiny_llama(),
                          .recipe = {.out = out, .type = "q4_0", .method = method, .force = true},
                          .solve = nib_solve_defaults()};
}

/* All steps, as far as they go. */
static nib_code carry_out(nib_job *j, const nib_job_opts *opts, nib_err *err)
{
    nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    nib_code rc = nib_job_open(j, opts, &ctx, err);
    if (!rc) rc = nib_job_plan(j, &ctx, err);
    if (!rc && !opts->dry_run) rc = nib_job_run(j, &ctx, err);
    return rc;
}

static void fails(const nib_job_opts *opts, const char *part)
{
    nib_job j;
    nib_err err = {0};
    const int before = scratch_count("");
    assert_int_not_equal(carry_out(&j, opts, &err), NIB_OK);
    nib_job_close(&j);
    expect_text(err.msg, part);
    assert_int_equal(scratch_count(""), before);
}

static void rounding_is_the_writer_alone(void **state)
{
    (void)state;
    nib_job j;
    nib_err err = {0};
    const nib_job_opts opts = opts_for(scratch("job.gguf"), NIB_METHOD_RTN);
    nib_recipe by_hand = opts.recipe;
    by_hand.out = scratch("hand.gguf");
    quantize_ok(tiny_llama(), &by_hand, NULL);
    if (carry_out(&j, &opts, &err)) fail_msg("%s", err.msg);
    assert_true(j.result.seconds > 0);
    assert_int_equal(j.solved.windows, 0);
    assert_int_equal(scratch_count("job.gguf"), 2); /* and its lock */
    nib_job_close(&j);
    assert_int_equal(scratch_count("job.gguf"), 1);
    assert_true(same_models(scratch("job.gguf"), scratch("hand.gguf")));
}

static void dry_run_holds_nothing(void **state)
{
    (void)state;
    nib_job j;
    nib_err err = {0};
    const int before = scratch_count("");
    nib_job_opts opts = opts_for(scratch("dry.gguf"), NIB_METHOD_GPTQ);
    opts.dry_run = true;
    if (carry_out(&j, &opts, &err)) fail_msg("%s", err.msg);
    assert_int_equal(j.plan.n_solved, 28);
    assert_int_equal(scratch_count(""), before);
    nib_job_close(&j);
}

/* More windows take more memory, up to the limit on what is kept of them. */
static void memory_of_solving_is_planned(void **state)
{
    (void)state;
    uint64_t peak[4];
    nib_err err = {0};
    for (int i = 0; i < 4; i++) {
        nib_job j;
        nib_job_opts opts = opts_for(scratch("m.gguf"), i ? NIB_METHOD_GPTQ : NIB_METHOD_RTN);
        opts.dry_run = true;
        opts.text = (nib_sample){.n_ctx = 512, .samples = i < 2 ? 256 : 1024};
        if (i == 3) opts.solve.memory = 1 << 20;
        if (carry_out(&j, &opts, &err)) fail_msg("%s", err.msg);
        peak[i] = j.plan.peak_memory;
        nib_job_close(&j);
    }
    assert_true(peak[0] < peak[1]);
    assert_true(peak[1] + (100 << 20) < peak[2]); /* 768 windows of 512 x 256 floats */
    assert_true(peak[3] < peak[1]);
}

/* The report as JSON has what the report has. */
static void report_says(const nib_job *j)
{
    nib_json *root = nib_json_new_object();
    assert_true(nib_solve_report_json(root, &j->solved));
    const nib_json *s = nib_json_get(root, "solved"), *list = nib_json_get(s, "weights");
    double v;
    const char *name;
    assert_true(nib_json_num(nib_json_get(s, "windows"), &v) && v == 7);
    assert_true(nib_json_num(nib_json_get(s, "held_out"), &v) && v == 1);
    assert_true(nib_json_num(nib_json_get(s, "context"), &v) && v == 32);
    assert_int_equal(nib_json_count(list), j->solved.n);
    const nib_json *line = nib_json_first(list);
    for (size_t i = 0; i < j->solved.n; i++, line = nib_json_next(line)) {
        assert_true(nib_json_str(nib_json_get(line, "name"), &name));
        assert_string_equal(name, j->solved.line[i].name);
        assert_true(nib_json_num(nib_json_get(line, "error"), &v) && v == j->solved.line[i].solved);
        assert_true(nib_json_num(nib_json_get(line, "rounded_error"), &v));
        assert_true(v == j->solved.line[i].rtn);
    }
    nib_json_free(root);
}

/* Where no weight is solved; an empty one serves, for it is not read. */
static void statistics_need_something_to_solve(void **state)
{
    (void)state;
    nib_job j;
    nib_err err = {0};
    nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    const nib_job_opts opts = opts_for(scratch("s.gguf"), NIB_METHOD_RTN);
    assert_int_equal(nib_job_open(&j, &opts, &ctx, &err), NIB_OK);
    assert_int_equal(nib_job_plan(&j, &ctx, &err), NIB_OK);
    j.opts.solve.stats = &j.stats;
    assert_int_equal(nib_job_run(&j, &ctx, &err), NIB_EINVAL);
    expect_text(err.msg, "--stats is of no use where no weight is solved");
    nib_job_close(&j);
    assert_int_equal(scratch_count("s.gguf"), 0);
}

/* A target that is there, without `force`: refused, and as it was. */
static void targets_are_not_overwritten(void **state)
{
    (void)state;
    char old[4] = {0};
    nib_job_opts opts = opts_for(scratch("there.gguf"), NIB_METHOD_RTN);
    FILE *f = fopen(opts.recipe.out, "w+");
    assert_non_null(f);
    assert_int_equal(fwrite("old", 1, 3, f), 3);
    fclose(f);
    opts.recipe.force = false;
    fails(&opts, "there.gguf");
    opts.dry_run = true;
    fails(&opts, "--force");
    assert_non_null(f = fopen(opts.recipe.out, "r"));
    assert_int_equal(fread(old, 1, sizeof old, f), 3);
    fclose(f);
    assert_string_equal(old, "old");
}

/* What an unfinished run has kept is its own: another recipe does not go on with it, and leaves it
 * there; without `resume` it is begun anew. What is taken up is test_solve.c's. */
static void an_unfinished_run_is_not_anothers(void **state)
{
    (void)state;
    nib_job j;
    nib_err err = {0};
    nib_solved_file others;
    char path[512];
    snprintf(path, sizeof path, "%s/../calibration.txt", tiny_llama());
    const nib_text_spec text = {.path = path};
    nib_job_opts opts = opts_for(scratch("u.gguf"), NIB_METHOD_GPTQ);
    opts.recipe.overrides = &(const char *){"blk.[1-3].*:method=rtn"}; /* one block is enough */
    opts.recipe.n_overrides = 1;
    opts.text = (nib_sample){.text = &text, .n_texts = 1, .n_ctx = 32, .samples = 8};
    opts.solve.gptq.sweeps = 0;
    assert_int_equal(nib_solved_file_open(&others, opts.recipe.out, 1, false, &err), NIB_OK);
    assert_int_equal(nib_solved_file_mark(&others, 1, &err), NIB_OK);
    nib_solved_file_close(&others, false);
    opts.resume = true;
    fails(&opts, "had another model, text or recipe");
    assert_int_equal(scratch_count("u.gguf.nibble-solved"), 1);
    opts.resume = false;
    if (carry_out(&j, &opts, &err)) fail_msg("%s", err.msg);
    assert_int_equal(j.solved.n, j.plan.n_solved);
    report_says(&j);
    nib_job_close(&j);
    assert_int_equal(scratch_count("u.gguf"), 1);
}

static void solving_needs_text(void **state)
{
    (void)state;
    nib_job_opts opts = opts_for(scratch("x.gguf"), NIB_METHOD_GPTQ);
    fails(&opts, "method gptq needs --text FILE");
    opts = opts_for(scratch("x"), NIB_METHOD_RTN);
    opts.recipe.format = NIB_FORMAT_DIR;
    opts.recipe.type = NULL;
    opts.recipe.layout = W8A8_MEASURED;
    fails(&opts, "--activations needs --text FILE");
}

/* Whatever fails, nothing stays beside the target. */
static void failures_leave_nothing(void **state)
{
    (void)state;
    const nib_text_spec missing = {.path = "no/such/text"};
    nib_job_opts opts = opts_for(scratch("x.gguf"), NIB_METHOD_GPTQ);
    opts.text = (nib_sample){.text = &missing, .n_texts = 1};
    fails(&opts, "no/such/text");
    opts.imatrix = "no/such/matrix";
    fails(&opts, "no/such/matrix");
    opts = opts_for(scratch("x.gguf"), NIB_METHOD_RTN);
    opts.model = "no/such/model";
    fails(&opts, "no/such/model");
    opts.model = tiny_llama();
    opts.stats = "no/such/stats";
    fails(&opts, "no/such/stats");
    opts.stats = NULL;
    opts.ranges = "no/such/ranges";
    fails(&opts, "no/such/ranges");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_the_writer_alone),
        cmocka_unit_test(dry_run_holds_nothing),
        cmocka_unit_test(memory_of_solving_is_planned),
        cmocka_unit_test(solving_needs_text),
        cmocka_unit_test(failures_leave_nothing),
        cmocka_unit_test(statistics_need_something_to_solve),
        cmocka_unit_test(targets_are_not_overwritten),
        cmocka_unit_test(an_unfinished_run_is_not_anothers),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_job", tests, scratch_make, scratch_remove);
}
