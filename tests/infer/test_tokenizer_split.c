/* SPDX-License-Identifier: MIT */
/* Splitters: each known one on text whose pieces were worked out by hand from the rule, and finding
 * them by description and by name. */
#include "base/mem.h"
#include "infer/tokenizer_pre.h"

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

static void check_pieces(const nib_splitter *s, const char *text, const char *want)
{
    nib_err err = {0};
    nib_split_run run;
    joined got = {0};
    assert_int_equal(nib_split_run_init(&run, &err), NIB_OK);
    assert_int_equal(nib_split(s, &run, true, true, text, strlen(text), join, &got, &err), NIB_OK);
    assert_string_equal(got.text, want);
    nib_split_run_fini(&run);
}

static void check_split(const char *name, const char *text, const char *want)
{
    nib_err err = {0};
    const nib_pre_rule *rule = NULL;
    nib_splitter s = {0};
    assert_int_equal(nib_pre_by_name(&rule, name, strlen(name), &err), NIB_OK);
    assert_int_equal(nib_pre_splitter(&s, rule, false, &err), NIB_OK);
    check_pieces(&s, text, want);
    nib_splitter_fini(&s);
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
    enum { N = 1 << 17 };
    nib_err err = {0};
    char *text = nib_alloc(N, 1);
    nib_split_run run;
    assert_non_null(text);
    assert_int_equal(nib_split_run_init(&run, &err), NIB_OK);
    for (const nib_pre_rule *r = nib_pre_rules; r->names; r++) {
        nib_splitter p = {0};
        assert_int_equal(nib_pre_splitter(&p, r, false, &err), NIB_OK);
        for (const char *c = " a\nA7!"; *c; c++) {
            size_t n = 0;
            memset(text, *c, N);
            text[N - 1] = '5'; /* so that a run of spaces does not end the text */
            assert_int_equal(nib_split(&p, &run, true, true, text, N, count, &n, &err), NIB_OK);
            assert_int_equal(n, N);
        }
        nib_splitter_fini(&p);
    }
    nib_split_run_fini(&run);
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

static nib_code read(nib_splitter *s, const char *json, nib_err *err)
{
    nib_json *j = NULL;
    *s = (nib_splitter){0};
    assert_int_equal(nib_json_parse(&j, json, strlen(json), err), NIB_OK);
    nib_code rc = nib_splitter_read(s, j, err);
    nib_json_free(j);
    return rc;
}

/* want NULL: it has no name. */
static void check_name(const char *json, bool ignore_merges, const char *want)
{
    nib_err err = {0};
    nib_splitter s;
    const nib_pre_rule *rule = NULL;
    if (read(&s, json, &err)) fail_msg("%s", err.msg);
    assert_int_equal(nib_pre_of_splitter(&rule, &s, ignore_merges, &err), NIB_OK);
    if (want) {
        assert_non_null(rule);
        assert_int_equal(strcspn(rule->names, " "), strlen(want));
        assert_memory_equal(rule->names, want, strlen(want));
    } else {
        assert_null(rule);
    }
    nib_splitter_fini(&s);
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

static void other_descriptions_have_none(void **unused)
{
    (void)unused;
    check_name("null", false, NULL);
    check_name("{\"type\":\"Metaspace\"}", false, NULL);
    check_name(SPLIT("x"), false, NULL); /* no bytes */
    check_name(BYTES, false, NULL);
    check_name(SEQUENCE(SPLIT("[aeiou]+\\\\s?") "," BYTES), false, NULL);
    check_name(SEQUENCE(BYTES "," SPLIT("x")), false, NULL);
    check_name(SEQUENCE(MATCHES("\\\\p{N}") "," BYTES_GPT2), false, NULL); /* drops the gaps */
    check_name(SEQUENCE(DIGITS("false") ",{\"type\":\"ByteLevel\"}"), false, NULL);
    /* Oniguruma takes {1,3}+ for a repeat of repeats: all digits in one piece */
    check_name(
        SEQUENCE(SPLIT(IGNORING_CASE "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}+| ?"
                                     "[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"
                                     "\\\\s+(?!\\\\S)|\\\\s+") "," BYTES),
        false, NULL);
}

static void check_refused(const char *json, const char *part)
{
    nib_err err = {0};
    nib_splitter s;
    assert_int_equal(read(&s, json, &err), NIB_EFORMAT);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not hold '%s'", err.msg, part);
    nib_splitter_fini(&s);
}

static void what_is_not_known_is_refused(void **unused)
{
    (void)unused;
    check_refused("{\"type\":\"UnicodeScripts\"}", "'UnicodeScripts'");
    check_refused("{\"type\":\"Split\",\"behavior\":\"Isolated\"}", "no pattern");
    check_refused("{\"type\":\"Split\",\"pattern\":{\"String\":\"\"}}", "nothing to look for");
    check_refused("{\"type\":\"Punctuation\",\"behavior\":\"Odd\"}", "'Odd'");
    check_refused("{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}", "'last'");
    check_refused(SEQUENCE(BYTES "," BYTES), "ByteLevel twice");
    check_refused(SPLIT("(a"), "'(a': regular expression");
    check_refused(SPLIT("[a&&"), "[ without ]");
    check_refused(SPLIT("(*NO_JIT)a"), "nothing to repeat");
    check_refused(SPLIT("a\\\\C"), "regular expression");
    char many[4096] = "{\"type\":\"Sequence\",\"pretokenizers\":[";
    for (int i = 0; i < 26; i++) strcat(many, DIGITS("true") ",");
    check_refused(strcat(many, BYTES "]}"), "more than 24 steps");
}

static void names_that_mean_the_same_are_known(void **unused)
{
    (void)unused;
    nib_err err = {0};
    const nib_pre_rule *rule = NULL;
    assert_int_equal(nib_pre_by_name(&rule, "stablelm2", 9, &err), NIB_OK);
    assert_false(rule->nfc);
    assert_int_equal(nib_pre_by_name(&rule, "llama", 5, &err), NIB_EFORMAT);
    assert_null(rule);
    assert_non_null(strstr(err.msg, "'llama' is not known; known are llama-bpe, dbrx, qwen2"));
    assert_int_equal(nib_pre_by_name(&rule, "", 0, &err), NIB_EFORMAT);
}

/* ---- components ---- */

static void check(const char *json, const char *text, const char *want)
{
    nib_err err = {0};
    nib_splitter s;
    if (read(&s, json, &err)) fail_msg("%s", err.msg);
    check_pieces(&s, text, want);
    nib_splitter_fini(&s);
}

#define AT_X(HOW, INVERT)                                                                          \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"" HOW                        \
    "\",\"invert\":" INVERT "}"
#define METASPACE(SCHEME, SPLIT_)                                                                  \
    "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"" SCHEME              \
    "\",\"split\":" SPLIT_ "}"

/* Pieces that tokenizers 0.23.2 gives. */
static void matches_and_gaps_behave(void **unused)
{
    (void)unused;
    static const char text[] = "xxaxbxx";
    check(AT_X("Removed", "false"), text, "a|b|");
    check(AT_X("Isolated", "false"), text, "x|x|a|x|b|x|x|");
    check(AT_X("Contiguous", "false"), text, "xx|a|x|b|xx|");
    check(AT_X("MergedWithPrevious", "false"), text, "x|x|ax|bx|x|");
    check(AT_X("MergedWithNext", "false"), text, "x|xa|xb|x|x|");
    check(AT_X("Removed", "true"), text, "x|x|x|x|x|");
    check(AT_X("MergedWithPrevious", "true"), text, "x|xa|xb|x|x|");
    check(AT_X("MergedWithNext", "true"), text, "x|x|ax|bx|x|");
}

static void components_split_as_the_library_does(void **unused)
{
    (void)unused;
    check("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}", "a..b$+`c\u00BF",
          "a|..|b|$+`|c|\u00BF|");
    check("{\"type\":\"Whitespace\"}", "a\u00BDb \u00B2c\u0301d e\u203Ff g\u00B7h\u200Di \u2460",
          "a|\u00BD|b|\u00B2|c\u0301d|e\u203Ff|g|\u00B7|h\u200Di|\u2460|");
    check("{\"type\":\"WhitespaceSplit\"}", " a\u3000b ", "a|b|");
    check("{\"type\":\"BertPreTokenizer\"}", "a,b  c!", "a|,|b|c|!|");
    check(METASPACE("always", "true"), "  a  b\u2581c", "\u2581|\u2581a|\u2581|\u2581b|\u2581c|");
    check(METASPACE("always", "false"), "a b", "\u2581a\u2581b|");
    check(METASPACE("always", "false"), " a", "\u2581a|");
    check(METASPACE("never", "false"), "a b", "a\u2581b|");
}

/* Pieces that tokenizers 0.23.2 gives: Oniguruma with Ruby's syntax. */
static void expressions_mean_what_oniguruma_means(void **unused)
{
    (void)unused;
    static const char *const cases[][3] = {
        {"\\\\p{N}{1,3}+", "1234567", "1234567|"},
        {"a?+a", "aaa", "aa|a|"},
        {"a*+b", "aab", "aab|"},
        {"\\\\p{L}{2}", "abcde", "ab|cd|e|"},
        {"a{,2}b", "aab {,2}b", "aab| {,2}|b|"},
        {"\\\\s+$", "a  \\n b  ", "a|  |\n b|  |"},
        {"^b", "a\\nb", "a\n|b|"},
        {"(?m:.)", "\\n", "\n|"},
        {"(?=(\\\\d{3})+(?!\\\\d))", "a1234567b 12345", "a1|234|567b 12|345|"},
        {"\\\\d{1,3}(?=(?:\\\\d{3})*\\\\b)", "1234567 12345a", "1|234|567| 12345a|"},
        {"[\\\\p{L}&&[^\\\\p{Han}]]+", "abc\u4E2D\u6587def", "abc|\u4E2D\u6587|def|"},
        {"[^\\\\s&&[^b]]+", "ab c d", "ab| |c| |d|"},
        {"[a-z&&[^aeiou]]+", "hello", "h|e|ll|o|"},
        {"[a[xy]]+", "bxya", "b|xya|"},
        {"[]a]+", "b]a", "b|]a|"},
        {"[^]a]+", "b]a", "b|]a|"},
        {"\\\\h+", "xfg 12", "x|f|g |12|"},
        {"\\\\u4e2d+", "\u4E2D\u6587", "\u4E2D|\u6587|"},
        {"\\\\p{Letter}+", "ab1", "ab|1|"},
        {"\\\\p{^L}+", "ab12", "ab|12|"},
        {"\\\\P{L}+", "ab12", "ab|12|"},
        {"\\\\p{Han}+", "\u4E2D\u3005\u3001\u3006a", "\u4E2D\u3005|\u3001\u3006a|"},
        {"[^\\\\S\\n]+", "a \\t\\n b\u180E", "a| \t|\n| |b\u180E|"},
        {"(?i:'s|'k)", "'\u017F '\u212A 's", "'\u017F| |'\u212A| |'s|"},
        {"[[:alpha:]]+", "ab1\u00E9", "ab|1|\u00E9|"},
        {"\\\\w+", "a\u00BD\u24B6\u0301 \u2460", "a\u00BD\u24B6\u0301| \u2460|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[400], text[200];
        snprintf(json, sizeof json,
                 "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}",
                 cases[i][0]);
        /* \\n and \\t in the text stand for themselves */
        size_t n = 0;
        for (const char *p = cases[i][1]; *p; p++) {
            text[n] = *p;
            if (p[0] == '\\' && (p[1] == 'n' || p[1] == 't')) text[n] = *++p == 'n' ? '\n' : '\t';
            n++;
        }
        text[n] = 0;
        check(json, text, cases[i][2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_splitter_splits_by_its_rule),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(long_runs_are_split_in_time),
        cmocka_unit_test(descriptions_have_names),
        cmocka_unit_test(one_rule_has_many_spellings),
        cmocka_unit_test(other_descriptions_have_none),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(names_that_mean_the_same_are_known),
        cmocka_unit_test(matches_and_gaps_behave),
        cmocka_unit_test(components_split_as_the_library_does),
        cmocka_unit_test(expressions_mean_what_oniguruma_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
