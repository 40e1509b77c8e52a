/* SPDX-License-Identifier: MIT */
/* GPTQ folders: written, read back, refused when they are damaged. */
#include "base/file.h"
#include "formats/carried.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const nib_packing INT4 = {.bits = 4, .group = 128, .sym = true};

/* Packed weights are within `most` of the tensor's largest value of the original's, everything else
 * is the same. Reads in strips of another height give the same. */
static void check_weights(const char *folder, float most)
{
    opened a, b;
    nib_err err;
    nib_buf raw = {0};
    open_model(&a, tiny_llama());
    open_model(&b, folder);
    assert_int_equal(nib_source_count(a.src), nib_source_count(b.src));
    for (size_t i = 0; i < nib_source_count(a.src); i++) {
        const nib_tensor *t = nib_source_at(a.src, i), *u = nib_source_find(b.src, t->name);
        assert_non_null(u);
        const size_t rows = (size_t)nib_tensor_rows(t), cols = (size_t)nib_tensor_cols(t);
        float *x = tensor_values(a.src, t), *y = tensor_values(b.src, u);
        float *strip = nib_alloc(7 * cols, sizeof *strip), largest = 0, error = 0;
        for (size_t k = 0; k < rows * cols; k++) {
            largest = fmaxf(largest, fabsf(x[k]));
            error = fmaxf(error, fabsf(x[k] - y[k]));
        }
        if (error > (u->packed ? most * largest : 0))
            fail_msg("%s: error %g, largest %g", t->name, (double)error, (double)largest);
        assert_true(!u->packed || error > 0);
        for (size_t r = 0; u->packed && r < rows; r += 7) {
            size_t n = rows - r < 7 ? rows - r : 7;
            assert_int_equal(nib_source_read_rows(b.src, u, r, n, strip, &raw, 0, &err), NIB_OK);
            assert_memory_equal(strip, y + r * cols, n * cols * sizeof *y);
        }
        nib_free(strip);
        nib_free(x);
        nib_free(y);
    }
    nib_buf_free(&raw);
    close_model(&a);
    close_model(&b);
}

/* As Transformers counts it: the bytes of all tensors, as they are stored. */
static void check_total_size(const char *folder)
{
    opened o;
    nib_json *root;
    nib_err err = {0};
    char path[256];
    uint64_t said, bytes = 0;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    assert_int_equal(nib_json_load(&root, path, 1 << 20, &err), NIB_OK);
    const nib_json *meta = nib_json_get(root, "metadata");
    assert_true(nib_json_u64(nib_json_get(meta, "total_size"), &said));
    nib_json_free(root);
    open_model(&o, folder);
    for (size_t i = 0; i < nib_source_count(o.src); i++) bytes += nib_source_at(o.src, i)->bytes;
    assert_int_equal(said, bytes);
    close_model(&o);
}

static void folder_holds_the_model(void **state)
{
    (void)state;
    nib_packing f = {.bits = 8, .group = 0, .sym = true};
    write_folder_ok("eight", (nib_recipe){.layout = f}, 2);
    check_weights(scratch("eight"), 0.6f / 127.5f);
    f = (nib_packing){.bits = 3, .group = 64, .v2 = true};
    write_folder_ok("three", (nib_recipe){.layout = f, .split_max = 300000}, 2);
    check_weights(scratch("three"), 1.05f / 3.5f);
    assert_true(nib_file_exists(scratch("three/model.safetensors.index.json")));
    assert_false(nib_file_exists(scratch("three/model.safetensors")));
    check_total_size(scratch("three"));
}

static void configuration_says_what_it_is(void **state)
{
    (void)state;
    nib_err err;
    nib_json *root;
    nib_packing_rules rules = {0};
    const nib_packing *f;
    const char *text;
    write_folder_ok("config", (nib_recipe){.layout = INT4}, 1);
    assert_int_equal(nib_json_load(&root, scratch("config/config.json"), 1 << 20, &err), NIB_OK);
    const nib_json *c = nib_json_get(root, "quantization_config");
    assert_true(nib_json_str(nib_json_get(c, "quant_method"), &text));
    assert_string_equal(text, "gptq");
    assert_int_equal(nib_packed_config_read(&rules, "gptq", c, &err), NIB_OK);
    assert_int_equal(nib_packing_rules_find(&f, &rules, "model.layers.0.mlp.up_proj", &err),
                     NIB_OK);
    assert_true(f->bits == 4 && f->group == 128 && f->sym && !f->v2 && !f->desc_act);
    nib_packing_rules_free(&rules);
    assert_true(nib_json_str(nib_json_get(root, "model_type"), &text));
    nib_json_free(root);
    char original[256];
    snprintf(original, sizeof original, "%s/tokenizer.json", tiny_llama());
    assert_true(same_files(original, scratch("config/tokenizer.json")));
    assert_true(nib_file_exists(scratch("config/quantize_config.json")));
}

static void threads_give_the_same_bytes(void **state)
{
    (void)state;
    write_folder_ok("t1", (nib_recipe){.layout = INT4}, 1);
    write_folder_ok("t2", (nib_recipe){.layout = INT4}, 2);
    assert_true(same_files(scratch("t1/model.safetensors"), scratch("t2/model.safetensors")));
}

static void existing_folders_are_safe(void **state)
{
    (void)state;
    nib_err err;
    nib_recipe r = {.layout = INT4};
    write_folder_ok("there", r, 1);
    assert_int_equal(write_folder("there", r, 1, &err), NIB_EIO);
    expect_text(err.msg, "--force");
    r.force = true;
    write_folder_ok("there", r, 1);
    unlink(scratch("there/config.json"));
    assert_int_equal(write_folder("there", r, 1, &err), NIB_EIO);
    expect_text(err.msg, "no config.json");
    assert_int_equal(scratch_count("nibble-"), 0);
}

static void bad_recipes_are_refused(void **state)
{
    (void)state;
    nib_err err;
    nib_recipe r = {.layout = INT4};
    r.layout.bits = 5;
    assert_int_equal(write_folder("bad", r, 1, &err), NIB_EINVAL);
    r.layout = (nib_packing){.bits = 4, .group = 96, .sym = true};
    assert_int_equal(write_folder("bad", r, 1, &err), NIB_EINVAL);
    expect_text(err.msg, "--group-size");
    r = (nib_recipe){.layout = INT4, .type = "q4_0"};
    assert_int_equal(write_folder("bad", r, 1, &err), NIB_EINVAL);
    assert_false(nib_file_exists(scratch("bad")));
}

static void damaged_folders_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *from, *to, *says;
    } hurt[] = {
        {"hurt/config.json", "\"bits\":\t4", "\"bits\":\t5", "'bits'"},
        {"hurt/config.json", "\"bits\":\t4", "\"bits\":\t8", "shape"},
        {"hurt/config.json", "\"group_size\":\t128", "\"group_size\":\t032", "config.json"},
        {"hurt/config.json", "\"group_size\":\t128", "\"group_size\":\t256", "shape"},
        {"hurt/config.json", ":\t\"gptq\",\n\t\"format\"", ":\t\"gptx\",\n\t\"format\"", "gptq_v2"},
        {"hurt/model.safetensors", "q_proj.qzeros", "q_proj.qzerox", "qzeros' is missing"},
        {"hurt/model.safetensors", "q_proj.qweight", "q_proj.qweighx", "qweight' is missing"},
    };
    for (size_t i = 0; i < sizeof hurt / sizeof *hurt; i++) {
        write_folder_ok("hurt", (nib_recipe){.layout = INT4, .force = true}, 1);
        patch(hurt[i].file, hurt[i].from, hurt[i].to);
        refuse_folder("hurt", hurt[i].says);
    }
}

static void group_out_of_range_is_refused(void **state)
{
    (void)state;
    write_folder_ok("hurt", (nib_recipe){.layout = INT4, .force = true}, 1);
    patch_tensor("hurt", "model.layers.0.self_attn.q_proj.g_idx", "\t", 1);
    refuse_folder("hurt", "is in group 9");
}

/* Of the demonstration model: tokenizer.json, tokenizer_config.json, generation_config.json. */
static void what_is_carried_along_takes_room(void **state)
{
    (void)state;
    opened a;
    nib_err err;
    uint64_t bytes;
    open_model(&a, tiny_llama());
    assert_int_equal(nib_carried_bytes(&bytes, a.src, &err), NIB_OK);
    assert_int_equal(bytes, 59905 + 173 + 109);
    close_model(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_holds_the_model),
        cmocka_unit_test(configuration_says_what_it_is),
        cmocka_unit_test(threads_give_the_same_bytes),
        cmocka_unit_test(existing_folders_are_safe),
        cmocka_unit_test(bad_recipes_are_refused),
        cmocka_unit_test(damaged_folders_are_refused),
        cmocka_unit_test(group_out_of_range_is_refused),
        cmocka_unit_test(what_is_carried_along_takes_room),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
