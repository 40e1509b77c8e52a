/* SPDX-License-Identifier: MIT */
/* What the user wants otherwise for single tensors, in its several spellings. */
#include "tests/run/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void wishes_for_single_tensors(void **state)
{
    (void)state;
    static const char *const wish[] = {"blk\\.[01]\\.ffn_(up|gate)=Q8_0", "ffn=q5_1", "attn_q=q4_k",
                                       "^output=q8_0", "blk\\.\\d\\.attn_k=f16"};
    nib_plan p;
    nib_recipe r = {.type = "q4_k_s", .tensor_types = wish, .n_tensor_types = 5};
    plan_ok(&p, &r, NULL);
    expect_type(&p, "blk.1.ffn_up.weight", "q8_0", "override 'blk");
    expect_type(&p, "blk.2.ffn_up.weight", "q5_1", "override 'ffn=q5_1'");
    expect_type(&p, "blk.0.attn_q.weight", "q4_k", "base type"); /* base format: passed over */
    expect_type(&p, "blk.0.attn_k.weight", "f16", "override");
    expect_type(&p, "output_norm.weight", "f32", "stay f32"); /* not to be quantized at all */
    nib_plan_free(&p);

    r.pure = true;
    plan_ok(&p, &r, NULL);
    expect_type(&p, "token_embd.weight", "q4_k", "--pure");
    expect_type(&p, "blk.0.attn_v.weight", "q4_k", "--pure");
    expect_type(&p, "blk.3.ffn_down.weight", "q5_1", "override");
    nib_plan_free(&p);

    /* The tied embedding is both; the more exact wish wins. */
    r = (nib_recipe){.type = "q4_0", .output_type = "q8_0"};
    plan_ok(&p, &r, NULL);
    expect_type(&p, "token_embd.weight", "q8_0", "--output-type");
    nib_plan_free(&p);
    r.embedding_type = "BF16";
    plan_ok(&p, &r, NULL);
    expect_type(&p, "token_embd.weight", "bf16", "--embedding-type");
    assert_int_equal(find_planned(&p, "token_embd.weight")->action, NIB_ACTION_COPY);
    nib_plan_free(&p);
}

/* One mechanism, three options: names of both worlds, what comes first, and what each key does. */
static void overrides(void **state)
{
    (void)state;
    static const char *const over[] = {"layers\\.1\\.mlp\\.up:type=Q6_K,method=rtn",
                                       "^blk\\.(?:1|2)\\.ffn_up:type=q8_0",
                                       "k_proj:skip=true",
                                       "embed_tokens:type=q5_0",
                                       "ffn_gate:method=rtn",
                                       "attn_v:type=q4_k"},
                             *const types[] = {"ffn_up=q5_1", "self_attn=q8_0"};
    nib_plan p;
    nib_recipe r = {.type = "q4_k_s",
                    .method = NIB_METHOD_GPTQ,
                    .overrides = over,
                    .n_overrides = 6,
                    .tensor_types = types,
                    .n_tensor_types = 2,
                    .protect_blocks = "1"};
    plan_ok(&p, &r, NULL);
    expect_type(&p, "blk.1.ffn_up.weight", "q6_k", "override 'layers");
    expect_type(&p, "blk.2.ffn_up.weight", "q8_0", "override '^blk");
    expect_type(&p, "blk.3.ffn_up.weight", "q5_1", "override 'ffn_up=q5_1'");
    expect_type(&p, "blk.0.attn_k.weight", "bf16", "skip"); /* the source's dtype */
    expect_type(&p, "token_embd.weight", "q5_0", "override 'embed_tokens");
    expect_type(&p, "blk.1.ffn_gate.weight", "q4_k", "base type"); /* the format is not mentioned */
    expect_type(&p, "blk.0.attn_v.weight", "q4_k", "override");    /* the base, but meant */
    expect_type(&p, "blk.1.attn_q.weight", "q4_k",
                "base type"); /* --tensor-type: GGUF names only */
    expect_type(&p, "blk.0.attn_q.weight", "q5_k", "--protect-blocks 1");
    expect_type(&p, "blk.3.ffn_down.weight", "q5_k", "--protect-blocks 1");
    assert_int_not_equal(find_planned(&p, "blk.1.ffn_up.weight")->action, NIB_ACTION_STAGE);
    assert_int_equal(find_planned(&p, "blk.2.ffn_up.weight")->action, NIB_ACTION_STAGE);
    assert_int_not_equal(find_planned(&p, "blk.0.ffn_gate.weight")->action, NIB_ACTION_STAGE);
    assert_int_not_equal(find_planned(&p, "blk.2.attn_k.weight")->action, NIB_ACTION_STAGE);
    assert_int_equal(find_planned(&p, "blk.0.attn_q.weight")->action, NIB_ACTION_STAGE);
    assert_int_equal(p.n_solved, 28 - 1 - 4 - 4);
    nib_plan_free(&p);

    static const char *const solve[] = {"attn_q:method=gptq"};
    plan_ok(&p, &(nib_recipe){.overrides = solve, .n_overrides = 1}, NULL);
    assert_int_equal(find_planned(&p, "blk.0.attn_q.weight")->action, NIB_ACTION_STAGE);
    assert_int_equal(p.n_solved, 4);
    nib_plan_free(&p);
}

/* Each format's next one in bits per weight, as the README's table has them. */
static void protected_blocks(void **state)
{
    (void)state;
    static const char *const next[][3] = {
        {"q2_k", "q2_k", "q3_k"},   {"q3_k_s", "q3_k", "q4_k"},   {"q4_k_s", "q4_k", "q5_k"},
        {"q5_k_s", "q5_k", "q6_k"}, {"q6_k", "q6_k", "q8_0"},     {"q8_0", "q8_0", "q8_0"},
        {"q4_0", "q4_0", "q5_0"},   {"q4_1", "q4_1", "q5_1"},     {"q5_0", "q5_0", "q8_0"},
        {"q5_1", "q5_1", "q8_0"},   {"iq4_nl", "iq4_nl", "q5_0"}, {"iq4_xs", "iq4_xs", "q5_k"},
        {"f16", "f16", "f16"},      {"bf16", "bf16", "bf16"},
    };
    nib_plan p;
    for (size_t i = 0; i < sizeof next / sizeof *next; i++) {
        nib_recipe r = {.type = next[i][0], .protect_blocks = "1", .pure = true};
        plan_ok(&p, &r, NULL);
        expect_type(&p, "blk.0.attn_q.weight", next[i][2], "--protect-blocks 1");
        expect_type(&p, "blk.3.ffn_down.weight", next[i][2], "--protect-blocks 1");
        expect_type(&p, "blk.1.attn_q.weight", next[i][1], "--pure");
        expect_type(&p, "token_embd.weight", next[i][1], "--pure");
        nib_plan_free(&p);
    }
    plan_ok(&p, &(nib_recipe){.type = "q3_k_m", .protect_blocks = "2:q8_0"}, NULL);
    for (unsigned l = 0; l < 4; l++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", l);
        expect_type(&p, name, "q8_0", "--protect-blocks 2:q8_0");
    }
    nib_plan_free(&p);
    plan_ok(&p, &(nib_recipe){.type = "q3_k_m", .protect_blocks = "1:skip"}, NULL);
    expect_type(&p, "blk.3.attn_q.weight", "bf16", "--protect-blocks 1:skip");
    expect_type(&p, "blk.2.attn_q.weight", "q3_k", "base type");
    nib_plan_free(&p);
}

static void wrong_overrides(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"attn_v", "--override 'attn_v': not of the form REGEX:KEY=VALUE,..."},
        {":type=q8_0", "not of the form REGEX:KEY=VALUE"},
        {"attn_v:", "'' is not of the form KEY=VALUE"},
        {"attn_v:type", "'type' is not of the form KEY=VALUE"},
        {"attn_v:type=q8_0,", "'' is not of the form KEY=VALUE"},
        {"attn_v:scale=2", "'scale' is no key for GGUF files; these are: method, skip, type"},
        {"attn_v:type=q9_9", "'attn_v:type=q9_9': tensor type 'q9_9' cannot be written; these can"},
        {"attn_v:type=q8_0,type=q8_0", "'type' is given twice"},
        {"attn_v:method=awq", "method 'awq' is none of rtn, hqq and gptq"},
        {"attn_v:skip=no", "skip can only be true, not 'no'"},
        {"attn_v:skip=true,type=q8_0", "skip leaves nothing for the other keys to say"},
        {"attn_(v:type=q8_0", "missing closing parenthesis, at character 8 of the pattern"},
        {"attn_v:type=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "aaa' is not of the form KEY=VALUE"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        plan_fails(&(nib_recipe){.overrides = &wrong[i][0], .n_overrides = 1}, NULL, NIB_EINVAL,
                   wrong[i][1]);
    static const char *const counts[] = {"",   "0",     "-1",    "x",
                                         "2x", "16385", ":q8_0", "99999999999999"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        plan_fails(&(nib_recipe){.protect_blocks = counts[i]}, NULL, NIB_EINVAL,
                   "not of the form K or K:TYPE, K from 1 to 16384");
    plan_fails(&(nib_recipe){.protect_blocks = "1:q9_9"}, NULL, NIB_EINVAL,
               "--protect-blocks '1:q9_9': tensor type 'q9_9' cannot be written");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wishes_for_single_tensors),
        cmocka_unit_test(overrides),
        cmocka_unit_test(protected_blocks),
        cmocka_unit_test(wrong_overrides),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
