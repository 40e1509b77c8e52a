/* SPDX-License-Identifier: MIT */
/* Templates against Jinja itself: each file named on the command line holds variables ("vars") and
 * cases: a template, further variables of its own, and the text that Jinja made of them, or
 * "error": true where it refused. tests/golden/jinja says where they are from. */
#include "base/mem.h"
#include "infer/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { FILE_MAX = 1 << 26, VARS_MAX = 32 };

static const char *const *paths;
static size_t n_paths;

static void add_vars(nib_jinja_var *vars, size_t *n, const nib_json *from)
{
    for (const nib_json *v = nib_json_first(from); v; v = nib_json_next(v)) {
        assert_true(*n < VARS_MAX);
        vars[(*n)++] = (nib_jinja_var){nib_json_key(v), v};
    }
}

/* Runs one case; false, with a message, when it differs. */
static bool agrees(const nib_json *c, const nib_json *shared, const char *name)
{
    const char *source, *want = NULL;
    nib_jinja_var vars[VARS_MAX];
    size_t n = 0;
    nib_jinja *t = NULL;
    nib_text text = {0};
    nib_err err = {0};
    assert_true(nib_json_str(nib_json_get(c, "template"), &source));
    const bool fails = !nib_json_str(nib_json_get(c, "text"), &want);
    add_vars(vars, &n, shared);
    add_vars(vars, &n, nib_json_get(c, "vars"));
    nib_code rc = nib_jinja_parse(&t, source, strlen(source), &err);
    if (!rc) rc = nib_jinja_render(t, vars, n, &text, &err);
    const bool same =
        !rc && want && text.n == strlen(want) && !memcmp(text.n ? text.p : "", want, text.n);
    const bool ok = fails ? rc == NIB_EFORMAT && strstr(err.msg, "line ") == err.msg : same;
    if (!ok)
        print_message("%s: expected %s\ngot %s%.*s\n", name, want ? want : "an error",
                      rc ? err.msg : "", (int)text.n, text.n ? text.p : "");
    nib_free(text.p);
    nib_jinja_free(t);
    return ok;
}

static void same_text_as_jinja(void **state)
{
    size_t n = 0, differ = 0;
    (void)state;
    for (size_t i = 0; i < n_paths; i++) {
        nib_json *all;
        nib_err err;
        if (nib_json_load(&all, paths[i], FILE_MAX, &err)) fail_msg("%s", err.msg);
        const nib_json *c = nib_json_first(nib_json_get(all, "cases"));
        for (; c; c = nib_json_next(c), n++) {
            const char *name = "?";
            (void)nib_json_str(nib_json_get(c, "name"), &name);
            differ += !agrees(c, nib_json_get(all, "vars"), name);
        }
        nib_json_free(all);
    }
    print_message("%zu cases, %zu differ\n", n, differ);
    assert_true(n > 0);
    assert_int_equal(differ, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_text_as_jinja)};
    paths = (const char *const *)argv + 1;
    n_paths = (size_t)argc - 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
