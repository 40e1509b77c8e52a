/* SPDX-License-Identifier: MIT */
/* Packed folders as other tools and older versions write them: parts that are left out or too many,
 * zero points stored as another version of the format has them, other names of files and keys. Each
 * is made from a folder of ours and must give the values of that. */
#include "base/file.h"
#include "base/str.h"
#include "formats/safetensors.h"
#include "tests/run/folders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const nib_packing gptq = {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true};
static const nib_packing awq = {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 64};
static const nib_packing w8a8 = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN, .act_sym = true};
static const nib_packing fp8_tensor = {.kind = NIB_PACKING_FP8_TENSOR,
                                       .bits = 8,
                                       .sym = true,
                                       .per_tensor = true,
                                       .code_type = NIB_F8_E4M3,
                                       .act_sym = true};
static const nib_packing w4a16 = {
    .kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 64, .sym = true};

/* ---- folders made anew ---- */

/* What is changed on the way. */
typedef struct {
    const char *drop; /* suffix of tensors that are left out; NULL: none          */
    const char *fill; /* suffix of tensors whose every 32-bit word becomes `word` */
    uint32_t word;
    const char *beside; /* for each tensor with this suffix ...                     */
    const char *added;  /* ... one more, with this in its place,                    */
    nib_type type;      /* of this type, [rows, 1], every byte `byte`               */
    uint8_t byte;
    bool head;             /* lm_head.weight too: a copy of the embedding, ...    */
    bool other_head;       /* ... with its first value changed                    */
    const char *file;      /* name of the file; NULL: as it was                        */
    const char *from, *to; /* tensors with the one suffix get the other, as [1] */
} change;

static char *path_in(const char *folder, const char *name)
{
    char *path = nib_path_join(scratch(folder), name);
    assert_non_null(path);
    return path;
}

enum { TENSORS_MAX = 400, NAME_ROOM = 160 };

static struct {
    nib_st_tensor st[TENSORS_MAX];
    char name[TENSORS_MAX][NAME_ROOM];
    const nib_tensor *from[TENSORS_MAX]; /* NULL: an added one */
    size_t n;
} list;

static bool has_suffix(const char *name, const char *suffix)
{
    return suffix && nib_stem(name, suffix);
}

static void add_entry(const nib_tensor *t, const char *name, const nib_tensor *from)
{
    nib_st_tensor *st = &list.st[list.n];
    assert_true(list.n < TENSORS_MAX);
    snprintf(list.name[list.n], NAME_ROOM, "%s", name);
    *st = (nib_st_tensor){.name = list.name[list.n], .type = t->codec->type, .n_dims = t->n_dims};
    memcpy(st->shape, t->shape, sizeof st->shape);
    list.from[list.n++] = from;
}

static void list_tensors(const nib_source *s, const change *c)
{
    list.n = 0;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        if (c->head && has_suffix(t->name, ".embed_tokens.weight"))
            add_entry(t, "lm_head.weight", t);
        if (has_suffix(t->name, c->drop)) continue;
        char name[NAME_ROOM];
        if (has_suffix(t->name, c->from)) {
            nib_tensor other = *t;
            other.n_dims = 1, other.shape[0] = 1;
            snprintf(name, sizeof name, "%.*s%s", (int)nib_stem(t->name, c->from), t->name, c->to);
            add_entry(&other, name, t);
            continue;
        }
        add_entry(t, t->name, t);
        if (!has_suffix(t->name, c->beside)) continue;
        snprintf(name, sizeof name, "%.*s%s", (int)nib_stem(t->name, c->beside), t->name, c->added);
        nib_tensor more = {.codec = nib_codec_get(c->type), .n_dims = 2, .shape = {t->shape[0], 1}};
        add_entry(&more, name, NULL);
    }
}

static void write_one(nib_st_writer *w, size_t i, const nib_source *s, const change *c)
{
    nib_err err = {0};
    const nib_st_tensor *st = &list.st[i];
    const nib_tensor *t = NULL;
    for (size_t k = 0; k < list.n; k++)
        if (list.name[k] == st->name) t = list.from[k];
    size_t n = nib_codec_get(st->type)->bytes;
    for (int d = 0; d < st->n_dims; d++) n *= (size_t)st->shape[d];
    uint8_t *data = t ? tensor_bytes(s, t) : nib_alloc(n, 1);
    if (!t) memset(data, c->byte, n);
    for (size_t k = 0; has_suffix(st->name, c->fill) && k < n; k++)
        data[k] = (uint8_t)(c->word >> k % 4 * 8);
    if (c->other_head && !strcmp(st->name, "lm_head.weight")) data[0] ^= 1;
    assert_int_equal(nib_st_write(w, i, data, n, &err), NIB_OK);
    nib_free(data);
}

/* The one file of the folder again, changed. */
static void resave(const char *folder, change c)
{
    nib_err err = {0};
    nib_source *s;
    nib_st_writer *w;
    char *old = path_in(folder, "model.safetensors"),
         *new = path_in(folder, c.file ? c.file : "model.safetensors"),
         *aside = path_in(folder, "aside");
    assert_int_equal(rename(old, aside), 0);
    if (nib_source_open(&s, aside, &err)) fail_msg("%s", err.msg);
    list_tensors(s, &c);
    nib_st_sort(list.st, list.n);
    assert_int_equal(nib_st_begin(&w, new, list.st, list.n, false, &err), NIB_OK);
    for (size_t i = 0; i < list.n; i++) write_one(w, i, s, &c);
    assert_int_equal(nib_st_end(w, &err), NIB_OK);
    nib_source_close(s);
    unlink(aside);
    nib_free(old);
    nib_free(new);
    nib_free(aside);
}

/* Replace the one `from` in config.json, which may change its length. */
static void edit_config(const char *folder, const char *from, const char *to)
{
    char *path = path_in(folder, "config.json"), *text, with[16384];
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_file_slurp(&text, &n, path, sizeof with / 2, &err), NIB_OK);
    char *at = strstr(text, from);
    if (!at) fail_msg("config.json lacks %s", from);
    int k = snprintf(with, sizeof with, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(nib_file_save(path, with, (size_t)k, true, &err), NIB_OK);
    nib_free(text);
    nib_free(path);
}

/* ---- what they must be ---- */

static nib_source *open_folder(const char *name)
{
    nib_source *s;
    nib_err err = {0};
    if (nib_source_open(&s, scratch(name), &err)) fail_msg("%s", err.msg);
    return s;
}

/* All tensors of the folder "ours" are in `name` with its values, and it is a model. */
static void expect_ours(const char *name)
{
    nib_source *a = open_folder("ours"), *b = open_folder(name);
    nib_model m;
    nib_err err = {0};
    for (size_t i = 0; i < nib_source_count(a); i++) {
        const nib_tensor *t = nib_source_at(a, i), *u = nib_source_find(b, t->name);
        if (!u) fail_msg("%s lacks %s", name, t->name);
        float *x = tensor_values(a, t), *y = tensor_values(b, u);
        assert_memory_equal(x, y, nib_tensor_elems(t) * sizeof *x);
        nib_free(x);
        nib_free(y);
    }
    if (nib_model_open(&m, b, &err)) fail_msg("%s", err.msg);
    nib_model_close(&m);
    nib_source_close(a);
    nib_source_close(b);
}

/* Two folders of that format: "ours", and "theirs" to be changed. */
static void make_two(nib_packing f)
{
    char cmd[1024];
    nib_recipe r = {.layout = f};
    snprintf(cmd, sizeof cmd, "cd '%s' && rm -rf ours theirs", scratch(""));
    assert_int_equal(system(cmd), 0);
    write_folder_ok("ours", r, 2);
    write_folder_ok("theirs", r, 2);
}

/* ---- the kinds ---- */

/* vLLM's issue 38966: 8, not 7, under checkpoint_format gptq; and the other way round. */
static void zero_points_of_the_other_version(void **state)
{
    (void)state;
    static const struct {
        unsigned bits;
        uint32_t v1, v2;
    } words[] = {
        {2, 0x55555555, 0xAAAAAAAA}, {4, 0x77777777, 0x88888888}, {8, 0x7F7F7F7F, 0x80808080}};
    for (size_t i = 0; i < 3; i++)
        for (int v2 = 0; v2 < 2; v2++) {
            nib_packing f = gptq;
            f.bits = words[i].bits;
            f.v2 = v2;
            make_two(f);
            resave("theirs", (change){.fill = ".qzeros", .word = v2 ? words[i].v1 : words[i].v2});
            expect_ours("theirs");
            nib_source *s = open_folder("theirs");
            assert_int_equal(nib_source_settled(s), 28);
            nib_source_close(s);
            s = open_folder("ours");
            assert_int_equal(nib_source_settled(s), 0);
            nib_source_close(s);
        }
}

/* Asymmetric layers may hold any zero points, these too: the configuration's word holds. */
static void asymmetric_zero_points_are_taken_as_said(void **state)
{
    (void)state;
    nib_packing f = gptq;
    f.sym = false;
    make_two(f);
    resave("theirs", (change){.fill = ".qzeros", .word = 0x88888888});
    nib_source *s = open_folder("theirs");
    assert_int_equal(nib_source_settled(s), 0);
    nib_source_close(s);
}

static void order_of_columns_left_out(void **state)
{
    (void)state;
    make_two(gptq);
    resave("theirs", (change){.drop = ".g_idx"});
    expect_ours("theirs");
    edit_config("theirs", "\"desc_act\":\tfalse", "\"desc_act\":\ttrue");
    refuse_folder("theirs", "g_idx' is missing");
}

/* Older tools name the file after what is in it, and keep the configuration beside it. */
static void other_names_of_files(void **state)
{
    (void)state;
    make_two(gptq);
    resave("theirs", (change){.file = "gptq_model-4bit-128g.safetensors"});
    expect_ours("theirs");
}

static void other_names_of_keys(void **state)
{
    (void)state;
    make_two(w4a16);
    edit_config("theirs", "\"quantization_config\"", "\"compression_config\"");
    expect_ours("theirs");
    edit_config("theirs", "\"quant_method\":\t\"compressed-tensors\",", "");
    expect_ours("theirs");
}

/* GPTQModel's symmetric form: the zero points are there, and count as they are. */
static void awq_without_zero_points_that_has_them(void **state)
{
    (void)state;
    make_two(awq);
    edit_config("theirs", "\"zero_point\":\ttrue", "\"zero_point\":false");
    expect_ours("theirs");
}

/* As llm-awq writes it: a file of its own, with names of its own, which say what it is. */
static void awq_in_a_file_of_its_own(void **state)
{
    (void)state;
    static const char own[] = "{\"zero_point\": true, \"q_group_size\": 64, \"w_bit\": 4, "
                              "\"version\": \"GEMM\"}";
    nib_err err = {0};
    make_two(awq);
    edit_config("theirs", "\"quantization_config\"", "\"nothing\"");
    char *path = path_in("theirs", "quant_config.json");
    assert_int_equal(nib_file_save(path, own, sizeof own - 1, true, &err), NIB_OK);
    nib_free(path);
    expect_ours("theirs");
    make_two(awq);
    edit_config("theirs", "\"quant_method\":\t\"awq\",", "");
    edit_config("theirs", "\"bits\"", "\"w_bit\"");
    edit_config("theirs", "\"group_size\"", "\"q_group_size\"");
    expect_ours("theirs");
}

/* AutoRound's folders have the layout of others, and exceptions by name. */
static void auto_round_in_the_layout_of_others(void **state)
{
    (void)state;
    make_two(gptq);
    edit_config("theirs", "\"quant_method\":\t\"gptq\",",
                "\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round:auto_gptq\","
                "\"extra_config\": {\"lm_head\": {\"bits\": 16}},");
    expect_ours("theirs");
    edit_config("theirs", "\"lm_head\": {",
                "\"model.layers.2.mlp.up_proj\": {\"bits\": 8}, \"x\": {");
    refuse_folder("theirs", "'model.layers.2.mlp.up_proj.scales': shape is");
    make_two(awq);
    edit_config("theirs", "\"quant_method\":\t\"awq\",",
                "\"quant_method\": \"intel/auto-round\", \"backend\": \"auto_round:auto_awq\",");
    expect_ours("theirs");
}

/* vLLM's FP8 layers have names of their own, and its tools' configurations no tiles to deny. */
static void fp8_in_the_names_of_vllm(void **state)
{
    (void)state;
    make_two(fp8_tensor);
    edit_config("theirs", "\"weight_block_size\":\tnull,", "");
    resave("theirs", (change){.from = ".weight_scale_inv", .to = ".weight_scale"});
    expect_ours("theirs");
    resave("theirs", (change){.drop = "up_proj.weight_scale"});
    refuse_folder("theirs", "up_proj.weight_scale_inv' is missing");
}

/* What memory plans count for a packed source is what its rows take. */
static void rows_of_packed_weights_take_memory(void **state)
{
    (void)state;
    const nib_packing all[] = {gptq, awq, w8a8, w4a16};
    for (size_t i = 0; i < 4; i++) {
        make_two(all[i]);
        nib_source *s = open_folder("ours");
        for (size_t k = 0; k < nib_source_count(s); k++) {
            const nib_tensor *t = nib_source_at(s, k);
            const uint64_t rows = nib_tensor_rows(t) < 40 ? nib_tensor_rows(t) : 40;
            nib_buf raw = {0};
            nib_err err = {0};
            float *x = nib_alloc((size_t)(rows * nib_tensor_cols(t)), sizeof *x);
            assert_int_equal(nib_source_read_rows(s, t, 0, rows, x, &raw, 0, &err), NIB_OK);
            assert_int_equal(raw.cap, nib_tensor_rows_memory(t, rows));
            nib_buf_free(&raw);
            nib_free(x);
        }
        nib_source_close(s);
    }
}

/* Zero points of 0 say nothing where it is symmetric; others contradict. */
static void neutral_zero_points(void **state)
{
    (void)state;
    make_two(w8a8);
    change c = {.beside = "_proj.weight_scale",
                .added = "_proj.weight_zero_point",
                .type = NIB_I8,
                .byte = 0};
    resave("theirs", c);
    expect_ours("theirs");
    make_two(w8a8);
    c.byte = 3;
    resave("theirs", c);
    refuse_folder("theirs", "holds zero points other than 0");
    refuse_folder("theirs", "'symmetric'");

    make_two(w4a16);
    c = (change){
        .beside = ".weight_scale", .added = ".weight_zero_point", .type = NIB_I32, .byte = 0x88};
    resave("theirs", c);
    expect_ours("theirs");
    make_two(w4a16);
    c.byte = 0x80;
    resave("theirs", c);
    refuse_folder("theirs", "holds zero points other than 0");
}

/* For engines whose key/value cache has 8 bits. */
static void scales_of_the_cache(void **state)
{
    (void)state;
    static const char *const names[] = {".k_scale", ".v_scale", ".k_proj.output_scale"};
    for (size_t i = 0; i < 3; i++) {
        make_two(w4a16);
        resave("theirs",
               (change){.beside = ".q_proj.weight_scale", .added = names[i], .type = NIB_F32});
        expect_ours("theirs");
        nib_source *s = open_folder("theirs");
        nib_model m;
        nib_err err = {0};
        assert_int_equal(nib_model_open(&m, s, &err), NIB_OK);
        assert_true(m.has_cache_scales);
        nib_model_close(&m);
        nib_source_close(s);
    }
}

/* ---- an output matrix, and what the configuration says of it ---- */

/* The demonstration model, which is tied, as "theirs". */
static void copy_model(change c)
{
    char cmd[2048];
    snprintf(cmd, sizeof cmd,
             "cd '%s' && rm -rf ours theirs && cp -r '%s' theirs && chmod -R u+w theirs",
             scratch(""), tiny_llama());
    assert_int_equal(system(cmd), 0);
    resave("theirs", c);
}

static nib_code try_model(bool *differs, nib_err *err)
{
    nib_source *s = open_folder("theirs");
    nib_model m;
    nib_code rc = nib_model_open(&m, s, err);
    if (!rc) *differs = m.head_differs;
    if (!rc) nib_model_close(&m);
    nib_source_close(s);
    return rc;
}

static bool says_tied(const char *folder)
{
    bool tied = false;
    nib_source *s = open_folder(folder);
    assert_true(nib_json_bool(
        nib_json_get(nib_source_json(s, "config.json"), "tie_word_embeddings"), &tied));
    nib_source_close(s);
    return tied;
}

/* It is used, which the folder that is written says, or readers would use the embedding. */
static void tied_with_a_head_of_its_own(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_recipe r = {.layout = gptq};
    for (int other = 0; other < 2; other++) {
        bool differs;
        copy_model((change){.head = true, .other_head = other});
        if (try_model(&differs, &err)) fail_msg("%s", err.msg);
        assert_int_equal(differs, other);
        char model[512];
        snprintf(model, sizeof model, "%s", scratch("theirs"));
        if (write_folder_of(model, "ours", r, NULL, 2, &err)) fail_msg("%s", err.msg);
        assert_int_equal(says_tied("ours"), !other);
    }
}

/* The key is named, not only the tensor. */
static void one_matrix_for_two(void **state)
{
    (void)state;
    nib_err err = {0};
    bool differs;
    copy_model((change){0});
    edit_config("theirs", "\"tie_word_embeddings\": true", "\"nothing\": 0");
    assert_int_equal(try_model(&differs, &err), NIB_EFORMAT);
    expect_text(err.msg, "'lm_head.weight' is missing");
    expect_text(err.msg, "'tie_word_embeddings': true");
    copy_model((change){.head = true, .drop = ".embed_tokens.weight"});
    assert_int_equal(try_model(&differs, &err), NIB_EFORMAT);
    expect_text(err.msg, "'lm_head.weight' is there");
    expect_text(err.msg, "'tie_word_embeddings': true, which config.json says");
}

/* ---- methods that are not read ---- */

static void refuse_model(const char *name, const char *part)
{
    nib_source *s = open_folder(name);
    nib_model m;
    nib_err err = {0};
    if (!nib_model_open(&m, s, &err)) fail_msg("opens, but should say '%s'", part);
    expect_text(err.msg, part);
    expect_text(err.msg, "gptq, awq, compressed-tensors");
    nib_source_close(s);
}

static void unknown_methods_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *config, *name;
    } all[] = {
        {"{\"quant_method\": \"eetq\"}", "'eetq'"},
        {"{\"quant_method\": \"torchao\"}", "'torchao'"},
        {"{\"bits\": 4}, \"quantization\": {\"bits\": 4, \"group_size\": 64}", "'mlx'"},
        {"{}", "'(no quant_method)'"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char with[256];
        make_two(gptq);
        edit_config("theirs", "\"quantization_config\"", "\"was\"");
        snprintf(with, sizeof with, "\"quantization_config\": %s, \"was\"", all[i].config);
        edit_config("theirs", "\"was\"", with);
        refuse_model("theirs", all[i].name);
    }
}

/* ---- experts in one tensor ---- */

enum { EXPERTS = 8, STACKED_LAYERS = 2 };

/* A part of some projections of all experts, those of one below each other, or turned. */
typedef struct {
    const char *name, *proj[2];
    const char *part, *ending; /* of an expert's tensors; of the stack */
    uint32_t layer;
    bool turned;
} stacked;

static uint8_t *stack(nib_st_tensor *st, char *name, const nib_source *s, const stacked *k)
{
    uint64_t rows = 0, at = 0;
    uint8_t *all = NULL;
    for (int e = 0; e < EXPERTS; e++)
        for (int i = 0; i < 2 && k->proj[i]; i++) {
            char from[NAME_ROOM];
            snprintf(from, sizeof from, "model.layers.%u.mlp.experts.%d.%s.%s", k->layer, e,
                     k->proj[i], k->part);
            const nib_tensor *t = nib_source_find(s, from);
            if (!t) fail_msg("no %s", from);
            const uint64_t own = t->shape[0], cols = t->shape[1], b = t->codec->bytes;
            if (!all) {
                rows = own * (k->proj[1] ? 2 : 1);
                all = nib_alloc((size_t)(EXPERTS * rows * cols), (size_t)b);
                *st = (nib_st_tensor){
                    .name = name,
                    .type = t->codec->type,
                    .n_dims = 3,
                    .shape = {EXPERTS, k->turned ? cols : rows, k->turned ? rows : cols}};
            }
            uint8_t *own_bytes = tensor_bytes(s, t);
            for (uint64_t r = 0; r < own; r++)
                for (uint64_t c = 0; c < cols; c++) {
                    const uint64_t row = at % rows + r;
                    const uint64_t to = k->turned ? c * rows + row : row * cols + c;
                    memcpy(all + (at / rows * rows * cols + to) * b, own_bytes + (r * cols + c) * b,
                           (size_t)b);
                }
            nib_free(own_bytes);
            at += own;
        }
    snprintf(name, NAME_ROOM, "model.layers.%u.mlp.experts.%s%s", k->layer, k->name, k->ending);
    return all;
}

/* The folder's experts, which are tensors of their own, as stacks in another folder. */
static void stack_experts(const char *from, const char *to, bool turned)
{
    static const stacked kinds[] = {
        {.name = "gate_up_proj", .proj = {"gate_proj", "up_proj"}, .part = "weight", .ending = ""},
        {.name = "gate_up_proj",
         .proj = {"gate_proj", "up_proj"},
         .part = "weight_scale_inv",
         .ending = "_scale_inv"},
        {.name = "down_proj", .proj = {"down_proj"}, .part = "weight", .ending = ""},
        {.name = "down_proj",
         .proj = {"down_proj"},
         .part = "weight_scale_inv",
         .ending = "_scale_inv"}};
    char cmd[1024];
    nib_err err = {0};
    nib_st_writer *w;
    nib_source *s;
    uint8_t *data[TENSORS_MAX] = {NULL};
    snprintf(cmd, sizeof cmd, "cd '%s' && rm -rf %s && cp -r %s %s && rm %s/model.safetensors",
             scratch(""), to, from, to, to);
    assert_int_equal(system(cmd), 0);
    char *old = path_in(from, "model.safetensors"), *new = path_in(to, "model.safetensors");
    if (nib_source_open(&s, old, &err)) fail_msg("%s", err.msg);
    list.n = 0;
    for (size_t i = 0; i < nib_source_count(s); i++) {
        const nib_tensor *t = nib_source_at(s, i);
        if (strstr(t->name, ".experts.")) continue;
        data[list.n] = tensor_bytes(s, t);
        add_entry(t, t->name, t);
    }
    for (uint32_t layer = 0; layer < STACKED_LAYERS; layer++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++, list.n++) {
            stacked k = kinds[i];
            k.layer = layer, k.turned = turned;
            data[list.n] = stack(&list.st[list.n], list.name[list.n], s, &k);
        }
    nib_st_sort(list.st, list.n);
    assert_int_equal(nib_st_begin(&w, new, list.st, list.n, false, &err), NIB_OK);
    for (size_t i = 0; i < list.n; i++) {
        size_t k = 0, n = nib_codec_get(list.st[i].type)->bytes;
        while (list.name[k] != list.st[i].name) k++;
        for (int d = 0; d < list.st[i].n_dims; d++) n *= (size_t)list.st[i].shape[d];
        assert_int_equal(nib_st_write(w, i, data[k], n, &err), NIB_OK);
    }
    assert_int_equal(nib_st_end(w, &err), NIB_OK);
    for (size_t i = 0; i < list.n; i++) nib_free(data[i]);
    nib_source_close(s);
    nib_free(old);
    nib_free(new);
}

/* As Qwen3-VL's experts were published in FP8, [in][out], and as Transformers has them, [out][in].
 */
static void fp8_of_all_experts(void **state)
{
    (void)state;
    const nib_packing f = {.kind = NIB_PACKING_FP8,
                           .bits = 8,
                           .sym = true,
                           .act_sym = true,
                           .code_type = NIB_F8_E4M3,
                           .rows = 16,
                           .group = 16};
    nib_err err = {0};
    opened a, b;
    const char *model =
        random_model("moe", gen_family_find("qwen3moe"), 64, STACKED_LAYERS, NIB_BF16);
    const nib_recipe r = {.layout = f, .force = true};
    if (write_folder_of(model, "apart", r, NULL, 2, &err)) fail_msg("%s", err.msg);
    for (int turned = 0; turned < 2; turned++) {
        stack_experts("apart", "stacked", turned);
        open_model(&a, scratch("apart"));
        open_model(&b, scratch("stacked"));
        size_t n = 0;
        for (size_t i = 0; i < a.model.n_placed; i++) {
            const nib_place at = a.model.placed[i].place;
            const nib_tensor *t = nib_model_tensor(&a.model, at),
                             *u = nib_model_tensor(&b.model, at);
            assert_non_null(u);
            float *x = tensor_values(a.src, t), *y = tensor_values(b.src, u);
            if (memcmp(x, y, nib_tensor_elems(t) * sizeof *x) != 0) fail_msg("%s differs", t->name);
            n += nib_role_is_expert(at.role);
            nib_free(x), nib_free(y);
        }
        assert_int_equal(n, STACKED_LAYERS * EXPERTS * 3);
        close_model(&a);
        close_model(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_points_of_the_other_version),
        cmocka_unit_test(asymmetric_zero_points_are_taken_as_said),
        cmocka_unit_test(order_of_columns_left_out),
        cmocka_unit_test(other_names_of_files),
        cmocka_unit_test(other_names_of_keys),
        cmocka_unit_test(awq_in_a_file_of_its_own),
        cmocka_unit_test(awq_without_zero_points_that_has_them),
        cmocka_unit_test(auto_round_in_the_layout_of_others),
        cmocka_unit_test(fp8_in_the_names_of_vllm),
        cmocka_unit_test(fp8_of_all_experts),
        cmocka_unit_test(rows_of_packed_weights_take_memory),
        cmocka_unit_test(neutral_zero_points),
        cmocka_unit_test(scales_of_the_cache),
        cmocka_unit_test(tied_with_a_head_of_its_own),
        cmocka_unit_test(one_matrix_for_two),
        cmocka_unit_test(unknown_methods_are_named),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
