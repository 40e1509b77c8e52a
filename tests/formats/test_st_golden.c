/* SPDX-License-Identifier: MIT */
/* Do we take and refuse what others do? See tests/golden/safetensors. */
#include "base/file.h"
#include "base/mem.h"
#include "formats/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void takes_and_refuses_as_listed(void **state)
{
    (void)state;
    const char *dir = getenv("NIB_GOLDEN");
    nib_err err = {0};
    nib_json *index;
    int cases = 0, wrong = 0;
    char *path = nib_path_join(dir, "index.json");
    if (nib_json_load(&index, path, 1 << 20, &err)) fail_msg("%s", err.msg);
    nib_free(path);
    const nib_json *c = nib_json_first(nib_json_get(index, "cases"));
    for (; c; c = nib_json_next(c), cases++) {
        const char *file;
        bool accept = false; /* null: readers differ, we are strict */
        assert_true(nib_json_str(nib_json_get(c, "file"), &file));
        nib_json_bool(nib_json_get(c, "accept"), &accept);
        nib_source *s;
        path = nib_path_join(dir, file);
        nib_code rc = nib_source_open(&s, path, &err);
        if ((rc == NIB_OK) != accept) {
            print_error("%s: %s\n", file, rc ? err.msg : "was opened");
            wrong++;
        }
        if (rc && !strstr(err.msg, file)) fail_msg("'%s' does not name %s", err.msg, file);
        nib_source_close(s);
        nib_free(path);
    }
    nib_json_free(index);
    assert_true(cases > 30);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_and_refuses_as_listed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
