/* SPDX-License-Identifier: MIT */
/* What is written is what the codecs make of the source's weights, tensor by tensor; and nothing is
 * written where something is wrong. */
#include "base/file.h"
#include "tests/run/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static const char *const matrix_types[] = {
    "f32",    "f16",  "bf16", "q8_0",   "q6_k",   "q5_k_m", "q5_k_s", "q5_1",   "q5_0", "q4_k_m",
    "q4_k_s", "q4_1", "q4_0", "iq4_nl", "iq4_xs", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
};

/* Rows from half-split to adjacent-pair order, written the other way round than the program does:
 * says where an old row goes. */
static float *pair_order(const float *x, size_t rows, size_t cols, size_t head)
{
    float *y = nib_alloc(rows * cols, sizeof *y);
    assert_non_null(y);
    for (size_t old = 0; old < rows; old++) {
        size_t in = old % head, half = in / (head / 2), j = in % (head / 2);
        size_t to = old - in + 2 * j + half;
        memcpy(y + to * cols, x + old * cols, cols * sizeof *y);
    }
    return y;
}

static float *expected_values(const opened *in, const nib_tensor *t, nib_place place)
{
    float *x = tensor_values(in->src, t);
    bool qk = place.role == NIB_ROLE_ATTN_Q || place.role == NIB_ROLE_ATTN_K;
    if (!qk || !in->model.arch->rope_interleaved) return x;
    size_t cols = t->n_dims == 1 ? 1 : (size_t)nib_tensor_cols(t);
    float *y = pair_order(x, (size_t)nib_tensor_elems(t) / cols, cols, in->model.hp.head_dim);
    nib_free(x);
    return y;
}

/* Every tensor of the file equals the plain C codec applied to the whole tensor at once. */
static void check_file(const opened *in, const char *path, const nib_imatrix *im)
{
    opened out;
    open_model(&out, path);
    size_t found = 0;
    for (size_t i = 0; i < nib_source_count(in->src); i++) {
        const nib_tensor *t = nib_source_at(in->src, i);
        nib_place place;
        char name[64];
        assert_true(nib_model_place(&in->model, t, &place));
        nib_place_gguf_name(place, name, sizeof name);
        const nib_tensor *o = nib_source_find(out.src, name);
        if (!o) fail_msg("%s: no tensor %s", path, name);
        size_t cols = (size_t)nib_tensor_cols(t), rows = (size_t)nib_tensor_rows(t);
        assert_int_equal(nib_tensor_cols(o), cols);
        assert_int_equal(nib_tensor_rows(o), rows);

        float *x = expected_values(in, t, place), *imp = NULL;
        const nib_imatrix_entry *e = im ? nib_imatrix_find(im, name) : NULL;
        if (e && o->codec->uses_importance) {
            imp = nib_alloc(cols, sizeof *imp);
            nib_imatrix_values(e, 0, 1, imp);
        }
        uint8_t *want = nib_alloc((size_t)o->bytes, 1), *got = tensor_bytes(out.src, o);
        void *room = nib_alloc(nib_encode_scratch(cols), 1);
        o->codec->encode(want, x, imp, rows, cols, 0, room);
        if (memcmp(want, got, (size_t)o->bytes))
            fail_msg("%s: %s (%s) differs from its codec", path, name, o->codec->name);
        nib_free(room);
        nib_free(want);
        nib_free(got);
        nib_free(imp);
        nib_free(x);
        found++;
    }
    found += out.model.rope_factors != NULL;
    assert_int_equal(found, nib_source_count(out.src));
    close_model(&out);
}

static void every_type_is_its_codecs(void **state)
{
    (void)state;
    opened in;
    nib_imatrix im;
    open_model(&in, tiny_llama());
    fake_imatrix(&im, &in.model);
    for (size_t i = 0; i < sizeof matrix_types / sizeof *matrix_types; i++) {
        nib_recipe r = {.out = scratch("type.gguf"), .type = matrix_types[i], .force = true};
        quantize_ok(tiny_llama(), &r, NULL);
        check_file(&in, r.out, NULL);
        /* The first four do not look at importances; s and l mix the same formats as m. */
        if (i < 4 || strstr(matrix_types[i], "k_s") || strstr(matrix_types[i], "k_l")) continue;
        quantize_ok(tiny_llama(), &r, &im);
        check_file(&in, r.out, &im);
    }
    nib_recipe r = {.out = scratch("type.gguf"), .type = "q2_k_s", .force = true};
    quantize_ok(tiny_llama(), &r, &im);
    check_file(&in, r.out, &im);
    nib_imatrix_free(&im);
    close_model(&in);
}

/* Biases of q and k are put in order too; f16 and f32 sources; scaled rotation; rows of 96. */
static void other_architectures(void **state)
{
    (void)state;
    static const struct {
        const char *name, *family;
        uint32_t hidden;
        nib_type dtype;
        bool bias;
    } models[] = {{"llama3", "llama3", 256, NIB_F32, false},
                  {"biased", "llama", 128, NIB_F16, true},
                  {"qwen2", "qwen2", 96, NIB_BF16, true},
                  {"qwen3", "qwen3", 256, NIB_BF16, false}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        gen_family f = *gen_family_find(models[i].family);
        f.qkv_bias = models[i].bias;
        const char *path = random_model(models[i].name, &f, models[i].hidden, 2, models[i].dtype);
        opened in;
        open_model(&in, path);
        for (size_t k = 0; k < 3; k++) {
            static const char *const types[] = {"f32", "q8_0", "q4_k_m"};
            nib_recipe r = {.out = scratch("other.gguf"), .type = types[k], .force = true};
            quantize_ok(path, &r, NULL);
            check_file(&in, r.out, NULL);
        }
        close_model(&in);
    }
}

static void sizes_are_as_planned(void **state)
{
    (void)state;
    static const uint64_t splits[] = {0, 1000000, 1};
    opened in;
    open_model(&in, tiny_llama());
    for (size_t k = 0; k < 3; k++) {
        nib_recipe r = {
            .out = scratch("sized.gguf"), .type = "q5_k_m", .split_max = splits[k], .force = true};
        nib_ctx ctx = {.threads = 2};
        nib_err err = {0};
        nib_plan plan;
        nib_quantize_result result;
        assert_int_equal(nib_plan_make(&plan, &r, &in.model, NULL, &ctx, &err), NIB_OK);
        assert_int_equal(nib_write_gguf(&result, &plan, NULL, &ctx, &err), NIB_OK);
        assert_true(k == 0 ? plan.layout.n_files == 1 : plan.layout.n_files > 1);
        uint64_t total = 0;
        for (size_t i = 0; i < plan.layout.n_files; i++) {
            struct stat st;
            assert_int_equal(stat(plan.layout.file_path[i], &st), 0);
            assert_int_equal(st.st_size, plan.layout.file_bytes[i]);
            total += (uint64_t)st.st_size;
        }
        assert_int_equal(total, plan.layout.total_bytes);
        check_file(&in, plan.layout.file_path[0], NULL);
        nib_plan_free(&plan);
    }
    close_model(&in);
}

static void same_bytes_for_any_thread_count(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 7};
    static const char *const names[] = {"one.gguf", "two.gguf", "seven.gguf"};
    for (size_t i = 0; i < 3; i++) {
        nib_recipe r = {.out = scratch(names[i]), .type = "q4_k_m", .force = true};
        nib_err err = {0};
        assert_int_equal(quantize(tiny_llama(), &r, NULL, threads[i], NULL, &err), NIB_OK);
    }
    assert_true(same_files(scratch("one.gguf"), scratch("two.gguf")));
    assert_true(same_files(scratch("one.gguf"), scratch("seven.gguf")));
}

/* bf16 -> GGUF in bf16 -> quantized holds the same tensors as quantized at once. */
static void through_an_unquantized_gguf(void **state)
{
    (void)state;
    opened in;
    open_model(&in, tiny_llama());
    nib_recipe whole = {.out = scratch("bf16.gguf"), .type = "bf16", .force = true};
    quantize_ok(tiny_llama(), &whole, NULL);
    nib_recipe r = {.out = scratch("again.gguf"), .type = "q4_k_m", .force = true};
    quantize_ok(scratch("bf16.gguf"), &r, NULL);
    check_file(&in, scratch("again.gguf"), NULL);

    opened out;
    open_model(&out, scratch("again.gguf"));
    assert_null(nib_gguf_kvs_find(nib_source_kvs(out.src), "quantize.requantized_from"));
    uint64_t file_type;
    assert_true(nib_gguf_get_u64(nib_source_kvs(out.src), "general.file_type", &file_type));
    assert_int_equal(file_type, 15);
    close_model(&out);
    close_model(&in);
}

/* The file once more, with tensors behind the others that hold nothing: a row of no columns, and
 * no rows. */
static void add_empty_buffers(const nib_source *s, const char *path)
{
    static const char *const name[] = {"blk.0.rotary_emb.inv_freq", "blk.1.rotary_emb.inv_freq"};
    static const uint64_t shape[][2] = {{0}, {0, 4}};
    const size_t n = nib_source_count(s);
    nib_gguf_tensor *list = nib_calloc(n + 2, sizeof *list);
    nib_gguf_writer *w;
    nib_err err = {0};
    for (size_t i = 0; i < n; i++) {
        const nib_tensor *t = nib_source_at(s, i);
        list[i] = (nib_gguf_tensor){t->name, t->codec->type, t->n_dims, {0}};
        memcpy(list[i].shape, t->shape, (size_t)t->n_dims * sizeof *t->shape);
    }
    for (int i = 0; i < 2; i++)
        list[n + (size_t)i] =
            (nib_gguf_tensor){name[i], NIB_F32, i + 1, {shape[i][0], shape[i][1]}};
    assert_int_equal(nib_gguf_begin(&w, path, nib_source_kvs(s), list, n + 2, 0, true, &err),
                     NIB_OK);
    for (size_t i = 0; i < n; i++) {
        uint8_t *bytes = tensor_bytes(s, nib_source_at(s, i));
        const size_t n_bytes = (size_t)nib_source_at(s, i)->bytes;
        assert_int_equal(nib_gguf_write(w, i, bytes, n_bytes, &err), NIB_OK);
        nib_free(bytes);
    }
    for (size_t i = n; i < n + 2; i++) assert_int_equal(nib_gguf_write(w, i, "", 0, &err), NIB_OK);
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    nib_free(list);
}

static void empty_buffers_are_left_out(void **state)
{
    (void)state;
    nib_recipe first = {.out = scratch("bf16.gguf"), .type = "bf16", .force = true};
    quantize_ok(tiny_llama(), &first, NULL);
    opened plain;
    open_model(&plain, scratch("bf16.gguf"));
    add_empty_buffers(plain.src, scratch("odd.gguf"));
    close_model(&plain);
    nib_recipe r = {.out = scratch("from-plain.gguf"), .type = "q8_0", .force = true};
    quantize_ok(scratch("bf16.gguf"), &r, NULL);
    r.out = scratch("from-odd.gguf");
    quantize_ok(scratch("odd.gguf"), &r, NULL);
    assert_true(same_files(scratch("from-plain.gguf"), scratch("from-odd.gguf")));
}

static void requantizing_says_so(void **state)
{
    (void)state;
    nib_recipe first = {.out = scratch("q8.gguf"), .type = "q8_0", .force = true};
    quantize_ok(tiny_llama(), &first, NULL);
    nib_recipe r = {.out = scratch("q8-q4.gguf"), .type = "q4_0", .force = true};
    quantize_ok(scratch("q8.gguf"), &r, NULL);

    opened a, b;
    open_model(&a, scratch("q8.gguf"));
    open_model(&b, scratch("q8-q4.gguf"));
    const void *data;
    size_t n;
    assert_true(nib_gguf_get_arr(nib_source_kvs(b.src), "quantize.requantized_from", NIB_GGUF_STR,
                                 &data, &n));
    assert_int_equal(n, 1);
    assert_string_equal(((const nib_str *)data)->p, "q8_0");
    const nib_tensor *s = nib_source_find(a.src, "blk.1.attn_q.weight");
    const nib_tensor *t = nib_source_find(b.src, "blk.1.attn_q.weight");
    float *x = tensor_values(a.src, s);
    uint8_t *want = nib_alloc((size_t)t->bytes, 1), *got = tensor_bytes(b.src, t);
    void *room = nib_alloc(nib_encode_scratch((size_t)nib_tensor_cols(t)), 1);
    t->codec->encode(want, x, NULL, (size_t)nib_tensor_rows(t), (size_t)nib_tensor_cols(t), 0,
                     room);
    assert_memory_equal(want, got, t->bytes); /* rows are in order already */
    nib_free(x);
    nib_free(want);
    nib_free(got);
    nib_free(room);
    close_model(&a);
    close_model(&b);
}

static void zero_importances_are_counted(void **state)
{
    (void)state;
    opened in;
    nib_imatrix im;
    nib_err err = {0};
    nib_quantize_result result;
    open_model(&in, tiny_llama());
    fake_imatrix(&im, &in.model);
    nib_imatrix_entry *e = nib_imatrix_find(&im, "blk.2.ffn_up.weight");
    memset(e->in_sum2, 0, e->cols * sizeof *e->in_sum2);
    nib_recipe r = {.out = scratch("zero.gguf"), .type = "q4_k_m", .force = true};
    assert_int_equal(quantize(tiny_llama(), &r, &im, 2, &result, &err), NIB_OK);
    assert_int_equal(result.zero_importance_blocks, 512); /* 512 rows of one block of 256 */
    nib_imatrix_free(&im);
    close_model(&in);
}

/* ---- weights that cannot be ---- */

static void copy_file(const char *from, const char *to)
{
    char *data;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_file_slurp(&data, &n, from, 1 << 26, &err), NIB_OK);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    nib_free(data);
}

/* A copy of the demonstration model with one bf16 weight changed. */
static const char *damaged_model(const char *tensor, size_t row, size_t col, uint16_t bits)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    char from[256], to[256];
    mkdir(scratch("damaged"), 0777);
    for (size_t i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s", tiny_llama(), files[i]);
        snprintf(to, sizeof to, "%s/%s", scratch("damaged"), files[i]);
        copy_file(from, to);
    }
    opened o;
    open_model(&o, scratch("damaged"));
    const nib_tensor *t = nib_source_find(o.src, tensor);
    assert_non_null(t);
    assert_int_equal(t->codec->type, NIB_BF16);
    uint64_t at = t->offset + 2 * (row * nib_tensor_cols(t) + col);
    close_model(&o);
    FILE *f = fopen(to, "r+b");
    uint8_t b[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)};
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(b, 1, 2, f), 2);
    assert_int_equal(fclose(f), 0);
    return scratch("damaged");
}

static void expect_refused(const char *model, const char *type, const char *message)
{
    nib_recipe r = {.out = scratch("refused.gguf"), .type = type};
    for (int threads = 1; threads <= 2; threads++) {
        nib_err err = {0};
        assert_int_equal(quantize(model, &r, NULL, threads, NULL, &err), NIB_ENUMERIC);
        expect_text(err.msg, message);
    }
    assert_int_equal(scratch_count("refused"), 0); /* nor anything temporary */
}

static void weights_that_are_no_numbers(void **state)
{
    (void)state;
    static const char q[] = "model.layers.2.self_attn.q_proj.weight";
    static const char up[] = "model.layers.1.mlp.up_proj.weight";
    static const char norm[] = "model.layers.1.input_layernorm.weight";
    const char *m = damaged_model(q, 67, 3, 0x7FC1);
    expect_refused(m, "q4_k_m", "q_proj.weight': row 67, column 3 is NaN");
    expect_refused(m, "bf16", "q_proj.weight': row 67, column 3 is NaN");
    m = damaged_model(up, 511, 255, 0xFF80);
    expect_refused(m, "q8_0", "up_proj.weight': row 511, column 255 is infinite");
    expect_refused(m, "bf16", "up_proj.weight': row 511, column 255 is infinite"); /* copied */
    m = damaged_model(norm, 0, 9, 0x7F80);
    expect_refused(m, "q4_0", "input_layernorm.weight': row 0, column 9 is infinite");
}

/* 2^20 is a fine bf16, but beyond f16, and 2^40 beyond any block with a 16-bit scale. */
static void weights_too_large_for_the_format(void **state)
{
    (void)state;
    static const char up[] = "model.layers.1.mlp.up_proj.weight";
    const char *m = damaged_model(up, 300, 7, 0x4980);
    expect_refused(m, "f16", "up_proj.weight': row 300 holds values too large for f16");
    nib_recipe r = {.out = scratch("large.gguf"), .type = "bf16", .force = true};
    quantize_ok(m, &r, NULL);
    m = damaged_model(up, 300, 7, 0x5380);
    expect_refused(m, "q4_0", "up_proj.weight': row 300 holds values too large for q4_0");
    expect_refused(m, "q8_0", "up_proj.weight': row 300 holds values too large for q8_0");
    expect_refused(m, "nvfp4", "up_proj.weight': row 300 holds values too large for nvfp4");
    m = damaged_model(up, 300, 7, 0x6780); /* 2^80, whose square is no f32 */
    expect_refused(m, "q4_k_m", "up_proj.weight': row 300 holds values too large for q4_k");
    expect_refused(m, "iq4_xs", "up_proj.weight': row 300 holds values too large for iq4_xs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_its_codecs),
        cmocka_unit_test(other_architectures),
        cmocka_unit_test(sizes_are_as_planned),
        cmocka_unit_test(same_bytes_for_any_thread_count),
        cmocka_unit_test(through_an_unquantized_gguf),
        cmocka_unit_test(empty_buffers_are_left_out),
        cmocka_unit_test(requantizing_says_so),
        cmocka_unit_test(zero_importances_are_counted),
        cmocka_unit_test(weights_that_are_no_numbers),
        cmocka_unit_test(weights_too_large_for_the_format),
    };
    return cmocka_run_group_tests_name("quantize", tests, scratch_make, scratch_remove);
}
