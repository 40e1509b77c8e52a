/* SPDX-License-Identifier: MIT */
/* Texts in pages: nothing of them is markup, and what XML cannot hold is not in it. */
#include "report/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void shows(const char *bytes, size_t n, const char *want)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    nib_html_token(f, bytes, n);
    assert_int_equal(fclose(f), 0);
    assert_string_equal(text, want);
    free(text);
}

static void escapes(void **state)
{
    (void)state;
    static const char *const of[][2] = {
        {"<script>\"&'", "&lt;script&gt;&quot;&amp;'"},
        {"a\nb\tc", "a⏎b c"},
        {"\x1b[31m", " [31m"},
        {"\xC2\x85", " "},                        /* NEL, a control character of the second set */
        {"\xEF\xBF\xBE", " "},                    /* U+FFFE */
        {"\xEF\xBF\xBD", "\xEF\xBF\xBD"},         /* U+FFFD may stand */
        {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"}, /* part of a character, as a token may be */
        {"\xFFok\xFE", "\xEF\xBF\xBDok\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* half a surrogate pair */
        {"é漢😀", "é漢😀"},
        {"", ""}};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++)
        shows(of[i][0], strlen(of[i][0]), of[i][1]);
    shows("a\0b", 3, "a b");
}

/* Alone on a disk without a network: nothing is loaded. */
static void page(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    nib_html_begin(f, "</title><b>");
    nib_html_end(f);
    assert_int_equal(fclose(f), 0);
    static const char *const none[] = {"<script", "src=",  "url(",
                                       "@import", "<link", "</title><b>"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) assert_null(strstr(text, none[i]));
    static const char *const all[] = {"prefers-color-scheme:dark", "@media print",
                                      "width=device-width", "charset=\"utf-8\""};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) assert_non_null(strstr(text, all[i]));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(escapes), cmocka_unit_test(page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
