/* SPDX-License-Identifier: MIT */
/* Room on the disk for all that a run puts there at once; and whose the target is. */
#include "formats/target.h"

#include "formats/solved_file.h"
#include "run/plan/memory.h"
#include "tests/run/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static nib_code room(nib_disk_need need, uint64_t disk_free, nib_err *err)
{
    return nib_target_room(scratch("x.gguf"), &need, disk_free, err);
}

/* Solved tensors lie there all the time, activations until the output is begun. */
static void what_lies_there_at_once(void **state)
{
    (void)state;
    nib_err err = {0};
    const nib_disk_need need = {.output = 4000000, .solved = 3000000, .spilled = 9000000};
    assert_int_equal(room(need, 12000000, &err), NIB_OK);
    assert_int_equal(room(need, 11999999, &err), NIB_EIO);
    expect_text(err.msg, "needs 12.0 MB of disk (3.0 for solved tensors, 9.0 for activations");
    expect_text(err.msg, "--memory");
    expect_text(err.msg, "12.0 MB are free");
    const nib_disk_need small = {.output = 4000000, .solved = 3000000, .spilled = 1000000};
    assert_int_equal(room(small, 7000000, &err), NIB_OK);
    assert_int_equal(room(small, 6900000, &err), NIB_EIO);
    expect_text(err.msg, "needs 7.0 MB of disk (4.0 for the output, 3.0 for solved tensors");
    assert_int_equal(room((nib_disk_need){.output = 2000000}, 1500000, &err), NIB_EIO);
    expect_text(err.msg, "needs 2.0 MB of disk, and 1.5 MB are free");
    assert_int_equal(room(small, UINT64_MAX, &err), NIB_OK);
}

/* Which is taken up, or replaced. */
static void an_unfinished_run_has_its_part_already(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_solved_file side;
    static const uint8_t data[1 << 20] = {1};
    assert_int_equal(nib_solved_file_open(&side, scratch("x.gguf"), 1, false, &err), NIB_OK);
    assert_int_equal(nib_solved_file_write(&side, 0, data, sizeof data, &err), NIB_OK);
    assert_int_equal(nib_solved_file_mark(&side, 1, &err), NIB_OK);
    const uint64_t there = nib_solved_file_bytes(scratch("x.gguf"));
    assert_true(there >= sizeof data && there < sizeof data + 100000);
    const nib_disk_need need = {.output = 1000, .solved = sizeof data};
    assert_int_equal(room(need, 1000, &err), NIB_OK);
    assert_int_equal(room((nib_disk_need){.output = 1000, .solved = 2 * sizeof data}, 1000, &err),
                     NIB_EIO);
    nib_solved_file_close(&side, true);
    assert_int_equal(nib_solved_file_bytes(scratch("x.gguf")), 0);
    assert_int_equal(room(need, 1000, &err), NIB_EIO);
}

/* 16 windows of 64 tokens of 256 f32 are 1 MiB; 2 are held out, so with drift 14 of the original
 * model's are kept too: 16 + 2 + 14 times 64 KiB. A stream is in memory as a whole or not at all.
 */
static void activations_beyond_the_memory(void **state)
{
    (void)state;
    const uint64_t window = 64 * 256 * 4;
    static const struct {
        uint64_t memory, windows;
    } want[] = {{32, 0}, {31, 14}, {18, 14}, {17, 16}, {16, 2 + 14}, {15, 16 + 14}, {0, 32}};
    nib_plan p;
    nib_solve_opts o = nib_solve_defaults();
    plan_ok(&p, &(nib_recipe){.type = "q4_k_m", .method = NIB_METHOD_GPTQ}, NULL);
    assert_int_equal(p.model->hp.n_embd, 256);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        o.memory = want[i].memory * window;
        assert_int_equal(nib_solve_spilled(&p, 16, 64, &o), want[i].windows * window);
    }
    o.drift = 0;
    o.memory = 0;
    assert_int_equal(nib_solve_spilled(&p, 16, 64, &o), 18 * window);
    nib_plan_free(&p);
}

static void a_target_is_one_runs(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_target a, b;
    assert_int_equal(nib_target_claim(&a, scratch("out/"), true, &err), NIB_OK);
    assert_string_equal(a.path, scratch("out"));
    assert_int_equal(nib_target_claim(&b, scratch("out"), true, &err), NIB_EIO);
    expect_text(err.msg, "another run is writing it");
    assert_null(b.path);
    assert_int_equal(nib_target_find(&b, scratch("out"), true, &err), NIB_OK);
    nib_target_release(&b);
    nib_target_release(&a);
    assert_int_equal(nib_target_claim(&a, scratch("out"), true, &err), NIB_OK);
    nib_target_release(&a);
    assert_int_equal(nib_target_claim(&a, "/nonexistent/out", false, &err), NIB_EIO);
    assert_int_equal(scratch_count("lock"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lies_there_at_once),
        cmocka_unit_test(an_unfinished_run_has_its_part_already),
        cmocka_unit_test(activations_beyond_the_memory),
        cmocka_unit_test(a_target_is_one_runs),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
