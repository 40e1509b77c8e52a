/* SPDX-License-Identifier: MIT */
/* Configurations of packed folders as their tools write them, and as they should not be. */
#include "formats/packed_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* How a layer is packed; packed false: no rule says that it is. */
static nib_code read_layer(nib_packing *f, bool *packed, const char *method, const char *text,
                           const char *layer, nib_err *err)
{
    nib_json *j;
    nib_packing_rules rules = {0};
    const nib_packing *found = NULL;
    if (nib_json_parse(&j, text, strlen(text), err)) fail_msg("%s: %s", text, err->msg);
    nib_code rc = nib_packed_config_read(&rules, method, j, err);
    if (!rc) rc = nib_packing_rules_find(&found, &rules, layer, err);
    *packed = found != NULL;
    if (found) *f = *found;
    nib_packing_rules_free(&rules);
    nib_json_free(j);
    return rc;
}

static nib_code read(nib_packing *f, const char *method, const char *text, nib_err *err)
{
    bool packed;
    nib_code rc = read_layer(f, &packed, method, text, "model.layers.0.mlp.down_proj", err);
    assert_true(rc || packed);
    return rc;
}

static bool same(const nib_packing *a, const nib_packing *b)
{
    return a->kind == b->kind && a->bits == b->bits && a->group == b->group &&
           a->per_tensor == b->per_tensor && a->sym == b->sym && a->desc_act == b->desc_act &&
           a->v2 == b->v2 && a->act == b->act && a->act_sym == b->act_sym &&
           a->act_float == b->act_float && a->rows == b->rows && a->code_type == b->code_type &&
           a->act_most == b->act_most;
}

/* ---- what is read ---- */

typedef struct {
    const char *method, *text;
    nib_packing want; /* scale_type is not compared: the tensors say it */
} reading;

#define E4M3 .bits = 8, .sym = true, .code_type = NIB_F8_E4M3, .act_sym = true
#define CT_WEIGHTS(members)                                                                        \
    "\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"]," members "}}}"

static const reading readings[] = {
    /* AutoGPTQ */
    {"gptq",
     "{\"bits\":4,\"group_size\":128,\"damp_percent\":0.01,\"desc_act\":true,\"sym\":false}",
     {.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .desc_act = true}},
    {"gptq",
     "{\"w_bit\":3,\"q_group_size\":-1,\"checkpoint_format\":\"gptq_v2\"}",
     {.kind = NIB_PACKING_GPTQ, .bits = 3, .sym = true, .v2 = true}},
    /* AutoAWQ: in config.json, and the older quant_config.json */
    {"awq",
     "{\"bits\":4,\"group_size\":128,\"modules_to_not_convert\":null,\"quant_method\":\"awq\","
     "\"version\":\"gemm\",\"zero_point\":true}",
     {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 128}},
    {"awq",
     "{\"zero_point\":true,\"q_group_size\":64,\"w_bit\":4,\"version\":\"GEMM\"}",
     {.kind = NIB_PACKING_AWQ, .bits = 4, .group = 64}},
    /* llm-compressor, the present form and the one before groups had a format */
    {"compressed-tensors",
     "{\"format\":\"mixed-precision\"," CT_WEIGHTS(
         "\"format\":\"pack-quantized\",\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":"
         "false,\"strategy\":\"group\",\"group_size\":128,\"dynamic\":false,\"actorder\":\"group\"}"
         ",\"input_activations\":null"),
     {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 128, .desc_act = true}},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"sparsity_config\":{\"format\":\"dense\",\"global_sparsity\":"
     "0.1}," CT_WEIGHTS("\"weights\":{\"num_bits\":8,\"strategy\":\"group\",\"group_size\":-1,"
                        "\"actorder\":\"weight\"}"),
     {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"strategy\":\"channel\",\"group_size\":null},"
         "\"input_activations\":{\"num_bits\":8,\"strategy\":\"token\",\"dynamic\":true,"
         "\"symmetric\":false}"),
     {.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS("\"weights\":{\"num_bits\":8,\"strategy\":"
                                                 "\"channel\"},\"input_activations\":{\"num_bits\":"
                                                 "8,\"strategy\":\"tensor\",\"dynamic\":false}"),
     {.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR, .act_sym = true}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"strategy\":\"tensor\",\"group_size\":null},"
         "\"input_activations\":{\"num_bits\":8,\"strategy\":\"token\",\"dynamic\":true}"),
     {.kind = NIB_PACKING_CT_INT,
      .bits = 8,
      .per_tensor = true,
      .sym = true,
      .act = NIB_ACT_TOKEN,
      .act_sym = true}},
    /* its schemes W4A8 and W4AFP8, as vLLM loads them; the second as its release of 2026 has it */
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"group_size\":128},"
         "\"input_activations\":{\"num_bits\":8,\"type\":\"int\",\"strategy\":\"token\","
         "\"dynamic\":"
         "true}"),
     {.kind = NIB_PACKING_CT_INT,
      .bits = 4,
      .group = 128,
      .sym = true,
      .act = NIB_ACT_TOKEN,
      .act_sym = true}},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"group_size\":128},"
         "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"token\","
         "\"dynamic\":true}"),
     {.kind = NIB_PACKING_CT_PACKED,
      .bits = 4,
      .group = 128,
      .sym = true,
      .act = NIB_ACT_TOKEN,
      .act_sym = true,
      .act_float = true}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"group_size\":128},"
         "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"token\","
         "\"dynamic\":true}"),
     {.kind = NIB_PACKING_CT_INT,
      .bits = 4,
      .group = 128,
      .sym = true,
      .act = NIB_ACT_TOKEN,
      .act_sym = true,
      .act_float = true}},
    /* Qwen3-FP8 and DeepSeek-V3, Llama-3.1-FP8, AutoFP8 */
    {"fp8",
     "{\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"quant_method\":\"fp8\","
     "\"weight_block_size\":[128,128]}",
     {.kind = NIB_PACKING_FP8, E4M3, .rows = 128, .group = 128}},
    {"fbgemm_fp8",
     "{\"activation_scale_ub\":1200.0,\"modules_to_not_convert\":[\"lm_head\"]}",
     {.kind = NIB_PACKING_FBGEMM, E4M3, .act = NIB_ACT_TOKEN, .act_most = 1200}},
    {"fp8",
     "{\"activation_scheme\":\"static\",\"ignored_layers\":[\"lm_head\"]}",
     {.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true, .act = NIB_ACT_TENSOR}},
    /* Ministral 3 */
    {"fp8",
     "{\"activation_scheme\":\"static\",\"dequantize\":false,\"modules_to_not_convert\":["
     "\"model.vision_tower\",\"lm_head\"],\"weight_block_size\":null}",
     {.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true, .act = NIB_ACT_TENSOR}},
    /* llm-compressor's schemes FP8_BLOCK and FP8_DYNAMIC; NVFP4, which it writes with dtypes */
    {"compressed-tensors",
     "{\"format\":\"float-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
         "\"block_structure\":[128,128],\"group_size\":null},\"input_activations\":{\"num_bits\":8,"
         "\"type\":\"float\",\"strategy\":\"group\",\"group_size\":128,\"dynamic\":true}"),
     {.kind = NIB_PACKING_CT_FP8, E4M3, .rows = 128, .group = 128, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "{\"format\":\"naive-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"channel\"}"),
     {.kind = NIB_PACKING_CT_FP8, .bits = 8, .sym = true, .code_type = NIB_F8_E4M3}},
    {"compressed-tensors",
     "{\"format\":\"nvfp4-pack-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor_group\","
         "\"group_size\":16,\"scale_dtype\":\"torch.float8_e4m3fn\"},\"input_activations\":{"
         "\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor_group\",\"group_size\":16,"
         "\"dynamic\":\"local\"}"),
     {.kind = NIB_PACKING_CT_NVFP4,
      .bits = 4,
      .sym = true,
      .group = 16,
      .act = NIB_ACT_TENSOR,
      .act_sym = true}},
    /* MXFP8 and MXFP8A16, as compressed-tensors 0.19 prints them */
    {"compressed-tensors",
     "{\"format\":\"mxfp8-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":true,\"group_size\":32,"
         "\"strategy\":\"group\",\"block_structure\":null,\"dynamic\":false,\"actorder\":null,"
         "\"scale_dtype\":\"torch.uint8\",\"zp_dtype\":\"torch.uint8\"},\"input_activations\":{"
         "\"num_bits\":8,\"type\":\"float\",\"symmetric\":true,\"group_size\":32,\"strategy\":"
         "\"group\",\"dynamic\":true,\"scale_dtype\":\"torch.uint8\"}"),
     {.kind = NIB_PACKING_CT_MXFP8, E4M3, .group = 32, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "{\"format\":\"mxfp8-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"group\",\"group_size\":32},"
         "\"input_activations\":null"),
     {.kind = NIB_PACKING_CT_MXFP8, .bits = 8, .sym = true, .group = 32, .code_type = NIB_F8_E4M3}},
};

static void read_as_they_are_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof readings / sizeof *readings; i++) {
        const nib_packing *want = &readings[i].want;
        nib_packing f;
        nib_err err;
        if (read(&f, readings[i].method, readings[i].text, &err))
            fail_msg("%s: %s", readings[i].text, err.msg);
        if (!same(&f, want)) fail_msg("%s: read as another", readings[i].text);
    }
}

/* ---- what is written ---- */

typedef struct {
    nib_packing format;
    const char *holds;
} writing;

#define CT_ARGS(sym, strategy, group, dynamic, order)                                              \
    "{\"num_bits\":8,\"type\":\"int\",\"symmetric\":" sym ",\"strategy\":\"" strategy              \
    "\",\"group_size\":" group ",\"block_structure\":null,\"dynamic\":" dynamic                    \
    ",\"actorder\":" order

/* The keys of AutoGPTQ and GPTQModel, and of compressed-tensors. */
static const writing writings[] = {
    {{.kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true},
     "\"bits\":4,\"group_size\":128,\"desc_act\":false,\"sym\":true,\"lm_head\":false,"
     "\"checkpoint_format\":\"gptq\",\"format\":\"gptq\",\"pack_dtype\":\"int32\","
     "\"true_sequential\":true,\"static_groups\":true,\"damp_percent\":0.05,"},
    {{.kind = NIB_PACKING_GPTQ, .bits = 3, .group = 64, .desc_act = true, .v2 = true},
     "\"bits\":3,\"group_size\":64,\"desc_act\":true,\"sym\":false,\"lm_head\":false,"
     "\"checkpoint_format\":\"gptq_v2\",\"format\":\"gptq_v2\",\"pack_dtype\":\"int32\","
     "\"true_sequential\":true,\"static_groups\":false,\"damp_percent\":0.05,"},
    {{.kind = NIB_PACKING_GPTQ, .bits = 8, .sym = true}, "\"bits\":8,\"group_size\":-1,"},
    {{.kind = NIB_PACKING_CT_PACKED, .bits = 8, .group = 32, .desc_act = true},
     "\"weights\":" CT_ARGS("false", "group", "32", "false", "\"group\"")},
    {{.kind = NIB_PACKING_CT_INT,
      .bits = 8,
      .per_tensor = true,
      .sym = true,
      .act = NIB_ACT_TENSOR},
     "\"weights\":" CT_ARGS("true", "tensor", "null", "false", "null")},
    {{.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR},
     "\"input_activations\":" CT_ARGS("false", "tensor", "null", "false", "null")},
    {{.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN, .act_sym = true},
     "\"input_activations\":" CT_ARGS("true", "token", "null", "true", "null")},
    {{.kind = NIB_PACKING_CT_PACKED,
      .bits = 4,
      .group = 128,
      .sym = true,
      .act = NIB_ACT_TOKEN,
      .act_sym = true,
      .act_float = true},
     "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":true,\"strategy\":"
     "\"token\",\"group_size\":null,"},
    {{.kind = NIB_PACKING_FP8, E4M3, .rows = 128, .group = 128},
     "\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"modules_to_not_convert\":[\"lm_head\"],"
     "\"weight_block_size\":[128,128]"},
    {{.kind = NIB_PACKING_FBGEMM, E4M3, .act = NIB_ACT_TOKEN, .act_most = 1200},
     "\"activation_scale_ub\":1200"},
    {{.kind = NIB_PACKING_FP8_TENSOR, E4M3, .per_tensor = true, .act = NIB_ACT_TENSOR},
     "\"activation_scheme\":\"static\",\"fmt\":\"e4m3\",\"modules_to_not_convert\":[\"lm_head\"],"
     "\"weight_block_size\":null"},
    {{.kind = NIB_PACKING_CT_FP8, E4M3, .rows = 128, .group = 128, .act = NIB_ACT_TOKEN},
     "\"strategy\":\"block\",\"group_size\":null,\"block_structure\":[128,128],\"dynamic\":false"},
    {{.kind = NIB_PACKING_CT_FP8, E4M3, .act = NIB_ACT_TOKEN},
     "\"type\":\"float\",\"symmetric\":true,\"strategy\":\"token\""},
    {{.kind = NIB_PACKING_CT_NVFP4,
      .bits = 4,
      .sym = true,
      .group = 16,
      .act = NIB_ACT_TENSOR,
      .act_sym = true},
     "\"strategy\":\"tensor_group\",\"group_size\":16,\"block_structure\":null,\"dynamic\":"
     "\"local\","
     "\"actorder\":null,\"observer\":\"static_minmax\",\"scale_dtype\":\"torch.float8_e4m3fn\""},
    {{.kind = NIB_PACKING_CT_MXFP4, .bits = 4, .sym = true, .group = 32},
     "\"scale_dtype\":\"torch.uint8\",\"zp_dtype\":\"torch.uint8\",\"observer_kwargs\":{}},"
     "\"input_activations\":null"},
    {{.kind = NIB_PACKING_CT_MXFP8, E4M3, .group = 32, .act = NIB_ACT_TOKEN},
     "\"format\":\"mxfp8-quantized\",\"weights\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":"
     "true,\"strategy\":\"group\",\"group_size\":32,"},
    {{.kind = NIB_PACKING_CT_MXFP8, E4M3, .group = 32, .act = NIB_ACT_TOKEN},
     "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":true,\"strategy\":"
     "\"group\",\"group_size\":32,\"block_structure\":null,\"dynamic\":true,\"actorder\":null,"
     "\"observer\":null,\"scale_dtype\":\"torch.uint8\",\"zp_dtype\":\"torch.uint8\""},
};

static void written_as_engines_read_them(void **state)
{
    (void)state;
    const nib_packing_note note = {.output = "lm_head", .true_sequential = true, .damp = 0.05};
    for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
        const writing *w = &writings[i];
        nib_json *j = nib_json_new_object();
        nib_packing f;
        nib_err err;
        assert_true(nib_packed_config_write(j, &w->format, &note));
        char *text = nib_json_print(j, false);
        assert_non_null(text);
        if (!strstr(text, w->holds)) fail_msg("%s\nlacks\n%s", text, w->holds);
        if (read(&f, nib_packing_method(w->format.kind), text, &err)) fail_msg("%s", err.msg);
        if (!same(&f, &w->format)) fail_msg("%s: read as another", text);
        nib_free(text);
        nib_json_free(j);
    }
}

/* ---- layers of their own ---- */

/* The example of GPTQModel's documentation, with rules that overlap. */
static const char DYNAMIC[] =
    "{\"bits\":4,\"group_size\":128,\"desc_act\":true,\"sym\":true,\"dynamic\":{"
    "\".*\\\\.(?:1[0-5])\\\\..*\":{\"bits\":8},"
    "\"+:.*\\\\.(?:1[6-9]|20|21)\\\\..*\":{\"bits\":8,\"group_size\":64,\"sym\":false},"
    "\"-:.*down.*\":{},"
    "\"+:^model\\\\.layers\\\\.3\\\\.\":{\"group_size\":-1,\"desc_act\":false,\"mse\":2.4},"
    "\"mlp\":{\"bits\":2}}}";

#define INT4_GROUP                                                                                 \
    "\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"group\","      \
    "\"group_size\":128,\"dynamic\":false}}"
#define INT8_ROW(sym)                                                                              \
    "\"weights\":{\"num_bits\":8,\"type\":\"int\",\"symmetric\":" sym ",\"strategy\":\"channel\"," \
    "\"dynamic\":false}}"

/* Names before expressions before the class, wherever they stand; of expressions the first in the
 * order of letters: compressed-tensors sorts its targets. */
static const char GROUPS[] =
    "{\"format\":\"mixed-precision\",\"config_groups\":{"
    "\"all\":{\"format\":\"pack-quantized\",\"targets\":[\"Linear\"]," INT4_GROUP ","
    "\"b\":{\"format\":\"pack-quantized\",\"targets\":[\"re:.*v_proj\",\"re:.*mlp\"]," INT8_ROW(
        "false") ","
                 "\"a\":{\"format\":\"pack-quantized\",\"targets\":[\"re:.*(v|k)_proj$\","
                 "\"model.layers.0.mlp.up_proj\"]," INT8_ROW(
                     "true") ","
                             "\"w8a8\":{\"format\":\"int-quantized\",\"targets\":[\"re:.*"
                             "layers\\\\.7\\\\.\"],"
                             "\"input_activations\":{\"num_bits\":8,\"strategy\":\"token\","
                             "\"dynamic\":true}," INT8_ROW("true") "}}";

#define GPTQ4 .kind = NIB_PACKING_GPTQ, .bits = 4, .group = 128, .sym = true, .desc_act = true

static const struct {
    const char *method, *text, *layer;
    bool packed;
    nib_packing want;
} layers[] = {
    {"gptq", DYNAMIC, "model.layers.9.mlp.up_proj", true, {GPTQ4}},
    {"gptq",
     DYNAMIC,
     "model.layers.10.mlp.up_proj",
     true,
     {.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 128, .sym = true, .desc_act = true}},
    {"gptq",
     DYNAMIC,
     "model.layers.21.self_attn.q_proj",
     true,
     {.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 64, .desc_act = true}},
    /* The first that matches wins. */
    {"gptq",
     DYNAMIC,
     "model.layers.15.mlp.down_proj",
     true,
     {.kind = NIB_PACKING_GPTQ, .bits = 8, .group = 128, .sym = true, .desc_act = true}},
    {"gptq", DYNAMIC, "model.layers.3.mlp.down_proj", false, {0}},
    {"gptq",
     DYNAMIC,
     "model.layers.3.mlp.up_proj",
     true,
     {.kind = NIB_PACKING_GPTQ, .bits = 4, .sym = true}},
    {"gptq",
     "{\"bits\":4,\"group_size\":128,\"desc_act\":true,\"dynamic\":null}",
     "lm_head",
     true,
     {GPTQ4}},
    {"compressed-tensors",
     GROUPS,
     "model.layers.0.self_attn.q_proj",
     true,
     {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 128, .sym = true}},
    {"compressed-tensors",
     GROUPS,
     "model.layers.0.self_attn.v_proj",
     true,
     {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true}},
    {"compressed-tensors",
     GROUPS,
     "model.layers.0.mlp.down_proj",
     true,
     {.kind = NIB_PACKING_CT_PACKED, .bits = 8}},
    {"compressed-tensors",
     GROUPS,
     "model.layers.0.mlp.up_proj",
     true,
     {.kind = NIB_PACKING_CT_PACKED, .bits = 8, .sym = true}},
    {"compressed-tensors",
     GROUPS,
     "model.layers.7.self_attn.q_proj",
     true,
     {.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN, .act_sym = true}},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"config_groups\":{\"a\":{\"targets\":[\"re:mlp\"]," INT4_GROUP
     "}}",
     "model.layers.0.mlp.up_proj",
     false,
     {0}},
};

/* Expected: what vLLM's get_dynamic_override() and compressed-tensors' match_targets() answer. */
static void each_layer_has_its_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        nib_packing f;
        nib_err err;
        bool packed;
        if (read_layer(&f, &packed, layers[i].method, layers[i].text, layers[i].layer, &err))
            fail_msg("%s: %s", layers[i].layer, err.msg);
        if (packed != layers[i].packed || (packed && !same(&f, &layers[i].want)))
            fail_msg("%s %s: read as another", layers[i].method, layers[i].layer);
    }
}

/* ---- what is refused ---- */

#define PACKED(weights) "{\"format\":\"pack-quantized\"," CT_WEIGHTS("\"weights\":{" weights "}")

static const struct {
    const char *method, *text, *says;
} refused[] = {
    {"gptq", "{}", "'bits' is missing"},
    {"gptq", "{\"bits\":5,\"group_size\":128}", "'bits'"},
    {"gptq", "{\"bits\":4}", "'group_size' is missing"},
    {"gptq", "{\"bits\":4,\"group_size\":0}", "'group_size'"},
    {"gptq", "{\"bits\":4,\"group_size\":1.5}", "'group_size'"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"sym\":1}", "'sym' is neither true nor false"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"checkpoint_format\":\"gptq_p\"}", "'gptq_p'"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"is_marlin_format\":true}", "'marlin'"},
    {"awq", "{\"group_size\":128}", "'bits' is missing"},
    {"awq", "{\"bits\":4,\"group_size\":128,\"version\":7}", "'version' is not a string"},
    {"compressed-tensors", "{\"format\":\"pack-quantized\"}", "'config_groups' holds no object"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"dynamic\":[]}", "'dynamic' is not an object"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"dynamic\":{\"+:a\":4}}",
     "dynamic: 'a': is not an object"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"dynamic\":{\"+:a\":{\"bits\":5}}}",
     "dynamic: 'a': 'bits'"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"dynamic\":{\"-:a(\":{}}}",
     "dynamic: 'a(': missing closing parenthesis"},
    {"gptq", "{\"bits\":4,\"group_size\":128,\"dynamic\":{\"-:(.+)+[!?]\":{}}}",
     "'(.+)+[!?]': match limit exceeded"},
    {"compressed-tensors", "{\"config_groups\":{}}", "'config_groups' holds no object"},
    {"compressed-tensors", PACKED("\"num_bits\":8,\"strategy\":\"tensor\""),
     "strategy 'tensor'; nibble reads channel and group for pack-quantized"},
    {"compressed-tensors", "{\"config_groups\":{\"W8A8\":[\"Linear\"]}}",
     "'W8A8': is not an object"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"config_groups\":{\"a\":{" INT4_GROUP "}}", "'targets'"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"config_groups\":{\"a\":{\"targets\":[4]," INT4_GROUP "}}",
     "'targets' holds what is no name"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"config_groups\":{\"a\":{\"targets\":[\"x\"]," INT4_GROUP
     ",\"b\":{\"targets\":[\"x\"]," INT8_ROW("true") "}}",
     "'x' is a target twice"},
    {"compressed-tensors", "{\"config_groups\":{\"a\":{}}}", "'format' is ''"},
    {"compressed-tensors", "{\"format\":\"marlin-24\",\"config_groups\":{\"a\":{}}}",
     "'marlin-24'"},
    {"compressed-tensors", PACKED(""), "weights: 'num_bits' is missing"},
    {"compressed-tensors", PACKED("\"num_bits\":4"), "weights: 'strategy' is missing"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"strategy\":\"tensor\""), "'tensor'"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"strategy\":\"group\""), "'group_size'"},
    {"compressed-tensors", PACKED("\"num_bits\":9,\"strategy\":\"channel\""),
     "'num_bits' is missing or not from 1 to 8"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"type\":\"float\""), "'type' is 'float'"},
    {"compressed-tensors",
     "{\"format\":\"float-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
         "\"block_structure\":[128]}"),
     "'block_structure'"},
    {"compressed-tensors",
     "{\"format\":\"float-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"channel\","
         "\"symmetric\":false}"),
     "'symmetric' is false"},
    {"compressed-tensors",
     "{\"format\":\"nvfp4-pack-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor_group\","
         "\"group_size\":32}"),
     "'group_size' is 32, should be 16"},
    {"compressed-tensors",
     "{\"format\":\"float-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
         "\"block_structure\":[128,128]},\"input_activations\":{\"num_bits\":8,\"type\":\"float\","
         "\"strategy\":\"token\",\"dynamic\":true}"),
     "groups as the weights have them"},
    {"fp8", "{\"weight_block_size\":[128,0]}", "'weight_block_size'"},
    {"fp8", "{\"weight_block_size\":[128,128],\"activation_scheme\":\"static\"}",
     "'activation_scheme' is 'static'"},
    {"fbgemm_fp8", "{\"activation_scale_ub\":-1}", "'activation_scale_ub'"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"strategy\":\"channel\",\"actorder\":1"),
     "'actorder' is not a string"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"transform_config\":{\"r\":{}},\"config_groups\":{\"a\":{}}}",
     "'transform_config'"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"sparsity_config\":{\"format\":\"sparse-bitmask\"},"
     "\"config_groups\":{\"a\":{}}}",
     "'sparse-bitmask'"},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"config_groups\":{\"a\":{\"output_activations\":{}}}}",
     "'output_activations'"},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS("\"weights\":{\"num_bits\":8,\"strategy\":"
                                                 "\"channel\"},\"input_activations\":{\"num_bits\":"
                                                 "4,\"strategy\":\"token\",\"dynamic\":true}"),
     "input_activations: 4 bits"},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"strategy\":\"channel\"},\"input_activations\":{\"num_"
         "bits\":"
         "8,\"type\":\"float\",\"strategy\":\"tensor\",\"dynamic\":false}"),
     "input_activations: 8 bits, strategy 'tensor'"},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":4,\"strategy\":\"channel\"},\"input_activations\":{\"num_"
         "bits\":"
         "8,\"type\":\"float\",\"strategy\":\"token\",\"dynamic\":true,\"symmetric\":false}"),
     "floats have no zero point"},
};

static void refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nib_packing f;
        nib_err err;
        if (!read(&f, refused[i].method, refused[i].text, &err))
            fail_msg("%s: should be refused", refused[i].text);
        assert_int_equal(err.code, NIB_EFORMAT);
        if (!strstr(err.msg, refused[i].says)) fail_msg("%s: %s", refused[i].text, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_as_they_are_written),
        cmocka_unit_test(written_as_engines_read_them),
        cmocka_unit_test(each_layer_has_its_format),
        cmocka_unit_test(refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
