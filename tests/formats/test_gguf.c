/* SPDX-License-Identifier: MIT */
/* GGUF: metadata in memory, and what is written reads back. */
#include "base/file.h"
#include "formats/gguf.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- metadata ---- */

static void keys_keep_their_order(void **state)
{
    (void)state;
    char key[16];
    uint64_t v;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "k%u", i * 7 % 500);
        assert_true(nib_gguf_set_u32(k, key, i));
    }
    for (uint32_t i = 0; i < 500; i += 3) {
        snprintf(key, sizeof key, "k%u", i * 7 % 500);
        nib_gguf_del(k, key);
        assert_null(nib_gguf_kvs_find(k, key));
    }
    nib_gguf_del(k, "absent");
    assert_int_equal(nib_gguf_kvs_count(k), 333);
    size_t at = 0;
    for (uint32_t i = 0; i < 500; i++) {
        if (i % 3 == 0) continue;
        snprintf(key, sizeof key, "k%u", i * 7 % 500);
        assert_string_equal(nib_gguf_kvs_at(k, at++)->key, key);
        assert_true(nib_gguf_get_u64(k, key, &v) && v == i);
    }
    assert_true(nib_gguf_set_str(k, "k7", "new", 3)); /* was i = 1, the first */
    assert_string_equal(nib_gguf_kvs_at(k, 0)->key, "k7");
    assert_false(nib_gguf_get_u64(k, "k7", &v));
    nib_gguf_kvs_free(k);
}

static void reads_are_typed(void **state)
{
    (void)state;
    uint64_t u;
    float f;
    bool b;
    nib_str s;
    const void *data;
    size_t n;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    assert_true(nib_gguf_set_i32(k, "plus", 5) && nib_gguf_set_i32(k, "minus", -5) &&
                nib_gguf_set_f32(k, "f", 0.5f) && nib_gguf_set_bool(k, "b", true) &&
                nib_gguf_set_u16(k, "u", 65535) && nib_gguf_set_str(k, "s", "a\0b", 3) &&
                nib_gguf_set_arr(k, "arr", NIB_GGUF_I32, (int32_t[]){1, -2}, 2) &&
                nib_gguf_set_arr(k, "none", NIB_GGUF_STR, NULL, 0));
    assert_true(nib_gguf_get_u64(k, "plus", &u) && u == 5);
    assert_false(nib_gguf_get_u64(k, "minus", &u));
    assert_false(nib_gguf_get_u64(k, "f", &u));
    assert_false(nib_gguf_get_u64(k, "b", &u));
    assert_false(nib_gguf_get_u64(k, "arr", &u));
    assert_true(nib_gguf_get_u64(k, "u", &u) && u == 65535);
    assert_true(nib_gguf_get_f32(k, "f", &f) && f == 0.5f);
    assert_false(nib_gguf_get_f32(k, "u", &f));
    assert_true(nib_gguf_get_bool(k, "b", &b) && b);
    assert_true(nib_gguf_get_str(k, "s", &s) && s.n == 3 && !memcmp(s.p, "a\0b", 4));
    assert_true(nib_gguf_get_arr(k, "arr", NIB_GGUF_I32, &data, &n) && n == 2);
    assert_int_equal(((const int32_t *)data)[1], -2);
    assert_false(nib_gguf_get_arr(k, "arr", NIB_GGUF_U32, &data, &n));
    assert_true(nib_gguf_get_arr(k, "none", NIB_GGUF_STR, &data, &n) && n == 0);
    nib_gguf_kvs_free(k);
}

/* ---- writing ---- */

static const nib_gguf_tensor samples[] = {
    {"token_embd.weight", NIB_Q4_K, 2, {3, 512}},
    {"norm", NIB_F32, 1, {7}},
    {"wide", NIB_Q8_0, 4, {2, 3, 4, 32}},
    {"trailing", NIB_F16, 3, {1, 1, 5}},
    {"ones", NIB_F32, 2, {1, 1}},
    {"empty", NIB_F32, 2, {0, 4}},
    {"scalar", NIB_I64, 0, {0}},
};
enum { N_SAMPLES = sizeof samples / sizeof *samples };
static const size_t sample_bytes[N_SAMPLES] = {3 * 288, 28, 24 * 34, 10, 4, 0, 8};

static nib_gguf_kvs *sample_kvs(void)
{
    static const int8_t i8[] = {-1, 2};
    static const int16_t i16[] = {-300};
    static const uint64_t u64[] = {1ull << 63, 5};
    static const int64_t i64[] = {-1};
    static const double f64[] = {0.1, 1e300};
    static const uint8_t flags[] = {1, 0, 1};
    static const nib_str strings[] = {{"one", 3}, {"", 0}, {"th\0ree", 6}};
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    bool ok = nib_gguf_set_str(k, "general.architecture", "llama", 5) &&
              nib_gguf_set_u32(k, "general.alignment", 64) && /* the writer has its own */
              nib_gguf_set_u16(k, "split.no", 3) && nib_gguf_set_u16(k, "split.count", 9) &&
              nib_gguf_set_u32(k, "u32", 4000000000u) && nib_gguf_set_i32(k, "i32", -4) &&
              nib_gguf_set_f32(k, "f32", 1.5f) && nib_gguf_set_bool(k, "true", true) &&
              nib_gguf_set_bool(k, "false", false) &&
              nib_gguf_set_kv(k, &(nib_gguf_kv){"u8", NIB_GGUF_U8, NIB_GGUF_U8, 1, "\xC8"}) &&
              nib_gguf_set_kv(k, &(nib_gguf_kv){"i64", NIB_GGUF_I64, NIB_GGUF_I64, 1, i64}) &&
              nib_gguf_set_kv(k, &(nib_gguf_kv){"f64", NIB_GGUF_F64, NIB_GGUF_F64, 1, f64}) &&
              nib_gguf_set_arr(k, "i8s", NIB_GGUF_I8, i8, 2) &&
              nib_gguf_set_arr(k, "i16s", NIB_GGUF_I16, i16, 1) &&
              nib_gguf_set_arr(k, "u64s", NIB_GGUF_U64, u64, 2) &&
              nib_gguf_set_arr(k, "f64s", NIB_GGUF_F64, f64, 2) &&
              nib_gguf_set_arr(k, "bools", NIB_GGUF_BOOL, flags, 3) &&
              nib_gguf_set_arr(k, "strings", NIB_GGUF_STR, strings, 3) &&
              nib_gguf_set_arr(k, "nothing", NIB_GGUF_U32, NULL, 0);
    assert_true(ok);
    return k;
}

/* Write the samples, tensor i filled with bytes i + 1, `piece` bytes at a time. */
static void write_samples(const char *path, const nib_gguf_kvs *k, uint64_t split, size_t piece)
{
    nib_err err = {0};
    nib_gguf_writer *w;
    uint8_t fill[1024];
    if (nib_gguf_begin(&w, path, k, samples, N_SAMPLES, split, false, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        memset(fill, (int)i + 1, sizeof fill);
        for (size_t left = sample_bytes[i], n; left; left -= n) {
            n = left < piece ? left : piece;
            if (nib_gguf_write(w, i, fill, n, &err)) fail_msg("%s", err.msg);
        }
    }
    if (nib_gguf_end(w, &err)) fail_msg("%s", err.msg);
}

static void same_kv(const nib_gguf_kv *a, const nib_gguf_kv *b, const char *key)
{
    if (!a || !b) fail_msg("key '%s' is missing", key);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->elem, b->elem);
    assert_int_equal(a->n, b->n);
    if (a->elem != NIB_GGUF_STR) {
        static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        assert_memory_equal(a->data, b->data, a->n * size[a->elem]);
        return;
    }
    const nib_str *x = a->data, *y = b->data;
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(x[i].n, y[i].n);
        assert_memory_equal(x[i].p, y[i].p, x[i].n + 1);
    }
}

static void check_samples(const char *path, const nib_gguf_kvs *want, size_t n_files)
{
    nib_err err = {0};
    nib_source *s = must_open(path);
    const nib_gguf_kvs *got = nib_source_kvs(s);
    assert_int_equal(nib_source_get_kind(s), NIB_SOURCE_GGUF);
    assert_int_equal(nib_source_n_files(s), n_files);
    assert_int_equal(nib_source_count(s), N_SAMPLES);
    assert_null(nib_gguf_kvs_find(got, "general.alignment"));
    for (size_t i = 0; i < nib_gguf_kvs_count(want); i++) {
        const char *key = nib_gguf_kvs_at(want, i)->key;
        if (strncmp(key, "split.", 6) && strcmp(key, "general.alignment"))
            same_kv(nib_gguf_kvs_find(got, key), nib_gguf_kvs_at(want, i), key);
    }
    for (size_t i = 0; i < N_SAMPLES; i++) {
        uint8_t b[1024];
        const nib_tensor *t = nib_source_at(s, i);
        assert_string_equal(t->name, samples[i].name);
        assert_int_equal(t->codec->type, samples[i].type);
        assert_int_equal(t->bytes, sample_bytes[i]);
        assert_int_equal(t->offset % 32, 0);
        assert_int_equal(nib_tensor_elems(t) * t->codec->bytes / t->codec->block, sample_bytes[i]);
        if (nib_source_read(s, t, 0, b, sample_bytes[i], &err)) fail_msg("%s", err.msg);
        for (size_t j = 0; j < sample_bytes[i]; j++) assert_int_equal(b[j], i + 1);
    }
    nib_source_close(s);
}

/* The writer leaves out trailing dimensions of 1, in GGUF's order, as the reference does. */
static void dimensions_are_turned_around(void **state)
{
    (void)state;
    nib_source *s = must_open(tmp_path("all.gguf"));
    const nib_tensor *t = nib_source_find(s, "wide");
    const uint64_t wide[] = {2, 3, 4, 32};
    assert_int_equal(t->n_dims, 4);
    assert_memory_equal(t->shape, wide, sizeof wide);
    t = nib_source_find(s, "trailing");
    assert_int_equal(t->n_dims, 1);
    assert_int_equal(t->shape[0], 5);
    assert_int_equal(nib_source_find(s, "ones")->n_dims, 1);
    assert_int_equal(nib_source_find(s, "scalar")->n_dims, 1);
    assert_int_equal(nib_source_find(s, "token_embd.weight")->shape[1], 512);
    nib_source_close(s);
}

static void one_file_reads_back(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("all.gguf"));
    nib_gguf_kvs *k = sample_kvs();
    write_samples(path, k, 0, 1000);
    check_samples(path, k, 1);
    nib_gguf_kvs_free(k);
}

static void same_input_gives_same_bytes(void **state)
{
    (void)state;
    char *a, *b;
    size_t n_a, n_b;
    nib_err err = {0};
    nib_gguf_kvs *k = sample_kvs();
    write_samples(tmp_path("again.gguf"), k, 0, 1);
    assert_int_equal(nib_file_slurp(&a, &n_a, tmp_path("all.gguf"), 1 << 20, &err), NIB_OK);
    assert_int_equal(nib_file_slurp(&b, &n_b, tmp_path("again.gguf"), 1 << 20, &err), NIB_OK);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a);
    nib_free(a);
    nib_free(b);
    nib_gguf_kvs_free(k);
}

static void bytes_are_the_formats(void **state)
{
    (void)state;
    bytes *f = calloc(1, sizeof *f);
    char *got, path[128];
    size_t n;
    nib_err err = {0};
    nib_gguf_writer *w;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    assert_true(nib_gguf_set_u32(k, "n", 7));
    snprintf(path, sizeof path, "%s", tmp_path("exact.gguf"));
    const nib_gguf_tensor t = {"t", NIB_F16, 2, {2, 3}};
    assert_int_equal(nib_gguf_begin(&w, path, k, &t, 1, 0, false, &err), NIB_OK);
    assert_int_equal(nib_gguf_write(w, 0, "abcdefghijkl", 12, &err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    put(f, "GGUF\3\0\0\0", 8);
    put_uint(f, 1, 8);
    put_uint(f, 1, 8);
    put_str(f, "n");
    put_uint(f, 4, 4);
    put_uint(f, 7, 4);
    put_str(f, "t");
    put_uint(f, 2, 4);
    put_uint(f, 3, 8);
    put_uint(f, 2, 8);
    put_uint(f, 1, 4);
    put_uint(f, 0, 8);
    while (f->n % 32) put_uint(f, 0, 1);
    put(f, "abcdefghijkl", 12);
    while (f->n % 32) put_uint(f, 0, 1);
    assert_int_equal(nib_file_slurp(&got, &n, path, 1 << 20, &err), NIB_OK);
    assert_int_equal(n, f->n);
    assert_memory_equal(got, f->b, n);
    nib_free(got);
    nib_gguf_kvs_free(k);
    free(f);
}

/* ---- split files ---- */

static void split_files_read_back(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_output_files l;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("split.gguf"));
    nib_gguf_kvs *k = sample_kvs();
    /* 864 | 32 + 832 + 32 + 32 | 0 + 32: the limit counts padded bytes */
    assert_int_equal(nib_gguf_plan(&l, path, k, samples, N_SAMPLES, 896, &err), NIB_OK);
    assert_int_equal(l.n_files, 3);
    write_samples(path, k, 896, 100);
    uint64_t sum = 0;
    for (size_t i = 0; i < l.n_files; i++) {
        nib_file f;
        assert_int_equal(nib_file_open(&f, l.file_path[i], &err), NIB_OK);
        assert_int_equal(f.size, l.file_bytes[i]);
        sum += f.size;
        nib_file_close(&f);
    }
    assert_int_equal(sum, l.total_bytes);
    assert_string_equal(nib_path_base(l.file_path[1]), "split-00002-of-00003.gguf");
    check_samples(l.file_path[0], k, 3);
    must_refuse(l.file_path[1], "file 2 of a split model; open the first");
    nib_output_files_free(&l);
    nib_gguf_kvs_free(k);
}

static void refuses_broken_splits(void **state)
{
    (void)state;
    char first[128], second[128], third[128], other[128];
    snprintf(first, sizeof first, "%s", tmp_path("split-00001-of-00003.gguf"));
    snprintf(second, sizeof second, "%s", tmp_path("split-00002-of-00003.gguf"));
    snprintf(third, sizeof third, "%s", tmp_path("split-00003-of-00003.gguf"));
    snprintf(other, sizeof other, "%s", tmp_path("renamed.gguf"));
    rename(first, other);
    must_refuse(other, "its name must end in '-00001-of-00003.gguf'");
    rename(other, first);
    rename(second, other);
    must_refuse(first, "split-00002-of-00003.gguf");
    rename(third, second);
    must_refuse(first, "says it is file 3 of 3");
    unlink(second);
    rename(other, second);
    char *copy;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_file_slurp(&copy, &n, second, 1 << 20, &err), NIB_OK);
    tmp_write("split-00003-of-00003.gguf", copy, n);
    nib_free(copy);
    must_refuse(first, "says it is file 2 of 3");
}

/* ---- what the writer refuses ---- */

static void plan_refuses(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_output_files l;
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    static const struct {
        nib_gguf_tensor t;
        const char *part;
    } cases[] = {
        {{"a-name-of-sixty-four-bytes-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", NIB_F32, 1, {1}},
         "64 bytes; GGUF allows 1 to 63"},
        {{"", NIB_F32, 1, {1}}, "0 bytes"},
        {{"x", NIB_BOOL, 1, {1}}, "GGUF has no type for"},
        {{"x", NIB_Q4_K, 2, {4, 128}}, "rows of 128 are no whole number of"},
        {{"x", NIB_F32, 2, {1ull << 40, 1ull << 40}}, "too large"},
        {{"x", NIB_F32, 5, {1}}, "5 dimensions; GGUF allows up to 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(nib_gguf_plan(&l, "out.gguf", k, &cases[i].t, 1, 0, &err), NIB_EINVAL);
        tmp_expect(err.msg, cases[i].part);
        assert_null(l.bytes);
    }
    const nib_gguf_tensor twice[] = {{"x", NIB_F32, 1, {1}}, {"x", NIB_F32, 1, {1}}};
    assert_int_equal(nib_gguf_plan(&l, "out.gguf", k, twice, 2, 0, &err), NIB_EINVAL);
    tmp_expect(err.msg, "'x' is there twice");
    nib_gguf_kvs_free(k);
}

static void writer_refuses_what_was_not_planned(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_gguf_writer *w;
    char path[128];
    snprintf(path, sizeof path, "%s", tmp_path("never.gguf"));
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    const nib_gguf_tensor t[] = {{"a", NIB_F32, 1, {1}}, {"b", NIB_F32, 1, {1}}};
    assert_int_equal(nib_gguf_begin(&w, path, k, t, 2, 0, false, &err), NIB_OK);
    assert_int_equal(nib_gguf_write(w, 1, "1234", 4, &err), NIB_EINVAL);
    assert_int_equal(nib_gguf_write(w, 0, "12345", 5, &err), NIB_EINVAL);
    assert_int_equal(nib_gguf_write(w, 0, "1234", 4, &err), NIB_OK);
    assert_int_equal(nib_gguf_write(w, 1, "12", 2, &err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_EINVAL);
    tmp_expect(err.msg, "'b' is incomplete");
    assert_false(nib_file_exists(path));
    assert_int_equal(nib_gguf_begin(&w, path, k, t, 0, 0, false, &err), NIB_OK);
    assert_int_equal(nib_gguf_write(w, 0, "1", 1, &err), NIB_EINVAL);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    nib_source_close(must_open(path));
    assert_int_equal(nib_gguf_begin(&w, path, k, t, 2, 0, false, &err), NIB_EIO);
    tmp_expect(err.msg, "exists already");
    nib_gguf_kvs_free(k);
}

/* ---- factors beside weights ---- */

enum { EXPERTS = 3 };

/* A stack of EXPERTS matrices of one row, NVFP4's 64 codes 0, 1 ... 15, 0 ... with scales 1, and
 * its factors. */
static void write_factors(const char *path, nib_type type, const void *factor, uint64_t n)
{
    nib_err err = {0};
    nib_gguf_writer *w;
    uint8_t block[36] = {0x38, 0x38, 0x38, 0x38}, all[EXPERTS * sizeof block];
    for (int i = 0; i < 32; i++) block[4 + i] = (uint8_t)(i % 8 | (i % 8 + 8) << 4);
    for (int e = 0; e < EXPERTS; e++) memcpy(all + e * sizeof block, block, sizeof block);
    nib_gguf_kvs *k = nib_gguf_kvs_new();
    const nib_gguf_tensor t[] = {
        {.name = "x.scale", .type = type, .n_dims = 1, .shape = {n}},
        {.name = "x.weight", .type = NIB_NVFP4, .n_dims = 3, .shape = {EXPERTS, 1, 64}},
        {.name = "y.scale", .type = NIB_F32, .n_dims = 1, .shape = {1}},
        {.name = "y.weight", .type = NIB_F16, .n_dims = 1, .shape = {2}}};
    const float two = 2;
    const uint16_t ones[2] = {0x3C00, 0x3C00};
    nib_code rc = nib_gguf_begin(&w, path, k, t, 4, 0, true, &err);
    if (!rc) rc = nib_gguf_write(w, 0, factor, n * nib_codec_get(type)->bytes, &err);
    if (!rc) rc = nib_gguf_write(w, 1, all, sizeof all, &err);
    if (!rc) rc = nib_gguf_write(w, 2, &two, sizeof two, &err);
    if (!rc) rc = nib_gguf_write(w, 3, ones, sizeof ones, &err);
    if (!rc) rc = nib_gguf_end(w, &err);
    if (rc) fail_msg("%s", err.msg);
    nib_gguf_kvs_free(k);
}

static void factors_multiply_weights(void **state)
{
    (void)state;
    static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const float factor[EXPERTS] = {0.25f, 3, -2};
    const char *path = tmp_path("factors.gguf");
    nib_err err;
    nib_buf raw = {0};
    float x[EXPERTS * 64], y[64];
    write_factors(path, NIB_F32, factor, EXPERTS);
    nib_source *s = must_open(path);
    const nib_tensor *t = nib_source_find(s, "x.weight");
    assert_false(nib_tensor_is_plain(t));
    assert_true(nib_source_find(s, "x.scale")->is_factor);
    assert_int_equal(nib_source_read_rows(s, t, 0, EXPERTS, x, &raw, 0, &err), NIB_OK);
    for (int e = 0; e < EXPERTS; e++)
        for (int i = 0; i < 64; i++)
            assert_true(x[64 * e + i] == factor[e] * (i % 16 < 8 ? 1 : -1) * e2m1[i % 8]);
    for (uint64_t e = 0; e < EXPERTS; e++) {
        const nib_tensor one = nib_tensor_slice(t, e, 1, "one");
        assert_int_equal(nib_source_read_rows(s, &one, 0, 1, y, &raw, 0, &err), NIB_OK);
        assert_memory_equal(y, x + 64 * e, sizeof y);
    }
    t = nib_source_find(s, "y.weight");
    assert_int_equal(nib_source_read_rows(s, t, 0, 1, y, &raw, 0, &err), NIB_OK);
    assert_true(y[0] == 2 && y[1] == 2);
    nib_source_close(s);
    nib_buf_free(&raw);
}

static void refuses_factors_of_other_shapes(void **state)
{
    (void)state;
    const char *path = tmp_path("factors.gguf");
    const float inf[EXPERTS] = {1, INFINITY, 1}, many[EXPERTS + 1] = {1, 1, 1, 1};
    const uint16_t half[EXPERTS] = {0x3C00, 0x3C00, 0x3C00};
    write_factors(path, NIB_F32, many, EXPERTS + 1);
    must_refuse(path, "tensor 'x.scale': f32 [4], should be f32 [3]");
    write_factors(path, NIB_F16, half, EXPERTS);
    must_refuse(path, "tensor 'x.scale': f16 [3], should be f32 [3]");
    write_factors(path, NIB_F32, inf, EXPERTS);
    must_refuse(path, "factor 1 is not finite");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_keep_their_order),
        cmocka_unit_test(reads_are_typed),
        cmocka_unit_test(one_file_reads_back),
        cmocka_unit_test(dimensions_are_turned_around),
        cmocka_unit_test(same_input_gives_same_bytes),
        cmocka_unit_test(bytes_are_the_formats),
        cmocka_unit_test(split_files_read_back),
        cmocka_unit_test(refuses_broken_splits),
        cmocka_unit_test(plan_refuses),
        cmocka_unit_test(writer_refuses_what_was_not_planned),
        cmocka_unit_test(factors_multiply_weights),
        cmocka_unit_test(refuses_factors_of_other_shapes),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
