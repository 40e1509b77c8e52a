/* SPDX-License-Identifier: MIT */
/* The hash has the values that the authors of FNV-1a give for it, and survives being written. */
#include "calib/fingerprint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void values_of_the_authors(void **state)
{
    (void)state;
    assert_true(nib_hash(NIB_HASH_START, "", 0) == 0xcbf29ce484222325u);
    assert_true(nib_hash(NIB_HASH_START, "a", 1) == 0xaf63dc4c8601ec8cu);
    assert_true(nib_hash(NIB_HASH_START, "foobar", 6) == 0x85944171f73967e8u);
    assert_true(nib_hash(nib_hash(NIB_HASH_START, "foo", 3), "bar", 3) == 0x85944171f73967e8u);
}

static void written_in_digits(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "85944171f73967e", "85944171f73967e88",
                                      "85944171F73967E8", " 5944171f73967e8"};
    uint64_t h = 0;
    nib_json *j = nib_json_new_object();
    assert_true(nib_hash_add(j, "h", 0x5944171f73967e8u));
    const char *text;
    assert_true(nib_json_str(nib_json_get(j, "h"), &text));
    assert_string_equal(text, "05944171f73967e8");
    assert_true(nib_hash_get(&h, j, "h") && h == 0x5944171f73967e8u);
    assert_false(nib_hash_get(&h, j, "absent"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char key[2] = {(char)('0' + i), 0};
        assert_true(nib_json_add_str(j, key, bad[i]));
        assert_false(nib_hash_get(&h, j, key));
    }
    nib_json_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_the_authors),
        cmocka_unit_test(written_in_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
