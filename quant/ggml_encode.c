/* SPDX-License-Identifier: MIT */
/* quant/ggml_encode.c - the reference's quantizers, one block per lane.
 *
 * Compiled once per instruction set (NIB_ISA). Bytes equal those of ggml's reference quantizers,
 * with and without importances; sums run in the order of the elements. ggml_pack.c makes bytes
 * of what they find. Tests: tests/quant/test_golden.c, tests/quant/test_kernels.c. */
#include "quant/ggml_block.h"
#include "quant/ggml_search.h"
#include "quant/iq_encode.h"

#define PASTE(a, b) a##b
#define NAME(prefix, isa) PASTE(prefix, isa)

/* A block of every lane, transposed. */
typedef struct {
    vf x[NIB_BLOCK_MAX], imp[NIB_BLOCK_MAX];
    bool weighted; /* imp is there */
} tile;

NIB_INLINE void load_tile(tile *t, const nib_lane_in *in, size_t n)
{
    v_gather(t->x, in->w, n);
    t->weighted = in->imp[0] != NULL;
    if (t->weighted) v_gather(t->imp, in->imp, n);
}

/* ---- results ---- */

/* Codes c[n] to bytes code[lane * stride + i]. */
NIB_INLINE void store_codes(uint8_t *code, size_t stride, const vf *c, size_t n)
{
    vi quad[SUB_MAX / 4]; /* four codes in each int */
    for (size_t i = 0; i < n / 4; i++, c += 4)
        quad[i] = (v_int(c[0]) & 255) | (v_int(c[1]) & 255) << 8 | (v_int(c[2]) & 255) << 16 |
                  v_int(c[3]) << 24;
    const uint8_t *from = (const uint8_t *)quad;
    for (size_t lane = 0; lane < LANES; lane++, code += stride)
        for (size_t i = 0; i < n / 4; i++) memcpy(code + 4 * i, from + (i * LANES + lane) * 4, 4);
}

/* d and dmin, already rounded to f16. */
NIB_INLINE void store_scales(nib_block_param *p, vf d, vf dmin)
{
    float a[LANES], b[LANES];
    v_store(a, d);
    v_store(b, dmin);
    for (int lane = 0; lane < LANES; lane++) {
        p[lane].d = a[lane];
        p[lane].dmin = b[lane];
        p[lane].zero = 0;
    }
}

NIB_INLINE void store_sub(nib_block_param *p, int j, vf sc, vf mn)
{
    vi s = v_int(sc), m = v_int(mn);
    for (int lane = 0; lane < LANES; lane++) {
        p[lane].sc[j] = (int16_t)s[lane];
        p[lane].mn[j] = (int16_t)m[lane];
    }
}

/* A block of 32 without sub-scales. */
NIB_INLINE void store_32(nib_block_param *p, uint8_t *code, vf d, const vf *c)
{
    store_scales(p, v_half(d), v_set(0));
    store_sub(p, 0, v_set(1), v_set(0));
    store_codes(code, 32, c, 32);
}

/* The same with a minimum of its own, y = d * code + m. */
NIB_INLINE void store_32_min(nib_block_param *p, uint8_t *code, vf d, vf m, const vf *c)
{
    store_scales(p, v_half(d), -v_half(m));
    store_sub(p, 0, v_set(1), v_set(1));
    store_codes(code, 32, c, 32);
}

/* ---- weights of the searches ---- */

/* imp * sqrt(sigma2 + x^2) */
NIB_INLINE void importance_weights(vf *w, const vf *imp, const vf *x, int n, vf sigma2)
{
    for (int i = 0; i < n; i++) w[i] = imp[i] * v_sqrt(sigma2 + x[i] * x[i]);
}

NIB_INLINE void square_weights(vf *w, const vf *x, int n)
{
    for (int i = 0; i < n; i++) w[i] = x[i] * x[i];
}

NIB_INLINE vf sum(const vf *w, int n)
{
    vf s = v_set(0);
    for (int i = 0; i < n; i++) s += w[i];
    return s;
}

/* ---- blocks of 32 ---- */

static void search_q8_0(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    vf x[32], c[32];
    v_gather(x, in->w, 32);
    vf amax = v_set(0);
    for (int i = 0; i < 32; i++) amax = v_max(v_abs(x[i]), amax);
    vf d = amax / v_set(127), id = v_div0(v_set(1), d);
    for (int i = 0; i < 32; i++) { /* to nearest, halves away from zero */
        vf v = x[i] * id, a = v_abs(v), whole = v_float(v_int(a));
        whole += v_sel(v_ge(a - whole, v_set(0.5f)), v_set(1), v_set(0));
        whole = v_sel(v_gt(v_set(256), a), whole, v_set(0)); /* no number where d is denormal */
        c[i] = v_sel(v_gt(v_set(0), v), -whole, whole) + 128.0f;
    }
    store_32(p, code, d, c);
}

/* Whole part of v within 0 .. last; 0 for what is no number, as where a scale is denormal. */
NIB_INLINE vf clip_whole(vf v, float last)
{
    v = v_sel(v_gt(v_set(65536), v), v, v_set(0));
    return v_min(v_float(v_int(v_max(v, v_set(0)))), v_set(last));
}

NIB_INLINE void search_sym32(nib_block_param *p, uint8_t *code, const nib_lane_in *in, float N)
{
    tile t;
    vf c[32], w[32];
    load_tile(&t, in, 32);
    if (t.weighted) {
        importance_weights(w, t.imp, t.x, 32, v_load(in->mean_square));
        sym_fit f = sym_search(t.x, w, 32, N);
        for (int i = 0; i < 32; i++) c[i] = sym_code(&f, t.x[i], N);
        store_32(p, code, f.scale, c);
        return;
    }
    vf d = find_peak(t.x, 32).max / v_set(-N), id = v_div0(v_set(1), d);
    for (int i = 0; i < 32; i++) c[i] = clip_whole(t.x[i] * id + (N + 0.5f), 2 * N - 1);
    store_32(p, code, d, c);
}

static void search_q4_0(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_sym32(p, code, in, 8);
}

static void search_q5_0(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_sym32(p, code, in, 16);
}

NIB_INLINE void search_aff32(nib_block_param *p, uint8_t *code, const nib_lane_in *in, float M)
{
    tile t;
    vf c[32], w[32];
    load_tile(&t, in, 32);
    if (t.weighted) {
        importance_weights(w, t.imp, t.x, 32, v_load(in->mean_square));
        aff_fit f = aff_search(t.x, w, 32, (aff_how){M, -0.9f, 0.05f, 36, false});
        for (int i = 0; i < 32; i++) c[i] = aff_code(&f, t.x[i], M);
        store_32_min(p, code, f.scale, f.min, c);
        return;
    }
    vf lo = t.x[0], hi = t.x[0];
    for (int i = 1; i < 32; i++) {
        lo = v_min(t.x[i], lo);
        hi = v_max(t.x[i], hi);
    }
    vf d = (hi - lo) / v_set(M), id = v_div0(v_set(1), d);
    for (int i = 0; i < 32; i++) c[i] = clip_whole((t.x[i] - lo) * id + 0.5f, M);
    store_32_min(p, code, d, lo, c);
}

static void search_q4_1(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_aff32(p, code, in, 15);
}

static void search_q5_1(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_aff32(p, code, in, 31);
}

/* ---- q2_k, q4_k, q5_k: sub-blocks with scale and minimum ---- */

typedef struct {
    int subs, n; /* sub-blocks, weights in each               */
    float M;     /* codes are 0 .. M                          */
    float top;   /* codes of scales and minimums are 0 .. top */
    aff_how plain;
    bool q2; /* weights and sigma2 of q2_k */
} k_format;

NIB_INLINE void k_weights(vf *w, const tile *t, int j, const k_format *k, vf sigma2)
{
    const vf *x = t->x + j * k->n;
    if (t->weighted) {
        importance_weights(w, t->imp + j * k->n, x, k->n, sigma2);
    } else if (k->q2) {
        for (int i = 0; i < k->n; i++) w[i] = v_abs(x[i]);
    } else {
        vf av = v_sqrt(sum_squares(x, k->n) / v_set(32));
        for (int i = 0; i < k->n; i++) w[i] = av + v_abs(x[i]);
    }
}

/* Codes of the sub-blocks' scales v[], relative to the largest; returns the super-scale. */
NIB_INLINE vf k_quantize_scales(vf *l, const vf *v, const k_format *k)
{
    vf max = v_set(0);
    for (int j = 0; j < k->subs; j++) max = v_max(v[j], max);
    vm some = v_gt(max, v_set(0));
    vf inverse = v_sel(some, v_set(k->top) / v_sel(some, max, v_set(1)), v_set(0));
    for (int j = 0; j < k->subs; j++) l[j] = v_min(v_round(inverse * v[j]), v_set(k->top));
    return max / v_set(k->top);
}

NIB_INLINE void search_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in, k_format k)
{
    tile t;
    aff_fit f[16];
    vf scale[16], min[16], weight[16], sc[16], mn[16], w[SUB_MAX], c[SUB_MAX];
    load_tile(&t, in, 256);
    vf sigma2 = v_set(0);
    if (t.weighted) sigma2 = (k.q2 ? 1.0f : 2.0f) * sum_squares(t.x, 256) / v_set(256);
    aff_how how = t.weighted ? (aff_how){k.M, -0.9f, 0.05f, 36, false} : k.plain;
    for (int j = 0; j < k.subs; j++) {
        k_weights(w, &t, j, &k, sigma2);
        weight[j] = sum(w, k.n);
        f[j] = aff_search(t.x + j * k.n, w, k.n, how);
        scale[j] = f[j].scale;
        min[j] = -f[j].min;
    }
    vf d, dmin;
    if (t.weighted) {
        d = pos_search(scale, weight, sc, k.subs, k.top);
        dmin = pos_search(min, weight, mn, k.subs, k.top);
    } else {
        d = k_quantize_scales(sc, scale, &k);
        dmin = k_quantize_scales(mn, min, &k);
    }
    d = v_half(d);
    dmin = v_half(dmin);
    store_scales(p, d, dmin);
    for (int j = 0; j < k.subs; j++) {
        store_sub(p, j, sc[j], mn[j]);
        vf D = d * sc[j], B = dmin * mn[j];
        vm none = v_eq(D, v_set(0));
        vf divisor = v_sel(none, v_set(1), D);
        for (int i = 0; i < k.n; i++) {
            vf x = t.x[j * k.n + i];
            c[i] = v_sel(none, aff_code(&f[j], x, k.M), v_code((x + B) / divisor, 0, k.M));
        }
        store_codes(code + j * k.n, 256, c, (size_t)k.n);
    }
}

static void search_q2_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_k(p, code, in, (k_format){16, 16, 3, 15, {3, -0.5f, 0.1f, 15, true}, true});
}

static void search_q4_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_k(p, code, in, (k_format){8, 32, 15, 63, {15, -1.0f, 0.1f, 20, false}, false});
}

static void search_q5_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_k(p, code, in, (k_format){8, 32, 31, 63, {31, -0.5f, 0.1f, 15, false}, false});
}

/* ---- q3_k, q6_k, iq4_xs: sub-blocks with a signed scale ---- */

/* Codes under step D; where D is 0, those of the search. */
NIB_INLINE void sym_recode(uint8_t *code, const vf *x, vf D, const vf *kept, float N)
{
    vf c[16];
    vm none = v_eq(D, v_set(0));
    vf divisor = v_sel(none, v_set(1), D);
    for (int i = 0; i < 16; i++) c[i] = v_sel(none, kept[i], v_code(x[i] / divisor, -N, N - 1) + N);
    store_codes(code, 256, c, 16);
}

static void search_q3_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    tile t;
    vf kept[256], scale[16], weight[16], sc[16], w[16], d;
    load_tile(&t, in, 256);
    if (t.weighted) {
        vf sigma2 = 2.0f * sum_squares(t.x, 256) / v_set(256);
        for (int j = 0; j < 16; j++) {
            const vf *x = t.x + 16 * j;
            importance_weights(w, t.imp + 16 * j, x, 16, sigma2);
            weight[j] = sum(w, 16);
            sym_fit f = sym_search(x, w, 16, 4);
            scale[j] = f.scale;
            for (int i = 0; i < 16; i++) kept[16 * j + i] = sym_code(&f, x[i], 4);
        }
        sym_fit f = sym_search(scale, weight, 16, 32);
        d = f.scale;
        for (int j = 0; j < 16; j++) sc[j] = sym_code(&f, scale[j], 32) - 32.0f;
    } else {
        for (int j = 0; j < 16; j++) scale[j] = rms4_search(t.x + 16 * j, kept + 16 * j);
        vf inverse = v_div0(v_set(-32), find_peak(scale, 16).max);
        d = v_div0(v_set(1), inverse);
        for (int j = 0; j < 16; j++) {
            sc[j] = v_code(inverse * scale[j], -32, 31);
            sc[j] = v_sel(v_eq(inverse, v_set(0)), v_set(-32), sc[j]);
        }
    }
    d = v_half(d);
    store_scales(p, d, v_set(0));
    for (int j = 0; j < 16; j++) {
        store_sub(p, j, sc[j], v_set(0));
        sym_recode(code + 16 * j, t.x + 16 * j, d * sc[j], kept + 16 * j, 4);
    }
}

static void search_q6_k(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    tile t;
    sym_fit f[16];
    vf scale[16], w[16], kept[16];
    load_tile(&t, in, 256);
    for (int j = 0; j < 16; j++) {
        if (!t.weighted) square_weights(w, t.x + 16 * j, 16);
        f[j] = sym_search(t.x + 16 * j, t.weighted ? t.imp + 16 * j : w, 16, 32);
        scale[j] = f[j].scale;
    }
    peak top = find_peak(scale, 16);
    vm dead = tiny(top.amax);
    vf inverse = v_sel(dead, v_set(0), v_set(-128) / v_sel(dead, v_set(1), top.max));
    vf d = v_half(v_div0(v_set(1), inverse));
    store_scales(p, d, v_set(0));
    for (int j = 0; j < 16; j++) {
        vf sc = v_min(v_round(inverse * scale[j]), v_set(127));
        store_sub(p, j, sc, v_set(0));
        const vf *x = t.x + 16 * j;
        for (int i = 0; i < 16; i++) kept[i] = v_sel(dead, v_set(0), sym_code(&f[j], x[i], 32));
        sym_recode(code + 16 * j, x, d * sc, kept, 32);
    }
}

/* Scale of one sub-block of 32 within a block of n. */
NIB_INLINE vf iq4_scale(const tile *t, int at, vf sigma2)
{
    vf w[32];
    if (t->weighted)
        importance_weights(w, t->imp + at, t->x + at, 32, sigma2);
    else
        square_weights(w, t->x + at, 32);
    return iq4_search(t->x + at, w, 32);
}

static void search_iq4_nl(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    tile t;
    vf c[32];
    load_tile(&t, in, 32);
    vf d = iq4_scale(&t, 0, sum_squares(t.x, 32) * (2.0f / 32));
    vf id = v_div0(v_set(1), d);
    for (int i = 0; i < 32; i++) c[i] = iq4_code(t.x[i] * id);
    store_32(p, code, d, c);
}

static void search_iq4_xs(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    tile t;
    vf scale[8], c[32];
    load_tile(&t, in, 256);
    vf sigma2 = sum_squares(t.x, 256) * (2.0f / 256);
    for (int j = 0; j < 8; j++) scale[j] = iq4_scale(&t, 32 * j, sigma2);
    vf d = -find_peak(scale, 8).max / v_set(32), id = v_div0(v_set(1), d);
    store_scales(p, v_half(d), v_set(0));
    for (int j = 0; j < 8; j++) {
        vf sc = v_code(id * scale[j], -32, 31);
        store_sub(p, j, sc, v_set(0));
        vf il = v_div0(v_set(1), d * sc);
        for (int i = 0; i < 32; i++) c[i] = iq4_code(il * t.x[32 * j + i]);
        store_codes(code + 32 * j, 256, c, 32);
    }
}

/* ---- one bit, two bits, three levels ---- */

static void search_q1_0(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    vf x[128], c[32], s = v_set(0);
    v_gather(x, in->w, 128);
    for (int i = 0; i < 128; i++) s += v_abs(x[i]);
    store_scales(p, v_half(s / v_set(128)), v_set(0));
    store_sub(p, 0, v_set(1), v_set(0));
    for (int at = 0; at < 128; at += 32) {
        for (int i = 0; i < 32; i++) c[i] = v_sel(v_ge(x[at + i], v_set(0)), v_set(1), v_set(0));
        store_codes(code + at, 128, c, 32);
    }
}

/* -1, 0 or 1 times the largest magnitude. */
NIB_INLINE void search_three(nib_block_param *p, uint8_t *code, const nib_lane_in *in, size_t n)
{
    vf x[256], c[32], amax = v_set(0);
    v_gather(x, in->w, n);
    for (size_t i = 0; i < n; i++) amax = v_max(v_abs(x[i]), amax);
    const vf id = v_div0(v_set(1), amax);
    store_scales(p, v_half(amax), v_set(0));
    store_sub(p, 0, v_set(1), v_set(0));
    for (size_t at = 0; at < n; at += 32) {
        for (size_t i = 0; i < 32; i++) {
            const vf v = x[at + i] * id;
            c[i] = v_sel(v_ge(v, v_set(0.5f)), v_set(2),
                         v_sel(v_ge(v_set(-0.5f), v), v_set(0), v_set(1)));
        }
        store_codes(code + at, n, c, 32);
    }
}

static void search_q2_0(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_three(p, code, in, 64);
}

static void search_tq(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    search_three(p, code, in, 256);
}

/* ---- 4-bit floats ---- */

/* Places in nib_e2m1_levels of the codes 0 .. 7, 9 .. 15: of two that are as near the reference
 * takes the first. */
static const int8_t e2m1_order[15] = {7, 8, 9, 10, 11, 12, 13, 14, 6, 5, 4, 3, 2, 1, 0};

NIB_INLINE void e2m1_codes(vf *c, const vf *x, int n, vf d)
{
    for (int i = 0; i < n; i++) {
        vf least = v_abs(x[i]);
        c[i] = v_set(7);
        for (int k = 1; k < 15; k++) {
            const int at = e2m1_order[k];
            const vf error = v_abs(d * nib_e2m1_levels[at] - x[i]);
            const vm less = v_gt(least, error);
            least = v_sel(less, error, least);
            c[i] = v_sel(less, v_set((float)at), c[i]);
        }
    }
}

static void search_mxfp4(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    vf x[32], c[32];
    float amax[LANES];
    v_gather(x, in->w, 32);
    v_store(amax, find_peak(x, 32).amax);
    for (int lane = 0; lane < LANES; lane++) {
        const int e = amax[lane] > 0 ? (int)floorf(log2f(amax[lane])) - 2 + 127 : 0;
        amax[lane] = nib_e8m0_half((uint8_t)(e < 0 ? 0 : e));
    }
    const vf d = v_load(amax);
    e2m1_codes(c, x, 32, d);
    store_scales(p, d, v_set(0));
    store_sub(p, 0, v_set(1), v_set(0));
    store_codes(code, 32, c, 32);
}

/* The byte of a scale: halves up, by the next bit alone. */
static int ue4m3_code(float x)
{
    if (!(x > 0)) return 0;
    const uint32_t u = nib_f32_bits(x > 448 ? 448 : x);
    int e = (int)(u >> 23) - 127 + 7;
    if (e <= 0) {
        const int m = (int)(x * 512 + 0.5f);
        return m > 7 ? 7 : m;
    }
    if (e >= 15) return 126;
    int m = (int)(u >> 20 & 7) + (int)(u >> 19 & 1);
    if (m > 7) m = 0, e++;
    return e >= 15 ? 126 : e << 3 | m;
}

static void search_nvfp4(nib_block_param *p, uint8_t *code, const nib_lane_in *in)
{
    vf x[64], c[16];
    v_gather(x, in->w, 64);
    store_scales(p, v_set(1), v_set(0));
    for (int s = 0; s < 4; s++) {
        float amax[LANES];
        v_store(amax, find_peak(x + 16 * s, 16).amax);
        for (int lane = 0; lane < LANES; lane++) {
            const int sc = ue4m3_code(amax[lane] / 6);
            p[lane].sc[s] = (int16_t)sc, p[lane].mn[s] = 0;
            amax[lane] = nib_ue4m3_half[sc];
        }
        e2m1_codes(c, x + 16 * s, 16, v_load(amax));
        store_codes(code + 16 * s, 64, c, 16);
    }
}

/* ---- rows ---- */

static void sum_squares_of_rows(float *total, const float *const *w, size_t cols)
{
    vf s = v_set(0), x[LANES];
    for (size_t at = 0; at < cols; at += LANES) {
        v_gather_tile(x, w, at);
        for (int i = 0; i < LANES; i++) s += x[i] * x[i];
    }
    v_store(total, s);
}

static void to_f16(uint8_t *dst, const float *src, size_t n)
{
    size_t i = 0;
#if defined(__AVX2__) /* a NaN's payload is not kept, so blocks with one go the plain way */
    for (; i + 8 <= n; i += 8) {
        __m256 x = _mm256_loadu_ps(src + i);
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q))) break;
        _mm_storeu_si128((__m128i *)(dst + 2 * i),
                         _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
#endif
    for (; i < n; i++) nib_put16(dst + 2 * i, nib_f32_to_f16(src[i]));
}

static void to_bf16(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u = nib_f32_bits(src[i]);
        uint32_t nan = u >> 16 | 0x40u, r = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
        uint16_t h = (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? nan : r);
        memcpy(dst + 2 * i, &h, 2);
    }
}

static size_t find_nonfinite(const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        uint32_t worst = 0;
        for (size_t k = 0; k < 64; k++) {
            uint32_t a = nib_f32_bits(x[i + k]) & 0x7FFFFFFFu;
            worst = a > worst ? a : worst;
        }
        if (worst >= 0x7F800000u) break;
    }
    while (i < n && (nib_f32_bits(x[i]) & 0x7FFFFFFFu) < 0x7F800000u) i++;
    return i;
}

const nib_encode_kern NAME(nib_encode_, NIB_ISA) = {
    .lanes = LANES,
    .search =
        {
            [NIB_Q8_0] = search_q8_0,
            [NIB_Q4_0] = search_q4_0,
            [NIB_Q4_1] = search_q4_1,
            [NIB_Q5_0] = search_q5_0,
            [NIB_Q5_1] = search_q5_1,
            [NIB_Q2_K] = search_q2_k,
            [NIB_Q3_K] = search_q3_k,
            [NIB_Q4_K] = search_q4_k,
            [NIB_Q5_K] = search_q5_k,
            [NIB_Q6_K] = search_q6_k,
            [NIB_IQ4_NL] = search_iq4_nl,
            [NIB_IQ4_XS] = search_iq4_xs,
            [NIB_IQ3_S] = NIB_IQ_SEARCH(iq3_s),
            [NIB_IQ3_XXS] = NIB_IQ_SEARCH(iq3_xxs),
            [NIB_IQ2_S] = NIB_IQ_SEARCH(iq2_s),
            [NIB_IQ2_XS] = NIB_IQ_SEARCH(iq2_xs),
            [NIB_IQ2_XXS] = NIB_IQ_SEARCH(iq2_xxs),
            [NIB_IQ1_M] = NIB_IQ_SEARCH(iq1_m),
            [NIB_IQ1_S] = NIB_IQ_SEARCH(iq1_s),
            [NIB_TQ2_0] = search_tq,
            [NIB_TQ1_0] = search_tq,
            [NIB_MXFP4] = search_mxfp4,
            [NIB_NVFP4] = search_nvfp4,
            [NIB_Q2_0] = search_q2_0,
            [NIB_Q1_0] = search_q1_0,
        },
    .sum_squares = sum_squares_of_rows,
    .to_f16 = to_f16,
    .to_bf16 = to_bf16,
    .find_nonfinite = find_nonfinite,
};
