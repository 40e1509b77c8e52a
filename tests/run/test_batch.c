/* SPDX-License-Identifier: MIT */
/* Batches: outputs that share are what they are alone, what is shared is planned, failures stay
 * where they are, and what is finished is kept. Kills and full disks are tests/e2e/batch.sh's. */
#include "run/batch.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "tests/run/solving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static const nib_packing W8A8_MEASURED = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR, .act_sym = true};

static nib_text_spec texts[1];

static nib_batch_output output(const char *out, const char *type, nib_method method,
                               nib_transform transform, bool propagate)
{
    static char text[512], path[32][200];
    static size_t n;
    char *to = path[n++ % 32];
    snprintf(text, sizeof text, "%s/../calibration.txt", tiny_llama());
    texts[0] = (nib_text_spec){.path = text};
    if (out) snprintf(to, sizeof path[0], "%s", scratch(out));
    nib_batch_output o = {.where = "recipe",
                          .opts = {.recipe = {.out = out ? to : NULL,
                                              .type = type,
                                              .method = method,
                                              .transform = transform},
                                   .text = {.text = texts, .n_texts = 1, .n_ctx = 32, .samples = 8},
                                   .solve = nib_solve_defaults()}};
    o.opts.solve.gptq.sweeps = 1;
    o.opts.solve.propagate = propagate;
    return o;
}

static nib_code carry_out(nib_batch *b, nib_err *err)
{
    const nib_ctx ctx = {.threads = 1, .cpu = nib_cpu_detect()};
    nib_code rc = nib_batch_open(b, &ctx, err);
    if (!rc) rc = nib_batch_plan(b, &ctx, err);
    if (!rc && !b->dry_run) rc = nib_batch_run(b, &ctx, err);
    return rc;
}

static nib_batch batch_of(nib_batch_output *o, size_t n)
{
    static char records[200];
    snprintf(records, sizeof records, "%s", scratch(".records"));
    return (nib_batch){.model = tiny_llama(), .records = records, .output = o, .n = n};
}

static void expect_state(const nib_batch_output *o, nib_batch_state state)
{
    if (o->state != state) fail_msg("%s: state %d: %s", o->opts.recipe.out, o->state, o->err.msg);
}

/* The output made by a job of its own. */
static void expect_same_alone(const nib_batch_output *o)
{
    char out[300], mine[400], others[400];
    nib_job j;
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 1, .cpu = nib_cpu_detect()};
    nib_job_opts how = o->opts;
    const bool folder = how.recipe.format != NIB_FORMAT_GGUF;
    snprintf(out, sizeof out, "%s-alone", o->opts.recipe.out);
    how.model = tiny_llama();
    how.recipe.out = out;
    nib_code rc = nib_job_open(&j, &how, &ctx, &err);
    if (!rc) rc = nib_job_plan(&j, &ctx, &err);
    if (!rc) rc = nib_job_run(&j, &ctx, &err);
    if (rc) fail_msg("%s", err.msg);
    assert_true(j.solved.kl.kl == o->job.solved.kl.kl);
    nib_job_close(&j);
    snprintf(mine, sizeof mine, "%s%s", o->opts.recipe.out, folder ? "/model.safetensors" : "");
    snprintf(others, sizeof others, "%s%s", out, folder ? "/model.safetensors" : "");
    if (!same_files(mine, others)) fail_msg("%s is another alone", mine);
}

/* All ways to look at a block, and to change it, side by side. */
static void outputs_are_what_they_are_alone(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_batch_output o[] = {
        output("a", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, false),
        output("b", "q4_0", NIB_METHOD_RTN, NIB_TRANSFORM_SMOOTHQUANT, false),
        output("c", "q3_k_m", NIB_METHOD_GPTQ, NIB_TRANSFORM_SMOOTHQUANT, false),
        output("d", NULL, NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, false),
        output("e", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, true),
        output("f", "q4_k_m", NIB_METHOD_GPTQ, NIB_TRANSFORM_SMOOTHQUANT, true),
        output("g", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, true),
        output("h", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, true),
        output("i", "q8_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
        output("j", "q3_k_m", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, false),
        output("k", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_SMOOTHQUANT, false), /* b's scales */
    };
    const size_t n = sizeof o / sizeof *o;
    o[3].opts.recipe.format = NIB_FORMAT_DIR;
    o[3].opts.recipe.layout = W8A8_MEASURED;
    o[6].opts.solve.drift = 0;
    o[7].opts.solve.true_sequential = true;
    o[9].opts.solve.gptq.damp = 0.1;
    nib_batch b = batch_of(o, n);
    if (carry_out(&b, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++) {
        expect_state(&o[i], NIB_BATCH_MADE);
        assert_int_equal(o[i].group, i == 7 ? 1 : i == 8 ? 2 : 0);
        expect_same_alone(&o[i]);
    }
    /* Three passes for each of e and f, one of them the original model's, which serves a to d, j
     * and k too; two for g. */
    const nib_batch_cost c = nib_batch_group_cost(&b, 0);
    assert_int_equal(c.outputs, 9);
    assert_int_equal(c.original, 6);
    assert_int_equal(c.drift, 2);
    assert_int_equal(c.alone, 6 + 3 + 3 + 2);
    assert_int_equal(c.passes, 1 + 2 + 2 + 2);
    /* More than one of them alone. */
    for (size_t i = 0; i < n; i++) assert_true(b.peak_memory > o[i].job.plan.peak_memory);
    nib_batch_close(&b);
}

/* Of two no file of solved tensors can be made, since there is a folder of that name; one has no
 * folder to be in. */
static void failures_stay_where_they_are(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_batch_output o[] = {
        output("p", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, false),
        output("q", "q8_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, false),
        output("r", "q4_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, true),
        output("s", "q8_0", NIB_METHOD_GPTQ, NIB_TRANSFORM_NONE, true),
        output("no/folder/t", "q8_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
    };
    nib_batch b = batch_of(o, 5);
    assert_int_equal(mkdir(scratch(".p.nibble-solved"), 0777), 0);
    assert_int_equal(mkdir(scratch(".r.nibble-solved"), 0777), 0);
    if (carry_out(&b, &err)) fail_msg("%s", err.msg);
    expect_state(&o[0], NIB_BATCH_FAILED);
    expect_state(&o[1], NIB_BATCH_MADE);
    expect_state(&o[2], NIB_BATCH_FAILED);
    expect_state(&o[3], NIB_BATCH_MADE);
    expect_state(&o[4], NIB_BATCH_FAILED);
    expect_text(o[0].err.msg, ".p.nibble-solved: Is a directory");
    expect_text(o[2].err.msg, ".r.nibble-solved");
    expect_text(o[4].err.msg, "no/folder");
    nib_batch_close(&b);
}

/* What a second run does with the outputs of the first. */
static void finished_outputs_are_kept(void **state)
{
    (void)state;
    nib_err err = {0};
    for (int run = 0; run < 4; run++) {
        nib_batch_output o[] = {
            output("k.gguf", "q4_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
            output("l.gguf", run < 2 ? "q4_0" : "q5_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
            output("m.gguf", "q8_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
        };
        nib_batch b = batch_of(o, run ? 3 : 2);
        b.resume = run > 0;
        if (run == 3) { /* somebody else's */
            FILE *f = fopen(scratch("k.gguf"), "w");
            assert_non_null(f);
            fclose(f);
        }
        if (carry_out(&b, &err)) fail_msg("%s", err.msg);
        expect_state(&o[0], run == 0   ? NIB_BATCH_MADE
                            : run == 3 ? NIB_BATCH_FAILED
                                       : NIB_BATCH_KEPT);
        expect_state(&o[1], run % 2 ? NIB_BATCH_KEPT : NIB_BATCH_MADE);
        if (run) expect_state(&o[2], run == 1 ? NIB_BATCH_MADE : NIB_BATCH_KEPT);
        if (run == 3) expect_text(o[0].err.msg, "is not as this batch left it");
        nib_batch_close(&b);
    }
    nib_batch_output again = output("k.gguf", "q4_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true);
    nib_batch b = batch_of(&again, 1);
    if (carry_out(&b, &err)) fail_msg("%s", err.msg);
    expect_state(&again, NIB_BATCH_FAILED);
    expect_text(again.err.msg, "exists already");
    nib_batch_close(&b);
}

/* Importances are those of a calibration of its own, and files made with them the same. */
static void importances_are_collected_once(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_batch_output o[] = {
        output(NULL, "q4_k", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
        output(NULL, "q2_k", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
    };
    o[0].importances = o[1].importances = true;
    nib_batch b = batch_of(o, 2);
    b.folder = scratch("made");
    b.text = o[0].opts.text;
    if (carry_out(&b, &err)) fail_msg("%s", err.msg);
    expect_state(&o[0], NIB_BATCH_MADE);
    expect_state(&o[1], NIB_BATCH_MADE);
    assert_string_equal(nib_path_base(o[0].opts.recipe.out), "tiny-llama-2.9M-Q4_K_M.gguf");
    assert_string_equal(nib_path_base(o[1].opts.recipe.out), "tiny-llama-2.9M-Q2_K.gguf");
    assert_string_equal(nib_path_base(b.imatrix), "tiny-llama-2.9M-imatrix.gguf");
    assert_true(o[1].job.plan.n_with_importance > 0);
    o[1].opts.imatrix = b.imatrix;
    o[1].opts.recipe.force = true;
    expect_same_alone(&o[1]);
    nib_batch_close(&b);
}

static void wrong_recipes(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_batch_output twins[] = {
        output("x.gguf", "q4_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true),
        output("./x.gguf", "q5_0", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true)};
    nib_batch b = batch_of(twins, 2);
    twins[1].opts.recipe.out = twins[0].opts.recipe.out;
    assert_int_equal(carry_out(&b, &err), NIB_EINVAL);
    expect_text(err.msg, "is the name of another output too");
    nib_batch_close(&b);
    nib_batch_output folder = output(NULL, NULL, NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true);
    folder.opts.recipe.format = NIB_FORMAT_DIR;
    b = batch_of(&folder, 1);
    assert_int_equal(carry_out(&b, &err), NIB_EINVAL);
    expect_text(err.msg, "\"output\" is missing");
    nib_batch_close(&b);
    nib_batch_output type = output("x.gguf", "q4_9", NIB_METHOD_RTN, NIB_TRANSFORM_NONE, true);
    b = batch_of(&type, 1);
    assert_int_equal(carry_out(&b, &err), NIB_EINVAL);
    expect_text(err.msg, "recipe: unknown file type 'q4_9'");
    nib_batch_close(&b);
    FILE *f = fopen(b.records, "w");
    assert_non_null(f);
    fputs("{\"format\": \"other\"}", f);
    fclose(f);
    type.opts.recipe.type = "q8_0";
    b = batch_of(&type, 1);
    b.resume = true;
    assert_int_equal(carry_out(&b, &err), NIB_EFORMAT);
    expect_text(err.msg, "holds no records of a batch");
    nib_batch_close(&b);
    assert_int_equal(scratch_count("x.gguf"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_what_they_are_alone),
        cmocka_unit_test(failures_stay_where_they_are),
        cmocka_unit_test(finished_outputs_are_kept),
        cmocka_unit_test(importances_are_collected_once),
        cmocka_unit_test(wrong_recipes),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_batch", tests, scratch_make, scratch_remove);
}
