/* SPDX-License-Identifier: MIT */
/* Writing aside and renaming: the target is the old file, the new file, or absent. Paths and names.
 */
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
        cmocka_unit_test(folders_of_paths),
        cmocka_unit_test(ends_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
