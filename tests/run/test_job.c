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
    assert_true(same_files(scratch("job.gguf"), scratch("hand.gguf")));
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
        cmocka_unit_test(rounding_is_the_writer_alone), cmocka_unit_test(dry_run_holds_nothing),
        cmocka_unit_test(memory_of_solving_is_planned), cmocka_unit_test(solving_needs_text),
        cmocka_unit_test(failures_leave_nothing),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_job", tests, scratch_make, scratch_remove);
}
