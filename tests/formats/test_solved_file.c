/* SPDX-License-Identifier: MIT */
/* Solved tensors wait beside the target until the output is written; a run that was killed finds
 * its own, and nobody else's. */
#include "formats/solved_file.h"
#include "base/file.h"
#include "tests/calib/tmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const uint64_t OURS = 0x0123456789abcdef;

static void written_down(nib_solved_file *s, uint32_t done)
{
    nib_err err = {0};
    assert_int_equal(nib_solved_file_open(s, tmp_path("q.gguf"), OURS, false, &err), NIB_OK);
    assert_int_equal(s->done, 0);
    assert_int_equal(nib_solved_file_write(s, 7, "weights", 7, &err), NIB_OK);
    if (done) assert_int_equal(nib_solved_file_mark(s, done, &err), NIB_OK);
    nib_solved_file_close(s, false);
}

static void taken_up_where_it_was(void **state)
{
    (void)state;
    nib_solved_file s;
    nib_err err = {0};
    char back[7];
    written_down(&s, 3);
    assert_true(nib_solved_file_bytes(tmp_path("q.gguf")) > 0);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, true, &err), NIB_OK);
    assert_int_equal(s.done, 3);
    assert_int_equal(nib_solved_file_read(&s, 7, back, 7, &err), NIB_OK);
    assert_memory_equal(back, "weights", 7);
    assert_int_equal(nib_solved_file_read(&s, 8, back, 7, &err), NIB_EIO); /* beyond its end */
    nib_solved_file_close(&s, true);
    nib_solved_file_close(&s, true);
    assert_int_equal(nib_solved_file_bytes(tmp_path("q.gguf")), 0);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, true, &err), NIB_OK);
    assert_int_equal(s.done, 0); /* nothing to take up is a start */
    nib_solved_file_close(&s, true);
}

/* The head as the file's comment has it. */
static void laid_out_as_said(void **state)
{
    (void)state;
    static const uint8_t want[] = "nibsolv1\xef\xcd\xab\x89\x67\x45\x23\x01\x03\0\0";
    uint8_t head[71 + 7] = {0};
    nib_solved_file s;
    written_down(&s, 3);
    FILE *f = fopen(tmp_path(".q.gguf.nibble-solved"), "rb");
    assert_non_null(f);
    assert_int_equal(fread(head, 1, sizeof head, f), sizeof head);
    fclose(f);
    assert_memory_equal(head, want, sizeof want);
    assert_memory_equal(head + 64 + 7, "weights", 7);
}

static void strangers_are_refused(void **state)
{
    (void)state;
    nib_solved_file s;
    nib_err err = {0};
    written_down(&s, 3);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS + 1, true, &err),
                     NIB_EINVAL);
    tmp_expect(err.msg, "had another model, text or recipe");
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, true, &err), NIB_OK);
    assert_int_equal(s.done, 3); /* and left as they were */
    nib_solved_file_close(&s, false);
    char junk[64];
    memset(junk, 'x', sizeof junk);
    tmp_write(".q.gguf.nibble-solved", junk, sizeof junk);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, true, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "holds no unfinished run");
    tmp_write(".q.gguf.nibble-solved", "nibsolv1", 8);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, true, &err), NIB_EIO);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, false, &err), NIB_OK);
    nib_solved_file_close(&s, true);
    assert_int_equal(symlink("elsewhere", tmp_path(".q.gguf.nibble-solved")), 0);
    assert_int_equal(nib_solved_file_open(&s, tmp_path("q.gguf"), OURS, false, &err), NIB_EIO);
    assert_false(nib_file_exists(tmp_path("elsewhere")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_up_where_it_was),
        cmocka_unit_test(laid_out_as_said),
        cmocka_unit_test(strangers_are_refused),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
