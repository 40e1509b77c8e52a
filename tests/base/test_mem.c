/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void sizes_are_checked(void **state)
{
    (void)state;
    assert_null(nib_alloc(SIZE_MAX / 2, 3));
    assert_null(nib_alloc(SIZE_MAX, 1));
    nib_buf b = {0};
    assert_null(nib_buf_reserve(&b, SIZE_MAX, 2));
    void *p = nib_alloc(0, 8);
    assert_non_null(p);
    nib_free(p);
}

static void large_blocks_are_aligned(void **state)
{
    (void)state;
    for (size_t n = 1024; n < 100000; n = n * 3 + 1) {
        void *p = nib_alloc(n, 1);
        assert_int_equal((uintptr_t)p % 64, 0);
        nib_free(p);
    }
}

static void the_nth_allocation_fails(void **state)
{
    (void)state;
    nib_mem_fail_at(2);
    void *a = nib_alloc(8, 1), *b = nib_alloc(8, 1);
    nib_mem_fail_at(0);
    assert_non_null(a);
    assert_null(b);
    nib_free(a);
}

static void buffers_keep_what_they_have(void **state)
{
    (void)state;
    nib_buf b = {0};
    void *p = nib_buf_reserve(&b, 100, 4);
    assert_ptr_equal(nib_buf_reserve(&b, 50, 4), p);
    assert_non_null(nib_buf_reserve(&b, 1000, 4));
    nib_buf_free(&b);
    int *v = nib_grow(NULL, 0, 2, sizeof *v);
    v[0] = 7, v[1] = 8;
    v = nib_grow(v, 2, 1000, sizeof *v);
    assert_int_equal(v[0] * 10 + v[1], 78);
    nib_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(large_blocks_are_aligned),
        cmocka_unit_test(the_nth_allocation_fails),
        cmocka_unit_test(buffers_keep_what_they_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
