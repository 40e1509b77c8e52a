/* SPDX-License-Identifier: MIT */
/* Plain folders: a model that went into a GGUF file comes back as it was, packed folders are
 * unpacked, and what a folder cannot say is refused. */
#include "base/file.h"
#include "infer/tokenizer.h"
#include "run/write/write_plain.h"
#include "tests/run/folders.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static nib_code write_plain(const char *model, const char *name, nib_recipe r,
                            const nib_imatrix *im, int threads, nib_err *err)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = threads, .log = &log};
    nib_quantize_result result;
    nib_plan p = {0};
    opened o;
    open_model(&o, model);
    r.format = NIB_FORMAT_PLAIN;
    r.out = scratch(name);
    nib_code rc = nib_plan_make(&p, &r, &o.model, im, &ctx, err);
    if (!rc) rc = nib_write_plain(&result, &p, &ctx, err);
    nib_plan_free(&p);
    close_model(&o);
    return rc;
}

static void write_plain_ok(const char *model, const char *name, nib_recipe r)
{
    nib_err err = {0};
    if (write_plain(model, name, r, NULL, 2, &err)) fail_msg("%s", err.msg);
}

static void same_hparams(const nib_model *a, const nib_model *b)
{
    const nib_hparams *x = &a->hp, *y = &b->hp;
    assert_ptr_equal(a->arch, b->arch);
    assert_true(x->n_layer == y->n_layer && x->n_ctx_train == y->n_ctx_train &&
                x->n_embd == y->n_embd && x->n_ff == y->n_ff && x->n_head == y->n_head &&
                x->n_head_kv == y->n_head_kv && x->head_dim == y->head_dim &&
                x->n_vocab == y->n_vocab && x->tied == y->tied && x->window == y->window);
    for (uint32_t l = 0; l < x->n_layer; l++)
        assert_int_equal(nib_layer_window(x, l), nib_layer_window(y, l));
    assert_true(x->norm_eps == y->norm_eps && x->rope_base == y->rope_base &&
                x->rope_factor == y->rope_factor);
    assert_int_equal(!a->rope_factors, !b->rope_factors);
    for (uint32_t i = 0; a->rope_factors && i < x->head_dim / 2; i++)
        assert_true(a->rope_factors[i] == b->rope_factors[i]);
}

/* Every tensor of b is that of a, byte for byte. */
static void same_tensors(const nib_source *a, const nib_source *b)
{
    assert_int_equal(nib_source_count(a), nib_source_count(b));
    for (size_t i = 0; i < nib_source_count(a); i++) {
        const nib_tensor *t = nib_source_at(a, i), *u = nib_source_find(b, t->name);
        if (!u) fail_msg("no %s", t->name);
        assert_ptr_equal(t->codec, u->codec);
        assert_int_equal(t->n_dims, u->n_dims);
        assert_memory_equal(t->shape, u->shape, (size_t)t->n_dims * sizeof *t->shape);
        uint8_t *x = tensor_bytes(a, t), *y = tensor_bytes(b, u);
        if (memcmp(x, y, (size_t)t->bytes)) fail_msg("%s differs", t->name);
        nib_free(x);
        nib_free(y);
    }
}

static void same_ids(const nib_source *a, const nib_source *b)
{
    static const char *const texts[] = {"Hello, world's 12345 \u4E16  \n\n e\u0301!",
                                        "<|im_start|>user\nhi<|im_end|><s></s><|end_of_text|>"};
    nib_err err = {0};
    nib_tokenizer *s, *t;
    assert_int_equal(nib_tokenizer_open(&s, a, &err), NIB_OK);
    assert_int_equal(nib_tokenizer_open(&t, b, &err), NIB_OK);
    assert_int_equal(nib_tokenizer_bos(s), nib_tokenizer_bos(t));
    assert_int_equal(nib_tokenizer_eos(s), nib_tokenizer_eos(t));
    for (size_t i = 0; i < 8; i++) {
        nib_ids x = {0}, y = {0};
        const char *text = texts[i / 4];
        assert_int_equal(nib_tokenizer_encode(s, text, strlen(text), i % 4, &x, &err), NIB_OK);
        assert_int_equal(nib_tokenizer_encode(t, text, strlen(text), i % 4, &y, &err), NIB_OK);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.id, y.id, x.n * sizeof *x.id);
        nib_ids_free(&x);
        nib_ids_free(&y);
    }
    nib_tokenizer_close(s);
    nib_tokenizer_close(t);
}

/* Through a GGUF file and back. */
static void round_trip(const char *model, const char *gguf_type, const char *type)
{
    char gguf[200], back[200];
    opened a, b;
    snprintf(gguf, sizeof gguf, "%s", scratch("way.gguf"));
    quantize_ok(model, &(nib_recipe){.out = gguf, .type = gguf_type, .force = true}, NULL);
    write_plain_ok(gguf, "back", (nib_recipe){.type = type, .force = true, .split_max = 400000});
    snprintf(back, sizeof back, "%s", scratch("back"));
    open_model(&a, model);
    open_model(&b, back);
    same_hparams(&a.model, &b.model);
    same_tensors(a.src, b.src);
    same_ids(a.src, b.src);
    close_model(&a);
    close_model(&b);
}

/* Each has something of its own: rows in pair order, divisors of rotary angles, biases, norms of
 * heads, heads wider than width / heads, normalization. */
static void models_come_back_from_gguf(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "llama3", "mistral", "qwen2", "qwen3"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s",
                 random_model(families[i], gen_family_find(families[i]), 64, 2, NIB_BF16));
        round_trip(path, "f32", "bf16");
        round_trip(path, "bf16", "bf16");
        snprintf(path, sizeof path, "%s",
                 random_model("f16", gen_family_find(families[i]), 64, 2, NIB_F16));
        round_trip(path, "f16", "f16");
    }
    round_trip(tiny_llama(), "f32", "bf16"); /* tied */
}

/* The configuration of a random model with more in it; the text of a JSON object's members. */
static void add_to_config(const char *folder, const char *members)
{
    nib_err err = {0};
    char *text, *more, path[256];
    size_t n;
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(nib_file_slurp(&text, &n, path, 1 << 20, &err), NIB_OK);
    assert_non_null(more = nib_alloc(n + strlen(members) + 2, 1));
    sprintf(more, "{%s,%s", members, strchr(text, '{') + 1);
    assert_int_equal(nib_file_save(path, more, strlen(more), true, &err), NIB_OK);
    nib_free(more);
    nib_free(text);
}

/* Mistral's in all layers, Qwen's in some; kept in GGUF, so in the folder too. */
static void sliding_windows_come_back(void **state)
{
    (void)state;
    static const char *const config[][2] = {
        {"mistral", "\"sliding_window\":100"},
        {"qwen2", "\"use_sliding_window\":true,\"sliding_window\":64,\"max_window_layers\":2"},
        {"qwen3", "\"use_sliding_window\":true,\"sliding_window\":64,\"layer_types\":["
                  "\"sliding_attention\",\"full_attention\",\"sliding_attention\"]"},
    };
    for (size_t i = 0; i < sizeof config / sizeof *config; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s",
                 random_model("window", gen_family_find(config[i][0]), 64, 3, NIB_BF16));
        add_to_config(path, config[i][1]);
        round_trip(path, "bf16", "bf16");
    }
}

static const char *text_in(const nib_json *j, const char *key)
{
    const char *text = "";
    nib_json_str(nib_json_get(j, key), &text);
    return text;
}

static void configuration_is_rebuilt(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_json *j;
    double v;
    uint64_t n;
    bool tied = false;
    char gguf[200];
    snprintf(gguf, sizeof gguf, "%s", scratch("llama3.gguf"));
    const char *model = random_model("config3", gen_family_find("llama3"), 64, 2, NIB_BF16);
    quantize_ok(model, &(nib_recipe){.out = gguf, .type = "bf16"}, NULL);
    write_plain_ok(gguf, "config", (nib_recipe){.type = "f16"});
    assert_int_equal(nib_json_load(&j, scratch("config/config.json"), 1 << 20, &err), NIB_OK);
    assert_string_equal(text_in(j, "model_type"), "llama");
    assert_string_equal(text_in(j, "torch_dtype"), "float16");
    assert_true(nib_json_num(nib_json_get(j, "rms_norm_eps"), &v) && v == 1e-5);
    assert_true(nib_json_u64(nib_json_get(j, "vocab_size"), &n) && n == 2100);
    assert_true(nib_json_bool(nib_json_get(j, "tie_word_embeddings"), &tied) && !tied);
    /* heads of 16: one divisor is blended */
    const nib_json *rope = nib_json_get(j, "rope_scaling");
    assert_string_equal(text_in(rope, "rope_type"), "llama3");
    assert_true(nib_json_num(nib_json_get(rope, "factor"), &v) && v == 8);
    assert_true(nib_json_num(nib_json_get(rope, "high_freq_factor"), &v) && v == 4);
    assert_true(nib_json_u64(nib_json_get(rope, "original_max_position_embeddings"), &n) &&
                n == 256);
    assert_true(nib_json_u64(nib_json_get(j, "bos_token_id"), &n));
    nib_json_free(j);
    /* A whole number that is a real one says so. */
    char *text;
    size_t size;
    assert_int_equal(nib_file_slurp(&text, &size, scratch("config/config.json"), 1 << 20, &err),
                     NIB_OK);
    expect_text(text, "500000.0");
    nib_free(text);
    assert_int_equal(nib_json_load(&j, scratch("config/generation_config.json"), 1 << 20, &err),
                     NIB_OK);
    assert_true(nib_json_u64(nib_json_get(j, "eos_token_id"), &n));
    nib_json_free(j);
}

static void threads_give_the_same_bytes(void **state)
{
    (void)state;
    nib_err err = {0};
    const nib_recipe r = {.type = "f16"};
    char gguf[200];
    snprintf(gguf, sizeof gguf, "%s", scratch("t.gguf"));
    quantize_ok(tiny_llama(), &(nib_recipe){.out = gguf, .type = "q4_k_m"}, NULL);
    assert_int_equal(write_plain(gguf, "t1", r, NULL, 1, &err), NIB_OK);
    assert_int_equal(write_plain(gguf, "t2", r, NULL, 2, &err), NIB_OK);
    assert_true(same_files(scratch("t1/model.safetensors"), scratch("t2/model.safetensors")));
}

/* The values are those that the packed folder stands for, the rest of it comes along. */
static void packed_folders_are_unpacked(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_json *j;
    char packed[200], plain[200];
    opened a, b;
    write_folder_ok("packed", (nib_recipe){.layout = {.bits = 4, .group = 64, .sym = true}}, 2);
    snprintf(packed, sizeof packed, "%s", scratch("packed"));
    write_plain_ok(packed, "unpacked", (nib_recipe){.type = "f32"});
    snprintf(plain, sizeof plain, "%s", scratch("unpacked"));
    open_model(&a, packed);
    open_model(&b, plain);
    assert_int_equal(nib_source_count(a.src), nib_source_count(b.src));
    for (size_t i = 0; i < nib_source_count(a.src); i++) {
        const nib_tensor *t = nib_source_at(a.src, i), *u = nib_source_find(b.src, t->name);
        float *x = tensor_values(a.src, t), *y = tensor_values(b.src, u);
        assert_memory_equal(x, y, (size_t)nib_tensor_elems(t) * sizeof *x);
        nib_free(x);
        nib_free(y);
    }
    close_model(&a);
    close_model(&b);
    assert_int_equal(nib_json_load(&j, scratch("unpacked/config.json"), 1 << 20, &err), NIB_OK);
    assert_null(nib_json_get(j, "quantization_config"));
    assert_string_equal(text_in(j, "torch_dtype"), "float32");
    nib_json_free(j);
    assert_false(nib_file_exists(scratch("unpacked/quantize_config.json")));
    assert_true(same_files(scratch("packed/tokenizer.json"), scratch("unpacked/tokenizer.json")));
}

/* A GGUF file of the demonstration model with some keys and tensors beside its own. */
static const char *odd_gguf(const char *name, float divisor, bool bias)
{
    nib_err err = {0};
    nib_gguf_writer *w;
    nib_gguf_tensor t[64];
    char whole[200];
    size_t n = 0;
    static float some[256];
    snprintf(whole, sizeof whole, "%s", scratch("whole.gguf"));
    quantize_ok(tiny_llama(), &(nib_recipe){.out = whole, .type = "f32", .force = true}, NULL);
    opened o;
    open_model(&o, whole);
    for (size_t i = 0; i < nib_source_count(o.src); i++) {
        const nib_tensor *s = nib_source_at(o.src, i);
        t[n] = (nib_gguf_tensor){.name = s->name, .type = s->codec->type, .n_dims = s->n_dims};
        memcpy(t[n++].shape, s->shape, (size_t)s->n_dims * sizeof *s->shape);
    }
    const size_t own = n;
    const uint64_t half = o.model.hp.head_dim / 2;
    for (size_t i = 0; i < 256; i++) some[i] = 1;
    some[1] = divisor;
    if (divisor > 1)
        t[n++] = (nib_gguf_tensor){
            .name = "rope_freqs.weight", .type = NIB_F32, .n_dims = 1, .shape = {half}};
    if (bias)
        t[n++] = (nib_gguf_tensor){
            .name = "blk.0.ffn_down.bias", .type = NIB_F32, .n_dims = 1, .shape = {256}};
    assert_int_equal(nib_gguf_begin(&w, scratch(name), nib_source_kvs(o.src), t, n, 0, true, &err),
                     NIB_OK);
    for (size_t i = 0; i < n; i++) {
        const nib_tensor *s = i < own ? nib_source_at(o.src, i) : NULL;
        uint8_t *data = s ? tensor_bytes(o.src, s) : NULL;
        if (nib_gguf_write(w, i, s ? (void *)data : some,
                           s ? (size_t)s->bytes : (size_t)t[i].shape[0] * 4, &err))
            fail_msg("%s", err.msg);
        nib_free(data);
    }
    assert_int_equal(nib_gguf_end(w, &err), NIB_OK);
    close_model(&o);
    return scratch(name);
}

static void refused(const char *model, nib_recipe r, const nib_imatrix *im, nib_code code,
                    const char *says)
{
    nib_err err = {0};
    assert_int_equal(write_plain(model, "no", r, im, 1, &err), code);
    expect_text(err.msg, says);
    assert_false(nib_file_exists(scratch("no")));
    assert_int_equal(scratch_count("nibble-"), 0);
}

static void what_a_folder_cannot_say_is_refused(void **state)
{
    (void)state;
    const char *tiny = tiny_llama();
    const nib_imatrix im = {0};
    const nib_recipe bf16 = {.type = "bf16"};
    refused(tiny, (nib_recipe){0}, NULL, NIB_EINVAL, "needs --type f32, f16 or bf16");
    refused(tiny, (nib_recipe){.type = "q4_k_m"}, NULL, NIB_EINVAL, "not 'q4_k_m'");
    refused(tiny, (nib_recipe){.type = "q4_k"}, NULL, NIB_EINVAL, "not 'q4_k'");
    refused(tiny, (nib_recipe){.type = "bf16", .method = NIB_METHOD_GPTQ}, NULL, NIB_EINVAL,
            "--method");
    refused(tiny, (nib_recipe){.type = "bf16", .pure = true}, NULL, NIB_EINVAL, "--pure");
    refused(tiny, bf16, &im, NIB_EINVAL, "--imatrix");
    refused(odd_gguf("freqs.gguf", 1.5f, false), bf16, NULL, NIB_EFORMAT, "'rope_freqs.weight'");
    refused(odd_gguf("bias.gguf", 1, true), bf16, NULL, NIB_EFORMAT, "only some");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_come_back_from_gguf),
        cmocka_unit_test(sliding_windows_come_back),
        cmocka_unit_test(configuration_is_rebuilt),
        cmocka_unit_test(threads_give_the_same_bytes),
        cmocka_unit_test(packed_folders_are_unpacked),
        cmocka_unit_test(what_a_folder_cannot_say_is_refused),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
