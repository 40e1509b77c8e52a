/* SPDX-License-Identifier: MIT */
/* Plans: order, formats and reasons, metadata, and every mistake that can be known before work
 * begins. The user's wishes for single tensors: test_override.c. */
#include "base/file.h"
#include "tests/run/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { NOBODY = 65534 };

/* ---- what a plan says ---- */

static void order_of_the_file(void **state)
{
    (void)state;
    static const char *const first[] = {
        "output_norm.weight",     "token_embd.weight",        "blk.0.attn_k.weight",
        "blk.0.attn_norm.weight", "blk.0.attn_output.weight", "blk.0.attn_q.weight",
        "blk.0.attn_v.weight",    "blk.0.ffn_down.weight",    "blk.0.ffn_gate.weight",
        "blk.0.ffn_norm.weight",  "blk.0.ffn_up.weight",      "blk.1.attn_k.weight"};
    nib_plan p;
    plan_ok(&p, &(nib_recipe){.type = "q8_0"}, NULL);
    assert_int_equal(p.n, 2 + 4 * 9);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        assert_string_equal(p.tensor[i].name, first[i]);
    nib_plan_free(&p);
}

/* 12 blocks: blk.2 before blk.10. */
static void order_of_many_layers(void **state)
{
    (void)state;
    opened o;
    nib_plan p;
    nib_err err = {0};
    nib_ctx ctx = {.threads = 1};
    open_model(&o, random_model("deep", gen_family_find("qwen3"), 32, 12, NIB_BF16));
    nib_recipe r = {.type = "q8_0"};
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_OK);
    size_t at[12];
    for (unsigned l = 0; l < 12; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.attn_q.weight", l);
        at[l] = (size_t)(find_planned(&p, name) - p.tensor);
        assert_true(l == 0 || at[l] > at[l - 1]);
    }
    nib_plan_free(&p);
    close_model(&o);
}

/* 4 layers: 4 // 8 = 0, 7 * 4 // 8 = 3, so layers 2 and 3 get more bits. */
static void the_mix_and_its_reasons(void **state)
{
    (void)state;
    nib_plan p;
    plan_ok(&p, &(nib_recipe){.type = "q4_k_m"}, NULL);
    expect_type(&p, "token_embd.weight", "q6_k", "output matrix (tied embedding)");
    expect_type(&p, "output_norm.weight", "f32", "norms and biases stay f32");
    expect_type(&p, "blk.0.attn_v.weight", "q4_k", "base type");
    expect_type(&p, "blk.1.ffn_down.weight", "q4_k", "base type");
    expect_type(&p, "blk.2.attn_v.weight", "q6_k", "more bits");
    expect_type(&p, "blk.3.ffn_down.weight", "q6_k", "more bits");
    assert_int_equal(find_planned(&p, "blk.0.attn_q.weight")->order.head, 64);
    assert_int_equal(find_planned(&p, "blk.0.attn_k.weight")->order.head, 64);
    assert_int_equal(find_planned(&p, "blk.0.attn_v.weight")->order.head, 0);
    assert_int_not_equal(find_planned(&p, "blk.0.attn_v.weight")->action, NIB_ACTION_COPY);
    assert_int_equal(p.n_fallback, 0);

    /* Bits: embedding 2048 x 256 at 6.5625; per layer q, o 256 x 256, k 128 x 256, gate, up 512 x
     * 256 at 4.5; v 128 x 256 and down 256 x 512 at 4.5 twice and at 6.5625 twice; 9 norms. */
    double q4 = 4 * (2 * 65536 + 32768 + 2 * 131072) + 2 * (32768 + 131072);
    double q6 = 2 * (32768 + 131072), norms = 9 * 256;
    double inner = q4 + q6 + norms, bits = q4 * 4.5 + q6 * 6.5625 + norms * 32;
    assert_true((double)p.weights == inner + 524288);
    assert_true((double)p.bytes * 8 == bits + 524288 * 6.5625);
    assert_true(p.bits_per_weight == (bits + 524288 * 6.5625) / (inner + 524288));
    assert_true(p.bits_per_weight_inner == bits / inner);
    nib_plan_free(&p);
}

static void untied_models(void **state)
{
    (void)state;
    opened o;
    nib_plan p;
    nib_err err = {0};
    nib_ctx ctx = {.threads = 1};
    open_model(&o, random_model("untied", gen_family_find("llama3"), 256, 1, NIB_F16));
    nib_recipe r = {.type = "q4_k_m"};
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_OK);
    expect_type(&p, "output.weight", "q6_k", "output matrix");
    expect_type(&p, "token_embd.weight", "q4_k", "base type");
    /* The rotation's divisors travel as a tensor. */
    expect_type(&p, "rope_freqs.weight", "f32", "rotary");
    assert_int_equal(find_planned(&p, "rope_freqs.weight")->cols, 32);
    nib_plan_free(&p);
    r.leave_output = true;
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_OK);
    expect_type(&p, "output.weight", "f16", "left as it is");
    nib_plan_free(&p);
    close_model(&o);
}

static void rows_that_are_not_whole_blocks(void **state)
{
    (void)state;
    opened o;
    nib_plan p;
    nib_err err = {0};
    nib_ctx ctx = {.threads = 1};
    open_model(&o, random_model("narrow", gen_family_find("qwen2"), 96, 1, NIB_BF16));
    nib_recipe r = {.type = "q4_k_m"};
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_OK);
    expect_type(&p, "blk.0.attn_q.weight", "q5_0", "stands in for q4_k: rows of 96");
    expect_type(&p, "output.weight", "q8_0", "output matrix");
    assert_int_equal(p.n_fallback, 5 + 1 + 1 + 1); /* q k o gate up, v, down, embedding */
    nib_plan_free(&p);
    r.pure = true;
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_EINVAL);
    expect_text(err.msg, "rows of 96 weights are not whole blocks of q4_k (256); --pure allows no");
    r = (nib_recipe){.type = "q4_0", .output_type = "q6_k"};
    assert_int_equal(nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err), NIB_EINVAL);
    expect_text(err.msg, "'output.weight': rows of 96 weights are not whole blocks of q6_k (256)");
    close_model(&o);
}

static void importances(void **state)
{
    (void)state;
    nib_imatrix im;
    nib_plan p;
    fake_imatrix(&im, &tiny.model);
    nib_recipe r = {.type = "q4_0"};
    plan_ok(&p, &r, &im);
    assert_int_equal(p.n_with_importance, 4 * 7);
    assert_int_equal(p.n_without_importance, 1); /* the embedding */
    const nib_plan_tensor *t = find_planned(&p, "blk.2.attn_q.weight");
    const nib_imatrix_entry *e = nib_imatrix_find(&im, t->name);
    for (size_t c = 0; c < e->cols; c++)
        assert_true(t->importance[c] == (float)(e->in_sum2[c] / 2));
    uint64_t n;
    nib_str s;
    assert_true(nib_gguf_get_u64(p.kvs, "quantize.imatrix.entries_count", &n) && n == 28);
    assert_true(nib_gguf_get_u64(p.kvs, "quantize.imatrix.chunks_count", &n) && n == 3);
    assert_true(nib_gguf_get_str(p.kvs, "quantize.imatrix.file", &s));
    assert_string_equal(s.p, "some/stats.gguf");
    assert_true(nib_gguf_get_str(p.kvs, "quantize.imatrix.dataset", &s));
    assert_string_equal(s.p, "text.txt");
    nib_plan_free(&p);

    r.type = "q2_k_s";
    plan_ok(&p, &r, &im);
    nib_plan_free(&p);
    plan_fails(&r, NULL, NIB_EINVAL, "'blk.0.attn_k.weight': q2_k_s needs importances");
    nib_imatrix_find(&im, "blk.1.ffn_up.weight")->cols = 255;
    plan_fails(&r, &im, NIB_EFORMAT, "some/stats.gguf: entry 'blk.1.ffn_up.weight' has 1 x 255");
    nib_imatrix_free(&im);
}

/* Folders: for weights that are rounded without a look at activations, under the model's names. */
static void importances_of_folders(void **state)
{
    (void)state;
    nib_imatrix im;
    nib_plan p;
    fake_imatrix(&im, &tiny.model);
    nib_recipe r = {.format = NIB_FORMAT_DIR,
                    .layout = {.bits = 4, .group = 64, .sym = true},
                    .scales = NIB_SCALES_SQUARE};
    plan_ok(&p, &r, &im);
    assert_int_equal(p.n_with_importance, 4 * 7);
    assert_int_equal(p.n_without_importance, 0);
    const nib_plan_tensor *t = find_planned(&p, "model.layers.2.self_attn.q_proj.weight");
    const nib_imatrix_entry *e = nib_imatrix_find(&im, "blk.2.attn_q.weight");
    for (size_t c = 0; c < e->cols; c++)
        assert_true(t->importance[c] == (float)(e->in_sum2[c] / 2));
    nib_plan_free(&p);
    r.scales = NIB_SCALES_RANGE;
    plan_ok(&p, &r, &im);
    assert_int_equal(p.n_with_importance, 0);
    nib_plan_free(&p);
    r.scales = NIB_SCALES_SQUARE;
    r.method = NIB_METHOD_GPTQ;
    plan_ok(&p, &r, &im);
    assert_int_equal(p.n_with_importance, 0);
    nib_plan_free(&p);
    r.method = NIB_METHOD_RTN;
    nib_imatrix_find(&im, "blk.1.ffn_up.weight")->cols = 255;
    plan_fails(&r, &im, NIB_EFORMAT, "some/stats.gguf: entry 'blk.1.ffn_up.weight' has 1 x 255");
    nib_imatrix_free(&im);
}

static void expect_u32(const nib_gguf_kvs *k, const char *key, uint32_t want)
{
    const nib_gguf_kv *kv = nib_gguf_kvs_find(k, key);
    uint64_t v;
    if (!kv) fail_msg("no key %s", key);
    assert_int_equal(kv->type, NIB_GGUF_U32);
    assert_true(nib_gguf_get_u64(k, key, &v));
    assert_int_equal(v, want);
}

static void expect_str(const nib_gguf_kvs *k, const char *key, const char *want)
{
    nib_str s;
    if (!nib_gguf_get_str(k, key, &s)) fail_msg("no key %s", key);
    assert_string_equal(s.p, want);
}

static void metadata(void **state)
{
    (void)state;
    nib_plan p;
    plan_ok(&p, &(nib_recipe){.type = "q5_k_s"}, NULL);
    expect_str(p.kvs, "general.architecture", "llama");
    expect_str(p.kvs, "general.type", "model");
    expect_str(p.kvs, "general.name", "tiny-llama");
    expect_str(p.kvs, "general.size_label", "2.9M");
    expect_str(p.kvs, "tokenizer.ggml.model", "gpt2");
    expect_u32(p.kvs, "general.file_type", 16);
    expect_u32(p.kvs, "general.quantization_version", 2);
    expect_u32(p.kvs, "llama.block_count", 4);
    expect_u32(p.kvs, "llama.embedding_length", 256);
    expect_u32(p.kvs, "llama.attention.head_count_kv", 2);
    const void *tokens;
    size_t n;
    assert_true(nib_gguf_get_arr(p.kvs, "tokenizer.ggml.tokens", NIB_GGUF_STR, &tokens, &n));
    assert_int_equal(n, 2048);
    assert_null(nib_gguf_kvs_find(p.kvs, "quantize.imatrix.file"));
    nib_plan_free(&p);
}

static void as_json(void **state)
{
    (void)state;
    nib_plan p;
    plan_ok(&p, &(nib_recipe){.type = "q4_0"}, NULL);
    nib_json *j = nib_plan_json(&p);
    double v = 0;
    assert_non_null(j);
    assert_true(nib_json_num(nib_json_get(j, "total_bytes"), &v));
    assert_true(v == (double)p.layout.total_bytes);
    assert_int_equal(nib_json_count(nib_json_get(j, "tensors")), p.n);
    const nib_json *first = nib_json_first(nib_json_get(j, "tensors"));
    const char *s;
    assert_true(nib_json_str(nib_json_get(first, "name"), &s));
    assert_string_equal(s, "output_norm.weight");
    nib_json_free(j);
    nib_plan_free(&p);
}

/* ---- mistakes ---- */

static void wrong_recipes(void **state)
{
    (void)state;
    static const char *const no_type[] = {"attn_v"}, *const no_regex[] = {"=q8_0"},
                             *const bad_type[] = {"attn_v=q9_9"},
                             *const bad_regex[] = {"attn_(v=q8_0"};
    plan_fails(&(nib_recipe){.type = "q4_k_xl"}, NULL, NIB_EINVAL, "unknown file type 'q4_k_xl'");
    plan_fails(&(nib_recipe){.type = "iq2_m"}, NULL, NIB_EINVAL, "iq2_m needs importances");
    plan_fails(&(nib_recipe){.tensor_types = no_type, .n_tensor_types = 1}, NULL, NIB_EINVAL,
               "'attn_v': not of the form REGEX=TYPE");
    plan_fails(&(nib_recipe){.tensor_types = no_regex, .n_tensor_types = 1}, NULL, NIB_EINVAL,
               "REGEX=TYPE");
    plan_fails(&(nib_recipe){.tensor_types = bad_type, .n_tensor_types = 1}, NULL, NIB_EINVAL,
               "'attn_v=q9_9': tensor type 'q9_9' cannot be written; these can: f32, f16");
    plan_fails(&(nib_recipe){.tensor_types = bad_regex, .n_tensor_types = 1}, NULL, NIB_EINVAL,
               "'attn_(v=q8_0': missing closing parenthesis, at character 8");
    plan_fails(&(nib_recipe){.output_type = "i8"}, NULL, NIB_EINVAL, "tensor type 'i8' cannot be");
    plan_fails(&(nib_recipe){.embedding_type = "q4_k_m"}, NULL, NIB_EINVAL, "'q4_k_m' cannot be");
}

static void wrong_targets(void **state)
{
    (void)state;
    char path[256];
    nib_recipe r = {.out = scratch("old.gguf"), .type = "q4_0"};
    nib_plan p;
    FILE *f = fopen(r.out, "w");
    assert_non_null(f);
    fclose(f);
    plan_fails(&r, NULL, NIB_EIO, "old.gguf: exists already; --force replaces it");
    r.force = true;
    plan_ok(&p, &r, NULL);
    nib_plan_free(&p);
    r.out = scratch("nowhere/x.gguf");
    plan_fails(&r, NULL, NIB_EIO, "nowhere': No such file or directory");
    r.out = scratch("old.gguf/x.gguf");
    plan_fails(&r, NULL, NIB_EIO, "old.gguf' is not a folder");
    mkdir(scratch("folder"), 0777);
    r.out = scratch("folder");
    plan_fails(&r, NULL, NIB_EIO, "folder: is a folder");
    snprintf(path, sizeof path, "%s/model.safetensors", tiny_llama());
    r.out = path;
    plan_fails(&r, NULL, NIB_EINVAL, "model.safetensors: is a file of the model");
}

/* In a process without privileges: root may write everywhere. */
static void unwritable_folder(void **state)
{
    (void)state;
    nib_recipe r = {.out = scratch("locked/x.gguf"), .type = "q4_0"};
    assert_int_equal(mkdir(scratch("locked"), 0555), 0);
    assert_int_equal(chmod(scratch(""), 0755), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        nib_plan p;
        nib_err err = {0};
        if (!getuid() && setuid(NOBODY)) _exit(2);
        nib_code rc = try_plan(&p, &r, NULL, &err);
        _exit(rc == NIB_EIO && strstr(err.msg, "cannot write into folder") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void small_disk(void **state)
{
    (void)state;
    mkdir(scratch("disk"), 0777);
    assert_int_equal(mount("tmpfs", scratch("disk"), "tmpfs", 0, "size=1m"), 0);
    nib_recipe r = {.out = scratch("disk/x.gguf"), .type = "q4_0"};
    nib_plan p;
    nib_err err = {0};
    nib_code rc = try_plan(&p, &r, NULL, &err);
    umount(scratch("disk"));
    assert_int_equal(rc, NIB_EIO);
    expect_text(err.msg, "MB of disk, and 1.0 MB are free");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_the_file),
        cmocka_unit_test(order_of_many_layers),
        cmocka_unit_test(the_mix_and_its_reasons),
        cmocka_unit_test(untied_models),
        cmocka_unit_test(rows_that_are_not_whole_blocks),
        cmocka_unit_test(importances),
        cmocka_unit_test(importances_of_folders),
        cmocka_unit_test(metadata),
        cmocka_unit_test(as_json),
        cmocka_unit_test(wrong_recipes),
        cmocka_unit_test(wrong_targets),
        cmocka_unit_test(unwritable_folder),
        cmocka_unit_test(small_disk), /* the last: only where one may be mounted */
    };
    size_t n = sizeof tests / sizeof *tests - !may_mount();
    return _cmocka_run_group_tests("plan", tests, n, open_tiny, close_tiny);
}
