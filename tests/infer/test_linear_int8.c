/* SPDX-License-Identifier: MIT */
/* A linear layer of a folder of 8-bit integers, whose inputs are rounded, against the engines' way
 * to compute it: codes with their zero points, the products summed in 64 bits, the zero point's
 * share subtracted by the sum of the weights, one f32 multiplication after the other. Comparisons
 * are for equality. */
#include "base/cpu.h"
#include "base/mem.h"
#include "formats/safetensors.h"
#include "infer/linear.h"
#include "tests/calib/tmp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { IN = 131, OUT = 77, ROWS = 101, ZEROS = 3, POSITIVE = 4 };

typedef struct {
    const char *weights, *strategy, *dynamic;
    bool sym;
    float scale; /* of a static range */
    int zero;
} scheme;

/* Inputs per token and per tensor, weights per channel and per tensor. The static ranges are too
 * narrow for some of the values. */
static const scheme schemes[] = {{"channel", "token", "true", true, 0, 0},
                                 {"channel", "token", "true", false, 0, 0},
                                 {"channel", "tensor", "false", true, 0.0625f, 0},
                                 {"channel", "tensor", "false", false, 0.03f, -90},
                                 {"tensor", "token", "true", true, 0, 0},
                                 {"tensor", "tensor", "false", false, 0.03f, -90}};
enum { N_SCHEMES = sizeof schemes / sizeof *schemes };

static struct {
    int8_t w[OUT * IN];
    float w_scale[OUT], x[ROWS * IN], bias[OUT];
    float want[ROWS * OUT], got[ROWS * OUT];
} m;

static void must(nib_code rc, const nib_err *err)
{
    if (rc) fail_msg("%s", err->msg);
}

static void fill(void)
{
    uint32_t seed = 3;
#define NEXT (seed = seed * 1664525u + 1013904223u, seed >> 8)
    for (size_t i = 0; i < OUT * IN; i++) m.w[i] = (int8_t)(NEXT % 256 - 128);
    for (size_t i = 0; i < OUT; i++) m.w_scale[i] = (float)(NEXT % 1000 + 1) * 1e-5f;
    for (size_t i = 0; i < OUT; i++) m.bias[i] = (float)(NEXT % 1000) * 1e-3f;
    for (size_t i = 0; i < ROWS * IN; i++) m.x[i] = ((float)(NEXT % 20001) - 9000) * 1e-3f;
#undef NEXT
    for (size_t i = 0; i < IN; i++) {
        m.x[ZEROS * IN + i] = 0;
        m.x[POSITIVE * IN + i] = fabsf(m.x[POSITIVE * IN + i]) + 1;
    }
}

/* One scale for all rows of the weight? */
static bool whole(const scheme *s)
{
    return !strcmp(s->weights, "tensor");
}

/* ---- the folder ---- */

static void write_config(const scheme *s)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
             "\"format\":\"int-quantized\",\"quantization_status\":\"compressed\",\"ignore\":[],"
             "\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,"
             "\"type\":\"int\",\"symmetric\":true,\"strategy\":\"%s\",\"dynamic\":false},"
             "\"input_activations\":{\"num_bits\":8,\"type\":\"int\",\"symmetric\":%s,"
             "\"strategy\":\"%s\",\"dynamic\":%s}}}}}",
             s->weights, s->sym ? "true" : "false", s->strategy, s->dynamic);
    tmp_text("config.json", text);
}

static void write_folder(const scheme *s)
{
    const int8_t zero = (int8_t)s->zero;
    const bool one = whole(s);
    const nib_st_tensor t[] = {{"a.input_scale", NIB_F32, 1, {1}},
                               {"a.weight_scale", NIB_F32, one ? 1 : 2, {one ? 1 : OUT, 1}},
                               {"a.input_zero_point", NIB_I8, 1, {1}},
                               {"a.weight", NIB_I8, 2, {OUT, IN}}};
    const void *data[] = {&s->scale, m.w_scale, &zero, m.w};
    const size_t bytes[] = {4, one ? 4 : sizeof m.w_scale, 1, sizeof m.w};
    const bool there[] = {s->scale != 0, true, s->zero != 0, true};
    nib_st_tensor list[4];
    nib_st_writer *w;
    nib_err err;
    size_t n = 0, k = 0;
    for (size_t i = 0; i < 4; i++)
        if (there[i]) list[n++] = t[i];
    must(nib_st_begin(&w, tmp_path("model.safetensors"), list, n, true, &err), &err);
    for (size_t i = 0; i < 4; i++)
        if (there[i]) must(nib_st_write(w, k++, data[i], bytes[i], &err), &err);
    must(nib_st_end(w, &err), &err);
    write_config(s);
}

/* ---- what an engine computes ---- */

static int code(float x, float scale, int zero)
{
    float q = nearbyintf(x / scale) + (float)zero;
    return (int)(q > -128 ? q < 127 ? q : 127 : -128);
}

static void range_of(const scheme *s, const float *x, float *scale, int *zero)
{
    float lo = 0, hi = 0;
    *scale = s->scale;
    *zero = s->zero;
    if (s->scale != 0) return;
    for (size_t i = 0; i < IN; i++) lo = fminf(lo, x[i]), hi = fmaxf(hi, x[i]);
    *scale = s->sym ? fmaxf(-lo, hi) / 127 : (hi - lo) / 255;
    if (*scale == 0) *scale = 1; /* a row of zeros */
    *zero = s->sym ? 0 : (int)nearbyintf(-128 - lo / *scale);
}

static void compute(const scheme *s, const float *bias)
{
    for (size_t r = 0; r < ROWS; r++) {
        const float *x = m.x + r * IN;
        float scale;
        int zero;
        range_of(s, x, &scale, &zero);
        for (size_t o = 0; o < OUT; o++) {
            int64_t sum = 0, sum_w = 0;
            for (size_t i = 0; i < IN; i++) {
                sum += (int64_t)code(x[i], scale, zero) * m.w[o * IN + i];
                sum_w += m.w[o * IN + i];
            }
            float y = (float)(sum - zero * sum_w) * m.w_scale[whole(s) ? 0 : o];
            y *= scale;
            m.want[r * OUT + o] = bias ? y + bias[o] : y;
        }
    }
}

/* ---- tests ---- */

static void apply(const nib_source *src, unsigned cpu, int threads, const float *decoded,
                  const float *bias, size_t rows, bool add)
{
    nib_linear l;
    nib_err err;
    const nib_ctx ctx = {.threads = threads, .cpu = cpu};
    must(nib_linear_init(&l, src, &ctx, &err), &err);
    must(nib_linear_apply(&l, nib_source_find(src, "a.weight"), decoded, bias, m.x, rows, m.got,
                          add, &err),
         &err);
    nib_linear_fini(&l);
}

static nib_source *open_folder(const scheme *s)
{
    nib_source *src;
    nib_err err;
    write_folder(s);
    must(nib_source_open(&src, tmp_path(""), &err), &err);
    return src;
}

static void expect(const scheme *s, size_t rows)
{
    for (size_t i = 0; i < rows * OUT; i++)
        if (m.got[i] != m.want[i])
            fail_msg("%s, %s: row %zu, output %zu: %.9g, not %.9g", s->strategy,
                     s->sym ? "symmetric" : "asymmetric", i / OUT, i % OUT, (double)m.got[i],
                     (double)m.want[i]);
}

static void equals_what_an_engine_computes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SCHEMES; i++) {
        const scheme *s = &schemes[i];
        nib_source *src = open_folder(s);
        compute(s, NULL);
        apply(src, nib_cpu_detect(), 2, NULL, NULL, ROWS, false);
        expect(s, ROWS);
        compute(s, m.bias);
        apply(src, nib_cpu_detect(), 2, NULL, m.bias, ROWS, false);
        expect(s, ROWS);
        nib_source_close(src);
    }
}

static void threads_and_kernels_do_not_matter(void **state)
{
    static const int threads[] = {1, 2, 7};
    (void)state;
    for (size_t i = 0; i < N_SCHEMES; i++) {
        nib_source *src = open_folder(&schemes[i]);
        compute(&schemes[i], m.bias);
        for (size_t t = 0; t < 3; t++) {
            memset(m.got, 0, sizeof m.got);
            apply(src, t == 1 ? 0 : nib_cpu_detect(), threads[t], NULL, m.bias, t + 1, false);
            expect(&schemes[i], t + 1);
        }
        nib_source_close(src);
    }
}

static void result_is_added(void **state)
{
    nib_source *src = open_folder(&schemes[0]);
    (void)state;
    compute(&schemes[0], m.bias);
    for (size_t i = 0; i < ROWS * OUT; i++) {
        m.got[i] = (float)(i % 100);
        m.want[i] += (float)(i % 100);
    }
    apply(src, nib_cpu_detect(), 2, NULL, m.bias, ROWS, true);
    expect(&schemes[0], ROWS);
    nib_source_close(src);
}

/* NaN and infinity are not rounded away. */
static void bad_values_are_seen(void **state)
{
    const size_t at[] = {5, IN - 1};
    (void)state;
    for (size_t i = 0; i < N_SCHEMES; i++) {
        nib_source *src = open_folder(&schemes[i]);
        for (size_t k = 0; k < 2; k++) {
            const float keep = m.x[IN + at[k]];
            m.x[IN + at[k]] = k ? NAN : -INFINITY;
            apply(src, nib_cpu_detect(), 1, NULL, NULL, 3, false);
            m.x[IN + at[k]] = keep;
            for (size_t o = 0; o < OUT; o++)
                assert_true(isfinite(m.got[o]) && isnan(m.got[OUT + o]) &&
                            isfinite(m.got[2 * OUT + o]));
        }
        nib_source_close(src);
    }
}

/* A caller that brings weights of its own works in floats: 1 for the first column, else 0. */
static void own_weights_are_floats(void **state)
{
    nib_source *src = open_folder(&schemes[0]);
    float *w = calloc(OUT * IN, sizeof *w);
    (void)state;
    assert_non_null(w);
    for (size_t o = 0; o < OUT; o++) w[o * IN] = 1;
    apply(src, nib_cpu_detect(), 2, w, NULL, ROWS, false);
    for (size_t i = 0; i < ROWS * OUT; i++) assert_true(m.got[i] == m.x[i / OUT * IN]);
    free(w);
    nib_source_close(src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_what_an_engine_computes),
        cmocka_unit_test(threads_and_kernels_do_not_matter),
        cmocka_unit_test(result_is_added),
        cmocka_unit_test(bad_values_are_seen),
        cmocka_unit_test(own_weights_are_floats),
    };
    fill();
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
