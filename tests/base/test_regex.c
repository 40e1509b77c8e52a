/* SPDX-License-Identifier: MIT */
/* Regular expressions: what they find, and that none runs forever. */
#include "base/regex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* Expected: what Python's re.search and re.match answer. */
static const struct {
    const char *pattern, *text;
    bool anywhere, at_start;
} finds[] = {
    {"attn_v", "blk.0.attn_v.weight", true, false},
    {"blk\\.0\\.", "blk.0.attn_v.weight", true, true},
    {".*attn_v", "blk.0.attn_v.weight", true, true},
    {"^blk\\.[12]\\.", "blk.0.attn_v.weight", false, false},
    {"weight$", "blk.0.attn_v.weight", true, false},
    {"blk", "blk", true, true},
    {"(?!blk)", "blk", true, false},
    {"", "", true, true},
};

static void finds_as_perl_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        nib_regex *r;
        nib_err err;
        bool found;
        const size_t n = strlen(finds[i].pattern);
        assert_int_equal(nib_regex_new(&r, finds[i].pattern, n, &err), NIB_OK);
        assert_int_equal(nib_regex_find(r, finds[i].text, false, &found, &err), NIB_OK);
        assert_int_equal(found, finds[i].anywhere);
        assert_int_equal(nib_regex_find(r, finds[i].text, true, &found, &err), NIB_OK);
        assert_int_equal(found, finds[i].at_start);
        nib_regex_free(r);
    }
}

static void only_the_first_bytes_count(void **state)
{
    (void)state;
    nib_regex *r;
    nib_err err;
    bool found;
    assert_int_equal(nib_regex_new(&r, "attn_v:skip=true", 6, &err), NIB_OK);
    assert_int_equal(nib_regex_find(r, "attn_v", false, &found, &err), NIB_OK);
    assert_true(found);
    nib_regex_free(r);
}

static void wrong_patterns_are_refused(void **state)
{
    (void)state;
    static char longest[NIB_REGEX_LENGTH_MAX + 2];
    static const struct {
        const char *pattern, *says;
    } wrong[] = {
        {"a(b", "missing closing parenthesis, at character 4"},
        {"(((a{1000}){1000}){1000})", "too large"},
        {longest, "longer than 4096 bytes"},
    };
    memset(longest, 'a', sizeof longest - 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        nib_regex *r;
        nib_err err = {0};
        assert_int_equal(nib_regex_new(&r, wrong[i].pattern, strlen(wrong[i].pattern), &err),
                         NIB_EINVAL);
        assert_null(r);
        if (!strstr(err.msg, wrong[i].says)) fail_msg("%s", err.msg);
    }
}

/* Each would try more ways than there are grains of sand. */
static void endless_searches_end(void **state)
{
    (void)state;
    static const char *const endless[] = {"(.+)+[!?]", "(\\w*\\.?)*[!?]", "(a|aa)+[!?]",
                                          "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)\\1{3}[!?]"};
    static const char text[] =
        "model.layers.0.self_attn.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        nib_regex *r;
        nib_err err = {0};
        bool found = true;
        assert_int_equal(nib_regex_new(&r, endless[i], strlen(endless[i]), &err), NIB_OK);
        assert_int_equal(nib_regex_find(r, text, false, &found, &err), NIB_EINVAL);
        assert_false(found);
        if (!strstr(err.msg, "limit exceeded")) fail_msg("%s", err.msg);
        nib_regex_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_as_perl_does),
        cmocka_unit_test(only_the_first_bytes_count),
        cmocka_unit_test(wrong_patterns_are_refused),
        cmocka_unit_test(endless_searches_end),
    };
    return cmocka_run_group_tests_name("regex", tests, NULL, NULL);
}
