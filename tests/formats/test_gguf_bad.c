/* SPDX-License-Identifier: MIT */
/* The GGUF reader against files made to hurt it. */
#include "formats/gguf.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- a file, field by field ---- */

static bytes f;

static void head(uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    f.n = 0;
    put(&f, "GGUF", 4);
    put_uint(&f, version, 4);
    put_uint(&f, n_tensors, 8);
    put_uint(&f, n_kv, 8);
}

static void kv_u32(const char *key, uint32_t v)
{
    put_str(&f, key);
    put_uint(&f, NIB_GGUF_U32, 4);
    put_uint(&f, v, 4);
}

/* Key and head of an array. */
static void kv_arr(const char *key, uint32_t elem, uint64_t n)
{
    put_str(&f, key);
    put_uint(&f, NIB_GGUF_ARR, 4);
    put_uint(&f, elem, 4);
    put_uint(&f, n, 8);
}

/* A tensor of one or two dimensions (ne1 = 0: one). */
static void tensor(const char *name, uint64_t ne0, uint64_t ne1, uint32_t type, uint64_t offset)
{
    put_str(&f, name);
    put_uint(&f, ne1 ? 2 : 1, 4);
    put_uint(&f, ne0, 8);
    if (ne1) put_uint(&f, ne1, 8);
    put_uint(&f, type, 4);
    put_uint(&f, offset, 8);
}

/* Padding and `n` bytes of data; then opening must fail. Without data the file is cut here, and
 * what follows in the cases below is never reached. */
static void refused(size_t n, const char *part)
{
    while (f.n % 32) put_uint(&f, 0, 1);
    for (size_t i = 0; i < n; i++) put_uint(&f, i, 1);
    must_refuse(tmp_write("bad.gguf", f.b, f.n), part);
}

/* ---- cases ---- */

static void refuses_headers(void **state)
{
    (void)state;
    head(1, 0, 0);
    refused(0, "GGUF version 1; supported are 2 and 3");
    head(4, 0, 0);
    refused(0, "GGUF version 4");
    head(0, 0, 0);
    refused(0, "GGUF version 0");
    head(0x03000000, 0, 0);
    refused(0, "big-endian");
    head(3, UINT64_MAX, 0);
    refused(0, "-1 tensors");
    head(3, 0, UINT64_MAX);
    refused(0, "-1 metadata records");
    head(3, 1ull << 40, 0);
    refused(0, "do not fit into the file");
    head(3, 0, 100);
    refused(100, "100 metadata records do not fit");
    must_refuse(tmp_text("short.gguf", "GGUF\3"), "truncated");
}

static void refuses_metadata(void **state)
{
    (void)state;
    head(3, 0, 1);
    put_uint(&f, UINT64_MAX, 8);
    refused(40, "a metadata key: truncated: a string of 18446744073709551615 bytes");
    head(3, 0, 1);
    kv_u32("", 1);
    refused(40, "a key is empty");
    head(3, 0, 1);
    put_uint(&f, 3, 8);
    put(&f, "a\0b", 3);
    refused(40, "holds a NUL");
    head(3, 0, 2);
    kv_u32("same", 1);
    kv_u32("same", 1);
    refused(0, "'same' is there twice");
    head(3, 0, 1);
    put_str(&f, "k");
    put_uint(&f, 13, 4);
    refused(40, "metadata key 'k': unknown value type 13");
    head(3, 0, 1);
    put_str(&f, "k");
    put_uint(&f, UINT32_MAX, 4);
    refused(40, "unknown value type -1");
    head(3, 0, 1);
    kv_arr("k", 99, 1);
    refused(40, "unknown array element type 99");
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_ARR, 1);
    refused(40, "arrays of arrays");
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_U8, UINT64_MAX);
    refused(40, "an array of 18446744073709551615 elements");
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_U64, 1ull << 61);
    refused(40, "does not fit");
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_STR, 7);
    refused(16, "does not fit");
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_STR, 2);
    put_str(&f, "ok");
    put_uint(&f, 1000, 8);
    refused(16, "metadata key 'k': truncated: a string of 1000 bytes");
}

static void refuses_alignments(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 3, 48, 1u << 31};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        head(3, 0, 1);
        kv_u32("general.alignment", bad[i]);
        refused(0, "is not a u32 power of two");
    }
    head(3, 0, 1);
    put_str(&f, "general.alignment");
    put_uint(&f, NIB_GGUF_U64, 4);
    put_uint(&f, 32, 8);
    refused(0, "is not a u32 power of two");
}

static void refuses_tensor_records(void **state)
{
    (void)state;
    head(3, 1, 0);
    tensor("", 4, 0, 0, 0);
    refused(16, "tensor 0: the name is empty");
    head(3, 1, 0);
    tensor("a-name-of-sixty-four-bytes--xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 4, 0, 0, 0);
    refused(16, "a string of 65 bytes; at most 63");
    head(3, 2, 0);
    tensor("t", 4, 0, 0, 0);
    tensor("t", 4, 0, 0, 32);
    refused(64, "tensor 't' is there twice");
    head(3, 1, 0);
    put_str(&f, "t");
    put_uint(&f, 5, 4);
    refused(80, "tensor 't': 5 dimensions; at most 4");
    head(3, 1, 0);
    tensor("t", 1ull << 63, 0, 0, 0);
    refused(16, "dimension of -9223372036854775808");
    head(3, 1, 0);
    tensor("t", 1ull << 62, 2, 0, 0);
    refused(16, "has too many elements");
    head(3, 1, 0);
    tensor("t", 1ull << 62, 1, 0, 0);
    refused(16, "has too many bytes");
    head(3, 1, 0);
    tensor("t", 100, 2, 8, 0);
    refused(16, "rows of 100 are no whole number of q8_0 blocks (32)");
    head(3, 1, 0);
    tensor("t", 4, 0, 0, 32);
    refused(48, "data at offset 32; 0 is next");
    head(3, 2, 0);
    tensor("t", 4, 0, 0, 0);
    tensor("u", 4, 0, 0, 16);
    refused(64, "tensor 'u': data at offset 16; 32 is next");
    head(3, 1, 0);
    tensor("t", 4, 4, 0, 0);
    refused(63, "truncated: data of tensor 't' ends at");
    head(3, 3, 0);
    tensor("t", 1ull << 60, 0, 0, 0);
    tensor("u", 1ull << 60, 0, 0, 1ull << 62);
    tensor("v", 1ull << 60, 0, 0, 1ull << 63);
    refused(16, "the sum of all tensors is too large");
}

static void refuses_types(void **state)
{
    (void)state;
    static const struct {
        uint32_t id;
        const char *part;
    } cases[] = {
        {4, "tensor 't': tensor type 4 (Q4_2) was removed"},
        {31, "(Q4_0_4_4) was removed"},
        {38, "(IQ4_NL_8_8) was removed"},
        {9, "(Q8_1) is for computing"},
        {43, "unknown tensor type 43"},
        {UINT32_MAX, "unknown tensor type -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        head(3, 1, 0);
        tensor("t", 256, 0, cases[i].id, 0);
        refused(300, cases[i].part);
    }
}

static void good_file(void)
{
    head(2, 2, 3);
    kv_u32("general.alignment", 8);
    kv_arr("strings", NIB_GGUF_STR, 2);
    put_str(&f, "one");
    put_str(&f, "two");
    put_str(&f, "flag");
    put_uint(&f, NIB_GGUF_BOOL, 4);
    put_uint(&f, 2, 1); /* any value but 0 is true */
    tensor("t", 5, 0, 24, 0);
    tensor("u", 3, 2, 1, 8);
    while (f.n % 8) put_uint(&f, 0, 1);
    for (int i = 0; i < 20; i++) put_uint(&f, i, 1);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    good_file();
    for (size_t n = 0; n < f.n; n++) must_refuse(tmp_write("cut.gguf", f.b, n), "cut.gguf: ");
}

static void takes_what_others_wrote(void **state)
{
    (void)state;
    bool flag;
    uint8_t b[12];
    nib_err err = {0};
    good_file();
    nib_source *s = must_open(tmp_write("good.gguf", f.b, f.n));
    assert_true(nib_gguf_get_bool(nib_source_kvs(s), "flag", &flag) && flag);
    const nib_tensor *u = nib_source_find(s, "u");
    assert_int_equal(u->shape[0], 2);
    assert_int_equal(u->shape[1], 3);
    assert_int_equal(nib_source_read(s, u, 0, b, 12, &err), NIB_OK);
    assert_int_equal(b[0], 8);
    nib_source_close(s);
}

/* Any byte of the head replaced: opened or refused, but no crash. Under the sanitizers this reaches
 * what a fuzzer would reach first. */
static void survives_every_changed_byte(void **state)
{
    (void)state;
    static const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF};
    good_file();
    for (size_t i = 0; i < f.n; i++)
        for (size_t k = 0; k < sizeof values; k++) {
            nib_source *s;
            nib_err err = {0};
            uint8_t old = f.b[i];
            f.b[i] = values[k];
            nib_code rc = nib_source_open(&s, tmp_write("changed.gguf", f.b, f.n), &err);
            assert_true(rc == NIB_OK ? s != NULL : s == NULL && err.msg[0]);
            nib_source_close(s);
            f.b[i] = old;
        }
}

/* A sparse file of 5 GiB that announces as many strings as its size allows. */
static void metadata_is_capped(void **state)
{
    (void)state;
    head(3, 0, 1);
    kv_arr("k", NIB_GGUF_STR, 1u << 29);
    const char *path = tmp_write("sparse.gguf", f.b, f.n);
    if (truncate(path, 5ll << 30)) skip();
    must_refuse(path, "metadata is too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_headers),         cmocka_unit_test(refuses_metadata),
        cmocka_unit_test(refuses_alignments),      cmocka_unit_test(refuses_tensor_records),
        cmocka_unit_test(refuses_types),           cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(takes_what_others_wrote), cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(metadata_is_capped),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
