/* SPDX-License-Identifier: MIT */
/* Packed embeddings and output matrices of compressed-tensors folders. Those in
 * tests/golden/ct_embedding were written by llm-compressor. */
#include "base/file.h"
#include "run/job.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const nib_packing W4 = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 16, .sym = true};

static const char *golden(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/ct_embedding/%s", getenv("NIB_GOLDEN"), name);
    return path;
}

static void open_plain(nib_source **s, const char *path)
{
    nib_err err = {0};
    if (nib_source_open(s, path, &err)) fail_msg("%s", err.msg);
}

/* ---- reading ---- */

/* Every weight of `name`-expected is in the folder, bit for bit. */
static void read_as_the_library_does(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *expected;
        bool tied;
    } folders[] = {{"untied", "untied-expected.safetensors", false},
                   {"tied", "tied-expected.safetensors", true},
                   {"head", "head-expected.safetensors", false}};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        opened o;
        nib_source *e;
        open_plain(&e, golden(folders[i].expected));
        open_model(&o, golden(folders[i].folder));
        assert_int_equal(o.model.hp.tied, folders[i].tied);
        assert_true(nib_source_count(e) >= 2);
        for (size_t k = 0; k < nib_source_count(e); k++) {
            const nib_tensor *want = nib_source_at(e, k), *t = nib_source_find(o.src, want->name);
            if (!t || !t->packed) fail_msg("%s: no packed %s", folders[i].folder, want->name);
            float *x = tensor_values(o.src, t), *y = tensor_values(e, want);
            assert_memory_equal(x, y, (size_t)nib_tensor_elems(want) * sizeof *x);
            nib_free(x);
            nib_free(y);
        }
        close_model(&o);
        nib_source_close(e);
    }
}

/* ---- writing ---- */

static void write_ok(const char *model, const char *name, nib_recipe r)
{
    nib_err err = {0};
    if (write_folder_of(model, name, r, NULL, 2, &err)) fail_msg("%s", err.msg);
}

/* A part of a packed weight as the file has it. */
static uint8_t *raw_part(const char *folder, const char *tensor, size_t *n)
{
    nib_source *s;
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    open_plain(&s, path);
    const nib_tensor *t = nib_source_find(s, tensor);
    if (!t) fail_msg("%s lacks %s", path, tensor);
    *n = (size_t)t->bytes;
    uint8_t *bytes = tensor_bytes(s, t);
    nib_source_close(s);
    return bytes;
}

static void same_part(const char *a, const char *b, const char *tensor)
{
    size_t n, m;
    uint8_t *x = raw_part(a, tensor, &n), *y = raw_part(b, tensor, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    nib_free(x);
    nib_free(y);
}

/* Values of a weight are the library's, but where a weight lies in the middle of two of them. */
static void same_values(const char *ours, const char *theirs, const char *weight)
{
    opened a, b, from;
    open_model(&a, ours);
    open_model(&b, theirs);
    open_model(&from, golden("source"));
    const nib_tensor *t = nib_source_find(a.src, weight);
    const size_t n = (size_t)nib_tensor_elems(t);
    float *x = tensor_values(a.src, t), *y = tensor_values(b.src, nib_source_find(b.src, weight)),
          *w = tensor_values(from.src, nib_source_find(from.src, weight));
    size_t others = 0;
    for (size_t i = 0; i < n; i++) {
        others += x[i] != y[i];
        if (x[i] != y[i] && fabsf((x[i] + y[i]) / 2 - w[i]) > 1e-6f * fabsf(w[i]))
            fail_msg("%s: weight %zu is %g, the library has %g for %g", weight, i, (double)x[i],
                     (double)y[i], (double)w[i]);
    }
    assert_true(others < n / 8);
    nib_free(x);
    nib_free(y);
    nib_free(w);
    close_model(&a);
    close_model(&b);
    close_model(&from);
}

static void rounded_as_the_library_does(void **state)
{
    (void)state;
    static const char *const rows[] = {"^(token_embd|output)\\.:group-size=0"};
    char ours[4096];
    write_ok(golden("source"), "head",
             (nib_recipe){.layout = W4,
                          .scales = NIB_SCALES_RANGE,
                          .embedding_type = "w3a16",
                          .output_type = "w3a16",
                          .overrides = rows,
                          .n_overrides = 1});
    snprintf(ours, sizeof ours, "%s", scratch("head"));
    static const char *const layers[] = {"model.embed_tokens", "lm_head"};
    for (size_t i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight_scale", layers[i]);
        same_part(ours, golden("head"), name);
        snprintf(name, sizeof name, "%s.weight_shape", layers[i]);
        same_part(ours, golden("head"), name);
        snprintf(name, sizeof name, "%s.weight", layers[i]);
        same_values(ours, golden("head"), name);
    }
}

/* ---- one matrix or two ---- */

static char *config_of(const char *folder)
{
    char *path = nib_path_join(scratch(folder), "config.json"), *text;
    size_t n;
    nib_err err;
    assert_int_equal(nib_file_slurp(&text, &n, path, 1 << 20, &err), NIB_OK);
    nib_free(path);
    nib_json *j; /* without the blanks */
    assert_int_equal(nib_json_parse(&j, text, n, &err), NIB_OK);
    nib_free(text);
    text = nib_json_print(j, false);
    nib_json_free(j);
    return text;
}

/* config.json of the folder holds the text, or not. */
static void says(const char *folder, const char *part, bool yes)
{
    char *text = config_of(folder);
    if ((strstr(text, part) != NULL) != yes)
        fail_msg("%s %s %s", text, yes ? "lacks" : "holds", part);
    nib_free(text);
}

static const nib_tensor *tensor_of(const opened *o, const char *name)
{
    return nib_source_find(o->src, name);
}

/* The demonstration model is tied. */
static void one_matrix_stays_one(void **state)
{
    (void)state;
    opened o;
    write_ok(tiny_llama(), "one", (nib_recipe){.layout = W4, .embedding_type = "w8a16"});
    says("one", "\"tie_word_embeddings\":true", true);
    says("one", "\"format\":\"pack-quantized\",\"quantization_status\"", true);
    says("one", "\"ignore\":[]", true);
    says("one",
         "\"targets\":[\"Embedding\",\"lm_head\"],\"format\":\"pack-quantized\","
         "\"weights\":{\"num_bits\":8,",
         true);
    open_model(&o, scratch("one"));
    assert_true(o.model.hp.tied);
    assert_string_equal(tensor_of(&o, "model.embed_tokens.weight")->codec->name, "int8-g16");
    assert_null(tensor_of(&o, "lm_head.weight"));
    close_model(&o);
}

static void two_of_one(void **state)
{
    (void)state;
    opened o, one;
    write_ok(tiny_llama(), "one",
             (nib_recipe){.layout = W4, .embedding_type = "w8a16", .force = true});
    write_ok(tiny_llama(), "two",
             (nib_recipe){.layout = W4, .embedding_type = "w4a16", .output_type = "w8a16"});
    says("two", "\"tie_word_embeddings\":false", true);
    says("two", "\"targets\":[\"Embedding\"]", true);
    says("two", "\"targets\":[\"lm_head\"]", true);
    open_model(&o, scratch("two"));
    open_model(&one, scratch("one"));
    assert_false(o.model.hp.tied);
    assert_string_equal(tensor_of(&o, "model.embed_tokens.weight")->codec->name, "int4-g16");
    const nib_tensor *a = tensor_of(&o, "lm_head.weight"),
                     *b = tensor_of(&one, "model.embed_tokens.weight");
    float *x = tensor_values(o.src, a), *y = tensor_values(one.src, b);
    assert_memory_equal(x, y, (size_t)nib_tensor_elems(a) * sizeof *x);
    nib_free(x);
    nib_free(y);
    close_model(&o);
    close_model(&one);
}

static void output_left_beside_it(void **state)
{
    (void)state;
    opened o, from;
    write_ok(tiny_llama(), "left",
             (nib_recipe){.layout = W4, .embedding_type = "w4a16", .leave_output = true});
    says("left", "\"tie_word_embeddings\":false", true);
    says("left", "\"ignore\":[\"lm_head\"]", true);
    open_model(&o, scratch("left"));
    open_model(&from, tiny_llama());
    const nib_tensor *a = tensor_of(&o, "lm_head.weight"),
                     *b = tensor_of(&from, "model.embed_tokens.weight");
    assert_int_equal(a->bytes, b->bytes);
    uint8_t *x = tensor_bytes(o.src, a), *y = tensor_bytes(from.src, b);
    assert_memory_equal(x, y, (size_t)a->bytes);
    nib_free(x);
    nib_free(y);
    close_model(&o);
    close_model(&from);
}

/* ---- beside other formats ---- */

static void integers_beside_floats(void **state)
{
    (void)state;
    opened o;
    const nib_packing nvfp4 = {.kind = NIB_PACKING_CT_NVFP4, .bits = 4, .sym = true, .group = 16};
    write_ok(tiny_llama(), "mixed", (nib_recipe){.layout = nvfp4, .embedding_type = "w6a16"});
    says("mixed", "\"format\":\"mixed-precision\",\"quantization_status\"", true);
    open_model(&o, scratch("mixed"));
    assert_string_equal(tensor_of(&o, "model.embed_tokens.weight")->codec->name, "int6-g128");
    assert_string_equal(tensor_of(&o, "model.layers.0.mlp.up_proj.weight")->codec->name, "nvfp4");
    close_model(&o);
}

/* The class of embeddings has those of positions in it. */
static void positions_are_not_packed(void **state)
{
    (void)state;
    char model[4096];
    snprintf(model, sizeof model, "%s/arch/gpt2", getenv("NIB_GOLDEN"));
    write_ok(model, "positions", (nib_recipe){.layout = W4, .embedding_type = "w8a16"});
    says("positions", "\"ignore\":[\"transformer.wpe\"]", true);
    write_ok(model, "plain", (nib_recipe){.layout = W4});
    says("plain", "\"ignore\":[\"lm_head\"]", true);
}

/* ---- methods ---- */

/* Solving sees no inputs of an embedding: it is rounded as it is without. */
static void rounded_where_others_are_solved(void **state)
{
    (void)state;
    char rounded[4096], text[4096];
    nib_err err = {0};
    nib_log log = {0};
    const nib_ctx ctx = {.threads = 2, .log = &log};
    nib_recipe r = {
        .layout = W4, .embedding_type = "w4a16", .output_type = "w8a16", .out = scratch("solved")};
    write_ok(tiny_llama(), "rounded", r);
    snprintf(rounded, sizeof rounded, "%s", scratch("rounded"));
    snprintf(text, sizeof text, "%s/../calibration.txt", tiny_llama());
    r.format = NIB_FORMAT_DIR;
    r.method = NIB_METHOD_GPTQ;
    nib_text_spec sample = {.path = text, .weight = 1};
    nib_job_opts opts = {.model = tiny_llama(), .recipe = r, .solve = nib_solve_defaults()};
    opts.text = (nib_sample){.text = &sample, .n_texts = 1, .n_ctx = 64, .samples = 8};
    nib_job job;
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    assert_int_equal(job.plan.n_solved, 28);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
    same_part(scratch("solved"), rounded, "model.embed_tokens.weight_packed");
    same_part(scratch("solved"), rounded, "lm_head.weight_packed");
    same_part(scratch("solved"), rounded, "lm_head.weight_scale");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_as_the_library_does),
        cmocka_unit_test(rounded_as_the_library_does),
        cmocka_unit_test(one_matrix_stays_one),
        cmocka_unit_test(two_of_one),
        cmocka_unit_test(output_left_beside_it),
        cmocka_unit_test(integers_beside_floats),
        cmocka_unit_test(positions_are_not_packed),
        cmocka_unit_test(rounded_where_others_are_solved),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
