/* SPDX-License-Identifier: MIT */
/* What is derived from a block's steps, against what is known of the architectures: which linears
 * share an input, what absorbs a scale, whose rows are turned, and that no two values that are
 * still needed lie in one place. */
#include "infer/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define STEP(op, weight, to, a, b, flags)                                                          \
    {                                                                                              \
        NIB_OP_##op, NIB_ROLE_##weight, NIB_REG_##to, NIB_REG_##a, NIB_REG_##b, flags              \
    }
#define LIST(steps) ((nib_steps){steps, sizeof steps / sizeof *steps})

/* The input whose readers are these, 0 at the end. */
static void expect_input(const nib_input *in, nib_role producer, bool by_heads, const nib_role *r)
{
    size_t n = 0;
    while (r[n]) n++;
    assert_int_equal(in->n_readers, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(in->reader[i], r[i]);
    assert_int_equal(in->producer, producer);
    if (producer) assert_int_equal(in->by_heads, by_heads);
}

static const nib_arch *find_arch(const char *name)
{
    for (size_t i = 0; i < nib_arch_count(); i++)
        if (!strcmp(nib_arch_at(i)->name, name)) return nib_arch_at(i);
    fail_msg("no architecture '%s'", name);
    return NULL;
}

/* The form of it that comes last in the table. */
static const nib_arch *find_last_form(const char *name)
{
    const nib_arch *last = find_arch(name);
    for (const nib_arch *a = last; a < nib_arch_at(0) + nib_arch_count(); a++)
        if (!strcmp(a->name, name)) last = a;
    return last;
}

static void norm_attention_norm_gated_layer(void **state)
{
    (void)state;
    static const char *const names[] = {"llama",  "qwen2",   "qwen3",  "gemma2",
                                        "gemma3", "smollm3", "granite"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const nib_steps *s = &find_arch(names[i])->block;
        nib_inputs in;
        nib_steps_inputs(&in, s);
        assert_int_equal(in.n, 4);
        expect_input(&in.input[0], NIB_ROLE_ATTN_NORM, false,
                     (nib_role[]){NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V, 0});
        expect_input(&in.input[1], NIB_ROLE_ATTN_V, true, (nib_role[]){NIB_ROLE_ATTN_OUTPUT, 0});
        expect_input(&in.input[2], NIB_ROLE_FFN_NORM, false,
                     (nib_role[]){NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP, 0});
        expect_input(&in.input[3], NIB_ROLE_FFN_UP, false, (nib_role[]){NIB_ROLE_FFN_DOWN, 0});
        for (nib_role r = NIB_ROLE_FIRST_BLOCK; r < NIB_ROLE_COUNT; r++) {
            const nib_output_use use = nib_steps_output(s, r);
            const bool score = r == NIB_ROLE_ATTN_Q || r == NIB_ROLE_ATTN_K;
            assert_int_equal(use.scores, score);
            assert_int_equal(use.turned, score);
        }
    }
}

/* The router reads what the experts read, each of them for its own tokens. */
static void experts_are_apart(void **state)
{
    (void)state;
    nib_inputs in;
    nib_steps_inputs(&in, &find_arch("qwen3moe")->block);
    assert_int_equal(in.n, 4);
    expect_input(
        &in.input[2], NIB_ROLE_FFN_NORM, false,
        (nib_role[]){NIB_ROLE_FFN_ROUTER, NIB_ROLE_FFN_GATE_EXPS, NIB_ROLE_FFN_UP_EXPS, 0});
    expect_input(&in.input[3], NIB_ROLE_FFN_UP_EXPS, false,
                 (nib_role[]){NIB_ROLE_FFN_DOWN_EXPS, 0});
    assert_int_equal(in.input[0].n_experts, 0);
    assert_int_equal(in.input[2].n_experts, 2);
    assert_int_equal(in.input[3].n_experts, 1);
}

/* OLMo-2: linears read the residual stream itself. */
static void nothing_absorbs_the_residual_stream(void **state)
{
    (void)state;
    static const nib_step olmo2[] = {
        STEP(LINEAR, ATTN_Q, Q, X, X, 0),
        STEP(LINEAR, ATTN_K, K, X, X, 0),
        STEP(LINEAR, ATTN_V, V, X, X, 0),
        STEP(ATTEND, NONE, Q, Q, X, 0),
        STEP(LINEAR, ATTN_OUTPUT, X, Q, X, NIB_STEP_ADD),
        STEP(LINEAR, FFN_GATE, G, X, X, 0),
        STEP(LINEAR, FFN_UP, U, X, X, 0),
        STEP(GLU, NONE, G, G, U, 0),
        STEP(LINEAR, FFN_DOWN, X, G, X, NIB_STEP_ADD),
    };
    nib_inputs in;
    nib_steps_inputs(&in, &LIST(olmo2));
    assert_int_equal(in.n, 4);
    expect_input(&in.input[0], NIB_ROLE_NONE, false,
                 (nib_role[]){NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V, 0});
    expect_input(&in.input[2], NIB_ROLE_NONE, false,
                 (nib_role[]){NIB_ROLE_FFN_GATE, NIB_ROLE_FFN_UP, 0});
    assert_false(nib_steps_output(&LIST(olmo2), NIB_ROLE_ATTN_Q).turned);
}

/* What lies between two linears decides: a maximum with 0 commutes with scales, GELU and gpt-oss's
 * clamped gate do not; and of a joint linear no part is divided. */
static void activations_that_absorb_no_scale(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        nib_role reader, producer;
        bool last_form;
    } of[] = {
        {"opt", NIB_ROLE_FFN_DOWN, NIB_ROLE_FFN_UP, false},
        {"opt", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_ATTN_V, false},
        {"gpt2", NIB_ROLE_FFN_DOWN, NIB_ROLE_NONE, false},
        {"gpt2", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_NONE, false},
        {"gpt-oss", NIB_ROLE_FFN_DOWN_EXPS, NIB_ROLE_NONE, false},
        {"gpt-oss", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_ATTN_V, false},
        {"phi3", NIB_ROLE_FFN_DOWN, NIB_ROLE_NONE, false},
        {"phi3", NIB_ROLE_ATTN_QKV, NIB_ROLE_ATTN_NORM, false},
        {"qwen2moe", NIB_ROLE_FFN_DOWN_SHEXP, NIB_ROLE_FFN_UP_SHEXP, false},
        {"olmo2", NIB_ROLE_ATTN_Q, NIB_ROLE_NONE, false},
        {"olmo2", NIB_ROLE_FFN_DOWN, NIB_ROLE_FFN_UP, false},
        {"stablelm", NIB_ROLE_FFN_UP, NIB_ROLE_FFN_NORM, false},
        {"command-r", NIB_ROLE_FFN_UP, NIB_ROLE_ATTN_NORM, false},
        {"olmo", NIB_ROLE_FFN_UP, NIB_ROLE_NONE, false},
        {"olmo", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_ATTN_V, false},
        {"olmo", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_NONE, .last_form = true}, /* clip_qkv */
        {"olmoe", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_ATTN_V, false},
        {"olmoe", NIB_ROLE_ATTN_OUTPUT, NIB_ROLE_NONE, .last_form = true}, /* clip_qkv */
        {"opt", NIB_ROLE_FFN_UP, NIB_ROLE_NONE, false},                    /* plain norms */
        {"opt", NIB_ROLE_FFN_UP, NIB_ROLE_NONE, .last_form = true},        /* normed residuals */
        {"bloom", NIB_ROLE_ATTN_QKV, NIB_ROLE_ATTN_NORM, false},
        {"bloom", NIB_ROLE_ATTN_QKV, NIB_ROLE_NONE, .last_form = true}, /* normed residuals */
        {"bloom", NIB_ROLE_FFN_UP, NIB_ROLE_NONE, .last_form = true},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        nib_inputs in;
        size_t found = 0;
        nib_steps_inputs(&in, &(of[i].last_form ? find_last_form : find_arch)(of[i].arch)->block);
        for (size_t k = 0; k < in.n; k++)
            for (size_t r = 0; r < in.input[k].n_readers; r++) {
                if (in.input[k].reader[r] != of[i].reader) continue;
                found++;
                if (in.input[k].producer != of[i].producer)
                    fail_msg("%s: %s", of[i].arch, nib_role_name(of[i].reader));
            }
        assert_int_equal(found, 1);
    }
}

/* Cohere: one norm feeds both branches, and one scale serves all five. */
static void parallel_branches_share_a_norm(void **state)
{
    (void)state;
    static const nib_step cohere[] = {
        STEP(NORM, ATTN_NORM, H, X, X, 0),  STEP(LINEAR, ATTN_Q, Q, H, X, 0),
        STEP(LINEAR, ATTN_K, K, H, X, 0),   STEP(LINEAR, ATTN_V, V, H, X, 0),
        STEP(ATTEND, NONE, Q, Q, X, 0),     STEP(LINEAR, ATTN_OUTPUT, X, Q, X, NIB_STEP_ADD),
        STEP(LINEAR, FFN_GATE, G, H, X, 0), STEP(LINEAR, FFN_UP, U, H, X, 0),
        STEP(GLU, NONE, G, G, U, 0),        STEP(LINEAR, FFN_DOWN, X, G, X, NIB_STEP_ADD),
    };
    nib_inputs in;
    nib_steps_inputs(&in, &LIST(cohere));
    assert_int_equal(in.n, 3);
    expect_input(&in.input[0], NIB_ROLE_ATTN_NORM, false,
                 (nib_role[]){NIB_ROLE_ATTN_Q, NIB_ROLE_ATTN_K, NIB_ROLE_ATTN_V, NIB_ROLE_FFN_GATE,
                              NIB_ROLE_FFN_UP, 0});
}

/* A norm between values and attention, or a reader that is no linear: nothing can absorb. */
static void what_is_not_only_scaled_absorbs_nothing(void **state)
{
    (void)state;
    static const nib_step list[] = {
        STEP(NORM, ATTN_NORM, H, X, X, 0),
        STEP(LINEAR, ATTN_Q, Q, H, X, 0),
        STEP(LINEAR, ATTN_K, K, H, X, 0),
        STEP(LINEAR, ATTN_V, V, H, X, 0),
        STEP(HEAD_NORM, ATTN_K_NORM, V, V, X, 0),
        STEP(ATTEND, NONE, Q, Q, X, 0),
        STEP(LINEAR, ATTN_OUTPUT, U, Q, X, 0),
        STEP(GLU, NONE, U, U, H, 0),
        STEP(LINEAR, FFN_DOWN, X, U, X, NIB_STEP_ADD),
    };
    nib_inputs in;
    nib_steps_inputs(&in, &LIST(list));
    assert_int_equal(in.n, 3);
    for (size_t i = 0; i < in.n; i++) assert_int_equal(in.input[i].producer, NIB_ROLE_NONE);
}

/* Run the steps on numbers that stand for values: each reads what was last written there. */
static void values_do_not_lie_on_each_other(void **state)
{
    (void)state;
    static const size_t width[NIB_REG_COUNT] = {
        [NIB_REG_X] = 48, [NIB_REG_H] = 48,  [NIB_REG_Q] = 64,  [NIB_REG_K] = 32,
        [NIB_REG_V] = 32, [NIB_REG_G] = 96,  [NIB_REG_U] = 96,  [NIB_REG_Y] = 48,
        [NIB_REG_R] = 8,  [NIB_REG_EG] = 96, [NIB_REG_EU] = 96, [NIB_REG_EY] = 48};
    for (size_t a = 0; a < nib_arch_count(); a++) {
        const nib_steps *s = &nib_arch_at(a)->block;
        size_t at[NIB_STEPS_MAX], order[2 * NIB_STEPS_MAX], n_order = 0, owner[1024];
        size_t where[NIB_REG_COUNT] = {0}, made[NIB_REG_COUNT] = {0};
        const size_t total = nib_steps_layout(at, s, width);
        /* Attention: h, q, k and v; feed-forward: h, gate and up. */
        if (!strcmp(nib_arch_at(a)->name, "llama")) assert_int_equal(total, 48 + 2 * 96);
        /* Two experts, one after the other. */
        for (size_t i = 0, first = s->n; i < s->n; i++) {
            if (s->step[i].flags & NIB_STEP_EXPERT && first == s->n) first = i;
            order[n_order++] = i;
            for (; s->step[i].op == NIB_OP_MIX && first <= i; first++) order[n_order++] = first;
        }
        for (size_t k = 0; k < n_order; k++) {
            const size_t i = order[k];
            const nib_step *t = &s->step[i];
            nib_reg read[4] = {t->a};
            size_t n = 1;
            if (t->op == NIB_OP_GLU) read[n++] = t->b;
            if (t->op == NIB_OP_ATTEND) read[n++] = NIB_REG_K, read[n++] = NIB_REG_V;
            for (size_t r = 0; r < n; r++)
                for (size_t j = 0; read[r] != NIB_REG_X && j < width[read[r]]; j++)
                    assert_int_equal(owner[where[read[r]] + j], made[read[r]]);
            if (t->to == NIB_REG_X) continue;
            assert_true(at[i] + width[t->to] <= total);
            where[t->to] = at[i];
            made[t->to] = i + 1;
            for (size_t j = 0; j < width[t->to]; j++) owner[at[i] + j] = i + 1;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_attention_norm_gated_layer),
        cmocka_unit_test(experts_are_apart),
        cmocka_unit_test(nothing_absorbs_the_residual_stream),
        cmocka_unit_test(activations_that_absorb_no_scale),
        cmocka_unit_test(parallel_branches_share_a_norm),
        cmocka_unit_test(what_is_not_only_scaled_absorbs_nothing),
        cmocka_unit_test(values_do_not_lie_on_each_other),
    };
    return cmocka_run_group_tests_name("infer_step", tests, NULL, NULL);
}
