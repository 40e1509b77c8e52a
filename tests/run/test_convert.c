/* SPDX-License-Identifier: MIT */
/* Conversions: there and back gives the same bytes, every value on the way is the source's, and
 * what a container cannot hold is refused or, when asked for, rounded. */
#include "base/file.h"
#include "base/str.h"
#include "formats/gguf.h"
#include "infer/graph.h"
#include "run/job.h"
#include "tests/run/folders.h"
#include "tests/run/w8a8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static nib_code convert(const char *from, const char *to, nib_recipe r, size_t *exact, nib_err *err)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_job job;
    nib_job_opts opts = {.model = from, .recipe = r, .solve = nib_solve_defaults()};
    opts.recipe.convert = opts.recipe.force = true;
    opts.recipe.out = to;
    nib_code rc = nib_job_open(&job, &opts, &ctx, err);
    if (!rc) rc = nib_job_plan(&job, &ctx, err);
    if (!rc) rc = nib_job_run(&job, &ctx, err);
    size_t n = 0;
    for (size_t i = 0; i < job.plan.n; i++) n += job.plan.tensor[i].exact;
    for (size_t i = 0; i < job.plan.n && !rc; i++)
        if (!*job.plan.tensor[i].reason) fail_msg("no reason for %s", job.plan.tensor[i].name);
    if (exact) *exact = job.plan.n - n;
    nib_job_close(&job);
    return rc;
}

/* Must succeed, with so many tensors rounded. */
static void convert_ok(const char *from, const char *to, nib_recipe r)
{
    nib_err err = {0};
    size_t rounded;
    if (convert(from, to, r, &rounded, &err)) fail_msg("%s to %s: %s", from, to, err.msg);
    assert_int_equal(rounded, 0);
}

static nib_recipe folder(nib_packing_kind kind)
{
    return (nib_recipe){.format = NIB_FORMAT_DIR, .layout = {.kind = kind}};
}

/* ---- are they the same? ---- */

/* Values of every weight that the models have, wherever rows lie, are equal. */
static void same_values(const char *a, const char *b)
{
    opened x, y;
    open_model(&x, a);
    open_model(&y, b);
    const bool turned = x.model.rope_interleaved != y.model.rope_interleaved;
    for (size_t i = 0; i < x.model.n_placed; i++) {
        const nib_place at = x.model.placed[i].place;
        if (at.expert == NIB_EXPERTS_ALL) continue;
        const nib_tensor *t = nib_model_tensor(&x.model, at), *u = nib_model_tensor(&y.model, at);
        if (!u) fail_msg("%s is not in %s", t->name, b);
        const size_t rows = (size_t)nib_tensor_rows(t), cols = (size_t)nib_tensor_cols(t);
        float *v = tensor_values(x.src, t), *w = tensor_values(y.src, u);
        const bool pairs = turned && (at.role == NIB_ROLE_ATTN_Q || at.role == NIB_ROLE_ATTN_K);
        const size_t n = at.bias ? cols : rows, width = at.bias ? 1 : cols;
        for (size_t r = 0; r < n; r++) {
            const uint32_t head = x.model.hp.head_dim;
            const size_t from = !pairs                     ? r
                                : y.model.rope_interleaved ? (size_t)nib_rope_paired_row(r, head)
                                                           : (size_t)nib_rope_source_row(r, head);
            for (size_t c = 0; c < width; c++)
                if (v[r * width + c] != w[from * width + c])
                    fail_msg("%s and %s: %s, row %zu, column %zu: %a and %a", a, b, t->name, r, c,
                             (double)v[r * width + c], (double)w[from * width + c]);
        }
        nib_free(v);
        nib_free(w);
    }
    close_model(&x);
    close_model(&y);
}

static void same_weights_file(const char *a, const char *b)
{
    char x[512], y[512];
    snprintf(x, sizeof x, "%s/model.safetensors", a);
    snprintf(y, sizeof y, "%s/model.safetensors", b);
    if (!same_files(x, y)) fail_msg("%s and %s differ", x, y);
}

/* Paths that stay. */
static char path[8][256];
static const char *keep(int i, const char *name)
{
    snprintf(path[i], sizeof path[i], "%s", scratch(name));
    return path[i];
}

static const char *quantized(const char *model, const char *name, nib_packing layout)
{
    nib_err err = {0};
    const nib_recipe r = {.layout = layout, .force = true};
    if (write_folder_of(model, name, r, NULL, 2, &err)) fail_msg("%s: %s", name, err.msg);
    return keep(0, name);
}

/* ---- between folders ---- */

static void folders_to_folders(void **state)
{
    (void)state;
    static const struct {
        nib_packing from;
        nib_packing_kind to;
    } pairs[] = {
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true}, NIB_PACKING_AWQ},
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64, .sym = true}, NIB_PACKING_CT_PACKED},
        {{.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 64, .sym = true}, NIB_PACKING_CT_PACKED},
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 32}, NIB_PACKING_AWQ},
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 0}, NIB_PACKING_CT_PACKED},
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64, .sym = true}, NIB_PACKING_GPTQ},
        {{.kind = NIB_PACKING_GPTQ, .bits = 3, .group = 64}, NIB_PACKING_GPTQ},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *from = quantized(tiny_llama(), "packed", pairs[i].from);
        const char *to = keep(1, "other"), *back = keep(2, "back");
        nib_recipe again = folder(pairs[i].from.kind);
        again.sym_given = true; /* AWQ has zero points, whatever they are */
        again.layout.sym = pairs[i].from.sym;
        convert_ok(from, to, folder(pairs[i].to));
        convert_ok(to, back, again);
        same_values(from, to);
        same_weights_file(from, back);
    }
}

static void versions_of_gptq(void **state)
{
    (void)state;
    const nib_packing v1 = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64};
    const char *from = quantized(tiny_llama(), "v1", v1), *to = keep(1, "v2");
    nib_recipe r = folder(NIB_PACKING_GPTQ);
    r.layout.v2 = true;
    convert_ok(from, to, r);
    same_values(from, to);
    r.layout.v2 = false;
    convert_ok(to, keep(2, "again"), r);
    same_weights_file(from, path[2]);
}

/* ---- into GGUF files and back ---- */

static void expect_all(const char *gguf, nib_type type)
{
    opened o;
    open_model(&o, gguf);
    for (size_t i = 0; i < o.model.n_placed; i++) {
        const nib_place at = o.model.placed[i].place;
        if (!nib_role_is_linear(at.role) || at.bias) continue;
        assert_string_equal(o.model.placed[i].tensor->codec->name, nib_codec_get(type)->name);
    }
    close_model(&o);
}

static void folders_to_gguf_and_back(void **state)
{
    (void)state;
    static const struct {
        nib_packing from;
        nib_type type;
        bool back;
    } cases[] = {
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true}, NIB_Q4_0, true},
        {{.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 32, .sym = true}, NIB_Q8_0, true},
        {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64}, NIB_Q5_0, false},
        {{.kind = NIB_PACKING_AWQ, .bits = 4, .group = 32}, NIB_Q5_0, false},
        {{.kind = NIB_PACKING_GPTQ, .bits = 3, .group = 64}, NIB_Q4_0, false},
        {{.kind = NIB_PACKING_GPTQ, .bits = 2, .group = 32, .sym = true}, NIB_Q4_0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *from = quantized(tiny_llama(), "packed", cases[i].from);
        const char *gguf = keep(1, "way.gguf"), *back = keep(2, "back"), *twice = keep(3, "2.gguf");
        nib_recipe r = folder(cases[i].from.kind);
        convert_ok(from, gguf, (nib_recipe){0});
        expect_all(gguf, cases[i].type);
        same_values(from, gguf);
        r.group_given = r.bits_given = r.sym_given = true;
        r.layout = cases[i].from;
        convert_ok(gguf, back, r);
        same_values(gguf, back);
        if (cases[i].back) same_weights_file(from, back);
        convert_ok(back, twice, (nib_recipe){0});
        same_values(gguf, twice);
    }
}

/* Biases, norms of heads, rows in pair order or not, experts. */
static void every_kind_of_model(void **state)
{
    (void)state;
    static const char *const families[] = {"llama3", "qwen2", "qwen3", "qwen3moe"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const gen_family *f = gen_family_find(families[i]);
        const char *model = keep(4, "model");
        snprintf(path[4], sizeof path[4], "%s", random_model("model", f, 64, 2, NIB_BF16));
        const nib_packing p = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 32, .sym = true};
        const char *from = quantized(model, "packed", p);
        const char *gguf = keep(1, "way.gguf"), *back = keep(2, "back");
        convert_ok(from, gguf, (nib_recipe){0});
        same_values(from, gguf);
        if (f->moe) continue; /* its configuration is not rebuilt from GGUF */
        convert_ok(gguf, back, folder(NIB_PACKING_GPTQ));
        same_values(from, back);
        same_weights_file(from, back);
    }
}

static void gguf_to_folders(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        nib_packing_kind kind;
    } cases[] = {{"q4_0", NIB_PACKING_GPTQ},      {"q4_0", NIB_PACKING_AWQ},
                 {"q4_0", NIB_PACKING_CT_PACKED}, {"q8_0", NIB_PACKING_GPTQ},
                 {"q8_0", NIB_PACKING_CT_PACKED}, {"q5_0", NIB_PACKING_CT_PACKED},
                 {"q6_k", NIB_PACKING_CT_PACKED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *gguf = keep(0, "in.gguf"), *to = keep(1, "out"), *back = keep(2, "back.gguf");
        quantize_ok(tiny_llama(), &(nib_recipe){.out = gguf, .type = cases[i].type, .force = true},
                    NULL);
        convert_ok(gguf, to, folder(cases[i].kind));
        same_values(gguf, to);
        if (!strcmp(cases[i].type, "q6_k")) continue; /* scales of 16 columns, in f32 */
        convert_ok(to, back, (nib_recipe){.type = cases[i].type});
        same_values(gguf, back);
    }
}

/* ---- plain folders, and files in parts ---- */

static void packed_to_plain(void **state)
{
    (void)state;
    nib_err err = {0};
    const nib_packing p = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64};
    const char *from = quantized(tiny_llama(), "packed", p), *to = keep(1, "plain");
    const nib_recipe plain = {.format = NIB_FORMAT_PLAIN, .split_max = 3000000};
    convert_ok(from, to, plain);
    same_values(from, to);
    nib_recipe narrow = plain;
    narrow.type = "bf16";
    assert_int_equal(convert(from, to, narrow, NULL, &err), NIB_EINVAL);
    expect_text(err.msg, "bf16 does not hold its values; --requantize rounds them: values change");
    narrow.requantize = true;
    size_t rounded;
    assert_int_equal(convert(from, to, narrow, &rounded, &err), NIB_OK);
    assert_int_equal(rounded, 28);
}

static void split_and_joined(void **state)
{
    (void)state;
    const char *whole = keep(0, "whole.gguf"), *parts = keep(1, "parts.gguf");
    quantize_ok(tiny_llama(), &(nib_recipe){.out = whole, .type = "q4_k_m"}, NULL);
    convert_ok(whole, parts, (nib_recipe){.split_max = 400000});
    keep(3, "parts-00001-of-00006.gguf");
    for (int n = 2; n < 9 && !nib_file_exists(path[3]); n++) {
        char name[64];
        snprintf(name, sizeof name, "parts-00001-of-%05d.gguf", n);
        keep(3, name);
    }
    assert_true(nib_file_exists(path[3]));
    convert_ok(path[3], keep(2, "joined.gguf"), (nib_recipe){0});
    assert_true(same_models(whole, path[2]));
}

static void shards(void **state)
{
    (void)state;
    const char *a = keep(0, "shards"), *b = keep(1, "one");
    convert_ok(tiny_llama(), a, (nib_recipe){.format = NIB_FORMAT_PLAIN, .split_max = 1000000});
    convert_ok(a, b, (nib_recipe){.format = NIB_FORMAT_PLAIN});
    same_values(tiny_llama(), a);
    same_values(tiny_llama(), b);
    assert_true(nib_file_exists(scratch("shards/model.safetensors.index.json")));
    assert_true(nib_file_exists(scratch("one/model.safetensors")));
}

/* ---- columns in order of activation ---- */

static void refuses(const char *from, nib_recipe r, const char *text)
{
    nib_err err = {0};
    if (!convert(from, scratch("refused"), r, NULL, &err)) fail_msg("should say '%s'", text);
    assert_int_equal(err.code, NIB_EINVAL);
    expect_text(err.msg, text);
    assert_false(nib_file_exists(scratch("refused")));
}

enum { n_vocab = 2048 };

static void take_logits(void *arg, size_t row, const float *logits, size_t n)
{
    assert_int_equal(n, n_vocab);
    memcpy((float *)arg + row * n, logits, n * sizeof *logits);
}

/* Logits of the two models on a few tokens are the same, but for the order in which sums go. */
static void same_logits(const char *a, const char *b)
{
    static const int32_t id[] = {5, 700, 31, 900, 44, 12, 1500, 9};
    enum { N = sizeof id / sizeof *id };
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    opened o[2];
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        const size_t n = (size_t)N * n_vocab;
        nib_graph *g;
        size_t row[N];
        float *x;
        open_model(&o[i], i ? b : a);
        x = nib_alloc((size_t)N * o[i].model.hp.n_embd, sizeof *x);
        logits[i] = nib_alloc(n, sizeof(float));
        for (size_t r = 0; r < N; r++) row[r] = r;
        assert_int_equal(nib_graph_new(&g, &o[i].model, &ctx, 1, N, false, &err), NIB_OK);
        assert_int_equal(nib_graph_embed(g, id, N, x, &err), NIB_OK);
        for (uint32_t l = 0; l < o[i].model.hp.n_layer; l++)
            assert_int_equal(nib_graph_block(g, l, x, 1, N, 0, NULL, &err), NIB_OK);
        assert_int_equal(nib_graph_logits(g, x, row, N, take_logits, logits[i], NULL, &err),
                         NIB_OK);
        nib_graph_free(g);
        nib_free(x);
    }
    for (size_t i = 0; i < (size_t)N * n_vocab; i++)
        assert_true(fabsf(logits[0][i] - logits[1][i]) < 2e-4f);
    for (int i = 0; i < 2; i++) {
        nib_free(logits[i]);
        close_model(&o[i]);
    }
}

static bool in_order(const char *model, const char *name)
{
    opened o;
    nib_int_groups g;
    bool natural = true;
    open_model(&o, model);
    const nib_tensor *t = nib_source_find(o.src, name);
    assert_true(t && nib_tensor_ints(t, &g));
    for (size_t c = 0; g.g_idx && c < nib_tensor_cols(t); c++) natural &= g.g_idx[c] == c / g.group;
    close_model(&o);
    return natural;
}

static const char *solved_folder(void)
{
    char text[300];
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_job job;
    snprintf(text, sizeof text, "%s/../eval.txt", tiny_llama());
    const nib_text_spec spec = {.path = text};
    nib_job_opts opts = {.model = tiny_llama(),
                         .recipe = {.format = NIB_FORMAT_DIR,
                                    .method = NIB_METHOD_GPTQ,
                                    .out = keep(5, "by-activation"),
                                    .force = true,
                                    .layout = {.kind = NIB_PACKING_GPTQ,
                                               .bits = 4,
                                               .group = 64,
                                               .sym = true,
                                               .desc_act = true}},
                         .text = {.text = &spec, .n_texts = 1, .n_ctx = 64, .samples = 8},
                         .solve = nib_solve_defaults()};
    opts.solve.gptq.when = NIB_PARAMS_REACHED;
    opts.solve.gptq.sweeps = 0;
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
    return path[5];
}

static void order_of_activation(void **state)
{
    (void)state;
    static const char down[] = "model.layers.1.mlp.down_proj.weight",
                      q[] = "model.layers.1.self_attn.q_proj.weight";
    nib_err err = {0};
    size_t rounded;
    const char *from = solved_folder(), *to = keep(1, "in-order"), *gguf = keep(2, "o.gguf");
    assert_false(in_order(from, down));
    convert_ok(from, to, folder(NIB_PACKING_GPTQ));
    assert_true(in_order(to, down));
    assert_false(in_order(to, q));
    same_logits(from, to);
    assert_int_equal(convert(from, gguf, (nib_recipe){.requantize = true}, &rounded, &err), NIB_OK);
    refuses(to, (nib_recipe){0}, "columns in order of activation (g_idx); --requantize rounds");
    assert_int_equal(rounded, 4 * 7);
    assert_int_equal(convert(to, gguf, (nib_recipe){.requantize = true}, &rounded, &err), NIB_OK);
    assert_int_equal(rounded, 4 * 6); /* all but down */
    /* plain numbers need no order */
    convert_ok(from, keep(3, "plain"), (nib_recipe){.format = NIB_FORMAT_PLAIN});
    same_values(from, path[3]);
}

/* A folder whose o_proj of block 1 has this index of columns. */
static const char *with_index_of_o(const char *name, uint32_t (*group)(size_t c))
{
    const nib_packing p = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 32, .sym = true};
    char config[64];
    uint8_t index[256 * 4];
    const char *from = quantized(tiny_llama(), name, p);
    for (size_t c = 0; c < 256; c++)
        for (int b = 0; b < 4; b++) index[4 * c + (size_t)b] = (uint8_t)(group(c) >> 8 * b);
    patch_tensor(name, "model.layers.1.self_attn.o_proj.g_idx", index, sizeof index);
    for (int i = 0; i < 2; i++) {
        snprintf(config, sizeof config, "%s/%s", name, i ? "quantize_config.json" : "config.json");
        patch(config, "\"desc_act\":\tfalse", "\"desc_act\":\ttrue ");
    }
    return from;
}

/* Heads of 64 columns, of two groups each: even columns and odd ones; of heads that share values in
 * other order, or in another way. */
static uint32_t alternating(size_t c)
{
    return (uint32_t)(c / 64 * 2 + (c + c / 64) % 2);
}
static uint32_t unlike_its_twin(size_t c)
{
    const uint32_t half = (uint32_t)(c / 64 % 2 ? c / 2 % 2 : c % 2);
    return (uint32_t)(c / 64 * 2) + half;
}
static uint32_t across_heads(size_t c)
{
    return (uint32_t)(c % 8);
}

static void order_within_heads(void **state)
{
    (void)state;
    static const char o[] = "model.layers.1.self_attn.o_proj.weight";
    opened m;
    const char *from = with_index_of_o("heads", alternating), *to = keep(1, "in-order");
    open_model(&m, from);
    assert_int_equal(m.model.hp.n_head, 4);
    assert_int_equal(m.model.hp.n_head_kv, 2);
    close_model(&m);
    assert_false(in_order(from, o));
    convert_ok(from, to, folder(NIB_PACKING_GPTQ));
    assert_true(in_order(to, o));
    same_logits(from, to);
    convert_ok(from, keep(2, "heads.gguf"), (nib_recipe){0});
    same_logits(from, path[2]);
    from = with_index_of_o("twins", unlike_its_twin);
    convert_ok(from, to, folder(NIB_PACKING_GPTQ));
    assert_false(in_order(to, o));
    same_logits(from, to);
    refuses(from, (nib_recipe){0}, "columns in order of activation");
    from = with_index_of_o("across", across_heads);
    convert_ok(from, to, folder(NIB_PACKING_GPTQ));
    assert_false(in_order(to, o));
}

/* ---- 8-bit inputs ---- */

/* A folder whose inputs have one range each, found on text. */
static const char *with_ranges(nib_packing f)
{
    char text[300];
    nib_log log = {0};
    nib_ctx ctx = {.threads = 2, .log = &log};
    nib_err err = {0};
    nib_job job;
    snprintf(text, sizeof text, "%s/../eval.txt", tiny_llama());
    const nib_text_spec spec = {.path = text};
    nib_job_opts opts = {
        .model = tiny_llama(),
        .recipe = {.format = NIB_FORMAT_DIR, .out = keep(0, "ranges"), .force = true, .layout = f},
        .text = {.text = &spec, .n_texts = 1, .n_ctx = 64, .samples = 4},
        .solve = nib_solve_defaults()};
    nib_code rc = nib_job_open(&job, &opts, &ctx, &err);
    if (!rc) rc = nib_job_plan(&job, &ctx, &err);
    if (!rc) rc = nib_job_run(&job, &ctx, &err);
    nib_job_close(&job);
    if (rc) fail_msg("%s", err.msg);
    return path[0];
}

static bool rounds_inputs(const char *model)
{
    opened o;
    open_model(&o, model);
    const bool rounds = strcmp(nib_model_activations(&o.model), "f32") != 0;
    close_model(&o);
    return rounds;
}

/* Weights, scales and ranges of inputs stay to the byte; in named groups only the weights do. */
static void int8_inputs(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        const char *from = i == 2 ? with_ranges(W8A8_STATIC)
                                  : quantized(tiny_llama(), "int8", i ? W8A8_TENSOR : W8A8);
        const char *to = keep(1, "other");
        convert_ok(from, to, folder(NIB_PACKING_CT_PACKED));
        same_weights_file(from, to);
        assert_true(rounds_inputs(to));
        nib_recipe r = folder(NIB_PACKING_CT_PACKED);
        r.bits_given = true, r.layout.bits = 8;
        convert_ok(from, keep(2, "weights"), r);
        assert_false(rounds_inputs(path[2]));
        same_values(from, path[2]);
    }
}

/* ---- what cannot be held ---- */

static void refuses_what_is_not_held(void **state)
{
    (void)state;
    nib_err err = {0};
    const nib_packing p = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 32};
    const char *from = quantized(tiny_llama(), "packed", p), *gguf = keep(1, "k.gguf");
    refuses(from, (nib_recipe){.type = "q4_0"}, "q4_0 does not hold its values: in row ");
    refuses(from, (nib_recipe){.type = "q4_1"}, "have a scale or a minimum that is no number");
    refuses(from, (nib_recipe){.type = "q4_k"}, "scales have scales");
    nib_recipe wider = folder(NIB_PACKING_GPTQ);
    wider.group_given = true, wider.layout.group = 64;
    refuses(from, wider, "the 64 columns from 0 on have several scales");
    refuses(tiny_llama(), folder(NIB_PACKING_GPTQ), "is not quantized");
    refuses(tiny_llama(), (nib_recipe){.type = "q8_0"}, "q8_0 does not hold its values");
    quantize_ok(tiny_llama(), &(nib_recipe){.out = gguf, .type = "q4_k_s"}, NULL);
    refuses(gguf, folder(NIB_PACKING_GPTQ), "--requantize rounds them");
    nib_recipe r = folder(NIB_PACKING_GPTQ);
    size_t rounded;
    r.requantize = true;
    assert_int_equal(convert(gguf, keep(2, "rounded"), r, &rounded, &err), NIB_OK);
    assert_int_equal(rounded, 28);
}

/* gpt-oss's experts are GGUF's blocks but for the places of values in them. */
static void blocks_of_4_bit_floats(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"gpt_oss-mxfp4", "config.json"},
                                           {"gpt_oss-mxfp4", "model.safetensors"},
                                           {"tokenizer-256", "tokenizer.json"},
                                           {"tokenizer-256", "tokenizer_config.json"}};
    const char *dir = scratch("gpt-oss"), *gguf = scratch("gpt-oss.gguf");
    size_t n = 0;
    opened o;
    assert_int_equal(mkdir(dir, 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char at[256], to[512];
        snprintf(at, sizeof at, "%s/%s", dir, files[i][1]);
        snprintf(to, sizeof to, "%s/arch/%s/%s", getenv("NIB_GOLDEN"), files[i][0], files[i][1]);
        if (symlink(to, at)) fail_msg("%s", at);
    }
    convert_ok(dir, gguf, (nib_recipe){.type = NULL});
    same_values(dir, gguf);
    open_model(&o, gguf);
    for (size_t i = 0; i < nib_source_count(o.src); i++) {
        const nib_tensor *t = nib_source_at(o.src, i);
        n += t->codec->type == NIB_MXFP4;
        assert_true(t->n_dims < 3 || t->codec->type == NIB_MXFP4);
    }
    assert_int_equal(n, 2 * 3); /* blocks; gate, up and down */
    close_model(&o);
}

/* Of all weights, and from GGUF's blocks into a folder's and back. */
static void folders_of_4_bit_floats(void **state)
{
    (void)state;
    for (int rounds = 0; rounds < 2; rounds++) {
        const nib_packing layout = {.kind = NIB_PACKING_CT_MXFP4,
                                    .bits = 4,
                                    .sym = true,
                                    .group = 32,
                                    .act = rounds ? NIB_ACT_TOKEN : NIB_ACT_NONE,
                                    .act_sym = true};
        const char *from = quantized(tiny_llama(), "floats", layout);
        const char *gguf = keep(1, "floats.gguf"), *back = keep(2, "back"), *copy = keep(3, "copy");
        size_t n = 0;
        opened o;
        convert_ok(from, gguf, (nib_recipe){.type = rounds ? "mxfp4" : NULL});
        convert_ok(from, copy, folder(NIB_PACKING_CT_PACKED));
        convert_ok(gguf, back, folder(NIB_PACKING_CT_PACKED));
        same_values(from, gguf);
        same_values(from, back);
        same_values(from, copy);
        open_model(&o, gguf);
        for (size_t i = 0; i < nib_source_count(o.src); i++)
            n += nib_source_at(o.src, i)->codec->type == NIB_MXFP4;
        assert_int_equal(n, 28);
        close_model(&o);
        open_model(&o, copy);
        assert_string_equal(nib_model_activations(&o.model), rounds ? "mxfp4" : "f32");
        close_model(&o);
        nib_recipe integers = folder(NIB_PACKING_CT_PACKED);
        integers.bits_given = true, integers.layout.bits = 8;
        refuses(from, integers, "does not hold its values");
    }
}

/* ---- NVFP4, compressed-tensors' and GGUF's ---- */

static nib_packing nvfp4_layout(void)
{
    return (nib_packing){
        .kind = NIB_PACKING_CT_NVFP4, .bits = 4, .sym = true, .group = 16, .act_sym = true};
}

/* A part of a layer as the folder has it; free with nib_free. */
static uint8_t *stored_part(const char *folder, const char *weight, const char *suffix)
{
    char name[256], file[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(name, sizeof name, "%.*s%s", (int)(strlen(weight) - strlen(".weight")), weight,
             suffix);
    if (nib_source_open(&s, file, &err)) fail_msg("%s", err.msg);
    const nib_tensor *t = nib_source_find(s, name);
    if (!t) fail_msg("%s has no %s", folder, name);
    uint8_t *bytes = tensor_bytes(s, t);
    nib_source_close(s);
    return bytes;
}

/* Rows of a weight in GGUF's blocks of 64: four scales, then of each 16 codes the first eight in
 * low bits and the others in high bits. The folder has two neighbours in a byte. */
static void same_blocks(const uint8_t *block, const uint8_t *codes, const uint8_t *scales,
                        size_t cols)
{
    for (size_t k = 0; k < cols / 64; k++, block += 36) {
        assert_memory_equal(block, scales + 4 * k, 4);
        for (size_t i = 0; i < 64; i++) {
            const uint8_t pair = codes[(64 * k + i) / 2], there = i % 2 ? pair >> 4 : pair & 15;
            const uint8_t byte = block[4 + i / 16 * 8 + i % 8];
            assert_int_equal(i % 16 < 8 ? byte & 15 : byte >> 4, there);
        }
    }
}

/* Products of the same codes and scales with a factor, and divided by its reciprocal: each rounds
 * three times at most. */
static void near_values(const char *a, const char *b)
{
    opened x, y;
    open_model(&x, a);
    open_model(&y, b);
    for (size_t i = 0; i < x.model.n_placed; i++) {
        const nib_place at = x.model.placed[i].place;
        if (at.expert == NIB_EXPERTS_ALL || at.role == NIB_ROLE_ATTN_Q ||
            at.role == NIB_ROLE_ATTN_K) /* turned */
            continue;
        const nib_tensor *t = nib_model_tensor(&x.model, at), *u = nib_model_tensor(&y.model, at);
        float *v = tensor_values(x.src, t), *w = tensor_values(y.src, u);
        for (size_t k = 0; k < nib_tensor_elems(t); k++)
            if (!(fabsf(v[k] - w[k]) <= 0x6p-24f * fabsf(v[k])))
                fail_msg("%s, value %zu: %a and %a", t->name, k, (double)v[k], (double)w[k]);
        nib_free(v);
        nib_free(w);
    }
    close_model(&x);
    close_model(&y);
}

static void nvfp4_between_containers(void **state)
{
    (void)state;
    const char *from = quantized(tiny_llama(), "nvfp4", nvfp4_layout());
    const char *gguf = keep(1, "nvfp4.gguf"), *back = keep(2, "back"), *copy = keep(3, "copy.gguf");
    static const char *const names[][2] = {
        {"blk.2.ffn_down", "model.layers.2.mlp.down_proj.weight"},
        {"blk.0.attn_v", "model.layers.0.self_attn.v_proj.weight"}};
    opened o;
    convert_ok(from, gguf, (nib_recipe){.type = NULL});
    convert_ok(gguf, copy, (nib_recipe){.type = NULL});
    convert_ok(gguf, back, folder(NIB_PACKING_CT_PACKED));
    near_values(from, gguf);
    near_values(from, back);
    same_values(gguf, copy);
    open_model(&o, gguf);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        float factor, global;
        snprintf(name, sizeof name, "%s.weight", names[i][0]);
        const nib_tensor *t = nib_source_find(o.src, name);
        assert_int_equal(t->codec->type, NIB_NVFP4);
        const size_t cols = (size_t)nib_tensor_cols(t), rows = (size_t)nib_tensor_rows(t);
        uint8_t *blocks = tensor_bytes(o.src, t), *scale;
        uint8_t *codes = stored_part(from, names[i][1], ".weight_packed"),
                *scales = stored_part(from, names[i][1], ".weight_scale"),
                *all = stored_part(from, names[i][1], ".weight_global_scale"),
                *again = stored_part(back, names[i][1], ".weight_packed"),
                *scales_again = stored_part(back, names[i][1], ".weight_scale");
        for (size_t r = 0; r < rows; r++)
            same_blocks(blocks + r * cols / 64 * 36, codes + r * cols / 2, scales + r * cols / 16,
                        cols);
        assert_memory_equal(codes, again, rows * cols / 2);
        assert_memory_equal(scales, scales_again, rows * cols / 16);
        snprintf(name, sizeof name, "%s.scale", names[i][0]);
        const nib_tensor *s = nib_source_find(o.src, name);
        assert_true(s && s->codec->type == NIB_F32 && nib_tensor_elems(s) == 1);
        scale = tensor_bytes(o.src, s);
        memcpy(&factor, scale, 4);
        memcpy(&global, all, 4);
        assert_true(factor == 1 / global);
        uint8_t *mine[] = {blocks, codes, scales, all, again, scales_again, scale};
        for (size_t k = 0; k < sizeof mine / sizeof *mine; k++) nib_free(mine[k]);
    }
    close_model(&o);
}

/* Of a stack each expert has a factor; rows of 32 are no whole blocks. */
static void nvfp4_of_experts(void **state)
{
    (void)state;
    const char *model = random_model("experts", gen_family_find("qwen3moe"), 64, 2, NIB_BF16);
    const char *from = quantized(model, "nvfp4-moe", nvfp4_layout());
    const char *gguf = keep(1, "moe.gguf"), *back = keep(2, "moe-plain");
    opened o;
    convert_ok(from, gguf, (nib_recipe){.type = NULL});
    near_values(from, gguf);
    open_model(&o, gguf);
    const nib_tensor *s = nib_source_find(o.src, "blk.1.ffn_up_exps.scale");
    assert_true(s && nib_tensor_elems(s) == o.model.hp.n_expert);
    close_model(&o);
    convert_ok(gguf, back, (nib_recipe){.format = NIB_FORMAT_PLAIN});
    same_values(gguf, back);
}

/* Without factors, as llama-quantize writes them, there is nothing to multiply. */
static void nvfp4_of_gguf_alone(void **state)
{
    (void)state;
    const char *gguf = keep(1, "plain.gguf"), *dir = keep(2, "plain"), *again = keep(3, "2.gguf");
    opened o;
    quantize_ok(tiny_llama(), &(nib_recipe){.out = gguf, .type = "nvfp4", .force = true}, NULL);
    nib_recipe skip = folder(NIB_PACKING_CT_PACKED);
    convert_ok(gguf, dir, skip);
    same_values(gguf, dir);
    convert_ok(dir, again, (nib_recipe){.type = NULL});
    same_values(gguf, again);
    open_model(&o, again);
    assert_null(nib_source_find(o.src, "blk.0.ffn_up.scale"));
    close_model(&o);
    /* engines take one global scale for gate and up */
    const char *apart = quantized(tiny_llama(), "apart", nvfp4_layout());
    const float other = 1000;
    patch_tensor("apart", "model.layers.1.mlp.up_proj.weight_global_scale", &other, 4);
    convert_ok(apart, gguf, (nib_recipe){.type = NULL});
    refuses(gguf, skip, "global scale");
}

/* The same file with ".input_scale" for ".scale". */
static void rename_factors(const char *gguf, const char *to)
{
    enum { MOST = 100 };
    static nib_gguf_tensor t[MOST];
    static char name[MOST][64];
    nib_source *s;
    nib_gguf_writer *w;
    nib_err err = {0};
    if (nib_source_open(&s, gguf, &err)) fail_msg("%s", err.msg);
    const size_t n = nib_source_count(s);
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++) {
        const nib_tensor *from = nib_source_at(s, i);
        const size_t stem = nib_stem(from->name, ".scale");
        if (stem)
            snprintf(name[i], sizeof name[i], "%.*s.input_scale", (int)stem, from->name);
        else
            snprintf(name[i], sizeof name[i], "%s", from->name);
        t[i] =
            (nib_gguf_tensor){.name = name[i], .type = from->codec->type, .n_dims = from->n_dims};
        memcpy(t[i].shape, from->shape, sizeof t[i].shape);
    }
    nib_code rc = nib_gguf_begin(&w, to, nib_source_kvs(s), t, n, 0, true, &err);
    for (size_t i = 0; i < n && !rc; i++) {
        const nib_tensor *from = nib_source_at(s, i);
        uint8_t *bytes = tensor_bytes(s, from);
        rc = nib_gguf_write(w, i, bytes, (size_t)from->bytes, &err);
        nib_free(bytes);
    }
    if (!rc) rc = nib_gguf_end(w, &err);
    if (rc) fail_msg("%s", err.msg);
    nib_source_close(s);
}

/* Factors come along with bytes that are copied, and are in the values of what is rounded. */
static void factors_of_weights(void **state)
{
    (void)state;
    const char *from = quantized(tiny_llama(), "nvfp4", nvfp4_layout());
    const char *gguf = keep(1, "nvfp4.gguf"), *f32 = keep(2, "f32.gguf"), *q8 = keep(3, "q8.gguf"),
               *other = keep(4, "other.gguf");
    opened o;
    convert_ok(from, gguf, (nib_recipe){.type = NULL});
    convert_ok(gguf, f32, (nib_recipe){.type = "f32"});
    same_values(gguf, f32);
    rename_factors(gguf, other); /* of engines that round inputs: they change no weight */
    open_model(&o, other);
    assert_null(nib_source_find(o.src, "blk.0.ffn_up.weight")->factor);
    close_model(&o);
    quantize_ok(gguf, &(nib_recipe){.out = q8, .type = "q8_0", .force = true}, NULL);
    open_model(&o, q8);
    for (size_t i = 0; i < nib_source_count(o.src); i++)
        assert_false(nib_source_at(o.src, i)->is_factor);
    const nib_tensor *t = nib_source_find(o.src, "blk.0.ffn_up.weight");
    float *v = tensor_values(o.src, t), most = 0;
    for (size_t i = 0; i < nib_tensor_elems(t); i++) most = fmaxf(most, fabsf(v[i]));
    assert_true(most < 2); /* of codes and scales alone up to 2688 */
    nib_free(v);
    close_model(&o);
}

/* ---- HQQ, whose zero points may be any number ---- */

static void integers_into_hqq(void **state)
{
    (void)state;
    static const nib_packing from[] = {
        {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64},
        {.kind = NIB_PACKING_GPTQ, .bits = 3, .group = 64, .sym = true},
        {.kind = NIB_PACKING_GPTQ, .bits = 2, .group = 32, .sym = true},
        {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 128},
        {.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 128, .sym = true}};
    const char *to = keep(1, "hqq"), *gguf = keep(2, "q4_0.gguf");
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        const char *packed = quantized(tiny_llama(), "packed", from[i]);
        convert_ok(packed, to, folder(NIB_PACKING_HQQ));
        same_values(packed, to);
    }
    quantize_ok(tiny_llama(), &(nib_recipe){.out = gguf, .type = "q4_0", .force = true}, NULL);
    convert_ok(gguf, to, folder(NIB_PACKING_HQQ));
    same_values(gguf, to);
    refuses(to, folder(NIB_PACKING_GPTQ), "does not hold its values");
}

/* ---- FP8, the folders of "fp8" and compressed-tensors' ---- */

#define E4M3 .bits = 8, .sym = true, .act_sym = true, .code_type = NIB_F8_E4M3

/* The same bytes of a part in two folders, n of them. */
static void same_part(const char *a, const char *b, const char *weight, const char *suffix,
                      const char *other, size_t n)
{
    uint8_t *x = stored_part(a, weight, suffix), *y = stored_part(b, weight, other);
    if (memcmp(x, y, n) != 0) fail_msg("%s and %s: %s%s differs", a, b, weight, other);
    nib_free(x);
    nib_free(y);
}

static void fp8_between_folders(void **state)
{
    (void)state;
    static const struct {
        nib_packing from;
        const char *scales;
        size_t bytes; /* of the scales of up_proj, [512, 256] of bf16 */
        const char *inputs;
    } kinds[] = {
        {{.kind = NIB_PACKING_FP8, E4M3, .rows = 128, .group = 128},
         ".weight_scale_inv",
         4 * 2 * 4,
         "fp8 per token"},
        {{.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true},
         ".weight_scale_inv",
         4,
         "fp8 per token"},
        {{.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true, .act = NIB_ACT_TENSOR},
         ".weight_scale_inv",
         4,
         "fp8 per tensor"},
        {{.kind = NIB_PACKING_FBGEMM, E4M3, .act = NIB_ACT_TOKEN, .act_most = 1200},
         ".weight_scale",
         4 * 512,
         "fp8 per token"},
    };
    static const char weight[] = "model.layers.1.mlp.up_proj.weight";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const nib_packing *f = &kinds[i].from;
        const char *from =
            f->act == NIB_ACT_TENSOR ? with_ranges(*f) : quantized(tiny_llama(), "fp8", *f);
        const char *to = keep(1, "ct-fp8"), *back = keep(2, "fp8-again");
        opened o;
        convert_ok(from, to, folder(NIB_PACKING_CT_PACKED));
        convert_ok(to, back, folder(NIB_PACKING_FP8));
        same_values(from, to);
        same_values(from, back);
        same_part(from, to, weight, ".weight", ".weight", (size_t)512 * 256);
        same_part(from, to, weight, kinds[i].scales, ".weight_scale", kinds[i].bytes);
        if (f->act == NIB_ACT_TENSOR)
            same_part(from, to, weight, ".activation_scale", ".input_scale", 4);
        same_weights_file(from, back);
        open_model(&o, to);
        assert_string_equal(nib_model_activations(&o.model), kinds[i].inputs);
        close_model(&o);
    }
}

/* What Transformers made: tiles of 32 x 32, experts. */
static void fp8_of_others(void **state)
{
    (void)state;
    char from[256];
    const char *to = keep(1, "ct-fp8"), *back = keep(2, "fp8-again");
    snprintf(from, sizeof from, "%s/arch/deepseek_v3-fp8", getenv("NIB_GOLDEN"));
    convert_ok(from, to, folder(NIB_PACKING_CT_PACKED));
    convert_ok(to, back, folder(NIB_PACKING_FP8));
    same_values(from, to);
    same_values(from, back);
}

/* Codes and scales of MXFP8 stay in a folder of compressed-tensors, with inputs or without; their
 * products are numbers of BF16, which GGUF gets. */
static void mxfp8_folders(void **state)
{
    (void)state;
    static const char weight[] = "model.layers.1.mlp.up_proj.weight";
    for (int inputs = 0; inputs < 2; inputs++) {
        const nib_packing f = {.kind = NIB_PACKING_CT_MXFP8,
                               E4M3,
                               .group = 32,
                               .act = inputs ? NIB_ACT_TOKEN : NIB_ACT_NONE};
        const char *from = quantized(tiny_llama(), "mxfp8", f), *copy = keep(1, "copy"),
                   *gguf = keep(2, "mxfp8.gguf");
        size_t n = 0;
        opened o;
        convert_ok(from, copy, folder(NIB_PACKING_CT_PACKED));
        same_values(from, copy);
        same_part(from, copy, weight, ".weight", ".weight", (size_t)512 * 256);
        same_part(from, copy, weight, ".weight_scale", ".weight_scale", (size_t)512 * 256 / 32);
        open_model(&o, copy);
        assert_string_equal(nib_model_activations(&o.model), inputs ? "mxfp8" : "f32");
        close_model(&o);
        convert_ok(from, gguf, (nib_recipe){.type = NULL});
        same_values(from, gguf);
        open_model(&o, gguf);
        for (size_t i = 0; i < nib_source_count(o.src); i++)
            n += nib_source_at(o.src, i)->n_dims == 2 &&
                 nib_source_at(o.src, i)->codec->type != NIB_BF16;
        assert_int_equal(n, 0);
        close_model(&o);
        refuses(from, folder(NIB_PACKING_FP8), "8-bit floats");
        nib_recipe integers = folder(NIB_PACKING_CT_PACKED);
        integers.bits_given = true, integers.layout.bits = 8;
        refuses(from, integers, "does not hold its values");
    }
}

static void fp8_takes_nothing_else(void **state)
{
    (void)state;
    const nib_packing rows = {.kind = NIB_PACKING_CT_FP8, E4M3},
                      ints = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 64, .sym = true};
    const char *from = quantized(tiny_llama(), "rows", rows);
    refuses(from, folder(NIB_PACKING_FP8), "inputs that it can say");
    nib_recipe r = folder(NIB_PACKING_CT_PACKED);
    r.bits_given = true, r.layout.bits = 8;
    refuses(from, r, "does not hold its values");
    refuses(quantized(tiny_llama(), "packed", ints), folder(NIB_PACKING_FP8), "8-bit floats");
    refuses(quantized(tiny_llama(), "nvfp4", nvfp4_layout()), folder(NIB_PACKING_FP8),
            "8-bit floats");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_to_folders),
        cmocka_unit_test(versions_of_gptq),
        cmocka_unit_test(folders_to_gguf_and_back),
        cmocka_unit_test(every_kind_of_model),
        cmocka_unit_test(gguf_to_folders),
        cmocka_unit_test(packed_to_plain),
        cmocka_unit_test(split_and_joined),
        cmocka_unit_test(shards),
        cmocka_unit_test(order_of_activation),
        cmocka_unit_test(order_within_heads),
        cmocka_unit_test(int8_inputs),
        cmocka_unit_test(refuses_what_is_not_held),
        cmocka_unit_test(blocks_of_4_bit_floats),
        cmocka_unit_test(folders_of_4_bit_floats),
        cmocka_unit_test(nvfp4_between_containers),
        cmocka_unit_test(nvfp4_of_experts),
        cmocka_unit_test(nvfp4_of_gguf_alone),
        cmocka_unit_test(factors_of_weights),
        cmocka_unit_test(integers_into_hqq),
        cmocka_unit_test(fp8_between_folders),
        cmocka_unit_test(fp8_of_others),
        cmocka_unit_test(mxfp8_folders),
        cmocka_unit_test(fp8_takes_nothing_else),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
