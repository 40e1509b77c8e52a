/* SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Well-formed when the three bytes decode to a number that needs them, and is no surrogate. */
static int three_bytes_are_good(unsigned a, unsigned b, unsigned c)
{
    if (a < 0xE0 || a > 0xEF || b >> 6 != 2 || c >> 6 != 2) return 0;
    unsigned v = (a & 15) << 12 | (b & 63) << 6 | (c & 63);
    return v >= 0x800 && (v < 0xD800 || v > 0xDFFF);
}

static void all_sequences_of_three_bytes(void **state)
{
    (void)state;
    for (unsigned a = 0xC0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (unsigned c = 0x80; c < 256; c++) {
                char s[3] = {(char)a, (char)b, (char)c};
                int good = nib_utf8_bad(s, 3) == 3;
                if (good != three_bytes_are_good(a, b, c)) fail_msg("%02X %02X %02X", a, b, c);
            }
}

static void names_the_first_bad_byte(void **state)
{
    (void)state;
    enum { GOOD = 99 };
    static const struct {
        const char *text;
        size_t bad;
    } cases[] = {
        {"", GOOD},
        {"plain ascii, long enough for the fast path", GOOD},
        {"0123456789\x80 0123456789", 10},
        {"caf\xC3\xA9 \xF0\x9F\x98\x80 end", GOOD},
        {"\xF4\x8F\xBF\xBF", GOOD},
        {"\xF4\x90\x80\x80", 0},
        {"\xF0\x8F\xBF\xBF", 0},
        {"ab\xC1\xBF", 2},
        {"ab\xE2\x82", 2},
        {"ab\xF5\x80\x80\x80", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].text);
        assert_int_equal(nib_utf8_bad(cases[i].text, n), cases[i].bad == GOOD ? n : cases[i].bad);
    }
}

static void bad_bytes_are_replaced(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"caf\xC3\xA9", "caf\xC3\xA9"},
        {"caf\xE9", "caf\xEF\xBF\xBD"},
        {"\xFF\xFE/m", "\xEF\xBF\xBD\xEF\xBF\xBD/m"},
        {"\xE2\x82.", "\xEF\xBF\xBD\xEF\xBF\xBD."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = nib_utf8_replace(cases[i][0]);
        assert_string_equal(text, cases[i][1]);
        nib_free(text);
    }
}

/* Whatever a text is cut into, what is shown of each part with what was kept back is never a part
 * of a character, and no more than three bytes are kept. */
static void whole_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t whole;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"caf\xC3", 3},
        {"caf\xC3\xA9", 5},
        {"\xE2", 0},
        {"\xE2\x82", 0},
        {"\xE2\x82\xAC", 3},
        {"a\xF0\x9F\x98", 1},
        {"a\xF0\x9F\x98\x80", 5},
        {"\xF0\x8F", 2}, /* overlong: nothing makes it whole */
        {"\xED\xA0", 2}, /* a surrogate */
        {"\xF4\x90", 2},
        {"\xC1", 1},
        {"\x80\x80", 2},
        {"\xE2\x82\xAC\xE2\x82", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(nib_utf8_whole(cases[i].text, strlen(cases[i].text)), cases[i].whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_characters),
        cmocka_unit_test(all_sequences_of_three_bytes),
        cmocka_unit_test(names_the_first_bad_byte),
        cmocka_unit_test(bad_bytes_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
