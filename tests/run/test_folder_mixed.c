/* SPDX-License-Identifier: MIT */
/* Folders whose layers are packed differently: each holds what was asked for, and the configuration
 * says so in the words of the engines. */
#include "base/file.h"
#include "formats/packed_config.h"
#include "tests/run/folders.h"
#include "tests/run/w8a8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const nib_packing GPTQ4 = {.bits = 4, .group = 128, .sym = true};
static const nib_packing AWQ4 = {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 64};
static const nib_packing W4 = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 128, .sym = true};

/* Names of both worlds; the first override that applies wins. */
static const char *const wishes[] = {
    "self_attn\\.o_proj:skip=true", "blk\\.2\\.attn_[qkv]:skip=true",
    "attn_[qkv]:bits=8,group-size=32", "layers\\.1\\.mlp\\.(gate|up):group-size=64",
    "layers\\.1\\.mlp\\.down:bits=8,group-size=0"};

static nib_recipe mixed(const nib_packing *f)
{
    return (nib_recipe){
        .layout = *f, .overrides = wishes, .n_overrides = sizeof wishes / sizeof *wishes};
}

static nib_packing changed(const nib_packing *f, unsigned bits, uint64_t group)
{
    nib_packing g = *f;
    g.bits = bits;
    g.group = group;
    return g;
}

/* ---- what is stored ---- */

/* Layers of the folder whose names hold `part` are what a folder of only this format has. */
static size_t expect_format(const nib_source *s, const nib_packing *f, const char *part)
{
    size_t n = 0;
    opened o;
    write_folder_ok("uniform", (nib_recipe){.layout = *f, .force = true}, 2);
    open_model(&o, scratch("uniform"));
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i), *u = nib_source_find(o.src, t->name);
        if (!t->packed || !strstr(t->name, part)) continue;
        float *x = tensor_values(s, t), *y = tensor_values(o.src, u);
        assert_string_equal(t->codec->name, u->codec->name);
        assert_int_equal(t->bytes, u->bytes);
        assert_memory_equal(x, y, (size_t)nib_tensor_elems(t) * sizeof *x);
        nib_free(x);
        nib_free(y);
        n++;
    }
    close_model(&o);
    return n;
}

/* The original's bytes. */
static size_t expect_untouched(const nib_source *s, const char *part)
{
    size_t n = 0;
    opened o;
    open_model(&o, tiny_llama());
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i), *u = nib_source_find(o.src, t->name);
        if (t->packed || !strstr(t->name, part)) continue;
        void *x = tensor_bytes(s, t), *y = tensor_bytes(o.src, u);
        assert_int_equal(t->bytes, u->bytes);
        assert_memory_equal(x, y, (size_t)t->bytes);
        nib_free(x);
        nib_free(y);
        n++;
    }
    close_model(&o);
    return n;
}

static void each_layer_holds_what_was_asked(void **state)
{
    (void)state;
    const nib_packing *const formats[] = {&GPTQ4, &W4};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        opened o;
        const nib_packing *f = formats[i], qkv = changed(f, 8, 32), up = changed(f, 4, 64),
                          down = changed(f, 8, 0);
        nib_recipe r = mixed(f);
        r.force = true;
        write_folder_ok("mixed", r, 2);
        open_model(&o, scratch("mixed"));
        assert_int_equal(expect_untouched(o.src, "o_proj"), 4);
        assert_int_equal(expect_untouched(o.src, "layers.2.self_attn"), 4);
        for (int layer = 0; layer < 4; layer++) {
            char part[64];
            snprintf(part, sizeof part, "layers.%d.self_attn", layer);
            assert_int_equal(expect_format(o.src, &qkv, part), layer == 2 ? 0 : 3);
        }
        assert_int_equal(expect_format(o.src, &down, "layers.1.mlp.down_proj"), 1);
        assert_int_equal(expect_format(o.src, &up, "layers.1.mlp.up_proj"), 1);
        assert_int_equal(expect_format(o.src, &up, "layers.1.mlp.gate_proj"), 1);
        assert_int_equal(expect_format(o.src, f, "layers.0.mlp."), 3);
        assert_int_equal(expect_format(o.src, f, "layers.2.mlp."), 3);
        close_model(&o);
    }
}

static void threads_give_the_same_bytes(void **state)
{
    (void)state;
    write_folder_ok("t1", mixed(&GPTQ4), 1);
    write_folder_ok("t2", mixed(&GPTQ4), 2);
    assert_true(same_files(scratch("t1/model.safetensors"), scratch("t2/model.safetensors")));
    assert_true(same_files(scratch("t1/config.json"), scratch("t2/config.json")));
}

/* ---- what the configuration says ---- */

/* The folder's config.json; *config is in it. */
static nib_json *load_config(const char *folder, const nib_json **config)
{
    char path[64];
    nib_err err;
    nib_json *root;
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(nib_json_load(&root, scratch(path), 1 << 20, &err), NIB_OK);
    *config = nib_json_get(root, "quantization_config");
    return root;
}

static bool lists(const nib_json *list, const char *name)
{
    for (const nib_json *j = nib_json_first(list); j; j = nib_json_next(j)) {
        const char *text;
        if (nib_json_str(j, &text) && !strcmp(text, name)) return true;
    }
    return false;
}

static void expect_rule(const nib_json *dynamic, const char *key, double bits, double group)
{
    const nib_json *rule = nib_json_get(dynamic, key);
    double b = 0, g = 0;
    if (!rule) fail_msg("no rule %s", key);
    nib_json_num(nib_json_get(rule, "bits"), &b);
    nib_json_num(nib_json_get(rule, "group_size"), &g);
    if (b != bits || g != group) fail_msg("%s: %g bits, groups of %g", key, b, g);
}

/* The form of GPTQModel's documentation, as packed-format readers match it: regular expressions
 * from the start of the module's name on. */
static void gptq_says_it_in_dynamic(void **state)
{
    (void)state;
    const nib_json *c, *copy;
    nib_err err;
    nib_json *own;
    write_folder_ok("gptq", mixed(&GPTQ4), 2);
    nib_json *root = load_config("gptq", &c);
    const nib_json *d = nib_json_get(c, "dynamic");
    expect_rule(d, "-:^model\\.layers\\.3\\.self_attn\\.o_proj$", 0, 0);
    expect_rule(d, "-:^model\\.layers\\.2\\.self_attn\\.(?:q_proj|k_proj|v_proj|qkv_proj)$", 0, 0);
    expect_rule(d, "+:^model\\.layers\\.0\\.self_attn\\.(?:q_proj|k_proj|v_proj|qkv_proj)$", 8, 32);
    expect_rule(d, "+:^model\\.layers\\.1\\.mlp\\.(?:gate_proj|up_proj|gate_up_proj)$", 4, 64);
    expect_rule(d, "+:^model\\.layers\\.1\\.mlp\\.down_proj$", 8, -1);
    assert_int_equal(nib_json_count(d), 4 + 4 + 2);
    assert_int_equal(nib_json_load(&own, scratch("gptq/quantize_config.json"), 1 << 20, &err), 0);
    copy = nib_json_get(own, "dynamic");
    assert_int_equal(nib_json_count(copy), 4 + 4 + 2);
    nib_json_free(own);
    nib_json_free(root);
    write_folder_ok("plain", (nib_recipe){.layout = GPTQ4}, 2);
    root = load_config("plain", &c);
    assert_null(nib_json_get(c, "dynamic"));
    nib_json_free(root);
}

static void compressed_tensors_says_it_in_groups(void **state)
{
    (void)state;
    const nib_json *c;
    write_folder_ok("ct", mixed(&W4), 2);
    nib_json *root = load_config("ct", &c);
    const nib_json *ignore = nib_json_get(c, "ignore"), *g = nib_json_get(c, "config_groups");
    assert_int_equal(nib_json_count(ignore), 1 + 4 + 3);
    assert_true(lists(ignore, "lm_head"));
    assert_true(lists(ignore, "model.layers.3.self_attn.o_proj"));
    assert_true(lists(ignore, "model.layers.2.self_attn.k_proj"));
    assert_int_equal(nib_json_count(g), 4);
    g = nib_json_first(g);
    assert_true(lists(nib_json_get(g, "targets"), "Linear"));
    g = nib_json_next(g);
    assert_int_equal(nib_json_count(nib_json_get(g, "targets")), 3);
    assert_true(lists(nib_json_get(g, "targets"),
                      "re:^model\\.layers\\.3\\.self_attn\\.(?:q_proj|k_proj|v_proj|qkv_proj)$"));
    nib_json_free(root);
}

/* Entries are looked for inside of module names, of fused modules too. */
static void awq_says_what_is_skipped(void **state)
{
    (void)state;
    const nib_json *c;
    nib_recipe r = mixed(&AWQ4);
    opened o;
    r.n_overrides = 2;
    write_folder_ok("awq", r, 2);
    nib_json *root = load_config("awq", &c);
    const nib_json *list = nib_json_get(c, "modules_to_not_convert");
    assert_int_equal(nib_json_count(list), 1 + 4 + 4);
    assert_true(lists(list, "model.layers.2.self_attn.q_proj"));
    assert_true(lists(list, "model.layers.2.self_attn.qkv_proj"));
    nib_json_free(root);
    open_model(&o, scratch("awq"));
    assert_int_equal(expect_untouched(o.src, "o_proj"), 4);
    assert_int_equal(expect_format(o.src, &AWQ4, "_proj"), 28 - 4 - 3);
    close_model(&o);
}

/* Engines that fuse layers look for the name of what they make of them, with these rules. */
static void fused_names_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *part, *fused;
    } names[] = {{"model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.qkv_proj"},
                 {"model.layers.2.self_attn.v_proj", "model.layers.2.self_attn.qkv_proj"},
                 {"model.layers.1.mlp.up_proj", "model.layers.1.mlp.gate_up_proj"},
                 {"model.layers.3.mlp.up_proj", "model.layers.3.mlp.gate_up_proj"}};
    const nib_json *c;
    nib_packing_rules rules = {0};
    nib_err err;
    write_folder_ok("fused", mixed(&GPTQ4), 2);
    nib_json *root = load_config("fused", &c);
    assert_int_equal(nib_packed_config_read(&rules, "gptq", c, &err), NIB_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const nib_packing *a, *b;
        assert_int_equal(nib_packing_rules_find(&a, &rules, names[i].part, &err), NIB_OK);
        assert_int_equal(nib_packing_rules_find(&b, &rules, names[i].fused, &err), NIB_OK);
        if (a != b) fail_msg("%s is packed otherwise", names[i].fused);
    }
    nib_packing_rules_free(&rules);
    nib_json_free(root);
}

/* ---- protected blocks ---- */

static void protect(const nib_packing *f, const char *how, const nib_packing *ends)
{
    opened o;
    write_folder_ok("ends", (nib_recipe){.layout = *f, .protect_blocks = how, .force = true}, 2);
    open_model(&o, scratch("ends"));
    for (int layer = 0; layer < 4; layer++) {
        char part[32];
        const bool end = layer == 0 || layer == 3;
        snprintf(part, sizeof part, "layers.%d.", layer);
        if (end && !ends)
            assert_int_equal(expect_untouched(o.src, part), 9);
        else
            assert_int_equal(expect_format(o.src, end ? ends : f, part), 7);
    }
    close_model(&o);
}

/* The next larger number of bits that the folder can hold; beyond, as they were. */
static void first_and_last_blocks_get_more_bits(void **state)
{
    (void)state;
    const nib_packing three = changed(&GPTQ4, 3, 128), eight = changed(&GPTQ4, 8, 128),
                      w8 = changed(&W4, 8, 128);
    protect(&three, "1", &GPTQ4);
    protect(&GPTQ4, "1", &eight);
    protect(&eight, "1", NULL);
    protect(&three, "1:8", &eight);
    protect(&GPTQ4, "1:skip", NULL);
    protect(&W4, "1", &w8);
    protect(&AWQ4, "1", NULL);
    protect(&W8A8, "1", NULL);
}

/* ---- what is refused ---- */

static void folders_that_contradict_themselves(void **state)
{
    (void)state;
    write_folder_ok("hurt", mixed(&GPTQ4), 2);
    patch("hurt/config.json", "\"+:^model\\\\.layers\\\\.0", "\"-:^model\\\\.layers\\\\.0");
    refuse_folder("hurt", "layers.0.self_attn.k_proj.qweight' is there, but quantization_config");
    patch("hurt/config.json", "\"-:^model\\\\.layers\\\\.0", "\"+:^model\\\\.layers\\\\.9");
    refuse_folder("hurt", "layers.0.self_attn.k_proj.");
    write_folder_ok("harm", mixed(&W4), 2);
    patch("harm/config.json", "\"Linear\"", "\"linear\"");
    refuse_folder("harm", "does not say that its layer is packed");
    const nib_packing rows = changed(&W4, 8, 0);
    write_folder_ok("other", (nib_recipe){.layout = rows}, 2);
    for (int i = 0; i < 2; i++) /* of all, then of the group */
        patch("other/config.json", "\"pack-quantized\"", "\"int-quantized\" ");
    refuse_folder("other", "does not say that its layer is packed in this way");
}

static void packed_layers_cannot_be_skipped(void **state)
{
    (void)state;
    opened o;
    nib_plan p;
    nib_err err;
    nib_log log = {0};
    const nib_ctx ctx = {.threads = 1, .log = &log};
    nib_recipe r = mixed(&GPTQ4);
    r.format = NIB_FORMAT_DIR;
    write_folder_ok("packed", (nib_recipe){.layout = GPTQ4}, 2);
    open_model(&o, scratch("packed"));
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_EINVAL);
    expect_text(err.msg, "o_proj.weight' is packed already, so it cannot be copied");
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_layer_holds_what_was_asked),
        cmocka_unit_test(threads_give_the_same_bytes),
        cmocka_unit_test(gptq_says_it_in_dynamic),
        cmocka_unit_test(compressed_tensors_says_it_in_groups),
        cmocka_unit_test(awq_says_what_is_skipped),
        cmocka_unit_test(fused_names_are_found),
        cmocka_unit_test(first_and_last_blocks_get_more_bits),
        cmocka_unit_test(folders_that_contradict_themselves),
        cmocka_unit_test(packed_layers_cannot_be_skipped),
    };
    return cmocka_run_group_tests_name("run_dir_mixed", tests, scratch_make, scratch_remove);
}
