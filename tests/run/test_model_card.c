/* SPDX-License-Identifier: MIT */
/* Model cards: what the Hub reads, a row for each output, and what is not ours stays. */
#include "run/model_card.h"

#include "base/file.h"
#include "tests/run/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void add(const char *out, const char *type, double kl, nib_code want)
{
    nib_plan p;
    nib_err err = {0};
    plan_ok(&p, &(nib_recipe){.type = type, .out = scratch(out), .force = true}, NULL);
    const nib_model_card c = {"somebody/tiny-llama", &p, kl};
    const nib_code rc = nib_model_card_write(scratch("README.md"), &c, &err);
    nib_plan_free(&p);
    assert_int_equal(rc, want);
    if (want) expect_text(err.msg, "has no table of files between '<!-- nibble: files -->'");
}

static char *card(void)
{
    char *text;
    size_t n;
    nib_err err;
    assert_int_equal(nib_file_slurp(&text, &n, scratch("README.md"), 1 << 20, &err), NIB_OK);
    return text;
}

static void save(const char *text)
{
    nib_err err;
    assert_int_equal(nib_file_save(scratch("README.md"), text, strlen(text), true, &err), NIB_OK);
}

static void rows_come_together(void **state)
{
    (void)state;
    char *text, *mine = NULL;
    add("m-Q4_K_M.gguf", "q4_k_m", 0.0125, NIB_OK);
    text = card();
    assert_int_equal(strncmp(text, "---\nbase_model: somebody/tiny-llama\n", 36), 0);
    expect_text(text, "base_model_relation: quantized\n");
    expect_text(text, "| [m-Q4_K_M.gguf](m-Q4_K_M.gguf) | q4_k_m | 5.13 | 0.00 GB | 0.01250 |\n");
    assert_non_null(mine = nib_alloc(strlen(text) + 100, 1));
    sprintf(mine, "%s\nMy own words.\n", text);
    save(mine);
    nib_free(mine);
    nib_free(text);
    add("m-Q8_0.gguf", "q8_0", -1, NIB_OK);
    add("m-Q4_K_M.gguf", "q4_k_m", 0.25, NIB_OK);
    text = card();
    const char *first = strstr(text, "[m-Q4_K_M.gguf]"), *second = strstr(text, "[m-Q8_0.gguf]");
    assert_true(first && second && first < second);
    assert_null(strstr(first + 1, "[m-Q4_K_M.gguf]"));
    assert_null(strstr(text, "0.01250"));
    expect_text(text, "0.25000");
    expect_text(text, "| not measured |\n<!-- nibble: end of files -->\n");
    expect_text(text, "My own words.\n");
    nib_free(text);
}

static void other_cards_stay(void **state)
{
    (void)state;
    save("# Somebody's card\n");
    add("m.gguf", "q8_0", -1, NIB_EINVAL);
    char *text = card();
    assert_string_equal(text, "# Somebody's card\n");
    nib_free(text);
    remove(scratch("README.md"));
}

static int setup(void **state)
{
    return scratch_make(state) || open_tiny(state);
}

static int teardown(void **state)
{
    return close_tiny(state) || scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_come_together),
                                       cmocka_unit_test(other_cards_stay)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
