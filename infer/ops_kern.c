/* SPDX-License-Identifier: MIT */
/* infer/ops_kern.c - the kernels of ops.h, compiled once per instruction set (NIB_ISA).
 *
 * Written on the vectors of vec.h, without intrinsics. Sums have 16 lanes whatever the width,
 * combined in a fixed order. The compiler may not fuse or reorder floats, so all builds agree bit
 * for bit. Tests: tests/infer/test_ops.c. */
#include "infer/ops.h"
#include "infer/vec.h"

#include <math.h>
#include <stdbool.h>

enum { D = W / 2 };
typedef float half_vf __attribute__((vector_size(4 * D)));
typedef double vd __attribute__((vector_size(8 * D)));

/* Sums in f64, lane l of the values at 16 i + l. */
typedef struct {
    vd v[BLOCK / D];
} lanes;

static inline void lanes_add(lanes *s, const float p[BLOCK])
{
    for (size_t g = 0; g < BLOCK / D; g++) {
        half_vf h;
        memcpy(&h, p + g * D, sizeof h);
        s->v[g] += __builtin_convertvector(h, vd);
    }
}

static inline void lanes_add_squares(lanes *s, const float p[BLOCK])
{
    for (size_t g = 0; g < BLOCK / D; g++) {
        half_vf h;
        memcpy(&h, p + g * D, sizeof h);
        vd d = __builtin_convertvector(h, vd);
        s->v[g] += d * d;
    }
}

static inline double lanes_total(const lanes *s)
{
    double t[BLOCK];
    memcpy(t, s, sizeof t);
    for (size_t step = BLOCK / 2; step; step /= 2)
        for (size_t i = 0; i < step; i++) t[i] += t[i + step];
    return t[0];
}

/* exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2. ln 2 is split so that n * HI is
 * exact. exp(r) is its Taylor polynomial of degree 7: the rest is below r^8/8! * 1.06 < 6e-9, a
 * tenth of a unit in the last place (ulp). The rounding of r adds 0.2, that of the sum below 1.2.
 * 2^n is applied in two factors, so that only the second can round, and overflow and subnormals
 * come out as they should. NaN stays NaN. */
static inline vf exp_v(vf x)
{
    const float log2e = 0x1.715476p+0f, hi = 0x1.63p-1f, lo = -0x1.bd0106p-13f;
    const float magic = 0x1.8p+23f; /* adding it rounds to an integer in the low bits */
    const vf zero = {0};
    x = pick(x < -104.0f, zero - 104.0f, x);
    x = pick(x > 89.0f, zero + 89.0f, x);
    vf t = x * log2e + magic, n = t - magic;
    vf r = (x - n * hi) - n * lo;
    vf p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    vi k = (vi)t - 0x4B400000, half = k >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
}

/* y = exp((x - shift) * scale) for one block. */
static inline void exp_block(float *y, const float *x, float scale, float shift)
{
    for (size_t g = 0; g < BLOCK; g += W) store(y + g, exp_v((load(x + g) - shift) * scale));
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
    lanes sum = {0};
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) lanes_add_squares(&sum, x + i);
    pad(t, x + i, n - i, 0);
    lanes_add_squares(&sum, t);
    float scale = (float)(1 / sqrt(lanes_total(&sum) / (double)n + (double)eps));
    for (i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    lanes sum = {0}, squares = {0};
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) lanes_add(&sum, x + i);
    pad(t, x + i, n - i, 0);
    lanes_add(&sum, t);
    const float mean = (float)(lanes_total(&sum) / (double)n);
    for (i = 0; i < n; i += BLOCK) {
        const size_t now = n - i < BLOCK ? n - i : BLOCK;
        pad(t, x + i, now, mean);
        for (size_t j = 0; j < BLOCK; j++) t[j] -= mean;
        lanes_add_squares(&squares, t);
    }
    const float scale = (float)(1 / sqrt(lanes_total(&squares) / (double)n + (double)eps));
    for (i = 0; i < n; i++) y[i] = (x[i] - mean) * scale * w[i] + (b ? b[i] : 0);
}

static void rope_halves(float *x, const float *cosine, const float *sine, size_t half)
{
    float *a = x, *b = x + half;
    for (size_t j = 0; j < half; j++) {
        float u = a[j], v = b[j];
        a[j] = u * cosine[j] - v * sine[j];
        b[j] = v * cosine[j] + u * sine[j];
    }
}

static void rope_pairs(float *x, const float *cosine, const float *sine, size_t half)
{
    for (size_t j = 0; j < half; j++) {
        float u = x[2 * j], v = x[2 * j + 1];
        x[2 * j] = u * cosine[j] - v * sine[j];
        x[2 * j + 1] = v * cosine[j] + u * sine[j];
    }
}

/* gate / (1 + exp(-t)) * up, where t is gate itself, or what makes that gelu(gate) * up:
 * 1 + tanh(u) = 2 / (1 + exp(-2 u)). */
static inline void glu_block(float *gate, const float *up, bool gelu)
{
    const float twice = 0x1.988454p+0f; /* 2 sqrt(2 / pi) */
    for (size_t i = 0; i < BLOCK; i += W) {
        vf g = load(gate + i), t = gelu ? twice * (g + 0.044715f * g * g * g) : g;
        store(gate + i, g / (1.0f + exp_v(-t)) * load(up + i));
    }
}

static inline void glu(float *gate, const float *up, size_t n, bool gelu)
{
    float g[BLOCK], u[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) glu_block(gate + i, up + i, gelu);
    pad(g, gate + i, n - i, 0);
    pad(u, up + i, n - i, 0);
    glu_block(g, u, gelu);
    memcpy(gate + i, g, (n - i) * sizeof *g);
}

static void swiglu(float *gate, const float *up, size_t n)
{
    glu(gate, up, n, false);
}

static void geglu(float *gate, const float *up, size_t n)
{
    glu(gate, up, n, true);
}

/* tanh(u) = 1 - 2 / (1 + exp(2 u)) */
static inline void softcap_block(float *x, float scale, float cap)
{
    for (size_t i = 0; i < BLOCK; i += W) {
        vf e = exp_v(load(x + i) * (2 * scale / cap));
        store(x + i, cap - (2 * cap) / (1.0f + e));
    }
}

static void softcap(float *x, size_t n, float scale, float cap)
{
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) softcap_block(x + i, scale, cap);
    pad(t, x + i, n - i, 0);
    softcap_block(t, scale, cap);
    memcpy(x + i, t, (n - i) * sizeof *t);
}

static float max_f32(const float *x, size_t n)
{
    const vf zero = {0};
    vf m = zero - INFINITY;
    float t[BLOCK], best = -INFINITY;
    size_t i = 0;
    for (; i + W <= n; i += W) {
        vf v = load(x + i);
        m = pick(v > m, v, m);
    }
    store(t, m);
    for (size_t l = 0; l < W; l++) best = t[l] > best ? t[l] : best;
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

static double exp_shift(float *x, size_t n, float scale, float max)
{
    lanes sum = {0};
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        exp_block(x + i, x + i, scale, max);
        lanes_add(&sum, x + i);
    }
    pad(t, x + i, n - i, -INFINITY);
    exp_block(t, t, scale, max);
    lanes_add(&sum, t);
    memcpy(x + i, t, (n - i) * sizeof *t);
    return lanes_total(&sum);
}

static double sum_exp(const float *x, size_t n, float max)
{
    lanes sum = {0};
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        exp_block(t, x + i, 1, max);
        lanes_add(&sum, t);
    }
    pad(t, x + i, n - i, -INFINITY);
    exp_block(t, t, 1, max);
    lanes_add(&sum, t);
    return lanes_total(&sum);
}

static void dots(float *y, const float *q, const float *k, size_t n, size_t step, size_t dim)
{
    for (size_t i = 0; i < n; i++, k += step) {
        float t[BLOCK], u[BLOCK];
        vf sum[BLOCK / W] = {{0}};
        size_t d = 0;
        for (; d + BLOCK <= dim; d += BLOCK)
            for (size_t g = 0; g < BLOCK / W; g++)
                sum[g] += load(q + d + g * W) * load(k + d + g * W);
        if (d < dim) {
            pad(t, q + d, dim - d, 0);
            pad(u, k + d, dim - d, 0);
            for (size_t g = 0; g < BLOCK / W; g++) sum[g] += load(t + g * W) * load(u + g * W);
        }
        memcpy(t, sum, sizeof t);
        for (size_t m = BLOCK / 2; m; m /= 2)
            for (size_t j = 0; j < m; j++) t[j] += t[j + m];
        y[i] = t[0];
    }
}

static void mix(float *y, const float *p, const float *v, size_t n, size_t step, size_t dim)
{
    size_t d = 0;
    for (; d + BLOCK <= dim; d += BLOCK) {
        vf sum[BLOCK / W];
        for (size_t g = 0; g < BLOCK / W; g++) sum[g] = load(y + d + g * W);
        for (size_t i = 0; i < n; i++)
            for (size_t g = 0; g < BLOCK / W; g++) sum[g] += p[i] * load(v + i * step + d + g * W);
        for (size_t g = 0; g < BLOCK / W; g++) store(y + d + g * W, sum[g]);
    }
    for (; d < dim; d++)
        for (size_t i = 0; i < n; i++) y[d] += p[i] * v[i * step + d];
}

static void exp_f32(float *y, const float *x, size_t n)
{
    float t[BLOCK];
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) exp_block(y + i, x + i, 1, 0);
    pad(t, x + i, n - i, 0);
    exp_block(t, t, 1, 0);
    memcpy(y + i, t, (n - i) * sizeof *t);
}

extern const nib_ops JOIN(nib_ops, NIB_ISA);
const nib_ops JOIN(nib_ops, NIB_ISA) = {
    .rmsnorm = rmsnorm,
    .layernorm = layernorm,
    .rope_halves = rope_halves,
    .rope_pairs = rope_pairs,
    .swiglu = swiglu,
    .geglu = geglu,
    .softcap = softcap,
    .max = max_f32,
    .exp_shift = exp_shift,
    .sum_exp = sum_exp,
    .dots = dots,
    .mix = mix,
    .exp = exp_f32,
};
