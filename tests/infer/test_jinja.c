/* SPDX-License-Identifier: MIT */
/* Templates that are refused: what is not known is named with its line, limits hold, and memory
 * that runs short leaks nothing. What templates give is test_jinja_golden.c. */
#include "base/mem.h"
#include "infer/jinja.h"
#include "tests/calib/tmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static nib_code run(const char *source, size_t n, const char *json, nib_text *out, nib_err *err)
{
    nib_jinja *t;
    nib_json *data;
    *err = (nib_err){0};
    if (nib_json_parse(&data, json, strlen(json), err)) fail_msg("%s", err->msg);
    const nib_jinja_var var = {"x", data};
    nib_code rc = nib_jinja_parse(&t, source, n, err);
    if (!rc) rc = nib_jinja_render(t, &var, 1, out, err);
    nib_jinja_free(t);
    nib_json_free(data);
    return rc;
}

static void refuses(const char *source, const char *part)
{
    nib_text out = {0};
    nib_err err;
    assert_int_equal(run(source, strlen(source), "[1, \"a\"]", &out, &err), NIB_EFORMAT);
    tmp_expect(err.msg, part);
    assert_null(out.p);
}

static void what_is_not_known_is_named(void **state)
{
    (void)state;
    refuses("a\n{% include 'b' %}", "line 2: the tag 'include' is not supported");
    refuses("{% call f() %}{% endcall %}", "line 1: the tag 'call' is not supported");
    refuses("\n\n{{ x | from_json }}", "line 3: the filter 'from_json' is not supported");
    refuses("{{ x |\nbatch(2) }}", "line 2: the filter 'batch' is not supported");
    refuses("{{ x is\n\nfancy }}", "line 3: the test 'fancy' is not supported");
    refuses("{{ x | select('fancy') | list }}", "the test 'fancy' is not supported");
    refuses("{{ x | map('fancy') | list }}", "the filter 'fancy' is not supported");
    refuses("{{ 'a'.zfill(3) }}", "line 1: the method 'zfill' is not supported");
    refuses("{{ lipsum() }}", "not supported");
    refuses("{{ '%s' % 1 }}", "line 1: '%' between 'str' and 'int' is not supported");
    refuses("{{ '{:>3}'.format(1) }}", "'format' with the field ':>3' is not supported");
    refuses("{{ '11' | int(0, 2) }}", "another base than 10 is not supported");
    refuses("{% for a in x recursive %}{% endfor %}", "'recursive' loops are not supported");
    refuses("{% macro f() %}{{ caller() }}{% endmacro %}", "'caller' in a macro is not supported");
    refuses("{{ f(*x) }}", "arguments with '*' are not supported");
    refuses("{{ ('a' | safe).replace('a', 'b') }}", "of a string marked safe is not supported");
    refuses("{{ x | sort(attribute='a,b') }}", "several attributes is not supported");
    refuses("{{ 0x10 }}", "only decimal numbers are known");
    refuses("{{ '\\N{BULLET}' }}", "an escape in a string");
    refuses("{{ '\\x00' }}", "an escape in a string");
    refuses("{{ '\\ud83d' }}", "an escape in a string");
    refuses("{{ x.append(1) }}", "'append' would change a list, which templates may not");
    refuses("{% if true %}\n{{ raise_exception('Roles must alternate') }}{% endif %}",
            "line 2: the template refuses the conversation: Roles must alternate");
    refuses("{% if x %}a", "line 1: 'endif' expected, found the end of the template");
    refuses("{{ x", "line 1: a tag without its end");
    refuses("{{ x.y.z }}", "line 1: 'list object' has no attribute 'y'");
}

/* Filters and tests are looked up when they are used: a template whose branch for tools has some
 * that are not known serves conversations without tools. */
static void what_is_not_used_does_not_matter(void **state)
{
    static const char source[] = "{% if false %}{{ x | from_json is fancy }}{% endif %}fine";
    nib_text out = {0};
    nib_err err;
    (void)state;
    assert_int_equal(run(source, strlen(source), "1", &out, &err), NIB_OK);
    assert_int_equal(out.n, 4);
    nib_free(out.p);
}

static void numbers_that_are_not_kept_exactly_are_refused(void **state)
{
    static const char source[] = "{{ x }}";
    nib_text out = {0};
    nib_err err;
    (void)state;
    assert_int_equal(run(source, 7, "9007199254740993", &out, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "beyond 2^53");
    assert_int_equal(run(source, 7, "[NaN]", &out, &err), NIB_EFORMAT);
    assert_int_equal(run(source, 7, "[-9007199254740991, 1e400]", &out, &err), NIB_EFORMAT);
    refuses("{{ 9223372036854775807 }}", "a number above 10^18");
    refuses("{{ 999999999999999999 * 10 }}", "beyond 2^63");
    refuses("{{ 10 ** 19 }}", "beyond 2^63");
    refuses("{{ (-(2 ** 62) * 2) // -1 }}", "beyond 2^63");
}

static void limits_hold(void **state)
{
    (void)state;
    refuses("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
            "more than");
    refuses("{% set n = namespace(t='0123456789') %}{% for a in range(60) %}"
            "{% set n.t = n.t ~ n.t %}{% endfor %}",
            "more than");
    refuses("{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}", "more than");
    refuses("{% set n = namespace(t=[1]) %}{% for a in range(60) %}"
            "{% set n.t = n.t + n.t %}{% endfor %}",
            "more than");
    refuses("{{ [1] * 999999999999 }}", "a list that is too long");
    refuses("{{ 'a' * 999999999999 }}", "more than");
    refuses("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels deep");
    refuses("{% set n = namespace(t=[]) %}{% for a in range(1000) %}{% set n.t = [n.t] %}"
            "{% endfor %}{{ n.t }}",
            "levels deep");
    refuses("{% set n = namespace() %}{% set n.n = n %}{{ n }}", "levels deep");
    refuses("{{ range(100001) }}", "more than 100000 numbers");
    /* A search that finds nearly all of what it looks for at every place. */
    refuses("{% set a = 'a' * 200000 %}{{ ('a' * 100000 ~ 'b') in a }}", "steps of work");
}

static void nesting_and_size_of_templates_are_bounded(void **state)
{
    enum { MANY = 200000 };
    static char source[NIB_JINJA_SOURCE_MAX + 16];
    static const char *const pairs[][2] = {{"(", ")"},           {"[", "]"},   {"{1:", "}"},
                                           {"f(", ")"},          {"not ", ""}, {"-", ""},
                                           {"a if b else ", ""}, {"a[", "]"}};
    nib_text out = {0};
    nib_err err;
    (void)state;
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        size_t n = (size_t)sprintf(source, "{{ ");
        for (size_t i = 0; i < MANY / 10; i++) n += (size_t)sprintf(source + n, "%s", pairs[k][0]);
        n += (size_t)sprintf(source + n, "1");
        for (size_t i = 0; i < MANY / 10; i++) n += (size_t)sprintf(source + n, "%s", pairs[k][1]);
        n += (size_t)sprintf(source + n, "}}");
        assert_int_equal(run(source, n, "1", &out, &err), NIB_EFORMAT);
        tmp_expect(err.msg, "levels of nesting");
    }
    size_t n = 0;
    while (n < MANY) n += (size_t)sprintf(source + n, "{%% if x %%}");
    assert_int_equal(run(source, n, "1", &out, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "levels of nesting");
    /* To the left there is no nesting in the text, but in what is computed. */
    n = (size_t)sprintf(source, "{{ 1");
    while (n < MANY) n += (size_t)sprintf(source + n, "+1");
    n += (size_t)sprintf(source + n, "}}");
    assert_int_equal(run(source, n, "1", &out, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "levels deep");
    memset(source, 'a', sizeof source);
    assert_int_equal(run(source, sizeof source, "1", &out, &err), NIB_EFORMAT);
    tmp_expect(err.msg, "at most");
    assert_int_equal(run("a\0b", 3, "1", &out, &err), NIB_EFORMAT);
    assert_int_equal(run("a\xFF", 2, "1", &out, &err), NIB_EFORMAT);
}

static void output_is_appended(void **state)
{
    nib_text out = {0};
    nib_err err;
    (void)state;
    assert_int_equal(run("a{{ x }}", 8, "1", &out, &err), NIB_OK);
    assert_int_equal(run("b{{ x.y.z }}", 12, "1", &out, &err), NIB_EFORMAT);
    assert_int_equal(run("c", 1, "1", &out, &err), NIB_OK);
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.p, "a1c", 3);
    nib_free(out.p);
}

/* Every allocation fails once. */
static void memory_that_runs_short_is_an_error(void **state)
{
    static const char source[] =
        "{% macro f(a, b=1) %}{{ a }}{% endmacro %}{% set n = namespace(t='') %}"
        "{% for k, v in {'a': [1, 2], 'b': x}|dictsort if v %}{% set n.t = n.t ~ f(k|upper) %}"
        "{{ v|tojson(indent=2) ~ (v|map('string')|join('-')) }}{{ 'a b'.split()[0] }}{% endfor %}"
        "{% filter trim %} {{ n.t[::-1] }} {% endfilter %}{{ 'a' 'b' }}";
    nib_code rc = NIB_ENOMEM;
    long n = 1;
    (void)state;
    for (; rc; n++) {
        nib_text out = {0};
        nib_err err = {0};
        nib_json *data;
        nib_jinja *t = NULL;
        assert_int_equal(nib_json_parse(&data, "[1, \"a\"]", 8, &err), NIB_OK);
        const nib_jinja_var var = {"x", data};
        nib_mem_fail_at(n);
        rc = nib_jinja_parse(&t, source, strlen(source), &err);
        if (!rc) rc = nib_jinja_render(t, &var, 1, &out, &err);
        nib_mem_fail_at(0);
        if (rc) assert_int_equal(rc, NIB_ENOMEM);
        nib_jinja_free(t);
        nib_json_free(data);
        nib_free(out.p);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_known_is_named),
        cmocka_unit_test(what_is_not_used_does_not_matter),
        cmocka_unit_test(numbers_that_are_not_kept_exactly_are_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(nesting_and_size_of_templates_are_bounded),
        cmocka_unit_test(output_is_appended),
        cmocka_unit_test(memory_that_runs_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
