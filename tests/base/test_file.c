/* SPDX-License-Identifier: MIT */
/* Writing aside and renaming: the target is the old file, the new file, or absent. Paths and names.
 */
#define _GNU_SOURCE /* mknod, makedev */
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64];
static char target[128];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/nib-file-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(target, sizeof target, "%s/out.bin", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

static int files_in_dir(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void write_target(const char *text, bool force)
{
    nib_err err = {0};
    assert_int_equal(nib_file_save(target, text, strlen(text), force, &err), NIB_OK);
}

static void expect_target(const char *text)
{
    char *data;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_file_slurp(&data, &n, target, 1 << 20, &err), NIB_OK);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(data, text, n);
    nib_free(data);
}

static void appears_only_on_commit(void **state)
{
    (void)state;
    nib_out *o;
    nib_err err = {0};
    assert_int_equal(nib_out_open(&o, target, false, &err), NIB_OK);
    assert_int_equal(nib_out_write(o, "abc", 3, &err), NIB_OK);
    assert_int_equal(nib_out_zeros(o, 2, &err), NIB_OK);
    assert_false(nib_file_exists(target));
    assert_int_equal(nib_out_pos(o), 5);
    assert_int_equal(nib_out_commit(o, &err), NIB_OK);
    assert_true(nib_file_exists(target));
    assert_int_equal(files_in_dir(), 1);
}

static void refuses_to_overwrite_without_force(void **state)
{
    (void)state;
    nib_out *o;
    nib_err err = {0};
    write_target("old", false);
    assert_int_equal(nib_out_open(&o, target, false, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, "--force"));
    assert_null(o);
    write_target("new", true);
    expect_target("new");
}

static void abort_leaves_the_old_file(void **state)
{
    (void)state;
    nib_out *o;
    nib_err err = {0};
    write_target("old", false);
    assert_int_equal(nib_out_open(&o, target, true, &err), NIB_OK);
    assert_int_equal(nib_out_write(o, "xx", 2, &err), NIB_OK);
    nib_out_abort(o);
    expect_target("old");
    assert_int_equal(files_in_dir(), 1);
}

/* A run in another process, with its temporary file in place; it dies when *die is closed. */
static pid_t start_run(int *die)
{
    int up[2], down[2];
    char c = 0;
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);
    pid_t pid = fork();
    if (pid == 0) {
        nib_out *o;
        nib_err err = {0};
        close(down[1]);
        if (nib_out_open(&o, target, true, &err) != NIB_OK || write(up[1], &c, 1) != 1) _exit(1);
        _exit(read(down[0], &c, 1) == 0 ? 0 : 1);
    }
    assert_true(pid > 0);
    close(up[1]);
    close(down[0]);
    *die = down[1];
    assert_int_equal(read(up[0], &c, 1), 1);
    close(up[0]);
    return pid;
}

/* Dead is dead, also while nobody has taken note: a container may have nobody who does. */
static void litter_of_a_dead_run_is_removed(void **state)
{
    (void)state;
    int die, status;
    siginfo_t info;
    pid_t pid = start_run(&die);
    close(die);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(files_in_dir(), 1);
    write_target("done", false);
    assert_int_equal(files_in_dir(), 1);
    expect_target("done");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void file_of_a_living_run_is_not_litter(void **state)
{
    (void)state;
    int die, status;
    pid_t pid = start_run(&die);
    write_target("mine", false);
    assert_int_equal(files_in_dir(), 2);
    close(die);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void missing_folder_is_named(void **state)
{
    (void)state;
    nib_out *o;
    nib_err err = {0};
    assert_int_equal(nib_out_open(&o, "/nonexistent-folder/x", false, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, "/nonexistent-folder"));
}

static void reading_past_the_end_is_truncation(void **state)
{
    (void)state;
    nib_file f;
    nib_err err = {0};
    char buf[8];
    write_target("12345", false);
    assert_int_equal(nib_file_open(&f, target, &err), NIB_OK);
    assert_int_equal(nib_file_read(&f, 1, buf, 4, &err), NIB_OK);
    assert_memory_equal(buf, "2345", 4);
    assert_int_equal(nib_file_read(&f, 2, buf, 4, &err), NIB_EFORMAT);
    assert_int_equal(nib_file_read(&f, UINT64_MAX, buf, 1, &err), NIB_EFORMAT);
    nib_file_close(&f);
    nib_file_close(&f);
}

/* ---- targets that are no file of that name ---- */

static mode_t kind_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

/* Is writing it refused, as that kind of thing? */
static void expect_refused(const char *path, const char *kind)
{
    nib_err err = {0};
    assert_int_equal(nib_file_save(path, "x", 1, true, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, kind));
}

/* With --force too: the node would be gone, and a file in its place. */
static void devices_and_fifos_are_never_replaced(void **state)
{
    (void)state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char link[128];
    snprintf(link, sizeof link, "%s/link", dir);
    assert_int_equal(symlink("out.bin", link), 0);
    assert_int_equal(mkfifo(target, 0600), 0);
    expect_refused(target, "is a FIFO");
    expect_refused(link, "is a FIFO");
    assert_true(S_ISFIFO(kind_of(target)));
    assert_int_equal(unlink(target), 0);
    strcpy(name.sun_path, target);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&name, sizeof name), 0);
    expect_refused(target, "is a socket");
    assert_true(S_ISSOCK(kind_of(target)));
    close(s);
    assert_int_equal(unlink(target), 0);
    if (mknod(target, S_IFCHR | 0600, makedev(1, 3))) return; /* root alone may: /dev/null's twin */
    expect_refused(target, "is a character device");
    assert_true(S_ISCHR(kind_of(target)));
}

static void what_a_link_points_to_is_replaced(void **state)
{
    (void)state;
    nib_err err = {0};
    char link[128], sub[128], second[128];
    snprintf(sub, sizeof sub, "%s/sub", dir);
    snprintf(link, sizeof link, "%s/sub/link", dir);
    snprintf(second, sizeof second, "%s/second", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(symlink("../out.bin", link), 0);
    assert_int_equal(symlink("sub/link", second), 0);
    assert_int_equal(nib_file_save(second, "one", 3, false, &err), NIB_OK); /* nothing there yet */
    assert_true(S_ISREG(kind_of(target)));
    expect_target("one");
    assert_int_equal(nib_file_save(second, "two", 3, false, &err), NIB_EIO);
    assert_non_null(strstr(err.msg, "--force"));
    assert_int_equal(nib_file_save(second, "two", 3, true, &err), NIB_OK);
    expect_target("two");
    assert_true(S_ISLNK(kind_of(link)));
    assert_true(S_ISLNK(kind_of(second)));
    assert_int_equal(files_in_dir(), 3);
}

static void links_in_a_circle(void **state)
{
    (void)state;
    nib_err err = {0};
    assert_int_equal(symlink("out.bin", target), 0);
    assert_int_equal(nib_file_save(target, "x", 1, true, &err), NIB_EIO);
    assert_true(S_ISLNK(kind_of(target)));
}

/* As dirname(1) has it, for paths of files. */
static void folders_of_paths(void **state)
{
    (void)state;
    static const char *const paths[][2] = {{"a", "."},       {"a/b", "a"}, {"/a", "/"},
                                           {"/a/b.c", "/a"}, {"./a", "."}, {"a/b/c", "a/b"}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *got = nib_path_dir(paths[i][0]);
        assert_string_equal(got, paths[i][1]);
        nib_free(got);
    }
}

static void ends_of_names(void **state)
{
    (void)state;
    assert_true(nib_ends_with("x.gguf", ".gguf"));
    assert_true(nib_ends_with(".gguf", ".gguf"));
    assert_false(nib_ends_with("gguf", ".gguf"));
    assert_false(nib_ends_with("x.ggufs", ".gguf"));
    assert_int_equal(nib_stem("a.counts", ".counts"), 1);
    assert_int_equal(nib_stem(".counts", ".counts"), 0);
    assert_int_equal(nib_stem("a.count", ".counts"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(appears_only_on_commit, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(refuses_to_overwrite_without_force, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(abort_leaves_the_old_file, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(litter_of_a_dead_run_is_removed, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(file_of_a_living_run_is_not_litter, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(missing_folder_is_named, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(reading_past_the_end_is_truncation, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(devices_and_fifos_are_never_replaced, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_a_link_points_to_is_replaced, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(links_in_a_circle, make_dir, remove_dir),
        cmocka_unit_test(folders_of_paths),
        cmocka_unit_test(ends_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
