/* SPDX-License-Identifier: MIT */
/* Experts from statistics to files: each with what its own tokens say, whichever form the
 * checkpoint has and wherever activations are kept. */
#include "base/cpu.h"
#include "base/linalg.h"
#include "calib/collect_importance.h"
#include "calib/pass.h"
#include "tests/run/solving.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { EXPERTS = 8, USED = 2, HIDDEN = 64, INSIDE = 128, FEW = 16 };

static char model[512];
static opened o;
static nib_windows windows;
static const nib_ctx ctx = {.threads = 2};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static int set_up(void **state)
{
    int rc = scratch_make(state);
    if (rc) return rc;
    nib_linalg_init();
    snprintf(model, sizeof model, "%s",
             random_model("model", gen_family_find("qwen3moe"), HIDDEN, 2, NIB_BF16));
    open_model(&o, model);
    pick_windows(&windows, &o, "calibration.txt", FEW);
    return 0;
}

static int tear_down(void **state)
{
    nib_windows_free(&windows);
    close_model(&o);
    return scratch_remove(state);
}

/* ---- what each expert's tokens say ---- */

/* Sums written out: of every token's input of the router, and of the experts' by the routing that
 * follows from it. */
typedef struct {
    double sum[2][EXPERTS][HIDDEN];
    size_t n[2][EXPERTS];
    const float *batch; /* what the router read */
} plain;

static nib_code look(void *arg, const nib_linear_input *in, nib_err *err)
{
    plain *p = arg;
    (void)err;
    if (in->role[0] == NIB_ROLE_FFN_ROUTER) p->batch = in->x;
    if (in->role[0] != NIB_ROLE_FFN_GATE_EXPS) return NIB_OK;
    assert_int_equal(in->n_roles, 2);
    for (size_t i = 0; i < in->rows; i++) {
        assert_true(!i || in->token[i] > in->token[i - 1]);
        const float *x = p->batch + (size_t)in->token[i] * HIDDEN;
        assert_memory_equal(x, in->x + i * HIDDEN, HIDDEN * sizeof *x);
        for (size_t j = 0; j < HIDDEN; j++)
            p->sum[in->layer][in->expert][j] += (double)x[j] * (double)x[j];
    }
    p->n[in->layer][in->expert] += in->rows;
    return NIB_OK;
}

static const nib_imatrix_entry *entry(const nib_imatrix *im, uint32_t layer, nib_role role)
{
    char name[64];
    nib_place_gguf_name((nib_place){.layer = layer, .role = role, .expert = NIB_EXPERTS_ALL}, name,
                        sizeof name);
    const nib_imatrix_entry *e = nib_imatrix_find(im, name);
    assert_non_null(e);
    assert_int_equal(e->n_mat, EXPERTS);
    return e;
}

static void importances_are_those_of_the_routed_tokens(void **state)
{
    (void)state;
    static plain p;
    nib_err err = {0};
    nib_imatrix im;
    const nib_calib_opts opts = nib_calib_defaults();
    must(nib_collect_importance(&im, &o.model, &windows, &opts, &ctx, &err), &err);
    const nib_pass pass = {.observer = {.linear_input = look, .arg = &p}};
    must(nib_pass_run(&pass, &o.model, &windows, 0, &ctx, &err), &err);
    for (uint32_t layer = 0; layer < 2; layer++) {
        const nib_imatrix_entry *gate = entry(&im, layer, NIB_ROLE_FFN_GATE_EXPS),
                                *up = entry(&im, layer, NIB_ROLE_FFN_UP_EXPS),
                                *down = entry(&im, layer, NIB_ROLE_FFN_DOWN_EXPS);
        double tokens = 0;
        for (size_t e = 0; e < EXPERTS; e++) {
            assert_int_equal(gate->counts[e], p.n[layer][e]);
            assert_int_equal(down->counts[e], p.n[layer][e]);
            tokens += gate->counts[e];
            for (size_t j = 0; j < HIDDEN; j++)
                assert_true(gate->in_sum2[e * HIDDEN + j] == p.sum[layer][e][j]);
        }
        assert_memory_equal(gate->in_sum2, up->in_sum2, EXPERTS * HIDDEN * sizeof *up->in_sum2);
        assert_int_equal(tokens, USED * FEW * N_CTX);
    }
    must(nib_imatrix_save(&im, scratch("im.gguf"), true, &err), &err);
    nib_imatrix back;
    must(nib_imatrix_load(&back, scratch("im.gguf"), &err), &err);
    assert_int_equal(entry(&back, 1, NIB_ROLE_FFN_DOWN_EXPS)->cols, INSIDE);
    nib_imatrix_free(&back);
    nib_imatrix_free(&im);
}

/* Shown to all experts: each has the sums that the router has, and what the block makes is the
 * same. */
static void all_experts_see_all_tokens(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix routed, all;
    nib_calib_opts opts = nib_calib_defaults();
    must(nib_collect_importance(&routed, &o.model, &windows, &opts, &ctx, &err), &err);
    opts.all_experts = true;
    must(nib_collect_importance(&all, &o.model, &windows, &opts, &ctx, &err), &err);
    for (uint32_t layer = 0; layer < 2; layer++) {
        char name[64];
        const nib_imatrix_entry *gate = entry(&all, layer, NIB_ROLE_FFN_GATE_EXPS),
                                *down = entry(&all, layer, NIB_ROLE_FFN_DOWN_EXPS);
        nib_place_gguf_name((nib_place){.layer = layer, .role = NIB_ROLE_FFN_ROUTER}, name,
                            sizeof name);
        const nib_imatrix_entry *router = nib_imatrix_find(&all, name),
                                *before = nib_imatrix_find(&routed, name);
        assert_memory_equal(router->in_sum2, before->in_sum2, HIDDEN * sizeof *router->in_sum2);
        for (size_t e = 0; e < EXPERTS; e++) {
            assert_int_equal(gate->counts[e], FEW * N_CTX);
            assert_int_equal(down->counts[e], FEW * N_CTX);
            for (size_t j = 0; j < HIDDEN; j++) /* summed in another order */
                assert_true(fabs(gate->in_sum2[e * HIDDEN + j] / router->in_sum2[j] - 1) < 1e-5);
            assert_true(!e || down->in_sum2[e * INSIDE] != down->in_sum2[0]);
        }
    }
    nib_imatrix_free(&routed);
    nib_imatrix_free(&all);
}

/* ---- rounded ---- */

/* A stack is each expert by itself, with its own importances; one that saw nothing has the mean. */
static void stacks_are_rounded_expert_by_expert(void **state)
{
    (void)state;
    nib_err err = {0};
    nib_imatrix im;
    nib_source *s;
    const nib_recipe r = {.out = scratch("imp.gguf"), .type = "q4_0", .force = true, .pure = true};
    const nib_calib_opts opts = nib_calib_defaults();
    must(nib_collect_importance(&im, &o.model, &windows, &opts, &ctx, &err), &err);
    nib_imatrix_entry *unseen = nib_imatrix_find(&im, "blk.1.ffn_up_exps.weight");
    unseen->counts[3] = 0;
    quantize_ok(model, &r, &im);
    must(nib_source_open(&s, r.out, &err), &err);
    const nib_tensor *t = nib_source_find(s, "blk.1.ffn_up_exps.weight");
    assert_true(t && t->n_dims == 3 && t->shape[0] == EXPERTS && t->shape[1] == INSIDE);
    uint8_t *bytes = tensor_bytes(s, t), *want = nib_alloc(t->bytes / EXPERTS, 1);
    void *room = nib_alloc(nib_encode_scratch(HIDDEN), 1);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        float imp[HIDDEN];
        const nib_place p = {.layer = 1, .role = NIB_ROLE_FFN_UP_EXPS, .expert = e};
        float *w = tensor_values(o.src, nib_model_tensor(&o.model, p));
        for (size_t j = 0; j < HIDDEN; j++) {
            double sum = 0, rows = 0;
            for (size_t k = 0; k < EXPERTS; k++) {
                if (k == 3 || (e != 3 && k != e)) continue;
                sum += unseen->in_sum2[k * HIDDEN + j];
                rows += unseen->counts[k];
            }
            imp[j] = (float)(sum / rows);
        }
        nib_codec_get(NIB_Q4_0)->encode(want, w, imp, INSIDE, HIDDEN, 0, room);
        assert_memory_equal(bytes + e * (t->bytes / EXPERTS), want, t->bytes / EXPERTS);
        nib_free(w);
    }
    nib_free(room);
    nib_free(want);
    nib_free(bytes);
    nib_source_close(s);
    nib_imatrix_free(&im);
}

/* ---- solved ---- */

static const variation usual = {.model = model, .type = "q4_0", .windows = FEW, .pure = true};

static void same_bytes(void **state)
{
    (void)state;
    variation v = usual;
    /* q, k and v; output; gate, up and down of each expert */
    assert_int_equal(solve_ok(scratch("usual.gguf"), &v), 2 * (4 + 3 * EXPERTS));
    v.threads = 1;
    solve_ok(scratch("other.gguf"), &v);
    assert_true(same_files(scratch("usual.gguf"), scratch("other.gguf")));
    v.memory = 1;
    solve_ok(scratch("other.gguf"), &v);
    assert_true(same_files(scratch("usual.gguf"), scratch("other.gguf")));
    assert_int_equal(scratch_count("other"), 1);
    kill_after("killed.gguf", 1, v);
    v = usual;
    v.resume = true;
    solve_ok(scratch("killed.gguf"), &v);
    assert_true(same_files(scratch("usual.gguf"), scratch("killed.gguf")));
}

/* The output's error of the experts in a file, on what they read in the original model. */
typedef struct {
    nib_model *file;
    const nib_source *src;
    double error, energy;
    size_t n;
} judge;

static nib_code measure(void *arg, const nib_linear_input *in, nib_err *err)
{
    judge *j = arg;
    (void)err;
    if (in->role[0] != NIB_ROLE_FFN_GATE_EXPS) return NIB_OK;
    const nib_place p = {.layer = in->layer, .role = NIB_ROLE_FFN_UP_EXPS, .expert = in->expert};
    float *w = tensor_values(o.src, nib_model_tensor(&o.model, p)),
          *q = tensor_values(j->src, nib_model_tensor(j->file, p));
    for (size_t r = 0; r < in->rows; r += 7)
        for (size_t i = 0; i < INSIDE; i++) {
            double y = 0, z = 0;
            for (size_t c = 0; c < HIDDEN; c++) {
                y += (double)w[i * HIDDEN + c] * (double)in->x[r * HIDDEN + c];
                z += (double)q[i * HIDDEN + c] * (double)in->x[r * HIDDEN + c];
            }
            j->error += (y - z) * (y - z);
            j->energy += y * y;
        }
    nib_free(w);
    nib_free(q);
    return NIB_OK;
}

static double error_of(const char *path)
{
    nib_err err = {0};
    opened f;
    open_model(&f, path);
    judge j = {.file = &f.model, .src = f.src};
    const nib_pass pass = {.observer = {.linear_input = measure, .arg = &j}};
    must(nib_pass_run(&pass, &o.model, &windows, 0, &ctx, &err), &err);
    close_model(&f);
    return j.error / j.energy;
}

static void solving_beats_rounding(void **state)
{
    (void)state;
    const nib_recipe r = {.out = scratch("rtn.gguf"), .type = "q4_0", .force = true, .pure = true};
    variation v = usual;
    quantize_ok(model, &r, NULL);
    const double rounded = error_of(r.out);
    v.no_propagate = true;
    solve_ok(scratch("solved.gguf"), &v);
    const double solved = error_of(scratch("solved.gguf"));
    print_message("# error of experts: rounded %.4f, solved %.4f\n", rounded, solved);
    assert_true(solved < 0.6 * rounded);
}

/* One window: some experts see fewer tokens than can be solved with, or none. */
static void few_tokens(void **state)
{
    (void)state;
    variation v = usual;
    v.windows = 1;
    v.hold_out_none = true;
    nib_solve_report report;
    nib_err err = {0};
    must(solve(scratch("few.gguf"), &v, &report, &err), &err);
    assert_true(report.n <= 2 * (4 + 3 * EXPERTS));
    nib_solve_report_free(&report);
    assert_true(isfinite(error_of(scratch("few.gguf"))));
}

/* Also of tokens that they will not see; better than rounding for those that they will. */
static void all_experts_are_solved(void **state)
{
    (void)state;
    variation v = usual;
    v.all_experts = true;
    assert_int_equal(solve_ok(scratch("all.gguf"), &v), 2 * (4 + 3 * EXPERTS));
    const double solved = error_of(scratch("all.gguf"));
    print_message("# shown all tokens %.4f\n", solved);
    assert_true(solved < 0.8 * error_of(scratch("rtn.gguf")));
}

static void folders_hold_each_expert(void **state)
{
    (void)state;
    const nib_packing ct = {.kind = NIB_PACKING_CT_PACKED, .bits = 4, .group = 32, .sym = true};
    variation v = usual;
    opened f;
    v.folder = &ct;
    v.pure = false;
    assert_int_equal(solve_ok(scratch("folder"), &v), 2 * (4 + 3 * EXPERTS));
    open_model(&f, scratch("folder"));
    assert_non_null(nib_source_find(f.src, "model.layers.1.mlp.experts.7.down_proj.weight"));
    assert_true(error_of(scratch("folder")) < 0.01);
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(importances_are_those_of_the_routed_tokens),
        cmocka_unit_test(all_experts_see_all_tokens),
        cmocka_unit_test(stacks_are_rounded_expert_by_expert),
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(solving_beats_rounding),
        cmocka_unit_test(few_tokens),
        cmocka_unit_test(all_experts_are_solved),
        cmocka_unit_test(folders_hold_each_expert),
    };
    return cmocka_run_group_tests_name("run_experts", tests, set_up, tear_down);
}
