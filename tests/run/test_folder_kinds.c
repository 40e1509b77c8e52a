/* SPDX-License-Identifier: MIT */
/* AWQ and compressed-tensors folders: written, read back, refused when they are damaged. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/half.h"
#include "infer/linear.h"
#include "run/solve/commit.h"
#include "tests/run/folders.h"
#include "tests/run/w8a8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const nib_packing AWQ = {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 64};
static const nib_packing W4 = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 128, .sym = true};
static const nib_packing W4_ASYM = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 32};
static const nib_packing NF4 = {.kind = NIB_PACKING_BNB4, .bits = 4, .group = 64, .sym = true};
static const nib_packing INT8 = {.kind = NIB_PACKING_BNB8, .bits = 8, .sym = true};
static const nib_packing FP8 = {.kind = NIB_PACKING_FP8,
                                .bits = 8,
                                .sym = true,
                                .code_type = NIB_F8_E4M3,
                                .rows = 128,
                                .group = 128,
                                .act_sym = true};
static const nib_packing FBGEMM = {.kind = NIB_PACKING_FBGEMM,
                                   .bits = 8,
                                   .sym = true,
                                   .code_type = NIB_F8_E4M3,
                                   .act = NIB_ACT_TOKEN,
                                   .act_sym = true,
                                   .act_most = 1200};
static const nib_packing CT_TILES = {.kind = NIB_PACKING_CT_FP8,
                                     .bits = 8,
                                     .sym = true,
                                     .code_type = NIB_F8_E4M3,
                                     .rows = 48,
                                     .group = 80, /* which does not divide the widths */
                                     .act = NIB_ACT_TOKEN,
                                     .act_sym = true};
static const nib_packing MXFP4 = {.kind = NIB_PACKING_CT_MXFP4,
                                  .bits = 4,
                                  .sym = true,
                                  .group = 32,
                                  .act = NIB_ACT_TOKEN,
                                  .act_sym = true};
static const nib_packing MXFP8 = {.kind = NIB_PACKING_CT_MXFP8,
                                  .bits = 8,
                                  .sym = true,
                                  .group = 32,
                                  .code_type = NIB_F8_E4M3,
                                  .act_sym = true};
static const nib_packing W8_ROWS = {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true};

/* ---- values ---- */

/* Column c of the groups is column order[c] of the weight, or c. */
typedef struct {
    uint8_t *code;
    nib_block_param *param;
    float *value;
} rounded;

/* Round by hand: fit and round group after group. The caller frees all three. */
static rounded round_by_hand(const nib_packed_parts *l, const float *w, const uint32_t *order)
{
    const nib_int_codec ic = nib_packing_codec(l);
    const size_t in = (size_t)l->in, group = ic.codec.block, n = (size_t)l->out * in;
    rounded x = {nib_alloc(n, 1), nib_calloc(n / group, sizeof *x.param),
                 nib_alloc(n, sizeof *x.value)};
    float *part = nib_alloc(group, sizeof *part), *value = nib_alloc(group, sizeof *value);
    uint8_t *code = nib_alloc(group, 1);
    nib_fit_in in_group = {.w = part};
    const nib_fit_matrix all = {.w = w, .rows = (size_t)l->out, .cols = in};
    const nib_ctx ctx = {.threads = 1};
    nib_err err;
    for (size_t k = 0; k < 2 * (n / group); k++) { /* all are fitted before any is rounded */
        const size_t b = k % (n / group), row = b * group / in * in, first = b * group % in;
        for (size_t i = 0; i < group; i++)
            part[i] = w[row + (order ? order[first + i] : first + i)];
        if (k == n / group && ic.codec.finish)
            assert_int_equal(ic.codec.finish(&ic.codec, x.param, &all, &ctx, &err), NIB_OK);
        if (k < n / group) {
            ic.codec.fit(&ic.codec, &x.param[b], &in_group, 1, 0);
            continue;
        }
        nib_codec_round(&ic.codec, &x.param[b], 0, group, part, code, value);
        for (size_t i = 0; i < group; i++) {
            const size_t at = row + (order ? order[first + i] : first + i);
            x.code[at] = code[i];
            x.value[at] = value[i];
        }
    }
    nib_free(part);
    nib_free(value);
    nib_free(code);
    return x;
}

static void free_rounded(rounded x)
{
    nib_free(x.code);
    nib_free(x.param);
    nib_free(x.value);
}

/* Rows in strips of 7 are the same as all at once. */
static void check_strips(const nib_source *s, const nib_tensor *t, const float *all)
{
    nib_err err;
    nib_buf raw = {0};
    const size_t rows = (size_t)nib_tensor_rows(t), cols = (size_t)nib_tensor_cols(t);
    float *strip = nib_alloc(7 * cols, sizeof *strip);
    for (size_t r = 0; r < rows; r += 7) {
        size_t n = rows - r < 7 ? rows - r : 7;
        assert_int_equal(nib_source_read_rows(s, t, r, n, strip, &raw, 0, &err), NIB_OK);
        assert_memory_equal(strip, all + r * cols, n * cols * sizeof *strip);
    }
    nib_free(strip);
    nib_buf_free(&raw);
}

/* Multiplied as it lies in memory, a weight gives what its values y do. */
static void check_product(const nib_source *s, const nib_tensor *t, const float *y)
{
    nib_err err;
    nib_linear l;
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    const size_t rows = (size_t)nib_tensor_rows(t), cols = (size_t)nib_tensor_cols(t);
    float *x = nib_alloc(2 * cols, sizeof *x), *got = nib_alloc(2 * rows, sizeof *got);
    assert_true(x && got);
    for (size_t i = 0; i < 2 * cols; i++) x[i] = (float)(i * i % 31) / 16 - 1;
    assert_int_equal(nib_linear_init(&l, s, &ctx, &err), NIB_OK);
    l.few = true;
    assert_int_equal(nib_linear_apply(&l, t, NULL, NULL, x, 2, got, false, &err), NIB_OK);
    assert_in_range(l.resident.bytes, 1, rows * cols * 3 / 2); /* not decoded */
    for (size_t i = 0; i < 2; i++)
        for (size_t r = 0; r < rows; r++) {
            double want = 0, size = 0;
            for (size_t c = 0; c < cols; c++) {
                const double v = (double)y[r * cols + c] * (double)x[i * cols + c];
                want += v;
                size += fabs(v);
            }
            if (!(fabs(want - (double)got[i * rows + r]) <= 2e-5 * size))
                fail_msg("%s, row %zu: %.8g, expected %.8g", t->name, r, (double)got[i * rows + r],
                         want);
        }
    nib_linear_fini(&l);
    nib_free(x);
    nib_free(got);
}

/* Every packed weight of the folder is the original's, rounded; everything else is the original's.
 */
static void check_values(const char *folder, nib_packing f, bool reversed)
{
    opened a, b;
    nib_err err;
    size_t n_packed = 0;
    uint32_t order[4096];
    open_model(&a, tiny_llama());
    open_model(&b, folder);
    assert_int_equal(nib_source_count(a.src), nib_source_count(b.src));
    for (size_t i = 0; i < nib_source_count(a.src); i++) {
        const nib_tensor *t = nib_source_at(a.src, i), *u = nib_source_find(b.src, t->name);
        assert_non_null(u);
        float *x = tensor_values(a.src, t), *y = tensor_values(b.src, u);
        const size_t n = (size_t)nib_tensor_elems(t);
        if (u->packed) {
            nib_packed_parts l;
            n_packed++;
            f.scale_type = nib_packing_scale_type(f.kind, t->codec->type);
            assert_int_equal(nib_packing_make(&l, &f, t->shape[0], t->shape[1], &err), NIB_OK);
            for (size_t c = 0; c < l.in; c++) order[c] = (uint32_t)(l.in - 1 - c);
            rounded r = round_by_hand(&l, x, reversed ? order : NULL);
            if (memcmp(r.value, y, n * sizeof *y)) fail_msg("%s: other values", t->name);
            check_strips(b.src, u, y);
            if (!nib_tensor_act(u)) check_product(b.src, u, y);
            free_rounded(r);
        } else {
            assert_memory_equal(x, y, n * sizeof *y);
        }
        nib_free(x);
        nib_free(y);
    }
    assert_int_equal(n_packed, 28);
    close_model(&a);
    close_model(&b);
}

static void folders_hold_the_rounded_model(void **state)
{
    (void)state;
    const nib_packing all[] = {AWQ, W4,  W4_ASYM, W8_ROWS,  W8A8,  W8A8_TENSOR,
                               NF4, FP8, FBGEMM,  CT_TILES, MXFP4, MXFP8};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        nib_recipe r = {.layout = all[i], .force = true, .split_max = i % 2 ? 400000 : 0};
        char name[16];
        snprintf(name, sizeof name, "k%zu", i);
        write_folder_ok(name, r, 2);
        check_values(scratch(name), all[i], false);
    }
    assert_true(nib_file_exists(scratch("k1/model.safetensors.index.json")));
    assert_false(nib_file_exists(scratch("k0/model.safetensors.index.json")));
}

/* LLM.int8, whose values are rounded once more than its grid's. */
static void bytes_of_rows_multiply(void **state)
{
    (void)state;
    opened o;
    write_folder_ok("int8", (nib_recipe){.layout = INT8}, 2);
    open_model(&o, scratch("int8"));
    for (size_t i = 0; i < nib_source_count(o.src); i++) {
        const nib_tensor *t = nib_source_at(o.src, i);
        if (!t->packed) continue;
        float *values = tensor_values(o.src, t);
        check_product(o.src, t, values);
        nib_free(values);
    }
    close_model(&o);
}

/* ---- importances ---- */

/* Sum of importance times squared error over all packed weights of a folder. */
static double weighted_error(const char *folder, const nib_imatrix *im)
{
    opened a, b;
    double error = 0;
    open_model(&a, tiny_llama());
    open_model(&b, scratch(folder));
    for (uint32_t layer = 0; layer < a.model.hp.n_layer; layer++)
        for (nib_role r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++) {
            const nib_tensor *t = nib_model_param(&a.model, layer, r)->weight;
            char name[64];
            if (!t || t->n_dims != 2) continue;
            nib_place_gguf_name((nib_place){.layer = layer, .role = r}, name, sizeof name);
            const nib_imatrix_entry *e = nib_imatrix_find(im, name);
            float *x = tensor_values(a.src, t);
            float *y = tensor_values(b.src, nib_source_find(b.src, t->name));
            for (size_t i = 0; i < nib_tensor_elems(t); i++)
                error += e->in_sum2[i % e->cols] * ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
            nib_free(x);
            nib_free(y);
        }
    close_model(&a);
    close_model(&b);
    return error;
}

/* Scales that are searched have a lower error than the range's, with importances one that is lower
 * still where it is weighed by them. Nothing but the fit differs, which minimizes just that. */
static void importances_are_used(void **state)
{
    (void)state;
    nib_imatrix im;
    nib_err err = {0};
    opened o;
    nib_recipe r = {.layout = W4, .force = true};
    open_model(&o, tiny_llama());
    fake_imatrix(&im, &o.model);
    write_folder_ok("range", r, 2);
    r.scales = NIB_SCALES_SQUARE;
    write_folder_ok("search", r, 2);
    assert_int_equal(write_folder_with("weighed", r, &im, 2, &err), NIB_OK);
    const double range = weighted_error("range", &im), search = weighted_error("search", &im),
                 weighed = weighted_error("weighed", &im);
    if (search > 0.95 * range || weighed > 0.98 * search)
        fail_msg("range %g, search %g, with importances %g", range, search, weighed);
    r.layout = W8_ROWS; /* keeps the range */
    write_folder_ok("w8", r, 2);
    check_values(scratch("w8"), W8_ROWS, false);
    nib_imatrix_free(&im);
    close_model(&o);
}

/* ---- what no rounding to nearest makes ---- */

/* A folder whose weights were made by somebody else, in another order of columns or with ranges of
 * their inputs. */
static void write_by_hand(const char *name, nib_packing f, const nib_act_range *act)
{
    nib_log log = {0};
    nib_ctx ctx = {.threads = 1, .log = &log};
    nib_err err = {0};
    opened o;
    nib_plan p = {0};
    nib_solved_file side = {.fd = -1};
    nib_quantize_result result;
    uint32_t order[4096];
    const nib_packing_note note = {.damp = 0.01};
    const nib_recipe r = {.format = NIB_FORMAT_DIR,
                          .layout = f,
                          .method = NIB_METHOD_GPTQ,
                          .out = scratch(name),
                          .force = true};
    open_model(&o, tiny_llama());
    nib_code rc = nib_plan_make(&p, &r, &o.model, NULL, &ctx, &err);
    if (!rc) rc = nib_solved_file_open(&side, r.out, 0, false, &err);
    nib_commit keep = {.p = &p, .side = &side, .ctx = &ctx};
    for (size_t i = 0; i < p.n && !rc; i++) {
        nib_plan_tensor *t = &p.tensor[i];
        if (t->action != NIB_ACTION_STAGE) continue;
        float *w = tensor_values(o.src, t->src), *kept = nib_alloc(t->rows * t->cols, sizeof *kept);
        for (size_t c = 0; c < t->cols; c++) order[c] = (uint32_t)(t->cols - 1 - c);
        rounded x = round_by_hand(&t->layout, w, f.desc_act ? order : NULL);
        nib_packing_values v = {
            .code = x.code, .param = x.param, .outer = f.desc_act ? order : NULL};
        if (act) v.act = *act;
        rc = nib_commit_write(&keep, t, &v, kept, &err);
        if (act) assert_int_equal(nib_commit_act(&keep, t).range.zero, act->zero);
        if (!rc) assert_memory_equal(kept, x.value, t->rows * t->cols * sizeof *kept);
        free_rounded(x);
        nib_free(w);
        nib_free(kept);
    }
    if (!rc) rc = nib_write_folder(&result, &p, &side, &note, &ctx, &err);
    if (rc) fail_msg("%s", err.msg);
    nib_commit_free(&keep);
    nib_solved_file_close(&side, true);
    nib_plan_free(&p);
    close_model(&o);
}

static void order_of_columns_is_kept(void **state)
{
    (void)state;
    nib_packing f = W4;
    f.desc_act = true;
    write_by_hand("order", f, NULL);
    check_values(scratch("order"), f, true);
    patch_tensor("order", "model.layers.1.mlp.down_proj.weight_g_idx", "\x20", 1);
    refuse_folder("order", "down_proj.weight_g_idx': column 0 is in group 32");
}

/* ---- inputs ---- */

/* Rows as integers stand for what rows as floats are. */
static void check_codes(const nib_source *s, const nib_tensor *t)
{
    enum { FIRST = 3, N = 10 };
    nib_err err;
    nib_buf raw = {0};
    const size_t cols = (size_t)nib_tensor_cols(t);
    int8_t *code = nib_alloc(N * cols, 1);
    float scale[N], *w = nib_alloc(N * cols, sizeof *w);
    assert_int_equal(nib_source_read_codes(s, t, FIRST, N, code, scale, &raw, &err), NIB_OK);
    assert_int_equal(nib_source_read_rows(s, t, FIRST, N, w, &raw, 0, &err), NIB_OK);
    for (size_t i = 0; i < N * cols; i++) assert_true(w[i] == scale[i / cols] * (float)code[i]);
    assert_int_equal(nib_source_read_codes(s, t, nib_tensor_rows(t), 1, code, scale, &raw, &err),
                     NIB_EINVAL);
    nib_free(code);
    nib_free(w);
    nib_buf_free(&raw);
}

static void inputs_are_described(void **state)
{
    (void)state;
    nib_err err;
    int8_t code[1];
    float scale[1];
    nib_buf raw = {0};
    static const char name[] = "model.layers.2.self_attn.o_proj.weight";
    const nib_act_range act = {0.05f, -7};
    opened o;
    write_folder_ok("dynamic", (nib_recipe){.layout = W8A8}, 1);
    open_model(&o, scratch("dynamic"));
    const nib_tensor *t = nib_source_find(o.src, name);
    const nib_act_quant *q = nib_tensor_act(t);
    assert_true(q && q->scheme == NIB_ACT_TOKEN && q->sym && q->number == NIB_ACT_INT8);
    check_codes(o.src, t);
    assert_null(nib_tensor_act(nib_source_find(o.src, "model.norm.weight")));
    close_model(&o);
    write_folder_ok("tensor", (nib_recipe){.layout = W8A8_TENSOR}, 1);
    open_model(&o, scratch("tensor"));
    check_codes(o.src, nib_source_find(o.src, name));
    close_model(&o);
    write_by_hand("static", W8A8_STATIC, &act);
    open_model(&o, scratch("static"));
    q = nib_tensor_act(nib_source_find(o.src, name));
    assert_true(q && q->scheme == NIB_ACT_TENSOR && !q->sym && q->range.zero == -7);
    assert_true(q->range.scale == nib_bf16_to_f32(nib_f32_to_bf16(0.05f)));
    close_model(&o);
    write_folder_ok("none", (nib_recipe){.layout = W8_ROWS}, 1);
    open_model(&o, scratch("none"));
    t = nib_source_find(o.src, name);
    assert_null(nib_tensor_act(t));
    assert_int_equal(nib_source_read_codes(o.src, t, 0, 1, code, scale, &raw, &err), NIB_EINVAL);
    close_model(&o);
    nib_buf_free(&raw);
}

/* ---- configurations ---- */

/* The text of quantization_config without white space, as one reads it in the format's manual. */
static void expect_config(const char *folder, const char *want)
{
    char path[64];
    nib_err err;
    nib_json *root;
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(nib_json_load(&root, scratch(path), 1 << 20, &err), NIB_OK);
    char *text = nib_json_print(nib_json_get(root, "quantization_config"), false);
    assert_string_equal(text, want);
    nib_free(text);
    nib_json_free(root);
}

static void configurations_say_what_they_are(void **state)
{
    (void)state;
    write_folder_ok("c", (nib_recipe){.layout = AWQ}, 2);
    expect_config("c", "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":64,\"zero_point\":true,"
                       "\"version\":\"gemm\",\"modules_to_not_convert\":[\"lm_head\"]}");
    write_folder_ok("c", (nib_recipe){.layout = W4, .force = true}, 2);
    expect_config(
        "c",
        "{\"quant_method\":\"compressed-tensors\",\"version\":\"0.12.2\",\"format\":\"pack-"
        "quantized\",\"quantization_status\":\"compressed\",\"global_compression_ratio\":null,"
        "\"kv_cache_scheme\":null,\"sparsity_config\":{},\"transform_config\":{},\"ignore\":[\"lm_"
        "head\"],\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"format\":\"pack-"
        "quantized\",\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"strategy\":"
        "\"group\",\"group_size\":128,\"block_structure\":null,\"dynamic\":false,\"actorder\":null,"
        "\"observer\":\"memoryless_minmax\",\"observer_kwargs\":{}},\"input_activations\":null,"
        "\"output_activations\":null}}}");
}

/* ---- damage ---- */

typedef struct {
    const nib_packing *layout;
    const char *file, *from, *to, *says;
} damage;

static const damage damages[] = {
    {&AWQ, "config.json", "\"bits\":\t4", "\"bits\":\t3", "'bits'"},
    {&AWQ, "config.json", "\"group_size\":\t64", "\"group_size\":\t32", "shape"},
    {&AWQ, "config.json", "\"group_size\":\t64", "\"group_size\":\t\"\"", "'group_size'"},
    {&AWQ, "config.json", "\"gemm\"", "\"gemv\"", "'version' is 'gemv'"},
    {&AWQ, "model.safetensors", "q_proj.qzeros", "q_proj.qzerox", "qzeros' is missing"},
    {&AWQ, "model.safetensors", "q_proj.qweight", "q_proj.qweighx", "qweight' is missing"},
    {&AWQ, "model.safetensors", "\"I32\"", "\"U32\"", "dtype is u32, should be i32"},
    {&W4, "config.json", "\"num_bits\":\t4", "\"num_bits\":\t8", "weight_shape': says"},
    {&W4, "config.json", "\"num_bits\":\t4", "\"num_bits\":\t1", "weight_shape': says"},
    {&W4, "config.json", "\"num_bits\":\t4", "\"num_bits\":\t9", "not from 1 to 8"},
    {&W4, "config.json", "\"num_bits\":\t4", "\"num_bits\":\t3", "weight_shape': says"},
    {&W4, "config.json", "\"group_size\":\t128", "\"group_size\":\t256", "shape"},
    {&W4, "config.json", "\"strategy\":\t\"group\"", "\"strategy\":\t\"block\"",
     "'block_structure'"},
    {&W4, "config.json", "\"type\":\t\"int\"", "\"type\":\t\"fp8\"", "'type' is 'fp8'"},
    {&W4, "config.json", "quantized\",\n\t\t\t\"weights\"", "quantizer\",\n\t\t\t\"weights\"",
     "is 'pack-quantizer'"},
    {&W4, "config.json", "\"config_groups\"", "\"config_groupz\"", "'config_groups'"},
    {&W4, "config.json", "\"dynamic\":\tfalse", "\"dynamic\":\ttrue ", ", dynamic"},
    {&W4, "config.json", "\"symmetric\":\ttrue", "\"symmetric\":false", "zero_point' is missing"},
    {&W4, "model.safetensors", "q_proj.weight_shape", "q_proj.weight_shapx", "shape' is missing"},
    {&W4, "model.safetensors", "q_proj.weight_scale", "q_proj.weight_scalx", "scale' is missing"},
    {&W4, "model.safetensors", "\"I64\"", "\"F64\"", "dtype is f64, should be i64"},
    {&W4_ASYM, "config.json", "\"symmetric\":\tfalse", "\"symmetric\":\ttrue ",
     "holds zero points other than 0"},
    {&W8A8, "config.json", "\"strategy\":\t\"token\"", "\"strategy\":\t\"group\"", "'group_size'"},
    {&W8A8, "config.json", "\"channel\"", "\"tensor\" ", "weight_scale': shape"},
    {&W8A8_TENSOR, "config.json", "\"tensor\"", "\"token\" ", "strategy 'token'; nibble reads"},
    {&W8A8_TENSOR, "config.json", "\t\"tensor\"", "\"channel\"", "weight_scale': shape"},
    {&W8A8, "config.json", "\"dynamic\":\ttrue", "\"dynamic\":false", "by token or"},
    {&W8A8, "model.safetensors", "q_proj.weight_scale", "q_proj.weight_scalx", "scale' is missing"},
    {&W8A8, "model.safetensors", "q_proj.weight\"", "q_proj.weighx\"", "weight' is missing"},
    {&W8A8, "model.safetensors", "\"I8\"", "\"U8\"", "dtype is u8, should be i8"},
};

static void damaged_folders_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const damage *d = &damages[i];
        char file[64];
        write_folder_ok("hurt", (nib_recipe){.layout = *d->layout, .force = true}, 2);
        snprintf(file, sizeof file, "hurt/%s", d->file);
        patch(file, d->from, d->to);
        refuse_folder("hurt", d->says);
    }
}

static void damaged_numbers_are_refused(void **state)
{
    (void)state;
    static const char layer[] = "model.layers.0.mlp.up_proj";
    const nib_act_range act = {0.05f, 0};
    char name[64];
    nib_packing f = W8A8_STATIC;
    write_folder_ok("numbers", (nib_recipe){.layout = W4}, 2);
    snprintf(name, sizeof name, "%s.weight_shape", layer);
    patch_tensor("numbers", name, "\x11", 1);
    refuse_folder("numbers", "up_proj.weight_shape': says [");
    f.act_sym = true;
    write_by_hand("numbers", f, &act);
    snprintf(name, sizeof name, "%s.input_scale", layer);
    patch_tensor("numbers", name, "\0\0", 2); /* 0 */
    refuse_folder("numbers", "up_proj.input_scale': the scale is 0");
    patch_tensor("numbers", name, "\xc0\x7f", 2); /* NaN */
    refuse_folder("numbers", "up_proj.input_scale': the scale is nan");
}

/* Opening fails with a message whichever allocation does, and leaves nothing behind. */
static void memory_is_short(void **state)
{
    (void)state;
    nib_packing f = W4_ASYM;
    nib_code rc = NIB_ENOMEM;
    char path[256];
    long n = 0;
    f.desc_act = true;
    write_by_hand("short", f, NULL);
    snprintf(path, sizeof path, "%s", scratch("short"));
    while (rc) {
        nib_source *s;
        nib_err err = {0};
        nib_mem_fail_at(++n);
        rc = nib_source_open(&s, path, &err);
        nib_mem_fail_at(0);
        assert_true(rc == NIB_OK || (rc == err.code && err.msg[0] && !s));
        nib_source_close(s);
    }
    assert_true(n > 28);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_hold_the_rounded_model),
        cmocka_unit_test(bytes_of_rows_multiply),
        cmocka_unit_test(importances_are_used),
        cmocka_unit_test(order_of_columns_is_kept),
        cmocka_unit_test(inputs_are_described),
        cmocka_unit_test(configurations_say_what_they_are),
        cmocka_unit_test(damaged_folders_are_refused),
        cmocka_unit_test(damaged_numbers_are_refused),
        cmocka_unit_test(memory_is_short),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
