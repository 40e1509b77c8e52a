/* SPDX-License-Identifier: MIT */
/* Laws of the solver, for every quantized format: descent never makes it worse, the report is true,
 * the result can be packed, and neither threads nor kernels change a bit of it. And what it does
 * with Hessians that are not as they should be. */
#include "blocks.h"
#include "cpus.h"

#include "base/linalg.h"
#include "base/mem.h"
#include "quant/codec_int.h"
#include "quant/gptq.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { COLS = 512, ROWS = 70, MAX_BLOCKS = COLS / 32 };

/* One layer: weights, second moments, and room for a result. */
typedef struct {
    float *w, *h;
    uint8_t *code;
    nib_block_param *param;
    nib_gptq_report report;
    double damp;
    size_t tokens; /* 0: h is exact */
} layer;

/* Inputs that lean on their neighbours and differ in size from channel to channel. */
static layer make_layer(uint32_t seed)
{
    enum { TOKENS = 2 * COLS };
    layer y = {.w = nib_alloc(ROWS * COLS, sizeof(float)),
               .h = nib_alloc(COLS * COLS, sizeof(float)),
               .code = nib_calloc(ROWS * COLS, 1),
               .param = nib_calloc(ROWS * MAX_BLOCKS, sizeof(nib_block_param))};
    float *x = nib_alloc(TOKENS * COLS, sizeof *x);
    for (size_t i = 0; i < ROWS * COLS; i++) y.w[i] = 0.1f * noise(&seed);
    for (size_t t = 0; t < TOKENS; t++) {
        float before = 0;
        for (size_t j = 0; j < COLS; j++) {
            before = 0.9f * before + noise(&seed);
            x[t * COLS + j] = before * (j % 37 == 5 ? 8.0f : 1 + 0.01f * (float)(j % 53));
        }
    }
    nib_gemm_tn(COLS, COLS, TOKENS, x, COLS, x, COLS, y.h, COLS, 0);
    nib_free(x);
    return y;
}

static void free_layer(layer *y)
{
    nib_free(y->w), nib_free(y->h), nib_free(y->code), nib_free(y->param);
}

static nib_code try_solve(layer *y, const nib_codec *c, const nib_gptq_opts *o, const nib_ctx *ctx,
                          size_t rows, nib_err *err)
{
    nib_gptq *g;
    nib_code rc = nib_gptq_new(&g, o, ctx, err);
    if (!rc) rc = nib_gptq_prepare(g, y->h, COLS, y->tokens, c->vec ? NIB_VEC_MAX : 1, err);
    if (!rc) rc = nib_gptq_solve(g, c, y->w, rows, y->code, y->param, &y->report, err);
    if (!rc) y->damp = nib_gptq_damp(g);
    nib_gptq_free(g);
    return rc;
}

static void solve(layer *y, const nib_codec *c, const nib_gptq_opts *o, int threads, unsigned cpu)
{
    nib_err err = {0};
    nib_ctx ctx = {.threads = threads, .cpu = cpu};
    if (try_solve(y, c, o, &ctx, ROWS, &err)) fail_msg("%s: %s", c->name, err.msg);
}

/* The next quantized format that can be fitted; NULL after the last. */
static const nib_codec *next_codec(int *type)
{
    while (++*type < NIB_TYPE_COUNT) {
        const nib_codec *c = nib_codec_get((nib_type)*type);
        if (c->quantized && c->fit) return c;
    }
    return NULL;
}

/* ---- what the result is worth ---- */

static void values_of(const layer *y, const nib_codec *c, float *q)
{
    const size_t blocks = COLS / c->block;
    uint8_t packed[NIB_BLOCK_MAX * 4];
    assert_true(c->bytes <= sizeof packed);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t b = 0; b < blocks; b++) {
            const nib_block_param *p = &y->param[r * blocks + b];
            c->pack(packed, p, y->code + r * COLS + b * c->block);
            assert_true(c->valid(packed, 1));
            c->decode(q + r * COLS + b * c->block, packed, 1, 0);
        }
}

/* The values that codes and parameters stand for (see nib_block_param), bit for bit what decode()
 * makes of the packed bytes. */
static void check_packed(const layer *y, const nib_codec *c, const float *q)
{
    for (size_t i = 0; i < ROWS * COLS; i++) {
        const nib_block_param *p = &y->param[i / c->block];
        size_t s = i % c->block / c->sub;
        float level = c->codebook ? c->codebook[y->code[i]] : (float)(c->level0 + y->code[i]);
        float scale = p->d * nib_codec_sub_scale(c, p->sc[s]), offset = p->dmin * p->mn[s];
        float value = scale * (level - (float)p->zero) - offset;
        if (value != q[i]) fail_msg("%s: weight %zu: %.9g, packed %.9g", c->name, i, value, q[i]);
    }
}

/* tr((W-Q) H (W-Q)') under the damped H; q NULL: tr(W H W'). */
static double plain_error(const layer *y, const float *q)
{
    double mean = 0, error = 0;
    for (size_t i = 0; i < COLS; i++) mean += y->h[i * COLS + i] / COLS;
    for (size_t r = 0; r < ROWS; r++) {
        double e[COLS];
        for (size_t i = 0; i < COLS; i++)
            e[i] = (double)y->w[r * COLS + i] - (q ? q[r * COLS + i] : 0);
        for (size_t i = 0; i < COLS; i++) {
            double g = y->damp * mean * e[i];
            for (size_t j = 0; j < COLS; j++)
                g += (double)(i <= j ? y->h[i * COLS + j] : y->h[j * COLS + i]) * e[j];
            error += g * e[i];
        }
    }
    return error;
}

static void descent_never_increases_the_error(void **state)
{
    (void)state;
    layer y = make_layer(1);
    float *q = nib_alloc(ROWS * COLS, sizeof *q);
    int t = -1;
    for (const nib_codec *c; (c = next_codec(&t));) {
        double before = 1;
        for (unsigned sweeps = 0; sweeps <= 8; sweeps += sweeps ? 7 : 1) {
            nib_gptq_opts o = nib_gptq_defaults();
            o.sweeps = sweeps;
            solve(&y, c, &o, 2, nib_cpu_detect());
            const double rtn = y.report.rtn, solved = y.report.solved;
            if (!sweeps && solved > 0.9 * rtn)
                fail_msg("%s: %g, rounding to nearest %g", c->name, solved, rtn);
            if (solved > before * (1 + 1e-5))
                fail_msg("%s: %g after %u sweeps, %g before", c->name, solved, sweeps, before);
            if (sweeps == 8 && solved > 0.97 * before && c->n_codes < 64 && before == 1)
                fail_msg("%s: descent gains nothing", c->name);
            before = solved;
            if (sweeps && sweeps < 8) continue;
            values_of(&y, c, q);
            check_packed(&y, c, q);
            const double true_error = plain_error(&y, q) / plain_error(&y, NULL);
            if (fabs(solved / true_error - 1) > 1e-3)
                fail_msg("%s: reported %g, is %g", c->name, solved, true_error);
        }
    }
    nib_free(q);
    free_layer(&y);
}

/* One scale for the whole matrix, 2 max|w| / 15, stays that, though most groups would have a finer
 * one. The largest weight is in the last row. */
static void one_scale_stays_one(void **state)
{
    (void)state;
    layer y = make_layer(5);
    float most = 0;
    nib_gptq_opts o = nib_gptq_defaults();
    nib_int_codec c = nib_int_codec_make(4, 32, true);
    nib_int_codec_per_tensor(&c);
    for (size_t i = ROWS * COLS - COLS; i < ROWS * COLS; i++) y.w[i] *= 2;
    for (size_t i = 0; i < ROWS * COLS; i++) most = fmaxf(most, fabsf(y.w[i]));
    solve(&y, &c.codec, &o, 2, nib_cpu_detect());
    for (size_t b = 0; b < ROWS * COLS / 32; b++)
        assert_true(y.param[b].d == 2 * most / 15 && y.param[b].zero == 8);
    assert_true(y.report.solved < 0.9 * y.report.rtn);
    const double descended = y.report.solved;
    o.sweeps = 0;
    solve(&y, &c.codec, &o, 2, nib_cpu_detect());
    assert_true(descended < y.report.solved);
    free_layer(&y);
}

static void every_order_and_moment_of_fitting(void **state)
{
    (void)state;
    layer y = make_layer(2);
    float *q = nib_alloc(ROWS * COLS, sizeof *q);
    static const nib_type types[] = {NIB_Q4_0, NIB_Q4_1, NIB_Q3_K, NIB_Q4_K, NIB_IQ4_XS};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int order = NIB_ORDER_NATURAL; order <= NIB_ORDER_GROUPS; order++)
            for (int when = NIB_PARAMS_AHEAD; when <= NIB_PARAMS_REACHED; when++) {
                const nib_codec *c = nib_codec_get(types[i]);
                nib_gptq_opts o = nib_gptq_defaults();
                if (order == NIB_ORDER_DIAGONAL && when == NIB_PARAMS_REACHED) continue;
                o.order = (nib_order)order;
                o.when = (nib_params_when)when;
                o.group = c->block;
                o.sweeps = 1;
                o.lazy = 100; /* no multiple of a block */
                solve(&y, c, &o, 2, nib_cpu_detect());
                values_of(&y, c, q);
                check_packed(&y, c, q);
                if (y.report.solved > 0.9 * y.report.rtn)
                    fail_msg("%s, order %d, when %d: %g, rounding to nearest %g", c->name, order,
                             when, y.report.solved, y.report.rtn);
            }
    nib_free(q);
    free_layer(&y);
}

/* ---- the same bits ---- */

static void check_same(const layer *a, const layer *b, const nib_codec *c, size_t rows,
                       const char *what)
{
    if (memcmp(a->code, b->code, rows * COLS) ||
        memcmp(a->param, b->param, rows * (COLS / c->block) * sizeof *a->param))
        fail_msg("%s: another result with %s", c->name, what);
}

static void same_for_any_threads(void **state)
{
    (void)state;
    layer a = make_layer(3), b = make_layer(3);
    nib_gptq_opts o = nib_gptq_defaults();
    o.sweeps = 1;
    int t = -1;
    for (const nib_codec *c; (c = next_codec(&t));) {
        solve(&a, c, &o, 1, nib_cpu_detect());
        solve(&b, c, &o, 2, nib_cpu_detect());
        check_same(&a, &b, c, ROWS, "2 threads");
        solve(&b, c, &o, 7, nib_cpu_detect());
        check_same(&a, &b, c, ROWS, "7 threads");
        assert_true(a.report.solved == b.report.solved && a.report.rtn == b.report.rtn);
    }
    free_layer(&a), free_layer(&b);
}

static void same_for_any_kernel(void **state)
{
    const unsigned cpu = *(const unsigned *)*state;
    if (test_cpu_missing(cpu)) skip();
    layer a = make_layer(4), b = make_layer(4);
    nib_gptq_opts o = nib_gptq_defaults();
    o.sweeps = 1;
    int t = -1;
    for (const nib_codec *c; (c = next_codec(&t));) {
        solve(&a, c, &o, 2, 0);
        solve(&b, c, &o, 2, cpu);
        check_same(&a, &b, c, ROWS, nib_cpu_name(cpu));
    }
    free_layer(&a), free_layer(&b);
}

/* Rows do not know of each other: any number of them gives each the same result. */
static void rows_are_independent(void **state)
{
    (void)state;
    layer a = make_layer(5), b = make_layer(5);
    const nib_codec *c = nib_codec_get(NIB_Q4_K);
    const nib_gptq_opts o = {.damp = 0.01, .order = NIB_ORDER_DIAGONAL, .lazy = 128};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
    static const size_t some[] = {1, 63, 64, 65};
    solve(&a, c, &o, 2, nib_cpu_detect());
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        nib_err err = {0};
        memset(b.code, 255, ROWS * COLS);
        assert_int_equal(try_solve(&b, c, &o, &ctx, some[i], &err), NIB_OK);
        check_same(&a, &b, c, some[i], "fewer rows");
        assert_int_equal(b.code[some[i] * COLS], 255);
    }
    free_layer(&a), free_layer(&b);
}

/* ---- awkward Hessians ---- */

/* So many tokens for each column that half of what is off the diagonal. */
static void few_tokens_say_little_of_pairs(void **state)
{
    (void)state;
    layer a = make_layer(8), b = make_layer(8), exact = make_layer(8);
    const nib_codec *c = nib_codec_get(NIB_Q4_0);
    const nib_gptq_opts o = nib_gptq_defaults();
    a.tokens = (size_t)NIB_GPTQ_FEW * COLS;
    for (size_t i = 0; i < COLS * COLS; i++) b.h[i] *= i % (COLS + 1) ? 0.5f : 1;
    solve(&a, c, &o, 2, nib_cpu_detect());
    solve(&b, c, &o, 2, nib_cpu_detect());
    solve(&exact, c, &o, 2, nib_cpu_detect());
    check_same(&a, &b, c, ROWS, "half");
    assert_memory_not_equal(a.code, exact.code, ROWS * COLS);
    free_layer(&a), free_layer(&b), free_layer(&exact);
}

static void dead_inputs_do_not_count(void **state)
{
    (void)state;
    layer a = make_layer(6), b = make_layer(6);
    for (size_t d = 0; d < COLS; d += 41)
        for (size_t i = 0; i < COLS; i++) {
            a.h[d * COLS + i] = a.h[i * COLS + d] = b.h[d * COLS + i] = b.h[i * COLS + d] = 0;
            if (i < ROWS) a.w[i * COLS + d] = 1000, b.w[i * COLS + d] = 0;
        }
    nib_gptq_opts o = nib_gptq_defaults();
    int t = -1;
    o.sweeps = 1;
    for (const nib_codec *c; (c = next_codec(&t));) {
        solve(&a, c, &o, 2, nib_cpu_detect());
        solve(&b, c, &o, 2, nib_cpu_detect());
        /* The row's mean square, which 32-blocks weigh by, is of the weights as they are. */
        if (c->block == 256) check_same(&a, &b, c, ROWS, "weights of dead inputs");
        assert_true(a.report.solved < a.report.rtn && isfinite(a.report.rtn));
    }
    free_layer(&a), free_layer(&b);
}

/* A Hessian of zeros: nothing ever fired, all weights become what stands nearest to 0. */
static void nothing_fired(void **state)
{
    (void)state;
    layer y = make_layer(7);
    float *q = nib_alloc(ROWS * COLS, sizeof *q);
    nib_gptq_opts o = nib_gptq_defaults();
    int t = -1;
    memset(y.h, 0, COLS * COLS * sizeof *y.h);
    for (const nib_codec *c; (c = next_codec(&t));) {
        solve(&y, c, &o, 2, nib_cpu_detect());
        values_of(&y, c, q);
        for (size_t i = 0; i < ROWS * COLS; i++) assert_true(q[i] == 0);
    }
    nib_free(q);
    free_layer(&y);
}

/* Beyond all that a format can hold weights are refused, or have scales, all of them finite; where
 * they only are beyond the scales that fitting finds, the bytes tell, and descent goes on. */
static void weights_too_large(void **state)
{
    (void)state;
    static const float times[] = {3e6f, 1e12f};
    uint8_t packed[NIB_BLOCK_MAX * 4];
    nib_gptq_opts o = nib_gptq_defaults();
    size_t refused = 0, told = 0, held = 0;
    o.sweeps = 1;
    for (size_t k = 0; k < 2; k++) {
        layer y = make_layer(11);
        const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
        nib_err err = {0};
        int t = -1;
        for (size_t i = 0; i < ROWS * COLS; i++) y.w[i] *= times[k];
        for (const nib_codec *c; (c = next_codec(&t));) {
            const nib_code rc = try_solve(&y, c, &o, &ctx, ROWS, &err);
            assert_int_equal(rc, nib_codec_most(c) < times[k] * 0.1f ? NIB_ENUMERIC : NIB_OK);
            if (rc) assert_non_null(strstr(err.msg, "values too large for"));
            if (!rc) c->pack(packed, y.param, y.code);
            const bool valid = !rc && c->valid(packed, 1);
            refused += rc != NIB_OK, held += valid, told += !rc && !valid;
            if (valid) assert_true(isfinite(y.param->d) && isfinite(y.report.solved));
        }
        free_layer(&y);
    }
    assert_true(refused && told && held);
}

/* What was written to standard error while fn ran. */
static void capture_start(FILE **file, int *saved)
{
    fflush(stderr);
    *file = tmpfile();
    assert_non_null(*file);
    *saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(*file), STDERR_FILENO) >= 0);
}

static void capture_end(FILE *file, int saved, char *text, size_t n)
{
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, n - 1, file)] = 0;
    fclose(file);
}

static void singular_is_damped_more(void **state)
{
    (void)state;
    layer y = make_layer(8);
    nib_log log;
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect(), .log = &log};
    nib_gptq_opts o = nib_gptq_defaults();
    char said[4096];
    FILE *file;
    int saved;
    o.damp = 0;
    for (size_t i = 0; i < COLS * COLS; i++) y.h[i] = 1; /* of rank 1 */
    nib_log_init(&log, NIB_LOG_NORMAL);
    capture_start(&file, &saved);
    nib_code rc = try_solve(&y, nib_codec_get(NIB_Q4_0), &o, &ctx, ROWS, &err);
    capture_end(file, saved, said, sizeof said);
    if (rc) fail_msg("%s", err.msg);
    assert_true(y.damp > 0 && y.damp < 0.05);
    assert_true(y.report.solved < y.report.rtn);
    assert_non_null(strstr(said, "512 channels do not factor with damping 0; trying 0.01"));
    free_layer(&y);
}

static void refused(void **state)
{
    (void)state;
    layer y = make_layer(9);
    nib_err err = {0};
    const nib_ctx ctx = {.threads = 2};
    const nib_gptq_opts o = nib_gptq_defaults();
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    const nib_codec *c = nib_codec_get(NIB_Q4_0);
    for (size_t i = 0; i < 3; i++) {
        float was = y.h[7 * COLS + 300];
        y.h[7 * COLS + 300] = bad[i];
        assert_int_equal(try_solve(&y, c, &o, &ctx, ROWS, &err), NIB_ENUMERIC);
        assert_non_null(strstr(err.msg, "not finite (channels 7 and 300)"));
        y.h[7 * COLS + 300] = was;
    }
    const float weight = y.w[5 * COLS + 9];
    y.w[5 * COLS + 9] = -1e20f;
    assert_int_equal(try_solve(&y, c, &o, &ctx, ROWS, &err), NIB_ENUMERIC);
    assert_non_null(strstr(err.msg, "values too large for q4_0, up to 1e+20"));
    y.w[5 * COLS + 9] = weight;
    const nib_int_codec odd = nib_int_codec_make(4, 100, true);
    assert_int_equal(try_solve(&y, &odd.codec, &o, &ctx, ROWS, &err), NIB_EINVAL);
    assert_non_null(strstr(err.msg, "rows of 512 weights"));
    assert_non_null(strstr(err.msg, "100"));
    for (size_t i = 0; i < COLS; i++) /* far from positive definite: no damping helps */
        for (size_t j = 0; j < COLS; j++) y.h[i * COLS + j] = i == j ? 1 : -1;
    assert_int_equal(try_solve(&y, c, &o, &ctx, ROWS, &err), NIB_ENUMERIC);
    assert_non_null(strstr(err.msg, "not positive definite"));
    free_layer(&y);
}

static void memory_is_short(void **state)
{
    (void)state;
    layer y = make_layer(10);
    const nib_ctx ctx = {.threads = 2};
    const nib_gptq_opts o = {.damp = 0.01, .order = NIB_ORDER_DIAGONAL, .lazy = 128};
    nib_code rc = NIB_ENOMEM;
    long n = 0;
    while (rc == NIB_ENOMEM) {
        nib_err err = {0};
        nib_mem_fail_at(++n);
        rc = try_solve(&y, nib_codec_get(NIB_Q4_0), &o, &ctx, 1, &err);
        nib_mem_fail_at(0);
    }
    assert_int_equal(rc, NIB_OK);
    assert_true(n > 20);
    free_layer(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descent_never_increases_the_error),
        cmocka_unit_test(one_scale_stays_one),
        cmocka_unit_test(every_order_and_moment_of_fitting),
        cmocka_unit_test(same_for_any_threads),
        cmocka_unit_test_prestate(same_for_any_kernel, (void *)&test_cpus[1]),
        cmocka_unit_test_prestate(same_for_any_kernel, (void *)&test_cpus[2]),
        cmocka_unit_test(rows_are_independent),
        cmocka_unit_test(few_tokens_say_little_of_pairs),
        cmocka_unit_test(dead_inputs_do_not_count),
        cmocka_unit_test(nothing_fired),
        cmocka_unit_test(weights_too_large),
        cmocka_unit_test(singular_is_damped_more),
        cmocka_unit_test(refused),
        cmocka_unit_test(memory_is_short),
    };
    nib_linalg_init();
    return cmocka_run_group_tests_name("solver", tests, NULL, NULL);
}
