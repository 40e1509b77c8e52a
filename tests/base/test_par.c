/* SPDX-License-Identifier: MIT */
#include "base/par.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { N = 1000 };

typedef struct {
    unsigned char seen[N];
    size_t fail_from;
} job;

static nib_code visit(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    job *j = arg;
    (void)thread;
    if (begin >= j->fail_from) return nib_fail(err, NIB_ENUMERIC, "chunk at %zu", begin);
    for (size_t i = begin; i < end; i++) j->seen[i]++;
    return NIB_OK;
}

static void every_item_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 7; threads++)
        for (size_t chunk = 1; chunk <= N + 1; chunk = chunk * 3 + 1) {
            job j = {.fail_from = N};
            nib_err err = {0};
            assert_int_equal(nib_par_for(threads, N, chunk, visit, &j, &err), NIB_OK);
            for (size_t i = 0; i < N; i++) assert_int_equal(j.seen[i], 1);
        }
}

static void the_lowest_error_wins(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        job j = {.fail_from = 300};
        nib_err err = {0};
        assert_int_equal(nib_par_for(threads, N, 100, visit, &j, &err), NIB_ENUMERIC);
        assert_string_equal(err.msg, "chunk at 300");
    }
}

static void nothing_to_do(void **state)
{
    (void)state;
    job j = {.fail_from = 0};
    nib_err err = {0};
    assert_int_equal(nib_par_for(2, 0, 16, visit, &j, &err), NIB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),
        cmocka_unit_test(the_lowest_error_wins),
        cmocka_unit_test(nothing_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
