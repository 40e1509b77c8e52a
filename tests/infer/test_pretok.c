/* SPDX-License-Identifier: MIT */
/* Splitters: each known one on text whose pieces were worked out by hand from the rule, and finding
 * them by description and by name. */
#include "base/mem.h"
#include "infer/pretok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* ---- pieces ---- */

typedef struct {
    char text[4096]; /* pieces, each followed by '|' */
    size_t n;
} joined;

static nib_code join(void *arg, const char *piece, size_t n, nib_err *err)
{
    joined *j = arg;
    (void)err;
    assert_true(n > 0 && j->n + n + 2 < sizeof j->text);
    memcpy(j->text + j->n, piece, n);
    j->n += n;
    j->text[j->n++] = '|';
    j->text[j->n] = 0;
    return NIB_OK;
}

static void check_split(const char *name, const char *text, const char *want)
{
    nib_err err = {0};
    nib_pretok *p = NULL;
    nib_pretok_run *run = NULL;
    joined got = {0};
    assert_int_equal(nib_pretok_from_name(&p, name, strlen(name), &err), NIB_OK);
    assert_int_equal(nib_pretok_run_new(&run, &err), NIB_OK);
    assert_int_equal(nib_pretok_split(p, run, text, strlen(text), join, &got, &err), NIB_OK);
    assert_string_equal(got.text, want);
    nib_pretok_run_free(run);
    nib_pretok_free(p);
}

static void each_splitter_splits_by_its_rule(void **unused)
{
    (void)unused;
    static const char *const cases[][3] = {
        /* contractions of any case; one odd character before letters; up to three digits; the last
         * space goes with the word; newlines end punctuation and gather spaces before them */
        {"llama-bpe", "I'M 1234  x\n\n y!!\n", "I|'M| |123|4| | x|\n\n| y|!!\n|"},
        {"llama-bpe", "a_b \t\nc   ", "a|_b| \t\n|c|   |"},
        {"dbrx", "12345", "123|45|"},
        {"qwen2", "I'M 12  x", "I|'M| |1|2| | x|"},
        /* a mark is no letter: it goes in front of the letters that follow */
        {"qwen2", "a\u0301b", "a|\u0301b|"},
        {"qwen35", "a\u0301b", "a\u0301b|"},
        /* contractions of lower case only; a space before numbers too */
        {"gpt-2", "I'M don't  12a \n", "I|'|M| don|'t| | 12|a| \n|"},
        {"gpt-2", "\tfoo", "\t|foo|"},
        /* digits apart first, so no space joins them */
        {"smollm", "a 12", "a| |1|2|"},
        {"falcon", "a+b 12345", "a|+|b| |123|45|"},
        {"default", "a+b` 12345", "a|+|b|`| |123|45|"},
        {"tekken", "helloWORLD \u00DCn\u00EF 12/\n", "hello|WORLD| \u00DCn\u00EF| |1|2|/\n|"},
        {"gpt-4o", "we'LL 12345 ABc", "we'LL| |123|45| ABc|"},
        {"deepseek-llm", "Hi, \u4E16\u754C 42  \n", "Hi|,| |\u4E16\u754C| |4|2|  |\n|"},
        {"deepseek-llm", "a\u4E16b \u0437", "a|\u4E16|b| \u0437|"},
        {"deepseek-coder", "fn x1 = \u4E16\u754C\n", "fn| x|1| =| |\u4E16\u754C|\n|"},
        {"deepseek-v3", "x12345 .foo \u4E16\u754Ca", "x|123|45| .|foo| |\u4E16\u754C|a|"},
        {"deepseek-v3", "a.foo(b", "a|.foo|(b|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_split(cases[i][0], cases[i][1], cases[i][2]);
}

static void white_space_is_unicodes(void **unused)
{
    (void)unused;
    check_split("gpt-2", "a\u180E!", "a|\u180E!|");        /* a format character */
    check_split("gpt-2", "a\xC2\x85 b", "a|\xC2\x85| b|"); /* next line */
    check_split("gpt-2", "a\u3000\u2003b", "a|\u3000|\u2003|b|");
    check_split("gpt-2", "a\uFEFF!", "a|\uFEFF!|");
}

static nib_code count(void *arg, const char *piece, size_t n, nib_err *err)
{
    (void)piece;
    (void)err;
    *(size_t *)arg += n;
    return NIB_OK;
}

/* Runs that make a naive engine backtrack without end, and text that fills its stack. */
static void long_runs_are_split_in_time(void **unused)
{
    (void)unused;
    enum { N = 1 << 20 };
    nib_err err = {0};
    char *text = nib_alloc(N, 1);
    nib_pretok_run *run;
    assert_non_null(text);
    assert_int_equal(nib_pretok_run_new(&run, &err), NIB_OK);
    for (const nib_pretok_rule *r = nib_pretok_rules; r->names; r++) {
        nib_pretok *p;
        assert_int_equal(nib_pretok_from_name(&p, r->names, strcspn(r->names, " "), &err), NIB_OK);
        for (const char *c = " a\nA7!"; *c; c++) {
            size_t n = 0;
            memset(text, *c, N);
            text[N - 1] = '5'; /* so that a run of spaces does not end the text */
            assert_int_equal(nib_pretok_split(p, run, text, N, count, &n, &err), NIB_OK);
            assert_int_equal(n, N);
        }
        nib_pretok_free(p);
    }
    nib_pretok_run_free(run);
    nib_free(text);
}

/* ---- recognising ---- */

#define SPLIT(REGEX)                                                                               \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" REGEX                                          \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define MATCHES(REGEX)                                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" REGEX                                          \
    "\"},\"behavior\":\"Removed\",\"invert\":true}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define BYTES_GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define SEQUENCE(LIST) "{\"type\":\"Sequence\",\"pretokenizers\":[" LIST "]}"
#define CL100K_TAIL                                                                                \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+"           \
    "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define IGNORING_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define DIGITS(HOW) "{\"type\":\"Digits\",\"individual_digits\":" HOW "}"

static nib_code recognise(nib_pretok **p, const char *json, bool ignore_merges, nib_err *err)
{
    nib_json *j = NULL;
    assert_int_equal(nib_json_parse(&j, json, strlen(json), err), NIB_OK);
    nib_code rc = nib_pretok_from_json(p, j, ignore_merges, err);
    nib_json_free(j);
    return rc;
}

static void check_name(const char *json, bool ignore_merges, const char *want)
{
    nib_err err = {0};
    nib_pretok *p = NULL;
    if (recognise(&p, json, ignore_merges, &err)) fail_msg("%s", err.msg);
    assert_string_equal(nib_pretok_name(p), want);
    nib_pretok_free(p);
}

static void descriptions_have_names(void **unused)
{
    (void)unused;
    check_name(SEQUENCE(SPLIT(IGNORING_CASE CL100K_TAIL) "," BYTES), true, "llama-bpe");
    check_name(SEQUENCE(SPLIT(IGNORING_CASE CL100K_TAIL) "," BYTES), false, "dbrx");
    check_name(SEQUENCE(MATCHES(IGNORING_CASE CL100K_TAIL) "," BYTES), false, "dbrx");
    check_name(BYTES_GPT2, false, "gpt-2");
    check_name(SEQUENCE(DIGITS("true") "," BYTES_GPT2), false, "smollm");
    check_name(SEQUENCE(SEQUENCE(SPLIT("\\\\p{N}")) "," BYTES_GPT2), false, "smollm");
    check_name(
        SEQUENCE(
            SPLIT("[\\r\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT("\\\\s?\\\\p{P}+") "," SPLIT(
                "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+") "," DIGITS("true") "," BYTES),
        false, "deepseek-coder");
}

static void one_rule_has_many_spellings(void **unused)
{
    (void)unused;
    check_name(SEQUENCE(SPLIT("'(?i:[sdmt]|ll|ve|re)" CL100K_TAIL) "," BYTES), false, "dbrx");
    check_name(
        SEQUENCE(SPLIT(
            "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])" CL100K_TAIL) "," BYTES),
        false, "dbrx");
    check_name(
        SEQUENCE(SPLIT("'(?i:[sdmt]|ll|ve|re)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+\\\\p{L}+|"
                       "\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]++[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]|"
                       "\\\\s+(?!\\\\S)|\\\\s+") "," BYTES),
        false, "qwen2");
    check_name(SEQUENCE(SPLIT("'(?:[sdmt]|ll|ve|re)| ?\\\\p{L}+| ?\\\\p{N}+|"
                              " ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+") "," BYTES),
               false, "gpt-2");
}

static void check_refused(const char *json, const char *part)
{
    nib_err err = {0};
    nib_pretok *p = NULL;
    assert_int_equal(recognise(&p, json, false, &err), NIB_EFORMAT);
    assert_null(p);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not hold '%s'", err.msg, part);
}

static void other_descriptions_are_refused(void **unused)
{
    (void)unused;
    check_refused("null", "no pre_tokenizer");
    check_refused("{\"type\":\"Metaspace\"}", "'Metaspace'");
    check_refused(SPLIT("x"), "no ByteLevel");
    check_refused(BYTES, "not at all");
    check_refused(SEQUENCE(SPLIT("[aeiou]+\\\\s?") "," BYTES), "'[aeiou]+\\s?'"); /* is printed */
    check_refused(SEQUENCE(BYTES "," SPLIT("x")), "comes after ByteLevel");
    check_refused(SEQUENCE(MATCHES("\\\\p{N}") "," BYTES_GPT2), "not known"); /* drops the gaps */
    check_refused("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Removed\"}",
                  "behavior 'Removed', invert false");
    check_refused("{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}",
                  "no Regex");
    check_refused(SEQUENCE(DIGITS("false") ",{\"type\":\"ByteLevel\"}"), "adds a space");
    char many[2048] = "{\"type\":\"Sequence\",\"pretokenizers\":[";
    for (int i = 0; i < 12; i++) strcat(many, DIGITS("true") ",");
    check_refused(strcat(many, BYTES "]}"), "more than 8 steps");
}

static void names_that_mean_the_same_are_known(void **unused)
{
    (void)unused;
    nib_err err = {0};
    nib_pretok *p = NULL;
    assert_int_equal(nib_pretok_from_name(&p, "stablelm2", 9, &err), NIB_OK);
    assert_string_equal(nib_pretok_name(p), "stablelm2");
    assert_false(nib_pretok_rule_of(p)->nfc);
    nib_pretok_free(p);
    assert_int_equal(nib_pretok_from_name(&p, "llama", 5, &err), NIB_EFORMAT);
    assert_non_null(strstr(err.msg, "'llama' is not known; known are llama-bpe, dbrx, qwen2"));
    assert_int_equal(nib_pretok_from_name(&p, "", 0, &err), NIB_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_splitter_splits_by_its_rule),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(long_runs_are_split_in_time),
        cmocka_unit_test(descriptions_have_names),
        cmocka_unit_test(one_rule_has_many_spellings),
        cmocka_unit_test(other_descriptions_are_refused),
        cmocka_unit_test(names_that_mean_the_same_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
