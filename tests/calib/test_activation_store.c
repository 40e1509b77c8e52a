/* SPDX-License-Identifier: MIT */
/* Rows come back as they were put, from memory and from a file that nobody sees. */
#include "calib/activation_store.h"
#include "tests/calib/tmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 5, COLS = 3, BYTES = ROWS * COLS * 4 };

/* In pieces and out of order; put twice, the last counts. */
static void kept_within(uint64_t limit, bool in_memory)
{
    nib_activation_store s;
    nib_err err = {0};
    float x[ROWS][COLS], back[ROWS][COLS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) x[r][c] = (float)(10 * r + c);
    assert_int_equal(nib_activation_store_new(&s, ROWS, COLS, limit, tmp_path("out"), &err),
                     NIB_OK);
    assert_int_equal(s.ram != NULL, in_memory);
    assert_int_equal(s.ram_bytes, in_memory ? BYTES : 0);
    assert_int_equal(nib_activation_store_put(&s, 2, 3, x[0], &err), NIB_OK);
    assert_int_equal(nib_activation_store_put(&s, 2, 3, x[2], &err), NIB_OK);
    assert_int_equal(nib_activation_store_put(&s, 0, 2, x[0], &err), NIB_OK);
    assert_int_equal(nib_activation_store_get(&s, 0, ROWS, back[0], &err), NIB_OK);
    assert_memory_equal(back, x, sizeof x);
    assert_int_equal(nib_activation_store_get(&s, 3, 1, back[0], &err), NIB_OK);
    assert_memory_equal(back[0], x[3], sizeof x[3]);
    nib_activation_store_free(&s);
    nib_activation_store_free(&s);
}

static void rows_come_back(void **state)
{
    (void)state;
    kept_within(BYTES, true);
    kept_within(BYTES - 1, false);
    kept_within(0, false);
}

static void what_cannot_be_kept_is_refused(void **state)
{
    (void)state;
    nib_activation_store s;
    nib_err err = {0};
    float x[COLS];
    assert_int_equal(nib_activation_store_new(&s, SIZE_MAX / 4, 2, 0, tmp_path("x"), &err),
                     NIB_ENOMEM);
    assert_int_equal(nib_activation_store_new(&s, 1, COLS, 0, "/nonexistent/x", &err), NIB_EIO);
    tmp_expect(err.msg, "/nonexistent/.nibble-rows.");
    nib_activation_store_free(&s);
    assert_int_equal(nib_activation_store_new(&s, 1, COLS, 0, tmp_path("x"), &err), NIB_OK);
    assert_int_equal(nib_activation_store_get(&s, 0, 1, x, &err), NIB_EIO); /* never put */
    tmp_expect(err.msg, "the temporary file of activations");
    nib_activation_store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(what_cannot_be_kept_is_refused),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
