/* SPDX-License-Identifier: MIT */
#include "base/arena.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 3000 };

/* Sizes from nothing to larger than any block, and a fill that tells pieces apart. */
static void pieces_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    static unsigned char *piece[N];
    static size_t size[N];
    nib_arena a = {0};
    for (size_t i = 0; i < N; i++) {
        size_t align = (size_t)1 << i % 5;
        size[i] = i % 500 == 499 ? 3u << 20 : i * 7919 % 300;
        piece[i] = nib_arena_alloc(&a, size[i], 1, align);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % align, 0);
        memset(piece[i], (int)(i % 251), size[i]);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k += 13)
            if (piece[i][k] != i % 251) fail_msg("piece %zu was overwritten", i);
    nib_arena_free(&a);
    assert_null(a.head);
}

static void strings_end_in_nul(void **state)
{
    (void)state;
    nib_arena a = {0};
    assert_string_equal(nib_arena_str(&a, "abcdef", 3), "abc");
    assert_string_equal(nib_arena_str(&a, NULL, 0), "");
    assert_int_equal(a.total, 5);
    nib_arena_free(&a);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    nib_arena a = {0};
    assert_null(nib_arena_alloc(&a, SIZE_MAX / 2, 3, 1));
    assert_null(nib_arena_alloc(&a, SIZE_MAX, 1, 1));
    assert_null(nib_arena_alloc(&a, SIZE_MAX - 64, 1, 1));
    assert_null(nib_arena_str(&a, "", SIZE_MAX));
    nib_mem_fail_at(1);
    assert_null(nib_arena_str(&a, "x", 1));
    nib_mem_fail_at(0);
    assert_non_null(nib_arena_str(&a, "x", 1));
    nib_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(strings_end_in_nul),
        cmocka_unit_test(too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
