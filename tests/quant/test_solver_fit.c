/* SPDX-License-Identifier: MIT */
/* The parameters that the solver finds for blocks: weighed by the diagonal of H, whatever the order
 * of columns, and at last the best for their codes. */
#include "blocks.h"

#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "quant/gptq.h"
#include "quant/round.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { COLS = 512, ROWS = 6 };

static float w[ROWS * COLS], h[COLS * COLS];
static uint8_t code[ROWS * COLS];
static nib_block_param param[ROWS * COLS / 32];
static const nib_type TYPES[] = {NIB_Q4_0, NIB_Q4_1, NIB_Q2_K,   NIB_Q3_K,
                                 NIB_Q4_K, NIB_Q5_K, NIB_IQ4_XS, NIB_Q6_K};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* Column outer[c] is the c-th of the blocks. */
static void solve(const nib_codec *c, const nib_gptq_opts *o, uint32_t *outer)
{
    nib_gptq *g;
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    must(nib_gptq_new(&g, o, &ctx, &err), &err);
    must(nib_gptq_prepare(g, h, COLS, 0, 1, &err), &err);
    must(nib_gptq_solve(g, c, w, ROWS, code, param, NULL, &err), &err);
    for (uint32_t i = 0; i < COLS; i++) outer[i] = nib_gptq_outer(g) ? nib_gptq_outer(g)[i] : i;
    nib_gptq_free(g);
}

/* Inputs that do not move together leave nothing to feed forward: weights are rounded to nearest,
 * with the diagonal of H as importances. */
static void a_diagonal_is_importances(void **state)
{
    (void)state;
    static const nib_gptq_opts ways[] = {
        {.lazy = 128},
        {.lazy = 128, .order = NIB_ORDER_DIAGONAL},
        {.lazy = 128, .when = NIB_PARAMS_REACHED},
        {.lazy = 128, .order = NIB_ORDER_DIAGONAL, .when = NIB_PARAMS_REACHED}};
    static float ordered[ROWS * COLS], value[ROWS * COLS], imp[COLS];
    static uint8_t want[ROWS * COLS];
    const nib_ctx ctx = {.threads = 1};
    nib_err err = {0};
    uint32_t seed = 1, outer[COLS];
    fill_block(w, ROWS * COLS, BLOCK_NORMAL, &seed);
    fill_importance(imp, COLS, &seed);
    memset(h, 0, sizeof h);
    for (size_t i = 0; i < COLS; i++) h[i * COLS + i] = imp[i];
    for (size_t t = 0; t < N_TYPES; t++)
        for (size_t o = 0; o < sizeof ways / sizeof *ways; o++) {
            const nib_codec *c = nib_codec_get(TYPES[t]);
            solve(c, &ways[o], outer);
            for (size_t i = 0; i < COLS; i++) {
                imp[i] = h[outer[i] * COLS + outer[i]];
                for (size_t r = 0; r < ROWS; r++) ordered[r * COLS + i] = w[r * COLS + outer[i]];
            }
            must(nib_round_rows(c, ordered, imp, ROWS, COLS, value, want, NULL, &ctx, &err), &err);
            for (size_t i = 0; i < ROWS * COLS; i++)
                if (code[i / COLS * COLS + outer[i % COLS]] != want[i])
                    fail_msg("%s, way %zu: other codes than by rounding", c->name, o);
        }
}

/* ---- refits ---- */

static void make_correlated(void)
{
    enum { TOKENS = 2 * COLS };
    float *x = nib_alloc(TOKENS * COLS, sizeof *x);
    uint32_t seed = 2;
    fill_block(w, ROWS * COLS, BLOCK_NORMAL, &seed);
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] += 0.1f;
    for (size_t t = 0; t < TOKENS; t++) {
        float before = 0;
        for (size_t j = 0; j < COLS; j++) {
            before = 0.9f * before + noise(&seed);
            x[t * COLS + j] = before;
        }
    }
    nib_gemm_tn(COLS, COLS, TOKENS, x, COLS, x, COLS, h, COLS, 0);
    nib_free(x);
}

/* sum of a H b over columns [from, from + n) of a and all of b. */
static double product(const double *a, size_t from, size_t n, const double *b, size_t b0, size_t bn)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < bn; k++) sum += a[i] * h[(from + i) * COLS + b0 + k] * b[k];
    return sum;
}

/* What the best d and dmin of block b for the codes as they are would take from e'He. */
static double left_to_gain(const nib_codec *c, const nib_block_param *p, const uint8_t *codes,
                           size_t at, const double *e)
{
    double u[NIB_BLOCK_MAX], v[NIB_BLOCK_MAX];
    const size_t n = c->block;
    for (size_t i = 0; i < n; i++) {
        u[i] = p->sc[i / c->sub] *
               (c->codebook ? c->codebook[codes[i]] : (float)(c->level0 + codes[i]));
        v[i] = -p->mn[i / c->sub];
    }
    const double uu = product(u, at, n, u, at, n), uv = product(u, at, n, v, at, n),
                 vv = product(v, at, n, v, at, n), ug = product(u, at, n, e, 0, COLS),
                 vg = product(v, at, n, e, 0, COLS), det = uu * vv - uv * uv;
    if (det > 1e-6 * uu * vv) return (ug * ug * vv - 2 * ug * vg * uv + vg * vg * uu) / det;
    return uu > 0 ? ug * ug / uu : 0;
}

/* Descent stops by itself when a sweep gains less than 1/1000 of the error, a refit of each block
 * among it; what the sub-blocks changed after theirs, and the rounding of d and dmin to f16, may
 * leave a few times that. */
static void super_scales_are_the_best_for_their_codes(void **state)
{
    (void)state;
    uint32_t outer[COLS];
    nib_gptq_opts o = nib_gptq_defaults();
    o.sweeps = 60, o.damp = 0.001;
    make_correlated();
    for (size_t t = 0; t < N_TYPES; t++) {
        const nib_codec *c = nib_codec_get(TYPES[t]);
        double error = 0, gain = 0;
        solve(c, &o, outer);
        for (size_t r = 0; r < ROWS; r++) {
            double e[COLS];
            const nib_block_param *p = param + r * (COLS / c->block);
            for (size_t i = 0; i < COLS; i++) {
                const nib_block_param *q = &p[i / c->block];
                const size_t s = i % c->block / c->sub, k = code[r * COLS + i];
                const double level = c->codebook ? c->codebook[k] : (float)(c->level0 + (int)k);
                e[i] = w[r * COLS + i] -
                       ((double)q->d * q->sc[s] * level - (double)q->dmin * q->mn[s]);
            }
            error += product(e, 0, COLS, e, 0, COLS);
            for (size_t b = 0; b < COLS / c->block; b++)
                gain += left_to_gain(c, &p[b], code + r * COLS + b * c->block, b * c->block, e);
        }
        if (!(gain < 0.005 * error))
            fail_msg("%s: refits would gain %g of %g", c->name, gain, error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_diagonal_is_importances),
        cmocka_unit_test(super_scales_are_the_best_for_their_codes),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("solver_fit", tests, NULL, NULL);
}
