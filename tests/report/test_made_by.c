/* SPDX-License-Identifier: MIT */
/* What a page says of how models were made: from the manifests of files and folders, and from what
 * other tools leave. */
#include "report/made_by.h"

#include "run/job.h"
#include "tests/run/folders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void make(const char *out, nib_recipe r)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_job job;
    nib_job_opts opts = {.model = tiny_llama(), .recipe = r, .solve = nib_solve_defaults()};
    opts.recipe.out = out;
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
}

/* The line has these parts; none: there is no line. */
static void expect(const char *path, const char *first, const char *second)
{
    opened o;
    open_model(&o, path);
    char *line = nib_made_by(o.src);
    if (!first) assert_null(line);
    if (first && (!line || !strstr(line, first) || !strstr(line, second)))
        fail_msg("%s: %s, without %s or %s", path, line ? line : "nothing", first, second);
    nib_free(line);
    close_model(&o);
}

static void recipes_of_manifests(void **state)
{
    (void)state;
    const nib_packing four = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64, .sym = true};
    make(scratch("m.gguf"), (nib_recipe){.type = "q4_0", .pure = true});
    make(scratch("f"), (nib_recipe){.format = NIB_FORMAT_DIR, .layout = four});
    expect(scratch("m.gguf"), "\"type\":\"q4_0\"", "\"pure\":true");
    expect(scratch("f"), "\"format\":\"gptq\"", "\"group-size\":64");
}

static void what_others_leave(void **state)
{
    (void)state;
    expect(tiny_llama(), NULL, NULL);
    assert_int_equal(unlink(scratch("f/nibble.json")), 0);
    expect(scratch("f"), "\"quant_method\":\"gptq\"", "\"group_size\":64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipes_of_manifests),
        cmocka_unit_test(what_others_leave),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
