/* SPDX-License-Identifier: MIT */
/* AWQ's and SmoothQuant's scales against the original implementations; laws of rounding whole rows.
 *
 * Files: tests/golden/awq_search, tests/golden/smoothquant (see their READMEs). */
#include "base/cpu.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "formats/source.h"
#include "quant/awq.h"
#include "quant/round.h"
#include "quant/smooth.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *golden_dir;
static const nib_ctx two = {.threads = 2};

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

/* ---- vectors ---- */

static nib_source *open_vector(const char *folder, const char *name)
{
    char path[512];
    nib_source *s;
    nib_err err = {0};
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", golden_dir, folder, name);
    must(nib_source_open(&s, path, &err), &err);
    return s;
}

/* A tensor's values; NULL when there is none. */
static void *values(const nib_source *s, const char *name, size_t *n)
{
    nib_err err = {0};
    const nib_tensor *t = nib_source_find(s, name);
    if (!t) return NULL;
    void *v = malloc((size_t)t->bytes);
    must(nib_source_read(s, t, 0, v, (size_t)t->bytes, &err), &err);
    if (n) *n = (size_t)nib_tensor_elems(t);
    return v;
}

/* ---- the original's grid, written down once more ---- */

typedef struct {
    nib_codec codec;
    bool zero_point;
} awq_grid;

static void awq_fit_one(const nib_codec *c, nib_block_param *p, const nib_fit_in *in)
{
    float lo = in->w[0], hi = in->w[0];
    for (size_t i = 1; i < c->block; i++) lo = fminf(lo, in->w[i]), hi = fmaxf(hi, in->w[i]);
    *p = (nib_block_param){.sc = {1}};
    if (((const awq_grid *)c)->zero_point) {
        const float top = (float)(c->n_codes - 1);
        p->d = fmaxf(hi - lo, 1e-5f) / top;
        p->zero = fminf(fmaxf(-rintf(lo / p->d), 0), top);
    } else {
        p->d = fmaxf(fmaxf(hi, -lo), 1e-5f) / (float)(c->n_codes / 2 - 1);
        p->zero = (float)(c->n_codes / 2);
    }
}

static void awq_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                    unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++) awq_fit_one(c, &p[i], &in[i]);
}

static awq_grid make_grid(unsigned bits, size_t group, bool zero_point)
{
    return (awq_grid){{.type = NIB_INT4,
                       .name = "awq",
                       .block = (uint32_t)group,
                       .sub = (uint32_t)group,
                       .quantized = true,
                       .n_codes = (uint16_t)(1u << bits),
                       .sc_min = 1,
                       .sc_max = 1,
                       .fit = awq_fit},
                      zero_point};
}

/* ---- the search ---- */

typedef struct {
    const char *name;
    unsigned bits;
    size_t group, cols;
    bool zero_point, duo;
} golden_case;

static const golden_case cases[] = {
    {"mlp_g64_zp", 4, 64, 128, true, true},    {"qkv_g128_zp_noduo", 4, 128, 128, true, false},
    {"qkv_g32_sym", 4, 32, 96, false, true},   {"qkv_g64_zp", 4, 64, 128, true, true},
    {"single_g64_b3", 3, 64, 128, true, true},
};

/* The module that is inspected: linears w[i], then w_down of silu(first) * second if there is one.
 */
typedef struct {
    const golden_case *g;
    awq_grid grid;
    float *w[3], *down, *x;
    size_t n, rows[3], tokens, down_rows;
    double *loss; /* [20] the reference's */
    int calls;
} module;

static void product(const float *w, size_t rows, const float *x, size_t cols, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (size_t c = 0; c < cols; c++) y[r] += (double)w[r * cols + c] * x[c];
    }
}

/* Output for one token with these weights; returns how many numbers. */
static size_t output(const module *m, float *const *w, const float *x, double *y)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; n += m->rows[i++]) product(w[i], m->rows[i], x, m->g->cols, y + n);
    if (!m->down) return n;
    float h[256];
    for (size_t r = 0; r < m->rows[0]; r++)
        h[r] = (float)(y[r] / (1 + exp(-y[r])) * y[m->rows[0] + r]);
    product(m->down, m->down_rows, h, m->rows[0], y);
    return m->down_rows;
}

static nib_code loss_of(void *arg, const float *s, double least, double *loss, nib_err *err)
{
    module *m = arg;
    (void)least;
    float *q[3];
    double sum = 0, a[256], b[256];
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const size_t size = m->rows[i] * m->g->cols;
        q[i] = malloc(size * sizeof **q);
        for (size_t k = 0; k < size; k++) q[i][k] = m->w[i][k] * s[k % m->g->cols];
        must(nib_round_rows(&m->grid.codec, q[i], NULL, m->rows[i], m->g->cols, q[i], NULL, NULL,
                            &two, err),
             err);
        for (size_t k = 0; k < size; k++) q[i][k] /= s[k % m->g->cols];
    }
    for (size_t t = 0; t < m->tokens; t++) {
        n = output(m, m->w, m->x + t * m->g->cols, a);
        output(m, q, m->x + t * m->g->cols, b);
        for (size_t k = 0; k < n; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    }
    *loss = sum / (double)(m->tokens * n);
    if (m->calls) { /* the first call is without scales, which the reference does not try */
        const double want = m->loss[m->calls - 1];
        if (!(fabs(*loss - want) <= 1e-4 * want))
            fail_msg("%s: ratio %d/20 has loss %.9g, should have %.9g", m->g->name, m->calls - 1,
                     *loss, want);
    }
    m->calls++;
    for (size_t i = 0; i < m->n; i++) free(q[i]);
    return NIB_OK;
}

/* Limits for w0 * s under the input x / s, of which the reference takes every (tokens / 512)-th. */
static void check_clip(const module *m, const nib_source *v, const float *s)
{
    size_t n = 0, same = 0;
    nib_err err = {0};
    float *want = values(v, "w0_clip_max", &n);
    const size_t cols = m->g->cols, size = m->rows[0] * cols;
    if (!want) return;
    float *w = malloc(size * sizeof *w), *h = calloc(cols * cols, sizeof *h);
    float *limit = malloc(n * sizeof *limit);
    for (size_t k = 0; k < size; k++) w[k] = m->w[0][k] * s[k % cols];
    assert_true(m->tokens < 1024); /* so all of them count */
    for (size_t i = 0; i < cols; i++)
        for (size_t j = i; j < cols; j++) {
            double sum = 0;
            for (size_t t = 0; t < m->tokens; t++)
                sum += (double)m->x[t * cols + i] / s[i] * m->x[t * cols + j] / s[j];
            h[i * cols + j] = (float)sum;
        }
    must(nib_awq_clip(limit, w, m->rows[0], cols, &m->grid.codec, h, &two, &err), &err);
    for (size_t i = 0; i < n; i++) same += fabsf(limit[i] - want[i]) <= 1e-4f * want[i];
    if ((double)same < 0.95 * (double)n)
        fail_msg("%s: %zu of %zu limits are the reference's", m->g->name, same, n);
    nib_awq_clamp(w, limit, m->rows[0], cols, m->g->group);
    for (size_t k = 0; k < size; k++) assert_true(fabsf(w[k]) <= limit[k / m->g->group]);
    free(want), free(w), free(h), free(limit);
}

static void close_to(const char *what, const float *got, const float *want, size_t n, float within)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= within * fabsf(want[i])))
            fail_msg("%s %zu: %.9g, should be %.9g", what, i, (double)got[i], (double)want[i]);
}

static void same_as_awq(void **state)
{
    const golden_case *g = *state;
    nib_source *v = open_vector("awq_search", g->name);
    nib_err err = {0};
    size_t n_x = 0;
    module m = {.g = g, .grid = make_grid(g->bits, g->group, g->zero_point)};
    nib_awq_linear l[3];
    nib_awq_choice best;
    for (char name[] = "w0"; m.n < 3; name[1]++, m.n++) {
        size_t size = 0;
        if (!(m.w[m.n] = values(v, name, &size))) break;
        m.rows[m.n] = size / g->cols;
        l[m.n] = (nib_awq_linear){m.w[m.n], m.rows[m.n], g->group};
    }
    m.x = values(v, "x", &n_x), m.tokens = n_x / g->cols;
    m.loss = values(v, "loss_per_grid", NULL);
    if ((m.down = values(v, "w_down", &m.down_rows))) m.down_rows /= m.rows[0];

    float *x_mean = values(v, "x_mean", NULL), *w_mean = values(v, "w_mean", NULL);
    float *want = values(v, "best_scales", NULL), got[128];
    nib_awq_weight_mean(got, l, m.n, g->cols);
    close_to("w_mean", got, w_mean, g->cols, 1e-5f);
    must(nib_awq_search(&best, got, x_mean, g->duo ? w_mean : NULL, g->cols, loss_of, &m, &err),
         &err);
    assert_int_equal(m.calls, 21);
    close_to("scale", got, want, g->cols, 1e-5f);
    assert_true(best.loss < best.unscaled);
    check_clip(&m, v, got);

    float *round = values(v, "w0_scaled_dequant", NULL);
    const size_t size = m.rows[0] * g->cols;
    float *w = malloc(size * sizeof *w);
    for (size_t k = 0; k < size; k++) w[k] = m.w[0][k] * want[k % g->cols];
    must(nib_round_rows(&m.grid.codec, w, NULL, m.rows[0], g->cols, w, NULL, NULL, &two, &err),
         &err);
    for (size_t k = 0; k < size; k++) assert_true(fabsf(w[k] - round[k]) <= 1e-5f);
    free(round), free(w), free(x_mean), free(w_mean), free(want), free(m.x), free(m.loss);
    free(m.down);
    for (size_t i = 0; i < m.n; i++) free(m.w[i]);
    nib_source_close(v);
}

/* ---- laws of the search ---- */

static nib_code flat(void *arg, const float *s, double least, double *loss, nib_err *err)
{
    (void)s, (void)least, (void)err;
    *loss = *(const double *)arg;
    return NIB_OK;
}

static void no_gain_means_no_scales(void **state)
{
    (void)state;
    const float x[] = {1, 2, 3}, w[] = {0.1f, 0.2f, 0.3f};
    float s[3];
    double loss = 1;
    nib_awq_choice best;
    nib_err err = {0};
    assert_int_equal(nib_awq_search(&best, s, x, w, 3, flat, &loss, &err), NIB_OK);
    assert_true(best.ratio == -1 && s[0] == 1 && s[1] == 1 && s[2] == 1);
    loss = NAN;
    assert_int_equal(nib_awq_search(&best, s, x, w, 3, flat, &loss, &err), NIB_ENUMERIC);
}

typedef struct {
    int n;
    const double *loss; /* of the trials */
} curve;

/* Says of what is above `least` only that it is. */
static nib_code on_curve(void *arg, const float *s, double least, double *loss, nib_err *err)
{
    curve *k = arg;
    (void)s, (void)err;
    double before = INFINITY;
    for (int i = 0; i < k->n; i++) before = k->loss[i] < before ? k->loss[i] : before;
    assert_true(least == before);
    *loss = k->loss[k->n] > least ? nextafter(least, INFINITY) : k->loss[k->n];
    k->n++;
    return NIB_OK;
}

/* Trials may be given up as soon as they are worse than the best; the first of two that are as good
 * is taken. */
static void best_of_those_given_up(void **state)
{
    (void)state;
    static const double loss[21] = {5, 6, 4, 7, 3, 3, 9, 8, 3.5, 2, 4,
                                    2, 5, 6, 7, 8, 9, 9, 9, 9,   9};
    const float x[] = {1, 2, 3};
    float s[3], want[3];
    curve k = {0, loss};
    nib_awq_choice best;
    nib_err err = {0};
    assert_int_equal(nib_awq_search(&best, s, x, NULL, 3, on_curve, &k, &err), NIB_OK);
    assert_int_equal(k.n, 21);
    assert_true(best.loss == 2 && best.unscaled == 5 && best.ratio == 8 / 20.0);
    nib_awq_scales(want, x, NULL, 3, 8 / 20.0);
    assert_memory_equal(s, want, sizeof s);
}

/* Channels that never fire, weights that are zero, numbers at the edge: scales stay usable. */
static void scales_are_usable(void **state)
{
    (void)state;
    const float x[] = {0, 1e-30f, 1, 1e30f, 0}, w[] = {0, 1, 1e-30f, 1, 1};
    for (int i = 0; i < 20; i++)
        for (int duo = 0; duo < 2; duo++) {
            float s[5];
            nib_awq_scales(s, x, duo ? w : NULL, 5, i / 20.0);
            for (int k = 0; k < 5; k++) assert_true(isfinite(s[k]) && s[k] > 0);
        }
}

/* By hand: square roots of 0, 1 and 4, the first lifted to 1e-4, over the middle of the extremes.
 */
static void small_scales_are_lifted(void **state)
{
    (void)state;
    const float x[] = {0, 1, 4}, want[] = {1e-4f, 1, 2}, middle = sqrtf(2 * 1e-4f);
    float s[3];
    nib_awq_scales(s, x, NULL, 3, 0.5);
    for (int k = 0; k < 3; k++) assert_true(fabsf(s[k] * middle / want[k] - 1) < 1e-6f);
}

/* ---- SmoothQuant ---- */

typedef struct {
    const char *name;
    double alpha;
} smooth_case;

static const smooth_case smooth_cases[] = {
    {"case0_rms", 0.5}, {"case1_rms", 0.8}, {"case2_ln", 0.5}};

static void same_as_smoothquant(void **state)
{
    const smooth_case *c = *state;
    nib_source *v = open_vector("smoothquant", c->name);
    size_t cols = 0, size = 0;
    float *x_max = values(v, "act_scales", &cols), *want = values(v, "scales", NULL);
    float *w_max = calloc(cols, sizeof *w_max), *s = malloc(cols * sizeof *s), *w;
    char name[] = "fc0.weight";
    for (; (w = values(v, name, &size)); name[2]++, free(w))
        nib_smooth_weight_max(w_max, w, size / cols, cols);
    nib_smooth_scales(s, x_max, w_max, cols, c->alpha);
    close_to("scale", s, want, cols, 2e-6f);
    free(x_max), free(want), free(w_max), free(s);
    nib_source_close(v);
}

/* ---- whole rows ---- */

/* The same as block by block, for every format, with and without importances. */
static void rows_are_blocks(void **state)
{
    (void)state;
    enum { R = 70, C = 512 };
    static float w[R * C], value[R * C], imp[C];
    static uint8_t code[R * C], want_code[NIB_BLOCK_MAX];
    nib_err err = {0};
    uint32_t seed = 7;
    for (int i = 0; i < R * C; i++) {
        seed = seed * 1664525u + 1013904223u;
        w[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    for (int i = 0; i < C; i++) imp[i] = 1 + w[i] * w[i];
    for (int type = 0; type < NIB_TYPE_COUNT; type++) {
        const nib_codec *c = nib_codec_get((nib_type)type);
        if (!c->fit) continue;
        nib_block_param *param = malloc(R * C / c->block * sizeof *param), p;
        for (int with = 0; with < 2; with++) {
            const nib_ctx ctx = {.threads = 2, .cpu = nib_cpu_detect()};
            must(nib_round_rows(c, w, with ? imp : NULL, R, C, value, code, param, &ctx, &err),
                 &err);
            for (size_t at = 0; at < R * C; at += c->block) {
                double sum = 0;
                float q[NIB_BLOCK_MAX];
                for (size_t i = at / C * C; i < at / C * C + C; i++) sum += (double)w[i] * w[i];
                c->fit(c, &p, &(nib_fit_in){w + at, with ? imp + at % C : NULL, (float)(sum / C)},
                       1, 0);
                nib_codec_round(c, &p, 0, c->block, w + at, want_code, q);
                assert_memory_equal(code + at, want_code, c->block);
                assert_memory_equal(value + at, q, c->block * sizeof *q);
                assert_true(p.d == param[at / c->block].d && p.dmin == param[at / c->block].dmin);
            }
        }
        free(param);
    }
    assert_int_equal(
        nib_round_rows(nib_codec_get(NIB_Q4_K), w, NULL, 1, 255, value, NULL, NULL, &two, &err),
        NIB_EINVAL);
}

#define GOLDEN(f, c)                                                                               \
    {                                                                                              \
        .name = (c).name, .test_func = f, .initial_state = (void *)&(c)                            \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        GOLDEN(same_as_awq, cases[0]),
        GOLDEN(same_as_awq, cases[1]),
        GOLDEN(same_as_awq, cases[2]),
        GOLDEN(same_as_awq, cases[3]),
        GOLDEN(same_as_awq, cases[4]),
        GOLDEN(same_as_smoothquant, smooth_cases[0]),
        GOLDEN(same_as_smoothquant, smooth_cases[1]),
        GOLDEN(same_as_smoothquant, smooth_cases[2]),
        cmocka_unit_test(no_gain_means_no_scales),
        cmocka_unit_test(best_of_those_given_up),
        cmocka_unit_test(scales_are_usable),
        cmocka_unit_test(small_scales_are_lifted),
        cmocka_unit_test(rows_are_blocks),
    };
    if (argc < 2) return 1;
    golden_dir = argv[1];
    nib_linalg_init();
    return cmocka_run_group_tests_name("awq", tests, NULL, NULL);
}
