/* SPDX-License-Identifier: MIT */
/* What an output says about itself: recipe, inputs, checksums that others can compute, errors; and
 * nothing of where it was made. */
#include "run/write/manifest.h"

#include "base/file.h"
#include "run/job.h"
#include "run/record.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void make(const char *model, const char *out, nib_recipe r, const nib_sample *text)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_job job;
    nib_job_opts opts = {.model = model,
                         .recipe = r,
                         .solve = nib_solve_defaults(),
                         .base_model = "somebody/tiny-llama"};
    if (text) opts.text = *text;
    opts.recipe.out = out;
    opts.recipe.force = true;
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
}

static const char *text_of(const nib_json *j, const char *key)
{
    const char *text = "";
    nib_json_str(nib_json_get(j, key), &text);
    return text;
}

/* What sha256sum prints for a file. */
static void expect_digest(const char *path, const char *hex)
{
    char cmd[600], line[80] = "";
    snprintf(cmd, sizeof cmd, "sha256sum '%s'", path);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    line[64] = 0;
    assert_string_equal(hex, line);
}

static const nib_packing four = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true};

static void of_a_folder(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    char path[300];
    double v;
    make(tiny_llama(), scratch("f"), (nib_recipe){.format = NIB_FORMAT_DIR, .layout = four}, NULL);
    if (nib_json_load(&j, scratch("f/nibble.json"), 1 << 24, &err)) fail_msg("%s", err.msg);
    assert_string_equal(text_of(j, "nibble"), NIB_VERSION);
    assert_string_equal(text_of(j, "base_model"), "somebody/tiny-llama");
    const nib_json *recipe = nib_json_get(j, "recipe");
    assert_string_equal(text_of(recipe, "format"), "gptq");
    assert_string_equal(text_of(recipe, "method"), "rtn");
    assert_true(nib_json_num(nib_json_get(recipe, "group-size"), &v) && v == 128);
    const nib_json *files = nib_json_get(j, "files");
    for (const nib_json *f = nib_json_first(files); f; f = nib_json_next(f)) {
        const char *hex = "";
        snprintf(path, sizeof path, "f/%s", nib_json_key(f));
        nib_json_str(f, &hex);
        expect_digest(scratch(path), hex);
    }
    assert_true(nib_json_count(files) >= 5);
    const nib_json *source = nib_json_first(nib_json_get(j, "source"));
    assert_string_equal(text_of(source, "name"), "model.safetensors");
    snprintf(path, sizeof path, "%s/model.safetensors", tiny_llama());
    expect_digest(path, text_of(source, "sha256"));
    const nib_json *w =
        nib_json_get(nib_json_get(j, "weights"), "model.layers.0.mlp.down_proj.weight");
    assert_string_equal(text_of(w, "type"), "int4-g128");
    /* a fifteenth of the range of bell-shaped weights, rounded: about a tenth of their spread */
    assert_true(nib_json_num(nib_json_get(w, "error"), &v) && v > 0.03 && v < 0.3);
    nib_json_free(j);
}

static void of_a_gguf_file(void **state)
{
    (void)state;
    const void *data;
    nib_str s;
    size_t n;
    uint64_t count;
    opened o;
    nib_json *j;
    nib_err err = {0};
    const char *path = scratch("m.gguf");
    make(tiny_llama(), path, (nib_recipe){.type = "q8_0"}, NULL);
    open_model(&o, path);
    const nib_gguf_kvs *k = nib_source_kvs(o.src);
    assert_true(nib_gguf_get_str(k, "general.base_model.0.organization", &s));
    assert_string_equal(s.p, "somebody");
    assert_true(nib_gguf_get_str(k, "general.base_model.0.repo_url", &s));
    assert_string_equal(s.p, "https://huggingface.co/somebody/tiny-llama");
    assert_true(nib_gguf_get_u64(k, "general.base_model.count", &count) && count == 1);
    assert_true(nib_gguf_get_str(k, "nibble.recipe", &s));
    assert_int_equal(nib_json_parse(&j, s.p, s.n, &err), NIB_OK);
    assert_string_equal(text_of(j, "type"), "q8_0");
    nib_json_free(j);
    assert_true(nib_gguf_get_arr(k, NIB_KEY_TENSORS, NIB_GGUF_U8, &data, &n));
    assert_int_equal(n, nib_source_count(o.src) * NIB_SHA256_BYTES);
    for (size_t i = 0; i < nib_source_count(o.src); i++) {
        const nib_tensor *t = nib_source_at(o.src, i);
        uint8_t digest[NIB_SHA256_BYTES], *bytes = tensor_bytes(o.src, t);
        nib_sha256_of(digest, bytes, (size_t)t->bytes);
        assert_memory_equal(digest, (const uint8_t *)data + i * sizeof digest, sizeof digest);
        nib_free(bytes);
    }
    assert_true(nib_gguf_get_arr(k, NIB_KEY_ERRORS, NIB_GGUF_F32, &data, &n));
    assert_int_equal(n, nib_source_count(o.src));
    for (size_t i = 0; i < n; i++) {
        float e;
        memcpy(&e, (const uint8_t *)data + 4 * i, sizeof e);
        assert_true(nib_source_at(o.src, i)->codec->quantized ? e > 0.001f && e < 0.02f : e == 0);
    }
    close_model(&o);
}

/* A copy of the model elsewhere, under another name but for its last part. */
static void says_nothing_of_places(void **state)
{
    (void)state;
    char cmd[700], other[300];
    snprintf(other, sizeof other, "%s", scratch("elsewhere"));
    snprintf(cmd, sizeof cmd, "mkdir -p '%s' && cp -r '%s' '%s/tiny-llama'", other, tiny_llama(),
             other);
    assert_int_equal(system(cmd), 0);
    snprintf(other, sizeof other, "%s", scratch("elsewhere/tiny-llama"));
    make(tiny_llama(), scratch("here.gguf"), (nib_recipe){.type = "q4_0"}, NULL);
    make(other, scratch("there.gguf"), (nib_recipe){.type = "q4_0"}, NULL);
    assert_true(same_files(scratch("here.gguf"), scratch("there.gguf")));
    const nib_recipe folder = {.format = NIB_FORMAT_DIR, .layout = four};
    make(tiny_llama(), scratch("here"), folder, NULL);
    make(other, scratch("there"), folder, NULL);
    assert_true(same_files(scratch("here/nibble.json"), scratch("there/nibble.json")));
}

static void solved_weights_have_errors(void **state)
{
    (void)state;
    nib_json *j;
    nib_err err = {0};
    double v, seed;
    char text[300];
    snprintf(text, sizeof text, "%s/../eval.txt", tiny_llama());
    const nib_text_spec spec = {.path = text};
    const nib_sample sample = {.text = &spec, .n_texts = 1, .n_ctx = 64, .samples = 8, .seed = 5};
    make(tiny_llama(), scratch("s"),
         (nib_recipe){.format = NIB_FORMAT_DIR, .layout = four, .method = NIB_METHOD_GPTQ},
         &sample);
    if (nib_json_load(&j, scratch("s/nibble.json"), 1 << 24, &err)) fail_msg("%s", err.msg);
    const nib_json *w =
        nib_json_get(nib_json_get(j, "weights"), "model.layers.0.mlp.down_proj.weight");
    assert_true(nib_json_num(nib_json_get(w, "error"), &v) && v > 0.03 && v < 0.5);
    assert_string_equal(text_of(nib_json_first(nib_json_get(j, "inputs")), "name"), "eval.txt");
    expect_digest(text, text_of(nib_json_first(nib_json_get(j, "inputs")), "sha256"));
    assert_true(nib_json_num(nib_json_get(nib_json_get(j, "recipe"), "seed"), &seed) && seed == 5);
    nib_json_free(j);
}

/* With statistics, and on the original activations, there is no drift to make up for. */
static void drift_is_said_where_it_counts(void **state)
{
    (void)state;
    opened o;
    nib_err err = {0};
    nib_provenance p = {0};
    nib_job_opts opts = {.recipe = {.type = "q4_k_m", .method = NIB_METHOD_GPTQ},
                         .solve = nib_solve_defaults()};
    open_model(&o, tiny_llama());
    for (int i = 0; i < 3; i++) {
        opts.solve.propagate = i != 1;
        opts.stats = i == 2 ? "stats" : NULL;
        assert_int_equal(nib_record_job(&p, &opts, o.src, NULL, &err), NIB_OK);
        assert_non_null(nib_json_get(p.recipe, "damp"));
        assert_int_equal(nib_json_get(p.recipe, "drift") != NULL, i == 0);
        assert_int_equal(nib_json_get(p.recipe, "no-propagate") != NULL, i == 1);
    }
    nib_provenance_free(&p);
    close_model(&o);
}

/* Of outputs that share inputs a file is read for its checksum once: what comes later, after the
 * file has changed, has that of the first. */
static void shared_inputs_are_read_once(void **state)
{
    (void)state;
    const nib_ctx ctx = {.threads = 2};
    nib_err err = {0};
    nib_provenance seen = {0}, one = {0}, two = {0}, alone = {0};
    char path[300];
    snprintf(path, sizeof path, "%s", scratch("input"));
    assert_int_equal(nib_file_save(path, "before", 6, false, &err), NIB_OK);
    assert_int_equal(nib_provenance_add(&one, path, &err), NIB_OK);
    assert_int_equal(nib_provenance_begin(&one, &seen, &err), NIB_OK);
    assert_int_equal(nib_provenance_end(&one, &ctx, &err), NIB_OK);
    assert_int_equal(nib_file_save(path, "after", 5, true, &err), NIB_OK);
    assert_int_equal(nib_provenance_add(&two, path, &err), NIB_OK);
    assert_int_equal(nib_provenance_add(&two, scratch("f/nibble.json"), &err), NIB_OK);
    assert_int_equal(nib_provenance_begin(&two, &seen, &err), NIB_OK);
    assert_int_equal(nib_provenance_end(&two, &ctx, &err), NIB_OK);
    assert_int_equal(nib_provenance_add(&alone, path, &err), NIB_OK);
    assert_int_equal(nib_provenance_begin(&alone, NULL, &err), NIB_OK);
    assert_int_equal(nib_provenance_end(&alone, &ctx, &err), NIB_OK);
    assert_memory_equal(two.other[0].sha256, one.other[0].sha256, NIB_SHA256_BYTES);
    assert_true(two.other[0].known && two.other[1].known);
    assert_memory_not_equal(alone.other[0].sha256, one.other[0].sha256, NIB_SHA256_BYTES);
    assert_int_equal(seen.n_others, 2);
    nib_provenance_free(&seen);
    nib_provenance_free(&one);
    nib_provenance_free(&two);
    nib_provenance_free(&alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_folder),
        cmocka_unit_test(of_a_gguf_file),
        cmocka_unit_test(says_nothing_of_places),
        cmocka_unit_test(solved_weights_have_errors),
        cmocka_unit_test(drift_is_said_where_it_counts),
        cmocka_unit_test(shared_inputs_are_read_once),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
