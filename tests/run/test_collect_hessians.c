/* SPDX-License-Identifier: MIT */
/* Second moments collected once and solved with many times: the same output as in one run, whole or
 * not there, and refused where they do not belong. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/linalg.h"
#include "calib/collect_hessians.h"
#include "tests/run/solving.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { COLLECTED = 20 }; /* windows */

static opened tiny;
static nib_windows windows;

static int set_up(void **state)
{
    int rc = scratch_make(state);
    if (rc) return rc;
    open_model(&tiny, tiny_llama());
    pick_windows(&windows, &tiny, "calibration.txt", COLLECTED);
    return 0;
}

static int tear_down(void **state)
{
    nib_windows_free(&windows);
    close_model(&tiny);
    return scratch_remove(state);
}

static nib_code collect(const char *dir, const nib_model *m, const nib_collect_opts *opts,
                        int threads, nib_err *err)
{
    nib_collect_report r;
    const nib_ctx ctx = {.threads = threads, .cpu = nib_cpu_detect()};
    return nib_collect_hessians(&r, dir, m, &windows, opts, &ctx, err);
}

static const nib_collect_opts in_memory = {.memory = UINT64_MAX};

/* The demonstration model's, made once. */
static const char *usual(void)
{
    nib_err err = {0};
    if (!nib_file_exists(scratch("stats")) &&
        collect(scratch("stats"), &tiny.model, &in_memory, 2, &err))
        fail_msg("%s", err.msg);
    return scratch("stats");
}

/* From the statistics, or from the windows they were collected over, all of them. */
static const nib_packing folder = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true};

static variation from_stats(variation v)
{
    v.stats = usual();
    v.windows = COLLECTED;
    return v;
}

static variation from_windows(variation v)
{
    v.no_propagate = v.hold_out_none = true;
    v.windows = COLLECTED;
    return v;
}

/* Both make the same output, and the same number of weights of it. */
static void same_output(variation v, size_t weights)
{
    const char *name = v.folder ? "a/model.safetensors" : "a",
               *other = v.folder ? "b/model.safetensors" : "b";
    const variation a = from_stats(v), b = from_windows(v);
    assert_int_equal(solve_ok(scratch("a"), &a), weights);
    assert_int_equal(solve_ok(scratch("b"), &b), weights);
    assert_true(v.folder ? same_files(scratch(name), scratch(other))
                         : same_models(scratch(name), scratch(other)));
    char cmd[400];
    snprintf(cmd, sizeof cmd, "rm -r '%s' '%s'", scratch("a"), scratch("b"));
    assert_int_equal(system(cmd), 0);
}

/* ---- the same as in one run ---- */

static void solved_as_from_windows(void **state)
{
    (void)state;
    same_output((variation){.type = "q3_k_m"}, 28);
    same_output((variation){.type = "q4_0"}, 28);
    same_output((variation){.folder = &folder}, 28);
    same_output((variation){.override = "attn_q:method=rtn"}, 24);
}

/* However many threads collect, and wherever the activations wait. */
static void same_moments(void **state)
{
    (void)state;
    static const struct {
        nib_collect_opts opts;
        int threads;
    } how[] = {{{.memory = UINT64_MAX}, 1}, {{.memory = UINT64_MAX}, 3}, {{.memory = 1}, 2}};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        nib_err err = {0};
        nib_collect_opts opts = how[i].opts;
        opts.force = true; /* the one before is replaced */
        if (collect(scratch("other"), &tiny.model, &opts, how[i].threads, &err))
            fail_msg("%s", err.msg);
        for (unsigned l = 0; l < tiny.model.hp.n_layer; l++) {
            char a[200], b[200];
            snprintf(a, sizeof a, "%s/block-%05u.safetensors", usual(), l);
            snprintf(b, sizeof b, "%s/block-%05u.safetensors", scratch("other"), l);
            assert_true(same_files(a, b));
        }
        assert_int_equal(scratch_count("other"), 1);
    }
}

/* ---- killed ---- */

/* Kill a child as soon as a file of that path is there. */
static void kill_at(pid_t pid, const char *path)
{
    int status;
    const struct timespec t = {0, 1000000};
    while (!nib_file_exists(path) && !waitpid(pid, &status, WNOHANG)) nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void killed_while_collecting(void **state)
{
    (void)state;
    char path[300];
    nib_err err = {0};
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) _exit(collect(scratch("dead"), &tiny.model, &in_memory, 1, &err) ? 1 : 0);
    snprintf(path, sizeof path, "%s/.dead.nibble-tmp.%ld/block-00000.safetensors", scratch(""),
             (long)pid);
    kill_at(pid, path);
    assert_false(nib_file_exists(scratch("dead")));
    assert_int_equal(scratch_count("dead"), 1);
    assert_int_equal(collect(scratch("dead"), &tiny.model, &in_memory, 2, &err), NIB_OK);
    assert_int_equal(scratch_count("dead"), 1); /* what the dead run left is gone */
}

static void resumed(void **state)
{
    (void)state;
    const variation whole = from_stats((variation){.type = "q4_0"});
    solve_ok(scratch("whole.gguf"), &whole);
    /* A damaged block stops the run where a killed one would have stopped. */
    char from[200], block[200], cmd[600];
    snprintf(from, sizeof from, "%s", usual());
    snprintf(cmd, sizeof cmd, "cp -r '%s' '%s'", from, scratch("damaged"));
    assert_int_equal(system(cmd), 0);
    snprintf(block, sizeof block, "%s/block-00002.safetensors", scratch("damaged"));
    FILE *f = fopen(block, "r+b");
    assert_non_null(f);
    const uint8_t nan[] = {0, 0, 0xc0, 0x7f};
    assert_int_equal(fseek(f, -4, SEEK_END), 0);
    assert_int_equal(fwrite(nan, 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
    variation v = {.type = "q4_0", .stats = scratch("damaged")};
    solve_fails(scratch("half.gguf"), &v, NIB_ENUMERIC,
                "block-00002.safetensors: tensor 'ffn_gate+ffn_up': the moment of channels 255 and "
                "255 is not finite");
    assert_false(nib_file_exists(scratch("half.gguf")));
    v = from_stats((variation){.type = "q4_0", .resume = true});
    assert_int_equal(solve_ok(scratch("half.gguf"), &v), 14);
    assert_true(same_files(scratch("whole.gguf"), scratch("half.gguf")));
}

/* Statistics of the same model over other windows are another run. */
static void resumed_with_others(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_windows fewer = windows;
    nib_collect_report collected;
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    fewer.n--;
    assert_int_equal(nib_collect_hessians(&collected, scratch("fewer"), &tiny.model, &fewer,
                                          &in_memory, &ctx, &err),
                     NIB_OK);
    assert_int_equal(collected.inputs, 16);
    const variation v = {.stats = scratch("damaged")};
    solve_fails(scratch("q.gguf"), &v, NIB_ENUMERIC, "not finite"); /* leaves an unfinished run */
    const variation other = {.stats = scratch("fewer"), .resume = true};
    solve_fails(scratch("q.gguf"), &other, NIB_EINVAL, "another model, text or recipe");
}

/* ---- refused ---- */

static void not_finite_is_named(void **state)
{
    (void)state;
    opened o;
    nib_err err = {0};
    open_model(&o, spoiled_model("inf", "model.layers.2.post_attention_layernorm.weight", 1e25f));
    assert_int_equal(collect(scratch("inf-stats"), &o.model, &in_memory, 2, &err), NIB_ENUMERIC);
    expect_text(err.msg, "block 2: input of 'ffn_gate+ffn_up': second moments are not finite in "
                         "channel 0: the model computes NaN or infinity on this text");
    assert_int_equal(scratch_count("inf-stats"), 0);
    close_model(&o);
}

static void targets(void **state)
{
    (void)state;
    nib_err err = {0};
    assert_int_equal(nib_collect_check(usual(), false, &err), NIB_EIO);
    expect_text(err.msg, "exists already; --force replaces it");
    assert_int_equal(nib_collect_check(usual(), true, &err), NIB_OK);
    assert_int_equal(nib_collect_check(tiny_llama(), true, &err), NIB_EIO);
    expect_text(err.msg, "holds no statistics.json, so --force does not replace it");
    assert_int_equal(nib_collect_check(scratch("no/such"), false, &err), NIB_EIO);
    assert_int_equal(nib_collect_check(scratch("new"), false, &err), NIB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solved_as_from_windows),

        cmocka_unit_test(same_moments),
        cmocka_unit_test(killed_while_collecting),
        cmocka_unit_test(resumed),
        cmocka_unit_test(resumed_with_others),
        cmocka_unit_test(not_finite_is_named),
        cmocka_unit_test(targets),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_collect", tests, set_up, tear_down);
}
