/* SPDX-License-Identifier: MIT */
/* Characters and normalization form C. */
#include "base/mem.h"
#include "infer/tokenizer_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <cmocka.h>

static void characters_are_read_both_ways(void **unused)
{
    (void)unused;
    static const struct {
        const char *s;
        size_t n;
        uint32_t cp;
    } good[] = {
        {"a", 1, 'a'}, {"\u00E9", 2, 0xE9}, {"\u20AC", 3, 0x20AC}, {"\U0001F600", 4, 0x1F600}};
    uint32_t cp;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(nib_utf8_get(good[i].s, good[i].n, &cp), good[i].n);
        assert_int_equal(cp, good[i].cp);
        assert_int_equal(nib_utf8_last(good[i].s, good[i].n), good[i].n);
    }
    static const char *const bad[] = {
        "\x80", "\xC0\x80", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(nib_utf8_get(bad[i], strlen(bad[i]), &cp), 0);
        assert_int_equal(nib_utf8_last(bad[i], strlen(bad[i])), 1);
    }
}

static void normalize(nib_text *t, const char *s, size_t n)
{
    nib_err err = {0};
    t->n = 0;
    assert_int_equal(nib_text_add_normal(t, NIB_NFC, s, n, &err), NIB_OK);
}

static void known_texts_compose(void **unused)
{
    (void)unused;
    static const char *const cases[][2] = {
        {"", ""},
        {"plain ASCII, long enough to be skipped in eights",
         "plain ASCII, long enough to be skipped in eights"},
        {"cafe\u0301", "caf\u00E9"},
        {"e\u0301", "\u00E9"},
        {"q\u0307\u0323", "q\u0323\u0307"}, /* marks in order of their class */
        {"\u00E9\u0323", "\u1EB9\u0301"},   /* the base comes apart and together again */
        {"\u212B \u2126", "\u00C5 \u03A9"}, /* singletons */
        {"\u304B\u3099", "\u304C"},         /* kana and its mark */
        {"\u1112\u1161\u11AB", "\uD55C"},   /* Hangul */
        {"\uD558\u11AB", "\uD55C"},
        {"\u0301a", "\u0301a"},
        {"\u0958", "\u0915\u093C"}, /* excluded from composition */
        {"\U0001F469\u200D\U0001F4BB", "\U0001F469\u200D\U0001F4BB"},
    };
    nib_text t = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        normalize(&t, cases[i][0], strlen(cases[i][0]));
        assert_int_equal(t.n, strlen(cases[i][1]));
        if (t.n) assert_memory_equal(t.p, cases[i][1], t.n);
    }
    nib_free(t.p);
}

/* Skipping what is normal already must not show: the library on the whole text is the judge. Every
 * character stands once between letters and once before a mark, a letter that composes with
 * nothing, and a Hangul vowel. */
static void every_character_is_as_the_library_says(void **unused)
{
    (void)unused;
    nib_text t = {0};
    for (int32_t cp = 1; cp < 0x110000; cp++) {
        static const char *const after[] = {"b", "\u0301", "\u0338c", "\u1161", "\u3099"};
        uint8_t s[32] = "ae";
        if (!utf8proc_codepoint_valid(cp)) continue;
        for (size_t k = 0; k < sizeof after / sizeof *after; k++) {
            size_t n = 2 + (size_t)utf8proc_encode_char(cp, s + 2);
            memcpy(s + n, after[k], strlen(after[k]) + 1);
            uint8_t *want = utf8proc_NFC(s);
            normalize(&t, (char *)s, n + strlen(after[k]));
            if (t.n != strlen((char *)want) || memcmp(t.p, want, t.n))
                fail_msg("U+%04X with '%s' after it", (unsigned)cp, after[k]);
            free(want);
        }
    }
    nib_free(t.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_read_both_ways),
        cmocka_unit_test(known_texts_compose),
        cmocka_unit_test(every_character_is_as_the_library_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
