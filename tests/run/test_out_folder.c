/* SPDX-License-Identifier: MIT */
/* A folder put in place of another where the file system cannot exchange two names: in two steps,
 * each of which may fail or be the last thing that a run does. The linker sends the calls of
 * rename() and renameat2() here. */
#include "base/out_folder.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/run/fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const char MARK[] = "mark";

/* ---- the file system ---- */

static struct {
    int no_exchange;  /* what renameat2() fails with        */
    unsigned fail;    /* bit i: call i of rename() fails    */
    int killed_after; /* so many calls of it; 0: never      */
    int calls;
} disk;

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    (void)from_dir, (void)from, (void)to_dir, (void)to, (void)flags;
    errno = disk.no_exchange;
    return -1;
}

int __wrap_rename(const char *from, const char *to)
{
    const int call = disk.calls++;
    int rc = -1;
    errno = EIO;
    if (!(disk.fail >> call & 1)) rc = __real_rename(from, to);
    if (disk.calls == disk.killed_after) raise(SIGKILL);
    return rc;
}

/* ---- folders ---- */

static void put(const char *dir, const char *text)
{
    char *path = nib_path_join(dir, MARK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    nib_free(path);
}

static void expect_folder(const char *dir, const char *text)
{
    char *path = nib_path_join(dir, MARK), *data = NULL;
    size_t n;
    nib_err err = {0};
    if (nib_file_slurp(&data, &n, path, 100, &err)) fail_msg("%s", err.msg);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(data, text, n);
    nib_free(data);
    nib_free(path);
}

/* A target that holds "old", and nothing beside it. */
static const char *make_old(void)
{
    const char *target = scratch("target");
    disk.calls = 0;
    mkdir(target, 0777);
    put(target, "old");
    assert_int_equal(scratch_count("target"), 1);
    return target;
}

static nib_code put_new(const char *target, nib_err *err)
{
    nib_out_folder s;
    nib_code rc = nib_out_folder_open(&s, target, MARK, true, err);
    if (rc) return rc;
    put(s.dir, "new");
    return nib_out_folder_commit(&s, err);
}

/* put_new() in a process that is killed after so many steps. */
static void put_new_killed(const char *target, int steps)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        nib_err err = {0};
        disk.killed_after = steps;
        _exit(put_new(target, &err) ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- tests ---- */

/* EINVAL: the file system cannot; ENOSYS: the kernel cannot. */
static void replaces_in_two_steps(void **state)
{
    (void)state;
    static const int no[] = {EINVAL, ENOSYS};
    for (int i = 0; i < 2; i++) {
        nib_err err = {0};
        const char *target = make_old();
        disk.no_exchange = no[i];
        if (put_new(target, &err)) fail_msg("%s", err.msg);
        expect_folder(target, "new");
        assert_int_equal(disk.calls, 2);
        assert_int_equal(scratch_count("target"), 1);
    }
}

static void a_step_that_fails_leaves_the_old_folder(void **state)
{
    (void)state;
    for (unsigned fail = 1; fail <= 2; fail++) {
        nib_err err = {0};
        const char *target = make_old();
        disk.fail = fail;
        assert_int_equal(put_new(target, &err), NIB_EIO);
        disk.fail = 0;
        expect_text(err.msg, fail == 1 ? "moving the old folder aside" : "renaming the finished");
        expect_folder(target, "old");
        assert_int_equal(scratch_count("target"), 1);
    }
}

/* Nor can it be moved back: the message says where it is, and the next run puts it back. */
static void an_old_folder_that_is_stuck_is_not_lost(void **state)
{
    (void)state;
    nib_err err = {0};
    const char *target = make_old();
    disk.fail = 6;
    assert_int_equal(put_new(target, &err), NIB_EIO);
    disk.fail = 0;
    expect_text(err.msg, "the old one is '");
    const char *at = strstr(err.msg, "the old one is '") + strlen("the old one is '");
    char *old = nib_strndup(at, strcspn(at, "'"));
    expect_folder(old, "old");
    nib_free(old);
    nib_out_folder s;
    assert_int_equal(nib_out_folder_open(&s, target, MARK, true, &err), NIB_OK);
    expect_folder(target, "old");
    nib_out_folder_abort(&s);
    assert_int_equal(scratch_count("target"), 1);
}

/* The next run finds the old folder in its place, before it does any work: without --force it is
 * refused. */
static void killed_between_the_steps(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_out_folder s;
    const char *target = make_old();
    put_new_killed(target, 1);
    assert_false(nib_file_is_dir(target));
    assert_int_equal(scratch_count("target"), 2); /* the new one and the old one */
    assert_int_equal(nib_out_folder_open(&s, target, MARK, false, &err), NIB_EIO);
    expect_text(err.msg, "exists already; --force replaces it");
    expect_folder(target, "old");
    assert_int_equal(scratch_count("target"), 1);
}

static void killed_after_the_steps(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_out_folder s;
    const char *target = make_old();
    put_new_killed(target, 2);
    expect_folder(target, "new");
    assert_int_equal(scratch_count("target"), 2); /* the old one is there too */
    assert_int_equal(nib_out_folder_open(&s, target, MARK, true, &err), NIB_OK);
    nib_out_folder_abort(&s);
    expect_folder(target, "new");
    assert_int_equal(scratch_count("target"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_in_two_steps),
        cmocka_unit_test(a_step_that_fails_leaves_the_old_folder),
        cmocka_unit_test(an_old_folder_that_is_stuck_is_not_lost),
        cmocka_unit_test(killed_between_the_steps),
        cmocka_unit_test(killed_after_the_steps),
    };
    disk.no_exchange = EINVAL;
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
