/* SPDX-License-Identifier: MIT */
/* One run at a time: a living holder is named, a dead one holds nothing, and nothing is left
 * behind. The linker sends the calls of flock() here, which stands for file systems without locks.
 */
#include "base/lock.h"

#include "base/file.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64], target[128], lock_file[160];
static bool no_locks;

int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);

int __wrap_flock(int fd, int how)
{
    if (!no_locks) return __real_flock(fd, how);
    errno = ENOSYS;
    return -1;
}

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/nib-lock-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(target, sizeof target, "%s/out", dir);
    snprintf(lock_file, sizeof lock_file, "%s/.out.nibble-lock", dir);
    no_locks = false;
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

static void put_lock_file(const char *text)
{
    FILE *f = fopen(lock_file, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A process that holds the target until it is killed. */
static pid_t start_holder(void)
{
    int up[2];
    char c = 0;
    assert_int_equal(pipe(up), 0);
    pid_t pid = fork();
    if (pid == 0) {
        nib_lock l;
        nib_err err = {0};
        if (nib_lock_take(&l, target, &err) || write(up[1], &c, 1) != 1) _exit(1);
        for (;;) pause();
    }
    assert_true(pid > 0);
    close(up[1]);
    assert_int_equal(read(up[0], &c, 1), 1);
    close(up[0]);
    return pid;
}

static void kill_holder(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void expect_held_by(pid_t pid)
{
    nib_lock l;
    nib_err err = {0};
    char who[64], host[256] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    snprintf(who, sizeof who, "process %ld on host", (long)pid);
    assert_int_equal(nib_lock_take(&l, target, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, target));
    assert_non_null(strstr(err.msg, who));
    assert_non_null(strstr(err.msg, host));
    nib_lock_release(&l);
}

static void expect_free(void)
{
    nib_lock l;
    nib_err err = {0};
    if (nib_lock_take(&l, target, &err)) fail_msg("%s", err.msg);
    assert_true(nib_file_exists(lock_file));
    nib_lock_release(&l);
    nib_lock_release(&l);
    assert_false(nib_file_exists(lock_file));
}

static void the_living_hold_and_are_named(void **state)
{
    (void)state;
    pid_t pid = start_holder();
    expect_held_by(pid);
    assert_true(nib_file_exists(lock_file)); /* who is refused removes nothing */
    expect_held_by(pid);
    kill_holder(pid);
    assert_true(nib_file_exists(lock_file));
    expect_free();
}

/* Without its holder it is litter: the number may belong to somebody else by now. */
static void what_the_file_says_is_no_lock(void **state)
{
    (void)state;
    char text[64];
    snprintf(text, sizeof text, "%ld elsewhere\n", (long)getppid());
    put_lock_file(text);
    expect_free();
}

static void without_locks_the_living_are_asked(void **state)
{
    (void)state;
    no_locks = true;
    pid_t pid = start_holder();
    expect_held_by(pid);
    kill_holder(pid);
    expect_free();
    put_lock_file("no number");
    expect_free();
    put_lock_file("1 a-host-that-is-not-this-one\n");
    expect_free();
}

static void nothing_but_a_file_is_opened(void **state)
{
    (void)state;
    nib_lock l;
    nib_err err = {0};
    char other[128];
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(symlink(other, lock_file), 0);
    assert_int_equal(nib_lock_take(&l, target, &err), NIB_EIO);
    assert_false(nib_file_exists(other));
    assert_int_equal(unlink(lock_file), 0);
    assert_int_equal(mkfifo(lock_file, 0600), 0);
    assert_int_equal(nib_lock_take(&l, target, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, "not a regular file"));
}

/* Many processes take and release it in turn: never two at once, though the file comes and goes. */
static void one_at_a_time(void **state)
{
    (void)state;
    enum { RUNS = 4, TURNS = 40 };
    char inside[128];
    snprintf(inside, sizeof inside, "%s/inside", dir);
    pid_t run[RUNS];
    for (int i = 0; i < RUNS; i++) {
        if ((run[i] = fork())) continue;
        for (int turn = 0; turn < TURNS;) {
            nib_lock l;
            nib_err err = {0};
            if (nib_lock_take(&l, target, &err)) continue;
            if (mkdir(inside, 0700) || rmdir(inside)) _exit(1); /* somebody else is inside */
            nib_lock_release(&l);
            turn++;
        }
        _exit(0);
    }
    for (int i = 0; i < RUNS; i++) {
        int status;
        assert_int_equal(waitpid(run[i], &status, 0), run[i]);
        assert_int_equal(status, 0);
    }
}

/* Killed, but not yet taken apart when the next run begins. */
static void a_dying_holder_is_waited_for(void **state)
{
    (void)state;
    pid_t pid = start_holder();
    pid_t killer = fork();
    if (killer == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200 * 1000000L}, NULL);
        _exit(kill(pid, SIGKILL) != 0);
    }
    int status;
    expect_free();
    assert_int_equal(waitpid(killer, &status, 0), killer);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_living_hold_and_are_named, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_dying_holder_is_waited_for, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_the_file_says_is_no_lock, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(without_locks_the_living_are_asked, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(nothing_but_a_file_is_opened, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(one_at_a_time, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
