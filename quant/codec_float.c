/* SPDX-License-Identifier: MIT */
/* quant/codec_float.c - see codec_float.h. */
#include "quant/codec_float.h"

#include "base/par.h"

#include <math.h>

const nib_small_float nib_e4m3 = {.mantissa = 3, .least = -6, .top = 448, .half = 127};
const nib_small_float nib_e2m1 = {.mantissa = 1, .least = 0, .top = 6, .half = 8};

/* Eight steps up from 8 s, and down to -8 s. */
#define UP(s) 8 * (s), 9 * (s), 10 * (s), 11 * (s), 12 * (s), 13 * (s), 14 * (s), 15 * (s)
#define DOWN(s) -15 * (s), -14 * (s), -13 * (s), -12 * (s), -11 * (s), -10 * (s), -9 * (s), -8 * (s)
#define NORMAL_UP                                                                                  \
    UP(0x1p-9f), UP(0x1p-8f), UP(0x1p-7f), UP(0x1p-6f), UP(0x1p-5f), UP(0x1p-4f), UP(0x1p-3f),     \
        UP(0x1p-2f), UP(0x1p-1f), UP(1.0f), UP(2.0f), UP(4.0f), UP(8.0f), UP(16.0f)
#define SMALLEST 0x1p-9f
#define E4M3_UP                                                                                    \
    0, SMALLEST, 2 * SMALLEST, 3 * SMALLEST, 4 * SMALLEST, 5 * SMALLEST, 6 * SMALLEST,             \
        7 * SMALLEST, NORMAL_UP, 256, 288, 320, 352, 384, 416, 448

static const float e4m3_up[] = {E4M3_UP};

static const float e4m3_levels[] = {
    -448,          -416,          -384,          -352,          -320,          -288,
    -256,          DOWN(16.0f),   DOWN(8.0f),    DOWN(4.0f),    DOWN(2.0f),    DOWN(1.0f),
    DOWN(0.5f),    DOWN(0x1p-2f), DOWN(0x1p-3f), DOWN(0x1p-4f), DOWN(0x1p-5f), DOWN(0x1p-6f),
    DOWN(0x1p-7f), DOWN(0x1p-8f), DOWN(0x1p-9f), -7 * SMALLEST, -6 * SMALLEST, -5 * SMALLEST,
    -4 * SMALLEST, -3 * SMALLEST, -2 * SMALLEST, -SMALLEST,     -0.0f,         E4M3_UP};

static const float e2m1_levels[] = {-6, -4,   -3, -2,   -1.5f, -1, -0.5f, -0.0f,
                                    0,  0.5f, 1,  1.5f, 2,     3,  4,     6};

/* 2^-127 .. 2^127: E8M0 without its NaN. */
#define TIMES4(x) (x), (x)*2, (x)*4, (x)*8
#define TIMES16(x) TIMES4(x), TIMES4((x)*16), TIMES4((x)*256), TIMES4((x)*4096)
#define TIMES64(x) TIMES16(x), TIMES16((x)*0x1p16f), TIMES16((x)*0x1p32f), TIMES16((x)*0x1p48f)
static const float powers[] = {TIMES64(0x1p-127f), TIMES64(0x1p-63f), TIMES64(2.0f),
                               TIMES16(0x1p65f),   TIMES16(0x1p81f),  TIMES16(0x1p97f),
                               TIMES4(0x1p113f),   TIMES4(0x1p117f),  TIMES4(0x1p121f),
                               0x1p125f,           0x1p126f,          0x1p127f};

enum {
    MX_SPREAD = 1,   /* powers of two that are tried on either side            */
    NV_BELOW = 4,    /* scales of E4M3 that are tried below the usual one, ... */
    NV_ABOVE = 5,    /* and above: up to where the largest weight is 4, not 6  */
    NV_ZERO = 0x20,  /* 1/8: what takes the place of a scale of 0              */
    FP8_CLIPPED = 4, /* scales that are tried below the usual one ...          */
    FP8_ABOVE = 15,  /* and above; with twice the scale codes are as they were */
};
static const float FP8_STEP = 1.0442738f; /* 16 to an octave */

static const nib_int_codec *of(const nib_codec *c)
{
    return (const nib_int_codec *)c; /* its first member */
}

static float largest(const float *w, size_t n)
{
    float top = 0;
    for (size_t i = 0; i < n; i++) top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
    return top;
}

/* Sum of importance times squared error of n weights in steps of D. Eight sums, so that the order
 * of additions suits processors. */
static float error_of(const nib_small_float *small, const float *w, const float *imp, size_t n,
                      float D)
{
    enum { SUMS = 8 };
    const nib_small_float f = *small;
    float sum[SUMS] = {0}, all = 0;
    for (size_t i = 0; i < n; i += SUMS) {
        const size_t k = n - i < SUMS ? n - i : SUMS;
        float e[SUMS] = {0};
        for (size_t j = 0; j < k; j++) {
            e[j] = w[i + j] - D * nib_small_round(&f, w[i + j] / D);
            e[j] *= imp ? e[j] * imp[i + j] : e[j];
        }
        for (size_t j = 0; j < SUMS; j++) sum[j] += e[j];
    }
    for (size_t j = 0; j < SUMS; j++) all += sum[j];
    return all;
}

/* NULL where all are 0: they count as equal. */
static const float *any(const float *imp, size_t n)
{
    for (size_t i = 0; imp && i < n; i++)
        if (imp[i] > 0) return imp;
    return NULL;
}

/* The scale code from `first` to `last` with the least error; where several are as good, `usual` or
 * the first. */
static int16_t best_code(const nib_codec *c, float d, const float *w, const float *imp, int first,
                         int last, int usual)
{
    imp = any(imp, c->block);
    float least = error_of(c->small, w, imp, c->block, nib_codec_step(c, d, usual));
    int best = usual;
    first = first < c->sc_min ? c->sc_min : first;
    last = last > c->sc_max ? c->sc_max : last;
    for (int k = first; k <= last; k++) {
        const float error = error_of(c->small, w, imp, c->block, nib_codec_step(c, d, k));
        if (error < least) least = error, best = k;
    }
    return (int16_t)best;
}

/* ---- FP8 ---- */

/* 0 where all weights are, or are too small for the scale's dtype. */
static float scale_of(const nib_int_codec *ic, float most)
{
    return nib_scale_stored(ic->codec.scale_type, most / nib_e4m3.top);
}

/* The same, and what takes its place then. */
static float above_zero(const nib_int_codec *ic, float scale)
{
    return scale > 0 ? scale : nib_scale_epsilon(ic->codec.scale_type);
}

static void fp8_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                    unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++)
        p[i] = (nib_block_param){.d = scale_of(of(c), largest(in[i].w, c->block)), .sc = {1}};
}

typedef struct {
    const nib_codec *c;
    nib_block_param *p;
    const nib_fit_matrix *m;
} job;

/* Rows [begin, end) of columns [at, at + n) in this scale. */
static float tile_error(const job *j, size_t begin, size_t end, size_t at, size_t n, float scale)
{
    float sum = 0;
    for (size_t r = begin; r < end; r++)
        sum += error_of(j->c->small, j->m->w + r * j->m->cols + at,
                        j->m->imp ? any(j->m->imp + at, n) : NULL, n, scale);
    return sum;
}

static float search_tile(const job *j, size_t begin, size_t end, size_t at, size_t n, float usual)
{
    float best = usual, least = tile_error(j, begin, end, at, n, usual);
    for (int k = -FP8_CLIPPED; k <= FP8_ABOVE; k++) {
        const float scale = nib_scale_stored(j->c->scale_type, usual * powf(FP8_STEP, (float)k));
        if (!k || !(scale > 0) || !isfinite(scale)) continue;
        const float error = tile_error(j, begin, end, at, n, scale);
        if (error < least) least = error, best = scale;
    }
    return best;
}

/* The tiles of one band of rows. */
static nib_code fp8_band(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    const nib_int_codec *ic = of(j->c);
    const size_t block = j->c->block, blocks = j->m->cols / block;
    (void)thread, (void)err;
    for (size_t at = 0; at < j->m->cols; at += ic->tile_cols) {
        const size_t left = j->m->cols - at, n = left < ic->tile_cols ? left : ic->tile_cols;
        float d = 0;
        for (size_t r = begin; r < end; r++)
            for (size_t b = at / block; b < (at + n) / block; b++)
                d = fmaxf(d, j->p[r * blocks + b].d);
        d = above_zero(ic, d);
        if (ic->scales == NIB_SCALES_SQUARE) d = search_tile(j, begin, end, at, n, d);
        for (size_t r = begin; r < end; r++)
            for (size_t b = at / block; b < (at + n) / block; b++) j->p[r * blocks + b].d = d;
    }
    return NIB_OK;
}

static nib_code fp8_finish(const nib_codec *c, nib_block_param *p, const nib_fit_matrix *m,
                           const nib_ctx *ctx, nib_err *err)
{
    job j = {c, p, m};
    const nib_int_codec *ic = of(c);
    const size_t n = m->rows * (m->cols / c->block);
    if (ic->tile_rows) return nib_par_for(ctx->threads, m->rows, ic->tile_rows, fp8_band, &j, err);
    float d = ic->common > 0 ? scale_of(ic, ic->common) : 0;
    for (size_t i = 0; i < n && ic->common <= 0; i++) d = fmaxf(d, p[i].d);
    for (size_t i = 0; i < n; i++) p[i].d = above_zero(ic, d);
    return NIB_OK;
}

/* Tiles consist of whole blocks of one row: where the width is no multiple of theirs, blocks are
 * what divides both. */
static size_t common_divisor(size_t a, size_t b)
{
    while (b) {
        const size_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

static void eight_bits(nib_int_codec *c, size_t block)
{
    c->codec.type = NIB_F8_E4M3;
    c->codec.block = c->codec.sub = (uint32_t)block;
    c->codec.n_codes = sizeof e4m3_levels / sizeof *e4m3_levels;
    c->codec.codebook = e4m3_levels;
    c->codec.small = &nib_e4m3;
    c->codec.fixed_d = true;
}

void nib_fp8_codec(nib_int_codec *c, size_t cols, size_t tile_rows, size_t tile_cols)
{
    eight_bits(c, common_divisor(cols, tile_cols));
    c->codec.sc_min = c->codec.sc_max = 1;
    c->codec.fit = fp8_fit;
    c->codec.finish = fp8_finish;
    c->tile_rows = tile_rows, c->tile_cols = tile_cols;
}

/* ---- NVFP4 ---- */

static void four_bits(nib_int_codec *c, size_t group)
{
    c->codec.block = c->codec.sub = (uint32_t)group;
    c->codec.n_codes = sizeof e2m1_levels / sizeof *e2m1_levels;
    c->codec.codebook = e2m1_levels;
    c->codec.small = &nib_e2m1;
    c->codec.scale_type = NIB_F32;
    c->codec.fixed_d = true;
}

/* d is a / 6 until the scale of the matrix is known. */
static void nvfp4_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                      unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++)
        p[i] = (nib_block_param){.d = largest(in[i].w, c->block) / nib_e2m1.top};
}

enum { BAND = 64 };

static nib_code nvfp4_band(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    const nib_codec *c = j->c;
    const size_t blocks = j->m->cols / c->block;
    const float d = of(c)->common;
    (void)thread, (void)err;
    for (size_t i = begin * blocks; i < end * blocks; i++) {
        nib_block_param *p = &j->p[i];
        const float *imp = j->m->imp ? j->m->imp + i % blocks * c->block : NULL;
        int usual = nib_small_place(&nib_e4m3, nib_small_round(&nib_e4m3, d * p->d));
        usual -= nib_e4m3.half; /* they are positive */
        if (!usual) usual = NV_ZERO;
        p->d = d;
        p->sc[0] = (int16_t)usual;
        if (of(c)->scales == NIB_SCALES_SQUARE)
            p->sc[0] = best_code(c, d, j->m->w + i * c->block, imp, usual - NV_BELOW,
                                 usual + NV_ABOVE, usual);
    }
    return NIB_OK;
}

static nib_code nvfp4_finish(const nib_codec *c, nib_block_param *p, const nib_fit_matrix *m,
                             const nib_ctx *ctx, nib_err *err)
{
    nib_int_codec own = *of(c);
    job j = {&own.codec, p, m};
    const float all = own.common > 0 ? own.common : largest(m->w, m->rows * m->cols);
    const float d = nib_e4m3.top * nib_e2m1.top / all;
    own.common = isfinite(d) && d > 0 ? d : 1;
    return nib_par_for(ctx->threads, m->rows, BAND, nvfp4_band, &j, err);
}

void nib_nvfp4_codec(nib_int_codec *c)
{
    four_bits(c, NIB_NVFP4_GROUP);
    c->codec.type = NIB_NVFP4;
    c->codec.divides = true;
    c->codec.sc_min = 1;
    c->codec.sc_max = sizeof e4m3_up / sizeof *e4m3_up - 1;
    c->codec.sc_level = e4m3_up;
    c->codec.fit = nvfp4_fit;
    c->codec.finish = nvfp4_finish;
}

/* ---- MXFP4 and MXFP8 ---- */

enum { F32_MANTISSA = 23, F32_BIAS = 127, F32_LAST = 254 };

/* The exponent of the largest float. */
static int top_exponent(const nib_small_float *f)
{
    return (int)(nib_f32_bits(f->top) >> F32_MANTISSA) - F32_BIAS;
}

/* The scale code with which the largest float still is a finite f32. */
static int mx_last(const nib_small_float *f)
{
    return F32_LAST - top_exponent(f);
}

/* The exponent of a, the next one where the significand is 1.75 or more, less that of the largest
 * float. */
static int mx_code(const nib_small_float *f, float a)
{
    const int code = (int)((nib_f32_bits(a) + (1u << 21)) >> F32_MANTISSA) - top_exponent(f);
    return code < 0 || a == 0 ? 0 : code > mx_last(f) ? mx_last(f) : code;
}

float nib_mx_scale(const nib_small_float *f, float most)
{
    return powers[mx_code(f, most)];
}

static void mx_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu)
{
    (void)cpu;
    for (size_t i = 0; i < n; i++) {
        const int usual = mx_code(c->small, largest(in[i].w, c->block));
        p[i] = (nib_block_param){.d = 1, .sc = {(int16_t)usual}};
        if (of(c)->scales == NIB_SCALES_SQUARE)
            p[i].sc[0] =
                best_code(c, 1, in[i].w, in[i].imp, usual - MX_SPREAD, usual + MX_SPREAD, usual);
    }
}

static void powers_of_two(nib_int_codec *c)
{
    c->codec.sc_max = (int16_t)mx_last(c->codec.small);
    c->codec.sc_level = powers;
    c->codec.fit = mx_fit;
}

void nib_mxfp4_codec(nib_int_codec *c)
{
    four_bits(c, NIB_MX_GROUP);
    c->codec.type = NIB_MXFP4;
    powers_of_two(c);
}

void nib_mxfp8_codec(nib_int_codec *c)
{
    eight_bits(c, NIB_MX_GROUP);
    c->codec.scale_type = NIB_F32;
    powers_of_two(c);
}
