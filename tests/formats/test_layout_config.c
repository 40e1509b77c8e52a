/* SPDX-License-Identifier: MIT */
/* Configurations of packed folders as their tools write them, and as they should not be. */
#include "formats/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static nib_code read(nib_layout_format *f, const char *method, const char *text, nib_err *err)
{
    nib_json *j;
    if (nib_json_parse(&j, text, strlen(text), err)) fail_msg("%s: %s", text, err->msg);
    nib_code rc = nib_layout_config_read(f, method, j, err);
    nib_json_free(j);
    return rc;
}

/* ---- what is read ---- */

typedef struct {
    const char *method, *text;
    nib_layout_format want; /* scale_type is not compared: the tensors say it */
} reading;

#define CT_WEIGHTS(members)                                                                        \
    "\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"]," members "}}}"

static const reading readings[] = {
    /* AutoGPTQ */
    {"gptq",
     "{\"bits\":4,\"group_size\":128,\"damp_percent\":0.01,\"desc_act\":true,\"sym\":false}",
     {.kind = NIB_LAYOUT_GPTQ, .bits = 4, .group = 128, .desc_act = true}},
    {"gptq",
     "{\"w_bit\":3,\"q_group_size\":-1,\"checkpoint_format\":\"gptq_v2\"}",
     {.kind = NIB_LAYOUT_GPTQ, .bits = 3, .sym = true, .v2 = true}},
    /* AutoAWQ: in config.json, and the older quant_config.json */
    {"awq",
     "{\"bits\":4,\"group_size\":128,\"modules_to_not_convert\":null,\"quant_method\":\"awq\","
     "\"version\":\"gemm\",\"zero_point\":true}",
     {.kind = NIB_LAYOUT_AWQ, .bits = 4, .group = 128}},
    {"awq",
     "{\"zero_point\":true,\"q_group_size\":64,\"w_bit\":4,\"version\":\"GEMM\"}",
     {.kind = NIB_LAYOUT_AWQ, .bits = 4, .group = 64}},
    /* llm-compressor, the present form and the one before groups had a format */
    {"compressed-tensors",
     "{\"format\":\"mixed-precision\"," CT_WEIGHTS(
         "\"format\":\"pack-quantized\",\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":"
         "false,\"strategy\":\"group\",\"group_size\":128,\"dynamic\":false,\"actorder\":\"group\"}"
         ",\"input_activations\":null"),
     {.kind = NIB_LAYOUT_CT_PACKED, .bits = 4, .group = 128, .desc_act = true}},
    {"compressed-tensors",
     "{\"format\":\"pack-quantized\",\"sparsity_config\":{\"format\":\"dense\",\"global_sparsity\":"
     "0.1}," CT_WEIGHTS("\"weights\":{\"num_bits\":8,\"strategy\":\"group\",\"group_size\":-1,"
                        "\"actorder\":\"weight\"}"),
     {.kind = NIB_LAYOUT_CT_PACKED, .bits = 8, .sym = true}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS(
         "\"weights\":{\"num_bits\":8,\"strategy\":\"channel\",\"group_size\":null},"
         "\"input_activations\":{\"num_bits\":8,\"strategy\":\"token\",\"dynamic\":true,"
         "\"symmetric\":false}"),
     {.kind = NIB_LAYOUT_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TOKEN}},
    {"compressed-tensors",
     "{\"format\":\"int-quantized\"," CT_WEIGHTS("\"weights\":{\"num_bits\":8,\"strategy\":"
                                                 "\"channel\"},\"input_activations\":{\"num_bits\":"
                                                 "8,\"strategy\":\"tensor\",\"dynamic\":false}"),
     {.kind = NIB_LAYOUT_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR, .act_sym = true}},
};

static void read_as_they_are_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof readings / sizeof *readings; i++) {
        const nib_layout_format *want = &readings[i].want;
        nib_layout_format f;
        nib_err err;
        if (read(&f, readings[i].method, readings[i].text, &err))
            fail_msg("%s: %s", readings[i].text, err.msg);
        if (f.kind != want->kind || f.bits != want->bits || f.group != want->group ||
            f.sym != want->sym || f.desc_act != want->desc_act || f.v2 != want->v2 ||
            f.act != want->act || f.act_sym != want->act_sym)
            fail_msg("%s: read as another", readings[i].text);
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
    {"awq", "{\"bits\":4,\"group_size\":128,\"zero_point\":false}", "no symmetric form"},
    {"compressed-tensors", "{\"format\":\"pack-quantized\"}", "'config_groups' holds no object"},
    {"compressed-tensors", "{\"config_groups\":{\"W8A8\":[\"Linear\"]}}", "holds no object"},
    {"compressed-tensors", "{\"config_groups\":{\"a\":{},\"b\":{}}}", "more than one group"},
    {"compressed-tensors", "{\"config_groups\":{\"a\":{}}}", "'format' is ''"},
    {"compressed-tensors", "{\"format\":\"float-quantized\",\"config_groups\":{\"a\":{}}}",
     "'float-quantized'"},
    {"compressed-tensors", PACKED(""), "weights: 'num_bits' is missing"},
    {"compressed-tensors", PACKED("\"num_bits\":4"), "weights: 'strategy' is missing"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"strategy\":\"tensor\""), "'tensor'"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"strategy\":\"group\""), "'group_size'"},
    {"compressed-tensors", PACKED("\"num_bits\":5,\"strategy\":\"channel\""), "'num_bits' is 5"},
    {"compressed-tensors", PACKED("\"num_bits\":4,\"type\":\"float\""), "'type' is 'float'"},
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
};

static void refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nib_layout_format f;
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
        cmocka_unit_test(refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
