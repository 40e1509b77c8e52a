/* SPDX-License-Identifier: MIT */
#include "base/json.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static nib_code parse(nib_json **j, const char *text, nib_err *err)
{
    return nib_json_parse(j, text, strlen(text), err);
}

static void refuses(const char *text, const char *part_of_message)
{
    nib_json *j;
    nib_err err = {0};
    assert_int_equal(parse(&j, text, &err), NIB_EFORMAT);
    assert_null(j);
    if (!strstr(err.msg, part_of_message))
        fail_msg("message '%s' lacks '%s'", err.msg, part_of_message);
}

static void refuses_what_is_not_one_document(void **state)
{
    (void)state;
    refuses("", "not valid");
    refuses("{\"a\":1} x", "text after the end");
    refuses("{\"a\":1,}", "not valid");
    refuses("{\n \"a\": 1\n \"b\": 2}", "line 3");
    refuses("{\"a\":1,\"b\":{\"c\":0,\"c\":1}}", "'c' appears twice");
    refuses("[\"x\xC0\xAF\"]", "column 4: not UTF-8");
    refuses("[\"\xED\xA0\x80\"]", "not UTF-8");
    refuses("[\"a\nb\"]", "control character");
    refuses("[1,\f2]", "control character");
    refuses("[01]", "column 2: not a number");
    refuses("[1.]", "not a number");
    refuses("[{\"a\":-.5}]", "not a number");
}

static void integers_are_exact(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    uint64_t v;
    const char *text = "[7, 2.0, 1e3, -1, 9007199254740993, {\"k 1.5\": {\"n\": 12}}, \"3.5\", 8]";
    assert_int_equal(parse(&j, text, &err), NIB_OK);
    const nib_json *c = nib_json_first(j);
    assert_true(nib_json_u64(c, &v) && v == 7);
    for (int i = 0; i < 4; i++) {
        c = nib_json_next(c);
        assert_false(nib_json_u64(c, &v));
    }
    c = nib_json_next(c);
    assert_true(nib_json_u64(nib_json_get(nib_json_get(c, "k 1.5"), "n"), &v) && v == 12);
    c = nib_json_next(nib_json_next(c));
    assert_true(nib_json_u64(c, &v) && v == 8);
    nib_json_free(j);
}

/* A string without its end hides what stands behind it, however often the text is gone through. */
static void words_behind_an_open_string_need_no_room(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    nib_json *j = NULL;
    nib_err err = {0};
    char *text = nib_alloc(MANY, 5);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "[NaN, \"");
    while (n + 5 < 5 * MANY) n += (size_t)sprintf(text + n, "NaN ");
    assert_int_equal(nib_json_parse(&j, text, n, &err), NIB_EFORMAT);
    assert_null(j);
    nib_free(text);
}

static void negative_integers_and_reals_are_told_apart(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    int64_t v = 0;
    assert_int_equal(parse(&j, "[-7, -9007199254740991, -9007199254740993, 2.0, 1e3, \"1\"]", &err),
                     NIB_OK);
    const nib_json *c = nib_json_first(j);
    assert_true(nib_json_i64(c, &v) && v == -7 && !nib_json_is_real(c));
    c = nib_json_next(c);
    assert_true(nib_json_i64(c, &v) && v == -9007199254740991);
    c = nib_json_next(c);
    assert_false(nib_json_i64(c, &v));
    assert_false(nib_json_is_real(c));
    for (int i = 0; i < 2; i++) {
        c = nib_json_next(c);
        assert_false(nib_json_i64(c, &v));
        assert_true(nib_json_is_real(c));
    }
    c = nib_json_next(c);
    assert_false(nib_json_i64(c, &v));
    assert_false(nib_json_is_real(c));
    assert_false(nib_json_is_real(NULL));
    nib_json_free(j);
}

static void numbers_are_finite(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    double v;
    assert_int_equal(parse(&j, "[1e400, -2.5]", &err), NIB_OK);
    assert_false(nib_json_num(nib_json_first(j), &v));
    assert_true(nib_json_num(nib_json_next(nib_json_first(j)), &v) && v == -2.5);
    nib_json_free(j);
}

/* As Python's json module writes them, and reads them. */
static void what_is_not_finite_is_nobodys_number(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    double v;
    uint64_t u;
    const char *text = "{\"NaN\": NaN, \"a\": [-Infinity,Infinity , NaN], "
                       "\"s\": \"\\\"NaN, -Infinity\", \"n\": 7}";
    if (parse(&j, text, &err)) fail_msg("%s", err.msg);
    assert_false(nib_json_num(nib_json_get(j, "NaN"), &v));
    const nib_json *a = nib_json_get(j, "a");
    assert_int_equal(nib_json_count(a), 3);
    for (const nib_json *c = nib_json_first(a); c; c = nib_json_next(c)) {
        assert_false(nib_json_num(c, &v));
        assert_false(nib_json_u64(c, &u));
    }
    const char *s;
    assert_true(nib_json_str(nib_json_get(j, "s"), &s));
    assert_string_equal(s, "\"NaN, -Infinity");
    assert_true(nib_json_u64(nib_json_get(j, "n"), &u) && u == 7);
    nib_json_free(j);
    if (parse(&j, "NaN", &err)) fail_msg("%s", err.msg);
    nib_json_free(j);
    refuses("[1NaN]", "not valid");
    refuses("[NaN1]", "not valid");
    refuses("[NaNInfinity]", "not valid");
    refuses("[nan]", "not valid");
    refuses("[1-Infinity]", "not valid");
    refuses("[+Infinity]", "not valid");
    refuses("{NaN: 1}", "not valid");
    refuses("[Infinit]", "not valid");
}

static void keys_are_case_sensitive(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    assert_int_equal(parse(&j, "{\"A\":1,\"a\":\"x\"}", &err), NIB_OK);
    assert_true(nib_json_is_string(nib_json_get(j, "a")));
    assert_null(nib_json_get(j, "b"));
    assert_null(nib_json_get(NULL, "b"));
    nib_json_free(j);
}

/* What is printed can be read again, whatever the strings and keys were. */
static void bytes_that_are_no_text(void **state)
{
    (void)state;
    nib_json *j = nib_json_new_object(), *again;
    nib_err err = {0};
    const char *s;
    assert_true(nib_json_add_str(j, "path", "m\xFF"));
    assert_true(nib_json_add_num(j, "\xC0key", 1));
    char *text = nib_json_print(j, false);
    assert_int_equal(parse(&again, text, &err), NIB_OK);
    assert_true(nib_json_str(nib_json_get(again, "path"), &s));
    assert_string_equal(s, "m\xEF\xBF\xBD");
    assert_non_null(nib_json_get(again, "\xEF\xBF\xBDkey"));
    nib_free(text);
    nib_json_free(j);
    nib_json_free(again);
}

/* "1.0" and "1" are not the same to every reader; f32 values have short decimals. */
static void real_numbers_keep_their_point(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    static const char text[] = "{\"a\":[1.0,2,-3.0,1e3,0.5,1e-05],\"b\":{\"c\":0.0},\"d\":\"1.0\"}";
    assert_int_equal(parse(&j, text, &err), NIB_OK);
    for (int i = 0; i < 2; i++) { /* printing leaves the tree as it is */
        char *out = nib_json_print(j, false);
        assert_string_equal(
            out, "{\"a\":[1.0,2,-3.0,1000.0,0.5,1e-05],\"b\":{\"c\":0.0},\"d\":\"1.0\"}");
        nib_free(out);
    }
    nib_json_free(j);
    j = nib_json_new_object();
    assert_true(nib_json_add_real(j, "a", 1e-5f) && nib_json_add_real(j, "b", 500000) &&
                nib_json_add_real(j, "c", 0.1f) && nib_json_add_num(j, "d", 7));
    assert_true(nib_json_add_real(j, "e", 16777217.0f / 3));
    char *out = nib_json_print(j, false);
    assert_string_equal(out, "{\"a\":1e-05,\"b\":500000.0,\"c\":0.1,\"d\":7,\"e\":5592405.5}");
    nib_free(out);
    nib_json_free(j);
}

static void a_nul_is_a_character(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    const char *s = "-";
    char bytes[16];
    static const char text[] = "{\"a\\u0000b\":[\"\\u0000\",\"\\\\u0000\",\"x\\u00000\"]}";
    assert_int_equal(parse(&j, text, &err), NIB_OK);
    const nib_json *list = nib_json_first(j), *c = nib_json_first(list);
    assert_int_equal(nib_json_bytes(bytes, nib_json_key(list)), 3);
    assert_memory_equal(bytes, "a\0b", 3);
    assert_false(nib_json_str(c, &s)); /* would be cut short */
    assert_string_equal(s, "-");
    assert_true(nib_json_text(c, &s));
    assert_int_equal(nib_json_bytes(NULL, s), 1);
    c = nib_json_next(c);
    assert_true(nib_json_str(c, &s));
    assert_string_equal(s, "\\u0000"); /* an escaped backslash */
    assert_true(nib_json_text(nib_json_next(c), &s));
    assert_int_equal(nib_json_bytes(bytes, s), 3);
    assert_memory_equal(bytes,
                        "x\0"
                        "0",
                        3);
    char *out = nib_json_print(j, false);
    assert_string_equal(out, text);
    nib_free(out);
    nib_json_free(j);
    j = nib_json_new_object();
    assert_true(nib_json_add_text(j, "k", "\0y\0", 3) && nib_json_add_num_under(j, "\0", 1, 7));
    out = nib_json_print(j, false);
    assert_string_equal(out, "{\"k\":\"\\u0000y\\u0000\",\"\\u0000\":7}");
    nib_free(out);
    nib_json_free(j);
}

static void lines(void **state)
{
    (void)state;
    static const char text[] =
        "{\n \"a\": [1,\n  {\"b\": \"x:[\\\"\"}, -2.5e3,\n null],\n\n \"c\" :\n true}\n";
    nib_json *root, *other;
    nib_err err = {0};
    assert_int_equal(nib_json_parse(&root, text, strlen(text), &err), NIB_OK);
    assert_int_equal(nib_json_parse(&other, text, strlen(text), &err), NIB_OK);
    const nib_json *a = nib_json_get(root, "a"), *one = nib_json_first(a),
                   *object = nib_json_next(one), *number = nib_json_next(object);
    const struct {
        const nib_json *item;
        size_t line;
    } want[] = {{root, 1},
                {a, 2},
                {one, 2},
                {object, 3},
                {nib_json_get(object, "b"), 3},
                {number, 3},
                {nib_json_next(number), 4},
                {nib_json_get(root, "c"), 6},
                {nib_json_get(other, "c"), 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(nib_json_line(root, want[i].item, text, strlen(text)), want[i].line);
    nib_json_free(root);
    nib_json_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(a_nul_is_a_character),
        cmocka_unit_test(refuses_what_is_not_one_document),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(words_behind_an_open_string_need_no_room),
        cmocka_unit_test(negative_integers_and_reals_are_told_apart),
        cmocka_unit_test(numbers_are_finite),
        cmocka_unit_test(what_is_not_finite_is_nobodys_number),
        cmocka_unit_test(keys_are_case_sensitive),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(real_numbers_keep_their_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
