/* SPDX-License-Identifier: MIT */
/* infer/jinja_test.c - tests, what stands behind `is`; see jinja_impl.h.
 * Tests: tests/infer/test_jinja_golden.c. */
#include "infer/jinja_impl.h"

#include <math.h>
#include <string.h>

typedef bool test_fn(nib_jrun *r, nib_jv v, nib_jv other);

static bool is_kind(nib_jv v, nib_jkind kind)
{
    return v.kind == (uint8_t)kind;
}

static bool defined(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return !is_kind(v, NIB_JV_UNDEFINED);
}
static bool undefined(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_UNDEFINED);
}
static bool none(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_NONE);
}
static bool boolean(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_BOOL);
}
static bool is_true(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_BOOL) && v.u.b;
}
static bool is_false(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_BOOL) && !v.u.b;
}
static bool integer(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_INT);
}
static bool is_float(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_FLOAT);
}
static bool number(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return nib_jv_is_number(v);
}
static bool string(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_STR);
}
static bool mapping(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_DICT);
}
static bool iterable(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return nib_jv_iterable(v);
}
/* What has a length and elements: a dict too. */
static bool sequence(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_STR) || is_kind(v, NIB_JV_LIST) || is_kind(v, NIB_JV_TUPLE) ||
           is_kind(v, NIB_JV_RANGE) || is_kind(v, NIB_JV_DICT) || is_kind(v, NIB_JV_UNDEFINED);
}
static bool callable(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return is_kind(v, NIB_JV_FUNCTION) || is_kind(v, NIB_JV_METHOD) || is_kind(v, NIB_JV_MACRO) ||
           is_kind(v, NIB_JV_LOOP) || is_kind(v, NIB_JV_UNDEFINED);
}
static bool escaped(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return v.safe;
}
static bool upper(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)o;
    const nib_jv s = nib_jv_to_str(r, v);
    return nib_jcharge(r, s.n) && nib_jstr_is_case(s, true);
}
static bool lower(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)o;
    const nib_jv s = nib_jv_to_str(r, v);
    return nib_jcharge(r, s.n) && nib_jstr_is_case(s, false);
}

/* Is the remainder as Python has it, of the sign of what is divided by, the wanted one? */
static bool remainder_is(nib_jrun *r, nib_jv v, nib_jv by, int64_t wanted)
{
    if (!nib_jv_is_number(v) || !nib_jv_is_number(by) || !nib_jv_true(by)) {
        nib_jfail(r, "a number expected, and one that is not zero to divide by");
        return false;
    }
    if (v.kind == NIB_JV_FLOAT || by.kind == NIB_JV_FLOAT) {
        const double y = nib_jv_number(by), rest = fmod(nib_jv_number(v), y);
        return !(fabs((rest * y < 0 ? rest + y : rest) - (double)wanted) > 0);
    }
    const int64_t x = v.kind == NIB_JV_INT ? v.u.i : v.u.b, y = by.kind == NIB_JV_INT ? by.u.i : 1;
    const int64_t rest = y == -1 ? 0 : x % y;
    return (rest && (rest < 0) != (y < 0) ? rest + y : rest) == wanted;
}
static bool odd(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)o;
    return remainder_is(r, v, nib_jv_int(2), 1);
}
static bool even(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)o;
    return remainder_is(r, v, nib_jv_int(2), 0);
}
static bool divisible(nib_jrun *r, nib_jv v, nib_jv o)
{
    return remainder_is(r, v, o, 0);
}

static bool equal(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_equal(r, v, o);
}
static bool unequal(nib_jrun *r, nib_jv v, nib_jv o)
{
    return !nib_jv_equal(r, v, o);
}
static bool less(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_order(r, v, o) < 0;
}
static bool at_most(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_order(r, v, o) <= 0;
}
static bool greater(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_order(r, v, o) > 0;
}
static bool at_least(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_order(r, v, o) >= 0;
}
static bool in(nib_jrun *r, nib_jv v, nib_jv o)
{
    return nib_jv_in(r, v, o);
}
static bool is_filter(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return nib_jfilter_known(v);
}
static bool is_test(nib_jrun *r, nib_jv v, nib_jv o)
{
    (void)r, (void)o;
    return nib_jtest_known(v);
}

static const struct {
    const char *name;
    bool takes; /* an argument */
    test_fn *test;
} tests[] = {
    {"defined", false, defined},
    {"undefined", false, undefined},
    {"none", false, none},
    {"boolean", false, boolean},
    {"true", false, is_true},
    {"false", false, is_false},
    {"integer", false, integer},
    {"float", false, is_float},
    {"number", false, number},
    {"string", false, string},
    {"mapping", false, mapping},
    {"iterable", false, iterable},
    {"sequence", false, sequence},
    {"callable", false, callable},
    {"escaped", false, escaped},
    {"upper", false, upper},
    {"lower", false, lower},
    {"odd", false, odd},
    {"even", false, even},
    {"filter", false, is_filter},
    {"test", false, is_test},
    {"divisibleby", true, divisible},
    {"equalto", true, equal},
    {"==", true, equal},
    {"eq", true, equal},
    {"!=", true, unequal},
    {"ne", true, unequal},
    {"<", true, less},
    {"lt", true, less},
    {"lessthan", true, less},
    {"<=", true, at_most},
    {"le", true, at_most},
    {">", true, greater},
    {"gt", true, greater},
    {"greaterthan", true, greater},
    {">=", true, at_least},
    {"ge", true, at_least},
    {"in", true, in},
};

bool nib_jtest_known(nib_jv name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (nib_jv_is(name, tests[i].name)) return true;
    return false;
}

bool nib_jtest(nib_jrun *r, nib_jv name, nib_jv v, const nib_jargs *args)
{
    nib_jparams p;
    for (size_t i = 0; i < sizeof tests / sizeof *tests && !r->rc; i++) {
        if (!nib_jv_is(name, tests[i].name)) continue;
        if (!nib_jbind(r, &p, args, tests[i].name, tests[i].takes ? "other" : "")) return false;
        if (tests[i].takes && !p.given[0]) {
            nib_jfail(r, "the test '%s' wants an argument", tests[i].name);
            return false;
        }
        return tests[i].test(r, v, p.v[0]);
    }
    nib_jfail(r, "the test '%.*s' is not supported", (int)(name.n < 60 ? name.n : 60),
              name.kind == NIB_JV_STR ? name.u.s : "");
    return false;
}
