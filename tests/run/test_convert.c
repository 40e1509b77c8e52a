/* SPDX-License-Identifier: MIT */
/* Conversions: there and back gives the same bytes, every value on the way is the source's, and
 * what a container cannot hold is refused or, when asked for, rounded. */
#include "base/file.h"
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
static const char *with_ranges(void)
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
                                    .out = keep(0, "ranges"),
                                    .force = true,
                                    .layout = W8A8_STATIC},
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
        const char *from =
            i == 2 ? with_ranges() : quantized(tiny_llama(), "int8", i ? W8A8_TENSOR : W8A8);
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
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
