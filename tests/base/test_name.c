/* SPDX-License-Identifier: MIT */
/* Names as people type them: which are the same, and which is near. */
#include "base/name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void case_and_separators_do_not_count(void **state)
{
    (void)state;
    static const char *const same[][2] = {{"q4km", "q4_k_m"},       {"Q4_K-M", "q4_k_m"},
                                          {"q4_k m", "q4_k_m"},     {"desc_act", "desc-act"},
                                          {"AWQ+GPTQ", "awq+gptq"}, {"", ""}};
    static const char *const different[][2] = {
        {"q4_k_m", "q4_k_s"}, {"awq", "awq+gptq"}, {"llamacpp", "llama.cpp"}, {"", "x"}, {"x", ""}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(nib_name_same(same[i][0], same[i][1]));
    for (size_t i = 0; i < sizeof different / sizeof *different; i++)
        assert_false(nib_name_same(different[i][0], different[i][1]));
    assert_true(nib_name_same_n("text=file", 4, "text"));
    assert_false(nib_name_same_n("text=file", 5, "text"));
}

/* Names beyond the limit are compared byte by byte, and nothing is written past the buffers. */
static void long_names(void **state)
{
    (void)state;
    char a[300], b[300];
    memset(a, 'x', sizeof a - 1), a[sizeof a - 1] = 0;
    memcpy(b, a, sizeof a);
    assert_true(nib_name_same(a, b));
    b[0] = 'X';
    assert_false(nib_name_same(a, b));
    assert_false(nib_name_same("x", a));
    const char *const names[] = {"x", a, NULL};
    assert_null(nib_name_nearest(a, nib_name_at, names));
    assert_string_equal(nib_name_nearest("y", nib_name_at, names), "x");
}

static void nearest(void **state)
{
    (void)state;
    const char *const names[] = {"quantize", "q4_k_m", "q4_k_s", "sym", NULL};
    static const char *const cases[][2] = {
        {"quantise", "quantize"}, /* one edit            */
        {"quantzie", "quantize"}, /* two, of a long name */
        {"QUANT", "quantize"},    /* it begins so        */
        {"Q4_K_X", "q4_k_m"},     /* the first of two    */
        {"q4kms", "q4_k_m"},      {"asym", "sym"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(nib_name_nearest(cases[i][0], nib_name_at, names), cases[i][1]);
    assert_null(nib_name_nearest("sums", nib_name_at, names)); /* two edits of a short name */
    assert_null(nib_name_nearest("bake", nib_name_at, names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_and_separators_do_not_count),
        cmocka_unit_test(long_names),
        cmocka_unit_test(nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
