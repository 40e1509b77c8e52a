/* SPDX-License-Identifier: MIT */
/* The safetensors reader against files made to hurt it, and our writer against the reader. */
#include "formats/safetensors.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define F32_2x3 "{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"

static void refuses_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *part;
    } cases[] = {
        {"{\"a\":" F32_2x3 "}", 25, "1 bytes after the last tensor"},
        {"{\"a\":" F32_2x3 "}", 23, "the file holds 23 bytes"},
        {"{\"a\\u001b[2J\":" F32_2x3 "}", 23, "'a [2J': data ends at 24"},
        {"{\"a\\u009b2J\":" F32_2x3 "}", 23, "'a  2J': data ends at 24"},
        {"{\"a\":" F32_2x3 ",\"a\":" F32_2x3 "}", 24, "'a' appears twice"},
        {"{\"a\":" F32_2x3 ",\"b\":" F32_2x3 "}", 24,
         "'b' begins at 0 where 24 is next: tensors ov"},
        {"{\"a\":" F32_2x3 "}\n", 24, "something else than spaces"},
        {"{\"a\":" F32_2x3 "} x", 24, "text after the end"},
        {" {\"a\":" F32_2x3 "}", 24, "no '{' in front"},
        {"[]", 0, "no '{' in front"},
        {"{\"a\":[]}", 0, "'a': not a JSON object"},
        {"{\"a\":{}}", 0, "'dtype' is missing"},
        {"{\"a\":{\"dtype\":\"f32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
         "unknown dtype 'f32'"},
        {"{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4,
         "'dtype' is missing or not"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'shape' is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4,
         "'shape' is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", 4, "not a pair"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,8]}}", 4, "not a pair"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-1,3]}}", 4,
         "'data_offsets' are not"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4.0]}}", 4,
         "'data_offsets' are not"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4,
         "before it begins at 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}", 4,
         "begins at 1 where 0 is"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]}}", 1,
         "dimension 0 is not"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808,2],\"data_offsets\":[0,0]}}", 0,
         "dimension 0 is not an integer from 0 to 2^53"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "has too many elements"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         "more than 8 dimensions"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
         "dimension 0 is not"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4503599627370496,1024],\"data_offsets\":[0,0]}}", 0,
         "has too many elements"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4,
         "takes 3 bytes, 'data_"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,4]}}", 4,
         "takes 5 bytes, 'data_"},
        {"{\"__metadata__\":[]}", 0, "'__metadata__' is not an object"},
        {"{\"__metadata__\":{\"k\":null}}", 0, "value of 'k' is not a string"},
        {"{\"\xC3\x28\":" F32_2x3 "}", 24, "not UTF-8"},
    };
    bytes *f = malloc(sizeof *f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_safetensors(f, cases[i].header, cases[i].data);
        must_refuse(tmp_write("bad.safetensors", f->b, f->n), cases[i].part);
    }
    free(f);
}

static void refuses_files_that_are_something_else(void **state)
{
    (void)state;
    must_refuse(
        tmp_text("a.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:"),
        "git lfs pull");
    must_refuse(tmp_text("a.safetensors", "PK\3\4 and so on"), "PyTorch");
    must_refuse(tmp_text("a.safetensors", ""), "too short");
    must_refuse(tmp_text("a.safetensors", "some longer text"), "not a safetensors file");
    must_refuse(tmp_path("absent.safetensors"), "No such file");
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    bytes *f = malloc(sizeof *f);
    make_safetensors(f, "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" F32_2x3 "}  ", 24);
    for (size_t n = 0; n < f->n; n++)
        must_refuse(tmp_write("cut.safetensors", f->b, n), "cut.safetensors: ");
    nib_source_close(must_open(tmp_write("cut.safetensors", f->b, f->n)));
    free(f);
}

/* ---- writer ---- */

static nib_st_tensor samples[] = {
    {"c", NIB_F32, 2, {2, 3}},      {"b \"quoted\" \\ \n", NIB_F64, 1, {2}},
    {"a", NIB_BF16, 0, {0}},        {"empty", NIB_F16, 2, {0, 7}},
    {"nibbles", NIB_F4, 2, {3, 2}}, {"\xC3\xA9", NIB_U8, 1, {5}},
    {"d", NIB_F6_E2M3, 1, {4}},     {"z", NIB_I64, 1, {1}},
};
enum { N_SAMPLES = sizeof samples / sizeof *samples };

static void put_fill(nib_st_writer *w, size_t i, size_t n)
{
    nib_err err = {0};
    for (size_t k = 0; k < n; k++) {
        uint8_t byte = (uint8_t)(i * 16 + k);
        if (nib_st_write(w, i, &byte, 1, &err)) fail_msg("%s", err.msg);
    }
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const size_t size[N_SAMPLES] = {16, 8, 24, 2, 0, 5, 3, 3};
    static const char *const order[N_SAMPLES] = {"b \"quoted\" \\ \n", "z", "c",      "a", "empty",
                                                 "\xC3\xA9",           "d", "nibbles"};
    nib_err err = {0};
    nib_st_writer *w;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("written.safetensors"));
    nib_st_sort(samples, N_SAMPLES);
    if (nib_st_begin(&w, path, samples, N_SAMPLES, false, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < N_SAMPLES; i++) put_fill(w, i, size[i]);
    if (nib_st_end(w, &err)) fail_msg("%s", err.msg);

    nib_source *s = must_open(path);
    assert_int_equal(nib_source_count(s), N_SAMPLES);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        uint8_t b[32];
        const nib_tensor *t = nib_source_find(s, order[i]);
        assert_non_null(t);
        assert_string_equal(samples[i].name, order[i]);
        assert_int_equal(t->codec->type, samples[i].type);
        assert_int_equal(t->n_dims, samples[i].n_dims);
        assert_memory_equal(t->shape, samples[i].shape, 8 * (size_t)t->n_dims);
        assert_int_equal(t->bytes, size[i]);
        if (i == 0) assert_int_equal(t->offset % 8, 0);
        if (nib_source_read(s, t, 0, b, size[i], &err)) fail_msg("%s", err.msg);
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(b[k], (uint8_t)(i * 16 + k));
        assert_int_equal(nib_source_read(s, t, 1, b, size[i], &err), NIB_EINVAL);
    }
    nib_source_close(s);
    assert_int_equal(nib_st_begin(&w, path, samples, N_SAMPLES, false, &err), NIB_EIO);
    tmp_expect(err.msg, "exists already");
}

static void header_is_the_reference_writers(void **state)
{
    (void)state;
    static const char want[] =
        "\x58\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},"
        "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}    \x07";
    nib_err err = {0};
    nib_st_writer *w;
    char *got;
    size_t n;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("one.safetensors"));
    nib_st_tensor x = {"x", NIB_U8, 1, {1}};
    assert_int_equal(nib_st_begin(&w, path, &x, 1, false, &err), NIB_OK);
    assert_int_equal(nib_st_write(w, 0, "\x07", 1, &err), NIB_OK);
    assert_int_equal(nib_st_end(w, &err), NIB_OK);
    assert_int_equal(nib_file_slurp(&got, &n, path, 1000, &err), NIB_OK);
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(got, want, n);
    nib_free(got);
}

static void writer_refuses(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_st_writer *w;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("none.safetensors"));
    static const struct {
        nib_st_tensor t;
        const char *part;
    } cases[] = {
        {{"q", NIB_Q4_K, 1, {256}}, "no dtype for"},
        {{"\xFF", NIB_U8, 1, {1}}, "not a name"},
        {{"__metadata__", NIB_U8, 1, {1}}, "not a name"},
        {{"f", NIB_F4, 1, {3}}, "whole bytes"},
        {{"f", NIB_F32, 2, {(uint64_t)1 << 40, (uint64_t)1 << 40}}, "too large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(nib_st_begin(&w, path, &cases[i].t, 1, false, &err), NIB_EINVAL);
        tmp_expect(err.msg, cases[i].part);
    }
    nib_st_tensor two[2] = {{"x", NIB_U8, 1, {2}}, {"x", NIB_U8, 1, {2}}};
    assert_int_equal(nib_st_begin(&w, path, two, 2, false, &err), NIB_EINVAL);
    tmp_expect(err.msg, "'x' is there twice");
    two[1].name = "y";
    assert_int_equal(nib_st_begin(&w, path, two, 2, false, &err), NIB_OK);
    assert_int_equal(nib_st_write(w, 1, "ab", 2, &err), NIB_EINVAL);
    assert_int_equal(nib_st_write(w, 0, "abc", 3, &err), NIB_EINVAL);
    assert_int_equal(nib_st_write(w, 0, "ab", 2, &err), NIB_OK);
    assert_int_equal(nib_st_end(w, &err), NIB_EINVAL);
    tmp_expect(err.msg, "'y' is incomplete");
    assert_false(nib_file_exists(path));
}

/* Quadratic work anywhere would take minutes. */
static void many_tensors_open_quickly(void **state)
{
    (void)state;
    enum { N = 200000 };
    nib_err err = {0};
    nib_st_writer *w;
    nib_st_tensor *t = calloc(N, sizeof *t);
    char(*name)[24] = calloc(N, sizeof *name), path[128];
    for (size_t i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "t.%zu", i * 7919 % N);
        t[i] = (nib_st_tensor){name[i], NIB_U8, 1, {1}};
    }
    snprintf(path, sizeof path, "%s", tmp_path("many.safetensors"));
    nib_st_sort(t, N);
    if (nib_st_begin(&w, path, t, N, false, &err)) fail_msg("%s", err.msg);
    for (size_t i = 0; i < N; i++) put_fill(w, i, 1);
    if (nib_st_end(w, &err)) fail_msg("%s", err.msg);
    nib_source *s = must_open(path);
    for (size_t i = 0; i < N; i++) assert_string_equal(nib_source_at(s, i)->name, t[i].name);
    assert_non_null(nib_source_find(s, "t.199999"));
    assert_null(nib_source_find(s, "t.200000"));
    nib_source_close(s);
    free(t);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_headers),
        cmocka_unit_test(refuses_files_that_are_something_else),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(header_is_the_reference_writers),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(many_tensors_open_quickly),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
