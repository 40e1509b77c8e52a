/* SPDX-License-Identifier: MIT */
/* What `inspect` says of folders, files and importance matrices. */
#include "base/file.h"
#include "run/inspect.h"
#include "tests/run/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static nib_json *inspect(const char *path, bool tensors)
{
    nib_json *j;
    nib_err err = {0};
    if (nib_inspect(&j, path, tensors, &err)) fail_msg("%s", err.msg);
    return j;
}

static double number(const nib_json *j, const char *a, const char *b)
{
    double v = 0;
    const nib_json *x = nib_json_get(j, a);
    if (!nib_json_num(b ? nib_json_get(x, b) : x, &v)) fail_msg("no number %s %s", a, b ? b : "");
    return v;
}

static void expect_word(const nib_json *j, const char *a, const char *b, const char *want)
{
    const char *s;
    const nib_json *x = nib_json_get(j, a);
    if (!nib_json_str(b ? nib_json_get(x, b) : x, &s)) fail_msg("no text %s %s", a, b ? b : "");
    assert_string_equal(s, want);
}

static void folder(void **state)
{
    (void)state;
    nib_json *j = inspect(tiny_llama(), true);
    expect_word(j, "kind", NULL, "huggingface");
    expect_word(j, "model", "architecture", "llama");
    assert_true(number(j, "tensors", NULL) == 38);
    assert_true(number(j, "model", "layers") == 4);
    assert_true(number(j, "model", "kv_heads") == 2);
    assert_true(number(j, "bits_per_weight", NULL) == 16);
    assert_true(number(nib_json_get(j, "types"), "bf16", "tensors") == 38);
    assert_null(nib_json_get(j, "metadata"));
    assert_int_equal(nib_json_count(nib_json_get(j, "tensor_list")), 38);
    nib_json_free(j);
}

static void gguf(void **state)
{
    (void)state;
    nib_recipe r = {.out = scratch("a.gguf"), .type = "q4_0"};
    quantize_ok(tiny_llama(), &r, NULL);
    nib_json *j = inspect(r.out, false);
    expect_word(j, "kind", NULL, "gguf");
    expect_word(j, "metadata", "general.name", "tiny-llama");
    assert_true(number(nib_json_get(j, "types"), "q4_0", "tensors") == 28);
    assert_true(number(j, "metadata", "general.file_type") == 2);
    const nib_json *tokens = nib_json_get(nib_json_get(j, "metadata"), "tokenizer.ggml.tokens");
    assert_true(number(tokens, "count", NULL) == 2048);
    expect_word(tokens, "array_of", NULL, "str");
    assert_int_equal(nib_json_count(nib_json_get(tokens, "first")), 5);
    assert_null(nib_json_get(j, "tensor_list"));
    nib_json_free(j);
}

static void importance_matrix(void **state)
{
    (void)state;
    opened o;
    nib_imatrix im;
    nib_err err = {0};
    open_model(&o, tiny_llama());
    fake_imatrix(&im, &o.model);
    assert_int_equal(nib_imatrix_save(&im, scratch("im.gguf"), true, &err), NIB_OK);
    nib_json *j = inspect(scratch("im.gguf"), true);
    expect_word(j, "kind", NULL, "imatrix");
    assert_true(number(j, "entries", NULL) == 28);
    assert_true(number(j, "chunk_count", NULL) == 3);
    const nib_json *first = nib_json_first(nib_json_get(j, "tensor_list"));
    expect_word(first, "name", NULL, "blk.0.attn_k.weight");
    assert_true(number(first, "columns", NULL) == 256);
    assert_true(number(first, "rows_seen", NULL) == 2);
    nib_json_free(j);
    nib_imatrix_free(&im);
    close_model(&o);
}

/* A model that nibble cannot run can still be looked at. */
static void unknown_architecture(void **state)
{
    (void)state;
    nib_err err = {0};
    static const char config[] = "{\"architectures\":[\"MambaForCausalLM\"]}";
    char path[256];
    random_model("mamba", gen_family_find("qwen3"), 32, 1, NIB_BF16);
    assert_int_equal(
        gen_text_write(scratch("mamba"), "config.json", config, sizeof config - 1, &err), NIB_OK);
    nib_json *j = inspect(scratch("mamba"), false);
    const char *why;
    assert_true(nib_json_str(nib_json_get(j, "not_runnable"), &why));
    expect_text(why, "MambaForCausalLM");
    assert_null(nib_json_get(j, "model"));
    nib_json_free(j);

    /* And what is no model at all is said to be none. */
    snprintf(path, sizeof path, "%s/tokenizer.json", tiny_llama());
    assert_int_not_equal(nib_inspect(&j, path, false, &err), NIB_OK);
    assert_null(j);
    assert_int_not_equal(nib_inspect(&j, scratch("absent"), false, &err), NIB_OK);
    expect_text(err.msg, "No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder),
        cmocka_unit_test(gguf),
        cmocka_unit_test(importance_matrix),
        cmocka_unit_test(unknown_architecture),
    };
    return cmocka_run_group_tests_name("inspect", tests, scratch_make, scratch_remove);
}
