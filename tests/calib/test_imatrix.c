/* SPDX-License-Identifier: MIT */
/* Importance matrix files: what is written byte by byte, both layouts read, bad ones refused. */
#include "base/mem.h"
#include "calib/imatrix.h"
#include "tests/calib/tmp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call) fail_msg("%s", err.msg);                                                         \
    } while (0)

/* ---- making files ---- */

static nib_imatrix_entry *add(nib_imatrix *m, const char *name, size_t cols, size_t n_mat,
                              const double *sums, const double *counts)
{
    nib_err err = {0};
    nib_imatrix_entry *e;
    OK(nib_imatrix_add(m, name, strlen(name), cols, n_mat, &e, &err));
    memcpy(e->in_sum2, sums, cols * n_mat * sizeof *sums);
    memcpy(e->counts, counts, n_mat * sizeof *counts);
    return e;
}

/* Two entries, one of them a stack of two matrices, given in the wrong order. */
static nib_imatrix small(void)
{
    nib_err err = {0};
    nib_imatrix m = {.chunk_count = 3, .chunk_size = 4};
    add(&m, "blk.1.x.weight", 2, 2, (double[]){1, 2, 3, 4}, (double[]){2, 0});
    add(&m, "blk.0.x.weight", 3, 1, (double[]){0.5, 1 / 3.0, 0}, (double[]){12});
    OK(nib_imatrix_add_dataset(&m, "prose.txt", 9, &err));
    OK(nib_imatrix_sort(&m, &err));
    return m;
}

/* Little-endian bytes of a handmade file. */
static struct {
    unsigned char p[4096];
    size_t n;
} made;

static void put(const void *data, size_t n)
{
    assert_true(made.n + n <= sizeof made.p);
    memcpy(made.p + made.n, data, n);
    made.n += n;
}

static void put_i32(int32_t v)
{
    for (int i = 0; i < 4; i++) put(&(unsigned char){(unsigned char)((uint32_t)v >> 8 * i)}, 1);
}

static void put_u64(uint64_t v)
{
    put_i32((int32_t)(uint32_t)v);
    put_i32((int32_t)(uint32_t)(v >> 32));
}

static void put_f32(float x)
{
    int32_t u;
    memcpy(&u, &x, 4);
    put_i32(u);
}

static void put_str(const char *s)
{
    put_u64(strlen(s));
    put(s, strlen(s));
}

static void pad_to(size_t align)
{
    while (made.n % align) put("", 1);
}

/* ---- GGUF ---- */

/* The file of small(), written down from the layout's description. */
static void make_expected(void)
{
    static const struct {
        const char *name;
        int n_dims;
        uint64_t ne[2];
        uint64_t offset;
    } info[] = {{"blk.0.x.weight.in_sum2", 1, {3, 0}, 0},
                {"blk.0.x.weight.counts", 1, {1, 0}, 32},
                {"blk.1.x.weight.in_sum2", 2, {2, 2}, 64},
                {"blk.1.x.weight.counts", 2, {1, 2}, 96}};
    made.n = 0;
    put("GGUF", 4);
    put_i32(3);
    put_u64(4); /* tensors */
    put_u64(4); /* keys */
    put_str("general.type");
    put_i32(8);
    put_str("imatrix");
    put_str("imatrix.datasets");
    put_i32(9);
    put_i32(8);
    put_u64(1);
    put_str("prose.txt");
    put_str("imatrix.chunk_count");
    put_i32(4);
    put_i32(3);
    put_str("imatrix.chunk_size");
    put_i32(4);
    put_i32(4);
    for (int i = 0; i < 4; i++) {
        put_str(info[i].name);
        put_i32(info[i].n_dims);
        for (int d = 0; d < info[i].n_dims; d++) put_u64(info[i].ne[d]);
        put_i32(0);
        put_u64(info[i].offset);
    }
    pad_to(32);
    put_f32(0.5f), put_f32(1.0f / 3), put_f32(0);
    pad_to(32);
    put_f32(12);
    pad_to(32);
    put_f32(1), put_f32(2), put_f32(3), put_f32(4);
    pad_to(32);
    put_f32(2), put_f32(0);
    pad_to(32);
}

static void writes_the_layout_to_the_byte(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m = small();
    unsigned char got[4096];
    const char *path = tmp_path("small.gguf");
    OK(nib_imatrix_save(&m, path, false, &err));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got, f);
    fclose(f);
    make_expected();
    assert_int_equal(n, made.n);
    assert_memory_equal(got, made.p, n);
    assert_int_equal(nib_imatrix_save(&m, path, false, &err), NIB_EIO); /* it is there already */
    nib_imatrix_free(&m);
}

static void reads_what_was_written(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m, want = small();
    make_expected();
    const char *path = tmp_write("read.gguf", made.p, made.n);
    OK(nib_imatrix_load(&m, path, &err));
    assert_string_equal(m.path, path);
    assert_int_equal(m.n, 2);
    assert_int_equal(m.chunk_count, 3);
    assert_int_equal(m.chunk_size, 4);
    assert_int_equal(m.n_datasets, 1);
    assert_string_equal(m.datasets[0], "prose.txt");
    for (size_t i = 0; i < m.n; i++) {
        const nib_imatrix_entry *a = &m.entry[i], *b = &want.entry[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->cols, b->cols);
        assert_int_equal(a->n_mat, b->n_mat);
        for (size_t j = 0; j < a->cols * a->n_mat; j++)
            assert_true(a->in_sum2[j] == (float)b->in_sum2[j]);
        assert_memory_equal(a->counts, b->counts, a->n_mat * sizeof *a->counts);
    }
    assert_ptr_equal(nib_imatrix_find(&m, "blk.1.x.weight"), &m.entry[1]);
    assert_null(nib_imatrix_find(&m, "blk.1.x"));
    nib_imatrix_free(&want);
    nib_imatrix_free(&m);
}

static void doubles_lose_nothing(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m = small(), back;
    const char *path = tmp_path("f64.gguf");
    OK(nib_imatrix_write(&m, NIB_F64, NULL, path, true, &err));
    OK(nib_imatrix_load(&back, path, &err));
    assert_true(back.entry[0].in_sum2[1] == 1 / 3.0);
    nib_imatrix_free(&back);
    nib_imatrix_free(&m);
}

static void values_are_means(void **state)
{
    (void)state;
    float v[3];
    nib_imatrix m = small();
    nib_imatrix_values(&m.entry[0], 0, 1, v);
    assert_true(v[0] == (float)(0.5 / 12) && v[1] == (float)(1 / 3.0 / 12) && v[2] == 0);
    m.entry[0].counts[0] = 0; /* never seen: all equal */
    nib_imatrix_values(&m.entry[0], 0, 1, v);
    assert_true(v[0] == 1 && v[1] == 1 && v[2] == 1);
    nib_imatrix_free(&m);
}

/* One byte pattern of the good file replaced: what does the reader say? */
static void refuses_change(const char *find, const char *replace, size_t n, nib_code code,
                           const char *part)
{
    nib_err err = {0};
    nib_imatrix m;
    size_t at = 0;
    make_expected();
    while (at + n <= made.n && memcmp(made.p + at, find, n)) at++;
    assert_true(at + n <= made.n);
    memcpy(made.p + at, replace, n);
    const char *path = tmp_write("changed.gguf", made.p, made.n);
    assert_int_equal(nib_imatrix_load(&m, path, &err), code);
    assert_int_equal(m.n, 0);
    assert_null(m.entry);
    tmp_expect(err.msg, part);
    tmp_expect(err.msg, path);
}

static void bad_gguf_is_refused(void **state)
{
    (void)state;
    refuses_change("imatrix\x10", "xmatrix\x10", 8, NIB_EFORMAT, "general.type is 'xmatrix'");
    refuses_change("general.type", "general.typo", 12, NIB_EFORMAT, "general.type");
    refuses_change("imatrix.datasets", "imatrix.datasetz", 16, NIB_EFORMAT, "imatrix.datasets");
    refuses_change("chunk_count", "chunk_bount", 11, NIB_EFORMAT, "imatrix.chunk_count");
    refuses_change("chunk_size", "chunk_sise", 10, NIB_EFORMAT, "imatrix.chunk_size");
    refuses_change("0.x.weight.in_sum2", "0.x.weight.in_sumX", 18, NIB_EFORMAT,
                   "'blk.0.x.weight.counts' has no 'blk.0.x.weight.in_sum2'");
    refuses_change("0.x.weight.counts", "0.x.weight.countX", 17, NIB_EFORMAT,
                   "'blk.0.x.weight.in_sum2' has no 'blk.0.x.weight.counts'");
    /* 0.5 becomes -0.5, then a NaN */
    refuses_change("\0\0\0\x3F", "\0\0\0\xBF", 4, NIB_ENUMERIC,
                   "'blk.0.x.weight': value 0 is -0.5");
    refuses_change("\0\0\0\x3F", "\0\0\xC0\x7F", 4, NIB_ENUMERIC, "'blk.0.x.weight': value 0");
    refuses_change("\0\0\x40\x41", "\0\0\x40\xC1", 4, NIB_ENUMERIC,
                   "'blk.0.x.weight': count 0 is -12");
    /* 0.5 becomes 1e32 */
    refuses_change("\0\0\0\x3F", "\xAE\xC5\x9D\x74", 4, NIB_ENUMERIC,
                   "'blk.0.x.weight': value 0, 1e+32 of 12 rows, is a mean square above 1e+30");
}

/* Sizes that do not go together, written by our own writer. */
static void sizes_must_agree(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m;
    nib_gguf_writer *w;
    nib_gguf_kvs *kvs = nib_gguf_kvs_new();
    float zero[6] = {0};
    assert_true(nib_gguf_set_str(kvs, "general.type", "imatrix", 7) &&
                nib_gguf_set_arr(kvs, "imatrix.datasets", NIB_GGUF_STR, NULL, 0) &&
                nib_gguf_set_u32(kvs, "imatrix.chunk_count", 1) &&
                nib_gguf_set_u32(kvs, "imatrix.chunk_size", 1));
    for (uint64_t n_counts = 1; n_counts <= 3; n_counts++) {
        nib_gguf_tensor t[] = {{"a.in_sum2", NIB_F32, 2, {3, 2}},
                               {"a.counts", NIB_F32, 1, {n_counts}}};
        const char *path = tmp_path("sizes.gguf");
        OK(nib_gguf_begin(&w, path, kvs, t, 2, 0, true, &err));
        OK(nib_gguf_write(w, 0, zero, sizeof zero, &err));
        zero[0] = 5;
        OK(nib_gguf_write(w, 1, zero, n_counts * sizeof *zero, &err));
        zero[0] = 0;
        OK(nib_gguf_end(w, &err));
        nib_code rc = nib_imatrix_load(&m, path, &err);
        assert_int_equal(rc, n_counts == 2 ? NIB_EFORMAT : NIB_OK);
        if (rc)
            tmp_expect(err.msg, "'a.counts' has 2 values, should have one per matrix: 3");
        else /* one count stands for all matrices */
            assert_true(m.entry[0].counts[2] == (n_counts == 1 ? 5 : 0));
        nib_imatrix_free(&m);
    }
    nib_gguf_kvs_free(kvs);
}

static void unwritable_matrices_are_refused(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m = small(), none;
    const char *path = tmp_path("refused.gguf");
    m.entry[1].in_sum2[3] = -1;
    assert_int_equal(nib_imatrix_save(&m, path, false, &err), NIB_ENUMERIC);
    tmp_expect(err.msg, "'blk.1.x.weight': value 3 is -1");
    m.entry[1].in_sum2[3] = 1e39;
    assert_int_equal(nib_imatrix_save(&m, path, false, &err), NIB_ENUMERIC);
    tmp_expect(err.msg, "entry 'blk.1.x.weight': value 3 is 1e+39");
    assert_int_equal(nib_imatrix_load(&none, path, &err), NIB_EIO); /* nothing was left there */
    nib_imatrix_free(&m);
}

/* ---- legacy ---- */

static void put_legacy_entry(const char *name, int32_t calls, int32_t n, const float *v)
{
    put_i32((int32_t)strlen(name));
    put(name, strlen(name));
    put_i32(calls);
    put_i32(n);
    for (int32_t i = 0; i < n; i++) put_f32(v[i]);
}

static void make_legacy(void)
{
    made.n = 0;
    put_i32(2);
    put_legacy_entry("blk.0.b.weight", 4, 3, (float[]){4, 8, 0.4f});
    put_legacy_entry("blk.0.a.weight", 0, 1, (float[]){7});
}

static void legacy_layout_is_read(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m;
    float v[3];
    for (int with_tail = 0; with_tail < 2; with_tail++) {
        make_legacy();
        if (with_tail) put_i32(9), put_i32(5), put("x.txt", 5);
        OK(nib_imatrix_load(&m, tmp_write("old.dat", made.p, made.n), &err));
        assert_int_equal(m.n, 2);
        assert_string_equal(m.entry[0].name, "blk.0.a.weight");
        nib_imatrix_values(&m.entry[0], 0, 1, v);
        assert_true(v[0] == 7); /* no calls: the value itself */
        nib_imatrix_values(&m.entry[1], 0, 1, v);
        assert_true(v[0] == 1 && v[1] == 2 && v[2] == 0.4f / 4);
        assert_int_equal(m.chunk_count, with_tail ? 9 : 4);
        assert_int_equal(m.n_datasets, with_tail);
        if (with_tail) assert_string_equal(m.datasets[0], "x.txt");
        nib_imatrix_free(&m);
    }
}

static void legacy_refuses(const char *part)
{
    nib_err err = {0};
    nib_imatrix m;
    const char *path = tmp_write("bad.dat", made.p, made.n);
    assert_int_not_equal(nib_imatrix_load(&m, path, &err), NIB_OK);
    assert_int_equal(m.n, 0);
    tmp_expect(err.msg, path);
    tmp_expect(err.msg, part);
}

/* A file whose only entry has these sizes, with `n` values behind it. */
static void make_sizes(int32_t entries, int32_t name, int32_t values, size_t n)
{
    made.n = 0;
    put_i32(entries);
    put_i32(name);
    put("abcdefgh", 8);
    put_i32(1);
    put_i32(values);
    for (size_t i = 0; i < n; i++) put_f32(1);
}

static void bad_legacy_is_refused(void **state)
{
    (void)state;
    made.n = 0;
    legacy_refuses("not an importance matrix");
    make_sizes(0, 8, 1, 1);
    legacy_refuses("not an importance matrix");
    make_sizes(-1, 8, 1, 1);
    legacy_refuses("not an importance matrix");
    make_sizes(0x7fffffff, 8, 1, 1);
    legacy_refuses("not an importance matrix");
    make_sizes(1, 0, 1, 1);
    legacy_refuses("name of 0 bytes");
    make_sizes(1, -5, 1, 1);
    legacy_refuses("name of -5 bytes");
    make_sizes(1, 900, 1, 1);
    legacy_refuses("cut short");
    make_sizes(1, 0x7fffffff, 1, 1);
    legacy_refuses("name of 2147483647 bytes");
    make_sizes(1, 8, 2, 1);
    legacy_refuses("'abcdefgh': 2 values, but 4 bytes are left");
    make_sizes(1, 8, 0x7fffffff, 1);
    legacy_refuses("'abcdefgh': 2147483647 values");
    make_sizes(1, 8, -1, 1);
    legacy_refuses("'abcdefgh': -1 values");
    make_sizes(1, 8, 1, 2);
    legacy_refuses("after the last entry");
    make_legacy();
    put_i32(1), put_i32(100), put("x", 1);
    legacy_refuses("after the last entry");
    make_legacy();
    made.p[4 + 4 + 12] = 0; /* inside the first name */
    legacy_refuses("NUL");
    made.n = 0;
    put_i32(2);
    put_legacy_entry("same", 1, 1, (float[]){1});
    put_legacy_entry("same", 1, 1, (float[]){1});
    legacy_refuses("'same' is there twice");
    made.n = 0;
    put_i32(1);
    put_legacy_entry("weight", 1, 2, (float[]){1, INFINITY});
    legacy_refuses("'weight': value 1 is inf");
}

/* Cut anywhere, both layouts are refused, or are the file without its tail. */
static void cut_files_are_refused(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix m;
    make_expected();
    for (size_t n = 0; n < made.n - 32; n += 7) {
        assert_int_not_equal(nib_imatrix_load(&m, tmp_write("cut", made.p, n), &err), NIB_OK);
    }
    make_legacy();
    for (size_t n = 0; n < made.n; n++)
        assert_int_not_equal(nib_imatrix_load(&m, tmp_write("cut", made.p, n), &err), NIB_OK);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    make_expected();
    const char *path = tmp_write("m.gguf", made.p, made.n);
    for (long at = 1;; at++) {
        nib_err err = {0};
        nib_imatrix m;
        nib_mem_fail_at(at);
        nib_code rc = nib_imatrix_load(&m, path, &err);
        nib_mem_fail_at(0);
        if (!rc) {
            nib_imatrix_free(&m);
            break;
        }
        assert_int_equal(rc, NIB_ENOMEM);
        assert_true(at < 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_layout_to_the_byte),
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(doubles_lose_nothing),
        cmocka_unit_test(values_are_means),
        cmocka_unit_test(bad_gguf_is_refused),
        cmocka_unit_test(sizes_must_agree),
        cmocka_unit_test(unwritable_matrices_are_refused),
        cmocka_unit_test(legacy_layout_is_read),
        cmocka_unit_test(bad_legacy_is_refused),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
