/* SPDX-License-Identifier: MIT */
/* Hugging Face folders: shards and their index, side files. */
#include "base/file.h"
#include "base/mem.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define INDEX "model.safetensors.index.json"
#define U8_2 "{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}"

static void write_shard(const char *name, const char *header, size_t data)
{
    bytes *f = malloc(sizeof *f);
    make_safetensors(f, header, data);
    tmp_write(name, f->b, f->n);
    free(f);
}

/* A folder of two shards: one.safetensors with a, two.safetensors with b. */
static int make_shards(void **state)
{
    (void)state;
    unlink(tmp_path("model.safetensors"));
    unlink(tmp_path("config.json"));
    write_shard("one.safetensors", "{\"a\":" U8_2 "}", 2);
    write_shard("two.safetensors", "{\"b\":" U8_2 "}", 2);
    tmp_text(INDEX, "{\"metadata\":{\"total_size\":4},"
                    "\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    return 0;
}

static void shards_are_one_model(void **state)
{
    (void)state;
    char folder[128], index[128];
    snprintf(folder, sizeof folder, "%s", tmp_path(""));
    snprintf(index, sizeof index, "%s", tmp_path(INDEX));
    const char *paths[] = {folder, index};
    for (int i = 0; i < 2; i++) {
        uint8_t b[2];
        nib_err err;
        nib_source *s = must_open(paths[i]);
        assert_int_equal(nib_source_get_kind(s), NIB_SOURCE_HF);
        assert_string_equal(nib_source_path(s), paths[i]);
        assert_int_equal(nib_source_n_files(s), 2);
        assert_int_equal(nib_source_count(s), 2);
        const nib_tensor *t = nib_source_find(s, "b");
        assert_string_equal(nib_path_base(nib_source_file(s, t->file)), "two.safetensors");
        assert_int_equal(nib_source_read(s, t, 1, b, 1, &err), NIB_OK);
        assert_int_equal(b[0], 1);
        assert_null(nib_source_json(s, "config.json"));
        assert_null(nib_source_kvs(s));
        nib_source_close(s);
    }
}

static void refuses_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *index, *part;
    } cases[] = {
        {"[]", "'weight_map' is missing"},
        {"{\"weight_map\":{}}", "'weight_map' is missing, empty"},
        {"{\"weight_map\":{\"a\":1}}", "'a' has no file name"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"three.safetensors\"}}",
         "three.safetensors: missing, but the index names it"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\","
         "\"c\":\"two.safetensors\"}}",
         "tensor 'c' should be in two.safetensors, which lacks it"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}",
         "tensor 'a' should be in two.safetensors, but is in one.safetensors"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}}", "appears twice"},
        {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
        {"{\"weight_map\":", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must_refuse(tmp_text(INDEX, cases[i].index), cases[i].part);
        must_refuse(tmp_path(""), cases[i].part);
    }
}

static void refuses_tensors_the_index_does_not_know(void **state)
{
    (void)state;
    write_shard("two.safetensors",
                "{\"b\":" U8_2 ",\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
                3);
    must_refuse(tmp_path(""), "tensor 'x' of two.safetensors is not in the index");
    write_shard("two.safetensors",
                "{\"b\":" U8_2 ",\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
                3);
    must_refuse(tmp_path(""), "tensor 'a' is there twice");
}

static void refuses_bad_shards(void **state)
{
    (void)state;
    tmp_text("two.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1234");
    must_refuse(tmp_path(""), "two.safetensors: a git-lfs pointer");
    unlink(tmp_path("two.safetensors"));
    mkdir(tmp_path("two.safetensors"), 0777);
    must_refuse(tmp_path(""), "two.safetensors: not a regular file");
    rmdir(tmp_path("two.safetensors"));
}

static void side_files_are_read_at_open(void **state)
{
    (void)state;
    uint64_t v;
    write_shard("model.safetensors", "{\"w\":" U8_2 "}", 2);
    tmp_text("config.json", "{\"hidden_size\": 7}");
    tmp_text("chat_template.jinja", "{{ messages }}");
    nib_source *s = must_open(tmp_path(""));
    assert_int_equal(nib_source_n_files(s), 1);
    assert_true(nib_json_u64(nib_json_get(nib_source_json(s, "config.json"), "hidden_size"), &v));
    assert_int_equal(v, 7);
    assert_string_equal(nib_source_text(s, "chat_template.jinja"), "{{ messages }}");
    assert_null(nib_source_json(s, "tokenizer.json"));
    assert_null(nib_source_json(s, "other.json"));
    assert_null(nib_source_text(s, "other.txt"));
    nib_source_close(s);
    tmp_text("config.json", "{\"hidden_size\": }");
    must_refuse(tmp_path(""), "config.json: JSON line 1");
    tmp_text("config.json", "version https://git-lfs.github.com/spec/v1\n");
    must_refuse(tmp_path(""), "config.json: a git-lfs pointer");
}

/* A folder of its own in the scratch folder, with these empty files. */
static const char *make_folder(const char *name, const char *const *files)
{
    static char dir[128];
    char path[256];
    snprintf(dir, sizeof dir, "%s", tmp_path(name));
    mkdir(dir, 0700);
    for (; *files; files++) {
        snprintf(path, sizeof path, "%s/%s", name, *files);
        if (strstr(*files, ".safetensors"))
            write_shard(path, "{\"a\":" U8_2 "}", 2);
        else
            tmp_text(path, "{}");
    }
    return dir;
}

#define FILES(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* Each gets its own true sentence. */
static void refuses_folders_without_weights(void **state)
{
    (void)state;
    must_refuse(make_folder("none", FILES("config.json")),
                "holds neither model.safetensors nor " INDEX);
    must_refuse(make_folder("lora", FILES("adapter_config.json", "adapter_model.safetensors")),
                "an adapter (LoRA)");
    must_refuse(make_folder("bin", FILES("config.json", "pytorch_model.bin")),
                "'pytorch_model.bin' holds pickled PyTorch weights");
    must_refuse(make_folder("own", FILES("params.json", "consolidated.safetensors")),
                "'consolidated.safetensors' is in the publisher's own form");
    must_refuse(make_folder("old", FILES("params.json", "consolidated.00.pth")),
                "'consolidated.00.pth' is in the publisher's own form");
    must_refuse(make_folder("gguf", FILES("config.json", "m-Q4_K_M.gguf")),
                "'m-Q4_K_M.gguf' is a model by itself");
    must_refuse(make_folder("two", FILES("a.safetensors", "b.safetensors")),
                "several safetensors files, 'a.safetensors' and 'b.safetensors'");
    must_refuse(
        make_folder("part", FILES("m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors")),
        "of the 3 files of the model, 'm-00001-of-00003.safetensors' and so on, 2 are");
    must_refuse(make_folder("first", FILES("m-00001-of-00002.safetensors")),
                "of the 2 files of the model");
    must_refuse(make_folder("mixed", FILES("m-00001-of-00001.safetensors", "x.safetensors")),
                "several safetensors files");
    must_refuse(tmp_path("none/config.json"), "give the folder that it is in");
}

static void other_names_are_found(void **state)
{
    (void)state;
    nib_source *s = must_open(make_folder(
        "odd", FILES("gptq_model-4bit-128g.safetensors", "adapter_model.safetensors", "x.bin")));
    assert_int_equal(nib_source_n_files(s), 1);
    assert_string_equal(nib_path_base(nib_source_file(s, 0)), "gptq_model-4bit-128g.safetensors");
    nib_source_close(s);
    s = must_open(make_folder("one", FILES("m-00001-of-00001.safetensors")));
    nib_source_close(s);
    const char *dir = make_folder("shards", FILES("m-00001-of-00002.safetensors"));
    write_shard("shards/m-00002-of-00002.safetensors", "{\"b\":" U8_2 "}", 2);
    s = must_open(dir);
    assert_int_equal(nib_source_count(s), 2);
    assert_non_null(nib_source_find(s, "b"));
    nib_source_close(s);
    dir = make_folder("index", FILES("a.safetensors"));
    write_shard("index/b.safetensors", "{\"b\":" U8_2 "}", 2);
    tmp_text("index/gptq_model-4bit.safetensors.index.json",
             "{\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"}}");
    s = must_open(dir);
    assert_int_equal(nib_source_count(s), 2);
    nib_source_close(s);
    /* Two shards that hold the same tensor contradict each other, index or not. */
    must_refuse(
        make_folder("twice", FILES("m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors")),
        "is there twice");
}

static void rows_are_decoded(void **state)
{
    (void)state;
    static const float want[] = {1, -2, 0.5f, 3, 100, -0.25f};
    bytes *f = malloc(sizeof *f);
    nib_err err = {0};
    nib_buf raw = {0};
    float got[6] = {0};
    make_safetensors(f,
                     "{\"w\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[0,12]},"
                     "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]},"
                     "\"i\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[16,20]}}",
                     0);
    for (int i = 0; i < 6; i++) {
        uint32_t u;
        memcpy(&u, &want[i], 4);
        put_uint(f, u >> 16, 2);
    }
    put_uint(f, 0x40490FDB, 4);
    put_uint(f, 1, 4);
    nib_source *s = must_open(tmp_write("rows.safetensors", f->b, f->n));
    const nib_tensor *w = nib_source_find(s, "w"), *one = nib_source_find(s, "s");
    assert_int_equal(nib_source_read_rows(s, w, 0, 3, got, &raw, 0, &err), NIB_OK);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(nib_source_read_rows(s, w, 2, 1, got, &raw, 0, &err), NIB_OK);
    assert_memory_equal(got, want + 4, 8);
    assert_int_equal(nib_source_read_rows(s, one, 0, 1, got, &raw, 0, &err), NIB_OK);
    assert_true(got[0] == 0x1.921FB6p+1f);
    assert_int_equal(nib_source_read_rows(s, w, 2, 2, got, &raw, 0, &err), NIB_EINVAL);
    assert_int_equal(nib_source_read_rows(s, w, UINT64_MAX, 2, got, &raw, 0, &err), NIB_EINVAL);
    assert_int_equal(nib_source_read_rows(s, nib_source_find(s, "i"), 0, 1, got, &raw, 0, &err),
                     NIB_EFORMAT);
    tmp_expect(err.msg, "'i' holds");
    nib_source_close(s);
    nib_buf_free(&raw);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(shards_are_one_model, make_shards),
        cmocka_unit_test_setup(refuses_indexes, make_shards),
        cmocka_unit_test_setup(refuses_tensors_the_index_does_not_know, make_shards),
        cmocka_unit_test_setup(refuses_bad_shards, make_shards),
        cmocka_unit_test_setup(side_files_are_read_at_open, make_shards),
        cmocka_unit_test_setup(refuses_folders_without_weights, make_shards),
        cmocka_unit_test(other_names_are_found),
        cmocka_unit_test(rows_are_decoded),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
