/* SPDX-License-Identifier: MIT */
/* What must not reach a terminal: control characters, by themselves and in errors. */
#include "base/err.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void control_characters_become_spaces(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"one line", "one line"},
        {"two\nlines\r\n", "two lines  "},
        {"\x1b[31mred\x7f", " [31mred "},
        {"\x01\x1f", "  "},
        {"C1: \xC2\x80 \xC2\x9B"
         "31m \xC2\x9F",
         "C1:      31m   "},
        {"\xC2\xA0 \xC3\x9B \xE0\xC2\x80", "\xC2\xA0 \xC3\x9B \xE0  "}, /* U+00A0, U+00DB */
        {"cut \xC2", "cut \xC2"},
        {"\xE3\x81\x82\xF0\x9F\x98\x80", "\xE3\x81\x82\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char s[64];
        strcpy(s, cases[i][0]);
        nib_one_line(s);
        assert_string_equal(s, cases[i][1]);
    }
}

/* Names that hostile files hold come into messages whole, at every level. */
static void errors_are_one_line(void **state)
{
    (void)state;
    nib_err err;
    nib_fail(&err, NIB_EFORMAT, "tensor '%s'", "a\nb");
    assert_string_equal(err.cause, "tensor 'a b'");
    nib_wrap(&err, "%s", "\x1b]0;title\a.gguf");
    assert_string_equal(err.msg, " ]0;title .gguf: tensor 'a b'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(control_characters_become_spaces),
                                       cmocka_unit_test(errors_are_one_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
