/* SPDX-License-Identifier: MIT */
/* What --cpu takes: names in their order, each level with those before it, none that the processor
 * lacks. */
#include "base/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void names_are_levels(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned mask;
    } level[] = {{"c", 0}, {"avx2", 1}, {"avx512", 3}, {"vnni", 7}}; /* cpu.h's flags */
    const unsigned have = nib_cpu_detect();
    nib_err err = {0};
    unsigned mask = 99;
    for (size_t i = 0; i < 4; i++) {
        const nib_code want = level[i].mask & ~have ? NIB_EINVAL : NIB_OK;
        assert_int_equal(nib_cpu_parse(&mask, level[i].name, &err), want);
        if (!want) assert_int_equal(mask, level[i].mask);
        if (want) assert_non_null(strstr(err.msg, "this processor has no"));
    }
    assert_int_equal(nib_cpu_parse(&mask, "native", &err), NIB_OK);
    assert_int_equal(mask, have);
    assert_int_equal(nib_cpu_parse(&mask, "AVX3", &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "'AVX3' should be c, avx2, avx512, vnni or native"));
}

static void masks_have_names(void **state)
{
    (void)state;
    static const char *const name[16] = {
        [0] = "c",           [1] = "avx2",         [3] = "avx512",
        [7] = "avx512+vnni", [11] = "avx512+bf16", [15] = "avx512+vnni+bf16"};
    for (unsigned m = 0; m < 16; m++)
        if (name[m]) assert_string_equal(nib_cpu_name(m), name[m]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_levels),
        cmocka_unit_test(masks_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
