/* SPDX-License-Identifier: MIT */
/* Whether an unfinished run may be taken up is decided by a fingerprint: everything that decides
 * the result changes it, nothing else does. */
#include "base/linalg.h"
#include "tests/run/planning.h"
#include "tests/run/solving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static nib_windows windows;

static int set_up(void **state)
{
    int rc = open_tiny(state);
    if (!rc) pick_windows(&windows, &tiny, "calibration.txt", 3);
    return rc;
}

static int tear_down(void **state)
{
    nib_windows_free(&windows);
    return close_tiny(state);
}

/* All that a run is given. */
typedef struct {
    nib_recipe recipe;
    nib_solve_opts opts;
    nib_windows windows;
} asked;

static uint64_t fingerprint(const asked *a)
{
    nib_plan p;
    nib_err err = {0};
    uint64_t out;
    plan_ok(&p, &a->recipe, NULL);
    if (nib_solve_fingerprint(&out, &p, &a->windows, &a->opts, &err)) fail_msg("%s", err.msg);
    nib_plan_free(&p);
    return out;
}

static asked file(void)
{
    return (asked){{.type = "q4_k_m", .method = NIB_METHOD_GPTQ}, nib_solve_defaults(), windows};
}

static asked folder(void)
{
    asked a = file();
    a.recipe.type = NULL, a.recipe.format = NIB_FORMAT_DIR, a.recipe.out = scratch("folder");
    a.recipe.layout = (nib_packing){.bits = 4, .group = 64};
    return a;
}

static asked w8a8(void)
{
    asked a = folder();
    a.recipe.layout =
        (nib_packing){.kind = NIB_PACKING_CT_INT, .bits = 8, .sym = true, .act = NIB_ACT_TENSOR};
    return a;
}

/* ---- what counts ---- */

/* One of many changes; false behind the last. */
static bool change_file(asked *a, int i)
{
    static const char *const skip = "1.ffn_up:skip=true", *const rtn = "1.ffn_up:method=rtn";
    static int32_t other[3 * N_CTX];
    *a = file();
    switch (i) {
    case 0: return true;
    case 1: a->opts.gptq.damp = 0.02; return true;
    case 2: a->opts.gptq.order = NIB_ORDER_NATURAL; return true;
    case 3: a->opts.gptq.when = NIB_PARAMS_REACHED; return true;
    case 4: a->opts.gptq.lazy = 64; return true;
    case 5: a->opts.gptq.sweeps = 3; return true;
    case 6: a->opts.drift = 0.25; return true;
    case 7: a->opts.drift = 0; return true;
    case 8: a->opts.drift = 0, a->opts.propagate = false; return true;
    case 9: a->opts.true_sequential = true; return true;
    case 10: a->opts.held_out = 4; return true;
    case 11: a->recipe.type = "q4_k_s"; return true;
    case 12: a->recipe.overrides = &skip, a->recipe.n_overrides = 1; return true;
    case 13: a->recipe.overrides = &rtn, a->recipe.n_overrides = 1; return true;
    case 14: a->recipe.transform = NIB_TRANSFORM_AWQ; return true;
    case 15: a->recipe.transform = NIB_TRANSFORM_SMOOTHQUANT; return true;
    case 16:
        a->recipe.transform = NIB_TRANSFORM_SMOOTHQUANT;
        a->opts.rescale.alpha = 0.6;
        return true;
    case 17: a->windows.n--; return true;
    case 18: a->windows.n_ctx /= 2, a->windows.n *= 2; return true;
    case 19:
        memcpy(other, windows.id, sizeof other);
        other[3 * N_CTX - 1]++;
        a->windows.id = other;
        return true;
    default: return false;
    }
}

static bool change_folder(asked *a, int i)
{
    *a = i < 8 ? folder() : w8a8();
    nib_packing *f = &a->recipe.layout;
    switch (i) {
    case 0: return true;
    case 1: f->bits = 3; return true;
    case 2: f->group = 128; return true;
    case 3: f->sym = true; return true;
    case 4: f->v2 = true; return true;
    case 5: f->desc_act = true; return true;
    case 6: f->kind = NIB_PACKING_CT_PACKED; return true;
    case 7: a->recipe.scales = NIB_SCALES_SQUARE; return true;
    case 8: return true;
    case 9: f->per_tensor = true; return true;
    case 10: f->act_sym = true; return true;
    case 11: f->act = NIB_ACT_TOKEN; return true;
    case 12: a->opts.range = NIB_RANGE_KL; return true;
    case 13: a->opts.range = NIB_RANGE_PERCENTILE; return true;
    case 14: a->opts.range = NIB_RANGE_PERCENTILE, a->opts.percentile = 99.9; return true;
    default: return false;
    }
}

static void all_that_decides_counts(void **state)
{
    (void)state;
    bool (*const kinds[])(asked *, int) = {change_file, change_folder};
    uint64_t seen[64];
    size_t n = 0;
    asked a;
    for (int k = 0; k < 2; k++)
        for (int i = 0; kinds[k](&a, i); i++, n++) {
            assert_true(n < sizeof seen / sizeof *seen);
            seen[n] = fingerprint(&a);
            for (size_t j = 0; j < n; j++)
                if (seen[j] == seen[n])
                    fail_msg("change %d of kind %d has the fingerprint of number %zu", i, k, j);
        }
}

/* A run may go on with more memory, to another place, or report what it did not before. */
static void nothing_else_counts(void **state)
{
    (void)state;
    asked a = file();
    const uint64_t usual = fingerprint(&a);
    a.opts.memory = 1;
    assert_true(fingerprint(&a) == usual);
    a.recipe.out = scratch("else.gguf"), a.recipe.force = true;
    assert_true(fingerprint(&a) == usual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_decides_counts),
        cmocka_unit_test(nothing_else_counts),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("run_solve_opts", tests, set_up, tear_down);
}
