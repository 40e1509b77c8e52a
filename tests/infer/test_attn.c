/* SPDX-License-Identifier: MIT */
/* Attention against its definition in f64: softmax over all keys that a query sees, no tiles. */
#include "infer/attn.h"
#include "base/cpu.h"
#include "base/linalg.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { HEADS = 4, KV = 2, DIM = 8, VALUE_MAX = 12 };

static float noise(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(*s >> 8) / (1 << 23) - 1;
}

/* Eight bits, to the nearest, ties to even. */
static double bf16(double x)
{
    int e;
    const double m = frexp(x, &e);
    return ldexp(rint(ldexp(m, 8)), e - 8);
}

/* The row of one query; k and v are its sequence's, of its key/value head. */
static void plain(double *out, const nib_attn *a, const float *q, const float *k, const float *v,
                  size_t head, size_t pos)
{
    size_t first = a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
    if (a->chunked) first = pos - pos % a->window;
    double sum = a->sink ? exp((double)a->sink[head]) : 0;
    const size_t v_dim = a->value_dim;
    memset(out, 0, v_dim * sizeof *out);
    for (size_t j = first; j <= pos; j++) {
        double s = 0;
        for (int i = 0; i < DIM; i++) s += (double)q[i] * (double)k[j * KV * DIM + (size_t)i];
        if (a->slope_rounded) s += bf16(bf16((double)a->slope[head]) * bf16((double)j));
        s *= (double)a->scale;
        if (a->softcap > 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
        if (a->slope && !a->slope_rounded) s -= (double)a->slope[head] * (double)(pos - j);
        sum += s = exp(s); /* scores are small here */
        for (size_t i = 0; i < v_dim; i++) out[i] += s * (double)v[j * KV * v_dim + i];
    }
    for (size_t i = 0; i < v_dim; i++) out[i] /= sum;
}

/* Scores are below 20 = 8 * 2 * 2 * 0.6, so f32 (1.2e-7) leaves them, and with them the shares, an
 * error of some 2.4e-6; values are below 1. Four of those, and of what a slope adds. */
static void check(nib_attn a)
{
    const size_t n_q = a.n_seq * a.n_tok * HEADS * DIM, keys = a.pos + a.n_tok;
    nib_buf scratch[2] = {{0}};
    const double tol = 1e-5 + 4.8e-7 * (a.slope ? (double)a.slope[0] * (double)keys : 0);
    nib_err err = {0};
    uint32_t seed = 1;
    const bool in_place = !a.value_dim; /* the result replaces the queries */
    if (in_place) a.value_dim = DIM;
    const size_t v_dim = a.value_dim;
    float *q = nib_alloc(n_q, 4 * sizeof *q), *was = q + n_q, *out = in_place ? q : q + 2 * n_q;
    a.kv_tokens = keys + 3; /* room in a cache, never looked at */
    const size_t n_kv = a.n_seq * a.kv_tokens * KV;
    float *k = nib_alloc(n_kv, (DIM + VALUE_MAX) * sizeof *k), *v = k + n_kv * DIM;
    for (size_t i = 0; i < n_q; i++) was[i] = q[i] = 2 * noise(&seed);
    for (size_t i = 0; i < n_kv * DIM; i++)
        k[i] = i / DIM / KV % a.kv_tokens >= keys ? NAN : 2 * noise(&seed);
    for (size_t i = 0; i < n_kv * v_dim; i++)
        v[i] = i / v_dim / KV % a.kv_tokens >= keys ? NAN : noise(&seed);
    a.n_head = HEADS, a.n_head_kv = KV, a.head_dim = DIM, a.scale = 0.6f;
    a.q = q, a.out = out, a.k = k, a.v = v, a.threads = 2, a.scratch = scratch;
    a.ops = nib_ops_get(nib_cpu_detect());
    assert_int_equal(nib_attention(&a, &err), NIB_OK);
    for (size_t r = 0; r < a.n_seq * a.n_tok * HEADS; r++) {
        const size_t head = r % HEADS, tok = r / HEADS % a.n_tok, seq = r / HEADS / a.n_tok;
        const size_t kv = seq * a.kv_tokens * KV + head / (HEADS / KV);
        double want[VALUE_MAX];
        plain(want, &a, was + r * DIM, k + kv * DIM, v + kv * v_dim, head, a.pos + tok);
        for (size_t i = 0; i < v_dim; i++)
            if (!(fabs(want[i] - (double)out[r * v_dim + i]) < tol))
                fail_msg("sequence %zu token %zu head %zu: %g should be %g", seq, tok, head,
                         (double)out[r * v_dim + i], want[i]);
    }
    for (int i = 0; i < 2; i++) nib_buf_free(&scratch[i]);
    nib_free(q);
    nib_free(k);
}

/* Tiles are 64 queries by 512 keys: fewer, exactly that many, one more, several. */
static void tiles_do_not_show(void **state)
{
    (void)state;
    check((nib_attn){.n_seq = 1, .n_tok = 1});
    check((nib_attn){.n_seq = 3, .n_tok = 5});
    check((nib_attn){.n_seq = 1, .n_tok = 64, .pos = 448});
    check((nib_attn){.n_seq = 2, .n_tok = 65, .pos = 448});
    check((nib_attn){.n_seq = 1, .n_tok = 1, .pos = 1200});
    check((nib_attn){.n_seq = 2, .n_tok = 65, .pos = 448, .value_dim = 5});
    check((nib_attn){.n_seq = 2, .n_tok = 9, .value_dim = VALUE_MAX});
}

static void windows_end_anywhere(void **state)
{
    (void)state;
    static const size_t window[] = {1, 2, 63, 511, 512, 513, 2000};
    for (size_t i = 0; i < sizeof window / sizeof *window; i++)
        check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .window = window[i]});
}

static void scores_may_be_capped(void **state)
{
    (void)state;
    check((nib_attn){.n_seq = 2, .n_tok = 9, .softcap = 1.5f});
    check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .window = 300, .softcap = 1.5f});
}

static void windows_may_be_chunks(void **state)
{
    (void)state;
    check((nib_attn){.n_seq = 2, .n_tok = 20, .window = 8, .chunked = true});
    check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .window = 512, .chunked = true});
}

static void scores_may_stand_beside(void **state)
{
    (void)state;
    static const float sink[HEADS] = {3, -2, 0, 8}, slope[HEADS] = {.25f, .0625f, .015625f, .125f};
    check((nib_attn){.n_seq = 2, .n_tok = 9, .sink = sink});
    check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .window = 300, .sink = sink});
    check((nib_attn){.n_seq = 2, .n_tok = 9, .slope = slope});
    check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .slope = slope});
    static const float uneven[HEADS] = {.3f, .07f, .011f, .1f};
    check((nib_attn){.n_seq = 1, .n_tok = 70, .pos = 500, .slope = uneven, .slope_rounded = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_do_not_show),       cmocka_unit_test(windows_end_anywhere),
        cmocka_unit_test(scores_may_be_capped),    cmocka_unit_test(windows_may_be_chunks),
        cmocka_unit_test(scores_may_stand_beside),
    };
    nib_linalg_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
