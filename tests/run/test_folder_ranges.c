/* SPDX-License-Identifier: MIT */
/* Folders whose inputs are rounded by ranges that were measured beforehand: they hold those, and
 * nothing is measured anew. */
#include "base/cpu.h"
#include "base/half.h"
#include "base/linalg.h"
#include "calib/input_ranges.h"
#include "tests/run/folders.h"
#include "tests/run/solving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { FEW = 16 };

static const nib_packing SYM = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR, .act_sym = true};
static const nib_packing ASYM = {
    .kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR};

static nib_ranges measured;

static int measure(void **state)
{
    opened o;
    nib_windows w = {0};
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    nib_linalg_init();
    if (scratch_make(state)) return -1;
    open_model(&o, tiny_llama());
    pick_windows(&w, &o, "calibration.txt", FEW);
    nib_code rc = nib_measure_ranges(&measured, &o.model, &w, NIB_RANGE_PERCENTILE,
                                     nib_solve_defaults().percentile, &ctx, &err);
    nib_windows_free(&w);
    close_model(&o);
    return rc ? -1 : 0;
}

static int clean_up(void **state)
{
    nib_ranges_free(&measured);
    return scratch_remove(state);
}

/* Every packed weight of the folder has the range of what it reads. Scales are stored in the
 * model's bf16. */
static void check_ranges(const char *folder, bool sym)
{
    opened o;
    size_t n = 0;
    open_model(&o, scratch(folder));
    for (uint32_t layer = 0; layer < o.model.hp.n_layer; layer++)
        for (nib_role role = NIB_ROLE_FIRST_BLOCK; role < NIB_ROLE_COUNT; role++) {
            const nib_tensor *t = nib_model_param(&o.model, layer, role)->weight;
            const nib_act_quant *act = t && t->n_dims == 2 ? nib_tensor_act(t) : NULL;
            const nib_range *r = nib_ranges_find(&measured, layer, role);
            if (!act) continue;
            n++;
            const float scale = sym ? r->scale : r->asym_scale;
            assert_true(act->scheme == NIB_ACT_TENSOR && act->sym == sym);
            assert_true(act->range.scale == nib_bf16_to_f32(nib_f32_to_bf16(scale)));
            assert_int_equal(act->range.zero, sym ? 0 : r->zero);
        }
    assert_int_equal(n, 28);
    close_model(&o);
}

static void rounded_weights_need_no_text(void **state)
{
    (void)state;
    write_folder_ok("sym", (nib_recipe){.layout = SYM, .ranges = &measured}, 2);
    check_ranges("sym", true);
    write_folder_ok("asym", (nib_recipe){.layout = ASYM, .ranges = &measured}, 2);
    check_ranges("asym", false);
}

static void solved_weights_have_them_too(void **state)
{
    (void)state;
    const variation v = {.folder = &ASYM, .windows = FEW, .ranges = &measured};
    solve_ok(scratch("solved"), &v);
    check_ranges("solved", false);
}

/* What a run measures itself is the same where it, too, sees the original model's activations. */
static void measured_in_the_run(void **state)
{
    (void)state;
    const variation v = {.folder = &ASYM,
                         .windows = FEW,
                         .range = NIB_RANGE_PERCENTILE,
                         .rtn = true,
                         .no_propagate = true,
                         .hold_out_none = true};
    assert_int_equal(solve_ok(scratch("own"), &v), 0);
    check_ranges("own", false);
}

/* A run that was killed goes on with the same ranges only. */
static void other_ranges_are_another_run(void **state)
{
    (void)state;
    variation v = {.folder = &SYM, .windows = FEW, .ranges = &measured};
    kill_after("killed", 1, v);
    nib_range *one = &measured.input[measured.n - 1].range;
    const float scale = one->scale;
    one->scale *= 2;
    v.resume = true;
    solve_fails(scratch("killed"), &v, NIB_EINVAL, "another model, text or recipe");
    one->scale = scale;
    solve_ok(scratch("killed"), &v);
    check_ranges("killed", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_weights_need_no_text),
        cmocka_unit_test(solved_weights_have_them_too),
        cmocka_unit_test(measured_in_the_run),
        cmocka_unit_test(other_ranges_are_another_run),
    };
    return cmocka_run_group_tests_name("run_dir_ranges", tests, measure, clean_up);
}
