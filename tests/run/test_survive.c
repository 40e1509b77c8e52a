/* SPDX-License-Identifier: MIT */
/* A run that is killed, or whose disk fills up, leaves the target as it was: absent or the old
 * file. Each case runs in a process of its own. */
#include "base/file.h"
#include "tests/run/fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const char OLD[] = "the old file";

static void write_old(const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(OLD, 1, sizeof OLD, f), sizeof OLD);
    assert_int_equal(fclose(f), 0);
}

static bool is_old(const char *path)
{
    char *data;
    size_t n;
    nib_err err = {0};
    if (nib_file_slurp(&data, &n, path, 1 << 28, &err)) return false;
    bool old = n == sizeof OLD && !memcmp(data, OLD, n);
    nib_free(data);
    return old;
}

static bool is_whole(const char *path)
{
    nib_source *s;
    nib_err err = {0};
    nib_code rc = nib_source_open(&s, path, &err);
    nib_source_close(s);
    return rc == NIB_OK;
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* One thread: the parent has used OpenMP, whose threads a fork does not take along. */
static pid_t start(const nib_recipe *r)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid) return pid;
    nib_err err = {0};
    _exit(quantize(tiny_llama(), r, NULL, 1, NULL, &err) ? 1 : 0);
}

static void killed_at_any_moment(void **state)
{
    (void)state;
    int killed = 0;
    for (int old = 0; old < 2; old++) {
        nib_recipe r = {.out = scratch("killed.gguf"), .type = "q4_k_m", .force = true};
        remove(r.out);
        for (long ms = 1; ms <= 128; ms = ms * 3 / 2 + 1) {
            int status;
            if (old) write_old(r.out);
            pid_t pid = start(&r);
            sleep_ms(ms);
            kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            bool complete = is_whole(r.out);
            killed += WIFSIGNALED(status) && !complete;
            if (!complete) assert_true(old ? is_old(r.out) : !nib_file_exists(r.out));
            if (complete) remove(r.out);
        }
    }
    assert_true(killed > 4);
    /* The next run sweeps up what the dead ones left. */
    nib_recipe r = {.out = scratch("killed.gguf"), .type = "q4_k_m", .force = true};
    quantize_ok(tiny_llama(), &r, NULL);
    assert_int_equal(scratch_count("killed"), 1);
    assert_true(is_whole(r.out));
}

/* A limit on the size of files stands for a disk that fills up while writing. */
static int run_limited(const nib_recipe *r, rlim_t bytes)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        struct rlimit limit = {bytes, bytes};
        nib_err err = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(3);
        nib_code rc = quantize(tiny_llama(), r, NULL, 1, NULL, &err);
        _exit(rc == NIB_EIO && strstr(err.msg, "full.gguf: writing: ") ? 1 : rc ? 2 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void no_room_while_writing(void **state)
{
    (void)state;
    nib_recipe r = {.out = scratch("full.gguf"), .type = "q8_0", .force = true};
    static const rlim_t limits[] = {1, 50000, 1 << 20, 3000000};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(run_limited(&r, limits[i]), 1);
        assert_int_equal(scratch_count("full"), 0);
    }
    write_old(r.out);
    assert_int_equal(run_limited(&r, 1 << 20), 1);
    assert_true(is_old(r.out));
    assert_int_equal(scratch_count("full"), 1);
    assert_int_equal(run_limited(&r, 1 << 24), 0);
    assert_true(is_whole(r.out));
}

/* A disk that another program fills after the plan was made. */
static void disk_full(void **state)
{
    (void)state;
    opened o;
    nib_plan p;
    nib_quantize_result result;
    nib_err err = {0};
    nib_ctx ctx = {.threads = 2};
    mkdir(scratch("disk"), 0777);
    assert_int_equal(mount("tmpfs", scratch("disk"), "tmpfs", 0, "size=4m"), 0);
    open_model(&o, tiny_llama());
    nib_recipe r = {.out = scratch("disk/x.gguf"), .type = "q8_0"};
    nib_code planned = nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), rc = NIB_OK;
    if (!planned) {
        char *filler = nib_calloc(2 << 20, 1);
        FILE *f = fopen(scratch("disk/filler"), "wb");
        if (f && fwrite(filler, 1, 2 << 20, f) && !fclose(f))
            rc = nib_write_gguf(&result, &p, NULL, &ctx, &err);
        nib_free(filler);
    }
    bool there = nib_file_exists(r.out);
    nib_plan_free(&p);
    close_model(&o);
    umount(scratch("disk"));
    assert_int_equal(planned, NIB_OK);
    assert_int_equal(rc, NIB_EIO);
    expect_text(err.msg, "No space left on device");
    assert_false(there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment), cmocka_unit_test(no_room_while_writing),
        cmocka_unit_test(disk_full), /* the last: only where one may be mounted */
    };
    size_t n = sizeof tests / sizeof *tests - !may_mount();
    return _cmocka_run_group_tests("survive", tests, n, scratch_make, scratch_remove);
}
